//! Two foobar balancers with 100 ms advertisements.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::PORT;
use foobar_tests::vrrp::capture::Capture;
use foobar_tests::vrrp::{Pings, Place, all_are, answers_alone, config, router, until, wait_state, who_has};
use foobar_tests::world::{Lb, VIP, VIP6, World};

use crate::story::{listen, world};

/// The balancers, each with its configuration and its MAC address.
struct Pair<'a> {
    world: &'a World,
    first: Balancer<'a>,
    second: Balancer<'a>,
    config: Config,
    macs: [String; 2],
}

impl<'a> Pair<'a> {
    /// The first is active, the second its backup.
    fn start(world: &'a World, places: [Place; 2]) -> Result<Self> {
        let [one, other] = places.map(|place| config(place, true, 1));
        let mut first = Balancer::start_on(world, Lb::First, &one)?;
        wait_state(&mut first, "active")?;
        let mut second = Balancer::start_on(world, Lb::Second, &other)?;
        wait_state(&mut second, "backup")?;
        let mac = |lb| world.balancer(lb)?.mac_of("eth0");
        Ok(Self {
            world,
            first,
            second,
            config: one,
            macs: [mac(Lb::First)?, mac(Lb::Second)?],
        })
    }

    fn wait_first(&mut self) -> Result<()> {
        wait_state(&mut self.first, "active")?;
        wait_state(&mut self.second, "backup")?;
        answers_alone(self.world.client(), &self.macs[0])
    }

    fn wait_second(&mut self) -> Result<()> {
        wait_state(&mut self.second, "active")?;
        answers_alone(self.world.client(), &self.macs[1])
    }

    fn ping(&self) -> Result<[Pings; 2]> {
        Ok([
            Pings::start(self.world, VIP.into(), 10)?,
            Pings::start(self.world, VIP6.into(), 10)?,
        ])
    }
}

const BOTH: [Place; 2] = [Place::of(200), Place::of(100)];

/// Every ping was answered, but for what was under way at the end.
fn assert_no_loss(pings: [Pings; 2]) -> Result<()> {
    for pings in pings {
        let answers = pings.stop()?;
        println!(
            "{} of {} pings answered, longest gap {:?}",
            answers.at.len(),
            answers.sent,
            answers.longest_gap()
        );
        ensure!(answers.sent - answers.at.len() as u64 <= 1, "{answers:?}");
    }
    Ok(())
}

#[test]
fn a_clean_stop_hands_over_without_a_lost_ping_and_a_return_preempts() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let mut pair = Pair::start(&world, BOTH)?;
    answers_alone(world.client(), &pair.macs[0])?;
    let pings = pair.ping()?;
    pair.first.stop()?;
    pair.wait_second()?;
    pair.first.run()?;
    pair.wait_first()?;
    assert_no_loss(pings)
}

#[test]
fn a_killed_daemons_data_plane_stops_answering_and_goes_on_forwarding() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let mut pair = Pair::start(&world, BOTH)?;
    let pings = Pings::start(&world, VIP.into(), 5)?;
    pair.first.kill()?;
    pair.wait_second()?;
    println!(
        "a killed daemon: the VIP was not answered for {:?}",
        pings.stop()?.longest_gap()
    );
    let client = world.client();
    for mac in &pair.macs {
        client.teach_neighbour(VIP.into(), mac)?;
        let to = SocketAddr::from((VIP, PORT));
        client.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(2))?))?;
    }
    pair.first.run()?;
    wait_state(&mut pair.first, "active")?;
    Ok(())
}

/// How often a host dies in the story of dead hosts.
const DEATHS: usize = 5;

#[test]
fn a_dead_hosts_vips_are_answered_again_within_a_few_intervals() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let mut pair = Pair::start(&world, BOTH)?;
    let mut gaps = Vec::new();
    for _ in 0..DEATHS {
        let pings = Pings::start(&world, VIP.into(), 5)?;
        // All its processes, and its port of the bridge; nobody's carrier changes.
        world.bridge().ip(&["link", "set", "lb", "nomaster"])?;
        pair.first.kill()?;
        pair.wait_second()?;
        gaps.push(pings.stop()?.longest_gap());
        world.bridge().ip(&["link", "set", "lb", "master", "br0"])?;
        pair.first.run()?;
        pair.wait_first()?;
    }
    gaps.sort_unstable();
    let interval = Place::of(1).interval;
    let median = gaps[DEATHS / 2].as_secs_f64() / interval.as_secs_f64();
    println!("a dead host: outages {gaps:?}, the median is {median:.1} intervals");
    // 3 intervals and a skew of 0.6; two cores make timers late.
    ensure!((2.0..10.0).contains(&median), "{gaps:?}");
    Ok(())
}

#[test]
fn a_daemon_that_is_back_within_its_lease_goes_on_as_active() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let slow = |priority| Place {
        interval: Duration::from_secs(4),
        ..Place::of(priority)
    };
    let mut first = Balancer::start(&world, &config(slow(200), true, 1))?;
    wait_state(&mut first, "active")?;
    let pings = [
        Pings::start(&world, VIP.into(), 10)?,
        Pings::start(&world, VIP6.into(), 10)?,
    ];
    first.kill()?;
    first.run()?;
    let status = first.status()?;
    ensure!(all_are(&status, "active"), "{status:#}");
    ensure!(router(&status, "ipv4")["sent"].as_u64() > Some(0), "{status:#}");
    assert_no_loss(pings)?;
    first.kill()?;
    until("the lease has ended", || Ok(who_has(world.client())?.is_empty()))?;
    first.run()?;
    let status = first.status()?;
    ensure!(all_are(&status, "backup"), "{status:#}");
    Ok(())
}

#[test]
fn a_drained_balancer_hands_over_and_takes_nothing_until_it_is_undrained() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let mut pair = Pair::start(&world, BOTH)?;
    let pings = pair.ping()?;
    pair.first.operate_balancer("drain")?;
    pair.wait_second()?;
    wait_state(&mut pair.first, "backup")?;
    // It may not have heard of every check yet, which is a reason as well.
    let status = pair.first.wait("drained is its only reason", |status| {
        router(status, "ipv6")["reasons"] == serde_json::json!(["drained"])
    })?;
    ensure!(
        status["drained"] == true && router(&status, "ipv6")["priority"] == 1,
        "{status:#}"
    );
    ensure!(pair.first.status_text(&[])?.contains("DRAINED"));
    // It outlasts the daemon.
    pair.first.kill()?;
    pair.first.run()?;
    pair.first.wait("the drained one hears the other", |status| {
        router(status, "ipv4")["received"].as_u64() > Some(20)
    })?;
    ensure!(all_are(&pair.first.status()?, "backup"));
    pair.first.operate_balancer("undrain")?;
    pair.wait_first()?;
    assert_no_loss(pings)?;

    // Drained, but there is nobody else.
    pair.first.operate_balancer("drain")?;
    pair.wait_second()?;
    pair.second.kill()?;
    wait_state(&mut pair.first, "active")?;
    Ok(())
}

#[test]
fn tracked_reasons_and_reloads_move_the_vips_and_bring_them_back() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let tracking = Place {
        lines: "track = { no_backend = 150, detached = \"resign\" }",
        ..Place::of(200)
    };
    let mut pair = Pair::start(&world, [tracking, Place::of(100)])?;

    // A service has no healthy backend at the first, whose checks ask where nobody listens.
    let mut wrong = pair.config.clone();
    wrong.check_lines.push("port = 1");
    pair.first.reload(&wrong)?;
    pair.wait_second()?;
    let status = pair.first.status()?;
    ensure!(
        router(&status, "ipv4")["reasons"] == serde_json::json!(["no_backend"])
            && router(&status, "ipv4")["priority"] == 50,
        "{status:#}"
    );
    pair.first.reload(&pair.config)?;
    pair.wait_first()?;

    // Another priority.
    let low = Place {
        priority: 50,
        ..tracking
    };
    pair.first.reload(&config(low, true, 1))?;
    pair.wait_second()?;
    pair.first.reload(&pair.config)?;
    pair.wait_first()?;

    // The link.
    let host = world.balancer(Lb::First)?;
    // Else its IPv6 address goes with the link, and its checks can't be made.
    host.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", "1")?;
    host.ip(&["link", "set", "eth0", "down"])?;
    pair.wait_second()?;
    let status = wait_state(&mut pair.first, "initialize")?;
    ensure!(
        status["vrrp"][0]["reasons"].to_string().contains("link_down"),
        "{status:#}"
    );
    host.ip(&["link", "set", "eth0", "up"])?;
    pair.wait_first()?;

    // The program.
    pair.first.detach_by_force()?;
    pair.wait_second()?;
    let status = wait_state(&mut pair.first, "initialize")?;
    ensure!(
        status["vrrp"][0]["reasons"].to_string().contains("detached"),
        "{status:#}"
    );
    Ok(())
}

#[test]
fn ownership_changes_its_kind_at_run_time_without_a_lost_ping() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let elected = config(Place::of(200), true, 1);
    let fixed = Config {
        group: None,
        further: elected.further.replace("vrrp = \"site\"", "owned = true"),
        ..elected.clone()
    };
    let mut balancer = Balancer::start(&world, &fixed)?;
    let pings = [
        Pings::start(&world, VIP.into(), 10)?,
        Pings::start(&world, VIP6.into(), 10)?,
    ];
    ensure!(balancer.status()?["vrrp"] == serde_json::json!([]));
    balancer.reload(&elected)?;
    wait_state(&mut balancer, "active")?;
    std::thread::sleep(Duration::from_secs(1));
    balancer.reload(&fixed)?;
    balancer.wait("nothing is elected", |status| {
        status["vrrp"] == serde_json::json!([])
    })?;
    std::thread::sleep(Duration::from_secs(1));
    let status = balancer.status()?;
    ensure!(
        status["vips"][0]["owned"] == true && status["vips"][1]["owned"] == true,
        "{status:#}"
    );
    assert_no_loss(pings)
}

#[test]
fn nothing_on_the_wire_is_malformed_and_a_takeover_is_announced() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let mut pair = Pair::start(&world, BOTH)?;
    let capture = Capture::start(&world, world.client())?;
    pair.first.stop()?;
    pair.wait_second()?;
    pair.first.run()?;
    pair.wait_first()?;
    let captured = capture.stop()?;
    let mac = &pair.macs[1];
    for (filter, least) in [
        ("vrrp && ip", 10),
        ("vrrp && ipv6", 10),
        ("vrrp.prio == 0 && ip", 1),
        ("vrrp.prio == 0 && ipv6", 1),
        (&format!("arp.isgratuitous && eth.src == {mac}") as &str, 2),
        (
            &format!("icmpv6.type == 136 && icmpv6.nd.na.flag.o == 1 && eth.src == {mac}"),
            2,
        ),
    ] {
        let found = captured.packets(filter)?;
        ensure!(found.len() >= least, "{filter}: {found:#?}");
    }
    for filter in [
        "_ws.malformed",
        "_ws.expert.severity >= 0x600000 && vrrp",
        "vrrp && vrrp.checksum.status != 1",
        "vrrp && ip && (ip.ttl != 255 || ip.dst != 224.0.0.18 || ip.checksum.status != 1)",
        "vrrp && ipv6 && (ipv6.hlim != 255 || ipv6.dst != ff02::12 || !(ipv6.src == fe80::/10))",
    ] {
        let found = captured.packets(filter)?;
        ensure!(found.is_empty(), "{filter}: {found:#?}");
    }
    Ok(())
}
