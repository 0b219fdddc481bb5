//! The Grafana dashboard.

use crate::yaml::{list, text};
use coupon_tests::artifact;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// Grafana's grid.
const COLUMNS: u64 = 24;

/// The dashboard.
fn dashboard() -> Value {
    let file = artifact::workspace().join("deploy/grafana/coupon.json");
    serde_json::from_str(&fs::read_to_string(&file).expect("the dashboard")).expect("JSON")
}

/// What it asks Prometheus.
pub fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let targets = list(&dashboard["panels"]).flat_map(|panel| list(&panel["targets"]));
    targets.map(|target| text(&target["expr"]).to_owned()).collect()
}

/// An expression as Grafana sends it, with every job and instance chosen.
pub fn fill_in(expression: &str, interval: &str) -> String {
    let filled = [("$__rate_interval", interval), ("$__range", interval), ("$job", ".*"), ("$instance", ".*")]
        .iter()
        .fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value));
    assert!(!filled.contains('$'), "an unknown variable: {filled}");
    filled
}

#[test]
fn every_panel_has_its_place_and_says_what_it_shows() {
    let dashboard = dashboard();
    let panels: Vec<&Value> = list(&dashboard["panels"]).collect();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in &panels {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "two panels of one id: {panel}");
        assert!(!text(&panel["title"]).is_empty() && !text(&panel["description"]).is_empty(), "{panel}");
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(side("x") + side("w") <= COLUMNS, "{panel}");
        for cell in
            (side("x")..side("x") + side("w")).flat_map(|x| (side("y")..side("y") + side("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert(cell), "{} lies on another", panel["title"]);
        }
        let refs: BTreeSet<&str> = list(&panel["targets"]).map(|target| text(&target["refId"])).collect();
        assert!(!refs.is_empty() && refs.len() == list(&panel["targets"]).count(), "{panel}");
        for target in list(&panel["targets"]).chain([*panel]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
        }
    }
    let width: u64 = panels.iter().map(|panel| panel["gridPos"]["w"].as_u64().unwrap_or_default()).sum();
    assert_eq!(width % COLUMNS, 0, "the rows are filled");
}

#[test]
fn every_variable_is_defined_and_used() {
    let dashboard = dashboard();
    let whole = serde_json::to_string(&dashboard["panels"]).expect("JSON");
    let names: Vec<&str> = list(&dashboard["templating"]["list"]).map(|variable| text(&variable["name"])).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    for name in names {
        assert!(whole.contains(&format!("${name}")) || whole.contains(&format!("${{{name}}}")), "{name}");
    }
    for expression in expressions() {
        fill_in(&expression, "1m");
        assert!(
            expression.contains("job=~\"$job\",instance=~\"$instance\""),
            "{expression} shows all, whatever is chosen"
        );
    }
}
