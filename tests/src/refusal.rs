//! What a refusal must leave behind: nothing.

use crate::dump::dump;
use crate::redis_server::Redis;
use crate::replication::ReplicationStream;
use crate::resp::expect;

/// Runs a table as [`expect`] does, of calls that are refused or only answered. None may change a key, nor reach a
/// replica.
///
/// # Panics
/// If a reply differs, or something was written.
pub fn expect_without_effect<C: AsRef<str>>(redis: &Redis, table: &[(C, &str)]) {
    let mut client = redis.client();
    let mut stream = ReplicationStream::attach(redis);
    // Called once, so that the marker of the stream is among the keys before as well.
    assert_eq!(stream.lines(), [""; 0], "nobody else writes");
    let before = dump(&mut client);
    for row in table {
        expect(&mut client, std::slice::from_ref(row));
        assert_eq!(stream.lines(), [""; 0], "replicated by {}", row.0.as_ref());
    }
    assert_eq!(dump(&mut client), before, "some call of the table has changed a key");
}

/// Calls of a command that are refused, on a server with a coupon `c` and a string `s`.
///
/// # Panics
/// As [`expect_without_effect`].
pub fn expect_misuse(table: &[(&str, &str)]) {
    let redis = Redis::start();
    expect(&mut redis.client(), &[("COUPON.OPEN c QUANTITY 2", "+OK"), ("SET s 1", "+OK")]);
    expect_without_effect(&redis, table);
}
