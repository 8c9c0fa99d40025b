//! Where workloads come from, at whatever rate they are wanted.

use std::path::Path;

use super::generate::{Shape, generate};
use super::trace::{self, TraceError};
use super::workload::Workload;

/// Where a workload comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file. Another rate is another speed of its clock: the pauses between the turns of a
    /// conversation shrink as well.
    Recorded(Workload),
    /// A generator. Another rate is other sessions, more or fewer; pauses stay as they are.
    Generated { shape: Shape, requests: usize, seed: u64 },
}

impl Source {
    /// The first requests of a trace that are not too long.
    pub(super) fn recorded(
        path: &Path,
        requests: usize,
        max_model_len: u32,
        seed: u64,
    ) -> Result<Self, TraceError> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut workload = trace::read(path, &mut random)?;
        workload.requests.retain(|request| request.prompt + request.output <= max_model_len);
        workload.requests.truncate(requests);
        if workload.requests.is_empty() {
            return Err(TraceError::Empty { path: path.display().to_string() });
        }
        Ok(Self::Recorded(workload))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Recorded(workload) => workload.name.clone(),
            Self::Generated { shape, .. } => shape.name(),
        }
    }

    /// With so many requests in a second.
    pub(super) fn at_rate(&self, rate: f64) -> Workload {
        match self {
            Self::Generated { shape, requests, seed } => generate(*shape, *requests, rate, *seed),
            Self::Recorded(workload) => {
                let mut workload = workload.clone();
                let haste = rate / workload.rate();
                for request in &mut workload.requests {
                    request.at = request.at.div_f64(haste);
                }
                workload
            }
        }
    }
}
