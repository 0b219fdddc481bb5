//! Relay under fire: what PostgreSQL and the way to it do to a batch that is just being written passes, and leaves each
//! grant a row, once. What refuses a single row is in `dead_letter`, servers that go away are in `outage`.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::deadline::eventually_true;
use coupon_tests::ledger::await_coupon;
use coupon_tests::postgres_server::{Postgres, Session};
use coupon_tests::proxy::Proxy;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;

/// Ten grants that are rows, and a reconciler that waits for more.
struct Front {
    redis: Redis,
    postgres: Postgres,
    to_postgres: Proxy,
    reconciler: Reconciler,
}

impl Front {
    fn open() -> Self {
        Self::open_with("select 1")
    }

    fn open_with(settings: &str) -> Self {
        let (redis, postgres) = servers();
        postgres.run(settings);
        insert(&postgres, "a", 1000, &[("mode", "'INSTANT'")]);
        let to_postgres = Proxy::start(postgres.port);
        let url = postgres.url_at(to_postgres.port);
        let reconciler = Options::between(&redis, &postgres).database_url(url).start().await_ready();
        await_open(&mut redis.client(), "a");
        request(&mut redis.client(), "a", "u", 0..10);
        await_level(&redis, &postgres, "a", 10);
        Self { redis, postgres, to_postgres, reconciler }
    }

    /// Grants a hundred units, whose batch then waits for a lock that the session holds.
    fn send_into_a_lock(&self, lock: &mut Session, sql: &str) {
        lock.run(sql);
        request(&mut self.redis.client(), "a", "u", 10..110);
        eventually_true("the batch waits", || self.waiting("count(*)") == "1");
    }

    /// Of the backend in which the batch waits for another transaction.
    fn waiting(&self, what: &str) -> String {
        self.postgres.value(&format!("select {what} from pg_locks where locktype = 'transactionid' and not granted"))
    }

    /// The batch met this error, and passed all the same.
    fn assert_met(self, error: &str) {
        // It says so a moment after the lock is let go.
        eventually_true(&format!("PostgreSQL says \"{error}\""), || self.postgres.log().contains(error));
        self.assert_passed();
    }

    /// All are rows, each once, and nobody had to be asked.
    fn assert_passed(mut self) {
        await_level(&self.redis, &self.postgres, "a", 110);
        let counts = "select count(*), count(distinct user_id), count(distinct seq),
                             (select count(*) from coupon_dead_letter) from user_coupon";
        assert_eq!(self.postgres.value(counts), "110|110|110|0");
        assert!(self.reconciler.is_alive());
        assert!(self.reconciler.metric("coupon_retries_total") > Some(0.0), "the error was met and retried");
        let log = self.reconciler.log();
        assert!(!log.contains("ERROR"), "no operator is asked for what passes by itself: {log}");
        // And it goes on.
        request(&mut self.redis.client(), "a", "more", 0..10);
        await_level(&self.redis, &self.postgres, "a", 120);
    }
}

const LOCK: &str = "begin; select from coupon_position where coupon_id = 'a' for update";

#[test]
fn the_answer_to_a_commit_is_lost() {
    let front = Front::open();
    // What keeps the batch from being written again is the position, also where no constraint would.
    front.postgres.run(
        "alter table user_coupon drop constraint user_coupon_one_per_seq;
         drop index user_coupon_one_per_user;
         alter table coupon_position drop constraint coupon_position_granted_within_seq,
             drop constraint coupon_position_held_within_quantity",
    );
    let mut lock = front.postgres.session();
    front.send_into_a_lock(&mut lock, LOCK);
    front.to_postgres.lose_answers();
    lock.run("commit");
    await_coupon(&front.postgres, "a", "seq", "110");
    front.to_postgres.cut();
    front.assert_passed();
}

#[test]
fn the_connection_is_cut_before_the_commit() {
    let front = Front::open();
    let mut lock = front.postgres.session();
    front.send_into_a_lock(&mut lock, LOCK);
    let backend = front.waiting("pid");
    front.to_postgres.cut();
    // A backend that waits for a lock does not see that its client is gone.
    front.postgres.run(&format!("select pg_terminate_backend({backend})"));
    lock.run("commit");
    front.assert_passed();
}

#[test]
fn a_deadlock() {
    // Time enough for this test to close the circle before PostgreSQL looks for one.
    let front = Front::open_with("alter role postgres set deadlock_timeout = '3s'");
    let mut other = front.postgres.session();
    // The batch gets the coupon's position, and waits for the number that this one has taken.
    front.send_into_a_lock(
        &mut other,
        "set deadlock_timeout = '60s'; begin;
         insert into user_coupon (coupon_id, user_id, seq, requested_at, granted_at, epoch, chain)
         values ('a', 'other', 11, now(), now(), 1, 1)",
    );
    // This one waits for the position, until the batch is the one that is sacrificed.
    other.run("update coupon_position set retired_at = null where coupon_id = 'a'");
    other.run("rollback");
    front.assert_met("deadlock detected");
}

/// As one that saves its whole object, or looks at the coupon for long.
#[test]
fn an_application_that_holds_its_row_holds_nothing_up() {
    let front = Front::open();
    let mut application = front.postgres.session();
    application.run("begin isolation level repeatable read; update coupon set name = 'changed' where id = 'a'");
    request(&mut front.redis.client(), "a", "u", 10..110);
    await_level(&front.redis, &front.postgres, "a", 110);
    application.run("commit");
    assert_eq!(front.reconciler.metric("coupon_retries_total"), Some(0.0), "there was nothing to be tried again");
}

#[test]
fn a_serialization_failure() {
    let front = Front::open_with("alter role postgres set default_transaction_isolation = 'serializable'");
    let mut other = front.postgres.session();
    front.send_into_a_lock(&mut other, "begin; update coupon_position set retired_at = null where coupon_id = 'a'");
    // The batch sees a row that has changed since it began to look.
    other.run("commit");
    front.assert_met("could not serialize access");
}

/// A statement timeout ends a statement by the same SQLSTATE, 57014.
#[test]
fn a_statement_that_is_cancelled() {
    let front = Front::open();
    let mut lock = front.postgres.session();
    front.send_into_a_lock(&mut lock, LOCK);
    front.postgres.run(&format!("select pg_cancel_backend({})", front.waiting("pid")));
    let retries = || front.reconciler.metric("coupon_retries_total");
    eventually_true("it is tried again, and waits again", || retries() > Some(0.0) && front.waiting("count(*)") == "1");
    lock.run("commit");
    front.assert_met("canceling statement due to");
}
