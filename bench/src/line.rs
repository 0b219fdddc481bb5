//! A line of the comparison: what was measured beside what, and whether it reaches what was asked of it.

use crate::spread::Spread;
use serde::Serialize;

/// What is asked of the figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// What the judged figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Ours over the peer's.
    Times,
    /// Milliseconds.
    Milliseconds,
    /// Mebibytes.
    Mebibytes,
    /// Per cent of a core.
    PercentOfCore,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// What is measured.
    pub what: String,
    /// Our absolute figure.
    pub ours: String,
    /// Who it is compared with; empty for nobody.
    pub peer: String,
    /// The peer's absolute figure.
    pub theirs: String,
    /// The figure that is judged, over the slices.
    pub judged: Spread,
    /// What it is.
    pub unit: Unit,
    /// What is asked of it; none for a line that only informs.
    pub reach: Option<Reach>,
    /// The ratio of the server's CPU time for one call, where that is what the rate stands on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_cpu: Option<Spread>,
    /// What has to be known beside the figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Line {
    /// Whether the median, as it is printed, reaches what is asked; none where nothing is asked.
    #[must_use]
    pub fn is_reached(&self) -> Option<bool> {
        let printed = (self.judged.median * 100.0).round() / 100.0;
        self.reach.map(|reach| match reach {
            Reach::AtLeast(bound) => printed >= bound,
            Reach::AtMost(bound) => printed <= bound,
        })
    }

    /// The verdict, as a word.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.is_reached() {
            _ if self.judged.median.is_nan() => "not measured",
            Some(true) => "reached",
            Some(false) => "NOT reached",
            None => "",
        }
    }

    /// What is asked, in words.
    #[must_use]
    pub fn asked(&self) -> String {
        let unit = self.unit.sign();
        match self.reach {
            Some(Reach::AtLeast(bound)) => format!("≥ {bound} {unit}"),
            Some(Reach::AtMost(bound)) => format!("≤ {bound} {unit}"),
            None => String::new(),
        }
    }

    /// The ratio by CPU time, in words.
    #[must_use]
    pub fn by_cpu(&self) -> String {
        self.by_cpu.map(|cpu| format!("{:.2} {}", cpu.median, self.unit.sign())).unwrap_or_default()
    }

    /// The judged figure and its spread, in words.
    #[must_use]
    pub fn figure(&self) -> (String, String) {
        let Spread { low, median, high } = self.judged;
        if median.is_nan() {
            return (String::new(), String::new());
        }
        let median = format!("{median:.2} {}", self.unit.sign());
        let spread = if low == high { String::new() } else { format!("{low:.2}..{high:.2}") };
        (median, spread)
    }
}

impl Unit {
    const fn sign(self) -> &'static str {
        match self {
            Self::Times => "×",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::PercentOfCore => "%",
        }
    }
}

/// A number of calls or rows per second, short.
#[must_use]
pub fn per_second(rate: f64) -> String {
    format!("{}/s", thousands(rate))
}

/// A number with its thousands set apart.
#[must_use]
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_judged_by_what_it_prints() {
        let line = |median, reach| Line {
            what: String::new(),
            ours: String::new(),
            peer: String::new(),
            theirs: String::new(),
            judged: Spread { low: 0.9, median, high: 1.1 },
            unit: Unit::Times,
            reach,
            by_cpu: None,
            note: None,
        };
        assert_eq!(line(0.996, Some(Reach::AtLeast(1.0))).is_reached(), Some(true));
        assert_eq!(line(0.994, Some(Reach::AtLeast(1.0))).is_reached(), Some(false));
        assert_eq!(line(1.024, Some(Reach::AtMost(1.02))).is_reached(), Some(true));
        assert_eq!(line(f64::NAN, Some(Reach::AtMost(1.02))).is_reached(), Some(false), "nothing measured");
        assert_eq!(line(f64::NAN, Some(Reach::AtMost(1.02))).verdict(), "not measured");
        assert_eq!(line(1.0, None).verdict(), "");
        assert_eq!(line(0.996, None).figure(), ("1.00 ×".to_owned(), "0.90..1.10".to_owned()));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            (thousands(7.0), thousands(1234.4), thousands(1e6)),
            ("7".into(), "1,234".into(), "1,000,000".into())
        );
    }
}
