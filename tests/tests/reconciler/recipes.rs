//! What docs/operations.md says to do, done as it says.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::dump::await_replica;
use coupon_tests::ledger::{self, await_coupon};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::proxy::Proxy;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server::{self, Redis};
use coupon_tests::resp::{Client, expect};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Clients that go on asking, through whatever happens, until they are told to stop.
struct Crowd {
    ends: Arc<AtomicBool>,
    accepted: JoinHandle<Vec<String>>,
}

impl Crowd {
    /// Asks for one user after the other, each until there is an answer that is no error.
    fn at(port: u16, id: &str) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (until, key) = (Arc::clone(&ends), key(id));
        let accepted = std::thread::spawn(move || {
            let mut client = None;
            let mut accepted = Vec::new();
            while !until.load(Ordering::Acquire) {
                let user = format!("crowd{}", accepted.len());
                eventually(&format!("{user} is answered"), || {
                    if client.is_none() {
                        client = Client::connect(port).ok();
                    }
                    let reply = client.as_mut()?.try_call(&["COUPON.REQUEST", &key, &user]);
                    let is_answer = reply.as_ref().is_ok_and(|reply| !reply.is_error());
                    if reply.is_err() {
                        client = None;
                    }
                    is_answer.then_some(())
                });
                accepted.push(user);
            }
            accepted
        });
        Self { ends, accepted }
    }

    /// Whoever was answered until now.
    fn stop(self) -> Vec<String> {
        self.ends.store(true, Ordering::Release);
        self.accepted.join().expect("the crowd was answered")
    }
}

/// `verify` and `audit` find nothing.
fn assert_proved(redis: &Redis, postgres: &Postgres) {
    for proof in ["verify", "audit"] {
        let output = command(redis, postgres, &[proof]);
        assert!(output.status.success(), "{proof}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_planned_failover_loses_nothing_and_restores_nothing() {
    let (mut primary, postgres) = servers();
    let mut replica = redis_server::Options::shipped()
        .module_args("stream-keep 1000000000")
        .line(format!("replicaof 127.0.0.1 {}", primary.port))
        .start();
    let address = Proxy::start(primary.port);
    let url = format!("redis://127.0.0.1:{}", address.port);
    let reconciler = Options::between(&primary, &postgres).redis_url(url).start().await_ready();
    insert(&postgres, "a", 1_000_000, &[("mode", "'INSTANT'")]);
    await_open(&mut primary.client(), "a");
    let crowd = Crowd::at(address.port, "a");
    eventually_true("the sale has begun", || reconciler.metric("coupon_rows_total") > Some(50.0));
    await_replica(&primary, &replica);
    for _ in 0..2 {
        let epoch = ledger::coupon(&postgres, "a", "epoch");
        expect(&mut primary.client(), &[(format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 10000", replica.port), "+OK")]);
        eventually_true("the replica is the primary", || {
            replica.client().run("INFO replication").text().contains("role:master")
        });
        address.lead_to(replica.port);
        let rows = reconciler.metric("coupon_rows_total");
        eventually_true("the sale goes on under another epoch", || {
            ledger::coupon(&postgres, "a", "epoch") != epoch && reconciler.metric("coupon_rows_total") > rows
        });
        std::mem::swap(&mut primary, &mut replica);
        await_replica(&primary, &replica);
    }
    let accepted = crowd.stop();
    await_level(&primary, &postgres, "a", accepted.len() as u64);
    let users: Vec<String> = ledger::rows(&postgres, "a").into_iter().map(|row| row.user).collect();
    assert_eq!(users, accepted, "each of them, in the order of their answers");
    assert_eq!(reconciler.metric("coupon_restored_total"), Some(0.0));
    assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0");
    assert_proved(&primary, &postgres);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "cp failed");
}

/// Copies the AOF of a server that works, into a directory.
fn copy_aof(redis: &Redis, to: &Path) {
    let mut client = redis.client();
    expect(&mut client, &[("CONFIG SET auto-aof-rewrite-percentage 0", "+OK")]);
    eventually_true("no rewrite is under way", || {
        client.run("INFO persistence").text().contains("aof_rewrite_in_progress:0")
    });
    copy(&redis.directory().join("appendonlydir"), to);
    expect(&mut client, &[("CONFIG SET auto-aof-rewrite-percentage 100", "+OK")]);
}

/// A sale of which each side is backed up at its own moment and loses everything at a later one.
fn restored_from_copies(is_redis_first: bool) {
    let mut redis = redis_server::Options::shipped().start();
    let postgres = Postgres::start();
    let mut reconciler = Reconciler::start(&redis, &postgres);
    insert(&postgres, "a", 1000, &[]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    let aof = tempfile::tempdir().expect("temporary directory");
    let mut base_backup = None;
    for (step, is_redis) in [is_redis_first, !is_redis_first].into_iter().enumerate() {
        let sold = step as u64 * 100;
        request(&mut client, "a", "u", sold..sold + 100);
        await_coupon(&postgres, "a", "seq", &(sold + 100).to_string());
        if is_redis {
            copy_aof(&redis, aof.path());
        } else {
            base_backup = Some(postgres.base_backup());
        }
    }
    request(&mut client, "a", "u", 200..300);
    await_coupon(&postgres, "a", "seq", "300");
    let sold = ledger::rows(&postgres, "a");
    reconciler.kill();
    redis.kill();
    drop(postgres);

    let postgres = base_backup.expect("a backup was made").restore();
    fs::remove_dir_all(redis.directory().join("appendonlydir")).expect("the AOF can be removed");
    copy(&aof.path().join("appendonlydir"), redis.directory());
    redis.start_again();
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_coupon(&postgres, "a", "seq", "200");
    eventually_true("the coupon is open", || {
        let info = client.run(&format!("COUPON.INFO {}", key("a")));
        !info.is_error() && info.field("fenced").int() == 0
    });
    let order = |rows: &[ledger::Row]| rows.iter().map(|row| (row.user.clone(), row.chain)).collect::<Vec<_>>();
    assert_eq!(
        order(&ledger::rows(&postgres, "a")),
        order(&sold[..200]),
        "what either copy knew, each grant at its place"
    );
    request(&mut client, "a", "new", 0..800);
    await_coupon(&postgres, "a", "status, granted, seq", "ISSUED|1000|1000");
    ledger::assert_whole(&postgres, "a");
    assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0");
    assert_proved(&redis, &postgres);
}

#[test]
fn a_copy_of_redis_older_than_the_backup_of_postgresql() {
    restored_from_copies(true);
}

#[test]
fn a_backup_of_postgresql_older_than_the_copy_of_redis() {
    restored_from_copies(false);
}

#[test]
fn reconcilers_are_replaced_one_after_the_other() {
    let (redis, postgres) = servers();
    let start = || Options::between(&redis, &postgres).start().await_ready();
    let mut running = [start(), start()];
    insert(&postgres, "a", 1_000_000, &[("mode", "'INSTANT'")]);
    await_open(&mut redis.client(), "a");
    let crowd = Crowd::at(redis.port, "a");
    let seq = || ledger::coupon(&postgres, "a", "seq").parse::<u64>().expect("a number");
    for old in &mut running {
        assert!(old.end("TERM").success());
        *old = start();
        let before = seq();
        eventually_true("the sale goes on", || seq() > before);
    }
    let accepted = crowd.stop();
    await_level(&redis, &postgres, "a", accepted.len() as u64);
    assert_eq!(ledger::coupon(&postgres, "a", "epoch"), "1", "the coupon was open all the time");
    assert_proved(&redis, &postgres);
}

/// Stands for a migration that a later version brings along.
const LATER: &str = "99999999999999";

#[test]
fn an_older_reconciler_works_until_it_connects_anew_and_then_leaves_the_work_to_newer_ones() {
    let (redis, mut postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    insert(&postgres, "a", 100, &[("mode", "'INSTANT'")]);
    let mut client = redis.client();
    await_open(&mut client, "a");
    postgres.run(&format!(
        "insert into coupon_migration (version, description, success, checksum, execution_time)
         values ({LATER}, 'of a later version', true, '', 0)"
    ));
    request(&mut client, "a", "u", 0..5);
    await_level(&redis, &postgres, "a", 5);
    postgres.stop();
    eventually_true("it says that it is not ready", || !reconciler.is_ready());
    postgres.start_again();
    reconciler.await_log(&format!("migration {LATER} is newer than this binary"));
    assert!(!reconciler.is_ready());
    request(&mut client, "a", "u", 5..10);
    for subcommand in ["check", "migrate"] {
        let output = command(&redis, &postgres, &[subcommand]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!output.status.success() && said.contains("newer than this binary"), "{subcommand}: {said}");
    }
    assert_eq!(ledger::coupon(&postgres, "a", "seq"), "5");
    // As the newer version's operator does who takes it back.
    postgres.run(&format!("delete from coupon_migration where version = {LATER}"));
    await_level(&redis, &postgres, "a", 10);
}
