//! The raw socket of one family: joined to VRRP's group on one interface, sending from the address that it is told.
//! It hands out packets as they came; what they say is `packet`'s.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, sendmsg,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::packet::{self, Envelope, GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL};

/// The largest packet: 255 IPv6 addresses, and IPv4's largest header.
const LARGEST: usize = 8 + 255 * 16 + 60;
/// TC_PRIO_CONTROL: before everything else in the queue.
const PRIORITY: u32 = 7;
/// Internetwork control (RFC 4594 section 3.2, CS6).
const TRAFFIC_CLASS: u32 = 0xc0;

/// A packet that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// With its IP header's fields, and its message.
    Packet(Envelope, Vec<u8>),
    /// One whose header makes no sense.
    Nonsense,
}

/// An open socket.
#[derive(Debug)]
pub(super) struct VrrpSocket {
    fd: AsyncFd<Socket>,
    is_v4: bool,
    ifindex: u32,
}

impl VrrpSocket {
    /// Opens the socket of a family on an interface. Needs CAP_NET_RAW, and a runtime.
    ///
    /// # Errors
    /// The kernel refuses a step; which, is said.
    pub(super) fn open(is_v4: bool, interface: &str, ifindex: u32) -> io::Result<Self> {
        let domain = if is_v4 { Domain::IPV4 } else { Domain::IPV6 };
        let protocol = Protocol::from(i32::from(PROTOCOL));
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol)).map_err(step("open it"))?;
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(step("bind it to the interface"))?;
        if is_v4 {
            socket
                .join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(ifindex))
                .map_err(step("join 224.0.0.18"))?;
            socket.set_multicast_ttl_v4(u32::from(HOP_LIMIT))?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
        } else {
            socket
                .join_multicast_v6(&GROUP_V6, ifindex)
                .map_err(step("join ff02::12"))?;
            socket.set_multicast_hops_v6(u32::from(HOP_LIMIT))?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(ifindex)?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
            socket.set_recv_hoplimit_v6(true)?;
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        // Behind the traffic class, which sets it as well.
        socket.set_priority(PRIORITY)?;
        // SAFETY: the socket is open, owns its descriptor, and is never changed or closed before the `AsyncFd` is
        // dropped, which owns it.
        let fd = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { fd, is_v4, ifindex })
    }

    /// Sends a message to the group from one of the interface's addresses, which is of the socket's family.
    ///
    /// # Errors
    /// The interface is down, the address is not there, or there is no room.
    pub(super) fn send(&self, source: IpAddr, message: &[u8]) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        let bytes = [IoSlice::new(message)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = match source {
            IpAddr::V4(source) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: self.ifindex as i32,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(source.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(SocketAddrV4::new(GROUP_V4, 0));
                sendmsg(
                    fd,
                    &bytes,
                    &[ControlMessage::Ipv4PacketInfo(&info)],
                    flags,
                    Some(&to),
                )
            }
            IpAddr::V6(source) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: source.octets(),
                    },
                    ipi6_ifindex: self.ifindex,
                };
                let to = SockaddrIn6::from(SocketAddrV6::new(GROUP_V6, 0, 0, self.ifindex));
                sendmsg(
                    fd,
                    &bytes,
                    &[ControlMessage::Ipv6PacketInfo(&info)],
                    flags,
                    Some(&to),
                )
            }
        }?;
        if sent == message.len() {
            Ok(())
        } else {
            Err(io::Error::other("sent in part"))
        }
    }

    /// Waits until something has come.
    ///
    /// # Errors
    /// The runtime is ending.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.fd.readable().await?.retain_ready();
        Ok(())
    }

    /// Everything that has come and was not taken yet, `most` packets at most.
    pub(super) fn take(&self, most: usize) -> Vec<Received> {
        let mut packets = Vec::new();
        while packets.len() < most {
            let taken = self.fd.try_io(tokio::io::Interest::READABLE, |_| self.receive());
            match taken {
                Ok(packet) => packets.push(packet),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                // What else there is (the interface went down) is told by other ways.
                Err(_) => break,
            }
        }
        packets
    }

    fn receive(&self) -> io::Result<Received> {
        let mut buffer = [0; LARGEST];
        let fd = self.fd.as_raw_fd();
        if self.is_v4 {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let message = recvmsg::<SockaddrIn>(fd, &mut slices, None, MsgFlags::MSG_DONTWAIT)?;
            let length = message.bytes;
            return Ok(match packet::open_ipv4(&buffer[..length]) {
                Some((envelope, message)) => Received::Packet(envelope, message.to_vec()),
                None => Received::Nonsense,
            });
        }
        let mut space = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<SockaddrIn6>(fd, &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
        let length = message.bytes;
        let source = message.address.map(|address| IpAddr::V6(address.ip()));
        let (mut destination, mut hop_limit) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                _ => (),
            }
        }
        Ok(match (source, destination, hop_limit) {
            (Some(source), Some(destination), Some(hop_limit)) => {
                let envelope = Envelope {
                    source,
                    destination,
                    hop_limit,
                };
                Received::Packet(envelope, buffer[..length].to_vec())
            }
            _ => Received::Nonsense,
        })
    }
}

fn step(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The addresses that advertisements come from: IPv4's primary one, IPv6's link-local one (sections 5.1.1.1 and
/// 5.1.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// The interface's primary IPv4 address.
    pub(super) v4: Option<Ipv4Addr>,
    /// The interface's link-local IPv6 address.
    pub(super) v6: Option<Ipv6Addr>,
}

impl Sources {
    /// Chooses from an interface's addresses, in the kernel's order.
    #[must_use]
    pub(super) fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut sources = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(address) => _ = sources.v4.get_or_insert(address),
                IpAddr::V6(address) if address.is_unicast_link_local() => {
                    _ = sources.v6.get_or_insert(address);
                }
                IpAddr::V6(_) => (),
            }
        }
        sources
    }

    /// The one of a family.
    #[must_use]
    pub(super) fn get(self, is_v4: bool) -> Option<IpAddr> {
        if is_v4 {
            self.v4.map(IpAddr::V4)
        } else {
            self.v6.map(IpAddr::V6)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertisements_come_from_the_primary_ipv4_and_the_link_local_ipv6_address() {
        let all = ["192.0.2.11", "192.0.2.13", "2001:db8::11", "fe80::11", "fe80::12"];
        let sources = Sources::of(all.map(|address| address.parse().unwrap()));
        assert_eq!(sources.get(true), Some("192.0.2.11".parse().unwrap()));
        assert_eq!(sources.get(false), Some("fe80::11".parse().unwrap()));
        assert_eq!(Sources::of([]).get(true), None);
    }
}
