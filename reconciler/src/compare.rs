//! Bringing a coupon's row and its state in Redis together: publish, adopt, mirror, resume, restore.

use crate::error::Error;
use crate::ledger::{Ledger, Progress, Row};
use crate::pause::{self, Point};
use crate::plan::{Plan, Publication, plan};
use crate::redis::{Info, Redis, Resumed};
use crate::relay::{Line, Relay, follow};
use crate::restore::{Rebuild, Restoration};
use coupon_core::grant::Grant;
use coupon_core::key::{GRANTS, ISSUED};
use coupon_core::number::{Epoch, Seq};
use coupon_core::position::Position;
use tokio_util::sync::CancellationToken;

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
    /// Cancelled when it has to end.
    pub stop: &'a CancellationToken,
    /// The coupon.
    pub id: &'a str,
    /// Its key.
    pub key: &'a str,
}

impl Comparison<'_> {
    /// Steps until both sides agree.
    ///
    /// `held` is an epoch that was taken and under which no Redis was resumed: it is used again, instead of counting
    /// epochs up with every retry. One under which a RESUME may have succeeded is never held.
    pub async fn run(&self, held: &mut Option<Epoch>) -> Result<Compared, Error> {
        let mut restored = false;
        for _ in 0..STEPS_MAX {
            let row = self.ledger.row(self.id).await?;
            let info = self.info().await?;
            self.count_requests(row.as_ref(), info.as_ref());
            match (plan(row.as_ref(), info.as_ref()), row, info) {
                (Plan::Rest, Some(row), Some(info)) => {
                    let line = self.line(row.epoch, row.position, &info).await?;
                    // Whether what was acknowledged and is no row can still be relayed.
                    let is_older = info.persisted > row.position.seq
                        && matches!(self.footing(&line.progress).await?, Footing::Older(_));
                    if !is_older {
                        return Ok(Compared { row: Some(row), info: Some(info), line: Some(line) });
                    }
                    self.resume(&row, Some(&info), Publication::Nothing, held, &mut restored).await?;
                }
                (Plan::Rest, row, info) => return Ok(Compared { row, info, line: None }),
                (Plan::Adopt, _, Some(info)) => self.adopt(&info).await?,
                (Plan::Mirror, Some(row), Some(info)) => self.mirror(&row, &info).await?,
                (Plan::Publish(publication), Some(row), _) => self.publish(&row, publication, row.epoch).await?,
                (Plan::Resume(publication), Some(row), info) => {
                    self.resume(&row, info.as_ref(), publication, held, &mut restored).await?;
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

    /// Before the gate opens too, so that the first who come in are counted. What Redis lacks of the ledger's grants is
    /// brought back meanwhile, and is nobody's request.
    fn count_requests(&self, row: Option<&Row>, info: Option<&Info>) {
        let metrics = self.relay.metrics;
        match (row, info) {
            (_, Some(info)) if !info.fenced => metrics.count_requests(self.id, info),
            (Some(row), info) => {
                let held = info.map_or(0, |info| info.requested);
                metrics.rates.expect(self.id, row.epoch, held.max(row.position.seq.0));
            }
            (None, _) => {}
        }
    }

    async fn info(&self) -> Result<Option<Info>, Error> {
        match self.redis.info(self.key).await {
            // Redis keeps the gate shut by itself.
            Err(error) if error.code() == Some("TRYAGAIN") => {
                Err(Error::Held(self.advise_restore(error.detail().unwrap_or_default())))
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
    async fn publish(&self, row: &Row, publication: Publication, epoch: Epoch) -> Result<(), Error> {
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
            Publication::Raise => return self.relay.raise_quantity(self.id, self.key).await,
        }
        pause::reach(Point::AfterPublish).await;
        if row.is_newer() {
            self.ledger.mark_published(self.id, row.revision).await?;
        }
        Ok(())
    }

    /// Opens the gate under an epoch that was just taken, if Redis is seen to be level and its definition is the row's.
    pub async fn reopen(&self, progress: Progress, info: &Info) -> Result<Line, Error> {
        if self.footing(&progress).await? != Footing::Level {
            return Err(Error::Moved);
        }
        pause::reach(Point::BeforeResume).await;
        match self.redis.resume(self.key, progress.epoch, progress.position).await? {
            Resumed::Open => {
                pause::reach(Point::AfterResume).await;
                Ok(Line { progress, acked: info.persisted })
            }
            _ => Err(Error::Moved),
        }
    }

    /// Takes the next epoch, and asks Redis to open the gate under it at the ledger's position. Where Redis holds
    /// another history, the ledger's is restored instead, and the next step asks again.
    async fn resume(
        &self,
        row: &Row,
        info: Option<&Info>,
        publication: Publication,
        held: &mut Option<Epoch>,
        restored: &mut bool,
    ) -> Result<(), Error> {
        let (epoch, position) = match *held {
            Some(epoch) if epoch == row.epoch && info.is_none_or(|info| info.epoch <= epoch) => (epoch, row.position),
            _ => self.take_epoch(row, info, held).await?,
        };
        let entry = self.ledger.entry(self.id, position.seq).await?;
        let progress = Progress { epoch, position, entry };
        if info.is_none() && self.rebuild().salvage(progress).await? != progress {
            return Ok(());
        }
        let footing = self.footing(&progress).await?;
        if let Footing::Older(entry) = footing {
            return self.rebuild_or_restore(progress, entry, held).await;
        }
        if footing == Footing::Level && publication == Publication::Raise {
            return self.relay.raise_quantity(self.id, self.key).await;
        }
        // The definition comes first, while the gate is shut: a coupon that Redis lacks is born fenced. But one of another
        // history may not take it, as it may have granted more than the row offers.
        let is_published = footing == Footing::Level || info.is_none() || publication == Publication::Close;
        if is_published {
            self.publish(row, publication, epoch).await?;
        }
        // From here on the epoch may be in use, until Redis says that it is not.
        *held = None;
        pause::reach(Point::BeforeResume).await;
        let answer = self.redis.resume(self.key, epoch, position).await?;
        if answer == Resumed::Open {
            tracing::info!(coupon = self.id, epoch = epoch.0, seq = position.seq.0, "resumed: the gate is open");
            pause::reach(Point::AfterResume).await;
            if !is_published && publication != Publication::Nothing {
                self.ledger.unpublish(self.id).await?;
            }
            return Ok(());
        }
        *held = Some(epoch);
        match answer {
            Resumed::Behind(redis) | Resumed::Diverged(redis) => {
                if std::mem::replace(restored, true) {
                    return Err(Error::Held(format!(
                        "Redis was restored and still stands at {redis} instead of {position}; is somebody else writing \
                         to the coupon's keys? The coupon stays shut, and is restored again after a while"
                    )));
                }
                tracing::warn!(coupon = self.id, redis = %redis, ledger = %position, "Redis does not hold the ledger's history");
                self.restoration(epoch, position).run().await
            }
            Resumed::Undecided(text) => Err(Error::Held(self.advise_restore(&text))),
            Resumed::Open => Ok(()),
        }
    }

    /// The next epoch, and the ledger's position under it.
    async fn take_epoch(
        &self,
        row: &Row,
        info: Option<&Info>,
        held: &mut Option<Epoch>,
    ) -> Result<(Epoch, Position), Error> {
        let newest = info.map_or(row.epoch, |info| info.epoch.max(row.epoch));
        let next = Epoch(newest.0.saturating_add(1));
        let taken = self.ledger.take_epoch(self.id, row.epoch, next).await?;
        pause::reach(Point::AfterTakeEpoch).await;
        *held = Some(taken.epoch);
        Ok((taken.epoch, taken.position))
    }

    const fn restoration(&self, epoch: Epoch, ledger_at: Position) -> Restoration<'_> {
        let Self { redis, ledger, id, key, stop, .. } = *self;
        Restoration { redis, ledger, metrics: self.relay.metrics, stop, id, key, epoch, ledger_at }
    }

    const fn rebuild(&self) -> Rebuild<'_> {
        Rebuild { relay: self.relay, id: self.id, key: self.key }
    }

    /// What the stream says about the place where the ledger ends.
    ///
    /// # Errors
    /// [`Error::Broken`] if the stream holds the ledger's newest grant, and what comes behind it does not follow.
    async fn footing(&self, progress: &Progress) -> Result<Footing, Error> {
        let Position { seq, chain } = progress.position;
        // RESUME alone would open a coupon although what follows the ledger is missing, as when somebody cut the stream.
        let grants = self.redis.read_from(self.key, progress.entry, 2).await?;
        let is_here = grants.iter().any(|grant| grant.id.seq == seq);
        let is_level = seq.0 == 0 || grants.iter().any(|grant| grant.id.seq == seq && grant.chain == chain);
        let next = grants.into_iter().find(|grant| grant.id.seq > seq);
        match follow(*progress, next.iter().cloned().collect()) {
            Ok(Some(_)) => Ok(Footing::Level),
            Ok(None) => Ok(if is_level { Footing::Level } else { Footing::Unknown }),
            // Another reconciler was here, and what it acknowledged is trimmed: that is no gap.
            Err(_) if !self.ledger.is_at(self.id, progress).await? => Err(Error::Moved),
            Err(broken) => match next {
                // The entries between were trimmed: they were rows once.
                Some(next) if !is_here && next.id.seq > seq.next() => Ok(Footing::Older(next)),
                _ if is_level => Err(broken),
                _ => Ok(Footing::Unknown),
            },
        }
    }

    /// The ledger ends before the oldest grant that Redis holds the entry of: rows are missing that Redis was told of.
    async fn rebuild_or_restore(
        &self,
        progress: Progress,
        entry: Grant,
        held: &mut Option<Epoch>,
    ) -> Result<(), Error> {
        let Progress { epoch, position, .. } = progress;
        let (first, last) = (position.seq.next(), Seq(entry.id.seq.0.saturating_sub(1)));
        tracing::warn!(
            coupon = self.id,
            "the ledger lacks seq {first} to {last}, which Redis was told are rows: was PostgreSQL restored from a backup?"
        );
        if self.rebuild().fill(progress, &entry).await? {
            tracing::warn!(
                coupon = self.id,
                "seq {first} to {last} are rows again, from the users in Redis, as their chain proves; granted_at is when they asked"
            );
            return Ok(());
        }
        tracing::error!(
            coupon = self.id,
            "the users in Redis do not prove which grants are missing; the ledger's history counts"
        );
        *held = Some(epoch);
        if position.seq.0 > 0 {
            return self.restoration(epoch, position).run().await;
        }
        self.restoration(epoch, position).name_orphans().await?;
        Err(Error::Held(format!(
            "the ledger holds no grant of this coupon, and the users in Redis do not prove those that it lacks; they are in \
             coupon_orphan, and the coupon is shut. To begin anew, DEL {key}, {key}{ISSUED} and {key}{GRANTS}; to go on, \
             restore a newer backup of PostgreSQL",
            key = self.key
        )))
    }

    /// A companion key is missing. It may be on its way here with its slot, so nothing is done unasked.
    fn advise_restore(&self, why: &str) -> String {
        format!(
            "{why}. Nothing is restored by itself, as the key may be on its way; if it is lost, \
             `coupon-reconciler restore {}` brings back what the ledger holds",
            self.id
        )
    }
}

/// How Redis stands to the end of the ledger, before it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Footing {
    /// It holds the ledger's newest grant, or the ledger has none.
    Level,
    /// Only RESUME can tell.
    Unknown,
    /// What would follow the ledger is trimmed, and this is the oldest entry beyond: PostgreSQL was brought back to an older
    /// state.
    Older(Grant),
}
