//! Fragments: in any order, overlapping, too short, of flows and of ICMP.

use super::Packet;
use super::flows::Flow;
use super::packet::{Header, packet};
use crate::fuzz::dice::Dice;

/// Datagrams under way.
const STOCK: usize = 12;

/// A datagram whose fragments are under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragmented {
    flow: Flow,
    protocol: u8,
    identification: u32,
}

/// A fragment of a datagram of the stock, or of a new one.
pub(super) fn piece(dice: &mut Dice, flow: Flow, stock: &mut Vec<Fragmented>) -> Packet {
    let is_new = stock.is_empty() || dice.percent(25);
    let of = if is_new {
        let new = Fragmented {
            flow,
            protocol: if dice.percent(8) {
                dice.pick(&[1, 58, 47])
            } else {
                flow.protocol
            },
            identification: dice.pick(&[0, 1, 0x4242, 0x4243, 0xffff, 0x1_4242, 0x4242_0000, u32::MAX]),
        };
        if stock.len() < STOCK {
            stock.push(new);
        } else {
            stock[dice.below(STOCK)] = new;
        }
        new
    } else {
        dice.pick(stock)
    };
    let whole = of.flow.payload(dice);
    let (offset, more, payload) = match dice.below(10) {
        0..5 => {
            let length = (16 + dice.below(64)) & !7;
            (0, true, whole[..length.min(whole.len())].to_vec())
        }
        5 => {
            let length = dice.below(28);
            (0, true, whole[..length.min(whole.len())].to_vec())
        }
        6..8 => {
            let length = match of.flow.nearly(dice) {
                Some(length) if dice.percent(20) => length & !7,
                _ => dice.below(6) * 8,
            };
            (1 + dice.below(20) as u16, true, dice.bytes(length))
        }
        8 => {
            let length = dice.below(40);
            let offset = dice.pick(&[1, 2, 3, 0x1000, 0x1fff]);
            (offset, false, dice.bytes(length))
        }
        _ => (0, false, whole),
    };
    packet(
        dice,
        of.flow.client,
        of.flow.vip,
        of.protocol,
        Header {
            fragment: Some((offset, more)),
            identification: of.identification,
            hop_limit: None,
        },
        &payload,
    )
}
