//! The stream server: answers every block with one of its own, and says which backend it is.
//!
//! It runs in a thread of the test's process inside the backend's namespace. Stopped or dropped, its sockets
//! close as a killed process's would. A connection that begins in the middle of a stream counts as corrupt.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::block::{Receiver, Side};
use crate::pattern::Direction;
use crate::world::{Backend, World};

/// What a server has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Blocks answered.
    pub blocks: AtomicU64,
    /// Bytes that were not as they had to be.
    pub corrupt: AtomicU64,
    /// Connections that ended otherwise than by the client's FIN after a whole block.
    pub broken: AtomicU64,
}

/// A stream server on a backend.
#[derive(Debug)]
pub struct Server {
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on all IPv4 addresses of a backend; when this returns it listens.
    pub fn start(world: &World, backend: Backend, port: u16) -> Result<Self> {
        Self::listen(world, backend, (Ipv4Addr::UNSPECIFIED, port).into())
    }

    /// Starts a server on an address of a backend.
    pub fn listen(world: &World, backend: Backend, on: SocketAddr) -> Result<Self> {
        let listener = world.backend(backend)?.run(|| {
            let listener = std::net::TcpListener::bind(on)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let counted = Arc::clone(&seen);
        let thread = std::thread::Builder::new()
            .name(format!("server-{backend}"))
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let _ = match runtime {
                    Ok(runtime) => runtime.block_on(async {
                        let accepting = tokio::spawn(async move {
                            let listener = TcpListener::from_std(listener)?;
                            // The starter waits for it.
                            let _ = ready.send(());
                            accept(listener, backend, counted).await
                        });
                        // A dropped sender stops the server as well.
                        let _ = stopped.await;
                        accepting.abort();
                        Ok(())
                    }),
                    Err(error) => Err(error),
                };
            })?;
        is_ready
            .recv_timeout(Duration::from_secs(10))
            .with_context(|| format!("the stream server of backend {backend} has not started"))?;
        Ok(Self {
            seen,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What it has seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Closes the listener and all connections, as the process's death would.
    pub fn stop(&mut self) -> Result<()> {
        self.stop.take();
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(anyhow!("a stream server panicked")),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its panic was printed already.
        let _ = self.stop();
    }
}

async fn accept(listener: TcpListener, backend: Backend, seen: Arc<Seen>) -> std::io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        seen.accepted.fetch_add(1, Ordering::Relaxed);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            if serve(socket, backend, &seen).await.is_err() {
                seen.broken.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

async fn serve(mut socket: TcpStream, backend: Backend, seen: &Seen) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut requests = Receiver::any(Direction::Request);
    let mut answers = None;
    while let Some(block) = requests.next(&mut socket).await? {
        if block.wrong > 0 {
            seen.corrupt.fetch_add(block.wrong, Ordering::Relaxed);
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        seen.blocks.fetch_add(1, Ordering::Relaxed);
        let answers = answers.get_or_insert_with(|| Side::new(block.stream, Direction::Answer));
        answers.send(&mut socket, backend, block.length).await?;
    }
    Ok(())
}
