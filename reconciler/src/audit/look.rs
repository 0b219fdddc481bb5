//! One look at a coupon: both sides compared from the first grant to the newest that the ledger holds, page by page.
//!
//! Nothing is locked, and a sale may go on meanwhile. That is no reason for a wrong finding, as each thing is read after
//! what has to be there before it: first the ledger's position, then the sorted set, the stream and the hash, which
//! can only be further; then the ledger again, which Redis can only be behind with its acknowledgement. What still
//! slips through is not seen by a second look ([`super::Audit::coupon`]).

use super::counters::{self, Witness};
use super::finding::{Finding, Report};
use super::kind::Kind;
use super::line::{Line, Place, is_within};
use super::lost::Gap;
use super::tail::Tail;
use super::trace::{Stored, Trace};
use super::{Audit, PAGE};
use crate::error::{self, Error, Remedy};
use crate::ledger::{Link, Row};
use crate::plan::is_on_offer;
use crate::redis::Held;
use coupon_core::coupon::{Coupon, Cursor, Field};
use coupon_core::grant::Grant;
use coupon_core::number::Seq;
use coupon_core::position::Position;
use std::collections::HashSet;

/// What is done about what can be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Nothing.
    Look,
    /// It is put right in the ledger.
    Mend,
}

/// What can be compared.
enum Sight {
    Both,
    /// Redis does not have the coupon, and need not.
    LedgerOnly,
    /// Nothing now; why.
    Neither(String),
}

/// A look, as far as it has come.
struct Look<'a> {
    audit: &'a Audit<'a>,
    row: &'a Row,
    key: &'a str,
    sees_redis: bool,
    intent: Intent,
    report: Report,
    trace: Trace,
    line: Line,
    /// The newest link, for the gap that may follow it.
    previous: Option<Link>,
    /// Whether that link follows the chain.
    previous_follows: bool,
    /// Rows that are missing and not proved, and rows that were altered: their users cannot be told from foreign ones.
    unknown: u64,
    /// Rows that are missing.
    missing: u64,
    /// Users of missing and altered rows who are proved.
    proved: HashSet<String>,
    /// Granted users who do not stand where they should.
    astray: u64,
    /// The newest grant whose user stands where it should, and how many before it do not.
    standing: (Seq, u64),
    has_mended: bool,
    /// The last row that follows the chain, though it be beyond the coupon's position.
    rows_end: Seq,
    /// Whether the daemon stops, so that nothing can be said of the whole.
    is_cut_off: bool,
}

impl Audit<'_> {
    /// Looks once.
    pub async fn look(&self, id: &str, intent: Intent) -> Result<Report, Error> {
        let Some(row) = self.ledger.row(id).await? else { return Ok(Report::skipped(id, "the ledger has no row")) };
        let key = self.keys.key(id);
        match self.look_at(&row, &key, intent).await {
            // Something is wrong with this coupon's keys alone.
            Err(Error::Redis(error)) if !matches!(error::redis_remedy(&error), Remedy::Reconnect(_)) => {
                Ok(Report::skipped(id, error::wording(&error)))
            }
            report => report,
        }
    }

    async fn look_at(&self, row: &Row, key: &str, intent: Intent) -> Result<Report, Error> {
        let sees_redis = match self.sight(row, key).await? {
            Sight::Both => true,
            Sight::LedgerOnly => false,
            Sight::Neither(why) => return Ok(Report::skipped(&row.id, why)),
        };
        let mut look = Look {
            audit: self,
            row,
            key,
            sees_redis,
            intent,
            report: Report { seq: row.position.seq, ..Report::new(&row.id) },
            trace: Trace::start(),
            line: Line::default(),
            previous: None,
            previous_follows: true,
            unknown: 0,
            missing: 0,
            proved: HashSet::new(),
            astray: 0,
            standing: (Seq(0), 0),
            has_mended: false,
            rows_end: Seq(0),
            is_cut_off: false,
        };
        look.links().await?;
        if !look.is_cut_off {
            look.end_of_rows().await?;
            look.count().await?;
        }
        if sees_redis && !look.is_cut_off {
            look.foreign_members().await?;
            look.entries_and_hash().await?;
        }
        if look.is_cut_off {
            return Ok(Report::skipped(&row.id, "it was cut off, as the daemon stops"));
        }
        if sees_redis && let Sight::Neither(why) = self.sight(row, key).await? {
            // Resumed or restored meanwhile: what was seen were two histories.
            return Ok(Report::skipped(&row.id, why));
        }
        Ok(look.report)
    }

    /// Both sides can be compared where Redis was found to continue the ledger, under the epoch at which it did.
    async fn sight(&self, row: &Row, key: &str) -> Result<Sight, Error> {
        let Some(held) = self.redis.held(key).await? else {
            return Ok(if is_on_offer(row.status) && row.epoch.0 > 0 {
                Sight::Neither("Redis does not have it; is `coupon-reconciler run` at work?".into())
            } else {
                Sight::LedgerOnly
            });
        };
        if row.epoch.0 == 0 {
            return Ok(if row.position.seq.0 == 0 { Sight::LedgerOnly } else { Sight::Neither(NOT_LEVEL.into()) });
        }
        match self.redis.info(key).await {
            Ok(Some(info)) if !info.fenced && info.epoch == row.epoch => Ok(Sight::Both),
            Ok(_) => Ok(Sight::Neither(NOT_LEVEL.into())),
            // A companion key lacks something, so Redis does not say whether it is fenced.
            Err(error) if error.code() == Some("TRYAGAIN") => {
                let is_ours = self.continues_the_ledger(row, key, &held).await?;
                Ok(if is_ours { Sight::Both } else { Sight::Neither(error::wording(&error)) })
            }
            // The hash cannot be read by the module: that is a finding of its own.
            Err(error) if error.code() == Some("ERR") && held.coupon.is_err() => Ok(Sight::Both),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the hash, or the stream's entry, is at the ledger's position under its epoch.
    async fn continues_the_ledger(&self, row: &Row, key: &str, held: &Held) -> Result<bool, Error> {
        let Ok(coupon) = &held.coupon else { return Ok(false) };
        if coupon.epoch != row.epoch {
            return Ok(false);
        }
        if coupon.position == row.position {
            return Ok(true);
        }
        let entry = self.ledger.entry(&row.id, row.position.seq).await?;
        let page = self.redis.entries(key, &entry.to_string(), 1).await?;
        let first = page.entries.first().and_then(|entry| entry.grant.as_ref().ok());
        Ok(first.is_some_and(|grant| grant.id.seq == row.position.seq && grant.chain == row.position.chain))
    }
}

/// Pages of the stream that are followed: a backlog of a million grants.
const TAIL_PAGES_MAX: u32 = 500;

const NOT_LEVEL: &str = "the coupon is not open under the ledger's epoch, so there is nothing to compare; is `coupon-reconciler run` at work?";

impl Look<'_> {
    /// Follows rows and dead letters, and finds their users in the sorted set.
    async fn links(&mut self) -> Result<(), Error> {
        let audit = self.audit;
        let mut after = Seq(0);
        while after < self.row.position.seq {
            // A page ends at a number: with gaps it holds less, and may hold nothing.
            let to = Seq(after.0.saturating_add(u64::from(PAGE))).min(self.row.position.seq);
            let links = audit.ledger.span(&self.row.id, after, to).await?;
            after = to;
            let users: Vec<&str> = links.iter().map(|link| link.user.as_str()).collect();
            let scores = if self.sees_redis { audit.redis.scores(self.key, &users).await? } else { Vec::new() };
            let pairs: Vec<(&Link, Option<f64>)> =
                links.iter().zip(scores.into_iter().chain(std::iter::repeat(None))).collect();
            for same in pairs.chunk_by(|(one, _), (other, _)| one.seq == other.seq) {
                self.link(same).await?;
            }
            audit.progress(self.trace.seq(), self.row);
            if after < self.row.position.seq && !audit.pace.rest().await {
                self.is_cut_off = true;
                break;
            }
        }
        Ok(())
    }

    /// One number of the history: a row or a dead letter, or by mistake both.
    async fn link(&mut self, same: &[(&Link, Option<f64>)]) -> Result<(), Error> {
        let Some((first, _)) = same.first() else { return Ok(()) };
        let expected = self.trace.seq().next();
        if first.seq > expected {
            let last = Seq(first.seq.0.saturating_sub(1));
            self.gap(expected, last, Some(first)).await?;
        }
        let chosen = same.iter().position(|(link, _)| self.trace.is_followed_by(&Stored::from(*link))).unwrap_or(0);
        for (place, (link, score)) in same.iter().enumerate() {
            if place == chosen {
                self.report.dead_letters += u64::from(link.is_dead);
                self.follow(link, *score).await?;
            } else {
                let reason = if link.is_dead {
                    "it is a dead letter although the row of that number follows the chain; discard it"
                } else {
                    "the row has the number of a dead letter, which follows the chain"
                };
                self.report.add(Finding::of_grant(Kind::RowExtra, link.seq, Some(link.user.clone()), reason));
            }
        }
        Ok(())
    }

    async fn follow(&mut self, link: &Link, score: Option<f64>) -> Result<(), Error> {
        let before = self.trace.clone();
        let follows = self.trace.follow(&Stored::from(link));
        if !follows && score == Some(link.requested_at.score()) {
            // Redis has the user at this time: so it was the chain.
            let reason = "its chain was changed: it does not follow the grant before it";
            self.report.add(Finding::of_grant(Kind::RowAltered, link.seq, Some(link.user.clone()), reason));
        } else if !follows {
            let reason = match self.original(&before, link).await? {
                Some(grant) => {
                    let reason = format!(
                        "its user, time or chain was changed: the chain proves user {}, requested at {} µs",
                        grant.user, grant.requested_at
                    );
                    self.proved.insert(grant.user);
                    reason
                }
                None => {
                    self.unknown += 1;
                    "its user, time or chain was changed: it does not follow the grant before it".into()
                }
            };
            self.report.add(Finding::of_grant(Kind::RowAltered, link.seq, Some(link.user.clone()), reason));
        } else if self.sees_redis {
            self.member(Stored::from(link), score);
        }
        self.previous = Some(link.clone());
        self.previous_follows = follows;
        Ok(())
    }

    /// How a granted user stands in the sorted set.
    fn member(&mut self, link: Stored<'_>, score: Option<f64>) {
        let user = || Some(link.user.to_owned());
        match self.line.take(link.user, link.requested_at, score) {
            Place::Sound => self.standing = (link.seq, self.astray),
            Place::Earlier => {
                self.standing = (link.seq, self.astray);
                self.report.earlier += 1;
            }
            Place::Missing => {
                self.astray += 1;
                let reason = "the user is granted, and missing in the :issued key";
                self.report.add(Finding::of_grant(Kind::MemberMissing, link.seq, user(), reason));
            }
            Place::Wrong => {
                self.astray += 1;
                let (score, at) = (score.unwrap_or_default(), link.requested_at);
                let reason = format!("the score in the :issued key is {score}, and the request came in at {at} µs");
                self.report.add(Finding::of_grant(Kind::ScoreWrong, link.seq, user(), reason));
            }
        }
    }

    /// What an altered row was, if the sorted set still proves it.
    async fn original(&self, before: &Trace, link: &Link) -> Result<Option<Grant>, Error> {
        if !self.sees_redis || self.report.room() == 0 {
            return Ok(None);
        }
        let gap = Gap {
            row: self.row,
            key: self.key,
            first: link.seq,
            last: link.seq,
            tails: before.tails(),
            before: self.previous.as_ref(),
            after: None,
        };
        gap.original(self.audit.redis, self.audit.ledger, link.chain).await
    }

    /// Grants that are neither rows nor dead letters.
    async fn gap(&mut self, first: Seq, last: Seq, after: Option<&Link>) -> Result<(), Error> {
        let audit = self.audit;
        let tails = self.trace.tails().to_vec();
        let before = self.previous.take();
        let gap = Gap { row: self.row, key: self.key, first, last, tails: &tails, before: before.as_ref(), after };
        let room = self.report.room();
        // Once no more findings are kept, their users need no names.
        let is_asked = self.sees_redis && (room > 0 || self.intent == Intent::Mend);
        let proof = if is_asked { gap.prove(audit.redis, audit.ledger, room).await? } else { None };
        let mut is_mended = false;
        if let (Some(proof), Intent::Mend) = (&proof, self.intent) {
            is_mended = or_left(gap.mend(audit.redis, audit.ledger, proof).await)?;
        }
        let len = last.0.saturating_sub(first.0).saturating_add(1);
        self.has_mended |= is_mended;
        if !is_mended {
            self.missing += len;
        }
        let users = proof.as_ref().map_or(&[][..], |proof| &proof.users);
        let reason = match (&proof, is_mended) {
            (_, true) => "the row was missing, and was put back as the chain proves it",
            (Some(_), false) => "the row is missing, and the chain proves whose it was",
            (None, _) => "the row is missing, and Redis does not prove whose it was",
        };
        for place in 0..len {
            let user = usize::try_from(place).ok().and_then(|place| users.get(place)).cloned();
            let seq = Seq(first.0.saturating_add(place));
            let finding = Finding::of_grant(Kind::RowMissing, seq, user, reason);
            self.report.add(Finding { is_repaired: is_mended, ..finding });
        }
        match proof {
            Some(proof) => {
                if !is_mended {
                    self.proved.extend(proof.users);
                }
                self.trace.cross(last, proof.chain);
            }
            None => {
                self.unknown += len;
                self.trace.skip_to(last);
            }
        }
        Ok(())
    }

    /// Whether the coupon's position is where its rows end.
    async fn end_of_rows(&mut self) -> Result<(), Error> {
        let Position { seq, chain } = self.row.position;
        if self.trace.seq() < seq {
            let held = if self.sees_redis { self.audit.redis.held(self.key).await? } else { None };
            let redis = held.and_then(|held| held.coupon.ok()).map(|coupon| coupon.position.seq);
            if redis.is_some_and(|redis| redis <= self.trace.seq()) {
                let reason = format!("coupon.seq is {seq}, and both its rows and Redis end at {}", self.trace.seq());
                self.report.add(Finding::of_field(Kind::PositionWrong, "seq", reason));
            } else {
                self.gap(self.trace.seq().next(), seq, None).await?;
            }
        } else if !self.trace.admits(chain) && self.previous_follows {
            let reason = format!("coupon.chain is {chain}, and its rows end at another");
            self.report.add(Finding::of_field(Kind::PositionWrong, "chain", reason));
        }
        Ok(())
    }

    /// Whether the coupon counts its rows rightly, and has none beyond its position.
    async fn count(&mut self) -> Result<(), Error> {
        let audit = self.audit;
        self.rows_beyond().await?;
        if self.has_mended {
            // What the coupon counts may have been set to the rows that were left.
            self.recount().await?;
        }
        let Some(tally) = audit.ledger.tally(&self.row.id).await? else { return Ok(()) };
        let rows = tally.seq.0.saturating_sub(tally.dead_letters);
        let explained = tally.granted == rows || tally.granted == rows.saturating_sub(self.missing);
        // A position that is wrong says nothing about the count.
        if explained || self.report.findings.iter().any(|finding| finding.kind == Kind::PositionWrong) {
            return Ok(());
        }
        let reason = format!("coupon.granted is {}, and there are {rows} rows", tally.granted);
        let is_whole = self.missing == 0 && self.intent == Intent::Mend;
        let is_repaired = is_whole && self.recount().await?;
        let finding = Finding::of_field(Kind::CountWrong, "granted", reason);
        self.report.add(Finding { is_repaired, ..finding });
        Ok(())
    }

    async fn recount(&self) -> Result<bool, Error> {
        let recount = async {
            let mut mending = self.audit.ledger.mend(&self.row.id, self.row.epoch, self.row.position.seq).await?;
            if !mending.recount().await? {
                return Ok(false);
            }
            mending.commit().await.map(|()| true)
        };
        or_left(recount.await)
    }

    async fn rows_beyond(&mut self) -> Result<(), Error> {
        let beyond = self.audit.ledger.beyond(&self.row.id, PAGE).await?;
        let mut trace = self.trace.clone();
        for link in &beyond {
            let stored = Stored::from(link);
            if link.seq == trace.seq().next() && !trace.tails().is_empty() && trace.is_followed_by(&stored) {
                trace.follow(&stored);
            } else {
                let reason = format!("the row lies beyond coupon.seq, which is {}", self.row.position.seq);
                self.report.add(Finding::of_grant(Kind::RowExtra, link.seq, Some(link.user.clone()), reason));
            }
        }
        self.rows_end = trace.seq();
        if trace.seq() > self.trace.seq() {
            let reason = format!("coupon.seq is {}, and its rows go on to {}", self.row.position.seq, trace.seq());
            self.report.add(Finding::of_field(Kind::PositionWrong, "seq", reason));
        }
        Ok(())
    }

    /// Members of the sorted set among the granted ones who have no grant. Counting tells whether there are any; only
    /// then all are looked through.
    async fn foreign_members(&mut self) -> Result<(), Error> {
        let audit = self.audit;
        let Some(end) = self.line.end() else { return Ok(()) };
        let (newest, astray) = self.standing;
        let expected = newest.0.saturating_sub(astray);
        let members = audit.redis.members_to(self.key, end.arrival.score()).await?;
        if members <= expected {
            return Ok(());
        }
        let mut rank = 0;
        let mut foreign = Vec::new();
        loop {
            let page = audit.redis.members(self.key, rank, PAGE).await?;
            let read = page.len() as u64;
            let within: Vec<_> = page.into_iter().filter(|(user, score)| is_within(&end, user, *score)).collect();
            foreign.extend(self.without_grant(&within).await?);
            rank = rank.saturating_add(read);
            if rank >= members || read == 0 || foreign.len() > self.report.room() {
                break;
            }
            if !audit.pace.rest().await {
                self.is_cut_off = true;
                return Ok(());
            }
        }
        if self.unknown == 0 {
            for user in foreign {
                let reason = "the user stands among the granted ones of the :issued key without a grant";
                self.report.add(Finding::of_user(Kind::MemberForeign, user, reason));
            }
        } else if foreign.len() as u64 > self.unknown {
            let reason = format!(
                "{} users stand among the granted ones of the :issued key without a grant, and only {} rows are missing \
                 or altered",
                foreign.len(),
                self.unknown
            );
            self.report.add(Finding::of_field(Kind::MemberForeign, "issued", reason));
        }
        Ok(())
    }

    async fn without_grant(&self, members: &[(Vec<u8>, f64)]) -> Result<Vec<String>, Error> {
        let mut foreign = Vec::new();
        let mut users = Vec::new();
        for (member, _) in members {
            match str::from_utf8(member) {
                Ok(user) if !user.contains('\0') => users.push(user),
                // Bytes that PostgreSQL cannot even hold.
                _ => foreign.push(String::from_utf8_lossy(member).into_owned()),
            }
        }
        for place in self.audit.ledger.without_grant(&self.row.id, &users).await? {
            if let Some(user) = users.get(place)
                && !self.proved.contains(*user)
            {
                foreign.push((*user).to_owned());
            }
        }
        Ok(foreign)
    }

    /// Follows the stream from the ledger's position on to its end, and holds the hash of that moment against it.
    async fn entries_and_hash(&mut self) -> Result<(), Error> {
        let audit = self.audit;
        let start = audit.ledger.entry(&self.row.id, self.row.position.seq).await?;
        let mut tail = Tail::new(self.basis(), self.previous.clone().filter(|_| self.previous_follows));
        let mut from = start.to_string();
        let mut pages = 0;
        let held = loop {
            let page = audit.redis.entries(self.key, &from, PAGE).await?;
            let Some(held) = page.held else { return Ok(()) };
            let newest = tail.take(&page.entries, held.coupon.as_ref().ok(), &mut self.report);
            let users: Vec<&str> = newest.iter().map(|grant| grant.user.as_str()).collect();
            let scores = audit.redis.scores(self.key, &users).await?;
            for (grant, score) in newest.iter().zip(scores) {
                self.member(Stored::from(*grant), score);
            }
            match page.entries.last() {
                Some(last) if page.entries.len() == PAGE as usize => from = format!("({}", last.id),
                _ => break held,
            }
            // No rest here: a sale must not run away from who follows it.
            pages += 1;
            if pages == TAIL_PAGES_MAX {
                return Ok(());
            }
        };
        let Some(later) = audit.ledger.row(&self.row.id).await? else { return Ok(()) };
        tail.end(held.coupon.as_ref().ok(), &mut self.report);
        let ledger = later.position.seq.max(self.rows_end);
        let witness = Witness { stream: tail.position(), ledger, held: &held };
        let verdict = counters::judge(witness);
        if let Some((first, last)) = verdict.lost {
            let reason = format!("entries {first} to {last} are missing in the :grants key");
            self.report.add(Finding::of_grant(Kind::EntryWrong, first, None, reason));
        }
        for finding in verdict.findings {
            self.report.add(finding);
        }
        if let (true, Ok(coupon)) = (verdict.is_at_its_place, &held.coupon) {
            self.cursors(coupon);
        }
        Ok(())
    }

    /// The ledger's end as the stream has to continue it.
    fn basis(&self) -> Position {
        let Position { seq, chain } = self.row.position;
        if self.trace.seq() == seq && !self.trace.admits(chain) && self.previous_follows {
            let chain = self.trace.tails().first().copied().unwrap_or(chain);
            return Position { seq, chain };
        }
        // Rows that end before the coupon's position: what they end with is what Redis has too.
        match self.trace.tails().first() {
            Some(chain) if self.trace.seq() < seq => Position { seq: self.trace.seq(), chain: *chain },
            _ => Position { seq, chain },
        }
    }

    /// Whether the cursors of the hash end where the granted users do. Only where all of them were seen standing rightly.
    fn cursors(&mut self, coupon: &Coupon) {
        let is_whole = (self.astray, self.unknown, self.missing) == (0, 0, 0) && self.standing.0 == coupon.position.seq;
        let wrong = |field: Field, reason| Finding::of_field(Kind::CounterWrong, field.name(), reason);
        if let (true, Some(end)) = (is_whole, self.line.end()) {
            let reason = match &coupon.granted_to {
                None => Some("granted_to is missing although units are granted"),
                Some(cursor) if cursor.arrival > end.arrival => Some("granted_to covers users who are not granted"),
                Some(cursor) if !covers(cursor, &end) => Some("granted_to does not cover all who are granted"),
                Some(_) => None,
            };
            if let Some(reason) = reason {
                self.report.add(wrong(Field::GrantedTo, reason));
                return;
            }
        }
        if !counters::cursors_fit(coupon) {
            self.report.add(wrong(Field::PersistedTo, "persisted_to covers others than those who are persisted"));
        }
    }
}

fn covers(cursor: &Cursor, end: &Cursor) -> bool {
    end.user.as_ref().is_none_or(|user| is_within(cursor, user.as_bytes(), end.arrival.score()))
}

/// A repair that is refused, by a constraint or because somebody else moved the coupon, leaves a finding.
fn or_left(repaired: Result<bool, Error>) -> Result<bool, Error> {
    match repaired {
        Err(error) if !matches!(error.remedy(), Remedy::Reconnect(_)) => Ok(false),
        repaired => repaired,
    }
}
