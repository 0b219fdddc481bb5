//! The audit: planted drift is found exactly, and nothing else is.

mod background;
mod clean;
mod finding;
mod planted;
mod repair;
// Shared with the tests of the daemon, which use all of it.
#[allow(dead_code, reason = "the other target uses the rest")]
#[path = "../reconciler/sale.rs"]
mod sale;
mod second_look;
