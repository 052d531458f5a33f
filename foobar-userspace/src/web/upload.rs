//! A request's body on its way to an upstream: bounded, and watched, so that one can tell whose fault a
//! stall is. As long as nothing was read from it, it can be given to another upstream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::body::BoxError;

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was asked of it yet.
    Untouched,
    /// The client has to send.
    WaitingForClient,
    /// The upstream has to take, or to answer.
    WaitingForUpstream,
    /// It was longer than it may be.
    TooLarge,
    /// The client's side broke off.
    Broken,
}

/// A handle to a request's body; its clones are the same body.
#[derive(Debug)]
pub struct Upload<B>(Arc<Mutex<State<B>>>);

impl<B> Clone for Upload<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct State<B> {
    body: B,
    remaining: u64,
    phase: Phase,
    progress: Instant,
}

impl<B> Upload<B> {
    /// Of a body that may have at most `limit` bytes.
    pub fn new(body: B, limit: u64) -> Self {
        let state = State {
            body,
            remaining: limit,
            phase: Phase::Untouched,
            progress: Instant::now(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// When it last moved.
    #[must_use]
    pub fn progress(&self) -> Instant {
        self.lock().progress
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = self.lock();
        let Poll::Ready(item) = Pin::new(&mut state.body).poll_frame(cx) else {
            state.phase = Phase::WaitingForClient;
            return Poll::Pending;
        };
        state.phase = Phase::WaitingForUpstream;
        state.progress = Instant::now();
        Poll::Ready(match item {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                match state.remaining.checked_sub(length) {
                    Some(remaining) => {
                        state.remaining = remaining;
                        Some(Ok(frame))
                    }
                    None => {
                        state.phase = Phase::TooLarge;
                        Some(Err("the request's body is too large".into()))
                    }
                }
            }
            Some(Err(error)) => {
                state.phase = Phase::Broken;
                Some(Err(error.into()))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    #[tokio::test]
    async fn the_limit_is_the_last_byte_that_fits() {
        let fits = Upload::new(Full::new(Bytes::from_static(b"12345")), 5);
        assert_eq!(fits.phase(), Phase::Untouched);
        assert_eq!(fits.clone().collect().await.expect("a body").to_bytes(), "12345");
        assert_eq!(fits.phase(), Phase::WaitingForUpstream);

        let long = Upload::new(Full::new(Bytes::from_static(b"123456")), 5);
        assert!(long.clone().collect().await.is_err());
        assert_eq!(long.phase(), Phase::TooLarge);
    }
}
