//! A row that PostgreSQL refuses goes alone, and holds nobody up.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::ledger;
use coupon_tests::reconciler::{Options, Reconciler};

#[test]
fn a_refused_row_does_not_hold_up_its_followers() {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint no_thirteen check (user_id not like '%13')");
    insert(&postgres, "a", 300, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    reconciler.kill();
    // All in one batch, then more one by one.
    request(&mut client, "a", "u", 0..150);
    let reconciler = Reconciler::start(&redis, &postgres);
    await_level(&redis, &postgres, "a", 150);
    request(&mut client, "a", "u", 150..300);
    await_level(&redis, &postgres, "a", 300);
    let dead = ledger::dead_letters(&postgres, "a");
    let users: Vec<&str> = dead.iter().map(|row| row.user.as_str()).collect();
    assert_eq!(users, ["u13", "u113", "u213"]);
    assert_eq!(ledger::rows(&postgres, "a").len(), 297);
    // All units are gone, though three are no rows.
    ledger::await_coupon(&postgres, "a", "status, granted, seq", "ISSUED|297|300");
    let reason = "select distinct sqlstate, reason like '%no_thirteen%' from coupon_dead_letter";
    assert_eq!(postgres.value(reason), "23514|t");
    assert_eq!(reconciler.metric("coupon_dead_letters_total"), Some(3.0));
}

#[test]
fn every_row_refused_is_every_row_a_dead_letter() {
    let (redis, postgres) = servers();
    postgres.run("alter table user_coupon add constraint nobody check (false)");
    insert(&postgres, "a", 40, &[("mode", "'INSTANT'")]);
    let _reconciler = Options::between(&redis, &postgres).args(&["--batch-max", "16"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..40);
    await_level(&redis, &postgres, "a", 40);
    assert_eq!(ledger::dead_letters(&postgres, "a").len(), 40);
}

#[test]
fn an_error_of_a_trigger_is_the_rows_own() {
    let (redis, postgres) = servers();
    postgres.run(
        "create function no() returns trigger language plpgsql as
           $$ begin if new.user_id = 'u3' then raise exception 'not this one'; end if; return new; end $$;
         create trigger no before insert on user_coupon for each row execute function no()",
    );
    insert(&postgres, "a", 10, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "u", 0..10);
    await_level(&redis, &postgres, "a", 10);
    assert_eq!(postgres.value("select user_id, sqlstate from coupon_dead_letter"), "u3|P0001");
}

#[test]
fn a_locked_table_delays_and_is_no_dead_letter() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    await_open(&mut client, "a");
    std::thread::scope(|scope| {
        // Held until the grants are made, which the test sees in Redis.
        scope.spawn(|| {
            postgres.run("begin; lock table user_coupon in access exclusive mode; select pg_sleep(0.5); commit");
        });
        coupon_tests::deadline::eventually_true("the lock is held", || {
            postgres.value("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = 'user_coupon'::regclass") != "0"
        });
        request(&mut client, "a", "u", 0..20);
    });
    await_level(&redis, &postgres, "a", 20);
    assert_eq!(ledger::rows(&postgres, "a").len(), 20);
}
