//! The reconciler behind sentinels: it finds the primary, and follows it.

use crate::sale::{await_open, insert, key, request};
use coupon_tests::certificates::Authority;
use coupon_tests::deadline::eventually_true;
use coupon_tests::dump::await_replica;
use coupon_tests::ledger::{assert_whole, await_coupon, rows};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command_by, outcome};
use coupon_tests::redis_sentinel::{Sentinel, Sentinels, url};
use coupon_tests::redis_server::{self, Redis};
use coupon_tests::resp::{Client, expect};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// A primary with its replica, three sentinels, a ledger with one coupon, and the reconciler.
struct Place {
    primary: Redis,
    replica: Redis,
    sentinels: Sentinels,
    postgres: Postgres,
    reconciler: Reconciler,
}

impl Place {
    fn start() -> Self {
        let (primary, postgres) = (Redis::start(), Postgres::start());
        let replica = primary.replica();
        await_replica(&primary, &replica);
        let sentinels = Sentinels::start(&primary, 1);
        let reconciler = Options::between(&primary, &postgres).redis_url(sentinels.url()).start().await_ready();
        insert(&postgres, "a", 1_000_000, &[("mode", "'INSTANT'")]);
        await_open(&mut primary.client(), "a");
        Self { primary, replica, sentinels, postgres, reconciler }
    }

    /// What a subcommand says, which ends well.
    fn run(&self, args: &[&str]) -> String {
        let (is_good, said) = run(&self.sentinels.url(), &self.postgres, args);
        assert!(is_good, "{args:?}: {said}");
        said
    }

    /// Every user of these is a row in the end, whoever has to ask again for it.
    fn assert_persisted(&self, client: &mut Client, users: &[String]) {
        for user in users {
            let ask = format!("COUPON.REQUEST {} {user}", key("a"));
            eventually_true("the user has a unit", || {
                matches!(&*client.run(&ask).to_string(), "GRANTED" | "DUPLICATE")
            });
            let status = format!("COUPON.STATUS {} {user}", key("a"));
            eventually_true("the grant is a row", || client.run(&status).to_string() == "PERSISTED");
        }
        await_coupon(&self.postgres, "a", "seq, granted", &format!("{0}|{0}", users.len()));
        let persisted: HashSet<String> = rows(&self.postgres, "a").into_iter().map(|row| row.user).collect();
        assert_eq!(persisted, users.iter().cloned().collect());
        assert_whole(&self.postgres, "a");
    }
}

fn run(redis_url: &str, postgres: &Postgres, args: &[&str]) -> (bool, String) {
    outcome(&command_by(redis_url, &postgres.url(), args))
}

#[test]
fn a_primary_that_is_killed_under_requests_is_followed_to_its_replica() {
    let mut place = Place::start();
    let (first, second) = (place.primary.port, place.replica.port);
    let mut users: Vec<String> = (0..200).map(|user| format!("u{user}")).collect();
    request(&mut place.primary.client(), "a", "u", 0..200);
    await_coupon(&place.postgres, "a", "seq", "200");
    let before = rows(&place.postgres, "a");

    // One user after the other asks until nobody answers.
    let is_over = AtomicBool::new(false);
    let mut client = place.primary.client();
    let asked = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut asked = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                let user = format!("v{}", asked.len());
                asked.push(user.clone());
                if client.try_call(&["COUPON.REQUEST", &key("a"), &user]).is_err() {
                    break;
                }
            }
            asked
        });
        await_coupon(&place.postgres, "a", "seq > 400", "t");
        place.primary.kill();
        is_over.store(true, Ordering::Release);
        load.join().expect("the load ends")
    });
    users.extend(asked);

    assert_eq!(place.sentinels.await_other_than(first), second);
    let mut client = place.replica.client();
    await_open(&mut client, "a");
    assert_eq!(rows(&place.postgres, "a")[..200], before, "what was a row is one still");
    place.assert_persisted(&mut client, &users);
    assert!(place.reconciler.is_ready());
    let check = place.run(&["check"]);
    assert!(check.contains(&format!("connected to 127.0.0.1:{second}, without TLS")), "{check}");

    // The old primary comes back with what it alone granted, and becomes a replica.
    place.primary.start_again();
    eventually_true("the old primary is a replica", || {
        // Sentinel ends its clients' connections when it takes the role away.
        let role = place.primary.client().try_call(&["ROLE"]);
        role.is_ok_and(|role| role.array()[0].text() == "slave")
    });
    request(&mut client, "a", "w", 0..100);
    users.extend((0..100).map(|user| format!("w{user}")));
    place.assert_persisted(&mut client, &users);
    assert!(place.reconciler.status(&[]).status.success());
    for args in [&["verify"][..], &["audit"], &["restore", "a"], &["dead-letters", "list"]] {
        place.run(args);
    }
    assert!(!place.reconciler.log().contains("panicked"), "{}", place.reconciler.log());
}

#[test]
fn a_planned_failover_is_followed_and_back_again() {
    let place = Place::start();
    let mut users = Vec::new();
    let mut primary = place.primary.port;
    for (round, next) in [&place.replica, &place.primary].into_iter().enumerate() {
        eventually_true("a failover begins", || {
            // The replica has to be known as sound before, and one failover needs some rest after another.
            place.sentinels.first().client().run("SENTINEL FAILOVER coupons").to_string() == "+OK"
        });
        primary = place.sentinels.await_other_than(primary);
        assert_eq!(primary, next.port);
        let mut client = next.client();
        await_open(&mut client, "a");
        request(&mut client, "a", &format!("{round}-"), 0..100);
        users.extend((0..100).map(|user| format!("{round}-{user}")));
        place.assert_persisted(&mut client, &users);
    }
}

#[test]
fn the_newest_configuration_counts_and_a_primary_that_was_left_behind_does_not() {
    // Cut off from each other: one sentinel knows a lone primary, the other one a failover since.
    let (left_behind, postgres) = (Redis::start(), Postgres::start());
    let stale = Sentinel::start(left_behind.port, 1, &[]);
    let old = Redis::start();
    let new = old.replica();
    await_replica(&old, &new);
    let mut fresh = Sentinel::start(old.port, 1, &[]);
    eventually_true("a failover begins", || fresh.client().run("SENTINEL FAILOVER coupons").to_string() == "+OK");
    eventually_true("the failover is over", || fresh.primary() == new.port);

    let both = url(&[&stale, &fresh]);
    for either in [&both, &url(&[&fresh, &stale])] {
        let (_, said) = run(either, &postgres, &["check"]);
        assert!(said.contains(&format!("connected to 127.0.0.1:{}", new.port)), "{said}");
    }

    // Once it can hear of it, the reconciler leaves a primary that answers as well as ever.
    fresh.kill();
    let reconciler = Options::between(&left_behind, &postgres).redis_url(both.clone()).start().await_ready();
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    await_open(&mut left_behind.client(), "a");
    fresh.start_again();
    reconciler.await_log(&format!("the sentinels name 127.0.0.1:{} as the primary", new.port));
    await_open(&mut new.client(), "a");
}

#[test]
fn sentinels_and_servers_have_their_own_passwords_and_none_is_logged() {
    const SERVER: &str = "hunter2-server";
    const OF_SENTINEL: &str = "hunter2-sentinel";
    let primary = redis_server::Options::shipped().line(format!("requirepass {SERVER}")).start();
    let postgres = Postgres::start();
    let lines = [format!("requirepass {OF_SENTINEL}"), format!("sentinel auth-pass coupons {SERVER}")];
    let sentinel = Sentinel::start(primary.port, 1, &lines);
    let place = format!("127.0.0.1:{}/coupons", sentinel.port);
    let good = format!("redis-sentinel://:{SERVER}@{place}?sentinel-password={OF_SENTINEL}");
    let reconciler = Options::between(&primary, &postgres).redis_url(good.clone()).args(&["--log", "debug"]).start();
    let reconciler = reconciler.await_ready();
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    let mut client = primary.client();
    expect(&mut client, &[(format!("AUTH {SERVER}"), "+OK")]);
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_coupon(&postgres, "a", "seq", "10");

    for (url, why, is_of_sentinel) in [
        (format!("redis-sentinel://:{SERVER}@{place}"), "NOAUTH", true),
        (format!("redis-sentinel://:{SERVER}@{place}?sentinel-password=wrong"), "authentication failed", true),
        (format!("redis-sentinel://{place}?sentinel-password={OF_SENTINEL}"), "NOAUTH", false),
        (format!("redis-sentinel://:wrong@{place}?sentinel-password={OF_SENTINEL}"), "authentication failed", false),
    ] {
        let (is_good, said) = run(&url, &postgres, &["check"]);
        assert!(!is_good && said.contains(why), "{url}: {said}");
        assert_eq!(said.contains("sentinel-user and sentinel-password"), is_of_sentinel, "{url}: {said}");
    }
    let (_, refused) = run(&good.replace("redis-sentinel", "nonsense"), &postgres, &["check"]);
    for text in [reconciler.log(), refused] {
        for secret in [SERVER, OF_SENTINEL] {
            assert!(!text.is_empty() && !text.contains(secret), "{secret} is shown: {text}");
        }
    }
}

#[test]
fn what_no_sentinel_can_say_is_told_with_the_reason() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sentinel = Sentinel::start(redis.port, 1, &[]);
    let nobody = coupon_tests::port::free();
    for (place, parts) in [
        (format!("127.0.0.1:{}/cupons", sentinel.port), &["no primary called cupons", "SENTINEL MASTERS"][..]),
        (format!("127.0.0.1:{}/coupons", redis.port), &["it is no sentinel"]),
        (format!("127.0.0.1:{nobody}/coupons"), &["Connection refused"]),
    ] {
        let (is_good, said) = run(&format!("redis-sentinel://{place}"), &postgres, &["check"]);
        assert!(!is_good, "{place}: {said}");
        for part in parts {
            assert!(said.contains(part), "{part} is missing for {place}: {said}");
        }
    }
    // One that is away is passed over.
    let some = format!("redis-sentinel://127.0.0.1:{nobody},127.0.0.1:{}/coupons", sentinel.port);
    let (_, said) = run(&some, &postgres, &["check"]);
    assert!(said.contains("takes writes"), "{said}");
    // A server that they call the primary has to be one.
    let primary = Redis::start();
    assert_eq!(redis.client().run(&format!("REPLICAOF 127.0.0.1 {}", primary.port)).to_string(), "+OK");
    let (is_good, said) = run(&url(&[&sentinel]), &postgres, &["audit"]);
    assert!(!is_good && said.contains("it is a replica still"), "{said}");
}

#[test]
fn sentinels_and_the_primary_are_reached_by_tls() {
    let authority = Authority::new();
    let certificate = authority.sign(&["localhost"]);
    let redis = redis_server::Options::shipped().tls(&authority, &certificate).start();
    let postgres = Postgres::start();
    let tls_port = coupon_tests::port::free();
    let lines = [
        format!("tls-port {tls_port}"),
        "tls-replication yes".into(),
        format!("tls-ca-cert-file {}", authority.file.display()),
        format!("tls-cert-file {}", certificate.file.display()),
        format!("tls-key-file {}", certificate.key.display()),
        "tls-auth-clients no".into(),
        "sentinel announce-hostnames yes".into(),
    ];
    let _sentinel = Sentinel::start_for("localhost", redis.tls_port.expect("a port"), 1, &lines);
    let ca = authority.file.to_str().expect("UTF-8");
    let sentinels = format!("rediss-sentinel://localhost:{tls_port}/coupons");
    let _reconciler = Options::between(&redis, &postgres)
        .redis_url(sentinels.clone())
        .args(&["--redis-tls-ca", ca])
        .start()
        .await_ready();
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    await_open(&mut redis.client(), "a");
    request(&mut redis.client(), "a", "u", 0..10);
    await_coupon(&postgres, "a", "seq", "10");
    let (is_good, said) = run(&sentinels, &postgres, &["check", "--redis-tls-ca", ca]);
    assert!(is_good && said.contains(", by TLS"), "{said}");
    let (is_good, said) = run(&sentinels, &postgres, &["check"]);
    assert!(!is_good && said.contains("UnknownIssuer"), "{said}");
}
