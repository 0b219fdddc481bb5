//! COUPON.WAIT.

use coupon_tests::deadline::eventually_true;
use coupon_tests::info::number;
use coupon_tests::redis_server::Redis;
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, expect};

/// Longer than any test waits.
const LONG: &str = "86400000";

/// Four users: `p` persisted, `g` granted, `w1` and `w2` waiting.
fn sale() -> (Redis, Client) {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 3 WAITLIST 9 EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c p", "QUEUED"),
            ("COUPON.REQUEST c g", "QUEUED"),
            ("COUPON.REQUEST c w1", "QUEUED"),
            ("COUPON.REQUEST c w2", "QUEUED"),
            ("COUPON.ISSUE c COUNT 2", ":2"),
            ("COUPON.ACK c EPOCH 1 SEQ 1", "+OK"),
        ],
    );
    (redis, client)
}

/// Clients that wait for these users, once all of them are blocked.
pub fn blocked(redis: &Redis, users: &[&str]) -> Vec<Client> {
    let before = blocked_clients(&mut redis.client());
    let wait = |user: &&str| {
        let mut client = redis.client();
        client.queue_line(&format!("COUPON.WAIT c {user} {LONG}"));
        client.flush().expect("the server takes the call");
        client
    };
    let waiting = users.iter().map(wait).collect();
    let mut client = redis.client();
    eventually_true("all of them wait", || blocked_clients(&mut client) == before + users.len());
    waiting
}

pub fn blocked_clients(client: &mut Client) -> usize {
    usize::try_from(number(client, "blocked_clients")).expect("a count")
}

pub fn answer(client: &mut Client) -> String {
    client.read().expect("an answer").to_string()
}

#[test]
fn a_final_outcome_is_answered_at_once() {
    let (_redis, mut client) = sale();
    expect(
        &mut client,
        &[
            (format!("COUPON.WAIT c p {LONG}"), "PERSISTED"),
            (format!("coupon.wait c nobody {LONG}"), "NONE"),
            ("COUPON.WAIT c p 0".into(), "PERSISTED"),
            ("COUPON.ISSUE c".into(), ":1"),
            // Sold out: who waits can get nothing any more.
            (format!("COUPON.WAIT c w2 {LONG}"), "WAITING"),
            ("COUPON.CLOSE c".into(), "+OK"),
            (format!("COUPON.WAIT c w2 {LONG}"), "WAITING"),
        ],
    );
}

#[test]
fn the_time_over_the_answer_is_what_is_known() {
    let (_redis, mut client) = sale();
    expect(&mut client, &[("COUPON.WAIT c g 1", "GRANTED"), ("COUPON.WAIT c w1 1", "WAITING")]);
}

#[test]
fn an_ack_answers_those_whose_row_it_confirms_and_nobody_else() {
    let (redis, mut client) = sale();
    let mut waiting = blocked(&redis, &["g", "w1", "w2", "g"]);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    assert_eq!([answer(&mut waiting[0]), answer(&mut waiting[3])], ["PERSISTED", "PERSISTED"]);
    assert_eq!(blocked_clients(&mut client), 2);
    // The last unit: its user goes on waiting for the row, the other can get nothing any more.
    expect(&mut client, &[("COUPON.ISSUE c", ":1")]);
    assert_eq!(answer(&mut waiting[2]), "WAITING");
    assert_eq!(blocked_clients(&mut client), 1);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 3", "+OK")]);
    assert_eq!(answer(&mut waiting[1]), "PERSISTED");
    assert_eq!(blocked_clients(&mut client), 0);
}

#[test]
fn closing_answers_those_who_wait_for_a_unit() {
    let (redis, mut client) = sale();
    let mut waiting = blocked(&redis, &["w1", "g"]);
    expect(&mut client, &[("COUPON.CLOSE c", "+OK")]);
    assert_eq!(answer(&mut waiting[0]), "WAITING");
    // What is granted is still on its way to the ledger.
    assert_eq!(blocked_clients(&mut client), 1);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    assert_eq!(answer(&mut waiting[1]), "PERSISTED");
}

#[test]
fn transactions_and_scripts_never_block() {
    let (_redis, mut client) = sale();
    let replies = client.pipeline(&["MULTI", "COUPON.WAIT c g 0", "COUPON.WAIT c w1 0", "EXEC"]);
    assert_eq!(replies[3].to_string(), "[GRANTED WAITING]");
    let script = "return redis.call('COUPON.WAIT', KEYS[1], 'g', 0)";
    assert_eq!(client.call(&["EVAL", script, "1", "c"]).to_string(), "GRANTED");
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let (mut redis, mut client) = sale();
    drop(blocked(&redis, &["g", "g", "w1"]));
    eventually_true("nobody waits", || blocked_clients(&mut client) == 0);
    let id = {
        let mut killed = redis.client();
        let id = killed.run("CLIENT ID").int();
        killed.queue_line(&format!("COUPON.WAIT c g {LONG}"));
        killed.flush().expect("the server takes the call");
        eventually_true("it waits", || blocked_clients(&mut client) == 1);
        id
    };
    client.run(&format!("CLIENT KILL ID {id}"));
    eventually_true("nobody waits", || blocked_clients(&mut client) == 0);
    let mut others = blocked(&redis, &["g"]);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    assert_eq!(answer(&mut others[0]), "PERSISTED");
    assert!(redis.is_alive());
}

#[test]
fn a_client_can_be_unblocked_and_waiting_is_no_hindrance() {
    let (redis, mut client) = sale();
    let mut waiting = redis.client();
    let id = waiting.run("CLIENT ID").int();
    waiting.queue_line(&format!("COUPON.WAIT c g {LONG}"));
    waiting.queue_line("PING");
    waiting.flush().expect("the server takes the call");
    eventually_true("it waits", || blocked_clients(&mut client) == 1);
    expect(&mut client, &[("COUPON.REQUEST c new", "QUEUED"), ("COUPON.STATUS c g", "GRANTED")]);
    expect(&mut client, &[(&*format!("CLIENT UNBLOCK {id}"), ":1")]);
    assert_eq!(answer(&mut waiting), "GRANTED");
    assert_eq!(answer(&mut waiting), "+PONG", "its connection goes on");
}

#[test]
fn a_thousand_wait_for_one_user() {
    let (redis, mut client) = sale();
    let mut waiting = blocked(&redis, &["g"; 1000]);
    expect(&mut client, &[("COUPON.ACK c EPOCH 1 SEQ 2", "+OK")]);
    for client in &mut waiting {
        assert_eq!(answer(client), "PERSISTED");
    }
}

#[test]
fn a_replica_answers_what_it_knows() {
    let (primary, _client) = sale();
    let replica = primary.replica();
    coupon_tests::dump::await_replica(&primary, &replica);
    expect(&mut replica.client(), &[(format!("COUPON.WAIT c g {LONG}"), "GRANTED")]);
}

#[test]
fn misuse_is_refused() {
    let (redis, mut client) = sale();
    expect(&mut client, &[("SET s 1", "+OK")]);
    let timeout = "-ERR timeout is a whole number of milliseconds from 0 (no limit) to 86400000, not ";
    expect_without_effect(
        &redis,
        &[
            ("COUPON.WAIT", "-ERR wrong number of arguments"),
            ("COUPON.WAIT c g", "-ERR wrong number of arguments"),
            ("COUPON.WAIT c g 1 WITHRANK", "-ERR wrong number of arguments"),
            ("COUPON.WAIT c g -1", timeout),
            ("COUPON.WAIT c g 1.5", timeout),
            ("COUPON.WAIT c g soon", timeout),
            ("COUPON.WAIT c g 86400001", timeout),
            ("COUPON.WAIT c g 18446744073709551616", timeout),
            ("COUPON.WAIT missing g 1", "-NOCOUPON "),
            ("COUPON.WAIT s g 1", "-WRONGTYPE"),
        ],
    );
}
