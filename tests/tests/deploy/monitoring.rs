//! The alerts, as promtool judges them, and that each is about something there is.

use crate::dashboard;
use crate::yaml::{self, list, text};
use coupon_tests::artifact;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The folder.
pub fn folder() -> PathBuf {
    artifact::workspace().join("deploy/prometheus")
}

/// The rules.
pub fn alerts() -> Vec<Value> {
    let [file] = &yaml::read(&folder().join("alerts.yml"))[..] else { panic!("alerts.yml is one document") };
    list(&file["groups"]).flat_map(|group| list(&group["rules"])).cloned().collect()
}

/// The reconciler's metrics in an expression.
pub fn metrics(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("coupon_")).collect()
}

/// The metrics that docs/operations.md explains, which are those that there are: a unit test holds both to each other.
fn explained() -> BTreeSet<String> {
    let page = fs::read_to_string(artifact::workspace().join("docs/operations.md")).expect("docs/operations.md");
    let section = page.split("\n## Metrics\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the metrics");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    cells.flat_map(metrics).map(str::to_owned).collect()
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool").args(args).current_dir(folder()).output();
    let output = output.expect("promtool is missing: run `scripts/install.sh prometheus`");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {}: {}", args.join(" "), String::from_utf8_lossy(&said));
}

#[test]
fn promtool_takes_settings_and_rules() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "alerts.yml"]);
}

#[test]
fn each_alert_fires_when_it_has_to_and_not_otherwise() {
    promtool(&["test", "rules", "alerts_test.yml"]);
    let [tests] = &yaml::read(&folder().join("alerts_test.yml"))[..] else { panic!("alerts_test.yml is one document") };
    let cases: Vec<&Value> = list(&tests["tests"]).flat_map(|test| list(&test["alert_rule_test"])).collect();
    for alert in alerts() {
        let name = &alert["alert"];
        let expected =
            cases.iter().filter(|case| case["alertname"] == *name).map(|case| list(&case["exp_alerts"]).count());
        let (quiet, firing): (Vec<usize>, Vec<usize>) = expected.partition(|alerts| *alerts == 0);
        assert!(!firing.is_empty() && !quiet.is_empty(), "{name} needs a case in which it fires, and one in which not");
    }
}

#[test]
fn each_alert_says_what_to_do_and_where_that_is_explained() {
    let page = fs::read_to_string(artifact::workspace().join("docs/operations.md")).expect("docs/operations.md");
    let section = page.split("\n## Alerts\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the alerts");
    let explained: BTreeSet<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts = alerts();
    assert_eq!(explained, alerts.iter().map(|alert| text(&alert["alert"])).collect(), "as docs/operations.md has it");
    for alert in &alerts {
        let annotations = &alert["annotations"];
        for name in ["summary", "description"] {
            assert!(!text(&annotations[name]).is_empty(), "{alert} has no {name}");
        }
        let anchor = text(&alert["alert"]).to_lowercase();
        assert_eq!(annotations["runbook"], format!("docs/operations.md#{anchor}"));
        assert!(["critical", "warning"].contains(&text(&alert["labels"]["severity"])), "{alert}");
    }
}

#[test]
fn every_metric_is_watched_and_every_metric_watched_is_one() {
    let explained = explained();
    let alerts = alerts();
    let expressions = dashboard::expressions();
    let watched: BTreeSet<&str> = alerts
        .iter()
        .map(|alert| text(&alert["expr"]))
        .chain(expressions.iter().map(String::as_str))
        .flat_map(metrics)
        .collect();
    assert_eq!(watched, explained.iter().map(String::as_str).collect());
}
