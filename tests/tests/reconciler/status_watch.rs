//! `status --watch`, through a pipe and on a terminal.

use crate::sale::{await_level, await_open, insert, request, servers};
use coupon_tests::artifact;
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::postgres_server::Postgres;
use coupon_tests::process::{Process, Program};
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use tempfile::TempDir;

/// A `status --watch` whose output goes to a file.
struct Watch {
    process: Process,
    _directory: TempDir,
}

impl Watch {
    fn start(file: PathBuf, args: Vec<OsString>) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let program = Program {
            name: "status --watch",
            file,
            args,
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        Self { process: program.start(), _directory: directory }
    }

    fn piped(reconciler: &Reconciler, args: &[&str]) -> Self {
        let listen = listen(reconciler);
        let args = [&["status", "--watch=0.1", &listen], args].concat();
        Self::start(artifact::reconciler(), args.into_iter().map(Into::into).collect())
    }
}

/// The newest whole table's line of a coupon, in words.
fn newest(text: &str, id: &str) -> Option<Vec<String>> {
    let tables: Vec<&str> = text.split_inclusive("\n\n").filter(|table| table.ends_with("\n\n")).collect();
    let mut lines = tables.last()?.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    lines.find(|words| words.first().is_some_and(|word| word == id))
}

fn listen(reconciler: &Reconciler) -> String {
    format!("--listen=127.0.0.1:{}", reconciler.listen_port)
}

#[test]
fn a_pipe_gets_one_table_after_the_other_until_ctrl_c() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    insert(&postgres, "b", 20, &[("mode", "'INSTANT'")]);
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "200ms"]).start().await_ready();
    let mut client = redis.client();
    await_open(&mut client, "a");
    let mut watch = Watch::piped(&reconciler, &[]);
    let line = eventually("a table", || newest(&watch.process.log(), "a"));
    assert_eq!(line.join(" "), "a AVAILABLE 20 0 0 0 20 0 0 0 open");
    request(&mut client, "a", "u", 0..7);
    eventually("what was granted is shown", || {
        newest(&watch.process.log(), "a").filter(|line| line[3..8] == ["0", "7", "7", "13", "0"])
    });
    // What only the daemon knows.
    expect(&mut client, &[("ZREM coupon:{a}:issued u3", ":1")]);
    eventually("drift and what has stopped", || {
        newest(&watch.process.log(), "a").filter(|line| line[9] == "1" && line.contains(&"stopped:".to_owned()))
    });
    let log = watch.process.log();
    assert!(!log.contains('\x1b'), "a pipe is no screen: {log}");
    assert_eq!(watch.process.end("INT").code(), Some(0));
}

#[test]
fn a_server_that_goes_is_waited_for() {
    let (redis, mut postgres) = servers();
    insert(&postgres, "a", 20, &[("mode", "'INSTANT'")]);
    let mut reconciler = Reconciler::start(&redis, &postgres);
    await_open(&mut redis.client(), "a");
    request(&mut redis.client(), "a", "u", 0..2);
    await_level(&redis, &postgres, "a", 2);
    let mut watch = Watch::piped(&reconciler, &["--json"]);
    let seen = |watch: &Watch| -> Option<Value> {
        let log = watch.process.log();
        let line = log.lines().rev().find(|line| line.starts_with('{'))?;
        serde_json::from_str::<Value>(line).ok()
    };
    let line = eventually("a look at the rows", || seen(&watch).filter(|view| view["coupons"][0]["persisted"] == 2));
    let coupon = &line["coupons"][0];
    assert_eq!((&coupon["id"], &coupon["lag"], &coupon["here"]), (&"a".into(), &0.into(), &true.into()));
    postgres.stop();
    eventually_true("it says so", || {
        seen(&watch).is_some_and(|view| view["postgresql"]["up"] == false && view["coupons"][0]["granted"] == 2)
    });
    postgres.start_again();
    postgres.run("update coupon set quantity = 33 where id = 'a'");
    eventually_true("it sees what changed", || seen(&watch).is_some_and(|view| view["coupons"][0]["quantity"] == 33));
    // The daemon itself.
    reconciler.end("TERM");
    eventually_true("it says whom it waits for", || watch.process.log().contains("no daemon answers on 127.0.0.1:"));
    assert!(watch.process.ended().is_none());
    assert_eq!(watch.process.end("INT").code(), Some(0));
}

#[test]
fn an_end_of_the_pipe_ends_it() {
    let (redis, postgres) = servers();
    insert(&postgres, "a", 20, &[]);
    let reconciler = Reconciler::start(&redis, &postgres);
    let (program, listen) = (artifact::reconciler(), listen(&reconciler));
    let script = format!("{} status --watch=0.1 {listen} | head -n 4 > /dev/null", program.display());
    let args = ["-o", "pipefail", "-c", &script].map(Into::into).to_vec();
    let bash = artifact::on_path("bash").expect("bash is missing: run `apt-get install bash`");
    let mut watch = Watch::start(bash, args);
    assert_eq!(watch.process.wait().code(), Some(0), "{}", watch.process.log());
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_is_drawn_over_and_obeys_no_id() {
    let (redis, postgres) = servers();
    insert(&postgres, "\u{1b}]0;owned\u{7}x", 20, &[]);
    for n in 0..30 {
        insert(&postgres, &format!("c-{n}"), 20, &[]);
    }
    let script = artifact::on_path("script").expect("script(1) is missing: run `apt-get install bsdutils`");
    let reconciler = Reconciler::start(&redis, &postgres);
    eventually_true("all coupons are seen", || {
        String::from_utf8_lossy(&reconciler.status(&[]).stdout).lines().count() == 32
    });
    let (program, listen) = (artifact::reconciler(), listen(&reconciler));
    let run = format!("stty rows 10 cols 60; exec {} status --watch=0.1 {listen}", program.display());
    let args = ["--quiet", "--flush", "--return", "--command", &run, "/dev/null"].map(Into::into).to_vec();
    let watch = Watch::start(script, args);
    let screen = || watch.process.log();
    eventually_true("it is drawn again", || screen().matches("\x1b[H").count() >= 3);
    let drawn = screen().split("\x1b[H").nth(1).unwrap_or_default().to_owned();
    assert!(drawn.contains("… and 25 more"), "what does not fit is counted: {drawn:?}");
    assert!(drawn.lines().count() <= 10, "{drawn:?}");
    assert!(drawn.replace("\x1b[K", "").lines().all(|line| line.trim_end().chars().count() <= 60), "{drawn:?}");
    assert!(!drawn.contains("\x1b]0") && !drawn.contains('\u{7}') && drawn.contains("u{1b}]0;owned"), "{drawn:?}");
}

#[test]
fn the_interval_is_checked() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for bad in ["0", "-1", "soon", "3601", "NaN", "inf"] {
        let output = coupon_tests::reconciler::command(&redis, &postgres, &["status", &format!("--watch={bad}")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("--watch") && said.contains("0.1 to 3600"), "{said}");
    }
}
