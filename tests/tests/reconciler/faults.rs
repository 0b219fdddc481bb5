//! The tests are tested: each deliberate fault of the reconciler is noticed by the test that is there for it.

use coupon_tests::artifact;
use coupon_tests::fault::Faulty;

/// Who has to notice which.
const TABLE: &[(&str, &str)] = &[
    ("no-compare-and-set", "replay::overtaken::before_commit"),
    ("chain-not-followed", "tampering::a_forged_user"),
    ("ack-before-commit", "replay::killed::after_read"),
    ("position-apart", "replay::killed::after_commit"),
    ("resume-unlevel", "restore::all_keys_flushed"),
    ("orphans-unnamed", "restore::what_an_old_primary_granted_alone_is_named"),
];

#[test]
fn each_deliberate_fault_is_noticed() {
    let (source, file) = ("reconciler/src/fault.rs", artifact::reconciler_with_faults());
    Faulty { source, variable: "COUPON_RECONCILER", file: &file }.assert_noticed(TABLE, &[]);
}
