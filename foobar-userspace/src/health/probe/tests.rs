//! Probes against small servers on the loopback interface.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::{Request, Timing};

const TIMEOUT: Duration = Duration::from_millis(300);

fn check(probe: Probe) -> Check {
    Check {
        port: 0,
        probe,
        timing: Timing {
            timeout: TIMEOUT,
            ..Timing::default()
        },
    }
}

fn request() -> Request {
    Request {
        host: "www.example.com".into(),
        path: "/healthz?deep=1".into(),
        status: 200,
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Reads one request head, answers, and gives the head.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, response: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole request"));
    }
    stream
        .write_all(response.as_bytes())
        .await
        .expect("the client waits");
    stream.flush().await.expect("the client waits");
    String::from_utf8(head).expect("ASCII")
}

/// Probes a server that gives one response; the outcome, and the request that it saw.
async fn http(response: &'static str) -> (Outcome, String) {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a check");
        serve(stream, response).await
    });
    let outcome = probe(address, 0, &check(Probe::Http(request())))
        .await
        .expect("can check");
    (outcome, server.await.expect("served"))
}

#[tokio::test]
async fn a_tcp_check_passes_and_closes_with_a_reset() {
    let (listener, address) = listener().await;
    let outcome = probe(address, 0, &check(Probe::Tcp)).await.expect("can check");
    assert_eq!((outcome.verdict(), outcome.result), (Verdict::Passed, Ok(())));
    assert!(outcome.latency < TIMEOUT);
    let (mut stream, _) = listener.accept().await.expect("the check's connection");
    let error = stream.read_u8().await.expect_err("no byte is sent");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_refused_connection_is_an_answer() {
    let (listener, address) = listener().await;
    drop(listener);
    let outcome = probe(address, 0, &check(Probe::Tcp)).await.expect("can check");
    assert_eq!(outcome.result, Err(Failure::Refused));
    assert_eq!(outcome.verdict(), Verdict::Failed(Contact::Answered));
}

#[tokio::test]
async fn a_host_that_drops_the_syn_is_silent() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .expect("a loopback port");
    socket.listen(0).expect("it is bound");
    let address = socket.local_addr().expect("bound").as_socket().expect("IPv4");
    // A full backlog makes the kernel ignore what comes.
    let _first = TcpStream::connect(address)
        .await
        .expect("the one that the backlog holds");
    let outcome = probe(address, 0, &check(Probe::Tcp)).await.expect("can check");
    assert_eq!(outcome.result, Err(Failure::NoAnswer(TIMEOUT)));
    assert_eq!(outcome.verdict(), Verdict::Failed(Contact::Silent));
    assert!(outcome.latency >= TIMEOUT);
}

#[tokio::test]
async fn a_listener_that_says_nothing_has_answered_all_the_same() {
    let (listener, address) = listener().await;
    let outcome = probe(address, 0, &check(Probe::Http(request())))
        .await
        .expect("can check");
    assert_eq!(outcome.result, Err(Failure::Late(TIMEOUT)));
    assert_eq!(outcome.verdict(), Verdict::Failed(Contact::Answered));
    let outcome = probe(address, 0, &check(Probe::Https(request())))
        .await
        .expect("can check");
    assert_eq!(outcome.result, Err(Failure::Late(TIMEOUT)));
    drop(listener);
}

#[tokio::test]
async fn an_http_check_asks_for_its_path_and_host() {
    let (outcome, head) = http("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
    assert_eq!(outcome.result, Ok(()), "the body is not awaited");
    assert!(head.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase().contains("host: www.example.com\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn another_status_fails_as_an_answer() {
    let (outcome, _) = http("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n").await;
    assert_eq!(
        outcome.result,
        Err(Failure::Status {
            found: 503,
            expected: 200
        })
    );
    assert_eq!(outcome.verdict(), Verdict::Failed(Contact::Answered));
}

#[tokio::test]
async fn what_is_not_http_fails_as_an_answer() {
    let (outcome, _) = http("220 mail.example.com ESMTP\r\n\r\n").await;
    assert!(matches!(outcome.result, Err(Failure::Http(_))), "{outcome:?}");
    assert_eq!(outcome.verdict(), Verdict::Failed(Contact::Answered));
}

#[tokio::test]
async fn a_server_that_hangs_up_fails_as_an_answer() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move { drop(listener.accept().await.expect("a check")) });
    let outcome = probe(address, 0, &check(Probe::Http(request())))
        .await
        .expect("can check");
    assert!(matches!(outcome.result, Err(Failure::Http(_))), "{outcome:?}");
    server.await.expect("served");
}

fn tls_server() -> TlsAcceptor {
    let certified = rcgen::generate_simple_self_signed(vec!["other.example.com".to_owned()]).expect("a key");
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .expect("a matching key");
    TlsAcceptor::from(Arc::new(config))
}

/// One HTTPS probe with this host: the outcome, and the server name that was asked for.
async fn https(host: &str, response: &'static str) -> (Outcome, Option<String>) {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a check");
        let mut stream = tls_server().accept(stream).await.expect("a handshake");
        let name = stream.get_ref().1.server_name().map(ToOwned::to_owned);
        serve(&mut stream, response).await;
        name
    });
    let request = Request {
        host: host.into(),
        ..request()
    };
    let mut check = check(Probe::Https(request));
    // Handshakes without optimisation take their time on a busy machine.
    check.timing.timeout = Duration::from_secs(5);
    let outcome = probe(address, 0, &check).await.expect("can check");
    (outcome, server.await.expect("served"))
}

#[tokio::test]
async fn an_https_check_names_its_host_and_trusts_any_certificate() {
    let (outcome, name) = https("www.example.com", "HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(
        (outcome.result, name.as_deref()),
        (Ok(()), Some("www.example.com"))
    );
    let (outcome, name) = https("192.0.2.101", "HTTP/1.1 500 Oops\r\n\r\n").await;
    assert_eq!(
        outcome.result,
        Err(Failure::Status {
            found: 500,
            expected: 200
        })
    );
    assert_eq!(name, None, "an address is no server name (RFC 6066, section 3)");
}

#[tokio::test]
async fn plain_text_on_the_tls_port_fails_as_an_answer() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a check");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("sent");
        // Held open until the client has read it.
        drop(stream.read_to_end(&mut Vec::new()).await);
    });
    let outcome = probe(address, 0, &check(Probe::Https(request())))
        .await
        .expect("can check");
    assert!(matches!(outcome.result, Err(Failure::Tls(_))), "{outcome:?}");
    assert_eq!(outcome.verdict(), Verdict::Failed(Contact::Answered));
    server.await.expect("served");
}

#[tokio::test]
async fn the_socket_is_marked_or_nothing_is_judged() {
    let (_listener, address) = listener().await;
    match connect(address, 7).await {
        Ok(stream) => assert_eq!(SockRef::from(&stream).mark().expect("readable"), 7),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            assert!(probe(address, 7, &check(Probe::Tcp)).await.is_err());
        }
    }
}

#[test]
fn connect_errors_are_told_apart() {
    let contact = |errno| refusal(io::Error::from_raw_os_error(errno)).map(|failure| failure.contact());
    for errno in [libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH] {
        assert_eq!(contact(errno).expect("of the target"), Contact::Silent);
    }
    for errno in [libc::ECONNREFUSED, libc::ECONNRESET] {
        assert_eq!(contact(errno).expect("of the target"), Contact::Answered);
    }
    for errno in [libc::EPERM, libc::EADDRNOTAVAIL, libc::EMFILE, libc::ENOBUFS] {
        assert_eq!(
            contact(errno).expect_err("of this host").raw_os_error(),
            Some(errno)
        );
    }
}
