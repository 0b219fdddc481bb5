//! The table: one line for each coupon, columns as wide as what is in them.

use super::Line;

const HEAD: [&str; 12] = [
    "ID",
    "STATUS",
    "QUANTITY",
    "GRANTED",
    "SEQ",
    "REDIS GRANTED",
    "WAITING",
    "REMAINING",
    "PERSISTED",
    "LAG",
    "DEAD",
    "DRIFT",
];

/// Only where there are two looks to compare.
const RATES: [&str; 3] = ["REQUESTS/S", "GRANTS/S", "ROWS/S"];

/// Columns of words, which stand to the left; numbers stand to the right.
const WORDS: usize = 2;

const UNKNOWN: &str = "-";

/// Its lines.
pub fn draw(lines: &[Line]) -> Vec<String> {
    let is_watched = lines.iter().any(|line| line.rates.is_some());
    let mut head: Vec<String> = HEAD.map(str::to_owned).to_vec();
    if is_watched {
        head.extend(RATES.map(str::to_owned));
    }
    let columns = head.len();
    let mut rows = vec![(head, "FENCE".to_owned())];
    rows.extend(lines.iter().map(|line| (cells(line, is_watched), fence(line))));
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|(cells, _)| cells.get(column)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let join = |(cells, last): (Vec<String>, String)| {
        let mut text = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            text += &if column < WORDS { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
        }
        text + &last
    };
    rows.into_iter().map(join).collect()
}

fn cells(line: &Line, is_watched: bool) -> Vec<String> {
    let mut cells = vec![printable(&line.id), line.status.to_owned()];
    cells.extend([line.quantity, line.granted, line.seq].map(|n| n.to_string()));
    match &line.redis {
        Some(seen) => {
            cells.extend([seen.granted, seen.waiting, seen.remaining, seen.persisted, seen.lag].map(|n| n.to_string()))
        }
        None => cells.extend([UNKNOWN; 5].map(str::to_owned)),
    }
    cells.push(line.dead_letters.to_string());
    cells.push(line.daemon.as_ref().map_or_else(|| UNKNOWN.to_owned(), |daemon| daemon.drift.to_string()));
    if is_watched {
        let rates = line.rates.map(|rates| [rates.requests_per_second, rates.grants_per_second, rates.rows_per_second]);
        match rates {
            Some(rates) => cells.extend(rates.map(|rate| format!("{rate:.1}"))),
            None => cells.extend([UNKNOWN; RATES.len()].map(str::to_owned)),
        }
    }
    cells
}

fn fence(line: &Line) -> String {
    let problem = line.daemon.as_ref().filter(|daemon| daemon.stopped).and_then(|daemon| daemon.problem.as_deref());
    let text = match (problem, &line.redis, &line.error) {
        (Some(problem), _, _) => return printable(&format!("stopped: {problem}")),
        (None, Some(seen), _) if seen.fenced => "fenced",
        (None, Some(_), _) => "open",
        (None, None, Some(error)) => return printable(error),
        (None, None, None) => "not in Redis",
    };
    text.to_owned()
}

/// Without what a terminal would obey: ids come from applications.
fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
