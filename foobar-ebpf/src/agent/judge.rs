//! Whose flow is it? The kernel's socket table is the judge.
//!
//! A segment that opens a connection is the current owner's, whom the balancer names first. So is everything
//! that no TCP socket can be asked for: other protocols, pieces of datagrams, ICMP that is no error.

use aya_ebpf::bindings::{bpf_sock, tcphdr, xdp_md};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie};
use foobar_common::address::Address;
use foobar_common::agent::{AgentCounter, Finding};
use foobar_common::steering::Segment;
use foobar_ebpf::packet::datagram::{Packet, Version};
use foobar_ebpf::packet::{Frame, Payload, Piece, icmp, ipv4, ipv6, quote, transport};

use crate::maps::Job;

/// What [`judge`] found, in one word.
const OPENING: u32 = 0;
const UNJUDGED: u32 = 1;
const OWNED: u32 = 2;
const COOKIE: u32 = 3;
const WAITING: u32 = 4;
const FOREIGN: u32 = 5;

/// States of a socket, of the kernel's `include/net/tcp_states.h`.
const TIME_WAIT: u32 = 6;
const LISTEN: u32 = 10;

/// The network namespace of the interface that the packet came in by (BPF_F_CURRENT_NETNS).
const CURRENT_NETNS: u64 = u64::MAX;

/// Length in bytes of a TCP header without options.
const TCP_LENGTH: usize = 20;

/// A finding as the rule takes it.
#[inline(always)]
pub(crate) const fn finding(word: u32) -> Finding {
    match word {
        FOREIGN => Finding::Foreign,
        WAITING => Finding::Waiting,
        _ => Finding::Owned,
    }
}

/// The counter of a packet that is kept after a finding.
#[inline(always)]
pub(crate) const fn kept_as(word: u32) -> AgentCounter {
    match word {
        OPENING => AgentCounter::KeptOpening,
        UNJUDGED => AgentCounter::KeptUnjudged,
        OWNED => AgentCounter::KeptOwned,
        COOKIE => AgentCounter::KeptCookie,
        _ => AgentCounter::KeptWaiting,
    }
}

/// Asks the kernel for the packet's flow.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
pub(crate) unsafe fn judge(context: *mut xdp_md, job: &Job) -> u32 {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let packet = &job.packet;
    if !matches!(packet.piece(), Piece::Whole) {
        return UNJUDGED;
    }
    let payload = packet.payload();
    if packet.protocol == ipv4::TCP {
        return match transport::tcp(frame, payload, Piece::Whole) {
            Ok(transport) if matches!(transport.segment, Segment::Open) => OPENING,
            Ok(transport) => {
                let (remote, local) = (packet.source, packet.destination);
                // SAFETY: the caller's.
                unsafe { ask(context, frame, packet, remote, local, transport.ports_be, true) }
            }
            // The kernel drops it.
            Err(_) => UNJUDGED,
        };
    }
    match quoted(frame, packet) {
        Some((remote, ports_be)) => {
            // SAFETY: the caller's.
            unsafe {
                ask(
                    context,
                    frame,
                    packet,
                    remote,
                    packet.destination,
                    ports_be,
                    false,
                )
            }
        }
        None => UNJUDGED,
    }
}

/// The client, and the ports as its segments show them, of the TCP segment that an ICMP error quotes.
#[inline(always)]
fn quoted(frame: &Frame, packet: &Packet) -> Option<(Address, u32)> {
    let payload = packet.payload();
    let of_its_family = match packet.version() {
        Version::V4 => packet.protocol == ipv4::ICMP,
        Version::V6 => packet.protocol == ipv6::ICMP,
    };
    if !of_its_family {
        return None;
    }
    let message = icmp::Message::of(frame, payload)?;
    let place = Payload {
        offset: payload.offset + icmp::LENGTH,
        length: payload.length - icmp::LENGTH,
    };
    let quote = match packet.version() {
        Version::V4 if icmp::is_error_v4(message.kind()) => quote::v4(frame, place)?,
        Version::V6 if icmp::is_error_v6(message.kind()) => quote::v6(frame, place)?,
        Version::V4 | Version::V6 => return None,
    };
    if quote.protocol != ipv4::TCP || quote.source.words() != packet.destination.words() {
        return None;
    }
    Some((quote.destination, quote.ports_be.rotate_right(16)))
}

/// Looks the flow's socket up. `segment`: the packet is the flow's own, and may complete a handshake by a SYN
/// cookie.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(always)]
unsafe fn ask(
    context: *mut xdp_md,
    frame: &Frame,
    packet: &Packet,
    remote: Address,
    local: Address,
    ports_be: u32,
    segment: bool,
) -> u32 {
    // `struct bpf_sock_tuple`: of either family both addresses, then both ports.
    let (remote, local) = (remote.words(), local.words());
    // SAFETY: the tuple is of the length that the helper is told, the socket is released once.
    unsafe {
        let socket = match packet.version() {
            Version::V4 => {
                let mut tuple = [(remote[1] >> 32) as u32, (local[1] >> 32) as u32, ports_be];
                look_up(context, tuple.as_mut_ptr(), size_of_val(&tuple))
            }
            Version::V6 => {
                let mut tuple = [
                    remote[0] as u32,
                    (remote[0] >> 32) as u32,
                    remote[1] as u32,
                    (remote[1] >> 32) as u32,
                    local[0] as u32,
                    (local[0] >> 32) as u32,
                    local[1] as u32,
                    (local[1] >> 32) as u32,
                    ports_be,
                ];
                look_up(context, tuple.as_mut_ptr(), size_of_val(&tuple))
            }
        };
        if socket.is_null() {
            return FOREIGN;
        }
        let state = core::ptr::addr_of!((*socket).state).read_volatile();
        let found = match state {
            TIME_WAIT => WAITING,
            LISTEN if segment && is_cookie(frame, packet, socket) => COOKIE,
            LISTEN => FOREIGN,
            _ => OWNED,
        };
        bpf_sk_release(socket.cast());
        found
    }
}

/// # Safety
/// `tuple` points to `length` readable bytes, a tuple of one of the two families.
#[inline(always)]
unsafe fn look_up(context: *mut xdp_md, tuple: *mut u32, length: usize) -> *mut bpf_sock {
    // SAFETY: the caller's.
    unsafe { bpf_skc_lookup_tcp(context.cast(), tuple.cast(), length as u32, CURRENT_NETNS, 0) }
}

/// Whether a segment's acknowledgment is a SYN cookie of the listening socket.
///
/// # Safety
/// The socket is a live one.
#[inline(always)]
unsafe fn is_cookie(frame: &Frame, packet: &Packet, socket: *mut bpf_sock) -> bool {
    let Some(tcp) = frame.at::<[u8; TCP_LENGTH]>(packet.payload().offset) else {
        return false;
    };
    let tcp = tcp.as_mut_ptr().cast::<tcphdr>();
    let answer = match packet.version() {
        Version::V4 => {
            let Some(ip) = frame.at::<[u8; ipv4::LENGTH]>(packet.offset()) else {
                return false;
            };
            let (ip, length) = (ip.as_mut_ptr().cast(), ipv4::LENGTH as u32);
            // SAFETY: both headers are in the frame.
            unsafe { bpf_tcp_check_syncookie(socket.cast(), ip, length, tcp, TCP_LENGTH as u32) }
        }
        Version::V6 => {
            let Some(ip) = frame.at::<[u8; ipv6::LENGTH]>(packet.offset()) else {
                return false;
            };
            let (ip, length) = (ip.as_mut_ptr().cast(), ipv6::LENGTH as u32);
            // SAFETY: both headers are in the frame.
            unsafe { bpf_tcp_check_syncookie(socket.cast(), ip, length, tcp, TCP_LENGTH as u32) }
        }
    };
    answer == 0
}
