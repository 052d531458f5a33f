//! Which flows each balancer had a note of when one of them died: what the other had not heard of is lost with it,
//! where there are no agents.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use foobar_common::address::Address;
use foobar_common::note::{FlowKey, PendingNote, pending_set};

use super::stage::PORT;
use crate::pins::{Pins, SlotRange};
use crate::site;
use crate::world::Family;

/// A flow by the client's end and the VIP's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client's end.
    pub client: SocketAddr,
    /// The VIP's port; its address is the one of the client's family.
    pub port: u16,
}

/// The notes of both balancers at the death of one.
#[derive(Clone, Debug)]
pub struct Death {
    /// When it died, since the origin.
    pub at: Duration,
    dead: Noted,
    survivor: Noted,
}

impl Death {
    /// Reads the pinned maps of both, when the one is dead and before the other has its VIPs.
    ///
    /// # Errors
    /// Where a map can't be read.
    pub fn of(at: Duration, dead: &Pins, survivor: &Pins) -> Result<Self> {
        // What the dead one has noted stays.
        let survivor = Noted::of(survivor)?;
        let dead = Noted::of(dead)?;
        Ok(Self { at, dead, survivor })
    }

    /// Whether the dead one had noted a flow of which the other one had not heard.
    pub fn was_unheard(&self, flow: Flow) -> bool {
        self.dead.has(flow) && !self.survivor.has(flow)
    }
}

/// The flows that a balancer has notes of.
#[derive(Clone, Debug, Default)]
struct Noted {
    established: HashSet<[u64; 3]>,
    pending: HashSet<(u32, u64)>,
    pending_sets: u32,
    services: Vec<(SocketAddr, SlotRange)>,
}

/// The bits of a pending note's word that tell the flow; the rest is its member and its time.
const IDENTITY: u64 = PendingNote::identity(u32::MAX, u64::MAX);

impl Noted {
    fn of(pins: &Pins) -> Result<Self> {
        let mut services = Vec::new();
        for family in Family::BOTH {
            for port in [PORT, site::PORT] {
                let service = SocketAddr::new(family.vip(), port);
                services.push((service, pins.range_of(service)?));
            }
        }
        let (notes, pending) = (pins.notes()?, pins.pending_notes()?);
        Ok(Self {
            established: notes.into_iter().map(apart_from_vip).collect(),
            pending_sets: pending.len() as u32,
            pending: (0..)
                .zip(&pending)
                .flat_map(|(index, set)| set.words.map(|word| (index, word & IDENTITY)))
                .filter(|&(_, identity)| identity != 0)
                .collect(),
            services,
        })
    }

    fn has(&self, flow: Flow) -> bool {
        let source = Address::from(flow.client.ip());
        let ports = foobar_common::flow::ports_be(flow.client.port().to_be(), flow.port.to_be());
        if self
            .established
            .contains(&apart_from_vip(FlowKey::new(source, ports, 0)))
        {
            return true;
        }
        let family = if flow.client.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let service = SocketAddr::new(family.vip(), flow.port);
        let range = self.services.iter().find(|(of, _)| *of == service);
        range.is_some_and(|(_, range)| {
            let hash = range.hash_of(flow.client, flow.port);
            let identity = PendingNote::identity(range.of_flow(flow.client, flow.port), hash);
            let set = pending_set(hash, self.pending_sets.wrapping_sub(1));
            self.pending.contains(&(set, identity))
        })
    }
}

/// A flow's key without the VIP's id, which is each balancer's own: of each family there is one VIP with a port.
fn apart_from_vip(key: FlowKey) -> [u64; 3] {
    FlowKey { vip: 0, ..key }.words()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow {
            client: SocketAddr::new([192, 0, 2, 10].into(), port),
            port: PORT,
        }
    }

    fn noted(established: &[u16], pending: &[u16]) -> Noted {
        const SETS: u32 = 64;
        let range = SlotRange {
            base: 512,
            mask: 255,
            seed: [3, 5],
            position: 0,
        };
        let key = |&port: &u16| {
            let flow = flow(port);
            let ports = foobar_common::flow::ports_be(port.to_be(), flow.port.to_be());
            apart_from_vip(FlowKey::new(flow.client.ip().into(), ports, 7))
        };
        let place = |&port: &u16| {
            let flow = flow(port);
            let hash = range.hash_of(flow.client, flow.port);
            let note = PendingNote::new(range.of_flow(flow.client, flow.port), hash, 9, 1 << 30);
            (pending_set(hash, SETS - 1), note.0 & IDENTITY)
        };
        Noted {
            established: established.iter().map(key).collect(),
            pending: pending.iter().map(place).collect(),
            pending_sets: SETS,
            services: vec![(SocketAddr::new(Family::V4.vip(), PORT), range)],
        }
    }

    #[test]
    fn a_flow_is_unheard_of_that_only_the_dead_one_had_noted() {
        let death = Death {
            at: Duration::ZERO,
            dead: noted(&[1, 2, 3], &[4, 5]),
            survivor: noted(&[2], &[3, 5]),
        };
        let unheard: Vec<u16> = (1..=6).filter(|&port| death.was_unheard(flow(port))).collect();
        assert_eq!(unheard, [1, 4]);
    }
}
