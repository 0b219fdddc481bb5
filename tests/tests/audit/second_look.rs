//! What a look sees of what is on its way is no drift: it counts only if a second look sees it too.

use crate::finding::{audit, audit_while, finding};
use crate::repair::level;
use crate::sale::servers;
use coupon_tests::ledger;
use coupon_tests::postgres_server::Postgres;

const SET_ASIDE: &str = "create table aside as select * from user_coupon where seq in (5, 20);
                         delete from user_coupon where seq in (5, 20)";
const PUT_BACK: &str = "insert into user_coupon select * from aside";

/// Rows that somebody moves in two transactions, as an archive or a migration of an application does.
fn put_back(postgres: &Postgres, seqs: &str) {
    postgres.run(&format!("{PUT_BACK} where seq in ({seqs})"));
}

#[test]
fn rows_on_their_way_at_the_first_look_are_no_drift() {
    let (redis, postgres) = servers();
    level(&redis, &postgres, "a");
    let rows = ledger::rows(&postgres, "a");
    for more in [&[][..], &["--repair"]] {
        postgres.run(SET_ASIDE);
        let (code, coupons) = audit_while(&redis, &postgres, more, || put_back(&postgres, "5, 20"));
        assert_eq!(code, Some(0), "{coupons:?}");
        assert!(coupons[0].left.is_empty() && coupons[0].repaired.is_empty(), "{coupons:?}");
        assert_eq!(ledger::rows(&postgres, "a"), rows, "a repair has not interfered");
        postgres.run("drop table aside");
    }
}

#[test]
fn what_both_looks_see_is_drift_and_nothing_besides() {
    let (redis, postgres) = servers();
    level(&redis, &postgres, "a");
    postgres.run(SET_ASIDE);
    // One comes back, one does not, and one goes.
    let (code, coupons) = audit_while(&redis, &postgres, &[], || {
        put_back(&postgres, "5");
        postgres.run("delete from user_coupon where seq = 30");
    });
    let of = |seq: u64| finding("row_missing", Some(seq), Some(&format!("u{seq}")), None);
    assert_eq!((code, &coupons[0].left), (Some(1), &vec![of(20)]));
    // What went between both looks is seen by the next audit.
    let (code, coupons) = audit(&redis, &postgres, &[]);
    assert_eq!((code, &coupons[0].left), (Some(1), &vec![of(20), of(30)]));
}
