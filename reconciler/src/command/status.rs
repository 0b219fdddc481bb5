//! `status`: every coupon as the daemon sees both sides, once or again and again.

use crate::cli;
use crate::error::{Exit, Failure};
use crate::show::view::View;
use crate::show::{fetch, table};
use humantime::Rfc3339Timestamp;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::SystemTime;
use terminal_size::{Height, Width, terminal_size};

/// To the upper left corner of the screen.
const HOME: &str = "\x1b[H";
/// What is left of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// What is left of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows them; with `--watch` until Ctrl-C.
pub async fn status(args: &cli::Status) -> Result<Exit, Failure> {
    tokio::select! {
        shown = show(args) => shown,
        _ = tokio::signal::ctrl_c(), if args.watch.is_some() => Ok(Exit::Ok),
    }
}

async fn show(args: &cli::Status) -> Result<Exit, Failure> {
    loop {
        let shown = match look(args.listen).await {
            Ok(view) => write(args, &view),
            // Whoever watches wants to see it come back.
            Err(failure) if args.watch.is_some() => say(&failure.message),
            Err(failure) => return Err(failure),
        };
        match (shown, args.watch) {
            (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Failure::new(Exit::Failed, format!("the table cannot be written: {error}")));
            }
            (Ok(()), Some(every)) => tokio::time::sleep(every).await,
            // Whoever reads may have read enough, as with `| head`.
            _ => return Ok(Exit::Ok),
        }
    }
}

/// What the daemon sees.
async fn look(listen: SocketAddr) -> Result<View, Failure> {
    let answer = fetch::get(listen, "/status").await?;
    let other = "it is another program, or of another version";
    serde_json::from_slice(answer.body()).map_err(|_| fetch::nobody(listen, other))
}

fn write(args: &cli::Status, view: &View) -> io::Result<()> {
    let text = match (args.json, args.watch) {
        (true, Some(_)) => serde_json::to_string(view)?,
        (true, None) => serde_json::to_string_pretty(view)?,
        (false, None) => table::draw(view).join("\n"),
        (false, Some(_)) if io::stdout().is_terminal() => return redraw(&table::draw(view)),
        (false, Some(_)) => format!("{}\n{}\n", now(), table::draw(view).join("\n")),
    };
    writeln!(io::stdout(), "{text}")
}

fn say(message: &str) -> io::Result<()> {
    if io::stdout().is_terminal() {
        return redraw(&[message.to_owned()]);
    }
    // Not among what another program reads.
    eprintln!("{} {message}", now());
    Ok(())
}

/// Over what stands there, line by line, so that nothing flickers; what does not fit is counted.
fn redraw(lines: &[String]) -> io::Result<()> {
    let (width, height) = terminal_size().map_or((usize::MAX, usize::MAX), |(Width(width), Height(height))| {
        (usize::from(width), usize::from(height).saturating_sub(2).max(1))
    });
    let fits = if lines.len() > height { height - 1 } else { lines.len() };
    let more = lines.get(fits).map(|_| format!("… and {} more", lines.len() - fits));
    let mut screen = format!("{HOME}{}{CLEAR_LINE}\n", now());
    for line in lines[..fits].iter().chain(&more) {
        screen.extend(line.chars().take(width));
        screen += CLEAR_LINE;
        screen += "\n";
    }
    let mut out = io::stdout().lock();
    write!(out, "{screen}{CLEAR_BELOW}")?;
    out.flush()
}

/// The time, to the second.
fn now() -> Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(SystemTime::now())
}
