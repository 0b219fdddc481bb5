//! Hosts that are cut off from each other without a word, at random and at named moments, and failovers meanwhile, with lost
//! writes and lost commits. While it lasts reconcilers say so; when it is over they are at work again, and the promises hold.

mod site;

use super::stack::{Load, Order};
use super::{Survived, count};
use crate::network::{Direction, is_missing};
use site::{CLIENTS, PATIENCE, RECONCILERS, SIDES, Side, Site};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How long a cut lasts, in seconds; longer where what has to be said is waited for.
const SHORT: RangeInclusive<u64> = 1..=12;
const LONG: RangeInclusive<u64> = 20..=90;

/// What happens in a round, in any order; of what is there more often, more.
const EVENTS: [Event; 11] = [
    Event::Cut,
    Event::Cut,
    Event::Moment,
    Event::Moment,
    Event::LostRedis,
    Event::Forgotten,
    Event::Failover(&[Side::Redis]),
    Event::Failover(&[Side::Postgresql]),
    Event::Failover(&SIDES),
    Event::Split,
    Event::Back,
];

/// How many of them, where a cut is short, and where it is long.
const SHORT_EVENTS: usize = 5;
const LONG_EVENTS: usize = 3;

/// Between two batches of a client, so that a round's rows can be looked at in a moment.
const PAUSE: Duration = Duration::from_millis(30);

/// What the log says of a ledger that has less than Redis was told.
const GAP: &str = "the ledger lacks seq";

#[derive(Clone, Copy)]
enum Event {
    /// Two hosts, or one and all others.
    Cut,
    /// A reconciler, in the moment in which it does something.
    Moment,
    /// The same, where it brings a Redis back that has lost everything.
    LostRedis,
    /// Connections that no firewall knows any more.
    Forgotten,
    /// Of these sides, while their primaries are cut off.
    Failover(&'static [Side]),
    /// Of Redis, of which one reconciler and all clients hear late.
    Split,
    /// Of Redis, of which clients never hear, and back to the old primary.
    Back,
}

/// A point of the reconciler, the side that it is cut off from there, in which direction, and what that is.
type Moment = (&'static str, Side, Direction, &'static str);

const MOMENTS: [Moment; 5] = [
    ("before-commit", Side::Postgresql, Direction::Back, "cut off between COMMIT and its answer"),
    ("before-commit", Side::Postgresql, Direction::There, "cut off before COMMIT"),
    ("before-ack", Side::Redis, Direction::Back, "cut off between ACK and its answer"),
    ("before-ack", Side::Redis, Direction::There, "cut off before ACK"),
    ("after-ack", Side::Postgresql, Direction::Back, "cut off while leases are renewed"),
];

const MOMENTS_OF_A_RESTORE: [Moment; 4] = [
    ("after-take-epoch", Side::Postgresql, Direction::Both, "cut off after the epoch was taken"),
    ("after-naming", Side::Redis, Direction::Back, "cut off between RESTORE and its answer"),
    ("after-restore-batch", Side::Redis, Direction::Both, "cut off while RESTORE is under way"),
    ("before-resume", Side::Redis, Direction::Back, "cut off between RESUME and its answer"),
];

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    play(random, SHORT, SHORT_EVENTS)
}

/// As [`round`], where it takes long until all is well.
///
/// # Panics
/// If a promise is broken.
pub fn long_round(random: &mut fastrand::Rng) -> Survived {
    play(random, LONG, LONG_EVENTS)
}

fn play(random: &mut fastrand::Rng, seconds: RangeInclusive<u64>, events_max: usize) -> Survived {
    let mut survived = Survived::new();
    if let Some(why) = is_missing() {
        eprintln!("SKIPPED: hosts that are cut off from each other: {why}");
        count(&mut survived, "hosts that are cut off from each other: SKIPPED, see above", 0);
        return survived;
    }
    let mut events = EVENTS;
    random.shuffle(&mut events);
    let network = site::network();
    let mut scene = Scene {
        site: Site::start(&network, random),
        load: &Load::new(Side::Redis.place(), "u").paced(PATIENCE, PAUSE),
        random,
        seconds,
        lost: HashSet::new(),
        is_to_be_named: false,
        named_before: 0,
    };
    for event in events.into_iter().take(events_max) {
        scene.site.await_followed();
        // Clients are where the thread that starts them is.
        let kind = network.on(CLIENTS, || scene.load.during(|| scene.play(event)));
        if matches!(event, Event::Back) {
            scene.back();
        }
        scene.site.judge(scene.load);
        scene.site.count_lost(&std::mem::take(&mut scene.lost));
        if std::mem::take(&mut scene.is_to_be_named) {
            assert!(scene.site.said(GAP) > scene.named_before, "acknowledged commits were lost, and no log says so");
        }
        count(&mut survived, kind, 1);
    }
    println!("\n{}", site::figures());
    survived
}

struct Scene<'a> {
    site: Site<'a>,
    load: &'a Load,
    random: &'a mut fastrand::Rng,
    seconds: RangeInclusive<u64>,
    /// Users whose commits the last failover has lost.
    lost: HashSet<String>,
    /// Whether a reconciler has to say so, once more than before.
    is_to_be_named: bool,
    named_before: usize,
}

impl Scene<'_> {
    fn play(&mut self, event: Event) -> &'static str {
        self.load.await_answers(self.random.u64(1..100));
        match event {
            Event::Cut => self.cut(),
            Event::Moment => self.moment(&MOMENTS, false),
            Event::LostRedis => self.moment(&MOMENTS_OF_A_RESTORE, true),
            Event::Forgotten => self.forgotten(),
            Event::Failover(sides) => self.failover(sides),
            Event::Split => self.split(),
            Event::Back => self.part(),
        }
    }

    /// Lasts until its time is over.
    fn last(&mut self, since: Instant) {
        let time = Duration::from_secs(self.random.u64(self.seconds.clone()));
        std::thread::sleep(time.saturating_sub(since.elapsed()));
    }

    fn mend(&mut self) {
        self.site.mend();
        self.site.assert_at_work(Instant::now());
    }

    fn cut(&mut self) -> &'static str {
        let place = self.random.usize(0..RECONCILERS.len());
        let side = SIDES[self.random.usize(0..SIDES.len())];
        let direction = [Direction::There, Direction::Back, Direction::Both][self.random.usize(0..3)];
        let (network, since) = (self.site.network, Instant::now());
        let (lost, kind): (&[Side], _) = match self.random.u8(0..8) {
            0..4 => {
                network.cut(RECONCILERS[place], self.site.primary(side), direction);
                match side {
                    Side::Redis => (&[Side::Redis], "a reconciler cut off from Redis"),
                    Side::Postgresql => (&[Side::Postgresql], "a reconciler cut off from PostgreSQL"),
                }
            }
            4 | 5 => {
                network.isolate(RECONCILERS[place]);
                (&SIDES, "a reconciler cut off from everybody")
            }
            6 => {
                network.cut(CLIENTS, self.site.primary(Side::Redis), direction);
                (&[], "clients cut off from Redis")
            }
            _ => {
                network.cut(self.site.primary(side), self.site.second(side), direction);
                match side {
                    Side::Redis => (&[], "a replica cut off from its primary"),
                    Side::Postgresql => (&[], "a standby cut off from its primary"),
                }
            }
        };
        for side in lost {
            self.site.assert_said(place, *side, since);
        }
        if !lost.is_empty() {
            // The other one has its coupons.
            self.site.assert_rows_move(Instant::now());
        }
        self.last(since);
        self.mend();
        kind
    }

    /// The first reconciler is cut off at a point, and the second comes when it is.
    fn moment(&mut self, moments: &[Moment], has_redis_lost_all: bool) -> &'static str {
        let (point, side, direction, kind) = moments[self.random.usize(0..moments.len())];
        self.site.kill_reconciler(1);
        self.site.kill_reconciler(0);
        if has_redis_lost_all {
            self.site.on_redis(|redis| assert_eq!(redis.run("FLUSHALL").to_string(), "+OK"));
            self.load.forget_unpersisted();
        }
        self.site.start_reconciler(0, Some(point));
        self.site.reconciler(0).await_pause();
        let since = Instant::now();
        self.site.network.cut(RECONCILERS[0], self.site.primary(side), direction);
        self.site.reconciler(0).go_on();
        self.site.start_reconciler(1, None);
        self.site.assert_said(0, side, since);
        self.site.assert_rows_move(Instant::now());
        self.last(since);
        self.mend();
        kind
    }

    /// What is quiet for long is forgotten on the way, as LISTEN and SUBSCRIBE are: neither end hears of it.
    fn forgotten(&mut self) -> &'static str {
        let side = SIDES[self.random.usize(0..SIDES.len())];
        let is_all = self.random.bool();
        for (place, host) in RECONCILERS.into_iter().enumerate() {
            for port in self.site.ports(place, side, is_all) {
                self.site.network.forget_connection(host, port);
            }
        }
        let since = Instant::now();
        self.site.assert_published(since);
        self.site.assert_at_work(Instant::now());
        match (side, is_all) {
            (Side::Redis, false) => "SUBSCRIBE forgotten by a firewall",
            (Side::Redis, true) => "all connections to Redis forgotten by a firewall",
            (Side::Postgresql, false) => "LISTEN forgotten by a firewall",
            (Side::Postgresql, true) => "all connections to PostgreSQL forgotten by a firewall",
        }
    }

    /// Primaries are cut off, dead for all that anybody knows, and who was behind them takes their place.
    fn failover(&mut self, sides: &[Side]) -> &'static str {
        let network = self.site.network;
        if self.random.bool() {
            for side in sides {
                network.cut(self.site.primary(*side), self.site.second(*side), Direction::Both);
            }
            self.load.await_answers(self.random.u64(1..200));
        }
        let since = Instant::now();
        for side in sides {
            network.isolate(self.site.primary(*side));
        }
        for place in 0..RECONCILERS.len() {
            for side in sides {
                self.site.assert_said(place, *side, since);
            }
        }
        self.last(since);
        for side in sides {
            self.site.promote(*side);
        }
        let has_lost_redis = sides.contains(&Side::Redis);
        if has_lost_redis {
            self.load.forget_unpersisted();
        }
        if sides.contains(&Side::Postgresql) {
            self.lost = self.site.lost_commits();
            if has_lost_redis {
                // Nobody may hold them any more.
                self.load.forget_lost(&self.lost);
            } else {
                // Redis does, and of two that were acknowledged one has no entry any more: that is a gap to be named.
                self.is_to_be_named = self.load.told_persisted(&self.lost) >= 2;
                self.named_before = self.site.said(GAP);
            }
        }
        for side in sides {
            self.site.lead_all(*side);
        }
        self.site.assert_at_work(Instant::now());
        self.mend();
        match sides {
            [Side::Redis] => "failover of Redis, its primary cut off",
            [Side::Postgresql] => "failover of PostgreSQL, its primary cut off",
            _ => "failover of both, their primaries cut off",
        }
    }

    /// Two primaries of Redis, with a reconciler each, on one ledger. What one of them has granted and nobody has made rows of is
    /// lost with it.
    fn split(&mut self) -> &'static str {
        let (network, since) = (self.site.network, Instant::now());
        let old = self.site.primary(Side::Redis);
        network.isolate(old);
        for host in [CLIENTS, RECONCILERS[0]] {
            network.mend(old, host);
        }
        self.site.promote(Side::Redis);
        self.site.lead(&[RECONCILERS[1]], Side::Redis);
        self.load.await_answers(self.random.u64(1..500));
        self.last(since);
        self.site.order = Order::PerEpoch;
        self.site.lead_all(Side::Redis);
        network.isolate(old);
        // Whoever asks from now on asks the new one.
        self.load.forget_unpersisted();
        self.site.assert_at_work(Instant::now());
        self.mend();
        "failover of Redis, of which one reconciler and all clients hear late"
    }

    /// Clients go on with the old primary, and reconcilers with the new one, where others ask.
    fn part(&mut self) -> &'static str {
        let network = self.site.network;
        let old = self.site.primary(Side::Redis);
        network.isolate(old);
        network.mend(old, CLIENTS);
        self.load.await_answers(self.random.u64(1..300));
        // Of a queue it grants only to whom it is told to.
        self.site.issue_by_hand();
        self.site.promote(Side::Redis);
        self.site.lead(&RECONCILERS, Side::Redis);
        self.site.sell_at_primary(self.random.u32(1..30));
        self.load.await_answers(self.random.u64(1..300));
        "failover of Redis, of which clients never hear, and back"
    }

    fn back(&mut self) {
        self.site.order = Order::PerEpoch;
        self.load.forget_unpersisted();
        self.site.lead_back();
        self.mend();
    }
}
