//! The status hash against what is proved: the numbers that the module counts with.

use super::finding::Finding;
use super::kind::Kind;
use crate::redis::Held;
use coupon_core::coupon::{Coupon, Cursor, Field};
use coupon_core::number::Seq;
use coupon_core::position::Position;

/// What the hash is held against.
#[derive(Debug, Clone, Copy)]
pub struct Witness<'a> {
    /// Where the stream ends, followed from the ledger on; none if that is not known.
    pub stream: Option<Position>,
    /// The newest grant in the ledger, read after the hash.
    pub ledger: Seq,
    /// The hash.
    pub held: &'a Held,
}

/// What the hash cannot be, and whether it says where the coupon stands.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// Whether what it says of grants and rows is right, so that its cursors can be judged too.
    pub is_at_its_place: bool,
    /// Grants that the hash counts and the stream has lost: the first and the last.
    pub lost: Option<(Seq, Seq)>,
}

/// Judges the hash. A number that follows from another wrong one is not named too.
pub fn judge(witness: Witness<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let coupon = match &witness.held.coupon {
        Ok(coupon) => coupon,
        Err(refusal) => {
            verdict.findings.push(Finding::of_field(Kind::CounterWrong, "hash", refusal.to_string()));
            return verdict;
        }
    };
    let truth = position(coupon, witness.stream, &mut verdict);
    let mut wrong = |field: Field, reason: String| {
        verdict.findings.push(Finding::of_field(Kind::CounterWrong, field.name(), reason));
    };
    let remaining = coupon.definition.quantity.saturating_sub(truth.seq.0);
    if let Some(stored) = &witness.held.remaining
        && stored.parse() != Ok(remaining)
    {
        wrong(Field::Remaining, format!("remaining is {stored}, and quantity less what is granted is {remaining}"));
    }
    if coupon.persisted > witness.ledger {
        let (persisted, ledger) = (coupon.persisted, witness.ledger);
        wrong(Field::Persisted, format!("persisted is {persisted}, and the ledger ends at seq {ledger}"));
    } else {
        verdict.is_at_its_place = truth == coupon.position && verdict.lost.is_none();
    }
    verdict
}

/// Where the coupon stands. The stream is believed where it was followed and only one field contradicts it.
fn position(coupon: &Coupon, stream: Option<Position>, verdict: &mut Verdict) -> Position {
    let hash = coupon.position;
    let Some(stream) = stream.filter(|stream| *stream != hash) else { return hash };
    let wrong = |field: Field, is: String, is_not: String| {
        let reason = format!("{} is {is}, and the newest grant has {is_not}", field.name());
        Finding::of_field(Kind::CounterWrong, field.name(), reason)
    };
    if hash.seq == stream.seq {
        verdict.findings.push(wrong(Field::Chain, hash.chain.to_string(), stream.chain.to_string()));
    } else if hash.chain == stream.chain || hash.seq < stream.seq {
        verdict.findings.push(wrong(Field::Seq, hash.seq.to_string(), stream.seq.to_string()));
    } else {
        // Both moved on together, as only a grant moves them.
        verdict.lost = Some((stream.seq.next(), hash.seq));
        return hash;
    }
    stream
}

/// Whether the two cursors fit together: they are one where all is persisted, and persisted is never more than granted.
pub fn cursors_fit(coupon: &Coupon) -> bool {
    let arrival = |cursor: &Option<Cursor>| cursor.as_ref().map(|cursor| cursor.arrival);
    if coupon.persisted == coupon.position.seq {
        coupon.persisted_to == coupon.granted_to
    } else {
        arrival(&coupon.persisted_to) <= arrival(&coupon.granted_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coupon_core::number::Arrival;
    use coupon_core::number::Chain;
    use coupon_core::refusal::Refusal;

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

    /// What is found where these fields are others than they should be, and which grants are lost.
    fn judged(changes: &[(&str, &'static [u8])], stream: Position, ledger: u64) -> (Vec<&'static str>, bool) {
        let change = |name: &str| changes.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
        let coupon = Coupon::decode(|wanted| change(wanted.name()).or_else(|| field(wanted.name())));
        let remaining = change("remaining").map_or("5".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let held = Held { coupon, remaining: Some(remaining) };
        let verdict = judge(Witness { stream: Some(stream), ledger: Seq(ledger), held: &held });
        (verdict.findings.iter().filter_map(|finding| finding.field).collect(), verdict.lost.is_some())
    }

    #[test]
    fn a_sound_hash_has_no_finding() {
        assert_eq!(judged(&[], END, 3), (vec![], false));
        assert_eq!(judged(&[], END, 4), (vec![], false), "the acknowledgement is on its way");
        let level: [(&str, &[u8]); 2] = [("persisted", b"4"), ("persisted_to", b"40")];
        assert_eq!(judged(&level, END, 4), (vec![], false));
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
            assert_eq!(judged(&[(name, value)], END, 3), (vec![name], false), "{name}");
        }
        assert_eq!(judged(&[("chain", b"x")], END, 3), (vec!["hash"], false));
    }

    #[test]
    fn several_changed_fields_are_all_named() {
        assert_eq!(judged(&[("seq", b"3"), ("remaining", b"1")], END, 3), (vec!["seq", "remaining"], false));
        assert_eq!(judged(&[("chain", b"1"), ("persisted", b"7")], END, 3), (vec!["chain", "persisted"], false));
    }

    #[test]
    fn cursors_move_together() -> Result<(), Refusal> {
        let mut coupon = Coupon::decode(|wanted| field(wanted.name()))?;
        assert!(cursors_fit(&coupon));
        coupon.persisted_to = Some(Cursor { arrival: Arrival(50), user: None });
        assert!(!cursors_fit(&coupon), "more than is granted");
        coupon.persisted = Seq(4);
        assert!(!cursors_fit(&coupon), "all is persisted");
        coupon.persisted_to = coupon.granted_to.clone();
        assert!(cursors_fit(&coupon));
        Ok(())
    }

    #[test]
    fn a_stream_that_ends_before_the_hash_has_lost_entries() {
        assert_eq!(judged(&[], Position { seq: Seq(3), chain: Chain(33) }, 3), (vec![], true));
    }
}
