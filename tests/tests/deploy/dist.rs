//! The tarball of a release, as somebody meets it who has nothing else.

use coupon_tests::artifact;
use coupon_tests::deadline::eventually_true;
use coupon_tests::port;
use coupon_tests::process::Program;
use coupon_tests::resp::Client;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Packs what is built, as `make dist` does when it has built it.
fn pack(directory: &Path, shell: &str) -> PathBuf {
    let output = Command::new("bash")
        .args(["-c", &format!("{shell} exec scripts/pack.sh")])
        .current_dir(artifact::workspace())
        .env("DIST_DIR", directory)
        .env("CARGO_TARGET_DIR", artifact::target_directory())
        .output()
        .expect("bash starts");
    assert!(output.status.success(), "pack.sh: {}", String::from_utf8_lossy(&output.stderr));
    let files = fs::read_dir(directory).expect("the directory").flatten().map(|entry| entry.path());
    let packed: Vec<PathBuf> = files.filter(|file| file.to_string_lossy().ends_with(".tar.gz")).collect();
    let [file] = &packed[..] else { panic!("one tarball: {packed:?}") };
    file.clone()
}

fn run(program: &str, args: &[&str], directory: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(directory).output().expect(program);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The tarball, unpacked where nothing else is.
struct Unpacked {
    tarball: PathBuf,
    root: PathBuf,
    directory: TempDir,
}

impl Unpacked {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("coupon-dist-").tempdir().expect("temporary directory");
        let dist = directory.path().join("dist");
        fs::create_dir(&dist).expect("a directory");
        let tarball = pack(&dist, "");
        run("tar", &["-xzf", &tarball.display().to_string()], directory.path());
        let name = tarball.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let root = directory.path().join(name.trim_end_matches(".tar.gz"));
        Self { tarball, root, directory }
    }
}

#[test]
fn the_same_build_packs_to_the_same_bytes() {
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let one = pack(one.path(), "");
    let bytes = fs::read(&one).expect("a tarball");
    let other = pack(other.path(), "umask 077; export TZ=Asia/Seoul LC_ALL=C.UTF-8;");
    assert_eq!(one.file_name(), other.file_name());
    assert!(bytes == fs::read(&other).expect("a tarball"), "they differ");
}

#[test]
fn the_tarball_is_whole_and_nobodys() {
    let unpacked = Unpacked::new();
    let root = unpacked.root.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(root.starts_with(&format!("redis-coupon-{VERSION}-")), "{root}");
    run("sha256sum", &["--check", "--strict", "SHA256SUMS"], unpacked.tarball.parent().expect("dist"));
    let checked = run("sha256sum", &["--check", "--strict", "SHA256SUMS"], &unpacked.root);
    let listed = run("tar", &["-tvzf", &unpacked.tarball.display().to_string(), "--numeric-owner"], &unpacked.root);
    let files: Vec<&str> = listed.lines().filter(|line| !line.starts_with('d')).collect();
    assert_eq!(checked.lines().count(), files.len() - 1, "the sums are of all but themselves");
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"].contains(&words[0]) && words[1] == "0/0", "{line}");
        assert!(words[5].starts_with(root), "{line}");
    }
    for part in [
        "libcoupon.so",
        "coupon-reconciler",
        "redis.conf",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "migrations/0001_ledger.sql",
        "completions/coupon-reconciler.bash",
        "deploy/systemd/coupon-reconciler.service",
        "deploy/grafana/coupon.json",
    ] {
        assert!(unpacked.root.join(part).is_file(), "{part} is missing");
    }
    let build = fs::read_to_string(unpacked.root.join("BUILD")).expect("BUILD");
    assert!(build.contains(VERSION) && build.contains("glibc 2."), "{build}");
    assert_linked(&unpacked.root);
}

/// Every link of its pages leads somewhere.
fn assert_linked(root: &Path) {
    let mut links = 0;
    for page in
        ["README.md", "README.ko.md", "docs/operations.md", "docs/guarantees.md", "docs/clients.md", "deploy/README.md"]
    {
        let page = root.join(page);
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_of_build = link.starts_with("../bench") || link.starts_with("bench");
            if !link.is_empty() && !link.contains("://") && !is_of_build {
                links += 1;
                let target = page.parent().expect("a folder").join(link);
                assert!(target.exists(), "{}: {link}", page.display());
            }
        }
    }
    assert!(links > 5, "{links}");
}

#[test]
fn module_and_reconciler_run_from_it_and_are_of_one_version() {
    let unpacked = Unpacked::new();
    let said = run("./coupon-reconciler", &["--version"], &unpacked.root);
    assert_eq!(said.trim_end(), format!("coupon-reconciler {VERSION}"));
    let port = port::free();
    let data = unpacked.directory.path().join("data");
    fs::create_dir(&data).expect("a directory");
    let (port_text, data) = (port.to_string(), data.display().to_string());
    let module = unpacked.root.join("libcoupon.so").display().to_string();
    let args = ["redis.conf", "--port", &port_text, "--dir", &data, "--loadmodule", &module];
    let program = Program {
        name: "redis-server",
        file: artifact::on_path("redis-server").expect("redis-server"),
        args: args.map(Into::into).into(),
        env: Vec::new(),
        directory: unpacked.root.clone(),
        log: unpacked.directory.path().join("log"),
        account: None,
    };
    let _redis = program.start();
    let answers = || Client::connect(port).and_then(|mut client| client.try_call(&["PING"])).is_ok();
    eventually_true("Redis answers", answers);
    let mut client = Client::connect(port).expect("Redis answers");
    let modules = client.run("MODULE LIST");
    let module = modules.array().iter().find(|module| module.field("name").text() == "coupon").expect("the module");
    let parts: Vec<i64> = VERSION.split('.').map(|part| part.parse().expect("a number")).collect();
    assert_eq!(module.field("ver").int(), parts[0] * 10_000 + parts[1] * 100 + parts[2]);
    let info = client.run("INFO coupon");
    assert!(info.text().contains(VERSION), "{info}");
}

#[test]
fn the_version_stands_in_one_place() {
    let workspace = artifact::workspace();
    let whole = fs::read_to_string(workspace.join("Cargo.toml")).expect("Cargo.toml");
    assert_eq!(whole.lines().filter(|line| line.starts_with("version = ")).count(), 1);
    let listed = run("git", &["ls-files", "*/Cargo.toml"], workspace);
    assert!(listed.lines().count() >= 5, "{listed}");
    for file in listed.lines() {
        let text = fs::read_to_string(workspace.join(file)).expect(file);
        assert!(text.contains("\nversion.workspace = true\n") && !text.contains("\nversion = "), "{file}");
    }
}
