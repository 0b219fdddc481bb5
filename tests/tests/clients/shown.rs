//! docs/clients.md: each program takes a coupon from nothing to a row, prints what the page says, and bears a restart.

use crate::go_toolchain;
use crate::page::Page;
use crate::program::{PAGE, RUN, Shown};
use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command};
use coupon_tests::redis_server::Redis;

/// The coupon of the page.
const COUPON: &str = "coupon:{42}";

fn servers() -> (Redis, Postgres) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let migrated = command(&redis, &postgres, &["migrate"]);
    assert!(migrated.status.success(), "migrate: {}", String::from_utf8_lossy(&migrated.stderr));
    (redis, postgres)
}

/// How often REQUEST has been refused since the server started.
fn refused_requests(redis: &Redis) -> u64 {
    let stats = redis.client().run("INFO commandstats").text().to_owned();
    let of_request = stats.lines().find_map(|line| line.strip_prefix("cmdstat_coupon.request:"));
    let refused = of_request.and_then(|stat| stat.split(',').find_map(|part| part.strip_prefix("failed_calls=")));
    refused.map_or(0, |count| count.parse().expect("a number"))
}

fn prints_what_the_page_says(name: &'static str) {
    let (redis, postgres) = servers();
    // Slow enough for a WAIT to outlast a client's hasty timeout.
    let _reconciler = Options::between(&redis, &postgres).issue_interval("2s").start().await_ready();
    Shown::on_the_page(name).start(&redis).assert_printed();
    assert_eq!(postgres.value("select user_id from user_coupon where coupon_id = '42' and seq = 1"), "1001");
}

/// The coupon is fenced, until the reconciler comes back too.
fn bears_a_restart(name: &'static str) {
    let (mut redis, postgres) = servers();
    let reconciler = Reconciler::start(&redis, &postgres);
    postgres.run("insert into coupon (id, name, quantity, status) values ('42', 'Test', 2, 'AVAILABLE')");
    let fence = |redis: &Redis| {
        let info = redis.client().run(&format!("COUPON.INFO {COUPON}"));
        (!info.is_error()).then(|| info.field("fenced").int())
    };
    eventually_true("the coupon is open", || fence(&redis) == Some(0));
    drop(reconciler);
    redis.stop();
    redis.start_again();
    assert_eq!(fence(&redis), Some(1));
    let program = Shown::on_the_page(name).start(&redis);
    eventually_true("the program asks again", || refused_requests(&redis) >= 2);
    let _reconciler = Reconciler::start(&redis, &postgres);
    program.assert_printed();
}

macro_rules! programs {
    ($($module:ident: $name:literal),+ $(,)?) => {
        const PROGRAMS: &[&str] = &[$($name),+];
        $(mod $module {
            #[test]
            fn prints_what_the_page_says() {
                if super::can_be_run($name) {
                    super::prints_what_the_page_says($name);
                }
            }

            #[test]
            fn bears_a_restart() {
                if super::can_be_run($name) {
                    super::bears_a_restart($name);
                }
            }
        })+
    };
}

programs! {
    redis_cli: "redis-cli",
    python: "python",
    node_redis: "node-redis",
    ioredis: "ioredis",
    rust: "rust",
    go: "go",
    jedis: "jedis",
}

/// Go's client is fetched from where it may be gone one day.
fn can_be_run(name: &str) -> bool {
    name != "go" || go_toolchain::is_installed()
}

#[test]
fn every_program_that_the_page_says_is_run_is_run() {
    assert_eq!(Page::open(PAGE).names(RUN), PROGRAMS);
}
