//! Status hashes as last read, so that a request need not read fifteen fields to learn what has not changed: that was
//! half of a request's instructions. A user who is turned away, which is what nearly all of a sale's traffic is, is
//! answered without opening the hash and the stream at all.
//!
//! What is known holds until somebody else touches the hash or the stream. Whoever writes the hash here says what it
//! has become. The server tells of every other change: of events of hashes, of streams, and of keys as such (deleted,
//! renamed, restored, moved, expired, evicted …), of flushes, swapped databases and loaded data. Keys with a TTL are
//! not kept in mind, as they are gone before the server says so.
//!
//! Not told is a key that is overwritten by another type: that is seen by the next command that writes, which opens all
//! three keys and checks their types; until then users are told what held before. Nor is a module that writes another's
//! keys behind the server's back, or one that calls a command on a coupon from within its own handler of the event.

use crate::redis::Text;
use coupon_core::coupon::Coupon;
use coupon_core::key;
use std::collections::{BTreeMap, HashMap};
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
#[derive(Clone)]
pub struct Known {
    /// Its companions' names, which cannot change.
    pub names: Arc<Names>,
    /// The status hash, unless it may have changed.
    pub coupon: Option<Arc<Coupon>>,
}

/// By database, then key: so that a look-up borrows the key.
type Databases = BTreeMap<i32, HashMap<Box<[u8]>, Known>>;

/// Only the server's one thread comes here, and nothing below panics.
fn databases() -> MutexGuard<'static, Databases> {
    static DATABASES: LazyLock<Mutex<Databases>> = LazyLock::new(Mutex::default);
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the server tells of changes; while it does not, nothing is kept.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// From now on the server tells of changes. What is known from before an unload is not: the library may have stayed
/// where it was.
pub fn begin() {
    forget_all();
    IS_TOLD.store(true, Ordering::Relaxed);
}

/// How many status hashes are in mind.
pub fn count() -> u64 {
    databases().values().flat_map(HashMap::values).filter(|known| known.coupon.is_some()).count() as u64
}

/// What is known of this key, if anything.
pub fn find(database: i32, key: &[u8]) -> Option<Known> {
    databases().get(&database)?.get(key).cloned()
}

/// Keeps a status hash in mind.
pub fn remember(database: i32, key: &[u8], names: &Arc<Names>, coupon: Arc<Coupon>) {
    if !IS_TOLD.load(Ordering::Relaxed) {
        return;
    }
    let mut databases = databases();
    let keys = databases.entry(database).or_default();
    match keys.get_mut(key) {
        Some(known) => known.coupon = Some(coupon),
        None => {
            if keys.len() >= COUPONS_MAX {
                keys.clear();
            }
            keys.insert(key.into(), Known { names: Arc::clone(names), coupon: Some(coupon) });
        }
    }
}

/// A status hash may have changed.
pub fn forget(database: i32, key: &[u8]) {
    if let Some(known) = databases().get_mut(&database).and_then(|keys| keys.get_mut(key)) {
        known.coupon = None;
    }
}

/// A key of any kind may have changed: a status hash, or a stream of grants.
pub fn forget_whose(database: i32, key: &[u8]) {
    forget(database, key);
    if let Some(coupon) = key.strip_suffix(key::GRANTS.as_bytes()) {
        forget(database, coupon);
    }
}

/// All keys may have changed.
pub fn forget_all() {
    databases().clear();
}
