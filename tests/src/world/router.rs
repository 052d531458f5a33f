//! A router between the client and the segment. It routes what it is told by whatever runs on it; of itself it knows
//! no way to a VIP.

use anyhow::{Context as _, Result};

use super::{CLIENT, FAR_ROUTER, Family, NEAR_ROUTER, ROUTER, World, ipv6_of, join};
use crate::netns::Namespace;

/// The router's interface towards the client; the one on the segment is `eth0`.
const CLIENT_PORT: &str = "client";
/// Behind whatever a routing protocol brings: FRR reads a distance of 255 in its first byte.
const LAST_METRIC: &str = "4278190081";

impl World {
    /// Puts the client behind a router, which all other hosts are told of. Once in a world's life, after
    /// [`add_balancer`](Self::add_balancer) and before [`add_ipv6`](Self::add_ipv6).
    pub fn put_client_behind_router(&mut self) -> Result<()> {
        let router = Namespace::create(self.run, "router")?;
        self.plug(&router, "router", ROUTER)?;
        for (setting, value) in [
            ("ip_forward", "1"),
            // Flows are spread by addresses and ports.
            ("fib_multipath_hash_policy", "1"),
            ("conf/all/send_redirects", "0"),
            ("conf/eth0/send_redirects", "0"),
        ] {
            router.sysctl(&format!("net/ipv4/{setting}"), value)?;
        }
        let (client, via) = (&self.client, ROUTER.to_string());
        let address = format!("{CLIENT}/32");
        client.ip(&["link", "del", "eth0"])?;
        join(client, &router, CLIENT_PORT)?;
        client.ip(&["addr", "add", &address, "dev", "eth0"])?;
        client.ip(&["route", "add", &format!("{ROUTER}/32"), "dev", "eth0"])?;
        client.ip(&["route", "add", "default", "via", &via])?;
        router.ip(&["route", "add", &address, "dev", CLIENT_PORT])?;
        // It would look for the VIP on the segment otherwise.
        let vip = format!("{}/32", Family::V4.vip());
        router.ip(&["route", "add", "unreachable", &vip, "metric", LAST_METRIC])?;
        for other in self.on_segment() {
            other.ip(&["route", "add", &address, "via", &via])?;
        }
        self.router = Some(router);
        Ok(())
    }

    /// Puts another router behind the router, away from the segment; the balancers know the way to it. After
    /// [`put_client_behind_router`](Self::put_client_behind_router).
    pub fn add_far_router(&mut self) -> Result<()> {
        const PORT: &str = "far";
        let far = Namespace::create(self.run, "far")?;
        let router = self.router()?;
        join(&far, router, PORT)?;
        far.ip(&["addr", "add", &format!("{FAR_ROUTER}/24"), "dev", "eth0"])?;
        router.ip(&["addr", "add", &format!("{NEAR_ROUTER}/24"), "dev", PORT])?;
        far.ip(&["route", "add", "default", "via", &NEAR_ROUTER.to_string()])?;
        for balancer in std::iter::once(&self.lb).chain(&self.lb2) {
            balancer.ip(&[
                "route",
                "add",
                &FAR_ROUTER.to_string(),
                "via",
                &ROUTER.to_string(),
            ])?;
        }
        self.far = Some(far);
        Ok(())
    }

    /// The far router's namespace.
    pub fn far_router(&self) -> Result<&Namespace> {
        self.far.as_ref().context("there is no far router")
    }

    /// The router's namespace.
    pub fn router(&self) -> Result<&Namespace> {
        self.router.as_ref().context("there is no router")
    }

    /// The balancers and the backends.
    fn on_segment(&self) -> impl Iterator<Item = &Namespace> {
        let balancers = std::iter::once(&self.lb).chain(&self.lb2);
        balancers.chain(&self.backends)
    }

    pub(super) fn route_ipv6_by_router(&self, router: &Namespace) -> Result<()> {
        let (via, address) = (ipv6_of(ROUTER).to_string(), format!("{}/128", ipv6_of(CLIENT)));
        for (setting, value) in [
            (format!("conf/{CLIENT_PORT}/accept_dad"), "0"),
            (format!("conf/{CLIENT_PORT}/disable_ipv6"), "0"),
            ("conf/all/forwarding".to_owned(), "1"),
            ("fib_multipath_hash_policy".to_owned(), "1"),
        ] {
            router.sysctl(&format!("net/ipv6/{setting}"), value)?;
        }
        // It has to have the address here as well, to answer for it.
        router.ip(&["addr", "add", &format!("{via}/128"), "dev", CLIENT_PORT, "nodad"])?;
        router.ip(&["route", "add", &address, "dev", CLIENT_PORT])?;
        let vip = format!("{}/128", Family::V6.vip());
        router.ip(&["-6", "route", "add", "unreachable", &vip, "metric", LAST_METRIC])?;
        self.client.ip(&["-6", "route", "add", &via, "dev", "eth0"])?;
        self.client.ip(&["-6", "route", "add", "default", "via", &via])?;
        for other in self.on_segment() {
            other.ip(&["route", "add", &address, "via", &via])?;
        }
        Ok(())
    }
}
