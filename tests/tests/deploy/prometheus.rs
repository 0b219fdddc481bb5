//! The dashboard's questions and the alerts, put to a real Prometheus that watches a real reconciler in a sale.

use crate::dashboard::{expressions, fill_in};
use crate::monitoring::{alerts, folder};
use crate::yaml::{list, text};
use coupon_tests::artifact;
use coupon_tests::deadline::{eventually, eventually_true};
use coupon_tests::http;
use coupon_tests::ledger::await_coupon;
use coupon_tests::port;
use coupon_tests::postgres_server::Postgres;
use coupon_tests::process::{Process, Program};
use coupon_tests::reconciler::{Options, Reconciler};
use coupon_tests::redis_server::Redis;
use coupon_tests::resp::expect;
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// The span of the dashboard's rates; long enough for two looks.
const INTERVAL: &str = "30s";

/// A Prometheus with the shipped settings and alerts, at a quicker pace.
struct Prometheus {
    port: u16,
    // Ended before its directory goes.
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    fn watching(reconciler: &Reconciler) -> Self {
        let directory = tempfile::Builder::new().prefix("coupon-prometheus-").tempdir().expect("temporary directory");
        let shipped = |name: &str| fs::read_to_string(folder().join(name)).expect(name);
        let settings = shipped("prometheus.yml")
            .replace("127.0.0.1:9187", &format!("127.0.0.1:{}", reconciler.listen_port))
            .replace(": 15s", ": 200ms");
        fs::write(directory.path().join("prometheus.yml"), settings).expect("prometheus.yml");
        let alerts = shipped("alerts.yml").replace("for: 1m", "for: 1s");
        fs::write(directory.path().join("alerts.yml"), alerts).expect("alerts.yml");
        let port = port::free();
        let program = Program {
            name: "prometheus",
            file: artifact::on_path("prometheus").expect("prometheus is missing: run `scripts/install.sh prometheus`"),
            args: [
                "--config.file=prometheus.yml".to_owned(),
                "--storage.tsdb.path=data".to_owned(),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ]
            .map(Into::into)
            .into(),
            env: Vec::new(),
            directory: directory.path().to_owned(),
            log: directory.path().join("log"),
            account: None,
        };
        Self { port, _process: program.start(), _directory: directory }
    }

    /// What the API answers; none while it is starting.
    fn get(&self, path: &str) -> Option<Value> {
        let (_, body) = http::get(self.port, path).ok()?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        Some(answer["data"].clone())
    }

    /// The values that answer a question, which may be none.
    fn ask(&self, question: &str) -> Vec<f64> {
        let encoded: String = question.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).unwrap_or_default();
        let values = list(&answer["result"]).map(|series| text(&series["value"][1]).parse());
        values.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {question}: {answer}"))
    }

    fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules").unwrap_or_default();
        list(&answer["groups"]).flat_map(|group| list(&group["rules"])).cloned().collect()
    }

    fn firing(&self) -> Vec<String> {
        let rules = self.rules();
        let firing = rules.iter().filter(|rule| rule["state"] == "firing");
        firing.map(|rule| text(&rule["name"]).to_owned()).collect()
    }
}

#[test]
fn the_dashboard_is_answered_and_the_alerts_follow_what_happens() {
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let reconciler = Options::between(&redis, &postgres).args(&["--audit-interval", "200ms"]).start().await_ready();
    let prometheus = Prometheus::watching(&reconciler);
    // Rates count from the first look on.
    eventually_true("it has looked before the sale", || prometheus.ask("coupon_rows_total") == [0.0]);
    postgres.run(
        "insert into coupon(id, name, quantity, status, mode)
         values ('now', 'Test', 5, 'AVAILABLE', 'INSTANT'), ('later', 'Test', 3, 'AVAILABLE', 'QUEUE')",
    );
    let mut client = redis.client();
    for (id, users, outcome) in [("now", 5, "GRANTED"), ("later", 3, "QUEUED")] {
        for user in 0..users {
            eventually_true("a request is accepted, once the coupon is on offer", || {
                client.run(&format!("COUPON.REQUEST coupon:{{{id}}} u{user}")).to_string() == outcome
            });
        }
        await_coupon(&postgres, id, "granted", &users.to_string());
    }
    for (metric, value) in [("coupon_rows_total", 8.0), ("coupon_issued_total", 3.0), ("coupon_requested", 8.0)] {
        eventually_true(&format!("{metric} is {value}"), || prometheus.ask(metric) == [value]);
    }
    for expression in expressions() {
        let question = fill_in(&expression, INTERVAL);
        let values = eventually(&format!("an answer to: {question}"), || {
            Some(prometheus.ask(&question)).filter(|values| !values.is_empty())
        });
        assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "{question}: {values:?}");
    }
    let rows_per_second = fill_in("sum(rate(coupon_rows_total[$__rate_interval]))", INTERVAL);
    assert!(prometheus.ask(&rows_per_second)[0] > 0.0);

    let rules = eventually("every rule was looked at", || {
        let rules = prometheus.rules();
        (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(rules)
    });
    assert_eq!(rules.len(), alerts().len());
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    eventually_true("nobody is woken for nothing", || prometheus.firing().is_empty());

    postgres.stop();
    expect(&mut client, &[("COUPON.REQUEST coupon:{now} late", "SOLDOUT")]);
    eventually_true("it is said that PostgreSQL is away", || prometheus.firing() == ["CouponSideAway"]);
    postgres.start_again();
    eventually_true("it is over", || prometheus.firing().is_empty());
    postgres.run("update coupon set quantity = 9 where id = 'now'");
    expect(&mut client, &[("DEL coupon:{later}:issued", ":1")]);
    postgres.run("update coupon set quantity = 9 where id = 'later'");
    eventually_true("a coupon that stopped is noticed", || prometheus.firing().contains(&"CouponStopped".to_owned()));
}
