//! The lines on a terminal.

use crate::line::Line;

const HEAD: [&str; 9] = ["what", "ours", "compared with", "theirs", "median", "spread", "by CPU", "asked", ""];

/// One line, as soon as it is measured.
pub fn print_line(line: &Line) {
    let (median, spread) = line.figure();
    let peer = if line.peer.is_empty() { String::new() } else { format!(" beside {}", line.peer) };
    println!("  {}{peer}: {median}  {spread}  {} {}", line.what, line.asked(), line.verdict());
    if let Some(note) = &line.note {
        println!("    {note}");
    }
}

fn cells(line: &Line) -> [String; 9] {
    let (median, spread) = line.figure();
    let [what, ours, peer, theirs] = [&line.what, &line.ours, &line.peer, &line.theirs].map(Clone::clone);
    [what, ours, peer, theirs, median, spread, line.by_cpu(), line.asked(), line.verdict().to_owned()]
}

/// All of them, in columns as wide as what stands in them.
pub fn print_all(lines: &[Line]) {
    let rows: Vec<[String; 9]> = lines.iter().map(cells).collect();
    let head = HEAD.map(str::to_owned);
    let mut widths = [0; 9];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

/// All of them for a document, in Markdown.
#[must_use]
pub fn markdown(lines: &[Line]) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = row(&HEAD.map(str::to_owned));
    out.push_str(&format!("|{}\n", "---|".repeat(HEAD.len())));
    for line in lines {
        out.push_str(&row(&cells(line)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Unit;
    use crate::spread::Spread;

    #[test]
    fn a_row_in_markdown_has_as_many_cells_as_the_head() {
        let line = Line {
            what: "REQUEST".into(),
            ours: "1/s".into(),
            peer: String::new(),
            theirs: String::new(),
            judged: Spread::single(0.5),
            unit: Unit::Times,
            reach: None,
            by_cpu: None,
            note: None,
        };
        let text = markdown(&[line]);
        let cells: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, [HEAD.len() + 1; 3], "{text}");
    }
}
