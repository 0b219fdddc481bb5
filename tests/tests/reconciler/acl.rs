//! The reconciler as the user that redis.conf proposes for it.

use coupon_tests::artifact::workspace;
use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::Options;
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;

#[test]
fn the_proposed_user_suffices_for_a_sale() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut client = redis.client();
    let conf = std::fs::read_to_string(workspace().join("redis.conf")).expect("redis.conf");
    let user = conf.lines().find_map(|line| line.strip_prefix("# user coupon-reconciler ")).expect("a proposal");
    expect(&mut client, &[(format!("ACL SETUSER coupon-reconciler {user}"), "+OK")]);
    let url = format!("redis://coupon-reconciler:CHANGE-ME@127.0.0.1:{}", redis.port);
    let reconciler = Options::between(&redis, &postgres).redis_url(url.clone()).start().await_ready();
    postgres.run("insert into coupon (id, name, quantity, status) values ('1', 'one', 5, 'AVAILABLE')");
    eventually_true("the coupon is open", || client.run("COUPON.REQUEST coupon:{1} a").to_string() == "QUEUED");
    eventually_true("the grant is a row", || client.run("COUPON.STATUS coupon:{1} a").to_string() == "PERSISTED");
    // A Redis that has lost everything is restored by it as well.
    expect(&mut client, &[("FLUSHALL", "+OK")]);
    eventually_true("the grant is back", || client.run("COUPON.STATUS coupon:{1} a").to_string() == "PERSISTED");
    assert!(!reconciler.log().contains("NOPERM"), "{}", reconciler.log());
    drop(reconciler);

    let check = std::process::Command::new(coupon_tests::artifact::reconciler())
        .args(["check", "--redis-url", &url, "--database-url", &postgres.url()])
        .output()
        .expect("check can be started");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && said.contains("permissions are complete"), "{said}");
}
