//! COUPON.STATUS: where a user stands.

use crate::coupon::{Coupon, Cursor};
use crate::user::UserId;
use crate::words::{State, Status};

/// The state of a user with this score in the sorted set, none if not in; and who is among those whose rows PostgreSQL refused.
#[must_use]
pub fn state(coupon: &Coupon, user: UserId<'_>, score: Option<f64>, is_refused: bool) -> State {
    let Some(score) = score else { return State::None };
    let covers = |cursor: &Option<Cursor>| cursor.as_ref().is_some_and(|cursor| cursor.covers(score, user.as_bytes()));
    let is_persisted = covers(&coupon.persisted_to);
    if !is_persisted && !covers(&coupon.granted_to) {
        State::Waiting
    } else if is_refused {
        State::Refused
    } else if is_persisted {
        State::Persisted
    } else {
        State::Granted
    }
}

/// Whether nobody who waits can be granted any more, as things are: all units are out, or the coupon has ended.
#[must_use]
pub const fn is_over(coupon: &Coupon) -> bool {
    matches!(coupon.status, Status::Issued | Status::Expired)
}

/// Whether there is nothing to wait for: the row is there or refused, no unit can come, or the user is not in.
#[must_use]
pub const fn is_final(coupon: &Coupon, state: State) -> bool {
    match state {
        State::None | State::Persisted | State::Refused => true,
        State::Waiting => is_over(coupon),
        State::Granted => false,
    }
}

/// Waiting users before the one of this rank: all before, less those who are granted.
#[must_use]
pub const fn ahead(coupon: &Coupon, state: State, rank: u64) -> u64 {
    match state {
        State::Waiting => rank.saturating_sub(1).saturating_sub(coupon.position.seq.0),
        State::None | State::Granted | State::Persisted | State::Refused => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::tests::available;
    use crate::number::{Arrival, Seq};
    use crate::words::Mode;

    #[test]
    fn cursors_tell_the_states_apart_even_where_scores_tie() {
        let mut coupon = available(9, Mode::Queue);
        coupon.position.seq = Seq(3);
        coupon.granted_to = Some(Cursor { arrival: Arrival(20), user: Some("m".into()) });
        coupon.persisted_to = Some(Cursor { arrival: Arrival(10), user: None });
        let at = |user: &str, score| UserId::parse(user.as_bytes()).map(|user| state(&coupon, user, score, false));
        assert_eq!(at("a", None), Ok(State::None));
        assert_eq!(at("z", Some(10.0)), Ok(State::Persisted));
        assert_eq!(at("z", Some(11.0)), Ok(State::Granted));
        assert_eq!(at("m", Some(20.0)), Ok(State::Granted));
        assert_eq!(at("n", Some(20.0)), Ok(State::Waiting));
        assert_eq!(at("a", Some(21.0)), Ok(State::Waiting));
        let refused = |score| UserId::parse(b"m").map(|user| state(&coupon, user, score, true));
        assert_eq!(refused(None), Ok(State::None));
        assert_eq!(refused(Some(10.0)), Ok(State::Refused));
        assert_eq!(refused(Some(20.0)), Ok(State::Refused));
        assert_eq!(refused(Some(21.0)), Ok(State::Waiting), "not granted here, whatever was said");
        assert_eq!(ahead(&coupon, State::Waiting, 4), 0);
        assert_eq!(ahead(&coupon, State::Waiting, 6), 2);
        assert_eq!(ahead(&coupon, State::Granted, 2), 0);
    }

    #[test]
    fn an_outcome_is_final_when_nothing_can_change_it() {
        let mut coupon = available(9, Mode::Queue);
        for (status, waiting, granted) in
            [(Status::Available, false, false), (Status::Issued, true, false), (Status::Expired, true, false)]
        {
            coupon.status = status;
            assert_eq!(is_final(&coupon, State::Waiting), waiting, "{status}");
            assert_eq!(is_final(&coupon, State::Granted), granted, "{status}");
            assert!(
                [State::Persisted, State::Refused, State::None]
                    .map(|state| is_final(&coupon, state))
                    .iter()
                    .all(|is| *is)
            );
        }
    }
}
