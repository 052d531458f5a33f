//! The scenarios by their names, and what each asks for.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::pair::Ownership;
use super::stage::Forward;
use crate::world::Backend;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The active balancer's host dies, and returns with nothing in its kernel
    LbKill,
    /// The same with HAProxy and keepalived
    LbKillClassic,
    /// The same where a router is told by BGP who has the VIPs
    LbKillBgp,
    /// Daemons are killed and started again; no host dies
    DaemonKill,
    /// Balancers are drained, stopped, started as another build, and put back
    LbCycle,
    /// A backend dies and lives once a second, while the VIPs change their balancer; with candidates for agents
    FlapAgents,
    /// The same without agents
    Flap,
    /// A backend comes or goes and the active balancer's host dies at once, and returns with nothing in its kernel; with
    /// candidates for agents
    CompoundAgents,
    /// The same without agents
    Compound,
    /// The balancers hear nothing of each other, both are active, and hear each other again
    Split,
    /// The control: each balancer has a hash seed of its own, and one dies
    ControlSeed,
    /// The control: slots change their owner and no flow is noted
    ControlHistory,
}

impl Scenario {
    /// As one types it.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(|| format!("{self:?}"), |value| value.get_name().to_owned())
    }

    /// How often something goes wrong, unless it is told otherwise.
    pub const fn rounds(self) -> u32 {
        match self {
            Self::LbKill | Self::LbKillBgp | Self::CompoundAgents | Self::Compound => 20,
            Self::LbKillClassic | Self::LbCycle | Self::Split => 10,
            Self::DaemonKill => 100,
            // Swaps every 20 s, ten minutes.
            Self::FlapAgents | Self::Flap => 30,
            Self::ControlSeed | Self::ControlHistory => 1,
        }
    }

    /// Backends that serve at the beginning.
    pub const fn backends(self) -> Backend {
        match self {
            // Of two, half of the flows are at the other one by another seed.
            Self::ControlSeed => 2,
            Self::LbKill
            | Self::LbKillClassic
            | Self::LbKillBgp
            | Self::DaemonKill
            | Self::LbCycle
            | Self::FlapAgents
            | Self::Flap
            | Self::CompoundAgents
            | Self::Compound
            | Self::Split
            | Self::ControlHistory => 4,
        }
    }

    /// Backends of the world.
    pub const fn hosts(self) -> Backend {
        match self {
            Self::CompoundAgents | Self::Compound | Self::ControlHistory => self.backends() + 1,
            _ => self.backends(),
        }
    }

    /// The backends that are killed, and whose streams break for that reason.
    pub const fn killed(self) -> &'static [Backend] {
        match self {
            Self::FlapAgents | Self::Flap => &[4],
            _ => &[],
        }
    }

    /// How packets get to backends.
    pub const fn forward(self) -> Forward {
        match self {
            Self::CompoundAgents | Self::FlapAgents => Forward::Agents,
            _ => Forward::L2,
        }
    }

    /// Who decides which balancer has the VIPs.
    pub const fn ownership(self) -> Ownership {
        match self {
            Self::LbKillBgp => Ownership::Router,
            _ => Ownership::Election,
        }
    }

    /// How long a round may take, by a wide margin.
    pub const fn round_at_most(self) -> Duration {
        Duration::from_secs(60)
    }
}
