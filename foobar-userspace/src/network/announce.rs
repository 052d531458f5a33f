//! Gratuitous ARP and unsolicited neighbour advertisements: they tell the segment that a VIP is now at this
//! interface's MAC. Relies on a packet socket. Knows nothing of who owns what: the daemon calls it when it
//! begins to own a VIP.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::advertisement::neighbour_advertisement;
use super::{MacAddress, NetworkError};

/// How often an announcement is sent: the first may meet a full queue or a port that still learns.
pub(super) const REPEATS: usize = 3;

const BROADCAST: MacAddress = [0xff; 6];
const FRAME_LENGTH: usize = 42;

/// The frame that announces `vip` at `mac`: an ARP request whose sender and target are both the VIP (RFC 5227,
/// section 3), broadcast, without the padding that the driver adds.
#[must_use]
pub fn arp_announcement(mac: MacAddress, vip: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    // RFC 826: Ethernet (1), IPv4, address lengths 6 and 4, request (1).
    frame[14..22].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&vip.octets());
    // The target's hardware address is not known in a request, and stays zero.
    frame[38..42].copy_from_slice(&vip.octets());
    frame
}

/// Sends announcements on one interface.
#[derive(Debug)]
pub struct Announcer {
    socket: Socket,
    interface: SockAddr,
    mac: MacAddress,
}

impl Announcer {
    /// An announcer for the interface with this index and hardware address. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// The packet socket cannot be opened.
    pub fn open(ifindex: u32, mac: MacAddress) -> Result<Self, NetworkError> {
        // Protocol 0: the socket sends, and receives nothing that nobody would read.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)
            .map_err(|error| NetworkError::kernel("open a packet socket for announcements", error))?;
        let interface = packet_address(ifindex, 0)
            .map_err(|error| NetworkError::kernel("address a packet socket", error))?;
        Ok(Self {
            socket,
            interface,
            mac,
        })
    }

    /// Announces every one of `vips`, three times, `interval` apart (RFC 5227 waits two seconds, RFC 4861
    /// one; a take-over wants less). Returns after the last.
    ///
    /// # Errors
    /// The interface is gone or down.
    pub async fn announce(&self, vips: &[IpAddr], interval: Duration) -> Result<(), NetworkError> {
        for repeat in 0..REPEATS {
            if repeat > 0 {
                tokio::time::sleep(interval).await;
            }
            self.announce_once(vips)?;
        }
        Ok(())
    }

    /// Announces every one of `vips` now.
    ///
    /// # Errors
    /// The interface is gone or down.
    pub fn announce_once(&self, vips: &[IpAddr]) -> Result<(), NetworkError> {
        for vip in vips {
            let sent = match vip {
                IpAddr::V4(vip) => self
                    .socket
                    .send_to(&arp_announcement(self.mac, *vip), &self.interface),
                IpAddr::V6(vip) => self
                    .socket
                    .send_to(&neighbour_advertisement(self.mac, *vip), &self.interface),
            };
            sent.map_err(|error| NetworkError::kernel(format!("announce {vip}"), error))?;
        }
        Ok(())
    }
}

/// The address of a packet socket on an interface, for the EtherType `protocol` (0: none).
pub(super) fn packet_address(ifindex: u32, protocol: u16) -> io::Result<SockAddr> {
    let ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage is larger than a sockaddr_ll, aligned for every address family and zeroed; the
    // length is that of the structure written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, storage_length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = family;
            (*address).sll_protocol = protocol.to_be();
            (*address).sll_ifindex = ifindex;
            *storage_length = length;
            Ok(())
        })
    }?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_is_an_arp_request_of_the_vip_for_itself() {
        let frame = arp_announcement([2, 0, 0, 0, 0, 7], Ipv4Addr::new(192, 0, 2, 101));
        let expected = [
            255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 7, 0x08, 0x06, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // ARP: Ethernet, IPv4, request
            2, 0, 0, 0, 0, 7, 192, 0, 2, 101, // sender
            0, 0, 0, 0, 0, 0, 192, 0, 2, 101, // target
        ];
        assert_eq!(frame, expected);
    }
}
