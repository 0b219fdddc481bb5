//! compose.yaml, as a new user starts it: the same file, with the stand-ins for the official images.

use crate::crowd;
use crate::shipped::unique;
use coupon_tests::artifact::{on_path, workspace};
use coupon_tests::container::engine::PREFIX;
use coupon_tests::deadline::eventually_true;
use coupon_tests::resp::{Client, expect};
use coupon_tests::{http, port};
use std::process::{Command, Stdio};

/// Running services, which go with all that they have stored.
struct Compose {
    project: String,
    redis_port: u16,
    page_port: u16,
}

impl Compose {
    fn up() -> Self {
        let compose = Self { project: unique("compose"), redis_port: port::free(), page_port: port::free() };
        compose.run(&["up", "--detach", "--no-build"]);
        compose
    }

    /// docker-compose(1), or the plugin that came after it.
    fn command(&self) -> Command {
        let mut command = match on_path("docker-compose") {
            Some(program) => Command::new(program),
            None => {
                let mut docker = Command::new("docker");
                docker.arg("compose");
                docker
            }
        };
        command
            .current_dir(workspace())
            .args(["--project-name", &self.project])
            .env("COUPON_REDIS_IMAGE", format!("{PREFIX}/redis"))
            .env("COUPON_RECONCILER_IMAGE", format!("{PREFIX}/reconciler"))
            .env("POSTGRES_IMAGE", format!("{PREFIX}/official-postgres"))
            .env("REDIS_PORT", self.redis_port.to_string())
            .env("PAGE_PORT", self.page_port.to_string())
            .stdin(Stdio::null());
        command
    }

    /// What a command of compose has written to stdout.
    fn run(&self, args: &[&str]) -> String {
        let output = self.command().args(args).output().expect("docker-compose is missing: scripts/install.sh docker");
        let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{args:?}: {said}\n{complained}\n{}", self.logs());
        said.trim_end().to_owned()
    }

    fn logs(&self) -> String {
        let output = self.command().args(["logs", "--no-color"]).output().expect("docker-compose");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn cli(&self, args: &[&str]) -> String {
        self.run(&[&["run", "--rm", "-T", "cli"], args].concat())
    }

    fn secret(&self, name: &str) -> String {
        self.run(&["exec", "-T", "redis", "cat", &format!("/run/secrets/{name}")])
    }

    fn sql(&self, statement: &str) -> String {
        self.run(&["exec", "-T", "postgres", "psql", "-XAt", "-U", "coupon", "-c", statement])
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- compose has logged:\n{}", self.logs());
        }
        let _ = self.command().args(["down", "--volumes", "--timeout", "20"]).output();
    }
}

/// 2,000 users, a thousand of them twice, and 1,500 coupons.
fn hold_a_sale(compose: &Compose, password: &str) {
    let offer = "insert into coupon (id, name, quantity, status) values ('sale', 'Opening sale', 1500, 'AVAILABLE')";
    compose.sql(offer);
    let url = format!("redis://coupon-app:{password}@127.0.0.1:{}", compose.redis_port);
    let connect = || Client::connect(compose.redis_port).expect("Redis is published");
    eventually_true("the sale is open", || {
        let mut client = connect();
        expect(&mut client, &[(format!("AUTH coupon-app {password}"), "+OK")]);
        client.run("COUPON.STATUS coupon:{sale} nobody").to_string() == "NONE"
    });
    let watched = crowd::watch(compose.page_port, &url, "sale", "coupon:{sale}", 1500);
    let heard = |outcome: &str| watched.heard.get(outcome).copied().unwrap_or(0);
    assert_eq!(heard("QUEUED"), 1500, "{:?}", watched.heard);
    // Whoever asks twice is in already, or meets the end both times.
    assert_eq!(heard("DUPLICATE") + heard("SOLDOUT"), 1500, "{:?}", watched.heard);
    assert_eq!(watched.heard.len(), 3, "{:?}", watched.heard);
    let sum = "select count(*), count(distinct user_id), min(seq), max(seq) from user_coupon where coupon_id = 'sale'";
    assert_eq!(compose.sql(sum), "1500|1500|1|1500");
    // Seen while it ran, not only before and after.
    assert!(watched.granted.is_sorted() && watched.granted.len() > 3, "{:?}", watched.granted);
    assert!(watched.is_rate_shown);
}

/// An AOF with a torn end, as after a power cut, and the repair as docs/operations.md shows it.
fn tear_and_repair(compose: &Compose) {
    let page = include_str!("../../../docs/operations.md");
    let shown = page.lines().find_map(|line| line.strip_prefix("docker compose run --rm --entrypoint sh redis -c '"));
    let repair = shown.and_then(|line| line.strip_suffix('\'')).expect("the page shows how an AOF is repaired");
    let on_the_data = |script: &str| compose.run(&["run", "--rm", "-T", "--entrypoint", "sh", "redis", "-c", script]);
    compose.run(&["stop", "reconciler", "redis"]);
    on_the_data("truncate -s -3 \"$(ls -v /data/appendonlydir/*.incr.aof | tail -n 1)\"");
    let said = on_the_data("timeout 20 serve 2>&1 || true");
    assert!(said.contains("Unexpected end of file reading the append only file"), "{said}");
    // It asks before it cuts.
    assert!(on_the_data(&format!("echo y | {repair}")).contains("Successfully truncated AOF"));
    compose.run(&["up", "--detach", "--no-build"]);
}

#[test]
fn the_whole_starts_with_one_command_and_comes_back_as_it_was() {
    let compose = Compose::up();
    eventually_true("the coupon is on offer", || compose.logs().contains("A coupon to try is on offer"));
    let welcome = "coupon:{welcome}";
    eventually_true("somebody is let in", || compose.cli(&["COUPON.REQUEST", welcome, "1001"]) == "QUEUED");
    assert_eq!(compose.cli(&["COUPON.WAIT", welcome, "1001", "30000"]), "PERSISTED");
    let (code, page) = http::get(compose.page_port, "/").expect("the page is published");
    assert!(code == 200 && page.contains("<!doctype html>"), "{page}");
    let (code, status) = http::get(compose.page_port, "/status").expect("/status");
    assert!(code == 200 && status.contains("\"welcome\""), "{status}");

    // From this machine: nobody without a password, and each with what is theirs.
    let connect = || Client::connect(compose.redis_port).expect("Redis is published");
    let password = compose.secret("application-password");
    let operator = compose.secret("operator-password");
    expect(
        &mut connect(),
        &[
            ("PING".to_owned(), "-NOAUTH"),
            (format!("AUTH coupon-app {password}"), "+OK"),
            (format!("COUPON.REQUEST {welcome} 1002"), "QUEUED"),
            (format!("COUPON.CLOSE {welcome}"), "-NOPERM"),
            (format!("AUTH operator {operator}"), "+OK"),
            ("CONFIG GET protected-mode".into(), "[protected-mode yes]"),
        ],
    );

    hold_a_sale(&compose, &password);

    // No password where whoever may ask the engine sees it, nor in what the services say.
    let address = compose.run(&["run", "--rm", "-T", "--entrypoint", "cat", "secrets", "/run/secrets/database-url"]);
    let database = address.split([':', '@']).nth(2).expect("a password in the URL").to_owned();
    let containers = compose.run(&["ps", "--quiet"]);
    let inspected = Command::new("docker").arg("inspect").args(containers.split_whitespace()).output().expect("docker");
    let inspected = String::from_utf8_lossy(&inspected.stdout).into_owned() + &compose.logs();
    assert!(inspected.contains("/run/secrets/database-url"));
    for secret in [&password, &operator, &database] {
        assert!(secret.len() >= 32, "{secret}");
        assert!(!inspected.contains(secret.as_str()), "a password is shown");
    }

    tear_and_repair(&compose);

    // Down and up again, as for an upgrade: the data and the passwords stay.
    compose.run(&["down", "--timeout", "20"]);
    compose.run(&["up", "--detach", "--no-build"]);
    eventually_true("it is open again", || compose.cli(&["COUPON.REQUEST", welcome, "1003"]) == "QUEUED");
    assert_eq!(compose.cli(&["COUPON.WAIT", welcome, "1003", "30000"]), "PERSISTED");
    assert_eq!(compose.cli(&["COUPON.STATUS", welcome, "1001"]), "PERSISTED");
    assert_eq!(compose.sql("select count(*) from user_coupon where coupon_id = 'welcome'"), "3");
    assert_eq!(compose.sql("select count(*) from user_coupon where coupon_id = 'sale'"), "1500");
    assert_eq!(compose.secret("application-password"), password);
}
