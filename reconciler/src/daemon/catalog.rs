//! The coupons that need work, and what is remembered of each between two visits.
//!
//! A coupon is visited by one worker at a time. Whatever happens to it meanwhile is noted, and it is visited again.

use super::shards::{Change, Shards};
use crate::model::coupon::{Info, Row, is_on_offer};
use crate::model::grant::Checkpoint;
use crate::model::standing::Known;
use coupon_core::number::Seq;
use coupon_core::words::Status;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A coupon's id.
pub type Id = Arc<str>;

/// Why a coupon needs a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There may be grants that are no rows.
    Grants,
    /// Both sides may differ.
    Doubt,
    /// Somebody changed it: worth a visit even where the last one failed.
    News,
}

/// What a visit leaves for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Where the relay goes on; none if both sides have to be compared first.
    pub checkpoint: Option<Checkpoint>,
    /// Visits that failed in a row.
    pub failures: u32,
    /// What was said of the last failure.
    pub problem: Option<String>,
    /// Whether an operator is needed.
    pub stopped: bool,
}

/// A coupon to visit.
#[derive(Debug)]
pub struct Ticket {
    /// The coupon.
    pub id: Id,
    /// Whether both sides have to be compared.
    pub compare: bool,
    /// What the last visit left.
    pub memory: Memory,
}

/// When to visit a coupon next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When there is a reason.
    Rest,
    /// Soon, after the others.
    Again,
    /// After a while, unless there is news before.
    Later(Duration),
    /// There is nothing on either side.
    Forget,
}

/// How many coupons there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Shards that this process holds.
    pub shards: u32,
    /// Coupons that are remembered.
    pub known: usize,
    /// Coupons that wait for an operator.
    pub stopped: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Queued,
    Running,
    /// Until the sleeper of this number wakes it.
    Sleeping(u64),
}

#[derive(Debug)]
struct Entry {
    stage: Stage,
    /// Something happened since the visit began.
    again: bool,
    compare: bool,
    /// Whether all grants known of are rows.
    level: bool,
    /// Users wait and there are units for them.
    waiting: bool,
    /// When the window's next edge has to be acted on, in Unix milliseconds.
    due_at_ms: Option<u64>,
    memory: Memory,
}

#[derive(Default)]
struct Inner {
    coupons: HashMap<Id, Entry>,
    queue: VecDeque<Id>,
    sleepers: u64,
}

/// All coupons that are remembered, and which are this process's to work on.
#[derive(Default)]
pub struct Catalog {
    shards: Shards,
    inner: Mutex<Inner>,
    queued: Notify,
}

impl Inner {
    fn entry(&mut self, id: &str) -> (Id, &mut Entry) {
        let id: Id = match self.coupons.get_key_value(id) {
            Some((id, _)) => Arc::clone(id),
            None => Arc::from(id),
        };
        let entry = self.coupons.entry(Arc::clone(&id)).or_insert(Entry {
            stage: Stage::Idle,
            again: false,
            compare: false,
            level: true,
            waiting: false,
            due_at_ms: None,
            memory: Memory::default(),
        });
        (id, entry)
    }

    fn enqueue(&mut self, id: &Id) {
        if let Some(entry) = self.coupons.get_mut(id) {
            entry.stage = Stage::Queued;
            self.queue.push_back(Arc::clone(id));
        }
    }
}

impl Catalog {
    // Nothing in here panics while it holds the lock, and if it did, a queue is still a queue.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a coupon is this process's to work on.
    pub fn holds(&self, id: &str) -> bool {
        self.shards.hold(id)
    }

    /// Takes over what the leases say, and forgets the coupons of others; a visit that is under way ends.
    pub fn hold(&self, shards: impl Iterator<Item = u8>) -> Change {
        let change = self.shards.set(shards);
        if change.lost > 0 {
            self.lock().coupons.retain(|id, entry| entry.stage == Stage::Running || self.shards.hold(id));
        }
        change
    }

    /// Notes that a coupon needs a visit, if it is one of this process's.
    pub fn mark(&self, id: &str, reason: Reason) {
        if !self.holds(id) {
            return;
        }
        let mut inner = self.lock();
        let (id, entry) = inner.entry(id);
        entry.level = false;
        entry.compare |= reason != Reason::Grants;
        match entry.stage {
            Stage::Running => entry.again = true,
            Stage::Queued => {}
            Stage::Sleeping(_) if reason != Reason::News => {}
            Stage::Sleeping(_) | Stage::Idle => {
                inner.enqueue(&id);
                drop(inner);
                self.queued.notify_one();
            }
        }
    }

    /// The next coupon to visit; waits until there is one.
    pub async fn next(&self) -> Ticket {
        loop {
            let queued = self.queued.notified();
            if let Some(ticket) = self.take() {
                return ticket;
            }
            queued.await;
        }
    }

    fn take(&self) -> Option<Ticket> {
        let mut inner = self.lock();
        let id = inner.queue.pop_front()?;
        if !inner.queue.is_empty() {
            // One permit is kept at most: pass it on, so that the other workers do not sleep over a queue.
            self.queued.notify_one();
        }
        let (id, entry) = inner.entry(&id);
        entry.stage = Stage::Running;
        entry.again = false;
        let compare = std::mem::take(&mut entry.compare);
        Some(Ticket { id, compare, memory: entry.memory.clone() })
    }

    /// Takes a coupon that nobody visits or is about to, for what is done to many at once; it ends as a visit does.
    pub fn begin(&self, id: &str) -> Option<Ticket> {
        let mut inner = self.lock();
        let (id, entry) = inner.entry(id);
        if entry.stage != Stage::Idle {
            return None;
        }
        entry.stage = Stage::Running;
        entry.again = false;
        entry.level = false;
        let compare = std::mem::take(&mut entry.compare);
        Some(Ticket { id, compare, memory: entry.memory.clone() })
    }

    /// Ends a visit.
    pub fn finish(self: &Arc<Self>, ticket: Ticket, next: Next) {
        let mut inner = self.lock();
        inner.sleepers += 1;
        let sleeper = inner.sleepers;
        let (id, entry) = inner.entry(&ticket.id);
        entry.memory = ticket.memory;
        entry.stage = Stage::Idle;
        let again = std::mem::take(&mut entry.again);
        match next {
            Next::Later(delay) => {
                entry.stage = Stage::Sleeping(sleeper);
                drop(inner);
                let catalog = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    catalog.wake(&id, sleeper);
                });
                return;
            }
            Next::Rest | Next::Forget if !again => {
                entry.level = true;
                if next == Next::Forget {
                    inner.coupons.remove(&id);
                }
                return;
            }
            Next::Rest | Next::Forget | Next::Again => inner.enqueue(&id),
        }
        drop(inner);
        self.queued.notify_one();
    }

    fn wake(&self, id: &Id, sleeper: u64) {
        let mut inner = self.lock();
        if inner.coupons.get(id).is_some_and(|entry| entry.stage == Stage::Sleeping(sleeper)) {
            inner.enqueue(id);
            drop(inner);
            self.queued.notify_one();
        }
    }

    /// A side came back: what failed before may succeed now.
    pub fn wake_all(&self) {
        let mut inner = self.lock();
        let sleeping: Vec<Id> = inner
            .coupons
            .iter()
            .filter(|(_, entry)| matches!(entry.stage, Stage::Sleeping(_)))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in sleeping {
            inner.enqueue(&id);
        }
        drop(inner);
        self.queued.notify_one();
    }

    /// Notes that users wait, if the coupon is one of this process's.
    pub fn expect_waiting(&self, id: &str) {
        if !self.holds(id) {
            return;
        }
        self.lock().entry(id).1.waiting = true;
    }

    /// Notes what was seen of a coupon whose sides agree.
    pub fn observe(&self, id: &str, row: &Row, info: &Info) {
        let waiting = info.offer.status == Status::Available
            && info.waiting > 0
            && info.granted.0 < info.offer.definition.quantity;
        let due = due_at_ms(info);
        let mut inner = self.lock();
        // Most coupons of a large catalogue neither wait nor end: they take no memory.
        if waiting || due.is_some() || inner.coupons.contains_key(id) {
            let entry = inner.entry(id).1;
            // Never taken back: a message may have come since.
            entry.waiting |= waiting;
            entry.due_at_ms = due;
        }
        if !is_on_offer(row.offer.status)
            && let Some(entry) = inner.coupons.get(id)
            && entry.stage == Stage::Idle
            && entry.level
        {
            inner.coupons.remove(id);
        }
    }

    /// The coupons whose users wait or whose window has an edge before this time. They are no longer noted so.
    pub fn take_due(&self, now_ms: u64) -> Vec<Due> {
        let mut due = Vec::new();
        for (id, entry) in &mut self.lock().coupons {
            let edge = entry.due_at_ms.is_some_and(|at| at <= now_ms);
            if entry.waiting || edge {
                entry.waiting = false;
                if edge {
                    entry.due_at_ms = None;
                }
                due.push(Due { id: Arc::clone(id), edge });
            }
        }
        due
    }

    /// Some coupon that is open to the relay, to be looked at as a sample.
    pub fn sample(&self) -> Option<Id> {
        let inner = self.lock();
        inner.coupons.iter().find(|(_, entry)| entry.memory.checkpoint.is_some()).map(|(id, _)| Arc::clone(id))
    }

    /// What is remembered of coupons with work at hand, at most so many; those that wait for an operator come first.
    pub fn at_work(&self, max: usize) -> HashMap<String, Known> {
        let inner = self.lock();
        let at_work = inner.coupons.iter().filter(|(_, entry)| !entry.level);
        let (stopped, others): (Vec<_>, Vec<_>) = at_work.partition(|(_, entry)| entry.memory.stopped);
        let known = |(id, Entry { memory, .. }): (&Id, &Entry)| {
            let progress = memory.checkpoint.map(|checkpoint| checkpoint.progress);
            let known = Known {
                relayed: progress.map_or(Seq(0), |progress| progress.position.seq),
                entry: progress.map(|progress| progress.entry).unwrap_or_default(),
                stopped: memory.stopped,
                problem: memory.problem.clone(),
                drift: 0,
            };
            (id.to_string(), known)
        };
        stopped.into_iter().chain(others).take(max).map(known).collect()
    }

    /// How many coupons there are.
    pub fn totals(&self) -> Totals {
        let inner = self.lock();
        let stopped = inner.coupons.values().filter(|entry| entry.memory.stopped).count();
        Totals { shards: self.shards.len(), known: inner.coupons.len(), stopped }
    }
}

/// A coupon to issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The coupon.
    pub id: Id,
    /// Whether its window has an edge, so that its status may change.
    pub edge: bool,
}

/// When a coupon has to be looked at without anybody sending a message: at its end, and at its beginning if
/// somebody was let in before that was put off.
fn due_at_ms(info: &Info) -> Option<u64> {
    if info.offer.status != Status::Available {
        return None;
    }
    let end = (info.offer.definition.expires_at > 0).then_some(info.offer.definition.expires_at);
    let begin = (info.offer.definition.opens_at > 0 && info.waiting > 0).then_some(info.offer.definition.opens_at);
    end.into_iter().chain(begin).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Arc<Catalog> {
        let catalog = Catalog::default();
        catalog.hold(0..64);
        Arc::new(catalog)
    }

    #[test]
    fn a_coupon_is_visited_by_one_worker_at_a_time() {
        let catalog = catalog();
        catalog.mark("a", Reason::Grants);
        catalog.mark("a", Reason::Doubt);
        let Some(ticket) = catalog.take() else { unreachable!("it was marked") };
        assert!(ticket.compare);
        assert!(catalog.take().is_none());
        catalog.mark("a", Reason::Grants);
        assert!(catalog.take().is_none(), "it is being visited");
        catalog.finish(ticket, Next::Rest);
        let again = catalog.take();
        assert!(again.is_some_and(|ticket| !ticket.compare), "something happened meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_coupon_sleeps_unless_there_is_news() {
        let catalog = catalog();
        for (reason, wakes) in [(Reason::Grants, false), (Reason::Doubt, false), (Reason::News, true)] {
            catalog.mark("a", Reason::News);
            let ticket = catalog.next().await;
            catalog.finish(ticket, Next::Later(Duration::from_secs(30)));
            catalog.mark("a", reason);
            assert_eq!(catalog.take().map(|ticket| catalog.finish(ticket, Next::Rest)).is_some(), wakes, "{reason:?}");
            tokio::time::sleep(Duration::from_secs(31)).await;
            assert_eq!(catalog.take().map(|ticket| catalog.finish(ticket, Next::Rest)).is_some(), !wakes);
        }
    }

    #[test]
    fn waiting_users_are_issued_once_per_note() {
        let catalog = catalog();
        catalog.expect_waiting("a");
        assert_eq!(catalog.take_due(0), [Due { id: "a".into(), edge: false }]);
        assert_eq!(catalog.take_due(0), []);
    }
}
