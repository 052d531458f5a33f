//! A connection to BIRD's control socket: one question at a time, and its answer. It waits as long as it takes.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::reply::{Nonsense, Reader, Reply};

/// What it says first: `BIRD 2.0.12 ready.`
const GREETING: u16 = 1;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// The socket fails.
    #[error("BIRD's control socket: {0}")]
    Socket(#[from] io::Error),
    /// It says what BIRD would not.
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Control {
    lines: BufReader<OwnedReadHalf>,
    requests: OwnedWriteHalf,
    /// BIRD's version, `2.0.12`.
    pub(super) version: String,
}

impl Control {
    /// Connects, and hears the greeting.
    ///
    /// # Errors
    /// Nobody listens, or it is not BIRD.
    pub(super) async fn connect(socket: &Path) -> Result<Self, ControlError> {
        let (read, requests) = UnixStream::connect(socket).await?.into_split();
        let mut control = Self {
            lines: BufReader::new(read),
            requests,
            version: String::new(),
        };
        let greeting = control.reply().await?;
        if greeting.code != GREETING {
            return Err(io::Error::other(format!("greeted with {:?}", greeting.last())).into());
        }
        let words = greeting.last().split_whitespace();
        words
            .skip(1)
            .take(1)
            .for_each(|version| control.version.push_str(version));
        Ok(control)
    }

    /// Asks, in one line, and waits for the answer.
    ///
    /// # Errors
    /// There is none. The connection is of no use any more then.
    pub(super) async fn ask(&mut self, request: &str) -> Result<Reply, ControlError> {
        self.requests.write_all(format!("{request}\n").as_bytes()).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, ControlError> {
        let mut reader = Reader::default();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if let Some(reply) = reader.line(line.trim_end_matches('\n'))? {
                return Ok(reply);
            }
        }
    }
}
