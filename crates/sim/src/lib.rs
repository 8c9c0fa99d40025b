//! A vLLM server that is not there: vLLM 0.32's endpoints, streams, errors and metrics over a model of
//! its scheduler and KV cache. It answers as a real server does, at a speed of choice, without a GPU,
//! and fails on command.
//!
//! It knows nothing of the router that it serves to test: what both believe about vLLM, each believes
//! for itself, and `tests/real_vllm/test_conformance.py` holds this side to the real one.
//!
//! - [`engine`] and [`kv_cache`] are the scheduler and its cache: pure, time told from outside.
//! - [`tokenizer`] and [`writer`] are the model: texts to tokens, and what follows them.
//! - [`SimServer`] puts them behind a socket; [`Fault`] makes that go wrong.

pub mod engine;
pub mod kv_cache;
pub mod profile;
pub mod stats;
pub mod tokenizer;
pub mod writer;

mod clock;
mod config;
mod driver;
mod exposition;
mod fault;
mod http;
mod request_log;
mod server;
mod words;

pub use config::{MetricNames, SimConfig};
pub use fault::{BadMetrics, Death, Fault};
pub use request_log::{LoggedRequest, Outcome};
pub use server::{SimServer, Stats, serve};
