//! Durations as an operator writes them: a whole number and a unit, `500ms`, `2s`, `15m`, `1h`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Why a text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It does not begin with a whole number.
    #[error("a duration is a whole number and a unit")]
    Number,
    /// The number has no unit.
    #[error("the duration has no unit")]
    NoUnit,
    /// The unit is none of `ms`, `s`, `m`, `h`.
    #[error("the duration's unit is not one of ms, s, m, h")]
    Unit,
    /// More milliseconds than fit 64 bits.
    #[error("the duration is too long")]
    TooLong,
}

/// Reads a duration.
///
/// # Errors
/// Where the text is not a whole number followed at once by `ms`, `s`, `m` or `h`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Number);
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let (_, milliseconds) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::Unit)?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*milliseconds))
        .map(Duration::from_millis)
        .ok_or(DurationError::TooLong)
}

/// Writes a duration in the largest unit that is exact; what is below a millisecond is cut off.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let total = duration.as_millis();
    let (unit, size) = UNITS
        .iter()
        .rev()
        .find(|(_, size)| total != 0 && total.is_multiple_of(u128::from(*size)))
        .unwrap_or(&UNITS[1]);
    format!("{}{unit}", total / u128::from(*size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_read() {
        for (text, milliseconds) in [("500ms", 500), ("2s", 2_000), ("15m", 900_000), ("1h", 3_600_000)] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
            assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_duration(Duration::from_millis(1_500)), "1500ms");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for (text, error) in [
            ("", DurationError::Number),
            ("s", DurationError::Number),
            ("-1s", DurationError::Number),
            ("12", DurationError::NoUnit),
            ("1.5s", DurationError::Unit),
            ("2 s", DurationError::Unit),
            ("2S", DurationError::Unit),
            ("99999999999999999999s", DurationError::TooLong),
            ("9999999999999999h", DurationError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(milliseconds: u64) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
