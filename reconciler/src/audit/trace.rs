//! Following the chain over links of which some may be wrong, so that each fault is named where it is and once.

use crate::model::grant::Link;
use coupon_core::number::{Chain, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;
use std::iter;

/// Chains that may be the right one beside that of a wrong link. Each wrong link in a row adds one.
const DOUBTS_MAX: usize = 8;

/// How far the chain was followed; at first, to the start.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    at: Position,
    /// After a wrong link either its chain is right and its content is wrong, or one of these is the chain here. The next link
    /// tells which.
    doubts: Vec<Chain>,
    /// Whether nothing is known of the chain here: the next link is believed.
    is_lost: bool,
}

impl Trace {
    /// At a known position.
    pub fn at(at: Position) -> Self {
        Self { at, ..Self::default() }
    }

    /// Behind a link of which nothing is known.
    pub fn lost_at(seq: Seq) -> Self {
        Self { is_lost: true, ..Self::at(Position { seq, chain: Chain::START }) }
    }

    /// The newest link followed.
    pub const fn seq(&self) -> Seq {
        self.at.seq
    }

    /// The position here, if it is certain.
    pub fn position(&self) -> Option<Position> {
        (!self.is_lost && self.doubts.is_empty()).then_some(self.at)
    }

    /// Goes on to a link; whether it follows.
    pub fn follow(&mut self, link: &Link) -> bool {
        let before = iter::once(&self.at.chain).chain(&self.doubts);
        // A user id that can be nobody's follows nothing.
        let next = |chain: &Chain| Some(chain.next(UserId::parse(link.user.as_bytes()).ok()?, link.requested_at));
        let next: Vec<Chain> = before.filter_map(next).take(DOUBTS_MAX).collect();
        let is_next = link.seq == self.at.seq.next() && (self.is_lost || next.contains(&link.chain));
        *self = Self::at(Position { seq: link.seq, chain: link.chain });
        if !is_next {
            self.doubts = next;
        }
        is_next
    }
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
                chain = UserId::parse(user.as_bytes()).map(|user| chain.next(user, requested_at)).unwrap_or_default();
                Link { seq: Seq(seq), user, requested_at, granted_at_ms: 0, chain, is_dead: false }
            })
            .collect()
    }

    /// The seqs that do not follow, and whether the end is one that may be.
    fn breaks(links: &[Link], end: Chain) -> (Vec<u64>, bool) {
        let mut trace = Trace::default();
        let broken = links.iter().filter(|link| !trace.follow(link)).map(|link| link.seq.0).collect();
        (broken, trace.at.chain == end || trace.doubts.contains(&end))
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
        assert!(trace.follow(&links[3]));
        assert!(trace.follow(&links[4]));
        let mut trace = Trace::at(Position { seq: Seq(2), chain: links[1].chain });
        assert!(trace.follow(&links[2]));
        assert!(!trace.follow(&links[4]), "one is missing");
    }
}
