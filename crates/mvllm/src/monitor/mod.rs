//! The fullscreen monitor: the state of the router and its fleet, drawn on the terminal that
//! standard error is connected to.
//!
//! * [`source`]: where reports come from and orders go: this process, or a router elsewhere.
//! * [`state`]: what is known and what is chosen; pure.
//! * [`view`]: draws the state, and decides nothing.
//! * [`keyboard`], [`input`]: bytes to keys, keys to what they mean.
//! * [`terminal`]: the screen, taken and given back.
//! * [`run`]: the loop, on a thread of its own.

mod input;
mod keyboard;
mod run;
#[cfg(test)]
mod samples;
mod source;
mod state;
mod terminal;
mod view;

pub(crate) use run::{Ended, MonitorError, Options, run};
pub(crate) use source::{AdminCommand, AdminError, AdminOrder, Source, Verb};
pub(crate) use terminal::restore;
pub(crate) use view::Colours;
