//! The settings file: a flat TOML table, whose names are those of the flags.

use super::Values;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What a settings file says.
#[derive(Debug)]
pub struct File {
    /// Where it lies.
    pub path: PathBuf,
    /// Its settings, as they would be written behind a flag.
    pub values: Values,
}

impl File {
    /// Reads a file; these are the settings that there are.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn read(path: &Path, names: &[String]) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("the file cannot be read: {error}"))?;
        Ok(Self { path: path.to_owned(), values: parse(&text, names)? })
    }
}

fn parse(text: &str, names: &[String]) -> Result<Values, String> {
    let table: Table = text.parse().map_err(|error| not_toml(text, &error))?;
    table
        .into_iter()
        .map(|(name, value)| {
            if !names.contains(&name) {
                let near = nearest(&name, names);
                return Err(format!("'{}' is no setting; the nearest is '{near}'", name.escape_debug()));
            }
            let value = written(&value).ok_or_else(|| {
                format!("{name} is a TOML {}; a string, a whole number, true or false is allowed", value.type_str())
            })?;
            Ok((name, value))
        })
        .collect()
}

/// The parser's own text shows the line, which may hold a password.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line} is not TOML: {}", error.message())
}

/// A value as it would be written behind a flag.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

fn nearest<'n>(name: &str, names: &'n [String]) -> &'n str {
    // As the environment spells it.
    let name = name.to_lowercase().replace('_', "-");
    names.iter().min_by_key(|known| strsim::damerau_levenshtein(&name, known)).map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let names = ["batch-max", "database-url", "issue-interval", "no-migrate"].map(str::to_owned);
        Ok(parse(text, &names)?.into_iter().collect())
    }

    #[test]
    fn a_value_is_what_stands_behind_the_flag() {
        let read = read("batch-max = 7\nissue-interval = '500ms'\nno-migrate = true # why\n");
        let pairs = [("batch-max", "7"), ("issue-interval", "500ms"), ("no-migrate", "true")];
        assert_eq!(read, Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_that_is_known() {
        for (unknown, near) in [
            ("batch_max", "batch-max"),
            ("BATCH-MAX", "batch-max"),
            ("isue-interval", "issue-interval"),
            ("no-migration", "no-migrate"),
            ("data-base-url", "database-url"),
        ] {
            let refused = read(&format!("{unknown} = 1"));
            assert_eq!(refused, Err(format!("'{unknown}' is no setting; the nearest is '{near}'")));
        }
        assert!(read("[run]\nbatch-max = 1").is_err_and(|why| why.starts_with("'run' is no setting")));
    }

    #[test]
    fn a_value_of_another_type_is_refused_by_name() {
        for (bad, kind) in [("1.5", "float"), ("[1]", "array"), ("{ a = 1 }", "table"), ("2026-01-01", "datetime")] {
            let refused = read(&format!("batch-max = {bad}"));
            assert!(refused.is_err_and(|why| why.starts_with(&format!("batch-max is a TOML {kind};"))), "{bad}");
        }
    }

    #[test]
    fn a_line_that_is_not_toml_is_told_by_its_number_and_not_shown() {
        let refused = read("batch-max = 1\n\ndatabase-url = postgres://app:secret@host/db\n");
        assert!(refused.is_err_and(|why| why.starts_with("line 3 ") && !why.contains("secret")));
    }
}
