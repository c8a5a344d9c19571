//! HTTP/1: connections, framing, and what is refused.

use std::io::Write;

use crate::world::{SITE, World};

async fn small_site() -> World {
    World::with(&[("index.html", b"home"), ("a.txt", b"aaa")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_takes_many_requests() {
    let world = small_site().await;
    let mut connection = world.connect();
    for _ in 0..50 {
        assert_eq!(connection.get(SITE, "/", "").text(), "home");
        assert_eq!(connection.get(SITE, "/a.txt", "").text(), "aaa");
        assert_eq!(connection.get(SITE, "/nothing", "").status, 404);
    }
    assert_eq!(world.counters.requests(), 150);
    assert_eq!(world.counters.accepted_connections(), 1);
    assert_eq!(world.counters.open_connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_be_pipelined() {
    let world = small_site().await;
    let mut connection = world.connect();
    let mut requests = Vec::new();
    for number in 0..40 {
        let (method, target) = [("GET", "/"), ("HEAD", "/a.txt"), ("GET", "/a.txt"), ("GET", "/x")][number % 4];
        write!(requests, "{method} {target} HTTP/1.1\r\nHost: {SITE}\r\n\r\n").unwrap();
    }
    connection.send(&requests);
    for number in 0..40 {
        let response = connection.receive(number % 4 != 1);
        match number % 4 {
            0 => assert_eq!(response.text(), "home"),
            1 => assert_eq!((response.field("content-length"), response.body.len()), (Some("3"), 0)),
            2 => assert_eq!(response.text(), "aaa"),
            _ => assert_eq!(response.status, 404),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let world = small_site().await;
    let mut connection = world.connect();
    for target in ["/", "/a.txt", "/nothing", "/a.txt/", "//a.txt", "/%"] {
        let get = connection.get(SITE, target, "");
        connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
        let head = connection.receive(false);
        assert_eq!(head.status, get.status, "{target}");
        assert_eq!(head.names(), get.names(), "{target}");
        for name in head.names() {
            assert!(name == "date" || head.field(name) == get.field(name), "{target}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods() {
    let world = small_site().await;
    let mut connection = world.connect();
    for method in ["DELETE", "PATCH", "TRACE", "PROPFIND", "get"] {
        connection.send(format!("{method} / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
        let response = connection.receive(true);
        assert_eq!((response.status, response.field("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
        assert_eq!(response.field("connection"), None, "{method}");
    }
    for target in ["/", "*"] {
        connection.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
        let response = connection.receive(true);
        assert_eq!((response.status, response.field("allow")), (204, Some("GET, HEAD, OPTIONS")), "{target}");
    }
    connection.send(format!("CONNECT {SITE}:80 HTTP/1.1\r\nHost: {SITE}:80\r\n\r\n"));
    assert_eq!(connection.receive(true).status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_is_answered_and_the_connection_closed() {
    let world = small_site().await;
    // Far more than any buffer holds: the answer must arrive although nobody reads the body.
    for (method, status, length) in [("POST", 405, 10), ("POST", 405, 700_000), ("GET", 200, 10)] {
        let mut connection = world.connect();
        connection.send(format!("{method} / HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: {length}\r\n\r\n"));
        connection.send(vec![b'x'; length]);
        let response = connection.receive(true);
        assert_eq!((response.status, response.field("connection")), (status, Some("close")), "{method} {length}");
        assert!(connection.is_closed(), "{method} {length}");
    }
    let mut connection = world.connect();
    connection.send(format!("POST / HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(connection.receive(true).field("connection"), None, "an empty body is none");
    assert_eq!(connection.get(SITE, "/", "").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_with_400() {
    let world = small_site().await;
    for (request, closes) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.0\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nHost: demo.pages.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nHost: other.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo pages\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: user@demo.pages.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test/x\r\n\r\n", true),
        ("GET http://user@demo.pages.test/ HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nTransfer-Encoding: gzip\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nTransfer-Encoding: identity\r\n\r\n", true),
        (
            "POST / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            true,
        ),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: x\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: -1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: +1\r\n\r\nx", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: 0x1\r\n\r\nx", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: 1, 2\r\n\r\nxy", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: 1 2\r\n\r\nxy", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length:\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: 99999999999999999999\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nTransfer-Encoding: xchunked\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nHost: demo.pages.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA: b\r\n c\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA: b\r\n\tc\r\n\r\n", true),
        ("GET / HTTP/1.1\r\n Host: demo.pages.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA : b\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA\t: b\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA: b\0c\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA\0: b\r\n\r\n", true),
        ("GET /\0 HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nno colon\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\n: no name\r\n\r\n", true),
        ("GET / HTTP/1.1\rHost: demo.pages.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA: b\0\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: demo.pages.test\r\nA: b\rc\r\n\r\n", true),
        ("GET  HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", true),
        ("nonsense\r\n\r\n", true),
        ("GET * HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /% HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /%zz HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /%00 HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /%ff HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /../a.txt HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /x/%2E%2e/a.txt HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /./a.txt HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /x%2fa.txt HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
        ("GET /x%5ca.txt HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n", false),
    ] {
        let mut connection = world.connect();
        connection.send(request);
        let response = connection.receive(true);
        assert_eq!(response.status, 400, "{request:?}");
        if closes {
            assert!(connection.is_closed(), "{request:?}");
        } else {
            assert_eq!(connection.get(SITE, "/", "").status, 200, "{request:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_but_right() {
    let world = small_site().await;
    for request in [
        "GET http://demo.pages.test/a.txt HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "GET /a.txt HTTP/1.1\nHost: demo.pages.test\n\n", // RFC 9112 section 2.2
        "\r\nGET /a.txt HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n",
        "GET /a%2Etxt?x HTTP/1.1\r\nhOST: demo.pages.test:80\r\n\r\n",
        "GET /a.txt HTTP/1.1\r\nHost: \t demo.pages.test \t\r\nA:b\r\nB:\r\n\r\n",
        "GET https://DEMO.pages.test.:443/a.txt HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    ] {
        let mut connection = world.connect();
        connection.send(request);
        assert_eq!(connection.receive(true).text(), "aaa", "{request:?}");
    }
    let mut slow = world.connect();
    for byte in format!("GET /a.txt HTTP/1.1\r\nHost: {SITE}\r\n\r\n").bytes() {
        slow.send([byte]);
    }
    assert_eq!(slow.receive(true).text(), "aaa");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_hides_no_other() {
    let world = small_site().await;
    let hidden = format!("GET /a.txt HTTP/1.1\r\nHost: {SITE}\r\n\r\n");
    let length = hidden.len();
    for fields in [
        format!("Content-Length: {length}\r\nContent-Length: 0"),
        format!("Content-Length: 0\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        "Transfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding: x".to_owned(),
    ] {
        let mut connection = world.connect();
        connection.send(format!("POST / HTTP/1.1\r\nHost: {SITE}\r\n{fields}\r\n\r\n0\r\n\r\n{hidden}"));
        assert_eq!(connection.receive(true).status, 400, "{fields:?}");
        assert!(connection.is_closed(), "what follows is answered by nobody: {fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_closes_unless_asked() {
    let world = small_site().await;
    let mut connection = world.connect();
    connection.send(format!("GET /a.txt HTTP/1.0\r\nHost: {SITE}\r\n\r\n"));
    assert_eq!(connection.receive(true).text(), "aaa");
    assert!(connection.is_closed());
    let mut connection = world.connect();
    for _ in 0..2 {
        connection.send(format!("GET /a.txt HTTP/1.0\r\nHost: {SITE}\r\nConnection: keep-alive\r\n\r\n"));
        let response = connection.receive(true);
        assert_eq!((response.text(), response.field("connection")), ("aaa", Some("keep-alive")));
    }
    let mut connection = world.connect();
    connection.send(format!("GET /a.txt HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n"));
    let response = connection.receive(true);
    assert_eq!((response.text(), response.field("connection")), ("aaa", Some("close")));
    assert!(connection.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_bounds() {
    let world = small_site().await;
    let fields = |count: usize| "a: b\r\n".repeat(count);
    for (target, fields, status) in [
        (format!("/{}", "x".repeat(8190)), String::new(), 404),
        (format!("/{}", "x".repeat(8192)), String::new(), 414),
        (format!("/?{}", "x".repeat(20_000)), String::new(), 414),
        (format!("/{}", "x".repeat(40_000)), String::new(), 431),
        ("/".to_owned(), fields(99), 200),
        ("/".to_owned(), fields(100), 431),
        ("/".to_owned(), format!("a: {}\r\n", "x".repeat(30_000)), 200),
        ("/".to_owned(), format!("a: {}\r\n", "x".repeat(33_000)), 431),
    ] {
        let mut connection = world.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {SITE}\r\n{fields}\r\n"));
        let response = connection.receive(true);
        assert_eq!(response.status, status, "target of {}, fields of {}", target.len(), fields.len());
    }
}
