//! Conditional requests (RFC 9110, section 13): entity tags and dates against a representation's own.
//!
//! Pure: takes headers and validators, returns what to do.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{self, AsHeaderName, HeaderValue};

/// What a representation is recognised by.
#[derive(Debug, Clone)]
pub struct Validators {
    /// The entity tag with its quotes, `W/` before it where it is weak.
    pub etag: String,
    /// When the file was last changed.
    pub modified: SystemTime,
}

/// What the preconditions of a GET or HEAD come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has it already.
    NotModified,
    /// 412: the client does not want this one.
    Failed,
}

/// Evaluates a GET's or HEAD's preconditions in the order of section 13.2.2.
#[must_use]
pub fn evaluate(headers: &HeaderMap, validators: &Validators) -> Outcome {
    if headers.contains_key(header::IF_MATCH) {
        if !any_tag(headers, header::IF_MATCH, |tag| {
            strong_match(tag, &validators.etag)
        }) {
            return Outcome::Failed;
        }
    } else if let Some(limit) = date(headers.get(header::IF_UNMODIFIED_SINCE))
        && whole_seconds(validators.modified) > limit
    {
        return Outcome::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if any_tag(headers, header::IF_NONE_MATCH, |tag| {
            opaque(tag) == opaque(&validators.etag)
        }) {
            return Outcome::NotModified;
        }
    } else if let Some(since) = date(headers.get(header::IF_MODIFIED_SINCE))
        && whole_seconds(validators.modified) <= since
    {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// True where a `Range` header may be followed: no `If-Range`, or one that names exactly this
/// representation by a strong validator (section 13.1.5). A date is strong only once it is a second old.
#[must_use]
pub fn range_applies(headers: &HeaderMap, validators: &Validators, now: SystemTime) -> bool {
    let Some(condition) = headers.get(header::IF_RANGE) else {
        return true;
    };
    let Ok(text) = condition.to_str() else {
        return false;
    };
    if text.starts_with('"') || text.starts_with("W/") {
        return strong_match(text.trim(), &validators.etag);
    }
    let settled = now
        .duration_since(validators.modified)
        .is_ok_and(|age| age > Duration::from_secs(1));
    settled && date(Some(condition)) == Some(whole_seconds(validators.modified))
}

/// A time as HTTP can say it: without the fraction of its second.
fn whole_seconds(time: SystemTime) -> SystemTime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        Err(_) => SystemTime::UNIX_EPOCH,
    }
}

fn date(value: Option<&HeaderValue>) -> Option<SystemTime> {
    httpdate::parse_http_date(value?.to_str().ok()?).ok()
}

/// The tag without its weakness.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn strong_match(one: &str, other: &str) -> bool {
    one == other && !one.starts_with("W/")
}

/// True where one of the listed tags satisfies, or the list is `*`.
fn any_tag(headers: &HeaderMap, name: impl AsHeaderName, satisfies: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.trim() == "*" || Tags(value).any(&satisfies))
}

/// Splits a list of entity tags; a comma within the quotes belongs to the tag.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches([' ', '\t', ',']);
        let quote = if text.starts_with("W/") { 2 } else { 0 };
        let inner = text.get(quote..)?.strip_prefix('"')?;
        let end = quote + 1 + inner.find('"')? + 1;
        let (tag, rest) = text.split_at(end);
        self.0 = rest;
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("a value")))
            .collect()
    }

    fn validators() -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500);
        Validators {
            etag: "\"a,b\"".to_owned(),
            modified,
        }
    }

    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn the_order_of_the_rfc() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        for (given, expected) in [
            (headers(&[]), Outcome::Proceed),
            (
                headers(&[(IF_NONE_MATCH, "\"x\", W/\"a,b\"")]),
                Outcome::NotModified,
            ),
            (headers(&[(IF_NONE_MATCH, "*")]), Outcome::NotModified),
            (headers(&[(IF_NONE_MATCH, "\"x\"")]), Outcome::Proceed),
            (headers(&[(IF_NONE_MATCH, "a,b")]), Outcome::Proceed),
            (
                headers(&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, SAME)]),
                Outcome::Proceed,
            ),
            (headers(&[(IF_MODIFIED_SINCE, SAME)]), Outcome::NotModified),
            (headers(&[(IF_MODIFIED_SINCE, BEFORE)]), Outcome::Proceed),
            (headers(&[(IF_MODIFIED_SINCE, "yesterday")]), Outcome::Proceed),
            (headers(&[(IF_MATCH, "\"a,b\"")]), Outcome::Proceed),
            (headers(&[(IF_MATCH, "W/\"a,b\"")]), Outcome::Failed),
            (
                headers(&[(IF_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a,b\"")]),
                Outcome::Failed,
            ),
            (headers(&[(IF_UNMODIFIED_SINCE, BEFORE)]), Outcome::Failed),
            (headers(&[(IF_UNMODIFIED_SINCE, SAME)]), Outcome::Proceed),
        ] {
            assert_eq!(evaluate(&given, &validators()), expected, "{given:?}");
        }
    }

    #[test]
    fn if_range_wants_a_strong_validator_and_the_same() {
        let later = validators().modified + Duration::from_secs(60);
        for (condition, applies) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", false),
            ("\"x\"", false),
            (SAME, true),
            (BEFORE, false),
        ] {
            let given = headers(&[(header::IF_RANGE, condition)]);
            assert_eq!(
                range_applies(&given, &validators(), later),
                applies,
                "{condition}"
            );
        }
        let given = headers(&[(header::IF_RANGE, SAME)]);
        assert!(
            !range_applies(&given, &validators(), validators().modified),
            "a date of this second is weak"
        );
        let mut weak = validators();
        weak.etag.insert_str(0, "W/");
        let given = headers(&[(header::IF_RANGE, "W/\"a,b\"")]);
        assert!(!range_applies(&given, &weak, later));
    }
}
