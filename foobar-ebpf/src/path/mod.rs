//! A packet's way through the balancer.
//!
//! [`common`] is the way of nearly every packet: TCP or UDP for a service, nothing unusual about it, a
//! settled slot. It changes nothing before it is sure, and leaves all else to [`rare`], which asks every
//! question again, in the order that decides about counters: is it for a VIP address at all (if not, it is
//! the kernel's, whatever is wrong with it), is the frame ours, are its headers sound, whose is it.

pub mod neighbour;
pub mod rare;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use foobar_common::address::Address;
use foobar_common::admission::{FEATURE_QUIC, FEATURE_TRACKING};
use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::slot::{Member, NONE, Phase, Slot};
use foobar_common::vip::{VIP_QUIC, Vip, VipKey};

use crate::forward::{count, l2, plain_tunnel, tunnel};
use crate::outcome::{Refusal, conclude, drop};
use crate::packet::datagram::{Packet, Version};
use crate::packet::transport::{self, Transport};
use crate::packet::{Frame, Payload, Piece, checksum, ethernet, ipv4, ipv6};
use crate::steer::{self, admission, features, opens, vips};

/// Forwards a frame if nothing about it is unusual, or passes it if it is for no VIP, and gives its verdict, or
/// the step that follows; `None`, and the frame as it was, where something is unusual.
///
/// The two families share no code behind the Ethernet header: what is constant in one stays so, and no value
/// has to be kept where the other's way would keep it.
///
/// Without `FEATURED` it has no feature ([`features`]): not even the question whether it has one is left in it.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used afterwards.
#[inline(always)]
pub unsafe fn common<const FEATURED: bool>(context: *mut xdp_md, settings: &Settings) -> Option<u32> {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let ethernet = ethernet::Header::of(frame)?;
    match ethernet.ether_type() {
        ethernet::IPV4 => {
            let ip = ipv4::Header::at(frame, ethernet::LENGTH)?;
            let destination = Address::from_ipv4_raw(ip.destination());
            if !vips::may_be(settings, destination.words()) {
                return Some(pass());
            }
            let payload = plain_v4(frame, ip)?;
            let transport = plain_transport(frame, ip.protocol(), payload)?;
            let packet = Packet::plain(
                Version::V4,
                ip.protocol(),
                Address::from_ipv4_raw(ip.source()),
                destination,
                payload,
            );
            // SAFETY: the caller's.
            unsafe { steered::<FEATURED>(context, frame, settings, &packet, transport) }
        }
        ethernet::IPV6 => {
            let ip = ipv6::Header::at(frame, ethernet::LENGTH)?;
            let destination = ip.destination();
            // Neighbour solicitations for a VIP go to a group.
            if !ipv6::is_multicast(destination) && !vips::may_be(settings, destination) {
                return Some(pass());
            }
            let payload = plain_v6(frame, ip)?;
            let transport = plain_transport(frame, ip.next_header(), payload)?;
            let packet = Packet::plain(
                Version::V6,
                ip.next_header(),
                ipv6::address(ip.source()),
                ipv6::address(destination),
                payload,
            );
            // SAFETY: the caller's.
            unsafe { steered::<FEATURED>(context, frame, settings, &packet, transport) }
        }
        _ => None,
    }
}

#[inline(always)]
fn pass() -> u32 {
    count(Counter::PassNotVip);
    xdp_action::XDP_PASS
}

/// Sends a plain packet where its slot alone says.
///
/// # Safety
/// As [`common`].
#[inline(always)]
unsafe fn steered<const FEATURED: bool>(
    context: *mut xdp_md,
    frame: &Frame,
    settings: &Settings,
    packet: &Packet,
    transport: Transport,
) -> Option<u32> {
    let ethernet = ethernet::Header::of(frame)?;
    let key = VipKey::service(
        packet.destination,
        transport.destination_port_be(),
        packet.protocol,
    );
    let (position, vip) = vips::find(settings, &key)?;
    own_frame(ethernet, settings).ok()?;
    let source = packet.source.words();
    let place = steer::place(settings, vip, source, transport.ports_be)?;
    let slot = match named::<FEATURED>(settings, frame, packet, vip) {
        NONE => steer::plain::<FEATURED>(vip, place),
        member => Slot::settled(member),
    };
    let segment = transport.segment;
    if FEATURED && slot.current == NONE {
        // Together with tunnels and the rest it would be more than a verifier follows: another step.
        // SAFETY: this CPU's element, which no other packet uses before this one's end.
        unsafe { &mut *rare::job()? }.lay_down(packet, transport, position, place);
        return Some(rare::PLACED);
    }
    // At last: it may charge a limit, which is not to be done twice.
    if FEATURED && let Some(reason) = admission::refusal(settings, vip, source, segment) {
        return Some(drop(context, reason));
    }
    if FEATURED && features::has(FEATURE_TRACKING) && matches!(slot.phase(), Phase::Kept) {
        count(Counter::SlotKept);
    }
    let slot = if !FEATURED && slot.current == NONE {
        let (owner, slot) = steer::owner(settings, vip, place, &packet.source, transport);
        if owner.member().is_err() {
            // SAFETY: as above.
            unsafe { &mut *rare::job()? }.lay_down_unowned(packet, segment, vip.flags, owner);
            return Some(rare::DECIDED);
        }
        slot
    } else {
        slot
    };
    if l2::rewrite(ethernet, settings, slot.current) {
        l2::sent(slot.current, opens(segment), frame.len() as u64);
        return Some(xdp_action::XDP_TX);
    }
    if FEATURED && let Some(target) = tunnel::of(slot.current) {
        let load = plain_tunnel::Load {
            version: packet.version(),
            length: packet.payload().offset - ethernet::LENGTH + packet.payload().length,
            hash: place.hash,
            slot,
            flags: vip.flags,
            opens: opens(segment),
        };
        // SAFETY: the caller's.
        let sent = unsafe { plain_tunnel::forward(context, frame, settings, target, load) };
        if sent.is_some() {
            return sent;
        }
        // SAFETY: as above.
        let job = unsafe { &mut *rare::job()? };
        job.lay_down_tunnelled(packet, segment, vip.flags, place.hash, slot);
        return Some(rare::TUNNELLED);
    }
    let Some(target) = l2::target(slot.current) else {
        return Some(drop(context, Counter::DropInternal));
    };
    let outcome = l2::forward(ethernet, target, slot.current, segment, frame.len());
    // SAFETY: the caller's; the frame is not used any more.
    Some(unsafe { conclude(context, outcome) })
}

/// The member that the connection id of a plain QUIC packet names; else [`NONE`].
#[inline(always)]
fn named<const FEATURED: bool>(settings: &Settings, frame: &Frame, packet: &Packet, vip: &Vip) -> Member {
    if !FEATURED || !features::has(FEATURE_QUIC) || vip.flags & VIP_QUIC == 0 || packet.protocol != ipv4::UDP
    {
        return NONE;
    }
    steer::server_ids::member(settings, frame, packet, vip)
}

/// The payload of a packet that is whole, sound and without options.
#[inline(always)]
fn plain_v4(frame: &Frame, ip: ipv4::Header) -> Option<Payload> {
    let total = ip.total();
    let plain = ip.is_plain()
        && total >= ipv4::LENGTH
        && fits(frame, ethernet::LENGTH + total)
        && matches!(ip.piece(), Piece::Whole)
        && !ip.is_martian()
        && checksum::is_right(ip.sum());
    plain.then_some(Payload {
        offset: ethernet::LENGTH + ipv4::LENGTH,
        length: total.wrapping_sub(ipv4::LENGTH),
    })
}

/// The payload of a packet that is sound, as far as there are no extension headers.
#[inline(always)]
fn plain_v6(frame: &Frame, ip: ipv6::Header) -> Option<Payload> {
    let length = ip.payload_length();
    let plain = ip.version() == 6
        && fits(frame, ethernet::LENGTH + ipv6::LENGTH + length)
        && !ip.is_martian()
        && !ipv6::is_mapped(ip.destination());
    plain.then_some(Payload {
        offset: ethernet::LENGTH + ipv6::LENGTH,
        length,
    })
}

/// Whether a packet that ends at `end` is all there, and the frame ends with it or with the padding of a short
/// one. Behind more padding it may go on in another buffer, and its length is not [`Frame::len`].
#[inline(always)]
fn fits(frame: &Frame, end: usize) -> bool {
    end <= frame.len() && (end == frame.len() || frame.len() <= ethernet::PADDED)
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
    let own = settings.own_mac;
    if ethernet.destination() != own {
        return Err(Refusal::Drop(Counter::DropForeignMac));
    }
    // The last four bytes nearly always tell.
    if ethernet.source_end() == (own >> 16) as u32 && ethernet.source() == own {
        return Err(Refusal::Drop(Counter::DropLoop));
    }
    if settings.peers != 0 {
        let source = ethernet.source();
        for &peer in &settings.peer_macs {
            // Places of peers that there are not hold 0.
            if source == peer && source != 0 {
                return Err(Refusal::Drop(Counter::DropLoop));
            }
        }
    }
    Ok(())
}
