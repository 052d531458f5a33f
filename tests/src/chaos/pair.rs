//! Two foobar balancers, the first of which has the VIPs while it lives: by VRRP, or because a router prefers it.
//!
//! Each has a configuration of its own: what differs between them (priority, seed, the other's MAC) is made here.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::figures::name_of;
use super::stage::{ECHO_PORT, Forward, PORT, TUNNEL_SOURCE};
use crate::bgp::{self, bird::Bird};
use crate::cluster::{self, wait_agreed};
use crate::lab::SITE;
use crate::lb::{Balancer, Config};
use crate::site;
use crate::vrrp::{ROUTER_ID, until, wait_state};
use crate::world::{Backend, Family, Lb, World};

/// How often the active one advertises.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// The index of a place in an array of two.
pub const fn index(of: Lb) -> usize {
    match of {
        Lb::First => 0,
        Lb::Second => 1,
    }
}

/// The other place.
pub const fn other(than: Lb) -> Lb {
    match than {
        Lb::First => Lb::Second,
        Lb::Second => Lb::First,
    }
}

/// Two routers of one VIP, whoever makes them. The first is active while it lives.
pub trait Pair {
    /// A router's host dies: all its processes, and its port of the switch, in one step. Nobody's carrier changes.
    ///
    /// # Errors
    /// Where it could not be done.
    fn die(&mut self, which: Lb) -> Result<()>;

    /// A host that has died runs again, with nothing in its kernel; returns when it has its place again.
    ///
    /// # Errors
    /// Where it does not get there.
    fn come_back(&mut self, which: Lb) -> Result<()>;
}

/// Who decides which of the two has the VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// They themselves, by VRRP.
    Election,
    /// A router, which both tell of the VIPs by BGP, with a BFD of 50 ms three times, and which prefers the first.
    Router,
}

/// What both are configured to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who serves.
    pub backends: BTreeSet<Backend>,
    /// How packets get there.
    pub forward: Forward,
    /// Who decides where the VIPs are.
    pub ownership: Ownership,
    /// Flow-hash seeds: of a cluster they are equal.
    pub seeds: [u64; 2],
    /// Further lines of each streams' VIP.
    pub vip_lines: Vec<&'static str>,
    /// Lines of the streams' check.
    pub check_lines: Vec<&'static str>,
    /// They are balancers of one cluster: they talk to each other.
    pub clustered: bool,
}

/// A backend that is added is found soon, and a busy machine's is not taken for a dead one, which it might be at one
/// of the balancers only.
const PATIENT_CHECKS: [&str; 4] = [
    "interval = \"1s\"",
    "doubt_interval = \"100ms\"",
    "timeout = \"5s\"",
    "fall = 5",
];

impl Settings {
    /// A pair with a common seed.
    pub fn new(backends: impl IntoIterator<Item = Backend>, forward: Forward, seed: u64) -> Self {
        Self {
            backends: backends.into_iter().collect(),
            forward,
            ownership: Ownership::Election,
            seeds: [seed; 2],
            vip_lines: Vec::new(),
            check_lines: PATIENT_CHECKS.to_vec(),
            clustered: true,
        }
    }

    /// The file of one of them.
    fn config(&self, world: &World, which: Lb) -> Result<Config> {
        let mut config = Config::new(PORT, self.backends.iter().copied(), self.seeds[index(which)]);
        match self.ownership {
            Ownership::Election => config.group = Some("site"),
            Ownership::Router => config.announced = true,
        }
        config.peer_macs = vec![world.balancer(other(which))?.mac_of("eth0")?];
        config.check_lines.clone_from(&self.check_lines);
        config.vip_lines.push("slots = 4096");
        config.vip_lines.extend(&self.vip_lines);
        config.clustered = self.clustered;
        if self.forward == Forward::Agents {
            config.vip_lines.extend([
                "table = \"rendezvous\"",
                "forward = \"gue\"",
                "second_chance = true",
            ]);
            config.further = format!("[tunnel]\nsource_v4 = \"{TUNNEL_SOURCE}\"\n");
        }
        config.further += &self.owner(which);
        config.further += &self.tcp(Family::V6, "streams-six", PORT, &["kind = \"tcp\""], &config);
        let check = [
            "kind = \"https\"",
            &format!("host = \"{SITE}\""),
            &format!("path = \"{}\"", site::HEALTH),
        ];
        for family in Family::BOTH {
            let name = format!("site-{}", name_of(family));
            config.further += &self.tcp(family, &name, site::PORT, &check, &config);
        }
        for family in Family::BOTH {
            config.further += &format!(
                "[[vip]]\nname = \"echo-{}\"\naddress = \"{}\"\nport = {ECHO_PORT}\nprotocol = \"udp\"\n\
                 slots = 256\n{}\n",
                name_of(family),
                family.vip(),
                self.owned_by()
            );
            config.further += &self.backends_by(family);
        }
        Ok(config)
    }

    /// The table that says who owns the VIPs.
    fn owner(&self, which: Lb) -> String {
        match self.ownership {
            Ownership::Election => {
                let priority = [200, 100][index(which)];
                format!(
                    "[[vrrp]]\nname = \"site\"\nrouter_id = {ROUTER_ID}\npriority = {priority}\n\
                     interval = \"{}ms\"\n",
                    INTERVAL.as_millis()
                )
            }
            Ownership::Router => {
                let lines = ["med = 0", "med = 100"][index(which)];
                let place = bgp::Place {
                    lines,
                    ..bgp::Place::default()
                };
                bgp::table(which, place)
            }
        }
    }

    /// How a VIP says that.
    const fn owned_by(&self) -> &'static str {
        match self.ownership {
            Ownership::Election => "vrrp = \"site\"",
            Ownership::Router => "bgp = true",
        }
    }

    /// A TCP service like the IPv4 streams' one, which [`Config`] has.
    fn tcp(&self, family: Family, name: &str, port: u16, check: &[&str], config: &Config) -> String {
        let by = match self.forward {
            Forward::L2 => family,
            Forward::Agents => Family::V4,
        };
        // Each of the site's checks is a handshake.
        let pace: &[&str] = if port == PORT {
            &config.check_lines
        } else {
            &PATIENT_CHECKS
        };
        format!(
            "[[vip]]\nname = \"{name}\"\naddress = \"{}\"\nport = {port}\n{}\n{}\n\
             [vip.check]\n{}\n{}\n{}",
            family.vip(),
            self.owned_by(),
            config.vip_lines.join("\n"),
            check.join("\n"),
            pace.join("\n"),
            self.backends_by(by)
        )
    }

    fn backends_by(&self, family: Family) -> String {
        let backend = |&backend: &Backend| {
            let address = family.backend(backend);
            format!("[[vip.backend]]\naddress = \"{address}\"\n")
        };
        self.backends.iter().map(backend).collect()
    }
}

/// The balancers.
#[derive(Debug)]
pub struct Foobar<'w> {
    world: &'w World,
    settings: Settings,
    balancers: [Balancer<'w>; 2],
    _router: Option<Bird<'w>>,
}

impl<'w> Foobar<'w> {
    /// Starts both and waits until the first is active and the second its backup.
    ///
    /// # Errors
    /// Where they don't get there.
    pub fn start(world: &'w World, settings: Settings) -> Result<Self> {
        if settings.clustered {
            cluster::form(world, settings.seeds[0])?;
        }
        let router = match settings.ownership {
            Ownership::Election => None,
            Ownership::Router => Some(Bird::start(world, "")?),
        };
        let configs = [
            settings.config(world, Lb::First)?,
            settings.config(world, Lb::Second)?,
        ];
        let start = |which: Lb| {
            let mut balancer = Balancer::prepare_on(world, which, &configs[index(which)])?;
            balancer.run()?;
            anyhow::Ok(balancer)
        };
        let mut pair = Self {
            world,
            settings,
            balancers: [start(Lb::First)?, start(Lb::Second)?],
            _router: router,
        };
        for which in Lb::BOTH {
            pair.balancer(which).wait_owners(&configs[index(which)])?;
            pair.wait_place(which)?;
            if pair.settings.clustered {
                wait_agreed(pair.balancer(which))?;
            }
        }
        Ok(pair)
    }

    /// Waits until one of them has its place: the first has the VIPs, the second would take them.
    fn wait_place(&mut self, which: Lb) -> Result<()> {
        let (world, ownership) = (self.world, self.settings.ownership);
        let balancer = self.balancer(which);
        if ownership == Ownership::Election {
            wait_state(balancer, ["active", "backup"][index(which)])?;
            return Ok(());
        }
        bgp::wait_announced(balancer)?;
        // Whichever it is that has its place.
        bgp::wait_routed(world, &[Lb::First])
    }

    /// One of them.
    pub fn balancer(&mut self, which: Lb) -> &mut Balancer<'w> {
        &mut self.balancers[index(which)]
    }

    /// Waits until one of them is active, for both families.
    ///
    /// # Errors
    /// Where it does not get there.
    pub fn wait_active(&mut self, which: Lb) -> Result<Value> {
        wait_state(self.balancer(which), "active")
    }

    /// Has both serve by these backends.
    ///
    /// # Errors
    /// Where a file can't be written.
    pub fn set_backends(&mut self, backends: impl IntoIterator<Item = Backend>) -> Result<()> {
        self.settings.backends = backends.into_iter().collect();
        for which in Lb::BOTH {
            let config = self.settings.config(self.world, which)?;
            self.balancers[index(which)].reload(&config)?;
        }
        Ok(())
    }

    /// Waits until every backend of the configuration, and no other, gets new flows at both.
    ///
    /// # Errors
    /// Where they don't get there.
    pub fn wait_owners(&mut self) -> Result<()> {
        for which in Lb::BOTH {
            let balancer = &self.balancers[index(which)];
            let pins = balancer.pins()?;
            let service = (Family::V4.vip(), PORT);
            let wanted: BTreeSet<Option<Backend>> =
                self.settings.backends.iter().copied().map(Some).collect();
            until("the backends have their slots", || {
                let range = pins.range_of(service)?;
                let owners: BTreeSet<_> = range.all().map(|slot| pins.owner(slot)).collect::<Result<_>>()?;
                Ok(owners == wanted)
            })?;
        }
        Ok(())
    }

    /// Has one of them be another build from its next start on.
    pub fn use_binary(&mut self, which: Lb, binary: PathBuf) {
        self.balancer(which).use_binary(binary);
    }
}

/// Takes a host's port off the bridge: its carrier stays.
///
/// # Errors
/// Where it could not be done.
pub fn cut(world: &World, which: Lb) -> Result<()> {
    world.bridge().ip(&["link", "set", which.name(), "nomaster"])?;
    Ok(())
}

/// Puts it back.
///
/// # Errors
/// Where it could not be done.
pub fn connect(world: &World, which: Lb) -> Result<()> {
    world
        .bridge()
        .ip(&["link", "set", which.name(), "master", "br0"])?;
    Ok(())
}

/// Whether two hosts reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolated {
    /// They do.
    No,
    /// They do not; both reach everybody else.
    Yes,
}

/// Lets the bridge pass nothing between the balancers' ports, or passes it again.
///
/// # Errors
/// Where it could not be done.
pub fn isolate(world: &World, isolated: Isolated) -> Result<()> {
    let word = match isolated {
        Isolated::No => "off",
        Isolated::Yes => "on",
    };
    for which in Lb::BOTH {
        let set = ["link", "set", "dev", which.name(), "isolated", word];
        world.bridge().command("bridge", &set)?;
    }
    Ok(())
}

impl Pair for Foobar<'_> {
    fn die(&mut self, which: Lb) -> Result<()> {
        cut(self.world, which)?;
        self.balancer(which).kill()
    }

    fn come_back(&mut self, which: Lb) -> Result<()> {
        self.balancer(which).detach()?;
        connect(self.world, which)?;
        let config = self.settings.config(self.world, which)?;
        let balancer = self.balancer(which);
        balancer.configure(&config)?;
        balancer.run()?;
        self.wait_place(which)
    }
}
