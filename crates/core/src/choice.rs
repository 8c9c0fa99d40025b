//! Which server gets the next attempt: filter, rank, pick.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::attempt::Failure;
use crate::health::Health;
use crate::ledger::Reservation;
use crate::policy::Policy;
use crate::snapshot::{Admission, Judgement, ServerKey, ServerView, Snapshot};
use crate::time::Timestamp;

/// A decision that was beaten to its place is taken anew this often; then the place is taken
/// anyway, off by as many requests as there are threads.
const REDECIDE_MAX: u32 = 8;

/// What a decision looks at in a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The model that the request names.
    pub model: Option<&'a str>,
}

/// The attempts that have already failed for this request.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    servers: Vec<ServerKey>,
    answered: bool,
    deaths: usize,
}

impl Tried {
    /// Notes that `server` was tried, and why that came to nothing.
    pub fn note(&mut self, server: ServerKey, failure: Failure) {
        self.servers.push(server);
        self.answered |= failure.is_answer();
        self.deaths += usize::from(failure.is_death());
    }

    /// Takes `server` out of the choice: it is being tried at this moment.
    pub fn leave_out(&mut self, server: ServerKey) {
        self.servers.push(server);
    }

    /// How many attempts failed.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// How many servers went down under the request.
    pub fn deaths(&self) -> usize {
        self.deaths
    }

    fn contains(&self, server: ServerKey) -> bool {
        self.servers.contains(&server)
    }
}

/// The server chosen, and the place held there.
#[derive(Debug)]
pub struct Candidate {
    /// The server.
    pub server: Arc<ServerView>,
    /// The place.
    pub reservation: Reservation,
}

/// Why no server gets the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are no servers.
    NoServers,
    /// No server lists the model, and all have said what they serve.
    UnknownModel,
    /// Servers that may be right have not been checked yet: wait for them.
    NotYet,
    /// All servers that could answer were tried, or are out.
    Exhausted,
}

/// Decides. Every eligible server is looked at; the best under `policy` gets a reservation.
///
/// # Errors
/// A [`Refusal`] if there is nobody to send the request to.
pub fn choose(
    policy: Policy,
    facts: &Facts<'_>,
    snapshot: &Snapshot,
    tried: &Tried,
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> Result<Candidate, Refusal> {
    let mut eligible = eligible(facts, snapshot, tried, now)?;
    for _ in 0..REDECIDE_MAX {
        let (server, seen) = policy.pick(&eligible, random, now);
        if let Some(reservation) = reserve(server, seen) {
            return Ok(Candidate { server: Arc::clone(server), reservation });
        }
        if server.health == Health::Probation && eligible.len() > 1 {
            eligible.retain(|other| other.key != server.key);
        }
    }
    let (server, _) = policy.pick(&eligible, random, now);
    Ok(Candidate { server: Arc::clone(server), reservation: server.ledger.reserve() })
}

/// `None` if somebody else decided in between.
fn reserve(server: &ServerView, seen: u32) -> Option<Reservation> {
    match server.health {
        Health::Probation => server.ledger.reserve_trial(),
        _ => server.ledger.reserve_if_still(seen),
    }
}

/// How well a server suits, best first. Only the best tier that has anyone is ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    /// Well, responsive, and serves the model.
    Fit,
    /// The same, but it has just said that it is full.
    Full,
    /// Well by its record, but its scrapes have stopped, or it gets nowhere with what it has, or
    /// its one request on probation is under way.
    Doubtful,
    /// Well, but has not said what it serves.
    ModelsUnknown,
    /// Ejected: better tried than refused, as long as nobody has given any answer.
    LastResort,
}

/// The servers of the best tier; never empty.
fn eligible<'s>(
    facts: &Facts<'_>,
    snapshot: &'s Snapshot,
    tried: &Tried,
    now: Timestamp,
) -> Result<Vec<&'s Arc<ServerView>>, Refusal> {
    if snapshot.servers.is_empty() {
        return Err(Refusal::NoServers);
    }
    let listed = facts.model.map(|model| snapshot.models.servers_of(model));
    let mut best: Vec<&Arc<ServerView>> = Vec::new();
    let mut best_tier = Tier::LastResort;
    let mut verdicts = Verdicts::default();
    for (position, server) in (0..).zip(snapshot.servers.iter()) {
        let serves = match listed {
            None => Serves::Yes,
            Some(Some(at)) if at.binary_search(&position).is_ok() => Serves::Yes,
            Some(_) if server.models.is_none() => Serves::Unknown,
            Some(_) => Serves::No,
        };
        verdicts.note(server, serves);
        let Some(tier) = tier(server, serves, tried, snapshot.judgement, now) else { continue };
        if tier < best_tier {
            best.clear();
            best_tier = tier;
        }
        if tier == best_tier {
            best.push(server);
        }
    }
    verdicts.settle(best, best_tier)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    Yes,
    Unknown,
    No,
}

fn tier(
    server: &ServerView,
    serves: Serves,
    tried: &Tried,
    judgement: Judgement,
    now: Timestamp,
) -> Option<Tier> {
    if serves == Serves::No || server.admission != Admission::Open || tried.contains(server.key) {
        return None;
    }
    let if_well = match serves {
        Serves::Unknown => Tier::ModelsUnknown,
        _ if server.has_fallen_silent(now) => Tier::Doubtful,
        _ if server.ledger.is_full(now) => Tier::Full,
        _ => Tier::Fit,
    };
    match server.health {
        Health::Unproven => None,
        // Where our own judgement is in doubt, its silence is none, nor is that of its metrics.
        health if judgement == Judgement::Doubted && health.rests_on_silence() => {
            Some(if serves == Serves::Unknown { Tier::ModelsUnknown } else { Tier::Fit })
        }
        Health::Ejected { .. } => (!tried.answered).then_some(Tier::LastResort),
        Health::Probation if server.ledger.is_on_trial() => Some(if_well.max(Tier::Doubtful)),
        Health::UnderTest { .. } => Some(if_well.max(Tier::Doubtful)),
        Health::Healthy | Health::Suspect | Health::Probation => Some(if_well),
    }
}

/// What was seen of the fleet while looking for candidates, to say why there are none.
#[derive(Debug, Default)]
struct Verdicts {
    may_serve: bool,
    unproven: bool,
}

impl Verdicts {
    fn note(&mut self, server: &ServerView, serves: Serves) {
        self.may_serve |= serves != Serves::No;
        self.unproven |= serves != Serves::No
            && server.admission == Admission::Open
            && server.health == Health::Unproven;
    }

    fn settle<T>(&self, best: Vec<T>, tier: Tier) -> Result<Vec<T>, Refusal> {
        match (best.is_empty(), tier) {
            (true, _) | (false, Tier::LastResort) if self.unproven => Err(Refusal::NotYet),
            (false, _) => Ok(best),
            (true, _) if !self.may_serve => Err(Refusal::UnknownModel),
            (true, _) => Err(Refusal::Exhausted),
        }
    }
}

#[cfg(test)]
mod tests;
