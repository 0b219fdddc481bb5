//! MODULE LOAD, LOADEX and UNLOAD on a running server.

use coupon_tests::artifact;
use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};

fn server() -> Redis {
    Options::shipped().without_module().line("enable-module-command yes").start()
}

fn load() -> String {
    format!("MODULE LOAD {}", artifact::module().display())
}

fn sale(client: &mut Client) {
    expect(
        client,
        &[
            ("COUPON.OPEN c QUANTITY 2 WAITLIST 5", "+OK"),
            ("COUPON.REQUEST c a", "QUEUED"),
            ("COUPON.ISSUE c", ":1"),
            ("COUPON.STATUS c a", "GRANTED"),
        ],
    );
}

#[test]
fn data_outlives_the_module_and_may_change_without_it() {
    let redis = server();
    let mut client = redis.client();
    expect(&mut client, &[(load(), "+OK")]);
    sale(&mut client);
    expect(
        &mut client,
        &[
            ("MODULE UNLOAD coupon".to_owned(), "+OK"),
            ("COUPON.STATUS c a".into(), "-ERR unknown command"),
            ("ZRANGE c:issued 0 -1".into(), "[a]"),
            // Nobody is told of this one.
            ("HSET c status EXPIRED".into(), ":0"),
            (load(), "+OK"),
            ("COUPON.REQUEST c b".into(), "CLOSED"),
            ("COUPON.STATUS c a".into(), "GRANTED"),
            ("HSET c status AVAILABLE".into(), ":0"),
            ("COUPON.REQUEST c b".into(), "QUEUED"),
            ("COUPON.ISSUE c".into(), ":1"),
        ],
    );
}

#[test]
fn a_coupon_of_the_ledger_is_fenced_after_an_unload() {
    let redis = server();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            (load(), "+OK"),
            ("COUPON.OPEN c QUANTITY 2 EPOCH 1".into(), "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0".into(), "+OK"),
            ("COUPON.REQUEST c a".into(), "QUEUED"),
            ("MODULE UNLOAD coupon".into(), "+OK"),
            (load(), "+OK"),
            ("COUPON.REQUEST c b".into(), "-TRYAGAIN"),
            ("COUPON.RESUME c EPOCH 2 SEQ 0 CHAIN 0".into(), "+OK"),
            ("COUPON.REQUEST c b".into(), "QUEUED"),
        ],
    );
}

#[test]
fn loadex_takes_configs_and_arguments() {
    let redis = server();
    let file = artifact::module();
    expect(
        &mut redis.client(),
        &[
            (format!("MODULE LOADEX {} CONFIG coupon.issue-max 7 ARGS stream-keep 9", file.display()), "+OK"),
            ("CONFIG GET coupon.issue-max".into(), "[coupon.issue-max 7]"),
            ("CONFIG GET coupon.stream-keep".into(), "[coupon.stream-keep 9]"),
            ("MODULE UNLOAD coupon".into(), "+OK"),
            (format!("MODULE LOADEX {} CONFIG coupon.issue-max 0", file.display()), "-ERR Error loading the extension"),
            (format!("MODULE LOADEX {} CONFIG coupon.colour red", file.display()), "-ERR Error loading the extension"),
            ("COMMAND LIST FILTERBY MODULE coupon".into(), "[]"),
        ],
    );
}

#[test]
fn while_a_client_waits_the_module_stays() {
    let redis = server();
    let mut client = redis.client();
    expect(&mut client, &[(load(), "+OK")]);
    sale(&mut client);
    let mut waiting = redis.client();
    waiting.queue_line("COUPON.WAIT c a 0");
    waiting.flush().expect("the call is sent");
    eventually_true("somebody waits", || client.run("INFO clients").text().contains("blocked_clients:1"));
    let refusal = client.run("MODULE UNLOAD coupon").to_string();
    assert!(refusal.contains("blocked clients"), "{refusal}");
    expect(&mut client, &[("COUPON.STATUS c a", "GRANTED")]);
    drop(waiting);
    eventually_true("the client is gone", || client.run("MODULE UNLOAD coupon").to_string() == "+OK");
}
