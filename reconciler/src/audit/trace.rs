//! Following the chain over links of which some may be wrong, so that each fault is named where it is and once.

use crate::model::grant::Link;
use coupon_core::grant::Grant;
use coupon_core::number::{Arrival, Chain, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;

/// Chains that are kept in mind at once. Each wrong link in a row adds one.
const TAILS_MAX: usize = 8;

/// A link of the chain as it is stored somewhere: a row, a dead letter or an entry of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Its number.
    pub seq: Seq,
    /// The user.
    pub user: &'a str,
    /// When the request was accepted.
    pub requested_at: Arrival,
    /// The chain stored with it.
    pub chain: Chain,
}

impl<'a> From<&'a Link> for Stored<'a> {
    fn from(link: &'a Link) -> Self {
        Self { seq: link.seq, user: &link.user, requested_at: link.requested_at, chain: link.chain }
    }
}

impl<'a> From<&'a Grant> for Stored<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self { seq: grant.id.seq, user: &grant.user, requested_at: grant.requested_at, chain: grant.chain }
    }
}

impl Stored<'_> {
    /// The chain that follows another one with this link's user and time; none if the user id can be nobody's.
    pub fn after(&self, chain: Chain) -> Option<Chain> {
        UserId::parse(self.user.as_bytes()).ok().map(|user| chain.next(user, self.requested_at))
    }
}

/// How far the chain was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    seq: Seq,
    /// One of these is the chain here: after a wrong link either its content is wrong or its chain, and the next link
    /// tells which. None: nothing is known, and the next link is believed.
    tails: Vec<Chain>,
}

impl Trace {
    /// Before the first link.
    pub fn start() -> Self {
        Self::at(Position::default())
    }

    /// At a known position.
    pub fn at(position: Position) -> Self {
        Self { seq: position.seq, tails: vec![position.chain] }
    }

    /// The newest link followed.
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// The chains one of which is right here.
    pub fn tails(&self) -> &[Chain] {
        &self.tails
    }

    /// Whether this may be the chain here.
    pub fn admits(&self, chain: Chain) -> bool {
        self.tails.is_empty() || self.tails.contains(&chain)
    }

    /// Whether a link follows.
    pub fn is_followed_by(&self, link: &Stored<'_>) -> bool {
        self.tails.is_empty() || self.tails.iter().any(|tail| link.after(*tail) == Some(link.chain))
    }

    /// Goes on to the next link; whether it follows.
    pub fn follow(&mut self, link: &Stored<'_>) -> bool {
        let follows = self.is_followed_by(link);
        let computed =
            if follows { Vec::new() } else { self.tails.iter().filter_map(|tail| link.after(*tail)).collect() };
        self.seq = link.seq;
        self.tails = vec![link.chain];
        self.tails.extend(computed);
        self.tails.truncate(TAILS_MAX);
        follows
    }

    /// Goes on over links that are not there, to a chain that is proved.
    pub fn cross(&mut self, seq: Seq, chain: Chain) {
        *self = Self::at(Position { seq, chain });
    }

    /// Goes on over links that are not there, and of which nothing is known.
    pub fn skip_to(&mut self, seq: Seq) {
        self.seq = seq;
        self.tails.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Link {
        seq: u64,
        user: String,
        at: u64,
        chain: Chain,
    }

    impl Link {
        fn stored(&self) -> Stored<'_> {
            Stored { seq: Seq(self.seq), user: &self.user, requested_at: Arrival(self.at), chain: self.chain }
        }
    }

    fn history(len: u64) -> Vec<Link> {
        let mut chain = Chain::START;
        (1..=len)
            .map(|seq| {
                let mut link = Link { seq, user: format!("u{seq}"), at: 100 + seq, chain };
                chain = link.stored().after(chain).unwrap_or_default();
                link.chain = chain;
                link
            })
            .collect()
    }

    /// The seqs that do not follow, and whether the end is admitted.
    fn breaks(links: &[Link], end: Chain) -> (Vec<u64>, bool) {
        let mut trace = Trace::start();
        let broken = links.iter().filter(|link| !trace.follow(&link.stored())).map(|link| link.seq).collect();
        (broken, trace.admits(end))
    }

    #[test]
    fn each_fault_is_named_once_and_where_it_is() {
        let whole = history(9);
        let end = whole[8].chain;
        assert_eq!(breaks(&whole, end), (vec![], true));
        let changes: [fn(&mut Link); 3] =
            [|link| link.user.push('x'), |link| link.at += 1, |link| link.chain = Chain(link.chain.0 ^ 1)];
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
        let mut trace = Trace::start();
        trace.skip_to(Seq(3));
        assert!(trace.follow(&links[3].stored()));
        assert!(trace.follow(&links[4].stored()));
        let mut trace = Trace::start();
        trace.cross(Seq(2), links[1].chain);
        assert!(trace.follow(&links[2].stored()));
        assert!(!trace.follow(&links[4].stored()));
    }
}
