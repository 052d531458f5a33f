//! ICMP errors, and the packets that they quote: of the flow, of others, cut off, and one in another.

use std::net::{IpAddr, Ipv4Addr};

use super::Packet;
use super::flows::Flow;
use super::packet::{Header, packet};
use crate::fuzz::dice::Dice;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// An error about a flow, from its client or from a router on the way.
pub(super) fn error(dice: &mut Dice, flow: Flow) -> Packet {
    let quoted = quoted(dice, flow);
    let message = message(dice, flow.vip, &quoted);
    let reporter = match flow.client {
        IpAddr::V4(_) if dice.percent(50) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        client => client,
    };
    let protocol = protocol(dice, flow.vip);
    packet(dice, reporter, flow.vip, protocol, Header::default(), &message)
}

/// ICMP's number of the address's family; now and then the other one's.
fn protocol(dice: &mut Dice, vip: IpAddr) -> u8 {
    match (vip, dice.percent(2)) {
        (IpAddr::V4(_), false) | (IpAddr::V6(_), true) => ICMP,
        (IpAddr::V6(_), false) | (IpAddr::V4(_), true) => ICMPV6,
    }
}

fn message(dice: &mut Dice, vip: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let kind = match vip {
        IpAddr::V4(_) => dice.pick(&[3, 3, 3, 11, 12, 4, 5, 0]),
        IpAddr::V6(_) => dice.pick(&[1, 2, 3, 4, 0, 5, 127]),
    };
    let code = dice.pick(&[0, 1, 3, 4, 255]);
    let mut bytes = vec![kind, code];
    bytes.extend(dice.bytes(6));
    bytes.extend(quoted);
    bytes
}

/// What a router quotes: the beginning of a packet that the member has sent to the client.
fn quoted(dice: &mut Dice, flow: Flow) -> Vec<u8> {
    let mut back = flow.back();
    match dice.below(40) {
        // The client's own packet, another VIP's, another protocol's.
        0 => back = flow,
        1 => back.client = flow.client,
        2 => back.protocol = dice.pick(&[ICMP, ICMPV6, 47]),
        3 => back.vip = back.client,
        // The IPv4 VIP in its mapped form.
        4 => {
            if let (IpAddr::V4(vip), IpAddr::V4(client)) = (back.client, back.vip) {
                back.client = vip.to_ipv6_mapped().into();
                back.vip = client.to_ipv6_mapped().into();
            }
        }
        _ => (),
    }
    let fragment = dice.percent(10).then(|| {
        let offset = dice.pick(&[0, 0, 1, 0x1fff]);
        (offset, dice.percent(70))
    });
    let header = Header {
        fragment,
        identification: dice.word() as u32,
        hop_limit: None,
    };
    let transport = if dice.percent(4) {
        // An error about an error.
        let inner = flow.back().payload(dice);
        let inner = packet(dice, flow.vip, flow.client, flow.protocol, header, &inner);
        back.protocol = protocol(dice, flow.vip);
        message(dice, flow.vip, &inner.bytes)
    } else {
        back.payload(dice)
    };
    let mut whole = packet(dice, back.client, back.vip, back.protocol, header, &transport).bytes;
    if dice.percent(70) {
        let least = match flow.vip {
            IpAddr::V4(_) => 28,
            IpAddr::V6(_) => 48,
        };
        let length = match dice.below(3) {
            0 => least,
            1 => dice.below(whole.len() + 1),
            _ => least - dice.below(12),
        };
        whole.truncate(length);
    }
    whole
}
