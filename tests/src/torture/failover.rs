//! Failover to a replica that is behind, while the old primary may go on serving, and back to it.

use super::stack::{self, Load, Order};
use super::{Survived, count};
use crate::deadline::eventually_true;
use crate::postgres_server::Postgres;
use crate::proxy::Proxy;
use crate::reconciler;
use crate::redis_server::{Options, Redis};

/// Failovers of a round.
const FAILOVERS: u64 = 4;

/// Plays one round.
///
/// # Panics
/// If a promise is broken.
pub fn round(random: &mut fastrand::Rng) -> Survived {
    let mut survived = Survived::new();
    let postgres = Postgres::start();
    let mut primary = Options::shipped().start();
    let mut replica = Options::shipped().start();
    // What the replica sees of the primary, and the reconciler of whoever is the primary.
    let replication = Proxy::start(primary.port);
    let to_primary = Proxy::start(primary.port);
    follow(&replica, &replication);
    let _reconciler = reconciler::Options::between(&primary, &postgres)
        .redis_url(format!("redis://127.0.0.1:{}", to_primary.port))
        .args(&["--full-pass-interval", "1s"])
        .start()
        .await_ready();
    stack::insert(&postgres, random);
    stack::await_level(primary.port, &postgres);

    let mut order = Order::Total;
    for failover in 0..FAILOVERS {
        let load = Load::new(primary.port, &format!("f{failover}"));
        load.during(|| {
            load.await_answers(random.u64(1..300));
            // From here on the replica is behind.
            replication.lead_to(NOBODY);
            load.await_answers(random.u64(1..500));
        });
        assert_eq!(replica.client().run("REPLICAOF NO ONE").to_string(), "+OK");
        to_primary.lead_to(replica.port);
        // What no row confirms may be lost with the failover: the replica did not have it.
        load.forget_unpersisted();

        if random.bool() {
            // Nobody has told the old primary: its clients go on, and what it grants now it grants on its own.
            let old = Load::new(primary.port, &format!("o{failover}"));
            let new = Load::new(replica.port, &format!("n{failover}"));
            new.during(|| {
                old.during(|| old.await_answers(random.u64(1..300)));
                new.await_answers(random.u64(1..300));
            });
            old.forget_unpersisted();
            new.check_on(replica.port, &postgres, order);
            load.check_on(replica.port, &postgres, order);
            old.check_on(replica.port, &postgres, order);
            if random.bool() {
                stack::lead_back(primary.port, &postgres, || to_primary.lead_to(primary.port));
                order = Order::PerEpoch;
                load.check_on(primary.port, &postgres, order);
                std::mem::swap(&mut primary, &mut replica);
                count(&mut survived, "failover, and back to the old primary that had gone on", 1);
            } else {
                count(&mut survived, "failover while the old primary goes on", 1);
            }
        } else {
            primary.kill();
            load.check_on(replica.port, &postgres, order);
            primary.start_again();
            count(&mut survived, "failover to a replica that is behind", 1);
        }

        // The other one follows now.
        std::mem::swap(&mut primary, &mut replica);
        replication.lead_to(primary.port);
        follow(&replica, &replication);
    }
    survived
}

/// A port at which nobody listens: the discard service's, on loopback.
const NOBODY: u16 = 9;

/// Makes a server the replica of whoever the proxy leads to, and waits until it has all.
fn follow(replica: &Redis, replication: &Proxy) {
    let mut client = replica.client();
    assert_eq!(client.run(&format!("REPLICAOF 127.0.0.1 {}", replication.port)).to_string(), "+OK");
    eventually_true("the replica is in step", || {
        let info = client.call(&["INFO", "replication"]);
        info.text().contains("master_link_status:up")
    });
}
