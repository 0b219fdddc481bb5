//! COUPON.LEAVE: a user who waits gives up the place.

use crate::coupon::Coupon;
use crate::number::Token;
use crate::refusal::Refusal;
use crate::words::{Leaving, State};

/// What becomes of a user in this state who wants to leave.
///
/// # Errors
/// [`Refusal::TryAgain`] while fenced: what is known of the user may be older than what the ledger knows.
pub fn decide(coupon: &Coupon, state: State, token: Token) -> Result<Leaving, Refusal> {
    if coupon.is_fenced(token) {
        return Err(Refusal::fenced());
    }
    Ok(match state {
        State::None => Leaving::None,
        State::Waiting => Leaving::Left,
        State::Granted | State::Persisted | State::Refused => Leaving::Granted,
    })
}

/// The coupon once a user has left and so many are in: with nobody in, there is no line that could be missing.
#[must_use]
pub fn after(coupon: &Coupon, requested: u64) -> Coupon {
    let first_at = coupon.first_at.filter(|_| requested > 0);
    Coupon { first_at, ..coupon.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::Companion;
    use crate::coupon::tests::available;
    use crate::number::{Arrival, Epoch};
    use crate::words::{Mode, Status};

    #[test]
    fn only_who_waits_can_leave_and_not_behind_a_shut_gate() {
        let mut coupon = available(5, Mode::Queue);
        for status in Status::ALL {
            coupon.status = *status;
            let answers = State::ALL.iter().map(|state| decide(&coupon, *state, Token(1)).map(Leaving::word));
            let expected = ["NONE", "LEFT", "GRANTED", "GRANTED", "GRANTED"].map(Ok);
            assert!(answers.eq(expected), "{status}");
        }
        coupon.epoch = Epoch(1);
        for state in State::ALL {
            assert_eq!(decide(&coupon, *state, Token(1)), Err(Refusal::fenced()), "{state}");
        }
    }

    #[test]
    fn an_empty_line_is_no_missing_key() {
        let mut coupon = available(5, Mode::Queue);
        coupon.first_at = Some(Arrival(7));
        assert_eq!(after(&coupon, 1), coupon);
        assert!(coupon.check_issued(Companion::Missing).is_err());
        assert!(after(&coupon, 0).check_issued(Companion::Missing).is_ok());
    }
}
