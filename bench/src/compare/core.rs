//! Which cores a program may use. The system's own tool sets it, as the call for it is not safe Rust.

use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use tokio::process::Command;

/// Keeps this process on one core from now on.
pub async fn stay_on(core: usize) -> Result<()> {
    let id = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &id])
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .context("taskset is missing; without --core it is not needed")?;
    ensure!(status.success(), "taskset refused to keep the load on core {core}");
    Ok(())
}

/// A program that may use all cores, whatever this process keeps to; it is killed when dropped.
#[must_use]
pub fn free_program(program: impl AsRef<OsStr>, is_kept: bool) -> Command {
    let mut command = if is_kept {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &format!("0-{}", online().saturating_sub(1))]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.kill_on_drop(true);
    command
}

/// Cores of the machine, used or not.
#[must_use]
pub fn online() -> usize {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count().max(1)
}
