//! The stream from the ledger's position on: every entry has to follow the one before it.

use super::finding::{Finding, Report};
use super::kind::Kind;
use super::trace::{Stored, Trace};
use crate::model::grant::Link;
use crate::redis::Entry;
use coupon_core::coupon::Coupon;
use coupon_core::grant::Grant;
use coupon_core::number::Seq;
use coupon_core::position::Position;

/// The stream from the ledger's position on.
pub struct Tail {
    basis: Position,
    /// The ledger's newest grant, if it is as it should be.
    newest: Option<Link>,
    trace: Trace,
    has_begun: bool,
    has_basis: bool,
}

impl Tail {
    /// From the ledger's end on; `newest` is its newest grant, if that is as it should be.
    pub fn new(basis: Position, newest: Option<Link>) -> Self {
        let newest = newest.filter(|link| link.seq == basis.seq);
        Self { basis, newest, trace: Trace::at(basis), has_begun: false, has_basis: false }
    }

    /// Where the stream ends, as far as it could be followed.
    pub fn position(&self) -> Option<Position> {
        let [chain] = self.trace.tails() else { return None };
        Some(Position { seq: self.trace.seq(), chain: *chain })
    }

    /// Takes a page, and the hash of its moment; hands out the grants that follow.
    pub fn take<'e>(&mut self, entries: &'e [Entry], coupon: Option<&Coupon>, report: &mut Report) -> Vec<&'e Grant> {
        let mut following = Vec::new();
        for entry in entries {
            let seq = entry.id.seq;
            if seq < self.basis.seq && !self.has_begun {
                continue;
            }
            self.has_begun = true;
            let grant = entry.grant.as_ref();
            let user = || grant.ok().map(|grant| grant.user.clone());
            if seq == self.basis.seq && !self.has_basis && seq.0 > 0 {
                self.has_basis = true;
                self.compare_basis(entry, report);
                continue;
            }
            let counted = coupon.is_none_or(|coupon| seq <= coupon.position.seq);
            let follows = seq == self.trace.seq().next()
                && grant.is_ok_and(|grant| self.trace.is_followed_by(&Stored::from(grant)));
            if seq <= self.trace.seq() || !(counted || follows) {
                let reason = format!("entry {} is no grant of this coupon", entry.id);
                report.add(Finding::of_grant(Kind::EntryWrong, seq, user(), reason));
                continue;
            }
            if seq > self.trace.seq().next() {
                self.miss(seq, coupon, report);
            }
            match grant {
                Ok(grant) if self.trace.follow(&Stored::from(grant)) => following.push(grant),
                Ok(grant) => {
                    let reason = format!("entry {} was altered: it does not follow the one before it", entry.id);
                    report.add(Finding::of_grant(Kind::EntryWrong, seq, Some(grant.user.clone()), reason));
                }
                Err(part) => {
                    let reason = format!("entry {} was altered: its {part} is missing or malformed", entry.id);
                    report.add(Finding::of_grant(Kind::EntryWrong, seq, None, reason));
                    self.trace.skip_to(seq);
                }
            }
        }
        following
    }

    /// Entries that are not there. What the ledger acknowledged meanwhile is trimmed up to the entry that it acknowledged.
    fn miss(&mut self, found: Seq, coupon: Option<&Coupon>, report: &mut Report) {
        let (first, last) = (self.trace.seq().next(), Seq(found.0.saturating_sub(1)));
        if coupon.is_none_or(|coupon| found > coupon.persisted) {
            let reason = format!("entries {first} to {last} are missing in the :grants key");
            report.add(Finding::of_grant(Kind::EntryWrong, first, None, reason));
        }
        self.trace.skip_to(last);
    }

    fn compare_basis(&self, entry: &Entry, report: &mut Report) {
        let Some(link) = &self.newest else { return };
        let is_same = entry.grant.as_ref().is_ok_and(|grant| {
            (&grant.user, grant.requested_at, grant.chain) == (&link.user, link.requested_at, link.chain)
        });
        if !is_same {
            let reason = format!("entry {} was altered: it is not the grant that the ledger holds", entry.id);
            report.add(Finding::of_grant(Kind::EntryWrong, entry.id.seq, Some(link.user.clone()), reason));
        }
    }

    /// The newest grant that is persisted stays in the stream: the coupon could not be resumed without it.
    pub fn end(&mut self, coupon: Option<&Coupon>, report: &mut Report) {
        let Some(coupon) = coupon else { return };
        if self.basis.seq.0 > 0 && !self.has_basis && self.basis.seq >= coupon.persisted {
            let reason = format!("entry {} is missing in the :grants key", self.basis.seq);
            report.add(Finding::of_grant(Kind::EntryWrong, self.basis.seq, None, reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coupon_core::grant::EntryId;
    use coupon_core::number::Chain;
    use coupon_core::number::{Arrival, Epoch};

    fn id(epoch: u64, seq: u64) -> EntryId {
        EntryId { epoch: Epoch(epoch), seq: Seq(seq) }
    }

    /// Entries 1 to `len`, as they should be.
    fn stream(len: u64) -> Vec<Entry> {
        let mut chain = Chain::START;
        (1..=len)
            .map(|seq| {
                let mut grant = Grant {
                    id: id(1, seq),
                    user: format!("u{seq}"),
                    requested_at: Arrival(100 + seq),
                    granted_at_ms: 1,
                    chain,
                };
                chain = Stored::from(&grant).after(chain).unwrap_or_default();
                grant.chain = chain;
                Entry { id: grant.id, grant: Ok(grant) }
            })
            .collect()
    }

    fn chain(entries: &[Entry], seq: usize) -> Chain {
        entries.get(seq.wrapping_sub(1)).and_then(|entry| entry.grant.as_ref().ok()).map_or(Chain::START, |g| g.chain)
    }

    /// The hash of a coupon with six grants, three of them persisted.
    fn coupon(entries: &[Entry], persisted: u64) -> Option<Coupon> {
        let (chain, persisted) = (chain(entries, 6).to_string(), persisted.to_string());
        Coupon::decode(|field| {
            Some(match field.name() {
                "status" => b"AVAILABLE",
                "quantity" => b"9",
                "seq" => b"6",
                "chain" => chain.as_bytes(),
                "persisted" => persisted.as_bytes(),
                _ => return None,
            })
        })
        .ok()
    }

    /// What is found in a stream of six of which the ledger has three, after a change; and where it ends.
    fn found(persisted: u64, change: impl FnOnce(&mut Vec<Entry>)) -> (Vec<u64>, Option<u64>) {
        let whole = stream(6);
        let coupon = coupon(&whole, persisted);
        let basis = Position { seq: Seq(3), chain: chain(&whole, 3) };
        let mut changed = whole[2..].to_vec();
        change(&mut changed);
        let mut report = Report::default();
        let mut tail = Tail::new(basis, None);
        tail.take(&changed, coupon.as_ref(), &mut report);
        tail.end(coupon.as_ref(), &mut report);
        let seqs = report.findings.iter().filter_map(|finding| finding.seq).map(|seq| seq.0).collect();
        (seqs, tail.position().map(|position| position.seq.0))
    }

    #[test]
    fn a_sound_stream_has_no_finding() {
        assert_eq!(found(3, |_| ()), (vec![], Some(6)));
        let kept = |entries: &mut Vec<Entry>| entries.splice(0..0, stream(2)).for_each(drop);
        assert_eq!(found(3, kept), (vec![], Some(6)), "entries that are kept for longer");
    }

    #[test]
    fn an_altered_entry_is_named() {
        let alter = |entries: &mut Vec<Entry>| {
            if let Ok(grant) = &mut entries[2].grant {
                grant.user.push('x');
            }
        };
        assert_eq!(found(3, alter).0, [5]);
        assert_eq!(found(3, |entries| entries[2].grant = Err("user")).0, [5]);
    }

    #[test]
    fn a_missing_entry_is_named_unless_it_is_persisted_and_trimmed() {
        assert_eq!(found(3, |entries| drop(entries.remove(1))).0, [4]);
        assert_eq!(found(3, |entries| drop(entries.remove(0))).0, [3], "the coupon could not be resumed");
        assert_eq!(found(5, |entries| drop(entries.drain(..2))), (vec![], Some(6)));
    }

    #[test]
    fn a_foreign_entry_is_named_and_leads_nowhere() {
        for id in [id(2, 7), id(2, 1), id(1_700_000_000_000, 0)] {
            let foreign = |grant| move |entries: &mut Vec<Entry>| entries.push(Entry { id, grant });
            assert_eq!(found(3, foreign(Err("user"))), (vec![id.seq.0], Some(6)), "{id}");
            let forged = stream(7).pop().and_then(|entry| entry.grant.ok());
            let forged = forged.map(|grant| Grant { id, user: "mallory".into(), ..grant }).ok_or("user");
            assert_eq!(found(3, foreign(forged)), (vec![id.seq.0], Some(6)), "{id}");
        }
    }

    #[test]
    fn grants_beyond_what_the_hash_counts_are_followed() {
        let more = |entries: &mut Vec<Entry>| entries.extend(stream(8).split_off(6));
        assert_eq!(found(3, more), (vec![], Some(8)));
    }
}
