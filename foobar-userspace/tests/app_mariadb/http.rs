//! A small HTTP/1.1 client, a connection a request: what goes over the wire is what the test wrote.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An app server's address to send requests to.
#[derive(Clone)]
pub(crate) struct Site {
    address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status code
    pub(crate) status: u16,
    /// The header, empty where there is none
    pub(crate) content_type: String,
    /// The body's length in bytes
    pub(crate) length: usize,
    /// The body; null where there is none
    pub(crate) body: Value,
}

/// A request of which all but the last byte is sent.
pub(crate) struct HalfSent {
    stream: TcpStream,
    last: u8,
}

impl Site {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None, None).await
    }

    pub(crate) async fn get_as(&self, path: &str, token: &str) -> Reply {
        self.send("GET", path, Some(token), None).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Reply {
        self.send("POST", path, token, Some(&serde_json::to_vec(body).unwrap()))
            .await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: &Value) -> Reply {
        self.send("PUT", path, Some(token), Some(&serde_json::to_vec(body).unwrap()))
            .await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Reply {
        self.send("DELETE", path, Some(token), None).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&[u8]>,
    ) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream
            .write_all(&head(method, path, token, body.map_or(0, <[u8]>::len)))
            .await
            .unwrap();
        // A server that refuses a body need not read it.
        let _ = stream.write_all(body.unwrap_or_default()).await;
        receive(stream).await
    }

    /// Sends all but the last byte of a request, and waits until the server has taken it up.
    pub(crate) async fn begin(&self, method: &str, path: &str, body: &[u8]) -> HalfSent {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (last, rest) = body.split_last().expect("a body to split");
        // The server says "continue" once a handler reads the body.
        let mut head = head(method, path, None, body.len());
        head.truncate(head.len() - 2);
        head.extend_from_slice(b"Expect: 100-continue\r\n\r\n");
        stream.write_all(&head).await.unwrap();
        let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut interim = vec![0; expected.len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut interim))
            .await
            .expect("no answer")
            .unwrap();
        assert_eq!(interim, expected);
        stream.write_all(rest).await.unwrap();
        HalfSent { stream, last: *last }
    }

    pub(crate) async fn is_listening(&self) -> bool {
        TcpStream::connect(self.address).await.is_ok()
    }
}

impl HalfSent {
    pub(crate) async fn finish(mut self) -> Reply {
        self.stream.write_all(&[self.last]).await.unwrap();
        receive(self.stream).await
    }
}

fn head(method: &str, path: &str, token: Option<&str>, length: usize) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n");
    if let Some(token) = token {
        head += &format!("Authorization: Token {token}\r\n");
    }
    head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    head.into_bytes()
}

async fn receive(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A connection that is reset after the answer has come is an answer still.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("no answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {read:?}"));
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let body = &bytes[end + 4..];
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    let content_type = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| value.to_owned())
        .unwrap_or_default();
    let value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body).expect("a body of JSON")
    };
    Reply {
        status,
        content_type,
        length: body.len(),
        body: value,
    }
}
