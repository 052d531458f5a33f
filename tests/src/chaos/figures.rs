//! What a scenario came to, computed from everything that was recorded. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::noted::Flow;
use super::stage::{self, Observed};
use super::timeline::faults;
use crate::site;
use crate::streams::record::{Broken, Of, Step, Timed};
use crate::streams::report::Cause;
use crate::world::{Backend, Family};

/// Counts by cause.
pub type Causes = BTreeMap<String, u64>;

/// Milliseconds.
pub type Ms = f64;

/// What a fault did.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// When it came.
    pub at_ms: Ms,
    /// The longest time without a UDP echo that began before it was put right, of each family; 0: none was lost.
    pub outage_ms: BTreeMap<&'static str, Ms>,
    /// The longest time from a held stream's request to its answer.
    pub stall_ms: Ms,
    /// Held streams that broke.
    pub broken: u64,
}

/// The median and the longest of several times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median; of an even number the upper one.
    pub median_ms: Ms,
    /// The longest.
    pub max_ms: Ms,
}

/// What held streams came to.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// Streams that were held at the end.
    pub streams: usize,
    /// Requests that were answered.
    pub exchanges: u64,
    /// Those that broke, by cause; but for those of [`Self::of_dead_backends`].
    pub broken: Causes,
    /// Those that broke whose backend was killed in the scenario, by cause.
    pub of_dead_backends: Causes,
    /// Those of `broken` that a balancer had noted and died before the other one heard of it ([`super::noted::Death`]).
    pub unheard: u64,
    /// Those of `broken` that broke after a fault and before it was put right.
    pub broken_in_faults: u64,
    /// The longest time from a request to its answer.
    pub longest_stall_ms: Ms,
    /// The same, of requests that no fault has touched.
    pub longest_stall_elsewhere_ms: Ms,
}

/// What short requests came to.
#[derive(Clone, Debug, Serialize)]
pub struct Short {
    /// Connections that were opened.
    pub opened: u64,
    /// Requests that failed, by cause; but for those of [`Self::of_dead_backends`].
    pub failed: Causes,
    /// Those that failed whose backend was killed in the scenario, or that met it dead.
    pub of_dead_backends: Causes,
    /// Those of `failed` that a balancer had noted and died before the other one heard of it.
    pub unheard: u64,
    /// The longest time from a SYN to a connection: a SYN that is lost is sent again after a second.
    pub longest_opening_ms: Ms,
}

/// What visits of the site came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Visited {
    /// Visits.
    pub visits: u64,
    /// Those that failed, by cause.
    pub failed: Causes,
    /// Those of `failed` that a balancer had noted and died before the other one heard of it.
    pub unheard: u64,
    /// The longest, of those that did not fail.
    pub longest_ms: Ms,
}

/// What UDP echo came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Udp {
    /// Datagrams.
    pub sent: u64,
    /// Those that nobody answered.
    pub lost: u64,
    /// Those of them that were not lost between a fault and when it was put right.
    pub lost_elsewhere: u64,
    /// How often a flow was answered by another backend than before.
    pub moved: u64,
}

/// A scenario's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// How long the load ran.
    pub seconds: f64,
    /// Held streams.
    pub held: Held,
    /// Short requests.
    pub short: Short,
    /// Visits of the site.
    pub site: Visited,
    /// Bytes that were wrong, at either end.
    pub corrupt_bytes: u64,
    /// UDP echo.
    pub udp: Udp,
    /// TCP segments that the client sent again.
    pub retransmitted: u64,
    /// Each fault.
    pub faults: Vec<Fault>,
    /// Outages of the faults, of each family.
    pub outage: BTreeMap<&'static str, Spread>,
    /// Longest stalls of the faults.
    pub stall: Option<Spread>,
}

/// A family as the figures name it.
pub const fn name_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn name_of_cause(cause: Cause) -> String {
    format!("{cause:?}").to_lowercase()
}

/// A duration in milliseconds, to the microsecond.
pub fn ms(duration: Duration) -> Ms {
    duration.as_micros() as f64 / 1000.0
}

/// Computes the figures; `killed` are backends that the scenario itself has killed.
pub fn figures(observed: &Observed, killed: &[Backend]) -> Figures {
    let windows = faults(&observed.events, observed.end);
    let inside = |at: Duration| windows.iter().any(|&(from, until)| from <= at && at < until);
    let touched = |timed: &Timed| {
        windows
            .iter()
            .any(|&(from, until)| timed.at < until && timed.at + timed.took > from)
    };
    let timed = &observed.entries.timed;
    let held_exchange = |timed: &&Timed| matches!(timed.of, Of::Held(_)) && timed.step == Step::Exchange;
    let longest = |which: &dyn Fn(&Timed) -> bool| {
        let taken = timed.iter().filter(|timed| which(timed)).map(|timed| timed.took);
        ms(taken.max().unwrap_or_default())
    };
    let is_dead = |broken: &Broken| match broken.backend {
        Some(backend) => killed.contains(&backend),
        // Nobody has answered yet.
        None => !killed.is_empty() && matches!(broken.cause, Cause::Refused | Cause::Reset | Cause::Closed),
    };
    let broken = &observed.entries.broken;
    let causes = |which: &dyn Fn(&Broken) -> bool| {
        let mut causes = Causes::new();
        for broken in broken.iter().filter(|broken| which(broken)) {
            *causes.entry(name_of_cause(broken.cause)).or_default() += 1;
        }
        causes
    };
    let is_held = |broken: &Broken| matches!(broken.of, Of::Held(_));
    let was_unheard = |client: Option<SocketAddr>, port, broke: Duration| {
        let flow = client.map(|client| Flow { client, port });
        let unheard = |flow| {
            let mut deaths = observed.deaths.iter();
            deaths.any(|death| death.at <= broke && death.was_unheard(flow))
        };
        flow.is_some_and(unheard)
    };
    let is_unheard = |broken: &Broken| !is_dead(broken) && was_unheard(broken.local, stage::PORT, broken.at);
    let count = |which: &dyn Fn(&Broken) -> bool| broken.iter().filter(|broken| which(broken)).count() as u64;

    let gaps: Vec<_> = observed
        .echoes
        .iter()
        .map(|(family, echoes)| (name_of(*family), echoes.gaps()))
        .collect();
    let each: Vec<Fault> = windows
        .iter()
        .map(|&(from, until)| Fault {
            at_ms: ms(from),
            outage_ms: gaps
                .iter()
                .map(|(family, gaps)| {
                    let lengths = gaps.iter().filter(|gap| from <= gap.first && gap.first < until);
                    (
                        *family,
                        ms(lengths.map(|gap| gap.length).max().unwrap_or_default()),
                    )
                })
                .collect(),
            stall_ms: longest(&|timed| {
                held_exchange(&timed) && timed.at < until && timed.at + timed.took > from
            }),
            broken: count(&|broken| {
                is_held(broken) && !is_dead(broken) && from <= broken.at && broken.at < until
            }),
        })
        .collect();
    let mut udp = Udp {
        moved: observed.echoes.iter().map(|(_, echoes)| echoes.moves()).sum(),
        ..Udp::default()
    };
    for sent in observed.echoes.iter().flat_map(|(_, echoes)| &echoes.0) {
        udp.sent += 1;
        udp.lost += u64::from(sent.by.is_none());
        udp.lost_elsewhere += u64::from(sent.by.is_none() && !inside(sent.at));
    }
    let mut visited = Visited::default();
    for visit in &observed.visits {
        visited.visits += 1;
        match visit.failed {
            Some(cause) => {
                *visited.failed.entry(name_of_cause(cause)).or_default() += 1;
                visited.unheard += u64::from(was_unheard(visit.local, site::PORT, visit.at + visit.took));
            }
            None => visited.longest_ms = visited.longest_ms.max(ms(visit.took)),
        }
    }
    Figures {
        seconds: observed.end.as_secs_f64(),
        held: Held {
            streams: observed.held,
            exchanges: timed.iter().filter(held_exchange).count() as u64,
            broken: causes(&|broken| is_held(broken) && !is_dead(broken)),
            of_dead_backends: causes(&|broken| is_held(broken) && is_dead(broken)),
            unheard: count(&|broken| is_held(broken) && is_unheard(broken)),
            broken_in_faults: count(&|broken| is_held(broken) && !is_dead(broken) && inside(broken.at)),
            longest_stall_ms: longest(&|timed| held_exchange(&timed)),
            longest_stall_elsewhere_ms: longest(&|timed| held_exchange(&timed) && !touched(timed)),
        },
        short: Short {
            opened: timed
                .iter()
                .filter(|timed| timed.of == Of::Short && timed.step == Step::Opening)
                .count() as u64,
            failed: causes(&|broken| !is_held(broken) && !is_dead(broken)),
            of_dead_backends: causes(&|broken| !is_held(broken) && is_dead(broken)),
            unheard: count(&|broken| !is_held(broken) && is_unheard(broken)),
            longest_opening_ms: longest(&|timed| timed.of == Of::Short && timed.step == Step::Opening),
        },
        site: visited,
        corrupt_bytes: observed.corrupt_at_servers
            + observed
                .reports
                .iter()
                .map(|report| report.corrupt_bytes)
                .sum::<u64>(),
        udp,
        retransmitted: observed.retransmitted,
        outage: gaps
            .iter()
            .filter_map(|&(family, _)| {
                let outages = each
                    .iter()
                    .filter_map(|fault| fault.outage_ms.get(family).copied());
                Some((family, spread(outages)?))
            })
            .collect(),
        stall: spread(each.iter().map(|fault| fault.stall_ms)),
        faults: each,
    }
}

/// The median and the longest; nothing of nothing.
pub fn spread(times: impl IntoIterator<Item = Ms>) -> Option<Spread> {
    let mut times: Vec<Ms> = times.into_iter().collect();
    times.sort_by(Ms::total_cmp);
    Some(Spread {
        median_ms: *times.get(times.len() / 2)?,
        max_ms: *times.last()?,
    })
}

/// All counts together.
pub fn sum(causes: &Causes) -> u64 {
    causes.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::probe::{Echoes, Sent};
    use crate::chaos::timeline::{Event, Mark};
    use crate::site::visitors::Visit;
    use crate::streams::record::Entries;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn observed() -> Observed {
        let exchange = |at_ms, took| Timed {
            of: Of::Held(0),
            step: Step::Exchange,
            at: at(at_ms),
            took: at(took),
        };
        let broken = |of, at_ms, backend| Broken {
            of,
            at: at(at_ms),
            cause: Cause::Reset,
            backend: Some(backend),
            local: None,
        };
        let event = |at_ms, mark| Event {
            at: at(at_ms),
            mark,
            what: String::new(),
        };
        Observed {
            entries: Entries {
                timed: vec![exchange(10, 30), exchange(90, 400), exchange(700, 50)],
                broken: vec![
                    broken(Of::Held(1), 150, 1),
                    broken(Of::Held(2), 800, 2),
                    broken(Of::Short, 800, 1),
                ],
            },
            echoes: vec![(
                Family::V4,
                Echoes(
                    [(95, true), (105, false), (305, true), (605, false), (610, true)]
                        .map(|(at_ms, answered)| Sent {
                            at: at(at_ms),
                            by: answered.then_some(1),
                        })
                        .to_vec(),
                ),
            )],
            visits: Vec::new(),
            deaths: Vec::new(),
            events: vec![event(100, Mark::Fault), event(600, Mark::Return)],
            end: at(1000),
            reports: Vec::new(),
            corrupt_at_servers: 0,
            held: 3,
            retransmitted: 0,
        }
    }

    #[test]
    fn what_a_fault_touches_counts_for_it_and_the_rest_does_not() {
        let figures = figures(&observed(), &[]);
        let fault = &figures.faults[0];
        assert_eq!((fault.stall_ms, fault.broken), (400.0, 1));
        assert_eq!(fault.outage_ms["ipv4"], 210.0);
        assert_eq!(figures.held.longest_stall_elsewhere_ms, 50.0);
        assert_eq!((figures.udp.lost, figures.udp.lost_elsewhere), (2, 1));
        assert_eq!(figures.held.broken, Causes::from([("reset".to_owned(), 2)]));
        assert_eq!(figures.held.broken_in_faults, 1);
        assert_eq!(sum(&figures.short.failed), 1);
    }

    #[test]
    fn visits_that_fail_count_by_their_cause_and_the_longest_is_of_those_that_do_not() {
        let mut observed = observed();
        let visit = |at_ms, took, failed| Visit {
            at: at(at_ms),
            took: at(took),
            failed,
            local: None,
        };
        observed.visits = vec![
            visit(10, 30, None),
            visit(95, 900, Some(Cause::Reset)),
            visit(200, 400, Some(Cause::Silent)),
        ];
        let site = figures(&observed, &[]).site;
        assert_eq!((site.visits, sum(&site.failed), site.unheard), (3, 2, 0));
        assert_eq!((site.failed["reset"], site.longest_ms), (1, 30.0));
    }

    #[test]
    fn streams_of_a_backend_that_was_killed_stand_apart() {
        let figures = figures(&observed(), &[2]);
        assert_eq!(
            (sum(&figures.held.broken), sum(&figures.held.of_dead_backends)),
            (1, 1)
        );
    }

    #[test]
    fn the_median_of_an_even_number_is_the_upper_one() {
        let spread = |times: &[Ms]| spread(times.iter().copied());
        assert_eq!(spread(&[]), None);
        let four = spread(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(
            four,
            Some(Spread {
                median_ms: 3.0,
                max_ms: 4.0
            })
        );
    }
}
