//! COUPON.CLOSE: the end of a coupon, which needs no open gate: to end is always safe.

use crate::coupon::Coupon;
use crate::limit::{NUMBER_MAX, REVISION_MAX};
use crate::number::{Epoch, Revision};
use crate::open::option::{EPOCH, REVISION};
use crate::options::{Options, set_once};
use crate::refusal::Refusal;
use crate::words::Status;

/// The arguments after the key: none by hand, both from the reconciler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
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
        let mut call = Self::default();
        while let Some(name) = options.next_name(&[EPOCH, REVISION])? {
            match name {
                EPOCH => set_once(&mut call.epoch, name, Epoch(options.number(name, 1..=NUMBER_MAX)?))?,
                _ => set_once(&mut call.revision, name, Revision(options.number(name, 1..=REVISION_MAX)?))?,
            }
        }
        let missing = match (call.epoch, call.revision) {
            (None, Some(_)) => EPOCH,
            (Some(_), None) => REVISION,
            _ => return Ok(call),
        };
        Err(Refusal::usage(format!("option {missing} is missing: the reconciler gives both, a person neither")))
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
/// As [`Coupon::follow`].
pub fn decide(existing: &Coupon, call: Call) -> Result<Coupon, Refusal> {
    let mut coupon = Coupon { status: Status::Expired, ..existing.clone() };
    coupon.follow(call.epoch, call.revision)?;
    Ok(coupon)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::tests::available;
    use crate::words::Mode;

    fn parse(text: &str) -> Result<Call, Refusal> {
        Call::parse(text.split_whitespace().map(str::as_bytes))
    }

    #[test]
    fn the_reconciler_gives_both_options_and_a_person_neither() -> Result<(), Refusal> {
        assert!(parse("")?.is_by_hand());
        assert!(!parse("REVISION 9007199254740991 epoch 1")?.is_by_hand());
        for bad in [
            "now",
            "EPOCH",
            "EPOCH 1",
            "REVISION 1",
            "EPOCH 0 REVISION 1",
            "EPOCH 1 REVISION 0",
            "EPOCH 1 REVISION 9007199254740992",
            "EPOCH 1 REVISION 1 EPOCH 1",
        ] {
            assert!(matches!(parse(bad), Err(Refusal::Usage(_))), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn all_but_the_status_and_the_revision_is_left() -> Result<(), Refusal> {
        let mut coupon = available(5, Mode::Queue);
        (coupon.epoch, coupon.revision) = (Epoch(3), Revision(7));
        let close = |text| decide(&coupon, parse(text)?);
        let closed = Coupon { status: Status::Expired, ..coupon.clone() };
        assert_eq!(close("")?, closed);
        assert_eq!(close("EPOCH 3 REVISION 7")?, closed);
        assert_eq!(close("EPOCH 4 REVISION 8")?, Coupon { revision: Revision(8), ..closed });
        let stale = Refusal::StaleRevision { given: Revision(6), stored: Revision(7) };
        assert_eq!(close("EPOCH 3 REVISION 6"), Err(stale));
        assert_eq!(close("EPOCH 2 REVISION 8"), Err(Refusal::StaleEpoch { stored: Epoch(3) }));
        Ok(())
    }
}
