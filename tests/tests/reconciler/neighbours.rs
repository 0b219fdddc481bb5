//! No neighbour waits: what one coupon, one transaction or one application takes is not taken from the others.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::{eventually_true, within};
use coupon_tests::ledger::await_coupon;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server;
use coupon_tests::resp::Client;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Far below PostgreSQL's limit for a statement, after which a worker that waits for a lock would be free for a moment.
const BEFORE_A_STATEMENT_ENDS: Duration = Duration::from_secs(15);

/// More than there are workers.
const LOCKED: u64 = 12;

fn locked(n: u64) -> String {
    format!("locked-{n}")
}

fn number_of(client: &mut Client, id: &str, field: &str) -> i64 {
    client.run(&format!("COUPON.INFO {}", key(id))).field(field).int()
}

#[test]
fn a_long_line_leaves_the_others_their_turn() {
    const WAITING: u64 = 20_000;
    const SMALL: u64 = 10;
    // As many calls as users wait.
    let redis = redis_server::Options::shipped().module_args("issue-max 1").start();
    let postgres = Postgres::start();
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    let small: Vec<String> = (0..SMALL).map(|n| format!("small-{n}")).collect();
    for id in &small {
        insert(&postgres, id, 10, &[]);
        await_open(&mut client, id);
    }
    insert(&postgres, "large", WAITING, &[]);
    await_open(&mut client, "large");
    request(&mut client, "large", "u", 0..WAITING);
    eventually_true("the long line is being granted", || number_of(&mut client, "large", "granted") > 0);
    for id in &small {
        request(&mut client, id, "u", 0..5);
    }
    eventually_true("the small ones' users have their rows", || {
        small.iter().all(|id| number_of(&mut client, id, "persisted") == 5)
    });
    let waiting = number_of(&mut client, "large", "waiting");
    assert!(waiting > 0, "they had to wait for all of the others");
    // The rest is no longer the point.
    assert_eq!(client.run("CONFIG SET coupon.issue-max 500").to_string(), "+OK");
    await_coupon(&postgres, "large", "seq", &WAITING.to_string());
}

/// Nobody of ours waits for a lock, and another coupon's grant becomes a row.
fn assert_others_go_on(postgres: &Postgres, client: &mut Client, user: &str) {
    assert_eq!(client.run(&format!("COUPON.REQUEST {} {user}", key("free"))).to_string(), "GRANTED");
    let status = format!("COUPON.STATUS {} {user}", key("free"));
    within(BEFORE_A_STATEMENT_ENDS, || (client.run(&status).to_string() == "PERSISTED").then_some(()))
        .expect("the free coupon's grant is a row while others are locked");
    let waits = "select count(*) from pg_stat_activity
                 where application_name = 'coupon-reconciler' and wait_event_type = 'Lock'";
    within(BEFORE_A_STATEMENT_ENDS, || (postgres.value(waits) == "0").then_some(()))
        .expect("nobody of ours waits for a lock, but for a moment");
}

#[test]
fn coupons_that_an_application_locks_hold_up_no_others() {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint no_thirteen check (user_id not like '%13')");
    let _reconciler =
        Options::between(&redis, &postgres).args(&["--full-pass-interval", "200ms"]).start().await_ready();
    let mut client = redis.client();
    insert(&postgres, "free", 100, &[("mode", "'INSTANT'")]);
    await_open(&mut client, "free");
    for n in 0..LOCKED {
        insert(&postgres, &locked(n), 20, &[("mode", "'INSTANT'")]);
        await_open(&mut client, &locked(n));
    }
    let mut application = postgres.session();
    application.run("begin; select from coupon where id like 'locked-%' for update");
    // A dead letter on the way, and ISSUED at the end.
    for n in 0..LOCKED {
        request(&mut client, &locked(n), "u", 0..20);
    }
    for n in 0..LOCKED {
        await_coupon(&postgres, &locked(n), "seq, granted, status", "20|19|AVAILABLE");
    }
    assert_others_go_on(&postgres, &mut client, "issued");
    // And what was changed in Redis by hand.
    for n in 0..LOCKED {
        assert_eq!(client.run(&format!("COUPON.OPEN {} QUANTITY 30 MODE INSTANT", key(&locked(n)))).to_string(), "+OK");
        request(&mut client, &locked(n), "w", 0..5);
    }
    for n in 0..LOCKED {
        await_coupon(&postgres, &locked(n), "seq, granted", "25|24");
    }
    assert_others_go_on(&postgres, &mut client, "changed");
    application.run("commit");
    for n in 0..LOCKED {
        await_coupon(&postgres, &locked(n), "status, quantity", "AVAILABLE|30");
        await_level(&redis, &postgres, &locked(n), 25);
    }
}

#[test]
fn coupons_that_are_locked_before_they_were_ever_open_hold_up_no_others() {
    let (redis, postgres) = servers();
    let mut client = redis.client();
    for n in 0..LOCKED {
        insert(&postgres, &locked(n), 20, &[("mode", "'INSTANT'")]);
    }
    insert(&postgres, "free", 100, &[("mode", "'INSTANT'")]);
    let mut application = postgres.session();
    application.run("begin; select from coupon where id like 'locked-%' for update");
    // Rows that nobody else can see yet, of coupons that are open already.
    application.run(&format!(
        "insert into coupon (id, name, quantity) select 'unseen-' || n, 'Test', 5 from generate_series(1, {LOCKED}) n"
    ));
    for n in 1..=LOCKED {
        let open = format!("COUPON.OPEN {} QUANTITY 5 MODE INSTANT", key(&format!("unseen-{n}")));
        assert_eq!(client.run(&open).to_string(), "+OK");
    }
    let _reconciler =
        Options::between(&redis, &postgres).args(&["--full-pass-interval", "200ms"]).start().await_ready();
    within(BEFORE_A_STATEMENT_ENDS, || (number_of_free(&mut client)? == 0).then_some(()))
        .expect("the free coupon is open while others are locked");
    assert_others_go_on(&postgres, &mut client, "open");
    application.run("rollback");
    for n in 0..LOCKED {
        await_open(&mut client, &locked(n));
        await_open(&mut client, &format!("unseen-{}", n + 1));
    }
}

/// Whether the free coupon is fenced, if it is there.
fn number_of_free(client: &mut Client) -> Option<i64> {
    let info = client.run(&format!("COUPON.INFO {}", key("free")));
    (!info.is_error()).then(|| info.field("fenced").int())
}

/// An application that takes every free slot of a PostgreSQL, and each that becomes free, until this is dropped.
struct Crowd {
    refused: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Crowd {
    fn start(port: u16) -> Self {
        let crowd = Self { refused: Arc::default(), is_over: Arc::default() };
        let (refused, is_over) = (Arc::clone(&crowd.refused), Arc::clone(&crowd.is_over));
        thread::spawn(move || {
            let mut held = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                if let Some(slot) = take_slot(port) {
                    held.push(slot);
                } else {
                    refused.fetch_add(1, Ordering::AcqRel);
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        eventually_true("every slot is taken", || crowd.refused.load(Ordering::Acquire) > 10);
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// A session of PostgreSQL in which nothing is ever asked; none where there is no room for it.
fn take_slot(port: u16) -> Option<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    let mut startup = 196_608_u32.to_be_bytes().to_vec();
    startup.extend(b"user\0shop\0database\0postgres\0\0");
    stream.write_all(&(startup.len() as u32 + 4).to_be_bytes()).ok()?;
    stream.write_all(&startup).ok()?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).ok()?;
        let [kind, len @ ..] = head;
        stream.read_exact(&mut vec![0; u32::from_be_bytes(len) as usize - 4]).ok()?;
        match kind {
            b'Z' => return Some(stream),
            b'E' => return None,
            _ => {}
        }
    }
}

#[test]
fn a_sale_goes_on_while_an_application_takes_every_free_connection() {
    const COUPONS: u64 = 12;
    let (redis, postgres) = servers();
    // Those that are kept for a superuser are this test's own.
    postgres.run(
        "create role shop login; create role reconciler login;
         grant all on all tables in schema public to reconciler",
    );
    let url = postgres.url().replace("//postgres:", "//reconciler:");
    let reconciler = Options::between(&redis, &postgres).database_url(url).start().await_ready();
    let mut client = redis.client();
    let ids: Vec<String> = (0..COUPONS).map(|n| format!("c{n}")).collect();
    for id in &ids {
        insert(&postgres, id, 1_000, &[("mode", "'INSTANT'")]);
        await_open(&mut client, id);
    }
    let crowd = Crowd::start(postgres.port);
    for round in 0..20 {
        for id in &ids {
            request(&mut client, id, "u", round * 50..(round + 1) * 50);
        }
    }
    within(BEFORE_A_STATEMENT_ENDS, || {
        ids.iter().all(|id| number_of(&mut client, id, "persisted") == 1_000).then_some(())
    })
    .expect("rows go on with the connections that it has");
    assert!(reconciler.is_ready(), "and it says so");
    drop(crowd);
    for id in &ids {
        await_level(&redis, &postgres, id, 1_000);
    }
    assert!(!reconciler.log().contains("waiting for PostgreSQL: "), "{}", reconciler.log());
}

#[test]
fn a_coupon_that_is_deleted_on_both_sides_is_forgotten() {
    let (redis, postgres) = servers();
    let reconciler = Options::between(&redis, &postgres).args(&["--full-pass-interval", "60m"]).start().await_ready();
    let mut client = redis.client();
    let ids: Vec<String> = (0..5).map(|n| format!("c{n}")).collect();
    for id in &ids {
        insert(&postgres, id, 10, &[("mode", "'INSTANT'")]);
        await_open(&mut client, id);
        request(&mut client, id, "u", 0..3);
        await_level(&redis, &postgres, id, 3);
    }
    eventually_true("all are known", || reconciler.metric("coupon_known") == Some(5.0));
    // As a shop does that tidies up after itself.
    for id in &ids {
        postgres.run(&format!(
            "delete from user_coupon where coupon_id = '{id}'; delete from coupon_position where coupon_id = '{id}';
             delete from coupon where id = '{id}'"
        ));
        client.run(&format!("DEL {0} {0}:issued {0}:grants", key(id)));
    }
    eventually_true("all are forgotten", || reconciler.metric("coupon_known") == Some(0.0));
    // Only a pass looks through the keys, and only a beat asks for the time.
    let calls = |client: &mut Client, command: &str| {
        let stats = client.run("INFO commandstats");
        let line =
            stats.text().lines().find(|line| line.starts_with(&format!("cmdstat_{command}:calls="))).map(str::to_owned);
        line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let (scans, beats) = (calls(&mut client, "scan"), calls(&mut client, "time"));
    eventually_true("some beats", || calls(&mut client, "time") >= beats + 4);
    assert_eq!(calls(&mut client, "scan"), scans, "no pass is made for what is gone");
}
