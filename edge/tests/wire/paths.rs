//! Which address a page has, and what is answered where there is nothing.

use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::{HtmlMode, NotFoundMode, Settings};

use crate::world::{Response, SITE, World};

#[tokio::test(flavor = "multi_thread")]
async fn every_html_mode_is_served() {
    let world = World::with(&[]).await;
    let files: [(&str, &[u8]); 3] =
        [("index.html", b"start"), ("file.html", b"file"), ("folder/index.html", b"folder")];
    let targets = ["/index.html", "/file", "/file/", "/file.html", "/folder?q=1", "/folder/?q=1"];
    for (html, want) in [
        (HtmlMode::Keep, ["start", "file", "/file", "file", "/folder/?q=1", "folder"]),
        (HtmlMode::Auto, ["/", "file", "/file", "/file", "/folder/?q=1", "folder"]),
        (HtmlMode::None, ["start", "404", "404", "file", "404", "404"]),
        (HtmlMode::DropSlash, ["/", "file", "/file", "/file", "folder", "/folder?q=1"]),
        (HtmlMode::ForceSlash, ["/", "/file/", "file", "/file/", "/folder/?q=1", "folder"]),
    ] {
        world.publish_as("demo", "prod", Settings { html, ..Settings::default() }, &files).await;
        let mut connection = world.connect();
        for (target, want) in targets.into_iter().zip(want) {
            let response = connection.get(SITE, target, "");
            match response.status {
                200 => assert_eq!(response.text(), want, "{html:?}: {target}"),
                308 => assert_eq!(response.field("location"), Some(want), "{html:?}: {target}"),
                status => assert_eq!(status.to_string(), want, "{html:?}: {target}"),
            }
        }
    }
}

const PAGE: &[u8] = b"<!doctype html><title>One page</title>";

/// A world whose `demo` is one page.
async fn one_page() -> World {
    let world = World::with(&[]).await;
    let files: [(&str, &[u8]); 3] = [("index.html", PAGE), ("app.js", b"app"), ("404.html", b"missing")];
    let settings = Settings { not_found: NotFoundMode::Spa, ..Settings::default() };
    world.publish_as("demo", "prod", settings, &files).await;
    world
}

/// Names that the answers of a miss have on a site that is one page, whether as the page or as a miss.
#[track_caller]
fn depends_on_who_asks(response: &Response) {
    let names: Vec<&str> = response.field("vary").expect("it depends on something").split(", ").collect();
    assert!(names.contains(&"Sec-Fetch-Mode") && names.contains(&"Accept"), "{response:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_page_is_for_navigations_only() {
    let world = one_page().await;
    let mut connection = world.connect();
    for (target, fields, status, varies) in [
        ("/a/route", "Sec-Fetch-Mode: navigate\r\n", 200, true),
        ("/a/route", "Sec-Fetch-Mode: navigate\r\nAccept: */*\r\n", 200, true),
        ("/a/route", "Accept: text/html,*/*;q=0.8\r\n", 200, true),
        ("/a/route", "Accept: application/json\r\nAccept: text/html\r\n", 200, true),
        ("/a/route", "Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n", 404, true),
        ("/a/route", "Accept: */*\r\n", 404, true),
        ("/a/route", "", 404, true),
        ("/missing.js", "Sec-Fetch-Mode: navigate\r\n", 404, false),
        ("/app.js", "Sec-Fetch-Mode: no-cors\r\n", 200, false),
        ("/", "", 200, false),
    ] {
        let response = connection.get(SITE, target, fields);
        assert_eq!(response.status, status, "{target} {fields:?}");
        if varies {
            depends_on_who_asks(&response);
        } else {
            let names_who_asks = response.field("vary").is_some_and(|names| names.contains("Sec-Fetch-Mode"));
            assert!(!names_who_asks, "{target} {fields:?}: {response:?}");
        }
        if status == 404 {
            assert_eq!((response.text(), response.field("cache-control")), ("missing", Some("no-cache")), "{target}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_page_is_answered_as_the_file_that_it_is() {
    let world = one_page().await;
    let tag = format!("\"{}\"", &BlobHash::of(PAGE).to_string()[..32]);
    let mut connection = world.connect();
    let start = connection.get(SITE, "/", "");
    let navigate = "Sec-Fetch-Mode: navigate\r\n";
    let route = connection.get(SITE, "/a/route", navigate);
    assert_eq!((route.status, &*route.body), (200, PAGE));
    depends_on_who_asks(&route);
    for name in ["etag", "last-modified", "cache-control", "content-type", "content-length", "accept-ranges"] {
        assert_eq!(route.field(name), start.field(name), "{name}");
    }
    assert_eq!(route.field("cache-control"), Some("public, max-age=0, must-revalidate"));

    let same = connection.get(SITE, "/a/route", &format!("{navigate}If-None-Match: {tag}\r\n"));
    assert_eq!((same.status, same.field("etag")), (304, Some(&*tag)));
    depends_on_who_asks(&same);
    let other = connection.get(SITE, "/a/route", &format!("{navigate}If-None-Match: \"x\"\r\n"));
    assert_eq!(other.status, 200);
    // Who is not shown the page is not told that he has it.
    let script = connection.get(SITE, "/a/route", &format!("Sec-Fetch-Mode: cors\r\nIf-None-Match: {tag}\r\n"));
    assert_eq!(script.status, 404);

    let part = connection.get(SITE, "/a/route", &format!("{navigate}Range: bytes=0-8\r\nIf-Range: {tag}\r\n"));
    assert_eq!((part.status, part.text()), (206, "<!doctype"));
    depends_on_who_asks(&part);

    connection.send(format!("HEAD /a/route HTTP/1.1\r\nHost: {SITE}\r\n{navigate}\r\n"));
    let head = connection.receive(false);
    assert_eq!((head.status, head.field("content-length")), (200, route.field("content-length")));
    depends_on_who_asks(&head);
    connection.send(format!("HEAD /a/route HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    let head = connection.receive(false);
    assert_eq!((head.status, head.field("content-length")), (404, Some("7")));
    depends_on_who_asks(&head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_page_makes_a_site_one_page() {
    let world = World::with(&[("index.html", b"start"), ("200.html", PAGE)]).await;
    let navigate = "Sec-Fetch-Mode: navigate\r\n";
    let route = world.connect().get(SITE, "/a/route", navigate);
    assert_eq!((route.status, &*route.body), (200, PAGE));
    let script = world.get(SITE, "/a/route");
    assert_eq!(script.status, 404);
    depends_on_who_asks(&script);
    assert!(script.text().starts_with("<!doctype html>"), "the built-in page");

    // Without it, at the next release, the site is one no more.
    world.publish("demo", "prod", &[("index.html", b"start")]).await;
    let route = world.connect().get(SITE, "/a/route", navigate);
    assert_eq!(route.status, 404);
    assert!(route.field("vary").is_none_or(|names| !names.contains("Sec-Fetch-Mode")), "{route:?}");
}
