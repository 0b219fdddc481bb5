//! Following the chain over links of which some may be wrong, so that each fault is named where it is and once.

use crate::model::grant::Link;
use coupon_core::grant::Grant;
use coupon_core::number::{Chain, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;

/// Chains that are kept in mind at once. Each wrong link in a row adds one.
const TAILS_MAX: usize = 8;

/// How far the chain was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    seq: Seq,
    /// One of these is the chain here: after a wrong link either its content is wrong or its chain, and the next link
    /// tells which. None: nothing is known, and the next link is believed.
    tails: Vec<Chain>,
}

impl Default for Trace {
    fn default() -> Self {
        Self::at(Position::default())
    }
}

impl Trace {
    /// At a known position.
    pub fn at(Position { seq, chain }: Position) -> Self {
        Self { seq, tails: vec![chain] }
    }

    /// Behind a link of which nothing is known.
    pub const fn lost_at(seq: Seq) -> Self {
        Self { seq, tails: Vec::new() }
    }

    /// The newest link followed.
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// The positions one of which is the one here.
    pub fn ends(&self) -> impl Iterator<Item = Position> {
        self.tails.iter().map(|chain| Position { seq: self.seq, chain: *chain })
    }

    /// The position here, if it is certain.
    pub fn position(&self) -> Option<Position> {
        self.ends().next().filter(|_| self.tails.len() == 1)
    }

    /// Whether a link is the next one.
    pub fn is_followed_by(&self, link: &Link) -> bool {
        let is_next = |tail: &Chain| after(*tail, link) == Some(link.chain);
        link.seq == self.seq.next() && (self.tails.is_empty() || self.tails.iter().any(is_next))
    }

    /// Goes on to a link. If it does not follow, the error is where it should have.
    pub fn follow(&mut self, link: &Link) -> Result<(), Self> {
        let next = Self { seq: link.seq, tails: vec![link.chain] };
        if self.is_followed_by(link) {
            *self = next;
            return Ok(());
        }
        let before = std::mem::replace(self, next);
        self.tails.extend(before.tails.iter().filter_map(|tail| after(*tail, link)).take(TAILS_MAX));
        Err(before)
    }
}

impl From<Grant> for Link {
    fn from(Grant { id, user, requested_at, granted_at_ms, chain }: Grant) -> Self {
        Self { seq: id.seq, user, requested_at, granted_at_ms, chain, is_dead: false }
    }
}

/// The chain behind another one with a link's user and time; none if the user id can be nobody's.
fn after(chain: Chain, link: &Link) -> Option<Chain> {
    UserId::parse(link.user.as_bytes()).ok().map(|user| chain.next(user, link.requested_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coupon_core::number::Arrival;

    fn history(len: u64) -> Vec<Link> {
        let mut chain = Chain::START;
        (1..=len)
            .map(|seq| {
                let (user, requested_at) = (format!("u{seq}"), Arrival(100 + seq));
                let mut link = Link { seq: Seq(seq), user, requested_at, granted_at_ms: 0, chain, is_dead: false };
                chain = after(chain, &link).unwrap_or_default();
                link.chain = chain;
                link
            })
            .collect()
    }

    /// The seqs that do not follow, and whether the end is one that may be.
    fn breaks(links: &[Link], end: Chain) -> (Vec<u64>, bool) {
        let mut trace = Trace::default();
        let broken = links.iter().filter(|link| trace.follow(link).is_err()).map(|link| link.seq.0).collect();
        (broken, trace.ends().any(|at| at.chain == end))
    }

    #[test]
    fn each_fault_is_named_once_and_where_it_is() {
        let whole = history(9);
        let end = whole[8].chain;
        assert_eq!(breaks(&whole, end), (vec![], true));
        let changes: [fn(&mut Link); 3] =
            [|link| link.user.push('x'), |link| link.requested_at.0 += 1, |link| link.chain.0 ^= 1];
        for change in changes {
            for faults in [vec![1], vec![5], vec![9], vec![2, 7], vec![4, 5], vec![4, 5, 6]] {
                let mut links = whole.clone();
                for fault in &faults {
                    change(&mut links[*fault as usize - 1]);
                }
                assert_eq!(breaks(&links, end), (faults, true));
            }
        }
    }

    #[test]
    fn neighbours_with_different_faults_are_both_named() {
        let mut links = history(9);
        let end = links[8].chain;
        links[3].chain = Chain(7);
        links[4].user.push('x');
        assert_eq!(breaks(&links, end), (vec![4, 5], true));
    }

    #[test]
    fn an_end_that_does_not_belong_is_not_admitted() {
        assert_eq!(breaks(&history(3), Chain(1)), (vec![], false));
    }

    #[test]
    fn after_a_gap_the_next_link_is_believed() {
        let links = history(5);
        let mut trace = Trace::lost_at(Seq(3));
        assert_eq!(trace.position(), None);
        assert_eq!(trace.follow(&links[3]), Ok(()));
        assert_eq!(trace.follow(&links[4]), Ok(()));
        let mut trace = Trace::at(Position { seq: Seq(2), chain: links[1].chain });
        assert_eq!(trace.follow(&links[2]), Ok(()));
        assert_eq!(trace.clone().follow(&links[4]), Err(trace), "one is missing");
    }
}
