//! The server's life: health, redirects, reload, limits on connections, and its end.

use std::time::{Duration, Instant};

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::world::{App, HOST, Reply, World, certify, nobody};

fn request(path: &str) -> Request<http_body_util::Full<bytes::Bytes>> {
    Request::builder()
        .uri(path)
        .header("host", HOST)
        .body(Default::default())
        .expect("a request")
}

#[tokio::test]
async fn healthz_tells_which_app_server_is_there() {
    let (app, gone) = (App::start("a").await, nobody().await);
    let world = World::with(&[gone, app.address], "").await;
    let reply = world.get("/healthz", &[]).await;
    assert_eq!(reply.status(), 200);
    let told: serde_json::Value = serde_json::from_str(reply.text()).expect("JSON");
    assert_eq!(told["upstreams"][0]["reachable"], false);
    assert_eq!(told["upstreams"][1]["address"], app.address.to_string());
    assert_eq!(told["upstreams"][1]["reachable"], true);
    world.end().await;

    let alone = World::with(&[gone], "").await;
    assert_eq!(alone.get("/healthz", &[]).await.status(), 503);
    alone.end().await;
}

async fn plain(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.server.http_addresses()[0])
        .await
        .expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn port_80_sends_on_to_https_at_a_host_that_is_one() {
    let world = World::with(&[nobody().await], "").await;
    let port = world.server.https_addresses()[0].port();
    let answer = plain(
        &world,
        "POST /a?b=c HTTP/1.1\r\nHost: wwwfoobar.com:80\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(
        answer.contains(&format!("location: https://wwwfoobar.com:{port}/a?b=c\r\n")),
        "{answer}"
    );
    assert!(!answer.contains("strict-transport-security"), "{answer}");
    for host in ["a\"b", "user@other.example", "a/b"] {
        let answer = plain(
            &world,
            &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
    }
    let answer = plain(&world, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    world.end().await;
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "").await;
    let (mut one, mut two, mut idle) = (world.http1().await, world.http2().await, world.http1().await);
    let address = world.server.https_addresses()[0];
    assert_eq!(
        idle.send_request(request("/")).await.expect("an answer").status(),
        200
    );
    let first = tokio::spawn(one.send_request(request("/api/slow")));
    let second = Request::builder()
        .uri(format!("https://{HOST}/api/slow"))
        .body(Default::default());
    let second = tokio::spawn(two.send_request(second.expect("a request")));
    sleep(Duration::from_millis(200)).await;

    let began = Instant::now();
    let log = world.end().await;
    let took = began.elapsed();
    for running in [first, second] {
        let reply = Reply::of(running.await.expect("no panic").expect("an answer")).await;
        assert_eq!((reply.status(), reply.text()), (200, "\"slow\""));
    }
    assert!(
        took > Duration::from_millis(300) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert!(TcpStream::connect(address).await.is_err(), "it still listens");
    assert!(
        timeout(Duration::from_secs(1), idle.ready())
            .await
            .expect("closed")
            .is_err()
    );
    let again = Request::builder()
        .uri(format!("https://{HOST}/"))
        .body(Default::default())
        .expect("a request");
    assert!(
        two.send_request(again).await.is_err(),
        "the HTTP/2 connection still takes requests"
    );
    assert_eq!(log.matches("/api/slow").count(), 2, "{log}");
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "").await;
    let mut client = world.http1().await;
    let hanging = tokio::spawn(client.send_request(request("/api/hang")));
    sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    world.server.drain(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(hanging.await.expect("no panic").is_err());
    std::fs::remove_dir_all(world.directory).expect("removed");
}

#[tokio::test]
async fn a_reload_changes_app_servers_and_certificate_under_living_connections() {
    let (a, b) = (App::start("a").await, App::start("b").await);
    let mut world = World::with(&[a.address], "").await;
    let mut kept = world.http1().await;
    let mut busy = world.http1().await;
    let reply = Reply::of(kept.send_request(request("/api/x")).await.expect("an answer")).await;
    assert_eq!(reply.header("x-app"), "a");
    let running = tokio::spawn(busy.send_request(request("/api/slow")));
    sleep(Duration::from_millis(100)).await;

    world.config.upstreams = vec![b.address];
    certify(&world.directory);
    world.server.reload(&world.config).expect("reloaded");

    kept.ready().await.expect("the connection lives");
    let reply = Reply::of(kept.send_request(request("/api/x")).await.expect("an answer")).await;
    assert_eq!(reply.header("x-app"), "b");
    let reply = Reply::of(running.await.expect("no panic").expect("an answer")).await;
    assert_eq!((reply.status(), reply.header("x-app")), (200, "a"));
    // The client trusts the new certificate only.
    assert_eq!(world.get("/api/x", &[]).await.header("x-app"), "b");

    world.config.upstreams = vec![a.address];
    std::fs::write(world.directory.join("key.pem"), "nonsense").expect("written");
    let complaint = world.server.reload(&world.config).expect_err("refused");
    assert!(format!("{complaint:#}").contains("key.pem"), "{complaint:#}");
    assert_eq!(
        world.get("/api/x", &[]).await.header("x-app"),
        "b",
        "a bad reload changes nothing"
    );
    drop((kept, busy));
    world.end().await;
}

#[tokio::test]
async fn idle_and_silent_connections_are_closed() {
    let more =
        "[timeouts]\ntls_handshake_ms = 200\nheader_read_ms = 300\nupstream_response_ms = 100\nidle_ms = 400";
    let world = World::with(&[nobody().await], more).await;
    let mut silent = TcpStream::connect(world.server.https_addresses()[0])
        .await
        .expect("connected");
    let mut slow = world.tls("http/1.1").await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: wwwf")
        .await
        .expect("sent");
    let mut idle = world.http2().await;
    let patience = Duration::from_secs(3);
    let mut rest = Vec::new();
    let ended = timeout(patience, silent.read_to_end(&mut rest))
        .await
        .expect("closed without a handshake");
    assert!(ended.is_err() || rest.is_empty());
    timeout(patience, slow.read_to_end(&mut rest))
        .await
        .expect("closed within a head")
        .ok();
    let closed = async {
        while !idle.is_closed() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(patience, closed).await.expect("HTTP/2 closed when idle");
    assert!(idle.ready().await.is_err());
    world.end().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let world = World::with(&[nobody().await], "[limits]\nconnections = 1").await;
    let first = world.http1().await;
    let mut second = Box::pin(world.get("/", &[]));
    assert!(
        timeout(Duration::from_millis(300), second.as_mut())
            .await
            .is_err(),
        "it did not wait"
    );
    drop(first);
    let reply = timeout(Duration::from_secs(3), second)
        .await
        .expect("a place became free");
    assert_eq!(reply.status(), 200);
    world.end().await;
}
