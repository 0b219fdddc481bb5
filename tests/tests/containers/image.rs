//! Each image alone.

use crate::shipped::{Files, SECRETS, Shipped, image};
use coupon_tests::resp::{Client, expect};
use testcontainers::ImageExt;

const SERVERS: [&str; 2] = ["redis", "valkey"];

/// Users of the application, as a secret.
const USERS: &str =
    "user default off ~* &* +@all\nuser shop on >hunter2-shop ~coupon:* &* -@all +coupon.open +coupon.request\n";

fn served(name: &str) -> Shipped {
    let server = Shipped::start(image(name));
    server.await_health("healthy");
    server
}

#[test]
fn a_server_has_the_module_and_a_user_without_rights() {
    for name in SERVERS {
        let server = served(name);
        let cli = format!("{name}-cli");
        assert_eq!(server.exec(&["id", "-u"]), (0, "999".into()), "{name}");
        let ask =
            |command: &str| server.exec(&[&[cli.as_str()], &command.split(' ').collect::<Vec<_>>()[..]].concat()).1;
        assert_eq!(ask("COUPON.OPEN coupon:{42} QUANTITY 1"), "OK", "{name}");
        assert_eq!(ask("COUPON.REQUEST coupon:{42} 1001"), "QUEUED", "{name}");
        // The shipped settings, and where the data go.
        assert_eq!(ask("CONFIG GET aof-load-truncated"), "aof-load-truncated\nno", "{name}");
        assert_eq!(
            server.exec(&["stat", "-c", "%a", "/data/appendonlydir/appendonly.aof.manifest"]).1,
            "600",
            "{name}"
        );
        let config = server.inspect().config.expect("a configuration");
        assert_eq!(config.user.as_deref(), Some("999:999"), "{name}: by number");
        let labels = config.labels.expect("labels");
        assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"), "{name}");
    }
}

#[test]
fn a_server_without_a_password_answers_nobody_outside_of_its_container() {
    for name in SERVERS {
        let server = served(name);
        let mut client = Client::connect(server.port(6379)).expect("it listens");
        let answer = client.try_call(&["PING"]).map(|answer| answer.to_string());
        assert!(answer.as_ref().is_ok_and(|answer| answer.starts_with("-DENIED")), "{name}: {answer:?}");
    }
}

#[test]
fn a_server_takes_its_users_as_a_secret() {
    for name in SERVERS {
        let secrets = Files::new(&[("users.conf", USERS)]);
        let server = Shipped::start(image(name).with_mount(secrets.mount(SECRETS)));
        server.await_health("healthy");
        expect(
            &mut server.client(),
            &[
                ("PING", "-NOAUTH"),
                ("AUTH default none", "-WRONGPASS"),
                ("AUTH shop hunter2-other", "-WRONGPASS"),
                ("AUTH shop hunter2-shop", "+OK"),
                ("COUPON.OPEN coupon:{42} QUANTITY 1", "+OK"),
                ("COUPON.REQUEST coupon:{42} 1001", "QUEUED"),
                ("COUPON.ISSUE coupon:{42}", "-NOPERM"),
                // The health check's user may ask for a PONG, and for nothing else.
                ("AUTH coupon-health none", "+OK"),
                ("PING", "+PONG"),
                ("COUPON.REQUEST coupon:{42} 1002", "-NOPERM"),
                ("CONFIG GET dir", "-NOPERM"),
            ],
        );
    }
}

#[test]
fn a_server_takes_settings_as_arguments_and_as_files() {
    let settings = Files::new(&[("own.conf", "coupon.issue-max 7\nmaxmemory 50mb\n")]);
    let mount = settings.mount("/etc/redis-coupon/conf.d");
    for name in SERVERS {
        let server = Shipped::start(image(name).with_mount(mount.clone()).with_cmd([
            "--maxmemory",
            "60mb",
            "--protected-mode",
            "no",
        ]));
        expect(
            &mut server.client(),
            &[
                ("CONFIG GET coupon.issue-max", "[coupon.issue-max 7]"),
                ("CONFIG GET maxmemory", "[maxmemory 62914560]"),
                ("COUPON.OPEN coupon:{42} QUANTITY 1", "+OK"),
            ],
        );
    }
}

#[test]
fn a_stopped_server_ends_in_order_and_keeps_everything() {
    for name in SERVERS {
        let server = Shipped::start(image(name).with_cmd(["--protected-mode", "no"]));
        expect(
            &mut server.client(),
            &[
                ("COUPON.OPEN coupon:{42} QUANTITY 5", "+OK"),
                ("COUPON.REQUEST coupon:{42} 1001", "QUEUED"),
                ("COUPON.ISSUE coupon:{42}", ":1"),
            ],
        );
        assert_eq!(server.stop(), 0, "{name}");
        server.start_again();
        server.await_health("healthy");
        expect(&mut server.client(), &[("COUPON.STATUS coupon:{42} 1001", "GRANTED")]);
    }
}

#[test]
fn the_reconciler_says_that_it_is_not_ready_and_ends_in_order() {
    let away = "postgres://nobody@127.0.0.1:1/none";
    let reconciler = Shipped::start(image("reconciler").with_env_var("DATABASE_URL", away));
    let (code, said) = reconciler.exec(&["/usr/local/bin/coupon-reconciler", "health"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("redis: ") && said.contains("postgresql: "), "{said}");
    assert_ne!(reconciler.health(), "healthy");
    assert_eq!(reconciler.inspect().config.and_then(|config| config.user).as_deref(), Some("65532:65532"));
    assert_eq!(reconciler.stop(), 0, "{}", reconciler.log());
}

#[test]
fn the_reconciler_passes_arguments_and_exit_codes_on() {
    let said = |args: &[&str]| {
        let reconciler = Shipped::start(image("reconciler").with_cmd(args.iter().copied()));
        let code = coupon_tests::deadline::eventually("it ends", || {
            let state = reconciler.inspect().state.filter(|state| state.running == Some(false))?;
            state.exit_code
        });
        (code, reconciler.log())
    };
    let (code, log) = said(&["--version"]);
    assert_eq!((code, log.trim()), (0, &*format!("coupon-reconciler {}", env!("CARGO_PKG_VERSION"))));
    let (code, log) = said(&["run", "--batch-max", "0"]);
    assert_eq!(code, 2, "{log}");
}
