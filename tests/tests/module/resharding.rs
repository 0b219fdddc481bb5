//! A cluster of three primaries with replicas: coupons spread over it, slots move, primaries fail.

use crate::gone::take_slot;
use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::redis_cluster::{Cluster, Follower, assert_ok};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, expect};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const KEY: &str = "coupon:{42}";

/// Users who request through a client each, until told to stop; every outcome is final. How many got what, and how often
/// somebody was told to try again.
fn crowd(cluster: &Cluster, is_over: &AtomicBool, prefix: &str) -> (Vec<String>, usize) {
    let (mut client, mut granted, mut user) = (cluster.client(), Vec::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let name = format!("{prefix}{user}");
        user += 1;
        match client.run(&format!("COUPON.REQUEST {KEY} {name}")).to_string().as_str() {
            // One whose answer was lost is told DUPLICATE when it asks again.
            "GRANTED" | "DUPLICATE" => granted.push(name),
            "SOLDOUT" => break,
            other => panic!("{name} was told {other}"),
        }
    }
    (granted, client.was_told.get("TRYAGAIN").copied().unwrap_or_default())
}

/// Moves a slot key by key, as `redis-cli --cluster reshard` does, with a look in between.
fn move_slot(cluster: &Cluster, from: &Redis, to: &Redis, keys: &[&str], mut look: impl FnMut()) {
    Cluster::open_slot(from, to, KEY);
    for key in keys {
        assert_ok(&mut from.client(), &format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port));
        look();
    }
    cluster.close_slot(from, to, KEY);
}

#[test]
fn coupons_spread_over_the_nodes_and_a_client_finds_them() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    let mut homes = [0; 3];
    for coupon in 0..30 {
        let key = format!("coupon:{{{coupon}}}");
        homes[cluster.home(&key)] += 1;
        for (call, answer) in
            [("COUPON.OPEN {} QUANTITY 1", "+OK"), ("COUPON.REQUEST {} a", "QUEUED"), ("COUPON.ISSUE {}", ":1")]
        {
            assert_eq!(client.run(&call.replace("{}", &key)).to_string(), answer, "{key}");
        }
    }
    assert!(homes.iter().all(|coupons| *coupons > 0), "{homes:?}");
    assert!(client.was_told["MOVED"] > 0);
}

#[test]
fn while_a_slot_moves_users_are_told_to_try_again_and_nothing_is_lost() {
    let cluster = Cluster::start(3);
    let home = cluster.home(KEY);
    let (from, to) = (&cluster.primaries[home], &cluster.primaries[(home + 1) % 3]);
    let (issued, grants) = (format!("{KEY}:issued"), format!("{KEY}:grants"));
    expect(&mut from.client(), &[(format!("COUPON.OPEN {KEY} QUANTITY 1000000 MODE INSTANT"), "+OK")]);
    let is_over = AtomicBool::new(false);
    let outcomes: Vec<(Vec<String>, usize)> = thread::scope(|scope| {
        let crowds: Vec<_> = ["a", "b", "c"].map(|prefix| scope.spawn(|| crowd(&cluster, &is_over, prefix))).into();
        let settled = |node: &Redis| {
            let mut client = node.client();
            let seq = |client: &mut Client| client.call(&["HGET", KEY, "seq"]).to_string();
            let before = seq(&mut client);
            eventually_true("the sale goes on", || seq(&mut client) != before);
        };
        settled(from);
        // There, in one order, and back in another: each part is missing on either side for a while.
        let pause = || thread::sleep(std::time::Duration::from_millis(30));
        move_slot(&cluster, from, to, &[&grants, KEY, &issued], pause);
        settled(to);
        move_slot(&cluster, to, from, &[&issued, &grants, KEY], pause);
        settled(from);
        is_over.store(true, Ordering::Relaxed);
        crowds.into_iter().map(|crowd| crowd.join().expect("a crowd ends well")).collect()
    });
    let stored = Stored::read(&mut from.client(), KEY);
    stored.assert_promises();
    let mut granted = stored.granted();
    granted.sort_unstable();
    let mut told: Vec<&str> = outcomes.iter().flat_map(|(granted, _)| granted).map(String::as_str).collect();
    told.sort_unstable();
    assert_eq!(granted, told, "who was told GRANTED, and who is");
    assert!(outcomes.iter().any(|(_, try_again)| *try_again > 0), "nobody saw the slot move");
}

#[test]
fn a_node_from_which_a_part_has_moved_decides_nothing() {
    let cluster = Cluster::start(3);
    for (coupon, first, last) in [("{1}", ":grants", ":issued"), ("{2}", ":issued", ":grants")] {
        let [first, last] = [first, last].map(|suffix| format!("{coupon}{suffix}"));
        let home = cluster.home(coupon);
        let (from, to) = (&cluster.primaries[home], &cluster.primaries[(home + 1) % 3]);
        let (mut client, mut target) = (from.client(), to.client());
        expect(
            &mut client,
            &[
                (format!("COUPON.OPEN {coupon} QUANTITY 5 MODE INSTANT"), "+OK"),
                (format!("COUPON.REQUEST {coupon} a"), "GRANTED"),
                (format!("COUPON.REQUEST {coupon} a"), "DUPLICATE"),
            ],
        );
        Cluster::open_slot(from, to, coupon);
        let migrate = |key: &str| assert_ok(&mut from.client(), &format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port));
        migrate(&first);
        // What was known of the coupon before the move is known no more.
        for call in ["COUPON.REQUEST {} a", "COUPON.REQUEST {} b", "COUPON.STATUS {} a"] {
            expect(&mut client, &[(call.replace("{}", coupon), "-TRYAGAIN")]);
        }
        migrate(coupon);
        let request = format!("COUPON.REQUEST {coupon} b");
        expect(&mut client, &[(&request, "-ASK")]);
        expect(&mut target, &[("ASKING", "+OK"), (&request, "-TRYAGAIN")]);
        migrate(&last);
        expect(&mut target, &[("ASKING", "+OK"), (&request, "GRANTED")]);
        cluster.close_slot(from, to, coupon);
        expect(&mut client, &[(&request, "-MOVED")]);
        expect(&mut target, &[(&request, "DUPLICATE")]);
    }
}

#[test]
fn a_failover_shuts_the_gate_of_the_ledgers_coupons_only() {
    let mut cluster = Cluster::start(3);
    let home = cluster.home(KEY);
    let mut client: Follower = cluster.client();
    for (call, answer) in [
        (format!("COUPON.OPEN {KEY} QUANTITY 9 MODE INSTANT EPOCH 1"), "+OK"),
        (format!("COUPON.RESUME {KEY} EPOCH 1 SEQ 0 CHAIN 0"), "+OK"),
        (format!("COUPON.REQUEST {KEY} a"), "GRANTED"),
    ] {
        assert_eq!(client.run(&call).to_string(), answer, "{call}");
    }
    let chain = client.run(&format!("HGET {KEY} chain")).text().to_owned();
    let mut primary = cluster.primaries[home].client();
    primary.run("SET {42}marker 1");
    eventually_true("the replica has everything", || primary.run("WAIT 1 1000").int() == 1);
    cluster.primaries[home].kill();
    let mut promoted = cluster.replicas[home].client();
    eventually_true("the replica has taken over", || promoted.run("ROLE").array()[0].text() == "master");
    eventually_true("the cluster is well again", || promoted.run("CLUSTER INFO").text().contains("cluster_state:ok"));
    expect(
        &mut promoted,
        &[
            (format!("COUPON.STATUS {KEY} a"), "GRANTED"),
            (format!("COUPON.REQUEST {KEY} b"), "-TRYAGAIN"),
            (format!("COUPON.RESUME {KEY} EPOCH 2 SEQ 1 CHAIN {chain}"), "+OK"),
        ],
    );
    assert_eq!(client.run(&format!("COUPON.REQUEST {KEY} b")).to_string(), "GRANTED");
}

#[test]
fn a_slot_that_was_lost_and_came_back_brings_no_memory_of_its_coupons() {
    let cluster = Cluster::start(3);
    let home = cluster.home(KEY);
    let (from, to) = (&cluster.primaries[home], &cluster.primaries[(home + 1) % 3]);
    let mut client = from.client();
    for (mode, answer) in [("INSTANT", "GRANTED"), ("QUEUE", "QUEUED")] {
        expect(
            &mut client,
            &[
                (format!("COUPON.OPEN {KEY} QUANTITY 1 MODE {mode}"), "+OK"),
                (format!("COUPON.REQUEST {KEY} a"), answer),
                // Who is in is learned, and the next one is answered from memory.
                (format!("COUPON.REQUEST {KEY} b"), "SOLDOUT"),
                (format!("COUPON.REQUEST {KEY} b"), "SOLDOUT"),
            ],
        );
        take_slot(from, to, KEY);
        take_slot(to, from, KEY);
        eventually_true("the slot is served again", || client.call(&["EXISTS", KEY]).to_string() == ":0");
        // Each of them is the first to see it.
        for call in ["COUPON.REQUEST {} b", "COUPON.STATUS {} a", "COUPON.MREQUEST {} b d", "COUPON.INFO {}"] {
            expect(&mut client, &[(call.replace("{}", KEY), "-NOCOUPON")]);
        }
    }
}
