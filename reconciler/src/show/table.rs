//! The table for a terminal: one line for each coupon, columns as wide as what is in them.

use super::view::{Coupon, Fence, View};
use comfy_table::CellAlignment::{self, Left, Right};
use comfy_table::{Table, presets};

/// A name, where its words or numbers stand, and what is said of a coupon.
type Column = (&'static str, CellAlignment, fn(&Coupon) -> String);

const COLUMNS: [Column; 11] = [
    ("ID", Left, |coupon| printable(&coupon.id)),
    ("STATUS", Left, |coupon| printable(&coupon.status)),
    ("QUANTITY", Right, |coupon| coupon.quantity.to_string()),
    ("WAITING", Right, |coupon| known(coupon.waiting)),
    ("GRANTED", Right, |coupon| coupon.granted.to_string()),
    ("PERSISTED", Right, |coupon| coupon.persisted.to_string()),
    ("REMAINING", Right, |coupon| coupon.remaining.to_string()),
    ("LAG", Right, |coupon| known(coupon.lag)),
    ("DEAD", Right, |coupon| coupon.dead_letters.to_string()),
    ("DRIFT", Right, |coupon| known(coupon.here.then_some(coupon.drift))),
    ("FENCE", Left, fence),
];

/// Between two columns.
const GAP: (u16, u16) = (0, 2);

/// Its lines: what is away first, and last how many coupons are not there.
pub fn draw(view: &View) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(COLUMNS.iter().map(|(name, ..)| name));
    table.add_rows(view.coupons.iter().map(|coupon| COLUMNS.iter().map(|(.., cell)| cell(coupon))));
    for (column, (_, alignment, _)) in table.column_iter_mut().zip(&COLUMNS) {
        column.set_padding(GAP).set_cell_alignment(*alignment);
    }
    let away = [("Redis", &view.process.redis), ("PostgreSQL", &view.process.postgresql)].into_iter().filter_map(
        |(name, side)| {
            let why = side.why.as_deref()?;
            Some(printable(&format!("{name} is away: {why}")))
        },
    );
    let unseen = view.coupons_total.saturating_sub(view.coupons.len() as u64);
    let unseen = (unseen > 0).then(|| format!("{unseen} more are left out; those on offer come first"));
    away.chain(table.lines().map(|line| line.trim_end().to_owned())).chain(unseen).collect()
}

fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::standing::{Health, Process};

    fn words(line: &str) -> String {
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_unknown_away_or_left_out_is_said() {
        let open =
            Coupon { id: "쿠폰".into(), fence: Fence::Open, here: true, waiting: Some(7), ..Coupon::default() };
        let problem = Some("why\nnot".into());
        let shut =
            Coupon { id: "b\u{1b}".into(), status: "STANDARD".into(), stopped: true, problem, ..Coupon::default() };
        let redis = Health { up: false, why: Some("refused".into()) };
        let process = Process { redis, postgresql: Health { up: true, why: None }, ..Process::default() };
        let view = View { process, coupons: vec![open, shut], coupons_total: 5, ..View::default() };
        let drawn = draw(&view);
        let head = "ID STATUS QUANTITY WAITING GRANTED PERSISTED REMAINING LAG DEAD DRIFT FENCE";
        let lines: Vec<String> = drawn.iter().map(|line| words(line)).collect();
        assert_eq!(
            lines,
            [
                "Redis is away: refused",
                head,
                "쿠폰 0 7 0 0 0 - 0 0 open",
                "b\\u{1b} STANDARD 0 - 0 0 0 - 0 - stopped: why\\nnot",
                "3 more are left out; those on offer come first",
            ]
        );
    }
}
