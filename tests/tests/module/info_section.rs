//! `INFO coupon`: what the module has done since it was loaded.

use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, expect};
use std::collections::BTreeMap;

fn section(client: &mut Client) -> BTreeMap<String, String> {
    let info = client.run("INFO coupon");
    info.text()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Whether the module lets this server tell it of changes; it does without on those that would do harm by telling.
pub fn is_told_of_changes(client: &mut Client) -> bool {
    let server = client.run("INFO server");
    !["valkey_version:8.1.", "valkey_version:9.0."].iter().any(|version| server.text().contains(version))
}

#[test]
fn every_outcome_is_counted() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(
        &mut client,
        &[
            ("COUPON.OPEN c QUANTITY 2 MODE INSTANT EPOCH 1", "+OK"),
            ("COUPON.REQUEST c a", "-TRYAGAIN"),
            ("COUPON.RESUME c EPOCH 1 SEQ 0 CHAIN 0", "+OK"),
            ("COUPON.REQUEST c a", "GRANTED"),
            ("COUPON.REQUEST c a", "DUPLICATE"),
            ("COUPON.OPEN c QUANTITY 3 MODE QUEUE", "+OK"),
            ("COUPON.REQUEST c b", "QUEUED"),
            ("COUPON.LEAVE c b", "LEFT"),
            ("COUPON.LEAVE c b", "NONE"),
            ("COUPON.MREQUEST c a b x y z", "[DUPLICATE QUEUED QUEUED SOLDOUT SOLDOUT]"),
            ("COUPON.ISSUE c", ":2"),
            ("COUPON.ACK c EPOCH 1 SEQ 3", "+OK"),
            ("COUPON.ACK c EPOCH 1 SEQ 3", "+OK"),
            ("COUPON.OPEN d QUANTITY 1 OPENS 253402300799999", "+OK"),
            ("COUPON.REQUEST d a", "NOTOPEN"),
            ("COUPON.CLOSE d", "+OK"),
            ("COUPON.REQUEST d a", "CLOSED"),
            ("COUPON.REQUEST nosuch a", "-NOCOUPON"),
            ("COUPON.REQUEST c", "-ERR"),
        ],
    );
    let expected = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("requests_queued_total", "3"),
        ("requests_granted_total", "1"),
        ("requests_duplicate_total", "2"),
        ("requests_soldout_total", "2"),
        ("requests_notopen_total", "1"),
        ("requests_closed_total", "1"),
        ("left_total", "1"),
        ("issued_total", "2"),
        ("restored_total", "0"),
        ("acks_total", "1"),
        ("tryagain_total", "1"),
        // The call with too few arguments is turned away by the server itself.
        ("refused_total", "1"),
        ("waiting_clients", "0"),
        ("hashes_in_mind", "2"),
        ("sets_in_mind", "2"),
    ];
    let expected = expected.map(|(name, value)| (format!("coupon_{name}"), value.to_owned()));
    let mut expected = BTreeMap::from(expected);
    // Without word of changes nothing is kept in mind.
    if !is_told_of_changes(&mut client) {
        expected.extend(["hashes", "sets"].map(|what| (format!("coupon_{what}_in_mind"), "0".to_owned())));
    }
    assert_eq!(section(&mut client), expected);
}

#[test]
fn the_commands_show_in_the_servers_own_statistics() {
    let redis = Redis::start();
    let mut client = redis.client();
    expect(&mut client, &[("COUPON.OPEN c QUANTITY 2", "+OK"), ("COUPON.REQUEST c a", "QUEUED")]);
    let stats = client.run("INFO commandstats");
    assert!(stats.text().contains("cmdstat_coupon.request:calls=1,"), "{stats}");
    let latency = client.run("INFO latencystats");
    assert!(latency.text().contains("latency_percentiles_usec_coupon.request:p50="), "{latency}");
}
