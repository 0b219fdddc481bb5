//! Settings: which of three places counts, and what is said of a wrong one.

use coupon_tests::artifact;
use coupon_tests::container;
use coupon_tests::reconciler::Options;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const PASSWORD: &str = "hunter2-settings";

/// A folder for files with secrets, and a reconciler that sees no other environment than is given to it.
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

    /// What is said of a wrong setting.
    fn refusal(&self, args: &[&str], env: &[(&str, &str)]) -> String {
        let output = self.run(args, env);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{args:?} {env:?}: {said}");
        said
    }
}

#[test]
fn a_flag_counts_more_than_the_environment_and_that_more_than_the_default() {
    let place = Place::new();
    let url = ["run", "--database-url", "postgres://127.0.0.1:1/shop"];
    // Of two values only the one that counts is looked at, so a wrong one shows which it is.
    for (flag, variable, is_flag) in [("0", "7", true), ("7", "0", false)] {
        let args = [&url[..], &["--batch-max", flag, "--listen", "nowhere"]].concat();
        let said = place.refusal(&args, &[("BATCH_MAX", variable)]);
        assert_eq!(said.contains("--batch-max"), is_flag, "{said}");
    }
    let said = place.refusal(&url, &[("BATCH_MAX", "0")]);
    assert!(said.contains("--batch-max"), "{said}");
    // The default is no wrong value, so the next mistake is the one that shows.
    let said = place.refusal(&[&url[..], &["--listen", "nowhere"]].concat(), &[]);
    assert!(said.contains("--listen") && !said.contains("--batch-max"), "{said}");
}

#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let place = Place::new();
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:1/shop");
    let secret = place.file("database-url", &format!("{url}\n"));
    for (args, env) in [
        (&["migrate", "--database-url-file", &*secret][..], &[][..]),
        (&["migrate"], &[("DATABASE_URL_FILE", &*secret)]),
        (&["dead-letters", "list"], &[("DATABASE_URL_FILE", &*secret)]),
        (&["dead-letters", "list", "--database-url-file", &*secret], &[]),
    ] {
        let output = place.run(args, env);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(3), "the address was read, and nobody is there: {said}");
        assert!(said.contains("PostgreSQL cannot be reached") && !said.contains(PASSWORD), "{said}");
    }
    // A file says what is wrong with it, and not what it holds.
    let wrong = place.file("redis-url", &format!("nonsense://:{PASSWORD}@127.0.0.1:1\r\n"));
    let said = place.refusal(&["check"], &[("REDIS_URL_FILE", &wrong), ("DATABASE_URL", &url)]);
    assert!(said.contains("--redis-url") && said.contains("nonsense://:***@127.0.0.1:1'"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    for (name, env) in [("database-url", ("DATABASE_URL", &*url)), ("redis-url", ("REDIS_URL", "redis://a"))] {
        let variable = (&*format!("{}_FILE", env.0), &*secret);
        let of_file = format!("--{name}-file");
        for said in [
            place.refusal(&["check", &of_file, &secret], &[env]),
            place.refusal(&["check"], &[env, variable]),
            place.refusal(&["check", &of_file, &secret, &format!("--{name}"), env.1], &[]),
        ] {
            assert!(said.contains(&format!("--{name} ")) && said.contains(&of_file), "both are named: {said}");
            assert!(!said.contains(PASSWORD), "{said}");
        }
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
fn a_wrong_setting_names_itself_its_value_and_what_is_allowed() {
    let place = Place::new();
    for (name, value, allowed) in [
        ("batch-max", "0", "1..=50000"),
        ("batch-max", "many", "invalid digit"),
        ("issue-interval", "soon", "500ms"),
        ("full-pass-interval", "0s", "24h"),
        ("audit-interval", "1", "unit needed"),
        ("key", "coupon", "coupon:{ID}"),
        ("listen", "nowhere", "127.0.0.1:9187"),
        ("log", "info,sqlx=loud", "\"warn\", \"info\""),
        ("log-format", "xml", "auto, text, json"),
        ("no-migrate", "perhaps", "value was not a boolean"),
        ("redis-url", "nonsense://host", "redis://host:port"),
        ("database-url", "postgres://host:port", "postgres://user:password@host:port/database"),
    ] {
        let variable = if name == "key" { "COUPON_KEY".to_owned() } else { name.to_uppercase().replace('-', "_") };
        let env = [("DATABASE_URL", "postgres://127.0.0.1:1/shop"), (&*variable, value)];
        let of_environment = place.refusal(&["run"], &env);
        assert!(of_environment.contains(allowed), "{allowed} is missing for {name}: {of_environment}");
        let of_flag = place.refusal(&["run", &format!("--{name}={value}")], &env[..1]);
        for said in [of_environment, of_flag] {
            for part in [&format!("--{name}"), value] {
                assert!(said.contains(part), "{part} is missing for {name}: {said}");
            }
        }
    }
    for (name, variable) in [("redis-url", "REDIS_URL"), ("database-url", "DATABASE_URL")] {
        let value = format!("nonsense://app:{PASSWORD}@host:port/x");
        let env = [("DATABASE_URL", "postgres://127.0.0.1:1/shop"), (variable, &*value)];
        for said in [place.refusal(&["run", &format!("--{name}={value}")], &env[..1]), place.refusal(&["run"], &env)] {
            assert!(said.contains(&format!("--{name}")) && !said.contains(PASSWORD), "{said}");
        }
    }
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
