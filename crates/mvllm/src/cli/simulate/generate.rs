//! Generated workloads: the shapes of real ones, from a seed, for where no trace is at hand.

use std::time::Duration;

use clap::ValueEnum;

use super::workload::{Traced, Workload, mix};

/// The workloads that can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Long documents and conversations about them, as Mooncake's conversation trace: prompts of
    /// 7,000 tokens in the median and 12,000 in the mean, a third of which was there before.
    Conversation,
    /// Short conversations without shared prefixes, as Azure's trace of 2023.
    Azure,
    /// Agents: long system prompts that many share, contexts that grow with each of many turns.
    Agent,
    /// Bursts of short requests among long ones, nothing shared.
    Bursts,
}

impl Shape {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Conversation, Self::Azure, Self::Agent, Self::Bursts];

    /// As on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Tokens that one name of a prefix stands for.
const UNIT: u32 = 64;

/// Sessions have been going on for so many seconds when the workload begins.
const BEFORE: f64 = 600.0;

/// So many requests, so many in a second.
pub(super) fn generate(shape: Shape, requests: usize, rate: f64, seed: u64) -> Workload {
    let lasts = requests as f64 / rate;
    let mut random = fastrand::Rng::with_seed(seed ^ 0x6765_6e65_7261_7465);
    let mut out = Vec::with_capacity(requests);
    let mut session = 0;
    while out.len() < requests {
        session += 1;
        let begins = random.f64() * (lasts + BEFORE) - BEFORE;
        match shape {
            Shape::Conversation => conversation(&mut out, &mut random, session, begins),
            Shape::Azure => single(&mut out, &mut random, session, begins, (6.6, 0.95), (4.9, 1.0)),
            Shape::Agent => agent(&mut out, &mut random, session, begins),
            Shape::Bursts => burst(&mut out, &mut random, session, begins),
        }
        out.retain(|request| request.at.as_secs_f64() <= lasts && request.at > Duration::ZERO);
    }
    out.sort_by_key(|request| request.at);
    out.truncate(requests);
    Workload { name: shape.name(), requests: out, unit: UNIT }
}

/// One request that shares nothing.
fn single(
    out: &mut Vec<Traced>,
    random: &mut fastrand::Rng,
    session: u64,
    at: f64,
    prompt: (f64, f64),
    output: (f64, f64),
) {
    let prompt = length(random, prompt, 8, 14_000);
    let output = length(random, output, 2, 1_000);
    out.push(traced(at, prompt, output, |unit| mix(session, unit)));
}

/// A few turns, minutes apart, over one long document: half of the documents are asked about once.
fn conversation(out: &mut Vec<Traced>, random: &mut fastrand::Rng, session: u64, begins: f64) {
    let mut context = length(random, (8.75, 1.0), 64, 100_000);
    let turns = 1 + geometric(random, 0.45, 12);
    let mut at = begins;
    for _ in 0..turns {
        let output = length(random, (5.6, 0.75), 8, 2_000);
        out.push(traced(at, context, output, |unit| mix(session, unit)));
        context += output + length(random, (6.0, 1.0), 16, 20_000);
        at += exponential(random, 90.0);
        if context > 120_000 {
            break;
        }
    }
}

/// Tens of turns, seconds apart; one of eight system prompts with tools.
fn agent(out: &mut Vec<Traced>, random: &mut fastrand::Rng, session: u64, begins: f64) {
    let kind = random.u64(..8);
    let system = 2_048 + 256 * kind;
    let mut context = system as u32 + length(random, (5.5, 0.8), 32, 4_000);
    let turns = 5 + geometric(random, 0.92, 35);
    let mut at = begins;
    for _ in 0..turns {
        let output = length(random, (4.6, 0.7), 8, 600);
        let name = |unit: u64| mix(if unit * 64 < system { kind } else { session + 8 }, unit);
        out.push(traced(at, context, output, name));
        context += output + length(random, (5.7, 0.9), 16, 6_000);
        at += 2.0 + f64::from(output) * 0.02 + exponential(random, 4.0);
        if context > 60_000 {
            break;
        }
    }
}

/// Tens of short requests within a second, or one long one.
fn burst(out: &mut Vec<Traced>, random: &mut fastrand::Rng, session: u64, begins: f64) {
    if random.f64() < 0.6 {
        return single(out, random, session, begins, (8.4, 0.8), (5.0, 0.8));
    }
    for nth in 0..random.u64(5..25) {
        let at = begins + random.f64();
        single(out, random, session << 8 | nth << 40, at, (5.5, 0.7), (4.5, 0.8));
    }
}

fn traced(at: f64, prompt: u32, output: u32, name: impl Fn(u64) -> u64) -> Traced {
    let prefix = (0..u64::from(prompt.div_ceil(UNIT))).map(name).collect();
    Traced { at: Duration::from_secs_f64(at.max(0.0)), prompt, output, prefix }
}

/// Log-normal, as lengths of texts are.
fn length(random: &mut fastrand::Rng, (mu, sigma): (f64, f64), least: u32, most: u32) -> u32 {
    let (u, v) = (random.f64().max(1e-12), random.f64());
    let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    ((mu + sigma * normal).exp() as u32).clamp(least, most)
}

fn exponential(random: &mut fastrand::Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

/// How often in a row something of this probability happens.
fn geometric(random: &mut fastrand::Rng, probability: f64, most: u32) -> u32 {
    (0..most).take_while(|_| random.f64() < probability).count() as u32
}
