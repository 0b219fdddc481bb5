//! The table for a terminal: one line for each coupon, columns as wide as what is in them.

use super::view::{Coupon, Fence, View};
use comfy_table::{CellAlignment, Table, presets};

const HEAD: [&str; 10] =
    ["ID", "STATUS", "QUANTITY", "WAITING", "GRANTED", "PERSISTED", "REMAINING", "LAG", "DEAD", "DRIFT"];

/// Only where there are two looks to compare.
const RATES: [&str; 3] = ["REQUESTS/S", "GRANTS/S", "ROWS/S"];

/// The last column, which may hold a sentence.
const FENCE: &str = "FENCE";

const UNKNOWN: &str = "-";

/// Between two columns.
const GAP: (u16, u16) = (0, 2);

/// Its lines: what is away first.
pub fn draw(view: &View) -> Vec<String> {
    let is_watched = view.coupons.iter().any(|coupon| coupon.rates.is_some());
    let rates: &[&str] = if is_watched { &RATES } else { &[] };
    let head = [&HEAD, rates, &[FENCE]].concat();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(&head);
    table.add_rows(view.coupons.iter().map(|coupon| cells(coupon, is_watched)));
    for (column, name) in table.column_iter_mut().zip(&head) {
        let is_text = ["ID", "STATUS", FENCE].contains(name);
        column.set_padding(GAP);
        column.set_cell_alignment(if is_text { CellAlignment::Left } else { CellAlignment::Right });
    }
    let away = [("Redis", &view.redis), ("PostgreSQL", &view.postgresql)].into_iter().filter_map(|(name, side)| {
        let why = side.why.as_deref()?;
        Some(printable(&format!("{name} is away: {why}")))
    });
    away.chain(table.lines().map(|line| line.trim_end().to_owned())).collect()
}

fn cells(coupon: &Coupon, is_watched: bool) -> Vec<String> {
    let known = |number: Option<u64>| number.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string());
    let mut cells = vec![printable(&coupon.id), printable(&coupon.status)];
    cells.extend(
        [
            Some(coupon.quantity),
            coupon.waiting,
            Some(coupon.granted),
            Some(coupon.persisted),
            Some(coupon.remaining),
            Some(coupon.lag),
            Some(coupon.dead_letters),
            coupon.here.then_some(coupon.drift),
        ]
        .map(known),
    );
    match coupon.rates {
        Some(rates) => {
            let rates = [rates.requests_per_second, rates.grants_per_second, rates.rows_per_second];
            cells.extend(rates.map(|rate| format!("{rate:.1}")));
        }
        None if is_watched => cells.extend([UNKNOWN; RATES.len()].map(str::to_owned)),
        None => {}
    }
    cells.push(fence(coupon));
    cells
}

fn fence(coupon: &Coupon) -> String {
    let word = match coupon.fence {
        _ if coupon.stopped => "stopped",
        Fence::Open => "open",
        Fence::Fenced => "fenced",
        Fence::Absent => "not in Redis",
        Fence::Unknown => "unknown",
    };
    coupon.problem.as_ref().map_or_else(|| word.to_owned(), |problem| printable(&format!("{word}: {problem}")))
}

/// Without what a terminal would obey: ids come from applications.
fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
