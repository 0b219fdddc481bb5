//! The reconciler beside a Redis Cluster: coupons on all nodes, slots that move, a primary that fails.

use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_cluster::{Cluster, Follower, assert_ok, slot};
use coupon_tests::redis_server::Redis;

const COUPONS: usize = 12;
const USERS: usize = 20;

fn key(coupon: usize) -> String {
    format!("coupon:{{{coupon}}}")
}

/// A cluster, a ledger with a coupon for each, and the reconciler between.
fn start() -> (Cluster, Postgres, Reconciler) {
    let (cluster, postgres) = (Cluster::start(3), Postgres::start());
    let nodes: Vec<String> = cluster.primaries.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let reconciler = Options::between(&cluster.primaries[0], &postgres)
        .redis_url(format!("redis-cluster://{}", nodes.join(",")))
        .start()
        .await_ready();
    for coupon in 0..COUPONS {
        let mode = if coupon % 2 == 0 { "QUEUE" } else { "INSTANT" };
        postgres.run(&format!(
            "insert into coupon (id, name, quantity, status, mode) values ('{coupon}', 'c', 1000, 'AVAILABLE', '{mode}')"
        ));
    }
    (cluster, postgres, reconciler)
}

/// So many users request each coupon, each until it has an outcome.
fn request_all(client: &mut Follower, prefix: &str) {
    for coupon in 0..COUPONS {
        for user in 0..USERS {
            let call = format!("COUPON.REQUEST {} {prefix}{user}", key(coupon));
            let mut outcome = String::new();
            eventually_true("the coupon is open", || {
                outcome = client.run(&call).to_string();
                !outcome.starts_with("-NOCOUPON")
            });
            assert!(["QUEUED", "GRANTED", "DUPLICATE"].contains(&outcome.as_str()), "{call}: {outcome}");
        }
    }
}

/// Until every user of these crowds is persisted; then the ledger holds as many rows of each coupon, without a gap.
fn await_rows(client: &mut Follower, postgres: &Postgres, crowds: &[&str]) {
    for coupon in 0..COUPONS {
        for (crowd, user) in crowds.iter().flat_map(|crowd| (0..USERS).map(move |user| (crowd, user))) {
            let call = format!("COUPON.STATUS {} {crowd}{user}", key(coupon));
            eventually_true("the grant is a row", || client.run(&call).to_string() == "PERSISTED");
        }
    }
    let users = crowds.len() * USERS;
    let good = format!(
        "select count(*) from (select coupon_id from user_coupon group by coupon_id \
         having count(*) = {users} and max(seq) = {users} and min(seq) = 1) whole"
    );
    assert_eq!(postgres.value(&good), COUPONS.to_string());
}

fn verify(cluster: &Cluster, postgres: &Postgres, reconciler: &Reconciler) {
    let url = format!("redis-cluster://127.0.0.1:{}", cluster.primaries[0].port);
    for (command, code) in [("verify", 0), ("check", 0)] {
        let output = std::process::Command::new(coupon_tests::artifact::reconciler())
            .args([command, "--database-url", &postgres.url()])
            .args(if command == "verify" { vec![] } else { vec!["--redis-url", &url] })
            .output()
            .expect("the command can be started");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{command}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    let status = reconciler.status(&[]);
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.success() && said.contains("open") && !said.contains("unknown"), "{said}");
}

#[test]
fn coupons_on_all_nodes_are_published_issued_and_relayed() {
    let (cluster, postgres, reconciler) = start();
    let mut client = cluster.client();
    request_all(&mut client, "u");
    await_rows(&mut client, &postgres, &["u"]);
    // One that was opened by hand, on whichever node, becomes a row too.
    for coupon in ["x", "y", "z"] {
        assert_eq!(client.run(&format!("COUPON.OPEN coupon:{{{coupon}}} QUANTITY 5")).to_string(), "+OK");
        let adopted = format!("select count(*) from coupon where id = '{coupon}'");
        eventually_true("the coupon is adopted", || postgres.value(&adopted) == "1");
    }
    verify(&cluster, &postgres, &reconciler);
}

/// Moves a slot with all its keys.
fn move_slot(cluster: &Cluster, from: &Redis, to: &Redis, key: &str) {
    let slot = slot(from, key);
    Cluster::open_slot(from, to, key);
    let mut source = from.client();
    loop {
        let keys = source.run(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
        if keys.array().is_empty() {
            break;
        }
        for key in keys.array() {
            assert_ok(&mut source, &format!("MIGRATE 127.0.0.1 {} {} 0 5000", to.port, key.text()));
        }
    }
    cluster.close_slot(from, to, key);
}

#[test]
fn a_slot_that_moves_takes_its_coupon_along() {
    let (cluster, postgres, reconciler) = start();
    let mut client = cluster.client();
    request_all(&mut client, "a");
    for coupon in 0..COUPONS {
        let home = cluster.home(&key(coupon));
        move_slot(&cluster, &cluster.primaries[home], &cluster.primaries[(home + 1) % 3], &key(coupon));
    }
    // Shut where they are now, until they are compared with the ledger; then the sale goes on.
    request_all(&mut client, "b");
    await_rows(&mut client, &postgres, &["a", "b"]);
    verify(&cluster, &postgres, &reconciler);
}

#[test]
fn a_primary_that_fails_is_followed_to_its_replica() {
    let (mut cluster, postgres, reconciler) = start();
    let mut client = cluster.client();
    request_all(&mut client, "a");
    await_rows(&mut client, &postgres, &["a"]);
    cluster.primaries[0].kill();
    let mut promoted = cluster.replicas[0].client();
    eventually_true("the replica has taken over", || promoted.run("ROLE").array()[0].text() == "master");
    request_all(&mut client, "b");
    await_rows(&mut client, &postgres, &["a", "b"]);
    assert!(!reconciler.log().contains("panicked"), "{}", reconciler.log());
}
