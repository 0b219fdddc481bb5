//! Where granted users have to stand in the sorted set.

use super::Kind;
use crate::model::grant::Link;
use coupon_core::limit::RESTORE_MAX;
use coupon_core::number::Arrival;

/// COUPON.RESTORE puts a batch of users before the first who waits, a microsecond each: so far may one stand before those
/// of an earlier batch.
const SQUEEZED_US: f64 = Arrival(RESTORE_MAX).score();

/// The granted users seen so far, in the order of their grants.
#[derive(Debug, Default)]
pub struct Line {
    /// The last of them in the set's order, with the score.
    pub last: Option<(f64, String)>,
    /// How many stand where they should.
    pub standing: u64,
    /// Those of them who stand earlier than they requested, and still behind those who were granted before: COUPON.RESTORE puts
    /// a user there who would else stand behind somebody who waits.
    pub earlier: u64,
}

impl Line {
    /// Takes the next granted user; what is wrong with the place.
    pub fn take(&mut self, link: &Link, score: Option<f64>) -> Option<Kind> {
        let Some(score) = score else { return Some(Kind::MemberMissing) };
        let (at, last) = (link.requested_at.score(), self.last.as_ref());
        let is_earlier = score < at && last.is_none_or(|(last, _)| score > last - SQUEEZED_US);
        if score != at && !is_earlier {
            return Some(Kind::ScoreWrong);
        }
        self.standing += 1;
        self.earlier += u64::from(is_earlier);
        if last.is_none_or(|(last, user)| (score, &link.user) > (*last, user)) {
            self.last = Some((score, link.user.clone()));
        }
        None
    }

    /// Whether a member of the set stands among them.
    pub fn covers(&self, score: f64, member: &[u8]) -> bool {
        self.last.as_ref().is_some_and(|(last, user)| (score, member) <= (*last, user.as_bytes()))
    }
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
        assert_eq!(line.last, Some((4500.0, "f".into())));
        assert_eq!((line.standing, line.earlier), (5, 3));
    }

    #[test]
    fn those_behind_the_last_granted_one_wait() {
        let line = Line { last: Some((45.0, "f".into())), ..Line::default() };
        for (member, score, within) in
            [("z", 44.0, true), ("e", 45.0, true), ("g", 45.0, false), ("a", 46.0, false), ("", 44.0, true)]
        {
            assert_eq!(line.covers(score, member.as_bytes()), within, "{member}");
        }
    }
}
