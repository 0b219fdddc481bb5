//! A client that sends PING without a pause, on a thread of its own: it must not wait for the load's tasks.

use crate::connection::Target;
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// The thread at work.
pub struct Pinging {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Histogram<u64>>>,
}

impl Pinging {
    /// Begins.
    pub fn start(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address()).context("no connection to Redis")?;
        stream.set_nodelay(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&is_over);
        Ok(Self { is_over, thread: std::thread::spawn(move || ping(stream, &watched)) })
    }

    /// Ends; microseconds of each PING.
    pub async fn stop(self) -> Result<Histogram<u64>> {
        self.is_over.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| anyhow::anyhow!("the pinging thread has panicked"))?
    }
}

fn ping(mut stream: TcpStream, is_over: &AtomicBool) -> Result<Histogram<u64>> {
    let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let mut answer = [0; 7];
    while !is_over.load(Ordering::Relaxed) {
        let sent = Instant::now();
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut answer)?;
        latency.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        if answer != *b"+PONG\r\n" {
            bail!("PING was answered: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(latency)
}
