//! The network of a run: a namespace of the segment, one of the balancer, one of all backends, and veth pairs
//! between them. Nobody has an IP address: programs take all frames, and nothing else is on the way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use foobar_common::bench::{LIVE_INTERFACES, MAX_LIVE_BACKENDS};
use nix::net::if_::if_nametoindex;

use crate::netns::{self, Namespace};
use crate::packets::frame::OWN;

/// The segment's port of the balancer.
pub const UPLINK: &str = "lb";
/// The balancer's interface.
pub const BALANCER: &str = "eth0";

/// Segments of one process take turns: each is run at full speed.
static TURN: Mutex<()> = Mutex::new(());
static RUNS: AtomicU32 = AtomicU32::new(0);

/// The namespaces and their wires. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Segment {
    segment: Namespace,
    balancer: Namespace,
    hosts: Namespace,
    backends: u32,
    _turn: MutexGuard<'static, ()>,
}

/// The name of a backend's interface, and of the segment's port that leads there.
pub fn port(backend: u32) -> String {
    format!("b{backend}")
}

impl Segment {
    /// A segment with backends 1 to `backends`.
    ///
    /// # Errors
    /// Where there are too many of them, or the kernel refuses something.
    pub fn new(backends: u32) -> Result<Self> {
        ensure!(
            (1..=MAX_LIVE_BACKENDS).contains(&backends),
            "there can be 1 to {MAX_LIVE_BACKENDS} backends, not {backends}"
        );
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        netns::sweep();
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let segment = Self {
            segment: Namespace::create(run, "segment")?,
            balancer: Namespace::create(run, "balancer")?,
            hosts: Namespace::create(run, "backends")?,
            backends,
            _turn: turn,
        };
        segment.wire().context("wire the segment")?;
        Ok(segment)
    }

    fn wire(&self) -> Result<()> {
        let mac = OWN.map(|byte| format!("{byte:02x}")).join(":");
        let other = ["peer", "name", UPLINK, "netns", self.segment.name()];
        let add = ["link", "add", BALANCER, "address", &mac, "type", "veth"];
        self.balancer.ip(&[&add[..], &other].concat())?;
        self.balancer.ip(&["link", "set", BALANCER, "up"])?;
        self.segment.ip(&["link", "set", UPLINK, "up"])?;
        for backend in self.backends() {
            let (port, index) = (port(backend), (LIVE_INTERFACES + backend).to_string());
            let other = ["peer", "name", &port, "netns", self.segment.name()];
            let add = ["link", "add", &port, "index", &index, "type", "veth"];
            self.hosts.ip(&[&add[..], &other].concat())?;
            self.hosts.ip(&["link", "set", &port, "up"])?;
            self.segment.ip(&["link", "set", &port, "up"])?;
        }
        Ok(())
    }

    /// The namespace of the segment's ports, where the generator runs as well.
    pub const fn segment(&self) -> &Namespace {
        &self.segment
    }

    /// The balancer's namespace.
    pub const fn balancer(&self) -> &Namespace {
        &self.balancer
    }

    /// The namespace of the backends' interfaces.
    pub const fn hosts(&self) -> &Namespace {
        &self.hosts
    }

    /// The backends' numbers.
    pub const fn backends(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.backends
    }

    /// The index of one of the segment's ports.
    ///
    /// # Errors
    /// Where there is no such port.
    pub fn index_of(&self, port: &str) -> Result<u32> {
        self.segment
            .run(|| if_nametoindex(port).with_context(|| format!("the index of {port}")))
    }
}
