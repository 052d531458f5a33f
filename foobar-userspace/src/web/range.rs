//! Byte ranges (RFC 9110, section 14): one range is served, several or malformed ones mean the whole file.

/// What a `Range` header asks of a representation of a known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Everything: no range, several, or one that is not understood.
    Whole,
    /// The bytes `first..=last`.
    Part {
        /// The first byte's offset.
        first: u64,
        /// The last byte's offset, below the length.
        last: u64,
    },
    /// Nothing of it exists: 416.
    Unsatisfiable,
}

/// Reads a `Range` header for a representation of `length` bytes.
#[must_use]
pub fn select(range: &str, length: u64) -> Selection {
    let Some((unit, set)) = range.split_once('=') else {
        return Selection::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Selection::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Selection::Whole;
    };
    match (number(first), number(last)) {
        (Number::Absent, Number::Value(0)) => Selection::Unsatisfiable,
        (Number::Absent, Number::Value(suffix)) => match length {
            0 => Selection::Unsatisfiable,
            _ => Selection::Part {
                first: length.saturating_sub(suffix),
                last: length - 1,
            },
        },
        (Number::Value(first), Number::Value(last)) if last < first => Selection::Whole,
        (Number::Value(first), last @ (Number::Value(_) | Number::Absent)) => {
            if first >= length {
                return Selection::Unsatisfiable;
            }
            let end = length - 1;
            let last = if let Number::Value(last) = last {
                last.min(end)
            } else {
                end
            };
            Selection::Part { first, last }
        }
        _ => Selection::Whole,
    }
}

enum Number {
    Absent,
    Value(u64),
    Malformed,
}

fn number(text: &str) -> Number {
    if text.is_empty() {
        return Number::Absent;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Malformed;
    }
    // Digits only: what does not fit lies beyond every file.
    Number::Value(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_the_rfc() {
        let part = |first, last| Selection::Part { first, last };
        for (range, expected) in [
            ("bytes=0-499", part(0, 499)),
            ("bytes=500-", part(500, 999)),
            ("bytes=-1", part(999, 999)),
            ("bytes=-5000", part(0, 999)),
            ("Bytes=0-0", part(0, 0)),
            ("bytes=990-99999999999999999999999", part(990, 999)),
            ("bytes=1000-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=0-1,5-6", Selection::Whole),
            ("bytes=5-4", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("lines=1-2", Selection::Whole),
            ("bytes", Selection::Whole),
        ] {
            assert_eq!(select(range, 1000), expected, "{range}");
        }
        assert_eq!(select("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-1", 0), Selection::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn a_part_always_lies_inside(range in "bytes=[0-9]{0,4}-[0-9]{0,4}", length in 0u64..3000) {
            if let Selection::Part { first, last } = select(&range, length) {
                prop_assert!(first <= last && last < length);
            }
        }
    }
}
