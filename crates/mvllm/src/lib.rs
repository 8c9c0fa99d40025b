//! mvllm: one OpenAI-compatible endpoint for a fleet of vLLM servers.
//!
//! This is the program around [`mvllm_core`], which decides: sockets, files, clocks. ARCHITECTURE.md
//! at the root of the repository says what lives where and how a request travels.

mod absent_peer;
mod admin;
mod app;
mod board;
pub mod cli;
mod clock;
pub mod config;
mod fleet;
mod handover;
mod leave;
mod listen;
mod machine;
mod monitor;
mod prefixes;
mod proxy;
mod reloads;
mod screen;
mod status;
mod stay;
mod supervisor;
mod telemetry;
mod traffic;
mod upstream;
