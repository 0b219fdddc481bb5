//! `status`: every coupon as the daemon sees both sides, once or again and again.

use crate::cli;
use crate::error::{Exit, Failure};
use crate::show::view::View;
use crate::show::{fetch, table};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use terminal_size::{Height, Width, terminal_size};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// To the upper left corner.
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
    let mut before: Option<View> = None;
    loop {
        let shown = match look(args.listen).await {
            Ok(mut view) => {
                match before {
                    // Who asks often is given the same look again.
                    Some(same) if same.now_ms == view.now_ms => view = same,
                    Some(before) => view.rate_since(&before),
                    None => {}
                }
                let shown = write(args, &view);
                before = Some(view);
                shown
            }
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
    let advice = "start one with `coupon-reconciler run`, or say with --listen or LISTEN where it is";
    let nobody = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::Unreachable, format!("no daemon answers on {listen}: {why}; {advice}"))
    };
    let answer = fetch::get(listen, "/status").await.map_err(|error| nobody(&error))?;
    serde_json::from_slice(answer.body()).map_err(|_| nobody(&"it is another program, or of another version"))
}

fn write(args: &cli::Status, view: &View) -> io::Result<()> {
    let text = match (args.json, args.watch) {
        (true, Some(_)) => serde_json::to_string(view)?,
        (true, None) => serde_json::to_string_pretty(view)?,
        (false, None) => table::draw(view).join("\n"),
        (false, Some(_)) => {
            let lines = [vec![now()], table::draw(view)].concat();
            if io::stdout().is_terminal() {
                return redraw(&lines);
            }
            // An empty line tells one table from the next.
            lines.join("\n") + "\n"
        }
    };
    writeln!(io::stdout(), "{text}")
}

fn say(message: &str) -> io::Result<()> {
    if io::stdout().is_terminal() {
        return redraw(&[now(), message.to_owned()]);
    }
    // Not among what another program reads.
    eprintln!("{} {message}", now());
    Ok(())
}

/// Over what stands there, line by line, so that nothing flickers; what does not fit is counted.
fn redraw(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (width, height) = terminal_size().map_or((usize::MAX, usize::MAX), |(Width(width), Height(height))| {
        (usize::from(width), usize::from(height).saturating_sub(1).max(2))
    });
    let fits = if lines.len() > height { height - 1 } else { lines.len() };
    write!(out, "{HOME}")?;
    for line in lines.iter().take(fits) {
        let cut: String = line.chars().take(width).collect();
        writeln!(out, "{cut}{CLEAR_LINE}")?;
    }
    if fits < lines.len() {
        writeln!(out, "… and {} more{CLEAR_LINE}", lines.len() - fits)?;
    }
    write!(out, "{CLEAR_BELOW}")?;
    out.flush()
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}
