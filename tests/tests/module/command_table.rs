//! What the server says about the commands: clients route, check rights and draw help by it.

use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, Value, expect};
use std::collections::BTreeSet;

/// Name, arity, flags, what the command does to its key.
const TABLE: [(&str, i64, &str, &str); 12] = [
    ("coupon.open", -4, "denyoom fast module write", "RW update"),
    ("coupon.request", -3, "denyoom fast module write", "RW access update"),
    ("coupon.mrequest", -3, "denyoom module write", "RW access update"),
    ("coupon.issue", -2, "denyoom module write", "RW access update"),
    ("coupon.status", -3, "fast module readonly", "RO access"),
    ("coupon.wait", 4, "blocking module readonly", "RO access"),
    ("coupon.info", 2, "fast module readonly", "RO access"),
    ("coupon.leave", 3, "fast module write", "RW access update"),
    ("coupon.close", -2, "fast module write", "RW update"),
    ("coupon.resume", 8, "module write", "RW access update"),
    ("coupon.ack", -6, "module write", "RW access update"),
    ("coupon.restore", -4, "denyoom module write", "RW access update"),
];

fn sorted(flags: &Value) -> String {
    let flags: BTreeSet<&str> = flags.array().iter().map(Value::text).collect();
    flags.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn command_info_holds_arity_flags_and_the_place_of_the_key() {
    let redis = Redis::start();
    let mut client = redis.client();
    for (name, arity, flags, key) in TABLE {
        let reply = client.run(&format!("COMMAND INFO {name}"));
        let info = reply.array()[0].array();
        assert_eq!(info[1].int(), arity, "{name}");
        assert_eq!(sorted(&info[2]), flags, "{name}");
        assert_eq!([info[3].int(), info[4].int(), info[5].int()], [1, 1, 1], "{name}: first key, last key, step");
        let [spec] = info[8].array() else { panic!("{name} has not one key spec: {}", info[8]) };
        assert_eq!(sorted(spec.field("flags")), key, "{name}");
        assert_eq!(spec.field("begin_search").to_string(), "[type index spec [index :1]]", "{name}");
        assert_eq!(spec.field("find_keys").to_string(), "[type range spec [lastkey :0 keystep :1 limit :0]]", "{name}");
    }
}

#[test]
fn the_module_registers_these_commands_and_no_other() {
    let redis = Redis::start();
    let mut client = redis.client();
    let reply = client.run("COMMAND LIST FILTERBY MODULE coupon");
    let registered: BTreeSet<&str> = reply.array().iter().map(Value::text).collect();
    assert_eq!(registered, TABLE.iter().map(|(name, ..)| *name).collect());
    let modules = client.run("MODULE LIST");
    let module = modules.array().iter().find(|module| module.field("name").text() == "coupon").expect("the module");
    let version: Vec<i64> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().expect("a number")).collect();
    let expected = version[0] * 10_000 + version[1] * 100 + version[2];
    assert_eq!(module.field("ver").int(), expected);
}

#[test]
fn command_docs_describe_every_command_and_argument() {
    let redis = Redis::start();
    let mut client = redis.client();
    for (name, ..) in TABLE {
        let reply = client.run(&format!("COMMAND DOCS {name}"));
        let docs = reply.field(name);
        assert!(docs.field("summary").text().ends_with('.'), "{name} is described by a sentence");
        assert!(docs.field("complexity").text().starts_with("O("), "{name}");
        assert_eq!(docs.field("since").text(), "0.1.0", "{name}");
        assert_eq!(docs.field("module").text(), "coupon", "{name}");
        let arguments = docs.field("arguments").array();
        let key = &arguments[0];
        assert_eq!([key.field("name").text(), key.field("type").text()], ["key", "key"], "{name}");
        assert_eq!(key.field("key_spec_index").int(), 0, "{name}");
        let tokens: Vec<&str> = arguments
            .iter()
            .flat_map(Value::pairs)
            .filter(|(name, _)| *name == "token")
            .map(|(_, token)| token.text())
            .collect();
        let expected: &[&str] = match name {
            "coupon.open" => &["QUANTITY", "STATUS", "MODE", "WAITLIST", "OPENS", "EXPIRES", "EPOCH", "REVISION"],
            "coupon.request" | "coupon.status" => &["WITHRANK"],
            "coupon.issue" => &["COUNT"],
            "coupon.close" => &["EPOCH", "REVISION"],
            "coupon.resume" => &["EPOCH", "SEQ", "CHAIN"],
            "coupon.ack" => &["EPOCH", "SEQ", "REFUSED", "PERSISTED"],
            "coupon.restore" => &["EPOCH", "AFTER", "CHAIN", "REFUSED", "GRANTS"],
            _ => &[],
        };
        assert_eq!(tokens, expected, "{name}");
    }
}

#[test]
fn command_getkeys_finds_the_key() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COMMAND GETKEYS COUPON.OPEN k QUANTITY 5", "[k]"),
            ("COMMAND GETKEYS COUPON.REQUEST k u", "[k]"),
            ("COMMAND GETKEYS COUPON.MREQUEST k u v", "[k]"),
            ("COMMAND GETKEYS COUPON.ISSUE k", "[k]"),
            ("COMMAND GETKEYS COUPON.STATUS k u", "[k]"),
            ("COMMAND GETKEYS COUPON.WAIT k u 1", "[k]"),
            ("COMMAND GETKEYS COUPON.INFO k", "[k]"),
            ("COMMAND GETKEYS COUPON.LEAVE k u", "[k]"),
            ("COMMAND GETKEYS COUPON.CLOSE k", "[k]"),
            ("COMMAND GETKEYS COUPON.CLOSE k EPOCH 1 REVISION 1", "[k]"),
            ("COMMAND GETKEYS COUPON.RESUME k EPOCH 1 SEQ 0 CHAIN 0", "[k]"),
            ("COMMAND GETKEYS COUPON.ACK k EPOCH 1 SEQ 0", "[k]"),
            ("COMMAND GETKEYS COUPON.ACK k EPOCH 1 SEQ 0 REFUSED 1 u PERSISTED 1 v", "[k]"),
            ("COMMAND GETKEYS COUPON.RESTORE k EPOCH 1", "[k]"),
            ("COMMAND GETKEYS COUPON.RESTORE k EPOCH 1 AFTER 0 CHAIN 0 GRANTS 1 u 1 1", "[k]"),
        ],
    );
}

#[test]
fn rights_follow_commands_and_keys() {
    let redis = Redis::start();
    let mut client = redis.client();
    let as_app = |redis: &Redis| -> Client {
        let mut client = redis.client();
        expect(&mut client, &[("AUTH app secret", "+OK")]);
        client
    };
    expect(
        &mut client,
        &[
            ("ACL SETUSER app on >secret +coupon.request +coupon.status ~coupon:*", "+OK"),
            ("COUPON.OPEN coupon:{1} QUANTITY 5", "+OK"),
            ("COUPON.OPEN other QUANTITY 5", "+OK"),
        ],
    );
    expect(
        &mut as_app(&redis),
        &[
            ("COUPON.REQUEST coupon:{1} a", "QUEUED"),
            ("COUPON.STATUS coupon:{1} a", "WAITING"),
            ("COUPON.REQUEST other a", "-NOPERM"),
            ("COUPON.STATUS other a", "-NOPERM"),
            ("COUPON.ISSUE coupon:{1}", "-NOPERM"),
            ("ZCARD coupon:{1}:issued", "-NOPERM"),
        ],
    );
}

#[test]
fn commands_that_store_stop_when_memory_is_full_and_those_that_end_do_not() {
    let redis = Redis::start();
    expect(
        &mut redis.client(),
        &[
            ("COUPON.OPEN c QUANTITY 5 MODE INSTANT EPOCH 1", "+OK"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("CONFIG SET maxmemory 1", "+OK"),
            ("COUPON.REQUEST c b", "-OOM"),
            ("COUPON.MREQUEST c b d", "-OOM"),
            ("COUPON.ISSUE c", "-OOM"),
            ("COUPON.OPEN c QUANTITY 6", "-OOM"),
            ("COUPON.STATUS c a", "GRANTED"),
            ("COUPON.ACK c EPOCH 1 SEQ 1", "+OK"),
            ("COUPON.CLOSE c", "+OK"),
            ("COUPON.STATUS c a", "PERSISTED"),
        ],
    );
}
