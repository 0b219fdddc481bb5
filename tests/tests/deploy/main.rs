//! What is in deploy/: checked by the tools that will read it, run where it can be run.
#![cfg(target_os = "linux")]

mod dashboard;
mod kubernetes;
mod manifest;
mod monitoring;
mod prometheus;
mod systemd;
mod yaml;
