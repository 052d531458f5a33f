//! UDP echo: a datagram every millisecond, and who answered it. The longest time without an answer is the outage that
//! anybody could have seen.
//!
//! The datagrams are of several flows that take turns. What decides is when a datagram was *sent*: a reader that a busy
//! machine lets wait does not make an outage. Nothing is sent again, so every lost packet counts.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use crate::netns::Namespace;
use crate::world::Backend;

/// Between two datagrams.
pub const EVERY: Duration = Duration::from_millis(1);
/// Flows that take turns.
const FLOWS: usize = 16;
/// How long the last answers may take.
const LAST: Duration = Duration::from_millis(500);
/// Room for what arrives while a thread waits for its turn.
const BUFFER: usize = 4 << 20;
/// A sequence number, and the answering backend.
const LENGTH: usize = 9;

/// A thread that runs until it is told to stop, or dropped.
#[derive(Debug)]
struct Worker<T> {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(name: &str, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopped);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&told))?;
        Ok(Self {
            stopped,
            thread: Some(thread),
        })
    }

    fn end(&mut self) -> Option<T> {
        self.stopped.store(true, Ordering::Relaxed);
        // Its panic was printed already.
        self.thread.take()?.join().ok()
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // As above.
            let _ = thread.join();
        }
    }
}

/// Answers datagrams until it is dropped.
#[derive(Debug)]
pub struct Echo(#[expect(dead_code, reason = "dropped, it ends the thread")] Worker<()>);

impl Echo {
    /// Answers what comes to an address of a host, as this backend.
    ///
    /// # Errors
    /// Where the address can't be used.
    pub fn start(host: &Namespace, backend: Backend, on: SocketAddr) -> Result<Self> {
        let socket = host
            .run(|| open(on))
            .with_context(|| format!("UDP echo of b{backend} on {on}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Self(Worker::start("echo", move |stopped| {
            let mut datagram = [0; LENGTH];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((LENGTH, from)) = socket.recv_from(&mut datagram) {
                    datagram[LENGTH - 1] = backend;
                    // As with any datagram: it may be lost.
                    let _ = socket.send_to(&datagram, from);
                }
            }
        })?))
    }
}

/// A datagram that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When, since the origin.
    pub at: Duration,
    /// Who answered.
    pub by: Option<Backend>,
}

/// Datagrams, by their sequence number.
#[derive(Clone, Debug, Default)]
pub struct Echoes(pub Vec<Sent>);

/// A client that sends a datagram every [`EVERY`].
#[derive(Debug)]
pub struct Probe(Worker<io::Result<Echoes>>);

impl Probe {
    /// Starts to send; times count from `origin`.
    ///
    /// # Errors
    /// Where no socket can be opened.
    pub fn start(client: &Namespace, to: SocketAddr, origin: Instant) -> Result<Self> {
        let from: SocketAddr = if to.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        let sockets: Vec<UdpSocket> = client.run(|| {
            (0..FLOWS)
                .map(|_| {
                    let socket = open(from)?;
                    socket.connect(to)?;
                    socket.set_nonblocking(true)?;
                    Ok(socket)
                })
                .collect()
        })?;
        Ok(Self(Worker::start("probe", move |stopped| {
            probe(&sockets, origin, stopped)
        })?))
    }

    /// Ends it, and says what became of each datagram.
    ///
    /// # Errors
    /// The socket's.
    pub fn stop(mut self) -> Result<Echoes> {
        let echoes = self.0.end().ok_or_else(|| anyhow!("the UDP probe panicked"))?;
        echoes.context("the UDP probe")
    }
}

fn open(on: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(on)?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    Ok(socket)
}

fn probe(sockets: &[UdpSocket], origin: Instant, stopped: &AtomicBool) -> io::Result<Echoes> {
    let mut sent: Vec<Sent> = Vec::new();
    let mut due = Instant::now();
    while !stopped.load(Ordering::Relaxed) {
        let mut datagram = [0; LENGTH];
        datagram[..8].copy_from_slice(&(sent.len() as u64).to_be_bytes());
        let at = origin.elapsed();
        // What can't be sent (no MAC address is known, say) is lost.
        let _ = sockets[sent.len() % FLOWS].send(&datagram);
        sent.push(Sent { at, by: None });
        receive(sockets, &mut sent)?;
        // What a busy machine has made late is not made up for.
        due = Instant::now().max(due + EVERY);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let end = Instant::now() + LAST;
    while Instant::now() < end && sent.iter().rev().take(1000).any(|sent| sent.by.is_none()) {
        std::thread::sleep(Duration::from_millis(10));
        receive(sockets, &mut sent)?;
    }
    Ok(Echoes(sent))
}

/// Takes all answers that are there.
fn receive(sockets: &[UdpSocket], sent: &mut [Sent]) -> io::Result<()> {
    for socket in sockets {
        let mut datagram = [0; LENGTH];
        loop {
            match socket.recv(&mut datagram) {
                Ok(LENGTH) => {
                    let number = u64::from_be_bytes(std::array::from_fn(|i| datagram[i]));
                    if let Some(sent) = usize::try_from(number).ok().and_then(|n| sent.get_mut(n)) {
                        sent.by = Some(datagram[LENGTH - 1]);
                    }
                }
                Ok(_) => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error that has come for an earlier datagram, which is lost.
                Err(error)
                    if [
                        io::ErrorKind::ConnectionRefused,
                        io::ErrorKind::HostUnreachable,
                        io::ErrorKind::NetworkUnreachable,
                    ]
                    .contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Datagrams in succession that nobody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the last one before them was sent that was answered.
    pub from: Duration,
    /// When the first of them was sent.
    pub first: Duration,
    /// From [`Self::from`] to when the next one was sent that was answered.
    pub length: Duration,
    /// How many were lost.
    pub lost: u64,
}

impl Echoes {
    /// All gaps, in their order.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let (mut from, mut first, mut lost) = (Duration::ZERO, Duration::ZERO, 0);
        for sent in &self.0 {
            if sent.by.is_none() {
                if lost == 0 {
                    first = sent.at;
                }
                lost += 1;
                continue;
            }
            if lost > 0 {
                let length = sent.at.saturating_sub(from);
                gaps.push(Gap {
                    from,
                    first,
                    length,
                    lost,
                });
            }
            (from, lost) = (sent.at, 0);
        }
        if let Some(last) = self.0.last().filter(|_| lost > 0) {
            let length = last.at.saturating_sub(from);
            gaps.push(Gap {
                from,
                first,
                length,
                lost,
            });
        }
        gaps
    }

    /// How often a flow was answered by another backend than before.
    pub fn moves(&self) -> u64 {
        let mut moves = 0;
        for flow in 0..FLOWS {
            let by: Vec<Backend> = self
                .0
                .iter()
                .skip(flow)
                .step_by(FLOWS)
                .filter_map(|sent| sent.by)
                .collect();
            moves += by.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echoes(answered: &[bool]) -> Echoes {
        let sent = answered.iter().enumerate().map(|(number, &answered)| Sent {
            at: EVERY * (number as u32 + 1),
            by: answered.then_some(1),
        });
        Echoes(sent.collect())
    }

    #[test]
    fn a_gap_is_from_the_last_answered_to_the_next_answered() {
        assert_eq!(echoes(&[true, true, true]).gaps(), []);
        let gap = |from, length, lost| Gap {
            from: EVERY * from,
            first: EVERY * (from + 1),
            length: EVERY * length,
            lost,
        };
        assert_eq!(
            echoes(&[true, false, false, true, true, false]).gaps(),
            [gap(1, 3, 2), gap(5, 1, 1)]
        );
    }

    #[test]
    fn a_flow_that_changes_its_backend_has_moved() {
        let mut echoes = echoes(&[true; FLOWS * 3]);
        assert_eq!(echoes.moves(), 0);
        echoes.0[FLOWS + 2].by = Some(2);
        assert_eq!(echoes.moves(), 2);
    }
}
