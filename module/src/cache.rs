//! What is kept of coupons between commands: the status hash as last read, the newest arrival, and who is in
//! ([`Members`]), so that a request need not read what has not changed. To read its fields anew was half of a
//! request's instructions. A user who is turned away, which is what nearly all of a sale's traffic is, is answered without
//! opening a key at all.
//!
//! What is kept holds until somebody else touches the keys. Whoever writes here says what the coupon has become; the server
//! tells of every other change ([`crate::entry`]), and then all that is kept of the coupon goes: that is the one way to
//! forget. A coupon whose keys or fields have a TTL is not kept, as these are gone before the server says so.
//!
//! Not told is a module that writes another's keys behind the server's back, or one that calls a command on a coupon from
//! within its own handler of the event.

mod members;

use crate::redis::Text;
use coupon_core::coupon::Coupon;
use coupon_core::key;
use coupon_core::number::Arrival;
use foldhash::fast::RandomState;
use members::Progress;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

pub use members::{MEMBERS_A_TIME, Members};

/// Coupons kept of a database at most, at about 600 bytes each; beyond, the least used goes for each that comes.
const COUPONS_MAX: usize = 16_384;

/// Names of the companion keys.
pub struct Names {
    /// Of the sorted set of accepted users.
    pub issued: Text,
    /// Of the stream of grants.
    pub grants: Text,
}

impl Names {
    /// Derives them from the coupon's key.
    pub fn of(key: &[u8]) -> Self {
        let companion = |suffix: &str| Text::new(&[key, suffix.as_bytes()].concat());
        Self { issued: companion(key::ISSUED), grants: companion(key::GRANTS) }
    }
}

/// What is kept of a coupon, handed out.
pub struct Kept {
    /// Its companions' names, which cannot change.
    pub names: Arc<Names>,
    /// The status hash.
    pub coupon: Option<Arc<Coupon>>,
    /// The newest arrival.
    pub newest: Option<Arrival>,
}

struct Entry {
    key: Arc<[u8]>,
    names: Arc<Names>,
    coupon: Option<Arc<Coupon>>,
    newest: Option<Arrival>,
    members: Progress,
    /// Whether anybody has asked for it since the hand last came by.
    is_used: bool,
}

impl Entry {
    fn forget(&mut self) {
        (self.coupon, self.newest, self.members) = (None, None, Progress::Nothing);
    }
}

/// The coupons of a database. When there are too many, a hand goes round them as that of a clock, and takes the first that
/// nobody has asked for since it last came by.
#[derive(Default)]
struct Database {
    places: HashMap<Arc<[u8]>, usize, RandomState>,
    entries: Vec<Entry>,
    hand: usize,
}

impl Database {
    fn entry(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let place = *self.places.get(key)?;
        self.entries.get_mut(place)
    }

    fn insert(&mut self, entry: Entry) {
        if self.entries.len() < COUPONS_MAX {
            self.places.insert(Arc::clone(&entry.key), self.entries.len());
            self.entries.push(entry);
            return;
        }
        loop {
            let place = self.hand;
            self.hand = (place + 1) % COUPONS_MAX;
            let Some(old) = self.entries.get_mut(place) else { return };
            if !mem::take(&mut old.is_used) {
                self.places.remove(&old.key);
                self.places.insert(Arc::clone(&entry.key), place);
                *old = entry;
                return;
            }
        }
    }
}

type Databases = BTreeMap<i32, Database>;

/// Commands come here from the server's one thread, events from whichever holds its lock; nothing below panics, or calls
/// the server, which could answer by an event.
fn databases() -> MutexGuard<'static, Databases> {
    static DATABASES: LazyLock<Mutex<Databases>> = LazyLock::new(Mutex::default);
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes what is kept of a coupon, if anything is.
fn change(database: i32, key: &[u8], how: impl FnOnce(&mut Entry)) {
    if let Some(entry) = databases().get_mut(&database).and_then(|database| database.entry(key)) {
        how(entry);
    }
}

/// What the server can tell of keys.
#[derive(Clone, Copy)]
pub struct Told {
    /// Of all changes. While it does not, nothing is kept.
    pub changes: bool,
    /// Of keys that it drops with a slot that another node has taken over.
    pub lost_slots: bool,
    /// Whether fields can expire by themselves.
    pub field_ttl: bool,
}

static TOLD: AtomicU8 = AtomicU8::new(0);
const CHANGES: u8 = 1;
const SILENT_SLOTS: u8 = 2;
const FIELD_TTL: u8 = 4;

fn is(bit: u8) -> bool {
    TOLD.load(Ordering::Relaxed) & bit != 0
}

/// From now on the server tells so much.
pub fn begin(told: Told) {
    let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    let bits = bit(told.changes, CHANGES) | bit(!told.lost_slots, SILENT_SLOTS) | bit(told.field_ttl, FIELD_TTL);
    TOLD.store(bits, Ordering::Relaxed);
}

/// Whether anything is kept.
pub fn is_on() -> bool {
    is(CHANGES)
}

/// Whether a coupon's keys can go with their slot and nobody is told.
pub fn loses_keys_in_silence() -> bool {
    is(SILENT_SLOTS)
}

/// Whether fields of the status hash can have a TTL.
pub fn knows_field_ttl() -> bool {
    is(FIELD_TTL)
}

/// How much is kept.
pub struct Count {
    /// Status hashes.
    pub hashes: u64,
    /// Sorted sets of which all members are known.
    pub sets: u64,
}

/// Counts it.
pub fn count() -> Count {
    let databases = databases();
    let entries = || databases.values().flat_map(|database| &database.entries);
    Count {
        hashes: entries().filter(|entry| entry.coupon.is_some()).count() as u64,
        sets: entries().filter(|entry| matches!(entry.members, Progress::All(_))).count() as u64,
    }
}

/// What is kept of this coupon, if anything; where its members are known too, what `at_once` makes of it, for which nothing
/// is counted up and down as for what is handed out.
pub fn find<R>(
    database: i32,
    key: &[u8],
    at_once: impl FnOnce(&Coupon, &Members) -> Option<R>,
) -> ControlFlow<R, Option<Kept>> {
    let mut databases = databases();
    let Some(entry) = databases.get_mut(&database).and_then(|database| database.entry(key)) else {
        return ControlFlow::Continue(None);
    };
    entry.is_used = true;
    if let (Some(coupon), Progress::All(members)) = (&entry.coupon, &entry.members)
        && let Some(done) = at_once(coupon, members)
    {
        return ControlFlow::Break(done);
    }
    let Entry { names, coupon, newest, .. } = entry;
    ControlFlow::Continue(Some(Kept { names: Arc::clone(names), coupon: coupon.clone(), newest: *newest }))
}

/// Keeps a status hash.
pub fn keep(database: i32, key: &[u8], names: &Arc<Names>, coupon: Arc<Coupon>) {
    let mut databases = databases();
    let database = databases.entry(database).or_default();
    match database.entry(key) {
        Some(entry) => entry.coupon = Some(coupon),
        None => database.insert(Entry {
            key: key.into(),
            names: Arc::clone(names),
            coupon: Some(coupon),
            newest: None,
            members: Progress::Nothing,
            // The hand has just come by.
            is_used: false,
        }),
    }
}

/// Users have joined, the last of them with this arrival, which is the newest.
pub fn join(database: i32, key: &[u8], newest: Arrival) {
    change(database, key, |entry| (entry.newest, entry.members) = (Some(newest), Progress::Nothing));
}

/// Somebody has left, who may have been the newest.
pub fn leave(database: i32, key: &[u8]) {
    change(database, key, |entry| (entry.newest, entry.members) = (None, Progress::Nothing));
}

/// How many members are known of a coupon that is kept, where there is more to learn; until [`learn`] has learned it.
pub fn to_learn(database: i32, key: &[u8], members: u64) -> Option<u64> {
    let mut from = None;
    change(database, key, |entry| {
        if entry.coupon.is_some() {
            from = entry.members.begin(members);
        }
    });
    from
}

/// Learns members from the place that [`to_learn`] has told on, unless the coupon was forgotten meanwhile. Fewer than
/// [`MEMBERS_A_TIME`] are the last.
pub fn learn(database: i32, key: &[u8], members: &[(Text, f64)]) {
    change(database, key, |entry| entry.members.learn(members));
}

/// A key has changed: a status hash, or a companion's. What is kept of its coupon goes.
pub fn forget(database: i32, key: &[u8]) {
    change(database, key, Entry::forget);
    if let Some(coupon) = key::coupon_of(key) {
        change(database, coupon, Entry::forget);
    }
}

/// All keys may have changed. The memory goes back.
pub fn forget_all() {
    mem::take(&mut *databases());
}
