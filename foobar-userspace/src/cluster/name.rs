//! What balancers call a service and its members: by what clients and the network see of them, never by a name or
//! an index of one balancer's own.

use std::fmt;
use std::net::IpAddr;

use minicbor::{CborLen, Decode, Encode};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen)]
pub struct Service {
    /// The VIP's address.
    #[n(0)]
    pub address: IpAddr,
    /// The first port.
    #[n(1)]
    pub first_port: u16,
    /// The last port, itself included.
    #[n(2)]
    pub last_port: u16,
    /// The IP protocol's number.
    #[n(3)]
    pub protocol: u8,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            6 => "tcp",
            17 => "udp",
            _ => "other",
        };
        match (self.address, self.first_port == self.last_port) {
            (IpAddr::V4(address), _) => write!(f, "{address}:{}", self.first_port)?,
            (IpAddr::V6(address), _) => write!(f, "[{address}]:{}", self.first_port)?,
        }
        if self.first_port != self.last_port {
            write!(f, "-{}", self.last_port)?;
        }
        write!(f, "/{protocol}")
    }
}

/// A life of a member: one that was given up (hard down, cut off) comes back as the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, CborLen)]
pub struct MemberName {
    /// The backend's address.
    #[n(0)]
    pub address: IpAddr,
    /// Which of its lives.
    #[n(1)]
    pub incarnation: u64,
}
