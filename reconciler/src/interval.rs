//! Durations as people write them: 500ms, 1s, 2m.

use std::time::Duration;

/// Longest interval: beyond a day it is a mistake.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads a whole number with its unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("'{text}' is no duration; write 500ms, 1s or 2m"))?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(format!("'{text}' needs a unit; write 500ms, 1s or 2m")),
    };
    if duration.is_zero() || duration > INTERVAL_MAX {
        return Err(format!("'{text}' is out of range; from 1ms to 24 hours is allowed"));
    }
    Ok(duration)
}

/// Reads the same, or 0 for never.
pub fn parse_or_off(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        text => parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "0s", "1", "s", "-1s", "1.5s", "1h", "99999999999999999999s", "1440m1", "1441m"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_or_off("0"), Ok(Duration::ZERO));
        assert_eq!(parse_or_off("1m"), Ok(Duration::from_secs(60)));
        assert!(parse_or_off("off").is_err());
    }
}
