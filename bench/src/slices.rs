//! Sides measured in turns: a slice of calls for one, the same slice for the next, and so on, in an order that turns
//! round each time. Whatever slows the machine down for a while slows all sides; what counts is the ratio in each slice.

use crate::connection::Target;
use crate::load::{Answered, Shape, drive};
use crate::server::Usage;
use crate::spread::Spread;
use crate::template::Repeat;
use anyhow::{Result, bail};
use serde::Serialize;
use std::sync::Arc;

/// One of those who are compared.
pub struct Side {
    /// What it is called.
    pub name: &'static str,
    /// What it sends.
    pub caller: Repeat,
    /// How.
    pub shape: Shape,
    /// What one call stands for: the users in it.
    pub units_per_call: u32,
}

/// One side in one slice.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Slice {
    /// Users, entries or calls per second.
    pub rate: f64,
    /// The server's main thread, microseconds of CPU for each of them.
    pub cpu_us: f64,
    /// The share of the slice in which the server's main thread was at work. Well below one, the client or a neighbour
    /// was in the way, and the CPU time says more than the rate.
    pub busy: f64,
    /// Microseconds from sending to reply.
    pub p50_us: u64,
    /// The same for one in a hundred.
    pub p99_us: u64,
}

/// All slices of one side.
pub type Course = Vec<Slice>;

/// Measures each side over each part of the calls.
pub async fn alternate(target: &Target, usage: &Usage, sides: &[Side], parts: &[Arc<[u32]>]) -> Result<Vec<Course>> {
    let mut courses: Vec<Course> = sides.iter().map(|_| Vec::with_capacity(parts.len())).collect();
    for (number, part) in parts.iter().enumerate() {
        let mut turn: Vec<_> = sides.iter().zip(&mut courses).collect();
        if number % 2 == 1 {
            turn.reverse();
        }
        for (side, course) in turn {
            course.push(measure(target, usage, side, part).await?);
        }
    }
    Ok(courses)
}

/// Measures one side over these calls.
pub async fn measure(target: &Target, usage: &Usage, side: &Side, calls: &Arc<[u32]>) -> Result<Slice> {
    let before = usage.cpu_seconds();
    let run = drive(target, side.shape, Arc::clone(calls), Answered::default(), || side.caller.clone()).await?;
    let cpu = usage.cpu_seconds() - before;
    if let Some(surprise) = run.callers.into_iter().find_map(|caller| caller.surprise) {
        bail!("{} was answered: {surprise}", side.name);
    }
    let elapsed = run.elapsed.as_secs_f64();
    let units = calls.len() as f64 * f64::from(side.units_per_call);
    Ok(Slice {
        rate: units / elapsed,
        cpu_us: cpu * 1e6 / units,
        busy: cpu / elapsed,
        p50_us: run.latency.value_at_quantile(0.5),
        p99_us: run.latency.value_at_quantile(0.99),
    })
}

/// How many times the other's rate, slice by slice.
#[must_use]
pub fn rate_ratio(ours: &[Slice], peer: &[Slice]) -> Spread {
    Spread::of(ours.iter().zip(peer).map(|(ours, peer)| ours.rate / peer.rate))
}

/// The same from the server's CPU time alone: neighbours and the client's own pace do not show in it.
#[must_use]
pub fn cpu_ratio(ours: &[Slice], peer: &[Slice]) -> Spread {
    Spread::of(ours.iter().zip(peer).map(|(ours, peer)| peer.cpu_us / ours.cpu_us))
}

/// The median rate.
#[must_use]
pub fn rate(course: &[Slice]) -> f64 {
    Spread::of(course.iter().map(|slice| slice.rate)).median
}

/// The median CPU time of a call.
#[must_use]
pub fn cpu_us(course: &[Slice]) -> f64 {
    Spread::of(course.iter().map(|slice| slice.cpu_us)).median
}

/// Cuts calls into so many parts of equal length.
#[must_use]
pub fn cut(calls: &[u32], parts: usize) -> Vec<Arc<[u32]>> {
    calls.chunks_exact((calls.len() / parts).max(1)).map(Arc::from).collect()
}
