//! Where granted users have to stand in the sorted set.

use super::kind::Kind;
use crate::model::grant::Link;
use coupon_core::coupon::Cursor;
use coupon_core::limit::RESTORE_MAX;
use coupon_core::number::Arrival;
use coupon_core::user::UserId;

/// COUPON.RESTORE puts a batch of users before the first who waits, a microsecond each: so far may one stand before those
/// of an earlier batch.
#[expect(clippy::cast_precision_loss, reason = "a thousand")]
const SQUEEZED_US: f64 = RESTORE_MAX as f64;

/// The granted users seen so far, in the order of their grants.
#[derive(Debug, Default)]
pub struct Line {
    /// The last of them in the set's order.
    last: Option<(f64, String)>,
    /// Those who do not stand where they should.
    astray: u64,
    /// How many stand up to the last of them, if nobody does who should not.
    pub expected: u64,
    /// Those who stand earlier than they requested, and still behind those who were granted before: COUPON.RESTORE puts a
    /// user there who would else stand behind somebody who waits.
    pub earlier: u64,
}

impl Line {
    /// Takes the next granted user; what is wrong with the place.
    pub fn take(&mut self, link: &Link, score: Option<f64>) -> Option<Kind> {
        let at = link.requested_at.score();
        let is_right = |score: f64| {
            score == at || score < at && self.last.as_ref().is_none_or(|(last, _)| score > last - SQUEEZED_US)
        };
        let Some(score) = score.filter(|score| is_right(*score)) else {
            self.astray += 1;
            return Some(if score.is_none() { Kind::MemberMissing } else { Kind::ScoreWrong });
        };
        self.earlier += u64::from(score != at);
        self.expected = link.seq.0.saturating_sub(self.astray);
        if self.last.as_ref().is_none_or(|(last, user)| (score, &link.user) > (*last, user)) {
            self.last = Some((score, link.user.clone()));
        }
        None
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
    use coupon_core::number::{Chain, Seq};

    #[test]
    fn a_user_stands_where_the_request_came_in() {
        let mut line = Line::default();
        let (missing, wrong) = (Some(Kind::MemberMissing), Some(Kind::ScoreWrong));
        for (seq, (user, at, score, found)) in (1..).zip([
            ("a", 10, Some(10.0), None),
            ("b", 20, None, missing),
            ("c", 30, Some(31.0), wrong),
            ("e", 5000, Some(4500.0), None),
            ("f", 6000, Some(4500.0), None),
            ("d", 7000, Some(3500.0), wrong),
            ("h", 7000, Some(3501.0), None),
            // Restored after a split, where the order of the grants is not that of the requests.
            ("g", 44, Some(44.0), None),
        ]) {
            let (user, requested_at) = (user.to_owned(), Arrival(at));
            let link =
                Link { seq: Seq(seq), user, requested_at, granted_at_ms: 0, chain: Chain::START, is_dead: false };
            assert_eq!(line.take(&link, score), found, "{}", link.user);
        }
        assert_eq!(line.end(), Some(Cursor { arrival: Arrival(4500), user: Some("f".into()) }));
        assert_eq!((line.expected, line.earlier), (5, 3));
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
