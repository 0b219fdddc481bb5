//! Grants that the ledger lacks, and the proof from Redis of whose they were.
//!
//! The grants before and after a gap hold the chain on both its sides. Whatever Redis offers for the gap is believed
//! only if the chain leads through it from one side to the other: then nothing else can have stood there.

use super::PAGE;
use super::trace::Stored;
use crate::error::Error;
use crate::ledger::Ledger;
use crate::model::coupon::Row;
use crate::model::grant::Link;
use crate::redis::Redis;
use coupon_core::grant::{EntryId, Grant};
use coupon_core::number::{Arrival, Chain, Epoch, Seq};

/// Epochs of a stream that are searched for an entry: as many as restarts of Redis since the last trim.
const EPOCHS_MAX: u32 = 100;

/// A run of grants that are neither rows nor dead letters.
pub struct Gap<'a> {
    /// The coupon.
    pub row: &'a Row,
    /// Its key.
    pub key: &'a str,
    /// The first that is missing.
    pub first: Seq,
    /// The last that is missing.
    pub last: Seq,
    /// The chains one of which stands before it.
    pub tails: &'a [Chain],
    /// The grant before it; none at the start.
    pub before: Option<&'a Link>,
    /// The grant after it; none where the ledger ends.
    pub after: Option<&'a Link>,
}

/// Whose the grants of a gap were.
#[derive(Debug)]
pub struct Proof {
    source: Source,
    tail: Chain,
    /// The chain at the last of them.
    pub chain: Chain,
    /// The users in order, as many as were asked for.
    pub users: Vec<String>,
}

/// Where Redis still holds the grants.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// In the stream, from this entry on.
    Stream(EntryId),
    /// In the sorted set, from this rank on.
    Line(u64),
}

/// What was read of a source.
#[derive(Debug, Clone, Copy)]
struct Reading {
    source: Source,
    /// The next grant.
    seq: Seq,
    /// For what the sorted set does not hold.
    epoch: Epoch,
    granted_at_ms: u64,
}

impl Gap<'_> {
    /// Looks for the grants in Redis.
    pub async fn prove(&self, redis: &Redis, ledger: &Ledger, users_max: usize) -> Result<Option<Proof>, Error> {
        for source in self.sources(redis, ledger).await? {
            if let Some(proof) = self.follow(redis, source, users_max).await? {
                return Ok(Some(proof));
            }
        }
        Ok(None)
    }

    /// What stood where a row was altered, if the chain that the row has leads to it.
    pub async fn original(&self, redis: &Redis, ledger: &Ledger, chain: Chain) -> Result<Option<Grant>, Error> {
        for source in self.sources(redis, ledger).await? {
            let page = self.page(redis, &mut self.begin(source, self.row.epoch)).await?;
            let grant = page.into_iter().flatten().next();
            if let Some(grant) =
                grant.filter(|grant| self.tails.iter().any(|tail| Stored::from(grant).after(*tail) == Some(chain)))
            {
                return Ok(Some(grant));
            }
        }
        Ok(None)
    }

    /// Inserts the rows that a proof stands for; whether the proof still held. With the lock of the coupon's row the
    /// gap can neither be filled nor grow meanwhile.
    pub async fn mend(&self, redis: &Redis, ledger: &Ledger, proof: &Proof) -> Result<bool, Error> {
        let mut reading = self.begin(proof.source, self.epoch_before(ledger).await?);
        // From here on only this connection is used: there may be no other.
        let mut mending = ledger.mend(&self.row.id, self.row.epoch, self.last).await?;
        let mut chain = proof.tail;
        while reading.seq <= self.last {
            let Some(mut page) = self.page(redis, &mut reading).await? else { return Ok(false) };
            for grant in &mut page {
                let Some(next) = Stored::from(&*grant).after(chain) else { return Ok(false) };
                chain = next;
                grant.chain = chain;
            }
            mending.insert(&page).await?;
        }
        if chain != proof.chain {
            return Ok(false);
        }
        mending.commit().await?;
        Ok(true)
    }

    /// The stream holds all there is to a grant, the sorted set only who and when: it comes second.
    async fn sources(&self, redis: &Redis, ledger: &Ledger) -> Result<Vec<Source>, Error> {
        let mut sources = Vec::new();
        if let Some(entry) = self.find(redis, self.epoch_before(ledger).await?).await? {
            sources.push(Source::Stream(entry));
        }
        match self.before {
            None => sources.push(Source::Line(0)),
            Some(link) => {
                if let Some(rank) = redis.rank(self.key, &link.user).await? {
                    sources.push(Source::Line(rank.saturating_add(1)));
                }
            }
        }
        if let Some(link) = self.after
            && let Some(rank) = redis.rank(self.key, &link.user).await?
            && let Some(rank) = rank.checked_sub(self.len())
        {
            sources.push(Source::Line(rank));
        }
        Ok(sources)
    }

    const fn len(&self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }

    async fn epoch_before(&self, ledger: &Ledger) -> Result<Epoch, Error> {
        match (self.before, self.after) {
            (Some(link), _) | (None, Some(link)) => Ok(ledger.entry(&self.row.id, link.seq).await?.epoch),
            (None, None) => Ok(self.row.epoch),
        }
    }

    /// The first of the missing grants in the stream. Its epoch is not known: a restored grant has another than its row.
    async fn find(&self, redis: &Redis, from: Epoch) -> Result<Option<EntryId>, Error> {
        let mut from = if self.before.is_none() { Epoch(0) } else { from };
        let end = EntryId { epoch: self.row.epoch, seq: Seq(u64::MAX) };
        for _ in 0..EPOCHS_MAX {
            let start = EntryId { epoch: from, seq: self.first };
            let entries = redis.entries_between(self.key, start, end, 1).await?;
            let Some(entry) = entries.first() else { return Ok(None) };
            if entry.id.seq == self.first {
                return Ok(Some(entry.id));
            }
            // Within an epoch entries follow by seq: what is before ours leads to it, what is behind means another epoch.
            from = if entry.id.seq < self.first && entry.id.epoch > from {
                entry.id.epoch
            } else {
                Epoch(entry.id.epoch.0.saturating_add(1))
            };
        }
        Ok(None)
    }

    async fn follow(&self, redis: &Redis, source: Source, users_max: usize) -> Result<Option<Proof>, Error> {
        // The epoch is not part of the chain.
        let mut reading = self.begin(source, self.row.epoch);
        let mut chains = self.tails.to_vec();
        let mut users = Vec::new();
        while reading.seq <= self.last {
            let Some(page) = self.page(redis, &mut reading).await? else { return Ok(None) };
            for grant in &page {
                for chain in &mut chains {
                    let Some(next) = Stored::from(grant).after(*chain) else { return Ok(None) };
                    *chain = next;
                }
                if users.len() < users_max {
                    users.push(grant.user.clone());
                }
            }
        }
        let proved = self.tails.iter().zip(chains).find(|(_, chain)| self.ends_with(*chain));
        Ok(proved.map(|(tail, chain)| Proof { source, tail: *tail, chain, users }))
    }

    fn ends_with(&self, chain: Chain) -> bool {
        match self.after {
            None => chain == self.row.position.chain,
            Some(link) => Stored::from(link).after(chain) == Some(link.chain),
        }
    }

    fn begin(&self, source: Source, epoch: Epoch) -> Reading {
        let granted_at_ms = self.before.map_or(0, |link| link.granted_at_ms);
        Reading { source, seq: self.first, epoch, granted_at_ms }
    }

    /// The next grants of the gap; none if the source does not hold the next one.
    async fn page(&self, redis: &Redis, reading: &mut Reading) -> Result<Option<Vec<Grant>>, Error> {
        let left = self.last.0.saturating_sub(reading.seq.0).saturating_add(1);
        let count = u32::try_from(left.min(u64::from(PAGE))).unwrap_or(PAGE);
        let page = match reading.source {
            Source::Stream(from) => {
                let end = EntryId { epoch: self.row.epoch, seq: Seq(u64::MAX) };
                let entries = redis.entries_between(self.key, from, end, count).await?;
                if let Some(last) = entries.last() {
                    reading.source = Source::Stream(EntryId { epoch: last.id.epoch, seq: last.id.seq.next() });
                }
                entries.into_iter().map_while(|entry| entry.grant.ok()).collect()
            }
            Source::Line(rank) => {
                let members = redis.members(self.key, rank, count).await?;
                reading.source = Source::Line(rank.saturating_add(members.len() as u64));
                from_members(members, reading)
            }
        };
        let mut expected = reading.seq;
        for grant in &page {
            if grant.id.seq != expected {
                return Ok(None);
            }
            expected = expected.next();
        }
        reading.seq = expected;
        Ok(if page.is_empty() { None } else { Some(page) })
    }
}

/// The sorted set does not say when a unit was granted: not before it was requested, nor before the grant before it.
fn from_members(members: Vec<(Vec<u8>, f64)>, reading: &mut Reading) -> Vec<Grant> {
    let mut seq = reading.seq;
    let read = |(member, score): (Vec<u8>, f64)| {
        let requested_at = Arrival::from_score(score)?;
        reading.granted_at_ms = reading.granted_at_ms.max(requested_at.0 / 1000);
        let id = EntryId { epoch: reading.epoch, seq };
        seq = seq.next();
        let (user, granted_at_ms) = (String::from_utf8(member).ok()?, reading.granted_at_ms);
        Some(Grant { id, user, requested_at, granted_at_ms, chain: Chain::START })
    };
    members.into_iter().map_while(read).collect()
}
