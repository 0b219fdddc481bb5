//! What operators type: one file for each command.

mod audit;
mod check;
mod dead_letters;
mod health;
mod restore;
mod run;
mod signal;
mod status;
mod supervisor;
mod verify;

use crate::cli::{self, Cli, Command, redact};
use crate::coupon::Tools;
use crate::daemon;
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, Requirement};
use crate::model::coupon::{Row, Unreadable};
use crate::redis::{Certificates, Redis};
use clap::CommandFactory;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Rows in one batch of a command.
const BATCH_MAX: u32 = 5000;

/// Does what was typed.
pub async fn obey(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::run(open(&args.servers)?, args).await,
        Command::Migrate(database) => migrate(&open_ledger(&database)?).await,
        Command::Check(servers) => Ok(check::check(&open(&servers)?).await),
        Command::Health(args) => health::health(&args).await,
        Command::Status(args) => status::status(&args).await,
        Command::Verify(args) => verify::verify(&open_ledger(&args.database)?, &args).await,
        Command::Restore(args) => restore::restore(open(&args.servers)?, &args).await,
        Command::Audit(args) => audit::audit(&open(&args.servers)?, &args).await,
        Command::DeadLetters(args) => dead_letters::obey(&open_ledger(&args.database)?, args.action).await,
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "coupon-reconciler", &mut completions);
            print(|out| out.write_all(&completions)).map(|()| Exit::Ok)
        }
    }
}

async fn migrate(ledger: &Ledger) -> Result<Exit, Failure> {
    ledger.ping().await?;
    for requirement in Requirement::OF_SERVER {
        ledger.require(requirement).await?;
    }
    let applied = ledger.migrate().await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    println!("applied {applied} migration(s); the schema is current");
    Ok(Exit::Ok)
}

fn open_redis(args: &cli::Redis) -> Result<Redis, Failure> {
    let certificates = Certificates {
        ca: args.redis_tls_ca.clone(),
        cert: args.redis_tls_cert.clone(),
        key: args.redis_tls_key.clone(),
    };
    let address = args.address();
    Redis::new(address.clone(), certificates).map_err(|error| refused("redis-url", &address.url, &error.to_string()))
}

fn open_ledger(args: &cli::Database) -> Result<Ledger, Failure> {
    let address = args.address()?;
    let refused = |why| {
        refused("database-url", &address.url, &format!("{why}; write postgres://user:password@host:port/database"))
    };
    Ledger::new(address.clone(), daemon::CONNECTIONS_MAX).map_err(refused)
}

/// An address cannot be. The command line's own parser would show the password in it.
fn refused(setting: &str, url: &str, why: &str) -> Failure {
    Failure::new(Exit::Usage, format!("--{setting} cannot be '{}': {why}", redact(url)))
}

/// What the coupons are worked on with.
fn open(servers: &cli::Servers) -> Result<Tools, Failure> {
    Ok(Tools {
        redis: Arc::new(open_redis(&servers.redis)?),
        ledger: Arc::new(open_ledger(&servers.database)?),
        counters: Arc::default(),
        keys: servers.redis.key.clone(),
        batch_max: BATCH_MAX,
        stop: CancellationToken::new(),
    })
}

/// Visits one coupon of the ledger, or all.
async fn each_coupon(
    ledger: &Ledger,
    id: Option<&str>,
    mut visit: impl AsyncFnMut(Result<Row, Unreadable>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if let Some(id) = id {
        let row = ledger.row(id).await?;
        let missing = || Failure::new(Exit::Failed, format!("there is no coupon {id} in the ledger"));
        return visit(Ok(row.ok_or_else(missing)?)).await;
    }
    let mut pages = ledger.pages();
    while let Some((rows, unreadable)) = pages.next().await? {
        for row in rows.into_iter().map(Ok).chain(unreadable.into_iter().map(Err)) {
            visit(row).await?;
        }
    }
    Ok(())
}

/// Writes to stdout. Whoever reads may have read enough, as with `| head`.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    match write(&mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("nothing can be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes what was found to stdout: as JSON, or in lines for people.
fn print_found<T: Serialize + ?Sized>(
    is_json: bool,
    found: &T,
    write: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
) -> Result<(), Failure> {
    print(|out| {
        if !is_json {
            return write(out, found);
        }
        serde_json::to_writer_pretty(&mut *out, found)?;
        writeln!(out)
    })
}

#[cfg(test)]
mod tests {
    //! The pages for people keep pace with the program: every setting, metric, exit code and log line is there, and nothing is
    //! that is not.

    use super::*;
    use crate::error::tests::EXITS;
    use crate::show::metrics;
    use clap::Arg;
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
        let all =
            cells.into_iter().flat_map(|cell| if cell.contains('`') { quoted(cell) } else { vec![cell.to_owned()] });
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
                let (flag, env) =
                    (arg.get_long().unwrap_or_default(), arg.get_env().unwrap_or_default().to_string_lossy());
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
        for exit in EXITS {
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
}
