//! Server ids of a world's services, and QUIC packets: with these ids, with nearly these, and spoilt.

use std::collections::HashMap;

use foobar_common::slot::Member;

use super::dice::Dice;
use super::scene;
use crate::model::{ConnectionIds, Service, World};

/// The longest server id.
const LONGEST: usize = 8;
/// Versions 1 and 2, version negotiation's, and others.
const VERSIONS: [u32; 6] = [1, 1, 0x6b33_43cf, 0x6b33_43cf, 0, 0x1a2a_3a4a];

/// How a service's connection ids are made.
pub(super) fn connection_ids(dice: &mut Dice) -> ConnectionIds {
    ConnectionIds {
        length: 1 + dice.below(LONGEST),
        config: dice.below(7) as u8,
    }
}

/// Ids of some members for each service that has them.
pub(super) fn server_ids(dice: &mut Dice, services: &[Service]) -> HashMap<(u32, Vec<u8>), Member> {
    let mut all = HashMap::new();
    for service in services {
        let Some(ids) = service.quic else { continue };
        for _ in 0..6 {
            let id = if dice.percent(80) {
                dice.bytes(ids.length)
            } else {
                vec![0; ids.length]
            };
            all.insert((service.id, id), scene::member(dice, 0));
        }
    }
    all
}

/// What a flow's packets name: how its service's ids are made, and one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    ids: ConnectionIds,
    id: [u8; LONGEST],
}

impl Named {
    /// An id of a service, or one that no member has.
    pub(super) fn of(dice: &mut Dice, world: &World, service: &Service) -> Option<Self> {
        let ids = service.quic?;
        let mut known: Vec<&Vec<u8>> = world
            .server_ids
            .keys()
            .filter(|(owner, _)| *owner == service.id)
            .map(|(_, id)| id)
            .collect();
        known.sort_unstable();
        let mut id = [0; LONGEST];
        if known.is_empty() || dice.percent(10) {
            id.copy_from_slice(&dice.bytes(LONGEST));
        } else {
            let one = known[dice.below(known.len())];
            id[..one.len()].copy_from_slice(one);
        }
        Some(Self { ids, id })
    }

    /// A datagram's payload, of `length` bytes behind its first packet's connection id.
    pub(super) fn datagram(&self, dice: &mut Dice, length: usize) -> Vec<u8> {
        let id = self.connection_id(dice);
        let mut bytes = if dice.percent(50) {
            // A short header's first byte may be any below 0x80 (RFC 8999 section 5.2).
            let first = if dice.percent(80) { 0x40 } else { 0 } | dice.byte() & 0x3f;
            [&[first][..], &id].concat()
        } else {
            self.long(dice, &id)
        };
        bytes.extend(dice.bytes(length));
        if dice.percent(12) {
            let keep = dice.below(bytes.len().min(24) + 1);
            bytes.truncate(keep);
        }
        bytes
    }

    fn connection_id(&self, dice: &mut Dice) -> Vec<u8> {
        let config = match dice.below(20) {
            0 => 7,
            1 => dice.below(8) as u8,
            _ => self.ids.config,
        };
        let mut id = self.id[..self.ids.length].to_vec();
        if dice.percent(6) {
            let at = dice.below(id.len());
            id[at] ^= 1 << dice.below(8);
        }
        let nonce = dice.below(9);
        let mut all = vec![config << 5 | dice.byte() & 0x1f];
        all.extend(id);
        all.extend(dice.bytes(nonce));
        all
    }

    fn long(&self, dice: &mut Dice, id: &[u8]) -> Vec<u8> {
        let version = if dice.percent(92) {
            dice.pick(&VERSIONS)
        } else {
            dice.word() as u32
        };
        let length = match dice.below(12) {
            0 => dice.pick(&[0, 1, 20, 21, 255]),
            1 => (self.ids.length as u8).wrapping_add(dice.pick(&[0, 1, 2])),
            2 => dice.byte(),
            _ => id.len() as u8,
        };
        let mut bytes = vec![0x80 | dice.byte() & 0x7f];
        bytes.extend(version.to_be_bytes());
        bytes.push(length);
        bytes.extend(id);
        bytes
    }
}
