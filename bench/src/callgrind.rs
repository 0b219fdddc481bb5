//! A Redis under valgrind's callgrind, which counts instructions: the same input takes the same number, however busy the
//! machine is.

use crate::connection::{Connection, Target};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Under valgrind a server starts some ten times slower.
const START_PATIENCE: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What callgrind puts before the number of a dump.
const DUMP: &str = "callgrind.out";

/// The server. Dropped, it is killed, and its directory goes.
pub struct Counted {
    child: Child,
    process: u32,
    dumps: usize,
    directory: TempDir,
    /// How it is reached.
    pub url: String,
}

/// Instructions, in all and in each part of the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// In all threads.
    pub total: u64,
    /// By the program or library they lie in, by its file name.
    pub by_object: BTreeMap<String, u64>,
}

impl Counted {
    /// Starts a Redis with the shipped settings and the module; nothing is counted yet.
    pub async fn start(module: &Path, config: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("coupon-budget-").tempdir()?;
        // Free now, and hardly taken by another before the server binds it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = fs::File::create(directory.path().join("log"))?;
        let child = Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind", "--instr-atstart=no"])
            .arg(format!("--callgrind-out-file={}", directory.path().join(DUMP).display()))
            .arg("redis-server")
            .arg(config)
            .args(["--port", &port.to_string(), "--daemonize", "no", "--dir"])
            .arg(directory.path())
            // Its clockwork runs by time, not by calls: as seldom as can be.
            .args(["--hz", "1", "--dynamic-hz", "no", "--loadmodule"])
            .arg(module)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("valgrind does not start; is it installed?")?;
        let process = child.id().context("valgrind has ended at once")?;
        let url = format!("redis://127.0.0.1:{port}");
        let mut counted = Self { child, process, dumps: 0, directory, url };
        counted.await_answer().await?;
        Ok(counted)
    }

    async fn await_answer(&mut self) -> Result<()> {
        let (target, deadline) = (Target::parse(&self.url)?, Instant::now() + START_PATIENCE);
        while Connection::open(&target).await.is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                bail!("redis-server does not start under valgrind:\n{log}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Counts from now on.
    pub async fn begin(&self) -> Result<()> {
        self.tell(&["instrumentation", "on"]).await
    }

    /// Counts no longer; what there was since [`Self::begin`].
    pub async fn end(&mut self) -> Result<(Count, PathBuf)> {
        self.tell(&["instrumentation", "off"]).await?;
        self.tell(&["dump"]).await?;
        self.dumps += 1;
        let file = self.directory.path().join(format!("{DUMP}.{}", self.dumps));
        let text = fs::read_to_string(&file).with_context(|| format!("callgrind left no {}", file.display()))?;
        Ok((Count::read(&text)?, file))
    }

    async fn tell(&self, words: &[&str]) -> Result<()> {
        let output = Command::new("vgdb")
            .arg(format!("--pid={}", self.process))
            .args(words)
            .output()
            .await
            .context("vgdb does not start; it comes with valgrind")?;
        ensure!(output.status.success(), "vgdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Count {
    /// Reads a dump. Its lines are positions with costs, under the object they belong to; the cost of a call is the callee's
    /// own as well, and must not be counted twice.
    fn read(text: &str) -> Result<Self> {
        let mut count = Self::default();
        let (mut names, mut object, mut is_callee) = (BTreeMap::new(), String::new(), false);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("ob=") {
                object = resolve(name, &mut names);
            } else if let Some(name) = line.strip_prefix("cob=") {
                resolve(name, &mut names);
            } else if line.starts_with("calls=") {
                is_callee = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or_default();
                if !is_callee {
                    count.total += cost;
                    *count.by_object.entry(object.clone()).or_default() += cost;
                }
                is_callee = false;
            }
        }
        ensure!(count.total > 0, "callgrind has counted nothing");
        Ok(count)
    }
}

/// Names stand in full once, as in "(3) /usr/lib/x.so", and by their number from then on. The file name of the path.
fn resolve(name: &str, names: &mut BTreeMap<String, String>) -> String {
    match name.split_once(' ') {
        Some((number, path)) => {
            let file = path.rsplit('/').next().unwrap_or(path).to_owned();
            names.insert(number.to_owned(), file.clone());
            file
        }
        None => names.get(name).cloned().unwrap_or_else(|| name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_costs_are_added_up_by_object_and_calls_are_not_counted_twice() -> Result<()> {
        let dump = "events: Ir\n\nob=(1) /usr/bin/redis-server\nfn=(1) main\n12 100\ncob=(2) /x/libcoupon.so\ncfn=(2) call\n\
                    calls=3 7\n13 40\n+1 5\nob=(2)\nfn=(2)\n7 40\n\ntotals: 145\n";
        let count = Count::read(dump)?;
        let expected = [("libcoupon.so".to_owned(), 40), ("redis-server".to_owned(), 105)];
        assert_eq!(count, Count { total: 145, by_object: expected.into() });
        assert!(Count::read("events: Ir\n").is_err());
        Ok(())
    }
}
