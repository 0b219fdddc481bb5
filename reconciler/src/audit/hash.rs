//! The status hash against what is known of the coupon: the numbers that the module counts with.

use super::finding::Finding;
use super::kind::Kind;
use super::line::is_within;
use crate::model::coupon::Row;
use crate::redis::{Ends, Held};
use coupon_core::coupon::{Coupon, Cursor, Field};
use coupon_core::number::Seq;
use coupon_core::position::Position;

/// What the hash is held against.
#[derive(Debug, Clone, Copy)]
pub struct Witness<'a> {
    /// Where the stream ends; none if that is not known.
    pub stream: Option<Position>,
    /// The newest grant in the ledger, read after the hash; none if that is not known.
    pub ledger: Option<Seq>,
    /// Where the granted users end in the sorted set; none if that is not known.
    pub line: Option<&'a Cursor>,
}

/// What cannot be in the hash. A number that follows from another wrong one is not named too.
pub fn judge(held: &Held, witness: Witness<'_>) -> Vec<Finding> {
    let coupon = match &held.coupon {
        Ok(coupon) => coupon,
        Err(refusal) => return vec![Finding::of_field(Kind::CounterWrong, "hash", refusal.to_string())],
    };
    let mut findings = Vec::new();
    // The stream is believed where it was followed and only one field contradicts it.
    let (hash, mut stream) = (coupon.position, witness.stream.unwrap_or(coupon.position));
    if hash.seq > stream.seq && hash.chain != stream.chain {
        // Both numbers moved on together, as only a grant moves them.
        let (first, last) = (stream.seq.next(), hash.seq);
        let reason = format!("entries {first} to {last} are missing in the :grants key");
        findings.push(Finding::of_grant(Kind::EntryWrong, first, None, reason));
        stream = hash;
    }
    let mut wrong = |field: Field, reason: String| {
        findings.push(Finding::of_field(Kind::CounterWrong, field.name(), format!("{} {reason}", field.name())));
    };
    if hash.seq != stream.seq {
        wrong(Field::Seq, format!("is {}, and the newest grant has {}", hash.seq, stream.seq));
    } else if hash.chain != stream.chain {
        wrong(Field::Chain, format!("is {}, and the newest grant has {}", hash.chain, stream.chain));
    }
    let remaining = coupon.definition.quantity.saturating_sub(stream.seq.0);
    if let Some(stored) = &held.remaining
        && stored.parse() != Ok(remaining)
    {
        wrong(Field::Remaining, format!("is {stored}, and quantity less what is granted is {remaining}"));
    }
    if let Some(ledger) = witness.ledger.filter(|ledger| coupon.persisted > *ledger) {
        wrong(Field::Persisted, format!("is {}, and the ledger ends at seq {ledger}", coupon.persisted));
    }
    if findings.is_empty()
        && let Some((field, reason)) = wrong_cursor(coupon, witness.line)
    {
        findings.push(Finding::of_field(Kind::CounterWrong, field.name(), format!("{} {reason}", field.name())));
    }
    findings
}

/// Whether the ends of a coupon's keys and rows do not fit together; `ledger` is the newest grant there, if the ledger's own end
/// is whole.
pub fn is_odd(row: &Row, ends: &Ends, ledger: Option<Seq>) -> bool {
    let Some(held) = &ends.held else { return false };
    let Ok(coupon) = &held.coupon else { return true };
    let stream = match &ends.newest {
        None => Some(Position::default()),
        Some(entry) => entry.grant.as_ref().ok().map(|grant| Position { seq: entry.id.seq, chain: grant.chain }),
    };
    let is_whole = stream.is_some() && ledger.is_some() && ends.members >= coupon.position.seq.0;
    // Under another epoch it is opened, resumed or restored just now.
    coupon.epoch == row.epoch && !(is_whole && judge(held, Witness { stream, ledger, line: None }).is_empty())
}

/// The cursors end where the granted and the persisted users do. They are one where all is persisted, and persisted is never
/// more than granted.
fn wrong_cursor(coupon: &Coupon, line: Option<&Cursor>) -> Option<(Field, &'static str)> {
    let (granted, persisted) = (&coupon.granted_to, &coupon.persisted_to);
    let ends_at = |end: &Cursor, to: &Cursor| {
        let member = end.user.as_deref().unwrap_or_default();
        to.arrival <= end.arrival && is_within(to, member.as_bytes(), end.arrival.score())
    };
    if line.is_some_and(|end| !granted.as_ref().is_some_and(|to| ends_at(end, to))) {
        return Some((Field::GrantedTo, "does not end where the granted users do"));
    }
    let arrival = |cursor: &Option<Cursor>| cursor.as_ref().map(|cursor| cursor.arrival);
    let fits = if coupon.persisted == coupon.position.seq {
        persisted == granted
    } else {
        arrival(persisted) <= arrival(granted)
    };
    (!fits).then_some((Field::PersistedTo, "covers others than those who are persisted"))
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

    /// What is found where these fields are others than they should be.
    fn found(changes: &[(&str, &'static [u8])], witness: Witness<'_>) -> Vec<&'static str> {
        let change = |name: &str| changes.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
        let coupon = Coupon::decode(|wanted| change(wanted.name()).or_else(|| field(wanted.name())));
        let remaining = change("remaining").map_or("5".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let held = Held { coupon, remaining: Some(remaining) };
        judge(&held, witness).iter().map(|finding| finding.field.unwrap_or("entries")).collect()
    }

    const fn witness(stream: Position, ledger: u64) -> Witness<'static> {
        Witness { stream: Some(stream), ledger: Some(Seq(ledger)), line: None }
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
        let end = Cursor { arrival: Arrival(40), user: Some("f".into()) };
        let cursors = |value| found(&[("granted_to", value)], Witness { line: Some(&end), ..witness(END, 4) });
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

    fn ends() -> Ends {
        let held = Held { coupon: Coupon::decode(|wanted| field(wanted.name())), remaining: Some("5".into()) };
        Ends { held: Some(held), members: 4, newest: Some(newest(END)) }
    }

    #[test]
    fn ends_that_fit_together_are_not_odd() {
        assert!(!is_odd(&row(1), &ends(), Some(Seq(3))));
        assert!(!is_odd(&row(1), &Ends { members: 90, ..ends() }, Some(Seq(4))), "more wait, and a row came in");
        assert!(!is_odd(&row(1), &Ends { held: None, ..ends() }, None), "its visit says that it is gone");
        assert!(!is_odd(&row(2), &Ends { members: 0, ..ends() }, None), "it is being resumed");
    }

    #[test]
    fn whatever_does_not_fit_is_odd() {
        let remaining = |coupon| Some(Held { coupon, remaining: Some("6".into()) });
        let foreign = Entry { grant: Err("user"), ..newest(END) };
        for (why, odd) in [
            ("a granted user is gone", Ends { members: 3, ..ends() }),
            ("a counter is wrong", Ends { held: ends().held.and_then(|held| remaining(held.coupon)), ..ends() }),
            ("the hash cannot be read", Ends { held: remaining(Err(Refusal::NoCoupon)), ..ends() }),
            ("the newest entry is no grant", Ends { newest: Some(foreign), ..ends() }),
            (
                "the newest entry is gone",
                Ends { newest: Some(newest(Position { seq: Seq(3), chain: Chain(33) })), ..ends() },
            ),
            ("the stream is gone", Ends { newest: None, ..ends() }),
        ] {
            assert!(is_odd(&row(1), &odd, Some(Seq(3))), "{why}");
        }
        assert!(is_odd(&row(1), &ends(), None), "the rows do not end at the position");
        assert!(is_odd(&row(1), &ends(), Some(Seq(2))), "what is persisted is no row");
    }
}
