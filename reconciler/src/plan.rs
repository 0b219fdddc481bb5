//! What has to be done so that a coupon's row and its state in Redis agree: a table of cases, without any effect.

use crate::ledger::Row;
use crate::redis::Info;
use coupon_core::words::Status;

/// The next step for a coupon. Each step is followed by another look, until there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Both sides agree, or there is nothing on either.
    Rest,
    /// Opened by hand: it needs a row.
    Adopt,
    /// Redis holds a coupon of a ledger, but this ledger has no row for it.
    Foreign,
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
    /// COUPON.OPEN.
    Open,
    /// COUPON.CLOSE.
    Close,
    /// The row offers less than Redis has granted: first the row's quantity is raised.
    Raise,
}

/// Whether requests can be accepted or their users granted.
pub const fn is_on_offer(status: Status) -> bool {
    matches!(status, Status::Available | Status::Issued)
}

/// Compares the two sides of a coupon.
pub fn plan(row: Option<&Row>, info: Option<&Info>) -> Plan {
    let (row, info) = match (row, info) {
        (None, None) => return Plan::Rest,
        (None, Some(info)) if info.epoch.0 == 0 => return Plan::Adopt,
        (None, Some(_)) => return Plan::Foreign,
        (Some(row), None) if is_on_offer(row.status) => return Plan::Resume(Publication::Open),
        (Some(row), None) if row.is_newer() => return Plan::Publish(Publication::Nothing),
        (Some(_), None) => return Plan::Rest,
        (Some(row), Some(info)) => (row, info),
    };
    let by_hand = row.epoch.0 == 0 && info.epoch.0 == 0;
    if by_hand && !row.is_newer() && !agree(row, info) {
        // Adopted, and changed by hand before it had an epoch.
        return Plan::Mirror;
    }
    if info.fenced || info.epoch != row.epoch || by_hand {
        // After a fence the row counts: what Redis has may be older.
        return Plan::Resume(publication(row, info));
    }
    if row.is_newer() {
        return Plan::Publish(publication(row, info));
    }
    if agree(row, info) { Plan::Rest } else { Plan::Mirror }
}

fn publication(row: &Row, info: &Info) -> Publication {
    let on_offer = is_on_offer(info.status);
    if !is_on_offer(row.status) {
        return if on_offer { Publication::Close } else { Publication::Nothing };
    }
    if row.definition.quantity < info.granted.0 {
        return Publication::Raise;
    }
    if on_offer && row.definition == info.definition { Publication::Nothing } else { Publication::Open }
}

fn agree(row: &Row, info: &Info) -> bool {
    let same_status = match info.status {
        // The row turns ISSUED with the last unit's row, a moment after Redis.
        Status::Issued if row.position.seq < info.granted => is_on_offer(row.status),
        Status::Expired => !is_on_offer(row.status),
        status => row.status == status,
    };
    // What is not on offer may be defined differently: the row holds what comes next.
    same_status && (!is_on_offer(info.status) || row.definition == info.definition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Available, Expired, Issued, Standard};
    use coupon_core::coupon::Definition;
    use coupon_core::number::Chain;
    use coupon_core::number::{Epoch, Seq};
    use coupon_core::position::Position;
    use coupon_core::words::Mode;

    const DEFINITION: Definition =
        Definition { quantity: 5, mode: Mode::Queue, waitlist: 0, opens_at: 0, expires_at: 0 };

    /// Published, at epoch 1, with two grants on both sides.
    fn row(status: Status) -> Row {
        Row {
            id: "a".into(),
            status,
            definition: DEFINITION,
            granted: 2,
            epoch: Epoch(1),
            position: Position { seq: Seq(2), chain: Chain(7) },
            revision: 3,
            published_revision: 3,
        }
    }

    fn newer(status: Status) -> Row {
        Row { revision: 4, ..row(status) }
    }

    fn info(status: Status) -> Info {
        Info {
            status,
            definition: DEFINITION,
            requested: 2,
            waiting: 0,
            granted: Seq(2),
            persisted: Seq(2),
            epoch: Epoch(1),
            fenced: false,
        }
    }

    fn step(row: &Row, info: &Info) -> Plan {
        plan(Some(row), Some(info))
    }

    #[test]
    fn what_agrees_is_left_alone() {
        for (mine, theirs) in
            [(Available, Available), (Issued, Issued), (Expired, Expired), (Standard, Expired), (Standard, Standard)]
        {
            assert_eq!(step(&row(mine), &info(theirs)), Plan::Rest, "{mine} {theirs}");
        }
        let ahead = Info { granted: Seq(5), ..info(Issued) };
        assert_eq!(step(&row(Available), &ahead), Plan::Rest, "the last rows are on their way");
        let ended = Info { definition: Definition { quantity: 9, ..DEFINITION }, ..info(Expired) };
        assert_eq!(step(&row(Expired), &ended), Plan::Rest, "the row holds what comes next");
    }

    #[test]
    fn a_row_on_offer_that_redis_lacks_is_opened_under_a_new_epoch() {
        assert_eq!(plan(Some(&newer(Available)), None), Plan::Resume(Publication::Open));
        assert_eq!(plan(Some(&row(Issued)), None), Plan::Resume(Publication::Open));
    }

    #[test]
    fn a_row_not_on_offer_needs_nothing_from_redis() {
        assert_eq!(plan(Some(&newer(Standard)), None), Plan::Publish(Publication::Nothing));
        assert_eq!(plan(Some(&row(Standard)), None), Plan::Rest);
        assert_eq!(plan(Some(&row(Expired)), None), Plan::Rest);
        assert_eq!(plan(None, None), Plan::Rest);
    }

    #[test]
    fn a_fence_or_another_epoch_needs_a_new_one_and_the_row_counts() {
        let fenced = Info { fenced: true, ..info(Available) };
        assert_eq!(step(&row(Available), &fenced), Plan::Resume(Publication::Nothing));
        let changed = Info { fenced: true, definition: Definition { quantity: 9, ..DEFINITION }, ..info(Available) };
        assert_eq!(step(&row(Available), &changed), Plan::Resume(Publication::Open));
        assert_eq!(step(&row(Expired), &fenced), Plan::Resume(Publication::Close));
        let other = Info { epoch: Epoch(2), ..info(Available) };
        assert_eq!(step(&row(Available), &other), Plan::Resume(Publication::Nothing));
    }

    #[test]
    fn a_coupon_opened_by_hand_in_the_place_of_a_lost_one_is_compared() {
        for (status, publication) in [(Available, Publication::Nothing), (Expired, Publication::Open)] {
            let hand = Info { epoch: Epoch(0), granted: Seq(0), persisted: Seq(0), ..info(status) };
            assert_eq!(step(&row(Available), &hand), Plan::Resume(publication));
            assert_eq!(step(&newer(Available), &hand), Plan::Resume(publication));
        }
    }

    #[test]
    fn a_coupon_opened_by_hand_gets_a_row_then_an_epoch() {
        let hand = Info { epoch: Epoch(0), ..info(Available) };
        assert_eq!(plan(None, Some(&hand)), Plan::Adopt);
        let nothing = Position::default();
        let adopted = Row { epoch: Epoch(0), position: nothing, ..row(Available) };
        assert_eq!(step(&adopted, &hand), Plan::Resume(Publication::Nothing));
        let changed = Info { definition: Definition { quantity: 9, ..DEFINITION }, ..hand };
        assert_eq!(step(&adopted, &changed), Plan::Mirror);
        let inserted = Row { epoch: Epoch(0), position: nothing, ..newer(Available) };
        assert_eq!(step(&inserted, &changed), Plan::Resume(Publication::Open));
        assert_eq!(plan(None, Some(&info(Available))), Plan::Foreign);
    }

    #[test]
    fn a_newer_row_is_published() {
        let bigger = Row { definition: Definition { quantity: 6, ..DEFINITION }, ..newer(Available) };
        assert_eq!(step(&bigger, &info(Issued)), Plan::Publish(Publication::Open));
        assert_eq!(step(&newer(Expired), &info(Available)), Plan::Publish(Publication::Close));
        assert_eq!(step(&newer(Standard), &info(Issued)), Plan::Publish(Publication::Close));
        assert_eq!(step(&newer(Available), &info(Expired)), Plan::Publish(Publication::Open));
        assert_eq!(step(&newer(Available), &info(Available)), Plan::Publish(Publication::Nothing));
    }

    #[test]
    fn a_promise_of_redis_is_not_taken_back() {
        let smaller = Row { definition: Definition { quantity: 1, ..DEFINITION }, ..newer(Available) };
        assert_eq!(step(&smaller, &info(Available)), Plan::Publish(Publication::Raise));
    }

    #[test]
    fn what_was_changed_by_hand_is_mirrored() {
        let changed = Info { definition: Definition { waitlist: 9, ..DEFINITION }, ..info(Available) };
        assert_eq!(step(&row(Available), &changed), Plan::Mirror);
        assert_eq!(step(&row(Available), &info(Expired)), Plan::Mirror, "the window ended");
        assert_eq!(step(&row(Expired), &info(Available)), Plan::Mirror, "opened again");
        assert_eq!(step(&row(Issued), &info(Available)), Plan::Mirror, "the quantity was raised");
        assert_eq!(step(&row(Available), &info(Issued)), Plan::Mirror, "all rows are in");
    }
}
