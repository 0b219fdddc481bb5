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
//! slips through is not seen by a second look ([`Audit::coupon`]).

use super::finding::{Finding, Report};
use super::hash::{self, Witness};
use super::kind::Kind;
use super::line::{Line, is_within};
use super::pace::Pace;
use super::trace::Trace;
use super::{Audit, or_left};
use crate::coupon::proof::{Gap, Proof};
use crate::error::Error;
use crate::ledger::{Link, Row};
use crate::redis::Entry;
use coupon_core::coupon::{Coupon, Cursor};
use coupon_core::grant::Grant;
use coupon_core::number::{Epoch, Seq};
use coupon_core::position::Position;
use std::collections::HashSet;

/// Grants, members or entries read at once: some hundred kilobytes, and a millisecond or two of either server.
const PAGE: u32 = 2000;

/// A look, as far as it has come.
pub struct Look<'a> {
    audit: &'a Audit<'a>,
    pace: &'a mut Pace,
    row: &'a Row,
    key: &'a str,
    /// Whether there is something in Redis to compare with.
    sees_redis: bool,
    /// Whether rows that are missing and proved are inserted.
    mends: bool,
    report: Report,
    trace: Trace,
    line: Line,
    /// The newest link, if it is as it should be.
    previous: Option<Link>,
    /// Users of missing and altered rows who are proved.
    proved: HashSet<String>,
    /// Whether there are rows whose users are not known: these users cannot be told from those without a grant.
    has_unknown: bool,
    /// Whether the stream has begun, and with the entry of the ledger's position.
    begins_at_position: Option<bool>,
}

impl<'a> Look<'a> {
    /// A look at what can be compared.
    pub fn new(
        audit: &'a Audit<'_>,
        pace: &'a mut Pace,
        row: &'a Row,
        key: &'a str,
        sees_redis: bool,
        mends: bool,
    ) -> Self {
        Self {
            audit,
            pace,
            row,
            key,
            sees_redis,
            mends,
            report: Report { seq: row.position.seq.0, ..Report::new(&row.id) },
            trace: Trace::at(Position::default()),
            line: Line::default(),
            previous: None,
            proved: HashSet::new(),
            has_unknown: false,
            begins_at_position: None,
        }
    }

    /// Looks.
    pub async fn run(mut self) -> Result<Report, Error> {
        self.rows().await?;
        let goes_on = self.end_of_rows().await?;
        if self.sees_redis {
            self.foreign_members().await?;
            self.stream_and_hash(goes_on).await?;
        }
        self.report.earlier = self.line.earlier;
        Ok(self.report)
    }

    fn add(&mut self, kind: Kind, seq: Seq, user: Option<&str>, reason: impl Into<String>) {
        self.report.add(Finding::of_grant(kind, seq, user, reason));
    }

    /// Follows rows and dead letters, and finds their users in the sorted set.
    async fn rows(&mut self) -> Result<(), Error> {
        let mut after = Seq(0);
        while after < self.row.position.seq {
            // A page ends at a number: with gaps it holds less, and may hold nothing.
            let to = Seq(after.0.saturating_add(PAGE.into())).min(self.row.position.seq);
            let links = self.audit.ledger.span(&self.row.id, after, to).await?;
            let scores = self.scores(&links).await?;
            for (link, score) in links.into_iter().zip(scores) {
                self.take_row(link, score).await?;
            }
            after = to;
            if let Some(tell) = self.audit.progress {
                tell(self.row, after);
            }
            self.pace.rest().await?;
        }
        Ok(())
    }

    async fn scores(&self, links: &[Link]) -> Result<Vec<Option<f64>>, Error> {
        if !self.sees_redis {
            return Ok(vec![None; links.len()]);
        }
        let users: Vec<&str> = links.iter().map(|link| &*link.user).collect();
        Ok(self.audit.redis.scores(self.key, &users).await?)
    }

    async fn take_row(&mut self, link: Link, score: Option<f64>) -> Result<(), Error> {
        if link.seq <= self.trace.seq() {
            let reason = "it is a dead letter although there is a row of that number; discard it";
            self.add(Kind::RowExtra, link.seq, Some(&link.user), reason);
            return Ok(());
        }
        if link.seq > self.trace.seq().next() {
            self.take_gap(Some(&link)).await?;
        }
        self.report.dead_letters += u64::from(link.is_dead);
        match self.trace.follow(&link) {
            Ok(()) => {
                self.take_member(&link, score);
                self.previous = Some(link);
            }
            Err(before) => {
                self.take_altered(&before, &link, score).await?;
                self.previous = None;
            }
        }
        Ok(())
    }

    /// A row that does not follow the one before it. If only its user or time was changed, its chain leads to the original.
    async fn take_altered(&mut self, before: &Trace, link: &Link, score: Option<f64>) -> Result<(), Error> {
        let at = Position { seq: link.seq, chain: link.chain };
        let proof = if self.report.room() > 0 { self.prove(before, at, None, Epoch(0)).await? } else { None };
        let mut reason = "its user, time or chain was changed: it does not follow the grant before it".to_owned();
        if let Some(user) = proof.and_then(|mut proof| proof.users.pop()) {
            reason = format!("its user, time or chain was changed: the chain proves user {user}");
            self.proved.insert(user);
        } else if score != Some(link.requested_at.score()) {
            self.has_unknown = true;
        }
        self.add(Kind::RowAltered, link.seq, Some(&link.user), reason);
        Ok(())
    }

    /// How a granted user stands in the sorted set.
    fn take_member(&mut self, link: &Link, score: Option<f64>) {
        if !self.sees_redis {
            return;
        }
        if let Some(kind) = self.line.take(link, score) {
            let stands = score.map_or("missing".to_owned(), |score| format!("at score {score}"));
            let reason = format!(
                "the user is {stands} in the :issued key, and is granted a request of {} µs",
                link.requested_at
            );
            self.add(kind, link.seq, Some(&link.user), reason);
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
        let (redis, key, before) = (self.audit.redis, self.key, self.previous.as_ref());
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
        let (first, end) = (self.trace.seq().next(), self.row.position);
        let last = after.map_or(end.seq, |link| Seq(link.seq.0.saturating_sub(1)));
        let to = after.map_or(end, |link| Position { seq: link.seq, chain: link.chain });
        let epoch = match self.previous.as_ref().or(after) {
            Some(link) => self.audit.ledger.entry(&self.row.id, link.seq).await?.epoch,
            None => self.row.epoch,
        };
        // Once no more findings are kept, their users need no names.
        let is_asked = self.mends || self.report.room() > 0;
        let user = after.map(|link| &*link.user);
        let proof = if is_asked { self.prove(&self.trace, to, user, epoch).await? } else { None };
        let (mut users, mut is_mended) = (Vec::new(), false);
        let mut reason = "the row is missing, and Redis does not prove whose it was";
        // Behind the last of them the ledger's own position is known.
        let mut trace = if after.is_none() { Trace::at(end) } else { Trace::lost_at(last) };
        if let Some(mut proof) = proof {
            trace = Trace::at(Position { seq: last, chain: proof.chain });
            users = std::mem::take(&mut proof.users);
            reason = "the row is missing, and the chain proves whose it was";
            if self.mends && or_left(self.insert(&mut proof, last).await)? {
                is_mended = true;
                reason = "the row was missing, and was put back as the chain proves it";
            }
        }
        let mut names = users.into_iter();
        for seq in first.0..=last.0 {
            let user = names.next();
            let finding = Finding::of_grant(Kind::RowMissing, Seq(seq), user.as_deref(), reason);
            self.report.add(if is_mended { finding.repaired() } else { finding });
            self.has_unknown |= !is_mended && user.is_none();
            self.proved.extend(user.filter(|_| !is_mended));
        }
        (self.trace, self.previous) = (trace, None);
        Ok(())
    }

    /// Makes rows of what is proved. With the lock of the coupon's row the gap can neither be filled nor grow meanwhile.
    async fn insert(&self, proof: &mut Proof<'_>, last: Seq) -> Result<(), Error> {
        // From here on only this connection is used: there may be no other.
        let mut mending = self.audit.ledger.mend(&self.row.id, self.row.epoch, last).await?;
        while let Some(grants) = proof.next().await? {
            mending.insert(&grants).await?;
        }
        mending.commit().await
    }

    /// Whether the coupon's position is where its rows end; true if they go on behind it.
    async fn end_of_rows(&mut self) -> Result<bool, Error> {
        let end = self.row.position;
        if self.trace.seq() < end.seq {
            self.take_gap(None).await?;
        }
        if self.previous.is_some() && self.trace.position() != Some(end) {
            let reason = format!("the position's chain is {}, and the rows end at another", end.chain);
            self.report.add(Finding::of_field(Kind::PositionWrong, "chain", reason));
        }
        let beyond = self.audit.ledger.beyond(&self.row.id, PAGE).await?;
        let goes_on = beyond.first().is_some_and(|link| self.trace.is_followed_by(link));
        if goes_on {
            let reason = format!("the position's seq is {}, and the rows go on", end.seq);
            self.report.add(Finding::of_field(Kind::PositionWrong, "seq", reason));
        } else {
            for link in beyond {
                let reason = format!("the row lies beyond the coupon's position, which is seq {}", end.seq);
                self.add(Kind::RowExtra, link.seq, Some(&link.user), reason);
            }
        }
        Ok(goes_on)
    }

    /// Members of the sorted set among the granted ones who have no grant. Counting tells whether there are any; only
    /// then all are looked through.
    async fn foreign_members(&mut self) -> Result<(), Error> {
        let Some(end) = self.line.end().filter(|_| !self.has_unknown) else { return Ok(()) };
        let members = self.audit.redis.members_to(self.key, end.arrival.score()).await?;
        let mut rank = 0;
        while members > self.line.expected && rank < members && self.report.room() > 0 {
            let page = self.audit.redis.members(self.key, rank, PAGE.into()).await?;
            if page.is_empty() {
                break;
            }
            rank = rank.saturating_add(page.len() as u64);
            for user in self.without_grant(&end, &page).await? {
                let reason = "the user stands among the granted ones of the :issued key without a grant";
                self.report.add(Finding::of_user(Kind::MemberForeign, user, reason));
            }
            self.pace.rest().await?;
        }
        Ok(())
    }

    async fn without_grant(&self, end: &Cursor, members: &[(Vec<u8>, f64)]) -> Result<Vec<String>, Error> {
        let within = members.iter().filter(|(member, score)| is_within(end, member, *score));
        // Bytes that PostgreSQL cannot even hold have no row.
        let (users, mut foreign): (Vec<_>, Vec<_>) = within
            .map(|(member, _)| String::from_utf8_lossy(member).into_owned())
            .partition(|user| !user.contains(['\0', char::REPLACEMENT_CHARACTER]));
        let without = self.audit.ledger.without_grant(&self.row.id, &users).await?;
        foreign.extend(without.into_iter().filter(|user| !self.proved.contains(user)));
        Ok(foreign)
    }

    /// Follows the stream from the ledger's position on to its end, and holds the hash of that moment against it.
    async fn stream_and_hash(&mut self, goes_on: bool) -> Result<(), Error> {
        let start = self.row.position.seq;
        let mut from = self.audit.ledger.entry(&self.row.id, start).await?.to_string();
        // No rest here: a sale must not run away from who follows it.
        let held = loop {
            let (entries, held) = self.audit.redis.entries_and_hash(self.key, &from, PAGE).await?;
            let Some(held) = held else { return Ok(()) };
            let last = entries.last().filter(|_| entries.len() == PAGE as usize).map(|entry| entry.id);
            self.take_entries(entries, held.coupon.as_ref().ok()).await?;
            match last {
                Some(last) => from = format!("({last}"),
                None => break held,
            }
        };
        let Some(later) = self.audit.ledger.row(&self.row.id).await? else { return Ok(()) };
        let coupon = held.coupon.as_ref().ok();
        // The newest grant that is persisted stays in the stream: the coupon could not be resumed without it.
        let stays = start.0 > 0 && coupon.is_some_and(|coupon| start >= coupon.persisted);
        if stays && self.begins_at_position != Some(true) {
            self.add(Kind::EntryWrong, start, None, format!("entry {start} is missing in the :grants key"));
        }
        // Only where all who are granted were seen standing rightly.
        let is_whole = coupon.is_some_and(|coupon| self.line.expected == coupon.position.seq.0)
            && !self.report.findings.iter().any(|finding| finding.kind == Kind::RowMissing && !finding.is_repaired);
        let line = self.line.end().filter(|_| is_whole && !self.has_unknown);
        let ledger = (!goes_on).then_some(later.position.seq);
        let witness = Witness { stream: self.trace.position(), ledger, line: line.as_ref() };
        for finding in hash::judge(&held, witness) {
            self.report.add(finding);
        }
        Ok(())
    }

    /// Follows a page of the stream, and finds its users in the sorted set.
    async fn take_entries(&mut self, entries: Vec<Entry>, coupon: Option<&Coupon>) -> Result<(), Error> {
        let (granted, persisted) =
            coupon.map_or((Seq(u64::MAX), Seq(0)), |coupon| (coupon.position.seq, coupon.persisted));
        let start = self.row.position.seq;
        let mut following = Vec::new();
        for Entry { id, grant } in entries {
            let (seq, link) = (id.seq, grant.map(link));
            if self.begins_at_position.is_none() {
                if seq < start {
                    continue;
                }
                self.begins_at_position = Some(seq == start);
                if seq == start && start.0 > 0 {
                    self.compare_first(&link.ok());
                    continue;
                }
            }
            let user = link.as_ref().ok().map(|link| link.user.clone());
            let follows = link.as_ref().is_ok_and(|link| self.trace.is_followed_by(link));
            if seq <= self.trace.seq() || seq > granted && !follows {
                let reason = format!("entry {id} is no grant of this coupon");
                self.add(Kind::EntryWrong, seq, user.as_deref(), reason);
                continue;
            }
            let (next, last) = (self.trace.seq().next(), Seq(seq.0.saturating_sub(1)));
            if next <= last {
                // What the ledger acknowledged meanwhile is trimmed up to the entry that it acknowledged.
                if seq > persisted {
                    let reason = format!("entries {next} to {last} are missing in the :grants key");
                    self.add(Kind::EntryWrong, next, None, reason);
                }
                self.trace = Trace::lost_at(last);
            }
            match link.map(|link| (self.trace.follow(&link), link)) {
                Ok((Ok(()), link)) => following.push(link),
                Ok((Err(_), _)) => {
                    let reason = format!("entry {id} was altered: it does not follow the one before it");
                    self.add(Kind::EntryWrong, seq, user.as_deref(), reason);
                }
                Err(part) => {
                    let reason = format!("entry {id} was altered: its {part} is missing or malformed");
                    self.add(Kind::EntryWrong, seq, None, reason);
                    self.trace = Trace::lost_at(seq);
                }
            }
        }
        let scores = self.scores(&following).await?;
        for (link, score) in following.iter().zip(scores) {
            self.take_member(link, score);
        }
        Ok(())
    }

    /// The entry of the ledger's position is its newest grant.
    fn compare_first(&mut self, entry: &Option<Link>) {
        let Some(newest) = &self.previous else { return };
        let is_same = entry.as_ref().is_some_and(|entry| {
            (&entry.user, entry.requested_at, entry.chain) == (&newest.user, newest.requested_at, newest.chain)
        });
        if !is_same {
            let (seq, user) = (newest.seq, newest.user.clone());
            let reason = format!("entry {seq} was altered: it is not the grant that the ledger holds");
            self.add(Kind::EntryWrong, seq, Some(&user), reason);
        }
    }
}

/// A grant of the stream as one of the ledger.
fn link(grant: Grant) -> Link {
    let Grant { id, user, requested_at, granted_at_ms, chain } = grant;
    Link { seq: id.seq, user, requested_at, granted_at_ms, chain, is_dead: false }
}
