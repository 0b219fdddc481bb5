//! A sale with grants in flight is no drift, whatever happens to it meanwhile.

use crate::finding::{all_left, audit};
use crate::sale::{await_open, insert, request};
use coupon_tests::ledger;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server::Redis;
use std::sync::atomic::{AtomicBool, Ordering};

fn migrated() -> (Redis, Postgres) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(command(&redis, &postgres, &["migrate"]).status.success());
    (redis, postgres)
}

fn assert_no_drift(reconciler: &Reconciler, rounds: f64) {
    coupon_tests::deadline::eventually_true("the audit goes round", || {
        reconciler.metric("coupon_audit_rounds_total").is_some_and(|done| done >= rounds)
    });
    for metric in ["coupon_drift", "coupon_drift_repaired_total"] {
        assert_eq!(reconciler.metric(metric), Some(0.0), "{metric}\n{}", reconciler.log());
    }
}

#[test]
fn audits_in_the_middle_of_a_sale_find_nothing() {
    let (redis, postgres) = migrated();
    // The background's round over all of them takes fifty times as long as its work.
    insert(&postgres, "instant", 2000, &[("mode", "'INSTANT'"), ("waitlist", "100")]);
    insert(&postgres, "queue", 1000, &[("waitlist", "1000")]);
    insert(&postgres, "idle", 5, &[]);
    // Some rows are refused, and tried again later.
    postgres.run("alter table user_coupon add constraint refused check (user_id not like '%77')");
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "10ms"]).start().await_ready();
    let mut client = redis.client();
    for id in ["instant", "queue", "idle"] {
        await_open(&mut client, id);
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let auditor = scope.spawn(|| {
            let mut audits = 0;
            while !is_over.load(Ordering::Relaxed) || audits == 0 {
                let (code, coupons) = audit(&redis, &postgres, &["--repair"]);
                assert_eq!((code, all_left(&coupons)), (Some(0), vec![]), "{coupons:?}");
                assert!(coupons.iter().all(|coupon| coupon.repaired.is_empty()), "{coupons:?}");
                audits += 1;
            }
            audits
        });
        let sales: Vec<_> = [("instant", 2000), ("queue", 1000)]
            .map(|(id, users)| {
                let redis = &redis;
                scope.spawn(move || {
                    let mut client = redis.client();
                    for from in (0..users).step_by(100) {
                        request(&mut client, id, "u", from..from + 100);
                    }
                })
            })
            .into();
        for sale in sales {
            sale.join().expect("the sale goes well");
        }
        postgres.run("alter table user_coupon drop constraint refused");
        let retried = command(&redis, &postgres, &["dead-letters", "retry", "instant", "--all"]);
        assert!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stdout));
        ledger::await_coupon(&postgres, "instant", "seq", "2000");
        ledger::await_coupon(&postgres, "queue", "seq", "1000");
        is_over.store(true, Ordering::Relaxed);
        assert!(auditor.join().expect("the audits find nothing") > 0);
    });
    assert_no_drift(&reconciler, 1.0);
    ledger::assert_whole(&postgres, "instant");
}

#[test]
fn a_restart_of_redis_is_no_drift() {
    let (mut redis, postgres) = migrated();
    insert(&postgres, "a", 60_000, &[("mode", "'INSTANT'")]);
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "5ms"]).start().await_ready();
    for life in 0..5 {
        let mut client = redis.client();
        await_open(&mut client, "a");
        request(&mut client, "a", "u", life * 800..(life + 1) * 800);
        redis.stop();
        redis.start_again();
    }
    await_open(&mut redis.client(), "a");
    ledger::await_coupon(&postgres, "a", "seq", "4000");
    let rounds = reconciler.metric("coupon_audit_rounds_total").unwrap_or_default();
    assert_no_drift(&reconciler, rounds + 2.0);
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, all_left(&coupons)), (Some(0), vec![]), "{coupons:?}");
}

#[test]
fn coupons_of_every_status_are_audited() {
    let (redis, postgres) = migrated();
    insert(&postgres, "sold-out", 20, &[("mode", "'INSTANT'"), ("waitlist", "10")]);
    insert(&postgres, "ended", 20, &[("mode", "'INSTANT'")]);
    postgres.run("insert into coupon (id, name, quantity, status) values ('standard', 'Test', 5, 'STANDARD')");
    let _reconciler = Reconciler::start(&redis, &postgres);
    let mut client = redis.client();
    for id in ["sold-out", "ended"] {
        await_open(&mut client, id);
    }
    request(&mut client, "sold-out", "u", 0..25);
    request(&mut client, "ended", "u", 0..5);
    ledger::await_coupon(&postgres, "sold-out", "status, seq", "ISSUED|20");
    ledger::await_coupon(&postgres, "ended", "seq", "5");
    postgres.run("update coupon set status = 'EXPIRED' where id = 'ended'");
    coupon_tests::deadline::eventually_true("it is closed", || {
        client.run("COUPON.INFO coupon:{ended}").field("status").text() == "EXPIRED"
    });
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, all_left(&coupons)), (Some(0), vec![]), "{coupons:?}");
    // An ended coupon may be deleted in Redis; its rows are still held against themselves.
    client.run("DEL coupon:{ended} coupon:{ended}:issued coupon:{ended}:grants");
    assert_eq!(audit(&redis, &postgres, &["ended"]).0, Some(0));
    postgres.run("delete from user_coupon where coupon_id = 'ended' and seq = 2");
    let (code, coupons) = audit(&redis, &postgres, &["ended", "--repair"]);
    assert_eq!((code, all_left(&coupons).len()), (Some(1), 1), "{coupons:?}");
}
