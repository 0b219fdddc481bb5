//! Instants of a coupon's window, in Unix milliseconds.

use crate::limit::{WINDOW_MS_MAX, WINDOW_MS_MIN};
use crate::number::number;
use crate::refusal::{Refusal, quote};

/// Reads an instant; 0 is for none. One that no sale can be held at was meant in another unit.
#[must_use]
pub fn instant(bytes: &[u8]) -> Option<u64> {
    number(bytes).filter(|ms| *ms == 0 || (WINDOW_MS_MIN..=WINDOW_MS_MAX).contains(ms))
}

/// What an instant is, for an error.
#[must_use]
pub fn expected() -> String {
    format!(
        "a time in Unix milliseconds (seconds times 1000) from {WINDOW_MS_MIN}, in 1990, to {WINDOW_MS_MAX}, or 0 for none"
    )
}

/// Reads the instant behind an option.
///
/// # Errors
/// [`Refusal::Usage`] if it is none.
pub fn parse(name: &str, bytes: &[u8]) -> Result<u64, Refusal> {
    instant(bytes).ok_or_else(|| Refusal::usage(format!("{name} is {}, not {}", expected(), quote(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_another_unit_is_no_time() {
        for good in [0, WINDOW_MS_MIN, 1_795_874_262_000, WINDOW_MS_MAX] {
            assert_eq!(parse("OPENS", good.to_string().as_bytes()), Ok(good));
        }
        for bad in ["1", "1795874262", "631151999999", "1795874262000000", "253402300800000", "", "-1", "soon"] {
            match parse("OPENS", bad.as_bytes()) {
                Err(Refusal::Usage(text)) => assert!(text.contains("OPENS is a time in Unix milliseconds"), "{text}"),
                other => assert!(other.is_err(), "{bad}: {other:?}"),
            }
        }
    }
}
