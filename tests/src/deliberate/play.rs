//! Playing a test on a build, and judging how it ended.

use super::patch::{Half, Witness};
use crate::deadline::within;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// A test that has not ended by then has not noticed anything.
const LIMIT: Duration = Duration::from_secs(300);

/// What libtest ends with where a test has failed.
const FAILED: i32 = 101;

/// The test programs, built.
pub struct Programs {
    files: BTreeMap<String, PathBuf>,
    directory: PathBuf,
}

/// How a test ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It passed.
    Passed,
    /// It failed, and said so, with its output.
    Failed(String),
    /// Neither: there is no such test, it was ended, or never ended; with what is known.
    Neither(String),
}

impl Programs {
    /// Builds them, if they are not.
    ///
    /// # Errors
    /// What cargo says.
    ///
    /// # Panics
    /// If cargo does not start.
    pub fn build<'a>(workspace: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut command = Command::new("cargo");
        // The whole workspace, as the scripts build it: another choice of packages would build what they share anew.
        command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
        for name in names {
            command.args(["--test", name]);
        }
        let output = command.current_dir(workspace).output().expect("cargo starts");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let files = messages.lines().filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let (name, file) = (message["target"]["name"].as_str()?, message["executable"].as_str()?);
            let is_test = message["target"]["kind"] == serde_json::json!(["test"]);
            is_test.then(|| (name.to_owned(), file.into()))
        });
        Ok(Self { files: files.collect(), directory: workspace.join("tests") })
    }

    /// Plays a test on a build of a half; on the server in a folder, or if none is named on that of the `PATH`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn play(&self, witness: &Witness, half: Half, build: &Path, server: Option<&Path>) -> Ended {
        let Some(program) = self.files.get(&witness.program) else {
            return Ended::Neither(format!("there is no test program {}", witness.program));
        };
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        // Both of its outputs in one file, each behind what is there.
        let writer = || Stdio::from(File::options().append(true).open(log.path()).expect("a temporary file"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = server.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
        let mut child = Command::new(program)
            .args(["--exact", &witness.test])
            .envs(half.variables().iter().map(|variable| (variable, build)))
            // What the tests are played on otherwise is not what is tested here.
            .env_remove("COUPON_TEST_BACKEND")
            .env("PATH", std::env::join_paths(folders).expect("folders of a PATH make one"))
            .env("RUST_BACKTRACE", "0")
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(writer())
            .stderr(writer())
            .spawn()
            .expect("a test program starts");
        let status = within(LIMIT, || child.try_wait().expect("a child can be waited for"));
        if status.is_none() {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
        judge(&witness.test, status, &crate::process::read_log(log.path()))
    }
}

/// A test program that did not even start its test has failed too; only what libtest says of this one counts.
fn judge(test: &str, status: Option<ExitStatus>, said: &str) -> Ended {
    let Some(status) = status else { return Ended::Neither(format!("it has not ended after {LIMIT:?}\n{said}")) };
    let has_run = |passed: u32, failed: u32| said.contains(&format!(". {passed} passed; {failed} failed; 0 ignored;"));
    if status.success() && has_run(1, 0) {
        Ended::Passed
    } else if status.code() == Some(FAILED) && has_run(0, 1) && said.contains(&format!("---- {test} stdout ----")) {
        Ended::Failed(said.to_owned())
    } else {
        Ended::Neither(format!("it ended with {status}, and no word of {test}\n{said}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const PASSED: &str = "running 1 test\ntest a::b ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out\n";
    const FAILURE: &str = "running 1 test\ntest a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\nwhy\n\n\
                           test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out\n";
    const NOBODY: &str =
        "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 10 filtered out\n";

    fn judged(code: i32, said: &str) -> Ended {
        judge("a::b", Some(ExitStatus::from_raw(code << 8)), said)
    }

    #[test]
    fn only_the_test_itself_can_pass_or_fail() {
        assert_eq!(judged(0, PASSED), Ended::Passed);
        assert_eq!(judged(FAILED, FAILURE), Ended::Failed(FAILURE.into()));
        for (code, said) in [(0, NOBODY), (FAILED, ""), (FAILED, PASSED), (1, FAILURE), (0, FAILURE)] {
            assert!(matches!(judged(code, said), Ended::Neither(_)), "{code} {said}");
        }
        let killed = judge("a::b", Some(ExitStatus::from_raw(9)), FAILURE);
        assert!(matches!(killed, Ended::Neither(_)));
        assert!(matches!(judge("a::b", None, ""), Ended::Neither(_)));
    }
}
