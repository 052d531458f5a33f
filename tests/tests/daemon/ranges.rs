//! A VIP of a range of ports, whose clients are told apart by their address alone: real connections, over the
//! daemon's death.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use foobar_tests::lb::Balancer;
use foobar_tests::world::{Backend, VIP, World};
use tokio::net::TcpSocket;

use crate::story::{config, of};

const INSIDE: [u16; 3] = [7000, 7003, 7009];
const OUTSIDE: u16 = 7010;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers each byte with the backend's number, until the test ends.
fn answer(world: &World, backend: Backend, port: u16) -> Result<()> {
    let listener = world
        .backend(backend)?
        .run(|| Ok(TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[backend]).is_ok() {}
            });
        }
    });
    Ok(())
}

/// A connection from one of the client's addresses.
fn connect(world: &World, source: Ipv4Addr, port: u16) -> Result<TcpStream> {
    world.client().run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((source, 0)))?;
            let connecting = socket.connect(SocketAddr::from((VIP, port)));
            let stream = tokio::time::timeout(TIMEOUT, connecting).await??.into_std()?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            Ok(stream)
        })
    })
}

/// The backend that a connection leads to.
fn ask(mut stream: &TcpStream) -> Result<Backend> {
    let mut answer = [0];
    stream.write_all(&[1])?;
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// The backend that each source reaches, by whatever port of the range.
fn homes(world: &World, sources: &[Ipv4Addr]) -> Result<Vec<Backend>> {
    let mut homes = Vec::new();
    for &source in sources {
        let mut reached = BTreeSet::new();
        for port in INSIDE {
            let stream = connect(world, source, port).with_context(|| format!("{source} to port {port}"))?;
            reached.insert(ask(&stream)?);
        }
        assert_eq!(reached.len(), 1, "{source} reaches {reached:?}");
        homes.extend(reached);
    }
    Ok(homes)
}

#[test]
fn all_of_a_clients_connections_to_a_range_lead_to_one_backend() -> Result<()> {
    let world = World::new(2)?;
    for backend in world.backends() {
        for port in INSIDE.into_iter().chain([OUTSIDE]) {
            answer(&world, backend, port)?;
        }
    }
    let sources: Vec<Ipv4Addr> = (200..216).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
    for source in &sources {
        world
            .client()
            .ip(&["addr", "add", &format!("{source}/24"), "dev", "eth0"])?;
    }
    let mut config = config();
    config.vip_lines.push("hash = \"source\"");
    config.check_lines.push("port = 7000");
    let mut balancer = Balancer::prepare(&world, &config)?;
    let text = std::fs::read_to_string(balancer.config_file())?;
    let ranged = text.replace("port = 7000\nprotocol", "ports = \"7000-7009\"\nprotocol");
    assert_ne!(text, ranged);
    std::fs::write(balancer.config_file(), ranged)?;
    balancer.run()?;
    let status = balancer.wait("both backends serve", |status| {
        [1, 2].into_iter().all(|backend| {
            of(status, backend)["state"] == "up" && of(status, backend)["slots"].as_u64() > Some(50)
        })
    })?;
    assert_eq!(status["vips"][0]["service"], "192.0.2.101:7000-7009/tcp");
    assert!(balancer.status_text(&[])?.contains("192.0.2.101:7000-7009/tcp"));

    let before = homes(&world, &sources)?;
    assert_eq!(BTreeSet::from_iter(before.clone()), BTreeSet::from([1, 2]));
    let outside = connect(&world, sources[0], OUTSIDE);
    assert!(outside.is_err(), "a port outside of the range is served");

    let held = connect(&world, sources[3], INSIDE[1])?;
    let home = ask(&held)?;
    balancer.kill()?;
    assert_eq!(ask(&held)?, home);
    balancer.run()?;
    assert_eq!(ask(&held)?, home);
    assert_eq!(
        homes(&world, &sources)?,
        before,
        "another daemon steers otherwise"
    );
    let status = balancer.status()?;
    assert_eq!(status["vips"][0]["service"], "192.0.2.101:7000-7009/tcp");
    assert!(
        balancer.log()?.contains("adopted what an earlier daemon left"),
        "the range was not adopted"
    );
    Ok(())
}
