//! An HTTPS client as small as the tests need: one connection to a given address, checked against the lab's
//! authority, requests one after the other over HTTP/1.1.
//!
//! It is there to hold connections whose every break is seen. It follows no redirect and retries nothing.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::SITE;

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom connections trust.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Trusts one authority, and no other.
    pub fn only(authority: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).context("read the lab's authority")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// A connection to the site.
pub struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    local: SocketAddr,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection from {}", self.local)
    }
}

impl Connection {
    /// Connects from the calling thread's network namespace.
    pub fn open(trust: &Trust, to: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect to {to}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        let name = ServerName::try_from(SITE)?;
        let session = ClientConnection::new(Arc::clone(&trust.0), name)?;
        Ok(Self {
            stream: BufReader::new(StreamOwned::new(session, socket)),
            local,
        })
    }

    /// The end that it comes from.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Asks for a path and reads the whole answer.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"))
    }

    /// Posts JSON, as whom a token says, and reads the whole answer.
    pub fn post(&mut self, path: &str, token: Option<&str>, body: &Value) -> Result<Answer> {
        let body = body.to_string();
        let token = token.map_or(String::new(), |token| format!("Authorization: Token {token}\r\n"));
        self.exchange(&format!(
            "POST {path} HTTP/1.1\r\nHost: {SITE}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{token}\r\n{body}",
            body.len()
        ))
    }

    fn exchange(&mut self, request: &str) -> Result<Answer> {
        let stream = self.stream.get_mut();
        stream.write_all(request.as_bytes()).context("send the request")?;
        stream.flush()?;
        let status = self.line()?;
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("not a status line: {status:?}"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= line.starts_with("transfer-encoding:") && line.ends_with("chunked");
        }
        let body = if chunked {
            self.chunks()?
        } else {
            self.exactly(length)?
        };
        Ok(Answer {
            status,
            body: String::from_utf8(body).context("the body is not text")?,
        })
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(line.trim(), 16).with_context(|| format!("chunk {line:?}"))?;
            body.extend(self.exactly(length)?);
            ensure!(self.line()?.is_empty(), "a chunk does not end where it says");
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).context("read the body")?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line).context("read the head")? > 0,
            "closed by the server"
        );
        Ok(line.trim_end().to_owned())
    }
}
