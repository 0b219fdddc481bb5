//! docs/from-zadd.md: an application of the old pattern moves over, back, and over again, step by step as the page says,
//! while users ask all the time.

use crate::page::Page;
use coupon_tests::artifact;
use coupon_tests::coupon::Stored;
use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::{self, Redis};
use coupon_tests::resp::{Client, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEY: &str = "coupon:42";
const ISSUED: &str = "coupon:42:issued";
/// Of the page's coupon.
const QUANTITY: u64 = 1000;
/// Marks a block of the page that is a step.
const STEP: &str = " step:";
/// The page's user who comes through an instance whose clock is behind.
const INTRUDER: &str = "1007";
/// Where the page has the module.
const MODULE: &str = "/usr/lib/redis/modules/libcoupon.so";
/// Users who ask for the first time between two steps.
const NEW_USERS: u64 = 60;
/// Instances of the application.
const INSTANCES: usize = 3;
/// What an instance waits between two requests, unless it is told something.
const PAUSE: Duration = Duration::from_millis(2);

/// One of the old pattern's application, with the page's steps.
struct Shop {
    page: Page,
    redis: Redis,
    postgres: Postgres,
    directory: tempfile::TempDir,
    /// The steps that were done, each once.
    done: RefCell<Vec<String>>,
}

impl Shop {
    fn open() -> Self {
        let redis = redis_server::Options::shipped().without_module().line("enable-module-command yes").start();
        let postgres = Postgres::start();
        postgres.run(&format!(
            "create table coupon (id bigint primary key, quantity bigint not null, status text not null);
             create table user_coupon (coupon_id bigint references coupon, user_id text, primary key (coupon_id, user_id));
             insert into coupon values (42, {QUANTITY}, 'AVAILABLE')"
        ));
        let directory = tempfile::Builder::new().prefix("coupon-shop-").tempdir().expect("temporary directory");
        Self { page: Page::open("docs/from-zadd.md"), redis, postgres, directory, done: RefCell::default() }
    }

    fn step(&self, name: &str) -> String {
        let mut done = self.done.borrow_mut();
        if done.iter().all(|before| before != name) {
            done.push(name.to_owned());
        }
        self.page.block(STEP, name)
    }

    /// Runs a step in a shell, and hands out what it prints.
    fn shell(&self, name: &str) -> String {
        let text = self.step(name).replace(MODULE, &artifact::module().display().to_string());
        let psql = artifact::postgres_program("psql");
        let programs = psql.parent().expect("a directory").display().to_string();
        let output = Command::new("sh")
            .args(["-euc", &text])
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()))
            .env("REDIS_URL", self.redis.url())
            .env("DATABASE_URL", self.postgres.url())
            .current_dir(&self.directory)
            .output()
            .expect("sh starts");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "step {name}: {printed}{errors}");
        printed
    }

    /// Runs a step in SQL, and hands out its rows.
    fn sql(&self, name: &str) -> Vec<String> {
        self.postgres.rows(&self.step(name))
    }

    fn reconciler(&self) -> Reconciler {
        let url = self.postgres.url().replace("postgres://postgres:", "postgres://ledger:");
        Options::between(&self.redis, &self.postgres)
            .database_url(url)
            .args(&["--key", "coupon:ID"])
            .start()
            .await_ready()
    }

    /// The old pattern's scheduler, once.
    fn schedule(&self) {
        let quantity = self.postgres.value("select quantity from public.coupon where id = 42 and status = 'AVAILABLE'");
        let Ok(quantity) = quantity.parse::<u64>() else { return };
        let users = self.redis.client().run(&format!("ZRANGE {ISSUED} 0 {}", quantity - 1));
        let values: Vec<String> = users.array().iter().map(|user| format!("(42, '{}')", user.text())).collect();
        if !values.is_empty() {
            let values = values.join(", ");
            self.postgres.run(&format!("insert into public.user_coupon values {values} on conflict do nothing"));
        }
        self.postgres.run(
            "update public.coupon set status = 'ISSUED'
             where id = 42 and quantity = (select count(*) from public.user_coupon where coupon_id = 42)",
        );
    }

    fn old_rows(&self) -> BTreeSet<String> {
        self.postgres.rows("select user_id from public.user_coupon where coupon_id = 42").into_iter().collect()
    }

    /// Everybody in the set, in order.
    fn line(&self) -> Vec<String> {
        Stored::read(&mut self.redis.client(), KEY).issued.into_iter().map(|(user, _)| user).collect()
    }

    /// Steps 3 to 6, of which one is another for the second time.
    fn move_over(&self, load: &Load, step: &str) {
        load.between_steps();
        self.sql("stop");
        load.between_steps();
        match self.shell("check").trim_end() {
            "" => {}
            INTRUDER => {
                self.shell("mend");
                assert_eq!(self.shell("check"), "");
            }
            others => panic!("who stands in front of those with a row: {others}"),
        }
        load.between_steps();
        let rows = self.old_rows();
        self.schedule();
        assert_eq!(self.old_rows(), rows, "the scheduler still takes the coupon");
        assert!(self.shell(step).ends_with("OK\n"), "the coupon is not opened");
        load.between_steps();
        assert_eq!(self.shell("stragglers"), "0\n");
        eventually_true("those who had a row have one in the ledger", || {
            self.missing().is_ok_and(|users| users.is_empty())
        });
    }

    /// Who had a row and has none in the ledger, as long as there is one.
    fn missing(&self) -> Result<String, String> {
        self.postgres.try_run(&self.step("missing"))
    }
}

/// Users who ask, through some instances of the application.
struct Load {
    shared: Arc<Shared>,
    instances: Vec<(Sender<String>, JoinHandle<Heard>)>,
}

struct Shared {
    port: u16,
    /// Users who may have asked by now.
    allowed: AtomicU64,
    next: AtomicU64,
    answers: AtomicUsize,
}

/// What users were told.
#[derive(Default)]
struct Heard {
    accepted: BTreeSet<String>,
    sold_out: BTreeSet<String>,
}

impl Load {
    /// All instances add users to the set by themselves.
    fn start(redis: &Redis) -> Self {
        let shared = Shared {
            port: redis.port,
            allowed: AtomicU64::new(NEW_USERS),
            next: AtomicU64::new(0),
            answers: AtomicUsize::new(0),
        };
        let shared = Arc::new(shared);
        let instance = |_| {
            let (sender, receiver) = channel();
            let shared = Arc::clone(&shared);
            (sender, thread::spawn(move || shared.serve(&receiver)))
        };
        Self { instances: (0..INSTANCES).map(instance).collect(), shared }
    }

    /// Replaces one instance after the other by one that runs the script, while the others go on.
    fn roll_out(&self, script: &str) {
        for (instance, _) in &self.instances {
            instance.send(script.to_owned()).expect("the instance runs");
            self.between_steps();
        }
    }

    /// Waits until all who were let in so far have their answer, and lets in new users, who ask while the next step is done.
    fn between_steps(&self) {
        let answers = self.shared.answers.load(Ordering::SeqCst);
        eventually_true("users are answered", || {
            assert!(self.instances.iter().all(|(_, instance)| !instance.is_finished()), "an instance has ended");
            self.shared.next.load(Ordering::SeqCst) >= self.shared.allowed.load(Ordering::SeqCst)
                && self.shared.answers.load(Ordering::SeqCst) > answers + 2 * INSTANCES
        });
        self.shared.allowed.fetch_add(NEW_USERS, Ordering::SeqCst);
    }

    fn stop(self) -> Heard {
        let mut all = Heard::default();
        for (instance, thread) in self.instances {
            drop(instance);
            let heard = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.accepted.extend(heard.accepted);
            all.sold_out.extend(heard.sold_out);
        }
        all
    }
}

impl Shared {
    /// An instance: by `ZADD` until it is given a script. Each user asks once, and some again.
    fn serve(&self, scripts: &Receiver<String>) -> Heard {
        let mut client = Client::connect(self.port).expect("redis-server answers");
        let mut script: Option<String> = None;
        let mut heard = Heard::default();
        loop {
            match scripts.recv_timeout(PAUSE) {
                Ok(new) => script = Some(new),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return heard,
            }
            if let Some(user) = self.new_user() {
                match &*ask(&mut client, script.as_deref(), &user) {
                    "QUEUED" => assert!(heard.accepted.insert(user)),
                    "SOLDOUT" => assert!(heard.sold_out.insert(user)),
                    other => panic!("{user}, who is new, was told {other}"),
                }
            } else if let Some(user) = heard.accepted.first() {
                assert_eq!(ask(&mut client, script.as_deref(), user), "DUPLICATE", "{user}, who is in");
            }
            self.answers.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn new_user(&self) -> Option<String> {
        let allowed = self.allowed.load(Ordering::SeqCst);
        let next =
            self.next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| (next < allowed).then_some(next + 1));
        next.ok().map(|user| format!("u{user}"))
    }
}

fn ask(client: &mut Client, script: Option<&str>, user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis().to_string();
    match script {
        Some(script) => client.call(&["EVAL", script, "2", KEY, ISSUED, user, &now]).to_string(),
        None => match client.call(&["ZADD", ISSUED, "NX", &now, user]) {
            Value::Int(1) => "QUEUED".into(),
            Value::Int(0) => "DUPLICATE".into(),
            other => other.to_string(),
        },
    }
}

#[test]
fn a_running_sale_moves_over_and_back_and_over_again() {
    let shop = Shop::open();
    let load = Load::start(&shop.redis);
    load.between_steps();
    shop.schedule();
    let first_rows = shop.old_rows();
    assert!(first_rows.len() as u64 >= NEW_USERS, "{first_rows:?}");
    shop.redis.client().run(&format!("ZADD {ISSUED} NX 1700000000000 {INTRUDER}"));

    assert_eq!(shop.shell("module"), "OK\n");
    load.between_steps();
    shop.sql("schema");
    let reconciler = shop.reconciler();
    load.roll_out(&shop.step("request"));
    shop.move_over(&load, "move");
    shop.sql("view");
    let both = || shop.postgres.value("select count(*) >= 2 from user_coupon_of_both where user_id in ('u0', 'u1')");
    assert_eq!(both(), "t");

    drop(reconciler);
    load.between_steps();
    let (line, granted) = (shop.line(), ledger_users(&shop));
    assert!(granted.len() > first_rows.len(), "nobody was granted after the move");
    shop.shell("back-in-redis");
    load.between_steps();
    shop.sql("back-in-postgres");
    assert_eq!(shop.line()[..line.len()], line, "the line is another");
    assert_eq!(shop.old_rows(), granted.into_iter().collect(), "the rows are not those of the ledger");
    let reconciler = shop.reconciler();
    load.between_steps();
    shop.schedule();
    assert_eq!(shop.postgres.value("select count(*) from ledger.coupon"), "0", "the reconciler takes it back");

    shop.move_over(&load, "move-again");
    let rows = || {
        shop.postgres.value(
            "select status, granted from ledger.coupon join ledger.coupon_position on coupon_id = id where id = '42'",
        )
    };
    eventually_true("all units are rows", || {
        load.between_steps();
        rows() == format!("ISSUED|{QUANTITY}")
    });
    eventually_true("somebody is turned away", || {
        load.between_steps();
        shop.redis.client().run(&format!("ZCARD {ISSUED}")).int() as u64 == QUANTITY + 100
    });
    load.between_steps();
    let heard = load.stop();
    let line = shop.line();
    let mut accepted = heard.accepted;
    accepted.insert(INTRUDER.into());
    assert_eq!(line.iter().cloned().collect::<BTreeSet<_>>(), accepted, "who was accepted is who stands in the line");
    assert!(!heard.sold_out.is_empty());
    assert_eq!(
        shop.postgres.value("select count(*) from ledger.user_coupon where requested_at < now() - interval '1 hour'"),
        "0",
        "a row with a time in another unit"
    );
    let granted = ledger_users(&shop);
    assert_eq!(granted, line[..QUANTITY as usize], "the units went to the first in line");
    assert!(shop.old_rows().is_subset(&granted.into_iter().collect()));
    assert_eq!(*shop.done.borrow(), shop.page.names(STEP), "the steps, in the page's order");
    drop(reconciler);
}

/// Users of the ledger's rows, in order.
fn ledger_users(shop: &Shop) -> Vec<String> {
    shop.postgres.rows("select user_id from ledger.user_coupon where coupon_id = '42' order by seq")
}
