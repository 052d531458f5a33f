//! Resilient next-hop groups of a router's kernel (Linux 5.13): flows are hashed to buckets, and a bucket that is in use
//! keeps its balancer while that one is in the group.
//!
//! The kernel notes no use of a bucket while its group has a single next hop (seen on 6.18): all are idle when another
//! one comes. So each balancer is in the group by two next hops, which lead to the same place.
//!
//! BIRD 2 and FRR 8.4 know none. So BIRD puts its routes into a table of their own here, which the kernel does not
//! forward by, and what follows that table plays the rest of the router: it has the group be what the table says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{address_of, next_hops_in};
use crate::vrrp::until;
use crate::world::{Family, Lb, World, ipv6_of};

/// The table that [`super::bird::Router::table`] has to name.
pub const TABLE: &str = "100";

/// The ids of a balancer's next hops.
const fn next_hop_ids(family: Family, lb: Lb) -> [u32; 2] {
    match (family, lb) {
        (Family::V4, Lb::First) => [11, 12],
        (Family::V4, Lb::Second) => [13, 14],
        (Family::V6, Lb::First) => [21, 22],
        (Family::V6, Lb::Second) => [23, 24],
    }
}

/// The id of a family's group.
const fn group_id(family: Family) -> &'static str {
    match family {
        Family::V4 => "10",
        Family::V6 => "20",
    }
}

const fn flag(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

/// A bucket of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Whose it is.
    pub lb: Lb,
    /// When a packet last went through it, or it became whose it is.
    pub idle: Duration,
}

/// As `ip` shows one.
#[derive(Deserialize)]
struct Shown {
    bucket: ShownBucket,
}

#[derive(Deserialize)]
struct ShownBucket {
    index: usize,
    idle_time: f64,
    nhid: u32,
}

/// A group for each family's VIP.
#[derive(Debug)]
pub struct Groups<'a> {
    world: &'a World,
    buckets: u32,
    idle_timer: Duration,
    /// Who is in a family's group.
    members: [BTreeSet<IpAddr>; 2],
}

impl<'a> Groups<'a> {
    /// Makes the balancers' next hops. There is no group, and no route, before a balancer announces.
    pub fn new(world: &'a World, buckets: u32, idle_timer: Duration) -> Result<Self> {
        let router = world.router()?;
        for family in Family::BOTH {
            for lb in Lb::BOTH {
                let via = own(family, lb).to_string();
                for id in next_hop_ids(family, lb).map(|id| id.to_string()) {
                    let words = ["nexthop", "add", "id", &id, "via", &via, "dev", "eth0"];
                    router
                        .ip(&[&[flag(family)], &words[..]].concat())
                        .context("the kernel needs next-hop objects")?;
                }
            }
            // A table that nothing was ever in can't be shown.
            let vip = family.vip().to_string();
            let last = [
                flag(family),
                "route",
                "add",
                "unreachable",
                &vip,
                "metric",
                "4278190081",
                "table",
            ];
            router.ip(&[&last[..], &[TABLE]].concat())?;
        }
        Ok(Self {
            world,
            buckets,
            idle_timer,
            members: [BTreeSet::new(), BTreeSet::new()],
        })
    }

    /// Has the groups be what the routing daemon's table says now.
    pub fn follow(&mut self) -> Result<()> {
        for (place, family) in Family::BOTH.into_iter().enumerate() {
            let wanted = next_hops_in(self.world.router()?, TABLE, family.vip())?;
            if wanted != self.members[place] {
                self.change(family, self.members[place].is_empty(), &wanted)?;
                self.members[place] = wanted;
            }
        }
        Ok(())
    }

    fn change(&self, family: Family, is_new: bool, wanted: &BTreeSet<IpAddr>) -> Result<()> {
        let router = self.world.router()?;
        let (group, vip) = (group_id(family), family.vip().to_string());
        if wanted.is_empty() {
            router.ip(&[flag(family), "route", "del", &vip, "nhid", group])?;
            router.ip(&["nexthop", "del", "id", group])?;
            return Ok(());
        }
        let ids: Vec<String> = Lb::BOTH
            .into_iter()
            .filter(|&lb| wanted.contains(&own(family, lb)))
            .flat_map(|lb| next_hop_ids(family, lb))
            .map(|id| id.to_string())
            .collect();
        let (ids, buckets) = (ids.join("/"), self.buckets.to_string());
        let idle = self.idle_timer.as_secs().to_string();
        let words = [
            "id",
            group,
            "group",
            &ids,
            "type",
            "resilient",
            "buckets",
            &buckets,
            "idle_timer",
            &idle,
        ];
        if is_new {
            router
                .ip(&[&["nexthop", "add"], &words[..]].concat())
                .context("the kernel needs resilient next-hop groups (Linux 5.13)")?;
            router.ip(&[flag(family), "route", "add", &vip, "nhid", group])?;
        } else {
            router.ip(&[&["nexthop", "replace"], &words[..]].concat())?;
        }
        Ok(())
    }

    /// Follows until the groups have these balancers.
    pub fn wait_members(&mut self, lbs: &[Lb]) -> Result<()> {
        until(&format!("the groups have {lbs:?}"), || {
            self.follow()?;
            let mut families = Family::BOTH.into_iter().zip(&self.members);
            Ok(families.all(|(family, has)| *has == lbs.iter().map(|&lb| own(family, lb)).collect()))
        })?;
        Ok(())
    }

    /// The buckets of a family's group.
    pub fn buckets(&self, family: Family) -> Result<Vec<Bucket>> {
        let group = group_id(family);
        let shown = self
            .world
            .router()?
            .ip(&["-j", "nexthop", "bucket", "show", "id", group])?;
        let mut shown: Vec<Shown> = serde_json::from_str(&shown).with_context(|| shown.clone())?;
        shown.sort_by_key(|shown| shown.bucket.index);
        let bucket = |Shown { bucket }: Shown| {
            let has = |&lb: &Lb| next_hop_ids(family, lb).contains(&bucket.nhid);
            Ok(Bucket {
                lb: Lb::BOTH
                    .into_iter()
                    .find(has)
                    .context("a next hop that is nobody's")?,
                idle: Duration::from_secs_f64(bucket.idle_time),
            })
        };
        shown.into_iter().map(bucket).collect()
    }
}

/// A balancer's own address of a family.
fn own(family: Family, lb: Lb) -> IpAddr {
    match family {
        Family::V4 => address_of(lb).into(),
        Family::V6 => ipv6_of(address_of(lb)).into(),
    }
}

/// How many of the buckets are a balancer's.
pub fn share(buckets: &[Bucket], lb: Lb) -> usize {
    buckets.iter().filter(|bucket| bucket.lb == lb).count()
}
