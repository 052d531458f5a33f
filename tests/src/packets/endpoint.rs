//! The agent's program with maps of its own: a backend that has [`VIP`] and [`VIP6`], a trusted balancer, and
//! ways to two other backends. And packets in tunnels, as a balancer sends them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use foobar::dataplane::{AgentPlane, Verdict};
use foobar_common::address::Address;
use foobar_common::agent::{AgentCounter, AgentCounters, AgentSettings, NextHop, Prefix};
use foobar_common::settings::mac_word;

use super::frame::{Mac, VIP};
use super::frame_v6::VIP6;
use super::rig::backend_mac;
use super::tunnel::{GUE_PORT, Outer, SOURCE_V4, SOURCE_V6, gue};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// A backend's number; the agent's own is 1, and there are ways to 2 and 3.
pub type Backend = u16;

/// The agent's own.
pub const SELF: Backend = 1;

/// A backend's address.
pub const fn address(backend: Backend, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100 + backend as u8))
    } else {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0x77, 0x100 + backend))
    }
}

/// The private data that lists candidates.
pub fn candidates(next: u8, listed: &[IpAddr], options: u8) -> Vec<u8> {
    let mut private = vec![0xf0, 0xb1, next << 4 | listed.len() as u8, options];
    for candidate in listed {
        match candidate {
            IpAddr::V4(address) => private.extend(address.octets()),
            IpAddr::V6(address) => private.extend(address.octets()),
        }
    }
    private
}

/// The outer header of a packet in a tunnel, to `destination`; the frame is for the agent.
pub fn to(destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Outer {
    Outer {
        source: if destination.is_ipv4() {
            SOURCE_V4.into()
        } else {
            SOURCE_V6.into()
        },
        destination,
        traffic_class: 0,
        flow_label: 0,
        payload,
        protocol,
    }
}

/// An IP packet (version 4 or 6, by its first byte) in GUE to the agent.
pub fn in_gue(v4: bool, private: &[u8], packet: &[u8]) -> Outer {
    to(
        address(SELF, v4),
        17,
        gue(50_000, protocol(packet), private, packet),
    )
}

/// An IP packet in IP to the agent.
pub fn in_ip(v4: bool, packet: &[u8]) -> Outer {
    to(address(SELF, v4), protocol(packet), packet.to_vec())
}

/// A tunnel's protocol number for a packet.
pub fn protocol(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { 4 } else { 41 }
}

/// What the kernel is to get: the packet behind the tags and its own EtherType.
pub fn taken_out(packet: &[u8], tags: &[u8]) -> Vec<u8> {
    let ether_type: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [
        &backend_mac(SELF)[..],
        &super::frame::OWN,
        tags,
        &ether_type,
        packet,
    ]
    .concat()
}

/// The program and its maps.
pub struct Endpoint {
    /// The program and its maps.
    pub plane: AgentPlane,
    /// What it was told.
    pub settings: AgentSettings,
}

/// What became of a frame.
#[derive(Clone, Debug)]
#[must_use]
pub struct Outcome {
    /// The frame as it was sent.
    pub sent: Vec<u8>,
    /// The verdict, and the frame afterwards.
    pub verdict: Verdict,
    /// The counters that moved, and by how much.
    pub counters: Vec<(&'static str, u64)>,
}

/// The MAC address by which the ways to other backends leave.
pub const LEAVING: Mac = [0x02, 0x1e, 0xaf, 0, 0, 1];

impl Endpoint {
    /// An endpoint that trusts the two prefixes of the balancer's tunnel sources.
    pub fn new() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the packet tests load the program: run them as root"
        );
        let mut settings = AgentSettings {
            own_mac: mac_word(backend_mac(SELF)),
            trusted_count: 2,
            address_count: 2,
            gue_port_be: GUE_PORT.to_be(),
            ..AgentSettings::default()
        };
        settings.trusted[0] = Prefix::new(SOURCE_V4.into(), 96 + 26);
        settings.trusted[1] = Prefix::new(IpAddr::V6(SOURCE_V6).into(), 64);
        for (place, v4) in settings.addresses.iter_mut().zip([true, false]) {
            *place = Address::from(address(SELF, v4)).words();
        }
        let mut plane = AgentPlane::open(None)?;
        plane.set_vips(&BTreeSet::from([VIP.into(), VIP6.into()]))?;
        for backend in [2, 3] {
            for v4 in [true, false] {
                plane.set_next_hop(
                    address(backend, v4),
                    NextHop {
                        destination_mac: backend_mac(backend),
                        source_mac: LEAVING,
                        ifindex: 0,
                    },
                )?;
            }
        }
        let mut endpoint = Self { plane, settings };
        endpoint.tell()?;
        Ok(endpoint)
    }

    /// Puts the settings in force.
    pub fn tell(&mut self) -> Result<()> {
        Ok(self.plane.set_settings(&self.settings)?)
    }

    /// Runs the program on a frame.
    pub fn send(&mut self, frame: &[u8]) -> Outcome {
        let counters = |plane: &AgentPlane| plane.counters().expect("the counters can be read");
        let before: AgentCounters = counters(&self.plane);
        let verdict = self
            .plane
            .test_run(frame)
            .expect("the program runs on frames of 14 bytes and more");
        let after = counters(&self.plane);
        Outcome {
            sent: frame.to_owned(),
            verdict,
            counters: AgentCounter::ALL
                .iter()
                .map(|&counter| (counter.name(), after.get(counter) - before.get(counter)))
                .filter(|&(_, by)| by != 0)
                .collect(),
        }
    }

    /// Sends a packet in a tunnel, without tags.
    pub fn send_outer(&mut self, outer: &Outer) -> Outcome {
        self.send(&outer.frame(backend_mac(SELF), &[]))
    }
}

impl Outcome {
    /// The kernel gets this frame; just these counters moved, by one each.
    #[track_caller]
    pub fn passed(&self, frame: &[u8], counters: &[AgentCounter]) {
        self.has(XDP_PASS, frame, counters);
    }

    /// The kernel gets it as it came, for this reason.
    #[track_caller]
    pub fn untouched(&self, reason: AgentCounter) {
        self.has(XDP_PASS, &self.sent, &[reason]);
    }

    /// This frame was sent; just these counters moved, by one each.
    #[track_caller]
    pub fn transmitted(&self, frame: &[u8], counters: &[AgentCounter]) {
        self.has(XDP_TX, frame, counters);
    }

    /// It was dropped; just this counter moved, by one.
    #[track_caller]
    pub fn dropped(&self, reason: AgentCounter) {
        assert_eq!(
            (self.verdict.action, &self.counters[..]),
            (XDP_DROP, &[(reason.name(), 1)][..])
        );
    }

    #[track_caller]
    fn has(&self, action: u32, frame: &[u8], counters: &[AgentCounter]) {
        let mut moved = self.counters.clone();
        let mut expected: Vec<_> = counters.iter().map(|counter| (counter.name(), 1)).collect();
        moved.sort_unstable();
        expected.sort_unstable();
        assert_eq!(
            (self.verdict.action, moved),
            (action, expected),
            "action and counters"
        );
        assert_eq!(self.verdict.frame, frame, "bytes");
    }
}
