//! `up --publish`: the site on this machine's own loopback, by a small relay into the client's namespace.
//!
//! The listener is made in the machine's network, then the process moves into the namespace: sockets stay
//! where they were made, so that what it opens from then on is a client's connection to the VIP.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use std::{env, io};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use super::processes::{self, Process};
use super::state::State;
use super::topology::{Host, VIPS};
use super::{network, readiness};

const ROLE: &str = "relay";
/// A browser opens a handful; this is a window for one person, not a service.
const MAX_CONNECTIONS: usize = 128;
const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(300);

/// What the hidden command `relay` is given.
#[derive(Debug, clap::Args)]
pub(crate) struct RelayArgs {
    /// Where to listen, in this machine's network
    #[arg(long)]
    listen: SocketAddr,
    /// The namespace to connect from
    #[arg(long)]
    namespace: PathBuf,
    /// Where to connect to
    #[arg(long)]
    to: SocketAddr,
}

/// The lab is a toy with known secrets: it is never opened to a network.
pub(crate) fn check(address: SocketAddr) -> Result<()> {
    ensure!(
        address.ip().is_loopback(),
        "--publish takes a loopback address, such as 127.0.0.1:8443"
    );
    Ok(())
}

/// Opens the site at an address, in place of where it was open before.
pub(crate) fn open(state: &mut State, address: SocketAddr) -> Result<()> {
    let is_relay = |process: &Process| process.role == ROLE;
    if state.published == Some(address) && state.processes.iter().any(|p| is_relay(p) && p.is_alive()) {
        return Ok(());
    }
    let old: Vec<_> = state
        .processes
        .iter()
        .filter(|process| is_relay(process))
        .cloned()
        .collect();
    processes::stop(&old, Duration::from_secs(2));
    state.processes.retain(|process| !is_relay(process));
    let log = state.run.directory().join("logs/relay.log");
    let mut command = Command::new(env::current_exe()?);
    command.args(["relay", "--listen", &address.to_string(), "--namespace"]);
    command.arg(network::path(&state.run.namespace(Host::Client)));
    command.args(["--to", &SocketAddr::new(VIPS[0].address.into(), 443).to_string()]);
    let relay = Process::start("localhost", ROLE, &command, &log)?;
    state.processes.push(relay.clone());
    state.published = Some(address);
    state.save()?;
    let question = || Ok(TcpStream::connect_timeout(&address, CONNECT).map(drop)?);
    let gone = || (!relay.is_alive()).then(|| relay.log_tail(5));
    readiness::wait_until(question, gone).with_context(|| format!("the site is not open at {address}"))?;
    Ok(())
}

/// Relays until it is stopped.
pub(crate) fn relay(args: &RelayArgs) -> Result<()> {
    check(args.listen)?;
    let listener =
        TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    let namespace =
        File::open(&args.namespace).with_context(|| format!("cannot open {}", args.namespace.display()))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the client's namespace")?;
    let open = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        let client = match client {
            Ok(client) => client,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => bail!("cannot accept: {error}"),
        };
        let place = Place::take(&open);
        let to = args.to;
        let Some(place) = place else {
            eprintln!("refused a connection: {MAX_CONNECTIONS} are open");
            continue;
        };
        thread::spawn(move || {
            if let Err(error) = carry(&client, to) {
                eprintln!("{error}");
            }
            drop(place);
        });
    }
    Ok(())
}

/// One of the connections that may be open together.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(open));
        (open.fetch_add(1, Ordering::Relaxed) < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn carry(client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&to, CONNECT)?;
    for side in [client, &server] {
        side.set_read_timeout(Some(IDLE))?;
        side.set_nodelay(true)?;
    }
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server));
        copy(&server, client);
    });
    Ok(())
}

/// Copies one direction; its end is passed on, and an idle or broken one ends both.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) if to.write_all(&buffer[..length]).is_ok() => {}
            _ => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
