//! Frames spoilt: bits flipped, lengths that lie, parts cut off, added, exchanged.
//!
//! Checksums are made right again in most cases: what lies behind them would else never be reached.

use super::dice::Dice;
use super::traffic::Frame;
use crate::packets::frame_v6::internet_checksum;

const ICMPV6: u8 = 58;

/// Spoils a frame in one to four ways; `others` are frames to take parts from.
pub(super) fn mutate(dice: &mut Dice, frame: &mut Frame, others: &[Vec<u8>]) {
    for _ in 0..1 + dice.below(4) {
        spoil(dice, frame, others);
    }
    if dice.percent(70) {
        seal(frame);
    }
}

fn spoil(dice: &mut Dice, frame: &mut Frame, others: &[Vec<u8>]) {
    let network = frame.network;
    let bytes = &mut frame.bytes;
    if bytes.is_empty() {
        return bytes.extend(dice.bytes(20));
    }
    let length = bytes.len();
    // Mostly among the headers.
    let from = if dice.percent(85) {
        network.min(length - 1)
    } else {
        0
    };
    let span = if dice.percent(80) { 64 } else { length };
    let at = from + dice.below(span.min(length - from));
    match dice.below(12) {
        0..3 => bytes[at] ^= 1 << dice.below(8),
        3 => bytes[at] = dice.pick(&[0, 1, 4, 5, 6, 17, 44, 58, 60, 0x7f, 0x80, 0xff]),
        4 => {
            let value = dice.half().to_be_bytes();
            put(bytes, at, &value);
        }
        5..8 => lie(dice, bytes, network),
        8 => {
            let keep = if dice.percent(50) {
                at
            } else {
                length - dice.below(length.min(16))
            };
            bytes.truncate(keep);
        }
        9 => {
            let more = dice.below(60);
            bytes.extend(dice.bytes(more));
        }
        10 => {
            let other = at + dice.below(length - at);
            bytes.swap(at, other);
        }
        _ => {
            if !others.is_empty() {
                let other = &others[dice.below(others.len())];
                let begin = dice.below(other.len());
                let end = begin + dice.below(other.len() - begin + 1);
                put(bytes, at, &other[begin..end]);
            }
        }
    }
}

/// A length, an offset or a protocol that is not so.
fn lie(dice: &mut Dice, bytes: &mut [u8], network: usize) {
    let is_v4 = bytes.get(network).is_some_and(|first| first >> 4 == 4);
    let ihl = bytes
        .get(network)
        .map_or(20, |first| usize::from(first & 0xf) * 4);
    let near = |dice: &mut Dice, bytes: &[u8], at: usize| -> [u8; 2] {
        match bytes.get(at..at + 2) {
            Some(&[a, b]) if dice.percent(60) => {
                let by = dice.pick(&[1, u16::MAX, 4, 8, u16::MAX - 7, 20, u16::MAX - 19]);
                u16::from_be_bytes([a, b]).wrapping_add(by).to_be_bytes()
            }
            _ => dice.half().to_be_bytes(),
        }
    };
    if is_v4 {
        let transport = network + ihl;
        match dice.below(6) {
            0 => put(bytes, network, &[0x40 | dice.pick(&[0, 4, 5, 6, 15])]),
            1 => {
                let value = near(dice, bytes, network + 2);
                put(bytes, network + 2, &value);
            }
            2 => {
                let value = dice
                    .pick(&[0u16, 0x2000, 1, 0x2001, 0x1fff, 0x4000, 0xa000])
                    .to_be_bytes();
                put(bytes, network + 6, &value);
            }
            3 => put(bytes, network + 9, &[dice.pick(&[1, 6, 17, 58, 47])]),
            4 => {
                let value = near(dice, bytes, transport + 4);
                put(bytes, transport + 4, &value);
            }
            _ => put(bytes, transport + 12, &[dice.pick(&[0, 0x40, 0x50, 0x60, 0xf0])]),
        }
    } else {
        let transport = network + 40;
        match dice.below(6) {
            0 => put(bytes, network, &[dice.pick(&[0x40, 0x50, 0x60, 0x70, 0x6f])]),
            1 => {
                let value = near(dice, bytes, network + 4);
                put(bytes, network + 4, &value);
            }
            2 => put(
                bytes,
                network + 6,
                &[dice.pick(&[0, 1, 6, 17, 43, 44, 58, 59, 60, 51])],
            ),
            // Of an extension header: what follows, and its length.
            3 => put(bytes, transport, &[dice.pick(&[0, 6, 17, 43, 44, 58, 60])]),
            4 => put(bytes, transport + 1, &[dice.pick(&[0, 1, 2, 5, 255])]),
            _ => {
                let value = near(dice, bytes, transport + 4);
                put(bytes, transport + 4, &value);
            }
        }
    }
}

/// Overwrites what is there; the length stays.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (place, &byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = byte;
    }
}

/// Makes the IPv4 header's checksum right, or ICMPv6's where it comes at once behind the IPv6 header.
fn seal(frame: &mut Frame) {
    let network = frame.network.min(frame.bytes.len());
    let bytes = &mut frame.bytes[network..];
    let Some(&first) = bytes.first() else { return };
    if first >> 4 == 4 {
        let length = usize::from(first & 0xf) * 4;
        if let Some(header) = bytes.get_mut(..length).filter(|header| header.len() >= 20) {
            header[10..12].fill(0);
            let checksum = internet_checksum(header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
    } else if bytes.get(6) == Some(&ICMPV6) && bytes.len() >= 48 {
        let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let addresses = bytes[8..40].to_vec();
        if let Some(message) = bytes
            .get_mut(40..40 + length)
            .filter(|message| message.len() >= 4)
        {
            message[2..4].fill(0);
            let pseudo = [
                &addresses[..],
                &(length as u32).to_be_bytes(),
                &[0, 0, 0, ICMPV6],
                message,
            ]
            .concat();
            message[2..4].copy_from_slice(&internet_checksum(&pseudo).to_be_bytes());
        }
    }
}
