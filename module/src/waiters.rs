//! Clients blocked in COUPON.WAIT, by coupon and by place in line.
//!
//! They stand in the order of the sorted set, so that whoever an ACK persists is a prefix, and nobody else is looked at:
//! ten thousand waiters cost an ACK nothing but those it answers.

use crate::redis::Blocked;
use coupon_core::coupon::{Coupon, Cursor};
use coupon_core::standing::is_over;
use coupon_core::user::UserId;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// A coupon: its database and key.
pub type Coordinates = (i32, Vec<u8>);

/// A place in line: the score's bits, which order as the scores do since no arrival is negative, and the user.
type Place = (u64, String);

type Line = BTreeMap<Place, Vec<Blocked>>;

#[derive(Default)]
struct Waiters {
    lines: HashMap<Coordinates, Line>,
    places: HashMap<Blocked, (Coordinates, Place)>,
}

/// How many wait: all that a writing command looks at while nobody does.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Only the server's one thread comes here. Nothing below panics while it holds the lock; were it poisoned all the
/// same, a client left in it is answered by its timeout.
fn waiters() -> MutexGuard<'static, Waiters> {
    static WAITERS: LazyLock<Mutex<Waiters>> = LazyLock::new(Mutex::default);
    WAITERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many clients wait.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed) as u64
}

/// Puts a client into its coupon's line.
pub fn add(coordinates: Coordinates, score: f64, user: UserId<'_>, client: Blocked) {
    let place = (score.to_bits(), user.as_str().to_owned());
    let mut waiters = waiters();
    waiters.lines.entry(coordinates.clone()).or_default().entry(place.clone()).or_default().push(client);
    waiters.places.insert(client, (coordinates, place));
    COUNT.store(waiters.places.len(), Ordering::Relaxed);
}

/// Forgets a client that was answered, or went away. False if it is not known (any more).
pub fn remove(client: Blocked) -> bool {
    let mut waiters = waiters();
    let Some((coordinates, place)) = waiters.places.remove(&client) else { return false };
    if let Some(line) = waiters.lines.get_mut(&coordinates) {
        if let Some(clients) = line.get_mut(&place) {
            clients.retain(|other| *other != client);
            if clients.is_empty() {
                line.remove(&place);
            }
        }
        if line.is_empty() {
            waiters.lines.remove(&coordinates);
        }
    }
    COUNT.store(waiters.places.len(), Ordering::Relaxed);
    true
}

/// Takes out all whose outcome is final, now that the coupon has become this.
pub fn take_final(coordinates: impl FnOnce() -> Coordinates, coupon: &Coupon) -> Vec<Blocked> {
    let covers = |cursor: &Option<Cursor>, (score, user): &Place| {
        UserId::parse(user.as_bytes())
            .is_ok_and(|user| cursor.as_ref().is_some_and(|cursor| cursor.covers(f64::from_bits(*score), user)))
    };
    take(coordinates, |line| {
        let persisted = line.keys().take_while(|place| covers(&coupon.persisted_to, place)).cloned();
        let mut taken: Vec<Place> = persisted.collect();
        if is_over(coupon) {
            // From the end, those who still wait.
            taken.extend(line.keys().rev().take_while(|place| !covers(&coupon.granted_to, place)).cloned());
        }
        taken
    })
}

/// Takes out everybody: the line has been rebuilt, and each has to look for the place anew.
pub fn take_all(coordinates: impl FnOnce() -> Coordinates) -> Vec<Blocked> {
    take(coordinates, |line| line.keys().cloned().collect())
}

fn take(coordinates: impl FnOnce() -> Coordinates, choose: impl FnOnce(&Line) -> Vec<Place>) -> Vec<Blocked> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    let coordinates = coordinates();
    let mut waiters = waiters();
    let Some(line) = waiters.lines.get_mut(&coordinates) else { return Vec::new() };
    let taken: Vec<Blocked> = choose(line).iter().filter_map(|place| line.remove(place)).flatten().collect();
    if line.is_empty() {
        waiters.lines.remove(&coordinates);
    }
    for client in &taken {
        waiters.places.remove(client);
    }
    COUNT.store(waiters.places.len(), Ordering::Relaxed);
    taken
}
