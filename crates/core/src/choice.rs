//! Which server gets the next attempt: filter, rank, pick.

pub mod explain;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::attempt::Failure;
use crate::health::Health;
use crate::ledger::{Reservation, Work};
use crate::policy::Policy;
use crate::prefix::Held;
use crate::prompt::Prompt;
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
    /// Its prompt, if it has one that could be read.
    pub prompt: Option<&'a Prompt>,
    /// How much of that the servers hold.
    pub held: Option<&'a Held>,
    /// The session that the client names, as a hash.
    pub session: Option<u64>,
    /// The one server that holds what the request is about, if that is known.
    pub holder: Option<ServerKey>,
    /// Whether a data-parallel rank is to be chosen too: the engine is to answer, and the client has
    /// not chosen one itself.
    pub picks_rank: bool,
}

impl Facts<'_> {
    /// Whether the prompt is too long for `server`, as far as both are known.
    fn is_cramped_at(&self, server: &ServerView) -> bool {
        let room = server.max_len(self.model);
        self.prompt.zip(room).is_some_and(|(prompt, room)| !prompt.may_fit(room))
    }

    /// What the request is to `server`.
    pub fn work_at(&self, server: &ServerView) -> Work {
        let Some(prompt) = self.prompt else { return Work::default() };
        // The last token is computed in any case: the next one is sampled from it.
        let most = prompt.tokens.saturating_sub(1);
        let cached = self.held.map_or(0, |held| held.tokens_at(server.key)).min(most);
        Work { prompt: prompt.tokens, uncached: prompt.tokens - cached }
    }
}

/// The attempts that have already failed for this request.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    servers: Vec<ServerKey>,
    answered: bool,
    deaths: usize,
    declined: usize,
    /// The longest prompt that servers took which said that this one is longer.
    too_short: Option<u32>,
}

impl Tried {
    /// Notes that `server` was tried, and why that came to nothing.
    pub fn note(&mut self, server: ServerKey, failure: Failure) {
        if failure == Failure::RankRefused {
            return; // without a rank the server may take it
        }
        self.servers.push(server);
        self.answered |= failure.is_answer();
        self.deaths += usize::from(failure.is_death());
        self.declined += usize::from(failure.is_declined());
        if let Failure::TooLong { max_len } = failure {
            self.too_short = self.too_short.max(Some(max_len));
        }
    }

    /// Takes `server` out of the choice: it is being tried at this moment.
    pub fn leave_out(&mut self, server: ServerKey) {
        self.servers.push(server);
    }

    /// How many attempts failed, apart from those where a server said at once that this is none of
    /// its requests: these cost nobody anything, and there are no more of them than servers.
    pub fn count(&self) -> usize {
        self.servers.len() - self.declined
    }

    /// How many servers went down under the request.
    pub fn deaths(&self) -> usize {
        self.deaths
    }

    fn contains(&self, server: ServerKey) -> bool {
        self.servers.contains(&server)
    }

    /// Whether `max_len` is no more than what was too little at another server.
    fn rules_out(&self, max_len: Option<u32>) -> bool {
        max_len.zip(self.too_short).is_some_and(|(here, there)| here <= there)
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
        let (server, seen) = policy.pick(facts, &eligible, random, now);
        if let Some(reservation) = reserve(server, seen) {
            return Ok(candidate(facts, server, reservation, random, now));
        }
        if server.health == Health::Probation && eligible.len() > 1 {
            eligible.retain(|other| other.key != server.key);
        }
    }
    let (server, _) = policy.pick(facts, &eligible, random, now);
    Ok(candidate(facts, server, server.ledger.reserve(), random, now))
}

fn candidate(
    facts: &Facts<'_>,
    server: &Arc<ServerView>,
    reservation: Reservation,
    random: &mut fastrand::Rng,
    now: Timestamp,
) -> Candidate {
    let reservation = if facts.picks_rank { reservation.at_some_rank(random) } else { reservation };
    let reservation = reservation.with_work(facts.work_at(server), server.pace, now);
    Candidate { server: Arc::clone(server), reservation }
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
pub enum Tier {
    /// Well, responsive, and serves the model.
    Fit,
    /// The same, but it has just said that it is full.
    Full,
    /// Well by its record, but its scrapes have stopped, or it gets nowhere with what it has, or
    /// its one request on probation is under way.
    Doubtful,
    /// Well, but has not said what it serves.
    ModelsUnknown,
    /// Well, but the prompt is longer than it takes, by the most cautious estimate.
    Cramped,
    /// Ejected: better tried than refused, as long as nobody has given any answer.
    LastResort,
}

/// Why a server may not be chosen at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// It does not list the model.
    OtherModels,
    /// The operator lets it have no new requests.
    NotAdmitted,
    /// It was tried for this request.
    Tried,
    /// It takes no longer prompts than a server that said that this one is too long.
    TooShort,
    /// It has not been checked yet.
    Unproven,
    /// It is out, and somebody else has given an answer.
    Ejected,
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
    if let Some(holder) = holder(facts, snapshot, tried) {
        return Ok(alloc::vec![holder]);
    }
    let mut best: Vec<&Arc<ServerView>> = Vec::new();
    let mut best_tier = Tier::LastResort;
    let mut verdicts = Verdicts::default();
    for (server, serves, standing) in standings(facts, snapshot, tried, now) {
        verdicts.note(server, serves);
        let Ok(tier) = standing else { continue };
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

/// How each server stands, in the order of the file.
fn standings<'s>(
    facts: &Facts<'_>,
    snapshot: &'s Snapshot,
    tried: &Tried,
    now: Timestamp,
) -> impl Iterator<Item = (&'s Arc<ServerView>, Serves, Result<Tier, LeftOut>)> {
    let listed = facts.model.map(|model| snapshot.models.servers_of(model));
    (0..).zip(snapshot.servers.iter()).map(move |(position, server)| {
        let serves = match listed {
            None => Serves::Yes,
            Some(Some(at)) if at.binary_search(&position).is_ok() => Serves::Yes,
            Some(_) if server.models.is_none() => Serves::Unknown,
            Some(_) => Serves::No,
        };
        (server, serves, tier(facts, server, serves, tried, snapshot.judgement, now))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    Yes,
    Unknown,
    No,
}

fn tier(
    facts: &Facts<'_>,
    server: &ServerView,
    serves: Serves,
    tried: &Tried,
    judgement: Judgement,
    now: Timestamp,
) -> Result<Tier, LeftOut> {
    if serves == Serves::No {
        return Err(LeftOut::OtherModels);
    }
    if server.admission != Admission::Open {
        return Err(LeftOut::NotAdmitted);
    }
    if tried.contains(server.key) {
        return Err(LeftOut::Tried);
    }
    if tried.rules_out(server.max_len(facts.model)) {
        return Err(LeftOut::TooShort);
    }
    let if_well = match serves {
        _ if facts.is_cramped_at(server) => Tier::Cramped,
        Serves::Unknown => Tier::ModelsUnknown,
        _ if server.has_fallen_silent(now) => Tier::Doubtful,
        _ if server.ledger.is_full(now) => Tier::Full,
        _ => Tier::Fit,
    };
    match server.health {
        Health::Unproven => Err(LeftOut::Unproven),
        // Where our own judgement is in doubt, its silence is none, nor is that of its metrics.
        health if judgement == Judgement::Doubted && health.rests_on_silence() => {
            Ok(if if_well > Tier::Doubtful { if_well } else { Tier::Fit })
        }
        Health::Ejected { .. } if tried.answered => Err(LeftOut::Ejected),
        Health::Ejected { .. } => Ok(Tier::LastResort),
        Health::Probation if server.ledger.is_on_trial() => Ok(if_well.max(Tier::Doubtful)),
        Health::UnderTest { .. } => Ok(if_well.max(Tier::Doubtful)),
        Health::Healthy | Health::Suspect | Health::Probation => Ok(if_well),
    }
}

/// The server that holds what the request is about. Nobody else has it, so it is asked whatever
/// its health, and though it may be about to be emptied.
fn holder<'s>(
    facts: &Facts<'_>,
    snapshot: &'s Snapshot,
    tried: &Tried,
) -> Option<&'s Arc<ServerView>> {
    let holder = facts.holder.filter(|&holder| !tried.contains(holder))?;
    snapshot.servers.iter().find(|server| server.key == holder)
}

/// Whether somebody else may do better with a prompt that `server` found too long: takes longer
/// ones.
pub fn has_more_room_elsewhere(
    facts: &Facts<'_>,
    snapshot: &Snapshot,
    tried: &Tried,
    server: &ServerView,
) -> bool {
    let Some(here) = server.max_len(facts.model) else { return false };
    let listed = facts.model.and_then(|model| snapshot.models.servers_of(model));
    (0..).zip(snapshot.servers.iter()).any(|(position, other)| {
        let serves = listed.is_none_or(|at| at.binary_search(&position).is_ok());
        let room = other.max_len(facts.model);
        serves
            && other.admission == Admission::Open
            && !tried.contains(other.key)
            && room.is_some_and(|room| room > here)
    })
}

/// Whether somebody else may hold what `server` does not.
pub fn may_be_held_elsewhere(
    facts: &Facts<'_>,
    snapshot: &Snapshot,
    tried: &Tried,
    server: &ServerView,
) -> bool {
    let listed = facts.model.and_then(|model| snapshot.models.servers_of(model));
    (0..).zip(snapshot.servers.iter()).any(|(position, other)| {
        listed.is_none_or(|at| at.binary_search(&position).is_ok())
            && other.key != server.key
            && !tried.contains(other.key)
            && snapshot.gets_requests(other)
    })
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
