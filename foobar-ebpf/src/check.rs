//! `check`: the tc egress program of the balancer's NIC. A health check's packets carry their target in the
//! socket's mark; the program writes that target's next hop into the frame, and the headers of its tunnel
//! around the packet, so that a check goes to the VIP through one backend, the way that users' packets go.
//! Every other packet stays as it is.
//!
//! `canary`: the tc ingress program of the near end of the veth pair by which the canary's packets meet the balancer's
//! program. What that one sends back, as it would by the NIC, leaves by the NIC.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point that the attribute makes has neither"
)]

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
    BPF_F_ADJ_ROOM_FIXED_GSO, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::{macros::classifier, programs::TcContext};
use foobar_common::check::{CANARY_MARK, member_of};
use foobar_common::gue;
use foobar_common::settings::Settings;
use foobar_common::target::{TARGET_GUE, TARGET_IPIP, TARGET_RESOLVED, Target};
use foobar_ebpf::forward::answer::TTL;
use foobar_ebpf::maps::{SETTINGS, TARGETS};
use foobar_ebpf::packet::{checksum, ethernet, ipv4, ipv6};

/// Sends a check's packet to its target.
#[classifier]
pub fn check(context: TcContext) -> i32 {
    // SAFETY: the context is the kernel's, valid for the program's run.
    let mark = unsafe { (*context.skb.skb).mark };
    let Some(member) = member_of(mark) else {
        return TC_ACT_UNSPEC;
    };
    let (Some(target), Some(settings)) = (TARGETS.get(u32::from(member)), SETTINGS.get(0)) else {
        return TC_ACT_SHOT;
    };
    if target.flags & TARGET_RESOLVED == 0 {
        return TC_ACT_SHOT;
    }
    if target.flags & (TARGET_IPIP | TARGET_GUE) != 0 && encapsulate(&context, target, settings).is_err() {
        return TC_ACT_SHOT;
    }
    let (destination, source) = (target.destination_mac, target.source_mac);
    if context.store(0, &destination, 0).is_err() || context.store(6, &source, 0).is_err() {
        return TC_ACT_SHOT;
    }
    if target.ifindex == 0 {
        return TC_ACT_OK;
    }
    // SAFETY: the helper takes any index, and drops the packet where there is no such interface.
    unsafe { bpf_redirect(target.ifindex, 0) as i32 }
}

/// The NIC's index; the loader sets it.
#[unsafe(no_mangle)]
static NIC: u32 = 0;

/// A frame is for this host.
const PACKET_HOST: u32 = 0;

/// Has the canary's packets leave by the NIC.
#[classifier]
pub fn canary(context: TcContext) -> i32 {
    // SAFETY: the context is the kernel's, valid for the program's run.
    let (mark, kind) = unsafe { ((*context.skb.skb).mark, (*context.skb.skb).pkt_type) };
    if kind == PACKET_HOST {
        // The program's own answer, a reset for instance.
        return TC_ACT_OK;
    }
    // What the far end's kernel says of itself is nobody's business.
    if mark != CANARY_MARK {
        return TC_ACT_SHOT;
    }
    // SAFETY: a word of the object's read-only data, which the loader may have set. The helper takes any index.
    unsafe { bpf_redirect((&raw const NIC).read_volatile(), 0) as i32 }
}

/// Puts the packet into the target's tunnel, as the balancer's XDP program does with users' packets; a check
/// carries no candidates, for it asks about one backend.
#[inline(always)]
fn encapsulate(context: &TcContext, target: &Target, settings: &Settings) -> Result<(), i64> {
    let ether_type: u16 = context.load(12)?;
    let inner = match ether_type {
        ethernet::IPV4 => gue::PROTO_IPV4,
        ethernet::IPV6 => gue::PROTO_IPV6,
        _ => return Err(0),
    };
    let packet = context.len().wrapping_sub(ethernet::LENGTH as u32) as u16;
    let is_gue = target.flags & TARGET_GUE != 0;
    let (protocol, behind, udp) = if is_gue {
        (ipv4::UDP, 8 + gue::LENGTH as u16, BPF_F_ADJ_ROOM_ENCAP_L4_UDP)
    } else {
        (inner, 0, 0)
    };
    let address = target.address.words();
    let place = if ipv6::is_mapped(address) {
        let room = ipv4::LENGTH + behind as usize;
        grow(context, room, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | udp)?;
        let [high, low] = (ipv4::LENGTH as u16 + behind + packet).to_be_bytes();
        let mut words = [
            u32::from_be_bytes([0x45, 0, high, low]).to_be(),
            u32::from_be_bytes([0, 0, 0x40, 0]).to_be(),
            u32::from_be_bytes([TTL, protocol, 0, 0]).to_be(),
            settings.tunnel_source_v4,
            (address[1] >> 32) as u32,
        ];
        let mut sum = 0;
        for word in words {
            sum = checksum::add(sum, word);
        }
        words[2] |= u32::from(!checksum::fold(sum)) << 16;
        context.store(12, &ethernet::IPV4, 0)?;
        context.store(ethernet::LENGTH, &words, 0)?;
        ethernet::LENGTH + ipv4::LENGTH
    } else {
        let room = ipv6::LENGTH + behind as usize;
        grow(context, room, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | udp)?;
        let [high, low] = (behind + packet).to_be_bytes();
        let head = [
            u32::from_be_bytes([0x60, 0, 0, 0]).to_be(),
            u32::from_be_bytes([high, low, protocol, TTL]).to_be(),
        ];
        context.store(12, &ethernet::IPV6, 0)?;
        context.store(ethernet::LENGTH, &head, 0)?;
        context.store(ethernet::LENGTH + 8, &settings.tunnel_source_v6, 0)?;
        context.store(ethernet::LENGTH + 24, &address, 0)?;
        ethernet::LENGTH + ipv6::LENGTH
    };
    if is_gue {
        let [high, low] = (behind + packet).to_be_bytes();
        let port = settings.gue_port_be.to_ne_bytes();
        let source = gue::source_port_be(0).to_ne_bytes();
        let [words, protocol] = gue::head(0, inner);
        let head = [
            u32::from_ne_bytes([source[0], source[1], port[0], port[1]]),
            u32::from_be_bytes([high, low, 0, 0]).to_be(),
            u32::from_be_bytes([words, protocol, 0, 0]).to_be(),
        ];
        context.store(place, &head, 0)?;
    }
    Ok(())
}

/// Makes room between the Ethernet header and the packet, whose checksum offload stays right.
#[inline(always)]
fn grow(context: &TcContext, room: usize, flags: u32) -> Result<(), i64> {
    let flags = flags | BPF_F_ADJ_ROOM_FIXED_GSO;
    context.adjust_room(room as i32, BPF_ADJ_ROOM_MAC, u64::from(flags))
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
