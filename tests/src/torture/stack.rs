//! The whole system under load, and what its users were told.

use super::load::Told;
use crate::deadline::{DEADLINE, eventually_true, within};
use crate::ledger;
use crate::postgres_server::Postgres;
use crate::reconciler;
use crate::redis_server::Redis;
use crate::resp::{Client, Place, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The coupon's id in the ledger.
pub const ID: &str = "torture";

/// Connections that send requests.
const CLIENTS: usize = 3;

/// Requests of one client under way at once.
const PIPELINE: usize = 4;

/// Fenced, not there yet, or a server that is just starting or a replica.
const REFUSALS: [&str; 5] = ["TRYAGAIN ", "NOCOUPON ", "LOADING ", "READONLY ", "MASTERDOWN "];

/// Load that goes on whatever happens to the servers.
pub struct Load {
    prefix: String,
    refusals: Vec<&'static str>,
    redis: Place,
    /// How long a client waits for an answer before it takes the connection for dead.
    patience: Duration,
    /// Between two batches of a client.
    pause: Duration,
    /// Replies to REQUEST, refusals too.
    pub answers: AtomicU64,
    batches: AtomicU64,
    told: Mutex<Told>,
    persisted: Mutex<HashSet<String>>,
    /// How often what was told was forgotten. Changes while `told` is held.
    forgotten: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    /// Load on the server at this place; `prefix` tells its users from others.
    #[must_use]
    pub fn new(redis: impl Into<Place>, prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            refusals: REFUSALS.into(),
            redis: redis.into(),
            patience: DEADLINE,
            pause: Duration::ZERO,
            answers: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            told: Mutex::default(),
            persisted: Mutex::default(),
            forgotten: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Clients that wait no longer than this for an answer, and so long before they ask again.
    #[must_use]
    pub fn paced(mut self, patience: Duration, pause: Duration) -> Self {
        (self.patience, self.pause) = (patience, pause);
        self
    }

    /// Refusals that this load's fault brings with it.
    #[must_use]
    pub fn expecting(mut self, codes: &[&'static str]) -> Self {
        self.refusals.extend(codes);
        self
    }

    /// Runs `faults` while clients request, and one of them looks how others stand.
    ///
    /// # Panics
    /// If a client is told what cannot be.
    pub fn during<T>(&self, faults: impl FnOnce() -> T) -> T {
        self.is_over.store(false, Ordering::Release);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| self.request())).collect();
            let watcher = scope.spawn(|| self.watch());
            // Also when a fault shows a broken promise, so that its panic is not waited for in vain.
            let over = Over(&self.is_over);
            let outcome = faults();
            drop(over);
            for client in clients {
                client.join().expect("a client was told what cannot be");
            }
            watcher.join().expect("a user's state went back");
            outcome
        })
    }

    /// Waits for so many more answers.
    ///
    /// # Panics
    /// If they do not come.
    pub fn await_answers(&self, more: u64) {
        let goal = self.answers.load(Ordering::Acquire) + more;
        eventually_true("clients get answers", || self.answers.load(Ordering::Acquire) >= goal);
    }

    /// How many were refused with this code until now.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn refused(&self, code: &str) -> usize {
        self.told.lock().expect("not poisoned").refused.values().filter(|refusal| refusal.starts_with(code)).count()
    }

    fn request(&self) {
        while !self.is_over.load(Ordering::Acquire) {
            let Ok(mut client) = Client::connect_with(self.redis, self.patience) else {
                std::thread::yield_now();
                continue;
            };
            // Until the connection breaks; then again, with other users, as the last ones' outcome is unknown.
            let _ = self.request_on(&mut client);
        }
    }

    fn request_on(&self, client: &mut Client) -> io::Result<()> {
        while !self.is_over.load(Ordering::Acquire) {
            let batch = self.batches.fetch_add(1, Ordering::Relaxed);
            let forgotten = self.forgotten.load(Ordering::Acquire);
            let users: Vec<String> = (0..PIPELINE).map(|place| format!("{}-{batch}-{place}", self.prefix)).collect();
            let key = key();
            for user in &users {
                client.queue(&["COUPON.REQUEST", &key, user]);
            }
            client.flush()?;
            for user in &users {
                let reply = client.read()?;
                let mut told = self.told.lock().expect("not poisoned");
                if self.forgotten.load(Ordering::Acquire) != forgotten {
                    // Asked before what was forgotten, so it may have been answered by a server that is gone.
                    return Ok(());
                }
                told.hear(user, &reply, &self.refusals);
                self.answers.fetch_add(1, Ordering::Release);
            }
            std::thread::sleep(self.pause);
        }
        Ok(())
    }

    /// Asks for users' states. PERSISTED is noted, and never taken back.
    fn watch(&self) {
        while !self.is_over.load(Ordering::Acquire) {
            let forgotten = self.forgotten.load(Ordering::Acquire);
            let users: Vec<String> = {
                let told = self.told.lock().expect("not poisoned");
                told.outcomes
                    .iter()
                    .filter(|(_, outcome)| *outcome != "SOLDOUT")
                    .map(|(user, _)| user.clone())
                    .take(200)
                    .collect()
            };
            let Ok(mut client) = Client::connect_with(self.redis, self.patience) else { continue };
            std::thread::sleep(self.pause);
            for user in users {
                match client.try_call(&["COUPON.STATUS", &key(), &user]) {
                    Ok(Value::Bulk(state)) if state == b"PERSISTED" => {
                        let _told = self.told.lock().expect("not poisoned");
                        if self.forgotten.load(Ordering::Acquire) == forgotten {
                            self.persisted.lock().expect("not poisoned").insert(user);
                        }
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Forgets what a server that lost writes may have to take back: all but what is PERSISTED.
    ///
    /// # Panics
    /// Never.
    pub fn forget_unpersisted(&self) {
        let mut told = self.told.lock().expect("not poisoned");
        let persisted = self.persisted.lock().expect("not poisoned");
        told.outcomes.retain(|user, _| persisted.contains(user));
        told.issued = 0;
        self.forgotten.fetch_add(1, Ordering::Release);
    }

    /// How many of these users heard PERSISTED.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn told_persisted(&self, users: &HashSet<String>) -> usize {
        self.persisted.lock().expect("not poisoned").intersection(users).count()
    }

    /// Forgets all that these users were told, whose rows PostgreSQL has lost, and Redis their grants.
    ///
    /// # Panics
    /// Never.
    pub fn forget_lost(&self, users: &HashSet<String>) {
        let mut told = self.told.lock().expect("not poisoned");
        let mut persisted = self.persisted.lock().expect("not poisoned");
        told.outcomes.retain(|user, _| !users.contains(user));
        persisted.retain(|user| !users.contains(user));
        self.forgotten.fetch_add(1, Ordering::Release);
    }

    /// Waits until both sides are level, and checks every promise against what was told.
    ///
    /// # Panics
    /// If one is broken.
    pub fn check(&self, postgres: &Postgres) {
        self.check_on(self.redis, postgres, Order::Total);
    }

    /// As [`Load::check`], where another server has become the primary.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn check_on(&self, redis: impl Into<Place>, postgres: &Postgres, order: Order) {
        let redis = redis.into();
        await_level(redis, postgres);
        ledger::assert_whole(postgres, ID);
        let rows = ledger::rows(postgres, ID);
        let quantity: usize = ledger::coupon(postgres, ID, "quantity").parse().expect("a number");
        assert!(rows.len() <= quantity, "more rows than units: {} of {quantity}", rows.len());
        let ordered = rows.windows(2).all(|pair| {
            let is_other = order == Order::PerEpoch && pair[0].epoch != pair[1].epoch;
            is_other || pair[0].requested_at_us < pair[1].requested_at_us
        });
        assert!(ordered, "rows are not in the order of arrival");
        let granted: HashMap<&str, u64> = rows.iter().map(|row| (row.user.as_str(), row.seq)).collect();
        assert_eq!(granted.len(), rows.len(), "a user has two rows");

        let mut client = Client::connect(redis).expect("Redis answers");
        let line = client.call(&["ZRANGE", &format!("{}:issued", key()), "0", "-1"]);
        let line: HashSet<&str> = line.array().iter().map(Value::text).collect();
        for (place, row) in rows.iter().enumerate() {
            assert!(line.contains(row.user.as_str()), "row {} has a user whom Redis does not know", place + 1);
        }
        let told = self.told.lock().expect("not poisoned");
        let kept = told.refused.keys().find(|user| line.contains(user.as_str()));
        assert_eq!(kept, None, "a user was refused and let in all the same");
        for (user, outcome) in &told.outcomes {
            let is_kept = match outcome.as_str() {
                "GRANTED" => granted.contains_key(user.as_str()),
                "QUEUED" => line.contains(user.as_str()),
                _ => !line.contains(user.as_str()),
            };
            assert!(is_kept, "an acknowledged outcome is lost: {user} was told {outcome}");
        }
        for user in &*self.persisted.lock().expect("not poisoned") {
            assert!(granted.contains_key(user.as_str()), "{user} was told PERSISTED and has no row");
        }
    }
}

/// In which order rows have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// All by arrival.
    Total,
    /// Those of one epoch by arrival: two servers have let users in at the same time, so whoever waited with the one may
    /// have arrived before whoever was granted by the other.
    PerEpoch,
}

/// Ends the load when it goes out of scope.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The coupon's key.
#[must_use]
pub fn key() -> String {
    format!("coupon:{{{ID}}}")
}

/// A coupon of a random kind, as an application inserts it; its quantity.
///
/// # Panics
/// If PostgreSQL refuses it.
pub fn insert(postgres: &Postgres, random: &mut fastrand::Rng) {
    let quantity = random.u32(50..4000);
    insert_of(postgres, random, quantity);
}

/// As [`insert`], with so many units.
///
/// # Panics
/// If PostgreSQL refuses it.
pub fn insert_of(postgres: &Postgres, random: &mut fastrand::Rng, quantity: u32) {
    let mode = if random.bool() { "INSTANT" } else { "QUEUE" };
    let waitlist = random.u32(0..300);
    postgres.run(&format!(
        "insert into coupon (id, name, quantity, status, mode, waitlist) values ('{ID}', '{ID}', {quantity}, 'AVAILABLE', '{mode}', {waitlist})"
    ));
}

/// Waits until a reconciler has made the tables.
///
/// # Panics
/// If that does not come.
pub fn await_schema(postgres: &Postgres) {
    eventually_true("the schema is there", || postgres.try_run("select 1 from coupon").is_ok());
}

/// What an operator does who finds the coupon shut for want of a key: what the command does, or else what it says.
///
/// # Panics
/// If it says neither.
pub fn bring_back(redis: &Redis, postgres: &Postgres) {
    let restored = reconciler::command(redis, postgres, &["restore", ID, "--yes"]);
    if !restored.status.success() {
        // Lost before the first grant was a row.
        let said = String::from_utf8_lossy(&restored.stderr);
        let keys = format!("DEL {0} {0}:issued {0}:grants", key());
        assert!(said.contains("holds no grant") && said.contains(&keys), "{said}");
        redis.client().run(&keys);
    }
}

/// The reconcilers are led back to a server that has granted on its own since: what the ledger does not hold is named, user
/// by user, and the ledger's grants take its place. How many are named.
///
/// # Panics
/// If somebody who lost a grant is not named, or somebody is who lost none.
pub fn lead_back(old: impl Into<Place>, postgres: &Postgres, lead: impl FnOnce()) -> usize {
    let old = old.into();
    let before_rows: BTreeSet<String> = ledger::rows(postgres, ID).into_iter().map(|row| row.user).collect();
    let mut client = Client::connect(old).expect("the old primary answers");
    let entries = client.call(&["XRANGE", &format!("{}:grants", key()), "-", "+"]);
    let grant = |entry: &Value| {
        let fields = &entry.array()[1];
        let chain: i64 = fields.field("chain").text().parse().expect("a number");
        (fields.field("user").text().to_owned(), chain)
    };
    let mut own: BTreeMap<String, i64> = entries.array().iter().map(grant).collect();
    own.retain(|user, _| !before_rows.contains(user));
    let named = || -> BTreeSet<String> {
        postgres.rows(&format!("select user_id from coupon_orphan where coupon_id = '{ID}'")).into_iter().collect()
    };
    let before = named();
    lead();
    await_level(old, postgres);
    let found: BTreeSet<String> = named().difference(&before).cloned().collect();
    // If the new primary has granted nothing, the old one's grants continue the ledger and become rows. Else whoever is granted
    // again, as there are units left, is granted by another one.
    let chains: BTreeSet<i64> = ledger::rows(postgres, ID).into_iter().map(|row| row.chain).collect();
    let is_missing =
        |user: &String, chain: &i64| !(chains.contains(chain) || before.contains(user) || found.contains(user));
    let missing: Vec<&String> =
        own.iter().filter(|(user, chain)| is_missing(user, chain)).map(|(user, _)| user).collect();
    assert!(missing.is_empty(), "grants of the old primary are lost without being named: {missing:?}");
    let stranger: Vec<&String> = found.iter().filter(|user| !own.contains_key(*user)).collect();
    assert!(stranger.is_empty(), "users are named who lost nothing: {stranger:?}");
    found.len()
}

/// Waits until Redis is open at the ledger's epoch, everybody who can be granted is, and every grant is a row. There may be
/// hundreds of thousands to grant, so the time begins anew with every step towards it.
///
/// # Panics
/// If it stands still, and is not there.
pub fn await_level(redis: impl Into<Place>, postgres: &Postgres) {
    let redis = redis.into();
    let (mut seen, mut reached) = (String::new(), None);
    loop {
        let step = within(DEADLINE * 2, || {
            let mut client = Client::connect(redis).ok()?;
            let info = client.try_call(&["COUPON.INFO", &key()]).ok()?;
            seen = info.to_string();
            if info.is_error() {
                return None;
            }
            let [granted, persisted, fenced, waiting, remaining] =
                ["granted", "persisted", "fenced", "waiting", "remaining"].map(|name| info.field(name).int());
            let is_served = waiting == 0 || remaining == 0;
            let row = postgres
                .try_run(&format!("select granted, epoch from coupon_position where coupon_id = '{ID}'"))
                .ok()?;
            let is_same = row.trim_end() == format!("{granted}|{}", info.field("epoch").int());
            if fenced == 0 && granted == persisted && is_served && is_same {
                return Some(Step::Level);
            }
            let here = Some((granted, persisted));
            let is_further = reached < here;
            reached = reached.max(here);
            is_further.then_some(Step::Further)
        });
        match step {
            Some(Step::Level) => return,
            Some(Step::Further) => {}
            None => panic!("both sides do not come level: {seen}"),
        }
    }
}

enum Step {
    Level,
    Further,
}
