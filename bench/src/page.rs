//! The results as one page that needs nothing else: opened from a file, on a phone, by day and by night.

use crate::chart::escape;
use crate::findings::{Circumstances, Findings};
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn render(circumstances: &Circumstances, findings: &Findings) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>redis-coupon: benchmarks</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>redis-coupon, side by side</h1>\n"
    );
    let Circumstances { machine, servers, method, at } = circumstances;
    for text in [machine, servers, method, &format!("{at}; made again by: make bench")] {
        let _ = writeln!(out, "<p class=\"about\">{}</p>", escape(text));
    }
    table(&mut out, findings);
    for plot in &findings.plots {
        let _ = write!(
            out,
            "<section>\n<h2>{}</h2>\n<p>{}</p>\n<ul class=\"legend\">",
            escape(&plot.title),
            escape(&plot.caption)
        );
        for (number, series) in plot.series.iter().enumerate() {
            let _ = write!(out, "<li><span class=\"swatch s{number}\"></span>{}</li>", escape(&series.name));
        }
        let _ = writeln!(out, "</ul>\n{}\n</section>", plot.svg());
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// A row for each line; on a narrow screen each becomes a card, whose cells carry the names of their columns.
fn table(out: &mut String, findings: &Findings) {
    out.push_str(
        "<table>\n<thead><tr><th>what</th><th>ours</th><th>compared with</th><th>theirs</th><th>median</th>\
         <th>spread</th><th>by CPU</th><th>asked</th><th></th></tr></thead>\n<tbody>\n",
    );
    for line in &findings.lines {
        let (median, spread) = line.figure();
        let class = match line.is_reached() {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        let _ = write!(out, "<tr class=\"{class}\"><th scope=\"row\">{}", escape(&line.what));
        if let Some(note) = &line.note {
            let _ = write!(out, "<small>{}</small>", escape(note));
        }
        out.push_str("</th>");
        let (asked, cpu) = (line.asked(), line.by_cpu());
        let cells = [
            ("ours", line.ours.as_str()),
            ("compared with", &line.peer),
            ("theirs", &line.theirs),
            ("median", &median),
            ("spread", &spread),
            ("by CPU", &cpu),
            ("asked", &asked),
            ("", line.verdict()),
        ];
        for (name, text) in cells {
            let _ = write!(out, "<td data-name=\"{name}\">{}</td>", escape(text));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Line, Reach, Unit};
    use crate::spread::Spread;

    #[test]
    fn every_line_is_on_the_page_and_nothing_comes_from_outside() {
        let circumstances =
            Circumstances { machine: "a <b>".into(), servers: String::new(), method: String::new(), at: String::new() };
        let line = Line {
            what: "REQUEST".into(),
            ours: "1/s".into(),
            peer: "ZADD".into(),
            theirs: "2/s".into(),
            judged: Spread::single(0.5),
            unit: Unit::Times,
            reach: Some(Reach::AtLeast(1.0)),
            by_cpu: None,
            note: None,
        };
        let page = render(&circumstances, &Findings { lines: vec![line], ..Findings::default() });
        assert!(page.contains("NOT reached") && page.contains("0.50 ×") && page.contains("a &lt;b&gt;"), "{page}");
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
