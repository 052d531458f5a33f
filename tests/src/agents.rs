//! Backends with agents in a world, servers on them that say who they are, and a balancer made by hand: it puts
//! the client's packets into GUE with the candidates that a test names.
//!
//! The agents are the binary that users get. The balancer is a process's thread with two sockets: what the agents
//! get is a matter of the test, never of steering.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde_json::Value;

use crate::artifacts;
use crate::process::Process;
use crate::world::{Backend, LB, VIP, World, backend_address};

/// The servers' port.
pub const PORT: u16 = 7_000;
/// GUE's port.
const GUE: u16 = 6_080;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where packets go: to a backend, with further candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The backend.
    pub to: Backend,
    /// The candidates that are listed.
    pub listed: Vec<Backend>,
    /// `OPTION_*` bits.
    pub options: u8,
}

impl Way {
    /// To a backend with candidates, without options.
    pub fn new(to: Backend, listed: &[Backend]) -> Self {
        Self {
            to,
            listed: listed.to_vec(),
            options: 0,
        }
    }
}

/// Ways of segments that open a connection, and of all others.
#[derive(Clone, Debug, Default)]
struct Ways {
    opening: Way,
    others: Way,
}

/// The balancer made by hand. Dropped, it ends.
#[derive(Debug)]
pub struct Encapsulator {
    ways: Arc<Mutex<Ways>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Encapsulator {
    /// Starts in the balancer's namespace, to which the client's packets for the VIP are led.
    pub fn start(world: &World) -> Result<Self> {
        world.route_vip_via(LB)?;
        let ways = Arc::new(Mutex::new(Ways::default()));
        let ended = Arc::new(AtomicBool::new(false));
        let (packets, tunnel) = world.lb().run(|| {
            let packets = socket(
                AddressFamily::Packet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )?;
            setsockopt(&packets, ReceiveTimeout, &TimeVal::milliseconds(50))?;
            Ok((packets, UdpSocket::bind((LB, 0))?))
        })?;
        let (ways_there, ended_there) = (Arc::clone(&ways), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while !ended_there.load(Ordering::Relaxed) {
                let Ok(length) = recv(packets.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
                    continue;
                };
                let packet = &buffer[..length];
                if packet.len() < 34 || packet[0] >> 4 != 4 || packet[16..20] != VIP.octets() {
                    continue;
                }
                let way = {
                    let ways = ways_there.lock().unwrap_or_else(PoisonError::into_inner);
                    if opens(packet) {
                        ways.opening.clone()
                    } else {
                        ways.others.clone()
                    }
                };
                // As with any packet: what is lost is sent again.
                let _ = tunnel.send_to(&encapsulated(&way, packet), (backend_address(way.to), GUE));
            }
        });
        Ok(Self {
            ways,
            ended,
            thread: Some(thread),
        })
    }

    /// Sends everything one way.
    pub fn lead(&self, way: Way) {
        self.lead_apart(way.clone(), way);
    }

    /// Sends SYNs one way, and everything else another.
    pub fn lead_apart(&self, opening: Way, others: Way) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        *ways = Ways { opening, others };
    }
}

impl Drop for Encapsulator {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no result.
            let _ = thread.join();
        }
    }
}

/// Whether an IPv4 packet is a SYN without ACK.
fn opens(packet: &[u8]) -> bool {
    let header = usize::from(packet[0] & 0x0f) * 4;
    packet[9] == 6 && packet.get(header + 13).is_some_and(|flags| flags & 0x12 == 0x02)
}

/// GUE's header, the candidates and the packet: what the UDP datagram bears.
fn encapsulated(way: &Way, packet: &[u8]) -> Vec<u8> {
    let words = if way.listed.is_empty() {
        0
    } else {
        1 + way.listed.len() as u8
    };
    let mut datagram = vec![words, 4, 0, 0];
    if words != 0 {
        datagram.extend([0xf0, 0xb1, way.listed.len() as u8, way.options]);
        for &candidate in &way.listed {
            datagram.extend(backend_address(candidate).octets());
        }
    }
    datagram.extend(packet);
    datagram
}

/// A server on a backend that says who it is, and then sends back what it gets. Dropped, it ends; its connections
/// end with their clients.
#[derive(Debug)]
pub struct Server {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What ends a connection from the server's side.
pub const FAREWELL: u8 = 0xff;

impl Server {
    /// Listens on the VIP.
    pub fn start(world: &World, backend: Backend) -> Result<Self> {
        let listener = world
            .backend(backend)?
            .run(|| Ok(TcpListener::bind((VIP, PORT))?))?;
        listener.set_nonblocking(true)?;
        let ended = Arc::new(AtomicBool::new(false));
        let ended_there = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !ended_there.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((connection, _)) => {
                        std::thread::spawn(move || serve(connection, backend));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut connection: TcpStream, backend: Backend) {
    let mut talk = || -> std::io::Result<()> {
        connection.set_nonblocking(false)?;
        connection.write_all(&[backend])?;
        let mut buffer = [0; 65_536];
        loop {
            let length = connection.read(&mut buffer)?;
            if length == 0 || buffer[..length].contains(&FAREWELL) {
                return Ok(());
            }
            connection.write_all(&buffer[..length])?;
        }
    };
    // A client that is gone ends it as well.
    let _ = talk();
}

/// A client's connection.
#[derive(Debug)]
pub struct Visit {
    /// The socket.
    pub socket: TcpStream,
    /// Who has answered.
    pub backend: Backend,
}

impl Visit {
    /// Connects, and asks who is there.
    pub fn begin(world: &World) -> Result<Self> {
        let to = SocketAddrV4::new(VIP, PORT);
        let mut socket = world
            .client()
            .run(|| Ok(TcpStream::connect_timeout(&to.into(), DEADLINE)?))
            .context("connect to the VIP")?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_nodelay(true)?;
        let mut name = [0];
        socket.read_exact(&mut name).context("the server's name")?;
        Ok(Self {
            socket,
            backend: name[0],
        })
    }

    /// Sends so many bytes, and gets them back.
    pub fn talk(&mut self, bytes: usize) -> Result<()> {
        let sent: Vec<u8> = (0..bytes).map(|nth| (nth % 251) as u8).collect();
        let mut writer = self.socket.try_clone()?;
        let mut received = vec![0; bytes];
        std::thread::scope(|scope| {
            let write = scope.spawn(|| writer.write_all(&sent));
            self.socket.read_exact(&mut received)?;
            match write.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
        .context("talk to the server")?;
        ensure!(received == sent, "other bytes came back");
        Ok(())
    }
}

/// A backend's agent.
#[derive(Debug)]
pub struct Agent<'a> {
    world: &'a World,
    backend: Backend,
    config: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    _deliver: Ebpf,
}

impl<'a> Agent<'a> {
    /// Writes the agent's configuration; nothing is started. All other backends are its peers, unless they are to
    /// be found.
    pub fn configure(world: &'a World, backend: Backend, peers: &[Backend]) -> Result<Self> {
        let directory = world.directory();
        let file = |what: &str| directory.join(format!("agent{backend}.{what}"));
        let mut toml = format!(
            "interface = \"eth0\"\nvips = [\"{VIP}\"]\ntrusted = [\"{LB}\"]\npin_dir = {:?}\n\
             admin_socket = {:?}\nstate_file = {:?}\n",
            world.bpffs().join(format!("agent{backend}")),
            file("sock"),
            file("json")
        );
        let peers: Vec<String> = peers
            .iter()
            .map(|&peer| format!("\"{}\"", backend_address(peer)))
            .collect();
        writeln!(toml, "peers = [{}]", peers.join(", "))?;
        fs::write(file("toml"), toml)?;
        Ok(Self {
            world,
            backend,
            config: file("toml"),
            socket: file("sock"),
            log: file("log"),
            process: None,
            _deliver: world.deliver_xdp_of(backend)?,
        })
    }

    /// Prepares the backend and starts the agent.
    pub fn start(world: &'a World, backend: Backend, peers: &[Backend]) -> Result<Self> {
        let mut agent = Self::configure(world, backend, peers)?;
        agent.does("prepare")?;
        agent.run()?;
        agent.wait("the ways to all peers", |status| {
            let backends = status["backends"].as_array();
            backends.is_some_and(|list| list.iter().all(|backend| backend["mac"].is_string()))
        })?;
        Ok(agent)
    }

    /// Starts the agent, which must not be running, and waits until it answers.
    pub fn run(&mut self) -> Result<()> {
        let mut command = Command::new(artifacts::binary()?);
        command.args(["agent", "run", "--config"]).arg(&self.config);
        let host = self.world.backend(self.backend)?;
        self.process = Some(Process::start(host, &mut command, &self.log)?);
        self.wait("the agent answers", |_| true)
    }

    /// Kills the agent (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the agent is not running")?.kill()
    }

    /// Ends the agent in an orderly way (SIGTERM).
    pub fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the agent is not running")?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(DEADLINE)?;
        ensure!(
            status.success(),
            "the agent ended with {status}\n{}",
            process.tail()
        );
        Ok(())
    }

    /// Runs `foobar agent VERB` on the backend: its output and exit code.
    pub fn output(&self, verb: &str, options: &[&str]) -> Result<Output> {
        let mut command = Command::new(artifacts::binary()?);
        command
            .args(["agent", verb])
            .args(options)
            .arg("--config")
            .arg(&self.config);
        self.world
            .backend(self.backend)?
            .run(|| command.output().with_context(|| format!("start {command:?}")))
    }

    /// Runs `foobar agent VERB` on the backend, which must succeed: what it says.
    pub fn does(&self, verb: &str) -> Result<String> {
        let output = self.output(verb, &[])?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "agent {verb}: {}\n{said}", output.status);
        Ok(said)
    }

    /// What `foobar agent status --json` says.
    pub fn status(&self) -> Result<Value> {
        let output = Command::new(artifacts::binary()?)
            .args(["agent", "status", "--json", "--socket"])
            .arg(&self.socket)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A counter.
    pub fn count(&self, counter: &str) -> Result<u64> {
        self.status()?["counters"][counter]
            .as_u64()
            .with_context(|| format!("there is no counter {counter}"))
    }

    /// Waits for a status.
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let status = self.status();
            if status.as_ref().is_ok_and(&is_so) {
                return Ok(());
            }
            if let Some(process) = &mut self.process
                && let Some(ended) = process.ended()?
            {
                bail!("{what}: the agent has ended, {ended}\n{}", process.tail());
            }
            ensure!(
                start.elapsed() < DEADLINE,
                "not within {DEADLINE:?}: {what}\n{status:?}\n{}",
                self.process.as_ref().map(Process::tail).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
