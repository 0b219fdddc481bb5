//! COUPON.WAIT.

use coupon_tests::deadline::{DEADLINE, eventually_true, within};
use coupon_tests::info::{number, used_memory};
use coupon_tests::open_files;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::refusal::expect_without_effect;
use coupon_tests::resp::{Client, expect};
use std::io::Write;

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
fn blocked(redis: &Redis, users: &[&str]) -> Vec<Client> {
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

fn blocked_clients(client: &mut Client) -> usize {
    usize::try_from(number(client, "blocked_clients")).expect("a count")
}

fn answer(client: &mut Client) -> String {
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

/// Clients that wait at once.
const CROWD: usize = 10_000;

/// Files that the test and the server need besides those connections.
const OTHER_FILES: usize = 1_000;

/// What ten thousand waiters may leave in Redis: the module's table of them keeps its size, and Redis keeps some of the
/// clients of its own that it makes for blocked ones. That would be 17 kB for each waiter that is not forgotten.
const LEFT_BYTES: i64 = 4 << 20;

#[test]
fn ten_thousand_wait_at_once_and_leave_nothing_behind() {
    let limit = open_files::raise(CROWD + OTHER_FILES);
    let crowd = CROWD.min(limit.saturating_sub(OTHER_FILES)) / 4 * 4;
    if crowd < CROWD {
        // Not by eprintln!, which nobody sees of a test that passes.
        let said = format!(
            "SKIPPED IN PART: {limit} files may be open, so {crowd} clients wait and not {CROWD}: ulimit -Hn\n"
        );
        std::io::stderr().write_all(said.as_bytes()).expect("standard error");
    }
    let redis = Options::shipped().line(format!("maxclients {}", CROWD + OTHER_FILES / 2)).start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            (format!("COUPON.OPEN c QUANTITY {} WAITLIST {CROWD} EPOCH 1", crowd * 3 / 4), "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0".into(), "+OK"),
        ],
    );
    let users: Vec<String> = (0..crowd).map(|user| format!("u{user}")).collect();
    let requests: Vec<String> = users.iter().map(|user| format!("COUPON.REQUEST c {user}")).collect();
    // Over a connection of its own, whose buffers go with it.
    assert!(redis.client().pipeline(&requests).iter().all(|reply| reply.text() == "QUEUED"));
    let user_names: Vec<&str> = users.iter().map(String::as_str).collect();
    let before = used_memory(&mut client);
    let mut waiting = blocked(&redis, &user_names);
    let quarter = crowd / 4;
    let (gone, rest) = (waiting.split_off(crowd - quarter), &mut waiting);
    drop(gone);
    eventually_true("those who went away are forgotten", || blocked_clients(&mut client) == crowd - quarter);
    while client.run(&format!("COUPON.ISSUE c COUNT {quarter}")).int() > 0 {}
    expect(&mut client, &[(format!("COUPON.ACK c EPOCH 1 SEQ {quarter}"), "+OK")]);
    for waiter in &mut rest[..quarter] {
        assert_eq!(answer(waiter), "PERSISTED");
    }
    assert_eq!(blocked_clients(&mut client), crowd - 2 * quarter, "nobody else was answered");
    expect(&mut client, &[(format!("COUPON.ACK c EPOCH 1 SEQ {}", quarter * 3), "+OK")]);
    for waiter in &mut rest[quarter..] {
        assert_eq!(answer(waiter), "PERSISTED");
    }
    assert_eq!(blocked_clients(&mut client), 0);
    drop(waiting);
    let grants = client.call(&["MEMORY", "USAGE", "c:grants"]).int();
    let mut left = 0;
    // It takes its time: 50 of its own clients in each tenth of a second.
    let is_back = within(DEADLINE * 4, || {
        left = used_memory(&mut client) - before - grants;
        (number(&mut client, "connected_clients") == 1 && left < LEFT_BYTES).then_some(())
    });
    assert!(is_back.is_some(), "{left} bytes are left of {crowd} waiters");
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
