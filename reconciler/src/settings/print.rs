//! `--print-config`: the settings in effect as a settings file, each with its origin.

use super::origin::escaped;
use super::{Origin, is_secret};
use crate::secret;
use std::fmt::Write as _;
use std::path::PathBuf;
use toml::Value;

/// One setting.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its value as it was written, if it has one.
    pub value: Option<String>,
    /// Where that comes from.
    pub origin: Origin,
}

/// All of them. `config` is the settings file, and what named it.
pub fn page(title: &str, config: Option<&(PathBuf, Origin)>, entries: impl Iterator<Item = Entry>) -> String {
    let mut page = format!("# {title}\n");
    if let Some((path, origin)) = config {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "# settings file: {}, as {origin} says", escaped(path));
    }
    page.push('\n');
    let lines: Vec<(String, String)> = entries.map(|entry| line(&entry)).collect();
    let width = lines.iter().map(|(setting, _)| setting.chars().count()).max().unwrap_or_default();
    for (setting, comment) in lines {
        let _ = writeln!(page, "{setting:<width$}  # {comment}");
    }
    page
}

/// A setting, and the comment on it.
fn line(Entry { name, value, origin }: &Entry) -> (String, String) {
    let Some(value) = value else { return (format!("# {name}"), "not set".to_owned()) };
    let shown = if is_secret(name) { secret::redact(value) } else { value.clone() };
    let comment = if shown == *value { origin.to_string() } else { format!("{origin}; the password is not shown") };
    let setting = format!("{name} = {}", written(&shown));
    match origin {
        // The file that holds it is a setting too, and both at once are refused.
        Origin::Secret(_) => (format!("# {setting}"), comment),
        _ => (setting, comment),
    }
}

/// A value in TOML, in the type that people would write.
fn written(value: &str) -> String {
    match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) if number.to_string() == value => value.to_owned(),
        (_, Ok(_)) => value.to_owned(),
        _ => Value::String(value.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, value: &str, origin: Origin) -> Entry {
        Entry { name: name.into(), value: Some(value.into()), origin }
    }

    #[test]
    fn what_is_printed_can_be_read_and_shows_no_password() {
        let of_environment = Origin::Environment("REDIS_URL".into());
        let entries = [
            entry("batch-max", "7", Origin::Default),
            entry("no-migrate", "false", Origin::Flag),
            entry("instance", "\"quoted\" \u{1b}\n# =", Origin::File("/x\ny".into())),
            entry("redis-url", "redis://app:secret@host", of_environment),
            entry("database-url", "postgres://app:secret@host/db", Origin::Secret("/run/secret".into())),
            Entry { name: "listen".into(), value: None, origin: Origin::Unset },
        ];
        let page = page("title", Some(&("/a\nb".into(), Origin::Flag)), entries.into_iter());
        assert!(!page.contains("secret@"), "{page}");
        let table: toml::Table = page.parse().unwrap_or_default();
        let expected: toml::Table = [
            ("batch-max", Value::Integer(7)),
            ("no-migrate", Value::Boolean(false)),
            ("instance", Value::String("\"quoted\" \u{1b}\n# =".into())),
            ("redis-url", Value::String("redis://app:***@host".into())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        assert_eq!(table, expected, "{page}");
    }
}
