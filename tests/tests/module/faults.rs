//! The tests are tested: each deliberate fault of the module is noticed by the test that is there for it.

use crate::info_section::is_told_of_changes;
use coupon_tests::artifact;
use coupon_tests::fault::Faulty;
use coupon_tests::redis_server::Redis;

/// Who has to notice which.
const TABLE: &[(&str, &str)] = &[
    ("fence-skipped", "fence::restart_shuts_the_gate_and_resume_opens_it"),
    ("token-kept", "fence::a_primary_that_lost_grants_to_its_own_replica_is_shut_when_it_is_primary_again"),
    ("star-ids", "copies::a_replica_equals_its_primary_whenever_it_came"),
    ("zadd-not-replicated", "replication_stream::a_queued_request_replicates_its_place"),
    ("hset-not-replicated", "copies::the_aof_brings_back_everything_after_a_kill"),
    ("xadd-not-replicated", "replication_stream::an_instant_grant_replicates_as_one_group"),
    ("stock-ignored", "fairness::in_instant_mode"),
    ("duplicate-let-in", "request::second_request_keeps_the_first_rank"),
    ("arrival-by-clock-alone", "request::clock_behind_the_newest_arrival_reorders_nobody"),
    ("arrival-by-clock-alone", "clock::arrivals_never_go_back"),
    ("trim-unpersisted", "ack::what_is_acknowledged_is_persisted_and_trimmed"),
    ("ack-blind", "ack::what_redis_has_not_granted_cannot_be_acknowledged"),
    ("remaining-not-restored", "restore::what_was_lost_comes_back_in_order_and_nothing_is_issued_twice"),
    ("restore-unshut", "restore::a_history_is_taken_only_by_a_coupon_that_is_shut_under_its_epoch"),
    ("persisted-early", "status::a_user_goes_from_none_to_persisted"),
    ("change-unnoticed", "known::a_field_set_by_hand_holds_from_the_next_call_on"),
    ("change-unnoticed", "members::whoever_is_put_in_by_hand_is_in"),
    ("join-unnoticed", "members::whoever_comes_in_is_in_from_then_on"),
    ("tripwire-cut", "tripwire::a_set_that_is_gone_before_the_first_grant_is_no_fresh_start"),
];

/// Faults in what a server tells of keys: none where the module asks to be told nothing.
const OF_EVENTS: &[&str] = &["change-unnoticed", "join-unnoticed"];

#[test]
fn each_deliberate_fault_is_noticed() {
    let left_out = if is_told_of_changes(&mut Redis::start().client()) { &[] } else { OF_EVENTS };
    let (source, file) = ("module/src/fault.rs", artifact::module_with_faults());
    Faulty { source, variable: "COUPON_MODULE", file: &file }.assert_noticed(TABLE, left_out);
}
