//! COUPON.REQUEST: who is let in, in which place, and whether a unit goes with it.

use crate::coupon::{Arrival, Coupon, Moment, Now};
use crate::limit::ARRIVAL_US_MAX;
use crate::options;
use crate::refusal::Refusal;
use crate::user::UserId;
use crate::words::{Mode, Outcome, Status};

/// The option that adds the rank to the reply, of REQUEST and of STATUS.
pub const WITHRANK: &str = "WITHRANK";

/// `COUPON.REQUEST key user [WITHRANK]` after the key, and `COUPON.STATUS` likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The user.
    pub user: UserId<'a>,
    /// Whether the reply holds the rank too.
    pub with_rank: bool,
}

impl<'a> Call<'a> {
    /// Reads the arguments after the key.
    ///
    /// # Errors
    /// [`Refusal::Usage`].
    pub fn parse(user: &'a [u8], rest: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        Ok(Self { user: UserId::parse(user)?, with_rank: options::flag(rest, WITHRANK)? })
    }
}

/// What the sorted set says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// How many users are in.
    pub requested: u64,
    /// The highest score, none if nobody is in.
    pub newest: Option<f64>,
    /// Whether this user is in.
    pub is_held: bool,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is stored; this is the reply.
    Turned(Outcome),
    /// The user joins the line with this score.
    Queue(Arrival),
    /// The user joins the line with this score and takes the next unit.
    Grant(Arrival),
}

impl Decision {
    /// The reply.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Turned(outcome) => outcome,
            Self::Queue(_) => Outcome::Queued,
            Self::Grant(_) => Outcome::Granted,
        }
    }
}

/// Decides one request. The order is the contract's: fence, duplicate, window, stock.
///
/// # Errors
/// [`Refusal::TryAgain`] while fenced; [`Refusal::Usage`] if the set was given a score after which no order is
/// left.
pub fn decide(coupon: &Coupon, line: Line, moment: Moment) -> Result<Decision, Refusal> {
    let now = moment.now;
    if coupon.is_fenced(moment.token) {
        return Err(Refusal::fenced());
    }
    if line.is_held {
        return Ok(Decision::Turned(Outcome::Duplicate));
    }
    if coupon.status == Status::Expired || coupon.has_ended(now) {
        return Ok(Decision::Turned(Outcome::Closed));
    }
    if coupon.status == Status::Standard || coupon.is_early(now) {
        return Ok(Decision::Turned(Outcome::NotOpen));
    }
    let places = coupon.definition.quantity.saturating_add(coupon.definition.waitlist);
    if line.requested >= places {
        return Ok(Decision::Turned(Outcome::SoldOut));
    }
    let arrival = next_arrival(line.newest, now)?;
    // Whoever waits goes first: a unit that came back by a raised quantity is theirs.
    let at_once = coupon.definition.mode == Mode::Instant
        && coupon.status == Status::Available
        && coupon.grantable(moment) > 0
        && coupon.waiting(line.requested) == 0;
    Ok(if at_once { Decision::Grant(arrival) } else { Decision::Queue(arrival) })
}

/// `max(now, newest score + 1)`: ties do not exist, and a clock that steps back reorders nobody.
fn next_arrival(newest: Option<f64>, now: Now) -> Result<Arrival, Refusal> {
    let next = match newest {
        None => Some(now.us),
        // A score set by hand may have a fraction: the next whole number above it.
        Some(score) if score < 0.0 => Some(now.us),
        Some(score) => Arrival::from_score(score.floor()).map(|newest| newest.0.saturating_add(1).max(now.us)),
    };
    next.filter(|us| *us <= ARRIVAL_US_MAX).map(Arrival).ok_or_else(|| {
        Refusal::usage("the :issued key holds a score beyond 2^53 µs, after which no order is left; ZREM that member")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::coupon::tests::{at, available};
    use crate::coupon::{Epoch, Position, Seq, Token};

    const EMPTY: Line = Line { requested: 0, newest: None, is_held: false };

    fn outcome(coupon: &Coupon, line: Line, at_ms: u64) -> Outcome {
        match decide(coupon, line, at(at_ms)) {
            Ok(decision) => decision.outcome(),
            Err(refusal) => unexpected(&refusal),
        }
    }

    #[expect(clippy::panic, reason = "a test's own failure")]
    fn unexpected(refusal: &Refusal) -> Outcome {
        panic!("refused: {refusal}")
    }

    #[test]
    fn window_is_closed_at_its_end_and_open_at_its_start() {
        let mut coupon = available(10, Mode::Queue);
        coupon.definition.opens_at = 100;
        coupon.definition.expires_at = 200;
        for (at, expected) in
            [(99, Outcome::NotOpen), (100, Outcome::Queued), (199, Outcome::Queued), (200, Outcome::Closed)]
        {
            assert_eq!(outcome(&coupon, EMPTY, at), expected, "at {at}");
        }
    }

    #[test]
    fn a_duplicate_is_told_so_whatever_the_window_and_the_stock() {
        let mut coupon = available(1, Mode::Queue);
        coupon.status = Status::Expired;
        let line = Line { requested: 1, newest: Some(5.0), is_held: true };
        assert_eq!(outcome(&coupon, line, 1), Outcome::Duplicate);
    }

    #[test]
    fn beyond_quantity_and_waitlist_nothing_is_stored() {
        let mut coupon = available(2, Mode::Queue);
        coupon.definition.waitlist = 1;
        let line = |requested| Line { requested, newest: Some(5.0), is_held: false };
        assert_eq!(outcome(&coupon, line(2), 1), Outcome::Queued);
        assert_eq!(outcome(&coupon, line(3), 1), Outcome::SoldOut);
    }

    #[test]
    fn instant_grants_unless_somebody_waits() {
        let mut coupon = available(3, Mode::Instant);
        let line = |requested| Line { requested, newest: Some(5.0), is_held: false };
        coupon.position = Position { seq: Seq(1), chain: Chain(9) };
        assert_eq!(outcome(&coupon, line(1), 1), Outcome::Granted);
        assert_eq!(outcome(&coupon, line(2), 1), Outcome::Queued);
        let behind = |unpersisted_max| decide(&coupon, line(1), Moment { unpersisted_max, ..at(1) });
        assert_eq!(behind(1).map(Decision::outcome), Ok(Outcome::Queued), "the ledger has to keep up");
        assert_eq!(behind(2).map(Decision::outcome), Ok(Outcome::Granted));
        coupon.status = Status::Issued;
        assert_eq!(outcome(&coupon, line(1), 1), Outcome::Queued);
    }

    #[test]
    fn an_arrival_is_later_than_all_before_it() {
        let next = |newest, us| next_arrival(newest, Now { us }).ok();
        assert_eq!(next(None, 7), Some(Arrival(7)));
        assert_eq!(next(Some(6.0), 7), Some(Arrival(7)));
        assert_eq!(next(Some(7.0), 7), Some(Arrival(8)));
        assert_eq!(next(Some(7.5), 7), Some(Arrival(8)));
        assert_eq!(next(Some(1000.0), 7), Some(Arrival(1001)));
        assert_eq!(next(Some(-3.0), 7), Some(Arrival(7)));
        assert_eq!(next(Some(f64::NEG_INFINITY), 7), Some(Arrival(7)));
        assert_eq!(next(Some(ARRIVAL_US_MAX as f64), 7), None);
        assert_eq!(next(Some(f64::INFINITY), 7), None);
    }

    #[test]
    fn a_coupon_of_the_ledger_is_fenced_unless_it_carries_the_token() {
        let mut coupon = available(1, Mode::Queue);
        assert!(decide(&coupon, EMPTY, at(1)).is_ok(), "epoch 0 has no fence");
        coupon.epoch = Epoch(1);
        assert_eq!(decide(&coupon, EMPTY, at(1)), Err(Refusal::fenced()));
        coupon.fence = Some(Token(2));
        assert_eq!(decide(&coupon, EMPTY, at(1)), Err(Refusal::fenced()));
        coupon.fence = Some(Token(1));
        assert_eq!(outcome(&coupon, EMPTY, 1), Outcome::Queued);
    }
}
