//! `[canary]`: connections that the balancer makes to its own VIPs through its own data plane.

use std::time::Duration;

use toml::Spanned;

use super::Timing;
use super::report::Problems;
use super::walk::Section;

const CANARY_KEYS: [&str; 4] = ["interval", "timeout", "fall", "rise"];

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_millis(100);

/// How a service is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// Between two connections to a service.
    pub interval: Duration,
    /// For a connection to be there.
    pub timeout: Duration,
    /// Consecutive failures that make it fail.
    pub fall: u32,
    /// Consecutive connections that make it hold again.
    pub rise: u32,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            fall: 3,
            rise: 2,
        }
    }
}

impl Canary {
    /// The same, as a health check's.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        Timing {
            interval: self.interval,
            timeout: self.timeout,
            fall: self.fall,
            rise: self.rise,
            doubt_interval: self.interval,
            down_interval: self.interval,
            hard_after: HOUR,
        }
    }
}

/// The table, where it is there.
pub(super) fn read(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Canary> {
    let section = root.table("canary", &CANARY_KEYS, problems)?;
    let default = Canary::default();
    let mut time = |name, range, default| {
        section
            .duration(name, range, problems)
            .map_or(default, Spanned::into_inner)
    };
    let interval = time("interval", SHORTEST..=HOUR, default.interval);
    let timeout = time("timeout", Duration::from_millis(10)..=MINUTE, default.timeout);
    let mut count = |name, default| {
        section
            .integer::<u32>(name, 1..=100, problems)
            .map_or(default, Spanned::into_inner)
    };
    Some(Canary {
        interval,
        timeout,
        fall: count("fall", default.fall),
        rise: count("rise", default.rise),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn said(lines: &str) -> Result<Option<Canary>, String> {
        let text = format!("interface = \"eth0\"\n{lines}");
        let config = parse("lb.toml", &text).map_err(|report| report.to_string())?;
        Ok(config.canary)
    }

    #[test]
    fn the_table_alone_is_enough_and_without_it_there_is_none() {
        assert_eq!(said(""), Ok(None));
        assert_eq!(said("[canary]"), Ok(Some(Canary::default())));
        let all = "[canary]\ninterval = \"2s\"\ntimeout = \"250ms\"\nfall = 5\nrise = 1";
        let expected = Canary {
            interval: Duration::from_secs(2),
            timeout: Duration::from_millis(250),
            fall: 5,
            rise: 1,
        };
        assert_eq!(said(all), Ok(Some(expected)));
    }

    #[test]
    fn what_is_out_of_range_or_unknown_is_refused_by_name() {
        for (line, word) in [
            ("interval = \"10ms\"", "interval"),
            ("timeout = \"2m\"", "timeout"),
            ("fall = 0", "fall"),
            ("port = 80", "port"),
        ] {
            let refused = said(&format!("[canary]\n{line}")).expect_err(line);
            assert!(refused.contains(word), "{refused}");
        }
    }
}
