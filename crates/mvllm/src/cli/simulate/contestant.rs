//! Who chooses: mvllm's policies, and yardsticks that no router could be.

use std::str::FromStr;
use std::time::Duration;

use mvllm_core::policy::Policy;
use mvllm_sim::engine::Outlook;
use mvllm_sim::kv_cache::BlockHash;
use mvllm_sim::profile::Profile;

use super::plant::Plant;

/// A chooser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Contestant {
    /// The policy as the router runs it.
    Router(Policy),
    /// Sees every queue and every cache: least time to first token, its own computation priced so
    /// many times on top, for what it takes from the others.
    Oracle { price: f64 },
}

#[derive(Debug, thiserror::Error)]
#[error("there is no policy of that name; there are {}, oracle and oracle:PRICE", names())]
pub(super) struct UnknownContestant;

fn names() -> String {
    Policy::ALL.map(Policy::name).join(", ")
}

impl FromStr for Contestant {
    type Err = UnknownContestant;

    fn from_str(name: &str) -> Result<Self, UnknownContestant> {
        if let Some(price) = name.strip_prefix("oracle") {
            let price = if price.is_empty() { "0" } else { price.strip_prefix(':').unwrap_or("") };
            let price = price.parse().map_err(|_| UnknownContestant)?;
            return Ok(Self::Oracle { price });
        }
        name.parse().map(Self::Router).map_err(|_| UnknownContestant)
    }
}

impl Contestant {
    /// Mvllm's policies, and the yardsticks.
    pub(super) fn all() -> Vec<Self> {
        let oracles = [0.0, 5.0].map(|price| Self::Oracle { price });
        oracles.into_iter().chain(Policy::ALL.map(Self::Router)).collect()
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Router(policy) => policy.name().to_owned(),
            Self::Oracle { price } if price > 0.0 => format!("oracle:{price}"),
            Self::Oracle { .. } => "oracle".to_owned(),
        }
    }
}

/// The server with the least delay, from all that there is to know.
pub(super) fn foresee(
    plant: &Plant,
    blocks: &[BlockHash],
    prompt: u32,
    price: f64,
    random: &mut fastrand::Rng,
    now: Duration,
) -> usize {
    let mut best = (f64::INFINITY, 0, 0);
    for server in 0..plant.len() {
        let outlook = plant.outlook(server, blocks, prompt, now);
        let cost = delay(&outlook, plant.profile(server), prompt, price);
        if cost > best.0 {
            continue;
        }
        let equals = if cost < best.0 { 1 } else { best.2 + 1 };
        if equals == 1 || random.u32(..equals) == 0 {
            best = (cost, server, equals);
        } else {
            best.2 = equals;
        }
    }
    best.1
}

/// Seconds until the first token, and `price` times the seconds of computation that it takes.
fn delay(outlook: &Outlook, profile: &Profile, prompt: u32, price: f64) -> f64 {
    let own = (prompt as usize - outlook.cached_tokens) as f64;
    let tokens = outlook.prefill_ahead as f64 + own;
    let room = profile.max_num_batched_tokens.saturating_sub(outlook.decoding).max(1) as f64;
    let steps = (tokens / room).ceil();
    let decodes = steps * outlook.decoding as f64;
    let compute = profile.compute_per_token.as_secs_f64() * (tokens + decodes);
    let weights = profile.weights.as_secs_f64() * steps;
    let kv_tokens = (outlook.kv_held + prompt as usize) as f64;
    let kv_read = profile.kv_read_per_1k_tokens.as_secs_f64() * kv_tokens / 1000.0 * steps;
    let work = profile.base.as_secs_f64() * steps + compute.max(weights) + kv_read;
    // Room in the KV cache comes as requests end: one of `decoding` every half second or so.
    let lacking = outlook.kv_lacking as f64 / outlook.kv_held.max(1) as f64;
    let wait_for_room = lacking * 10.0;
    let own_work = profile.compute_per_token.as_secs_f64() * own;
    outlook.step_left.as_secs_f64() + work + wait_for_room + price * own_work
}
