//! Fragments (RFC 791 section 3.2, RFC 8200 section 4.5): the first one of a datagram is steered as any packet
//! and leaves behind where it went; the later ones follow it.
//!
//! What fragments leave behind stays from case to case, so that each case has an identification of its own.

#[path = "fragments/own.rs"]
mod own;
#[path = "fragments/refused.rs"]
mod refused;
#[path = "fragments/steered.rs"]
mod steered;
#[path = "fragments/unknown.rs"]
mod unknown;

use std::net::IpAddr;

use etherparse::{IpFragOffset, IpNumber};
use foobar_common::counters::Counter;
use foobar_tests::packets::frame::ipv4;
use foobar_tests::packets::frame_v6::{Extension, chained, ipv6};
use foobar_tests::packets::rig::{TCP, UDP};

use crate::case::{Case, Expected, goes_to};
use crate::family::Family;

/// A fragment of a datagram; `offset` is in units of 8 bytes.
pub(crate) fn fragment(
    ends: (IpAddr, IpAddr),
    protocol: u8,
    id: u32,
    offset: u16,
    more: bool,
    payload: &[u8],
) -> Vec<u8> {
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4(IpNumber(protocol), source, destination, payload, |ip| {
                ip.identification = id as u16;
                ip.dont_fragment = false;
                ip.more_fragments = more;
                ip.fragment_offset = IpFragOffset::try_new(offset).expect("offsets have 13 bits");
            })
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Extension::Fragment { offset, more, id };
            let (first, bytes) = chained(&[header], protocol, payload);
            ipv6(first, source, destination, &bytes, |_| ())
        }
        _ => unreachable!("a packet is of one family"),
    }
}

/// The last fragment of a segment of the client's to the VIP.
pub(crate) fn later(family: Family, id: u32) -> Vec<u8> {
    of(family, TCP, id, 185, false, &[0x5a; 100])
}

fn of(family: Family, protocol: u8, id: u32, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    fragment(
        (family.client(), family.vip()),
        protocol,
        id,
        offset,
        more,
        payload,
    )
}

/// A first fragment with data to the TCP service.
fn first_data(family: Family, id: u32) -> Vec<u8> {
    of(
        family,
        TCP,
        id,
        0,
        true,
        &family.flow().tcp(&[7; 1460], |tcp| tcp.ack = true),
    )
}

/// The first 1480 bytes of a datagram of 3008.
fn first_datagram(family: Family, id: u32) -> Vec<u8> {
    let whole = family.question().udp(&[7; 3000]);
    of(family, UDP, id, 0, true, &whole[..1480])
}

fn noted(expected: Expected) -> Expected {
    expected.and(&[Counter::FragmentNoted])
}

fn follows(member: u16) -> Expected {
    goes_to(member).and(&[Counter::FragmentFollowed])
}

/// Gives each case its own identification.
struct Ids(u32);

impl Ids {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

pub(crate) fn cases() -> Vec<Case> {
    Family::BOTH
        .iter()
        .flat_map(|&family| {
            let mut ids = Ids(0x1000);
            [
                steered::firsts(family, &mut ids),
                steered::laters(family, &mut ids),
                unknown::strangers(family, &mut ids),
                unknown::members(family, &mut ids),
                refused::refusals(family, &mut ids),
                refused::other_protocols(family, &mut ids),
                own::own(family, &mut ids),
            ]
            .concat()
        })
        .collect()
}

fn title(family: Family, rest: &str) -> String {
    format!("{} / fragments / {rest}", family.name())
}
