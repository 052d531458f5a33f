//! A VIP's `syn_limit`: how many new TCP connections it takes, of all sources together and of each.

use toml::Spanned;

use super::Protocol;
use super::report::Problems;
use super::walk::Section;

const KEYS: [&str; 6] = [
    "rate",
    "burst",
    "source_rate",
    "source_burst",
    "source_prefix_v4",
    "source_prefix_v6",
];

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;
const HOUR_NS: u64 = 60 * MINUTE_NS;
/// The longest tick of the clock that the data plane reads.
const TICK_NS: u64 = 10_000_000;
const RATE_MAX: u64 = 100_000_000;
const BURST_MAX: u32 = 100_000_000;

/// How a VIP limits new TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynLimit {
    /// Of all sources together.
    pub vip: Option<Rate>,
    /// Of each source.
    pub source: Option<Rate>,
    /// How many bits of an IPv4 address make it a source.
    pub source_prefix_v4: u8,
    /// How many bits of an IPv6 address make it a source.
    pub source_prefix_v6: u8,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two of its tokens.
    pub cost_ns: u64,
    /// How many tokens it holds.
    pub burst: u32,
}

/// Reads a VIP's `syn_limit`; `None`: there is none, or it is bad.
pub(super) fn read(
    vip: &Section<'_, '_>,
    protocol: Protocol,
    problems: &mut Problems<'_>,
) -> Option<SynLimit> {
    let section = vip.table("syn_limit", &KEYS, problems)?;
    if protocol != Protocol::Tcp {
        let hint = "leave it out, or protocol = \"tcp\"";
        problems.add(
            section.span.clone(),
            "syn_limit is for TCP: UDP has no SYNs",
            hint,
        );
    }
    let rate = rate(&section, "rate", "burst", problems);
    let source = self::rate(&section, "source_rate", "source_burst", problems);
    if section.key("rate").is_none() && section.key("source_rate").is_none() {
        let hint = "add rate = \"20000/s\", or source_rate = \"100/s\"";
        problems.add(
            section.span.clone(),
            "a syn_limit without a rate limits nothing",
            hint,
        );
    }
    let prefix = |name, most, default, problems: &mut Problems<'_>| {
        section
            .integer::<u8>(name, 1..=most, problems)
            .map_or(default, Spanned::into_inner)
    };
    Some(SynLimit {
        vip: rate,
        source,
        source_prefix_v4: prefix("source_prefix_v4", 32, 32, problems),
        source_prefix_v6: prefix("source_prefix_v6", 128, 64, problems),
    })
}

fn rate(
    section: &Section<'_, '_>,
    rate_key: &str,
    burst_key: &str,
    problems: &mut Problems<'_>,
) -> Option<Rate> {
    let burst = section.integer::<u32>(burst_key, 1..=BURST_MAX, problems);
    let Some(text) = section.string(rate_key, problems) else {
        if let (Some(burst), None) = (&burst, section.key(rate_key)) {
            let message = format!("`{burst_key}` without `{rate_key}`");
            problems.add(burst.span(), message, format!("add {rate_key} = \"1000/s\""));
        }
        return None;
    };
    let Some((count, unit_ns)) = parse(text.get_ref()) else {
        let message = format!("{rate_key}: {:?} is not a rate", text.get_ref());
        problems.add(text.span(), message, "write it as \"1000/s\" or \"30/m\"");
        return None;
    };
    let cost_ns = unit_ns / count;
    let place = burst.as_ref().map_or_else(|| text.span(), Spanned::span);
    let burst = burst.map_or(count.min(u64::from(BURST_MAX)) as u32, Spanned::into_inner);
    let least = TICK_NS.div_ceil(cost_ns);
    if u64::from(burst) < least {
        let message = format!(
            "a {burst_key} of {burst} would hold the rate down below {:?}",
            text.get_ref()
        );
        let hint = format!("at least {least}: what comes between two ticks of the clock, 10 ms");
        problems.add(place, message, hint);
    } else if cost_ns.saturating_mul(u64::from(burst)) > HOUR_NS {
        let message = format!("a {burst_key} of {burst} takes more than an hour to be there again");
        let hint = format!("at most {}", HOUR_NS / cost_ns);
        problems.add(place, message, hint);
    }
    Some(Rate { cost_ns, burst })
}

/// The number of a rate, and its unit in nanoseconds.
fn parse(text: &str) -> Option<(u64, u64)> {
    let (count, unit) = text.split_once('/')?;
    let unit_ns = match unit {
        "s" => SECOND_NS,
        "m" => MINUTE_NS,
        _ => return None,
    };
    let count = Some(count)
        .filter(|count| count.bytes().all(|digit| digit.is_ascii_digit()))?
        .parse()
        .ok()?;
    (1..=RATE_MAX).contains(&count).then_some((count, unit_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_second_or_the_minute() {
        assert_eq!(parse("1000/s"), Some((1_000, SECOND_NS)));
        assert_eq!(parse("30/m"), Some((30, MINUTE_NS)));
        for text in [
            "",
            "1000",
            "/s",
            "0/s",
            "+5/s",
            "-1/s",
            "1.5/s",
            "5/h",
            "5 /s",
            "99999999999/s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
