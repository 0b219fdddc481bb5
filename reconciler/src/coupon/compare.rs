//! Bringing a coupon's row and its state in Redis together: publish, adopt, mirror, open.

use super::plan::{Plan, Publication, plan};
use super::{Coupon, follow};
use crate::error::{Error, Remedy};
use crate::model::coupon::{Info, Row};
use crate::model::grant::{Checkpoint, Progress};
use crate::model::pause;
use crate::redis::Resumed;
use coupon_core::grant::{EntryId, Grant};
use coupon_core::key::{GRANTS, ISSUED};
use coupon_core::number::{Epoch, Seq};
use coupon_core::position::Position;
use coupon_core::words::Status;

/// Steps of one comparison. A coupon that needs more is being moved by others at the same time.
const STEPS_MAX: u32 = 8;

/// Tries to restore a coupon that others work on too.
const RESTORE_TRIES_MAX: u32 = 10;

/// What a comparison ended with.
pub struct Compared {
    /// The row, if there is one.
    pub row: Option<Row>,
    /// Redis's state, if there is one.
    pub info: Option<Info>,
    /// Where the relay goes on, if the coupon is open to it.
    pub checkpoint: Option<Checkpoint>,
}

/// The coupon in Redis.
enum Seen {
    /// With all its keys, or none of them.
    Whole(Option<Info>),
    /// Without one of its companion keys; the text says which, the epoch is the hash's.
    Incomplete(String, Epoch),
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

/// What may be done to open a coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// What is safe, and no more.
    None,
    /// An operator has said that what the ledger holds counts.
    Restore,
    /// The same, and all of it is to be sent, also where both sides hold one history.
    FromStart,
}

impl Coupon<'_> {
    /// Steps until both sides agree; what is not safe is left to an operator.
    pub async fn compare(&self) -> Result<Compared, Error> {
        self.step(Order::None).await
    }

    /// The same on an operator's word: what the ledger holds is brought back to Redis, also where a companion key is lost. A
    /// running reconciler looks at the same coupon, and takes epochs too: of two that do so, one tries again.
    pub async fn restore(&self, from_start: bool) -> Result<Compared, Error> {
        let order = if from_start { Order::FromStart } else { Order::Restore };
        let mut tries = 1;
        loop {
            match self.step(order).await {
                Err(error)
                    if error.remedy() == Remedy::Compare
                        && tries < RESTORE_TRIES_MAX
                        && !self.tools.stop.is_cancelled() =>
                {
                    tracing::debug!(coupon = self.id, %error, "somebody else works on the coupon; trying again");
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn step(&self, mut order: Order) -> Result<Compared, Error> {
        let mut is_restored = false;
        for _ in 0..STEPS_MAX {
            let row = self.ledger().row(self.id).await?;
            // Before anything is decided by a position that denies rows.
            if let Some(Row { epoch, position, .. }) = row {
                let at = Progress { epoch, position, entry: EntryId::default() };
                if self.ledger().catch_up(self.id, at).await? {
                    continue;
                }
            }
            let seen = self.look().await?;
            if order != Order::None {
                let row = row.ok_or_else(|| Error::Held("there is no such coupon in the ledger".into()))?;
                self.open(&row, &seen, order, &mut is_restored).await?;
                (order, is_restored) = (Order::None, true);
                continue;
            }
            let info = match seen {
                Seen::Whole(info) => info,
                // Redis keeps the gate shut by itself.
                Seen::Incomplete(why, _) => return Err(self.incomplete(&why)),
            };
            match (plan(row.as_ref(), info.as_ref()), row, info) {
                (Plan::Mirror, Some(row), Some(info)) if self.ledger().mirror(&row, &info).await? => {
                    tracing::info!(coupon = self.id, status = %info.offer.status, "the row follows what changed in Redis");
                }
                (Plan::Publish(Publication::Raise), Some(_), Some(info)) if self.raise_quantity(&info).await? => {}
                // Also where somebody holds the row: grants become rows meanwhile, and the next full pass tries again.
                (Plan::Rest | Plan::Mirror | Plan::Publish(Publication::Raise), Some(row), Some(info)) => {
                    let entry = self.ledger().entry(self.id, row.position.seq).await?;
                    let progress = Progress { epoch: row.epoch, position: row.position, entry };
                    // Whether what was acknowledged and is no row can still be relayed.
                    let is_older = info.persisted > row.position.seq
                        && matches!(self.footing(&progress).await?, Footing::Older(_));
                    if !is_older {
                        let checkpoint = Some(checkpoint(progress, &row, &info));
                        return Ok(Compared { row: Some(row), info: Some(info), checkpoint });
                    }
                    self.open(&row, &Seen::Whole(Some(info)), order, &mut is_restored).await?;
                }
                (Plan::Rest, row, info) => return Ok(Compared { row, info, checkpoint: None }),
                (Plan::Adopt, _, Some(info)) => {
                    self.ledger().adopt(self.id, &info).await?;
                    if info.epoch.0 == 0 {
                        tracing::info!(coupon = self.id, "adopted: it was opened by hand, and has a row now");
                    } else {
                        self.tools.counters.readopted.inc();
                        tracing::error!(
                            coupon = self.id,
                            "adopted, as Redis holds it with an epoch and the ledger had lost its row, which is made again with its \
                             grants; is --database-url the right database?"
                        );
                    }
                    pause::at("after-adopt").await;
                }
                (Plan::Publish(publication), Some(row), info) => {
                    self.publish(&row, info.as_ref(), publication, row.epoch).await?;
                }
                (Plan::Resume(_), Some(row), info) => {
                    self.open(&row, &Seen::Whole(info), order, &mut is_restored).await?;
                }
                // The plan names a side that is not there; it cannot, and another look is no harm.
                _ => {}
            }
        }
        Err(Error::Moved)
    }

    async fn look(&self) -> Result<Seen, Error> {
        match self.redis().info(&self.key).await {
            Err(error) if error.code() == Some("TRYAGAIN") => {
                let why = error.detail().unwrap_or_default().to_owned();
                Ok(Seen::Incomplete(why, self.redis().epoch(&self.key).await?))
            }
            info => Ok(Seen::Whole(info?)),
        }
    }

    /// Tells Redis the row's definition, under a number that is noted before: whoever finds the note and a Redis that has not
    /// heard of the number tells it again.
    async fn publish(
        &self,
        row: &Row,
        info: Option<&Info>,
        publication: Publication,
        epoch: Epoch,
    ) -> Result<(), Error> {
        if publication != Publication::Tell {
            return Ok(());
        }
        let heard = info.map_or(0, |info| info.revision);
        let is_announced = !row.is_news() && row.revision() > 0 && heard <= row.revision();
        let revision = if is_announced { row.revision() } else { self.ledger().announce(row, heard).await? };
        pause::at("before-publish").await;
        match row.offer.status {
            // What was never on offer, or is gone, has no line that could be kept.
            Status::Standard | Status::Expired if info.is_none() => {}
            Status::Expired => {
                self.redis().close(&self.key, epoch, revision).await?;
                tracing::info!(coupon = self.id, revision, "closed");
            }
            status => {
                self.redis().open(&self.key, &row.offer, epoch, revision).await?;
                tracing::info!(coupon = self.id, revision, %status, "published");
            }
        }
        pause::at("after-publish").await;
        let quantity = row.offer.definition.quantity;
        if row.told.is_some_and(|told| told.offer.definition.quantity > quantity) {
            self.ledger().lower(self.id, revision, quantity).await?;
        }
        Ok(())
    }

    /// The row offers less than Redis has granted. Users were told that they have a unit; that counts.
    async fn raise_quantity(&self, info: &Info) -> Result<bool, Error> {
        let granted = info.granted.0;
        let is_raised = self.ledger().raise_quantity(self.id, granted).await?;
        if is_raised {
            tracing::warn!(
                coupon = self.id,
                granted,
                "the row's quantity was set below what is granted already; it is raised again, as grants are not taken back"
            );
        }
        Ok(is_raised)
    }

    /// Opens the gate under an epoch that was just taken, if Redis is seen to be level and its definition is the row's.
    pub async fn reopen(&self, progress: Progress, row: &Row, info: &Info) -> Result<Checkpoint, Error> {
        if self.footing(&progress).await? != Footing::Level {
            return Err(Error::Moved);
        }
        match self.resume(&progress).await? {
            Resumed::Open => Ok(checkpoint(progress, row, info)),
            _ => Err(Error::Moved),
        }
    }

    async fn resume(&self, progress: &Progress) -> Result<Resumed, Error> {
        pause::at("before-resume").await;
        let answer = self.redis().resume(&self.key, progress.epoch, progress.position).await?;
        if answer == Resumed::Open {
            pause::at("after-resume").await;
        }
        Ok(answer)
    }

    /// Takes the next epoch, and asks Redis to open the gate under it at the ledger's position. Where Redis holds
    /// another history, the ledger's is restored instead, and the next step asks again.
    async fn open(&self, row: &Row, seen: &Seen, order: Order, is_restored: &mut bool) -> Result<(), Error> {
        let info = seen.info();
        // Of two who saw the same epoch, one gets the next, and reads the ledger's position under it.
        let mut taken = self.ledger().take_epochs(&[(row, seen.epoch())]).await?;
        let mut progress = taken.remove(self.id).ok_or(Error::Moved)?;
        pause::at("after-take-epoch").await;
        if info.is_none() {
            progress = self.salvage(progress).await?;
        }
        let Progress { epoch, position, .. } = progress;
        let publication = match plan(Some(row), info) {
            Plan::Resume(publication) | Plan::Publish(publication) => publication,
            _ => Publication::Nothing,
        };
        let is_gone = matches!(seen, Seen::Whole(None));
        if order != Order::None && position.seq.0 == 0 {
            return Err(Error::Held(format!(
                "the ledger holds no grant of this coupon, so there is nothing to restore. If Redis has lost one of its keys, \
                 DEL {}, and it is published anew; whoever was in line has to ask again",
                self.all_keys(" ")
            )));
        }
        if order == Order::FromStart || matches!(seen, Seen::Incomplete(..)) {
            if is_gone {
                self.publish(row, info, Publication::Tell, epoch).await?;
            }
            return self.restoration(epoch, position).run_from_start().await;
        }
        let footing = self.footing(&progress).await?;
        if let Footing::Older(entry) = footing {
            return self.rebuild_or_restore(progress, entry).await;
        }
        if footing == Footing::Level
            && publication == Publication::Raise
            && let Some(info) = info
        {
            return self.raise_quantity(info).await.map(drop);
        }
        // The definition comes first, while the gate is shut: a coupon that Redis lacks is born fenced. But one of another
        // history may not take it, as it may have granted more than the row offers.
        if footing == Footing::Level || is_gone || row.offer.status == Status::Expired {
            self.publish(row, info, publication, epoch).await?;
        }
        match self.resume(&progress).await? {
            Resumed::Open => {
                tracing::info!(coupon = self.id, epoch = epoch.0, seq = position.seq.0, "resumed: the gate is open");
                Ok(())
            }
            Resumed::Behind(redis) | Resumed::Diverged(redis) => {
                if std::mem::replace(is_restored, true) {
                    return Err(Error::Held(format!(
                        "Redis was restored and still stands at {redis} instead of {position}; is somebody else writing \
                         to the coupon's keys? The coupon stays shut, and is restored again after a while"
                    )));
                }
                tracing::warn!(coupon = self.id, redis = %redis, ledger = %position, "Redis does not hold the ledger's history");
                self.restoration(epoch, position).run().await
            }
            Resumed::Undecided(text) => Err(self.incomplete(&text)),
        }
    }

    /// What the stream says about the place where the ledger ends.
    ///
    /// # Errors
    /// [`Error::Broken`] if the stream holds the ledger's newest grant, and what comes behind it does not follow.
    async fn footing(&self, progress: &Progress) -> Result<Footing, Error> {
        let Position { seq, chain } = progress.position;
        // RESUME alone would open a coupon although what follows the ledger is missing, as when somebody cut the stream.
        let grants = self.redis().read_from(&self.key, progress.entry, 2).await?;
        let is_here = grants.iter().any(|grant| grant.id.seq == seq);
        let is_level = seq.0 == 0 || grants.iter().any(|grant| grant.id.seq == seq && grant.chain == chain);
        let next = grants.into_iter().find(|grant| grant.id.seq > seq);
        match follow(*progress, next.iter().cloned().collect()) {
            Ok(Some(_)) => Ok(Footing::Level),
            Ok(None) => Ok(if is_level { Footing::Level } else { Footing::Unknown }),
            // Another reconciler was here, and what it acknowledged is trimmed: that is no gap.
            Err(_) if !self.ledger().is_at(self.id, progress).await? => Err(Error::Moved),
            Err(broken) => match next {
                // The entries between were trimmed: they were rows once.
                Some(next) if !is_here && next.id.seq > seq.next() => Ok(Footing::Older(next)),
                _ if is_level => Err(broken),
                _ => Ok(Footing::Unknown),
            },
        }
    }

    /// The ledger ends before the oldest grant that Redis holds the entry of: rows are missing that Redis was told of.
    async fn rebuild_or_restore(&self, progress: Progress, entry: Grant) -> Result<(), Error> {
        let Progress { epoch, position, .. } = progress;
        let (first, last) = (position.seq.next(), Seq(entry.id.seq.0.saturating_sub(1)));
        tracing::warn!(
            coupon = self.id,
            "the ledger lacks seq {first} to {last}, which Redis was told are rows: was PostgreSQL restored from a backup?"
        );
        if self.rebuild(progress, &entry).await? {
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
        if position.seq.0 > 0 {
            return self.restoration(epoch, position).run().await;
        }
        self.restoration(epoch, position).name_orphans().await?;
        Err(Error::Held(format!(
            "the ledger holds no grant of this coupon, and the users in Redis do not prove those that it lacks; they are in \
             coupon_orphan, and the coupon is shut. To begin anew, DEL {}; to go on, restore a newer backup of PostgreSQL",
            self.all_keys(", ")
        )))
    }

    /// A companion key is missing. It may be on its way here with its slot, so nothing is done unasked.
    fn incomplete(&self, why: &str) -> Error {
        Error::Held(format!(
            "{why}. Nothing is restored by itself, as the key may be on its way; if it is lost, \
             `coupon-reconciler restore {}` brings back what the ledger holds",
            self.id
        ))
    }

    fn all_keys(&self, between: &str) -> String {
        let key = &self.key;
        [key.clone(), format!("{key}{ISSUED}"), format!("{key}{GRANTS}")].join(between)
    }
}

impl Seen {
    const fn info(&self) -> Option<&Info> {
        match self {
            Self::Whole(info) => info.as_ref(),
            Self::Incomplete(..) => None,
        }
    }

    fn epoch(&self) -> Epoch {
        match self {
            Self::Whole(info) => info.as_ref().map_or(Epoch(0), |info| info.epoch),
            Self::Incomplete(_, epoch) => *epoch,
        }
    }
}

/// Where the relay goes on with a coupon whose sides agree.
fn checkpoint(progress: Progress, row: &Row, info: &Info) -> Checkpoint {
    let last_unit = Seq(row.offer.definition.quantity);
    // Where all are in the ledger already, somebody holds the row: it cannot be said now.
    let is_to_be_said = row.offer.status == Status::Available && row.position.seq < last_unit;
    let last_unit = is_to_be_said.then_some(last_unit);
    // Whatever another one committed may be dead letters.
    let has_untold = info.persisted < progress.position.seq || info.refused != row.letters();
    Checkpoint { progress, acked: info.persisted, has_untold, last_unit }
}
