//! The pages for people keep pace with the program: every setting, metric, exit code and log line is there, and nothing is
//! that is not.

use crate::cli::Cli;
use crate::error::Exit;
use crate::show::metrics;
use clap::{Arg, CommandFactory};
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| unreachable!("{}: {error}", file.display()))
}

/// The first cells of the table below a heading, which may hold several words in backticks.
fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let section = page.split_once(&format!("\n## {heading}\n")).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).map(str::trim).collect();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let all = cells.into_iter().flat_map(|cell| if cell.contains('`') { quoted(cell) } else { vec![cell.to_owned()] });
    all.collect()
}

#[test]
fn every_setting_stands_in_both_tables_as_it_is() {
    let mut command = Cli::command();
    command.build();
    let Some(run) = command.find_subcommand("run") else { unreachable!("run is a command") };
    let settings: Vec<&Arg> = run.get_arguments().filter(|arg| arg.get_env().is_some()).collect();
    for page in ["README.md", "docs/operations.md"] {
        let text = read(page);
        let named: Vec<String> = first_cells(&text, "Settings");
        for arg in &settings {
            let (flag, env) = (arg.get_long().unwrap_or_default(), arg.get_env().unwrap_or_default().to_string_lossy());
            let row = format!("| `--{flag}` | `{env}` | ");
            let row = text.lines().find_map(|line| line.strip_prefix(&row)).unwrap_or_default();
            let default = arg.get_default_values().first().map_or("none".into(), |value| value.to_string_lossy());
            let shown = row.split([' ', '|']).next().unwrap_or_default();
            let is_shown = shown.trim_matches('`') == default;
            assert!(is_shown || flag == "instance", "{page}: --{flag}, {env}, {default}: {row}");
        }
        for name in named.iter().filter_map(|name| name.strip_prefix("--")) {
            assert!(settings.iter().any(|arg| arg.get_long() == Some(name)), "{page}: --{name} is no setting");
        }
    }
}

#[test]
fn every_metric_and_exit_code_is_explained() {
    let page = read("docs/operations.md");
    let named = first_cells(&page, "Metrics");
    let named: Vec<&str> = named.iter().filter_map(|name| name.split('{').next()).collect();
    let known = metrics::tests::names();
    for name in &known {
        assert!(named.contains(&&**name), "{name} is not explained");
    }
    for name in named {
        assert!(known.iter().any(|known| known == name), "{name} is no metric");
    }
    let codes = first_cells(&page, "Exit codes").join(", ");
    for exit in Exit::ALL {
        assert!(codes.split(", ").any(|code| code == (exit as u8).to_string()), "{exit:?}");
    }
}

#[test]
fn every_log_line_of_the_page_is_one_of_the_program() {
    let mut source = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
                source += &fs::read_to_string(entry.path()).unwrap_or_default();
            }
        }
    }
    // A text that goes on in the next line of the source.
    let source: String = source.split("\\\n").map(str::trim_start).collect();
    let lines = first_cells(&read("docs/operations.md"), "Log lines");
    assert!(lines.len() > 15, "{lines:?}");
    for line in lines {
        assert!(source.contains(&line), "nothing logs: {line}");
    }
}
