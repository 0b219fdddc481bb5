//! The relay: grants from the stream become rows of the ledger, each once, in order, without a gap.
//!
//! Why that holds, whoever runs this, however often and however late:
//!
//! 1. What is read is written only if it continues the ledger: the next seq, and the chain recomputed from the
//!    ledger's own ([`follow`]). A stream with another past has another chain and stops here.
//! 2. The rows and the position are one statement, which does nothing unless the ledger still stands where the batch
//!    begins ([`crate::ledger::Ledger::commit`]). Of two relays one finds that it moved.
//! 3. Redis hears of it only afterwards (COUPON.ACK), and trims only what it has heard of. Whatever happens between,
//!    the position in the ledger says where to read on.

use super::Coupon;
use crate::error::{Error, Remedy};
use crate::model::grant::{Batch, Checkpoint, Progress};
use crate::model::pause;
use coupon_core::grant::Grant;
use coupon_core::ledger::option;
use coupon_core::position::Position;
use coupon_core::user::UserId;
use std::time::{Duration, Instant};

/// Batches of one coupon before the others have their turn.
const BATCHES_PER_PASS_MAX: u32 = 20;

/// Nobody else has moved the position, and it does not move.
const STUCK: &str = "a trigger or a rule on table coupon_position keeps the position where it is; take it off";

/// A batch that is in within this time may be twice as large.
const QUICK: Duration = Duration::from_secs(5);

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The stream holds nothing that is not a row; Redis knows, and will send a message for the next grant.
    Level,
    /// The same, and with the last unit's row: the coupon's row is to say so.
    SoldOut,
    /// There is more to do.
    More,
}

impl Coupon<'_> {
    /// One bounded pass. `checkpoint` moves with what is done, also where an error ends it. `rows_max` bounds a batch where
    /// larger ones took too long.
    pub async fn relay(&self, checkpoint: &mut Checkpoint, rows_max: &mut Option<u32>) -> Result<Pass, Error> {
        let mut ahead = Vec::new();
        for _ in 0..BATCHES_PER_PASS_MAX {
            if self.tools.stop.is_cancelled() {
                break;
            }
            let most = rows_max.unwrap_or(self.tools.batch_max);
            let grants = if ahead.is_empty() {
                // First what an earlier pass committed and could not say. Redis sends its next message only from level on.
                self.acknowledge(checkpoint).await?;
                pause::at("before-read").await;
                self.redis().read(&self.key, checkpoint.progress.entry, most).await?
            } else {
                std::mem::take(&mut ahead)
            };
            let Some(last) = grants.last() else {
                let is_last = checkpoint.last_unit.is_some_and(|last| checkpoint.progress.position.seq >= last);
                return Ok(if is_last { Pass::SoldOut } else { Pass::Level });
            };
            let read_to = last.id;
            let is_full = grants.len() >= most as usize;
            let batch = match follow(checkpoint.progress, grants) {
                Ok(batch) => batch,
                // Another relay was here, and what it acknowledged is trimmed: that is no gap.
                Err(_) if !self.ledger().is_at(self.id, &checkpoint.progress).await? => return Err(Error::Moved),
                Err(broken) => return Err(broken),
            };
            match batch {
                // A page of what are rows already, kept for longer in the stream.
                None => checkpoint.progress.entry = read_to,
                Some(batch) => {
                    let to = batch.to;
                    pause::at("after-read").await;
                    // While PostgreSQL works on a full batch, Redis hears of the one before and hands over the next: a
                    // sixth of the time of a backlog (`make bench ONLY=relay`).
                    let meanwhile = async {
                        self.acknowledge(checkpoint).await?;
                        if !is_full {
                            return Ok(Vec::new());
                        }
                        Ok::<_, Error>(self.redis().read(&self.key, read_to, most).await?)
                    };
                    let (committed, next) = tokio::join!(self.commit(batch, rows_max), meanwhile);
                    checkpoint.has_untold |= committed?;
                    checkpoint.progress = to;
                    pause::at("after-commit").await;
                    ahead = next?;
                }
            }
        }
        self.acknowledge(checkpoint).await?;
        Ok(Pass::More)
    }

    async fn acknowledge(&self, checkpoint: &mut Checkpoint) -> Result<(), Error> {
        let Progress { epoch, position, .. } = checkpoint.progress;
        if checkpoint.acked < position.seq || checkpoint.has_untold {
            pause::at("before-ack").await;
            if checkpoint.has_untold {
                self.acknowledge_letters(epoch, checkpoint.acked, position.seq).await?;
            } else {
                self.redis().ack(&self.key, epoch, position.seq, option::REFUSED, &[]).await?;
            }
            (checkpoint.acked, checkpoint.has_untold) = (position.seq, false);
            pause::at("after-ack").await;
        }
        Ok(())
    }

    /// Makes rows of a batch, dead letters of what PostgreSQL refuses: what is refused is halved until the refused rows stand
    /// alone, so few of them cost few statements, and none holds up its followers. What does not fit the time of a statement is halved
    /// too, and `rows_max` says what may fit from then on. Whether there are dead letters.
    pub(super) async fn commit(&self, batch: Batch, rows_max: &mut Option<u32>) -> Result<bool, Error> {
        pause::at("before-commit").await;
        let (mut open, mut takes_rows, mut has_letters) = (vec![batch], false, false);
        while let Some(batch) = open.pop() {
            let (len, begun) = (u32::try_from(batch.len()).unwrap_or(u32::MAX), Instant::now());
            let dead = match self.ledger().commit(self.id, &batch).await {
                Ok(()) => 0,
                Err(Error::Moved) if self.ledger().is_at(self.id, &batch.from).await? => {
                    return Err(Error::Held(STUCK.into()));
                }
                Err(error) => {
                    let remedy = error.remedy();
                    match remedy {
                        Remedy::Isolate | Remedy::Doubt(_) => {}
                        Remedy::Shorten(_) => {
                            tracing::warn!(coupon = self.id, len, "a batch takes too long, and is halved: {error}");
                            self.tools.counters.retries.inc();
                            *rows_max = Some((len / 2).max(1));
                        }
                        // Redis has granted more than it was told to: both sides are compared then.
                        Remedy::RaiseQuantity => {
                            self.ledger().admit(self.id, batch.to.position.seq.0).await?;
                            return Err(Error::Moved);
                        }
                        _ => return Err(error),
                    }
                    let (alone, rest) = batch.halves();
                    if let Some(rest) = rest {
                        open.extend([rest, alone]);
                        continue;
                    }
                    // By the relay itself, where somebody has put the position back.
                    if error.is_taken() && self.ledger().catch_up(self.id, alone.from).await? {
                        return Err(Error::Moved);
                    }
                    let mut others = open.iter().filter_map(|batch| batch.grants.first());
                    match remedy {
                        Remedy::Shorten(_) => return Err(error),
                        remedy if takes_rows || remedy == Remedy::Isolate => {}
                        // Once more, as what was in everybody's way may have been mended since.
                        Remedy::Doubt(_) if self.ledger().takes(self.id, &alone, &mut others).await? => {
                            takes_rows = true;
                            open.push(alone);
                            continue;
                        }
                        _ => return Err(error),
                    }
                    self.ledger().bury(self.id, &alone, &error).await?;
                    1
                }
            };
            takes_rows |= dead == 0;
            if begun.elapsed() < QUICK && rows_max.is_some_and(|most| len >= most) {
                *rows_max = Some(len.saturating_mul(2)).filter(|most| *most < self.tools.batch_max);
            }
            self.tools.counters.count_batch(len.into(), dead);
            has_letters |= dead > 0;
        }
        Ok(has_letters)
    }
}

/// The grants that continue the ledger; none if all of them are rows already.
///
/// # Errors
/// [`Error::Broken`] at the first that is not the next one: nothing of the page is written then.
pub fn follow(from: Progress, mut grants: Vec<Grant>) -> Result<Option<Batch>, Error> {
    grants.retain(|grant| grant.id.seq > from.position.seq);
    let mut to = from;
    for grant in &grants {
        let expected = to.position.seq.next();
        let broken = |found: String| Err(Error::Broken { expected, found });
        if grant.id.seq != expected {
            return broken(format!("entry {} is the next one there", grant.id));
        }
        let Ok(user) = UserId::parse(grant.user.as_bytes()) else { return broken("its user id is none".into()) };
        let chain = to.position.chain.next(user, grant.requested_at);
        if grant.chain != chain {
            return broken(format!("entry {} has chain {}, and {chain} would follow", grant.id, grant.chain));
        }
        to = Progress { position: Position { seq: expected, chain }, entry: grant.id, ..to };
    }
    Ok(if grants.is_empty() { None } else { Some(Batch { from, grants, to }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coupon_core::grant::EntryId;
    use coupon_core::number::Chain;
    use coupon_core::number::Seq;
    use coupon_core::number::{Arrival, Epoch};

    fn progress(seq: u64, chain: Chain) -> Progress {
        let entry = EntryId { epoch: Epoch(1), seq: Seq(seq) };
        Progress { epoch: Epoch(2), position: Position { seq: Seq(seq), chain }, entry }
    }

    /// A stream of so many grants.
    fn stream(len: u64) -> Vec<Grant> {
        let mut chain = Chain::START;
        (1..=len)
            .map(|seq| {
                let user = format!("u{seq}");
                let requested_at = Arrival(100 + seq);
                if let Ok(user) = UserId::parse(user.as_bytes()) {
                    chain = chain.next(user, requested_at);
                }
                let id = EntryId { epoch: Epoch(1), seq: Seq(seq) };
                Grant { id, user, requested_at, granted_at_ms: 1, chain }
            })
            .collect()
    }

    fn broken_at(from: Progress, grants: Vec<Grant>) -> Option<Seq> {
        match follow(from, grants) {
            Err(Error::Broken { expected, .. }) => Some(expected),
            _ => None,
        }
    }

    #[test]
    fn the_next_grants_follow() -> Result<(), Error> {
        let all = stream(5);
        let from = progress(2, all[1].chain);
        let batch = follow(from, all[2..].to_vec())?;
        let to = progress(5, all[4].chain);
        assert_eq!(batch, Some(Batch { from, grants: all[2..].to_vec(), to }));
        Ok(())
    }

    #[test]
    fn what_is_a_row_already_is_passed_over() -> Result<(), Error> {
        let all = stream(5);
        let from = progress(4, all[3].chain);
        assert_eq!(follow(from, all.clone())?.map(|batch| batch.len()), Some(1));
        assert_eq!(follow(from, all[..4].to_vec())?, None);
        assert_eq!(follow(from, Vec::new())?, None);
        Ok(())
    }

    #[test]
    fn a_gap_stops() {
        let all = stream(5);
        assert_eq!(broken_at(progress(1, all[0].chain), all[2..].to_vec()), Some(Seq(2)));
        let mut holed = all.clone();
        holed.remove(3);
        assert_eq!(broken_at(progress(0, Chain::START), holed), Some(Seq(4)));
    }

    #[test]
    fn another_history_stops() {
        let all = stream(5);
        assert_eq!(broken_at(progress(2, Chain(1)), all[2..].to_vec()), Some(Seq(3)));
        let changes: [fn(&mut Grant); 3] =
            [|grant| grant.user.push('x'), |grant| grant.requested_at.0 += 1, |grant| grant.chain.0 ^= 1];
        for change in changes {
            let mut forged = all.clone();
            change(&mut forged[2]);
            assert_eq!(broken_at(progress(0, Chain::START), forged), Some(Seq(3)));
        }
    }
}
