//! What must hold whatever comes in: one function for each fuzz target, which panics if it does not.
//!
//! The ordinary tests call the same functions with what the fuzzers have found worth keeping
//! (`corpora/`): `crates/core/tests/corpora.rs` and `crates/mvllm/tests/it/config_corpus.rs`.

pub mod config;
pub mod dialect;
pub mod exposition;
pub mod facts;
pub mod fleet_events;
pub mod route;
