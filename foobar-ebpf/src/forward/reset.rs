//! The answer to a TCP segment that nobody can own (RFC 9293 section 3.10.7.1), where the VIP asks for one.

use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::vip::{VIP_RESET, Vip};

use super::answer::TTL;
use crate::outcome::{Action, Refusal};
use crate::packet::{Frame, checksum, ethernet, ipv4, transport::Transport};

/// Length of the answer: Ethernet, IPv4 and TCP headers without options.
pub const LENGTH: usize = ethernet::LENGTH + ipv4::LENGTH + 20;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Drops a packet for `reason`, or turns it into a RST where the VIP's policy says so.
///
/// A RST is never answered, and neither is a packet with IP options or one that is not TCP: those are
/// dropped. The frame is [`LENGTH`] bytes long then: the entry point cuts off the rest.
#[inline(always)]
pub fn refuse(
    frame: &Frame,
    ethernet: ethernet::Header,
    ip: ipv4::Header,
    settings: &Settings,
    vip: &Vip,
    transport: Transport,
    reason: Counter,
) -> Result<Action, Refusal> {
    if vip.flags & VIP_RESET == 0 || ip.protocol() != ipv4::TCP {
        return Err(Refusal::Drop(reason));
    }
    let payload = ip.payload(frame).map_err(Refusal::Drop)?;
    if payload.offset != ethernet::LENGTH + ipv4::LENGTH {
        return Err(Refusal::Drop(reason));
    }
    let Some(tcp) = frame.at::<[u8; 20]>(ethernet::LENGTH + ipv4::LENGTH) else {
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
        let octets = (payload.length as u32).wrapping_sub(header);
        let length = octets + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (
            0,
            u32::from_be(tcp.get::<u32, 4>()).wrapping_add(length).to_be(),
            RST | ACK,
        )
    };
    ethernet.answer_from(settings.own_mac);
    ip.write_answer((ipv4::LENGTH + 20) as u16, ipv4::TCP, TTL);

    let ports = transport.ports_be.rotate_right(16);
    let control = u32::from_be_bytes([5 << 4, answer, 0, 0]).to_be();
    tcp.set::<u32, 0>(ports);
    tcp.set::<u32, 4>(sequence);
    tcp.set::<u32, 8>(acknowledgment);
    tcp.set::<u32, 12>(control);
    // The pseudo header: addresses, protocol, length of the segment.
    let mut sum = checksum::add(0, ip.source());
    sum = checksum::add(sum, ip.destination());
    sum = checksum::add(sum, u32::from_be_bytes([0, ipv4::TCP, 0, 20]).to_be());
    sum = checksum::add(sum, ports);
    sum = checksum::add(sum, sequence);
    sum = checksum::add(sum, acknowledgment);
    sum = checksum::add(sum, control);
    tcp.set::<u16, 16>(!checksum::fold(sum));
    tcp.set::<u16, 18>(0);
    Ok(Action::Answer(Counter::AnswerReset))
}
