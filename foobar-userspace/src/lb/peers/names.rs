//! What is here by the names that balancers have for it between them, and the digests by which they compare.

use sha2::{Digest as _, Sha256};

use crate::cluster::message::{Digest, Observed, Table};
use crate::cluster::name::{MemberName, Service};
use crate::cluster::replica::{self, Roster};
use crate::config::{self, Protocol};
use crate::health::State;
use crate::lb::member::Member;
use crate::lb::steering::Vip;

/// A service's name between balancers.
pub(in crate::lb) fn service_of(config: &config::Vip) -> Service {
    Service {
        address: config.address,
        first_port: config.ports.first(),
        last_port: config.ports.last(),
        protocol: match config.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        },
    }
}

pub(super) const fn observed(state: State) -> Observed {
    match state {
        State::Unknown => Observed::Unknown,
        State::Up => Observed::Up,
        State::SoftDown => Observed::SoftDown,
        State::HardDown => Observed::HardDown,
    }
}

pub(super) const fn state(observed: Observed) -> State {
    match observed {
        Observed::Unknown => State::Unknown,
        Observed::Up => State::Up,
        Observed::SoftDown => State::SoftDown,
        Observed::HardDown => State::HardDown,
    }
}

pub(super) const fn name(member: &Member) -> MemberName {
    MemberName {
        address: member.address,
        incarnation: member.incarnation,
    }
}

/// A VIP's members as peers call them.
pub(super) fn roster<'a>(members: impl IntoIterator<Item = &'a Member>) -> Roster {
    let mut roster = Roster::default();
    for member in members {
        roster.insert(name(member), member.born, member.id);
    }
    roster
}

/// A VIP's slots as peers are told of them.
pub(in crate::lb) fn table_of(vip: &Vip, now_ns: u64) -> Table {
    replica::table(service_of(&vip.config), &vip.table, &roster(&vip.members), now_ns)
}

/// What balancers of a cluster have to have alike for a VIP, but for its members.
fn settings(vip: &config::Vip) -> String {
    format!(
        "{:?} {} {:?} {} {:?} {} {} {}",
        service_of(vip),
        vip.slots,
        vip.table,
        vip.hash,
        vip.tracking,
        vip.idle_timeout.as_millis(),
        vip.forward,
        vip.second_chance
    )
}

impl Vip {
    /// The digest of what is steered by here.
    pub(super) fn digest(&mut self) -> Digest {
        let members = || self.members.iter().filter(|member| !member.removed);
        let mut said = settings(&self.config);
        for member in members() {
            let Member {
                address,
                weight,
                drained,
                incarnation,
                ..
            } = member;
            said += &format!(" {address} {weight} {drained} {incarnation}");
        }
        let revision = self.table.revision();
        if let Some((of_revision, of, digest)) = &self.digest
            && (*of_revision, of) == (revision, &said)
        {
            return *digest;
        }
        let digest = replica::digest(said.as_bytes(), &self.table, &roster(members()));
        self.digest = Some((revision, said, digest));
        digest
    }
}

/// The digest of a configuration's part that all balancers of a cluster share.
pub(in crate::lb) fn configuration_digest(vips: &[config::Vip]) -> Digest {
    let mut said: Vec<String> = vips
        .iter()
        .map(|vip| {
            let backends = vip.backends.iter();
            let mut backends: Vec<String> = backends
                .map(|backend| format!("{} {}", backend.address, backend.weight))
                .collect();
            backends.sort_unstable();
            format!("{} [{}]", settings(vip), backends.join(", "))
        })
        .collect();
    said.sort_unstable();
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(said.join("\n").as_bytes())[..16]);
    Digest::from(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(lines: &str) -> Digest {
        let text = format!("interface = \"eth0\"\n{lines}");
        configuration_digest(&crate::config::parse("lb.toml", &text).expect("valid").vips)
    }

    fn vip(name: &str, port: u16, lines: &str, weights: [u16; 2]) -> String {
        format!(
            "[[vip]]\nname = \"{name}\"\naddress = \"192.0.2.101\"\nport = {port}\n{lines}\n\
             [[vip.backend]]\naddress = \"192.0.2.21\"\nweight = {}\n\
             [[vip.backend]]\naddress = \"192.0.2.22\"\nweight = {}\n",
            weights[0], weights[1]
        )
    }

    #[test]
    fn configurations_are_alike_in_what_steers_and_not_in_names_order_or_ownership() {
        let one = vip("a", 80, "", [100, 50]);
        let other = vip("b", 443, "", [100, 100]);
        let both = digest(&(one.clone() + &other));
        assert_eq!(both, digest(&(other.clone() + &one)));
        assert_eq!(digest(&one), digest(&vip("c", 80, "owned = false", [100, 50])));
        assert_ne!(digest(&one), both);
        for changed in [
            vip("a", 80, "", [50, 100]),
            vip("a", 81, "", [100, 50]),
            vip("a", 80, "slots = 256", [100, 50]),
            vip("a", 80, "table = \"rendezvous\"", [100, 50]),
            vip("a", 80, "hash = \"source\"", [100, 50]),
            vip("a", 80, "idle_timeout = \"1m\"", [100, 50]),
            vip("a", 80, "tracking = \"none\"", [100, 50]),
        ] {
            assert_ne!(digest(&one), digest(&changed), "{changed}");
        }
    }
}
