//! What sites answer: files, their fields, pages for misses.

use std::time::{Duration, UNIX_EPOCH};

use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::pointers::{PointerEvent, Shown};

use crate::world::{SITE, World, files_of_all_kinds};

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &BlobHash::of(bytes).to_string()[..32])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_all_its_fields() {
    let world = World::with(&[("index.html", b"<h1>Hi</h1>"), ("empty.txt", b"")]).await;
    let response = world.get(SITE, "/");
    assert_eq!(response.status, 200);
    assert_eq!(response.body, b"<h1>Hi</h1>");
    assert_eq!(
        response.names(),
        [
            "accept-ranges",
            "cache-control",
            "content-length",
            "content-type",
            "date",
            "etag",
            "last-modified",
            "x-content-type-options"
        ]
    );
    assert_eq!(response.field("etag"), Some(&*etag(b"<h1>Hi</h1>")));
    assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(response.field("cache-control"), Some("public, max-age=0, must-revalidate"));
    assert_eq!(response.field("x-content-type-options"), Some("nosniff"));
    assert!(response.field("last-modified") <= response.field("date"));
    let empty = world.get(SITE, "/empty.txt");
    assert_eq!((empty.status, empty.field("content-length"), empty.body.len()), (200, Some("0"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_changes_is_kept_for_a_year() {
    const YEAR: &str = "public, max-age=31536000, immutable";
    const ASK: &str = "public, max-age=0, must-revalidate";
    let (script, page) = (&b"script"[..], &b"page"[..]);
    let files = [("app.4f3a9c1b.js", script), ("app.js", script), ("a.4f3a9c1b.html", page), ("404.html", page)];
    let world = World::with(&files).await;
    let image = world.publish("demo", "beta", &files).await;
    let hosted = format!("demo--i-{}.pages.test", image.host_digits());
    for (host, target, fields, status, want) in [
        (SITE, "/app.4f3a9c1b.js", "", 200, YEAR),
        (SITE, "/app.4f3a9c1b.js", "Range: bytes=0-1\r\n", 206, YEAR),
        (SITE, "/app.4f3a9c1b.js", "If-None-Match: *\r\n", 304, YEAR),
        ("demo-beta.pages.test", "/app.4f3a9c1b.js", "", 200, YEAR),
        // It can be closed at any time.
        (&*hosted, "/app.4f3a9c1b.js", "", 200, ASK),
        (SITE, "/app.js", "", 200, ASK),
        (SITE, "/a.4f3a9c1b.html", "", 200, ASK),
        (SITE, "/a.4f3a9c1b", "", 200, ASK),
        (SITE, "/gone.4f3a9c1b.js", "", 404, "no-cache"),
    ] {
        let response = world.connect().get(host, target, fields);
        assert_eq!((response.status, response.field("cache-control")), (status, Some(want)), "{host}{target} {fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_requests_and_ranges() {
    let clock = Clock::manual(UnixMillis(784_111_777_500));
    let world = World::start(clock.clone(), None, |_| {}, &[("a.txt", b"0123456789")]).await;
    clock.advance(Duration::from_secs(100));
    let tag = etag(b"0123456789");
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(784_111_777));
    let mut connection = world.connect();
    for (fields, status, body) in [
        (format!("If-None-Match: {tag}\r\n"), 304, ""),
        (format!("If-None-Match: \"x\"\r\nIf-None-Match: W/{tag}\r\n"), 304, ""),
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"), 200, "0123456789"),
        (format!("If-Modified-Since: {date}\r\n"), 304, ""),
        (format!("If-Modified-Since: {date}\r\nIf-Modified-Since: {date}\r\n"), 200, "0123456789"),
        ("If-Match: \"x\"\r\n".to_owned(), 412, "412"),
        (format!("If-Match: {tag}\r\nRange: bytes=2-4\r\n"), 206, "234"),
        ("Range: bytes=-3\r\n".to_owned(), 206, "789"),
        ("Range: bytes=7-\r\n".to_owned(), 206, "789"),
        ("Range: bytes=10-\r\n".to_owned(), 416, "416"),
        ("Range: lines=0-1\r\n".to_owned(), 200, "0123456789"),
        (format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"), 206, "234"),
        (format!("Range: bytes=2-4\r\nIf-Range: {date}\r\n"), 206, "234"),
        ("Range: bytes=2-4\r\nIf-Range: \"x\"\r\n".to_owned(), 200, "0123456789"),
        (format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\nIf-Range: {tag}\r\n"), 200, "0123456789"),
    ] {
        let response = connection.get(SITE, "/a.txt", &fields);
        assert_eq!(response.status, status, "{fields}");
        match status {
            304 => {
                assert_eq!(response.names(), ["cache-control", "date", "etag", "last-modified"], "{fields}");
                assert_eq!(response.field("last-modified"), Some(&*date));
            }
            206 => {
                let start = 10 - usize::from(body == "789") * 3 - usize::from(body == "234") * 8;
                let end = start + body.len() - 1;
                assert_eq!(response.field("content-range"), Some(&*format!("bytes {start}-{end}/10")), "{fields}");
                assert_eq!(response.text(), body, "{fields}");
            }
            200 => assert_eq!((response.text(), response.field("etag")), (body, Some(&*tag)), "{fields}"),
            416 => assert_eq!(response.field("content-range"), Some("bytes */10"), "{fields}"),
            _ => assert_eq!(response.field("x-content-type-options"), Some("nosniff"), "{fields}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_as_they_were_however_they_are_sent() {
    let files = files_of_all_kinds();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    for sendfile in [true, false] {
        let world = World::start(Clock::system(), None, |config| config.sendfile = Some(sendfile), &files).await;
        let mut connection = world.connect();
        // The second time it is at hand.
        for (name, file) in files.iter().chain(&files) {
            let target = format!("/{name}");
            let whole = connection.get(SITE, &target, "");
            assert!((whole.status, &*whole.body) == (200, file), "{target}, {sendfile}");
            let last = file.len() - 1;
            for (from, to) in
                [(0, last), (last / 2, last), (last.min(4097), last), (0, last.min(70_000)), (last / 3, last / 2)]
            {
                let part = connection.get(SITE, &target, &format!("Range: bytes={from}-{to}\r\n"));
                assert!(
                    (part.status, &*part.body) == (206, &file[from..=to]),
                    "{from} to {to} of {target}, {sendfile}"
                );
            }
            connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
            assert_eq!(connection.receive(false).field("content-length"), Some(&*file.len().to_string()));
        }
        // Requests that come together have their answers in their order.
        let all: String =
            files.iter().map(|(name, _)| format!("GET /{name} HTTP/1.1\r\nHost: {SITE}\r\n\r\n")).collect();
        connection.send(all);
        for (name, file) in &files {
            assert!(connection.receive(true).body == *file, "{name} among others, {sendfile}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_arrives_as_it_was() {
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    let world = World::with(&[("large.bin", &large)]).await;
    let mut connection = world.connect();
    let response = connection.get(SITE, "/large.bin", "");
    assert_eq!(response.status, 200);
    assert!(response.body == large, "every byte");
    for (from, to) in [(0, 0), (65_535, 65_536), (1_234_567, 3_456_789), (4_999_999, 4_999_999)] {
        let response = connection.get(SITE, "/large.bin", &format!("Range: bytes={from}-{to}\r\n"));
        assert_eq!(response.status, 206);
        assert!(response.body == large[from..=to], "bytes {from} to {to}");
    }
    connection.send(format!("HEAD /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    let head = connection.receive(false);
    assert_eq!((head.status, head.field("content-length")), (200, Some("5000000")));
    assert_eq!(connection.get(SITE, "/large.bin", "Range: bytes=-1\r\n").body, large[4_999_999..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_get_the_nearest_page() {
    let files: [(&str, &[u8]); 3] = [("404.html", b"root"), ("a/404.html", b"nested"), ("a/b/index.html", b"b")];
    let world = World::with(&files).await;
    for (target, body) in [("/x", "root"), ("/a/x", "nested"), ("/a/b/c/d", "nested"), ("/c/", "root")] {
        let tag = etag(body.as_bytes());
        let fields = format!("If-None-Match: {tag}\r\nRange: bytes=0-0\r\n");
        let response = world.connect().get(SITE, target, &fields);
        assert_eq!((response.status, response.text()), (404, body), "{target}");
        assert_eq!(
            response.names(),
            ["cache-control", "content-length", "content-type", "date", "x-content-type-options"]
        );
        assert_eq!(response.field("cache-control"), Some("no-cache"));
    }
    let mut connection = world.connect();
    connection.send(format!("HEAD /x HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    let head = connection.receive(false);
    assert_eq!((head.status, head.field("content-length")), (404, Some("4")));
    assert_eq!(connection.get(SITE, "/a/b/", "").text(), "b");

    world.publish("bare", "prod", &[("a.txt", b"a")]).await;
    let response = world.get("bare.pages.test", "/%3Cscript%3E");
    assert_eq!((response.status, response.field("cache-control")), (404, Some("no-cache")));
    assert!(response.text().starts_with("<!doctype html>") && !response.text().contains("script"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_keep_the_query() {
    let world = World::with(&[("docs/index.html", b"docs"), ("page.html", b"page")]).await;
    for (target, location) in [
        ("/docs?a=1", "/docs/?a=1"),
        ("/page/", "/page"),
        ("//page", "/page"),
        ("//evil.example/%2e./", ""),
        ("//evil.example//x", "/evil.example/x"),
    ] {
        let response = world.get(SITE, target);
        if location.is_empty() {
            assert_eq!(response.status, 400, "{target}");
            continue;
        }
        assert_eq!((response.status, response.field("location")), (308, Some(location)), "{target}");
        assert_eq!(response.field("cache-control"), Some("max-age=300"));
        assert_eq!(response.field("content-length"), Some("0"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_what_they_show() {
    let world = World::with(&[("index.html", b"one")]).await;
    let image = world.publish("demo", "beta", &[("index.html", b"two")]).await;
    world.publish("demo", "pr-7", &[("index.html", b"seven")]).await;
    let hosted = format!("demo--i-{}.pages.test", image.host_digits());
    for (host, status, body, indexed) in [
        (SITE, 200, "one", true),
        ("DEMO.Pages.Test.:8080", 200, "one", true),
        ("demo-beta.pages.test", 200, "two", false),
        ("demo--pr-7.pages.test", 200, "seven", false),
        (&*hosted, 200, "two", false),
        ("demo--i-0123456789abcdef.pages.test", 404, "", false),
        ("nobody--i-0123456789abcdef.pages.test", 404, "", false),
        ("demo--other.pages.test", 404, "", false),
        ("nobody.pages.test", 404, "", true),
        ("a.demo.pages.test", 404, "", false),
        ("example.com", 404, "", true),
        // A control host, and nobody to hand it to.
        ("pages.test", 404, "", false),
    ] {
        let response = world.get(host, "/");
        assert_eq!(response.status, status, "{host}");
        if status == 200 {
            assert_eq!(response.text(), body, "{host}");
        } else {
            assert_eq!(response.field("cache-control"), Some("no-cache"), "{host}");
        }
        assert_eq!(response.field("x-robots-tag"), (!indexed).then_some("noindex"), "{host}");
        assert_eq!(response.field("x-content-type-options"), Some("nosniff"), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_ends_at_its_time() {
    let clock = Clock::manual(UnixMillis(1_000_000));
    let world = World::start(clock.clone(), None, |_| {}, &[("index.html", b"one")]).await;
    let resolver = world.engine.resolver();
    let pointer = resolver.pointers().find("demo", "prod").unwrap();
    let shown = Shown {
        image: pointer.image,
        manifest: pointer.manifest,
        released_at: pointer.released_at,
        last_modified: pointer.last_modified,
        expires_at: Some(UnixMillis(1_005_000)),
    };
    let environment: EnvironmentName = "soon".parse().unwrap();
    let project_id = pointer.project_id;
    resolver.pointers().apply(PointerEvent::Pointer { project_id, environment, number: 1, shows: Some(shown) });
    let mut connection = world.connect();
    assert_eq!(connection.get("demo--soon.pages.test", "/", "").status, 200);
    clock.advance(Duration::from_secs(5));
    assert_eq!(connection.get("demo--soon.pages.test", "/", "").status, 410);
    assert_eq!(connection.get(SITE, "/", "").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_sees_every_release() {
    let world = World::with(&[("index.html", b"one"), ("only-one.txt", b"1")]).await;
    let mut connection = world.connect();
    assert_eq!(connection.get(SITE, "/", "").text(), "one");
    assert_eq!(connection.get(SITE, "/only-one.txt", "").text(), "1");
    world.publish("demo", "prod", &[("index.html", b"two")]).await;
    assert_eq!(connection.get(SITE, "/", "").text(), "two");
    assert_eq!(connection.get(SITE, "/only-one.txt", "").status, 404);
    world.publish("demo", "prod", &[("index.html", b"one"), ("only-one.txt", b"1")]).await;
    assert_eq!(connection.get(SITE, "/", "").text(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_lost_is_an_error_and_never_wrong_bytes() {
    let large = vec![7; 300_000];
    let files: [(&str, &[u8]); 4] =
        [("lost.txt", b"lost"), ("rotten.txt", b"rotten"), ("fine.txt", b"fine"), ("large.bin", &large)];
    let world = World::with(&files).await;
    std::fs::remove_file(world.blob_file(b"lost")).unwrap();
    std::fs::write(world.blob_file(b"rotten"), b"ROTTEN").unwrap();
    let mut connection = world.connect();
    for (target, status, retry) in [("/lost.txt", 503, Some("5")), ("/rotten.txt", 500, None)] {
        let response = connection.get(SITE, target, "");
        assert_eq!((response.status, response.field("cache-control")), (status, Some("no-store")), "{target}");
        assert_eq!(response.field("retry-after"), retry, "{target}");
    }
    // What was lost is served once it is back.
    std::fs::write(world.blob_file(b"lost"), b"lost").unwrap();
    assert_eq!(connection.get(SITE, "/lost.txt", "").text(), "lost");
    assert_eq!(connection.get(SITE, "/fine.txt", "").text(), "fine");
    // Cut while it is open: the connection ends instead of the body.
    assert_eq!(connection.get(SITE, "/large.bin", "Range: bytes=0-0\r\n").status, 206);
    std::fs::OpenOptions::new().write(true).open(world.blob_file(&large)).unwrap().set_len(100_000).unwrap();
    connection.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    let mut sent = Vec::new();
    let ended = std::io::Read::read_to_end(&mut connection.stream, &mut sent);
    assert!(ended.is_err() || sent.len() < 300_000, "{} bytes came", sent.len());
}
