//! Hosts of their own, in network namespaces, and a network between them that loses packets without a word.
//!
//! Each host has one link, and it leads to a router, which has a table of routes for each host that sends. So one direction
//! between two hosts is cut by a route that drops, and an address that several hosts have leads each sender to one of them.
//! Nobody hears of a drop, neither by a reset nor by ICMP. All it needs is ip(8), and to be root on Linux.

use crate::artifact;
use crate::container;
use crate::process;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// A host's name.
pub type Host = &'static str;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// All namespaces of these networks begin so; then comes the process that made them.
const PREFIX: &str = "coupon-test-";

/// Where each host sends everything to.
const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// Hosts, and how they reach each other. Servers on them have to be dropped before it.
pub struct Network {
    name: String,
    hosts: Vec<Host>,
    shared: Vec<Ipv4Addr>,
    ways: Mutex<Ways>,
}

/// How things stand between the hosts.
#[derive(Default)]
struct Ways {
    cuts: BTreeSet<(Host, Host)>,
    /// Where a sender is led by a shared address.
    leads: BTreeMap<(Host, Ipv4Addr), Host>,
    /// What the router was told last: the link for a sender and an address, or none.
    told: BTreeMap<(usize, Ipv4Addr), Option<usize>>,
}

/// Which way packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first to the second: requests.
    There,
    /// From the second to the first: answers.
    Back,
    /// Either.
    Both,
}

/// Why there can be no hosts here, if so.
#[must_use]
pub fn is_missing() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        Some("it needs Linux")
    } else if container::is_backend() {
        Some("servers are in containers")
    } else if !process::is_root() {
        Some("it needs root")
    } else if artifact::on_path("ip").is_none() {
        Some("it needs ip(8): scripts/install.sh ip")
    } else {
        None
    }
}

impl Network {
    /// Hosts with nothing on them, that all reach each other. A shared address is one of several hosts, and leads nowhere yet.
    ///
    /// # Panics
    /// If the kernel refuses, or [`is_missing`].
    #[must_use]
    pub fn start(hosts: &[Host], shared: &[(Ipv4Addr, &[Host])]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let addresses = shared.iter().map(|(address, _)| *address).collect();
        let network = Self { name, hosts: hosts.to_vec(), shared: addresses, ways: Mutex::default() };
        let router = network.namespace("router");
        let add = |namespace: &str| {
            ip("", &[format!("netns add {namespace}")]);
            ip(namespace, &["link set lo up".into()]);
        };
        add(&router);
        network.on("router", || {
            set("ip_forward", "1");
            // Of whom the router hears over a link is no matter of its own routes.
            for devices in ["all", "default"] {
                set(&format!("conf/{devices}/rp_filter"), "0");
            }
        });
        for (place, host) in hosts.iter().enumerate() {
            let (namespace, link) = (network.namespace(host), link(place));
            add(&namespace);
            ip("", &[format!("link add veth0 netns {namespace} type veth peer name {link} netns {router}")]);
            let own = network.address(host);
            let mut lines = vec![format!("addr add {own}/32 dev veth0")];
            // Not on the link, so that it is never taken for the way out.
            let held = shared.iter().filter(|(_, holders)| holders.contains(host));
            lines.extend(held.map(|(address, _)| format!("addr add {address}/32 dev lo")));
            lines.push("link set veth0 up".into());
            lines.push(format!("route add {ROUTER} dev veth0"));
            lines.push(format!("route add default via {ROUTER} dev veth0 src {own}"));
            ip(&namespace, &lines);
            let table = table(place);
            ip(
                &router,
                &[
                    format!("addr add {ROUTER}/32 dev {link}"),
                    format!("link set {link} up"),
                    format!("rule add pref 1000 iif {link} lookup {table}"),
                ],
            );
        }
        network.change(|_| ());
        network
    }

    /// Does something on a host: what is connected to, listened to, and started meanwhile by this thread, is there.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn on<T>(&self, host: Host, work: impl FnOnce() -> T) -> T {
        let _visit = visit::Visit::begin(&format!("{NAMES}/{}", self.namespace(host)));
        work()
    }

    /// A host's own address.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn address(&self, host: Host) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(self.place(host) + 1).expect("a few hosts"))
    }

    /// From now on packets are dropped between two hosts.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn cut(&self, one: Host, other: Host, direction: Direction) {
        self.change(|ways| ways.cuts.extend(directed(one, other, direction)));
    }

    /// And now they get through again.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn mend(&self, one: Host, other: Host) {
        self.change(|ways| {
            for way in directed(one, other, Direction::Both) {
                ways.cuts.remove(&way);
            }
        });
    }

    /// All between this host and all others is dropped, as if it were dead.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn isolate(&self, host: Host) {
        self.change(|ways| {
            let others = self.hosts.iter().filter(|other| **other != host);
            ways.cuts.extend(others.flat_map(|other| directed(host, other, Direction::Both)));
        });
    }

    /// Everything gets through to everybody again.
    ///
    /// # Panics
    /// Never.
    pub fn mend_all(&self) {
        self.change(|ways| ways.cuts.clear());
    }

    /// A shared address leads these senders to this host.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn lead(&self, senders: &[Host], address: Ipv4Addr, to: Host) {
        self.change(|ways| ways.leads.extend(senders.iter().map(|sender| ((*sender, address), to))));
    }

    /// The connection that a host has from this port of its own is dropped for ever, as by a firewall that has forgotten it;
    /// others go on.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn forget_connection(&self, host: Host, port: u16) {
        let link = link(self.place(host));
        ip(&self.namespace("router"), &[format!("rule add pref 500 iif {link} ipproto tcp sport {port} blackhole")]);
    }

    /// What this host has written on a connection and then given up is not sent again for a minute and more, as it is else, but
    /// once.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn give_up_soon(&self, host: Host) {
        self.on(host, || set("tcp_orphan_retries", "1"));
    }

    /// Whether a host has no connection any more, nor one that has ended and still sends what was written before.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn is_quiet(&self, host: Host) -> bool {
        const TIME_WAIT: &str = "06";
        let all = self
            .on(host, || fs::read_to_string("/proc/thread-self/net/tcp").expect("connections of the thread's host"));
        all.lines().skip(1).all(|line| line.split_whitespace().nth(3) == Some(TIME_WAIT))
    }

    fn change(&self, how: impl FnOnce(&mut Ways)) {
        // Whoever panicked here was told that there is no such host, before anything was changed.
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut ways);
        let own = self.hosts.iter().map(|host| (self.address(host), None));
        let addresses: Vec<(Ipv4Addr, Option<Ipv4Addr>)> =
            own.chain(self.shared.iter().map(|shared| (*shared, Some(*shared)))).collect();
        let mut lines = Vec::new();
        for (place, sender) in self.hosts.iter().enumerate() {
            for (address, shared) in &addresses {
                let receiver = match shared {
                    None => self.hosts.iter().find(|host| self.address(host) == *address).copied(),
                    Some(shared) => ways.leads.get(&(*sender, *shared)).copied(),
                };
                let way =
                    receiver.filter(|receiver| !ways.cuts.contains(&(*sender, *receiver))).map(|host| self.place(host));
                if ways.told.insert((place, *address), way) != Some(way) {
                    let table = table(place);
                    lines.push(match way {
                        Some(to) => format!("route replace {address} dev {} table {table}", link(to)),
                        None => format!("route replace blackhole {address} table {table}"),
                    });
                }
            }
        }
        if !lines.is_empty() {
            ip(&self.namespace("router"), &lines);
        }
    }

    fn place(&self, host: Host) -> usize {
        self.hosts.iter().position(|known| *known == host).unwrap_or_else(|| panic!("there is no host {host}"))
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&format!("{}-", self.name));
    }
}

fn directed(one: Host, other: Host, direction: Direction) -> Vec<(Host, Host)> {
    match direction {
        Direction::There => vec![(one, other)],
        Direction::Back => vec![(other, one)],
        Direction::Both => vec![(one, other), (other, one)],
    }
}

/// The router's end of a host's link.
fn link(place: usize) -> String {
    format!("to-{place}")
}

fn table(place: usize) -> usize {
    100 + place
}

/// Runs lines of ip(8), in a namespace or in none.
fn ip(namespace: &str, lines: &[String]) {
    let mut command = Command::new("ip");
    if !namespace.is_empty() {
        command.args(["-n", namespace]);
    }
    let mut batch = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ip starts");
    batch.stdin.take().expect("its input").write_all(lines.join("\n").as_bytes()).expect("ip reads");
    let output = batch.wait_with_output().expect("ip ends");
    assert!(output.status.success(), "{lines:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A setting of IPv4 in the namespace that this thread is in.
fn set(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Namespaces of processes that are no more: a test that is killed cannot tidy up.
fn remove_leftovers() {
    let of_dead = |name: &str| {
        let process = name.strip_prefix(PREFIX)?.split('-').next()?;
        (!fs::exists(format!("/proc/{process}")).ok()?).then(|| format!("{PREFIX}{process}-"))
    };
    let dead: BTreeSet<String> = namespaces().iter().filter_map(|name| of_dead(name)).collect();
    for prefix in dead {
        remove(&prefix);
    }
}

fn remove(prefix: &str) {
    for name in namespaces().iter().filter(|name| name.starts_with(prefix)) {
        // Another test may be at it as well.
        let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
    }
}

fn namespaces() -> Vec<String> {
    let Ok(names) = fs::read_dir(NAMES) else { return Vec::new() };
    names.flatten().filter_map(|name| name.file_name().into_string().ok()).collect()
}

#[cfg(target_os = "linux")]
mod visit {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::fs::File;
    use std::os::fd::AsFd;

    /// This thread is elsewhere until it is dropped.
    pub struct Visit {
        home: File,
    }

    impl Visit {
        pub fn begin(namespace: &str) -> Self {
            let home = File::open("/proc/thread-self/ns/net").expect("a thread is somewhere");
            enter(&File::open(namespace).unwrap_or_else(|error| panic!("{namespace}: {error}")));
            Self { home }
        }
    }

    impl Drop for Visit {
        fn drop(&mut self) {
            enter(&self.home);
        }
    }

    fn enter(namespace: &File) {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may go there");
    }
}

#[cfg(not(target_os = "linux"))]
mod visit {
    pub struct Visit;

    impl Visit {
        pub fn begin(_: &str) -> Self {
            panic!("network namespaces are Linux's")
        }
    }
}
