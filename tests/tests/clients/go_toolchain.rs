//! Go: a program is built before it runs, from what scripts/clients.sh has fetched and without any network.

use coupon_tests::artifact;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether it could be fetched; scripts/clients.sh has said so if not.
pub fn is_installed() -> bool {
    artifact::workspace().join("target/clients/go").is_dir()
}

/// Builds a program in its directory, two below that of the packages.
pub fn build(directory: &Path, text: &str) -> PathBuf {
    let home = artifact::client_packages("go");
    fs::write(directory.join("main.go"), text).expect("write the program");
    fs::copy(home.join("go.mod"), directory.join("go.mod")).expect("copy go.mod");
    let program = directory.join("client");
    let output = Command::new(home.join("toolchain/go/bin/go"))
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(directory)
        .env("GOROOT", home.join("toolchain/go"))
        .env("GOPATH", home.join("path"))
        .env("GOCACHE", home.join("cache"))
        .env("GOENV", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOFLAGS", "-mod=mod")
        .output()
        .expect("the Go toolchain");
    assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
    program
}
