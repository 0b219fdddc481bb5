//! The coupons that need work, and what is remembered of each between two visits.
//!
//! A coupon is visited by one worker at a time. Whatever happens to it meanwhile is noted, and it is visited again.

use super::shards::shard_of;
use crate::model::coupon::{Info, Offer, Row, is_on_offer};
use crate::model::grant::Checkpoint;
use crate::model::standing::{Known, Standing};
use coupon_core::words::Status;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

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
    /// Rows in a batch, where larger ones took too long.
    pub rows_max: Option<u32>,
    /// Visits that failed in a row.
    pub failures: u32,
    /// What an operator is needed for.
    pub problem: Option<String>,
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

#[derive(Debug, Default)]
struct Entry {
    /// When it is to be visited, or visited again if it is being visited; none if there is no reason.
    visit_at: Option<Instant>,
    is_visited: bool,
    compare: bool,
    /// Users wait and there are units for them.
    waiting: bool,
    /// When the window's next edge has to be acted on, in Unix milliseconds.
    due_at_ms: Option<u64>,
    /// Where there are grants that are no rows: since when, or since a visit began to make some that has not come to its end.
    waits_since: Option<Instant>,
    memory: Memory,
}

impl Entry {
    /// Whether all grants known of are rows, and both sides agree.
    const fn is_level(&self) -> bool {
        self.visit_at.is_none() && !self.is_visited
    }

    fn begin(&mut self, id: Id) -> Ticket {
        self.visit_at = None;
        self.is_visited = true;
        if self.memory.failures == 0 {
            self.waits_since = self.waits_since.map(|_| Instant::now());
        }
        Ticket { id, compare: std::mem::take(&mut self.compare), memory: self.memory.clone() }
    }
}

#[derive(Default)]
struct Inner {
    /// The shards that this process holds, a bit for each.
    shards: u64,
    coupons: HashMap<Id, Entry>,
    /// Coupons by the time of their visit. One that is not at the time that its entry says is passed over.
    queue: BTreeSet<(Instant, Id)>,
}

/// All coupons that are remembered, and which are this process's to work on.
#[derive(Default)]
pub struct Catalog {
    inner: Mutex<Inner>,
    queued: Notify,
    scan: Notify,
}

impl Inner {
    fn holds(&self, id: &str) -> bool {
        self.shards & (1 << shard_of(id)) != 0
    }

    fn open(&self) -> impl Iterator<Item = Id> {
        self.coupons.iter().filter(|(_, entry)| entry.memory.checkpoint.is_some()).map(|(id, _)| Arc::clone(id))
    }

    fn entry(&mut self, id: &str) -> (Id, &mut Entry) {
        let id = self.coupons.get_key_value(id).map_or_else(|| Arc::from(id), |(known, _)| Arc::clone(known));
        let entry = self.coupons.entry(Arc::clone(&id)).or_default();
        (id, entry)
    }
}

impl Catalog {
    // Nothing in here panics while it holds the lock, and if it did, a queue is still a queue.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a coupon is this process's to work on.
    pub fn holds(&self, id: &str) -> bool {
        self.lock().holds(id)
    }

    /// Takes over what the leases say, and whether that is news: what is new is looked at, and the coupons of others are
    /// forgotten. A visit that is under way ends.
    pub fn hold(&self, shards: impl Iterator<Item = u8>) -> bool {
        let shards = shards.fold(0, |held, shard| held | 1_u64.checked_shl(shard.into()).unwrap_or(0));
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.shards, shards);
        if shards & !before != 0 {
            self.ask_for_scan();
        }
        if before & !shards != 0 {
            inner.coupons.retain(|id, entry| entry.is_visited || shards & (1 << shard_of(id)) != 0);
        }
        shards != before
    }

    /// Notes that a coupon needs a visit, if it is one of this process's.
    pub fn mark(&self, id: &str, reason: Reason) {
        let mut inner = self.lock();
        if !inner.holds(id) {
            return;
        }
        let (id, entry) = inner.entry(id);
        entry.compare |= reason != Reason::Grants;
        let now = Instant::now();
        if reason == Reason::Grants {
            entry.waits_since.get_or_insert(now);
        }
        if entry.visit_at.is_none_or(|at| at > now && reason == Reason::News) {
            entry.visit_at = Some(now);
            inner.queue.insert((now, id));
            self.queued.notify_one();
        }
    }

    /// The next coupon to visit; waits until there is one.
    pub async fn next(&self) -> Ticket {
        loop {
            if let Some(ticket) = self.take() {
                return ticket;
            }
            let first = self.lock().queue.first().map(|(at, _)| *at);
            tokio::select! {
                () = self.queued.notified() => {}
                () = sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {}
            }
        }
    }

    fn take(&self) -> Option<Ticket> {
        let mut inner = self.lock();
        let Inner { coupons, queue, .. } = &mut *inner;
        loop {
            if queue.first().is_none_or(|(at, _)| *at > Instant::now()) {
                return None;
            }
            let (at, id) = queue.pop_first()?;
            let entry = coupons.get_mut(&id).filter(|entry| entry.visit_at == Some(at) && !entry.is_visited);
            if let Some(entry) = entry {
                // One permit is kept at most: pass it on, so that the other workers do not sleep over a queue.
                self.queued.notify_one();
                return Some(entry.begin(id));
            }
        }
    }

    /// Takes a coupon that nobody visits or is about to, for what is done to many at once; it ends as a visit does.
    pub fn begin(&self, id: &str) -> Option<Ticket> {
        let mut inner = self.lock();
        let (id, entry) = inner.entry(id);
        entry.is_level().then(|| entry.begin(id))
    }

    /// Ends a visit.
    pub fn finish(&self, ticket: Ticket, next: Next) {
        let mut inner = self.lock();
        let (id, entry) = inner.entry(&ticket.id);
        entry.memory = ticket.memory;
        entry.is_visited = false;
        let now = Instant::now();
        entry.visit_at = match next {
            Next::Later(delay) => Some(now + delay),
            Next::Again => Some(now),
            // Something happened since the visit began.
            Next::Rest | Next::Forget => entry.visit_at.map(|_| now),
        };
        if entry.memory.failures == 0 {
            entry.waits_since = entry.visit_at;
        }
        if let Some(at) = entry.visit_at {
            inner.queue.insert((at, id));
            self.queued.notify_one();
        } else if next == Next::Forget {
            inner.coupons.remove(&id);
        }
    }

    /// A side came back: what failed before may succeed now, and what happened meanwhile was not heard of.
    pub fn wake_all(&self) {
        let mut inner = self.lock();
        let Inner { coupons, queue, .. } = &mut *inner;
        let now = Instant::now();
        for (id, entry) in coupons.iter_mut().filter(|(_, entry)| entry.visit_at.is_some_and(|at| at > now)) {
            entry.visit_at = Some(now);
            queue.insert((now, Arc::clone(id)));
        }
        self.queued.notify_one();
        self.ask_for_scan();
    }

    /// Messages may have been lost: everything is to be looked at, now.
    pub fn ask_for_scan(&self) {
        self.scan.notify_one();
    }

    /// Waits until somebody asks for that.
    pub async fn scan_asked_for(&self) {
        self.scan.notified().await;
    }

    /// Notes that users wait, if the coupon is one of this process's.
    pub fn expect_waiting(&self, id: &str) {
        let mut inner = self.lock();
        if inner.holds(id) {
            inner.entry(id).1.waiting = true;
        }
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
            if info.granted > row.position.seq {
                entry.waits_since.get_or_insert_with(Instant::now);
            }
        }
        if !is_on_offer(row.offer.status) && inner.coupons.get(id).is_some_and(Entry::is_level) {
            inner.coupons.remove(id);
        }
    }

    /// The coupons whose users wait or whose window has an edge before this time. They are no longer noted so.
    pub fn take_due(&self, now_ms: u64) -> Vec<Due> {
        let take = |(id, entry): (&Id, &mut Entry)| {
            let edge = entry.due_at_ms.take_if(|at| *at <= now_ms).is_some();
            let waiting = std::mem::take(&mut entry.waiting);
            (waiting || edge).then(|| Due { id: Arc::clone(id), edge })
        };
        self.lock().coupons.iter_mut().filter_map(take).collect()
    }

    /// Of which coupon grants have waited for so long, and why: not behind others, but in visits that make no rows.
    pub fn stalled(&self, after: Duration) -> Option<String> {
        let inner = self.lock();
        let waits = |entry: &Entry| entry.waits_since.is_some_and(|at| at.elapsed() > after);
        let stalled = |entry: &Entry| waits(entry) && (entry.is_visited || entry.memory.failures > 0);
        let (id, entry) = inner.coupons.iter().find(|(_, entry)| stalled(entry))?;
        let why = entry.memory.problem.as_deref().unwrap_or("PostgreSQL has not taken them");
        Some(format!("grants of coupon {id} have not become rows for {} seconds: {why}", after.as_secs()))
    }

    /// The coupons that are open to the relay.
    pub fn open(&self) -> HashSet<Id> {
        self.lock().open().collect()
    }

    /// One of them, to be looked at as a sample.
    pub fn sample(&self) -> Option<Id> {
        self.lock().open().next()
    }

    /// What is remembered, and of coupons with work at hand at most so many; those that wait for an operator come first.
    pub fn standing(&self, coupons_max: usize) -> Standing {
        let inner = self.lock();
        let is_stopped = |(_, entry): &(&Id, &Entry)| entry.memory.problem.is_some();
        let at_work = inner.coupons.iter().filter(|(_, entry)| !entry.is_level());
        let (stopped, others): (Vec<_>, Vec<_>) = at_work.partition(is_stopped);
        let known = |(id, Entry { memory, .. }): (&Id, &Entry)| {
            let progress = memory.checkpoint.map(|checkpoint| checkpoint.progress);
            (id.to_string(), Known { progress, problem: memory.problem.clone(), drift: 0 })
        };
        Standing {
            known: inner.coupons.len(),
            stopped: inner.coupons.iter().filter(is_stopped).count(),
            coupons: stopped.into_iter().chain(others).take(coupons_max).map(known).collect(),
            ..Standing::default()
        }
    }

    /// How many shards this process holds.
    pub fn shards(&self) -> u32 {
        self.lock().shards.count_ones()
    }
}

/// A coupon to issue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Due {
    /// The coupon.
    pub id: Id,
    /// Whether its window has an edge, so that its status may change.
    pub edge: bool,
}

/// When a coupon has to be looked at without anybody sending a message: at its end, and at its beginning if
/// somebody was let in before that was put off.
fn due_at_ms(info: &Info) -> Option<u64> {
    let Offer { status, definition } = info.offer;
    let begin = if info.waiting > 0 { definition.opens_at } else { 0 };
    [begin, definition.expires_at].into_iter().filter(|at| status == Status::Available && *at > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let catalog = Catalog::default();
        catalog.hold(0..64);
        catalog
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
    fn what_is_held_is_told_apart() {
        let catalog = Catalog::default();
        assert!(!catalog.holds("a"));
        assert!(catalog.hold(0..64) && catalog.holds("a"));
        assert!(!catalog.hold(0..64), "no news");
        assert!(catalog.hold((0..64).filter(|shard| *shard != shard_of("a"))));
        assert!(!catalog.holds("a"));
        assert_eq!(catalog.shards(), 63);
    }

    #[test]
    fn waiting_users_are_issued_once_per_note() {
        let catalog = catalog();
        catalog.expect_waiting("a");
        assert_eq!(catalog.take_due(0), [Due { id: "a".into(), edge: false }]);
        assert_eq!(catalog.take_due(0), []);
    }
}
