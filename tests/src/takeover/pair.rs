//! Two balancers of one VIP, told of every change and every move by the same operator.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Case, Chance, DEADLINE, STAY};
use crate::churn::Change;
use crate::lb::{Balancer, Config};
use crate::pins::{Pins, SlotRange};
use crate::steady::PORT;
use crate::streams::client::Held;
use crate::watch::Watch;
use crate::world::{Backend, Lb, World};

/// Where outer headers come from.
const TUNNEL: &str = "[tunnel]\nsource_v4 = \"203.0.113.64/26\"\nsource_v6 = \"2001:db8:0:7f::/64\"";
/// Soon enough for a backend that is added, and patient enough that a busy machine is not taken for a dead one: a
/// backend that only one of the balancers takes for down is not the same change at both.
const CHECKS: [&str; 4] = [
    "interval = \"1s\"",
    "doubt_interval = \"100ms\"",
    "timeout = \"5s\"",
    "fall = 5",
];

/// When the change comes, seen from the move.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    ChangeFirst,
    MoveFirst,
    /// One reload tells the next owner both. The former one hears of the change when the VIP is gone: what it gave
    /// to a backend that the next owner does not have yet would be lost.
    Together,
}

/// The two balancers.
pub(super) struct Pair<'a> {
    world: &'a World,
    balancers: [Balancer<'a>; 2],
    pins: [Pins; 2],
    slots: [SlotRange; 2],
    /// As it is in force at both, but for `owned`.
    pub(super) config: Config,
    /// Which of them has the VIP.
    owner: usize,
}

impl<'a> Pair<'a> {
    pub(super) fn start(world: &'a World, case: Case) -> Result<Self> {
        let mut config = Config {
            family: case.vip,
            backends_by: case.outer,
            vip_lines: vec!["slots = 1024", "table = \"rendezvous\"", "forward = \"gue\""],
            check_lines: CHECKS.to_vec(),
            tables: vec![TUNNEL],
            ..Config::new(PORT, 1..=STAY + 1, case.seed)
        };
        if case.chance == Chance::Second {
            config.vip_lines.push("second_chance = true");
        }
        let passive = Config {
            owned: false,
            ..config.clone()
        };
        let balancers = [
            Balancer::start_on(world, Lb::First, &config)?,
            Balancer::start_on(world, Lb::Second, &passive)?,
        ];
        let pins = [balancers[0].pins()?, balancers[1].pins()?];
        let slots = [
            pins[0].range_of(config.service())?,
            pins[1].range_of(config.service())?,
        ];
        let mut pair = Self {
            world,
            balancers,
            pins,
            slots,
            config,
            owner: 0,
        };
        pair.wait_alike()?;
        Ok(pair)
    }

    /// Makes a change at both balancers and moves the VIP.
    pub(super) fn round(&mut self, change: Change, order: Order) -> Result<()> {
        let (from, to) = (self.owner, 1 - self.owner);
        match order {
            Order::ChangeFirst => {
                change.apply(&mut self.config.backends);
                self.make(from, change)?;
                self.make(to, change)?;
                self.wait_alike()?;
                self.owner = to;
                self.tell(to)?;
                self.wait_moved()?;
                self.tell(from)?;
            }
            Order::MoveFirst => {
                self.owner = to;
                self.tell(to)?;
                self.wait_moved()?;
                self.tell(from)?;
                change.apply(&mut self.config.backends);
                self.make(to, change)?;
                self.make(from, change)?;
                self.wait_alike()?;
            }
            Order::Together => {
                change.apply(&mut self.config.backends);
                self.owner = to;
                self.make(to, change)?;
                self.wait_moved()?;
                self.make(from, change)?;
                self.wait_alike()?;
            }
        }
        Ok(())
    }

    /// How many streams' slots belong to another backend than theirs.
    pub(super) fn elsewhere(&self, held: &[Held]) -> Result<usize> {
        let watch = Watch::new(self.slots[self.owner], PORT);
        Ok(watch.elsewhere(&self.pins[self.owner], held)?.len())
    }

    /// Makes a change that is in the configuration already at one balancer.
    fn make(&self, at: usize, change: Change) -> Result<()> {
        match change {
            Change::Drain(backend) => self.balancers[at].drain(backend)?,
            Change::Undrain(backend) => self.balancers[at].undrain(backend)?,
            Change::Add(_) | Change::Reweight(..) | Change::Remove(_) => (),
        }
        self.tell(at)
    }

    /// Has a balancer read what is in force, and whether it has the VIP.
    fn tell(&self, at: usize) -> Result<()> {
        self.balancers[at].reload(&Config {
            owned: at == self.owner,
            ..self.config.clone()
        })
    }

    /// Waits until both have made the change, and compares every slot.
    fn wait_alike(&mut self) -> Result<()> {
        let serving: Vec<Backend> = self
            .config
            .backends
            .iter()
            .filter(|(_, member)| member.serves())
            .map(|(&backend, _)| backend)
            .collect();
        let start = Instant::now();
        loop {
            let [one, other] = [self.owners(0)?, self.owners(1)?];
            let mut current: Vec<Backend> = one.iter().filter_map(|owners| owners[0]).collect();
            current.sort_unstable();
            current.dedup();
            if current == serving && one == other {
                return Ok(());
            }
            ensure!(
                start.elapsed() < DEADLINE,
                "{serving:?} have to have slots, {current:?} have; {} slots differ between the balancers\n{}\n{}",
                one.iter().zip(&other).filter(|(one, other)| one != other).count(),
                self.balancers[0].status_text(&[])?,
                self.balancers[1].status_text(&[])?
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn owners(&self, at: usize) -> Result<Vec<[Option<Backend>; 3]>> {
        self.slots[at]
            .all()
            .map(|slot| self.pins[at].owners(slot))
            .collect()
    }

    /// Where the client sends packets for the VIP, and where it has to.
    fn ways(&self) -> Result<[String; 2]> {
        let vip = self.config.family.vip().to_string();
        let owner = self.world.balancer(Lb::BOTH[self.owner])?.mac_of("eth0")?;
        let shown = self.world.client().ip(&["neigh", "show", &vip, "dev", "eth0"])?;
        let mut words = shown.split_whitespace().skip_while(|&word| word != "lladdr");
        Ok([words.nth(1).unwrap_or_default().to_owned(), owner])
    }

    fn wait_moved(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let [way, owner] = self.ways()?;
            if way == owner {
                return Ok(());
            }
            ensure!(
                start.elapsed() < DEADLINE,
                "the client's packets go to {way:?}, the VIP is at {owner}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the former owner knows that the VIP is not its own.
    pub(super) fn wait_given_up(&mut self) -> Result<()> {
        self.balancers[1 - self.owner].wait("the VIP is given up", |status| {
            status["vips"][0]["owned"] == false
        })?;
        self.wait_moved()
    }

    /// Waits, and sees that the former owner does not take the VIP back: its announcements end with its ownership.
    pub(super) fn stays_until(&self, end: Instant) -> Result<()> {
        loop {
            let [way, owner] = self.ways()?;
            ensure!(way == owner, "the VIP has gone back to {way:?} from {owner}");
            if Instant::now() >= end {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Packets and waiting slots, as each balancer tells them; neither has refused anything.
    pub(super) fn told(&self) -> Result<[(u64, u64); 2]> {
        let of = |at: usize| -> Result<(u64, u64)> {
            let status = self.balancers[at].status()?;
            ensure!(status["last_reload_error"].is_null(), "{status}");
            let vip = &status["vips"][0];
            ensure!(vip["owned"] == (at == self.owner), "{status}");
            let number = |key: &str| vip[key].as_u64().unwrap_or_default();
            Ok((number("packets"), number("waiting_slots")))
        };
        Ok([of(0)?, of(1)?])
    }

    /// The owner dies with its host, and the other takes the VIP.
    pub(super) fn die(&mut self) -> Result<()> {
        let host = self.world.balancer(Lb::BOTH[self.owner])?;
        self.balancers[self.owner].kill()?;
        host.ip(&["link", "set", "eth0", "down"])?;
        self.owner = 1 - self.owner;
        self.tell(self.owner)?;
        self.wait_moved()
    }
}
