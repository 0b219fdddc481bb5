//! COUPON.REQUEST: who is let in, in which place, and whether a unit goes with it.

use crate::coupon::{Coupon, Moment};
use crate::limit::ARRIVAL_US_MAX;
use crate::number::{Arrival, Now};
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

/// What the sorted set says. Each question is a look-up, so it is asked only where the answer matters.
pub trait Line {
    /// How many users are in.
    fn requested(&self) -> u64;
    /// The highest score, none if nobody is in.
    fn newest(&self) -> Option<f64>;
    /// Whether this user is in.
    fn is_held(&self) -> bool;
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is stored; this is the reply.
    Turned(Outcome),
    /// The user joins the line with this score, unless in it already: the write that adds a new member finds out
    /// for free, and then the user is a duplicate.
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
pub fn decide(coupon: &Coupon, line: &impl Line, moment: Moment) -> Result<Decision, Refusal> {
    let now = moment.now;
    if coupon.is_fenced(moment.token) {
        return Err(Refusal::fenced());
    }
    // Whoever is in already is told so before anything else; the rest of the function is about those who are not.
    let or_duplicate = |outcome| Decision::Turned(if line.is_held() { Outcome::Duplicate } else { outcome });
    if coupon.status == Status::Expired || coupon.has_ended(now) {
        return Ok(or_duplicate(Outcome::Closed));
    }
    if coupon.status == Status::Standard || coupon.is_early(now) {
        return Ok(or_duplicate(Outcome::NotOpen));
    }
    let requested = line.requested();
    let places = coupon.definition.quantity.saturating_add(coupon.definition.waitlist);
    if requested >= places {
        return Ok(or_duplicate(Outcome::SoldOut));
    }
    let arrival = match next_arrival(newest(coupon, line.newest()), now) {
        Err(_) if line.is_held() => return Ok(Decision::Turned(Outcome::Duplicate)),
        next => next?,
    };
    // Whoever waits goes first: a unit that came back by a raised quantity is theirs.
    let at_once = coupon.definition.mode == Mode::Instant
        && coupon.status == Status::Available
        && coupon.grantable(moment) > 0
        && coupon.waiting(requested) == 0;
    Ok(match at_once {
        false => Decision::Queue(arrival),
        true if line.is_held() => Decision::Turned(Outcome::Duplicate),
        true => Decision::Grant(arrival),
    })
}

/// Whether as many users may request in one command.
///
/// # Errors
/// [`Refusal::Usage`].
pub fn check_users(users: usize, max: u64) -> Result<(), Refusal> {
    if users as u64 > max {
        return Err(Refusal::usage(format!(
            "{users} users in one call, 1 to {max} are allowed; send them in several, or raise coupon.request-max"
        )));
    }
    Ok(())
}

/// Whether the scores after the newest one suffice for so many users, so that none of a batch is refused after
/// others of it were let in.
///
/// # Errors
/// As [`decide`].
pub fn check_order_left(coupon: &Coupon, newest_score: Option<f64>, now: Now, users: usize) -> Result<(), Refusal> {
    let first = next_arrival(newest(coupon, newest_score), now)?;
    match first.0.checked_add(users as u64) {
        Some(last) if last <= ARRIVAL_US_MAX => Ok(()),
        _ => Err(no_order_left()),
    }
}

/// The highest score that was given: of who is in, or of the newest grant, whose user may be gone.
fn newest(coupon: &Coupon, of_line: Option<f64>) -> Option<f64> {
    let granted = coupon.granted_to.as_ref().map(|cursor| cursor.arrival.score());
    match (of_line, granted) {
        (Some(line), Some(granted)) => Some(line.max(granted)),
        (line, granted) => line.or(granted),
    }
}

/// `max(now, newest score + 1)`: ties do not exist, and a clock that steps back reorders nobody.
fn next_arrival(newest: Option<f64>, now: Now) -> Result<Arrival, Refusal> {
    let next = match newest {
        None => Some(now.us),
        // A score set by hand may have a fraction: the next whole number above it.
        Some(score) if score < 0.0 => Some(now.us),
        Some(score) => Arrival::from_score(score.floor()).map(|newest| newest.0.saturating_add(1).max(now.us)),
    };
    next.filter(|us| *us <= ARRIVAL_US_MAX).map(Arrival).ok_or_else(no_order_left)
}

fn no_order_left() -> Refusal {
    Refusal::usage("the :issued key holds a score beyond 2^53 µs, after which no order is left; ZREM that member")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::Cursor;
    use crate::coupon::tests::{at, available};
    use crate::number::Chain;
    use crate::number::{Epoch, Seq, Token};
    use crate::position::Position;

    struct Fixed {
        requested: u64,
        newest: Option<f64>,
        is_held: bool,
    }

    impl Line for Fixed {
        fn requested(&self) -> u64 {
            self.requested
        }

        fn newest(&self) -> Option<f64> {
            self.newest
        }

        fn is_held(&self) -> bool {
            self.is_held
        }
    }

    const EMPTY: Fixed = Fixed { requested: 0, newest: None, is_held: false };

    fn outcome(coupon: &Coupon, line: Fixed, at_ms: u64) -> Outcome {
        match decide(coupon, &line, at(at_ms)) {
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
        let held = |newest| Fixed { requested: 1, newest: Some(newest), is_held: true };
        let mut coupon = available(1, Mode::Instant);
        assert_eq!(outcome(&coupon, held(5.0), 1), Outcome::Duplicate, "sold out");
        coupon.definition.quantity = 2;
        coupon.position.seq = Seq(1);
        assert_eq!(outcome(&coupon, held(5.0), 1), Outcome::Duplicate, "a unit could be granted");
        assert_eq!(outcome(&coupon, held(f64::INFINITY), 1), Outcome::Duplicate, "no order is left");
        let stranger = Fixed { is_held: false, ..held(f64::INFINITY) };
        assert_eq!(decide(&coupon, &stranger, at(1)), Err(no_order_left()), "and somebody else is told so");
        for status in [Status::Expired, Status::Standard] {
            coupon.status = status;
            assert_eq!(outcome(&coupon, held(5.0), 1), Outcome::Duplicate, "{status}");
        }
    }

    #[test]
    fn beyond_quantity_and_waitlist_nothing_is_stored() {
        let mut coupon = available(2, Mode::Queue);
        coupon.definition.waitlist = 1;
        let line = |requested| Fixed { requested, newest: Some(5.0), is_held: false };
        assert_eq!(outcome(&coupon, line(2), 1), Outcome::Queued);
        assert_eq!(outcome(&coupon, line(3), 1), Outcome::SoldOut);
    }

    #[test]
    fn instant_grants_unless_somebody_waits() {
        let mut coupon = available(3, Mode::Instant);
        let line = |requested| Fixed { requested, newest: Some(5.0), is_held: false };
        coupon.position = Position { seq: Seq(1), chain: Chain(9) };
        assert_eq!(outcome(&coupon, line(1), 1), Outcome::Granted);
        assert_eq!(outcome(&coupon, line(2), 1), Outcome::Queued);
        let behind = |unpersisted_max| decide(&coupon, &line(1), Moment { unpersisted_max, ..at(1) });
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
        assert_eq!(next(Some(0.0), 0), Some(Arrival(1)));
        assert_eq!(next(Some(-3.0), 7), Some(Arrival(7)));
        assert_eq!(next(Some(f64::NEG_INFINITY), 7), Some(Arrival(7)));
        assert_eq!(next(Some(ARRIVAL_US_MAX as f64), 7), None);
        assert_eq!(next(Some(f64::INFINITY), 7), None);
    }

    #[test]
    fn an_arrival_is_later_than_every_grant_also_when_the_newest_have_left() {
        let mut coupon = available(9, Mode::Queue);
        coupon.granted_to = Some(Cursor { arrival: Arrival(5_000), user: None });
        for newest in [None, Some(4_000.0)] {
            let line = Fixed { requested: 0, newest, is_held: false };
            assert_eq!(decide(&coupon, &line, at(1)), Ok(Decision::Queue(Arrival(5_001))), "the clock stepped back");
        }
        let line = Fixed { requested: 1, newest: Some(6_000.0), is_held: false };
        assert_eq!(decide(&coupon, &line, at(1)), Ok(Decision::Queue(Arrival(6_001))));
    }

    #[test]
    fn a_batch_is_refused_whole_where_scores_run_out() {
        let coupon = available(1, Mode::Queue);
        let check = |newest, users| check_order_left(&coupon, newest, Now { us: 7 }, users).is_ok();
        assert!(check(None, 1000));
        assert!(check(Some(ARRIVAL_US_MAX as f64 - 1001.0), 1000));
        assert!(!check(Some(ARRIVAL_US_MAX as f64 - 1000.0), 1000));
        assert!(check_users(1000, 1000).is_ok());
        assert!(matches!(check_users(1001, 1000), Err(Refusal::Usage(_))));
    }

    #[test]
    fn a_coupon_of_the_ledger_is_fenced_unless_it_carries_the_token() {
        let mut coupon = available(1, Mode::Queue);
        assert!(decide(&coupon, &EMPTY, at(1)).is_ok(), "epoch 0 has no fence");
        coupon.epoch = Epoch(1);
        assert_eq!(decide(&coupon, &EMPTY, at(1)), Err(Refusal::fenced()));
        coupon.fence = Some(Token(2));
        assert_eq!(decide(&coupon, &EMPTY, at(1)), Err(Refusal::fenced()));
        coupon.fence = Some(Token(1));
        assert_eq!(outcome(&coupon, EMPTY, 1), Outcome::Queued);
    }
}
