//! The PostgreSQL side of a coupon, and the promises that must always hold for it.

use crate::artifact;
use crate::deadline::eventually_true;
use crate::postgres_server::Postgres;
use coupon_core::grant::Grant;
use coupon_core::number::{Arrival, Chain};
use coupon_core::user::UserId;
use serde_json::Value;

/// A row of `user_coupon`, or of `coupon_dead_letter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Number of the grant.
    pub seq: u64,
    /// The user.
    pub user: String,
    /// In microseconds.
    pub requested_at_us: u64,
    /// In milliseconds.
    pub granted_at_ms: u64,
    /// Epoch of the stream entry.
    pub epoch: u64,
    /// The digest up to here.
    pub chain: i64,
}

impl From<&Grant> for Row {
    fn from(grant: &Grant) -> Self {
        Self {
            seq: grant.id.seq.0,
            user: grant.user.clone(),
            requested_at_us: grant.requested_at.0,
            granted_at_ms: grant.granted_at_ms,
            epoch: grant.id.epoch.0,
            chain: grant.chain.0,
        }
    }
}

/// The grants of a coupon in `user_coupon`, in order.
#[must_use]
pub fn rows(postgres: &Postgres, coupon: &str) -> Vec<Row> {
    read(postgres, "user_coupon", coupon)
}

/// The grants of a coupon in `coupon_dead_letter`, in order.
#[must_use]
pub fn dead_letters(postgres: &Postgres, coupon: &str) -> Vec<Row> {
    read(postgres, "coupon_dead_letter", coupon)
}

/// # Panics
/// If a value is not what its column holds.
fn read(postgres: &Postgres, table: &str, coupon: &str) -> Vec<Row> {
    let json = postgres.value(&format!(
        "select coalesce(json_agg(json_build_array(seq, encode(convert_to(user_id, 'UTF8'), 'hex'), (extract(epoch from requested_at) * 1000000)::bigint,
             (extract(epoch from granted_at) * 1000)::bigint, epoch, chain) order by seq), '[]')
         from {table} where coupon_id = '{coupon}'"
    ));
    let rows: Vec<[Value; 6]> = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"));
    rows.iter()
        .map(|[seq, user, requested_at, granted_at, epoch, chain]| Row {
            seq: number(seq),
            user: from_hex(user.as_str().expect("text")),
            requested_at_us: number(requested_at),
            granted_at_ms: number(granted_at),
            epoch: number(epoch),
            chain: chain.as_i64().expect("a bigint"),
        })
        .collect()
}

/// In hex, as psql leaves out of its output what it takes for no character.
fn from_hex(hex: &str) -> String {
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
    String::from_utf8(bytes.expect("hex")).expect("UTF-8")
}

/// A coupon with its position, as if both were one table; and whether Redis was told all that the row offers.
const COUPON: &str =
    "(select c.*, coalesce(p.epoch, 0) as epoch, coalesce(p.seq, 0) as seq, coalesce(p.chain, 0) as chain,
        coalesce(p.granted, 0) as granted, coalesce(p.revision, 0) as revision,
        (case c.status when 'ISSUED' then 'AVAILABLE' else c.status end)
            = (case p.told_status when 'ISSUED' then 'AVAILABLE' else p.told_status end)
            and (c.status = 'EXPIRED'
                 or (c.quantity, c.waitlist, c.mode, c.opens_at, c.expires_at) is not distinct from
                    (p.told_quantity, p.told_waitlist, p.told_mode, p.told_opens_at, p.told_expires_at)) as is_told
    from coupon c left join coupon_position p on p.coupon_id = c.id) as both_tables";

/// Columns of a coupon's row and position, separated by `|`; empty if there is no row.
#[must_use]
pub fn coupon(postgres: &Postgres, coupon: &str, columns: &str) -> String {
    postgres.value(&format!("select {columns} from {COUPON} where id = '{coupon}'"))
}

/// Waits until a coupon's row and position hold these columns.
///
/// # Panics
/// At the deadline, with what it holds instead.
pub fn await_coupon(postgres: &Postgres, id: &str, columns: &str, expected: &str) {
    // While PostgreSQL is down there is no answer, and that is no failure.
    let look = || postgres.try_run(&format!("select {columns} from {COUPON} where id = '{id}'"));
    let mut held = String::new();
    eventually_true(&format!("coupon {id} has {columns} = {expected}"), || {
        let is_met = look().is_ok_and(|found| {
            found.trim_end().clone_into(&mut held);
            held == expected
        });
        if !is_met {
            std::thread::sleep(POLL_SQL_EVERY);
        }
        is_met
    });
}

/// Each look is a process of its own.
const POLL_SQL_EVERY: std::time::Duration = std::time::Duration::from_millis(20);

/// What must hold for a ledger at rest: rows and dead letters without a gap, each link of the chain, and the coupon's
/// position at their end. Checked in Rust, and again in SQL alone.
///
/// # Panics
/// If a promise is broken, naming it.
pub fn assert_whole(postgres: &Postgres, id: &str) {
    let granted = rows(postgres, id);
    let mut grants = granted.clone();
    grants.extend(dead_letters(postgres, id));
    grants.sort_by_key(|grant| grant.seq);
    let mut chain = Chain::START;
    for (seq, grant) in (1..).zip(&grants) {
        assert_eq!(grant.seq, seq, "a gap, or a number twice");
        let user = UserId::parse(grant.user.as_bytes()).unwrap_or_else(|error| panic!("{error} in {grant:?}"));
        chain = chain.next(user, Arrival(grant.requested_at_us));
        assert_eq!(grant.chain, chain.0, "the chain breaks at {seq}");
    }
    let expected = format!("{}|{}|{}", granted.len(), grants.len(), chain);
    assert_eq!(coupon(postgres, id, "granted, seq, chain"), expected, "granted, seq and chain of the coupon's row");
    assert_eq!(first_broken_in_sql(postgres, id), "");
}

/// The first grant that breaks the proof of order, by the query that docs/guarantees.md gives to everybody; empty if none
/// does.
///
/// # Panics
/// If the page holds no such query, or PostgreSQL refuses it.
#[must_use]
pub fn first_broken_in_sql(postgres: &Postgres, id: &str) -> String {
    const OF_THE_PAGE: &str = "'42'";
    let page = std::fs::read_to_string(artifact::workspace().join("docs/guarantees.md")).expect("docs/guarantees.md");
    let query = page.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a query");
    assert!(query.contains("first_broken") && query.contains(OF_THE_PAGE), "another query: {query}");
    postgres.value(&query.replace(OF_THE_PAGE, &format!("'{id}'")))
}
