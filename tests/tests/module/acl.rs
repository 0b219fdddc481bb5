//! The users that redis.conf proposes: who may call what on which key.

use coupon_tests::artifact::workspace;
use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::{Client, expect};

const PASSWORD: &str = "CHANGE-ME";

/// The lines of redis.conf that make users, as arguments of ACL SETUSER.
fn proposed() -> Vec<String> {
    let conf = std::fs::read_to_string(workspace().join("redis.conf")).expect("redis.conf");
    conf.lines().filter_map(|line| line.strip_prefix("# user ")).map(str::to_owned).collect()
}

/// A server with these users, a coupon with one grant and one who waits, and somebody else's keys.
fn server() -> Redis {
    let redis = Redis::start();
    let mut client = redis.client();
    for user in proposed() {
        expect(&mut client, &[(format!("ACL SETUSER {user}"), "+OK")]);
    }
    expect(
        &mut client,
        &[
            ("COUPON.OPEN coupon:{1} QUANTITY 9 EPOCH 1", "+OK"),
            ("COUPON.RESUME coupon:{1} EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST coupon:{1} a", "QUEUED"),
            ("COUPON.ISSUE coupon:{1}", ":1"),
            ("COUPON.REQUEST coupon:{1} b", "QUEUED"),
            ("COUPON.OPEN other:{1} QUANTITY 9", "+OK"),
            ("SET secret x", "+OK"),
        ],
    );
    redis
}

fn as_user(redis: &Redis, name: &str) -> Client {
    let mut client = redis.client();
    expect(&mut client, &[(format!("AUTH {name} {PASSWORD}"), "+OK")]);
    client
}

/// Calls, and who of application, reconciler and viewer may make them.
const MATRIX: [(&str, [bool; 3]); 48] = [
    ("PING", [true, true, true]),
    ("COUPON.REQUEST coupon:{1} c", [true, false, false]),
    ("COUPON.MREQUEST coupon:{1} d e", [true, false, false]),
    ("COUPON.STATUS coupon:{1} a", [true, false, true]),
    ("COUPON.WAIT coupon:{1} b 1", [true, false, false]),
    ("COUPON.INFO coupon:{1}", [true, true, true]),
    ("COUPON.LEAVE coupon:{1} c", [true, false, false]),
    ("COUPON.OPEN coupon:{2} QUANTITY 1", [false, true, false]),
    ("COUPON.ISSUE coupon:{1} COUNT 1", [false, true, false]),
    ("COUPON.ACK coupon:{1} EPOCH 1 SEQ 1", [false, true, false]),
    ("COUPON.RESUME coupon:{1} EPOCH 1 SEQ 1 CHAIN 0", [false, true, false]),
    ("COUPON.RESTORE coupon:{1} EPOCH 1", [false, true, false]),
    ("COUPON.CLOSE coupon:{2}", [false, true, false]),
    ("HGETALL coupon:{1}", [false, false, true]),
    ("HGET coupon:{1} status", [false, true, false]),
    ("HMGET coupon:{1} status", [false, true, true]),
    ("ZCARD coupon:{1}:issued", [false, true, true]),
    ("ZSCORE coupon:{1}:issued a", [false, false, true]),
    ("ZRANGE coupon:{1}:issued 0 -1", [false, true, true]),
    ("ZMSCORE coupon:{1}:issued a", [false, true, false]),
    ("XRANGE coupon:{1}:grants - +", [false, true, true]),
    ("XREAD COUNT 1 STREAMS coupon:{1}:grants 0", [false, true, false]),
    ("XLEN coupon:{1}:grants", [false, false, true]),
    ("SCAN 0", [false, true, false]),
    ("CONFIG GET appendonly", [false, true, false]),
    ("CONFIG SET appendonly no", [false, false, false]),
    ("MODULE LIST", [false, true, false]),
    ("SUBSCRIBE other", [false, false, false]),
    // What belongs to others.
    ("COUPON.REQUEST other:{1} a", [false, false, false]),
    ("COUPON.STATUS other:{1} a", [false, false, false]),
    ("COUPON.INFO other:{1}", [false, false, false]),
    ("COUPON.ISSUE other:{1}", [false, false, false]),
    ("HGETALL other:{1}", [false, false, false]),
    ("XREAD COUNT 1 STREAMS other:{1}:grants 0", [false, false, false]),
    // What would let a unit be had, or lost, past the rules.
    ("GET secret", [false, false, false]),
    ("SET coupon:{1} x", [false, false, false]),
    ("SET coupon:{1} x NX", [false, false, false]),
    ("SET coupon:{coupon-reconciler-token} x NX", [false, true, false]),
    ("GET coupon:{coupon-reconciler-token}", [false, true, false]),
    ("HSET coupon:{1} quantity 1000", [false, false, false]),
    ("ZADD coupon:{1}:issued 1 z", [false, false, false]),
    ("ZREM coupon:{1}:issued a", [false, false, false]),
    ("XADD coupon:{1}:grants 9-9 user z", [false, false, false]),
    ("XTRIM coupon:{1}:grants MAXLEN 0", [false, false, false]),
    ("DEL coupon:{1}", [false, false, false]),
    ("FLUSHALL", [false, false, false]),
    ("KEYS *", [false, false, false]),
    ("ACL LIST", [false, false, false]),
];

#[test]
fn each_proposed_user_may_do_its_own_part_and_no_more() {
    let names = ["coupon-app", "coupon-reconciler", "coupon-viewer"];
    let proposed = proposed();
    assert_eq!(proposed.iter().map(|user| user.split(' ').next().unwrap_or_default()).collect::<Vec<_>>(), names);
    for (call, verdicts) in MATRIX {
        for (name, may) in names.iter().zip(verdicts) {
            let redis = server();
            let mut client = as_user(&redis, name);
            let reply = client.run(call).to_string();
            assert_eq!(!reply.starts_with("-NOPERM"), may, "{call} as {name}: {reply}");
        }
    }
}

#[test]
fn a_category_stands_for_all_commands_where_the_server_has_one() {
    let redis = server();
    let mut client = redis.client();
    let categories = client.run("ACL CAT").to_string();
    if !categories.contains("coupon") {
        // Redis 7 and Valkey 8.0 keep modules out of categories.
        assert!(client.run("INFO server").text().contains("redis_version:7."), "{categories}");
        return;
    }
    let commands = client.run("ACL CAT coupon").to_string();
    let registered = client.run("COMMAND LIST FILTERBY MODULE coupon");
    for command in registered.array() {
        assert!(commands.contains(command.text()), "{command} is not in {commands}");
    }
    expect(&mut client, &[("ACL SETUSER all on >pw -@all +@coupon ~coupon:*", "+OK")]);
    let mut user = redis.client();
    expect(
        &mut user,
        &[
            ("AUTH all pw", "+OK"),
            ("COUPON.REQUEST coupon:{1} z", "QUEUED"),
            ("COUPON.ISSUE coupon:{1}", ":2"),
            ("GET secret", "-NOPERM"),
        ],
    );
}

/// An AOF is read as the default user, and a server drops the transactions that this user may not make.
#[test]
fn a_restart_with_the_default_user_off_as_proposed_keeps_everything() {
    let conf = std::fs::read_to_string(workspace().join("redis.conf")).expect("redis.conf");
    let off = conf.split('`').find(|line| line.starts_with("user default off ")).expect("redis.conf proposes the line");
    let options = proposed().into_iter().fold(Options::shipped(), |options, user| options.line(format!("user {user}")));
    let mut redis = options.line(off).start();
    expect(&mut redis.client(), &[("PING", "-NOAUTH"), (&format!("AUTH default {PASSWORD}"), "-WRONGPASS")]);
    expect(&mut as_user(&redis, "coupon-reconciler"), &[("COUPON.OPEN coupon:{1} QUANTITY 9", "+OK")]);
    expect(
        &mut as_user(&redis, "coupon-app"),
        &[("COUPON.REQUEST coupon:{1} a", "QUEUED"), ("COUPON.REQUEST coupon:{1} b", "QUEUED")],
    );
    expect(&mut as_user(&redis, "coupon-reconciler"), &[("COUPON.ISSUE coupon:{1} COUNT 1", ":1")]);
    redis.kill();
    redis.start_again();
    let mut viewer = as_user(&redis, "coupon-viewer");
    eventually_true("the AOF is read", || !viewer.run("COUPON.INFO coupon:{1}").to_string().starts_with("-LOADING"));
    expect(
        &mut as_user(&redis, "coupon-app"),
        &[("COUPON.STATUS coupon:{1} a", "GRANTED"), ("COUPON.STATUS coupon:{1} b WITHRANK", "[WAITING :2 :0]")],
    );
}
