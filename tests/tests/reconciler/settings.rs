//! Settings: which of four places counts, what is said of a wrong one, and what is printed.

use coupon_tests::artifact;
use coupon_tests::container;
use coupon_tests::reconciler::Options;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const PASSWORD: &str = "hunter2-settings";

/// A folder for settings files, and a reconciler that sees no other environment than is given to it.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        container::show(directory.path());
        Self { directory }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let file: PathBuf = self.directory.path().join(name);
        fs::write(&file, text).expect("a file can be written");
        file.display().to_string()
    }

    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(artifact::reconciler());
        command.env_clear().args(args).envs(env.iter().copied()).output().expect("coupon-reconciler starts")
    }

    /// The settings in effect, as `name = value  # origin` without the padding.
    fn settings(&self, args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
        let output = self.run(&[args, &["--print-config"]].concat(), env);
        assert!(output.status.success(), "{args:?} {env:?}: {}", String::from_utf8_lossy(&output.stderr));
        let page = String::from_utf8(output.stdout).expect("UTF-8");
        page.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// What is said of a wrong setting.
    fn refusal(&self, args: &[&str], env: &[(&str, &str)]) -> String {
        let output = self.run(args, env);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{args:?} {env:?}: {said}");
        said
    }
}

#[track_caller]
fn assert_has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|shown| shown == line), "{line} is missing in {lines:#?}");
}

#[test]
fn a_flag_counts_more_than_the_environment_and_that_more_than_the_file() {
    let place = Place::new();
    let file = place.file("coupon.toml", "issue-interval = '2s'\naudit-interval = '2s'\nbatch-max = 2\nlog = 'warn'\n");
    let env = [("COUPON_CONFIG", &*file), ("AUDIT_INTERVAL", "3s"), ("BATCH_MAX", "3"), ("LOG_FORMAT", "json")];
    let lines = place.settings(&["run", "--batch-max", "4"], &env);
    for line in [
        &*format!("# settings file: {file}, as the environment variable COUPON_CONFIG says"),
        "batch-max = 4 # the command line",
        "audit-interval = \"3s\" # the environment variable AUDIT_INTERVAL",
        &format!("issue-interval = \"2s\" # the settings file {file}"),
        &format!("log = \"warn\" # the settings file {file}"),
        "log-format = \"json\" # the environment variable LOG_FORMAT",
        "full-pass-interval = \"10s\" # the default",
        "no-migrate = false # the default",
        "# instance # not set",
    ] {
        assert_has(&lines, line);
    }
    // A flag that stands for yes can be taken back from a lower place.
    let lines = place.settings(&["run", "--no-migrate=false"], &[("NO_MIGRATE", "true")]);
    assert_has(&lines, "no-migrate = false # the command line");
    let lines = place.settings(&["run", "--no-migrate"], &[("NO_MIGRATE", "false")]);
    assert_has(&lines, "no-migrate = true # the command line");
}

#[test]
fn what_is_printed_is_a_settings_file() {
    let place = Place::new();
    let env =
        [("INSTANCE", "one \"of\" two"), ("ISSUE_INTERVAL", "250ms"), ("NO_MIGRATE", "true"), ("BATCH_MAX", "77")];
    let printed = place.run(&["--print-config"], &env).stdout;
    let file = place.file("printed.toml", &String::from_utf8(printed.clone()).expect("UTF-8"));
    let again = place.run(&["run", "--print-config", "--config", &file], &[]).stdout;
    let values = |page: &[u8]| -> Vec<String> {
        let page = String::from_utf8_lossy(page);
        let settings = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        settings.map(|line| line.split("  #").next().unwrap_or_default().trim_end().to_owned()).collect()
    };
    assert!(values(&printed).contains(&r#"instance = 'one "of" two'"#.to_owned()), "{:#?}", values(&printed));
    assert_eq!(values(&again), values(&printed));
}

#[test]
fn a_secret_is_read_from_its_file_and_never_printed() {
    let place = Place::new();
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:1/shop");
    let secret = place.file("database-url", &format!("{url}\n"));
    let file = place.file("coupon.toml", &format!("database-url-file = '{secret}'\n"));
    for (args, env) in [
        (&["run", "--database-url-file", &*secret][..], &[][..]),
        (&["run"], &[("DATABASE_URL_FILE", &*secret)]),
        (&["run", "--config", &*file], &[]),
    ] {
        let lines = place.settings(args, env);
        let shown = format!(
            "# database-url = \"postgres://app:***@127.0.0.1:1/shop\" # the file {secret}; the password is not shown"
        );
        assert_has(&lines, &shown);
        assert!(!lines.concat().contains(PASSWORD), "{lines:#?}");
    }
    let redis = place.file("redis-url", &format!("redis://:{PASSWORD}@127.0.0.1:1\r\n"));
    let lines = place.settings(&["run"], &[("REDIS_URL_FILE", &redis)]);
    assert_has(
        &lines,
        &format!("# redis-url = \"redis://:***@127.0.0.1:1\" # the file {redis}; the password is not shown"),
    );
    for (name, env) in [("database-url", ("DATABASE_URL", &*url)), ("redis-url", ("REDIS_URL", "redis://a"))] {
        let variable = env.0;
        let said = place.refusal(&["run", &format!("--{name}-file"), &secret], &[env]);
        assert!(said.contains(variable) && said.contains(&format!("--{name}-file")), "both are named: {said}");
    }
    for (text, why) in [(None, "cannot be read"), (Some(""), "empty"), (Some("\n"), "empty")] {
        let secret = text.map_or_else(|| "/no/such/file".to_owned(), |text| place.file("bad", text));
        let said = place.refusal(&["run"], &[("DATABASE_URL_FILE", &secret)]);
        assert!(said.contains("--database-url-file") && said.contains(why) && said.contains(&secret), "{said}");
    }
}

#[test]
fn the_daemon_works_with_secrets_from_files() {
    let (redis, postgres) = crate::sale::servers();
    let place = Place::new();
    let files = [place.file("redis", &format!("{}\n", redis.url())), place.file("postgres", &postgres.url())];
    let reconciler = Options::between(&redis, &postgres)
        .without_urls()
        .args(&["--redis-url-file", &files[0], "--database-url-file", &files[1]])
        .start()
        .await_ready();
    assert!(!reconciler.log().is_empty());
}

#[test]
fn a_wrong_setting_names_itself_its_value_its_place_and_what_is_allowed() {
    let place = Place::new();
    let file = |text: &str| place.file("coupon.toml", text);
    for (name, value, allowed) in [
        ("batch-max", "0", "from 1 to 50000"),
        ("batch-max", "many", "from 1 to 50000"),
        ("issue-interval", "soon", "500ms"),
        ("full-pass-interval", "0s", "24 hours"),
        ("audit-interval", "1", "needs a unit"),
        ("key", "coupon", "coupon:{ID}"),
        ("listen", "nowhere", "127.0.0.1:9187"),
        ("log", "info,,=", "target=level"),
        ("log-format", "xml", "auto, text, json"),
        ("no-migrate", "perhaps", "value was not a boolean"),
        ("redis-url", "nonsense://host", "redis://host:port"),
        ("database-url", "postgres://host:port", "postgres://user:password@host:port/database"),
    ] {
        let variable = if name == "key" { "COUPON_KEY".to_owned() } else { name.to_uppercase().replace('-', "_") };
        let path = file(&format!("{name} = '{value}'\n"));
        for (said, origin) in [
            (place.refusal(&["run", &format!("--{name}={value}")], &[]), "the command line".to_owned()),
            (place.refusal(&["run"], &[(&variable, value)]), format!("the environment variable {variable}")),
            (place.refusal(&["run", "--config", &path], &[]), format!("the settings file {path}")),
        ] {
            for part in [&format!("--{name} "), value, &*origin, allowed] {
                assert!(said.contains(part), "{part} is missing for {name} from {origin}: {said}");
            }
        }
    }
    for (name, value) in [("redis-url", "nonsense"), ("database-url", "nonsense")] {
        let value = format!("{value}://app:{PASSWORD}@host:port/x");
        let path = file(&format!("{name} = '{value}'\n"));
        for said in [
            place.refusal(&["run", &format!("--{name}={value}")], &[]),
            place.refusal(&["run", "--config", &path], &[]),
        ] {
            assert!(said.contains(&format!("--{name}")) && !said.contains(PASSWORD), "{said}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_is_refused_by_name() {
    let place = Place::new();
    let url = format!("postgres://app:{PASSWORD}@host/shop");
    for (text, why) in [
        ("batch_max = 7", "'batch_max' is no setting; the nearest is 'batch-max'"),
        ("isue-interval = '1s'", "'isue-interval' is no setting; the nearest is 'issue-interval'"),
        ("config = 'other.toml'", "'config' is no setting"),
        ("batch-max = [7]", "batch-max is a TOML array"),
        (&*format!("\ndatabase-url = {url}\n"), "line 2 is not TOML"),
    ] {
        let path = place.file("coupon.toml", text);
        let said = place.refusal(&["run", "--config", &path], &[]);
        assert!(said.contains(why) && said.contains(&path), "{why}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
    let said = place.refusal(&["run"], &[("COUPON_CONFIG", "/no/such/file")]);
    assert!(said.contains("COUPON_CONFIG") && said.contains("/no/such/file"), "{said}");
    // What another command has settings for is no mistake in a file that serves all.
    let path = place.file("coupon.toml", "batch-max = 7\nredis-url = 'redis://h'\n");
    assert_has(
        &place.settings(&["check"], &[("COUPON_CONFIG", &path)]),
        &format!("redis-url = \"redis://h\" # the settings file {path}"),
    );
}

#[test]
fn completions_are_there_for_every_shell() {
    let place = Place::new();
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
        ("powershell", "Register"),
        ("elvish", "edit:"),
    ] {
        let output = place.run(&["completions", shell], &[]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(word) && text.contains("audit-interval"), "{shell}: {text}");
    }
    let output = place.run(&["completions", "dos"], &[]);
    assert_eq!(output.status.code(), Some(2));
}
