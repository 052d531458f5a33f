//! The agent's promises, in a world of three backends: a flow goes on where it began, whoever gets its packets
//! first; what nobody owns is answered or not, as the balancer says; a killed agent breaks nothing; and `prepare`
//! does all that a backend needs, and takes it back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpNumber, Ipv4Header, TcpHeader};
use foobar_common::gue::OPTION_DROP;
use foobar_tests::agents::{Agent, Encapsulator, FAREWELL, PORT, Server, Visit, Way};
use foobar_tests::world::{CLIENT, VIP, World};
use nix::sys::socket::sockopt::TcpMaxSeg;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, getsockopt, sendto, socket,
};

/// Everything, in the order in which it has to end.
struct Cast<'a> {
    way: Encapsulator,
    agents: Vec<Agent<'a>>,
    _servers: Vec<Server>,
}

impl<'a> Cast<'a> {
    fn new(world: &'a World) -> Result<Self> {
        let others = |own| world.backends().filter(|&other| other != own).collect::<Vec<_>>();
        Ok(Self {
            agents: world
                .backends()
                .map(|own| Agent::start(world, own, &others(own)))
                .collect::<Result<_>>()?,
            _servers: world
                .backends()
                .map(|own| Server::start(world, own))
                .collect::<Result<_>>()?,
            way: Encapsulator::start(world)?,
        })
    }

    fn agent(&self, backend: u8) -> &Agent<'a> {
        &self.agents[usize::from(backend) - 1]
    }

    fn count(&self, backend: u8, counter: &str) -> Result<u64> {
        self.agent(backend).count(counter)
    }
}

#[test]
fn a_flow_goes_on_where_it_began() -> Result<()> {
    let world = World::new(3)?;
    let cast = Cast::new(&world)?;
    cast.way.lead(Way::new(2, &[]));
    let mut old = Visit::begin(&world)?;
    assert_eq!(old.backend, 2);
    old.talk(1_000)?;
    // Backend 1 is the owner now, 2 the one before.
    cast.way.lead(Way::new(1, &[2]));
    old.talk(200_000)?;
    assert!(cast.count(1, "given_on")? > 50);
    assert!(cast.count(2, "kept_owned")? > 50);
    let mut new = Visit::begin(&world)?;
    assert_eq!(new.backend, 1, "new connections are the current owner's");
    new.talk(200_000)?;
    // Two changes: the flow's owner is the last of three.
    cast.way.lead(Way::new(3, &[1, 2]));
    for visit in [&mut old, &mut new] {
        visit.talk(200_000)?;
    }
    assert!(cast.count(3, "given_on")? > 100);
    assert_eq!(Visit::begin(&world)?.backend, 3);
    for backend in world.backends() {
        for counter in ["kept_last", "drop_nobody", "drop_no_next_hop", "drop_malformed"] {
            assert_eq!(cast.count(backend, counter)?, 0, "{counter} of backend {backend}");
        }
    }
    Ok(())
}

#[test]
fn the_mss_that_clients_are_told_fits_into_the_tunnel() -> Result<()> {
    let world = World::new(1)?;
    let cast = Cast::new(&world)?;
    cast.way.lead(Way::new(1, &[]));
    let visit = Visit::begin(&world)?;
    // 1500 less the outer headers (44), the packet's own (40), and the timestamps in every segment (12).
    assert_eq!(getsockopt(&visit.socket, TcpMaxSeg)?, 1_404);
    Ok(())
}

#[test]
fn a_handshake_by_syn_cookie_is_completed_where_it_began() -> Result<()> {
    let world = World::new(3)?;
    let cast = Cast::new(&world)?;
    for backend in world.backends() {
        world.backend(backend)?.sysctl("net/ipv4/tcp_syncookies", "2")?;
    }
    // The owner changes between the SYN and the ACK that bears the cookie.
    cast.way.lead_apart(Way::new(3, &[]), Way::new(1, &[2, 3]));
    let mut visit = Visit::begin(&world)?;
    assert_eq!(visit.backend, 3);
    visit.talk(10_000)?;
    assert!(cast.count(3, "kept_cookie")? > 0);
    Ok(())
}

#[test]
fn what_nobody_owns_is_dropped_or_reset_as_the_balancer_says() -> Result<()> {
    let world = World::new(3)?;
    let cast = Cast::new(&world)?;
    cast.way.lead(Way::new(3, &[]));
    let mut visit = Visit::begin(&world)?;
    visit.talk(100)?;
    // Neither of these has the flow.
    let mut way = Way::new(1, &[2]);
    way.options = OPTION_DROP;
    cast.way.lead(way.clone());
    visit.socket.write_all(b"is anybody there?")?;
    visit.socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let silence = visit.socket.read(&mut [0; 64]).err().map(|error| error.kind());
    assert_eq!(silence, Some(ErrorKind::WouldBlock), "nobody answers");
    assert!(cast.count(2, "drop_nobody")? > 0);
    way.options = 0;
    cast.way.lead(way);
    visit.socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let reset = visit.socket.read(&mut [0; 64]).err().map(|error| error.kind());
    assert_eq!(reset, Some(ErrorKind::ConnectionReset));
    assert!(cast.count(2, "kept_last")? > 0);
    Ok(())
}

#[test]
fn a_segment_of_a_flow_in_time_wait_comes_back_to_who_waits() -> Result<()> {
    let world = World::new(2)?;
    let mut cast = Cast::new(&world)?;
    cast.way.lead(Way::new(2, &[]));
    let mut visit = Visit::begin(&world)?;
    let port = visit.socket.local_addr()?.port();
    visit.socket.write_all(&[FAREWELL])?;
    ensure!(visit.socket.read(&mut [0; 64])? == 0, "the server ends it first");
    drop(visit);
    // Backend 2 waits now; it is asked first, then 1, who has never heard of the flow.
    cast.way.lead(Way::new(2, &[1]));
    world.client().run(|| {
        let raw = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        )?;
        let mut tcp = TcpHeader::new(port, PORT, 1, 1_000);
        (tcp.ack, tcp.acknowledgment_number) = (true, 1);
        tcp.checksum = tcp.calc_checksum_ipv4_raw(CLIENT.octets(), VIP.octets(), &[])?;
        let tcp = tcp.to_bytes();
        let mut ip = Ipv4Header::new(tcp.len() as u16, 64, IpNumber::TCP, CLIENT.octets(), VIP.octets())?;
        ip.header_checksum = ip.calc_header_checksum();
        let packet = [&ip.to_bytes()[..], &tcp].concat();
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(VIP, 0));
        sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        Ok(())
    })?;
    cast.agents[1].wait("the segment is back", |status| {
        status["counters"]["kept_waiting"].as_u64() >= Some(1)
    })?;
    assert!(cast.count(1, "sent_back")? >= 1);
    assert_eq!(cast.count(1, "kept_last")?, 0);
    Ok(())
}

#[test]
fn a_backend_that_nobody_named_is_found_when_a_packet_is_to_go_there() -> Result<()> {
    let world = World::new(2)?;
    let agents = [Agent::start(&world, 1, &[])?, Agent::start(&world, 2, &[])?];
    let _servers = [Server::start(&world, 1)?, Server::start(&world, 2)?];
    let way = Encapsulator::start(&world)?;
    way.lead(Way::new(2, &[]));
    let mut visit = Visit::begin(&world)?;
    way.lead(Way::new(1, &[2]));
    // The first packet is lost, and sent again.
    visit.talk(100_000)?;
    assert!(agents[0].count("drop_no_next_hop")? > 0);
    assert!(agents[0].count("given_on")? > 0);
    Ok(())
}

#[test]
fn a_killed_agent_breaks_nothing_and_the_next_one_adopts_what_it_left() -> Result<()> {
    let world = World::new(2)?;
    let mut cast = Cast::new(&world)?;
    cast.way.lead(Way::new(2, &[]));
    let mut visit = Visit::begin(&world)?;
    cast.way.lead(Way::new(1, &[2]));
    visit.talk(10_000)?;
    let before = cast.count(1, "given_on")?;
    for agent in &mut cast.agents {
        agent.kill()?;
    }
    visit.talk(100_000)?;
    for agent in &mut cast.agents {
        agent.run()?;
    }
    visit.talk(10_000)?;
    assert!(cast.count(1, "given_on")? > before, "the counters go on");
    for agent in &mut cast.agents {
        agent.stop()?;
    }
    visit.talk(10_000)?;
    let said = cast.agents[0].does("detach")?;
    assert!(said.contains("eth0: detached"), "{said}");
    // The kernel takes the program away a moment after the link's last reference.
    let start = Instant::now();
    while world
        .backend(1)?
        .ip(&["link", "show", "dev", "eth0"])?
        .contains("xdp")
    {
        ensure!(
            start.elapsed() < Duration::from_secs(10),
            "the program is still there"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    visit.socket.write_all(b"anybody?")?;
    visit.socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let silence = visit.socket.read(&mut [0; 64]).err().map(|error| error.kind());
    assert_eq!(
        silence,
        Some(ErrorKind::WouldBlock),
        "nobody decapsulates any more"
    );
    Ok(())
}

#[test]
fn prepare_does_what_check_asks_for_and_undo_takes_it_back() -> Result<()> {
    let world = World::new(1)?;
    let host = world.backend(1)?;
    // A host as it was before anybody thought of a VIP.
    host.ip(&["addr", "del", &format!("{VIP}/32"), "dev", "lo"])?;
    for dev in ["all", "eth0"] {
        host.sysctl(&format!("net/ipv4/conf/{dev}/arp_ignore"), "0")?;
        host.sysctl(&format!("net/ipv4/conf/{dev}/arp_announce"), "0")?;
    }
    host.sysctl("net/ipv4/conf/eth0/rp_filter", "1")?;
    host.ip(&["route", "add", "default", "via", "192.0.2.10", "metric", "7"])?;
    let traits = || -> Result<String> {
        Ok([
            host.ip(&["-oneline", "address", "show", "dev", "lo"])?,
            host.ip(&["route", "show"])?,
            host.command(
                "sysctl",
                &["-a", "-r", "net.ipv4.conf.(all|eth0).(arp_|rp_filter)"],
            )?,
        ]
        .concat())
    };
    let before = traits()?;
    let mut agent = Agent::configure(&world, 1, &[])?;
    let output = agent.output("check", &[])?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    for wanted in [
        "ip address add 192.0.2.101/32 dev lo",
        "sysctl net.ipv4.conf.all.arp_ignore=1",
        "sysctl net.ipv4.conf.eth0.arp_announce=2",
        "sysctl net.ipv4.conf.eth0.rp_filter=2",
        "the route to 0.0.0.0/0 announces the interface's MSS",
        "advmss 1416",
        "no XDP program is attached to eth0",
    ] {
        assert!(said.contains(wanted), "{wanted}\n{said}");
    }
    agent.does("prepare")?;
    let prepared = traits()?;
    assert!(
        prepared.contains("default via 192.0.2.10 dev eth0 metric 7 advmss 1416"),
        "{prepared}"
    );
    let output = agent.output("check", &[])?;
    let said = String::from_utf8(output.stdout)?;
    assert!(said.starts_with("no XDP program is attached"), "{said}");
    agent.run()?;
    agent.does("check")?;
    assert!(agent.does("prepare")?.contains("nothing to do"));
    // Another MTU, and back to where it began all the same.
    agent.output("prepare", &["--mtu", "1400"])?;
    assert!(traits()?.contains("advmss 1316"), "{}", traits()?);
    agent.does("undo")?;
    assert_eq!(traits()?, before);
    assert!(agent.does("undo")?.contains("nothing to undo"));
    let json: serde_json::Value = serde_json::from_slice(&agent.output("check", &["--json"])?.stdout)?;
    assert_eq!(json["ready"], false);
    let first = json["problems"][0]["remedy"].as_str().context("a remedy")?;
    assert_eq!(first, "sysctl net.ipv4.conf.all.arp_ignore=1");
    Ok(())
}
