//! The packet in the tunnel: is it for a VIP of this host, and sound?

use aya_ebpf::bindings::xdp_md;
use foobar_common::address::Address;
use foobar_common::agent::AgentCounter;
use foobar_ebpf::packet::datagram::Packet;
use foobar_ebpf::packet::{Frame, ipv4, ipv6};

use crate::maps::{AGENT_VIPS, Job};
use crate::{ON, drop, pass, wrong};

/// All offsets of inner headers are below it: two VLAN tags, an IPv4 header with options, UDP, and GUE with 31
/// words.
pub(crate) const OFFSET_MASK: u16 = 0xff;

/// Reads the packet.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
pub(crate) unsafe fn read(context: *mut xdp_md, job: &mut Job) -> u32 {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let offset = (job.inner & OFFSET_MASK) as usize;
    let end = job.end as usize;
    let packet = if job.inner_v4 {
        let Some(ip) = ipv4::Header::at(frame, offset) else {
            return drop(AgentCounter::DropTruncated);
        };
        if !is_vip(Address::from_ipv4_raw(ip.destination())) {
            return pass(AgentCounter::PassNotVip);
        }
        Packet::v4(frame, ip, offset, end)
    } else {
        let Some(ip) = ipv6::Header::at(frame, offset) else {
            return drop(AgentCounter::DropTruncated);
        };
        let destination = ip.destination();
        if ipv6::is_mapped(destination) || !is_vip(ipv6::address(destination)) {
            return pass(AgentCounter::PassNotVip);
        }
        Packet::v6(frame, ip, offset, end)
    };
    match packet {
        Ok(packet) => {
            job.packet = packet;
            ON
        }
        Err(reason) => drop(wrong(reason)),
    }
}

#[inline(always)]
fn is_vip(address: Address) -> bool {
    AGENT_VIPS.get_ptr(address).is_some()
}
