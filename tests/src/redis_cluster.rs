//! A Redis Cluster of one's own, and a client that follows it.

use crate::call;
use crate::deadline::{DEADLINE, eventually_true};
use crate::port;
use crate::redis_server::{Options, Redis};
use crate::resp::{Client, Value};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// How long a client that was told to try again waits.
const PAUSE: Duration = Duration::from_millis(5);

/// Primaries with a replica each.
pub struct Cluster {
    /// The primaries at the start; slots are spread evenly, in this order.
    pub primaries: Vec<Redis>,
    /// Their replicas, in the same order.
    pub replicas: Vec<Redis>,
}

impl Cluster {
    /// Starts so many primaries with a replica each, and waits until all is well.
    ///
    /// # Panics
    /// If a server does not start, or the cluster does not form.
    #[must_use]
    pub fn start(primaries: usize) -> Self {
        Self::start_with(primaries, |options| options)
    }

    /// The same with more settings for each node.
    ///
    /// # Panics
    /// If a server does not start, or the cluster does not form.
    #[must_use]
    pub fn start_with(primaries: usize, more: impl Fn(Options) -> Options) -> Self {
        let node = || {
            let options = Options::shipped()
                .line("cluster-enabled yes")
                .line("cluster-node-timeout 1000")
                .line(format!("cluster-port {}", port::free()))
                .line("repl-diskless-sync-delay 0");
            more(options).start()
        };
        let cluster = Self {
            primaries: (0..primaries).map(|_| node()).collect(),
            replicas: (0..primaries).map(|_| node()).collect(),
        };
        cluster.join();
        cluster
    }

    fn join(&self) {
        let count = u16::try_from(self.primaries.len()).expect("a few primaries");
        for (index, primary) in (0..).zip(&self.primaries) {
            let (first, end) =
                (SLOTS / count * index, if index + 1 == count { SLOTS } else { SLOTS / count * (index + 1) });
            assert_ok(&mut primary.client(), &format!("CLUSTER ADDSLOTSRANGE {first} {}", end - 1));
        }
        let mut first = self.primaries[0].client();
        for (index, node) in (1..).zip(self.primaries.iter().chain(&self.replicas)) {
            assert_ok(&mut node.client(), &format!("CLUSTER SET-CONFIG-EPOCH {index}"));
            let bus = node.client().run("CONFIG GET cluster-port").array()[1].text().to_owned();
            assert_ok(&mut first, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port));
        }
        let nodes = self.primaries.len() + self.replicas.len();
        for node in self.primaries.iter().chain(&self.replicas) {
            let mut client = node.client();
            eventually_true("every node knows all", || {
                client.run("CLUSTER INFO").text().contains(&format!("cluster_known_nodes:{nodes}\r\n"))
            });
        }
        for (primary, replica) in self.primaries.iter().zip(&self.replicas) {
            let (id, mut client) = (id(primary), replica.client());
            // The replica may still have to hear of its primary's slots.
            eventually_true("the replica follows", || {
                client.run(&format!("CLUSTER REPLICATE {id}")).to_string() == "+OK"
            });
            eventually_true("the replica is in step", || {
                client.call(&["INFO", "replication"]).text().contains("master_link_status:up")
            });
        }
        for node in self.primaries.iter().chain(&self.replicas) {
            let mut client = node.client();
            eventually_true("the cluster serves all slots", || {
                client.run("CLUSTER INFO").text().contains("cluster_state:ok")
            });
        }
    }

    /// Begins to move the slot of a key from one primary to another: its keys can be migrated now.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn open_slot(from: &Redis, to: &Redis, key: &str) {
        let slot = slot(from, key);
        assert_ok(&mut to.client(), &format!("CLUSTER SETSLOT {slot} IMPORTING {}", id(from)));
        assert_ok(&mut from.client(), &format!("CLUSTER SETSLOT {slot} MIGRATING {}", id(to)));
    }

    /// Ends the move of a slot whose keys are all where they shall be.
    ///
    /// # Panics
    /// If a node refuses, or the nodes do not come to agree.
    pub fn close_slot(&self, from: &Redis, to: &Redis, key: &str) {
        let slot = slot(from, key);
        let assign = |node: &Redis| assert_ok(&mut node.client(), &format!("CLUSTER SETSLOT {slot} NODE {}", id(to)));
        assign(to);
        assign(from);
        // News of the owner before may still be under way between nodes; as with `redis-cli --cluster fix`, who believes it
        // is told again, until all agree.
        let moved = format!("-MOVED {slot} 127.0.0.1:{}", to.port);
        eventually_true("all nodes agree on the slot's owner", || {
            let is_wrong = |node: &&Redis| {
                let reply = node.client().call(&["EXISTS", key]).to_string();
                if node.port == to.port { reply != ":1" } else { reply != moved }
            };
            let wrong: Vec<&Redis> = self.primaries.iter().filter(is_wrong).collect();
            wrong.iter().for_each(|node| assign(node));
            wrong.is_empty()
        });
    }

    /// A client that follows the cluster.
    #[must_use]
    pub fn client(&self) -> Follower {
        let ports = self.primaries.iter().chain(&self.replicas).map(|node| node.port).collect();
        Follower { ports, connections: HashMap::new(), guess: 0, was_told: HashMap::new() }
    }

    /// The primary, by its place, that serves a key at the start.
    ///
    /// # Panics
    /// If a node does not answer.
    #[must_use]
    pub fn home(&self, key: &str) -> usize {
        usize::from(slot(&self.primaries[0], key)) * self.primaries.len() / usize::from(SLOTS)
    }
}

/// The slot of a key.
///
/// # Panics
/// If the node does not answer.
#[must_use]
pub fn slot(node: &Redis, key: &str) -> u16 {
    u16::try_from(node.client().call(&["CLUSTER", "KEYSLOT", key]).int()).expect("a slot")
}

/// A node's name in its cluster.
///
/// # Panics
/// If it does not answer.
#[must_use]
pub fn id(node: &Redis) -> String {
    node.client().run("CLUSTER MYID").text().to_owned()
}

/// Runs what has to be answered OK.
///
/// # Panics
/// If it is not.
pub fn assert_ok(client: &mut Client, line: &str) {
    assert_eq!(client.run(line).to_string(), "+OK", "{line}");
}

/// A client that goes where it is sent, and tries again when it is told to, as cluster clients do.
pub struct Follower {
    ports: Vec<u16>,
    connections: HashMap<u16, Client>,
    guess: usize,
    /// How often it was told what, by the first word.
    pub was_told: HashMap<String, usize>,
}

impl Follower {
    /// Runs a line to its final reply. A call whose answer was lost is sent again.
    ///
    /// # Panics
    /// If there is none in good time.
    pub fn run(&mut self, line: &str) -> Value {
        let words = call::words(line);
        let end = Instant::now() + DEADLINE;
        let mut port = self.ports[self.guess];
        let mut is_asking = false;
        loop {
            assert!(Instant::now() < end, "no final reply to {line}; told: {:?}", self.was_told);
            let Ok(reply) = self.try_call(port, is_asking, &words) else {
                // A node that is gone: another one knows more.
                self.connections.remove(&port);
                *self.was_told.entry("(gone)".into()).or_default() += 1;
                self.guess = (self.guess + 1) % self.ports.len();
                (port, is_asking) = (self.ports[self.guess], false);
                std::thread::sleep(PAUSE);
                continue;
            };
            let Value::Error(error) = &reply else { return reply };
            let mut parts = error.split(' ');
            let word = parts.next().unwrap_or_default().to_owned();
            let address =
                parts.nth(1).and_then(|address| address.rsplit(':').next()).and_then(|port| port.parse().ok());
            match (word.as_str(), address) {
                ("MOVED", Some(to)) => (port, is_asking) = (to, false),
                ("ASK", Some(to)) => (port, is_asking) = (to, true),
                ("TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN", _) => {
                    is_asking = false;
                    port = self.ports[self.guess];
                    std::thread::sleep(PAUSE);
                }
                _ => return reply,
            }
            *self.was_told.entry(word).or_default() += 1;
        }
    }

    fn try_call(&mut self, port: u16, is_asking: bool, words: &[Vec<u8>]) -> io::Result<Value> {
        let client = match self.connections.entry(port) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Client::connect(port)?),
        };
        if is_asking {
            client.try_call(&["ASKING"])?;
        }
        client.try_call(words)
    }
}
