//! What the segment is told of the VIPs, and from which addresses they are checked: announcements of those that
//! are always owned, membership in the groups of the IPv6 ones, a source for the checks of each family. It knows no
//! slots and no members.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::{Config, Ownership};
use crate::network::{Announcer, Interface, SolicitedNodes};

const ANNOUNCE_EVERY: Duration = Duration::from_millis(200);

/// The daemon's presence on the segment; the groups are left when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Presence {
    groups: SolicitedNodes,
    announcing: JoinSet<()>,
}

impl Presence {
    /// Brings the groups to the configuration's VIPs, then tells the segment which of them are here.
    ///
    /// The groups are those of all IPv6 VIPs, not only of the owned ones: whoever takes one over is asked for
    /// it from the first moment, and switches need not learn a new port then.
    pub(super) fn tell(&mut self, config: &Config, interface: &Interface) {
        let all = addresses(config, |_| true);
        if let Err(error) = self.groups.set(interface.index, &all) {
            tracing::warn!(
                %error,
                "switches that snoop MLD may keep neighbour solicitations for IPv6 VIPs from this host; is IPv6 \
                 switched off on the interface?"
            );
        }
        // What is still being repeated may name a VIP that is another balancer's from now on.
        self.announcing.abort_all();
        while self.announcing.try_join_next().is_some() {}
        // Those of a group are announced by who elects their owner.
        let always = |vip: &crate::config::Vip| vip.ownership == Ownership::Always;
        let owned: Vec<IpAddr> = addresses(config, always).into_iter().collect();
        match Announcer::open(interface.index, interface.mac) {
            Ok(announcer) => {
                self.announcing.spawn(async move {
                    if let Err(error) = announcer.announce(&owned, ANNOUNCE_EVERY).await {
                        tracing::warn!(%error, "VIPs could not be announced");
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "VIPs could not be announced"),
        }
    }
}

fn addresses(config: &Config, wanted: impl Fn(&crate::config::Vip) -> bool) -> BTreeSet<IpAddr> {
    let vips = config.vips.iter().filter(|vip| wanted(vip));
    vips.map(|vip| vip.address).collect()
}

/// The sources of health checks, one for each family that VIPs use, and the families that the interface has no
/// address of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) found: Vec<IpAddr>,
    pub(super) missing: Vec<&'static str>,
}

/// Where the checks of a configuration's VIPs come from. The first VIP of a family decides for all of them.
pub(super) fn sources(config: &Config, interface: &Interface) -> Sources {
    let mut sources = Sources::default();
    for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
        let first = config.vips.iter().find(|vip| vip.address.is_ipv4() == is_v4);
        if let Some(vip) = first {
            match interface.source_for(vip.address) {
                Some(source) => sources.found.push(source),
                None => sources.missing.push(family),
            }
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::OperationalState;

    fn config(vips: &[&str]) -> Config {
        let mut text = "interface = \"eth0\"\n".to_owned();
        for (number, address) in vips.iter().enumerate() {
            text += &format!("[[vip]]\nname = \"v{number}\"\naddress = \"{address}\"\nport = 80\n");
        }
        crate::config::parse("lb.toml", &text).expect("the test's own file is valid")
    }

    fn interface(addresses: &[&str]) -> Interface {
        Interface {
            name: "eth0".to_owned(),
            index: 2,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            state: OperationalState::Up,
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            driver: None,
        }
    }

    #[test]
    fn each_family_in_use_has_one_source() {
        let both = interface(&["192.0.2.11/24", "fe80::1/64", "2001:db8:0:1::11/64"]);
        let found = |vips: &[&str]| sources(&config(vips), &both).found;
        let of = |address: &str| address.parse::<IpAddr>().unwrap();
        assert_eq!(found(&["192.0.2.101", "192.0.2.102"]), [of("192.0.2.11")]);
        assert_eq!(found(&["2001:db8:0:1::101"]), [of("2001:db8:0:1::11")]);
        assert_eq!(
            found(&["2001:db8:0:1::101", "192.0.2.101"]),
            [of("192.0.2.11"), of("2001:db8:0:1::11")]
        );
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn a_family_without_an_address_of_its_own_is_missing() {
        let link_local_only = interface(&["192.0.2.11/24", "fe80::1/64"]);
        let sources = |vips: &[&str]| super::sources(&config(vips), &link_local_only);
        assert_eq!(sources(&["192.0.2.101", "2001:db8::101"]).missing, ["IPv6"]);
        assert_eq!(sources(&["192.0.2.101"]).missing, [""; 0]);
    }
}
