//! The manifests in deploy/kubernetes, and the pod that they describe.

use crate::yaml::{self, list, text};
use coupon_tests::artifact;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::LazyLock;

/// The folder.
pub fn folder() -> PathBuf {
    artifact::workspace().join("deploy/kubernetes")
}

/// Its files.
pub fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("deploy/kubernetes").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|file| file.extension().is_some_and(|name| name == "yaml")).collect();
    files.sort();
    files
}

/// All objects; read once, as it takes a process each time.
static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| files().iter().flat_map(|file| yaml::read(file)).collect());

/// The one object of a kind and name.
pub fn object(kind: &str, name: &str) -> Value {
    let mut found = OBJECTS.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"));
    assert!(found.next().is_none(), "there are two {kind} {name}");
    object.clone()
}

/// The pod: its `metadata` and `spec`.
pub fn pod() -> Value {
    object("StatefulSet", "coupon-redis")["spec"]["template"].take()
}

/// Its containers, sidecars too.
pub fn containers(pod: &Value) -> Vec<&Value> {
    list(&pod["spec"]["initContainers"]).chain(list(&pod["spec"]["containers"])).collect()
}

/// A container.
pub fn container<'p>(pod: &'p Value, name: &str) -> &'p Value {
    containers(pod).into_iter().find(|container| container["name"] == name).expect(name)
}

/// The words of a list, as a command is given.
pub fn words(value: &Value) -> Vec<String> {
    list(value).map(|word| text(word).to_owned()).collect()
}
