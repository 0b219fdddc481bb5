//! All that a server tells about the commands, word for word, for each server that the module is tested on: what a client's
//! routing, an ACL and a person's help are made of. A change has to be seen in a snapshot and meant.
//!
//! `COUPON_SNAPSHOT=write cargo test -p coupon-tests --test module command_docs` writes the one of the server at hand;
//! `COUPON_SNAPSHOT=write make test-servers` those of the others.

use coupon_tests::artifact::workspace;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, Value};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::fs;

/// The servers that the module is tested on.
const SERVERS: [&str; 4] = ["redis-7.0", "redis-8.2", "valkey-8.1", "valkey-9.1"];

/// What the elements of an answer to COMMAND INFO are.
const INFO: [&str; 10] = [
    "name",
    "arity",
    "flags",
    "first_key",
    "last_key",
    "step",
    "acl_categories",
    "tips",
    "key_specifications",
    "subcommands",
];

/// The server's name and version, as redis-7.0.
fn server(client: &mut Client) -> String {
    let info = client.run("INFO server");
    let field = |name: &str| info.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let (name, version) = match field("valkey_version") {
        Some(version) => ("valkey", version),
        None => ("redis", field("redis_version").expect("a version")),
    };
    let parts: Vec<&str> = version.trim().split('.').take(2).collect();
    format!("{name}-{}", parts.join("."))
}

/// An answer as JSON. Sets come in any order, and are ordered.
fn shown(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(int) => json!(int),
        Value::Bool(is) => json!(is),
        Value::Simple(_) | Value::Bulk(_) => json!(value.text()),
        Value::Map(_) => value.pairs().into_iter().map(|(name, value)| (name.to_owned(), shown(value))).collect(),
        Value::Array(elements) => {
            let mut elements: Vec<&Value> = elements.iter().collect();
            if elements.iter().all(|element| matches!(element, Value::Simple(_))) {
                elements.sort_by_key(|element| element.text());
            }
            elements.into_iter().map(shown).collect()
        }
        other => panic!("not in an answer about commands: {other}"),
    }
}

/// All there is to say of all commands.
fn described(client: &mut Client) -> Json {
    let list = client.run("COMMAND LIST FILTERBY MODULE coupon");
    let mut commands = BTreeMap::new();
    for name in list.array().iter().map(Value::text) {
        let docs = client.run(&format!("COMMAND DOCS {name}"));
        let info = client.run(&format!("COMMAND INFO {name}"));
        let info = info.array()[0].array();
        assert_eq!(info.len(), INFO.len(), "{name}");
        let info: Map<String, Json> =
            INFO.iter().zip(info).map(|(name, value)| ((*name).to_owned(), shown(value))).collect();
        commands.insert(name.to_owned(), json!({ "docs": shown(docs.field(name)), "info": info }));
    }
    json!(commands)
}

#[test]
fn what_the_server_says_of_each_command_is_what_it_said() {
    let redis = Redis::start();
    let mut client = redis.client_resp3();
    let server = server(&mut client);
    if !SERVERS.contains(&&*server) {
        // What every server has to say is asserted in `command_table`.
        eprintln!("there is no snapshot of what {server} says");
        return;
    }
    let described = described(&mut client);
    let file = workspace().join("tests/tests/module/command_docs").join(format!("{server}.json"));
    if std::env::var_os("COUPON_SNAPSHOT").is_some_and(|way| way == "write") {
        let text = serde_json::to_string_pretty(&described).expect("JSON");
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, text + "\n").expect("the snapshot");
        return;
    }
    let snapshot: Json = serde_json::from_str(&fs::read_to_string(&file).expect("a snapshot")).expect("JSON");
    let (was, is) = (snapshot.as_object().expect("commands"), described.as_object().expect("commands"));
    assert_eq!(was.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>(), "other commands than in {server}.json");
    for (name, now) in is {
        for part in ["docs", "info"] {
            let fields = |of: &Json| of[part].as_object().cloned().unwrap_or_default();
            assert_eq!(
                fields(&was[name]),
                fields(now),
                "{name}, {part}: not as in {server}.json; if it is meant, COUPON_SNAPSHOT=write"
            );
        }
    }
}
