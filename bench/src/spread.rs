//! The middle of some figures and how far they scatter. A shared machine disturbs single slices; the quartiles do not
//! mind the odd one.

use serde::Serialize;

/// Of one figure per slice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The lower quartile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The upper quartile.
    pub high: f64,
}

impl Spread {
    /// Of these figures; not a number if there are none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { low: at(&sorted, 0.25), median: at(&sorted, 0.5), high: at(&sorted, 0.75) }
    }

    /// Of a figure that was taken once.
    #[must_use]
    pub const fn single(figure: f64) -> Self {
        Self { low: figure, median: figure, high: figure }
    }
}

/// The figure at this share of the sorted ones, between two of them where it falls there.
fn at(sorted: &[f64], share: f64) -> f64 {
    let place = sorted.len().saturating_sub(1) as f64 * share;
    let figure = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    let (below, above) = (figure(place.floor()), figure(place.ceil()));
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles_lie_where_they_should() {
        let spread = |figures: &[f64]| {
            let Spread { low, median, high } = Spread::of(figures.iter().copied());
            (low, median, high)
        };
        assert_eq!(spread(&[5.0, 1.0, 3.0, 2.0, 4.0]), (2.0, 3.0, 4.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), (1.75, 2.5, 3.25));
        assert!(Spread::of([]).median.is_nan());
    }
}
