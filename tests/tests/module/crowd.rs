//! COUPON.WAIT by very many at once. In a file of its own, as tests start in the order of their names: Redis takes twenty seconds to
//! forget so many clients, in which the others go on, while at the end nobody would be left.

use crate::wait::{answer, blocked, blocked_clients};
use coupon_tests::deadline::{DEADLINE, eventually_true, within};
use coupon_tests::info::{number, used_memory};
use coupon_tests::open_files;
use coupon_tests::redis_server::Options;
use coupon_tests::resp::expect;
use std::io::Write;

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
