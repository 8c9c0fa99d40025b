//! What load 1.0 is.

use std::time::Duration;

use mvllm_core::policy::Policy;

use super::contestant::Contestant;
use super::plant::FleetSpec;
use super::source::Source;
use super::world::{Trial, run};

/// To see what a fleet can do at most, it must get more.
const MORE: f64 = 1.3;

/// Who waits less than so many seconds in the last quarter meets no queue that grows.
const KEEPS_UP: f64 = 1.0;

/// The rate at which the first look is taken; each further one is at what the last has shown.
const FIRST_GUESS_PER_SERVER: f64 = 1.0;

/// How often. What prefixes are still in the cache depends on the rate itself, a little.
const LOOKS: u32 = 4;

/// Load 1.0: the requests to which the fleet gives a first token in a second while more of them come, each sent to the
/// server with the fewest. On equal servers that is also where round robin's queues begin to grow
/// without end; on unequal ones round robin overloads the slow servers well before.
pub(super) fn capacity(source: &Source, fleet: &FleetSpec, seed: u64) -> f64 {
    let mut capacity = FIRST_GUESS_PER_SERVER * fleet.profiles.len() as f64;
    let mut looks = 0;
    while looks < LOOKS {
        let workload = source.at_rate(capacity * MORE);
        let last = workload.requests.last().map_or(Duration::ZERO, |request| request.at);
        let contestant = Contestant::Router(Policy::LeastRequests);
        let trial = Trial { workload: &workload, fleet, routers: 1, contestant, seed };
        let outcome = run(&trial);
        let shown = outcome.rate_between(last.div_f64(2.0), last);
        // A fleet that keeps up has not shown what it can do.
        let keeps_up = outcome.median_since(last.mul_f64(0.75)) < KEEPS_UP;
        capacity = if keeps_up { capacity * 2.0 } else { shown };
        looks += u32::from(!keeps_up);
    }
    capacity
}
