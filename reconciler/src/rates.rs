//! How many grants and rows there were in the last minutes, of each coupon and of all.
//!
//! Counted where a batch is committed, so a coupon that nothing happens to costs nothing, and is forgotten once its last
//! grant is older than what is shown.

use crate::clock::Clock;
use coupon_core::grant::Grant;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One step of a series, in seconds.
pub const STEP_SECONDS: u64 = 10;

/// Steps that are kept: five minutes.
const STEPS: usize = 30;

/// Steps over which "per second" is taken: the last minute, the step that has just begun included.
const MINUTE_STEPS: usize = 6;

const STEP_MS: u64 = STEP_SECONDS * 1000;

/// Grants and rows, step by step. A ring: step n is at n modulo its length.
#[derive(Debug, Clone, Default)]
struct Series {
    newest: u64,
    grants: [u32; STEPS],
    rows: [u32; STEPS],
}

impl Series {
    /// Goes on to a step; what is older than the ring is forgotten.
    fn advance(&mut self, to: u64) {
        let went_back = to.saturating_add(STEPS as u64) <= self.newest;
        if went_back {
            *self = Self { newest: to, ..Self::default() };
        }
        let first = (self.newest + 1).max((to + 1).saturating_sub(STEPS as u64));
        for step in first..=to {
            self.grants[place(step)] = 0;
            self.rows[place(step)] = 0;
        }
        self.newest = self.newest.max(to);
    }

    /// Counts a grant of this step, unless it is older than the ring. One from a step to come is of the newest.
    fn add_grant(&mut self, step: u64) {
        if self.newest.saturating_sub(step) < STEPS as u64 {
            let count = &mut self.grants[place(step.min(self.newest))];
            *count = count.saturating_add(1);
        }
    }

    fn add_rows(&mut self, rows: u64) {
        let count = &mut self.rows[place(self.newest)];
        *count = count.saturating_add(u32::try_from(rows).unwrap_or(u32::MAX));
    }

    fn is_empty(&self) -> bool {
        self.grants.iter().chain(&self.rows).all(|count| *count == 0)
    }

    fn show(&self, now_ms: u64) -> Recent {
        let steps = (0..STEPS as u64).rev().map(|ago| place(self.newest.saturating_sub(ago)));
        let (grants, rows) = steps.map(|place| (self.grants[place], self.rows[place])).unzip();
        let into_step_ms = now_ms.saturating_sub(self.newest.saturating_mul(STEP_MS)).min(STEP_MS);
        let seconds = ((MINUTE_STEPS as u64 - 1) * STEP_MS + into_step_ms) as f64 / 1000.0;
        let mut recent = Recent { grants, rows, ..Recent::default() };
        recent.grants_per_second = per_second(&recent.grants, seconds);
        recent.rows_per_second = per_second(&recent.rows, seconds);
        recent
    }
}

fn place(step: u64) -> usize {
    (step % STEPS as u64) as usize
}

fn per_second(counts: &[u32], seconds: f64) -> f64 {
    let sum: u64 = counts.iter().rev().take(MINUTE_STEPS).map(|count| u64::from(*count)).sum();
    // Two decimals: a rate is for the eye.
    (sum as f64 / seconds * 100.0).round() / 100.0
}

/// A series for people, the oldest step first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Recent {
    /// Grants per second in the last minute.
    pub grants_per_second: f64,
    /// Rows per second in the last minute.
    pub rows_per_second: f64,
    /// Grants by the time at which Redis made them.
    pub grants: Vec<u32>,
    /// Rows by the time at which they were committed.
    pub rows: Vec<u32>,
}

#[derive(Debug, Default)]
struct Counts {
    all: Series,
    coupons: HashMap<String, Series>,
}

impl Counts {
    /// Goes on to a step, and forgets the coupons that nothing is left of.
    fn advance(&mut self, step: u64) {
        if step == self.all.newest {
            return;
        }
        self.all.advance(step);
        self.coupons.retain(|_, series| {
            series.advance(step);
            !series.is_empty()
        });
    }
}

/// What is counted of the last minutes.
#[derive(Debug, Default)]
pub struct Rates {
    clock: Arc<Clock>,
    counts: Mutex<Counts>,
}

impl Rates {
    /// Nothing counted yet.
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { clock, counts: Mutex::default() }
    }

    // Nothing in here panics while it holds the lock, and if it did, counts are still counts.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a committed batch.
    pub fn count(&self, id: &str, grants: &[Grant], rows: u64) {
        self.count_at(self.clock.now_ms(), id, grants.iter().map(|grant| grant.granted_at_ms), rows);
    }

    fn count_at(&self, now_ms: u64, id: &str, granted_at_ms: impl Iterator<Item = u64>, rows: u64) {
        let mut counts = self.lock();
        counts.advance(now_ms / STEP_MS);
        let Counts { all, coupons } = &mut *counts;
        if !coupons.contains_key(id) {
            coupons.insert(id.to_owned(), Series { newest: all.newest, ..Series::default() });
        }
        let Some(series) = coupons.get_mut(id) else { return };
        for at in granted_at_ms {
            series.add_grant(at / STEP_MS);
            all.add_grant(at / STEP_MS);
        }
        series.add_rows(rows);
        all.add_rows(rows);
    }

    /// Of all coupons together, and of each that something happened to.
    pub fn show(&self) -> (Recent, HashMap<String, Recent>) {
        self.show_at(self.clock.now_ms())
    }

    fn show_at(&self, now_ms: u64) -> (Recent, HashMap<String, Recent>) {
        let mut counts = self.lock();
        counts.advance(now_ms / STEP_MS);
        let coupons = counts.coupons.iter().map(|(id, series)| (id.clone(), series.show(now_ms)));
        (counts.all.show(now_ms), coupons.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn counted(rates: &Rates, now_ms: u64) -> (Vec<u32>, Vec<u32>) {
        let recent = rates.show_at(now_ms).1.remove("a").unwrap_or_default();
        (recent.grants, recent.rows)
    }

    #[test]
    fn grants_count_when_they_were_made_and_rows_when_they_were_written() {
        let rates = Rates::default();
        rates.count_at(NOW, "a", [NOW - 25_000, NOW - 5_000, NOW, NOW + 60_000].into_iter(), 4);
        let (grants, rows) = counted(&rates, NOW);
        assert_eq!(grants[STEPS - 4..], [1, 0, 1, 2]);
        assert_eq!(rows[STEPS - 4..], [0, 0, 0, 4]);
        rates.count_at(NOW + 20_000, "a", [NOW + 20_000].into_iter(), 1);
        let (grants, rows) = counted(&rates, NOW + 20_000);
        assert_eq!((&grants[STEPS - 6..], &rows[STEPS - 3..]), (&[1, 0, 1, 2, 0, 1][..], &[4, 0, 1][..]));
        // Older than what is shown.
        rates.count_at(NOW + 20_000, "a", [NOW - 400_000].into_iter(), 0);
        assert_eq!(counted(&rates, NOW + 20_000).0.iter().sum::<u32>(), 5);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let rates = Rates::default();
        rates.count_at(NOW, "a", [NOW].into_iter(), 1);
        let end = NOW + STEPS as u64 * STEP_MS;
        assert_eq!(counted(&rates, end - STEP_MS).0.iter().sum::<u32>(), 1);
        assert!(rates.show_at(end).1.is_empty(), "it is not shown");
        rates.count_at(end, "b", [end].into_iter(), 1);
        assert_eq!(rates.lock().coupons.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(rates.show_at(end).0.grants.iter().sum::<u32>(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_begins_anew() {
        let rates = Rates::default();
        rates.count_at(NOW, "a", [NOW].into_iter(), 1);
        let back = NOW - 3_600_000;
        rates.count_at(back, "a", [back].into_iter(), 1);
        let (grants, rows) = counted(&rates, back);
        assert_eq!((grants[STEPS - 1], rows[STEPS - 1]), (1, 1));
        assert_eq!((grants.iter().sum::<u32>(), rows.iter().sum::<u32>()), (1, 1));
    }

    #[test]
    fn a_rate_is_taken_over_the_last_minute() {
        let rates = Rates::default();
        let start = NOW / STEP_MS * STEP_MS;
        rates.count_at(start, "a", std::iter::repeat_n(start, 110), 55);
        let at = |ms| rates.show_at(start + ms).0;
        assert_eq!((at(5_000).grants_per_second, at(5_000).rows_per_second), (2.0, 1.0));
        assert_eq!(at(59_999).grants_per_second, 1.83);
        assert_eq!(at(60_000).grants_per_second, 0.0);
    }
}
