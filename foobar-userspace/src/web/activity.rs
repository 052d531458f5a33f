//! Whether a connection is still good for something: bytes that move, requests that run.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long a connection without a request may be quiet once the server drains.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// What one connection does, seen from all of its tasks.
#[derive(Debug)]
pub struct Activity {
    born: Instant,
    moved_ms: AtomicU64,
    requested_ms: AtomicU64,
    running: AtomicUsize,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Keep,
    /// Tell the client that no more requests are taken, then close.
    Finish,
    /// Close now.
    Cut,
}

/// Whether the server goes on, or is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It goes on.
    Serving,
    /// This connection was told to finish.
    Finishing,
}

impl Activity {
    /// Of a connection that begins now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            moved_ms: AtomicU64::new(0),
            requested_ms: AtomicU64::new(0),
            running: AtomicUsize::new(0),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts a request until the returned value is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(Arc::clone(self))
    }

    /// Judges the connection: `idle` is how long it may be without a request, or with one that doesn't move.
    #[must_use]
    pub fn verdict(&self, mode: Mode, idle: Duration) -> Verdict {
        let now = self.now_ms();
        let since =
            |then: &AtomicU64| Duration::from_millis(now.saturating_sub(then.load(Ordering::Relaxed)));
        let (still, unasked) = (since(&self.moved_ms), since(&self.requested_ms));
        match (mode, self.running.load(Ordering::Acquire)) {
            (Mode::Serving, 0) if unasked >= idle => Verdict::Finish,
            (Mode::Finishing, 0) if still >= DRAIN_GRACE => Verdict::Cut,
            (_, running) if running > 0 && still >= idle => Verdict::Cut,
            _ => Verdict::Keep,
        }
    }
}

/// A request that runs.
#[derive(Debug)]
pub struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.requested_ms.store(self.0.now_ms(), Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream whose moving bytes are noted.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    /// Notes the stream's movements in `activity`.
    pub fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn note<T>(&self, result: Poll<T>) -> Poll<T> {
        if result.is_ready() {
            self.activity
                .moved_ms
                .store(self.activity.now_ms(), Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.note(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_judged_by_requests_first_and_bytes_second() {
        let activity = Activity::new();
        let (long, none) = (Duration::from_secs(3600), Duration::ZERO);
        assert_eq!(activity.verdict(Mode::Serving, long), Verdict::Keep);
        assert_eq!(activity.verdict(Mode::Serving, none), Verdict::Finish);
        let running = activity.begin();
        assert_eq!(
            activity.verdict(Mode::Finishing, long),
            Verdict::Keep,
            "a request runs"
        );
        assert_eq!(
            activity.verdict(Mode::Serving, none),
            Verdict::Cut,
            "a request that does not move"
        );
        drop(running);
        assert_eq!(
            activity.verdict(Mode::Finishing, long),
            Verdict::Keep,
            "the grace is not over"
        );
        std::thread::sleep(DRAIN_GRACE);
        assert_eq!(activity.verdict(Mode::Finishing, long), Verdict::Cut);
    }
}
