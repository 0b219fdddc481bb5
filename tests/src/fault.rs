//! Tests of the tests: each deliberate fault of a build is noticed by the test that is there for it.

use crate::artifact;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

/// A build with deliberate faults.
pub struct Faulty<'a> {
    /// Where its faults are declared, in the workspace.
    pub source: &'a str,
    /// The variable that makes the harness take this build.
    pub variable: &'a str,
    /// The build.
    pub file: &'a Path,
}

impl Faulty<'_> {
    /// Plays tests of this very binary, each without a fault and with the one that it has to notice; every fault that is
    /// declared has its row. Faults that cannot show on this server are left out.
    ///
    /// # Panics
    /// If a fault is not noticed, or a test fails without one.
    pub fn assert_noticed(&self, table: &[(&str, &str)], left_out: &[&str]) {
        let rows: BTreeSet<String> = table.iter().map(|(fault, _)| (*fault).to_owned()).collect();
        assert_eq!(self.declared(), rows, "the faults of {}, and who has to notice", self.source);
        for (fault, test) in table.iter().filter(|(fault, _)| !left_out.contains(fault)) {
            let (healthy, faulty) = std::thread::scope(|scope| {
                let healthy = scope.spawn(|| self.play(test, "none"));
                let faulty = self.play(test, fault);
                (healthy.join().expect("a test can be played"), faulty)
            });
            let said = String::from_utf8_lossy(&healthy.stdout);
            assert!(healthy.status.success(), "without a fault {test} fails:\n{said}");
            assert!(said.contains("1 passed"), "there is no test {test}");
            assert!(!faulty.status.success(), "{test} does not notice the fault {fault}");
        }
    }

    fn play(&self, test: &str, fault: &str) -> Output {
        Command::new(std::env::current_exe().expect("a process knows its own path"))
            .args(["--exact", test])
            .env(self.variable, self.file)
            .env("COUPON_FAULT", fault)
            .output()
            .expect("a test can be started")
    }

    fn declared(&self) -> BTreeSet<String> {
        let source = std::fs::read_to_string(artifact::workspace().join(self.source)).expect("the faults' source");
        let name = |line: &str| Some(line.trim().split_once(" = \"")?.1.strip_suffix("\",")?.to_owned());
        source.lines().filter_map(name).collect()
    }
}
