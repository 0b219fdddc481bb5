//! A shop's hosts: a Redis with a replica, a PostgreSQL with a standby, two reconcilers, clients; and an address each that leads
//! to whoever is the primary.

use crate::deadline::{eventually_true, within};
use crate::http;
use crate::ledger;
use crate::network::{Host, Network};
use crate::postgres_server::Postgres;
use crate::reconciler::{self, Reconciler};
use crate::redis_server::{self, Redis};
use crate::resp::{Client, Value};
use crate::torture::stack::{self, Load, Order};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where clients are.
pub const CLIENTS: Host = "clients";

/// Where reconcilers are.
pub const RECONCILERS: [Host; 2] = ["reconciler-a", "reconciler-b"];

/// What is promised, and what is asked of a machine that is busy with other things too.
const SAID_WITHIN: Duration = Duration::from_secs(5);
const AT_WORK_WITHIN: Duration = Duration::from_secs(10);
const MARGIN: u32 = 2;

/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The worst that was seen, in ms: of /readyz, of /metrics, and until all were at work again.
static SAID_MS: AtomicU64 = AtomicU64::new(0);
static COUNTED_MS: AtomicU64 = AtomicU64::new(0);
static AT_WORK_MS: AtomicU64 = AtomicU64::new(0);

/// Commits that failovers have lost, and those of them that are rows again.
static LOST_COMMITS: AtomicU64 = AtomicU64::new(0);
static ROWS_AGAIN: AtomicU64 = AtomicU64::new(0);

/// Grants of an older primary that did not count, and were named.
static NAMED: AtomicU64 = AtomicU64::new(0);

/// One of the two sides of a reconciler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where grants are made.
    Redis,
    /// Where they are kept.
    Postgresql,
}

/// Both.
pub const SIDES: [Side; 2] = [Side::Redis, Side::Postgresql];

impl Side {
    const fn hosts(self) -> [Host; 2] {
        match self {
            Self::Redis => ["redis-a", "redis-b"],
            Self::Postgresql => ["postgresql-a", "postgresql-b"],
        }
    }

    /// Where all look for its primary.
    #[must_use]
    pub const fn place(self) -> (Ipv4Addr, u16) {
        match self {
            Self::Redis => (Ipv4Addr::new(10, 77, 1, 1), 6379),
            Self::Postgresql => (Ipv4Addr::new(10, 77, 1, 2), 5432),
        }
    }

    /// As pages and metrics call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Postgresql => "postgresql",
        }
    }
}

/// All of it.
pub struct Site<'a> {
    reconcilers: Vec<Option<Reconciler>>,
    redis: [Redis; 2],
    postgres: [Postgres; 2],
    /// Which of the two is the primary, by side.
    primary: [usize; 2],
    batch_max: String,
    /// In which order rows have to be.
    pub order: Order,
    probes: u64,
    /// What is between the hosts.
    pub network: &'a Network,
}

/// The hosts, with nothing on them yet.
#[must_use]
pub fn network() -> Network {
    let shared = SIDES.map(|side| (side.place().0, side.hosts()));
    let network = Network::start(&all_hosts(), &shared.each_ref().map(|(address, hosts)| (*address, &hosts[..])));
    // Else they would still be asking while it is judged what they were told. Of reconcilers all comes, however late.
    network.give_up_soon(CLIENTS);
    network
}

fn all_hosts() -> Vec<Host> {
    let [redis, postgres] = SIDES.map(Side::hosts);
    [&redis[..], &postgres, &RECONCILERS, &[CLIENTS]].concat()
}

impl<'a> Site<'a> {
    /// All of it at work, with a coupon that never sells out.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    pub fn start(network: &'a Network, random: &mut fastrand::Rng) -> Self {
        let [redis_hosts, postgres_hosts] = SIDES.map(Side::hosts);
        let redis = redis_hosts.map(|host| {
            let server = redis_server::Options::shipped().line("repl-timeout 10").for_all_at(Side::Redis.place().1);
            network.on(host, || server.start())
        });
        let primary = network.on(postgres_hosts[0], || Postgres::start_for_all_at(Side::Postgresql.place().1));
        let backup = network.on(postgres_hosts[0], || primary.base_backup());
        let (address, port) = (network.address(postgres_hosts[0]), Side::Postgresql.place().1);
        let standby = network.on(postgres_hosts[1], || backup.follow(address, port));
        let mut site = Self {
            reconcilers: vec![None, None],
            redis,
            postgres: [primary, standby],
            primary: [0, 0],
            batch_max: random.u32(1..400).to_string(),
            order: Order::Total,
            probes: 0,
            network,
        };
        for side in SIDES {
            site.lead_all(side);
        }
        site.follow(Side::Redis);
        for place in 0..RECONCILERS.len() {
            site.start_reconciler(place, None);
        }
        site.on_ledger(stack::await_schema);
        // More than a round can sell.
        site.on_ledger(|postgres| stack::insert_of(postgres, random, 10_000_000));
        site.assert_at_work(Instant::now() + AT_WORK_WITHIN);
        site
    }

    /// The host of a side's primary.
    #[must_use]
    pub fn primary(&self, side: Side) -> Host {
        side.hosts()[self.primary[side as usize]]
    }

    /// The host of who follows it.
    #[must_use]
    pub fn second(&self, side: Side) -> Host {
        side.hosts()[1 - self.primary[side as usize]]
    }

    /// The address of a side leads these hosts to its primary.
    pub fn lead(&self, senders: &[Host], side: Side) {
        self.network.lead(senders, side.place().0, self.primary(side));
    }

    /// And all hosts.
    pub fn lead_all(&self, side: Side) {
        self.lead(&all_hosts(), side);
    }

    /// Does something at PostgreSQL's primary, where Redis can be asked at its address too.
    pub fn on_ledger<T>(&self, work: impl FnOnce(&Postgres) -> T) -> T {
        let place = self.primary[Side::Postgresql as usize];
        self.network.on(self.primary(Side::Postgresql), || work(&self.postgres[place]))
    }

    /// Does something at Redis's primary.
    pub fn on_redis<T>(&self, work: impl FnOnce(&mut Client) -> T) -> T {
        let place = self.primary[Side::Redis as usize];
        self.network.on(self.primary(Side::Redis), || work(&mut self.redis[place].client()))
    }

    /// Starts a reconciler, in the place of the one that was there, which is killed.
    pub fn start_reconciler(&mut self, place: usize, pause_at: Option<&str>) {
        self.kill_reconciler(place);
        let [(redis, redis_port), (database, database_port)] = SIDES.map(Side::place);
        let mut options = reconciler::Options::between(&self.redis[0], &self.postgres[0])
            .redis_url(format!("redis://{redis}:{redis_port}"))
            .database_url(
                self.postgres[0]
                    .url()
                    .replace(&format!("127.0.0.1:{database_port}"), &format!("{database}:{database_port}")),
            )
            .args(&["--batch-max", &self.batch_max]);
        if let Some(point) = pause_at {
            options = options.pause_at(point);
        }
        self.reconcilers[place] = Some(self.network.on(RECONCILERS[place], || options.start()));
    }

    /// Ends a reconciler without warning.
    pub fn kill_reconciler(&mut self, place: usize) {
        self.reconcilers[place] = None;
    }

    /// A reconciler that was started.
    ///
    /// # Panics
    /// If it was killed.
    #[must_use]
    pub fn reconciler(&self, place: usize) -> &Reconciler {
        self.reconcilers[place].as_ref().expect("it was started")
    }

    /// How often the reconcilers have logged something.
    #[must_use]
    pub fn said(&self, text: &str) -> usize {
        self.reconcilers.iter().flatten().map(|reconciler| reconciler.log().matches(text).count()).sum()
    }

    fn get(&self, place: usize, path: &str) -> Option<(u16, String)> {
        let port = self.reconciler(place).listen_port;
        self.network.on(RECONCILERS[place], || http::get(port, path)).ok()
    }

    /// A reconciler that is cut off from a side since then says so, and says which.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_said(&self, place: usize, side: Side, since: Instant) {
        let limit = (SAID_WITHIN * MARGIN).saturating_sub(since.elapsed());
        let (well, away) = (format!("{}: ok", side.word()), format!("coupon_up{{side=\"{}\"}} 0", side.word()));
        let mut seen = String::new();
        let is_said = within(limit, || {
            let (status, body) = self.get(place, "/readyz")?;
            let is_said = status == 503 && !body.lines().any(|line| line == well);
            seen = format!("{status} {body}");
            is_said.then_some(())
        });
        assert!(
            is_said.is_some(),
            "{} is cut off from {} and does not say so: {seen}",
            RECONCILERS[place],
            side.word()
        );
        SAID_MS.fetch_max(millis(since.elapsed()), Ordering::Relaxed);
        let is_counted = within(limit.max(Duration::from_secs(1)), || {
            let (_, body) = self.get(place, "/metrics")?;
            body.lines().any(|line| line == away).then_some(())
        });
        assert!(is_counted.is_some(), "{} has no metric that says so: {}", RECONCILERS[place], side.word());
        COUNTED_MS.fetch_max(millis(since.elapsed()), Ordering::Relaxed);
    }

    /// All reconcilers are ready, and a grant becomes a row, soon after that moment.
    ///
    /// # Panics
    /// If not.
    pub fn assert_at_work(&mut self, since: Instant) {
        for (place, name) in RECONCILERS.iter().enumerate() {
            let mut seen = String::new();
            let limit = (AT_WORK_WITHIN * MARGIN).saturating_sub(since.elapsed());
            let is_ready = within(limit, || {
                let (status, body) = self.get(place, "/readyz")?;
                seen = format!("{status} {body}");
                (status == 200).then_some(())
            });
            assert!(is_ready.is_some(), "{name} is not ready again: {seen}");
        }
        self.assert_rows_move(since);
        AT_WORK_MS.fetch_max(millis(since.elapsed()), Ordering::Relaxed);
    }

    /// Whoever asks now soon hears PERSISTED.
    ///
    /// # Panics
    /// If not.
    pub fn assert_rows_move(&mut self, since: Instant) {
        self.probes += 1;
        let (key, user) = (stack::key(), format!("probe{}", self.probes));
        let limit = (AT_WORK_WITHIN * MARGIN).saturating_sub(since.elapsed());
        let mut seen = String::new();
        let ask = |seen: &mut String| {
            let mut client = Client::connect_with(Side::Redis.place(), PATIENCE).ok()?;
            // Again and again, as an answer may be lost: whoever was let in hears DUPLICATE.
            let answer = client.try_call(&["COUPON.REQUEST", &key, &user]).ok()?;
            let state = client.try_call(&["COUPON.STATUS", &key, &user]).ok()?;
            *seen = format!("{answer} {state}");
            (state.to_string() == "PERSISTED").then_some(())
        };
        let is_row = self.network.on(CLIENTS, || within(limit, || ask(&mut seen)));
        if is_row.is_none() {
            let position = self.on_ledger(|postgres| ledger::coupon(postgres, stack::ID, "epoch, seq, granted"));
            let info = self.on_redis(|redis| redis.call(&["COUPON.INFO", &key]).to_string());
            panic!("no grant becomes a row: {seen}; the ledger is at {position}, Redis at {info}");
        }
    }

    /// The second of a side is the first from now on. Nobody is led to it yet.
    ///
    /// # Panics
    /// If it refuses.
    pub fn promote(&mut self, side: Side) {
        let second = 1 - self.primary[side as usize];
        self.network.on(self.second(side), || match side {
            Side::Redis => {
                assert_eq!(self.redis[second].client().run("REPLICAOF NO ONE").to_string(), "+OK");
            }
            Side::Postgresql => assert_eq!(self.postgres[second].value("select pg_promote()"), "t"),
        });
        self.primary[side as usize] = second;
    }

    /// So many users ask at Redis's primary itself, and are rows.
    ///
    /// # Panics
    /// If they do not become rows.
    pub fn sell_at_primary(&mut self, users: u32) {
        self.probes += 1;
        let (key, probe) = (stack::key(), self.probes);
        eventually_true("they are rows", || {
            self.on_redis(|redis| {
                (0..users).all(|number| {
                    let user = format!("other{probe}-{number}");
                    redis.call(&["COUPON.REQUEST", &key, &user]);
                    redis.call(&["COUPON.STATUS", &key, &user]).to_string() == "PERSISTED"
                })
            })
        });
    }

    /// Somebody else's scheduler grants at Redis's primary what it holds.
    pub fn issue_by_hand(&self) {
        self.on_redis(|redis| redis.call(&["COUPON.ISSUE", &stack::key(), "COUNT", "100"]));
    }

    /// Back to the primary that was there before, which has granted on its own: all that does not count is named.
    ///
    /// # Panics
    /// If it is not.
    pub fn lead_back(&mut self) {
        self.primary[Side::Redis as usize] = 1 - self.primary[Side::Redis as usize];
        self.network.mend_all();
        let old = (self.network.address(self.primary(Side::Redis)), Side::Redis.place().1);
        let named = self.on_ledger(|postgres| stack::lead_back(old, postgres, || self.lead_all(Side::Redis)));
        NAMED.fetch_add(named as u64, Ordering::Relaxed);
    }

    /// Whose rows the older primary of PostgreSQL has and the promoted one has not. Before anybody is led to that.
    #[must_use]
    pub fn lost_commits(&self) -> HashSet<String> {
        let users = |place: usize| -> HashSet<String> {
            let host = Side::Postgresql.hosts()[place];
            let rows = self.network.on(host, || ledger::rows(&self.postgres[place], stack::ID));
            rows.into_iter().map(|row| row.user).collect()
        };
        let primary = self.primary[Side::Postgresql as usize];
        users(1 - primary).difference(&users(primary)).cloned().collect()
    }

    /// Notes what became of users whose commits a failover has lost: rows again, as Redis still knew them, or not.
    pub fn count_lost(&self, users: &HashSet<String>) {
        let rows = self.on_ledger(|postgres| ledger::rows(postgres, stack::ID));
        let again = rows.iter().filter(|row| users.contains(&row.user)).count();
        LOST_COMMITS.fetch_add(users.len() as u64, Ordering::Relaxed);
        ROWS_AGAIN.fetch_add(again as u64, Ordering::Relaxed);
    }

    /// All reach each other, and the second of each side follows its primary, from wherever it is.
    ///
    /// # Panics
    /// If it does not.
    pub fn mend(&mut self) {
        self.network.mend_all();
        for side in SIDES {
            if !self.is_followed(side) {
                self.follow(side);
            }
        }
    }

    fn is_followed(&self, side: Side) -> bool {
        match side {
            Side::Redis => {
                let second = 1 - self.primary[side as usize];
                let info = self.network.on(self.second(side), || self.redis[second].client().run("INFO replication"));
                info.text().contains("role:slave")
            }
            Side::Postgresql => {
                let second = 1 - self.primary[side as usize];
                let answer =
                    self.network.on(self.second(side), || self.postgres[second].try_run("select pg_is_in_recovery()"));
                answer.is_ok_and(|answer| answer.trim_end() == "t")
            }
        }
    }

    fn follow(&mut self, side: Side) {
        let second = 1 - self.primary[side as usize];
        let (address, port) = (self.network.address(self.primary(side)), side.place().1);
        match side {
            Side::Redis => self.network.on(self.second(side), || {
                let call = format!("REPLICAOF {address} {port}");
                assert_eq!(self.redis[second].client().run(&call).to_string(), "+OK");
            }),
            Side::Postgresql => {
                // It has gone its own way, so it begins anew; nobody may find the older one there any more.
                let backup = self.on_ledger(Postgres::base_backup);
                let host = self.second(side);
                self.network.on(host, || self.postgres[second].crash());
                self.postgres[second] = self.network.on(host, || backup.follow(address, port));
            }
        }
    }

    /// Waits until the second of each side has what the first has, so that a failover loses what is lost on purpose.
    ///
    /// # Panics
    /// If that does not come.
    pub fn await_followed(&self) {
        eventually_true("the replica is in step", || {
            self.on_redis(|redis| {
                let info = redis.run("INFO replication");
                info.text().contains("state=online")
            })
        });
        eventually_true("the standby streams", || {
            self.on_ledger(|postgres| {
                postgres.value("select count(*) from pg_stat_replication where state = 'streaming'")
            }) == "1"
        });
    }

    /// Every promise, against what clients were told. Nothing may be cut.
    ///
    /// # Panics
    /// If one is broken.
    pub fn judge(&self, load: &Load) {
        eventually_true("what clients sent last is there or gone", || self.network.is_quiet(CLIENTS));
        self.on_ledger(|postgres| load.check_on(Side::Redis.place(), postgres, self.order));
    }

    /// The ports from which a reconciler listens to a side: of LISTEN and of SUBSCRIBE; or of all its connections.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn ports(&self, place: usize, side: Side, is_all: bool) -> Vec<u16> {
        let address = self.network.address(RECONCILERS[place]);
        let ports: Vec<u16> = match side {
            Side::Redis => {
                let list =
                    self.on_redis(|redis| redis.run(if is_all { "CLIENT LIST" } else { "CLIENT LIST TYPE pubsub" }));
                let begin = format!(" addr={address}:");
                let port = |line: &str| line.split(&begin).nth(1)?.split(' ').next()?.parse().ok();
                list.text().lines().filter_map(port).collect()
            }
            Side::Postgresql => {
                // It says that it listens, and then asks now and then whether it still does.
                let which = if is_all { "" } else { "and (query ilike 'listen%' or query = 'select 1')" };
                let rows = self.on_ledger(|postgres| {
                    postgres.rows(&format!(
                        "select client_port from pg_stat_activity where client_addr = '{address}' {which}"
                    ))
                });
                rows.iter().filter_map(|port| port.parse().ok()).collect()
            }
        };
        assert!(!ports.is_empty(), "{} has no such connection to {}", RECONCILERS[place], side.word());
        ports
    }

    /// A new coupon reaches Redis, soon after that moment.
    ///
    /// # Panics
    /// If not.
    pub fn assert_published(&mut self, since: Instant) {
        self.probes += 1;
        let id = format!("late{}", self.probes);
        self.on_ledger(|postgres| {
            postgres.run(&format!(
                "insert into coupon (id, name, quantity, status) values ('{id}', '{id}', 1, 'AVAILABLE')"
            ));
        });
        let limit = (AT_WORK_WITHIN * MARGIN).saturating_sub(since.elapsed());
        let is_there = within(limit, || {
            let info = self.on_redis(|redis| redis.call(&["COUPON.INFO", &format!("coupon:{{{id}}}")]));
            (!info.is_error() && *info.field("fenced") == Value::Int(0)).then_some(())
        });
        assert!(is_there.is_some(), "a new coupon is not published");
        AT_WORK_MS.fetch_max(millis(since.elapsed()), Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What was seen in all rounds of this process, in a line.
#[must_use]
pub fn figures() -> String {
    let [said, counted, at_work] =
        [&SAID_MS, &COUNTED_MS, &AT_WORK_MS].map(|worst| Duration::from_millis(worst.load(Ordering::Relaxed)));
    let [lost, again, named] = [&LOST_COMMITS, &ROWS_AGAIN, &NAMED].map(|count| count.load(Ordering::Relaxed));
    format!(
        "hosts: at most {said:.1?} until /readyz says so, {counted:.1?} until /metrics does, {at_work:.1?} until all are at work \
         again; {lost} commits lost by failover, {again} of them rows again; {named} grants of an older primary named"
    )
}
