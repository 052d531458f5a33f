//! What was counted at each point of the packets' way, and whether it adds up.
//!
//! Each hop sets a count of what came against independent counts of what became of it: the kernel's at one end
//! of a veth against its own at the other, the programs' against the kernel's. It knows no map and no command.

use foobar_common::bench::Seen;
use foobar_common::counters::{Counter, Counters};
use serde::Serialize;

use super::veth::Statistics;

/// What a backend's receiver has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Packets of flows that the generator has.
    pub of_flows: u64,
    /// Frames for another host's MAC address.
    pub foreign: u64,
    /// Packets of no such flow.
    pub unknown: u64,
}

/// What the receivers have seen of all flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowCounts {
    /// Flows of which something arrived.
    pub seen: u64,
    /// What arrived of them.
    pub packets: u64,
    /// Flows that arrived at several backends.
    pub split: u64,
    /// Packets that arrived of a flow beyond those that were sent of it.
    pub surplus: u64,
}

impl FlowCounts {
    /// Adds a flow of which so many packets were sent.
    pub fn add(&mut self, sent: u64, seen: Seen) {
        let packets = u64::from(seen.packets);
        self.seen += u64::from(packets > 0);
        self.packets += packets;
        self.split += u64::from(seen.moves > 0);
        self.surplus += packets.saturating_sub(sent);
    }
}

/// A backend's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// What the balancer's counter of its target says.
    pub target: u64,
    /// Frames that the switch had for it.
    pub switched: u64,
    /// The segment's end of its veth.
    pub port: Statistics,
    /// Its own end.
    pub interface: Statistics,
    /// What its receiver has counted.
    pub received: Received,
}

/// All counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that the generator was asked for.
    pub asked: u64,
    /// Packets that it has made.
    pub generated: u64,
    /// The segment's end of the balancer's veth.
    pub uplink: Statistics,
    /// The balancer's end.
    pub balancer: Statistics,
    /// The balancer's program, by reason.
    pub counters: Counters,
    /// Answers that the switch had for the router.
    pub to_router: u64,
    /// Frames that it had for nobody on the segment.
    pub to_nobody: u64,
    /// Each backend's.
    pub backends: Vec<Backend>,
    /// The flows, as they arrived.
    pub flows: FlowCounts,
}

/// What became of a part of what came to a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It went on.
    WentOn,
    /// The balancer's program answered it.
    Answered,
    /// The balancer's program left it to the kernel.
    Passed,
    /// The balancer's program dropped it, for a reason.
    Dropped,
    /// The kernel could not take it, and counted that.
    Lost,
}

/// Packets with one fate, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The counter's name, or what it counts.
    pub name: String,
    /// What became of them.
    pub fate: Fate,
    /// How many.
    pub packets: u64,
}

/// A point of the packets' way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Which one.
    pub at: String,
    /// Packets that came to it.
    pub came: u64,
    /// What became of them.
    pub parts: Vec<Part>,
    /// Packets that came and have no fate, or have one and did not come.
    pub unaccounted: u64,
}

/// Something that must not be, whatever adds up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Astray {
    /// What.
    pub what: &'static str,
    /// How many.
    pub count: u64,
}

const RING_FULL: &str = "ring full";
const WENT_ON: &str = "went on";

impl Hop {
    fn new(at: impl Into<String>, came: u64, parts: impl IntoIterator<Item = Part>) -> Self {
        let parts: Vec<Part> = parts.into_iter().filter(|part| part.packets > 0).collect();
        let fates: u64 = parts.iter().map(|part| part.packets).sum();
        Self {
            at: at.into(),
            came,
            unaccounted: came.abs_diff(fates),
            parts,
        }
    }

    /// What went on or had a fate of this kind.
    pub fn with(&self, fate: Fate) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.fate == fate)
    }
}

fn part(name: impl Into<String>, fate: Fate, packets: u64) -> Part {
    Part {
        name: name.into(),
        fate,
        packets,
    }
}

fn on(packets: u64) -> Part {
    part(WENT_ON, Fate::WentOn, packets)
}

fn lost(name: &str, counter: &str, packets: u64) -> Part {
    part(format!("{name} ({counter})"), Fate::Lost, packets)
}

/// How the balancer's program ended with the packets that a counter counts; `None` where it counts something
/// else about packets that another counter or their target counts. Names are by that rule.
fn end(counter: Counter) -> Option<Fate> {
    match counter.name().split_once('_')?.0 {
        "pass" => Some(Fate::Passed),
        "answer" => Some(Fate::Answered),
        "drop" => Some(Fate::Dropped),
        _ => None,
    }
}

impl Counts {
    /// Packets by an end that the balancer's program counts.
    fn ended(&self, fate: Fate) -> u64 {
        self.ends()
            .filter(|part| part.fate == fate)
            .map(|part| part.packets)
            .sum()
    }

    fn ends(&self) -> impl Iterator<Item = Part> {
        Counter::ALL
            .iter()
            .filter_map(|&counter| Some(part(counter.name(), end(counter)?, self.counters.get(counter))))
    }

    fn sum(&self, of: impl Fn(&Backend) -> u64) -> u64 {
        self.backends.iter().map(of).sum()
    }

    /// Packets that the balancer's program has sent to targets.
    pub fn to_targets(&self) -> u64 {
        self.sum(|backend| backend.target)
    }

    /// Packets that arrived at the backends they were for.
    pub fn received(&self) -> u64 {
        self.sum(|backend| backend.received.of_flows)
    }

    /// The hops, in the packets' order.
    pub fn hops(&self) -> Vec<Hop> {
        let (uplink, balancer) = (&self.uplink, &self.balancer);
        let transmitted = self.to_targets() + self.ended(Fate::Answered);
        let mut hops = vec![
            Hop::new("generator", self.asked, [on(self.generated)]),
            Hop::new(
                "generator to lb",
                self.generated,
                [
                    on(uplink.xdp_xmit),
                    lost(RING_FULL, "xdp_xmit_errors of lb", uplink.xdp_xmit_errors),
                ],
            ),
            Hop::new("lb to balancer", uplink.xdp_xmit, [on(balancer.xdp_packets)]),
            Hop::new(
                "balancer",
                balancer.xdp_packets,
                self.ends()
                    .chain([part("targets", Fate::WentOn, self.to_targets())]),
            ),
            Hop::new(
                "balancer's drops",
                self.ended(Fate::Dropped),
                [on(balancer.xdp_drops)],
            ),
            Hop::new(
                "balancer to lb",
                transmitted,
                [
                    on(balancer.xdp_tx),
                    lost(RING_FULL, "xdp_tx_errors of the balancer", balancer.xdp_tx_errors),
                    lost("refused", "drops of the balancer", balancer.drops),
                ],
            ),
            Hop::new("lb to switch", balancer.xdp_tx, [on(uplink.xdp_packets)]),
            Hop::new(
                "switch",
                uplink.xdp_packets,
                [
                    on(self.sum(|backend| backend.switched)),
                    part("router", Fate::WentOn, self.to_router),
                ],
            ),
        ];
        for (number, backend) in (1..).zip(&self.backends) {
            hops.extend(backend.hops(number));
        }
        hops.push(Hop::new("flows", self.received(), [on(self.flows.packets)]));
        hops
    }

    /// Packets that came to a hop and have no fate there, or the reverse.
    pub fn unaccounted(&self) -> u64 {
        self.hops().iter().map(|hop| hop.unaccounted).sum()
    }

    /// What must not be.
    pub fn astray(&self) -> Vec<Astray> {
        let balancer = &self.balancer;
        [
            ("frames for nobody on the segment", self.to_nobody),
            (
                "frames for another host",
                self.sum(|backend| backend.received.foreign),
            ),
            ("packets of no flow", self.sum(|backend| backend.received.unknown)),
            (
                "packets for a backend beyond what its target counted",
                self.sum(|backend| backend.switched.saturating_sub(backend.target)),
            ),
            (
                "answers beyond what the balancer counted",
                self.to_router.saturating_sub(self.ended(Fate::Answered)),
            ),
            ("frames redirected by the balancer", balancer.xdp_redirect),
            ("flows at several backends", self.flows.split),
            ("packets beyond what a flow sent", self.flows.surplus),
        ]
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .map(|(what, count)| Astray { what, count })
        .collect()
    }
}

impl Backend {
    fn hops(&self, number: u32) -> [Hop; 3] {
        [
            Hop::new(
                format!("switch to b{number}"),
                self.switched,
                [
                    on(self.port.xdp_xmit),
                    lost(
                        RING_FULL,
                        &format!("xdp_xmit_errors of b{number}"),
                        self.port.xdp_xmit_errors,
                    ),
                ],
            ),
            Hop::new(
                format!("b{number} to backend"),
                self.port.xdp_xmit,
                [on(self.interface.xdp_packets)],
            ),
            Hop::new(
                format!("backend {number}"),
                self.interface.xdp_packets,
                [on(self.received.of_flows)],
            ),
        ]
    }
}

/// For tests: 100 packets and two backends; each ring that can be full was full for one, 5 packets were dropped,
/// 3 passed and 2 answered.
#[cfg(test)]
pub(super) fn sample() -> Counts {
    let backend = |target, switched| {
        let arrived = switched - 1;
        Backend {
            target,
            switched,
            port: Statistics {
                xdp_xmit: arrived,
                xdp_xmit_errors: 1,
                ..Statistics::default()
            },
            interface: Statistics {
                xdp_packets: arrived,
                xdp_drops: arrived,
                ..Statistics::default()
            },
            received: Received {
                of_flows: arrived,
                ..Received::default()
            },
        }
    };
    Counts {
        asked: 100,
        generated: 100,
        uplink: Statistics {
            xdp_xmit: 99,
            xdp_xmit_errors: 1,
            xdp_packets: 90,
            xdp_redirect: 88,
            xdp_drops: 2,
            ..Statistics::default()
        },
        balancer: Statistics {
            xdp_packets: 99,
            xdp_drops: 5,
            xdp_tx: 90,
            xdp_tx_errors: 1,
            ..Statistics::default()
        },
        counters: Counters {
            drop_no_member: 4,
            drop_checksum: 1,
            pass_not_vip: 3,
            answer_reset: 2,
            slot_moved: 89,
            ..Counters::default()
        },
        to_router: 2,
        to_nobody: 0,
        backends: vec![backend(45, 44), backend(44, 44)],
        flows: FlowCounts {
            seen: 10,
            packets: 86,
            split: 0,
            surplus: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_ended_by_a_name_is_accounted_for() {
        let counts = sample();
        for hop in counts.hops() {
            assert_eq!(hop.unaccounted, 0, "{hop:?}");
        }
        assert_eq!(counts.unaccounted(), 0);
        assert_eq!(counts.astray(), []);
        let lost: u64 = counts
            .hops()
            .iter()
            .flat_map(|hop| hop.with(Fate::Lost).map(|part| part.packets).collect::<Vec<_>>())
            .sum();
        assert_eq!(lost, 4);
        assert_eq!((counts.to_targets(), counts.received()), (89, 86));
    }

    #[test]
    fn what_is_missing_anywhere_is_noticed_where_it_is_missing() {
        type Spoil = fn(&mut Counts);
        let spoilt: [(&str, Spoil); 12] = [
            ("generator", |counts| counts.asked += 1),
            ("generator to lb", |counts| counts.uplink.xdp_xmit_errors = 0),
            ("lb to balancer", |counts| counts.balancer.xdp_packets -= 1),
            ("balancer", |counts| counts.counters.pass_not_vip -= 1),
            ("balancer's drops", |counts| counts.balancer.xdp_drops -= 1),
            ("balancer to lb", |counts| counts.balancer.xdp_tx_errors = 0),
            ("lb to switch", |counts| counts.uplink.xdp_packets -= 1),
            ("switch", |counts| counts.to_router -= 1),
            ("switch to b1", |counts| {
                counts.backends[0].port.xdp_xmit_errors = 0
            }),
            ("b2 to backend", |counts| {
                counts.backends[1].interface.xdp_packets -= 1;
            }),
            ("backend 2", |counts| {
                counts.backends[1].received.of_flows -= 1;
            }),
            ("flows", |counts| counts.flows.packets -= 1),
        ];
        for (at, spoil) in spoilt {
            let mut counts = sample();
            spoil(&mut counts);
            assert!(counts.unaccounted() > 0, "{at}");
            let noticed = counts
                .hops()
                .into_iter()
                .any(|hop| hop.at == at && hop.unaccounted == 1);
            assert!(noticed, "{at}");
        }
    }

    #[test]
    fn too_many_is_unaccounted_for_as_well() {
        let mut counts = sample();
        counts.backends[0].received.of_flows += 2;
        assert!(counts.unaccounted() >= 2);
    }

    #[test]
    fn a_packet_at_the_wrong_place_is_astray_though_it_adds_up() {
        let mut counts = sample();
        counts.backends[0].switched -= 1;
        counts.backends[0].port.xdp_xmit_errors -= 1;
        counts.backends[1].switched += 1;
        counts.backends[1].port.xdp_xmit_errors += 1;
        assert_eq!(counts.unaccounted(), 0);
        assert_eq!(
            counts.astray(),
            [Astray {
                what: "packets for a backend beyond what its target counted",
                count: 1
            }]
        );
    }

    #[test]
    fn a_flow_is_split_or_of_more_packets_than_were_sent() {
        let mut flows = FlowCounts::default();
        let seen = |packets, moves| Seen {
            packets,
            backend: 1,
            moves,
        };
        flows.add(3, seen(3, 0));
        flows.add(3, seen(2, 1));
        flows.add(3, seen(5, 0));
        flows.add(3, Seen::default());
        assert_eq!(
            flows,
            FlowCounts {
                seen: 3,
                packets: 10,
                split: 1,
                surplus: 2
            }
        );
    }

    #[test]
    fn every_counter_of_an_end_is_known_by_its_name() {
        let ends = |fate| {
            Counter::ALL
                .iter()
                .filter(|&&counter| end(counter) == Some(fate))
                .count()
        };
        assert_eq!(ends(Fate::Passed), 1);
        assert!(ends(Fate::Answered) >= 5 && ends(Fate::Dropped) >= 20);
        assert_eq!(end(Counter::NoteFollowed), None);
    }
}
