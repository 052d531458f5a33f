//! The kernel's socket table as the judge: real sockets in a network namespace of the test's own, packets as they
//! would come in a tunnel. The program runs in the namespace of the thread that runs it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber, TcpHeader, icmpv4::DestUnreachableHeader};
use foobar_common::agent::AgentCounter::{DecapsulatedGue, GivenOn, KeptCookie, KeptOwned, KeptWaiting};
use foobar_tests::netns::run_command;
use foobar_tests::packets::endpoint::{Endpoint, address, candidates, in_gue, taken_out};
use foobar_tests::packets::frame::{CLIENT, Flow, IP, VIP, ipv4};
use foobar_tests::packets::frame_v6::{CLIENT6, Flow6, VIP6, ipv6};
use foobar_tests::packets::rig::TCP;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto, socket,
};

const PORT: u16 = 80;
/// A client that never answers.
const SILENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 78);
const DEADLINE: Duration = Duration::from_secs(10);

fn ip(arguments: &str) -> Result<()> {
    run_command(Command::new("ip").args(arguments.split(' ')))?;
    Ok(())
}

/// Moves the test's thread to a network namespace without a name, in which both VIPs and both clients are local.
fn backend() -> Result<Endpoint> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    ip("link set lo up")?;
    for v4 in [VIP, CLIENT] {
        ip(&format!("addr add {v4}/32 dev lo"))?;
    }
    for v6 in [VIP6, CLIENT6] {
        ip(&format!("addr add {v6}/128 dev lo nodad"))?;
    }
    ip("link add out type veth peer name nobody")?;
    ip("link set out up")?;
    ip("link set nobody up")?;
    ip(&format!("route add {SILENT}/32 dev out"))?;
    ip(&format!("neigh add {SILENT} lladdr 02:00:00:00:00:78 dev out"))?;
    Endpoint::new()
}

/// A connection of a client to a listener: the server's end, the client's end.
fn connection(listener: &TcpListener, vip: IpAddr) -> Result<(TcpStream, TcpStream)> {
    let client: IpAddr = if vip.is_ipv4() {
        CLIENT.into()
    } else {
        CLIENT6.into()
    };
    let socket = connect_from(SocketAddr::new(client, 0), SocketAddr::new(vip, PORT))?;
    let (server, _) = listener.accept()?;
    Ok((server, socket))
}

/// Connects from an address of one's choice.
fn connect_from(from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    use nix::sys::socket::{SockaddrStorage, bind, connect};
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(socket))
}

/// An ACK from a client's port to the VIP of its family.
fn ack(client: SocketAddr) -> Vec<u8> {
    match client.ip() {
        IpAddr::V4(address) => Flow::new(client.port(), PORT).from(address).ack()[IP..].to_vec(),
        IpAddr::V6(address) => {
            let flow = Flow6 {
                client: address,
                client_port: client.port(),
                vip: VIP6,
                port: PORT,
            };
            let segment = flow.tcp(b"", |tcp| tcp.ack = true);
            ipv6(TCP, address, VIP6, &segment, |_| ())[IP..].to_vec()
        }
    }
}

/// The packet in GUE with one candidate, `next` of which have had their turn.
fn outcome(
    endpoint: &mut Endpoint,
    next: u8,
    options: u8,
    packet: &[u8],
) -> foobar_tests::packets::endpoint::Outcome {
    let private = candidates(next, &[address(2, true)], options);
    endpoint.send_outer(&in_gue(true, &private, packet))
}

#[track_caller]
fn is_own(endpoint: &mut Endpoint, packet: &[u8]) {
    for next in [0, 1] {
        outcome(endpoint, next, 0, packet).passed(&taken_out(packet, &[]), &[KeptOwned, DecapsulatedGue]);
    }
}

#[track_caller]
fn is_foreign(endpoint: &mut Endpoint, packet: &[u8]) {
    let outcome = outcome(endpoint, 0, 0, packet);
    assert_eq!(outcome.counters, [("given_on", 1)]);
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn an_established_flow_is_own_and_another_is_not() -> Result<()> {
    let mut endpoint = backend()?;
    let one_family = TcpListener::bind((VIP, PORT))?;
    for (listener, vip) in [
        (one_family, IpAddr::from(VIP)),
        (TcpListener::bind((VIP6, PORT))?, IpAddr::from(VIP6)),
    ] {
        let (_server, client) = connection(&listener, vip)?;
        let mut from = client.local_addr()?;
        is_own(&mut endpoint, &ack(from));
        from.set_port(from.port() ^ 1);
        is_foreign(&mut endpoint, &ack(from));
    }
    Ok(())
}

#[test]
fn a_listener_of_both_families_owns_what_is_connected_to_it() -> Result<()> {
    let mut endpoint = backend()?;
    let listener = TcpListener::bind(("::", PORT))?;
    let (_server, client) = connection(&listener, VIP.into())?;
    is_own(&mut endpoint, &ack(client.local_addr()?));
    is_foreign(&mut endpoint, &ack((CLIENT, 9).into()));
    Ok(())
}

#[test]
fn a_handshake_that_is_not_complete_is_own() -> Result<()> {
    let mut endpoint = backend()?;
    let _listener = TcpListener::bind((VIP, PORT))?;
    let flow = Flow::new(50_123, PORT).from(SILENT);
    is_foreign(&mut endpoint, &flow.ack()[IP..]);
    send_raw(&flow.syn()[IP..])?;
    until("a request socket", || {
        let outcome = outcome(&mut endpoint, 0, 0, &flow.ack()[IP..]);
        Ok(outcome.counters.contains(&("kept_owned", 1)))
    })
}

#[test]
fn an_icmp_error_is_the_quoted_flows() -> Result<()> {
    let mut endpoint = backend()?;
    let listener = TcpListener::bind((VIP, PORT))?;
    let (_server, client) = connection(&listener, VIP.into())?;
    let port = client.local_addr()?.port();
    let error = |client_port| {
        let answer = Flow {
            client: VIP,
            client_port: PORT,
            vip: CLIENT,
            port: client_port,
        };
        let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
            next_hop_mtu: 1400,
        });
        let quoted = &answer.data()[IP..IP + 28];
        let message = [&Icmpv4Header::with_checksum(kind, quoted).to_bytes()[..], quoted].concat();
        ipv4(IpNumber::ICMP, [203, 0, 113, 9].into(), VIP, &message, |_| ())[IP..].to_vec()
    };
    is_own(&mut endpoint, &error(port));
    is_foreign(&mut endpoint, &error(port ^ 1));
    Ok(())
}

#[test]
fn a_flow_in_time_wait_is_own_only_if_nobody_else_owns_it() -> Result<()> {
    let mut endpoint = backend()?;
    let listener = TcpListener::bind((VIP, PORT))?;
    let (server, mut client) = connection(&listener, VIP.into())?;
    let from = client.local_addr()?;
    drop(server);
    client.read_to_end(&mut Vec::new())?;
    drop(client);
    let packet = ack(from);
    until("TIME_WAIT", || {
        let outcome = outcome(&mut endpoint, 1, 0, &packet);
        Ok(outcome.counters.contains(&("kept_waiting", 1)))
    })?;
    // To the other one, with a mark: the second byte of the list's head, behind Ethernet, IP, UDP and GUE.
    let sent = outcome(&mut endpoint, 0, 0, &packet);
    assert_eq!(sent.counters, [(GivenOn.name(), 1)]);
    assert_eq!(sent.verdict.frame[14 + 20 + 8 + 4 + 2..][..2], [0x11, 0b010]);
    // Back from there, it stays.
    let back = candidates(1, &[address(2, true)], 0b1010);
    endpoint
        .send_outer(&in_gue(true, &back, &packet))
        .passed(&taken_out(&packet, &[]), &[KeptWaiting, DecapsulatedGue]);
    Ok(())
}

/// Sends a whole IP packet, as it is.
fn send_raw(packet: &[u8]) -> Result<()> {
    if packet[0] >> 4 == 4 {
        let raw = raw(AddressFamily::Inet, SockProtocol::Raw)?;
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(VIP, 0));
        sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty())?;
    } else {
        let raw = raw(AddressFamily::Inet6, SockProtocol::Raw)?;
        let to = SockaddrIn6::from(std::net::SocketAddrV6::new(VIP6, 0, 0, 0));
        sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty())?;
    }
    Ok(())
}

fn raw(family: AddressFamily, protocol: SockProtocol) -> Result<OwnedFd> {
    socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        protocol,
    )
    .context("make a raw socket")
}

/// Sends a SYN and gives back the sequence number of the SYN-ACK.
fn answered(family: AddressFamily, syn: &[u8], client_port: u16) -> Result<u32> {
    let listening = raw(family, SockProtocol::Tcp)?;
    send_raw(syn)?;
    let start = Instant::now();
    let mut buffer = [0; 2048];
    while start.elapsed() < DEADLINE {
        let Ok(length) = recv(listening.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        // A raw IPv4 socket gives the IP header as well.
        let header = if family == AddressFamily::Inet {
            usize::from(buffer[0] & 0x0f) * 4
        } else {
            0
        };
        let (tcp, _) = TcpHeader::from_slice(&buffer[header..length])?;
        if tcp.syn && tcp.ack && tcp.destination_port == client_port {
            return Ok(tcp.sequence_number);
        }
    }
    bail!("no SYN-ACK within {DEADLINE:?}")
}

#[test]
fn an_ack_that_bears_a_syn_cookie_is_own() -> Result<()> {
    let mut endpoint = backend()?;
    // Always, not only under a flood: there is no request socket then.
    std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2")?;
    let _listeners = [TcpListener::bind((VIP, PORT))?, TcpListener::bind((VIP6, PORT))?];
    let flow = Flow::new(50_321, PORT);
    let flow6 = Flow6 {
        client: CLIENT6,
        client_port: 50_322,
        vip: VIP6,
        port: PORT,
    };
    let cookie = answered(AddressFamily::Inet, &flow.syn()[IP..], flow.client_port)?;
    // The SYN's number is that of every segment of these flows; the ACK's is one more.
    let ack = |number: u32| {
        flow.segment(b"data", |tcp, _| {
            tcp.ack = true;
            tcp.sequence_number = tcp.sequence_number.wrapping_add(1);
            tcp.acknowledgment_number = number;
        })[IP..]
            .to_vec()
    };
    let good = ack(cookie.wrapping_add(1));
    for next in [0, 1] {
        outcome(&mut endpoint, next, 0, &good).passed(&taken_out(&good, &[]), &[KeptCookie, DecapsulatedGue]);
    }
    is_foreign(&mut endpoint, &ack(cookie.wrapping_add(0x0100_0001)));

    let segment = |number: u32, ack: bool| {
        flow6.tcp(b"", |tcp| {
            if ack {
                tcp.ack = true;
                tcp.sequence_number = tcp.sequence_number.wrapping_add(1);
                tcp.acknowledgment_number = number;
            } else {
                tcp.syn = true;
            }
        })
    };
    let packet = |segment: Vec<u8>| ipv6(TCP, CLIENT6, VIP6, &segment, |_| ())[IP..].to_vec();
    let cookie = answered(
        AddressFamily::Inet6,
        &packet(segment(0, false)),
        flow6.client_port,
    )?;
    let good = packet(segment(cookie.wrapping_add(1), true));
    for next in [0, 1] {
        outcome(&mut endpoint, next, 0, &good).passed(&taken_out(&good, &[]), &[KeptCookie, DecapsulatedGue]);
    }
    is_foreign(
        &mut endpoint,
        &packet(segment(cookie.wrapping_add(0x0100_0001), true)),
    );
    Ok(())
}

#[test]
fn sockets_of_another_namespace_do_not_count() -> Result<()> {
    let mut endpoint = backend()?;
    let listener = TcpListener::bind((VIP, PORT))?;
    let (mut server, client) = connection(&listener, VIP.into())?;
    server.write_all(b"x")?;
    let packet = ack(client.local_addr()?);
    is_own(&mut endpoint, &packet);
    unshare(CloneFlags::CLONE_NEWNET)?;
    is_foreign(&mut endpoint, &packet);
    Ok(())
}
