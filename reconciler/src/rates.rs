//! How many requests, grants and rows there were in the last minutes, of each coupon and of all.
//!
//! Grants and rows are counted where a batch is committed, so a coupon that nothing happens to costs nothing, and is
//! forgotten once its last grant is older than what is shown. Requests leave no message: Redis's own count of them is
//! compared with that of the look before, at least at every full pass.

use crate::clock::Clock;
use coupon_core::grant::Grant;
use coupon_core::number::Epoch;
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

/// Requests, grants and rows, step by step. A ring: step n is at n modulo its length.
#[derive(Debug, Clone, Default)]
struct Series {
    newest: u64,
    requests: [u32; STEPS],
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
            self.requests[place(step)] = 0;
            self.grants[place(step)] = 0;
            self.rows[place(step)] = 0;
        }
        self.newest = self.newest.max(to);
    }

    fn add_requests(&mut self, step: u64, requests: u64) {
        if let Some(place) = self.place(step) {
            add(&mut self.requests[place], requests);
        }
    }

    fn add_grant(&mut self, step: u64) {
        if let Some(place) = self.place(step) {
            add(&mut self.grants[place], 1);
        }
    }

    fn add_rows(&mut self, rows: u64) {
        add(&mut self.rows[place(self.newest)], rows);
    }

    /// Where a step is counted, unless it is older than the ring. What is of a step to come is of the newest.
    fn place(&self, step: u64) -> Option<usize> {
        (self.newest.saturating_sub(step) < STEPS as u64).then(|| place(step.min(self.newest)))
    }

    fn is_empty(&self) -> bool {
        self.requests.iter().chain(&self.grants).chain(&self.rows).all(|count| *count == 0)
    }

    fn show(&self, now_ms: u64) -> Recent {
        let places: Vec<usize> = (0..STEPS as u64).rev().map(|ago| place(self.newest.saturating_sub(ago))).collect();
        let shown = |counts: &[u32; STEPS]| places.iter().map(|place| counts[*place]).collect::<Vec<u32>>();
        let (requests, grants, rows) = (shown(&self.requests), shown(&self.grants), shown(&self.rows));
        let into_step_ms = now_ms.saturating_sub(self.newest.saturating_mul(STEP_MS)).min(STEP_MS);
        let seconds = ((MINUTE_STEPS as u64 - 1) * STEP_MS + into_step_ms) as f64 / 1000.0;
        Recent {
            requests_per_second: per_second(&requests, seconds),
            grants_per_second: per_second(&grants, seconds),
            rows_per_second: per_second(&rows, seconds),
            requests,
            grants,
            rows,
        }
    }
}

fn add(count: &mut u32, more: u64) {
    *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
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
    /// Accepted requests per second in the last minute.
    pub requests_per_second: f64,
    /// Grants per second in the last minute.
    pub grants_per_second: f64,
    /// Rows per second in the last minute.
    pub rows_per_second: f64,
    /// Accepted requests, spread evenly between the two looks at Redis that found them.
    pub requests: Vec<u32>,
    /// Grants by the time at which Redis made them.
    pub grants: Vec<u32>,
    /// Rows by the time at which they were committed.
    pub rows: Vec<u32>,
}

/// What a look at a coupon in Redis saw.
#[derive(Debug, Clone, Copy)]
struct Look {
    at_ms: u64,
    epoch: Epoch,
    /// All that were accepted so far.
    requested: u64,
}

#[derive(Debug, Default)]
struct Counts {
    all: Series,
    coupons: HashMap<String, Series>,
    /// The last look at each.
    looks: HashMap<String, Look>,
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
        let oldest_ms = (step + 1).saturating_sub(STEPS as u64).saturating_mul(STEP_MS);
        self.looks.retain(|_, look| look.at_ms >= oldest_ms);
    }
}

/// A coupon's series.
fn series_of<'a>(coupons: &'a mut HashMap<String, Series>, id: &str, newest: u64) -> &'a mut Series {
    coupons.entry(id.to_owned()).or_insert_with(|| Series { newest, ..Series::default() })
}

/// Shares a count out among the steps of a span of time, as if it had come evenly.
fn shares(from_ms: u64, to_ms: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    // A clock that went back leaves no span: all is of now.
    let from_ms = if from_ms < to_ms { from_ms } else { to_ms.saturating_sub(1) };
    let last = to_ms / STEP_MS;
    let first = (from_ms / STEP_MS).max((last + 1).saturating_sub(STEPS as u64));
    let span_ms = (to_ms - from_ms).max(1);
    let until = move |ms: u64| {
        let part = u128::from(count) * u128::from(ms.clamp(from_ms, to_ms) - from_ms) / u128::from(span_ms);
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    (first..=last).map(move |step| (step, until((step + 1) * STEP_MS) - until(step * STEP_MS)))
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
        let Counts { all, coupons, .. } = &mut *counts;
        let series = series_of(coupons, id, all.newest);
        for at in granted_at_ms {
            series.add_grant(at / STEP_MS);
            all.add_grant(at / STEP_MS);
        }
        series.add_rows(rows);
        all.add_rows(rows);
    }

    /// Takes in how many requests of a coupon Redis has accepted in all. Says how many are new; of a coupon that was not
    /// seen before nobody knows.
    pub fn look(&self, id: &str, epoch: Epoch, requested: u64) -> u64 {
        self.look_at(id, Look { at_ms: self.clock.now_ms(), epoch, requested })
    }

    /// Notes how many requests a coupon will have when its gate opens, unless it was seen before.
    pub fn expect(&self, id: &str, epoch: Epoch, requested: u64) {
        self.expect_at(id, Look { at_ms: self.clock.now_ms(), epoch, requested });
    }

    fn expect_at(&self, id: &str, look: Look) {
        let mut counts = self.lock();
        counts.advance(look.at_ms / STEP_MS);
        if !counts.looks.contains_key(id) {
            counts.looks.insert(id.to_owned(), look);
        }
    }

    fn look_at(&self, id: &str, look: Look) -> u64 {
        let mut counts = self.lock();
        counts.advance(look.at_ms / STEP_MS);
        let Counts { all, coupons, looks } = &mut *counts;
        let Some(before) = looks.get_mut(id) else {
            looks.insert(id.to_owned(), look);
            return 0;
        };
        // Two looks may overtake each other. A Redis that lost users comes back under a later epoch.
        if look.epoch < before.epoch || (look.epoch == before.epoch && look.requested < before.requested) {
            return 0;
        }
        let before = std::mem::replace(before, look);
        let new = look.requested.saturating_sub(before.requested);
        if new > 0 {
            let series = series_of(coupons, id, all.newest);
            for (step, share) in shares(before.at_ms, look.at_ms, new) {
                series.add_requests(step, share);
                all.add_requests(step, share);
            }
        }
        new
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

    fn look(at_ms: u64, epoch: u64, requested: u64) -> Look {
        Look { at_ms, epoch: Epoch(epoch), requested }
    }

    fn requests(rates: &Rates, now_ms: u64) -> Vec<u32> {
        rates.show_at(now_ms).1.remove("a").unwrap_or_default().requests
    }

    #[test]
    fn requests_are_what_came_between_two_looks_spread_over_the_time_between() {
        let rates = Rates::default();
        let start = NOW / STEP_MS * STEP_MS;
        assert_eq!(rates.look_at("a", look(start + 5_000, 1, 100)), 0, "when the first came nobody knows");
        assert_eq!(rates.look_at("a", look(start + 25_000, 1, 140)), 40);
        assert_eq!(requests(&rates, start + 25_000)[STEPS - 4..], [0, 10, 20, 10]);
        assert_eq!(rates.look_at("a", look(start + 25_000, 1, 143)), 3, "at the same moment");
        assert_eq!(requests(&rates, start + 25_000)[STEPS - 1], 13);
        assert_eq!(rates.look_at("a", look(start + 24_000, 1, 141)), 0, "overtaken by another look");
        assert_eq!(rates.look_at("a", look(start + 26_000, 1, 143)), 0);
        assert_eq!(rates.look_at("a", look(start + 27_000, 2, 90)), 0, "Redis had lost some");
        assert_eq!(rates.look_at("a", look(start + 28_000, 1, 143)), 0, "overtaken by that one");
        assert_eq!(rates.look_at("a", look(start + 28_000, 2, 91)), 1);
        let all = rates.show_at(start + 29_000).0;
        assert_eq!((all.requests.iter().sum::<u32>(), all.grants.iter().sum::<u32>()), (44, 0));
        assert_eq!(all.requests_per_second, 0.75);
    }

    #[test]
    fn what_is_there_before_the_gate_opens_is_no_request() {
        let rates = Rates::default();
        rates.expect_at("a", look(NOW, 1, 1_000));
        rates.expect_at("a", look(NOW + 1, 1, 0));
        assert_eq!(rates.look_at("a", look(NOW + 2, 2, 1_003)), 3);
        rates.expect_at("a", look(NOW + 3, 2, 9_000));
        assert_eq!(rates.look_at("a", look(NOW + 4, 2, 1_004)), 1);
    }

    #[test]
    fn what_was_not_looked_at_for_long_is_forgotten() {
        let rates = Rates::default();
        let ring = STEPS as u64 * STEP_MS;
        rates.look_at("a", look(NOW, 1, 5));
        rates.look_at("b", look(NOW + ring - STEP_MS, 1, 0));
        assert_eq!(rates.look_at("a", look(NOW + ring - STEP_MS, 1, 65)), 60, "as old as what is shown");
        assert_eq!(requests(&rates, NOW + ring - STEP_MS).iter().sum::<u32>(), 60);
        rates.look_at("b", look(NOW + ring + ring, 1, 0));
        assert_eq!(rates.lock().looks.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(rates.look_at("a", look(NOW + ring + ring, 1, 1_000)), 0);
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
