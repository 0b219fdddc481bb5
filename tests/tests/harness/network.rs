//! Hosts of their own: what is lost between them is lost without a word, and only there.

use coupon_tests::deadline::eventually_true;
use coupon_tests::network::{Direction, Network, is_missing};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::redis_server::{Options, Redis};
use coupon_tests::resp::Client;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long nothing is heard before it is called silence; longer than an answer takes by far.
const SILENCE: Duration = Duration::from_secs(2);

const SHARED: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
const PORT: u16 = 6379;

/// Whether it was played; else it says so.
fn with_hosts(play: impl FnOnce(&Network)) {
    match is_missing() {
        Some(why) => eprintln!("SKIPPED: hosts of their own: {why}"),
        None => play(&Network::start(&["one", "two", "client"], &[(SHARED, &["one", "two"])])),
    }
}

fn server() -> Redis {
    Options::shipped().without_module().for_all_at(PORT).start()
}

/// Neither an answer nor a word that there will be none.
fn is_silent<T>(heard: io::Result<T>) -> bool {
    matches!(heard.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_cut_drops_without_a_word_in_its_direction_and_heals() {
    with_hosts(|network| {
        let redis = network.on("one", server);
        let connect = || network.on("client", || Client::connect_with((network.address("one"), PORT), SILENCE));
        let count = || network.on("one", || redis.client().run("GET n").to_string());
        let mut client = connect().expect("all reach each other");
        assert_eq!(client.run("INCR n").int(), 1);

        network.cut("client", "one", Direction::Back);
        assert!(is_silent(client.try_call(&["INCR", "n"])), "the answer is lost");
        eventually_true("the request gets there", || count() == "2");
        assert!(is_silent(connect()), "nor is anybody let in");
        network.mend("client", "one");
        eventually_true("the answer comes late", || client.read().is_ok_and(|answer| answer.int() == 2));

        network.cut("client", "one", Direction::There);
        assert!(is_silent(client.try_call(&["INCR", "n"])), "the request is lost");
        assert!(is_silent(connect()));
        assert_eq!(count(), "2");
        network.mend("client", "one");
        eventually_true("it gets there late", || client.read().is_ok_and(|answer| answer.int() == 3));

        network.isolate("two");
        assert_eq!(client.run("INCR n").int(), 4, "others are not touched");
        assert!(is_silent(network.on("two", || Client::connect_with((network.address("one"), PORT), SILENCE))));
        network.mend_all();
        assert!(network.on("two", || Client::connect((network.address("one"), PORT))).is_ok());
    });
}

#[test]
fn a_connection_that_is_forgotten_is_dead_and_others_live() {
    with_hosts(|network| {
        let redis = network.on("one", server);
        let connect =
            || network.on("client", || Client::connect_with((network.address("one"), PORT), SILENCE).expect("a way"));
        let (mut old, mut new) = (connect(), connect());
        let id = old.run("CLIENT ID").int();
        let line = network.on("one", || redis.client().run(&format!("CLIENT LIST ID {id}")).to_string());
        let port = line.split(" addr=").nth(1).and_then(|rest| rest.split([' ', ':']).nth(1)).expect("its port");
        network.forget_connection("client", port.parse().expect("a port"));
        assert!(is_silent(old.try_call(&["PING"])));
        assert_eq!(new.run("PING").to_string(), "+PONG");
        assert_eq!(connect().run("PING").to_string(), "+PONG");
    });
}

#[test]
fn a_shared_address_leads_each_sender_where_it_is_told() {
    with_hosts(|network| {
        let servers = ["one", "two"].map(|host| network.on(host, server));
        for (host, server) in ["one", "two"].into_iter().zip(&servers) {
            network.on(host, || assert_eq!(server.client().run(&format!("SET host {host}")).to_string(), "+OK"));
        }
        let seen = |sender| {
            let found = network.on(sender, || {
                Client::connect_with((SHARED, PORT), SILENCE).and_then(|mut client| client.try_call(&["GET", "host"]))
            });
            found.map_or_else(|error| error.kind().to_string(), |found| found.to_string())
        };
        network.lead(&["client"], SHARED, "one");
        assert_eq!(seen("client"), "one");
        network.cut("client", "one", Direction::There);
        assert_ne!(seen("client"), "one", "a cut holds for every address of a host");
        network.lead(&["client"], SHARED, "two");
        assert_eq!(seen("client"), "two");
    });
}

#[test]
fn a_standby_follows_and_lacks_what_was_cut_off() {
    with_hosts(|network| {
        const PORT: u16 = 5432;
        let primary = network.on("one", || Postgres::start_for_all_at(PORT));
        let on_primary = |sql: &str| network.on("one", || primary.value(sql));
        on_primary("create table t as select 1 as n");
        let backup = network.on("one", || primary.base_backup());
        let standby = network.on("two", || backup.follow(network.address("one"), PORT));
        let on_standby = |sql: &str| network.on("two", || standby.value(sql));
        on_primary("insert into t values (2)");
        eventually_true("it follows", || on_standby("select max(n) from t") == "2");
        network.cut("one", "two", Direction::Both);
        on_primary("insert into t values (3)");
        on_standby("select pg_promote()");
        network.mend_all();
        assert_eq!(on_standby("select max(n) from t"), "2", "and nobody waited for it");
        on_standby("insert into t values (4)");
    });
}
