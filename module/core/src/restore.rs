//! COUPON.RESTORE: the ledger's history takes the place of Redis's own, from their common part on.
//!
//! Without a history it only shuts the gate: then what Redis has can be read without more being granted meanwhile. A
//! history is taken only by a coupon that was shut so, under the same epoch: whatever else came in between, be it a crash
//! that brought an older state back, may have granted what nobody has read, and it would be dropped without a name.
//!
//! Redis keeps who is granted as "everybody in the sorted set up to a cursor", so whoever is put in by the ledger has to
//! stand before all who wait. That is where the own arrival puts them, but for one case: two servers that both thought to
//! be the primary let in different users at the same time. Then a user whom the ledger holds may have arrived
//! later than one who waits, and gets a score just before the first who waits. The stream and the ledger keep the true
//! time; the score only keeps the order.

use crate::coupon::{Coupon, Cursor};
use crate::ledger::option::{CHAIN, EPOCH, REFUSED};
use crate::limit::{ARRIVAL_US_MAX, NUMBER_MAX, REFUSED_MAX, RESTORE_MAX};
use crate::number::{Arrival, Chain, Epoch, Seq, Token};
use crate::options::{Options, set_once};
use crate::position::Position;
use crate::refusal::{Refusal, quote};
use crate::user::UserId;
use crate::words::Status;
use std::collections::HashSet;

/// Names of the options that only this command has.
pub mod option {
    /// The last grant that both sides share.
    pub const AFTER: &str = "AFTER";
    /// The ledger's grants after it: their number, then user, requested_at (µs) and granted_at (ms) of each.
    pub const GRANTS: &str = "GRANTS";
}

/// No process ever draws this token: the gate is shut.
pub const SHUT: Token = Token(0);

/// Why a history is refused where the gate is not shut; the reconciler knows it by this text.
pub const UNSHUT: &str = "coupon is not shut under this epoch, so it may have granted what nobody has named; \
    shut it with COUPON.RESTORE key EPOCH e, name what it granted, then restore";

/// A grant of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted<'a> {
    /// The user.
    pub user: UserId<'a>,
    /// Which argument after the key it was, so that the adapter need not copy it.
    pub argument: usize,
    /// When the request was accepted.
    pub requested_at: Arrival,
    /// When it was granted, Unix milliseconds.
    pub granted_at_ms: u64,
}

/// `COUPON.RESTORE key EPOCH e [AFTER k CHAIN c [REFUSED m user …] GRANTS n user requested_at granted_at …]` after the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore<'a> {
    /// Under which the gate is shut.
    pub epoch: Epoch,
    /// What takes the place of Redis's own; none if the gate alone is to be shut.
    pub history: Option<History<'a>>,
}

/// A part of the ledger's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<'a> {
    /// The last grant that both sides share.
    after: Position,
    /// The ledger's grants after it, in order.
    pub grants: Vec<Granted<'a>>,
    /// Those of their users whose rows PostgreSQL refused.
    pub refused: Vec<UserId<'a>>,
}

impl<'a> Restore<'a> {
    /// Reads the arguments after the key.
    ///
    /// # Errors
    /// [`Refusal::Usage`].
    pub fn parse(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let total = args.len();
        let mut options = Options::new(args);
        let (mut epoch, mut seq, mut chain, mut refused) = (None, None, None, None);
        while let Some(name) = options.next_name(&[EPOCH, option::AFTER, CHAIN, REFUSED, option::GRANTS])? {
            match name {
                EPOCH => set_once(&mut epoch, name, Epoch(options.number(name, 1..=NUMBER_MAX)?))?,
                option::AFTER => set_once(&mut seq, name, Seq(options.number(name, 0..=NUMBER_MAX)?))?,
                CHAIN => set_once(&mut chain, name, Chain(options.signed(name)?))?,
                REFUSED => set_once(&mut refused, name, options.users(name, REFUSED_MAX)?)?,
                _ => {
                    let count = options.number(name, 1..=RESTORE_MAX)?;
                    let missing = |name| move || Refusal::usage(format!("option {name} is missing before GRANTS"));
                    let epoch = epoch.ok_or_else(missing(EPOCH))?;
                    let after = Position {
                        seq: seq.ok_or_else(missing(option::AFTER))?,
                        chain: chain.ok_or_else(missing(CHAIN))?,
                    };
                    let refused = refused.unwrap_or_default();
                    let grants = Self::parse_grants(&mut options, count, total, &refused)?;
                    return Ok(Self { epoch, history: Some(History { after, grants, refused }) });
                }
            }
        }
        match (epoch, seq, chain, refused) {
            (Some(epoch), None, None, None) => Ok(Self { epoch, history: None }),
            (None, None, None, None) => Err(Refusal::usage("option EPOCH is missing")),
            _ => Err(Refusal::usage("option GRANTS is missing: the ledger's grants come last")),
        }
    }

    fn parse_grants<I: Iterator<Item = &'a [u8]>>(
        options: &mut Options<I>,
        count: u64,
        total: usize,
        refused: &[UserId<'_>],
    ) -> Result<Vec<Granted<'a>>, Refusal> {
        let mut users = HashSet::new();
        let mut grants = Vec::new();
        for index in 0..count {
            let granted = Granted {
                user: UserId::parse(options.value(option::GRANTS)?)?,
                // Grants come last, three arguments each.
                argument: usize::try_from(count.saturating_sub(index).saturating_mul(3))
                    .map_or(0, |from_end| total.saturating_sub(from_end)),
                requested_at: Arrival(options.number("requested_at", 0..=ARRIVAL_US_MAX)?),
                granted_at_ms: options.number("granted_at", 0..=ARRIVAL_US_MAX)?,
            };
            if !users.insert(granted.user) {
                return Err(Refusal::usage(format!("user {} is granted twice", quote(granted.user.as_bytes()))));
            }
            grants.push(granted);
        }
        options.end()?;
        match refused.iter().find(|user| !users.contains(*user)) {
            Some(user) => Err(Refusal::usage(format!("user {} is refused and not granted", quote(user.as_bytes())))),
            None => Ok(grants),
        }
    }

    /// Shuts the coupon's gate, and leaves all else. For a history it has to be shut already.
    ///
    /// # Errors
    /// [`Refusal::StaleEpoch`]; [`Refusal::TryAgain`] for a history, if the gate is not shut under its epoch.
    pub fn shut(&self, coupon: &Coupon) -> Result<Coupon, Refusal> {
        if self.epoch < coupon.epoch {
            return Err(Refusal::StaleEpoch { stored: coupon.epoch });
        }
        let is_shut = coupon.epoch == self.epoch && coupon.fence == Some(SHUT);
        if self.history.is_some() && !is_shut {
            return Err(Refusal::TryAgain(UNSHUT));
        }
        Ok(Coupon { epoch: self.epoch, fence: Some(SHUT), ..coupon.clone() })
    }
}

impl History<'_> {
    /// Cuts a coupon back to the common part.
    ///
    /// `at` finds a grant between 0 and the newest with its score, if it can still be known.
    ///
    /// # Errors
    /// [`Refusal::Behind`] if Redis does not reach the common part, [`Refusal::Diverged`] if it is not common.
    pub fn cut(&self, coupon: Coupon, at: impl FnOnce(Seq) -> Option<(Chain, Cursor)>) -> Result<Coupon, Refusal> {
        if self.after.seq > coupon.position.seq {
            return Err(Refusal::Behind(coupon.position));
        }
        let known = if self.after.seq.0 == 0 {
            Some((Chain::START, None))
        } else if self.after.seq == coupon.position.seq {
            Some((coupon.position.chain, coupon.granted_to.clone()))
        } else {
            at(self.after.seq).map(|(chain, cursor)| (chain, Some(cursor)))
        };
        let Some((_, granted_to)) = known.filter(|(chain, _)| *chain == self.after.chain) else {
            return Err(Refusal::Diverged(coupon.position));
        };
        Ok(Coupon { position: self.after, granted_to, ..coupon })
    }

    /// Whether it takes the place of all that Redis has.
    #[must_use]
    pub const fn is_from_the_start(&self) -> bool {
        self.after.seq.0 == 0
    }

    /// Where the grants stand in the sorted set: at their arrivals, but before the first who waits, and in their order.
    ///
    /// # Errors
    /// [`Refusal::Usage`] if there is no place left, as somebody waits with a score that is no arrival time.
    pub fn places(&self, first_waiting: Option<f64>) -> Result<Vec<Arrival>, Refusal> {
        // Infinity and the like stand behind everybody.
        let first_waiting = first_waiting.filter(|score| *score <= ARRIVAL_US_MAX as f64);
        let first_waiting = match first_waiting.map(|score| Arrival::from_score(score.ceil())) {
            None => Arrival(u64::MAX),
            Some(Some(arrival)) => arrival,
            Some(None) => Arrival(0),
        };
        let latest = |behind: usize| first_waiting.0.checked_sub(u64::try_from(behind).unwrap_or(u64::MAX));
        // The last one stands one microsecond before the first who waits, the one before it two, and so on.
        (1..=self.grants.len())
            .rev()
            .zip(&self.grants)
            .map(|(behind, granted)| {
                latest(behind).map(|latest| Arrival(granted.requested_at.0.min(latest))).ok_or_else(|| {
                    Refusal::usage("somebody waits in the :issued key with a score that is no arrival time, so there is no place before; ZREM that member")
                })
            })
            .collect()
    }
}

/// The coupon once all of a batch is in: what the ledger gave is persisted by definition.
#[must_use]
pub fn finish(mut coupon: Coupon, placed: Option<Arrival>) -> Coupon {
    if let Some(last) = placed {
        // Also where it shares the cursor's score: whoever waits stands behind `last`, so the score alone covers no one else.
        let is_newer = coupon.granted_to.as_ref().is_none_or(|cursor| cursor.arrival <= last);
        if is_newer {
            coupon.granted_to = Some(Cursor { arrival: last, user: None });
        }
        coupon.first_at = coupon.first_at.or(Some(last));
    }
    coupon.persisted = coupon.position.seq;
    coupon.persisted_to = coupon.granted_to.clone();
    coupon.status = match coupon.status {
        Status::Available | Status::Issued if coupon.remaining() == 0 => Status::Issued,
        Status::Issued => Status::Available,
        status => status,
    };
    coupon
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::tests::available;
    use crate::words::Mode;

    fn parse(text: &'static str) -> Result<Restore<'static>, Refusal> {
        let args: Vec<&[u8]> = text.split_whitespace().map(str::as_bytes).collect();
        Restore::parse(args.into_iter())
    }

    fn history(text: &'static str) -> Result<History<'static>, Refusal> {
        parse(text)?.history.ok_or_else(|| Refusal::usage("no history"))
    }

    #[test]
    fn grants_come_last_and_know_their_argument() -> Result<(), Refusal> {
        let restore = history("CHAIN -3 EPOCH 2 AFTER 4 GRANTS 2 a 10 1 b 20 2")?;
        assert_eq!(restore.after, Position { seq: Seq(4), chain: Chain(-3) });
        let known: Vec<_> = restore.grants.iter().map(|g| (g.user.as_str(), g.argument, g.requested_at.0)).collect();
        assert_eq!(known, [("a", 8, 10), ("b", 11, 20)]);
        for bad in [
            "",
            "EPOCH 2 AFTER 4 CHAIN 1",
            "EPOCH 2 AFTER 4",
            "EPOCH 2 CHAIN 1",
            "AFTER 4 CHAIN 1",
            "EPOCH 0",
            "EPOCH 2 EPOCH 3",
            "EPOCH 2 CHAIN 1 GRANTS 1 a 1 1",
            "EPOCH 2 AFTER 4 CHAIN 1 GRANTS 0",
            "EPOCH 2 AFTER 4 CHAIN 1 GRANTS 1001",
            "EPOCH 2 AFTER 4 CHAIN 1 GRANTS 2 a 1 1",
            "EPOCH 2 AFTER 4 CHAIN 1 GRANTS 1 a 1 1 b",
            "EPOCH 2 AFTER 4 CHAIN 1 GRANTS 2 a 1 1 a 2 2",
            "EPOCH 2 AFTER 4 CHAIN 1 GRANTS 1 a -1 1",
            "EPOCH 2 REFUSED 1 a",
            "EPOCH 2 AFTER 4 CHAIN 1 REFUSED 1 b GRANTS 1 a 1 1",
            "EPOCH 2 AFTER 4 CHAIN 1 GRANTS 1 a 1 1 REFUSED 1 a",
        ] {
            assert!(matches!(parse(bad), Err(Refusal::Usage(_))), "{bad}");
        }
        assert_eq!(parse(""), Err(Refusal::usage("option EPOCH is missing")));
        let refused = history("EPOCH 2 AFTER 4 CHAIN 1 REFUSED 1 GRANTS GRANTS 2 a 1 1 GRANTS 2 2")?.refused;
        assert_eq!(refused.iter().map(|user| user.as_str()).collect::<Vec<_>>(), ["GRANTS"]);
        Ok(())
    }

    #[test]
    fn a_history_is_cut_where_both_agree() -> Result<(), Refusal> {
        let mut coupon = available(9, Mode::Queue);
        coupon.epoch = Epoch(4);
        coupon.fence = Some(SHUT);
        coupon.position = Position { seq: Seq(5), chain: Chain(50) };
        let cut = |text| {
            let restore = parse(text)?;
            let shut = restore.shut(&coupon)?;
            let Some(history) = restore.history else { return Ok(shut) };
            history.cut(shut, |seq| (seq == Seq(4)).then_some((Chain(40), Cursor { arrival: Arrival(44), user: None })))
        };
        let four = cut("EPOCH 4 AFTER 4 CHAIN 40 GRANTS 1 a 1 1")?;
        assert_eq!((four.epoch, four.fence, four.position.seq), (Epoch(4), Some(SHUT), Seq(4)));
        assert_eq!(four.granted_to.map(|c| c.arrival), Some(Arrival(44)));
        assert_eq!(cut("EPOCH 4 AFTER 0 CHAIN 0 GRANTS 1 a 1 1")?.granted_to, None);
        assert_eq!(cut("EPOCH 4 AFTER 5 CHAIN 50 GRANTS 1 a 1 1")?, coupon, "nothing is to be cut off");
        assert!(matches!(cut("EPOCH 2 AFTER 4 CHAIN 40 GRANTS 1 a 1 1"), Err(Refusal::StaleEpoch { .. })));
        assert!(matches!(cut("EPOCH 5 AFTER 4 CHAIN 40 GRANTS 1 a 1 1"), Err(Refusal::TryAgain(UNSHUT))));
        assert!(matches!(cut("EPOCH 4 AFTER 4 CHAIN 41 GRANTS 1 a 1 1"), Err(Refusal::Diverged(_))));
        assert!(matches!(cut("EPOCH 4 AFTER 3 CHAIN 30 GRANTS 1 a 1 1"), Err(Refusal::Diverged(_))));
        assert!(matches!(cut("EPOCH 4 AFTER 6 CHAIN 60 GRANTS 1 a 1 1"), Err(Refusal::Behind(_))));
        Ok(())
    }

    #[test]
    fn without_a_history_the_gate_alone_is_shut() -> Result<(), Refusal> {
        let mut coupon = available(9, Mode::Queue);
        coupon.epoch = Epoch(3);
        coupon.fence = Some(Token(7));
        coupon.position = Position { seq: Seq(5), chain: Chain(50) };
        for epoch in ["EPOCH 3", "EPOCH 4"] {
            let restore = parse(epoch)?;
            assert_eq!(restore.history, None);
            let shut = restore.shut(&coupon)?;
            assert!(shut.is_fenced(Token(7)), "{epoch}");
            assert_eq!(shut.epoch, restore.epoch);
            assert_eq!(Coupon { epoch: coupon.epoch, fence: coupon.fence, ..shut }, coupon, "all else is left");
        }
        assert_eq!(parse("EPOCH 2")?.shut(&coupon), Err(Refusal::StaleEpoch { stored: Epoch(3) }));
        Ok(())
    }

    #[test]
    fn a_history_is_taken_only_by_a_coupon_shut_under_its_epoch() -> Result<(), Refusal> {
        let restore = parse("EPOCH 4 AFTER 5 CHAIN 50 GRANTS 1 a 1 1")?;
        let mut coupon = available(9, Mode::Queue);
        let mut taken = |epoch, fence: Option<u64>| {
            coupon.epoch = Epoch(epoch);
            coupon.fence = fence.map(Token);
            restore.shut(&coupon).map(|shut| (shut.epoch, shut.fence))
        };
        assert_eq!(taken(4, Some(0)), Ok((Epoch(4), Some(SHUT))));
        for (epoch, fence) in [
            // Opened by hand, and adopted by nobody.
            (0, None),
            (0, Some(0)),
            // Shut under another epoch, by somebody else.
            (3, Some(0)),
            // Open, and fenced by a token of another process.
            (4, Some(7)),
            // Fenced from birth.
            (4, None),
        ] {
            assert_eq!(taken(epoch, fence), Err(Refusal::TryAgain(UNSHUT)), "{epoch} {fence:?}");
        }
        for fence in [None, Some(0), Some(7)] {
            assert_eq!(taken(5, fence), Err(Refusal::StaleEpoch { stored: Epoch(5) }), "{fence:?}");
        }
        Ok(())
    }

    #[test]
    fn grants_stand_before_all_who_wait_and_in_their_order() -> Result<(), Refusal> {
        let restore = history("EPOCH 4 AFTER 0 CHAIN 0 GRANTS 2 a 11 1 b 15 1")?;
        for (waiting, places) in [
            (None, [11, 15]),
            (Some(20.0), [11, 15]),
            (Some(16.0), [11, 15]),
            (Some(15.0), [11, 14]),
            (Some(14.5), [11, 14]),
            (Some(11.0), [9, 10]),
            (Some(2.0), [0, 1]),
            (Some(f64::INFINITY), [11, 15]),
        ] {
            assert_eq!(restore.places(waiting), Ok(places.map(Arrival).to_vec()), "{waiting:?}");
        }
        for waiting in [1.0, 0.0, -5.0] {
            assert!(restore.places(Some(waiting)).is_err(), "{waiting}");
        }
        Ok(())
    }

    #[test]
    fn what_the_ledger_gave_is_persisted() {
        let mut coupon = available(2, Mode::Queue);
        coupon.position.seq = Seq(2);
        let done = finish(coupon.clone(), Some(Arrival(7)));
        assert_eq!((done.status, done.persisted, done.first_at), (Status::Issued, Seq(2), Some(Arrival(7))));
        assert_eq!(done.persisted_to, done.granted_to);
        coupon.granted_to = Some(Cursor { arrival: Arrival(7), user: Some("a".into()) });
        let shared = finish(coupon.clone(), Some(Arrival(7)));
        assert_eq!(
            shared.granted_to,
            Some(Cursor { arrival: Arrival(7), user: None }),
            "b at the same score is granted too"
        );
        coupon.position.seq = Seq(1);
        coupon.status = Status::Issued;
        assert_eq!(finish(coupon, Some(Arrival(7))).status, Status::Available);
    }
}
