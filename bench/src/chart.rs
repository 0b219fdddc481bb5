//! Line charts as SVG that stands by itself in a page: no script, no outside style, colours by the page's variables.

use serde::Serialize;
use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 52.0;
/// Of a point's mark; left out where points stand so close that they are a line by themselves.
const MARK_RADIUS: f64 = 3.5;
const MARKS_MAX: usize = 24;

/// How an axis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal steps, from zero.
    Linear,
    /// Powers of ten; what is not above zero is left out.
    Log,
}

/// One line of a chart.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone, Serialize)]
pub struct Plot {
    /// Its heading.
    pub title: String,
    /// What it shows.
    pub caption: String,
    /// The name and course of the axis below.
    pub x: (String, Scale),
    /// The name and course of the axis on the left.
    pub y: (String, Scale),
    /// Its lines.
    pub series: Vec<Series>,
}

/// From figures to places on the page.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, scale: Scale, start: f64, end: f64) -> Self {
        let values: Vec<f64> =
            values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0)).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (from, to) = match scale {
            _ if values.is_empty() => (1.0, 10.0),
            Scale::Linear => (0.0, if most > 0.0 { most * 1.05 } else { 1.0 }),
            // A little room, so that no point lies on the frame.
            Scale::Log => (least / 1.15, most * 1.15),
        };
        Self { scale, from, to, start, end }
    }

    fn place(&self, value: f64) -> Option<f64> {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        share.is_finite().then_some(self.start + (self.end - self.start) * share)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let rough = (self.to - self.from) / 6.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= self.to).collect()
            }
            Scale::Log => {
                let powers = (self.from.log10().floor() as i32)..=(self.to.log10().ceil() as i32);
                let decades = self.to.log10() - self.from.log10();
                // Within few powers of ten, their ticks alone would be too few.
                let factors: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                powers
                    .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
                    .filter(|tick| (self.from..=self.to).contains(tick))
                    .collect()
            }
        }
    }
}

/// A tick's number, short.
fn short(value: f64) -> String {
    let trimmed = |number: f64| {
        let text = format!("{number:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value {
        _ if value >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        _ if value >= 1e3 => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

impl Plot {
    /// The chart; writing to a string cannot fail.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let x = Axis::over(points().map(|point| point.0), self.x.1, LEFT, WIDTH - RIGHT);
        let y = Axis::over(points().map(|point| point.1), self.y.1, HEIGHT - BOTTOM, TOP);
        let mut out =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(&self.title));
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in x.ticks() {
            let Some(at) = x.place(tick) else { continue };
            let _ = write!(out, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>");
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 19.0,
                short(tick)
            );
        }
        for tick in y.ticks() {
            let Some(at) = y.place(tick) else { continue };
            let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>");
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 5.0,
                short(tick)
            );
        }
        let middle = (LEFT + right) / 2.0;
        let _ = write!(
            out,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 10.0,
            escape(&self.x.0)
        );
        let centre = (TOP + bottom) / 2.0;
        let _ = write!(
            out,
            "<text x=\"16\" y=\"{centre}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {centre})\">{}</text>",
            escape(&self.y.0)
        );
        for (number, series) in self.series.iter().enumerate() {
            let places: Vec<(f64, f64)> =
                series.points.iter().filter_map(|point| Some((x.place(point.0)?, y.place(point.1)?))).collect();
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            if path.len() > 1 {
                let _ = write!(out, "<path class=\"line s{number}\" d=\"M{}\"/>", path.join("L"));
            }
            if places.len() <= MARKS_MAX {
                for ((x, y), point) in places.iter().zip(&series.points) {
                    let _ = write!(
                        out,
                        "<circle class=\"mark s{number}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{MARK_RADIUS}\"><title>{}: {} at {}</title></circle>",
                        escape(&series.name),
                        short(point.1),
                        short(point.0)
                    );
                }
            }
        }
        out.push_str("</svg>");
        out
    }
}

/// Text as it may stand in HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, points: Vec<(f64, f64)>) -> Plot {
        Plot {
            title: "a < b".into(),
            caption: String::new(),
            x: ("x".into(), Scale::Linear),
            y: ("y".into(), scale),
            series: vec![Series { name: "one".into(), points }],
        }
    }

    #[test]
    fn points_stand_within_the_frame_and_in_order() {
        let axis = Axis::over([1.0, 10.0, 100.0].into_iter(), Scale::Log, 0.0, 300.0);
        let places: Vec<f64> = [1.0, 10.0, 100.0].into_iter().filter_map(|value| axis.place(value)).collect();
        assert!(places.iter().all(|place| (0.0..=300.0).contains(place)), "{places:?}");
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
        assert_eq!(axis.place(0.0), None, "there is no zero on a logarithmic axis");
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(Axis::over([9.0].into_iter(), Scale::Linear, 0.0, 1.0).ticks(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(Axis::over([1e3, 5e6].into_iter(), Scale::Log, 0.0, 1.0).ticks(), [1e3, 1e4, 1e5, 1e6]);
        assert_eq!([short(0.5), short(1500.0), short(5e6)], ["0.5", "1.5 k", "5 M"]);
    }

    #[test]
    fn a_chart_needs_nothing_from_outside_and_survives_empty_series() {
        let svg = plot(Scale::Log, vec![(0.0, 0.0), (1.0, 5.0), (2.0, 50.0)]).svg();
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("http"), "{svg}");
        assert!(!plot(Scale::Linear, Vec::new()).svg().contains("NaN"));
    }
}
