//! A request that a model has to answer, and what its handler may do.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::body::Bytes;

use super::answer::Answer;
use super::ask::Ask;
use super::error::ApiError;
use super::fields::Fields;
use super::reply::{Delivery, OnFailure};
use super::wire::Fate;
use crate::fault::{Death, Fault};
use crate::server::Server;

/// `system_fingerprint` in answers: a version and a hash of the configuration, as vLLM's.
pub(crate) const FINGERPRINT: &str = "vllm-0.32.0-51a1a7ed";

/// A request for a model.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) fate: Fate,
    /// The fault that strikes this request.
    pub(crate) fault: Fault,
}

impl Call {
    /// The body as JSON.
    pub(crate) fn fields(&self) -> Result<Fields, ApiError> {
        Fields::parse(&self.headers, &self.body)
    }

    /// The answer's id: the client's own (`X-Request-Id`), or a fresh one.
    pub(crate) fn id(&self, prefix: &str) -> String {
        let given = self.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        given.map_or_else(|| self.server.fresh_id(prefix), |id| format!("{prefix}{id}"))
    }

    /// Hands a request to the engines.
    pub(crate) fn submit(&self, ask: Ask) -> Result<Answer, ApiError> {
        let mut answer = ask.submit(&self.server)?;
        if self.fault == Fault::Hang {
            answer.stall();
        }
        Ok(answer)
    }

    /// How a stream is to be sent.
    pub(crate) fn delivery(&self, on_failure: OnFailure) -> Delivery {
        Delivery { on_failure, fate: self.fate.clone(), dies: self.death() }
    }

    fn death(&self) -> Option<(u32, Death)> {
        match self.fault {
            Fault::DieAfterEvents { events, how } => Some((events, how)),
            _ => None,
        }
    }
}
