//! Slots that move as a whole, behind the clients' backs: CLUSTER MIGRATESLOTS of Valkey 9.

use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::info::number;
use coupon_tests::redis_cluster::{Cluster, assert_ok, id, slot};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::{Client, Value, expect};
use coupon_tests::waiting::{assert_nobody_waits, blocked};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const KEY: &str = "coupon:{42}";

/// A cluster, and the home of the coupon with the node beside it; nothing where slots are not migrated so, which is said.
fn cluster() -> Option<(Cluster, usize)> {
    let has = Redis::start().client().call(&["COMMAND", "INFO", "CLUSTER|MIGRATESLOTS"]).array()[0] != Value::Null;
    if !has {
        // Not by eprintln!, which nobody sees of a test that passes.
        let said = "SKIPPED: this server has no CLUSTER MIGRATESLOTS\n";
        std::io::stderr().write_all(said.as_bytes()).expect("standard error");
        return None;
    }
    let cluster = Cluster::start(3);
    let home = cluster.home(KEY);
    Some((cluster, home))
}

/// Moves the coupon's slot, and waits until all nodes know.
fn migrate(cluster: &Cluster, from: &Redis, to: &Redis) {
    let slot = slot(from, KEY);
    assert_ok(&mut from.client(), &format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", id(to)));
    let moved = format!("-MOVED {slot} 127.0.0.1:{}", to.port);
    eventually_true("the slot has moved", || {
        let is_right = |node: &Redis| {
            let reply = node.client().call(&["EXISTS", KEY]).to_string();
            reply == if node.port == to.port { ":1" } else { &*moved }
        };
        cluster.primaries.iter().all(is_right)
    });
}

/// Opens the coupon under the ledger's next epoch, wherever its history has come to.
fn resume(client: &mut Client, epoch: u64) {
    let position = client.run(&format!("HMGET {KEY} seq chain"));
    let [seq, chain] = position.array() else { panic!("{position}") };
    expect(client, &[(format!("COUPON.RESUME {KEY} EPOCH {epoch} SEQ {seq} CHAIN {chain}"), "+OK")]);
}

fn assert_fenced(client: &mut Client) {
    assert_eq!(client.run(&format!("COUPON.INFO {KEY}")).field("fenced").int(), 1);
    expect(
        client,
        &[
            (format!("COUPON.REQUEST {KEY} stranger"), "-TRYAGAIN coupon is fenced"),
            (format!("COUPON.ISSUE {KEY}"), "-TRYAGAIN coupon is fenced"),
        ],
    );
}

/// A coupon of the ledger, open.
fn open(client: &mut Client) {
    expect(
        client,
        &[
            (format!("COUPON.OPEN {KEY} QUANTITY 1000000 MODE INSTANT EPOCH 1"), "+OK"),
            (format!("COUPON.RESUME {KEY} EPOCH 1 SEQ 0 CHAIN 0"), "+OK"),
            (format!("COUPON.REQUEST {KEY} a"), "GRANTED"),
        ],
    );
}

/// Sends a crowd home, also when the test fails before its end.
struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn under_load_nothing_is_lost_and_nothing_happens_twice() {
    let Some((cluster, home)) = cluster() else { return };
    let (here, there) = (&cluster.primaries[home], &cluster.primaries[(home + 1) % 3]);
    open(&mut here.client());
    let is_over = AtomicBool::new(false);
    let crowd = |prefix: &str| {
        let (mut client, mut granted) = (cluster.client(), Vec::new());
        while !is_over.load(Ordering::Relaxed) {
            let name = format!("{prefix}{}", granted.len());
            // One whose answer was lost is told DUPLICATE when it asks again.
            let outcome = client.run(&format!("COUPON.REQUEST {KEY} {name}")).to_string();
            assert!(["GRANTED", "DUPLICATE"].contains(&&*outcome), "{name} was told {outcome}");
            granted.push(name);
        }
        (granted, client.was_told.get("TRYAGAIN").copied().unwrap_or_default())
    };
    let outcomes: Vec<(Vec<String>, usize)> = thread::scope(|scope| {
        let closing = Closing(&is_over);
        let crowds: Vec<_> = ["u", "v", "w"].map(|prefix| scope.spawn(move || crowd(prefix))).into();
        let settled = |node: &Redis| {
            let mut client = node.client();
            let seq = |client: &mut Client| client.call(&["HGET", KEY, "seq"]).to_string();
            let before = seq(&mut client);
            eventually_true("the sale goes on", || seq(&mut client) != before);
        };
        settled(here);
        for (round, (from, to)) in [(here, there), (there, here), (here, there)].into_iter().enumerate() {
            migrate(&cluster, from, to);
            let mut client = to.client();
            // The ledger may know less than the node before has granted: whoever moves a slot has to be looked at first.
            assert_fenced(&mut client);
            resume(&mut client, round as u64 + 2);
            settled(to);
        }
        drop(closing);
        crowds.into_iter().map(|crowd| crowd.join().expect("a crowd ends well")).collect()
    });
    let stored = Stored::read(&mut there.client(), KEY);
    stored.assert_promises();
    let mut granted = stored.granted();
    granted.sort_unstable();
    let mut told: Vec<&str> =
        outcomes.iter().flat_map(|(granted, _)| granted).map(String::as_str).chain(["a"]).collect();
    told.sort_unstable();
    assert_eq!(granted, told, "who was told GRANTED, and who is");
    assert!(outcomes.iter().any(|(_, try_again)| *try_again > 0), "nobody met the fence");
}

#[test]
fn a_slot_that_goes_there_and_back_is_fenced_as_well() {
    let Some((cluster, home)) = cluster() else { return };
    let (here, there) = (&cluster.primaries[home], &cluster.primaries[(home + 1) % 3]);
    let mut client = here.client();
    open(&mut client);
    migrate(&cluster, here, there);
    assert_fenced(&mut there.client());
    // Its fence is the one of this node's, from before it went.
    migrate(&cluster, there, here);
    assert_fenced(&mut client);
    resume(&mut client, 2);
    expect(&mut client, &[(format!("COUPON.REQUEST {KEY} b"), "GRANTED")]);
}

#[test]
fn what_was_in_mind_of_a_slot_goes_with_it() {
    let Some((cluster, home)) = cluster() else { return };
    let (here, there) = (&cluster.primaries[home], &cluster.primaries[(home + 1) % 3]);
    let mut client = here.client();
    expect(
        &mut client,
        &[
            (format!("COUPON.OPEN {KEY} QUANTITY 1 MODE INSTANT"), "+OK"),
            (format!("COUPON.REQUEST {KEY} a"), "GRANTED"),
            // Who is in is learned, and the next one is answered from memory.
            (format!("COUPON.REQUEST {KEY} b"), "SOLDOUT"),
            (format!("COUPON.REQUEST {KEY} b"), "SOLDOUT"),
        ],
    );
    migrate(&cluster, here, there);
    let mut other = there.client();
    // Opened by hand, so without a fence.
    expect(
        &mut other,
        &[
            (format!("COUPON.REQUEST {KEY} b"), "SOLDOUT"),
            (format!("COUPON.OPEN {KEY} QUANTITY 2"), "+OK"),
            (format!("COUPON.REQUEST {KEY} b"), "GRANTED"),
        ],
    );
    migrate(&cluster, there, here);
    expect(
        &mut client,
        &[
            (format!("COUPON.STATUS {KEY} b"), "GRANTED"),
            (format!("COUPON.REQUEST {KEY} b"), "DUPLICATE"),
            (format!("COUPON.REQUEST {KEY} x"), "SOLDOUT"),
        ],
    );
    Stored::read(&mut client, KEY).assert_promises();
}

#[test]
fn who_waits_for_a_coupon_that_moves_is_sent_after_it() {
    let Some((cluster, home)) = cluster() else { return };
    let (here, there) = (&cluster.primaries[home], &cluster.primaries[(home + 1) % 3]);
    open(&mut here.client());
    let mut waiting = blocked(here, &[format!("COUPON.WAIT {KEY} a 0"), format!("COUPON.WAIT {KEY} a 86400000")]);
    migrate(&cluster, here, there);
    for waiter in &mut waiting {
        assert_eq!(waiter.only_answer(), format!("-MOVED {} 127.0.0.1:{}", slot(here, KEY), there.port));
    }
    assert_nobody_waits(&mut here.client());
    let mut client = there.client();
    resume(&mut client, 2);
    let mut waiter = blocked(there, &[format!("COUPON.WAIT {KEY} a 0")]).remove(0);
    assert_eq!(number(&mut client, "coupon_waiting_clients"), 1);
    expect(&mut client, &[(format!("COUPON.ACK {KEY} EPOCH 2 SEQ 1"), "+OK")]);
    assert_eq!(waiter.only_answer(), "PERSISTED");
}
