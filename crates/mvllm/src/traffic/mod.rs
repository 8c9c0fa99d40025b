//! What passed through the router: counted for `/metrics`, listed for the monitor, told in one log
//! line a request.

mod access_log;
mod buffered;
mod crowd;
mod histogram;
mod record;
mod series;
mod under_way;
mod usage;

pub(crate) use buffered::{Buffered, Share};
pub(crate) use crowd::Member;
pub(crate) use histogram::{BOUNDS_SECONDS, HistogramCounts};
pub(crate) use record::{CAUSES, Ending, Record};
pub(crate) use series::{CUTS, Continuation, Cut, GIVEN_UP, Series, Traffic};
pub(crate) use under_way::{Phase, UnderWay};
