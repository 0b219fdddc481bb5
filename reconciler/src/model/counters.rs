//! What is counted, for Prometheus. The names are API; that of a counter ends with `_total` where it is served.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// One label and its value.
pub type Label = [(&'static str, &'static str); 1];

/// What is counted.
#[derive(Debug, Default)]
pub struct Counters {
    rows: Counter,
    batches: Counter,
    dead_letters: Counter,
    /// Units granted to waiting users.
    pub issued: Counter,
    /// Errors after which something was tried again.
    pub retries: Counter,
    /// Grants of the ledger that were brought back to Redis.
    pub restored: Counter,
    /// Rows that the ledger had lost, made again of what Redis proves.
    pub rebuilt: Counter,
    /// Coupons whose row the ledger had lost.
    pub readopted: Counter,
    /// Grants that are not of the ledger's history.
    pub orphans: Counter,
    /// Rounds of the audit.
    pub audit_rounds: Counter,
    drift_repaired: Family<Label, Counter>,
}

impl Counters {
    /// Counts a committed batch of so many grants.
    pub fn count_batch(&self, grants: u64, dead_letters: u64) {
        self.batches.inc();
        self.rows.inc_by(grants.saturating_sub(dead_letters));
        self.dead_letters.inc_by(dead_letters);
    }

    /// Differences of a kind that the audit put right. The kind is shown from here on.
    pub fn repaired(&self, kind: &'static str) -> Counter {
        self.drift_repaired.get_or_create_owned(&[("kind", kind)])
    }

    /// Shows them in a registry.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("rows", "Rows written to user_coupon", &self.rows),
            ("batches", "Batches committed", &self.batches),
            ("issued", "Units granted to waiting users by this process", &self.issued),
            ("retries", "Errors after which something was tried again", &self.retries),
            ("dead_letters", "Grants that PostgreSQL refused, now in coupon_dead_letter", &self.dead_letters),
            ("restored", "Grants of the ledger that were brought back to Redis", &self.restored),
            ("rebuilt", "Rows that the ledger had lost, made again of what Redis proves", &self.rebuilt),
            ("readopted", "Coupons of Redis that the ledger had lost altogether, adopted again", &self.readopted),
            ("orphans", "Grants of Redis in another history than the ledger's, now in coupon_orphan", &self.orphans),
            ("audit_rounds", "Rounds of the audit over all coupons", &self.audit_rounds),
        ] {
            registry.register(name, help, counter.clone());
        }
        let help = "Differences that the audit put right, by kind";
        registry.register("drift_repaired", help, self.drift_repaired.clone());
    }
}
