//! Everything a server holds, in a form in which two servers can be compared.

use crate::deadline::eventually_true;
use crate::redis_server::Redis;
use crate::resp::{Client, Value};
use std::collections::BTreeMap;

/// Every key with its type and content, as text.
#[must_use]
pub fn dump(client: &mut Client) -> BTreeMap<String, String> {
    let keys = client.run("KEYS *");
    keys.array().iter().map(|key| (key.to_string(), content(client, key.bytes()))).collect()
}

/// The type and content of one key.
#[must_use]
pub fn content(client: &mut Client, key: &[u8]) -> String {
    let kind = client.call(&[b"TYPE", key]);
    let value = match kind.text() {
        "none" => Value::Null,
        "string" => client.call(&[b"GET", key]),
        "hash" => sorted_pairs(&client.call(&[b"HGETALL", key])),
        "zset" => client.call(&[&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"]),
        "stream" => {
            let info = client.call(&[&b"XINFO"[..], b"STREAM", key]);
            // A stream whose last ID fell back would take an entry again that was acknowledged.
            let last = info.field("last-generated-id").clone();
            Value::Array(vec![last, client.call(&[&b"XRANGE"[..], key, b"-", b"+"])])
        }
        // Never a coupon's, but a test may put one in its way.
        _ => client.call(&[&b"DEBUG"[..], b"DIGEST-VALUE", key]),
    };
    let expiry = client.call(&[b"PEXPIRETIME", key]);
    format!("{} {value} expires {expiry}", kind.text())
}

/// The order of a hash's fields means nothing.
fn sorted_pairs(hash: &Value) -> Value {
    let mut pairs: Vec<String> = hash.array().chunks_exact(2).map(|pair| format!("{}={}", pair[0], pair[1])).collect();
    pairs.sort();
    Value::Array(pairs.into_iter().map(|pair| Value::Bulk(pair.into_bytes())).collect())
}

/// Waits until a replica has applied all its primary wrote.
///
/// # Panics
/// At the deadline.
pub fn await_replica(primary: &Redis, replica: &Redis) {
    let (mut primary, mut replica) = (primary.client(), replica.client());
    eventually_true("the replica is level with its primary", || {
        let info = replica.run("INFO replication").text().to_owned();
        info.contains("master_link_status:up")
            && offset(&info, "slave_repl_offset")
                == offset(primary.run("INFO replication").text(), "master_repl_offset")
    });
}

fn offset(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}
