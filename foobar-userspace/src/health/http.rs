//! The HTTP and HTTPS part of a check, over a stream that is already connected.
//!
//! TLS is spoken without verifying the certificate: a check judges reachability and status, not identity,
//! and sends nothing that is secret. Sessions are never resumed: all backends of a VIP go by one server
//! name, and one's ticket is not another's.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::probe::Failure;
use crate::config::Request;

/// More than any sensible response head.
const HEAD_MAX: usize = 64 * 1024;

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
});

/// Opens TLS with the request's host as server name; none is sent where the host is an address.
pub(super) async fn handshake(
    stream: TcpStream,
    vip: SocketAddr,
    request: &Request,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(request.host.clone()).unwrap_or_else(|_| vip.ip().into());
    let connector = TlsConnector::from(Arc::clone(&TLS));
    connector
        .connect(name, stream)
        .await
        .map_err(|error| Failure::Tls(error.to_string()))
}

/// Sends the request and judges the status of the response; its body is not awaited.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    vip: SocketAddr,
    request: &Request,
) -> Result<(), Failure> {
    let failure = |error: &dyn std::error::Error| Failure::Http(chain(error));
    let host = host_header(&request.host, vip);
    let head = http::Request::get(&request.path)
        .header(HOST, host)
        .header(
            USER_AGENT,
            concat!("foobar/", env!("CARGO_PKG_VERSION"), " (check)"),
        )
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failure(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure(&error))?;
    // The connection only has to be driven: its end or error reaches the response's future.
    let drive = async {
        drop(connection.await);
        std::future::pending::<Infallible>().await
    };
    let response = tokio::select! {
        response = sender.send_request(head) => response.map_err(|error| failure(&error))?,
        never = drive => match never {},
    };
    let found = response.status().as_u16();
    if found == request.status {
        Ok(())
    } else {
        Err(Failure::Status {
            found,
            expected: request.status,
        })
    }
}

/// The Host header: an IPv6 address stands in brackets (RFC 3986 section 3.2.2).
fn host_header(host: &str, vip: SocketAddr) -> String {
    let host = if host.is_empty() {
        vip.ip().to_string()
    } else {
        host.to_owned()
    };
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host,
    }
}

/// An error with its causes, as one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Accepts whatever certificate and signature the server shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_stands_in_brackets_in_the_host_header() {
        let vip = "[2001:db8::101]:80".parse().unwrap();
        assert_eq!(host_header("", vip), "[2001:db8::101]");
        assert_eq!(host_header("2001:db8::7", vip), "[2001:db8::7]");
        assert_eq!(host_header("www.example.com", vip), "www.example.com");
        assert_eq!(host_header("", "192.0.2.101:80".parse().unwrap()), "192.0.2.101");
    }
}
