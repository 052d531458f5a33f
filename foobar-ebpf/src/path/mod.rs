//! A packet's way through the balancer.
//!
//! [`common`] is the way of nearly every packet: TCP or UDP for a service, nothing unusual about it, a
//! settled slot. It changes nothing before it is sure, and leaves all else to [`rare`], which asks every
//! question again, in the order that decides about counters: is it for a VIP address at all (if not, it is
//! the kernel's, whatever is wrong with it), is the frame ours, are its headers sound, whose is it.

pub mod neighbour;
pub mod packet;
pub mod rare;

use aya_ebpf::bindings::xdp_md;
use foobar_common::address::Address;
use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::vip::VipKey;

use crate::forward::{l2, tunnel};
use crate::outcome::{Refusal, conclude};
use crate::packet::transport::{self, Transport};
use crate::packet::{Frame, Payload, Piece, checksum, ethernet, ipv4, ipv6};
use crate::steer::{self, vips};

/// What the common way needs of a packet.
struct Plain {
    source: Address,
    destination: Address,
    protocol: u8,
    transport: Transport,
}

/// Forwards a frame if nothing about it is unusual, and gives its verdict; `None`, and the frame as it was,
/// where something is.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used afterwards.
#[inline(always)]
pub unsafe fn common(context: *mut xdp_md, settings: &Settings) -> Option<u32> {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let ethernet = ethernet::Header::of(frame)?;
    let plain = match ethernet.ether_type() {
        ethernet::IPV4 => plain_v4(frame)?,
        ethernet::IPV6 => plain_v6(frame)?,
        _ => return None,
    };
    let Transport { ports_be, segment } = plain.transport;
    let key = VipKey::service(
        plain.destination,
        plain.transport.destination_port_be(),
        plain.protocol,
    );
    let vip = vips::find(settings, &key)?;
    own_frame(ethernet, settings).ok()?;
    let place = steer::place(settings, vip, plain.source.words(), ports_be)?;
    let slot = steer::plain(vip, place)?;
    let target = l2::target(slot.current)?;
    if tunnel::leads_to(target) {
        let load = tunnel::Load {
            hash: place.hash,
            slot,
            offset: ethernet::LENGTH,
            segment,
            flags: vip.flags,
        };
        // SAFETY: the caller's; the frame is not used any more.
        return Some(unsafe { tunnel::forward(context, settings, load) });
    }
    let outcome = l2::forward(ethernet, target, slot.current, segment, frame.len());
    // SAFETY: the caller's; the frame is not used any more.
    Some(unsafe { conclude(context, outcome) })
}

#[inline(always)]
fn plain_v4(frame: &Frame) -> Option<Plain> {
    let ip = ipv4::Header::at(frame, ethernet::LENGTH)?;
    let total = ip.total();
    if !ip.is_plain()
        || total < ipv4::LENGTH
        || ethernet::LENGTH + total > frame.len()
        || !matches!(ip.piece(), Piece::Whole)
        || ip.is_martian()
        || !checksum::is_right(ip.sum())
    {
        return None;
    }
    let payload = Payload {
        offset: ethernet::LENGTH + ipv4::LENGTH,
        length: total - ipv4::LENGTH,
    };
    Some(Plain {
        source: Address::from_ipv4_raw(ip.source()),
        destination: Address::from_ipv4_raw(ip.destination()),
        protocol: ip.protocol(),
        transport: plain_transport(frame, ip.protocol(), payload)?,
    })
}

#[inline(always)]
fn plain_v6(frame: &Frame) -> Option<Plain> {
    let ip = ipv6::Header::at(frame, ethernet::LENGTH)?;
    let length = ip.payload_length();
    if ip.version() != 6
        || ethernet::LENGTH + ipv6::LENGTH + length > frame.len()
        || ip.is_martian()
        || ipv6::is_mapped(ip.destination())
    {
        return None;
    }
    let payload = Payload {
        offset: ethernet::LENGTH + ipv6::LENGTH,
        length,
    };
    Some(Plain {
        source: ipv6::address(ip.source()),
        destination: ipv6::address(ip.destination()),
        protocol: ip.next_header(),
        transport: plain_transport(frame, ip.next_header(), payload)?,
    })
}

#[inline(always)]
fn plain_transport(frame: &Frame, protocol: u8, payload: Payload) -> Option<Transport> {
    match protocol {
        ipv4::TCP => transport::tcp(frame, payload, Piece::Whole).ok(),
        ipv4::UDP => transport::udp(frame, payload, Piece::Whole).ok(),
        _ => None,
    }
}

/// A frame for a VIP has to be for this machine, and not from a balancer.
#[inline(always)]
fn own_frame(ethernet: ethernet::Header, settings: &Settings) -> Result<(), Refusal> {
    if ethernet.destination() != settings.own_mac {
        return Err(Refusal::Drop(Counter::DropForeignMac));
    }
    let source = ethernet.source();
    if source == settings.own_mac {
        return Err(Refusal::Drop(Counter::DropLoop));
    }
    if settings.peers != 0 {
        for &peer in &settings.peer_macs {
            if source == peer {
                return Err(Refusal::Drop(Counter::DropLoop));
            }
        }
    }
    Ok(())
}
