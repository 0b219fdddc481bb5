//! The systemd unit: as systemd reads it, and as the reconciler does.

use coupon_tests::artifact;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const NAME: &str = "coupon-reconciler.service";

/// Where the unit expects the program.
const PROGRAM: &str = "/usr/bin/coupon-reconciler";

/// Exposure, of 100, that the unit may have at most in systemd's own reckoning; an unconfined service has 96.
const EXPOSURE_MAX: &str = "15";

fn unit() -> String {
    fs::read_to_string(artifact::workspace().join("deploy/systemd").join(NAME)).expect(NAME)
}

/// The values of a setting, in order.
fn values(name: &str) -> Vec<String> {
    let unit = unit();
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

/// A copy of the unit that starts the program that is tested.
struct Copy {
    file: PathBuf,
    _directory: TempDir,
}

impl Copy {
    fn with(right: &str, wrong: &str) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join(NAME);
        let unit = unit();
        assert!(unit.contains(right), "{right}");
        let program = artifact::reconciler().display().to_string();
        fs::write(&file, unit.replace(right, wrong).replace(PROGRAM, &program)).expect("a copy");
        Self { file, _directory: directory }
    }

    fn analyze(&self, args: &[&str]) -> Output {
        let output = Command::new("systemd-analyze").args(args).arg(&self.file).output();
        output.expect("systemd-analyze is missing: run `scripts/install.sh systemd`")
    }

    /// What systemd finds wrong with it; empty if nothing.
    fn refusals(&self) -> String {
        let output = self.analyze(&["verify", "--man=no"]);
        let said = String::from_utf8_lossy(&output.stderr);
        // It looks at other units of the machine too.
        let own: Vec<&str> = said.lines().filter(|line| line.contains("coupon-reconciler")).collect();
        assert!(output.status.success() || !own.is_empty(), "{said}");
        own.join("\n")
    }
}

#[test]
fn systemd_takes_the_unit_as_it_is() {
    assert_eq!(Copy::with("Type=notify", "Type=notify").refusals(), "");
    for (right, wrong) in [
        ("Type=notify", "Type=notified"),
        ("NoNewPrivileges=yes", "NoNewPrivilege=yes"),
        ("=%d/database-url", "=%Z/database-url"),
        (PROGRAM, "/nowhere/coupon-reconciler"),
    ] {
        assert_ne!(Copy::with(right, wrong).refusals(), "", "{wrong} is not noticed");
    }
}

#[test]
fn the_unit_confines_the_service() {
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let args = ["security", "--offline=true", "--no-pager", &threshold];
    let output = Copy::with("DynamicUser=yes", "DynamicUser=yes").analyze(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let open = Copy::with("CapabilityBoundingSet=\n", "").analyze(&args);
    assert!(!open.status.success(), "a service with every capability is not confined");
}

#[test]
fn the_reconciler_understands_the_environment_of_the_unit() {
    let credentials = tempfile::tempdir().expect("temporary directory");
    let file = |name: &str| credentials.path().join(name);
    let write = |name: &str| {
        let scheme = name.split('-').next().expect("a word").replace("database", "postgres");
        fs::write(file(name), format!("{scheme}://user:hunter2@host\n")).expect("a credential");
    };
    let loaded = values("LoadCredential");
    let names: Vec<&str> = loaded.iter().filter_map(|credential| Some(credential.split_once(':')?.0)).collect();
    assert_eq!(names, ["database-url", "redis-url"]);
    names.iter().for_each(|name| write(name));
    let directory = credentials.path().display().to_string();
    let environment = values("Environment").join(" ").replace("%d", &directory);
    let variables = environment.split(' ').filter_map(|variable| variable.split_once('='));
    let [start] = &values("ExecStart")[..] else { panic!("one command is started") };
    let arguments = start.strip_prefix(PROGRAM).expect("the reconciler").split_whitespace();
    // Where it gets as far as its port it ends: that is somebody else's.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let mut command = Command::new(artifact::reconciler());
    command.args(arguments).env_clear().envs(variables).env("LISTEN", &taken);
    let mut run = || {
        let output = command.output().expect("coupon-reconciler starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run();
    assert!(code == Some(1) && said.contains(&taken) && !said.contains("hunter2"), "{said}");
    for name in names {
        fs::write(file(name), "").expect("a credential");
        let (code, said) = run();
        assert!(code == Some(2) && said.contains(&file(name).display().to_string()), "{name} is read: {said}");
        write(name);
    }
}

#[test]
fn only_a_wrong_setting_is_not_tried_again() {
    let wrong = Command::new(artifact::reconciler()).args(["run", "--batch-max", "0"]).output();
    let code = wrong.expect("coupon-reconciler starts").status.code().expect("an exit code");
    assert_eq!(values("RestartPreventExitStatus"), [code.to_string()]);
    assert_eq!(values("Restart"), ["on-failure"]);
    assert_eq!(values("StartLimitIntervalSec"), ["0"], "it never gives up");
}
