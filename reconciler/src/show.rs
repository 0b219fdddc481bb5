//! What people and programs see: one look at both sides, as a page, as JSON, as a table and as metrics.
//!
//! - `view`: the look, shared by all who ask
//! - `http`: what is served
//! - `page`: the live page
//! - `metrics`: for Prometheus
//! - `table`: for a terminal
//! - `fetch`: asking a daemon that runs elsewhere

pub mod fetch;
pub mod http;
pub mod metrics;
mod page;
pub mod table;
pub mod view;
