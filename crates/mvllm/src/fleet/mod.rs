//! Knowing the fleet: one task owns what is known, and each server has three observers that go
//! and look, on a schedule of their own, so that a slow server delays nobody.

mod client;
mod news;
mod observers;
mod probe;
mod task;

pub(crate) use observers::reading;
pub(crate) use task::{FleetTask, rules};
