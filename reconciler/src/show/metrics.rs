//! What Prometheus is told: what was counted, and what is measured when it asks. The names are API.

use super::view::View;
use crate::model::counters::Label;
use crate::model::standing::Standing;
use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

/// The media type of what is said.
pub const OPENMETRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const AGE: &str = "oldest_unpersisted_age_seconds";

/// All of them, as text.
pub fn render(standing: &Standing, view: &View) -> String {
    let mut registry = Registry::with_prefix("coupon");
    // From the first look on, so that the first that is put right is seen as one more.
    standing.drift.iter().for_each(|(kind, _)| drop(standing.counters.repaired(kind)));
    standing.counters.register(&mut registry);
    let here = || view.coupons.iter().filter(|coupon| coupon.here);
    let is_unknown = !standing.process.redis.up
        || view.ledger_read_at_ms.is_none()
        || here().any(|coupon| coupon.lag_seconds.is_none());
    // What is known is the least that it can be. Where that would be nothing, nothing is told.
    let is_told =
        |name: &str, value: f64| value > 0.0 || !is_unknown || !["lag_entries", "requested", AGE].contains(&name);
    let lag: u64 = here().filter_map(|coupon| coupon.lag).sum();
    let oldest = here().filter_map(|coupon| coupon.lag_seconds).fold(0.0, f64::max);
    let on_offer = here().filter(|coupon| ["AVAILABLE", "ISSUED"].contains(&&*coupon.status));
    for (name, help, value) in [
        ("lag_entries", "Grants in Redis that are not in the ledger", lag),
        (
            "requested",
            "Users accepted by the coupons on offer that this process works on",
            on_offer.filter_map(|coupon| coupon.requested).sum(),
        ),
        ("ready", "Whether it can do its part, as /readyz says: 1 or 0", standing.process.is_ready().into()),
        ("fenced", "Coupons that stay shut, or are not relayed, until an operator acts", standing.stopped as u64),
        ("shards", "Shards that this process holds, of 64", standing.process.shards.held.into()),
        ("known", "Coupons that the reconciler keeps in memory", standing.known as u64),
    ] {
        if is_told(name, value as f64) {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
    if is_told(AGE, oldest) {
        let help = "Age of the oldest grant that is not in the ledger; 0 if there is none";
        registry.register(AGE, help, ConstGauge::new(oldest));
    }
    let up = [("redis", &standing.process.redis), ("postgresql", &standing.process.postgresql)];
    let up = up.map(|(side, health)| ([("side", side)], u64::from(health.up)));
    registry.register("up", "Whether a side is there and can do its part: 1 or 0", gauges(up));
    let drift = standing.drift.iter().map(|(kind, left)| ([("kind", *kind)], *left));
    let help = "Differences between both sides that the audit found and that are left, by kind";
    registry.register("drift", help, gauges(drift));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut text, &registry);
    text
}

fn gauges(values: impl IntoIterator<Item = (Label, u64)>) -> Family<Label, Gauge> {
    let family = Family::<Label, Gauge>::default();
    for (label, value) in values {
        family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    family
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::counters::Counters;
    use crate::model::standing::{Health, Process};
    use crate::show::view::Coupon;

    /// What is told of a daemon whose audit knows one kind of drift.
    fn rendered(counters: Counters) -> String {
        let of_redis = Coupon { lag: Some(7), lag_seconds: Some(0.0), requested: Some(9), ..Coupon::default() };
        let coupon = Coupon { here: true, status: "ISSUED".into(), ..of_redis };
        let elsewhere = Coupon { here: false, ..coupon.clone() };
        let view = View { coupons: vec![coupon, elsewhere], ledger_read_at_ms: Some(1), ..View::default() };
        let process = Process { redis: Health { up: true, why: None }, ..Process::default() };
        let drift = vec![("row_missing", 2)];
        render(&Standing { process, counters: counters.into(), drift, ..Standing::default() }, &view)
    }

    /// The names of all metrics.
    pub fn names() -> Vec<String> {
        let text = rendered(Counters::default());
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.map(|(name, kind)| format!("{name}{}", if kind == "counter" { "_total" } else { "" })).collect()
    }

    #[test]
    fn every_metric_is_shown_with_its_help() {
        let counters = Counters::default();
        counters.count_batch(4, 1);
        let text = rendered(counters);
        for name in names() {
            let name = name.strip_suffix("_total").unwrap_or(&name);
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        for line in [
            "coupon_up{side=\"redis\"} 1",
            "coupon_up{side=\"postgresql\"} 0",
            "coupon_rows_total 3",
            "coupon_dead_letters_total 1",
            "coupon_lag_entries 7",
            "coupon_requested 9",
            "coupon_ready 0",
            "coupon_oldest_unpersisted_age_seconds 0.0",
            "coupon_drift{kind=\"row_missing\"} 2",
            "coupon_drift_repaired_total{kind=\"row_missing\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
