//! COUPON.RESUME and COUPON.ACK: the reconciler's side, where Redis and the ledger are compared.

use crate::coupon::Coupon;
use crate::limit::NUMBER_MAX;
use crate::number::{Chain, Epoch, Seq, Token};
use crate::options::{Options, set_once};
use crate::position::Position;
use crate::refusal::Refusal;

/// Names of the options.
pub mod option {
    /// The ledger's epoch.
    pub const EPOCH: &str = "EPOCH";
    /// The ledger's newest grant.
    pub const SEQ: &str = "SEQ";
    /// The chain at that grant.
    pub const CHAIN: &str = "CHAIN";
}

/// `COUPON.RESUME key EPOCH e SEQ n CHAIN c` after the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The epoch just taken in the ledger.
    pub epoch: Epoch,
    /// The ledger's position under it.
    pub position: Position,
}

/// `COUPON.ACK key EPOCH e SEQ n` after the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The epoch under which the relay works.
    pub epoch: Epoch,
    /// The newest grant that is committed.
    pub seq: Seq,
}

impl Resume {
    /// Reads the arguments after the key.
    ///
    /// # Errors
    /// [`Refusal::Usage`].
    pub fn parse<'a>(rest: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let (epoch, seq, chain) = parse(rest, &[option::EPOCH, option::SEQ, option::CHAIN])?;
        let chain = chain.ok_or_else(|| missing(option::CHAIN))?;
        Ok(Self { epoch, position: Position { seq, chain } })
    }
}

impl Ack {
    /// Reads the arguments after the key.
    ///
    /// # Errors
    /// [`Refusal::Usage`].
    pub fn parse<'a>(rest: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let (epoch, seq, _) = parse(rest, &[option::EPOCH, option::SEQ])?;
        Ok(Self { epoch, seq })
    }
}

fn parse<'a>(
    rest: impl Iterator<Item = &'a [u8]>,
    names: &[&'static str],
) -> Result<(Epoch, Seq, Option<Chain>), Refusal> {
    let mut options = Options::new(rest);
    let (mut epoch, mut seq, mut chain) = (None, None, None);
    while let Some(name) = options.next_name(names)? {
        match name {
            option::EPOCH => set_once(&mut epoch, name, Epoch(options.number(name, 1..=NUMBER_MAX)?))?,
            option::SEQ => set_once(&mut seq, name, Seq(options.number(name, 0..=NUMBER_MAX)?))?,
            _ => set_once(&mut chain, name, Chain(options.signed(name)?))?,
        }
    }
    Ok((epoch.ok_or_else(|| missing(option::EPOCH))?, seq.ok_or_else(|| missing(option::SEQ))?, chain))
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

impl Ack {
    /// Whether the position moves: what is persisted already is acknowledged again without effect.
    ///
    /// # Errors
    /// [`Refusal::TryAgain`] while fenced, [`Refusal::StaleEpoch`] at another epoch, [`Refusal::Behind`] if Redis
    /// has not granted so much.
    pub fn decide(self, coupon: &Coupon, token: Token) -> Result<bool, Refusal> {
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
        let ack = |epoch, seq| Ack { epoch: Epoch(epoch), seq: Seq(seq) }.decide(&coupon(), Token(7));
        assert_eq!(ack(3, 5), Ok(true));
        assert_eq!(ack(3, 2), Ok(false));
        assert_eq!(ack(3, 6), Err(Refusal::Behind(coupon().position)));
        assert_eq!(ack(4, 5), Err(Refusal::StaleEpoch { stored: Epoch(3) }));
        assert_eq!(Ack { epoch: Epoch(3), seq: Seq(5) }.decide(&coupon(), Token(8)), Err(Refusal::fenced()));
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
}
