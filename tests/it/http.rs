//! What the edge answers, as bytes on the wire of the real server.

use crate::site::{self, Files};
use crate::wire::{Connection, Response};
use crate::world::World;

const SITE: &str = "demo.localhost";

fn files(list: &[(&str, &str)]) -> Files {
    list.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn a_file_and_its_headers() {
    let world = World::start();
    let page = b"<!doctype html><title>x</title>".to_vec();
    world.publish("demo", &vec![("index.html".to_owned(), page.clone())]);
    let answer = world.get(SITE, "/").expect(200);
    assert_eq!(answer.body, page);
    for (name, want) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", &*page.len().to_string()),
        ("cache-control", "public, max-age=0, must-revalidate"),
        ("x-content-type-options", "nosniff"),
        ("accept-ranges", "bytes"),
        ("etag", &*site::etag(&page)),
    ] {
        assert_eq!(answer.header(name), Some(want), "{name} in {:?}", answer.headers);
    }
    for name in ["last-modified", "date"] {
        let value = answer.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", answer.headers));
        assert!(value.ends_with(" GMT"), "{name}: {value}");
    }
    assert_eq!(answer.header("x-robots-tag"), None);

    let head = world.request("HEAD", SITE, "/", &[]).expect(200);
    let but_date =
        |headers: &[(String, String)]| headers.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>();
    assert_eq!(but_date(&head.headers), but_date(&answer.headers));
    assert!(head.body.is_empty());
}

#[test]
fn only_prod_may_be_indexed() {
    let world = World::start();
    let image = world.publish("demo", &files(&[("index.html", "x")]));
    world.release("demo", "beta", &image);
    world.release("demo", "pr-7", &image);
    let digits = &image.strip_prefix("img_").expect("an image's id")[..16];
    let image_host = format!("demo--i-{digits}.localhost");
    for (host, want) in [
        (SITE, None),
        ("demo-beta.localhost", Some("noindex")),
        ("demo--pr-7.localhost", Some("noindex")),
        (&*image_host, Some("noindex")),
    ] {
        let answer = world.get(host, "/").expect(200);
        assert_eq!(answer.header("x-robots-tag"), want, "{host}");
        assert_eq!(answer.text(), "x", "{host}");
    }
}

#[test]
fn conditional_requests() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "one")]));
    let first = world.get(SITE, "/").expect(200);
    let etag = first.header("etag").expect("an entity tag").to_owned();
    let modified = first.header("last-modified").expect("a time").to_owned();
    let weak = format!("W/{etag}");
    let list = format!("\"other\", {etag}");
    for (field, value, status) in [
        ("If-None-Match", &*etag, 304),
        ("If-None-Match", &*weak, 304),
        ("If-None-Match", &*list, 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"other\"", 200),
        ("If-Modified-Since", &*modified, 304),
        ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("If-Modified-Since", "yesterday", 200),
        ("If-Match", &*etag, 200),
        ("If-Match", "\"other\"", 412),
        ("If-Unmodified-Since", &*modified, 200),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 412),
    ] {
        let answer = world.request("GET", SITE, "/", &[(field, value)]).expect(status);
        if status == 304 {
            assert_eq!(answer.header("etag"), Some(&*etag));
            assert_eq!(answer.header("cache-control"), first.header("cache-control"));
            assert!(answer.header("date").is_some());
        }
    }
    // If-None-Match decides, whatever the date says.
    let both = [("If-None-Match", "\"other\""), ("If-Modified-Since", &*modified)];
    world.request("GET", SITE, "/", &both).expect(200);
    // Its field may come in several lines.
    let lines = [("If-None-Match", "\"other\""), ("If-None-Match", &*etag)];
    world.request("GET", SITE, "/", &lines).expect(304);
}

#[test]
fn an_entity_tag_outlives_releases_and_a_rollback_is_newer() {
    let world = World::start();
    let one = world.publish("demo", &files(&[("index.html", "one"), ("same.txt", "same")]));
    let first = world.get(SITE, "/same.txt").expect(200);
    world.publish("demo", &files(&[("index.html", "two"), ("same.txt", "same")]));
    world.release("demo", "prod", &one);
    let last = world.get(SITE, "/same.txt").expect(200);
    assert_eq!(last.header("etag"), first.header("etag"));
    let time = |answer: &Response| moment(answer.header("last-modified").expect("a time"));
    assert!(time(&last) >= time(&first), "{last:?} is older than {first:?}");
    let tag = first.header("etag").expect("an entity tag").to_owned();
    world.request("GET", SITE, "/same.txt", &[("If-None-Match", &tag)]).expect(304);
}

/// Orders dates such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn moment(text: &str) -> (u32, u32, u32, String) {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split(' ').collect();
    let month = months.iter().position(|month| *month == parts[2]).expect("a month");
    let month = u32::try_from(month).expect("twelve at most");
    (parts[3].parse().unwrap(), month, parts[1].parse().unwrap(), parts[4].to_owned())
}

#[test]
fn ranges() {
    let world = World::start();
    let big = site::noise("ranges", 3_000_000);
    world.publish("demo", &vec![("big.bin".to_owned(), big.clone()), ("empty".to_owned(), Vec::new())]);
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=0-99", 0..100),
        ("bytes=1000000-1999999", 1_000_000..2_000_000),
        ("bytes=2999999-", 2_999_999..3_000_000),
        ("bytes=-10", 2_999_990..3_000_000),
        ("bytes=-9999999", 0..3_000_000),
        ("bytes=5-99999999", 5..3_000_000),
    ] {
        let answer = world.request("GET", SITE, "/big.bin", &[("Range", range)]).expect(206);
        assert!(answer.body == big[part.clone()], "{range}");
        let want = format!("bytes {}-{}/3000000", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), Some(&*want), "{range}");
        assert_eq!(answer.header("content-length"), Some(&*part.len().to_string()), "{range}");
    }
    for range in ["bytes=3000000-", "bytes=-0"] {
        let answer = world.request("GET", SITE, "/big.bin", &[("Range", range)]).expect(416);
        assert_eq!(answer.header("content-range"), Some("bytes */3000000"), "{range}");
    }
    for range in ["bytes=9-1", "bytes=a-b", "lines=1-2", "bytes", "bytes=--1"] {
        let answer = world.request("GET", SITE, "/big.bin", &[("Range", range)]).expect(200);
        assert!(answer.body == big, "{range}");
    }
    // Only GET has ranges.
    let head = world.request("HEAD", SITE, "/big.bin", &[("Range", "bytes=0-9")]).expect(200);
    assert_eq!(head.header("content-length"), Some("3000000"));
    // A part of what is still the same; otherwise the whole of what it is now.
    let tag = site::etag(&big);
    let weak = format!("W/{tag}");
    for (condition, status) in [(&*tag, 206), (&*weak, 200), ("\"other\"", 200)] {
        world.request("GET", SITE, "/big.bin", &[("Range", "bytes=0-9"), ("If-Range", condition)]).expect(status);
    }
}

#[test]
fn addresses_of_pages() {
    let world = World::start();
    let names = ["index.html", "file.html", "folder/index.html", "both.html", "both/index.html", "bin"];
    world.publish("demo", &names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect());
    for (target, want) in [
        ("/", Ok("index.html")),
        ("/index.html", Ok("index.html")),
        ("/index", Err("/")),
        ("/file", Ok("file.html")),
        ("/file.html", Ok("file.html")),
        ("/file/", Err("/file")),
        ("/folder", Err("/folder/")),
        ("/folder?a=1&b", Err("/folder/?a=1&b")),
        ("/folder/", Ok("folder/index.html")),
        ("/folder/index.html", Ok("folder/index.html")),
        ("/both", Ok("both.html")),
        ("/both/", Ok("both/index.html")),
        ("/both.html", Ok("both.html")),
        ("/bin", Ok("bin")),
        ("//folder/", Err("/folder/")),
        ("/folder//index.html", Err("/folder/index.html")),
        ("/f%69le", Ok("file.html")),
    ] {
        let answer = world.get(SITE, target);
        match want {
            Ok(name) => assert_eq!((answer.status, answer.text()), (200, name), "{target}"),
            Err(location) => {
                assert_eq!((answer.status, answer.header("location")), (308, Some(location)), "{target}");
                assert_eq!(answer.header("cache-control"), Some("max-age=300"), "{target}");
            }
        }
    }
    for target in ["/bin/", "/FILE", "/nothing", "/folder/nothing"] {
        world.get(SITE, target).expect(404);
    }
}

#[test]
fn what_is_not_there() {
    let world = World::start();
    world.publish(
        "demo",
        &files(&[("index.html", "x"), ("404.html", "root"), ("docs/404.html", "docs"), ("docs/a/b.html", "b")]),
    );
    world.publish("plain", &files(&[("index.html", "x")]));
    for (target, page) in [("/no", "root"), ("/a/b/c", "root"), ("/docs/no", "docs"), ("/docs/a/no", "docs")] {
        let answer = world.get(SITE, target).expect(404);
        assert_eq!(answer.text(), page, "{target}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{target}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{target}");
    }
    // A condition or a range is about a file that is there.
    let tag = site::etag(b"root");
    world.request("GET", SITE, "/no", &[("If-None-Match", &tag)]).expect(404);
    world.request("GET", SITE, "/no", &[("Range", "bytes=0-0")]).expect(404);
    for (host, target) in [
        ("plain.localhost", "/no"),
        ("nobody.localhost", "/"),
        ("demo--nothing.localhost", "/"),
        ("a.demo.localhost", "/"),
        ("example.com", "/"),
    ] {
        let answer = world.get(host, target).expect(404);
        assert!(!answer.body.is_empty(), "{host}: people see a page");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{host}");
    }
    // Images that never were; one that was and is no longer kept is 410.
    world.get("demo--i-0123456789abcdef.localhost", "/").expect(404);
    world.get("nobody--i-0123456789abcdef.localhost", "/").expect(404);
}

#[test]
fn methods() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "x")]));
    let options = world.request("OPTIONS", SITE, "/", &[]).expect(204);
    let allow = options.header("allow").expect("what is allowed").to_owned();
    assert!(allow.contains("GET") && allow.contains("HEAD"), "{allow}");
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        let answer = world.request(method, SITE, "/", &[]).expect(405);
        assert_eq!(answer.header("allow"), Some(&*allow), "{method}");
    }
}

/// Sends `bytes` and reads the status of one answer.
fn raw(world: &World, bytes: &[u8]) -> u16 {
    let mut connection = Connection::open(world.address());
    connection.send(bytes).unwrap();
    connection.answer("GET").unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii())).status
}

#[test]
fn hosts_are_read_strictly() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "x")]));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: DEMO.localhost.:8080\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\nHost: demo.localhost\r\n\r\n", 200),
        ("GET http://demo.localhost/ HTTP/1.1\r\nHost: other.localhost\r\n\r\n", 200),
        ("GET http://other.localhost/ HTTP/1.1\r\nHost: demo.localhost\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: demo.localhost\r\nHost: demo.localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: demo.localhost, other.localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@demo.localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: demo.localhost:http\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: demo..localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: demo.localhost/x\r\n\r\n", 400),
    ] {
        assert_eq!(raw(&world, request.as_bytes()), status, "{request:?}");
    }
}

#[test]
fn paths_are_read_strictly() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "x"), ("a/b", "ab")]));
    for target in [
        "/..",
        "/../etc/passwd",
        "/a/../b",
        "/./a",
        "/%2e%2e/a",
        "/a/%2E",
        "/a%2fb",
        "/a%5cb",
        "/a%00",
        "/%",
        "/%4",
        "/%zz",
        "/%ff",
        "/%c0%af",
    ] {
        world.get(SITE, target).expect(400);
    }
    world.get(SITE, "/a/b").expect(200);
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "x")]));
    for extra in [
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: x\r\n\r\n",
        "X: a\r\n b\r\n\r\n",
        "X : a\r\n\r\n",
        "X: a\0b\r\n\r\n",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: demo.localhost\r\n{extra}");
        let mut connection = Connection::open(world.address());
        connection.send(request.as_bytes()).unwrap();
        let answer = connection.answer("GET").unwrap_or_else(|error| panic!("{error}: {extra:?}"));
        assert_eq!(answer.status, 400, "{extra:?}");
        assert!(connection.is_closed(), "{extra:?}: nothing after it is read");
    }
    // A bare LF ends a line.
    assert_eq!(raw(&world, b"GET / HTTP/1.1\nHost: demo.localhost\n\n"), 200);
    world.get(SITE, "/").expect(200);
}

#[test]
fn a_request_with_a_body_is_the_last_of_its_connection() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "x")]));
    let mut connection = Connection::open(world.address());
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: demo.localhost\r\n\r\n";
    let answer = connection.request("GET", "/", &[("Host", SITE)], smuggled);
    assert_eq!((answer.status, answer.text()), (200, "x"));
    assert!(connection.is_closed());
}

#[test]
fn bounds_of_a_head() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "x")]));
    let long = |length| "x".repeat(length);
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: {SITE}\r\n\r\n", long(8000)), 404),
        (format!("GET /{} HTTP/1.1\r\nHost: {SITE}\r\n\r\n", long(9000)), 414),
        (format!("GET / HTTP/1.1\r\nHost: {SITE}\r\nX: {}\r\n\r\n", long(20_000)), 200),
        (format!("GET / HTTP/1.1\r\nHost: {SITE}\r\nX: {}\r\n\r\n", long(40_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: {SITE}\r\n{}\r\n", "X: y\r\n".repeat(90)), 200),
        (format!("GET / HTTP/1.1\r\nHost: {SITE}\r\n{}\r\n", "X: y\r\n".repeat(200)), 431),
    ] {
        let mut connection = Connection::open(world.address());
        // The server may answer and close before it has read all of this.
        let _ = connection.send(request.as_bytes());
        let answer = connection.answer("GET").unwrap_or_else(|error| panic!("{error}: {request:.60}"));
        assert_eq!(answer.status, status, "{request:.60}");
    }
}

#[test]
fn one_connection_carries_many_requests_and_many_hosts() {
    let world = World::start();
    world.publish("demo", &site::varied());
    world.publish("other", &files(&[("index.html", "other")]));
    let mut connection = Connection::open(world.address());
    for (path, bytes) in site::varied() {
        let answer = connection.request("GET", &site::target(&path), &[("Host", SITE)], b"");
        assert!(answer.status == 200 && answer.body == bytes, "{path}");
        connection.request("HEAD", &site::target(&path), &[("Host", SITE)], b"").expect(200);
        let other = connection.request("GET", "/", &[("Host", "other.localhost")], b"");
        assert_eq!(other.text(), "other");
        connection.request("GET", "/no/such/file", &[("Host", SITE)], b"").expect(404);
    }
    // All at once: the answers come in the order of the requests.
    let paths = ["/big.bin", "/", "/empty.txt", "/bin", "/nothing", "/big.bin"];
    let requests: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: {SITE}\r\n\r\n")).collect();
    connection.send(requests.as_bytes()).unwrap();
    let lengths = paths.map(|_| connection.answer("GET").expect("one answer for each").body.len());
    assert_eq!(lengths, [3 * 1024 * 1024 + 17, 35, 0, 1000, 38, 3 * 1024 * 1024 + 17]);
}

#[test]
fn control_hosts_and_site_hosts_share_a_connection() {
    let world = World::start();
    world.publish("demo", &files(&[("index.html", "x")]));
    let mut connection = Connection::open(world.address());
    for _ in 0..3 {
        connection.request("GET", "/", &[("Host", SITE)], b"").expect(200);
        let health = connection.request("GET", "/api/v1/health", &[("Host", "localhost")], b"").expect(200).json();
        assert_eq!(health["status"], "healthy", "{health}");
    }
}

#[test]
fn the_base_domain_says_that_it_works() {
    let world = World::start();
    for host in ["localhost", "127.0.0.1", "localhost:8080", "[::1]"] {
        let home = world.get(host, "/").expect(200);
        assert!(home.header("content-type").expect("a type").starts_with("text/html"), "{host}");
        assert!(home.text().contains("pinstone deploy"), "{host}: it says what to type next");
        assert!(!home.text().contains(&world.token()), "{host}: a page that anybody can open keeps the token");
    }
    let config = world.get("localhost", "/api/v1/config").expect(200).json();
    assert!(config["domain"].as_str().expect("a domain").starts_with("localhost"), "{config}");
    assert_eq!(config["limits"]["files"], 200_000, "{config}");
    // What only the owner may do.
    let refused = world.get("localhost", "/api/v1/environments?project=demo");
    refused.expect_error(401, "unauthorized");
    assert!(refused.header("www-authenticate").expect("how to sign in").starts_with("Bearer"));
    let lost = world.get("localhost", "/api/v1/no-such-call");
    assert_eq!(lost.status, 404);
    assert!(lost.json()["error"].is_string());
    let wrong_method = world.request("DELETE", "localhost", "/api/v1/health", &[]).expect(405);
    assert!(wrong_method.header("allow").expect("what is allowed").contains("GET"));
}

#[test]
fn http_2_by_prior_knowledge() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let world = World::start();
    world.publish("demo", &site::varied());
    let address = world.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::handshake::<_, _, Empty<bytes::Bytes>>(
            TokioExecutor::new(),
            TokioIo::new(stream),
        )
        .await
        .unwrap();
        let connection = tokio::spawn(connection);
        // All of them at once, each in a stream of its own.
        let mut answers = tokio::task::JoinSet::new();
        for (path, bytes) in site::varied() {
            let mut sender = sender.clone();
            answers.spawn(async move {
                let uri = format!("http://{SITE}{}", site::target(&path));
                let request = http::Request::get(uri).body(Empty::new()).unwrap();
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200), "{path}");
                assert_eq!(answer.headers()["etag"], site::etag(&bytes), "{path}");
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(body == bytes, "{path}");
            });
        }
        let count = site::varied().len();
        for _ in 0..count {
            answers.join_next().await.expect("one for each file").unwrap();
        }
        drop(sender);
        connection.await.unwrap().unwrap();
    });
}
