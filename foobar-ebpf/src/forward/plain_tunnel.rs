//! Tunnels, from the common way: a plain packet whose owner is known is encapsulated at once. The outer headers are
//! those that [`super::tunnel`] makes, with the same fields; here what comes before the packet has a known place, so
//! that it is written in whole words, and nothing that is known is read again.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use foobar_common::counters::Counter;
use foobar_common::gue;
use foobar_common::settings::Settings;
use foobar_common::slot::Slot;
use foobar_common::target::{HOT_IPIP, HOT_SENDS, HOT_V4};
use foobar_common::vip::{VIP_CANDIDATES, VIP_RESET};

use super::answer::TTL;
use super::tunnel::{Candidates, UDP_GUE, candidates, most, v4_of};
use super::{hot, l2};
use crate::outcome::drop;
use crate::packet::datagram::Version;
use crate::packet::{Frame, Plain, View, checksum, ethernet, ipv4, ipv6};

/// What is to be known of a plain packet: its frame has no VLAN tag and is all in one buffer.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its family.
    pub version: Version,
    /// Its length in bytes, IP header included.
    pub length: usize,
    /// Its flow's hash: outer headers vary by it.
    pub hash: u64,
    /// `current` is where it goes, `previous` and `older` are further candidates.
    pub slot: Slot,
    /// The VIP's flags.
    pub flags: u32,
    /// Whether it opens a flow.
    pub opens: bool,
}

/// The bytes before a packet in a tunnel over IPv4, or over IPv6.
const V4: usize = ethernet::LENGTH + ipv4::LENGTH;
const V6: usize = ethernet::LENGTH + ipv6::LENGTH;
/// Where GUE's private data begins over IPv4.
const PRIVATE: usize = V4 + UDP_GUE;
/// The bytes before a packet over IPv4, at most. One question is enough for all of them, for a frame that has grown has
/// as many: by the least that it grows by, 20 bytes, and what a plain packet of UDP over IPv4 has.
const WHOLE: usize = PRIVATE + gue::PRIVATE_LENGTH + gue::MAX_LISTED * 4;
const _: () = assert!(WHOLE <= ethernet::LENGTH + 2 * ipv4::LENGTH + 8);

/// Encapsulates a packet for a target that is reached through a tunnel, and gives its verdict; `None`, and the frame as
/// it was, where something is unusual: the packet is too big, or the way is through another interface.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used after a verdict.
#[inline(always)]
pub unsafe fn forward(
    context: *mut xdp_md,
    frame: &Frame,
    settings: &Settings,
    target: hot::Target,
    load: Load,
) -> Option<u32> {
    let flags = target.flags();
    if flags & HOT_SENDS == 0 {
        return None;
    }
    let (protocol, traffic_class) = match load.version {
        Version::V4 => (gue::PROTO_IPV4, frame.at::<u16>(ethernet::LENGTH)?.get::<u8, 1>()),
        Version::V6 => {
            let [high, low] = frame.at::<u16>(ethernet::LENGTH)?.get::<u16, 0>().to_ne_bytes();
            (gue::PROTO_IPV6, high << 4 | low >> 4)
        }
    };
    let tunnel = Tunnel {
        settings,
        target,
        load: &load,
        protocol,
        traffic_class,
        frame: frame.len(),
    };
    let with_candidates = load.flags & VIP_CANDIDATES != 0;
    let over_v4 = flags & HOT_V4 != 0;
    // One question for each kind, so that the room that it needs is a constant of it.
    // SAFETY: the caller's.
    unsafe {
        if over_v4 {
            if flags & HOT_IPIP != 0 {
                if tunnel.fits::<true, false, false>() {
                    return Some(tunnel.v4::<false>(context, None));
                }
            } else if !with_candidates {
                if tunnel.fits::<true, true, false>() {
                    return Some(tunnel.v4::<true>(context, None));
                }
            } else if tunnel.fits::<true, true, true>() {
                return Some(tunnel.v4::<true>(context, Some(&tunnel.private(true))));
            }
        } else if flags & HOT_IPIP != 0 {
            if tunnel.fits::<false, false, false>() {
                return Some(tunnel.v6::<false>(context, None));
            }
        } else if !with_candidates {
            if tunnel.fits::<false, true, false>() {
                return Some(tunnel.v6::<true>(context, None));
            }
        } else if tunnel.fits::<false, true, true>() {
            return Some(tunnel.v6::<true>(context, Some(&tunnel.private(false))));
        }
    }
    None
}

/// A tunnel, and what is to go through it.
struct Tunnel<'a> {
    settings: &'a Settings,
    target: hot::Target,
    load: &'a Load,
    /// The packet's own protocol number, inside of another one.
    protocol: u8,
    traffic_class: u8,
    /// The frame's bytes, padding included.
    frame: usize,
}

/// GUE's private data.
struct Private {
    listed: Candidates,
    /// Its length in bytes.
    length: usize,
    /// Its first word, as it stands in the packet.
    head: u32,
}

impl Tunnel<'_> {
    /// Whether the packet is not too big for a tunnel of this kind.
    #[inline(always)]
    fn fits<const OVER_V4: bool, const GUE: bool, const CANDIDATES: bool>(&self) -> bool {
        self.load.length + most(OVER_V4, GUE, CANDIDATES) <= self.target.mtu()
    }

    #[inline(always)]
    fn private(&self, over_v4: bool) -> Private {
        let listed = candidates(self.load.slot, over_v4);
        let silent = self.load.flags & VIP_RESET == 0;
        let length = if listed.count == 0 && !silent {
            0
        } else {
            gue::PRIVATE_LENGTH + listed.count * if over_v4 { 4 } else { 16 }
        };
        let [high, low] = gue::MAGIC.to_be_bytes();
        let options = if silent { gue::OPTION_DROP } else { 0 };
        let head = u32::from_le_bytes([high, low, listed.count as u8, options]);
        Private { listed, length, head }
    }

    /// Encapsulates by IPv4.
    ///
    /// # Safety
    /// As [`forward`].
    #[inline(always)]
    unsafe fn v4<const GUE: bool>(&self, context: *mut xdp_md, private: Option<&Private>) -> u32 {
        let (behind, protocol) = self.behind::<GUE>(private);
        let room = ipv4::LENGTH + behind;
        let (head, tail) = self.target.macs();
        let destination = v4_of(self.target.address());
        let (source, vary) = (self.settings.tunnel_source_v4, self.settings.tunnel_vary_v4);
        let source = source | (self.load.hash >> 24) as u32 & vary;
        let total = ((room + self.load.length) as u16).to_be();
        let begin = u16::from_le_bytes([0x45, self.traffic_class]);
        let middle = u16::from_le_bytes([TTL, protocol]);
        let mut sum = u64::from(begin) + u64::from(total) + u64::from(DONT_FRAGMENT) + u64::from(middle);
        sum = checksum::add(sum, source);
        sum = checksum::add(sum, destination);
        // SAFETY: the caller's.
        let Some(view) = (unsafe { grow::<[u8; WHOLE]>(context, room) }) else {
            return drop(context, Counter::DropInternal);
        };
        view.set::<u64, 0>(head);
        view.set::<u64, 8>(quad(tail as u16, (tail >> 16) as u16, ethernet::IPV4, begin));
        view.set::<u64, 16>(quad(total, 0, DONT_FRAGMENT, middle));
        view.set::<u64, 24>(quad(
            checksum_of(sum),
            source as u16,
            (source >> 16) as u16,
            destination as u16,
        ));
        view.set::<u16, 32>((destination >> 16) as u16);
        if GUE {
            let (udp, head) = self.gue(behind, private);
            view.set::<u64, V4>(udp);
            view.set::<u32, { V4 + 8 }>(head);
        }
        if let Some(private) = private
            && private.length != 0
        {
            view.set::<u32, PRIVATE>(private.head);
            if private.listed.count > 0 {
                view.set::<u32, { PRIVATE + 4 }>(v4_of(private.listed.first));
            }
            if private.listed.count > 1 {
                view.set::<u32, { PRIVATE + 8 }>(v4_of(private.listed.second));
            }
        }
        self.sent(room)
    }

    /// Encapsulates by IPv6.
    ///
    /// # Safety
    /// As [`forward`].
    #[inline(always)]
    unsafe fn v6<const GUE: bool>(&self, context: *mut xdp_md, private: Option<&Private>) -> u32 {
        let (behind, protocol) = self.behind::<GUE>(private);
        let room = ipv6::LENGTH + behind;
        let (head, tail) = self.target.macs();
        let destination = self.target.address();
        let (source, vary) = (self.settings.tunnel_source_v6, self.settings.tunnel_vary_v6);
        let hash = self.load.hash;
        let class = u32::from(self.traffic_class) << 20;
        let first = (6 << 28 | class | (hash >> 20) as u32 & 0x000f_ffff).to_be();
        let length = ((behind + self.load.length) as u16).to_be();
        // SAFETY: the caller's.
        let Some(view) = (unsafe { grow::<[u8; V6 + UDP_GUE]>(context, room) }) else {
            return drop(context, Counter::DropInternal);
        };
        view.set::<u64, 0>(head);
        view.set::<u64, 8>(quad(
            tail as u16,
            (tail >> 16) as u16,
            ethernet::IPV6,
            first as u16,
        ));
        view.set::<u32, 16>((first >> 16) | u32::from(length) << 16);
        view.set::<u16, 20>(u16::from_le_bytes([protocol, TTL]));
        view.set::<u64, 22>(source[0] | hash & vary[0]);
        view.set::<u64, 30>(source[1] | hash & vary[1]);
        view.set::<u64, 38>(destination[0]);
        view.set::<u64, 46>(destination[1]);
        if GUE {
            let (udp, head) = self.gue(behind, private);
            view.set::<u64, V6>(udp);
            view.set::<u32, { V6 + 8 }>(head);
        }
        if let Some(private) = private
            && private.length != 0
        {
            // With a packet behind it, one more address than is listed may be there or not.
            // SAFETY: the caller's; the view is of this context.
            let Some(head) = (unsafe { view.then::<[u8; gue::PRIVATE_LENGTH]>(context) }) else {
                return drop(context, Counter::DropInternal);
            };
            head.set::<u32, 0>(private.head);
            if private.listed.count > 0 {
                // SAFETY: the caller's; the view is of this context.
                let Some(first) = (unsafe { head.then::<[u64; 2]>(context) }) else {
                    return drop(context, Counter::DropInternal);
                };
                first.set::<u64, 0>(private.listed.first[0]);
                first.set::<u64, 8>(private.listed.first[1]);
                if private.listed.count > 1 {
                    // SAFETY: the caller's; the view is of this context.
                    let Some(second) = (unsafe { first.then::<[u64; 2]>(context) }) else {
                        return drop(context, Counter::DropInternal);
                    };
                    second.set::<u64, 0>(private.listed.second[0]);
                    second.set::<u64, 8>(private.listed.second[1]);
                }
            }
        }
        self.sent(room)
    }

    /// The length in bytes of what comes between the outer IP header and the packet, and the outer one's protocol.
    #[inline(always)]
    fn behind<const GUE: bool>(&self, private: Option<&Private>) -> (usize, u8) {
        if GUE {
            (UDP_GUE + private.map_or(0, |private| private.length), ipv4::UDP)
        } else {
            (0, self.protocol)
        }
    }

    /// UDP's header and GUE's, as they stand in a packet.
    #[inline(always)]
    fn gue(&self, behind: usize, private: Option<&Private>) -> (u64, u32) {
        let words = private.map_or(0, |private| private.length / 4);
        let length = ((behind + self.load.length) as u16).to_be();
        let port = gue::source_port_be(self.load.hash);
        let udp = quad(port, self.settings.gue_port_be, length, 0);
        let head = u16::from_le_bytes(gue::head(words, self.protocol));
        (udp, u32::from(head))
    }

    /// Counts the frame that has grown by `room`.
    #[inline(always)]
    fn sent(&self, room: usize) -> u32 {
        l2::sent(
            self.load.slot.current,
            self.load.opens,
            (self.frame + room) as u64,
        );
        xdp_action::XDP_TX
    }
}

/// IPv4's flags and fragment offset, as they stand in a packet: don't fragment.
const DONT_FRAGMENT: u16 = 0x4000u16.to_be();

/// Four fields as they follow each other in memory.
#[inline(always)]
const fn quad(first: u16, second: u16, third: u16, fourth: u16) -> u64 {
    first as u64 | (second as u64) << 16 | (third as u64) << 32 | (fourth as u64) << 48
}

/// The first bytes of the frame, with room for so many more before it, if the driver has left them.
///
/// # Safety
/// As [`forward`].
#[inline(always)]
unsafe fn grow<T: Plain>(context: *mut xdp_md, room: usize) -> Option<View<T>> {
    // SAFETY: the caller's; the frame is made anew.
    unsafe {
        if bpf_xdp_adjust_head(context, -(room as i32)) != 0 {
            return None;
        }
        View::of_context(context)
    }
}

/// The checksum of a header whose words have this sum, of two 32-bit words and some 16-bit ones.
#[inline(always)]
const fn checksum_of(sum: u64) -> u16 {
    // At most 2^34: below 2^19 after the first fold, below 2^17 after the second.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}
