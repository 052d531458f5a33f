//! What a router does with flows that it spreads over two balancers: it hashes them anew (rehash), or keeps those that
//! are in use where they are (resilient next-hop groups). To the balancers it must make no difference.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foobar_tests::bgp::bird::{Bird, Router};
use foobar_tests::bgp::paths::HashBy;
use foobar_tests::bgp::resilient::{Bucket, Groups, TABLE, share};
use foobar_tests::bgp::{Place, config, paths, wait_announced, wait_routed};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::vrrp::until;
use foobar_tests::world::{Family, Lb, World};

use crate::story::{BACKENDS, HELD, Pair, Streams, let_streams_talk, serve, world};

/// Has the router hash all flows anew, as often, where its kernel can, and says how many went to the other balancer.
fn scatter(world: &World, streams: &Streams, rounds: RangeInclusive<u32>) -> Result<()> {
    let mut before = streams.paths(world)?;
    for round in rounds {
        if !paths::rehash(world, 0x5eed_0000 + round)? {
            println!(
                "this kernel has no fib_multipath_hash_seed (6.11): only the policy rehashes flows here"
            );
            return Ok(());
        }
        let after = streams.paths(world)?;
        for (before, after) in before.iter().zip(&after) {
            let moved = paths::moved(before, after);
            println!(
                "rehash {round}: {moved} of {} flows go to the other balancer",
                before.len()
            );
            // Half of them, and by chance a few more or fewer.
            ensure!(
                before.len() >= HELD && (HELD / 4..HELD * 3 / 4).contains(&moved),
                "{moved}"
            );
        }
        before = after;
    }
    Ok(())
}

#[test]
fn flows_that_a_router_hashes_anew_while_balancers_leave_die_and_return_keep_their_backends() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, "")?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    wait_routed(&world, &Lb::BOTH)?;
    paths::hash_by(&world, HashBy::Ports)?;
    let streams = Streams::open(&world)?;
    scatter(&world, &streams, 1..=3)?;

    // By addresses alone, a client is with one balancer.
    paths::hash_by(&world, HashBy::Addresses)?;
    for flows in streams.paths(&world)? {
        let balancers: Vec<Lb> = flows.into_values().collect();
        ensure!(balancers.iter().all(|lb| *lb == balancers[0]), "{balancers:?}");
    }
    let_streams_talk();
    paths::hash_by(&world, HashBy::Ports)?;
    let_streams_talk();

    pair.first.operate_balancer("drain")?;
    wait_routed(&world, &[Lb::Second])?;
    let_streams_talk();
    pair.first.operate_balancer("undrain")?;
    wait_routed(&world, &Lb::BOTH)?;
    scatter(&world, &streams, 4..=4)?;
    world.bridge().ip(&["link", "set", "lb2", "nomaster"])?;
    pair.second.kill()?;
    wait_routed(&world, &[Lb::First])?;
    let_streams_talk();
    world.bridge().ip(&["link", "set", "lb2", "master", "br0"])?;
    pair.second.run()?;
    wait_announced(&mut pair.second)?;
    wait_routed(&world, &Lb::BOTH)?;
    scatter(&world, &streams, 5..=5)?;
    streams.assert_whole()
}

/// The control of the story above: without common tables, it has to see what a rehash breaks.
#[test]
fn a_rehash_breaks_flows_where_balancers_do_not_steer_alike() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, "")?;
    let start = |lb, seed| {
        let config = Config {
            seed,
            ..config(lb, Place::default(), BACKENDS)
        };
        Balancer::start_on(&world, lb, &config)
    };
    let (mut first, mut second) = (start(Lb::First, 7)?, start(Lb::Second, 8)?);
    wait_announced(&mut first)?;
    wait_announced(&mut second)?;
    wait_routed(&world, &Lb::BOTH)?;
    let streams = Streams::hold(&world, HELD, 0, 7)?;
    first.operate_balancer("drain")?;
    wait_routed(&world, &[Lb::Second])?;
    let_streams_talk();
    for report in streams.stop()? {
        // Half were with the first; half of those had the other one of two backends there.
        ensure!(
            (HELD as u64 / 10..HELD as u64).contains(&report.failed()),
            "{report}"
        );
    }
    Ok(())
}

const BUCKETS: u32 = 256;
const HALF: usize = BUCKETS as usize / 2;
/// A stream says something ten times within it.
const IDLE_TIMER: Duration = Duration::from_secs(5);
/// A bucket that saw no packet for so long has no stream.
const NOT_USED: Duration = Duration::from_secs(2);
/// Streams to each VIP, opened twice: few enough for most buckets of either next hop of a balancer to have none, so that
/// both can give half of theirs.
const FEW: usize = 40;

/// The buckets in use.
fn used(buckets: &[Bucket]) -> BTreeSet<usize> {
    let used = buckets
        .iter()
        .enumerate()
        .filter(|(_, bucket)| bucket.idle < NOT_USED);
    used.map(|(index, _)| index).collect()
}

/// The same of both families' groups.
fn used_of_both(groups: &Groups<'_>) -> Result<[BTreeSet<usize>; 2]> {
    let [v4, v6] = Family::BOTH.map(|family| groups.buckets(family));
    Ok([used(&v4?), used(&v6?)])
}

/// Waits until the buckets that are not in use are the second's or the first's in equal numbers with the others, and
/// says that no bucket that is in use went from the one that had all of them.
fn balance(groups: &Groups<'_>, family: Family, had_all: Lb, used: &BTreeSet<usize>) -> Result<()> {
    let mut kept = BUCKETS as usize;
    let took = until("idle buckets have gone over", || {
        kept = share(&groups.buckets(family)?, had_all);
        Ok(kept == HALF)
    })
    .with_context(|| {
        format!(
            "{family:?}: {kept} are still {had_all:?}'s, {} in use",
            used.len()
        )
    })?;
    let buckets = groups.buckets(family)?;
    let kept = used.iter().filter(|&&index| buckets[index].lb == had_all).count();
    println!(
        "{family:?}: {HALF} of {BUCKETS} buckets went to the one that is back within {took:?}; of {} in use, {kept} stayed",
        used.len()
    );
    ensure!(
        (FEW / 2..HALF).contains(&used.len()),
        "{} buckets are in use by {FEW} streams or twice as many",
        used.len()
    );
    ensure!(
        kept == used.len(),
        "{} of {} buckets in use left {had_all:?}",
        used.len() - kept,
        used.len()
    );
    Ok(())
}

#[test]
fn a_resilient_group_gives_idle_buckets_alone_to_a_balancer_that_is_back_and_no_stream_breaks() -> Result<()>
{
    let world = world()?;
    let _servers = serve(&world)?;
    // A balancer that is thought dead for a moment loses its buckets, used or not: here only the deaths meant may do
    // that, whatever else keeps the machine from running for a while.
    let router = Router {
        table: TABLE,
        bfd_interval_ms: 500,
        ..Router::default()
    };
    let mut groups = Groups::new(&world, BUCKETS, IDLE_TIMER)?;
    let _router = Bird::start_as(&world, router)?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    groups.wait_members(&Lb::BOTH)?;
    paths::hash_by(&world, HashBy::Ports)?;
    let streams = Streams::hold(&world, FEW, 0, 7)?;

    // One leaves: its buckets go at once, used or not, and the others stay.
    let before = Family::BOTH.map(|family| groups.buckets(family));
    pair.first.operate_balancer("drain")?;
    groups.wait_members(&[Lb::Second])?;
    for (family, before) in Family::BOTH.into_iter().zip(before) {
        ensure!(share(&before?, Lb::First) == HALF);
        ensure!(share(&groups.buckets(family)?, Lb::Second) == BUCKETS as usize);
    }
    // Until buckets that have moved and are not used count as idle.
    std::thread::sleep(NOT_USED + Duration::from_millis(900));

    // It is back: streams stay where they are, and new ones go to both.
    let in_use = used_of_both(&groups)?;
    pair.first.operate_balancer("undrain")?;
    groups.wait_members(&Lb::BOTH)?;
    for (family, used) in Family::BOTH.into_iter().zip(&in_use) {
        balance(&groups, family, Lb::Second, used)?;
    }
    for flows in streams.paths(&world)? {
        ensure!(flows.values().all(|lb| *lb == Lb::Second), "{flows:?}");
    }
    let more = Streams::hold(&world, FEW, 0, 8)?;
    for flows in more.paths(&world)? {
        ensure!(
            Lb::BOTH.iter().all(|lb| flows.values().any(|by| by == lb)),
            "{flows:?}"
        );
    }

    // The one that has most of them dies.
    world.bridge().ip(&["link", "set", "lb2", "nomaster"])?;
    pair.second.kill()?;
    groups.wait_members(&[Lb::First])?;
    for family in Family::BOTH {
        ensure!(share(&groups.buckets(family)?, Lb::First) == BUCKETS as usize);
    }
    std::thread::sleep(NOT_USED + Duration::from_millis(900));
    let in_use = used_of_both(&groups)?;
    world.bridge().ip(&["link", "set", "lb2", "master", "br0"])?;
    pair.second.run()?;
    wait_announced(&mut pair.second)?;
    groups.wait_members(&Lb::BOTH)?;
    for (family, used) in Family::BOTH.into_iter().zip(&in_use) {
        balance(&groups, family, Lb::First, used)?;
    }
    let_streams_talk();
    more.assert_whole()?;
    streams.assert_whole()
}
