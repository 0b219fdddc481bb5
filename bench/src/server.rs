//! The Redis under test: its connection for setting up, and what the operating system knows of its process.

use crate::connection::Target;
use anyhow::{Context, Result, bail};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use std::fs;
use std::time::Duration;

/// Copying or freeing a million users takes longer than the client's own limit of half a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// The unit of CPU times in /proc/pid/stat, the same on every Linux that can be met.
const TICKS_PER_SECOND: f64 = 100.0;

/// A private Redis with the module.
pub struct Server {
    /// How it is reached by the load.
    pub target: Target,
    /// How it is reached by whoever sets up.
    pub redis: MultiplexedConnection,
    /// Its process.
    pub usage: Usage,
    /// Redis's version.
    pub version: String,
}

impl Server {
    /// Connects and finds the process.
    pub async fn connect(url: &str) -> Result<Self> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = redis::Client::open(url).context("the Redis URL cannot be read")?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut redis = connection.context("no connection to Redis")?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
        let field = |name: &str| field(&info, name).map(str::to_owned);
        let process = field("process_id").and_then(|id| id.parse().ok()).context("Redis tells no process_id")?;
        let version = field("redis_version").unwrap_or_default();
        Ok(Self { target: Target::parse(url)?, redis, usage: Usage { process }, version })
    }

    /// Runs a command without looking at its reply.
    pub async fn run(&mut self, words: &[&str]) -> Result<()> {
        let (name, args) = words.split_first().context("an empty command")?;
        redis::cmd(name).arg(args).exec_async(&mut self.redis).await.with_context(|| words.join(" "))
    }

    /// Runs a command whose reply is a number; 0 for nothing.
    pub async fn count(&mut self, words: &[&str]) -> Result<u64> {
        let (name, args) = words.split_first().context("an empty command")?;
        let count: Option<u64> =
            redis::cmd(name).arg(args).query_async(&mut self.redis).await.with_context(|| words.join(" "))?;
        Ok(count.unwrap_or_default())
    }

    /// Whether it knows this command.
    pub async fn knows(&mut self, command: &str) -> Result<bool> {
        let found: Vec<Option<Vec<redis::Value>>> =
            redis::cmd("COMMAND").arg("INFO").arg(command).query_async(&mut self.redis).await?;
        Ok(found.iter().any(|entry| entry.as_ref().is_some_and(|fields| !fields.is_empty())))
    }

    /// Opens a coupon as the reconciler does: at an epoch, with its gate open, so that the fence is looked at too.
    pub async fn open(&mut self, key: &str, quantity: u32, mode: &str) -> Result<()> {
        self.run(&["COUPON.OPEN", key, "QUANTITY", &quantity.to_string(), "MODE", mode]).await?;
        self.run(&["COUPON.RESUME", key, "EPOCH", "1", "SEQ", "0", "CHAIN", "0"]).await
    }

    /// Bytes that a key takes, every element counted; 0 if there is none.
    pub async fn bytes(&mut self, key: &str) -> Result<u64> {
        self.count(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).await
    }

    /// Loads a script and hands out its digest.
    pub async fn load_script(&mut self, source: &str) -> Result<String> {
        Ok(redis::cmd("SCRIPT").arg("LOAD").arg(source).query_async(&mut self.redis).await?)
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What a process uses, as Linux tells it.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Its id.
    pub process: u32,
}

impl Usage {
    /// CPU time of the main thread so far, in seconds; not a number where the system does not tell.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let path = format!("/proc/{0}/task/{0}/schedstat", self.process);
        let nanoseconds = fs::read_to_string(path).ok().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        nanoseconds.map_or(f64::NAN, |nanoseconds| nanoseconds / 1e9)
    }

    /// CPU time of all threads, also of those that have ended, in seconds.
    pub fn cpu_seconds_in_all(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process)).context("the process is gone")?;
        // The program's name stands in parentheses and may hold anything.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// The most memory that it ever held, in MiB.
    pub fn peak_mib(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process)).context("the process is gone")?;
        let Some(line) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) else {
            bail!("the system does not tell VmHWM")
        };
        let kib: f64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).context("VmHWM is no number")?;
        Ok(kib / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let info = "# Server\r\nredis_version_x:1\r\nredis_version:7.0.15\r\n";
        assert_eq!(field(info, "redis_version"), Some("7.0.15"));
        assert_eq!(field(info, "version"), None);
    }
}
