//! One look at a coupon: both sides compared from the first grant to the newest, page by page.
//!
//! ```text
//! rows and dead letters --chain--> [`Trace`]             each follows the one before it
//!         |                                              a gap is filled by what Redis proves: [`Gap`]
//!         +--users--> sorted set: [`Line`]               each stands where the request came in
//!         +--chain--> stream --> status hash: [`hash`]   which go on where the rows end
//! ```
//!
//! Nothing is locked, and a sale may go on meanwhile. That is no reason for a wrong finding, as each thing is read after
//! what has to be there before it: first the ledger's position, then the sorted set, the stream and the hash, which
//! can only be further; then the ledger again, which Redis can only be behind with its acknowledgement. What still
//! slips through is not seen by a second look ([`super::Audit::coupon`]).

use super::line::Line;
use super::trace::Trace;
use super::{Finding, Kind, Pace, Report, hash, or_left};
use crate::coupon::Tools;
use crate::coupon::proof::{self, Gap, Proof};
use crate::error::Error;
use crate::model::coupon::Row;
use crate::model::grant::Link;
use crate::redis::{Entry, Held, Moment};
use coupon_core::coupon::Coupon;
use coupon_core::grant::{EntryId, Grant};
use coupon_core::number::Seq;
use coupon_core::position::Position;
use std::collections::HashSet;

/// Grants, members or entries read at once: some hundred kilobytes, and a millisecond or two of either server.
const PAGE: u32 = 2000;

/// A look at a coupon.
pub struct Look<'a> {
    /// Both sides.
    pub tools: &'a Tools,
    /// How fast it goes.
    pub pace: &'a mut Pace,
    /// The coupon.
    pub row: &'a Row,
    /// Its key.
    pub key: &'a str,
    /// Whether there is something in Redis to compare with.
    pub sees_redis: bool,
    /// Whether rows that are missing and proved are inserted.
    pub mends: bool,
    /// What it has found so far.
    pub report: Report,
    /// What it has seen so far.
    pub seen: Seen,
}

/// What a look has seen so far.
#[derive(Default)]
pub struct Seen {
    trace: Trace,
    line: Line,
    /// The newest row or dead letter, if it is as it should be.
    newest: Option<Link>,
    /// Users of missing and altered rows who are proved.
    proved: HashSet<String>,
    /// Whether there are such rows whose users are not proved: these cannot be told from users without a grant.
    has_unknown: bool,
}

impl<'a> Look<'a> {
    /// Looks.
    pub async fn run(mut self) -> Result<Report, Error> {
        self.rows().await?;
        let goes_on = self.end_of_rows().await?;
        if self.sees_redis {
            self.foreign_members().await?;
            self.stream_and_hash(goes_on).await?;
        }
        self.report.earlier = self.seen.line.earlier;
        Ok(self.report)
    }

    fn find(&mut self, kind: Kind, seq: Seq, user: Option<&str>, reason: impl Into<String>) {
        self.report.add(Finding::of_grant(kind, seq, user, reason));
    }

    /// Follows rows and dead letters, and finds their users in the sorted set.
    async fn rows(&mut self) -> Result<(), Error> {
        let (mut after, end) = (Seq(0), self.row.position.seq);
        while after < end {
            // A page ends at a number: with gaps it holds less, and may hold nothing.
            let to = Seq(after.0.saturating_add(PAGE.into())).min(end);
            let links = self.tools.ledger.span(&self.row.id, after, to).await?;
            let scores = self.scores(&links).await?;
            for (link, score) in links.into_iter().zip(scores) {
                self.take_row(link, score).await?;
            }
            self.pace.rest().await?;
            self.pace.show(&self.row.id, to, end);
            after = to;
        }
        Ok(())
    }

    async fn scores(&self, links: &[Link]) -> Result<Vec<Option<f64>>, Error> {
        if !self.sees_redis {
            return Ok(vec![None; links.len()]);
        }
        let users: Vec<&str> = links.iter().map(|link| &*link.user).collect();
        Ok(self.tools.redis.scores(self.key, &users).await?)
    }

    async fn take_row(&mut self, link: Link, score: Option<f64>) -> Result<(), Error> {
        if link.seq <= self.seen.trace.seq() {
            let reason = "it is a dead letter although there is a row of that number; discard it";
            self.find(Kind::RowExtra, link.seq, Some(&link.user), reason);
            return Ok(());
        }
        if link.seq > self.seen.trace.seq().next() {
            self.take_gap(Some(&link)).await?;
        }
        self.report.dead_letters += u64::from(link.is_dead);
        let mut next = self.seen.trace.clone();
        let follows = next.follow(&link);
        if follows {
            self.take_member(&link, score);
        } else if self.take_altered(&link).await? {
            next = Trace::at(Position { seq: link.seq, chain: link.chain });
        }
        (self.seen.trace, self.seen.newest) = (next, follows.then_some(link));
        Ok(())
    }

    /// A row that does not follow the one before it. If its chain was not changed, which is the answer, it leads to the original.
    async fn take_altered(&mut self, link: &Link) -> Result<bool, Error> {
        let at = Position { seq: link.seq, chain: link.chain };
        let mut original = None;
        // Once no more findings are kept, the originals need no names.
        if self.report.room() > 0
            && let Some(mut proof) = self.prove(at, None).await?
        {
            original = proof.next().await?.and_then(|mut grants| grants.pop());
        }
        let reason = match &original {
            Some(grant) => format!("its user or time was changed: the chain proves user {}", grant.user),
            None => "its user, time or chain was changed: it does not follow the grant before it".into(),
        };
        self.find(Kind::RowAltered, link.seq, Some(&link.user), reason);
        let is_proved = original.is_some();
        self.seen.has_unknown |= !is_proved;
        self.seen.proved.extend(original.map(|grant| grant.user));
        Ok(is_proved)
    }

    /// How a granted user stands in the sorted set.
    fn take_member(&mut self, link: &Link, score: Option<f64>) {
        let kind = if self.sees_redis { self.seen.line.take(link, score) } else { None };
        if let Some(kind) = kind {
            let stands = score.map_or("is missing".to_owned(), |score| format!("has score {score}"));
            let reason = format!("the user {stands} in the :issued key, and requested at {} µs", link.requested_at);
            self.find(kind, link.seq, Some(&link.user), reason);
        }
    }

    /// What Redis proves of the grants from here, if it is certain where that is, to a position.
    async fn prove(&self, to: Position, after: Option<&Link>) -> Result<Option<Proof<'a>>, Error> {
        let is_asked = self.sees_redis && (self.mends || self.report.room() > 0);
        let Some(from) = self.seen.trace.position().filter(|_| is_asked) else { return Ok(None) };
        let neighbours = self.seen.newest.iter().chain(after).map(|link| (&*link.user, link.seq));
        let neighbours: Vec<(&str, Seq)> = neighbours.collect();
        let epoch = match neighbours.first() {
            Some((_, seq)) => self.tools.ledger.entry(&self.row.id, *seq).await?.epoch,
            None => self.row.epoch,
        };
        Gap { redis: &self.tools.redis, key: self.key, from, to, epoch }.prove(&neighbours).await
    }

    /// Grants that are neither rows nor dead letters, up to the next link or the ledger's end.
    async fn take_gap(&mut self, after: Option<&Link>) -> Result<(), Error> {
        let (first, end) = (self.seen.trace.seq().next(), self.row.position);
        let last = after.map_or(end.seq, |link| Seq(link.seq.0.saturating_sub(1)));
        let to = after.map_or(end, |link| Position { seq: link.seq, chain: link.chain });
        let proof = self.prove(to, after).await?;
        // Behind the last of all the position is known.
        self.seen.trace = if after.is_some() { Trace::lost_at(last) } else { Trace::at(end) };
        self.seen.newest = None;
        let Some(mut proof) = proof else {
            self.seen.has_unknown = true;
            for seq in first.0..=last.0 {
                let reason = "the row is missing, and Redis does not prove whose it was";
                self.find(Kind::RowMissing, Seq(seq), None, reason);
            }
            return Ok(());
        };
        while let Some(mut grants) = proof.next().await? {
            grants.retain(|grant| grant.id.seq <= last);
            let is_mended = self.mends && or_left(self.tools.ledger.fill(&self.row.id, self.row.epoch, &grants).await)?;
            self.tools.counters.rebuilt.inc_by(if is_mended { grants.len() as u64 } else { 0 });
            for Grant { id, user, chain, .. } in grants {
                let reason = "the row is missing, and the chain proves whose it was";
                let finding = Finding::of_grant(Kind::RowMissing, id.seq, Some(&user), reason);
                self.report.add(if is_mended { finding.repaired() } else { finding });
                self.seen.trace = Trace::at(Position { seq: id.seq, chain });
                if !is_mended && self.report.room() > 0 {
                    self.seen.proved.insert(user);
                }
            }
        }
        Ok(())
    }

    /// Whether the position is where the rows end; true if they go on behind it.
    async fn end_of_rows(&mut self) -> Result<bool, Error> {
        let end = self.row.position;
        if self.seen.trace.seq() < end.seq {
            self.take_gap(None).await?;
        }
        if self.seen.newest.is_some() && self.seen.trace.position() != Some(end) {
            let reason = format!("the position's chain is {}, and the rows end at another", end.chain);
            self.report.add(Finding::of_field(Kind::PositionWrong, "chain", reason));
        }
        let beyond = self.tools.ledger.beyond(&self.row.id, PAGE).await?;
        if beyond.first().is_some_and(|link| self.seen.trace.clone().follow(link)) {
            let reason = format!("the position's seq is {}, and the rows go on", end.seq);
            self.report.add(Finding::of_field(Kind::PositionWrong, "seq", reason));
            return Ok(true);
        }
        for link in beyond {
            let reason = format!("the row lies beyond the coupon's position, which is seq {}", end.seq);
            self.find(Kind::RowExtra, link.seq, Some(&link.user), reason);
        }
        Ok(false)
    }

    /// Members of the sorted set among the granted ones who have no grant. Counting tells whether there are any; only
    /// then all are looked through.
    async fn foreign_members(&mut self) -> Result<(), Error> {
        let Some((score, _)) = self.seen.line.last.as_ref().filter(|_| !self.seen.has_unknown) else { return Ok(()) };
        let members = self.tools.redis.members_to(self.key, *score).await?;
        let mut rank = 0;
        while members > self.seen.line.standing && rank < members && self.report.room() > 0 {
            let page = self.tools.redis.members(self.key, rank, PAGE.into()).await?;
            let within = page.iter().filter(|(member, score)| self.seen.line.covers(*score, member));
            // PostgreSQL cannot even hold other bytes: with them it is nobody who has a grant.
            let users = within.map(|(member, _)| String::from_utf8_lossy(member).replace('\0', "\u{fffd}"));
            for user in self.tools.ledger.without_grant(&self.row.id, &users.collect::<Vec<_>>()).await? {
                if !self.seen.proved.contains(&user) {
                    let reason = "the user stands among the granted ones of the :issued key without a grant";
                    self.report.add(Finding { user: Some(user), ..Finding::new(Kind::MemberForeign, reason) });
                }
            }
            rank += u64::from(PAGE);
            self.pace.rest().await?;
        }
        Ok(())
    }

    /// Follows the stream from the position to its end, or to the first fault, behind which nothing is relayed before it is
    /// mended. The hash of that moment is held against it.
    async fn stream_and_hash(&mut self, goes_on: bool) -> Result<(), Error> {
        let (id, start) = (&self.row.id, self.row.position.seq);
        let first = if start.0 > 0 { proof::find(&self.tools.redis, self.key, start).await? } else { None };
        let mut last = match &first {
            Some(entry) => entry.id,
            None => self.tools.ledger.entry(id, start).await?,
        };
        // No rest here: a sale must not run away from who follows it.
        let (held, is_sound) = loop {
            let from = EntryId { seq: last.seq.next(), ..last };
            let Moment { held, entries, .. } = self.tools.redis.page(self.key, from, PAGE).await?;
            let Some(held) = held else { return Ok(()) };
            let is_last = entries.len() < PAGE as usize;
            last = entries.last().map_or(last, |entry| entry.id);
            let is_sound = self.take_entries(entries, &held).await?;
            if is_last || !is_sound {
                break (held, is_sound);
            }
        };
        let Some(later) = self.tools.ledger.row(id).await? else { return Ok(()) };
        let coupon = held.coupon.as_ref().ok();
        let is_wrong = match (&first, &self.seen.newest) {
            (Some(Entry { grant: Ok(entry), .. }), Some(row)) => {
                (&entry.user, entry.requested_at, entry.chain) != (&row.user, row.requested_at, row.chain)
            }
            (Some(entry), _) => entry.grant.is_err(),
            // It stays in the stream as long as nothing behind it is persisted: the coupon could not be resumed without it.
            (None, _) => start.0 > 0 && coupon.is_some_and(|coupon| start >= coupon.persisted),
        };
        if is_wrong {
            let reason = format!("entry {start} is missing in the :grants key, or is not what its row is");
            self.find(Kind::EntryWrong, start, None, reason);
        }
        let stream = self.seen.trace.position().filter(|_| is_sound);
        let ledger = (!goes_on).then_some(later.position.seq);
        // Only where all who are granted were seen standing rightly.
        let is_whole = coupon.is_some_and(|coupon| self.seen.line.standing == coupon.position.seq.0);
        let line = self.seen.line.last.as_ref().filter(|_| is_whole);
        for finding in hash::judge(&held, stream, ledger, line) {
            self.report.add(finding);
        }
        Ok(())
    }

    /// Follows a page of the stream, and finds its users in the sorted set; false at the first fault.
    async fn take_entries(&mut self, entries: Vec<Entry>, held: &Held) -> Result<bool, Error> {
        let of = |coupon: &Coupon| (coupon.position.seq, coupon.persisted);
        let (granted, persisted) = held.coupon.as_ref().map_or((Seq(u64::MAX), Seq(0)), of);
        let (mut following, mut fault) = (Vec::new(), None);
        for Entry { id, grant } in entries {
            if id.seq <= persisted && id.seq > self.seen.trace.seq().next() {
                // What was acknowledged meanwhile is trimmed.
                self.seen.trace = Trace::lost_at(Seq(id.seq.0 - 1));
            }
            let (next, link) = (self.seen.trace.seq().next(), grant.ok().map(Link::from));
            if !link.as_ref().is_some_and(|link| self.seen.trace.follow(link)) {
                // Either the entry is wrong, or those before it are missing.
                let is_gap = id.seq > next && id.seq <= granted;
                let (seq, link) = if is_gap { (next, None) } else { (id.seq, link) };
                let reason =
                    format!("entry {seq} is missing in the :grants key, was altered, or is no grant of this coupon");
                fault = Some(Finding::of_grant(Kind::EntryWrong, seq, link.as_ref().map(|link| &*link.user), reason));
                break;
            }
            following.extend(link);
        }
        let scores = self.scores(&following).await?;
        for (link, score) in following.iter().zip(scores) {
            self.take_member(link, score);
        }
        let is_sound = fault.is_none();
        fault.into_iter().for_each(|fault| self.report.add(fault));
        Ok(is_sound)
    }
}
