//! What mvllm does with a request, decided.
//!
//! This crate is pure: same inputs and same seed, same answer. It has no clock, no sockets, no
//! files, no environment and no hidden randomness; being `no_std`, it could not even name them.
//! Whoever calls passes in the time ([`time::Timestamp`]) and the random numbers.
//!
//! The words: a *server* is one address that speaks vLLM's API; the *fleet* is all of them. A
//! [`choice`] gives a request a *candidate*, that is a server and a *reservation* there. One try at
//! a server is an *attempt*; a "no" of ours is a *refusal*, a "no" of theirs a *failure*.
#![no_std]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attempt;
pub mod budget;
pub mod choice;
pub mod continuation;
pub mod dialect;
pub mod exposition;
pub mod fleet;
pub mod health;
mod json;
pub mod json_fields;
mod json_members;
pub mod ledger;
pub mod load;
pub mod multipart;
pub mod pace;
pub mod policy;
pub mod prefix;
pub mod prompt;
mod quoted;
pub mod ranks;
pub mod route;
mod sixteen;
pub mod snapshot;
pub mod sse;
pub mod stored;
pub mod time;
mod window;
