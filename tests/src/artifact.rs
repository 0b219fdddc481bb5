//! Finding what is tested, and the servers it is tested on.

use crate::container;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The module, as the server sees it: the checking build, unless `COUPON_MODULE` names another.
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn module() -> PathBuf {
    if container::is_backend() {
        return container::MODULE.into();
    }
    built("COUPON_MODULE", "libcoupon.so")
}

/// The reconciler: the checking build, unless `COUPON_RECONCILER` names another.
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn reconciler() -> PathBuf {
    built("COUPON_RECONCILER", "coupon-reconciler")
}

/// The reconciler that can be held at a named point: the checking build, unless `COUPON_RECONCILER_PAUSE` names another.
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn reconciler_with_pause_points() -> PathBuf {
    built("COUPON_RECONCILER_PAUSE", "coupon-reconciler")
}

/// What stands between a server and its machine: see [`crate::machine`].
///
/// # Panics
/// If it is not built.
#[must_use]
pub fn shim() -> PathBuf {
    built("COUPON_SHIM", "libcoupon_shim.so")
}

/// The workspace's root directory.
///
/// # Panics
/// Never: the package lies in it.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// What a variable names, or what was built beside this very program, with debug assertions as it was.
fn built(variable: &str, name: &str) -> PathBuf {
    let file = env::var_os(variable).map_or_else(|| profile_directory().join(name), PathBuf::from);
    assert!(
        file.is_file(),
        "{} is missing: run `scripts/build.sh checking`, or set {variable} to the file",
        file.display()
    );
    file
}

/// Cargo's target directory.
///
/// # Panics
/// If this program was moved out of it.
#[must_use]
pub fn target_directory() -> PathBuf {
    profile_directory().parent().expect("a program lies in <target>/<profile>").to_owned()
}

/// This very program was built into `<target>/<profile>`, a test into `deps` there.
fn profile_directory() -> PathBuf {
    let program = env::current_exe().expect("a process knows its own path");
    let mut parts = program.ancestors().skip(1).skip_while(|path| path.ends_with("deps"));
    parts.next().expect("a program lies in a directory").to_owned()
}

/// A program on the PATH.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Where `scripts/clients.sh` has put the packages of a language.
///
/// # Panics
/// If it was not run.
#[must_use]
pub fn client_packages(language: &str) -> PathBuf {
    let directory = workspace().join("target/clients").join(language);
    assert!(directory.is_dir(), "{} is missing: run scripts/clients.sh", directory.display());
    directory
}

/// A pooler for PostgreSQL. Debian keeps it where only root's PATH leads.
///
/// # Panics
/// If it is not installed.
#[must_use]
pub fn pgbouncer() -> PathBuf {
    on_path("pgbouncer")
        .or_else(|| Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|file| file.is_file()))
        .expect("PgBouncer is missing: run `apt-get install pgbouncer`, or `scripts/install.sh pgbouncer`")
}

/// A browser.
///
/// # Panics
/// If it is not installed.
#[must_use]
pub fn chromium() -> PathBuf {
    const OF_MACOS: &str = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(on_path)
        .or_else(|| Some(PathBuf::from(OF_MACOS)).filter(|file| file.is_file()))
        .expect("Chromium is missing: run `apt-get install chromium`, or `scripts/install.sh chromium`")
}

/// A program of PostgreSQL, which Debian keeps off the PATH; the newest version there is.
///
/// # Panics
/// If it is not installed.
#[must_use]
pub fn postgres_program(name: &'static str) -> PathBuf {
    // Tests ask for psql many times a second.
    static FOUND: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.entry(name).or_insert_with(|| find_postgres_program(name)).clone()
}

fn find_postgres_program(name: &str) -> PathBuf {
    // Not Debian's wrapper, a script that takes five times as long to start as the program itself.
    let is_itself = |file: &PathBuf| file.canonicalize().is_ok_and(|file| file.ends_with(name));
    on_path(name)
        .filter(is_itself)
        .into_iter()
        .chain(pg_config_directory().map(|directory| directory.join(name)))
        .chain(debian_directories().into_iter().map(|directory| directory.join(name)))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("PostgreSQL's {name} is missing: run `apt-get install postgresql`"))
}

fn pg_config_directory() -> Option<PathBuf> {
    let output = std::process::Command::new(on_path("pg_config")?).arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn debian_directories() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    versions.into_iter().map(|version| version.join("bin")).collect()
}
