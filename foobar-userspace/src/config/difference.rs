//! The difference between two configurations, pure: what a reload has to do, and what it cannot.
//!
//! A VIP is recognised by its [`Service`], not by its name: renaming one touches no flow, and one whose
//! address, ports or protocol changed is another VIP (the old one removed, the new one added).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

use super::{Backend, Config, Service, Vip};

/// What changed from one configuration to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// VIPs that only the new configuration has.
    pub added: Vec<Vip>,
    /// VIPs that only the old configuration has.
    pub removed: Vec<Vip>,
    /// VIPs that both have and that are not the same.
    pub changed: Vec<VipChange>,
    /// Whether the peers' MACs are others; order does not count.
    pub peer_macs: bool,
    /// Whether outer headers are made with something else.
    pub tunnel: bool,
    /// Groups that are new, gone or not the same, by name.
    pub vrrp: Vec<String>,
    /// Whether routers are told otherwise, or others.
    pub bgp: bool,
    /// Changes that need a restart with new maps, and are not made at run time.
    pub fixed: Vec<FixedChange>,
}

impl Difference {
    /// Whether a reload has nothing to do and nothing to refuse.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What changed in one VIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipChange {
    /// Which one.
    pub service: Service,
    /// Its name in the new configuration.
    pub name: String,
    /// Its settings that changed.
    pub fields: Vec<Field>,
    /// Backends that only the new configuration has.
    pub backends_added: Vec<Backend>,
    /// Backends that only the old configuration has: they are to be drained.
    pub backends_removed: Vec<Backend>,
    /// Backends with another weight.
    pub backends_reweighted: Vec<Reweighted>,
}

/// A backend with another weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reweighted {
    /// Which one.
    pub address: IpAddr,
    /// Its old weight.
    pub from: u16,
    /// Its new weight.
    pub to: u16,
}

/// A VIP's settings that can change at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `name`
    Name,
    /// `owned`, `vrrp`, `bgp`
    Ownership,
    /// `table`
    Table,
    /// `tracking`, `midstream`
    Tracking,
    /// `idle_timeout`
    IdleTimeout,
    /// `drain_timeout`
    DrainTimeout,
    /// `unserved`
    Unserved,
    /// `forward`
    Forward,
    /// `second_chance`
    SecondChance,
    /// `deny`, `allow`, or what is in the lists that they name
    Sources,
    /// `syn_limit`
    SynLimit,
    /// `quic`, or a `server_id` of a backend that both have
    Quic,
    /// `check`
    Check,
}

/// A change that cannot be made at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedChange {
    /// The setting, as in the file: `interface`, `limits.slots`, `site-a: slots`.
    pub setting: String,
    /// Its value in force.
    pub old: String,
    /// What the new configuration asks for.
    pub new: String,
}

/// What a change from `old` to `new` means.
#[must_use]
pub fn difference(old: &Config, new: &Config) -> Difference {
    let before: HashMap<Service, &Vip> = old.vips.iter().map(|vip| (vip.service(), vip)).collect();
    let after: HashMap<Service, &Vip> = new.vips.iter().map(|vip| (vip.service(), vip)).collect();
    let mut difference = Difference {
        added: new
            .vips
            .iter()
            .filter(|vip| !before.contains_key(&vip.service()))
            .cloned()
            .collect(),
        removed: old
            .vips
            .iter()
            .filter(|vip| !after.contains_key(&vip.service()))
            .cloned()
            .collect(),
        peer_macs: sorted(&old.peer_macs) != sorted(&new.peer_macs),
        tunnel: old.tunnel != new.tunnel,
        vrrp: vrrp_changes(old, new),
        bgp: old.bgp != new.bgp,
        changed: Vec::new(),
        fixed: fixed_settings(old, new),
    };
    for vip in &new.vips {
        let Some(was) = before.get(&vip.service()) else {
            continue;
        };
        let setting = |name| format!("{}: {name}", vip.name);
        difference
            .fixed
            .extend(fixed_change(&setting("slots"), was.slots, vip.slots));
        difference
            .fixed
            .extend(fixed_change(&setting("hash"), was.hash, vip.hash));
        difference.changed.extend(vip_change(was, vip));
    }
    difference
}

/// The new configuration with everything that cannot change at run time as it is in the old one.
///
/// VIPs keep what decides about a flow's slot: hash, and number of slots, so that their sum can come to more than
/// [`super::Limits::slots`] where the new file relied on fewer; who allocates them must refuse that.
#[must_use]
pub fn keep_fixed(old: &Config, new: &Config) -> Config {
    let before: HashMap<Service, &Vip> = old.vips.iter().map(|vip| (vip.service(), vip)).collect();
    let mut vips = new.vips.clone();
    for vip in &mut vips {
        if let Some(was) = before.get(&vip.service()) {
            (vip.slots, vip.hash) = (was.slots, was.hash);
        }
    }
    Config {
        vips,
        peer_macs: new.peer_macs.clone(),
        tunnel: new.tunnel.clone(),
        vrrp: new.vrrp.clone(),
        bgp: new.bgp.clone(),
        canary: new.canary,
        ..old.clone()
    }
}

/// The names of groups that are not the same in both.
fn vrrp_changes(old: &Config, new: &Config) -> Vec<String> {
    let only = |some: &Config, other: &Config| -> BTreeSet<String> {
        let changed = some.vrrp.iter().filter(|group| !other.vrrp.contains(group));
        changed.map(|group| group.name.clone()).collect()
    };
    (&only(old, new) | &only(new, old)).into_iter().collect()
}

fn sorted(macs: &[[u8; 6]]) -> Vec<[u8; 6]> {
    let mut macs = macs.to_vec();
    macs.sort_unstable();
    macs
}

fn fixed_settings(old: &Config, new: &Config) -> Vec<FixedChange> {
    let name = |path: &Option<PathBuf>| {
        path.as_ref()
            .map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    };
    [
        fixed_change("interface", &old.interface, &new.interface),
        fixed_change("pin_dir", old.pin_dir.display(), new.pin_dir.display()),
        fixed_change(
            "admin_socket",
            old.admin_socket.display(),
            new.admin_socket.display(),
        ),
        fixed_change("seed_file", name(&old.seed_file), name(&new.seed_file)),
        fixed_change("cluster", name(&old.cluster), name(&new.cluster)),
        fixed_change("limits.slots", old.limits.slots, new.limits.slots),
        fixed_change("limits.targets", old.limits.targets, new.limits.targets),
        fixed_change("limits.notes", old.limits.notes, new.limits.notes),
        fixed_change(
            "limits.pending_notes",
            old.limits.pending_notes,
            new.limits.pending_notes,
        ),
        fixed_change(
            "limits.syn_buckets",
            old.limits.syn_buckets,
            new.limits.syn_buckets,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn fixed_change(setting: &str, old: impl ToString, new: impl ToString) -> Option<FixedChange> {
    let (old, new) = (old.to_string(), new.to_string());
    (old != new).then(|| FixedChange {
        setting: setting.to_owned(),
        old,
        new,
    })
}

/// Whether a backend has another server id.
fn renamed(old: &Vip, new: &Vip) -> bool {
    old.backends.iter().any(|was| {
        let is = new.backends.iter().find(|is| is.address == was.address);
        is.is_some_and(|is| is.server_id != was.server_id)
    })
}

fn vip_change(old: &Vip, new: &Vip) -> Option<VipChange> {
    let fields: Vec<Field> = [
        (old.name != new.name, Field::Name),
        (old.ownership != new.ownership, Field::Ownership),
        (old.table != new.table, Field::Table),
        (old.tracking != new.tracking, Field::Tracking),
        (old.idle_timeout != new.idle_timeout, Field::IdleTimeout),
        (old.drain_timeout != new.drain_timeout, Field::DrainTimeout),
        (old.unserved != new.unserved, Field::Unserved),
        (old.forward != new.forward, Field::Forward),
        (old.second_chance != new.second_chance, Field::SecondChance),
        (old.sources != new.sources, Field::Sources),
        (old.syn_limit != new.syn_limit, Field::SynLimit),
        (old.quic != new.quic || renamed(old, new), Field::Quic),
        (old.check != new.check, Field::Check),
    ]
    .into_iter()
    .filter_map(|(changed, field)| changed.then_some(field))
    .collect();
    let weights = |vip: &Vip| -> HashMap<IpAddr, u16> {
        vip.backends
            .iter()
            .map(|backend| (backend.address, backend.weight))
            .collect()
    };
    let (before, after) = (weights(old), weights(new));
    let only = |backends: &[Backend], other: &HashMap<IpAddr, u16>| -> Vec<Backend> {
        backends
            .iter()
            .filter(|backend| !other.contains_key(&backend.address))
            .copied()
            .collect()
    };
    let reweighted = new.backends.iter().filter_map(|backend| {
        let from = *before.get(&backend.address)?;
        let (address, to) = (backend.address, backend.weight);
        (from != to).then_some(Reweighted { address, from, to })
    });
    let change = VipChange {
        service: new.service(),
        name: new.name.clone(),
        fields,
        backends_added: only(&new.backends, &before),
        backends_removed: only(&old.backends, &after),
        backends_reweighted: reweighted.collect(),
    };
    let unchanged = change.fields.is_empty()
        && change.backends_added.is_empty()
        && change.backends_removed.is_empty()
        && change.backends_reweighted.is_empty();
    (!unchanged).then_some(change)
}
