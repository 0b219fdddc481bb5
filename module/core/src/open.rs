//! COUPON.OPEN: the upsert of a definition, which never touches who was granted.

use crate::coupon::{Companion, Coupon, Definition};
use crate::limit::{NUMBER_MAX, QUANTITY_MAX, REVISION_MAX};
use crate::number::{Epoch, Now, Revision, Seq};
use crate::options::{Options, set_once};
use crate::position::Position;
use crate::refusal::{Refusal, quote};
use crate::window;
use crate::words::{Mode, Status};

/// Names of the options; the reconciler writes them, the module reads them.
pub mod option {
    /// Units in all.
    pub const QUANTITY: &str = "QUANTITY";
    /// STANDARD or AVAILABLE: off offer for now, or on.
    pub const STATUS: &str = "STATUS";
    /// QUEUE or INSTANT.
    pub const MODE: &str = "MODE";
    /// Users who may wait beyond the quantity.
    pub const WAITLIST: &str = "WAITLIST";
    /// When requests begin, Unix milliseconds.
    pub const OPENS: &str = "OPENS";
    /// When requests end, Unix milliseconds.
    pub const EXPIRES: &str = "EXPIRES";
    /// The ledger's epoch: the reconciler is calling.
    pub const EPOCH: &str = "EPOCH";
    /// The number of the reconciler's definition.
    pub const REVISION: &str = "REVISION";
    /// All of them.
    pub const ALL: [&str; 8] = [QUANTITY, STATUS, MODE, WAITLIST, OPENS, EXPIRES, EPOCH, REVISION];
}

/// The arguments after the key. What is left out stays as it is, or takes its default in a new coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    quantity: u64,
    is_paused: Option<bool>,
    mode: Option<Mode>,
    waitlist: Option<u64>,
    opens_at: Option<u64>,
    expires_at: Option<u64>,
    epoch: Option<Epoch>,
    revision: Option<Revision>,
}

impl Call {
    /// Reads the arguments after the key.
    ///
    /// # Errors
    /// [`Refusal::Usage`].
    pub fn parse<'a>(rest: impl Iterator<Item = &'a [u8]>) -> Result<Self, Refusal> {
        let mut options = Options::new(rest);
        let (mut quantity, mut call) = (None, Self::default());
        while let Some(name) = options.next_name(&option::ALL)? {
            match name {
                option::QUANTITY => set_once(&mut quantity, name, options.number(name, 1..=QUANTITY_MAX)?)?,
                option::STATUS => {
                    let value = options.value(name)?;
                    let is_paused = match Status::parse(value) {
                        Some(Status::Standard) => true,
                        Some(Status::Available) => false,
                        _ => {
                            let given = quote(value);
                            return Err(Refusal::usage(format!(
                                "STATUS is STANDARD (off offer for now) or AVAILABLE, not {given}; COUPON.CLOSE ends a coupon"
                            )));
                        }
                    };
                    set_once(&mut call.is_paused, name, is_paused)?;
                }
                option::WAITLIST => set_once(&mut call.waitlist, name, options.number(name, 0..=QUANTITY_MAX)?)?,
                option::OPENS => set_once(&mut call.opens_at, name, window::parse(name, options.value(name)?)?)?,
                option::EXPIRES => set_once(&mut call.expires_at, name, window::parse(name, options.value(name)?)?)?,
                option::EPOCH => set_once(&mut call.epoch, name, Epoch(options.number(name, 1..=NUMBER_MAX)?))?,
                option::REVISION => {
                    set_once(&mut call.revision, name, Revision(options.number(name, 1..=REVISION_MAX)?))?;
                }
                _ => {
                    let value = options.value(name)?;
                    let mode = Mode::parse(value)
                        .ok_or_else(|| Refusal::usage(format!("MODE is QUEUE or INSTANT, not {}", quote(value))))?;
                    set_once(&mut call.mode, name, mode)?;
                }
            }
        }
        if call.revision.is_some() && call.is_by_hand() {
            return Err(Refusal::usage("option EPOCH is missing: REVISION is the reconciler's, and goes with it"));
        }
        call.quantity =
            quantity.ok_or_else(|| Refusal::usage("option QUANTITY is missing: how many units are there?"))?;
        Ok(call)
    }

    /// Whether a person calls, not the reconciler: then the reconciler has to hear of it.
    #[must_use]
    pub const fn is_by_hand(&self) -> bool {
        self.epoch.is_none()
    }
}

/// Decides what the status hash becomes.
///
/// # Errors
/// [`Refusal::Usage`] if less is offered than granted or the window is empty; as [`Coupon::follow`];
/// [`Refusal::TryAgain`] if the hash is gone although units were granted under this key.
pub fn decide(existing: Option<&Coupon>, call: Call, grants: Companion, now: Now) -> Result<Coupon, Refusal> {
    let mut coupon = match existing {
        Some(coupon) => coupon.clone(),
        None => born(call, grants)?,
    };
    // EPOCH says who calls. It is stored at birth; later only RESUME raises it.
    coupon.follow(call.epoch, call.revision)?;
    let old = coupon.definition;
    coupon.definition = Definition {
        quantity: call.quantity,
        mode: call.mode.unwrap_or(old.mode),
        waitlist: call.waitlist.unwrap_or(old.waitlist),
        opens_at: call.opens_at.unwrap_or(old.opens_at),
        expires_at: call.expires_at.unwrap_or(old.expires_at),
    };
    let Definition { quantity, opens_at, expires_at, .. } = coupon.definition;
    if quantity < coupon.position.seq.0 {
        return Err(Refusal::usage(format!(
            "QUANTITY {quantity} is below the {} units that are granted already",
            coupon.position.seq
        )));
    }
    if expires_at > 0 && expires_at <= opens_at {
        return Err(Refusal::usage(format!("EXPIRES {expires_at} is not after OPENS {opens_at}")));
    }
    let is_paused = call.is_paused.unwrap_or(coupon.status == Status::Standard);
    coupon.status = match coupon.status {
        _ if is_paused => Status::Standard,
        _ if coupon.remaining() == 0 => Status::Issued,
        // The same definition published again must not wake a coupon that its window has ended.
        Status::Expired if coupon.has_ended(now) => Status::Expired,
        _ => Status::Available,
    };
    Ok(coupon)
}

fn born(call: Call, grants: Companion) -> Result<Coupon, Refusal> {
    // Fenced from birth, it can be restored before anything is granted; without a fence it would start over.
    if call.is_by_hand() && !grants.is_empty() {
        return Err(Refusal::TryAgain(
            "the :grants key holds grants of an earlier life of this coupon; let the reconciler restore it, or DEL the :grants and :issued keys to start anew",
        ));
    }
    Ok(Coupon {
        status: Status::Available,
        definition: Definition { quantity: call.quantity, mode: Mode::Queue, waitlist: 0, opens_at: 0, expires_at: 0 },
        epoch: call.epoch.unwrap_or_default(),
        position: Position::default(),
        persisted: Seq::default(),
        fence: None,
        first_at: None,
        granted_to: None,
        persisted_to: None,
        refused: 0,
        revision: Revision::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::tests::{available, now};

    fn parse(text: &str) -> Result<Call, Refusal> {
        Call::parse(text.split_whitespace().map(str::as_bytes))
    }

    fn open(existing: Option<&Coupon>, text: &str, at_ms: u64) -> Result<Coupon, Refusal> {
        decide(existing, parse(text)?, Companion::Missing, now(at_ms))
    }

    #[test]
    fn options_come_in_any_order_and_once() {
        assert_eq!(parse("mode instant QUANTITY 5"), parse("quantity 5 MODE INSTANT"));
        for bad in [
            "",
            "QUANTITY",
            "QUANTITY 0",
            "QUANTITY -1",
            "QUANTITY 1000000001",
            "QUANTITY 99999999999999999999999",
            "QUANTITY 5 QUANTITY 5",
            "QUANTITY 5 MODE LATER",
            "QUANTITY 5 STATUS EXPIRED",
            "QUANTITY 5 STATUS STANDARD STATUS AVAILABLE",
            "QUANTITY 5 COLOUR red",
            "MODE QUEUE",
            "QUANTITY 5 EPOCH 0",
            "QUANTITY 5 REVISION 1",
            "QUANTITY 5 EPOCH 1 REVISION 0",
            "QUANTITY 5 EPOCH 1 REVISION 9007199254740992",
            "QUANTITY 5 EPOCH 1 REVISION 1 REVISION 2",
            "QUANTITY 5 EXPIRES 253402300800000",
            "QUANTITY 5 OPENS 1700000000",
            "QUANTITY 5 EXPIRES 1700000000",
            "QUANTITY 5 WAITLIST 1.5",
        ] {
            assert!(matches!(parse(bad), Err(Refusal::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn the_same_call_twice_changes_nothing() -> Result<(), Refusal> {
        let call = "QUANTITY 5 MODE INSTANT WAITLIST 2 OPENS 1700000000000 EXPIRES 1700000000010 EPOCH 3 REVISION 4";
        let first = open(None, call, 1)?;
        assert_eq!(first.changes_from(None).count(), 13);
        let second = open(Some(&first), call, 1_700_000_000_020)?;
        assert_eq!(second.changes_from(Some(&first)).count(), 0);
        Ok(())
    }

    #[test]
    fn what_is_left_out_stays() -> Result<(), Refusal> {
        let first = open(None, "QUANTITY 5 MODE INSTANT WAITLIST 2", 1)?;
        let second = open(Some(&first), "QUANTITY 9", 1)?;
        assert_eq!(second.definition, Definition { quantity: 9, ..first.definition });
        assert_eq!(second.changes_from(Some(&first)).count(), 2, "quantity and remaining");
        Ok(())
    }

    #[test]
    fn quantity_never_falls_below_what_is_granted() -> Result<(), Refusal> {
        let mut coupon = available(5, Mode::Queue);
        coupon.position.seq = Seq(3);
        assert!(open(Some(&coupon), "QUANTITY 2", 1).is_err());
        assert_eq!(open(Some(&coupon), "QUANTITY 3", 1)?.status, Status::Issued);
        coupon.status = Status::Issued;
        assert_eq!(open(Some(&coupon), "QUANTITY 4", 1)?.status, Status::Available);
        Ok(())
    }

    #[test]
    fn an_ended_coupon_wakes_only_with_a_window_that_is_open() -> Result<(), Refusal> {
        const END: u64 = 1_700_000_000_000;
        let mut coupon = available(5, Mode::Queue);
        coupon.definition.expires_at = END;
        coupon.status = Status::Expired;
        let later = END + 10;
        assert_eq!(open(Some(&coupon), "QUANTITY 5", END)?.status, Status::Expired);
        assert_eq!(open(Some(&coupon), &format!("QUANTITY 5 EXPIRES {later}"), END)?.status, Status::Available);
        assert!(open(Some(&coupon), &format!("QUANTITY 5 OPENS {later}"), END).is_err(), "an empty window");
        Ok(())
    }

    #[test]
    fn a_coupon_off_offer_stays_so_until_it_is_told_otherwise() -> Result<(), Refusal> {
        let paused = open(None, "QUANTITY 5 STATUS standard", 1)?;
        assert_eq!(paused.status, Status::Standard, "from birth");
        assert_eq!(open(Some(&paused), "QUANTITY 6", 1)?.status, Status::Standard, "a definition says nothing of it");
        assert_eq!(open(Some(&paused), "QUANTITY 5 STATUS AVAILABLE", 1)?.status, Status::Available);
        let mut coupon = available(5, Mode::Queue);
        coupon.position.seq = Seq(5);
        for status in [Status::Available, Status::Issued, Status::Expired] {
            coupon.status = status;
            let paused = open(Some(&coupon), "QUANTITY 5 STATUS STANDARD", 1)?;
            assert_eq!(paused, Coupon { status: Status::Standard, ..coupon.clone() }, "{status}: all else is left");
            assert_eq!(open(Some(&paused), "QUANTITY 5 STATUS AVAILABLE", 1)?.status, Status::Issued);
        }
        coupon.definition.expires_at = 1_700_000_000_000;
        let late = open(Some(&coupon), "QUANTITY 9 STATUS AVAILABLE", 1_700_000_000_000)?;
        assert_eq!(late.status, Status::Expired, "its window has ended it");
        Ok(())
    }

    #[test]
    fn epoch_is_stored_at_birth_and_checked_later() -> Result<(), Refusal> {
        let coupon = open(None, "QUANTITY 5 EPOCH 3", 1)?;
        assert_eq!(coupon.epoch, Epoch(3));
        assert_eq!(open(Some(&coupon), "QUANTITY 5 EPOCH 2", 1), Err(Refusal::StaleEpoch { stored: Epoch(3) }));
        assert_eq!(open(Some(&coupon), "QUANTITY 5 EPOCH 4", 1)?.epoch, Epoch(3));
        Ok(())
    }

    #[test]
    fn an_older_definition_never_takes_the_place_of_a_newer_one() -> Result<(), Refusal> {
        let first = open(None, "QUANTITY 5 EPOCH 3 REVISION 7", 1)?;
        assert_eq!(first.revision, Revision(7));
        let stale = Refusal::StaleRevision { given: Revision(6), stored: Revision(7) };
        assert_eq!(open(Some(&first), "QUANTITY 9 EPOCH 3 REVISION 6", 1), Err(stale));
        // Defined by hand meanwhile, or by who does not count: the number stays, and is asked for as before.
        for unnumbered in ["QUANTITY 9", "QUANTITY 9 EPOCH 3"] {
            let second = open(Some(&first), unnumbered, 1)?;
            assert_eq!((second.definition.quantity, second.revision), (9, Revision(7)), "{unnumbered}");
        }
        let third = open(Some(&first), "QUANTITY 5 EPOCH 3 REVISION 8", 1)?;
        assert_eq!(third, Coupon { revision: Revision(8), ..first.clone() });
        assert_eq!(third.definition, first.definition, "the number is no part of it");
        Ok(())
    }

    #[test]
    fn a_coupon_that_lost_its_hash_does_not_start_over() {
        let call = |text| parse(text).and_then(|call| decide(None, call, Companion::Holds(1), now(1)));
        assert!(matches!(call("QUANTITY 5"), Err(Refusal::TryAgain(_))));
        assert!(call("QUANTITY 5 EPOCH 1").is_ok(), "fenced from birth");
    }
}
