//! What has to be done so that a coupon's row and its state in Redis agree: a table of cases, without any effect.
//!
//! Three words are compared, and no counter is trusted: what the application offers (the row), what Redis was told last (kept
//! beside the position), and what Redis says. Where the row differs from what Redis was told, the application has spoken;
//! where Redis does, somebody has changed it there. The number under which Redis was told says whether it has heard of it at all.

use crate::model::coupon::{Info, Row, is_on_offer};
use coupon_core::words::Status;

/// The next step for a coupon. Each step is followed by another look, until there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Both sides agree, or there is nothing on either.
    Rest,
    /// Opened by hand, or lost by the ledger: it needs a row.
    Adopt,
    /// Redis is not known to be level with the ledger: it is compared under a new epoch, with the gate shut.
    Resume(Publication),
    /// The row is newer than what Redis has.
    Publish(Publication),
    /// Redis was changed by hand, or ended the coupon: the row follows.
    Mirror,
}

/// What Redis has to be told for it to have the row's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// Nothing.
    Nothing,
    /// What the row offers, or that it offers nothing any more.
    Tell,
    /// The row offers less than Redis has granted: first the row's quantity is raised.
    Raise,
}

/// Compares the two sides of a coupon.
pub fn plan(row: Option<&Row>, info: Option<&Info>) -> Plan {
    let (row, info) = match (row, info) {
        (None, None) => return Plan::Rest,
        (None, Some(_)) => return Plan::Adopt,
        (Some(row), None) if is_on_offer(row.offer.status) => return Plan::Resume(Publication::Tell),
        (Some(row), None) if row.is_news() => return Plan::Publish(Publication::Tell),
        (Some(_), None) => return Plan::Rest,
        (Some(row), Some(info)) => (row, info),
    };
    let by_hand = row.epoch.0 == 0 && info.epoch.0 == 0;
    if by_hand && row.told.is_some() && !row.is_news() && !agree(row, info) {
        // Adopted, and changed by hand before it had an epoch.
        return Plan::Mirror;
    }
    if info.fenced || info.epoch != row.epoch || by_hand {
        // After a fence the row counts: what Redis has may be older.
        return Plan::Resume(publication(row, info));
    }
    if row.is_news() {
        return Plan::Publish(publication(row, info));
    }
    match agree(row, info) {
        true => Plan::Rest,
        // It was about to be told, and was not.
        false if info.revision < row.revision() => Plan::Publish(publication(row, info)),
        false => Plan::Mirror,
    }
}

fn publication(row: &Row, info: &Info) -> Publication {
    // Where both say the same by chance, Redis still has to hear the number: else what is changed there by hand later is taken
    // for what it has not heard of.
    if row.offer.is_same(&info.offer) && !row.is_news() && info.revision <= row.revision() {
        Publication::Nothing
    } else if row.offer.status != Status::Expired && row.offer.definition.quantity < info.granted.0 {
        Publication::Raise
    } else {
        Publication::Tell
    }
}

fn agree(row: &Row, info: &Info) -> bool {
    let same_status = match info.offer.status {
        // The row turns ISSUED once the last unit's row is there, a moment after Redis.
        Status::Issued if row.position.seq < info.granted => true,
        Status::Expired => true,
        status => row.offer.status == status,
    };
    same_status && row.offer.is_same(&info.offer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::coupon::{Offer, Told};
    use Status::{Available, Expired, Issued, Standard};
    use coupon_core::coupon::Definition;
    use coupon_core::number::{Chain, Epoch, Seq};
    use coupon_core::position::Position;
    use coupon_core::words::Mode;

    const DEFINITION: Definition =
        Definition { quantity: 5, mode: Mode::Queue, waitlist: 0, opens_at: 0, expires_at: 0 };

    fn offer(status: Status) -> Offer {
        Offer { status, definition: DEFINITION }
    }

    fn of(quantity: u64, status: Status) -> Offer {
        Offer { status, definition: Definition { quantity, ..DEFINITION } }
    }

    /// Published under number 3, at epoch 1, with two grants on both sides.
    fn row(status: Status) -> Row {
        Row {
            id: "a".into(),
            version: 1,
            offer: offer(status),
            told: Some(Told { revision: 3, offer: offer(status) }),
            granted: 2,
            epoch: Epoch(1),
            position: Position { seq: Seq(2), chain: Chain(7) },
        }
    }

    /// The same where the application has changed what is offered.
    fn changed(to: Offer, told: Status) -> Row {
        Row { offer: to, ..row(told) }
    }

    /// Nobody has looked at it yet.
    fn inserted(status: Status) -> Row {
        Row { told: None, epoch: Epoch(0), position: Position::default(), granted: 0, ..row(status) }
    }

    fn info(status: Status) -> Info {
        Info {
            offer: offer(status),
            requested: 2,
            waiting: 0,
            granted: Seq(2),
            persisted: Seq(2),
            epoch: Epoch(1),
            fenced: false,
            revision: 3,
            refused: 0,
        }
    }

    fn step(row: &Row, info: &Info) -> Plan {
        plan(Some(row), Some(info))
    }

    #[test]
    fn what_agrees_is_left_alone() {
        for status in [Available, Issued, Expired, Standard] {
            assert_eq!(step(&row(status), &info(status)), Plan::Rest, "{status}");
        }
        let ahead = Info { granted: Seq(5), ..info(Issued) };
        assert_eq!(step(&row(Available), &ahead), Plan::Rest, "the last rows are on their way");
        let ended = Info { offer: of(9, Expired), ..info(Expired) };
        assert_eq!(step(&row(Expired), &ended), Plan::Rest, "the row holds what comes next");
    }

    #[test]
    fn a_row_on_offer_that_redis_lacks_is_opened_under_a_new_epoch() {
        assert_eq!(plan(Some(&inserted(Available)), None), Plan::Resume(Publication::Tell));
        assert_eq!(plan(Some(&row(Issued)), None), Plan::Resume(Publication::Tell));
    }

    #[test]
    fn a_row_not_on_offer_needs_nothing_from_redis() {
        assert_eq!(plan(Some(&inserted(Standard)), None), Plan::Rest);
        assert_eq!(plan(Some(&row(Standard)), None), Plan::Rest);
        assert_eq!(plan(Some(&row(Expired)), None), Plan::Rest);
        assert_eq!(plan(None, None), Plan::Rest);
        let ended = changed(offer(Expired), Available);
        assert_eq!(plan(Some(&ended), None), Plan::Publish(Publication::Tell), "noted, so that it is not looked for");
    }

    #[test]
    fn a_fence_or_another_epoch_needs_a_new_one_and_the_row_counts() {
        let fenced = Info { fenced: true, ..info(Available) };
        assert_eq!(step(&row(Available), &fenced), Plan::Resume(Publication::Nothing));
        let other = Info { fenced: true, offer: of(9, Available), ..info(Available) };
        assert_eq!(step(&row(Available), &other), Plan::Resume(Publication::Tell));
        assert_eq!(step(&row(Expired), &fenced), Plan::Resume(Publication::Tell));
        let other = Info { epoch: Epoch(2), ..info(Available) };
        assert_eq!(step(&row(Available), &other), Plan::Resume(Publication::Nothing));
    }

    #[test]
    fn a_coupon_opened_by_hand_in_the_place_of_a_lost_one_is_compared() {
        for (status, publication) in [(Available, Publication::Nothing), (Expired, Publication::Tell)] {
            let hand = Info { epoch: Epoch(0), granted: Seq(0), persisted: Seq(0), revision: 0, ..info(status) };
            assert_eq!(step(&row(Available), &hand), Plan::Resume(publication));
        }
    }

    #[test]
    fn a_coupon_opened_by_hand_gets_a_row_then_an_epoch() {
        let hand = Info { epoch: Epoch(0), revision: 0, ..info(Available) };
        assert_eq!(plan(None, Some(&hand)), Plan::Adopt);
        let adopted = Row { told: Some(Told { revision: 0, offer: offer(Available) }), ..inserted(Available) };
        assert_eq!(step(&adopted, &hand), Plan::Resume(Publication::Nothing));
        let raised = Info { offer: of(9, Available), ..hand };
        assert_eq!(step(&adopted, &raised), Plan::Mirror);
        assert_eq!(step(&inserted(Available), &raised), Plan::Resume(Publication::Tell), "the application's word");
        assert_eq!(plan(None, Some(&info(Available))), Plan::Adopt, "lost by the ledger");
    }

    #[test]
    fn what_the_application_changed_is_published() {
        for (row, redis) in [
            (changed(of(6, Available), Issued), Issued),
            (changed(of(6, Issued), Issued), Issued),
            (changed(offer(Expired), Available), Available),
            (changed(offer(Standard), Issued), Issued),
            (changed(offer(Standard), Expired), Expired),
            (changed(of(6, Standard), Standard), Standard),
            (changed(offer(Available), Standard), Standard),
            (changed(offer(Available), Expired), Expired),
            // Both sides were changed in the same way: the number is told.
            (changed(offer(Available), Expired), Available),
        ] {
            assert_eq!(step(&row, &info(redis)), Plan::Publish(Publication::Tell), "{row:?} {redis}");
        }
    }

    #[test]
    fn an_expired_coupon_is_closed_though_nothing_counted_the_change() {
        // An application whose triggers do not fire, or that saved an older object: all that is compared is what is said.
        assert_eq!(step(&changed(offer(Expired), Available), &info(Available)), Plan::Publish(Publication::Tell));
    }

    #[test]
    fn what_redis_has_not_heard_of_is_told_again() {
        let row =
            Row { told: Some(Told { revision: 4, offer: of(6, Available) }), ..changed(of(6, Available), Available) };
        assert_eq!(step(&row, &info(Available)), Plan::Publish(Publication::Tell), "announced, and killed");
        let heard = Info { offer: of(6, Available), ..info(Available) };
        assert_eq!(step(&row, &heard), Plan::Rest, "somebody else said the same by hand");
    }

    #[test]
    fn a_promise_of_redis_is_not_taken_back() {
        for status in [Available, Standard] {
            let lowered = changed(of(1, status), Available);
            assert_eq!(step(&lowered, &info(Available)), Plan::Publish(Publication::Raise), "{status}");
        }
    }

    #[test]
    fn what_was_changed_by_hand_is_mirrored() {
        let definition = Definition { waitlist: 9, ..DEFINITION };
        let waitlist = Info { offer: Offer { status: Available, definition }, ..info(Available) };
        assert_eq!(step(&row(Available), &waitlist), Plan::Mirror);
        assert_eq!(step(&row(Available), &info(Expired)), Plan::Mirror, "the window ended");
        assert_eq!(step(&row(Expired), &info(Available)), Plan::Mirror, "opened again");
        assert_eq!(step(&row(Available), &info(Standard)), Plan::Mirror, "taken off offer");
        assert_eq!(step(&row(Standard), &info(Available)), Plan::Mirror, "put back on offer");
        assert_eq!(step(&row(Standard), &info(Expired)), Plan::Mirror, "ended while it was off offer");
        assert_eq!(step(&row(Issued), &info(Available)), Plan::Mirror, "the quantity was raised");
        assert_eq!(step(&row(Available), &info(Issued)), Plan::Mirror, "all rows are in");
    }
}
