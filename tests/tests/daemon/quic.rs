//! A VIP whose packets follow QUIC's server ids: over another client port, a drain, a removal, and the daemon's
//! death. The packets are QUIC's as far as a balancer looks at them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::{PORT, SERVICE};
use foobar_tests::world::{Backend, VIP, World};
use serde_json::Value;

use crate::story::{PATIENCE, config, of};

const TIMEOUT: Duration = Duration::from_secs(5);
/// T, and with it how long a removed backend is kept after its last packet.
const IDLE: Duration = Duration::from_secs(2);
/// The configuration's number.
const QUIC_CONFIG: u8 = 5;

/// Answers each datagram with the backend's number until the test ends, and takes the checks' connections.
fn answer(world: &World, backend: Backend) -> Result<()> {
    let (socket, listener) = world.backend(backend)?.run(|| {
        let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))?;
        Ok((UdpSocket::bind(SERVICE)?, listener))
    })?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    std::thread::spawn(move || {
        let mut datagram = [0; 128];
        while let Ok((_, from)) = socket.recv_from(&mut datagram) {
            if socket.send_to(&[backend], from).is_err() {
                break;
            }
        }
    });
    Ok(())
}

/// The backend that a datagram from a fresh port reaches.
fn ask(world: &World, datagram: &[u8]) -> Result<Backend> {
    let socket = world
        .client()
        .run(|| Ok(UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?))?;
    socket.connect(SocketAddr::from((VIP, PORT)))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.send(datagram)?;
    let mut answer = [0];
    socket.recv(&mut answer).context("no answer")?;
    Ok(answer[0])
}

fn reached(world: &World, datagram: &[u8]) -> Result<BTreeSet<Backend>> {
    (0..24).map(|_| ask(world, datagram)).collect()
}

fn connection_id(config: u8, server_id: &[u8]) -> Vec<u8> {
    [&[config << 5][..], server_id, &[1, 2, 3, 4]].concat()
}

/// A packet with a short header.
fn short(id: &[u8]) -> Vec<u8> {
    [&[0x40][..], id, &[7; 20]].concat()
}

/// An Initial packet of version 1.
fn initial(id: &[u8]) -> Vec<u8> {
    [&[0xc0, 0, 0, 0, 1, id.len() as u8][..], id, &[7; 40]].concat()
}

/// The connection id that names a backend, by what the daemon says its server id is.
fn names(status: &Value, backend: Backend) -> Result<Vec<u8>> {
    let told = of(status, backend)["server_id"].clone();
    let text = told.as_str().context("the status has no server id")?;
    let bytes: Result<Vec<u8>, _> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16))
        .collect();
    Ok(connection_id(QUIC_CONFIG, &bytes?))
}

/// Writes the configuration, its VIP turned into one of QUIC.
fn configure(balancer: &Balancer<'_>, config: &Config) -> Result<()> {
    balancer.configure(config)?;
    let text = std::fs::read_to_string(balancer.config_file())?;
    let quic = "protocol = \"udp\"\nquic = { server_id_length = 6, config = 5 }";
    let changed = text.replace("protocol = \"tcp\"", quic);
    assert_ne!(text, changed);
    Ok(std::fs::write(balancer.config_file(), changed)?)
}

#[test]
fn connections_stay_with_the_server_that_their_id_names() -> Result<()> {
    let world = World::new(2)?;
    for backend in world.backends() {
        answer(&world, backend)?;
    }
    let mut config = config();
    config.idle_timeout = Some(IDLE);
    let mut balancer = Balancer::prepare(&world, &config)?;
    configure(&balancer, &config)?;
    balancer.run()?;
    let status = balancer.wait("both backends serve", |status| {
        [1, 2].into_iter().all(|backend| {
            of(status, backend)["state"] == "up" && of(status, backend)["slots"].as_u64() > Some(50)
        })
    })?;
    let ids = [names(&status, 1)?, names(&status, 2)?];
    assert_ne!(ids[0], ids[1]);

    for (id, backend) in ids.iter().zip([1, 2]) {
        assert_eq!(reached(&world, &short(id))?, BTreeSet::from([backend]));
        assert_eq!(reached(&world, &initial(id))?, BTreeSet::from([backend]));
    }
    let unrouted = connection_id(7, &ids[1][1..7]);
    assert_eq!(reached(&world, &short(&unrouted))?, BTreeSet::from([1, 2]));

    balancer.drain(2)?;
    assert_eq!(reached(&world, &short(&ids[1]))?, BTreeSet::from([2]));
    let fresh = reached(&world, &initial(&connection_id(QUIC_CONFIG, &[0; 6])))?;
    assert!(fresh.contains(&1), "new flows go to {fresh:?}");
    balancer.kill()?;
    assert_eq!(reached(&world, &short(&ids[1]))?, BTreeSet::from([2]));
    balancer.run()?;
    assert_eq!(reached(&world, &short(&ids[1]))?, BTreeSet::from([2]));
    balancer.undrain(2)?;

    // Removed, it is there as long as packets come for it: also for a daemon that knows its id from the maps alone.
    config.backends.remove(&2);
    configure(&balancer, &config)?;
    balancer.hangup()?;
    balancer.wait("backend 2 is removed", |status| of(status, 2)["removed"] == true)?;
    let begin = Instant::now();
    let mut restarted = false;
    while begin.elapsed() < 5 * IDLE {
        assert_eq!(
            ask(&world, &short(&ids[1]))?,
            2,
            "{:?} after its removal",
            begin.elapsed()
        );
        if !restarted && begin.elapsed() > 3 * IDLE {
            balancer.kill()?;
            balancer.run()?;
            restarted = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = balancer.status()?;
    assert_eq!(of(&status, 2)["removed"], true, "{status}");
    let quiet = Instant::now();
    balancer.wait("backend 2 is gone", |status| of(status, 2).is_null())?;
    assert!(quiet.elapsed() < PATIENCE);
    assert_eq!(reached(&world, &short(&ids[1]))?, BTreeSet::from([1]));
    Ok(())
}
