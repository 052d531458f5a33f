//! One check: connect to the VIP with the target's mark, ask, judge the answer. It keeps no state.
//!
//! The mark is what leads the connection to one backend; whoever calls it sees to that. Connections are
//! closed with RST (a linger time of zero), so that checks leave no TIME_WAIT behind.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::http;
use super::machine::{Contact, Verdict};
use crate::config::{Check, Probe, format_duration};

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No TCP answer within the check's timeout.
    #[error("no answer within {}", format_duration(*.0))]
    NoAnswer(Duration),
    /// The kernel says that the host or its network cannot be reached.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The connection was refused.
    #[error("connection refused")]
    Refused,
    /// The connection was reset while it was being opened.
    #[error("connection reset")]
    Reset,
    /// Connected, but the rest took too long.
    #[error("connected, but no complete answer within {}", format_duration(*.0))]
    Late(Duration),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// What came back is no HTTP response.
    #[error("HTTP: {0}")]
    Http(String),
    /// Another status than the expected one.
    #[error("status {found}, expected {expected}")]
    Status {
        /// The status that came.
        found: u16,
        /// The status that passes.
        expected: u16,
    },
}

impl Failure {
    /// Whether anything at all was heard from the host.
    #[must_use]
    pub fn contact(&self) -> Contact {
        match self {
            Self::NoAnswer(_) | Self::Unreachable(_) => Contact::Silent,
            Self::Refused
            | Self::Reset
            | Self::Late(_)
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Status { .. } => Contact::Answered,
        }
    }
}

/// The result of one check, and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Passed, or why not.
    pub result: Result<(), Failure>,
    /// From before the connect to the judgement.
    pub latency: Duration,
}

impl Outcome {
    /// What the state machine takes.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.result {
            Ok(()) => Verdict::Passed,
            Err(failure) => Verdict::Failed(failure.contact()),
        }
    }
}

/// Checks a target once: `vip` is the VIP's address with the check's port, `mark` the target's SO_MARK
/// (0: none is set; any other needs CAP_NET_ADMIN).
///
/// # Errors
/// Where this host could not check at all (no privilege, no descriptors, no ports): that says nothing about
/// the target and must not count as its failure.
pub async fn probe(vip: SocketAddr, mark: u32, check: &Check) -> io::Result<Outcome> {
    let start = Instant::now();
    let deadline = start + check.timing.timeout;
    let result = match timeout_at(deadline, connect(vip, mark)).await {
        Err(_elapsed) => Err(Failure::NoAnswer(check.timing.timeout)),
        Ok(Err(error)) => Err(refusal(error)?),
        Ok(Ok(stream)) => match timeout_at(deadline, ask(stream, vip, &check.probe)).await {
            Err(_elapsed) => Err(Failure::Late(check.timing.timeout)),
            Ok(answer) => answer,
        },
    };
    Ok(Outcome {
        result,
        latency: start.elapsed(),
    })
}

async fn connect(vip: SocketAddr, mark: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(vip), Type::STREAM, Some(Protocol::TCP))?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    TcpSocket::from_std_stream(socket.into()).connect(vip).await
}

async fn ask(stream: TcpStream, vip: SocketAddr, probe: &Probe) -> Result<(), Failure> {
    match probe {
        Probe::Tcp => Ok(()),
        Probe::Http(request) => http::ask(stream, vip, request).await,
        Probe::Https(request) => {
            let stream = http::handshake(stream, vip, request).await?;
            http::ask(stream, vip, request).await
        }
    }
}

/// What a failed connect says about the target; an error of this host's own is passed on.
fn refusal(error: io::Error) -> io::Result<Failure> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Ok(Failure::Refused),
        io::ErrorKind::ConnectionReset => Ok(Failure::Reset),
        io::ErrorKind::TimedOut => Ok(Failure::Unreachable("the connection timed out".into())),
        io::ErrorKind::HostUnreachable => Ok(Failure::Unreachable("no route to the host".into())),
        io::ErrorKind::NetworkUnreachable => Ok(Failure::Unreachable("no route to the network".into())),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests;
