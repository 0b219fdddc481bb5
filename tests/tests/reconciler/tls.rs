//! TLS to both servers: what is verified, what is refused, and that the library's own words arrive.

use crate::sale::{await_level, await_open, insert, request};
use coupon_tests::artifact;
use coupon_tests::certificates::{Authority, Certificate};
use coupon_tests::deadline::eventually_true;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::reconciler::{Options, Reconciler, command, command_by, outcome};
use coupon_tests::redis_cluster::Cluster;
use coupon_tests::redis_server::{self, Redis};
use coupon_tests::resp::expect;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The name of loopback that the servers' certificates are for.
const HOST: &str = "localhost";

/// An authority, and both servers with certificates by it.
struct Place {
    authority: Authority,
    redis: Redis,
    postgres: Postgres,
}

impl Place {
    fn start(lines: &[&str]) -> Self {
        let authority = Authority::new();
        let certificate = authority.sign(&[HOST]);
        let options =
            redis_server::Options::shipped().module_args("stream-keep 1000000000").tls(&authority, &certificate);
        let redis = lines.iter().fold(options, |options, line| options.line(*line)).start();
        let postgres = Postgres::start_with_tls(&authority, &certificate);
        assert!(command(&redis, &postgres, &["migrate"]).status.success());
        Self { authority, redis, postgres }
    }

    fn ca(&self) -> &str {
        text(&self.authority.file)
    }

    /// PostgreSQL's URL by a name, with parameters.
    fn database_url(&self, user: &str, host: &str, parameters: &str) -> String {
        format!("postgres://{user}@{host}:{}/postgres?{parameters}", self.postgres.port)
    }

    fn verified(&self) -> String {
        self.database_url("by_tls", HOST, &format!("sslmode=verify-full&sslrootcert={}", self.ca()))
    }

    fn reconciler(&self, redis_url: String, args: &[&str]) -> Reconciler {
        Options::between(&self.redis, &self.postgres)
            .redis_url(redis_url)
            .database_url(self.verified())
            .args(args)
            .start()
            .await_ready()
    }

    /// What `check` says of these settings, and whether it is content.
    fn check(&self, redis_url: &str, database_url: &str, args: &[&str]) -> (bool, String) {
        outcome(&command_by(redis_url, database_url, &[&["check"], args].concat()))
    }

    /// Grants become rows.
    fn assert_works(&self) {
        insert(&self.postgres, "a", 1_000, &[("mode", "'INSTANT'")]);
        let mut client = self.redis.client();
        await_open(&mut client, "a");
        request(&mut client, "a", "u", 0..100);
        await_level(&self.redis, &self.postgres, "a", 100);
    }
}

fn text(file: &Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}

/// The arguments that show a certificate to Redis.
fn shown(certificate: &Certificate) -> [&str; 4] {
    ["--redis-tls-cert", text(&certificate.file), "--redis-tls-key", text(&certificate.key)]
}

#[track_caller]
fn assert_says((is_content, said): (bool, String), is_expected: bool, parts: &[&str]) {
    assert_eq!(is_content, is_expected, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
}

#[test]
fn grants_become_rows_by_tls_on_both_sides() {
    let place = Place::start(&[]);
    let url = place.redis.tls_url(HOST);
    let mut reconciler = place.reconciler(url.clone(), &["--redis-tls-ca", place.ca()]);
    place.assert_works();
    let connections = place.postgres.rows(
        "select distinct ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'coupon-reconciler'",
    );
    assert_eq!(connections, ["t"], "all of its connections to PostgreSQL have TLS");
    let redis_clients = place.redis.client().run("CLIENT LIST").text().to_owned();
    let plain = format!("laddr=127.0.0.1:{}", place.redis.port);
    let of_test = redis_clients.lines().filter(|line| line.contains(&plain)).count();
    assert_eq!(of_test, 1, "only this test's own connection is without TLS: {redis_clients}");

    assert_says(
        place.check(&url, &place.verified(), &["--redis-tls-ca", place.ca()]),
        true,
        &[&format!("connected to localhost:{}, by TLS", place.redis.tls_port.unwrap_or(0)), "connected by TLSv1.3"],
    );
    // A connection that breaks comes back, and with TLS again.
    expect(
        &mut place.redis.client(),
        &[("CLIENT KILL TYPE normal SKIPME yes", ":1"), ("CLIENT KILL TYPE pubsub", ":1")],
    );
    let mut client = place.redis.client();
    await_open(&mut client, "a");
    request(&mut client, "a", "v", 0..10);
    await_level(&place.redis, &place.postgres, "a", 110);
    assert!(reconciler.is_alive());
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    let place = Place::start(&["tls-auth-clients yes"]);
    let url = place.redis.tls_url(HOST);
    let own = place.authority.sign(&["by_certificate"]);
    let args = [&["--redis-tls-ca", place.ca()][..], &shown(&own)].concat();
    let database = place.database_url(
        "by_certificate",
        HOST,
        &format!(
            "sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            place.ca(),
            text(&own.file),
            text(&own.key)
        ),
    );
    let _reconciler = Options::between(&place.redis, &place.postgres)
        .redis_url(url.clone())
        .database_url(database.clone())
        .args(&args)
        .start()
        .await_ready();
    place.assert_works();
    assert_says(place.check(&url, &database, &args), true, &["by TLS", "by TLSv1.3"]);

    let without = place.check(&url, &database, &["--redis-tls-ca", place.ca()]);
    assert_says(without, false, &["FAIL  redis", "CertificateRequired"]);
    let other = Authority::new();
    let stranger = other.sign(&["by_certificate"]);
    let args = [&["--redis-tls-ca", place.ca()][..], &shown(&stranger)].concat();
    assert_says(place.check(&url, &database, &args), false, &["FAIL  redis", "UnknownCA"]);
    let verified = format!("sslmode=verify-full&sslrootcert={}", place.ca());
    let without = place.check(&url, &place.database_url("by_certificate", HOST, &verified), &args);
    assert_says(without, false, &["FAIL  postgresql", "requires a valid client certificate"]);
}

#[test]
fn a_certificate_that_proves_nothing_is_refused_with_the_reason() {
    let place = Place::start(&[]);
    let stranger = Authority::new();
    let (url, database) = (place.redis.tls_url(HOST), place.verified());
    let ca = ["--redis-tls-ca", place.ca()];
    // Another CA, or only the system's, has not signed it.
    let wrong_ca = place.check(&url, &database, &["--redis-tls-ca", text(&stranger.file)]);
    assert_says(wrong_ca, false, &["FAIL  redis", "UnknownIssuer"]);
    assert_says(place.check(&url, &database, &[]), false, &["FAIL  redis", "UnknownIssuer"]);
    let system = Command::new(artifact::reconciler())
        .args([
            "check",
            "--redis-url",
            &url,
            "--database-url",
            &place.database_url("by_tls", HOST, "sslmode=verify-full"),
        ])
        .env("SSL_CERT_FILE", place.ca())
        .output();
    let system = outcome(&system.expect("check can be started"));
    assert_says(system, true, &["by TLS", "by TLSv1.3"]);
    let (namesake, same_name) = (Authority::called("One CA"), Authority::called("One CA"));
    let signed = redis_server::Options::shipped().tls(&namesake, &namesake.sign(&[HOST])).start();
    let not_it = place.check(&signed.tls_url(HOST), &database, &["--redis-tls-ca", text(&same_name.file)]);
    assert_says(not_it, false, &["FAIL  redis", "BadSignature"]);
    let wrong_ca = format!("sslmode=verify-full&sslrootcert={}", text(&stranger.file));
    let wrong_ca = place.check(&url, &place.database_url("by_tls", HOST, &wrong_ca), &ca);
    assert_says(wrong_ca, false, &["ok    redis", "FAIL  postgresql", "UnknownIssuer"]);
    // It is for another name.
    let by_address = place.check(&place.redis.tls_url("127.0.0.1"), &database, &ca);
    assert_says(by_address, false, &["FAIL  redis", "not valid for name \"127.0.0.1\""]);
    let verified = |mode: &str| format!("sslmode={mode}&sslrootcert={}", place.ca());
    let by_address = place.check(&url, &place.database_url("by_tls", "127.0.0.1", &verified("verify-full")), &ca);
    assert_says(by_address, false, &["FAIL  postgresql", "not valid for name \"127.0.0.1\""]);
    // Less was asked for.
    for mode in ["verify-ca", "require", "prefer"] {
        let said = place.check(&url, &place.database_url("by_tls", "127.0.0.1", &verified(mode)), &ca);
        assert_says(said, true, &["by TLSv1.3"]);
    }
    // A CA that is asked for is asked, as libpq does.
    let required = place.database_url("by_tls", HOST, &format!("sslmode=require&sslrootcert={}", text(&stranger.file)));
    assert_says(place.check(&url, &required, &ca), false, &["FAIL  postgresql", "UnknownIssuer"]);
}

#[test]
fn both_ends_have_to_agree_on_tls() {
    let place = Place::start(&[]);
    let ca = ["--redis-tls-ca", place.ca()];
    let (url, database) = (place.redis.tls_url(HOST), place.verified());
    let no_tls = place.check(&format!("rediss://{HOST}:{}", place.redis.port), &database, &ca);
    assert_says(no_tls, false, &["FAIL  redis: cannot be reached"]);
    let tls = place.check(&format!("redis://{HOST}:{}", place.redis.tls_port.unwrap_or(0)), &database, &[]);
    assert_says(tls, false, &["FAIL  redis: cannot be reached"]);
    // by_tls is let in by TLS alone.
    let no_tls = place.check(&url, &place.database_url("by_tls", HOST, "sslmode=disable"), &ca);
    assert_says(no_tls, false, &["FAIL  postgresql", "pg_hba.conf"]);
    let without = Postgres::start();
    let no_tls = place.check(&url, &format!("{}?sslmode=require", without.url()), &ca);
    assert_says(no_tls, false, &["FAIL  postgresql", "does not support TLS"]);
    let plain = place.check(&place.redis.url(), &format!("{}?sslmode=disable", place.postgres.url()), &[]);
    assert_says(plain, true, &["redis: connected to 127.0.0.1", "without TLS", "postgresql: connected without TLS"]);
}

#[test]
fn settings_that_cannot_be_are_refused_by_name_before_anything_is_connected() {
    let (redis, postgres) = (format!("rediss://{HOST}:1"), format!("postgres://{HOST}:1/shop"));
    let authority = Authority::new();
    let one = authority.sign(&["one"]);
    let (ca, cert, key) = (text(&authority.file), text(&one.file), text(&one.key));
    let with = |parameters: &str| format!("{postgres}?{parameters}");
    for (redis, database, args, parts) in [
        (&*redis, postgres.clone(), &["--redis-tls-cert", cert][..], &["--redis-tls-cert", "--redis-tls-key"][..]),
        (&redis, postgres.clone(), &["--redis-tls-key", key], &["--redis-tls-key", "--redis-tls-cert"]),
        (&format!("redis://{HOST}:1"), postgres.clone(), &["--redis-tls-ca", ca], &["--redis-tls-ca", "rediss://"]),
        (&format!("{redis}#insecure"), postgres.clone(), &[], &["--redis-url", "#insecure", "--redis-tls-ca"]),
        (&redis, with("sslmode=verify_full"), &[], &["--database-url", "sslmode", "verify_full"]),
        (&redis, with("sslmode=verify-full&sslcrl=x"), &[], &["--database-url", "sslcrl is not known"]),
        (&redis, with("sslrootcert=/no/such/file"), &[], &["sslrootcert /no/such/file", "No such file"]),
        (&redis, with("sslcert=/no/such/file&sslkey=/no"), &[], &["sslcert /no/such/file", "No such file"]),
    ] {
        let output = command_by(redis, &database, &[&["check"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{redis} {database} {args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{part} is missing for {redis} {database} {args:?}: {said}");
        }
    }
    let mut from_environment = Command::new(artifact::reconciler());
    let output = from_environment.args(["migrate", "--database-url", &postgres]).env("PGSSLMODE", "verify").output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("PGSSLMODE") && said.contains("\"verify\""), "{said}");
}

#[test]
fn a_file_that_is_of_no_use_is_told_when_it_is_connected() {
    let place = Place::start(&[]);
    let (url, verified) = (place.redis.tls_url(HOST), place.verified());
    let (one, other) = (place.authority.sign(&["one"]), place.authority.sign(&["other"]));
    let (ca, cert, key, other) = (place.ca(), text(&one.file), text(&one.key), text(&other.key));
    let garbage = place.redis.directory().join("garbage.pem");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n").expect("a file");
    let garbage = text(&garbage);
    for (args, parts) in [
        (
            &["--redis-tls-ca", "/no/such/file"][..],
            &["FAIL  redis", "--redis-tls-ca /no/such/file", "No such file"][..],
        ),
        (&["--redis-tls-ca", garbage], &["FAIL  redis", "root certificate"]),
        (&["--redis-tls-ca", ca, "--redis-tls-cert", garbage, "--redis-tls-key", key], &["client certificate"]),
        (&["--redis-tls-ca", ca, "--redis-tls-cert", cert, "--redis-tls-key", cert], &["private key"]),
        (&["--redis-tls-ca", ca, "--redis-tls-cert", cert, "--redis-tls-key", other], &["FAIL  redis", "KeyMismatch"]),
    ] {
        assert_says(place.check(&url, &verified, args), false, parts);
    }
    for (parameters, parts) in [
        (format!("sslrootcert={garbage}"), &["FAIL  postgresql", garbage][..]),
        (format!("sslrootcert={ca}&sslcert={cert}"), &["FAIL  postgresql", "key and certs must be given together"]),
        (format!("sslrootcert={ca}&sslcert={cert}&sslkey={other}"), &["FAIL  postgresql", "KeyMismatch"]),
    ] {
        let database = place.database_url("by_tls", HOST, &format!("sslmode=verify-full&{parameters}"));
        assert_says(place.check(&url, &database, &["--redis-tls-ca", ca]), false, parts);
    }
}

#[test]
fn renewed_certificates_count_without_a_restart_and_no_key_is_logged() {
    let place = Place::start(&["tls-auth-clients yes"]);
    let own = place.authority.sign(&["reconciler"]);
    let file = |name: &str| place.redis.directory().join(name);
    let (cert, key) = (file("own.pem"), file("own.key"));
    let put = |from: &Certificate| {
        fs::copy(&from.file, &cert).expect("a file");
        fs::copy(&from.key, &key).expect("a file");
    };
    put(&own);
    let args = [
        "--log",
        "debug",
        "--redis-tls-ca",
        place.ca(),
        "--redis-tls-cert",
        text(&cert),
        "--redis-tls-key",
        text(&key),
    ];
    let reconciler = place.reconciler(place.redis.tls_url(HOST), &args);
    place.assert_works();
    // Redis trusts another CA from now on, and so a certificate by the first one is worth nothing.
    let next = Authority::new();
    let mut client = place.redis.client();
    let trust = format!("CONFIG SET tls-ca-cert-file {}", next.file.display());
    expect(&mut client, &[(&*trust, "+OK"), ("CLIENT KILL TYPE normal SKIPME yes", ":1")]);
    reconciler.await_log("waiting for Redis");
    let renewed = next.sign(&["reconciler"]);
    put(&renewed);
    eventually_true("it is connected again", || reconciler.is_ready());
    request(&mut client, "a", "v", 0..10);
    await_level(&place.redis, &place.postgres, "a", 110);
    let log = reconciler.log();
    for certificate in [&own, &renewed] {
        let key = fs::read_to_string(&certificate.key).expect("a key");
        for line in key.lines().filter(|line| !line.starts_with("-----")) {
            assert!(!log.contains(line), "a key is in the log: {log}");
        }
    }
}

#[test]
fn a_cluster_is_followed_by_tls() {
    let authority = Authority::new();
    let certificate = authority.sign(&[HOST]);
    let cluster = Cluster::start_with(3, |options| {
        options
            .tls(&authority, &certificate)
            .line("tls-cluster yes")
            .line("tls-replication yes")
            .line("cluster-announce-hostname localhost")
            .line("cluster-preferred-endpoint-type hostname")
    });
    let postgres = Postgres::start();
    let nodes: Vec<String> = cluster.primaries.iter().map(|node| node.tls_url(HOST)).collect();
    let url = nodes.join(",").replacen("rediss://", "rediss-cluster://", 1).replace(",rediss://", ",");
    let _reconciler = Options::between(&cluster.primaries[0], &postgres)
        .redis_url(url.clone())
        .args(&["--redis-tls-ca", text(&authority.file)])
        .start()
        .await_ready();
    for (ca, is_expected, what) in
        [(&authority, true, "connected to localhost"), (&Authority::new(), false, "UnknownIssuer")]
    {
        let check = command_by(&url, &postgres.url(), &["check", "--redis-tls-ca", text(&ca.file)]);
        assert_says(outcome(&check), is_expected, &[what]);
    }
    let mut client = cluster.client();
    for coupon in 0..6 {
        let key = format!("coupon:{{{coupon}}}");
        insert(&postgres, &coupon.to_string(), 10, &[("mode", "'INSTANT'")]);
        eventually_true("the coupon is open", || {
            client.run(&format!("COUPON.REQUEST {key} u")).to_string() == "GRANTED"
        });
        eventually_true("the grant is a row", || {
            client.run(&format!("COUPON.STATUS {key} u")).to_string() == "PERSISTED"
        });
    }
    assert_eq!(postgres.value("select count(*) from user_coupon where seq = 1"), "6");
}
