//! A world for a test: a site in a directory of its own, app servers, a web server, and clients that trust
//! its certificate. Everything ends with it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Builder;
use http::response::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use crate::web::config::Config;
use crate::web::server::Server;

pub(super) const HOST: &str = "wwwfoobar.com";

static WORLDS: AtomicUsize = AtomicUsize::new(0);

/// A web server with its site and certificate.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) config: Config,
    pub(super) directory: PathBuf,
}

impl World {
    /// With these app servers; `more` is appended to the configuration.
    pub(super) async fn with(upstreams: &[SocketAddr], more: &str) -> Self {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("foobar-web-{}-{number}", std::process::id()));
        let site = directory.join("site");
        std::fs::create_dir_all(site.join("docs")).expect("made");
        std::fs::write(directory.join("secret.txt"), "secret").expect("written");
        std::fs::write(site.join("index.html"), "<!doctype html><title>front</title>").expect("written");
        std::fs::write(site.join("docs/index.html"), "docs").expect("written");
        std::fs::write(site.join("long.txt"), "0123456789".repeat(1000)).expect("written");
        std::os::unix::fs::symlink("../secret.txt", site.join("leak.txt")).expect("linked");
        certify(&directory);

        let quoted: Vec<String> = upstreams
            .iter()
            .map(|upstream| format!("\"{upstream}\""))
            .collect();
        let text = format!(
            "listen_https = [\"127.0.0.1:0\"]\nlisten_http = [\"127.0.0.1:0\"]\ncertificate = \"{at}/cert.pem\"\n\
             key = \"{at}/key.pem\"\nroot = \"{at}/site\"\nupstreams = [{}]\naccess_log = \"{at}/access.log\"\n{more}",
            quoted.join(", "),
            at = directory.display(),
        );
        let config = Config::parse(&text).expect("a configuration");
        let server = Server::start(&config).await.expect("started");
        Self {
            server,
            config,
            directory,
        }
    }

    /// A client's TLS connection that offers `protocol` by ALPN.
    pub(super) async fn tls(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let certificate =
            CertificateDer::from_pem_file(self.directory.join("cert.pem")).expect("a certificate");
        roots.add(certificate).expect("trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.server.https_addresses()[0])
            .await
            .expect("connected");
        let name = ServerName::try_from(HOST).expect("a name");
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .expect("a handshake")
    }

    /// A kept HTTP/1.1 connection.
    pub(super) async fn http1(&self) -> http1::SendRequest<Full<Bytes>> {
        let stream = self.tls("http/1.1").await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("a connection");
        tokio::spawn(connection);
        sender
    }

    /// An HTTP/2 connection.
    pub(super) async fn http2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = self.tls("h2").await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("a connection");
        tokio::spawn(connection);
        sender
    }

    /// One request over HTTP/1.1 on a connection of its own.
    pub(super) async fn send(&self, request: Builder, body: &'static str) -> Reply {
        let request = request
            .header("host", HOST)
            .body(Full::new(Bytes::from_static(body.as_bytes())));
        let response = self
            .http1()
            .await
            .send_request(request.expect("a request"))
            .await
            .expect("an answer");
        Reply::of(response).await
    }

    /// A GET with some headers.
    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = Request::builder().uri(path);
        self.send(
            headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value)),
            "",
        )
        .await
    }

    /// Ends the server and returns its access log.
    pub(super) async fn end(self) -> String {
        self.server.drain(Duration::from_secs(5)).await;
        let log = std::fs::read_to_string(self.directory.join("access.log")).expect("a log");
        std::fs::remove_dir_all(self.directory).expect("removed");
        log
    }
}

/// Puts a fresh certificate and key into the directory.
pub(super) fn certify(directory: &Path) {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).expect("a certificate");
    std::fs::write(directory.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
}

/// An answer, read to its end.
pub(super) struct Reply {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) async fn of(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            parts,
            body: body.collect().await.expect("a body").to_bytes(),
        }
    }

    pub(super) fn status(&self) -> u16 {
        self.parts.status.as_u16()
    }

    /// A header's value, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.parts
            .headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// An app server that tells what it was asked. Some paths make it behave in other ways.
pub(super) struct App {
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl App {
    pub(super) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut served = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                counter.fetch_add(1, Ordering::Relaxed);
                let service = service_fn(move |request| answer(name, request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                served.push(AbortOnDropHandle::new(tokio::spawn(connection)));
            }
        }));
        Self {
            address,
            connections,
            _task: task,
        }
    }
}

async fn answer(name: &'static str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let response = Response::builder()
        .header("x-app", name)
        .header("content-type", "application/json");
    let content = match parts.uri.path() {
        "/api/slow" => {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Bytes::from_static(b"\"slow\"")
        }
        "/api/hang" => std::future::pending().await,
        "/api/panic" => panic!("as the test wishes"),
        "/api/large" => Bytes::from(format!("\"{}\"", "large ".repeat(2000))),
        _ => {
            let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
            let headers: Vec<_> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
                .collect();
            let told = serde_json::json!({
                "method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers, "body": length,
            });
            Bytes::from(told.to_string())
        }
    };
    let response = match parts.uri.path() {
        "/api/hop" => response
            .header("connection", "x-inner")
            .header("x-inner", "1")
            .header("keep-alive", "timeout=9"),
        "/api/large" => response.header("etag", "\"tag\""),
        _ => response,
    };
    Ok(response.body(Full::new(content)).expect("a response"))
}

/// An address on the loopback where nobody listens.
pub(super) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    listener.local_addr().expect("an address")
}
