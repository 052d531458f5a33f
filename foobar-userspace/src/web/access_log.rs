//! The access log: one line a request, written by a thread of its own so that no request waits for a disk.
//!
//! Fields, separated by spaces: time (UTC), client, method, path (never the query), protocol, status, bytes
//! of the body, duration in milliseconds, app server or `-`.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode, Version};
use tokio::sync::oneshot;

/// Lines that may wait for the disk; beyond them lines are counted, not written.
const QUEUE: usize = 8192;

/// One request that was answered.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it came.
    pub time: SystemTime,
    /// Who asked.
    pub client: IpAddr,
    /// Its method.
    pub method: Method,
    /// Its path, as it came, without the query.
    pub path: String,
    /// Its protocol.
    pub version: Version,
    /// The answer's status.
    pub status: StatusCode,
    /// Bytes of the answer's body that were handed on.
    pub bytes: u64,
    /// From the request's head to the end of the answer's body.
    pub duration: Duration,
    /// The app server that was asked.
    pub upstream: Option<SocketAddr>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::try_from(self.time) {
            Ok(time) => write!(f, "{time:.3}")?,
            Err(_) => f.write_str("-")?,
        }
        write!(f, " {} {} ", self.client, self.method)?;
        for character in self.path.chars() {
            // Neither a space nor a line's end of a client's making may look like ours.
            if character.is_control() || character.is_whitespace() {
                write!(f, "%{:02X}", u32::from(character))?;
            } else {
                f.write_char(character)?;
            }
        }
        write!(f, " {:?} {} {}", self.version, self.status.as_u16(), self.bytes)?;
        write!(f, " {:.3} ", self.duration.as_secs_f64() * 1000.0)?;
        match self.upstream {
            Some(upstream) => write!(f, "{upstream}"),
            None => f.write_str("-"),
        }
    }
}

enum Message {
    Line(String),
    Flush(oneshot::Sender<()>),
}

/// A handle to the log.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the log for appending; `-` is standard output.
    ///
    /// # Errors
    /// Where the file cannot be opened, or the thread not started.
    pub fn open(path: &Path) -> io::Result<Self> {
        let target: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(path)?)
        };
        let (queue, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&messages, BufWriter::new(target), &counter))?;
        Ok(Self { queue, lost })
    }

    /// Writes a line, soon. Never waits.
    pub fn record(&self, entry: &Entry) {
        match self.queue.try_send(Message::Line(format!("{entry}\n"))) {
            Ok(()) => (),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until all lines so far are written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let queue = self.queue.clone();
        let asked = tokio::task::spawn_blocking(move || queue.send(Message::Flush(done)).is_ok()).await;
        if asked.unwrap_or(false) && written.await.is_err() {
            tracing::warn!("the access log ended before it was written");
        }
    }
}

/// Writes in batches: the buffer goes out whenever nothing waits.
fn write_all(messages: &Receiver<Message>, mut target: BufWriter<Box<dyn Write + Send>>, lost: &AtomicU64) {
    let complain = |result: io::Result<()>| {
        if let Err(error) = result {
            tracing::error!(%error, "the access log cannot be written");
        }
    };
    while let Ok(mut message) = messages.recv() {
        loop {
            match message {
                Message::Line(line) => complain(target.write_all(line.as_bytes())),
                Message::Flush(done) => {
                    complain(target.flush());
                    // Whoever asked may have gone: then nobody waits.
                    let _gone = done.send(());
                }
            }
            message = match messages.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            };
        }
        complain(target.flush());
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            tracing::warn!(missing, "access log lines were lost: the disk is too slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_nine_fields_whatever_the_client_sends() {
        let entry = Entry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            client: "192.0.2.10".parse().expect("an address"),
            method: Method::GET,
            path: "/a b\n\u{85}c".to_owned(),
            version: Version::HTTP_2,
            status: StatusCode::OK,
            bytes: 17,
            duration: Duration::from_micros(1500),
            upstream: Some("198.51.100.31:8000".parse().expect("an address")),
        };
        assert_eq!(
            entry.to_string(),
            "2023-11-14T22:13:20.123Z 192.0.2.10 GET /a%20b%0A%85c HTTP/2.0 200 17 1.500 198.51.100.31:8000"
        );
    }
}
