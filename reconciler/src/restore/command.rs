//! `restore`: what the daemon does by itself where that is safe, for one coupon and on an operator's word.

use super::{Rebuild, Restoration};
use crate::cli;
use crate::error::Error;
use crate::exit::{Exit, Failure};
use crate::ledger::{Ledger, Progress, Row};
use crate::model::counters::Counters;
use crate::policy::{self, Remedy};
use crate::redis::{Info, Redis, Resumed};
use crate::relay::Relay;
use crate::signal;
use coupon_core::number::Epoch;
use coupon_core::position::Position;
use tokio_util::sync::CancellationToken;

/// A running reconciler looks at the same coupon, and takes epochs too: of two that do so, one has to try again.
const TRIES_MAX: u32 = 10;

/// Rows in one batch, where the stream still holds some.
const BATCH_MAX: u32 = 5000;

/// What it works with.
struct Order<'a> {
    redis: &'a Redis,
    ledger: &'a Ledger,
    counters: Counters,
    stop: CancellationToken,
    id: &'a str,
    key: String,
}

/// Restores one coupon.
pub async fn obey(args: &cli::Restore, redis: &Redis, ledger: &Ledger) -> Result<Exit, Failure> {
    redis.now_ms().await.map_err(crate::unreachable)?;
    ledger.ping().await.map_err(crate::unreachable)?;
    let stop = CancellationToken::new();
    signal::listen(stop.clone())
        .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be heard: {error}")))?;
    let id = &*args.coupon;
    let order = Order { redis, ledger, counters: Counters::default(), stop, id, key: args.redis.key.key(id) };
    if !args.yes && redis.has_lost_its_line(&order.key).await.map_err(|error| failed(id, &error.into()))? {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "{}{} is gone, and with it the line of those who waited; how many there were is not known. Users with a \
                 row come back, the others have to ask again. If no copy of that key can be brought back, add --yes",
                order.key,
                coupon_core::key::ISSUED
            ),
        ));
    }
    let done = order.persist(args.from_start).await.map_err(|error| failed(id, &error))?;
    println!("{done}");
    Ok(Exit::Ok)
}

/// Puts all of the ledger's grants in the place of what Redis has, for the audit, which has seen that they differ.
pub async fn from_start(redis: &Redis, ledger: &Ledger, id: &str, key: &str) -> Result<(), Error> {
    let (counters, stop, key) = (Counters::default(), CancellationToken::new(), key.to_owned());
    Order { redis, ledger, counters, stop, id, key }.persist(true).await.map(drop)
}

impl Order<'_> {
    /// Tries until nobody else works on the coupon at the same time; what was done.
    async fn persist(&self, from_start: bool) -> Result<String, Error> {
        for _ in 0..TRIES_MAX {
            match self.run(from_start).await {
                Err(error) if policy::remedy(&error) == Remedy::Compare && !self.stop.is_cancelled() => {
                    tracing::debug!(coupon = self.id, %error, "somebody else works on the coupon; trying again");
                }
                done => return done,
            }
        }
        Err(Error::Moved)
    }

    async fn run(&self, from_start: bool) -> Result<String, Error> {
        let id = self.id;
        let row = self.ledger.row(id).await?;
        let row = row.ok_or_else(|| Error::Held("there is no such coupon in the ledger".into()))?;
        let info = match self.redis.info(&self.key).await {
            Ok(info) => Seen::Whole(info),
            Err(error) if error.code() == Some("TRYAGAIN") => Seen::Incomplete,
            Err(error) => return Err(error.into()),
        };
        let (epoch, position) = self.take_epoch(&row, &info).await?;
        if position.seq.0 == 0 {
            return Err(Error::Held(format!(
                "the ledger holds no grant of this coupon, so there is nothing to restore. If Redis has lost one of its keys, \
                 DEL {0} {0}{1} {0}{2}, and it is published anew; whoever was in line has to ask again",
                self.key,
                coupon_core::key::ISSUED,
                coupon_core::key::GRANTS
            )));
        }
        if matches!(info, Seen::Whole(None)) {
            self.redis.open(&self.key, &row.definition, epoch).await?;
        }
        let restoration = self.restoration(epoch, position);
        if from_start || matches!(info, Seen::Incomplete) {
            restoration.run_from_start().await?;
        } else {
            match self.redis.resume(&self.key, epoch, position).await? {
                Resumed::Open => {
                    return Ok(format!(
                        "Redis holds the ledger's {position}, nothing was to be restored; --from-start restores all"
                    ));
                }
                Resumed::Undecided(why) => return Err(Error::Held(why)),
                Resumed::Behind(_) | Resumed::Diverged(_) => restoration.run().await?,
            }
        }
        match self.redis.resume(&self.key, epoch, position).await? {
            Resumed::Open => {}
            _ => return Err(Error::Moved),
        }
        Ok(format!(
            "restored: {} grants sent, {} in coupon_orphan; coupon {id} is open at epoch {epoch} with the ledger's {position}",
            self.counters.restored.get(),
            self.counters.orphans.get()
        ))
    }

    /// Takes an epoch, and saves what of the stream can still become rows.
    async fn take_epoch(&self, row: &Row, info: &Seen) -> Result<(Epoch, Position), Error> {
        let stored = match info {
            Seen::Whole(info) => info.as_ref().map_or(Epoch(0), |info| info.epoch),
            Seen::Incomplete => self.redis.epoch(&self.key).await?,
        };
        let next = Epoch(row.epoch.max(stored).0.saturating_add(1));
        let taken = self.ledger.take_epoch(self.id, row.epoch, next).await?;
        let entry = self.ledger.entry(self.id, taken.position.seq).await?;
        let progress = Progress { epoch: taken.epoch, position: taken.position, entry };
        let relay = Relay { redis: self.redis, ledger: self.ledger, counters: &self.counters, batch_max: BATCH_MAX };
        let saved = Rebuild { relay: &relay, id: self.id, key: &self.key }.salvage(progress).await?;
        Ok((saved.epoch, saved.position))
    }

    fn restoration(&self, epoch: Epoch, ledger_at: Position) -> Restoration<'_> {
        let Self { redis, ledger, counters, stop, id, key } = self;
        Restoration { redis, ledger, counters, stop, id, key, epoch, ledger_at }
    }
}

/// The coupon in Redis.
enum Seen {
    /// With all its keys, or none of them.
    Whole(Option<Info>),
    /// Without one of its companion keys.
    Incomplete,
}

fn failed(id: &str, error: &Error) -> Failure {
    let advice = match policy::remedy(error) {
        _ if matches!(error, Error::Stopping) => {
            "the coupon stays shut until this is run again, or a running reconciler goes on"
        }
        Remedy::Compare => {
            "a running reconciler works on it at the same time; look with `coupon-reconciler status`, and run this again if the coupon is still shut"
        }
        Remedy::Stop(advice) => advice,
        _ => "`coupon-reconciler check` says what is missing",
    };
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    Failure::new(Exit::Failed, format!("coupon {id}: {error}{advice}"))
}
