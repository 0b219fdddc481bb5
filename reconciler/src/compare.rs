//! Bringing a coupon's row and its state in Redis together: publish, adopt, mirror, resume.

use crate::error::Error;
use crate::ledger::{Ledger, Progress, Row};
use crate::pause::{self, Point};
use crate::plan::{Plan, Publication, is_on_offer, plan};
use crate::redis::{Info, Redis, Resumed};
use crate::relay::{Line, Relay, follow};
use coupon_core::coupon::{Epoch, Position};

/// Steps of one comparison. A coupon that needs more is being moved by others at the same time.
const STEPS_MAX: u32 = 8;

/// What a comparison ended with.
pub struct Compared {
    /// The row, if there is one.
    pub row: Option<Row>,
    /// Redis's state, if there is one.
    pub info: Option<Info>,
    /// Where the relay goes on, if the coupon is open to it.
    pub line: Option<Line>,
}

/// What a coupon is compared with.
pub struct Comparison<'a> {
    /// Redis.
    pub redis: &'a Redis,
    /// PostgreSQL.
    pub ledger: &'a Ledger,
    /// For raising a quantity.
    pub relay: &'a Relay<'a>,
    /// The coupon.
    pub id: &'a str,
    /// Its key.
    pub key: &'a str,
}

impl Comparison<'_> {
    /// Steps until both sides agree.
    ///
    /// `held` is an epoch that was taken and under which no Redis was resumed: it is used again, instead of counting
    /// epochs up with every retry.
    pub async fn run(&self, held: &mut Option<Epoch>) -> Result<Compared, Error> {
        for _ in 0..STEPS_MAX {
            let row = self.ledger.row(self.id).await?;
            let info = self.info().await?;
            match (plan(row.as_ref(), info.as_ref()), row, info) {
                (Plan::Rest, row, info) => {
                    let line = match (&row, &info) {
                        (Some(row), Some(info)) => Some(self.line(row.epoch, row.position, info).await?),
                        _ => None,
                    };
                    return Ok(Compared { row, info, line });
                }
                (Plan::Adopt, _, Some(info)) => self.adopt(&info).await?,
                (Plan::Mirror, Some(row), Some(info)) => self.mirror(&row, &info).await?,
                (Plan::Publish(publication), Some(row), info) => {
                    self.publish(&row, info.as_ref(), publication, row.epoch).await?;
                }
                (Plan::Resume(publication), Some(row), info) => {
                    self.resume(&row, info.as_ref(), publication, held).await?;
                }
                (Plan::Foreign, _, _) => {
                    return Err(Error::Held(
                        "Redis holds this coupon with an epoch, but the ledger has no row for it; is --database-url \
                         the right database? Restore the row, or DEL the coupon's three keys"
                            .into(),
                    ));
                }
                // The plan names a side that is not there; it cannot, and another look is no harm.
                _ => {}
            }
        }
        Err(Error::Moved)
    }

    async fn info(&self) -> Result<Option<Info>, Error> {
        match self.redis.info(self.key).await {
            // A companion key is gone. Nothing here can bring it back, and Redis keeps the gate shut by itself.
            Err(error) if error.code() == Some("TRYAGAIN") => {
                Err(Error::Held(error.detail().unwrap_or_default().to_owned()))
            }
            info => Ok(info?),
        }
    }

    async fn line(&self, epoch: Epoch, position: Position, info: &Info) -> Result<Line, Error> {
        let entry = self.ledger.entry(self.id, position.seq).await?;
        Ok(Line { progress: Progress { epoch, position, entry }, acked: info.persisted })
    }

    async fn adopt(&self, info: &Info) -> Result<(), Error> {
        self.ledger.adopt(self.id, info).await?;
        tracing::info!(coupon = self.id, "adopted: it was opened by hand, and has a row now");
        pause::reach(Point::AfterAdopt).await;
        Ok(())
    }

    async fn mirror(&self, row: &Row, info: &Info) -> Result<(), Error> {
        self.ledger.mirror(row, info).await?;
        tracing::info!(coupon = self.id, status = %info.status, "the row follows what changed in Redis");
        Ok(())
    }

    /// Tells Redis the row's definition, and notes in the row that it has it.
    async fn publish(
        &self,
        row: &Row,
        info: Option<&Info>,
        publication: Publication,
        epoch: Epoch,
    ) -> Result<(), Error> {
        match publication {
            Publication::Nothing => {}
            Publication::Open => {
                self.redis.open(self.key, &row.definition, epoch).await?;
                tracing::info!(coupon = self.id, revision = row.revision, "published");
            }
            Publication::Close => {
                self.redis.close(self.key).await?;
                tracing::info!(coupon = self.id, revision = row.revision, "closed");
            }
            Publication::Shut => {
                if info.is_some_and(|info| is_on_offer(info.status)) {
                    self.redis.close(self.key).await?;
                    tracing::error!(
                        coupon = self.id,
                        "closed: it was opened by hand in the place of one whose grants are in the ledger"
                    );
                }
                return Ok(());
            }
            Publication::Raise => return self.relay.raise_quantity(self.id, self.key).await,
        }
        pause::reach(Point::AfterPublish).await;
        if row.is_newer() {
            self.ledger.mark_published(self.id, row.revision).await?;
        }
        Ok(())
    }

    /// Takes the next epoch, and asks Redis to open the gate under it at the ledger's position.
    async fn resume(
        &self,
        row: &Row,
        info: Option<&Info>,
        publication: Publication,
        held: &mut Option<Epoch>,
    ) -> Result<(), Error> {
        if publication == Publication::Raise {
            return self.relay.raise_quantity(self.id, self.key).await;
        }
        let (epoch, position) = match *held {
            Some(epoch) if epoch == row.epoch && info.is_none_or(|info| info.epoch <= epoch) => (epoch, row.position),
            _ => {
                let newest = info.map_or(row.epoch, |info| info.epoch.max(row.epoch));
                let next = Epoch(newest.0.saturating_add(1));
                let taken = self.ledger.take_epoch(self.id, row.epoch, next).await?;
                pause::reach(Point::AfterTakeEpoch).await;
                *held = Some(taken.epoch);
                (taken.epoch, taken.position)
            }
        };
        // The definition comes first, while the gate is shut: a coupon that Redis lacks is born fenced.
        self.publish(row, info, publication, epoch).await?;
        let entry = self.ledger.entry(self.id, position.seq).await?;
        let progress = Progress { epoch, position, entry };
        // What Redis has beyond the ledger must continue it. RESUME alone would open a coupon at seq 0 although the
        // grants from 1 on are trimmed, as happens when PostgreSQL was restored from an old backup.
        let next = self.redis.read(self.key, entry, 1).await?;
        if let Err(error) = follow(progress, next) {
            if !self.ledger.is_at(self.id, &progress).await? {
                return Err(Error::Moved);
            }
            return Err(error);
        }
        // From here on the epoch may be in use, until Redis says that it is not.
        *held = None;
        let answer = self.redis.resume(self.key, epoch, position).await?;
        if answer == Resumed::Open {
            tracing::info!(coupon = self.id, epoch = epoch.0, seq = position.seq.0, "resumed: the gate is open");
            pause::reach(Point::AfterResume).await;
            if publication == Publication::Shut {
                // It continues the ledger after all, and lacks the definition.
                self.ledger.unpublish(self.id).await?;
            }
            return Ok(());
        }
        *held = Some(epoch);
        let ledger = position;
        Err(Error::Held(match answer {
            Resumed::Behind(redis) => format!(
                "Redis has lost grants: it holds {redis}, the ledger {ledger}. The coupon stays shut, so that no unit \
                 is issued twice; bring back Redis's data of that time (AOF or RDB) to go on"
            ),
            Resumed::Diverged(redis) => format!(
                "Redis holds another history: {redis}, the ledger {ledger}. The coupon stays shut, so that no unit is \
                 issued twice; bring back Redis's data that continues the ledger (AOF or RDB) to go on"
            ),
            Resumed::Undecided(text) => text,
            Resumed::Open => String::new(),
        }))
    }
}
