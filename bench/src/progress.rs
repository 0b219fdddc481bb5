//! How far a sale has come, on a terminal as bars, elsewhere as a line now and then.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Requests answered and rows written, of how many.
pub struct Progress {
    requests: ProgressBar,
    rows: ProgressBar,
    next_line: Option<Instant>,
}

impl Progress {
    /// Begins to show.
    #[must_use]
    pub fn start(requests: u64, rows: u64) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:9} [{bar:40}] {human_pos:>9} / {human_len:9} {per_sec:>12}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |name, length| bars.add(ProgressBar::new(length).with_style(style.clone()).with_message(name));
        Self {
            requests: bar("requests", requests),
            rows: bar("rows", rows),
            next_line: (!std::io::stderr().is_terminal()).then(|| Instant::now() + LINE_INTERVAL),
        }
    }

    /// Shows how far it is.
    pub fn show(&mut self, requests: u64, rows: u64) {
        self.requests.set_position(requests);
        self.rows.set_position(rows);
        if self.next_line.is_some_and(|due| due <= Instant::now()) {
            self.next_line = Some(Instant::now() + LINE_INTERVAL);
            eprintln!("requests answered: {requests}, rows: {rows}");
        }
    }

    /// Leaves the last state on the screen.
    pub fn end(&self) {
        self.requests.abandon();
        self.rows.abandon();
    }
}
