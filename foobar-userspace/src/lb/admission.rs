//! Source lists and SYN limits in force: which of the data plane's places has what.
//!
//! A place is filled before a VIP names it, and emptied after none does any more: what changes gets another
//! place, so that a packet meets a VIP's old list and limit or its new ones, as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use foobar_common::admission::{LIST_ALLOW, LIST_DENY, MAX_LIMITS, MAX_LISTS, SynLimit};
use foobar_common::vip::{VIP_LIST, VIP_LIST_ONLY, VIP_SYN_LIMIT, Vip as Entry};

use super::entry;
use super::steering::Steering;
use crate::config::{self, Config, Service, Sources, Verdict};
use crate::dataplane::{DataPlane, GRACE, ListEntry, SourceTrie};

/// Which places have what.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    lists: BTreeMap<u16, Arc<Sources>>,
    limits: BTreeMap<Service, (u16, SynLimit)>,
    /// What an earlier daemon left, until other VIPs are in force: nobody knows which lists these are.
    foreign_lists: BTreeSet<u16>,
}

impl Admission {
    /// What an earlier daemon's VIPs name. A limit that is still wanted goes on from where it is.
    pub(super) fn adopt(plane: &DataPlane) -> Self {
        let mut admission = Self::default();
        for entry in plane.services() {
            let Some(service) = entry::service(&entry.key) else {
                continue;
            };
            if entry.flags & VIP_LIST != 0 {
                admission.foreign_lists.insert(entry.list);
            }
            if entry.flags & VIP_SYN_LIMIT != 0 {
                let limit = SynLimit {
                    bucket: 0,
                    ..plane.limit(entry.limit)
                };
                admission.limits.insert(service, (entry.limit, limit));
            }
        }
        admission
    }

    /// Puts the places of a VIP's list and limit into its entry.
    pub(super) fn complete(&self, vip: &config::Vip, entry: &mut Entry) {
        if let Some(sources) = &vip.sources
            && let Some((place, _)) = self.lists.iter().find(|(_, list)| *list == sources)
        {
            entry.list = *place;
        }
        if let Some((place, _)) = self.limits.get(&vip.service()) {
            entry.limit = *place;
        }
    }

    /// Both: for as long as some VIPs have their old configuration, and others the new one already.
    fn or(&self, next: &Self) -> Self {
        let mut both = self.clone();
        both.lists.extend(next.lists.clone());
        both.limits.extend(next.limits.clone());
        both
    }

    /// Fills places for all that a configuration asks for, besides those that are in force.
    fn prepare(&self, plane: &mut DataPlane, config: &Config) -> Result<Self> {
        let mut next = Self::default();
        let mut lists: BTreeSet<u16> = self.foreign_lists.clone();
        lists.extend(self.lists.keys());
        let mut limits: BTreeSet<u16> = self.limits.values().map(|(place, _)| *place).collect();
        for vip in &config.vips {
            if let Some(sources) = &vip.sources
                && next.lists.values().all(|list| list != sources)
            {
                let kept = self.lists.iter().find(|(_, list)| *list == sources);
                let place = match kept {
                    Some((place, _)) => *place,
                    None => {
                        let place = free(&mut lists, MAX_LISTS).with_context(|| {
                            format!("VIP {}: more than {MAX_LISTS} different lists of sources, old and new together", vip.name)
                        })?;
                        let trie = SourceTrie::new(&entries(sources))
                            .with_context(|| format!("the sources of VIP {}", vip.name))?;
                        plane.set_list(place, &trie)?;
                        place
                    }
                };
                next.lists.insert(place, Arc::clone(sources));
            }
            if let Some(limit) = vip.syn_limit {
                let limit = limit_of(limit);
                let place = match self.limits.get(&vip.service()) {
                    Some((place, have)) if *have == limit => *place,
                    _ => {
                        let place = free(&mut limits, MAX_LIMITS).with_context(|| {
                            format!("VIP {}: more than {MAX_LIMITS} SYN limits", vip.name)
                        })?;
                        plane.set_limit(place, limit);
                        place
                    }
                };
                next.limits.insert(vip.service(), (place, limit));
            }
        }
        Ok(next)
    }
}

/// The lowest place that is not taken; it is from now on.
fn free(taken: &mut BTreeSet<u16>, places: u32) -> Option<u16> {
    let place = (0..places as u16).find(|place| !taken.contains(place))?;
    taken.insert(place);
    Some(place)
}

/// The `VIP_*` bits of a VIP's admission.
pub(super) fn flags(vip: &config::Vip) -> u32 {
    let list = match &vip.sources {
        Some(sources) if sources.only => VIP_LIST | VIP_LIST_ONLY,
        Some(_) => VIP_LIST,
        None => 0,
    };
    let limit = if vip.syn_limit.is_some() { VIP_SYN_LIMIT } else { 0 };
    list | limit
}

fn entries(sources: &Sources) -> Vec<ListEntry> {
    sources
        .prefixes
        .iter()
        .map(|(prefix, verdict)| ListEntry {
            address: prefix.address,
            length: u32::from(prefix.length),
            verdict: match verdict {
                Verdict::Deny => LIST_DENY,
                Verdict::Allow => LIST_ALLOW,
            },
        })
        .collect()
}

fn limit_of(limit: config::SynLimit) -> SynLimit {
    let costs = |rate: Option<config::Rate>| {
        rate.map_or((0, 0), |rate| {
            (rate.cost_ns, rate.cost_ns * u64::from(rate.burst))
        })
    };
    let (cost_ns, depth_ns) = costs(limit.vip);
    let (source_cost_ns, source_depth_ns) = costs(limit.source);
    SynLimit {
        bucket: 0,
        cost_ns,
        depth_ns,
        source_cost_ns,
        source_depth_ns,
        source_mask_v4: mask(u32::from(limit.source_prefix_v4) + 96),
        source_mask_v6: mask(u32::from(limit.source_prefix_v6)),
    }
}

/// The mask of the first bits of an address, over its words.
fn mask(bits: u32) -> [u64; 2] {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0).to_be_bytes();
    let address = foobar_common::address::Address { bytes: mask };
    address.words()
}

impl Steering {
    /// Fills places for all that a configuration asks for. From now on both they and those before are known;
    /// what comes back is what is to stay.
    ///
    /// # Errors
    /// Where there is no room for it: nothing in force is changed then.
    pub(super) fn prepare_admission(&mut self, config: &Config) -> Result<Admission> {
        let next = self.admission.prepare(&mut self.plane, config)?;
        self.admission = self.admission.or(&next);
        Ok(next)
    }

    /// Keeps only these places, now that no other is in force, and frees the memory of the other lists.
    pub(super) fn keep_admission(&mut self, next: Admission) {
        let before = std::mem::replace(&mut self.admission, next);
        let old = before.foreign_lists.iter().chain(before.lists.keys());
        let unused: Vec<u16> = old
            .copied()
            .filter(|place| !self.admission.lists.contains_key(place))
            .collect();
        if unused.is_empty() {
            return;
        }
        // A program that began before the last change of the VIPs may still look them up.
        thread::sleep(GRACE);
        for place in unused {
            let emptied = SourceTrie::new(&[]).and_then(|empty| self.plane.set_list(place, &empty));
            if let Err(error) = emptied {
                tracing::warn!(%error, "the memory of an old list of sources could not be freed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;
    use foobar_common::address::Address;
    use std::net::IpAddr;

    #[test]
    fn a_prefix_is_what_the_mask_leaves() {
        let masked = |address: &str, bits: u32| {
            let words = Address::from(address.parse::<IpAddr>().expect("an address")).words();
            let mask = mask(bits);
            [words[0] & mask[0], words[1] & mask[1]]
        };
        assert_eq!(masked("192.0.2.77", 96 + 24), masked("192.0.2.1", 128 - 8));
        assert_ne!(masked("192.0.2.77", 128), masked("192.0.2.1", 128));
        assert_eq!(masked("2001:db8:5::1", 64), masked("2001:db8:5:0:7::9", 64));
        assert_ne!(masked("2001:db8:5::1", 64), masked("2001:db8:5:1::1", 64));
    }

    #[test]
    fn a_limit_holds_its_burst() {
        let limit = limit_of(config::SynLimit {
            vip: Some(Rate {
                cost_ns: 1_000,
                burst: 7,
            }),
            source: None,
            source_prefix_v4: 32,
            source_prefix_v6: 64,
        });
        assert_eq!((limit.cost_ns, limit.depth_ns), (1_000, 7_000));
        assert_eq!((limit.source_cost_ns, limit.source_depth_ns), (0, 0));
        assert_eq!(limit.source_mask_v4, [u64::MAX; 2]);
        assert_eq!(limit.source_mask_v6, [u64::MAX, 0]);
    }

    #[test]
    fn a_place_is_given_once() {
        let mut taken = BTreeSet::from([0, 2]);
        assert_eq!(
            [0; 4].map(|_| free(&mut taken, 4)),
            [Some(1), Some(3), None, None]
        );
    }
}
