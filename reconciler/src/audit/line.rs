//! Where granted users have to stand in the sorted set.

use coupon_core::coupon::Cursor;
use coupon_core::limit::RESTORE_MAX;
use coupon_core::number::Arrival;
use coupon_core::user::UserId;

/// COUPON.RESTORE puts a batch of users before the first who waits, a microsecond each: so far may one stand before those
/// of an earlier batch.
#[expect(clippy::cast_precision_loss, reason = "a thousand")]
const SQUEEZED_US: f64 = RESTORE_MAX as f64;

/// How a granted user stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// At the time of the request.
    Sound,
    /// Earlier, and still behind those who were granted before: COUPON.RESTORE puts a user there who would else stand
    /// behind somebody who waits.
    Earlier,
    /// Somewhere else.
    Wrong,
    /// Not at all.
    Missing,
}

/// The granted users seen so far, in the order of their grants.
#[derive(Debug, Default)]
pub struct Line {
    /// The last of them in the set's order.
    last: Option<(f64, String)>,
}

impl Line {
    /// Takes the next granted user.
    pub fn take(&mut self, user: &str, requested_at: Arrival, score: Option<f64>) -> Place {
        let Some(score) = score else { return Place::Missing };
        let place = if score == requested_at.score() {
            Place::Sound
        } else if score < requested_at.score() && self.last.as_ref().is_none_or(|(last, _)| score > last - SQUEEZED_US)
        {
            Place::Earlier
        } else {
            return Place::Wrong;
        };
        let is_last = self.last.as_ref().is_none_or(|(last, name)| (score, user) > (*last, name.as_str()));
        if is_last {
            self.last = Some((score, user.to_owned()));
        }
        place
    }

    /// Everybody up to here is granted; none if nobody is.
    pub fn end(&self) -> Option<Cursor> {
        let (score, user) = self.last.as_ref()?;
        Some(Cursor { arrival: Arrival::from_score(*score)?, user: Some(user.clone()) })
    }
}

/// Whether a member of the set stands among the granted ones. Bytes that are no user id can only have been put there by
/// hand; their score decides.
pub fn is_within(end: &Cursor, member: &[u8], score: f64) -> bool {
    UserId::parse(member).map_or(score < end.arrival.score(), |user| end.covers(score, user.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_stands_where_the_request_came_in() {
        let mut line = Line::default();
        for (user, at, score, place) in [
            ("a", 10, Some(10.0), Place::Sound),
            ("b", 20, None, Place::Missing),
            ("c", 30, Some(31.0), Place::Wrong),
            ("e", 5000, Some(4500.0), Place::Earlier),
            ("f", 6000, Some(4500.0), Place::Earlier),
            ("d", 7000, Some(3500.0), Place::Wrong),
            ("h", 7000, Some(3501.0), Place::Earlier),
            // Restored after a split, where the order of the grants is not that of the requests.
            ("g", 44, Some(44.0), Place::Sound),
        ] {
            assert_eq!(line.take(user, Arrival(at), score), place, "{user}");
        }
        assert_eq!(line.end(), Some(Cursor { arrival: Arrival(4500), user: Some("f".into()) }));
    }

    #[test]
    fn those_behind_the_last_granted_one_wait() {
        let end = Cursor { arrival: Arrival(45), user: Some("f".into()) };
        for (member, score, within) in
            [("z", 44.0, true), ("e", 45.0, true), ("g", 45.0, false), ("a", 46.0, false), ("", 44.0, true)]
        {
            assert_eq!(is_within(&end, member.as_bytes(), score), within, "{member}");
        }
    }
}
