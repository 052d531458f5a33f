//! `[tunnel]`: what outer headers are made with. Which VIPs are forwarded through tunnels is theirs to say.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml::Spanned;

use super::report::Problems;
use super::service::Draft;
use super::walk::Section;
use super::{Forward, Source, Tunnel};

pub(super) const TUNNEL_KEYS: [&str; 4] = ["source_v4", "source_v6", "gue_port", "mtu"];

/// IPv6's least MTU (RFC 8200 section 5), and room for the outer headers of both families.
const MTU_MIN: u16 = 1_280;
/// A jumbo frame's packet.
const MTU_MAX: u16 = 9_216;
const MTU_DEFAULT: u16 = 1_500;

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            source_v4: None,
            source_v6: None,
            gue_port: foobar_common::gue::PORT,
            mtu: MTU_DEFAULT,
        }
    }
}

impl<A: fmt::Display> fmt::Display for Source<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

/// Reads the section; what it leaves out has its default.
pub(super) fn read(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Tunnel {
    let default = Tunnel::default();
    let Some(section) = root.table("tunnel", &TUNNEL_KEYS, problems) else {
        return default;
    };
    let port = section.integer::<u16>("gue_port", 1..=u16::MAX, problems);
    let mtu = section.integer::<u16>("mtu", MTU_MIN..=MTU_MAX, problems);
    Tunnel {
        source_v4: source::<Ipv4Addr>(&section, "source_v4", "192.0.2.11", 32, problems),
        source_v6: source::<Ipv6Addr>(&section, "source_v6", "2001:db8::11", 128, problems),
        gue_port: port.map_or(default.gue_port, Spanned::into_inner),
        mtu: mtu.map_or(default.mtu, Spanned::into_inner),
    }
}

/// An address, or a prefix in which the source varies by flow.
fn source<A>(
    section: &Section<'_, '_>,
    name: &str,
    example: &str,
    bits: u8,
    problems: &mut Problems<'_>,
) -> Option<Source<A>>
where
    A: std::str::FromStr + Copy + Into<IpAddr>,
{
    let text = section.string(name, problems)?;
    let (address, length) = match text.get_ref().split_once('/') {
        Some((address, length)) => (address, length.parse().ok()),
        None => (*text.get_ref(), Some(bits)),
    };
    let source = address.parse::<A>().ok().zip(length).filter(|(address, length)| {
        let address: IpAddr = (*address).into();
        *length <= bits && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
    });
    if source.is_none() {
        problems.add(
            text.span(),
            format!("{:?} cannot be {name}", text.get_ref()),
            format!("an address as {example:?}, or with a prefix length a range that flows are spread over"),
        );
    }
    source.map(|(address, prefix_length)| Source {
        address,
        prefix_length,
    })
}

/// Notes where a VIP's tunnels lack what they need.
pub(super) fn sources(drafts: &[Draft<'_>], tunnel: &Tunnel, problems: &mut Problems<'_>) {
    for draft in drafts {
        let forward = draft.forward.get_ref();
        if *forward == Forward::L2 {
            continue;
        }
        for (is_v4, family, is_set) in [
            (true, "v4", tunnel.source_v4.is_some()),
            (false, "v6", tunnel.source_v6.is_some()),
        ] {
            let mut backends = draft.backends.iter().map(Spanned::get_ref);
            if !is_set && backends.any(|backend| backend.address.is_ipv4() == is_v4) {
                problems.add(
                    draft.forward.span(),
                    format!("forward = \"{forward}\" to IP{family} backends needs tunnel.source_{family}"),
                    "the address of this balancer that outer headers come from, in [tunnel]",
                );
            }
        }
    }
}
