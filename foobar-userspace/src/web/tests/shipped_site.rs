//! The site that ships: served with the right types, and within its own content security policy.

use std::path::Path;

use super::world::{World, nobody};

#[tokio::test]
async fn every_file_that_the_site_names_is_served_with_its_type() {
    let mut world = World::with(&[nobody().await], "").await;
    world.config.root = Path::new(env!("CARGO_MANIFEST_DIR")).join("site");
    world.server.reload(&world.config).expect("reloaded");
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/mark.svg", "image/svg+xml"),
        ("/js/main.js", "text/javascript; charset=utf-8"),
        ("/js/api.js", "text/javascript; charset=utf-8"),
        ("/js/dom.js", "text/javascript; charset=utf-8"),
        ("/js/form.js", "text/javascript; charset=utf-8"),
        ("/js/views.js", "text/javascript; charset=utf-8"),
    ] {
        let reply = world.get(path, &[]).await;
        assert_eq!(
            (reply.status(), reply.header("content-type")),
            (200, content_type),
            "{path}"
        );
        let text = reply.text();
        // What the policy forbids would fail silently in a browser; markup from text is how scripts get in.
        for forbidden in [
            " style=",
            "onclick=",
            "<style",
            "innerHTML",
            "insertAdjacentHTML",
            "eval(",
            "https://",
        ] {
            assert!(!text.contains(forbidden), "{path} has {forbidden}");
        }
    }
    world.end().await;
}
