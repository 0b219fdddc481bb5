//! YAML as JSON, read by the library that scripts/deploy.sh has installed.

use coupon_tests::artifact;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Python with what scripts/deploy.sh has installed for it.
pub fn python(args: &[&str]) -> Output {
    let packages = artifact::workspace().join("target/deploy/python");
    assert!(packages.is_dir(), "{} is missing: run scripts/deploy.sh", packages.display());
    Command::new("python3").args(args).env("PYTHONPATH", packages).output().expect("python3 starts")
}

/// The documents of a file.
pub fn read(file: &Path) -> Vec<Value> {
    const PROGRAM: &str = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let output = python(&["-c", PROGRAM, &file.display().to_string()]);
    assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    let documents = serde_json::from_slice(&output.stdout);
    documents.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The elements of a list; none if it is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The text of a value; empty if it is no text.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
