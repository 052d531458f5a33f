//! A VIP as the data plane's table has it, from its configuration, and back.

use std::net::IpAddr;

use foobar_common::address::Address;
use foobar_common::time::note_lifetime;
use foobar_common::vip::{
    VIP_CANDIDATES, VIP_QUIC, VIP_RESET, VIP_SOURCE_HASH, VIP_STRICT, VIP_TRACK_ALL, VIP_TRACK_NONE,
    Vip as Entry, VipKey, VipKind,
};

use super::admission;
use crate::balancer::slots::History;
use crate::config::{FlowHash, Ports, Protocol, Service, Tracking, Unserved, Vip};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The entry of a VIP: all of it but its id and the place of its slots.
#[must_use]
pub fn of(vip: &Vip) -> Entry {
    Entry {
        key: key(&vip.service()),
        flags: flags(vip),
        slot_mask: vip.slots - 1,
        note_lifetime: note_lifetime(vip.idle_timeout.as_nanos() as u64),
        server_id_length: vip.quic.map_or(0, |quic| quic.server_id_length),
        quic_config: vip.quic.map_or(0, |quic| quic.config),
        ..Entry::default()
    }
}

fn key(service: &Service) -> VipKey {
    let protocol = match service.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let (address, ports) = (Address::from(service.address), service.ports);
    match ports.single() {
        Some(port) => VipKey::service(address, port.to_be(), protocol),
        None => VipKey::range(address, ports.first().to_be(), ports.last().to_be(), protocol),
    }
}

/// The service whose key it is; `None` for an address's.
pub(super) fn service(key: &VipKey) -> Option<Service> {
    let first = u16::from_be(key.port_be);
    let ports = if key.kind == VipKind::Service as u8 {
        Ports::one(first)
    } else if key.kind == VipKind::Range as u8 {
        Ports::range(first, u16::from_be(key.last_port_be))?
    } else {
        return None;
    };
    Some(Service {
        address: IpAddr::from(key.address),
        ports,
        protocol: if key.protocol == UDP {
            Protocol::Udp
        } else {
            Protocol::Tcp
        },
    })
}

/// A VIP's `VIP_*` bits.
pub(super) fn flags(vip: &Vip) -> u32 {
    let unserved = match vip.unserved {
        Unserved::Reset => VIP_RESET,
        Unserved::Drop => 0,
    };
    let hash = match vip.hash {
        FlowHash::FiveTuple => 0,
        FlowHash::Source => VIP_SOURCE_HASH,
    };
    let tracking = match vip.tracking {
        _ if vip.second_chance => VIP_CANDIDATES | VIP_TRACK_NONE,
        Tracking::Transitions => 0,
        Tracking::All => VIP_TRACK_ALL,
        Tracking::AllStrict => VIP_TRACK_ALL | VIP_STRICT,
        Tracking::None => VIP_TRACK_NONE,
    };
    let quic = if vip.quic.is_some() { VIP_QUIC } else { 0 };
    unserved | hash | tracking | quic | admission::flags(vip)
}

/// The hash that an entry in force says.
pub(super) const fn hash(flags: u32) -> FlowHash {
    if flags & VIP_SOURCE_HASH == 0 {
        FlowHash::FiveTuple
    } else {
        FlowHash::Source
    }
}

/// What its slots remember.
pub(super) const fn history(flags: u32) -> History {
    if flags & VIP_CANDIDATES != 0 {
        History::Kept
    } else if flags & VIP_TRACK_NONE != 0 {
        History::Forgotten
    } else {
        History::Noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vips(lines: &str) -> Vec<Vip> {
        let text = format!("interface = \"eth0\"\n{lines}");
        crate::config::parse("lb.toml", &text).expect("valid").vips
    }

    #[test]
    fn a_key_leads_back_to_its_service() {
        let vips = vips(
            r#"
            vip = [
                { name = "a", address = "192.0.2.101", port = 443 },
                { name = "b", address = "192.0.2.101", ports = "8000-8999", check.kind = "none" },
                { name = "c", address = "192.0.2.101", ports = "all", protocol = "udp" },
            ]
            "#,
        );
        for vip in &vips {
            assert_eq!(service(&of(vip).key), Some(vip.service()), "{}", vip.name);
        }
        assert_eq!(service(&VipKey::address(Address::from(vips[0].address))), None);
    }

    #[test]
    fn hash_and_tracking_become_bits() {
        let bits = |lines: &str| {
            let file = format!("[[vip]]\nname = \"a\"\naddress = \"192.0.2.101\"\nport = 443\n{lines}\n");
            flags(&vips(&file)[0])
        };
        assert_eq!(bits(""), 0);
        assert_eq!(bits("hash = \"source\""), VIP_SOURCE_HASH);
        assert_eq!(bits("tracking = \"none\""), VIP_TRACK_NONE);
        assert_eq!(bits("tracking = \"all\""), VIP_TRACK_ALL);
        assert_eq!(
            bits("tracking = \"all\"\nmidstream = \"refuse\""),
            VIP_TRACK_ALL | VIP_STRICT
        );
        assert_eq!(
            bits("forward = \"gue\"\nsecond_chance = true"),
            VIP_CANDIDATES | VIP_TRACK_NONE
        );
        assert_eq!(history(bits("")), History::Noted);
        assert_eq!(history(bits("tracking = \"all\"")), History::Noted);
        assert_eq!(history(bits("tracking = \"none\"")), History::Forgotten);
        assert_eq!(
            history(bits("forward = \"gue\"\nsecond_chance = true")),
            History::Kept
        );
        assert_eq!(hash(bits("hash = \"source\"")), FlowHash::Source);
        assert_eq!(hash(bits("unserved = \"reset\"")), FlowHash::FiveTuple);
    }
}
