//! The app tier against a real MariaDB of the test's own: the contract's calls and refusals, a database
//! that goes and comes back, and servers that start together on an empty one.
//!
//! Relies on the harness in `app_mariadb/` for the database and for HTTP. Everything is on loopback.

#[path = "app_mariadb/database.rs"]
mod database;
#[path = "app_mariadb/http.rs"]
mod http;

use std::time::{Duration, Instant};

use database::MariaDb;
use foobar::app::{AppServer, Config};
use http::{Reply, Site};
use serde_json::{Value, json};

/// A wait for something that must happen; two busy cores may make it slow.
const PATIENCE: Duration = Duration::from_secs(60);

async fn serve(database: &MariaDb) -> (AppServer, Site) {
    let config: Config = toml::from_str(&database.app_config()).unwrap();
    let server = AppServer::start(&config).await.unwrap();
    let site = Site::new(server.address());
    (server, site)
}

async fn until_healthy(site: &Site) {
    let start = Instant::now();
    while site.get("/healthz").await.status != 200 {
        assert!(
            start.elapsed() < PATIENCE,
            "the app server does not become healthy"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ready(database: &MariaDb) -> (AppServer, Site) {
    let (server, site) = serve(database).await;
    until_healthy(&site).await;
    (server, site)
}

async fn sign_up(site: &Site, name: &str) -> String {
    let email = format!("{name}@example.com");
    let user = json!({"user": {"username": name, "email": email, "password": "secret"}});
    let reply = site.post("/api/users", None, &user).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.body["user"]["token"].as_str().unwrap().to_owned()
}

async fn publish(site: &Site, token: &str, title: &str, tags: &[&str]) -> Value {
    let article =
        json!({"article": {"title": title, "description": "about", "body": "text", "tagList": tags}});
    let reply = site.post("/api/articles", Some(token), &article).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.body["article"].clone()
}

fn assert_refused(reply: &Reply, status: u16, field: &str, message: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.body, json!({"errors": {field: [message]}}));
    assert_eq!(reply.content_type, "application/json; charset=utf-8");
}

fn titles(reply: &Reply) -> Vec<&str> {
    reply.body["articles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["title"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts() {
    let database = MariaDb::start();
    let (server, site) = ready(&database).await;

    let new = json!({"user": {"username": "alice", "email": "Alice@example.com", "password": "secret"}});
    let reply = site.post("/api/users", None, &new).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.content_type, "application/json; charset=utf-8");
    let mut user = reply.body["user"].clone();
    let token = user["token"].take();
    assert_eq!(
        user,
        json!({"username": "alice", "email": "Alice@example.com", "bio": null, "image": null, "token": null})
    );
    let token = token.as_str().unwrap();

    // Taken: the name exactly, the email in any case.
    let register = async |username: &str, email: &str| {
        let user = json!({"user": {"username": username, "email": email, "password": "x"}});
        site.post("/api/users", None, &user).await
    };
    let taken = "has already been taken";
    assert_refused(
        &register("alice", "other@example.com").await,
        409,
        "username",
        taken,
    );
    assert_refused(&register("bob", "aLICE@EXAMPLE.com").await, 409, "email", taken);
    assert_refused(&register("bob", "nowhere").await, 422, "email", "is invalid");
    let blank = site
        .post(
            "/api/users",
            None,
            &json!({"user": {"email": "", "password": null}}),
        )
        .await;
    assert_eq!(blank.status, 422);
    assert_eq!(
        blank.body["errors"],
        json!({"email": ["can't be blank"], "password": ["can't be blank"], "username": ["can't be blank"]})
    );
    let malformed = site.send("POST", "/api/users", None, Some(b"{\"user\":")).await;
    assert_refused(&malformed, 422, "body", "is not valid JSON");
    let huge = vec![b' '; (1 << 20) + 1];
    assert_eq!(
        site.send("POST", "/api/users", None, Some(&huge)).await.status,
        413
    );

    // Logging in: the email in any case; wrong email and wrong password are one answer.
    let login = async |email: &str, password: &str| {
        let user = json!({"user": {"email": email, "password": password}});
        site.post("/api/users/login", None, &user).await
    };
    let reply = login("alice@example.com", "secret").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["user"]["email"], "Alice@example.com");
    assert_refused(
        &login("alice@example.com", "Secret").await,
        401,
        "credentials",
        "invalid",
    );
    assert_refused(
        &login("nobody@example.com", "secret").await,
        401,
        "credentials",
        "invalid",
    );

    // Who am I.
    assert_eq!(
        site.get_as("/api/user", token).await.body["user"]["username"],
        "alice"
    );
    assert_refused(&site.get("/api/user").await, 401, "token", "is missing");
    assert_refused(
        &site.get_as("/api/user", "no.such.token").await,
        401,
        "token",
        "is invalid",
    );

    // Changes: only what is given; empty means none for bio and image; nothing at all is refused.
    let change = async |fields: Value| site.put("/api/user", token, &json!({ "user": fields })).await;
    let reply = change(json!({"bio": "I write", "image": "https://example.com/a.png"})).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["user"]["bio"], "I write");
    let reply = change(json!({"bio": "", "password": "newer"})).await;
    assert_eq!(reply.body["user"]["bio"], Value::Null);
    assert_eq!(reply.body["user"]["image"], "https://example.com/a.png");
    assert_eq!(reply.body["user"]["username"], "alice");
    assert_eq!(login("alice@example.com", "secret").await.status, 401);
    assert_eq!(login("alice@example.com", "newer").await.status, 200);
    assert_refused(&change(json!({})).await, 422, "user", "can't be blank");
    assert_refused(
        &change(json!({"username": null})).await,
        422,
        "username",
        "can't be blank",
    );
    sign_up(&site, "carol").await;
    assert_refused(
        &change(json!({"username": "carol"})).await,
        409,
        "username",
        taken,
    );

    assert_refused(&site.get("/api/nothing").await, 404, "path", "not found");
    assert_refused(
        &site.send("DELETE", "/api/tags", None, None).await,
        405,
        "method",
        "not allowed",
    );
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_one_name_at_once_one_gets_it() {
    let database = MariaDb::start();
    let (server, site) = ready(&database).await;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..8 {
        let site = site.clone();
        tries.spawn(async move {
            let email = format!("{n}@example.com");
            let user = json!({"user": {"username": "wanted", "email": email, "password": "x"}});
            site.post("/api/users", None, &user).await.status
        });
    }
    let mut statuses = tries.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn articles_are_published_changed_and_removed_by_their_author() {
    let database = MariaDb::start();
    let (server, site) = ready(&database).await;
    let alice = sign_up(&site, "alice").await;
    let bob = sign_up(&site, "bob").await;

    let first = publish(&site, &alice, "On dragons ❤", &["zebra", "ant", "zebra"]).await;
    assert_eq!(first["slug"], "on-dragons");
    assert_eq!(first["title"], "On dragons ❤");
    assert_eq!(first["tagList"], json!(["zebra", "ant"]));
    let author = json!({"username": "alice", "bio": null, "image": null, "following": false});
    assert_eq!(first["author"], author);
    assert_eq!(
        (&first["favorited"], &first["favoritesCount"]),
        (&json!(false), &json!(0))
    );
    let created = first["createdAt"].as_str().unwrap();
    assert!(created.len() == 24 && created.ends_with('Z'), "{created}");
    assert_eq!(first["updatedAt"], created);
    assert_eq!(site.get("/api/articles/on-dragons").await.body["article"], first);
    let twin = publish(&site, &bob, "On Dragons", &[]).await;
    assert!(
        twin["slug"].as_str().unwrap().starts_with("on-dragons-"),
        "{twin}"
    );

    // Order of refusal: token, existence, ownership, content.
    let bad = json!({"article": {"title": ""}});
    let path = "/api/articles/on-dragons";
    assert_refused(
        &site.send("PUT", "/api/articles/none", None, None).await,
        401,
        "token",
        "is missing",
    );
    assert_refused(
        &site.put("/api/articles/none", &bob, &bad).await,
        404,
        "article",
        "not found",
    );
    assert_refused(
        &site.put("/api/articles/%ff", &bob, &bad).await,
        404,
        "article",
        "not found",
    );
    assert_refused(
        &site.put("/api/articles/%C3%BC", &bob, &bad).await,
        404,
        "article",
        "not found",
    );
    assert_refused(&site.put(path, &bob, &bad).await, 403, "article", "forbidden");
    assert_refused(
        &site.put(path, &alice, &bad).await,
        422,
        "title",
        "can't be blank",
    );
    assert_refused(&site.delete(path, &bob).await, 403, "article", "forbidden");
    let no_tags = json!({"article": {"tagList": null}});
    assert_refused(
        &site.put(path, &alice, &no_tags).await,
        422,
        "tagList",
        "must be a list of strings",
    );
    let blank = site
        .post("/api/articles", Some(&alice), &json!({"article": {"title": 7}}))
        .await;
    assert_eq!(
        blank.body["errors"],
        json!({"title": ["must be a string"], "description": ["can't be blank"], "body": ["can't be blank"]})
    );

    // Each change gives a later updatedAt, a new title a new slug.
    let mut last = first["updatedAt"].as_str().unwrap().to_owned();
    for n in 0..5 {
        let change = json!({"article": {"description": format!("about {n}")}});
        let article = site.put(path, &alice, &change).await.body["article"].clone();
        assert_eq!(article["tagList"], json!(["zebra", "ant"]));
        assert_eq!(article["createdAt"], first["createdAt"]);
        let updated = article["updatedAt"].as_str().unwrap().to_owned();
        assert!(updated > last, "{updated} after {last}");
        last = updated;
    }
    let change = json!({"article": {"title": "On wyverns", "tagList": []}});
    let reply = site.put(path, &alice, &change).await;
    assert_eq!(reply.body["article"]["slug"], "on-wyverns");
    assert_eq!(reply.body["article"]["tagList"], json!([]));
    assert_eq!(reply.body["article"]["body"], "text");
    assert_refused(&site.get(path).await, 404, "article", "not found");
    let taken = json!({"article": {"title": "On Wyverns!"}});
    let reply = site
        .put(
            &format!("/api/articles/{}", twin["slug"].as_str().unwrap()),
            &bob,
            &taken,
        )
        .await;
    assert!(
        reply.body["article"]["slug"]
            .as_str()
            .unwrap()
            .starts_with("on-wyverns-"),
        "{reply:?}"
    );

    let reply = site.delete("/api/articles/on-wyverns", &alice).await;
    assert_eq!((reply.status, reply.length), (204, 0));
    assert_refused(
        &site.delete("/api/articles/on-wyverns", &alice).await,
        404,
        "article",
        "not found",
    );
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_newest_first_by_page_and_filter() {
    let database = MariaDb::start();
    let (server, site) = ready(&database).await;
    let alice = sign_up(&site, "alice").await;
    let bob = sign_up(&site, "bob").await;
    publish(&site, &alice, "On wyverns", &[]).await;
    for n in 0..26 {
        publish(
            &site,
            &bob,
            &format!("Part {n}"),
            if n % 2 == 0 { &["part", "even"] } else { &["part"] },
        )
        .await;
    }
    // All of one moment: what then decides the order must be stable.
    database.query("UPDATE articles SET created_at = '2026-01-01 00:00:00'");

    let list = site.get("/api/articles").await;
    assert_eq!(list.body["articlesCount"], 27);
    let expected: Vec<String> = (6..26).rev().map(|n| format!("Part {n}")).collect();
    assert_eq!(titles(&list), expected);
    assert!(list.body["articles"][0].get("body").is_none());
    assert_eq!(list.body["articles"][1]["tagList"], json!(["part", "even"]));
    let page = site
        .get("/api/articles?tag=even&author=bob&limit=3&offset=2")
        .await;
    assert_eq!(titles(&page), ["Part 20", "Part 18", "Part 16"]);
    assert_eq!(page.body["articlesCount"], 13);
    let alices = site.get("/api/articles?author=alice").await;
    assert_eq!(
        (titles(&alices), &alices.body["articlesCount"]),
        (vec!["On wyverns"], &json!(1))
    );
    for none in [
        "author=nobody",
        "tag=zebra",
        "tag=EVEN",
        "favorited=bob",
        "offset=27",
    ] {
        assert!(
            titles(&site.get(&format!("/api/articles?{none}")).await).is_empty(),
            "{none}"
        );
    }
    let refused = site.get("/api/articles?limit=101").await;
    assert_refused(&refused, 422, "limit", "must be a number from 1 to 100");
    assert_eq!(
        site.get("/api/tags").await.body,
        json!({"tags": ["even", "part"]})
    );

    // The look-ups that every page makes go by an index.
    for (statement, key) in [
        (
            "SELECT id FROM articles ORDER BY created_at DESC, id DESC LIMIT 20",
            "articles_newest",
        ),
        (
            "SELECT id FROM articles WHERE slug = _utf8mb4'part-7'",
            "articles_slug",
        ),
        (
            "SELECT 1 FROM article_tags WHERE tag = _utf8mb4'part' AND article_id = 3",
            "article_tags_tag",
        ),
        (
            "SELECT id FROM users WHERE email = 'ALICE@example.com'",
            "users_email",
        ),
    ] {
        let plan = database.query(&format!("EXPLAIN {statement}"));
        assert!(plan.contains(key), "{statement}: {plan}");
    }
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_is_503_and_one_that_returns_is_used_again() {
    let mut database = MariaDb::start();
    let (server, site) = ready(&database).await;
    let token = sign_up(&site, "alice").await;

    database.stop();
    assert_refused(&site.get("/api/tags").await, 503, "database", "is unavailable");
    assert_refused(
        &site.get_as("/api/user", &token).await,
        503,
        "database",
        "is unavailable",
    );
    // A bad token needs no database to be refused.
    assert_refused(&site.get_as("/api/user", "x").await, 401, "token", "is invalid");
    let start = Instant::now();
    while site.get("/healthz").await.status != 503 {
        assert!(
            start.elapsed() < PATIENCE,
            "the app server stays healthy without its database"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    database.start_again();
    until_healthy(&site).await;
    assert_eq!(site.get_as("/api/user", &token).await.status, 200);
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_start_without_a_database_and_together_on_an_empty_one() {
    let mut database = MariaDb::start();
    database.stop();
    let (first, at_first) = serve(&database).await;
    let (second, at_second) = serve(&database).await;
    for site in [&at_first, &at_second] {
        assert_refused(&site.get("/api/tags").await, 503, "database", "is unavailable");
        assert_eq!(site.get("/healthz").await.status, 503);
    }
    database.start_again();
    // Both have waited for it; a third comes now.
    let (third, at_third) = serve(&database).await;
    tokio::join!(
        until_healthy(&at_first),
        until_healthy(&at_second),
        until_healthy(&at_third)
    );
    assert_eq!(
        database.query("SELECT COUNT(*), MIN(success) FROM _sqlx_migrations"),
        "3\t1"
    );
    // An account made by one is known to the others.
    let token = sign_up(&at_first, "alice").await;
    for site in [&at_second, &at_third] {
        assert_eq!(site.get_as("/api/user", &token).await.status, 200);
    }
    for server in [first, second, third] {
        server.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_waits_while_another_holds_the_migration_lock() {
    let database = MariaDb::start();
    let mut holder = database.hold_migration_lock();
    let (server, site) = serve(&database).await;
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock'";
    let start = Instant::now();
    while database.query(waiting) != "1" {
        assert!(start.elapsed() < PATIENCE, "the server does not ask for the lock");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(site.get("/healthz").await.status, 503);
    assert_eq!(database.query("SHOW TABLES"), "");
    holder.kill().unwrap();
    holder.wait().unwrap();
    until_healthy(&site).await;
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_left_half_way_runs_again() {
    let database = MariaDb::start();
    let (server, _site) = ready(&database).await;
    server.drain().await;
    database.query(
        "UPDATE _sqlx_migrations SET success = FALSE WHERE version = 20260101000003; DROP TABLE article_tags",
    );
    let (server, site) = ready(&database).await;
    assert_eq!(site.get("/api/tags").await.body, json!({"tags": []}));
    server.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_server_finishes_what_it_has_begun_and_takes_nothing_new() {
    let database = MariaDb::start();
    let (server, site) = ready(&database).await;
    let user = json!({"user": {"username": "alice", "email": "alice@example.com", "password": "secret"}});
    let body = serde_json::to_vec(&user).unwrap();
    // A request whose second half arrives after the drain has begun.
    let half_sent = site.begin("POST", "/api/users", &body).await;
    let draining = tokio::spawn(server.drain());
    let start = Instant::now();
    while site.is_listening().await {
        assert!(start.elapsed() < PATIENCE, "the server goes on listening");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(half_sent.finish().await.status, 201);
    draining.await.unwrap();
}
