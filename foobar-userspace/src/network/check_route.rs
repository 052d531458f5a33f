//! The way of health checks: packets with the daemon's mark leave by the NIC whatever their destination, so
//! that a check of a VIP reaches the backend that the `check` program (tc egress) writes into the frame. And the way of
//! the canary's packets, which leave by an interface of its own.
//! Relies on netlink. Knows nothing of targets: the low 16 bits of the mark are the caller's.
//!
//! What an operator sees (`ip rule`, `ip route show table 26210`, `ip neighbour`):
//!
//! ```text
//! 26210: from all fwmark 0xf00b0000/0xffff0000 lookup 26210 proto 251
//! default via 169.254.102.98 dev eth0 table 26210 proto 251 src 192.0.2.11 onlink
//! 169.254.102.98 dev eth0 lladdr 02:66:6f:6f:62:61 PERMANENT proto 251
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

use super::{MacAddress, NetworkError, connect, into_io, protocol};

/// The routing table of health checks, the same for both families; and the priority of the rule that leads marked
/// packets to it: after the local table, before main.
pub const CHECK_TABLE: u32 = 26_210;
/// Table and priority for the canary's packets.
pub const CANARY_TABLE: u32 = 26_211;
/// The gateway of the IPv4 default route in the table: a link-local address that no host has.
pub const CHECK_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 102, 98);
/// The gateway of the IPv6 default route in the table.
pub const CHECK_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x666f, 0x6f62, 0x6172);
/// The gateways' MAC, locally administered: a frame that still bears it was not rewritten by `check`.
pub const CHECK_GATEWAY_MAC: MacAddress = [0x02, 0x66, 0x6f, 0x6f, 0x62, 0x61];

/// The upper 16 bits of the mark of a health check's packets; the lower 16 name the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckMark(pub u16);

impl CheckMark {
    /// The bits of the mark that the rule looks at.
    pub const MASK: u32 = 0xffff_0000;

    /// The mark without a target.
    #[must_use]
    pub fn value(self) -> u32 {
        u32::from(self.0) << 16
    }
}

/// Which packets are led, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedWay {
    /// What tells them.
    pub mark: CheckMark,
    /// The routing table, and the rule's priority.
    pub table: u32,
    /// The MAC address that their frames bear.
    pub gateway: MacAddress,
}

impl MarkedWay {
    /// The way of health checks.
    #[must_use]
    pub const fn of_checks(mark: CheckMark) -> Self {
        Self {
            mark,
            table: CHECK_TABLE,
            gateway: CHECK_GATEWAY_MAC,
        }
    }

    /// The way of the canary's packets, in frames to the balancer's own MAC address.
    #[must_use]
    pub const fn of_canary(mark: CheckMark, own_mac: MacAddress) -> Self {
        Self {
            mark,
            table: CANARY_TABLE,
            gateway: own_mac,
        }
    }
}

/// The installed route of one family. Dropping it leaves the route in place, so that a restarted daemon finds
/// its checks working; [`remove`](Self::remove) takes it away.
#[derive(Debug)]
pub struct CheckRoute {
    ifindex: u32,
    source: IpAddr,
    way: MarkedWay,
}

impl CheckRoute {
    /// Installs rule, route and neighbour for the family of `source`, which must be an address of this host; the
    /// interface must be up. What is there already from an earlier daemon is adopted, or
    /// replaced where it differs, so that this may be repeated after a change of interface or address.
    ///
    /// # Errors
    /// Somebody else uses the table or the rule's priority, or the kernel refuses.
    pub async fn install(ifindex: u32, source: IpAddr, way: MarkedWay) -> Result<Self, NetworkError> {
        let handle = connect()?;
        let this = Self { ifindex, source, way };
        let (rules, routes) = this.found(&handle).await?;

        let gateway = this.gateway();
        let mut neighbour = handle
            .neighbours()
            .add(ifindex, gateway)
            .link_layer_address(&this.way.gateway);
        neighbour.message_mut().attributes.push(
            rtnetlink::packet_route::neighbour::NeighbourAttribute::Protocol(protocol()),
        );
        neighbour
            .replace()
            .execute()
            .await
            .map_err(|error| NetworkError::netlink("set the checks' gateway", error))?;

        // The route before the rule: a marked packet never finds the table empty.
        let route = this.route()?;
        for stale in routes.iter().filter(|found| !same_route(found, &route)) {
            delete_route(&handle, stale).await?;
        }
        if !routes.iter().any(|found| same_route(found, &route)) {
            handle
                .route()
                .add(route)
                .execute()
                .await
                .map_err(|error| NetworkError::netlink("set the checks' route", error))?;
        }

        let (right, wrong): (Vec<_>, Vec<_>) = rules.into_iter().partition(|rule| this.leads_checks(rule));
        for stale in wrong.iter().chain(right.iter().skip(1)) {
            delete_rule(&handle, stale).await?;
        }
        if right.is_empty() {
            let mut request = handle.rule().add();
            *request.message_mut() = this.rule();
            request
                .execute()
                .await
                .map_err(|error| NetworkError::netlink("set the checks' rule", error))?;
        }
        Ok(this)
    }

    /// What a daemon may have left on the interface for the family of `any`, to be removed; nothing is read or
    /// changed yet.
    #[must_use]
    pub fn left(ifindex: u32, any: IpAddr, way: MarkedWay) -> Self {
        Self {
            ifindex,
            source: any,
            way,
        }
    }

    /// Removes rule, route and neighbour, in this order. Harmless where they are gone already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove(self) -> Result<(), NetworkError> {
        self.lead_nobody().await?;
        let handle = connect()?;
        let neighbour = handle
            .neighbours()
            .add(self.ifindex, self.gateway())
            .message_mut()
            .clone();
        gone_is_fine(
            "remove the checks' gateway",
            handle.neighbours().del(neighbour).execute().await,
        )
    }

    /// Removes rule and route, in this order; the neighbour goes with the interface. Harmless where they are gone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn lead_nobody(&self) -> Result<(), NetworkError> {
        let handle = connect()?;
        let (rules, routes) = self.found(&handle).await?;
        for rule in &rules {
            delete_rule(&handle, rule).await?;
        }
        for route in &routes {
            delete_route(&handle, route).await?;
        }
        Ok(())
    }

    fn gateway(&self) -> IpAddr {
        match self.source {
            IpAddr::V4(_) => CHECK_GATEWAY_V4.into(),
            IpAddr::V6(_) => CHECK_GATEWAY_V6.into(),
        }
    }

    fn family(&self) -> AddressFamily {
        if self.source.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        }
    }

    fn route(&self) -> Result<RouteMessage, NetworkError> {
        let any: IpAddr = if self.source.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let invalid = |error| NetworkError::kernel("compose the checks' route", std::io::Error::other(error));
        let builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(any, 0)
            .and_then(|builder| builder.gateway(self.gateway()))
            .and_then(|builder| builder.pref_source(self.source))
            .map_err(invalid)?;
        let mut route = builder
            .output_interface(self.ifindex)
            .table_id(self.way.table)
            .protocol(protocol())
            .onlink()
            .build();
        // The kernel reports a default route without a destination.
        route
            .attributes
            .retain(|attribute| !matches!(attribute, RouteAttribute::Destination(_)));
        Ok(route)
    }

    fn rule(&self) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = self.family();
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![
            RuleAttribute::Table(self.way.table),
            RuleAttribute::Priority(self.way.table),
            RuleAttribute::FwMark(self.way.mark.value()),
            RuleAttribute::FwMask(CheckMark::MASK),
            RuleAttribute::Protocol(protocol()),
        ];
        rule
    }

    fn leads_checks(&self, found: &RuleMessage) -> bool {
        let wanted = self.rule();
        found.header.action == wanted.header.action
            && wanted
                .attributes
                .iter()
                .all(|attribute| found.attributes.contains(attribute))
    }

    /// Our rules and routes of this family that are there, refusing what is another's.
    async fn found(&self, handle: &Handle) -> Result<(Vec<RuleMessage>, Vec<RouteMessage>), NetworkError> {
        let version = if self.source.is_ipv4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        };
        let rules: Vec<RuleMessage> = handle
            .rule()
            .get(version)
            .execute()
            .try_filter(|rule| std::future::ready(self.concerns(rule)))
            .try_collect()
            .await
            .map_err(|error| NetworkError::netlink("list the routing rules", error))?;
        let mut any = RouteMessage::default();
        any.header.address_family = self.family();
        let routes: Vec<RouteMessage> = handle
            .route()
            .get(any)
            .execute()
            .try_filter(|route| {
                std::future::ready(route.attributes.contains(&RouteAttribute::Table(self.way.table)))
            })
            .try_collect()
            .await
            .map_err(|error| NetworkError::netlink("list the routes", error))?;
        let ours = RuleAttribute::Protocol(protocol());
        let table = self.way.table;
        if rules.iter().any(|rule| !rule.attributes.contains(&ours)) {
            return Err(NetworkError::InUse(format!(
                "a routing rule that is not foobar's has priority {table} or leads to table {table} (see `ip rule`)"
            )));
        }
        if routes.iter().any(|route| route.header.protocol != protocol()) {
            return Err(NetworkError::InUse(format!(
                "table {table} holds routes that are not foobar's (see `ip route show table {table}`)"
            )));
        }
        Ok((rules, routes))
    }

    fn concerns(&self, rule: &RuleMessage) -> bool {
        let table = self.way.table;
        rule.attributes.contains(&RuleAttribute::Priority(table))
            || rule.attributes.contains(&RuleAttribute::Table(table))
    }
}

/// Whether the kernel would route alike: gateway, interface and source.
fn same_route(found: &RouteMessage, wanted: &RouteMessage) -> bool {
    found.header.destination_prefix_length == 0
        && wanted
            .attributes
            .iter()
            .all(|attribute| found.attributes.contains(attribute))
}

async fn delete_rule(handle: &Handle, rule: &RuleMessage) -> Result<(), NetworkError> {
    gone_is_fine(
        "remove the checks' rule",
        handle.rule().del(rule.clone()).execute().await,
    )
}

async fn delete_route(handle: &Handle, route: &RouteMessage) -> Result<(), NetworkError> {
    gone_is_fine(
        "remove the checks' route",
        handle.route().del(route.clone()).execute().await,
    )
}

fn gone_is_fine(what: &str, result: Result<(), rtnetlink::Error>) -> Result<(), NetworkError> {
    match result.map_err(into_io) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ESRCH | libc::ENODEV)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(NetworkError::kernel(what, error)),
    }
}
