//! How a VIP's flows are told apart, and which of them are remembered: `hash`, `tracking`, `midstream`.

use serde::Serialize;

pub use foobar_common::steering::Tracking;

use super::Protocol;
use super::report::Problems;
use super::walk::Section;

/// What of a packet decides about its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowHash {
    /// Both addresses, both ports and the protocol: each flow for itself.
    #[serde(rename = "5-tuple")]
    FiveTuple,
    /// The source address: all flows of a client together.
    Source,
}

impl std::fmt::Display for FlowHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FiveTuple => "5-tuple",
            Self::Source => "source",
        })
    }
}

/// Reads `hash`.
pub(super) fn hash(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> FlowHash {
    let words = [("5-tuple", FlowHash::FiveTuple), ("source", FlowHash::Source)];
    section
        .word("hash", &words, problems)
        .unwrap_or(FlowHash::FiveTuple)
}

/// Reads `tracking` and `midstream`.
pub(super) fn tracking(
    section: &Section<'_, '_>,
    protocol: Protocol,
    second_chance: bool,
    problems: &mut Problems<'_>,
) -> Tracking {
    let words = [
        ("transitions", Tracking::Transitions),
        ("all", Tracking::All),
        ("none", Tracking::None),
    ];
    let tracking = section.word("tracking", &words, problems);
    if second_chance
        && let (Some(Tracking::Transitions | Tracking::All | Tracking::AllStrict), Some(place)) =
            (tracking, section.key("tracking"))
    {
        problems.add(
            place,
            "with second_chance no flow is noted",
            "leave tracking out: the backends know their flows",
        );
    }
    let tracking = tracking.unwrap_or(Tracking::Transitions);
    let midstream = [("pickup", Tracking::All), ("refuse", Tracking::AllStrict)];
    let Some(all) = section.word("midstream", &midstream, problems) else {
        return tracking;
    };
    match (tracking, protocol, section.key("midstream")) {
        (Tracking::All, Protocol::Tcp, _) | (_, _, None) => all,
        (Tracking::All, Protocol::Udp, Some(place)) => {
            problems.add(
                place,
                "midstream is for TCP",
                "UDP has no handshake: remove the key",
            );
            tracking
        }
        (_, _, Some(place)) => {
            problems.add(
                place,
                "midstream needs tracking = \"all\"",
                "otherwise the slot says whose an unknown segment is",
            );
            tracking
        }
    }
}
