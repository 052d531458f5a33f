//! The operator's side of the admin API.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::admin::DEFAULT_SOCKET;

/// Where the daemon is.
#[derive(Debug, clap::Args)]
pub struct SocketArgs {
    /// The daemon's admin socket
    #[arg(long, value_name = "PATH", env = "FOOBAR_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

impl SocketArgs {
    /// Whether a daemon has made its socket.
    pub(crate) fn is_there(&self) -> bool {
        self.socket.exists()
    }

    /// Sends a request without a body, and gives back the answer.
    ///
    /// # Errors
    /// Where nobody listens, or the daemon refuses, in its words.
    pub(crate) async fn call(&self, method: Method, path: &str) -> Result<Value> {
        call(&self.socket, "foobar lb", method, path).await
    }
}

/// Sends a request without a body to the daemon that `role` runs, and gives back the answer.
///
/// # Errors
/// Where nobody listens, or the daemon refuses, in its words.
pub(crate) async fn call(socket: &Path, role: &str, method: Method, path: &str) -> Result<Value> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no daemon answers on {}: is `{role}` running? (--socket names another path)",
            socket.display()
        )
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "foobar")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let value: Value = serde_json::from_slice(&body).context("the daemon's answer is not JSON")?;
    if !status.is_success() {
        bail!("{}", value["error"].as_str().unwrap_or(status.as_str()));
    }
    Ok(value)
}
