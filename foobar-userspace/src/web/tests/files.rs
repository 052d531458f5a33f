//! Static files over TLS: validators, ranges, compression, and no way out of the root.

use std::io::Read as _;

use http::Request;

use super::world::{HOST, Reply, World, nobody};

async fn world() -> World {
    World::with(&[nobody().await], "").await
}

#[tokio::test]
async fn the_front_page_comes_over_both_protocols_with_its_promises() {
    let world = world().await;
    let one = world.get("/", &[]).await;
    let request = Request::builder()
        .uri(format!("https://{HOST}/"))
        .body(Default::default())
        .expect("a request");
    let two = Reply::of(
        world
            .http2()
            .await
            .send_request(request)
            .await
            .expect("an answer"),
    )
    .await;
    for reply in [one, two] {
        assert_eq!(
            (reply.status(), reply.header("content-type")),
            (200, "text/html; charset=utf-8")
        );
        assert!(reply.text().contains("front"));
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert!(reply.header("strict-transport-security").starts_with("max-age="));
        assert!(
            reply
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
        assert_eq!(reply.header("cache-control"), "no-cache");
    }
    let log = world.end().await;
    assert!(log.contains(" 127.0.0.1 GET / HTTP/1.1 200 35 "), "{log}");
    assert!(log.contains(" 127.0.0.1 GET / HTTP/2.0 200 35 "), "{log}");
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let world = world().await;
    let first = world.get("/long.txt", &[]).await;
    let (etag, modified) = (first.header("etag"), first.header("last-modified"));
    assert!(etag.starts_with('"'), "a strong tag: {etag}");
    for condition in [("if-none-match", etag), ("if-modified-since", modified)] {
        let again = world.get("/long.txt", &[condition]).await;
        assert_eq!((again.status(), again.body.len()), (304, 0), "{condition:?}");
        assert_eq!(again.header("etag"), etag);
    }
    assert_eq!(
        world
            .get("/long.txt", &[("if-none-match", "\"other\"")])
            .await
            .status(),
        200
    );
    assert_eq!(
        world
            .get("/long.txt", &[("if-match", "\"other\"")])
            .await
            .status(),
        412
    );
    world.end().await;
}

#[tokio::test]
async fn one_range_is_served_and_if_range_guards_it() {
    let world = world().await;
    let part = world
        .get(
            "/long.txt",
            &[("range", "bytes=5-14"), ("accept-encoding", "gzip")],
        )
        .await;
    assert_eq!((part.status(), part.text()), (206, "5678901234"));
    assert_eq!(part.header("content-range"), "bytes 5-14/10000");
    assert_eq!(part.header("content-encoding"), "");
    let etag = part.header("etag").to_owned();

    let tail = world
        .get("/long.txt", &[("range", "bytes=-3"), ("if-range", &etag)])
        .await;
    assert_eq!((tail.status(), tail.text()), (206, "789"));
    let stale = world
        .get("/long.txt", &[("range", "bytes=-3"), ("if-range", "\"old\"")])
        .await;
    assert_eq!((stale.status(), stale.body.len()), (200, 10_000));
    let beyond = world.get("/long.txt", &[("range", "bytes=10000-")]).await;
    assert_eq!(
        (beyond.status(), beyond.header("content-range")),
        (416, "bytes */10000")
    );
    let several = world.get("/long.txt", &[("range", "bytes=0-1,3-4")]).await;
    assert_eq!(several.status(), 200);
    world.end().await;
}

#[tokio::test]
async fn gzip_is_sent_to_those_who_take_it_under_a_tag_of_its_own() {
    let world = world().await;
    let plain = world.get("/long.txt", &[]).await;
    let packed = world
        .get("/long.txt", &[("accept-encoding", "br;q=1, gzip;q=0.8")])
        .await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(
        (plain.header("vary"), packed.header("vary")),
        ("accept-encoding", "accept-encoding")
    );
    assert_eq!(packed.header("etag"), format!("W/{}", plain.header("etag")));
    let packed_tag = packed.header("etag").to_owned();
    assert!(packed.body.len() < 500, "{}", packed.body.len());
    assert_eq!(unpack(&packed.body).await, plain.body);

    let again = world
        .get(
            "/long.txt",
            &[("accept-encoding", "gzip"), ("if-none-match", &packed_tag)],
        )
        .await;
    assert_eq!((again.status(), again.header("etag")), (304, packed_tag.as_str()));
    assert_eq!(
        (again.header("vary"), again.header("content-encoding")),
        ("accept-encoding", "")
    );
    let refused = world.get("/long.txt", &[("accept-encoding", "gzip;q=0")]).await;
    assert_eq!(refused.header("content-encoding"), "");
    let short = world.get("/", &[("accept-encoding", "gzip")]).await;
    assert_eq!(short.header("content-encoding"), "");
    world.end().await;
}

async fn unpack(bytes: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    let mut plain = Vec::new();
    let mut decoder = async_compression::tokio::bufread::GzipDecoder::new(bytes);
    decoder.read_to_end(&mut plain).await.expect("gzip");
    plain
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let world = world().await;
    for (path, status, length) in [("/long.txt", 200, "10000"), ("/none", 404, "")] {
        let reply = world.send(Request::builder().method("HEAD").uri(path), "").await;
        assert_eq!((reply.status(), reply.body.len()), (status, 0), "{path}");
        assert!(reply.header("content-length") == length || status == 404);
        assert_ne!(reply.header("content-length"), "0");
    }
    let post = world
        .send(Request::builder().method("POST").uri("/long.txt"), "x")
        .await;
    assert_eq!((post.status(), post.header("allow")), (405, "GET, HEAD"));
    world.end().await;
}

#[tokio::test]
async fn no_path_leads_out_of_the_root() {
    let world = world().await;
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/docs/../../secret.txt",
        "/docs/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "//secret.txt",
        "/leak.txt",
        "/docs/.%2e/.%2e/secret.txt",
    ] {
        let reply = world.get(path, &[]).await;
        assert_eq!(reply.status(), 404, "{path}");
        assert!(!reply.text().contains("secret"), "{path}");
    }
    assert_eq!(world.get("/%zz", &[]).await.status(), 400);
    let mut leaked = String::new();
    let mut file = std::fs::File::open(world.directory.join("site/leak.txt")).expect("the link is good");
    file.read_to_string(&mut leaked).expect("read");
    assert_eq!(leaked, "secret", "only the server refuses it");
    world.end().await;
}

#[tokio::test]
async fn a_directory_gets_its_slash_and_its_index() {
    let world = world().await;
    let bare = world.get("/docs?x=1", &[]).await;
    assert_eq!((bare.status(), bare.header("location")), (308, "/docs/?x=1"));
    assert_eq!(world.get("/docs/", &[]).await.text(), "docs");
    assert_eq!(world.get("/long.txt/", &[]).await.status(), 404);
    world.end().await;
}
