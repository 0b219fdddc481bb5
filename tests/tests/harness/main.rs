//! The harness itself: what it shows must be what happened, or every other test is worth nothing.

mod machine;
mod network;

use coupon_tests::dump::{await_replica, dump};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::replication::ReplicationStream;
use coupon_tests::resp::expect;

fn plain_redis() -> Redis {
    Options::shipped().without_module().line("appendonly yes").line("appendfsync always").start()
}

#[test]
fn replication_stream_shows_each_write_and_its_group() {
    let redis = plain_redis();
    let mut client = redis.client();
    expect(&mut client, &[("SET before 1", "+OK")]);
    let mut stream = ReplicationStream::attach(&redis);
    expect(&mut client, &[("GET a", "nil"), (r#"SET a "b c""#, "+OK"), ("SADD a b", "-WRONGTYPE")]);
    assert_eq!(stream.commands(), [[&b"SET"[..], b"a", b"b c"]]);
    assert_eq!(stream.lines(), [""; 0], "each command is seen once");
    client.pipeline(&["MULTI", "SET b 1", "INCR b", "EXEC"]);
    assert_eq!(stream.lines(), ["MULTI", "SET b 1", "INCR b", "EXEC"]);
}

#[test]
fn dump_tells_servers_apart_and_survives_a_kill() {
    let mut redis = plain_redis();
    let mut client = redis.client();
    client.pipeline(&["HSET h b 2 a 1", "ZADD z 1 x", "XADD s 3-4 f v", "SET t v"]);
    let before = dump(&mut client);
    assert_eq!(before["s"], "stream [3-4 [[3-4 [f v]]]] expires :-1");
    redis.kill();
    redis.start_again();
    assert_eq!(dump(&mut redis.client()), before);
    redis.client().run("ZADD z 2 x");
    assert_ne!(dump(&mut redis.client()), before);
}

#[test]
fn replica_becomes_level() {
    let primary = plain_redis();
    let replica = Options::shipped().without_module().line(format!("replicaof 127.0.0.1 {}", primary.port)).start();
    primary.client().run("SET a 1");
    await_replica(&primary, &replica);
    assert_eq!(dump(&mut replica.client()), dump(&mut primary.client()));
}

#[test]
fn server_that_refuses_to_start_shows_its_log() {
    let log = Options::shipped().without_module().line("no-such-setting 1").try_start().err();
    assert!(log.is_some_and(|log| log.contains("no-such-setting")));
}

#[test]
#[should_panic(expected = "row 1: GET a\n  expected 2\n  got      1")]
fn table_names_the_row_that_differs() {
    let redis = plain_redis();
    expect(&mut redis.client(), &[("SET a 1", "+OK"), ("GET a", "2")]);
}

#[test]
fn postgres_keeps_its_data_over_a_crash() {
    let mut postgres = Postgres::start();
    postgres.run("create table t(a int, b text); insert into t values (1, 'x'), (2, null)");
    assert_eq!(postgres.rows("select a, b from t order by a"), ["1|x", "2|"]);
    postgres.crash();
    assert!(postgres.try_run("select 1").is_err());
    postgres.start_again();
    postgres.stop();
    postgres.start_again();
    assert_eq!(postgres.value("select count(*) from t"), "2");
    assert!(postgres.try_run("select 1/0").is_err_and(|error| error.contains("division by zero")));
}
