//! Where two histories part: the last grant that Redis and the ledger share, and the naming of what Redis has beyond.

use super::restore::Restoration;
use crate::error::Error;
use coupon_core::grant::{EntryId, Grant};
use coupon_core::number::Seq;
use coupon_core::position::Position;
use coupon_core::user::UserId;

/// Entries looked at in one step back.
const STEP: u32 = 1000;

impl Restoration<'_> {
    /// Follows the stream back, from the newest of so many grants, until one that the ledger holds too; the start if
    /// there is none. All that lies beyond it is named, as far as the ledger does not hold the user.
    ///
    /// The chain at a grant stands for all before it, so one that is equal is enough.
    pub async fn fork(&self, granted: Seq) -> Result<Position, Error> {
        let (mut before, mut oldest) = (None, None);
        loop {
            let (page, last) = self.coupon.redis().read_back(&self.coupon.key, before, STEP).await?;
            let Some(last) = last else { break };
            before = Some(last);
            let chains = self.coupon.ledger().chains(self.coupon.id, page.iter().map(|grant| grant.id.seq)).await?;
            // What Redis counts no more is no ground to stand on: a stream that outlived its hash.
            let is_common = |grant: &Grant| grant.id.seq <= granted && chains.get(&grant.id.seq) == Some(&grant.chain);
            let common = page.iter().position(is_common);
            self.name(page.get(..common.unwrap_or(page.len())).unwrap_or_default(), granted).await?;
            if let Some(common) = common.and_then(|index| page.get(index)) {
                return Ok(Position { seq: common.id.seq, chain: common.chain });
            }
            oldest = page.last().map(|grant| grant.id).or(oldest);
        }
        self.name_trimmed(granted, oldest).await?;
        Ok(Position::default())
    }

    /// Names the grants before the oldest entry. Their entries are trimmed, but everybody who is granted stands at the
    /// front of the sorted set, in the order of the grants.
    async fn name_trimmed(&self, granted: Seq, oldest: Option<EntryId>) -> Result<(), Error> {
        let epoch = oldest.map_or(self.epoch, |entry| entry.epoch);
        let end = oldest.map_or(granted, |entry| Seq(granted.0.min(entry.seq.0.saturating_sub(1))));
        let mut at = Position::default();
        while at.seq < end {
            let count = u64::from(STEP).min(end.0.saturating_sub(at.seq.0));
            let users = self.coupon.redis().accepted(&self.coupon.key, at.seq.0, count).await?;
            if users.is_empty() {
                break;
            }
            let mut grants = Vec::with_capacity(users.len());
            for user in users {
                at.seq = at.seq.next();
                let Some((user, requested_at)) = user else { continue };
                at.chain = UserId::parse(user.as_bytes()).map_or(at.chain, |user| at.chain.next(user, requested_at));
                let id = EntryId { epoch, seq: at.seq };
                grants.push(Grant { id, user, requested_at, granted_at_ms: requested_at.0 / 1000, chain: at.chain });
            }
            self.name(&grants, granted).await?;
        }
        Ok(())
    }

    async fn name(&self, grants: &[Grant], granted: Seq) -> Result<(), Error> {
        if grants.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "granted in another history than the ledger's: Redis had come to seq {granted}, the ledger stood at seq {}",
            self.ledger_at.seq
        );
        let count = self.coupon.ledger().name_orphans(self.coupon.id, grants, &reason).await?;
        if count > 0 {
            self.coupon.tools.counters.orphans.inc_by(count);
            tracing::warn!(
                coupon = self.coupon.id,
                count,
                "Redis granted units in a history that is not the ledger's; they are taken back, and each is in coupon_orphan"
            );
        }
        Ok(())
    }
}
