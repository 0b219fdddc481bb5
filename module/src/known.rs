//! Status hashes as last read, so that a request need not read fifteen fields to learn what has not changed: that was
//! half of a request's instructions. A user who is turned away, which is what nearly all of a sale's traffic is, is
//! answered without opening the hash and the stream at all.
//!
//! Of a coupon that turns users away it is learned, a few members with each of them, who is in ([`crate::members`]): then
//! whoever is surely not in is turned away without opening any key.
//!
//! What is known holds until somebody else touches the keys. Whoever writes the hash here says what it has become, and
//! whoever adds to the set that its members are to be learned anew. The server tells of every other change: of events of
//! hashes, sorted sets and streams, and of keys as such (deleted, renamed, restored, moved, expired, evicted …), of
//! flushes, swapped databases and loaded data. Keys with a TTL are not kept in mind, as they are gone before the server
//! says so.
//!
//! Not told is a key that is overwritten by another type: that is seen by the next command that writes, which opens all
//! three keys and checks their types; until then users are told what held before. Nor is a module that writes another's
//! keys behind the server's back, or one that calls a command on a coupon from within its own handler of the event.

use crate::members::{Members, Progress};
use crate::redis::{SortedSet, Text};
use coupon_core::coupon::Coupon;
use coupon_core::key;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Coupons kept in mind at most, at about 600 bytes each; beyond, all are read anew.
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

/// What is known of a key.
pub struct Known {
    /// Its companions' names, which cannot change.
    pub names: Arc<Names>,
    /// The status hash, unless it may have changed.
    pub coupon: Option<Arc<Coupon>>,
    /// Whether anything was learned of the members.
    pub has_learned: bool,
}

impl Known {
    /// Nothing but the names.
    pub fn nothing(key: &[u8]) -> Self {
        Self { names: Arc::new(Names::of(key)), coupon: None, has_learned: false }
    }
}

/// What is kept of a key.
struct Kept {
    names: Arc<Names>,
    coupon: Option<Arc<Coupon>>,
    members: Progress,
}

/// By database, then key: so that a look-up borrows the key.
type Databases = BTreeMap<i32, HashMap<Box<[u8]>, Kept, RandomState>>;

/// Commands come here from the server's one thread, events from whichever holds its lock; and nothing below panics.
fn databases() -> MutexGuard<'static, Databases> {
    static DATABASES: LazyLock<Mutex<Databases>> = LazyLock::new(Mutex::default);
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes what is kept of a key, if anything is.
fn change(database: i32, key: &[u8], how: impl FnOnce(&mut Kept)) {
    if let Some(kept) = databases().get_mut(&database).and_then(|keys| keys.get_mut(key)) {
        how(kept);
    }
}

/// Whether the server tells of changes; while it does not, nothing is kept.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// From now on the server tells of changes. What is known from before an unload is not: the library may have stayed
/// where it was.
pub fn begin() {
    forget_all();
    IS_TOLD.store(true, Ordering::Relaxed);
}

/// How much is in mind.
pub struct Count {
    /// Status hashes.
    pub hashes: u64,
    /// Sorted sets of which all members are known.
    pub sets: u64,
}

/// Counts it.
pub fn count() -> Count {
    let databases = databases();
    let kept = || databases.values().flat_map(HashMap::values);
    Count {
        hashes: kept().filter(|kept| kept.coupon.is_some()).count() as u64,
        sets: kept().filter(|kept| matches!(kept.members, Progress::All(_))).count() as u64,
    }
}

/// What is known of this key, if anything; where nothing is left to learn, what `at_once` makes of it, for which nothing
/// is counted up and down as for what is handed out.
pub fn find<R>(
    database: i32,
    key: &[u8],
    at_once: impl FnOnce(&Coupon, &Members) -> Option<R>,
) -> ControlFlow<R, Option<Known>> {
    let databases = databases();
    let Some(Kept { names, coupon, members }) = databases.get(&database).and_then(|keys| keys.get(key)) else {
        return ControlFlow::Continue(None);
    };
    if let (Some(coupon), Progress::All(members)) = (coupon, members)
        && let Some(done) = at_once(coupon, members)
    {
        return ControlFlow::Break(done);
    }
    let (names, coupon, has_learned) = (Arc::clone(names), coupon.clone(), !members.is_nothing());
    ControlFlow::Continue(Some(Known { names, coupon, has_learned }))
}

/// Keeps a status hash in mind.
pub fn remember(database: i32, key: &[u8], names: &Arc<Names>, coupon: Arc<Coupon>) {
    if !IS_TOLD.load(Ordering::Relaxed) {
        return;
    }
    let mut databases = databases();
    let keys = databases.entry(database).or_default();
    match keys.get_mut(key) {
        Some(kept) => kept.coupon = Some(coupon),
        None => {
            if keys.len() >= COUPONS_MAX {
                keys.clear();
            }
            let names = Arc::clone(names);
            keys.insert(key.into(), Kept { names, coupon: Some(coupon), members: Progress::Nothing });
        }
    }
}

/// Learns some more of the members, of a coupon that is kept in mind.
pub fn learn(database: i32, key: &[u8], issued: &mut SortedSet<'_>) {
    change(database, key, |kept| kept.members.go_on(issued));
}

/// The members may have changed.
pub fn forget_members(database: i32, key: &[u8]) {
    change(database, key, |kept| kept.members = Progress::Nothing);
}

/// A status hash may have changed.
pub fn forget(database: i32, key: &[u8]) {
    change(database, key, |kept| kept.coupon = None);
}

/// A key of any kind may have changed: a status hash, a sorted set of users or a stream of grants.
pub fn forget_whose(database: i32, key: &[u8]) {
    forget(database, key);
    if let Some(coupon) = key.strip_suffix(key::GRANTS.as_bytes()) {
        forget(database, coupon);
    }
    if let Some(coupon) = key.strip_suffix(key::ISSUED.as_bytes()) {
        forget_members(database, coupon);
    }
}

/// All keys may have changed.
pub fn forget_all() {
    databases().clear();
}
