//! The answer to a TCP segment that nobody can own (RFC 9293 section 3.10.7.1), where the VIP asks for one.

use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::vip::VIP_RESET;

use super::answer::TTL;
use crate::outcome::{Action, Refusal};
use crate::packet::datagram::{Packet, Version};
use crate::packet::{Frame, checksum, ethernet, ipv4, ipv6};

/// Length in bytes of a TCP header without options.
const TCP_LENGTH: usize = 20;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Drops a packet for `reason`, or turns it into a RST where the policy in `vip_flags` says so.
///
/// A RST is never answered, and neither is a fragment, a packet with IP options or extension headers, or one
/// that is not TCP: those are dropped. Behind VLAN tags the answer keeps them.
#[inline(always)]
pub fn refuse(
    frame: &Frame,
    packet: &Packet,
    settings: &Settings,
    vip_flags: u32,
    reason: Counter,
) -> Result<Action, Refusal> {
    if vip_flags & VIP_RESET == 0 || packet.protocol != ipv4::TCP || !packet.is_plain() {
        return Err(Refusal::Drop(reason));
    }
    let Some(ethernet) = ethernet::Header::of(frame) else {
        return Err(Refusal::Drop(Counter::DropTruncated));
    };
    let Some(tcp) = frame.at::<[u8; TCP_LENGTH]>(packet.payload().offset) else {
        return Err(Refusal::Drop(Counter::DropTruncated));
    };
    let flags = tcp.get::<u8, 13>();
    if flags & RST != 0 {
        return Err(Refusal::Drop(reason));
    }
    let header = (tcp.get::<u8, 12>() >> 4) as u32 * 4;
    let (sequence, acknowledgment, answer) = if flags & ACK != 0 {
        (tcp.get::<u32, 8>(), 0, RST)
    } else {
        let octets = (packet.payload().length as u32).wrapping_sub(header);
        let length = octets + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (
            0,
            u32::from_be(tcp.get::<u32, 4>()).wrapping_add(length).to_be(),
            RST | ACK,
        )
    };
    // The pseudo header: addresses, protocol, length of the segment (RFC 9293 section 3.1, RFC 8200 section
    // 8.1). The mapped form of an IPv4 address would add its prefix.
    let mut sum = checksum::add(0, u32::from_be_bytes([0, ipv4::TCP, 0, TCP_LENGTH as u8]).to_be());
    match packet.version() {
        Version::V4 => {
            let Some(ip) = ipv4::Header::at(frame, packet.offset()) else {
                return Err(Refusal::Drop(Counter::DropTruncated));
            };
            sum = checksum::add(sum, ip.source());
            sum = checksum::add(sum, ip.destination());
            ip.write_answer((ipv4::LENGTH + TCP_LENGTH) as u16, ipv4::TCP, TTL);
        }
        Version::V6 => {
            let Some(ip) = ipv6::Header::at(frame, packet.offset()) else {
                return Err(Refusal::Drop(Counter::DropTruncated));
            };
            let (source, destination) = (ip.source(), ip.destination());
            sum = checksum::add_wide(checksum::add_wide(sum, source[0]), source[1]);
            sum = checksum::add_wide(checksum::add_wide(sum, destination[0]), destination[1]);
            ip.write(TCP_LENGTH as u16, ipv4::TCP, TTL);
            ip.set_addresses(destination, source);
        }
    }
    ethernet.answer_from(settings.own_mac);
    let ports = tcp.get::<u32, 0>().rotate_right(16);
    let control = u32::from_be_bytes([5 << 4, answer, 0, 0]).to_be();
    tcp.set::<u32, 0>(ports);
    tcp.set::<u32, 4>(sequence);
    tcp.set::<u32, 8>(acknowledgment);
    tcp.set::<u32, 12>(control);
    sum = checksum::add(sum, ports);
    sum = checksum::add(sum, sequence);
    sum = checksum::add(sum, acknowledgment);
    sum = checksum::add(sum, control);
    tcp.set::<u16, 16>(!checksum::fold(sum));
    tcp.set::<u16, 18>(0);
    Ok(Action::Cut(
        Counter::AnswerReset,
        (packet.payload().offset + TCP_LENGTH) as u32,
    ))
}
