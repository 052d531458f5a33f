//! Backends with agents in a world, servers on them that say who they are, and a balancer made by hand: it puts
//! the client's packets into GUE with the candidates that a test names.
//!
//! The agents are the binary that users get. The balancer is a process's thread with two sockets: what the agents
//! get is a matter of the test, never of steering.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::world::{Backend, LB, VIP, World, backend_address};

mod agent;

pub use agent::{Agent, AgentConfig};

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
