//! The status hash against what is known of the coupon: the numbers that the module counts with.

use super::{Finding, Kind};
use crate::model::coupon::Row;
use crate::redis::{Held, Moment};
use coupon_core::coupon::{Coupon, Cursor, Field};
use coupon_core::number::Seq;
use coupon_core::position::Position;

/// What cannot be in the hash, held against where the stream ends, the newest grant in the ledger (read after the hash), and the
/// last of the granted users in the sorted set; none where that is not known.
pub fn judge(held: &Held, stream: Option<Position>, ledger: Option<Seq>, line: Option<&(f64, String)>) -> Vec<Finding> {
    let coupon = match &held.coupon {
        Ok(coupon) => coupon,
        Err(refusal) => return vec![Finding::of_field(Kind::CounterWrong, "hash", refusal.to_string())],
    };
    let mut findings = Vec::new();
    // The stream is believed where it was followed and only one field contradicts it.
    let (hash, mut stream) = (coupon.position, stream.unwrap_or(coupon.position));
    if hash.seq > stream.seq && hash.chain != stream.chain {
        // Both numbers moved on together, as only a grant moves them.
        let (first, last) = (stream.seq.next(), hash.seq);
        let reason = format!("entries {first} to {last} are missing in the :grants key");
        findings.push(Finding::of_grant(Kind::EntryWrong, first, None, reason));
        stream = hash;
    }
    let remaining = coupon.definition.quantity.saturating_sub(stream.seq.0).to_string();
    let persisted = coupon.persisted.min(ledger.unwrap_or(coupon.persisted));
    for (field, is, should_be) in [
        (Field::Seq, hash.seq.to_string(), stream.seq.to_string()),
        (Field::Chain, hash.chain.to_string(), stream.chain.to_string()),
        (Field::Remaining, held.remaining.clone().unwrap_or_else(|| remaining.clone()), remaining),
        (Field::Persisted, coupon.persisted.to_string(), persisted.to_string()),
    ] {
        if is != should_be {
            let reason = format!("{} is {is}, and {should_be} by what was granted", field.name());
            findings.push(Finding::of_field(Kind::CounterWrong, field.name(), reason));
        }
    }
    // What follows from another wrong number is not named too.
    if findings.is_empty()
        && let Some(field) = wrong_cursor(coupon, line)
    {
        let reason = format!("{} covers more or fewer users than it should", field.name());
        findings.push(Finding::of_field(Kind::CounterWrong, field.name(), reason));
    }
    findings
}

/// Whether the ends of a coupon's keys and rows do not fit together; `ledger` is the newest grant there, if the ledger's own end
/// is whole.
pub fn is_odd(row: &Row, ends: &Moment, ledger: Option<Seq>) -> bool {
    let Some(held) = &ends.held else { return false };
    let Ok(coupon) = &held.coupon else { return true };
    let stream = match ends.entries.last() {
        None => Some(Position::default()),
        Some(entry) => entry.grant.as_ref().ok().map(|grant| Position { seq: entry.id.seq, chain: grant.chain }),
    };
    let is_whole = stream.is_some() && ledger.is_some() && ends.members >= coupon.position.seq.0;
    // Under another epoch it is opened, resumed or restored just now.
    coupon.epoch == row.epoch && !(is_whole && judge(held, stream, ledger, None).is_empty())
}

/// The cursors end where the granted and the persisted users do. They are one where all is persisted, and persisted is never
/// more than granted.
fn wrong_cursor(coupon: &Coupon, line: Option<&(f64, String)>) -> Option<Field> {
    let Coupon { granted_to, persisted_to, .. } = coupon;
    let ends_at =
        |to: &Cursor, (score, user): &(f64, String)| to.arrival.score() == *score && to.covers(*score, user.as_bytes());
    let arrival = |cursor: &Option<Cursor>| cursor.as_ref().map(|cursor| cursor.arrival);
    let is_all_persisted = coupon.persisted == coupon.position.seq;
    if line.is_some_and(|last| !granted_to.as_ref().is_some_and(|to| ends_at(to, last))) {
        Some(Field::GrantedTo)
    } else if arrival(persisted_to) > arrival(granted_to) || is_all_persisted && persisted_to != granted_to {
        Some(Field::PersistedTo)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::coupon::Offer;
    use crate::redis::Entry;
    use coupon_core::coupon::Definition;
    use coupon_core::grant::{EntryId, Grant};
    use coupon_core::number::{Arrival, Chain, Epoch};
    use coupon_core::refusal::Refusal;
    use coupon_core::words::{Mode, Status};

    const END: Position = Position { seq: Seq(4), chain: Chain(44) };

    fn field(name: &str) -> Option<&'static [u8]> {
        Some(match name {
            "status" => b"AVAILABLE",
            "quantity" => b"9",
            "epoch" => b"1",
            "seq" => b"4",
            "chain" => b"44",
            "persisted" => b"3",
            "granted_to" => b"40",
            "persisted_to" => b"30",
            _ => return None,
        })
    }

    type Witness<'a> = (Position, u64, Option<&'a (f64, String)>);

    /// What is found where these fields are others than they should be.
    fn found(changes: &[(&str, &'static [u8])], (stream, ledger, line): Witness<'_>) -> Vec<&'static str> {
        let change = |name: &str| changes.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
        let coupon = Coupon::decode(|wanted| change(wanted.name()).or_else(|| field(wanted.name())));
        let remaining = change("remaining").map_or("5".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let held = Held { coupon, remaining: Some(remaining) };
        let findings = judge(&held, Some(stream), Some(Seq(ledger)), line);
        findings.iter().map(|finding| finding.field.unwrap_or("entries")).collect()
    }

    const fn witness(stream: Position, ledger: u64) -> Witness<'static> {
        (stream, ledger, None)
    }

    #[test]
    fn a_sound_hash_has_no_finding() {
        assert!(found(&[], witness(END, 3)).is_empty());
        assert!(found(&[], witness(END, 4)).is_empty(), "the acknowledgement is on its way");
        let level: [(&str, &[u8]); 2] = [("persisted", b"4"), ("persisted_to", b"40")];
        assert!(found(&level, witness(END, 4)).is_empty());
    }

    #[test]
    fn the_field_that_was_changed_is_named_and_no_other() {
        for (name, value) in [
            ("remaining", &b"6"[..]),
            ("remaining", b"many"),
            ("seq", b"5"),
            ("seq", b"3"),
            ("chain", b"45"),
            ("persisted", b"9"),
        ] {
            assert_eq!(found(&[(name, value)], witness(END, 3)), [name], "{name}");
        }
        assert_eq!(found(&[("chain", b"x")], witness(END, 3)), ["hash"]);
    }

    #[test]
    fn several_changed_fields_are_all_named() {
        assert_eq!(found(&[("seq", b"3"), ("remaining", b"1")], witness(END, 3)), ["seq", "remaining"]);
        assert_eq!(found(&[("chain", b"1"), ("persisted", b"7")], witness(END, 3)), ["chain", "persisted"]);
    }

    #[test]
    fn cursors_move_together() {
        let cursors = |changes| found(changes, witness(END, 4));
        assert_eq!(cursors(&[("persisted_to", b"50")]), ["persisted_to"], "more than is granted");
        assert_eq!(cursors(&[("persisted", b"4")]), ["persisted_to"], "all is persisted");
        assert!(cursors(&[("persisted", b"4"), ("persisted_to", b"40")]).is_empty());
    }

    #[test]
    fn the_cursor_ends_with_the_granted_users() {
        let last = (40.0, "f".into());
        let cursors = |value| found(&[("granted_to", value)], (END, 4, Some(&last)));
        for sound in [&b"40"[..], b"40 f"] {
            assert!(cursors(sound).is_empty());
        }
        for wrong in [&b"39"[..], b"40 e", b"41"] {
            assert_eq!(cursors(wrong), ["granted_to"]);
        }
    }

    #[test]
    fn a_stream_that_ends_before_the_hash_has_lost_entries() {
        assert_eq!(found(&[], witness(Position { seq: Seq(3), chain: Chain(33) }, 3)), ["entries"]);
    }

    fn row(epoch: u64) -> Row {
        Row {
            id: "a".into(),
            version: 1,
            offer: Offer {
                status: Status::Available,
                definition: Definition { quantity: 9, mode: Mode::Instant, waitlist: 0, opens_at: 0, expires_at: 0 },
            },
            told: None,
            granted: 3,
            epoch: Epoch(epoch),
            position: Position { seq: Seq(3), chain: Chain(33) },
        }
    }

    fn newest(at: Position) -> Entry {
        let id = EntryId { epoch: Epoch(1), seq: at.seq };
        let grant = Grant { id, user: "u".into(), requested_at: Arrival(40), granted_at_ms: 1, chain: at.chain };
        Entry { id, grant: Ok(grant) }
    }

    fn ends() -> Moment {
        let held = Held { coupon: Coupon::decode(|wanted| field(wanted.name())), remaining: Some("5".into()) };
        Moment { held: Some(held), members: 4, entries: vec![newest(END)] }
    }

    #[test]
    fn ends_that_fit_together_are_not_odd() {
        assert!(!is_odd(&row(1), &ends(), Some(Seq(3))));
        assert!(!is_odd(&row(1), &Moment { members: 90, ..ends() }, Some(Seq(4))), "more wait, and a row came in");
        assert!(!is_odd(&row(1), &Moment { held: None, ..ends() }, None), "its visit says that it is gone");
        assert!(!is_odd(&row(2), &Moment { members: 0, ..ends() }, None), "it is being resumed");
    }

    #[test]
    fn whatever_does_not_fit_is_odd() {
        let remaining = |coupon| Some(Held { coupon, remaining: Some("6".into()) });
        let foreign = Entry { grant: Err("user"), ..newest(END) };
        for (why, odd) in [
            ("a granted user is gone", Moment { members: 3, ..ends() }),
            ("a counter is wrong", Moment { held: ends().held.and_then(|held| remaining(held.coupon)), ..ends() }),
            ("the hash cannot be read", Moment { held: remaining(Err(Refusal::NoCoupon)), ..ends() }),
            ("the newest entry is no grant", Moment { entries: vec![foreign], ..ends() }),
            (
                "the newest entry is gone",
                Moment { entries: vec![newest(Position { seq: Seq(3), chain: Chain(33) })], ..ends() },
            ),
            ("the stream is gone", Moment { entries: vec![], ..ends() }),
        ] {
            assert!(is_odd(&row(1), &odd, Some(Seq(3))), "{why}");
        }
        assert!(is_odd(&row(1), &ends(), None), "the rows do not end at the position");
        assert!(is_odd(&row(1), &ends(), Some(Seq(2))), "what is persisted is no row");
    }
}
