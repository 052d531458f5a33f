//! What the daemon tells about itself, from the steering state, the data plane's counters and the checks.

use std::collections::BTreeMap;

use foobar_common::counters::Counter;
use foobar_common::slot::Phase;
use foobar_common::vip::Lanes;

use super::steering::{Steering, Vip};
use crate::admin::{
    BackendStatus, BgpStatus, CanaryStatus, ClusterStatus, DropCounters, EtcdStatus, NotesStatus,
    PhaseCounts, Status, SweepStatus, VipStatus, VrrpStatus,
};
use crate::balancer::plan::Serving;
use crate::cluster::vrrp::{self, Snapshot, Told};
use crate::config::Ownership;
use crate::health::{CheckStatus, State};
use crate::network::NicCounters;

/// What the loop knows besides the steering state.
pub(super) struct Context<'a> {
    pub(super) interface: &'a str,
    pub(super) mode: &'a str,
    pub(super) nic: NicCounters,
    pub(super) checks: &'a BTreeMap<u32, CheckStatus>,
    pub(super) uptime_s: u64,
    pub(super) last_reload_error: Option<String>,
    pub(super) sweeps: SweepStatus,
    pub(super) election: Told,
    pub(super) cluster: Option<ClusterStatus>,
    pub(super) bgp: Option<BgpStatus>,
    pub(super) etcd: Option<EtcdStatus>,
    pub(super) now_ns: u64,
}

impl Steering {
    /// The status as the admin API gives it.
    pub(super) fn status(&self, context: &Context<'_>) -> std::io::Result<Status> {
        let counters = self.plane.counters()?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interface: context.interface.to_owned(),
            mode: context.mode.to_owned(),
            uptime_s: context.uptime_s,
            pins: self
                .plane
                .pins()
                .map(|pins| pins.directory().display().to_string()),
            last_reload_error: context.last_reload_error.clone(),
            nic: DropCounters {
                rx_dropped: context.nic.rx_dropped,
                rx_missed: context.nic.rx_missed,
                rx_errors: context.nic.rx_errors,
                tx_dropped: context.nic.tx_dropped,
            },
            notes: NotesStatus {
                used: self.notes as u64,
                capacity: u64::from(self.plane.note_capacity()),
            },
            sweeps: context.sweeps,
            drained: self.plane.is_drained(),
            vrrp: context.election.routers.iter().map(router_status).collect(),
            vrrp_unclaimed: named(&context.election.unclaimed),
            cluster: context.cluster.clone(),
            bgp: context.bgp.clone(),
            etcd: context.etcd.clone(),
            counters: Counter::ALL
                .iter()
                .map(|&counter| (counter.name().to_owned(), counters.get(counter)))
                .collect(),
            vips: self
                .vips
                .iter()
                .map(|vip| self.vip_status(vip, context))
                .collect(),
        })
    }

    fn vip_status(&self, vip: &Vip, context: &Context<'_>) -> VipStatus {
        let usage = vip.table.usage();
        let mut backends = Vec::new();
        for member in &vip.members {
            let counters = self.plane.target_counters(member.id);
            let named = usage.get(&member.id).copied().unwrap_or_default();
            let check = context.checks.get(&u32::from(member.id));
            backends.push(BackendStatus {
                address: member.address,
                target: member.id,
                weight: member.weight,
                server_id: member.server_id.map(|id| id.to_string()),
                state: state(member.health).to_owned(),
                common: member.common.map(|common| state(common).to_owned()),
                drained: member.drained,
                removed: member.removed,
                trouble: member.trouble.clone(),
                mac: member.next_hop.map(|hop| mac(hop.destination_mac)),
                slots: named.current,
                earlier_slots: named.previous + named.older,
                packets: counters.packets,
                bytes: counters.bytes,
                connections: counters.connections,
                last_check: check.map(|check| check.last.clone()),
                check_latency_us: check
                    .and_then(|check| check.latency)
                    .map(|latency| latency.as_micros() as u64),
            });
        }
        VipStatus {
            name: vip.config.name.clone(),
            service: vip.config.service().to_string(),
            owned: self.owns(vip.config.address, context.now_ns),
            group: match &vip.config.ownership {
                Ownership::Vrrp(group) => Some(group.clone()),
                Ownership::Always | Ownership::Never | Ownership::Bgp(_) => None,
            },
            by_bgp: matches!(vip.config.ownership, Ownership::Bgp(_)),
            serving: match vip.serving {
                Serving::Healthy => "healthy",
                Serving::NoneUp => "none_up",
                Serving::Nobody => "nobody",
            }
            .to_owned(),
            canary: self
                .canaries
                .get(&vip.config.service())
                .map(|canary| CanaryStatus {
                    state: match canary.state {
                        State::Unknown => "unknown",
                        State::Up => "up",
                        State::SoftDown | State::HardDown => "down",
                    }
                    .to_owned(),
                    last: canary.last.clone(),
                    latency_us: canary.latency_us,
                }),
            waiting: vip.waiting,
            waiting_slots: vip.table.waiting(),
            slots: vip.config.slots,
            shares_slots: vip.lanes != Lanes::OWN,
            phases: PhaseCounts {
                settled: vip.table.count(Phase::Settled),
                open: vip.table.count(Phase::Open),
                moving: vip.table.count(Phase::Moving),
                moved: vip.table.count(Phase::Fresh) + vip.table.count(Phase::Moved),
                kept: vip.table.count(Phase::Kept),
            },
            packets: backends.iter().map(|backend| backend.packets).sum(),
            bytes: backends.iter().map(|backend| backend.bytes).sum(),
            connections: backends.iter().map(|backend| backend.connections).sum(),
            backends,
        }
    }
}

/// A virtual router as the admin API tells of it.
fn router_status(router: &Snapshot) -> VrrpStatus {
    VrrpStatus {
        name: router.group.clone(),
        router_id: router.router_id,
        family: if router.is_v4 { "ipv4" } else { "ipv6" }.to_owned(),
        state: match router.state {
            vrrp::State::Initialize => "initialize",
            vrrp::State::Backup => "backup",
            vrrp::State::Active => "active",
        }
        .to_owned(),
        priority: router.priority,
        configured_priority: router.configured_priority,
        reasons: router
            .reasons
            .iter()
            .map(|reason| reason.name().to_owned())
            .collect(),
        active: router.active,
        since_ms: router.since.as_millis() as u64,
        transitions: router.transitions,
        sent: router.sent,
        not_sent: router.not_sent,
        received: router.received,
        invalid: named(&router.invalid),
        mismatched: named(&router.mismatched),
        addresses: router.addresses.clone(),
        trouble: router.trouble.clone(),
    }
}

fn named(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

const fn state(state: State) -> &'static str {
    match state {
        State::Unknown => "unknown",
        State::Up => "up",
        State::SoftDown => "soft_down",
        State::HardDown => "hard_down",
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
