//! A copy of the tree, in which patches are applied and built.

use super::patch::{Half, Patch};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The copy, and what is built from it. Both stay where they are, so that cargo builds anew only what a patch changes.
pub struct Copy {
    of: PathBuf,
    source: PathBuf,
    build: PathBuf,
}

impl Copy {
    /// Makes the copy equal to the tree, in a directory for it and what is built.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn of(workspace: &Path, directory: &Path) -> Self {
        fs::create_dir_all(directory.join("source")).expect("the target directory can be written to");
        let directory = directory.canonicalize().expect("it is there");
        let copy = Self { of: workspace.to_owned(), source: directory.join("source"), build: directory.join("build") };
        copy.restore();
        copy
    }

    /// Makes it equal to the tree again. Files that are equal stay as they are, or cargo would build all anew.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn restore(&self) {
        // What is tracked, and what will be.
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&self.of)
            .output()
            .expect("git starts");
        assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8(listed.stdout).expect("names in the tree are UTF-8");
        let names = listed.split('\0').filter(|name| !name.is_empty() && self.of.join(name).is_file());
        let names: BTreeSet<PathBuf> = names.map(PathBuf::from).collect();
        for name in &names {
            let (from, to) = (self.of.join(name), self.source.join(name));
            let wanted = fs::read(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            if fs::read(&to).ok().as_ref() != Some(&wanted) {
                fs::create_dir_all(to.parent().expect("a file lies in a directory"))
                    .expect("the copy can be written to");
                fs::write(&to, wanted).expect("the copy can be written to");
            }
        }
        remove_others(&self.source, Path::new(""), &names);
    }

    /// Whether a patch applies, each line of its context as it is.
    ///
    /// # Errors
    /// What git says.
    ///
    /// # Panics
    /// If git does not start.
    pub fn check(&self, patch: &Patch) -> Result<(), String> {
        said(&self.git_apply(patch, &["--check"]))
    }

    /// Applies a patch.
    ///
    /// # Errors
    /// What git says.
    ///
    /// # Panics
    /// If git does not start.
    pub fn apply(&self, patch: &Patch) -> Result<(), String> {
        said(&self.git_apply(patch, &[]))
    }

    fn git_apply(&self, patch: &Patch, args: &[&str]) -> Output {
        Command::new("git")
            .arg("apply")
            .args(args)
            .arg(&patch.file)
            .current_dir(&self.source)
            // The copy lies within the repository, whose paths git would go by.
            .env("GIT_CEILING_DIRECTORIES", self.source.parent().expect("it lies in a directory"))
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .output()
            .expect("git starts")
    }

    /// Builds a half as the tests' own build is, and puts it aside under a name, out of the next one's way.
    ///
    /// # Errors
    /// What cargo says.
    ///
    /// # Panics
    /// If cargo does not start, or says that it built what is not there.
    pub fn build(&self, half: Half, name: &str) -> Result<PathBuf, String> {
        let output = Command::new("cargo")
            .args(["build", "--quiet"])
            .args(half.build())
            .current_dir(&self.source)
            .env("CARGO_TARGET_DIR", &self.build)
            .output()
            .expect("cargo starts");
        said(&output)?;
        let aside = self.build.join("aside").join(name).join(half.artifact());
        fs::create_dir_all(aside.parent().expect("it lies in a directory"))
            .expect("the target directory can be written to");
        // A copy that is still mapped by a process is not written into.
        let _ = fs::remove_file(&aside);
        fs::copy(self.build.join("debug").join(half.artifact()), &aside).expect("cargo has built it");
        Ok(aside)
    }
}

fn said(output: &Output) -> Result<(), String> {
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn remove_others(root: &Path, directory: &Path, names: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(root.join(directory)).expect("the copy can be read").flatten() {
        let name = directory.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_others(root, &name, names);
        } else if !names.contains(&name) {
            fs::remove_file(root.join(&name)).expect("the copy can be written to");
        }
    }
}
