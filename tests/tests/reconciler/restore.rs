//! A Redis that lost grants, or made others, holds the ledger's again, in order and with their times; and no unit is
//! issued twice.

use crate::sale::{await_level, await_open, insert, key, request, servers};
use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger::{self, Row, await_coupon};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::proxy::Proxy;
use coupon_tests::reconciler::{HeldCommand, Options, Reconciler};
use coupon_tests::redis_server::{self, Redis};
use coupon_tests::resp::{Client, expect};
use std::fs;

/// A coupon in the middle of its sale, and one that is sold out and has users who wait.
const SALE: &str = "sale";
const SOLD_OUT: &str = "sold-out";

fn offer(postgres: &Postgres, client: &mut Client) {
    insert(postgres, SALE, 60, &[("mode", "'INSTANT'")]);
    insert(postgres, SOLD_OUT, 20, &[("waitlist", "10")]);
    await_open(client, SALE);
    await_open(client, SOLD_OUT);
}

/// Twenty grants of each that are rows, and ten users who wait for a unit of the one that is sold out.
fn sell(redis: &Redis, postgres: &Postgres) {
    let mut client = redis.client();
    request(&mut client, SALE, "u", 0..20);
    request(&mut client, SOLD_OUT, "u", 0..30);
    await_level(redis, postgres, SALE, 20);
    await_level(redis, postgres, SOLD_OUT, 20);
}

/// All there is to a grant but its entry's epoch, which is another one after a restore.
fn grants(rows: &[Row]) -> Vec<(u64, &str, u64, u64, i64)> {
    rows.iter().map(|r| (r.seq, r.user.as_str(), r.requested_at_us, r.granted_at_ms, r.chain)).collect()
}

/// Redis holds the ledger's grants with all there is to them, everybody at their place, and what follows from it.
fn assert_restored(client: &mut Client, rows: &[Row], id: &str) {
    let stored = Stored::read(client, &key(id));
    let held: Vec<Row> = stored.grants.iter().map(Row::from).collect();
    assert_eq!(grants(&held), grants(rows), "{id}: the grants in Redis are not the ledger's");
    stored.assert_promises();
    assert_eq!(stored.number("persisted"), rows.len() as i64, "{id}");
}

fn epoch(postgres: &Postgres, id: &str) -> u64 {
    ledger::coupon(postgres, id, "epoch").parse().expect("a number")
}

/// Waits until a coupon is open under a later epoch than before.
fn await_reopened(client: &mut Client, postgres: &Postgres, id: &str, before: u64) {
    eventually_true(&format!("{id} is open again"), || {
        let info = client.run(&format!("COUPON.INFO {}", key(id)));
        !info.is_error()
            && info.field("fenced").int() == 0
            && info.field("epoch").int() > before as i64
            && epoch(postgres, id) as i64 == info.field("epoch").int()
    });
}

fn states(client: &mut Client, id: &str, users: std::ops::Range<u64>) -> Vec<String> {
    users.map(|user| client.run(&format!("COUPON.STATUS {} u{user}", key(id))).to_string()).collect()
}

/// Sells what is left, and finds that exactly all units are gone, each to another user.
fn sell_the_rest(redis: &Redis, postgres: &Postgres, left: std::ops::Range<u64>) {
    let mut client = redis.client();
    request(&mut client, SALE, "new", left);
    expect(&mut client, &[(format!("COUPON.REQUEST {} late", key(SALE)), "SOLDOUT")]);
    await_coupon(postgres, SALE, "status, granted, seq", "ISSUED|60|60");
    ledger::assert_whole(postgres, SALE);
    let users = "select count(*), count(distinct user_id) from user_coupon where coupon_id = 'sale'";
    assert_eq!(postgres.value(users), "60|60");
}

/// A Redis that comes back with nothing: only the ledger knows what there was.
fn comes_back_empty(lose_all: fn(&mut Redis)) {
    let (mut redis, postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    offer(&postgres, &mut redis.client());
    sell(&redis, &postgres);
    let before = [SALE, SOLD_OUT].map(|id| (id, epoch(&postgres, id), ledger::rows(&postgres, id)));
    lose_all(&mut redis);
    let mut client = redis.client();
    for (id, epoch, rows) in before {
        await_reopened(&mut client, &postgres, id, epoch);
        assert_restored(&mut client, &rows, id);
        assert_eq!(ledger::rows(&postgres, id), rows, "{id}: the ledger's rows are as they were");
    }
    // Whoever only waited was in Redis alone, and has to ask again.
    assert_eq!(states(&mut client, SOLD_OUT, 0..20), ["PERSISTED"; 20]);
    assert_eq!(states(&mut client, SOLD_OUT, 20..30), ["NONE"; 10]);
    expect(
        &mut client,
        &[
            (format!("COUPON.REQUEST {} u5 WITHRANK", key(SOLD_OUT)), "[DUPLICATE :6]"),
            (format!("COUPON.REQUEST {} u29 WITHRANK", key(SOLD_OUT)), "[QUEUED :21]"),
            (format!("COUPON.ISSUE {}", key(SOLD_OUT)), ":0"),
        ],
    );
    sell_the_rest(&redis, &postgres, 20..60);
    assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0");
    assert_eq!(reconciler.metric("coupon_restored_total"), Some(40.0));
}

#[test]
fn all_keys_flushed() {
    comes_back_empty(|redis| expect(&mut redis.client(), &[("FLUSHALL", "+OK")]));
}

#[test]
fn an_aof_that_is_gone() {
    comes_back_empty(|redis| {
        redis.kill();
        fs::remove_dir_all(redis.directory().join("appendonlydir")).expect("the AOF can be removed");
        redis.start_again();
    });
}

#[test]
fn an_old_rdb_put_back() {
    let mut redis =
        redis_server::Options::shipped().line("appendonly no").module_args("stream-keep 1000000000").start();
    let postgres = Postgres::start();
    let reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    offer(&postgres, &mut client);
    request(&mut client, SOLD_OUT, "early", 0..25);
    await_level(&redis, &postgres, SOLD_OUT, 20);
    request(&mut client, SALE, "early", 0..10);
    await_level(&redis, &postgres, SALE, 10);
    expect(&mut client, &[("SAVE", "+OK")]);
    let file = redis.directory().join("dump.rdb");
    let backup = fs::read(&file).expect("the RDB");
    // The sale goes on: more grants, a raised quantity for some who waited, and some who join the line.
    request(&mut client, SALE, "u", 0..30);
    await_level(&redis, &postgres, SALE, 40);
    postgres.run("update coupon set quantity = 22 where id = 'sold-out'");
    await_level(&redis, &postgres, SOLD_OUT, 22);
    request(&mut client, SOLD_OUT, "u", 0..3);
    let before = [SALE, SOLD_OUT].map(|id| (id, epoch(&postgres, id), ledger::rows(&postgres, id)));
    redis.kill();
    fs::write(&file, backup).expect("the RDB can be put back");
    redis.start_again();
    let mut client = redis.client();
    for (id, epoch, rows) in before {
        await_reopened(&mut client, &postgres, id, epoch);
        assert_restored(&mut client, &rows, id);
    }
    let state = |user: &str| format!("COUPON.STATUS {} {user} WITHRANK", key(SOLD_OUT));
    expect(
        &mut client,
        &[
            (state("early21"), "[PERSISTED :22 :0]"),
            // Waited when the backup was made, and still does.
            (state("early22"), "[WAITING :23 :0]"),
            (state("early24"), "[WAITING :25 :2]"),
            // Came later, so the backup does not know.
            (state("u0"), "[NONE :0 :0]"),
        ],
    );
    sell_the_rest(&redis, &postgres, 40..60);
    // What the backup held was the ledger's, so only what it lacked was sent.
    assert_eq!(reconciler.metric("coupon_restored_total"), Some(32.0));
    assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0");
}

/// A port at which nobody listens: the discard service's, on loopback.
const NOBODY: u16 = 9;

/// Two servers, of which one follows the other, and a reconciler that is led to whoever is the primary.
struct Failover {
    primary: Redis,
    replica: Redis,
    postgres: Postgres,
    replication: Proxy,
    to_primary: Proxy,
    _reconciler: Reconciler,
}

impl Failover {
    fn start() -> Self {
        let (primary, postgres) = servers();
        let (replication, to_primary) = (Proxy::start(primary.port), Proxy::start(primary.port));
        let replica = redis_server::Options::shipped()
            .module_args("stream-keep 1000000000")
            .line(format!("replicaof 127.0.0.1 {}", replication.port))
            .start();
        let url = format!("redis://127.0.0.1:{}", to_primary.port);
        let reconciler = Options::between(&primary, &postgres).redis_url(url).start().await_ready();
        Self { primary, replica, postgres, replication, to_primary, _reconciler: reconciler }
    }

    /// From here on the replica is behind.
    fn hold_up_the_replica(&self) {
        coupon_tests::dump::await_replica(&self.primary, &self.replica);
        self.replication.lead_to(NOBODY);
    }

    fn promote_the_replica(&self) {
        expect(&mut self.replica.client(), &[("REPLICAOF NO ONE", "+OK")]);
        self.to_primary.lead_to(self.replica.port);
    }
}

#[test]
fn a_replica_that_is_behind_is_promoted() {
    let failover = Failover::start();
    let Failover { primary, replica, postgres, .. } = &failover;
    offer(postgres, &mut primary.client());
    sell(primary, postgres);
    failover.hold_up_the_replica();
    let mut client = primary.client();
    request(&mut client, SALE, "behind", 0..15);
    await_level(primary, postgres, SALE, 35);
    postgres.run("update coupon set quantity = 25, waitlist = 20 where id = 'sold-out'");
    await_level(primary, postgres, SOLD_OUT, 25);
    await_coupon(postgres, SOLD_OUT, "is_told", "t");
    request(&mut client, SOLD_OUT, "behind", 0..4);
    let before = [SALE, SOLD_OUT].map(|id| (id, epoch(postgres, id), ledger::rows(postgres, id)));
    failover.promote_the_replica();
    let mut client = replica.client();
    for (id, epoch, rows) in before {
        await_reopened(&mut client, postgres, id, epoch);
        assert_restored(&mut client, &rows, id);
    }
    let state = |user: &str| format!("COUPON.STATUS {} {user} WITHRANK", key(SOLD_OUT));
    expect(
        &mut client,
        &[
            (state("u24"), "[PERSISTED :25 :0]"),
            (state("u25"), "[WAITING :26 :0]"),
            (state("u29"), "[WAITING :30 :4]"),
            (state("behind0"), "[NONE :0 :0]"),
        ],
    );
    sell_the_rest(replica, postgres, 35..60);
    assert_eq!(postgres.value("select count(*) from coupon_orphan"), "0");
}

#[test]
fn what_an_old_primary_granted_alone_is_named() {
    old_primary_comes_back(|_| {});
}

#[test]
fn what_an_old_primary_granted_alone_is_named_although_its_hash_is_gone() {
    old_primary_comes_back(|client| expect(client, &[(format!("DEL {}", key("a")), ":1")]));
}

fn old_primary_comes_back(meanwhile: fn(&mut Client)) {
    let failover = Failover::start();
    let Failover { primary: old, replica: new, postgres, .. } = &failover;
    insert(postgres, "a", 30, &[("mode", "'INSTANT'")]);
    await_open(&mut old.client(), "a");
    request(&mut old.client(), "a", "u", 0..10);
    await_level(old, postgres, "a", 10);
    failover.hold_up_the_replica();
    failover.promote_the_replica();
    await_reopened(&mut new.client(), postgres, "a", 1);
    // Nobody told the old one, which goes on as an island.
    request(&mut old.client(), "a", "alone", 0..5);
    request(&mut new.client(), "a", "new", 0..3);
    // One of its users asks the new one too, and is in the ledger: a unit is theirs, so nothing was taken from them.
    request(&mut new.client(), "a", "alone", 2..3);
    await_coupon(postgres, "a", "seq", "14");
    let own = Stored::read(&mut old.client(), &key("a"));
    let before = epoch(postgres, "a");
    meanwhile(&mut old.client());
    failover.to_primary.lead_to(old.port);
    let mut client = old.client();
    await_reopened(&mut client, postgres, "a", before);
    let named = "select seq, user_id, (extract(epoch from requested_at) * 1000000)::bigint, epoch, chain
                 from coupon_orphan where coupon_id = 'a' order by seq";
    let expected: Vec<String> = own.grants[10..]
        .iter()
        .filter(|grant| grant.user != "alone2")
        .map(|g| format!("{}|{}|{}|{}|{}", g.id.seq, g.user, g.requested_at, g.id.epoch, g.chain))
        .collect();
    assert_eq!(expected.len(), 4);
    assert_eq!(postgres.rows(named), expected, "each of them, and nobody else");
    // Back in line with their own places, and as there are units left, each gets one; now for good.
    await_coupon(postgres, "a", "seq", "18");
    ledger::assert_whole(postgres, "a");
    let users: Vec<String> = ledger::rows(postgres, "a").into_iter().skip(10).map(|row| row.user).collect();
    assert_eq!(users, ["new0", "new1", "new2", "alone2", "alone0", "alone1", "alone3", "alone4"]);
    let stored = Stored::read(&mut client, &key("a"));
    let line: Vec<&str> = stored.issued[10..].iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(line, users);
    let held: Vec<Row> = stored.grants.iter().map(Row::from).collect();
    let rows = ledger::rows(postgres, "a");
    assert!(held.len() >= 8, "{held:?}");
    assert_eq!(
        grants(&held),
        grants(&rows[rows.len() - held.len()..]),
        "the ledger's grants have taken the place of its own"
    );
}

#[test]
fn a_restore_that_was_killed_in_the_middle_is_ended_by_the_next() {
    let (redis, postgres) = servers();
    // More than one RESTORE call takes.
    insert(&postgres, "a", 5000, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..2500);
    await_level(&redis, &postgres, "a", 2500);
    reconciler.kill();
    expect(&mut client, &[("FLUSHALL", "+OK")]);
    let mut paused = Options::between(&redis, &postgres).pause_at("after-restore-batch").start();
    paused.await_pause();
    // Part of it is there, and not a unit more is granted.
    assert_eq!(Stored::read(&mut client, &key("a")).grants.len(), 1000);
    expect(&mut client, &[(format!("COUPON.REQUEST {} early", key("a")), "-TRYAGAIN")]);
    paused.kill();
    let _next = Reconciler::start(&redis, &postgres);
    await_open(&mut client, "a");
    assert_restored(&mut client, &ledger::rows(&postgres, "a"), "a");
    request(&mut client, "a", "more", 0..10);
    await_coupon(&postgres, "a", "seq", "2510");
    ledger::assert_whole(&postgres, "a");
}

/// A Redis that goes back, while it is being restored, to a state from before the coupon was adopted: it is open then, and
/// grants.
struct Adopted {
    redis: Redis,
    postgres: Postgres,
    /// Its data when it had granted one unit, opened by hand.
    by_hand: Vec<u8>,
}

impl Adopted {
    /// With so many grants more since it was adopted, all of them rows. Then Redis loses all; no reconciler runs.
    fn sold(more: u64) -> Self {
        let (postgres, redis) = (
            Postgres::start(),
            redis_server::Options::shipped()
                .line("appendonly no")
                .line("save \"\"")
                .module_args("stream-keep 1000000000")
                .start(),
        );
        let mut client = redis.client();
        expect(
            &mut client,
            &[
                (format!("COUPON.OPEN {} QUANTITY 2000 MODE INSTANT", key("a")), "+OK"),
                (format!("COUPON.REQUEST {} first", key("a")), "GRANTED"),
                ("SAVE".into(), "+OK"),
            ],
        );
        let by_hand = fs::read(redis.directory().join("dump.rdb")).expect("the RDB");
        let mut reconciler = Reconciler::start(&redis, &postgres);
        await_open(&mut client, "a");
        request(&mut client, "a", "u", 0..more);
        await_level(&redis, &postgres, "a", more + 1);
        reconciler.kill();
        expect(&mut client, &[("FLUSHALL", "+OK")]);
        Self { redis, postgres, by_hand }
    }

    /// The data of then. Loaded by the same process, so that the reconciler's connection stays whole, as it does when
    /// another of its tasks has renewed it.
    fn put_back(&self) {
        fs::write(self.redis.directory().join("dump.rdb"), &self.by_hand).expect("the RDB can be put back");
        let epoch = format!("HGET {} epoch", key("a"));
        expect(&mut self.redis.client(), &[("DEBUG RELOAD NOSAVE", "+OK"), (&*epoch, "0")]);
    }

    /// The data of then, and what is granted now that it is open.
    fn goes_back(&self) -> Row {
        self.put_back();
        let mut client = self.redis.client();
        expect(&mut client, &[(format!("COUPON.REQUEST {} between", key("a")), "GRANTED")]);
        Stored::read(&mut client, &key("a")).grants.last().map(Row::from).expect("a grant")
    }

    /// It is restored by a reconciler that is held at a point when Redis goes back; what was granted then.
    fn goes_back_at(&self, point: &str) -> Row {
        let reconciler = Options::between(&self.redis, &self.postgres).pause_at(point).start();
        reconciler.await_pause();
        let between = self.goes_back();
        let rows: u64 =
            self.postgres.value("select seq from coupon_position where coupon_id = 'a'").parse().expect("a number");
        reconciler.go_on();
        // As there are units left, the user gets one in any case, and for good.
        await_coupon(&self.postgres, "a", "seq", &(rows + 1).to_string());
        ledger::assert_whole(&self.postgres, "a");
        between
    }

    fn assert_named(&self, grant: &Row) {
        let named = "select seq, user_id, epoch, chain from coupon_orphan where coupon_id = 'a'";
        assert_eq!(self.postgres.rows(named), [format!("2|between|0|{}", grant.chain)]);
    }
}

#[test]
fn what_is_granted_between_naming_and_restoring_is_named_too() {
    let adopted = Adopted::sold(5);
    let between = adopted.goes_back_at("after-naming");
    adopted.assert_named(&between);
}

#[test]
fn what_is_granted_between_two_batches_is_named_too() {
    // More than one RESTORE call takes.
    let adopted = Adopted::sold(1500);
    // With a common part, so that it is tried from the start where a batch does not fit.
    adopted.put_back();
    let between = adopted.goes_back_at("after-restore-batch");
    adopted.assert_named(&between);
}

#[test]
fn what_is_granted_between_naming_and_restoring_is_kept_where_it_continues_the_ledger() {
    let adopted = Adopted::sold(0);
    let between = adopted.goes_back_at("after-naming");
    let rows = ledger::rows(&adopted.postgres, "a");
    assert_eq!(rows[1..], [between], "this very grant, and no later one to the same user");
    assert_eq!(adopted.postgres.value("select count(*) from coupon_orphan"), "0");
}

#[test]
fn what_is_granted_while_the_restore_command_works_is_named_too() {
    let adopted = Adopted::sold(5);
    for from_start in [&[][..], &["--from-start"]] {
        let args = [&["restore", "a", "--yes"], from_start].concat();
        let held = HeldCommand::start(&adopted.redis, &adopted.postgres, &args, "after-naming");
        held.await_pause();
        let between = adopted.goes_back();
        let output = held.go_on();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(" grants sent, 1 in coupon_orphan"), "{from_start:?}: {said}");
        adopted.assert_named(&between);
        let state = |user: &str| format!("COUPON.STATUS {} {user} WITHRANK", key("a"));
        expect(
            &mut adopted.redis.client(),
            &[(state("u4"), "[PERSISTED :6 :0]"), (state("between"), "[WAITING :7 :0]"), ("FLUSHALL".into(), "+OK")],
        );
        adopted.postgres.run("delete from coupon_orphan");
    }
}

#[test]
fn a_coupon_without_a_row_that_lost_a_key_is_deleted_by_hand_and_published_anew() {
    let (redis, postgres) = servers();
    let _reconciler = Options::between(&redis, &postgres).issue_interval("60m").start().await_ready();
    let mut client = redis.client();
    insert(&postgres, "q", 5, &[]);
    await_open(&mut client, "q");
    let (key, request) = (key("q"), |user: &str| format!("COUPON.REQUEST {} {user}", key("q")));
    expect(&mut client, &[(request("a"), "QUEUED"), (format!("DEL {key}:issued"), ":1"), (request("b"), "-TRYAGAIN")]);
    let output = coupon_tests::reconciler::command(&redis, &postgres, &["restore", "q", "--yes"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let advice = format!("DEL {key} {key}:issued {key}:grants");
    assert!(!output.status.success() && said.contains(&advice), "{said}");
    client.run(&advice);
    eventually_true("the coupon is published anew", || client.run(&request("b")).to_string() == "QUEUED");
    assert_eq!(client.run(&format!("COUPON.STATUS {key} a")).to_string(), "NONE");
}
