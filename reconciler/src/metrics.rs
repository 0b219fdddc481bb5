//! What is counted, and how it is shown to Prometheus. The names are API.

use crate::audit::Tally;
use crate::clock::Clock;
use crate::model::coupon::Info;
use crate::rates::Rates;
use coupon_core::grant::Grant;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A metric's name with its help text and kind.
pub struct Name {
    /// Its name.
    pub name: &'static str,
    help: &'static str,
    kind: &'static str,
}

macro_rules! names {
    ($($constant:ident = $kind:literal $name:literal $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Name = Name { name: $name, help: $help, kind: $kind };
        )+

        /// All of them, in the order in which they are shown.
        #[cfg(test)]
        pub const ALL: &[Name] = &[$($constant,)+];
    };
}

names! {
    UP = "gauge" "coupon_up" "Whether a side is there and can do its part: 1 or 0.";
    LAG_ENTRIES = "gauge" "coupon_lag_entries" "Grants in Redis that are not in the ledger.";
    OLDEST_UNPERSISTED_SECONDS = "gauge" "coupon_oldest_unpersisted_age_seconds" "Age of the oldest grant that is not in the ledger; 0 if there is none.";
    REQUESTS = "counter" "coupon_requests_total" "Requests that Redis accepted, as this process saw them when it looked.";
    ROWS = "counter" "coupon_rows_total" "Rows written to user_coupon.";
    BATCHES = "counter" "coupon_batches_total" "Batches committed.";
    ISSUED = "counter" "coupon_issued_total" "Units granted to waiting users by this process.";
    RETRIES = "counter" "coupon_retries_total" "Errors after which something was tried again.";
    DEAD_LETTERS = "counter" "coupon_dead_letters_total" "Grants that PostgreSQL refused, now in coupon_dead_letter.";
    RESTORED = "counter" "coupon_restored_total" "Grants of the ledger that were brought back to Redis.";
    ORPHANS = "counter" "coupon_orphans_total" "Grants of Redis in another history than the ledger's, now in coupon_orphan.";
    DRIFT = "gauge" "coupon_drift" "Differences between both sides that the audit found and that are left, by kind.";
    DRIFT_REPAIRED = "counter" "coupon_drift_repaired_total" "Differences that the audit put right, by kind.";
    AUDIT_ROUNDS = "counter" "coupon_audit_rounds_total" "Rounds of the audit over all coupons.";
    FENCED = "gauge" "coupon_fenced" "Coupons that stay shut, or are not relayed, until an operator acts.";
    SHARDS = "gauge" "coupon_shards" "Shards that this process holds, of 64.";
    KNOWN = "gauge" "coupon_known" "Coupons that the reconciler keeps in memory.";
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Counter,
    rows: Counter,
    batches: Counter,
    dead_letters: Counter,
    /// Units granted to waiting users.
    pub issued: Counter,
    /// Errors after which something was tried again.
    pub retries: Counter,
    /// Grants of the ledger that were brought back to Redis.
    pub restored: Counter,
    /// Grants that are not of the ledger's history.
    pub orphans: Counter,
    /// What the audit found.
    pub drift: Tally,
    /// What there was in the last minutes.
    pub rates: Rates,
}

/// What is measured when somebody asks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gauges {
    /// Whether Redis is there.
    pub redis_up: bool,
    /// Whether PostgreSQL is there.
    pub postgresql_up: bool,
    /// Grants in Redis that are not in the ledger.
    pub lag_entries: u64,
    /// Age of the oldest of them.
    pub oldest_unpersisted_seconds: f64,
    /// Coupons that need an operator.
    pub fenced: usize,
    /// Shards that this process holds.
    pub shards: u32,
    /// Coupons in memory.
    pub known: usize,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { rates: Rates::new(clock), ..Self::default() }
    }

    /// Counts a coupon's committed batch.
    pub fn count_batch(&self, id: &str, grants: &[Grant], dead_letters: u64) {
        let rows = (grants.len() as u64).saturating_sub(dead_letters);
        self.rates.count(id, grants, rows);
        self.batches.add(1);
        self.rows.add(rows);
        self.dead_letters.add(dead_letters);
    }

    /// Takes in what a look at a coupon in Redis saw. Where the gate is shut nobody asks, and what grows is restored.
    pub fn count_requests(&self, id: &str, info: &Info) {
        if !info.fenced {
            self.requests.add(self.rates.look(id, info.epoch, info.requested));
        }
    }

    /// Prometheus's text format.
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut page = Page::default();
        let up = [("redis", gauges.redis_up), ("postgresql", gauges.postgresql_up)];
        page.labelled(&UP, up.map(|(side, up)| (format!("{{side=\"{side}\"}}"), u8::from(up).to_string())));
        page.plain(&LAG_ENTRIES, gauges.lag_entries);
        page.plain(&OLDEST_UNPERSISTED_SECONDS, gauges.oldest_unpersisted_seconds);
        page.plain(&REQUESTS, self.requests.get());
        page.plain(&ROWS, self.rows.get());
        page.plain(&BATCHES, self.batches.get());
        page.plain(&ISSUED, self.issued.get());
        page.plain(&RETRIES, self.retries.get());
        page.plain(&DEAD_LETTERS, self.dead_letters.get());
        page.plain(&RESTORED, self.restored.get());
        page.plain(&ORPHANS, self.orphans.get());
        let kinds =
            |(kind, count): (crate::audit::Kind, u64)| (format!("{{kind=\"{}\"}}", kind.name()), count.to_string());
        page.labelled(&DRIFT, self.drift.left().map(kinds));
        page.labelled(&DRIFT_REPAIRED, self.drift.repaired().map(kinds));
        page.plain(&AUDIT_ROUNDS, self.drift.rounds.get());
        page.plain(&FENCED, gauges.fenced);
        page.plain(&SHARDS, gauges.shards);
        page.plain(&KNOWN, gauges.known);
        page.text
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn plain(&mut self, name: &Name, value: impl ToString) {
        self.labelled(name, [(String::new(), value.to_string())]);
    }

    fn labelled(&mut self, Name { name, help, kind }: &Name, values: impl IntoIterator<Item = (String, String)>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coupon_core::grant::EntryId;
    use coupon_core::number::Chain;
    use coupon_core::number::{Arrival, Epoch, Seq};

    #[test]
    fn every_metric_is_shown_with_its_help() {
        let metrics = Metrics::default();
        let grant = Grant {
            id: EntryId { epoch: Epoch(1), seq: Seq(1) },
            user: "u".into(),
            requested_at: Arrival(1),
            granted_at_ms: 1,
            chain: Chain(1),
        };
        metrics.count_batch("a", &[grant.clone(), grant.clone(), grant.clone(), grant], 1);
        let page = metrics.render(&Gauges { redis_up: true, lag_entries: 7, ..Gauges::default() });
        for Name { name, help, kind } in ALL {
            assert!(page.contains(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}")), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
        }
        for line in [
            "coupon_up{side=\"redis\"} 1",
            "coupon_up{side=\"postgresql\"} 0",
            "coupon_rows_total 3",
            "coupon_lag_entries 7",
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line}");
        }
    }
}
