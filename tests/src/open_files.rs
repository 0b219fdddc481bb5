//! How many connections a test may hold, and a server it starts with it.

use crate::artifact;
use std::fs;
use std::process::Command;

/// Raises this process's limit of open files as far as it may be, up to so many. What it is then.
///
/// # Panics
/// If the kernel does not say.
#[must_use]
pub fn raise(wanted: usize) -> usize {
    let (soft, hard) = limits();
    let goal = wanted.min(hard);
    if soft < goal
        && let Some(prlimit) = artifact::on_path("prlimit")
    {
        let process = std::process::id().to_string();
        // Where it may not, the limit stays, which is what the caller is told.
        let _ = Command::new(prlimit).args(["--pid", &process, &format!("--nofile={goal}:{hard}")]).status();
    }
    limits().0
}

/// The soft and the hard limit.
fn limits() -> (usize, usize) {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux tells a process's limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit of open files");
    let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap_or(usize::MAX));
    (numbers.next().expect("a soft limit"), numbers.next().expect("a hard limit"))
}
