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

/// All of them, in columns as wide as what stands in them.
pub fn print_all(lines: &[Line]) {
    let rows: Vec<[String; 9]> = lines
        .iter()
        .map(|line| {
            let (median, spread) = line.figure();
            let [what, ours, peer, theirs] = [&line.what, &line.ours, &line.peer, &line.theirs].map(Clone::clone);
            [what, ours, peer, theirs, median, spread, line.by_cpu(), line.asked(), line.verdict().to_owned()]
        })
        .collect();
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
