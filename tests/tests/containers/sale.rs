//! A sale with each image on one network, put together by hand from what docs/operations.md says.

use crate::shipped::{Files, SECRETS, Shipped, image, unique};
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::http;
use coupon_tests::resp::{Client, expect};
use testcontainers::ImageExt;
use testcontainers::core::IntoContainerPort;

/// Never to be seen where a container is described.
const PASSWORD: &str = "hunter2-containers";

/// PostgreSQL, Redis or Valkey, and the reconciler.
struct Stack {
    // Dropped in this order: the reconciler has nobody to complain about.
    reconciler: Shipped,
    redis: Shipped,
    postgres: Shipped,
    _secrets: Files,
}

impl Stack {
    fn start(server: &str) -> Self {
        let (network, redis, postgres) = (unique("net"), unique(server), unique("postgres"));
        let recipe = |user: &str| {
            let shipped = include_str!("../../../redis.conf");
            let line = shipped.lines().find_map(|line| line.strip_prefix(&format!("# user {user} on >CHANGE-ME ")));
            format!("user {user} on >{PASSWORD} {}\n", line.expect("redis.conf proposes the user"))
        };
        let users = format!("user default off ~* &* +@all\n{}{}", recipe("coupon-app"), recipe("coupon-reconciler"));
        let secrets = Files::new(&[
            ("users.conf", &users),
            ("postgres-password", PASSWORD),
            ("redis-url", &format!("redis://coupon-reconciler:{PASSWORD}@{redis}:6379\n")),
            ("database-url", &format!("postgres://coupon:{PASSWORD}@{postgres}:5432/coupon\n")),
        ]);
        let container = |name: &str, image_name: &str| {
            image(image_name).with_container_name(name).with_network(&network).with_mount(secrets.mount(SECRETS))
        };
        Self {
            postgres: Shipped::start(
                container(&postgres, "official-postgres")
                    .with_env_var("POSTGRES_USER", "coupon")
                    .with_env_var("POSTGRES_DB", "coupon")
                    .with_env_var("POSTGRES_PASSWORD_FILE", format!("{SECRETS}/postgres-password")),
            ),
            redis: Shipped::start(container(&redis, server)),
            reconciler: Shipped::start(
                container(&unique("reconciler"), "reconciler")
                    .with_env_var("REDIS_URL_FILE", format!("{SECRETS}/redis-url"))
                    .with_env_var("DATABASE_URL_FILE", format!("{SECRETS}/database-url"))
                    // On the same port of this machine in all its lives.
                    .with_mapped_port(coupon_tests::port::free(), 9187.tcp()),
            ),
            _secrets: secrets,
        }
    }

    /// A connection of the application's.
    fn application(&self) -> Client {
        let mut client = self.redis.client();
        expect(&mut client, &[(format!("AUTH coupon-app {PASSWORD}"), "+OK")]);
        client
    }

    fn sql(&self, statement: &str) -> String {
        let url = format!("postgres://coupon:{PASSWORD}@127.0.0.1/coupon");
        let (code, said) = self.postgres.exec(&["psql", "-XAt", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", statement]);
        assert_eq!(code, 0, "{statement}\n{said}");
        said
    }
}

fn request(client: &mut Client, users: std::ops::Range<u32>) {
    for user in users {
        let line = format!("COUPON.REQUEST coupon:{{42}} {user}");
        eventually(&line, || match client.run(&line).to_string() {
            said if ["-TRYAGAIN", "-NOCOUPON", "-LOADING"].iter().any(|word| said.starts_with(word)) => None,
            said => {
                assert_eq!(said, "QUEUED");
                Some(())
            }
        });
    }
}

fn holds_a_sale(server: &str) {
    let stack = Stack::start(server);
    stack.reconciler.await_health("healthy");
    stack.sql("insert into coupon (id, name, quantity, status) values ('42', 'Opening sale', 30, 'AVAILABLE')");
    request(&mut stack.application(), 0..20);
    eventually_true("20 rows", || stack.sql("select count(*) from user_coupon") == "20");

    // As after a host's restart: the server comes back with everything, and grants again once it was compared.
    assert_eq!(stack.redis.stop(), 0);
    eventually_true("the reconciler misses Redis", || !matches!(page(&stack, "/readyz"), Ok((200, _))));
    stack.redis.start_again();
    request(&mut stack.application(), 20..30);
    eventually_true("30 rows", || stack.sql("select count(*) from user_coupon") == "30");
    assert_eq!(stack.sql("select string_agg(user_id, ' ' order by seq) from user_coupon where seq > 28"), "28 29");
    expect(&mut stack.application(), &[("COUPON.STATUS coupon:{42} 7", "PERSISTED")]);
    stack.reconciler.await_health("healthy");
    assert!(page(&stack, "/").is_ok_and(|(code, html)| code == 200 && html.contains("<!doctype html>")));

    for (name, container) in
        [("Redis", &stack.redis), ("PostgreSQL", &stack.postgres), ("reconciler", &stack.reconciler)]
    {
        let described = serde_json::to_string(&container.inspect()).expect("JSON");
        assert!(described.contains(SECRETS), "{name}: {described}");
        assert!(!described.contains(PASSWORD), "{name} shows a password to whoever may inspect it: {described}");
        assert!(!container.log().contains(PASSWORD), "{name} logs a password");
    }
    assert_eq!(stack.reconciler.stop(), 0);
}

fn page(stack: &Stack, path: &str) -> std::io::Result<(u16, String)> {
    http::get(stack.reconciler.port(9187), path)
}

#[test]
fn redis_holds_a_sale() {
    holds_a_sale("redis");
}

#[test]
fn valkey_holds_a_sale() {
    holds_a_sale("valkey");
}
