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

use super::finding::{Finding, Report};
use super::hash::{self, Witness};
use super::kind::Kind;
use super::line::{Line, is_within};
use super::or_left;
use super::pace::Pace;
use super::trace::Trace;
use crate::coupon::proof::{self, Gap, Proof};
use crate::error::Error;
use crate::ledger::Ledger;
use crate::model::coupon::Row;
use crate::model::grant::Link;
use crate::redis::{Entry, Held, Redis};
use coupon_core::coupon::Cursor;
use coupon_core::number::{Epoch, Seq};
use coupon_core::position::Position;
use std::collections::HashSet;

/// Grants, members or entries read at once: some hundred kilobytes, and a millisecond or two of either server.
const PAGE: u32 = 2000;

/// A look at a coupon.
pub struct Look<'a> {
    /// One side.
    pub redis: &'a Redis,
    /// The other.
    pub ledger: &'a Ledger,
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

impl Look<'_> {
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
            let links = self.ledger.span(&self.row.id, after, to).await?;
            let scores = self.scores(&links).await?;
            for (link, score) in links.into_iter().zip(scores) {
                self.take_row(link, score).await?;
            }
            self.pace.show(&self.row.id, to, end);
            self.pace.rest().await?;
            after = to;
        }
        Ok(())
    }

    async fn scores(&self, links: &[Link]) -> Result<Vec<Option<f64>>, Error> {
        if !self.sees_redis {
            return Ok(vec![None; links.len()]);
        }
        let users: Vec<&str> = links.iter().map(|link| &*link.user).collect();
        Ok(self.redis.scores(self.key, &users).await?)
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
        let follows = self.seen.trace.follow(&link);
        if let Err(before) = &follows {
            self.take_altered(before, &link, score).await?;
        } else {
            self.take_member(&link, score);
        }
        self.seen.newest = follows.is_ok().then_some(link);
        Ok(())
    }

    /// A row that does not follow the one before it. If its chain was not changed, it leads to the original.
    async fn take_altered(&mut self, before: &Trace, link: &Link, score: Option<f64>) -> Result<(), Error> {
        let at = Position { seq: link.seq, chain: link.chain };
        let proof = if self.report.room() > 0 { self.prove(before, at, None, Epoch(0)).await? } else { None };
        let mut reason = "its user, time or chain was changed: it does not follow the grant before it".to_owned();
        if let Some(user) = proof.and_then(|mut proof| proof.users.pop()) {
            reason = format!("its user or time was changed: the chain proves user {user}");
            self.seen.proved.insert(user);
        } else if score != Some(link.requested_at.score()) {
            self.seen.has_unknown = true;
        }
        self.find(Kind::RowAltered, link.seq, Some(&link.user), reason);
        Ok(())
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

    /// What Redis proves of the grants from here to a position.
    async fn prove<'s>(
        &'s self,
        from: &Trace,
        to: Position,
        after: Option<&'s str>,
        epoch: Epoch,
    ) -> Result<Option<Proof<'s>>, Error> {
        let (redis, key, before) = (self.redis, self.key, self.seen.newest.as_ref());
        for from in from.ends().filter(|_| self.sees_redis) {
            let gap = Gap { redis, key, from, before, to, after, epoch };
            if let Some(proof) = gap.prove(self.report.room()).await? {
                return Ok(Some(proof));
            }
        }
        Ok(None)
    }

    /// Grants that are neither rows nor dead letters, up to the next link or the ledger's end.
    async fn take_gap(&mut self, after: Option<&Link>) -> Result<(), Error> {
        let (first, end) = (self.seen.trace.seq().next(), self.row.position);
        let last = after.map_or(end.seq, |link| Seq(link.seq.0.saturating_sub(1)));
        let to = after.map_or(end, |link| Position { seq: link.seq, chain: link.chain });
        let epoch = match self.seen.newest.as_ref().or(after) {
            Some(link) => self.ledger.entry(&self.row.id, link.seq).await?.epoch,
            None => self.row.epoch,
        };
        let user = after.map(|link| &*link.user);
        // Once no more findings are kept, their users need no names.
        let is_asked = self.mends || self.report.room() > 0;
        let proof = if is_asked { self.prove(&self.seen.trace, to, user, epoch).await? } else { None };
        let (mut users, mut is_mended) = (Vec::new(), false);
        let mut reason = "the row is missing, and Redis does not prove whose it was";
        // Behind the last of all the position is known.
        let mut trace = if after.is_none() { Trace::at(end) } else { Trace::lost_at(last) };
        if let Some(mut proof) = proof {
            trace = Trace::at(Position { seq: last, chain: proof.chain });
            users = std::mem::take(&mut proof.users);
            reason = "the row is missing, and the chain proves whose it was";
            if self.mends && or_left(self.insert(proof).await)? {
                is_mended = true;
                reason = "the row was missing, and was put back as the chain proves it";
            }
        }
        let mut users = users.into_iter();
        for seq in first.0..=last.0 {
            let user = users.next();
            let finding = Finding::of_grant(Kind::RowMissing, Seq(seq), user.as_deref(), reason);
            self.report.add(if is_mended { finding.repaired() } else { finding });
            self.seen.has_unknown |= !is_mended && user.is_none();
            self.seen.proved.extend(user.filter(|_| !is_mended));
        }
        (self.seen.trace, self.seen.newest) = (trace, None);
        Ok(())
    }

    /// Makes rows of what is proved.
    async fn insert(&self, mut proof: Proof<'_>) -> Result<(), Error> {
        while let Some(grants) = proof.next().await? {
            self.ledger.fill(&self.row.id, self.row.epoch, &grants).await?;
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
        let beyond = self.ledger.beyond(&self.row.id, PAGE).await?;
        if beyond.first().is_some_and(|link| self.seen.trace.is_followed_by(link)) {
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
        let Some(end) = self.seen.line.end().filter(|_| !self.seen.has_unknown) else { return Ok(()) };
        let members = self.redis.members_to(self.key, end.arrival.score()).await?;
        let mut rank = 0;
        while members > self.seen.line.expected && rank < members && self.report.room() > 0 {
            let page = self.redis.members(self.key, rank, PAGE.into()).await?;
            for user in self.without_grant(&end, &page).await? {
                let reason = "the user stands among the granted ones of the :issued key without a grant";
                self.report.add(Finding { user: Some(user), ..Finding::new(Kind::MemberForeign, reason) });
            }
            rank = rank.saturating_add(PAGE.into());
            self.pace.rest().await?;
        }
        Ok(())
    }

    async fn without_grant(&self, end: &Cursor, members: &[(Vec<u8>, f64)]) -> Result<Vec<String>, Error> {
        let (mut users, mut foreign) = (Vec::new(), Vec::new());
        for (member, _) in members.iter().filter(|(member, score)| is_within(end, member, *score)) {
            match str::from_utf8(member) {
                Ok(user) if !user.contains('\0') => users.push(user),
                // Bytes that PostgreSQL cannot even hold.
                _ => foreign.push(String::from_utf8_lossy(member).into_owned()),
            }
        }
        let without = self.ledger.without_grant(&self.row.id, &users).await?;
        foreign.extend(without.into_iter().filter(|user| !self.seen.proved.contains(user)));
        Ok(foreign)
    }

    /// Follows the stream from the position to its end, or to the first fault, behind which nothing is relayed before it is
    /// mended. The hash of that moment is held against it.
    async fn stream_and_hash(&mut self, goes_on: bool) -> Result<(), Error> {
        let (id, start) = (&self.row.id, self.row.position.seq);
        let first = if start.0 > 0 { proof::find(self.redis, self.key, start).await? } else { None };
        let mut from = match &first {
            Some(entry) => format!("({}", entry.id),
            None => self.ledger.entry(id, start).await?.to_string(),
        };
        // No rest here: a sale must not run away from who follows it.
        let (held, is_sound) = loop {
            let (entries, held) = self.redis.entries_and_hash(self.key, &from, PAGE).await?;
            let Some(held) = held else { return Ok(()) };
            let last = entries.last().filter(|_| entries.len() == PAGE as usize).map(|entry| entry.id);
            let is_sound = self.take_entries(entries, &held).await?;
            match last.filter(|_| is_sound) {
                Some(last) => from = format!("({last}"),
                None => break (held, is_sound),
            }
        };
        let Some(later) = self.ledger.row(id).await? else { return Ok(()) };
        let coupon = held.coupon.as_ref().ok();
        // It stays in the stream as long as nothing behind it is persisted: the coupon could not be resumed without it.
        let stays = start.0 > 0 && coupon.is_some_and(|coupon| start >= coupon.persisted);
        let is_newest = |entry: &Entry| match (&entry.grant, &self.seen.newest) {
            (Ok(entry), Some(row)) => {
                (&entry.user, entry.requested_at, entry.chain) == (&row.user, row.requested_at, row.chain)
            }
            (entry, _) => entry.is_ok(),
        };
        if first.as_ref().map_or(stays, |entry| !is_newest(entry)) {
            let reason = format!("entry {start} is missing in the :grants key, or is not what its row is");
            self.find(Kind::EntryWrong, start, None, reason);
        }
        // Only where all who are granted were seen standing rightly.
        let is_whole = coupon.is_some_and(|coupon| self.seen.line.expected == coupon.position.seq.0);
        let has_gaps = self.report.left().any(|finding| finding.kind == Kind::RowMissing);
        let line = self.seen.line.end().filter(|_| is_whole && !has_gaps && !self.seen.has_unknown);
        let witness = Witness {
            stream: self.seen.trace.position().filter(|_| is_sound),
            ledger: (!goes_on).then_some(later.position.seq),
            line: line.as_ref(),
        };
        for finding in hash::judge(&held, witness) {
            self.report.add(finding);
        }
        Ok(())
    }

    /// Follows a page of the stream, and finds its users in the sorted set; false at the first fault.
    async fn take_entries(&mut self, entries: Vec<Entry>, held: &Held) -> Result<bool, Error> {
        let (granted, persisted) = match &held.coupon {
            Ok(coupon) => (coupon.position.seq, coupon.persisted),
            Err(_) => (Seq(u64::MAX), Seq(0)),
        };
        let (mut following, mut fault) = (Vec::new(), None);
        for Entry { id, grant } in entries {
            let (next, last) = (self.seen.trace.seq().next(), Seq(id.seq.0.saturating_sub(1)));
            if id.seq > next && id.seq <= persisted {
                // What was acknowledged meanwhile is trimmed.
                self.seen.trace = Trace::lost_at(last);
            } else if id.seq > next && id.seq <= granted {
                fault = Some((next, None, format!("entries {next} to {last} are missing in the :grants key")));
                break;
            }
            match grant.map(Link::from) {
                Ok(link) if self.seen.trace.is_followed_by(&link) => {
                    self.seen.trace = Trace::at(Position { seq: link.seq, chain: link.chain });
                    following.push(link);
                }
                other => {
                    let reason = format!("entry {id} is no grant of this coupon, or was altered");
                    fault = Some((id.seq, other.ok().map(|link| link.user), reason));
                    break;
                }
            }
        }
        let scores = self.scores(&following).await?;
        for (link, score) in following.iter().zip(scores) {
            self.take_member(link, score);
        }
        let is_sound = fault.is_none();
        if let Some((seq, user, reason)) = fault {
            self.find(Kind::EntryWrong, seq, user.as_deref(), reason);
        }
        Ok(is_sound)
    }
}
