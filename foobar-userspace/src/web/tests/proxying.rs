//! The reverse proxy: what crosses it, what does not, and what clients see when app servers fail.

use std::sync::atomic::Ordering;
use std::time::Instant;

use http::Request;
use serde_json::Value;

use super::world::{App, HOST, Reply, World, nobody};

/// The headers of one name that the app server saw.
fn seen<'a>(told: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = told["headers"].as_array().expect("headers");
    headers
        .iter()
        .filter(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().expect("text"))
        .collect()
}

#[tokio::test]
async fn the_app_server_learns_who_asked_from_us_alone() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "").await;
    let claims = [
        ("x-forwarded-for", "198.51.100.66"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "other.example"),
        ("forwarded", "for=198.51.100.66"),
        ("x-real-ip", "198.51.100.66"),
        ("connection", "close, x-hop, x-forwarded-for"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("x-stays", "1"),
        ("authorization", "Token t"),
    ];
    let reply = world.get("/api/x?q=1", &claims).await;
    let told: Value = serde_json::from_str(reply.text()).expect("JSON");
    assert_eq!(told["uri"], "/api/x?q=1");
    assert_eq!(seen(&told, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen(&told, "x-forwarded-proto"), ["https"]);
    assert_eq!(
        seen(&told, "forwarded"),
        [format!("for=127.0.0.1;host=\"{HOST}\";proto=https")]
    );
    assert_eq!(seen(&told, "host"), [HOST]);
    assert_eq!(
        (seen(&told, "x-stays"), seen(&told, "authorization")),
        (vec!["1"], vec!["Token t"])
    );
    for gone in ["x-forwarded-host", "x-real-ip", "connection", "x-hop", "te"] {
        assert!(seen(&told, gone).is_empty(), "{gone}: {told}");
    }
    assert!(
        !world.end().await.contains("q=1"),
        "the query is nobody's business"
    );
}

#[tokio::test]
async fn hop_by_hop_headers_of_an_answer_end_here() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "").await;
    let reply = world.get("/api/hop", &[]).await;
    assert_eq!((reply.status(), reply.header("x-app")), (200, "a"));
    assert_eq!((reply.header("x-inner"), reply.header("keep-alive")), ("", ""));
    assert_eq!(reply.header("cache-control"), "no-store");
    world.end().await;
}

#[tokio::test]
async fn an_answer_is_compressed_and_its_tag_weakened() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "").await;
    let reply = world.get("/api/large", &[("accept-encoding", "gzip")]).await;
    assert_eq!(
        (reply.header("content-encoding"), reply.header("etag")),
        ("gzip", "W/\"tag\"")
    );
    assert!(reply.body.len() < 1000, "{}", reply.body.len());
    world.end().await;
}

#[tokio::test]
async fn http2_requests_arrive_whole_over_kept_connections() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "").await;
    let mut client = world.http2().await;
    for round in 0..20 {
        let request = Request::builder()
            .method("POST")
            .uri(format!("https://{HOST}/api/x"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body("hello".into())
            .expect("a request");
        let reply = Reply::of(client.send_request(request).await.expect("an answer")).await;
        let told: Value = serde_json::from_str(reply.text()).expect("JSON");
        assert_eq!(
            (&told["method"], &told["body"]),
            (&"POST".into(), &5.into()),
            "{round}"
        );
        assert_eq!(
            (seen(&told, "host"), seen(&told, "cookie")),
            (vec![HOST], vec!["a=1; b=2"])
        );
    }
    assert_eq!(app.connections.load(Ordering::Relaxed), 1, "connections are kept");
    world.end().await;
}

#[tokio::test]
async fn requests_are_spread_and_an_absent_app_server_costs_nothing() {
    let (a, b) = (App::start("a").await, App::start("b").await);
    let world = World::with(&[nobody().await, a.address, b.address], "").await;
    let mut count = [0, 0];
    for _ in 0..20 {
        let reply = world
            .send(Request::builder().method("POST").uri("/api/x"), "body")
            .await;
        assert_eq!(reply.status(), 200);
        assert!(
            reply.text().contains("\"body\":4"),
            "a retried request keeps its body: {}",
            reply.text()
        );
        count[usize::from(reply.header("x-app") == "b")] += 1;
    }
    assert!(count[0] >= 6 && count[1] >= 6, "{count:?}");
    world.end().await;
}

#[tokio::test]
async fn nobody_there_is_502_in_the_form_that_was_asked_for() {
    let gone = nobody().await;
    let world = World::with(&[gone], "").await;
    let program = world.get("/api/x", &[]).await;
    assert_eq!(
        (program.status(), program.header("content-type")),
        (502, "application/json; charset=utf-8")
    );
    assert!(serde_json::from_str::<Value>(program.text()).expect("JSON")["errors"].is_object());
    let person = world.get("/api/x", &[("accept", "text/html,*/*")]).await;
    assert_eq!(
        (person.status(), person.header("content-type")),
        (502, "text/html; charset=utf-8")
    );
    let log = world.end().await;
    assert!(log.lines().all(|line| line.ends_with(&gone.to_string())), "{log}");
}

#[tokio::test]
async fn an_app_server_that_breaks_off_is_502_and_is_not_asked_twice() {
    let (a, b) = (App::start("a").await, App::start("b").await);
    let world = World::with(&[a.address, b.address], "").await;
    assert_eq!(world.get("/api/panic", &[]).await.status(), 502);
    let connections = a.connections.load(Ordering::Relaxed) + b.connections.load(Ordering::Relaxed);
    assert_eq!(connections, 1);
    world.end().await;
}

#[tokio::test]
async fn an_app_server_that_hangs_is_504_in_time() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "[timeouts]\nupstream_response_ms = 200").await;
    let began = Instant::now();
    assert_eq!(world.get("/api/hang", &[]).await.status(), 504);
    assert!(began.elapsed().as_millis() < 2000);
    world.end().await;
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "[limits]\nbody_bytes = 10\nheader_bytes = 8192").await;
    let post = || Request::builder().method("POST").uri("/api/x");
    assert_eq!(world.send(post(), "0123456789").await.status(), 200);
    assert_eq!(world.send(post(), "0123456789a").await.status(), 413);
    let many = (0..200).fold(Request::builder().uri("/"), |request, n| {
        request.header(format!("x-{n}"), "1")
    });
    assert_eq!(world.send(many, "").await.status(), 431);
    assert_eq!(
        world.get("/", &[("x-long", &"x".repeat(20_000))]).await.status(),
        431
    );
    world.end().await;
}

#[tokio::test]
async fn a_chunked_body_is_counted_while_it_flows() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = App::start("a").await;
    let world = World::with(&[app.address], "[limits]\nbody_bytes = 10").await;
    let mut stream = world.tls("http/1.1").await;
    let request = format!(
        "POST /api/x HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    drop(stream);
    world.end().await;
}

#[tokio::test]
async fn paths_and_hosts_of_bad_form_go_nowhere() {
    let app = App::start("a").await;
    let world = World::with(&[app.address], "server_names = [\"wwwfoobar.com\"]").await;
    for path in ["/api/../healthz", "/api/%2e%2e/healthz"] {
        assert_eq!(world.get(path, &[]).await.status(), 400, "{path}");
    }
    // A second Host beside the right one.
    assert_eq!(world.get("/", &[("host", "other.example")]).await.status(), 400);
    let mut client = world.http1().await;
    for (host, status) in [("other.example", 421), ("a b", 400), ("WWWfoobar.com:443", 200)] {
        let request = Request::builder()
            .uri("/")
            .header("host", host)
            .body(Default::default())
            .expect("a request");
        let reply = Reply::of(client.send_request(request).await.expect("an answer")).await;
        assert_eq!(reply.status(), status, "{host}");
    }
    assert_eq!(app.connections.load(Ordering::Relaxed), 0);
    drop(client);
    world.end().await;
}
