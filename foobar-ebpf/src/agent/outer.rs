//! The outer headers: Ethernet, IP without extension headers, and GUE, if it is not IP in IP.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use foobar_common::address::Address;
use foobar_common::agent::{AgentCounter, AgentSettings, MAX_ADDRESSES, MAX_TRUSTED};
use foobar_common::gue;
use foobar_ebpf::packet::{Frame, Piece, ethernet, ipv4, ipv6};

use crate::maps::Job;
use crate::{ON, drop, pass, wrong};

/// Length in bytes of a UDP header.
pub(crate) const UDP: usize = 8;

/// GUE's first byte: version 0, no control message; the rest is the length of the private data in words.
const KNOWN_KIND: u8 = 0;
const KIND: u8 = 0xe0;
const WORDS: u8 = 0x1f;

/// Is it a tunnel's packet from a trusted source to this host, and what does its header say?
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
pub(crate) unsafe fn read(context: *mut xdp_md, settings: &AgentSettings, job: &mut Job) -> u32 {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let Some(ethernet) = ethernet::Header::of(frame) else {
        return pass(AgentCounter::PassOther);
    };
    let Some((ether_type, offset)) = ethernet.network(frame) else {
        return pass(AgentCounter::PassOther);
    };
    let (source, destination, protocol, length, header);
    if ether_type == ethernet::IPV4 {
        let Some(ip) = ipv4::Header::at(frame, offset) else {
            return pass(AgentCounter::PassOther);
        };
        source = Address::from_ipv4_raw(ip.source()).words();
        destination = Address::from_ipv4_raw(ip.destination()).words();
        protocol = ip.protocol();
        job.traffic_class = ip.traffic_class();
        job.outer_v4 = true;
        let known = port_fits(frame, settings, offset + first_length(frame, offset), protocol);
        if !known {
            return pass(AgentCounter::PassOther);
        }
        if !trusted(settings, source) {
            return pass(AgentCounter::PassUntrusted);
        }
        if !matches!(ip.piece(), Piece::Whole) {
            return pass(AgentCounter::PassFragment);
        }
        match ip.lengths() {
            Ok(lengths) => (header, length) = lengths,
            Err(reason) => return drop(wrong(reason)),
        }
    } else {
        let Some(ip) = ipv6::Header::at(frame, offset) else {
            return pass(AgentCounter::PassOther);
        };
        source = ip.source();
        destination = ip.destination();
        protocol = ip.next_header();
        job.traffic_class = ip.traffic_class();
        job.outer_v4 = false;
        header = ipv6::LENGTH;
        length = ipv6::LENGTH + ip.payload_length();
        if !port_fits(frame, settings, offset + header, protocol) {
            return pass(AgentCounter::PassOther);
        }
        if !trusted(settings, source) {
            return pass(AgentCounter::PassUntrusted);
        }
        if ip.version() != 6 {
            return drop(AgentCounter::DropMalformed);
        }
    }
    if ethernet.destination() != settings.own_mac {
        return pass(AgentCounter::PassForeignMac);
    }
    if !own(settings, destination) {
        return pass(AgentCounter::PassNotOwn);
    }
    let end = offset + length;
    // SAFETY: the context is the kernel's.
    if end > frame.len() && end > unsafe { bpf_xdp_get_buff_len(context) } as usize {
        return drop(AgentCounter::DropTruncated);
    }
    job.outer = offset as u16;
    job.tunnel = (offset + header) as u16;
    job.end = end as u32;
    job.listed = 0;
    job.next = 0;
    job.options = 0;
    job.gue = protocol == ipv4::UDP;
    if !job.gue {
        job.inner = job.tunnel;
        job.removed = header as u16;
        job.inner_v4 = protocol == gue::PROTO_IPV4;
        return ON;
    }
    tunnel(frame, job, offset + header, end)
}

/// The length of an IPv4 header, whatever it says.
#[inline(always)]
fn first_length(frame: &Frame, offset: usize) -> usize {
    match frame.at::<u8>(offset) {
        Some(first) => (first.get::<u8, 0>() & 0x0f) as usize * 4,
        None => ipv4::LENGTH,
    }
}

/// Whether a packet of this protocol can be a tunnel's: all but UDP to another port than GUE's.
#[inline(always)]
fn port_fits(frame: &Frame, settings: &AgentSettings, offset: usize, protocol: u8) -> bool {
    if protocol != ipv4::UDP {
        return true;
    }
    match frame.at::<u32>(offset) {
        Some(ports) => ports.get::<u16, 2>() == settings.gue_port_be,
        None => false,
    }
}

/// A number of entries, read anew at every step of a loop. Read once, the compiler would make one bound of it and
/// the array's length, in a way in which the verifier of Linux 6.1 loses it.
#[inline(always)]
fn now(count: &u32) -> u32 {
    // SAFETY: a reference can be read.
    unsafe { core::ptr::from_ref(count).read_volatile() }
}

#[inline(always)]
fn trusted(settings: &AgentSettings, source: [u64; 2]) -> bool {
    for place in 0..MAX_TRUSTED {
        if place as u32 >= now(&settings.trusted_count) {
            return false;
        }
        if settings.trusted[place].holds(source) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn own(settings: &AgentSettings, destination: [u64; 2]) -> bool {
    if settings.address_count == 0 {
        return true;
    }
    for place in 0..MAX_ADDRESSES {
        if place as u32 >= now(&settings.address_count) {
            return false;
        }
        let address = settings.addresses[place];
        if address[0] == destination[0] && address[1] == destination[1] {
            return true;
        }
    }
    false
}

/// GUE: what is in it, and which candidates it lists.
#[inline(always)]
fn tunnel(frame: &Frame, job: &mut Job, offset: usize, end: usize) -> u32 {
    let Some(header) = frame.at::<[u8; UDP + gue::LENGTH]>(offset) else {
        return drop(AgentCounter::DropTruncated);
    };
    let length = u16::from_be(header.get::<u16, 4>()) as usize;
    let kind = header.get::<u8, 8>();
    if kind & KIND != KNOWN_KIND || header.get::<u16, 10>() != 0 {
        return pass(AgentCounter::PassUnknownGue);
    }
    let protocol = header.get::<u8, 9>();
    if protocol != gue::PROTO_IPV4 && protocol != gue::PROTO_IPV6 {
        return pass(AgentCounter::PassUnknownGue);
    }
    let private = (kind & WORDS) as usize * 4;
    let inner = UDP + gue::LENGTH + private;
    if length < inner || offset + length > end {
        return drop(AgentCounter::DropMalformed);
    }
    job.inner = (offset + inner) as u16;
    job.removed = job.inner - job.outer;
    job.inner_v4 = protocol == gue::PROTO_IPV4;
    job.end = (offset + length) as u32;
    if private < gue::PRIVATE_LENGTH {
        return ON;
    }
    let Some(candidates) = frame.at::<u32>(offset + UDP + gue::LENGTH) else {
        return drop(AgentCounter::DropTruncated);
    };
    if candidates.get::<u16, 0>() != gue::MAGIC.to_be() {
        return ON;
    }
    let turns = candidates.get::<u8, 2>();
    let (next, listed) = (turns >> 4, turns & 0x0f);
    let size = if job.outer_v4 { 4 } else { 16 };
    if listed as usize > gue::MAX_LISTED
        || next > listed
        || gue::PRIVATE_LENGTH + listed as usize * size > private
    {
        return drop(AgentCounter::DropMalformed);
    }
    job.next = next;
    job.listed = listed;
    job.options = candidates.get::<u8, 3>();
    ON
}
