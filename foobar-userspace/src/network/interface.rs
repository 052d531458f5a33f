//! Network interfaces: what the daemon must know of the NIC it balances on, and being told when it changes.
//! Relies on netlink; the driver's name also on sysfs. Knows nothing of what is attached to the interface.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, State, XdpAttached,
};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;

use super::{MacAddress, NetworkError, connect};

/// The operational state of an interface (RFC 2863), as far as the daemon tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationalState {
    /// Frames pass. Drivers that do not report a state count as up while the interface is administratively
    /// up and has its carrier.
    Up,
    /// Administratively down.
    Disabled,
    /// Administratively up, but no frame passes: no carrier, a dormant or missing lower layer.
    NoCarrier,
}

/// One interface at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's name for it.
    pub name: String,
    /// Its index, unique within the network namespace.
    pub index: u32,
    /// Its hardware address.
    pub mac: MacAddress,
    /// The largest IP packet it takes, in bytes.
    pub mtu: u32,
    /// Whether frames pass.
    pub state: OperationalState,
    /// Its own addresses with their prefix lengths, in the kernel's order; not those that duplicate address
    /// detection has not passed yet, which nothing can be sent from.
    pub addresses: Vec<IpNet>,
    /// The driver of the hardware, or the kind of a virtual interface, where that is known.
    pub driver: Option<String>,
}

impl Interface {
    /// The first address of the same family as `peer`, preferring one whose network holds it and never a
    /// link-local one: the source of the daemon's own packets to `peer`.
    #[must_use]
    pub fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        let usable = |net: &&IpNet| net.addr().is_ipv4() == peer.is_ipv4() && !is_link_local(net.addr());
        let near = self
            .addresses
            .iter()
            .filter(usable)
            .find(|net| net.contains(&peer));
        near.or_else(|| self.addresses.iter().find(usable))
            .map(IpNet::addr)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// What the NIC itself lost since it came up; XDP's own counters are not part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NicCounters {
    /// Received packets dropped for want of buffers or by the kernel.
    pub rx_dropped: u64,
    /// Packets that the hardware had no descriptor for.
    pub rx_missed: u64,
    /// Broken packets received.
    pub rx_errors: u64,
    /// Packets dropped on their way out.
    pub tx_dropped: u64,
}

/// The interface of this name.
///
/// # Errors
/// There is none, it is not an Ethernet interface, or netlink fails.
pub async fn lookup(name: &str) -> Result<Interface, NetworkError> {
    read(&connect()?, name).await
}

/// The NIC's own loss counters.
///
/// # Errors
/// There is no such interface, or netlink fails.
pub async fn nic_counters(name: &str) -> Result<NicCounters, NetworkError> {
    let link = link_named(&connect()?, name).await?;
    Ok(link.attributes.iter().find_map(counters_of).unwrap_or_default())
}

/// How an XDP program is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// There is none.
    None,
    /// In the driver, or in the hardware.
    Native,
    /// Behind the driver, on socket buffers.
    Generic,
    /// Several at once.
    Multiple,
}

/// How an XDP program is attached to the interface of this name, if one is.
///
/// # Errors
/// There is no such interface, or netlink fails.
pub async fn xdp_mode(name: &str) -> Result<XdpMode, NetworkError> {
    let link = link_named(&connect()?, name).await?;
    Ok(link.attributes.iter().find_map(xdp_of).unwrap_or(XdpMode::None))
}

fn xdp_of(attribute: &LinkAttribute) -> Option<XdpMode> {
    let LinkAttribute::Xdp(xdp) = attribute else {
        return None;
    };
    xdp.iter().find_map(|entry| match entry {
        LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(XdpAttached::Multiple) => Some(XdpMode::Multiple),
        _ => None,
    })
}

/// Every hardware address of this machine, to refuse a backend that turns out to be the balancer itself.
///
/// # Errors
/// Netlink fails.
pub async fn local_macs() -> Result<BTreeSet<MacAddress>, NetworkError> {
    let links = links(&connect()?).await?;
    Ok(links.iter().filter_map(mac_of).collect())
}

/// Follows the interface: a new value for every change of it or of its addresses, `None` while it is gone.
/// Ends when the receiver is dropped.
///
/// # Errors
/// There is no such interface to begin with, or netlink fails.
pub async fn watch(name: &str) -> Result<watch::Receiver<Option<Interface>>, NetworkError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ];
    let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&groups)
        .map_err(|error| NetworkError::kernel("follow the interfaces", error))?;
    tokio::spawn(connection);
    let (sender, receiver) = watch::channel(Some(read(&handle, name).await?));
    let name = name.to_owned();
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                () = sender.closed() => return,
                message = messages.next() => message,
            };
            let Some((message, _)) = message else {
                tracing::error!(
                    interface = name,
                    "lost the netlink socket that follows the interface"
                );
                return;
            };
            // Whatever happened, the interface is read anew: an overrun then needs no case of its own.
            if !concerns_interfaces(&message.payload) {
                continue;
            }
            let now = match read(&handle, &name).await {
                Ok(interface) => Some(interface),
                Err(NetworkError::NoInterface(_)) => None,
                Err(error) => {
                    tracing::warn!(interface = name, %error, "cannot read the interface");
                    continue;
                }
            };
            sender.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
        }
    });
    Ok(receiver)
}

fn concerns_interfaces(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, NewAddress, NewLink};
    match payload {
        NetlinkPayload::Overrun(_) => true,
        NetlinkPayload::InnerMessage(message) => {
            matches!(message, NewLink(_) | DelLink(_) | NewAddress(_) | DelAddress(_))
        }
        _ => false,
    }
}

async fn read(handle: &Handle, name: &str) -> Result<Interface, NetworkError> {
    let link = link_named(handle, name).await?;
    let index = link.header.index;
    let mac = mac_of(&link).ok_or_else(|| NetworkError::NotEthernet(name.to_owned()))?;
    let messages = handle.address().get().set_link_index_filter(index).execute();
    let addresses = messages
        .try_filter_map(async |message| Ok(usable_address(&message)))
        .try_collect()
        .await
        .map_err(|error| NetworkError::netlink(format!("read the addresses of {name}"), error))?;
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    Ok(Interface {
        name: name.to_owned(),
        index,
        mac,
        mtu: mtu.unwrap_or_default(),
        state: state_of(&link),
        addresses,
        driver: driver_of(&link, name),
    })
}

pub(super) async fn link_named(handle: &Handle, name: &str) -> Result<LinkMessage, NetworkError> {
    match handle.link().get().match_name(name).execute().try_next().await {
        Ok(Some(link)) => Ok(link),
        Ok(None) => Err(NetworkError::NoInterface(name.to_owned())),
        Err(error) => match super::into_io(error) {
            error if error.raw_os_error() == Some(libc::ENODEV) => {
                Err(NetworkError::NoInterface(name.to_owned()))
            }
            error => Err(NetworkError::kernel(format!("read the interface {name}"), error)),
        },
    }
}

/// All interfaces of the network namespace.
pub(super) async fn links(handle: &Handle) -> Result<Vec<LinkMessage>, NetworkError> {
    let links = handle.link().get().execute().try_collect().await;
    links.map_err(|error| NetworkError::netlink("list the interfaces", error))
}

/// The hardware address, of an Ethernet interface.
pub(super) fn mac_of(link: &LinkMessage) -> Option<MacAddress> {
    if link.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

/// Whether frames pass.
pub(super) fn state_of(link: &LinkMessage) -> OperationalState {
    let flags = link.header.flags;
    let reported = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::OperState(state) => Some(*state),
        _ => None,
    });
    match reported {
        _ if !flags.contains(LinkFlags::Up) => OperationalState::Disabled,
        Some(State::Up) => OperationalState::Up,
        Some(State::Unknown) | None if flags.contains(LinkFlags::LowerUp) => OperationalState::Up,
        _ => OperationalState::NoCarrier,
    }
}

fn usable_address(message: &AddressMessage) -> Option<IpNet> {
    // One that was found to be a duplicate stays tentative.
    if message.header.flags.contains(AddressHeaderFlags::Tentative) {
        return None;
    }
    address_of(&message.attributes, message.header.prefix_len)
}

fn address_of(attributes: &[AddressAttribute], prefix: u8) -> Option<IpNet> {
    // IFA_LOCAL is the interface's own address where IFA_ADDRESS is the peer's of a point-to-point link.
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(address)?, prefix).ok()
}

fn counters_of(attribute: &LinkAttribute) -> Option<NicCounters> {
    match attribute {
        LinkAttribute::Stats64(stats) => Some(NicCounters {
            rx_dropped: stats.rx_dropped,
            rx_missed: stats.rx_missed_errors,
            rx_errors: stats.rx_errors,
            tx_dropped: stats.tx_dropped,
        }),
        _ => None,
    }
}

fn driver_of(link: &LinkMessage, name: &str) -> Option<String> {
    let driver = std::fs::read_link(format!("/sys/class/net/{name}/device/driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    driver.or_else(|| {
        let infos = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })?;
        infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        })
    })
}
