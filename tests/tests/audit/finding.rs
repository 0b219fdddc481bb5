//! What the command says, as a test compares it.

use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{HeldCommand, command};
use coupon_tests::redis_server::Redis;
use serde_json::Value;
use std::process::Output;

/// A finding: kind, seq, user, field.
pub type Finding = (String, Option<u64>, Option<String>, Option<String>);

/// A finding as a test writes it.
pub fn finding(kind: &str, seq: Option<u64>, user: Option<&str>, field: Option<&str>) -> Finding {
    (kind.into(), seq, user.map(Into::into), field.map(Into::into))
}

/// What an audit said of one coupon.
#[derive(Debug)]
pub struct Audited {
    /// The coupon.
    pub id: String,
    /// What is left.
    pub left: Vec<Finding>,
    /// What was put right.
    pub repaired: Vec<Finding>,
    /// Why it was not compared.
    pub skipped: Option<String>,
    /// Users who stand earlier than they requested.
    pub earlier: u64,
    /// Known losses.
    pub dead_letters: u64,
}

/// Runs `audit --json` with more arguments: the exit code, and the coupons.
pub fn audit(redis: &Redis, postgres: &Postgres, more: &[&str]) -> (Option<i32>, Vec<Audited>) {
    parse(&command(redis, postgres, &[&["audit", "--json"], more].concat()))
}

/// The same, held after its first look, which has to find something; meanwhile `change` is made.
pub fn audit_while(
    redis: &Redis,
    postgres: &Postgres,
    more: &[&str],
    change: impl FnOnce(),
) -> (Option<i32>, Vec<Audited>) {
    let args = [&["audit", "--json"], more].concat();
    let held = HeldCommand::start(redis, postgres, &args, "between-looks");
    held.await_pause();
    change();
    parse(&held.go_on())
}

fn parse(output: &Output) -> (Option<i32>, Vec<Audited>) {
    let text = String::from_utf8_lossy(&output.stdout);
    let coupons: Vec<Value> = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), coupons.iter().map(read).collect())
}

/// What is left in all coupons, with the coupon's id.
pub fn all_left(coupons: &[Audited]) -> Vec<(String, Finding)> {
    coupons.iter().flat_map(|coupon| coupon.left.iter().map(|left| (coupon.id.clone(), left.clone()))).collect()
}

fn read(coupon: &Value) -> Audited {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (mut left, mut repaired) = (Vec::new(), Vec::new());
    for value in coupon["findings"].as_array().expect("findings") {
        let kind = text(&value["kind"]).expect("a kind");
        assert!(!text(&value["reason"]).expect("a reason").is_empty(), "{value}");
        let is_repaired = value["repaired"].as_bool().expect("a boolean");
        assert_eq!(value["advice"].is_null(), is_repaired, "what to do is said unless it is done: {value}");
        let finding = (kind, value["seq"].as_u64(), text(&value["user"]), text(&value["field"]));
        if is_repaired { repaired.push(finding) } else { left.push(finding) }
    }
    assert_eq!(coupon["more_findings"], 0, "all are shown");
    Audited {
        id: text(&coupon["id"]).expect("an id"),
        left,
        repaired,
        skipped: text(&coupon["skipped"]),
        earlier: coupon["earlier"].as_u64().expect("a count"),
        dead_letters: coupon["dead_letters"].as_u64().expect("a count"),
    }
}
