//! The proof that a sale was fair: each promise checked on what is stored, none taken from what was said.

use crate::coupon::{Coupon, Info};
use crate::ledger::{Ledger, Row};
use crate::outcome::Answers;
use anyhow::Result;
use coupon_core::number::{Arrival, Chain};
use coupon_core::user::UserId;
use coupon_core::words::Outcome;

/// Rows and members compared at a time.
const PAGE_ROWS: u32 = 10_000;

/// What the sale should have come to.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Calls made.
    pub calls: u64,
    /// Users who had to be accepted.
    pub accepted: u64,
    /// Users who had to get a unit.
    pub granted: u64,
}

/// One promise, and what speaks against it.
pub struct Check {
    /// The promise.
    pub name: String,
    /// None if it was kept.
    pub fault: Option<String>,
}

/// Checks them all.
pub async fn verify(expected: Expected, answers: &Answers, ledger: &Ledger, coupon: &mut Coupon) -> Result<Vec<Check>> {
    let counts = ledger.counts().await?;
    let position = ledger.position().await?;
    let walk = Walk::through(ledger, coupon, answers).await?;
    let proof = ledger.prove_chain().await?;
    let (info, refusal) = match coupon.info().await {
        Ok(info) => (info, None),
        Err(error) => (Info::default(), Some(error.to_string())),
    };
    let requested = coupon.requested().await?;

    let answered = answers.counts_of(Outcome::ALL);
    let out_of_window = answers.counts_of(&[Outcome::NotOpen, Outcome::Closed]);
    let Expected { calls, accepted, granted } = expected;
    let rows = counts.rows.unsigned_abs();
    let told = (position.granted, position.seq, position.chain);
    let found = (counts.rows, walk.seq, walk.chain.0);
    Ok(vec![
        check(format!("all {calls} requests got an outcome"), (answered, answers.errors) == (calls, 0), || {
            let first = answers.first_error.as_deref().unwrap_or("none");
            format!("{answered} outcomes, {} errors, the first: {first}", answers.errors)
        }),
        check("nobody was told that the sale is not open", out_of_window == 0, || format!("{out_of_window} were")),
        check(format!("{accepted} users were accepted"), answers.accepted() == accepted, || {
            format!("{} were", answers.accepted())
        }),
        fault("no user got two answers that contradict each other", answers.contradiction()),
        check(format!("rows = min(quantity, users) = {granted}"), rows == granted, || format!("{rows} rows")),
        check("no user has two rows", counts.rows == counts.users, || {
            format!("{} rows, {} users", counts.rows, counts.users)
        }),
        check("no grant was refused by PostgreSQL", position.dead_letters == 0, || {
            format!("{} dead letters", position.dead_letters)
        }),
        fault("seq runs 1, 2, 3 ... without a gap", walk.gap),
        fault("grants follow arrival order", walk.disorder),
        fault("every row belongs to a user who was accepted", walk.stranger),
        fault("the chain, recomputed over the rows, holds", walk.broken_link),
        check("the coupon's row tells their number, and ends where they end", told == found, || {
            format!("it says {told:?}, the rows say {found:?} (granted, seq, chain)")
        }),
        check(
            "the chain, recomputed by PostgreSQL alone, holds",
            proof.first_broken.is_none() && proof.ends_at_position && proof.links == counts.rows,
            || format!("{} links, first broken at {:?}", proof.links, proof.first_broken),
        ),
        fault("Redis answers for the coupon", refusal),
        check(
            "Redis counts the same grants, all of them persisted",
            info.count("granted") == rows && info.count("persisted") == rows,
            || format!("granted {}, persisted {}, rows {rows}", info.count("granted"), info.count("persisted")),
        ),
        check("Redis holds every accepted user, and nobody else", requested == answers.accepted(), || {
            format!("{requested} in the sorted set, {} accepted", answers.accepted())
        }),
        fault("the first in Redis's line are the rows: same users, order and times", walk.mismatch),
        check("both sides give the coupon the same status", info.text("status") == position.status, || {
            format!("Redis {}, PostgreSQL {}", info.text("status"), position.status)
        }),
    ])
}

fn check(name: impl Into<String>, is_kept: bool, fault: impl FnOnce() -> String) -> Check {
    Check { name: name.into(), fault: (!is_kept).then(fault) }
}

fn fault(name: &str, fault: Option<String>) -> Check {
    Check { name: name.to_owned(), fault }
}

/// One pass over all rows, with Redis's line beside them; the first fault of each kind is kept.
struct Walk {
    seq: i64,
    chain: Chain,
    requested_us: i64,
    gap: Option<String>,
    disorder: Option<String>,
    stranger: Option<String>,
    broken_link: Option<String>,
    mismatch: Option<String>,
}

impl Walk {
    async fn through(ledger: &Ledger, coupon: &mut Coupon, answers: &Answers) -> Result<Self> {
        let mut walk = Self {
            seq: 0,
            chain: Chain::START,
            requested_us: 0,
            gap: None,
            disorder: None,
            stranger: None,
            broken_link: None,
            mismatch: None,
        };
        let mut place = 0;
        loop {
            let rows = ledger.rows_after(walk.seq, PAGE_ROWS).await?;
            if rows.is_empty() {
                return Ok(walk);
            }
            let mut line = coupon.line_from(place, rows.len() as u64).await?.into_iter();
            place += rows.len() as u64;
            for row in rows {
                walk.step(&row, line.next(), answers);
            }
        }
    }

    fn step(&mut self, row: &Row, member: Option<(String, f64)>, answers: &Answers) {
        let Row { seq, user_id, requested_us, chain } = row;
        if *seq != self.seq + 1 {
            self.gap.get_or_insert_with(|| format!("{seq} follows {}", self.seq));
        }
        if *requested_us <= self.requested_us {
            self.disorder.get_or_insert_with(|| format!("seq {seq} arrived no later than the one before it"));
        }
        if !answers.is_accepted(user_id) {
            self.stranger.get_or_insert_with(|| format!("user {user_id} has seq {seq} and was not accepted"));
        }
        let arrival = Arrival(requested_us.unsigned_abs());
        let link = UserId::parse(user_id.as_bytes()).map(|user| self.chain.next(user, arrival));
        if link.is_ok_and(|link| link.0 != *chain) {
            self.broken_link.get_or_insert_with(|| format!("it breaks at seq {seq}"));
        }
        if member.as_ref().is_none_or(|(user, score)| user != user_id || *score != arrival.score()) {
            let there = member.map_or("nobody".to_owned(), |(user, score)| format!("user {user} of {score}"));
            self.mismatch.get_or_insert_with(|| {
                format!("seq {seq} is user {user_id} of {requested_us}, in Redis's line stands {there}")
            });
        }
        // Goes on from what is stored, so that one fault is reported once and not for every row after it.
        (self.seq, self.requested_us, self.chain) = (*seq, *requested_us, Chain(*chain));
    }
}
