//! What is in deploy/, and what `make dist` packs: checked by the tools that will read it, run where it can be run.
#![cfg(target_os = "linux")]

mod dashboard;
mod dist;
mod kubernetes;
mod manifest;
mod monitoring;
mod prometheus;
mod systemd;
mod yaml;
