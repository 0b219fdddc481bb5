//! What Redis proves: grants that the ledger lacks, found in what Redis still holds of them.
//!
//! The chain is known on both sides of what is missing. Redis offers the entries of the stream or, once these are trimmed, the
//! users of the sorted set, who stand there in the order of their grants, with the times of their requests: all that a link of
//! the chain is made of. Whatever it offers is believed only if the chain leads through it from one side to the other: then
//! nothing else can have stood there.

use crate::error::Error;
use crate::redis::{Entry, Redis};
use coupon_core::grant::{EntryId, Grant};
use coupon_core::number::{Arrival, Chain, Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::user::UserId;
use std::vec::IntoIter;

/// Grants read at once, and written at once: some hundred kilobytes.
const PAGE: u32 = 2000;

/// A run of grants that the ledger lacks.
#[derive(Clone, Copy)]
pub struct Gap<'a> {
    /// Where the grants may still be.
    pub redis: &'a Redis,
    /// The coupon's key.
    pub key: &'a str,
    /// Behind this they are missing.
    pub from: Position,
    /// The chain has to lead here: to the last of them, or to the one behind it.
    pub to: Position,
    /// The epoch for grants whose own is not known any more.
    pub epoch: Epoch,
}

/// Whose the grants of a gap were.
pub struct Proof<'a> {
    /// What is left of it.
    gap: Gap<'a>,
    source: Source,
    /// Where each page has to arrive.
    milestones: IntoIter<Position>,
}

/// Where Redis still holds the grants.
#[derive(Clone, Copy)]
enum Source {
    /// In the stream, from this entry on.
    Stream(EntryId),
    /// In the sorted set, from this rank on. It does not say under which epoch they were granted.
    Line(u64),
}

impl<'a> Gap<'a> {
    /// Looks for the grants in Redis. The stream holds all there is to a grant, the sorted set only who and when: it comes second.
    /// There the grants stand between their neighbours, as far as these are known.
    pub async fn prove(mut self, neighbours: &[(&str, Seq)]) -> Result<Option<Proof<'a>>, Error> {
        let first = find(self.redis, self.key, self.from.seq.next()).await?;
        let mut sources: Vec<Source> = first.map(|entry| Source::Stream(entry.id)).into_iter().collect();
        if self.from.seq.0 == 0 {
            sources.push(Source::Line(0));
        }
        for (user, seq) in neighbours {
            let rank = self.redis.rank(self.key, user).await?;
            let first = rank.and_then(|rank| (rank + self.from.seq.next().0).checked_sub(seq.0));
            sources.extend(first.map(Source::Line));
        }
        if let Some(entry) = find(self.redis, self.key, self.to.seq).await? {
            self.epoch = entry.id.epoch;
        }
        for source in sources {
            let (mut walk, mut milestones) = (Proof { gap: self, source, milestones: IntoIter::default() }, Vec::new());
            while walk.gap.from.seq < self.to.seq && !walk.page().await?.is_empty() {
                milestones.push(walk.gap.from);
            }
            if walk.gap.from == self.to {
                return Ok(Some(Proof { gap: self, source, milestones: milestones.into_iter() }));
            }
        }
        Ok(None)
    }
}

/// The entry of a grant, if the stream holds it. Its epoch is not known, as a restored grant has another than its row; but
/// neither epoch nor seq ever falls along the stream.
pub async fn find(redis: &Redis, key: &str, seq: Seq) -> Result<Option<Entry>, Error> {
    let mut from = EntryId { epoch: Epoch(0), seq };
    loop {
        match redis.entries(key, from, 1).await?.pop() {
            Some(entry) if entry.id.seq == seq => return Ok(Some(entry)),
            Some(entry) if entry.id.seq < seq && entry.id.epoch > from.epoch => from.epoch = entry.id.epoch,
            _ => return Ok(None),
        }
    }
}

impl Proof<'_> {
    /// The next of the grants, up to where the chain leads, read again to be named or written; none at the end.
    ///
    /// # Errors
    /// [`Error::Moved`] if others stand there by now.
    pub async fn next(&mut self) -> Result<Option<Vec<Grant>>, Error> {
        let Some(milestone) = self.milestones.next() else { return Ok(None) };
        let grants = self.page().await?;
        if self.gap.from == milestone { Ok(Some(grants)) } else { Err(Error::Moved) }
    }

    /// The next grants with their chain; none if the source does not hold the next one.
    async fn page(&mut self) -> Result<Vec<Grant>, Error> {
        let Gap { redis, key, from, to, epoch } = &mut self.gap;
        let count = u32::try_from(to.seq.0.saturating_sub(from.seq.0)).unwrap_or(PAGE).min(PAGE);
        let mut grants: Vec<Grant> = match &mut self.source {
            Source::Stream(next) => {
                let entries = redis.entries(key, *next, count).await?;
                if let Some(last) = entries.last() {
                    *next = EntryId { seq: last.id.seq.next(), ..last.id };
                }
                entries.into_iter().map_while(|entry| entry.grant.ok()).collect()
            }
            Source::Line(rank) => {
                let users = redis.accepted(key, *rank, count.into()).await?;
                *rank += users.len() as u64;
                from_line(users, from.seq, *epoch)
            }
        };
        for grant in &mut grants {
            let Some(next) = follow(*from, grant) else { return Ok(Vec::new()) };
            (*from, grant.chain) = (next, next.chain);
        }
        Ok(grants)
    }
}

/// The position with one more grant; none if it is not the next one, or its user can be nobody.
fn follow(at: Position, grant: &Grant) -> Option<Position> {
    let user = UserId::parse(grant.user.as_bytes()).ok()?;
    let next = Position { seq: at.seq.next(), chain: at.chain.next(user, grant.requested_at) };
    (grant.id.seq == next.seq).then_some(next)
}

/// The sorted set does not say when a unit was granted, but when the user asked.
fn from_line(users: Vec<Option<(String, Arrival)>>, mut seq: Seq, epoch: Epoch) -> Vec<Grant> {
    let grant = |(user, requested_at): (String, Arrival)| {
        seq = seq.next();
        let id = EntryId { epoch, seq };
        Grant { id, user, requested_at, granted_at_ms: requested_at.0 / 1000, chain: Chain::START }
    };
    users.into_iter().map_while(|user| user).map(grant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(names: &[&str]) -> Vec<Option<(String, Arrival)>> {
        names.iter().zip(1..).map(|(name, at)| Some(((*name).to_owned(), Arrival(at * 5000)))).collect()
    }

    #[test]
    fn users_of_the_line_are_grants_as_far_as_is_known() {
        let grants = from_line(line(&["a", "b"]), Seq(4), Epoch(3));
        let known: Vec<_> = grants.iter().map(|g| (g.id.to_string(), &*g.user, g.granted_at_ms)).collect();
        assert_eq!(known, [("3-5".into(), "a", 5), ("3-6".into(), "b", 10)]);
    }

    #[test]
    fn what_is_no_user_ends_the_line() {
        let mut users = line(&["a", "b", "c"]);
        users[1] = None;
        assert_eq!(from_line(users, Seq(0), Epoch(1)).len(), 1);
    }

    #[test]
    fn only_the_next_grant_follows() {
        let grants = from_line(line(&["a", "b"]), Seq(0), Epoch(1));
        let first = follow(Position::default(), &grants[0]);
        assert_eq!(first.map(|at| at.seq), Some(Seq(1)));
        assert_eq!(first.and_then(|at| follow(at, &grants[1])).map(|at| at.seq), Some(Seq(2)));
        assert_eq!(follow(Position::default(), &grants[1]), None);
    }
}
