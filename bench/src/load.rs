//! Load: many connections that share out a list of calls, each sending its next batch when the last one is answered.

use crate::connection::{Connection, Reply, Target};
use anyhow::Result;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How the load reaches the server.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Connections at once.
    pub connections: usize,
    /// Calls that a connection sends before it waits for their replies.
    pub pipeline: usize,
}

/// What is called, and who listens to the replies.
pub trait Caller: Send + 'static {
    /// Writes the command of a call.
    fn encode(&self, call: u32, out: &mut Vec<u8>);

    /// Takes the reply to a call.
    fn take(&mut self, call: u32, reply: Reply<'_>);
}

/// What came of it.
pub struct Run<C> {
    /// One caller for each connection, with what it has heard.
    pub callers: Vec<C>,
    /// From the first call sent to the last reply.
    pub elapsed: Duration,
    /// Microseconds from sending a call to its reply; the calls of a batch are sent together.
    pub latency: Histogram<u64>,
}

/// How many calls are answered, for whoever watches.
pub type Answered = Arc<AtomicUsize>;

/// Makes all calls of the list. Connections are opened before the clock starts.
pub async fn drive<C: Caller>(
    target: &Target,
    shape: Shape,
    calls: Arc<[u32]>,
    answered: Answered,
    caller: impl Fn() -> C,
) -> Result<Run<C>> {
    let mut connections = Vec::with_capacity(shape.connections);
    for _ in 0..shape.connections {
        connections.push(Connection::open(target).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = Vec::with_capacity(shape.connections);
    for connection in connections {
        let (caller, next) = (caller(), Arc::clone(&next));
        lanes.push(Lane { connection, caller, latency: histogram()?, pipeline: shape.pipeline, next });
    }
    // What costs the client time but is no load stays outside: histograms are made before and added up behind.
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for lane in lanes {
        tasks.spawn(lane.run(Arc::clone(&calls), Arc::clone(&answered)));
    }
    let mut done = Vec::with_capacity(shape.connections);
    while let Some(lane) = tasks.join_next().await {
        done.push(lane??);
    }
    let mut run = Run { callers: Vec::with_capacity(done.len()), elapsed: start.elapsed(), latency: histogram()? };
    for (caller, latency) in done {
        run.callers.push(caller);
        run.latency.add(&latency)?;
    }
    Ok(run)
}

/// One connection at work.
struct Lane<C> {
    connection: Connection,
    caller: C,
    latency: Histogram<u64>,
    pipeline: usize,
    next: Arc<AtomicUsize>,
}

impl<C: Caller> Lane<C> {
    async fn run(mut self, calls: Arc<[u32]>, answered: Answered) -> Result<(C, Histogram<u64>)> {
        let mut outbox = Vec::new();
        loop {
            let from = self.next.fetch_add(self.pipeline, Ordering::Relaxed).min(calls.len());
            let until = (from + self.pipeline).min(calls.len());
            let batch = calls.get(from..until).unwrap_or_default();
            if batch.is_empty() {
                return Ok((self.caller, self.latency));
            }
            outbox.clear();
            for call in batch {
                self.caller.encode(*call, &mut outbox);
            }
            let sent = Instant::now();
            let (caller, latency) = (&mut self.caller, &mut self.latency);
            self.connection
                .exchange(&outbox, batch.len(), |place, reply| {
                    if let Some(call) = batch.get(place) {
                        caller.take(*call, reply);
                    }
                    latency.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                })
                .await?;
            answered.fetch_add(batch.len(), Ordering::Relaxed);
        }
    }
}

/// Up to a minute in microseconds, three digits kept.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}
