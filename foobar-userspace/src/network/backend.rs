//! What a backend's kernel has to be told: addresses on the loopback interface, and the MSS that it announces to
//! clients (`advmss` of its routes). Relies on netlink.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{NetworkError, connect};

/// The loopback interface's index: 1 in every network namespace.
const LOOPBACK: u32 = 1;

/// The addresses of the loopback interface.
///
/// # Errors
/// Netlink fails.
pub async fn loopback_addresses() -> Result<BTreeSet<IpAddr>, NetworkError> {
    let messages = on_loopback(&connect()?).await?;
    Ok(messages.iter().filter_map(address_of).collect())
}

async fn on_loopback(handle: &Handle) -> Result<Vec<AddressMessage>, NetworkError> {
    handle
        .address()
        .get()
        .set_link_index_filter(LOOPBACK)
        .execute()
        .try_collect()
        .await
        .map_err(|error| NetworkError::netlink("read the addresses of lo", error))
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

/// Adds an address to the loopback interface, with a prefix of its whole length. The kernel asks nobody for
/// duplicates there.
///
/// # Errors
/// It is there already, or netlink fails.
pub async fn add_loopback_address(address: IpAddr) -> Result<(), NetworkError> {
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let request = connect()?.address().add(LOOPBACK, address, whole);
    request
        .execute()
        .await
        .map_err(|error| NetworkError::netlink(format!("add {address} to lo"), error))
}

/// Removes an address from the loopback interface; one that is not there is none the worse.
///
/// # Errors
/// Netlink fails.
pub async fn remove_loopback_address(address: IpAddr) -> Result<(), NetworkError> {
    let handle = connect()?;
    let there = on_loopback(&handle).await?;
    for message in there
        .into_iter()
        .filter(|message| address_of(message) == Some(address))
    {
        handle
            .address()
            .del(message)
            .execute()
            .await
            .map_err(|error| NetworkError::netlink(format!("remove {address} from lo"), error))?;
    }
    Ok(())
}

/// A route by which packets leave the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteOut {
    /// What it leads to.
    pub destination: IpNet,
    /// Its metric, where it has one.
    pub metric: Option<u32>,
    /// The MSS that the host announces on it, where that is set.
    pub advmss: Option<u32>,
    message: RouteMessage,
}

/// The unicast routes of the main table that lead out of the host, link-local ones apart.
///
/// # Errors
/// Netlink fails.
pub async fn routes_out() -> Result<Vec<RouteOut>, NetworkError> {
    let handle = connect()?;
    let mut routes = Vec::new();
    for request in [
        RouteMessageBuilder::<Ipv4Addr>::new().build(),
        RouteMessageBuilder::<Ipv6Addr>::new().build(),
    ] {
        let messages: Vec<RouteMessage> = handle
            .route()
            .get(request)
            .execute()
            .try_collect()
            .await
            .map_err(|error| NetworkError::netlink("list the routes", error))?;
        routes.extend(messages.into_iter().filter_map(RouteOut::of));
    }
    Ok(routes)
}

impl RouteOut {
    fn of(message: RouteMessage) -> Option<Self> {
        let mut destination = None;
        let mut metric = None;
        let mut advmss = None;
        let mut table = u32::from(message.header.table);
        let mut loopback = false;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    destination = Some((*address).into())
                }
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                    destination = Some((*address).into())
                }
                RouteAttribute::Priority(priority) => metric = Some(*priority),
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Oif(index) => loopback = *index == LOOPBACK,
                RouteAttribute::Metrics(metrics) => {
                    advmss = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Advmss(mss) => Some(*mss),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let every: IpAddr = match message.header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let destination = IpNet::new(
            destination.unwrap_or(every),
            message.header.destination_prefix_length,
        )
        .ok()?;
        let local = match destination.addr() {
            IpAddr::V4(address) => address.is_link_local() || address.is_multicast(),
            IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
        };
        let leads_out = message.header.kind == RouteType::Unicast
            && table == u32::from(RouteHeader::RT_TABLE_MAIN)
            && !loopback
            && !local;
        leads_out.then_some(Self {
            destination,
            metric,
            advmss,
            message,
        })
    }
}

/// Sets the MSS that the host announces on a route, or leaves it to the kernel; all else about the route stays.
///
/// # Errors
/// Netlink fails.
pub async fn set_advmss(route: &RouteOut, advmss: Option<u32>) -> Result<(), NetworkError> {
    let handle = connect()?;
    let request = handle.route().add(with_advmss(&route.message, advmss));
    request
        .replace()
        .execute()
        .await
        .map_err(|error| NetworkError::netlink(format!("change the route to {}", route.destination), error))
}

fn with_advmss(message: &RouteMessage, advmss: Option<u32>) -> RouteMessage {
    let mut message = message.clone();
    // What the kernel reports of a route, and does not take of one.
    message.header.flags &= RouteFlags::Onlink;
    let mut metrics = Vec::new();
    message.attributes.retain_mut(|attribute| match attribute {
        RouteAttribute::Metrics(have) => {
            metrics.append(have);
            false
        }
        RouteAttribute::CacheInfo(_) => false,
        _ => true,
    });
    metrics.retain(|metric| !matches!(metric, RouteMetric::Advmss(_)));
    metrics.extend(advmss.map(RouteMetric::Advmss));
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::super::testnet::{address, on_a_cable};
    use super::*;

    #[test]
    fn an_address_comes_to_the_loopback_interface_and_goes() {
        on_a_cable(async |_cable| {
            for vip in [address("203.0.113.101"), address("2001:db8:1::101")] {
                add_loopback_address(vip).await.unwrap();
                assert!(loopback_addresses().await.unwrap().contains(&vip));
                add_loopback_address(vip).await.unwrap_err();
                remove_loopback_address(vip).await.unwrap();
                remove_loopback_address(vip).await.unwrap();
                assert!(!loopback_addresses().await.unwrap().contains(&vip));
            }
        });
    }

    #[test]
    fn every_way_out_can_be_given_an_mss_and_relieved_of_it() {
        on_a_cable(async |cable| {
            let gateway = "192.0.2.21".parse().unwrap();
            let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
            cable.lb.route().add(default).execute().await.unwrap();
            let before = routes_out().await.unwrap();
            let destinations: Vec<String> =
                before.iter().map(|route| route.destination.to_string()).collect();
            for expected in ["0.0.0.0/0", "192.0.2.0/24", "2001:db8::/64"] {
                assert!(
                    destinations.iter().any(|have| have == expected),
                    "{destinations:?}"
                );
            }
            assert_eq!(before.len(), 3, "{destinations:?}");
            for route in &before {
                set_advmss(route, Some(1_400)).await.unwrap();
            }
            let after = routes_out().await.unwrap();
            assert_eq!(after.len(), before.len());
            assert!(after.iter().all(|route| route.advmss == Some(1_400)), "{after:?}");
            for route in &after {
                set_advmss(route, None).await.unwrap();
            }
            let relieved = routes_out().await.unwrap();
            assert!(
                relieved.iter().all(|route| route.advmss.is_none()),
                "{relieved:?}"
            );
            assert_eq!(relieved.len(), before.len());
        });
    }
}
