//! COUPON.RESUME and COUPON.ACK: the reconciler's side, where Redis and the ledger are compared.

use crate::coupon::Coupon;
use crate::limit::{NUMBER_MAX, REFUSED_MAX};
use crate::number::{Chain, Epoch, Seq, Token};
use crate::options::{Options, set_once};
use crate::position::Position;
use crate::refusal::{Refusal, quote};
use crate::user::UserId;
use std::collections::HashSet;

/// Names of the options.
pub mod option {
    /// The ledger's epoch.
    pub const EPOCH: &str = "EPOCH";
    /// The ledger's newest grant.
    pub const SEQ: &str = "SEQ";
    /// The chain at that grant.
    pub const CHAIN: &str = "CHAIN";
    /// Users whose rows PostgreSQL refused, behind their number.
    pub const REFUSED: &str = "REFUSED";
    /// Users of whom that was said, and whose rows are there since, behind their number.
    pub const PERSISTED: &str = "PERSISTED";
}

/// `COUPON.RESUME key EPOCH e SEQ n CHAIN c` after the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The epoch just taken in the ledger.
    pub epoch: Epoch,
    /// The ledger's position under it.
    pub position: Position,
}

/// `COUPON.ACK key EPOCH e SEQ n [REFUSED count user …] [PERSISTED count user …]` after the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The epoch under which the relay works.
    pub epoch: Epoch,
    /// The newest grant that is committed.
    pub seq: Seq,
    /// Users whose rows PostgreSQL refused.
    pub refused: Vec<UserId<'a>>,
    /// Users whose rows it took after all.
    pub persisted: Vec<UserId<'a>>,
}

impl Resume {
    /// Reads the arguments after the key.
    ///
    /// # Errors
    /// [`Refusal::Usage`].
    pub fn parse<'a>(rest: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let mut options = Options::new(rest);
        let (mut epoch, mut seq, mut chain) = (None, None, None);
        while let Some(name) = options.next_name(&[option::EPOCH, option::SEQ, option::CHAIN])? {
            match name {
                option::EPOCH => set_once(&mut epoch, name, Epoch(options.number(name, 1..=NUMBER_MAX)?))?,
                option::SEQ => set_once(&mut seq, name, Seq(options.number(name, 0..=NUMBER_MAX)?))?,
                _ => set_once(&mut chain, name, Chain(options.signed(name)?))?,
            }
        }
        let seq = seq.ok_or_else(|| missing(option::SEQ))?;
        let position = Position { seq, chain: chain.ok_or_else(|| missing(option::CHAIN))? };
        Ok(Self { epoch: epoch.ok_or_else(|| missing(option::EPOCH))?, position })
    }
}

impl<'a> Ack<'a> {
    /// Reads the arguments after the key.
    ///
    /// # Errors
    /// [`Refusal::Usage`].
    pub fn parse(rest: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let mut options = Options::new(rest);
        let (mut epoch, mut seq, mut refused, mut persisted) = (None, None, None, None);
        while let Some(name) = options.next_name(&[option::EPOCH, option::SEQ, option::REFUSED, option::PERSISTED])? {
            match name {
                option::EPOCH => set_once(&mut epoch, name, Epoch(options.number(name, 1..=NUMBER_MAX)?))?,
                option::SEQ => set_once(&mut seq, name, Seq(options.number(name, 0..=NUMBER_MAX)?))?,
                option::REFUSED => set_once(&mut refused, name, options.users(name, REFUSED_MAX)?)?,
                _ => set_once(&mut persisted, name, options.users(name, REFUSED_MAX)?)?,
            }
        }
        let ack = Self {
            epoch: epoch.ok_or_else(|| missing(option::EPOCH))?,
            seq: seq.ok_or_else(|| missing(option::SEQ))?,
            refused: refused.unwrap_or_default(),
            persisted: persisted.unwrap_or_default(),
        };
        let mut named = HashSet::new();
        match ack.refused.iter().chain(&ack.persisted).find(|user| !named.insert(**user)) {
            Some(user) => Err(Refusal::usage(format!("user {} is named twice", quote(user.as_bytes())))),
            None => Ok(ack),
        }
    }

    /// Whether it says something of single users.
    #[must_use]
    pub const fn names_users(&self) -> bool {
        !self.refused.is_empty() || !self.persisted.is_empty()
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::usage(format!("option {name} is missing"))
}

impl Resume {
    /// Opens the gate, if Redis holds the ledger's history at least as far as the ledger does.
    ///
    /// `chain_at` finds the chain at a grant between 0 and the newest, if it can still be known.
    ///
    /// # Errors
    /// [`Refusal::StaleEpoch`], [`Refusal::Behind`] or [`Refusal::Diverged`]; then the coupon stays as it was.
    pub fn decide(
        self,
        coupon: &Coupon,
        token: Token,
        chain_at: impl FnOnce(Seq) -> Option<Chain>,
    ) -> Result<Coupon, Refusal> {
        if self.epoch < coupon.epoch {
            return Err(Refusal::StaleEpoch { stored: coupon.epoch });
        }
        if self.position.seq > coupon.position.seq {
            return Err(Refusal::Behind(coupon.position));
        }
        let chain = if self.position.seq.0 == 0 {
            Some(Chain::START)
        } else if self.position.seq == coupon.position.seq {
            Some(coupon.position.chain)
        } else {
            chain_at(self.position.seq)
        };
        if chain != Some(self.position.chain) {
            return Err(Refusal::Diverged(coupon.position));
        }
        Ok(Coupon { epoch: self.epoch, fence: Some(token), ..coupon.clone() })
    }
}

impl Ack<'_> {
    /// Whether the position moves: what is persisted already is acknowledged again without effect.
    ///
    /// # Errors
    /// [`Refusal::TryAgain`] while fenced, [`Refusal::StaleEpoch`] at another epoch, [`Refusal::Behind`] if Redis
    /// has not granted so much.
    pub fn decide(&self, coupon: &Coupon, token: Token) -> Result<bool, Refusal> {
        if coupon.is_fenced(token) {
            return Err(Refusal::fenced());
        }
        if self.epoch != coupon.epoch {
            return Err(Refusal::StaleEpoch { stored: coupon.epoch });
        }
        if self.seq > coupon.position.seq {
            return Err(Refusal::Behind(coupon.position));
        }
        Ok(self.seq > coupon.persisted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::tests::available;
    use crate::words::Mode;

    fn coupon() -> Coupon {
        let mut coupon = available(9, Mode::Queue);
        coupon.epoch = Epoch(3);
        coupon.fence = Some(Token(7));
        coupon.position = Position { seq: Seq(5), chain: Chain(50) };
        coupon.persisted = Seq(2);
        coupon
    }

    fn resume(epoch: u64, seq: u64, chain: i64) -> Result<Coupon, Refusal> {
        let resume = Resume { epoch: Epoch(epoch), position: Position { seq: Seq(seq), chain: Chain(chain) } };
        resume.decide(&coupon(), Token(8), |seq| (seq == Seq(4)).then_some(Chain(40)))
    }

    #[test]
    fn the_gate_opens_where_redis_holds_the_ledgers_history() {
        for (seq, chain) in [(5, 50), (4, 40), (0, 0)] {
            let opened = resume(4, seq, chain);
            assert_eq!(opened.map(|c| (c.epoch, c.fence, c.position.seq)), Ok((Epoch(4), Some(Token(8)), Seq(5))));
        }
        assert_eq!(resume(3, 5, 50).map(|c| c.fence), Ok(Some(Token(8))), "under the same epoch once more");
    }

    #[test]
    fn another_history_leaves_it_shut() {
        let own = coupon().position;
        assert_eq!(resume(4, 6, 60), Err(Refusal::Behind(own)));
        assert_eq!(resume(4, 5, 51), Err(Refusal::Diverged(own)));
        assert_eq!(resume(4, 3, 30), Err(Refusal::Diverged(own)), "trimmed: it cannot be proved");
        assert_eq!(resume(4, 0, 1), Err(Refusal::Diverged(own)));
        assert_eq!(resume(2, 5, 50), Err(Refusal::StaleEpoch { stored: Epoch(3) }));
    }

    #[test]
    fn an_ack_moves_the_position_forward_only() {
        let of = |epoch, seq| Ack { epoch: Epoch(epoch), seq: Seq(seq), refused: Vec::new(), persisted: Vec::new() };
        let ack = |epoch, seq| of(epoch, seq).decide(&coupon(), Token(7));
        assert_eq!(ack(3, 5), Ok(true));
        assert_eq!(ack(3, 2), Ok(false));
        assert_eq!(ack(3, 6), Err(Refusal::Behind(coupon().position)));
        assert_eq!(ack(4, 5), Err(Refusal::StaleEpoch { stored: Epoch(3) }));
        assert_eq!(of(3, 5).decide(&coupon(), Token(8)), Err(Refusal::fenced()));
    }

    #[test]
    fn options_are_all_needed() {
        let args = |text: &'static str| text.split_whitespace().map(str::as_bytes);
        assert!(Resume::parse(args("CHAIN -5 SEQ 1 EPOCH 2")).is_ok());
        for bad in [
            "EPOCH 2 SEQ 1",
            "EPOCH 0 SEQ 1 CHAIN 1",
            "EPOCH 2 SEQ -1 CHAIN 1",
            "EPOCH 2 SEQ 1 CHAIN 9223372036854775808",
        ] {
            assert!(matches!(Resume::parse(args(bad)), Err(Refusal::Usage(_))), "{bad}");
        }
        assert!(Ack::parse(args("SEQ 1 EPOCH 2")).is_ok());
        assert!(Ack::parse(args("SEQ 1 EPOCH 2 CHAIN 3")).is_err());
    }

    #[test]
    fn an_ack_names_users_by_their_number() -> Result<(), Refusal> {
        let args = |text: &'static str| text.split_whitespace().map(str::as_bytes);
        let named = |users: &[UserId<'_>]| users.iter().map(|user| user.as_str()).collect::<Vec<_>>().join(" ");
        let ack = Ack::parse(args("REFUSED 3 PERSISTED SEQ 9 EPOCH 2 PERSISTED 1 REFUSED SEQ 1"))?;
        assert_eq!((&*named(&ack.refused), &*named(&ack.persisted)), ("PERSISTED SEQ 9", "REFUSED"));
        assert!(ack.names_users() && !Ack::parse(args("EPOCH 2 SEQ 1"))?.names_users());
        for bad in [
            "EPOCH 2 SEQ 1 REFUSED 0",
            "EPOCH 2 SEQ 1 REFUSED 2 a",
            "EPOCH 2 SEQ 1 REFUSED a",
            "EPOCH 2 SEQ 1 REFUSED 1 a b",
            "EPOCH 2 SEQ 1 REFUSED 2 a a",
            "EPOCH 2 SEQ 1 REFUSED 1 a PERSISTED 1 a",
            "EPOCH 2 SEQ 1 REFUSED 1 a REFUSED 1 b",
            "EPOCH 2 SEQ 1 PERSISTED 1001 a",
        ] {
            assert!(matches!(Ack::parse(args(bad)), Err(Refusal::Usage(_))), "{bad}");
        }
        Ok(())
    }
}
