//! For whom a connection or a request is made: Forwarded, X-Forwarded-For, and the PROXY protocol.

use std::io::Write;
use std::time::Duration;

use pinstone_edge::EdgeConfig;
use pinstone_engine::clock::Clock;

use crate::https::whoami;
use crate::tls_client::{Folder, tls13};
use crate::world::{Connection, SITE, World};

/// A header of the PROXY protocol, version 2, for 192.0.2.1.
fn header(command: u8, values: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0x10, 0, 0x1f, 0x90];
    let length = u16::try_from(addresses.len() + values.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, 0x11], &length, &addresses, values].concat()
}

async fn world(trusted: &str, configure: impl FnOnce(&mut EdgeConfig)) -> World {
    let trusted = [trusted.parse().unwrap()].into_iter().collect();
    let configure = |config: &mut EdgeConfig| {
        config.trusted_proxies = trusted;
        configure(config);
    };
    World::start(Clock::system(), Some(whoami()), configure, &[("index.html", b"home")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_say_for_whom_they_ask() {
    let trusting = world("127.0.0.0/8", |_| {}).await;
    let wary = world("10.0.0.0/8", |_| {}).await;
    let (mut believed, mut ignored) = (trusting.connect(), wary.connect());
    for (fields, want) in [
        ("", "127.0.0.1 http"),
        ("X-Forwarded-For: 198.51.100.7, 192.0.2.1\r\n", "192.0.2.1 http"),
        ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 127.0.0.9\r\nX-Forwarded-Proto: https\r\n", "192.0.2.1 https"),
        ("Forwarded: for=\"[2001:db8::1]:4711\";proto=https\r\n", "2001:db8::1 https"),
        ("Forwarded: for=\"\r\n", "127.0.0.1 http"),
        ("X-Forwarded-For: \r\n", "127.0.0.1 http"),
        ("X-Forwarded-For: localhost\r\n", "127.0.0.1 http"),
    ] {
        assert_eq!(believed.get("pages.test", "/", fields).text(), want, "{fields:?}");
        assert_eq!(ignored.get("pages.test", "/", fields).text(), "127.0.0.1 http", "{fields:?}");
    }
    let fields = "X-Forwarded-For: 198.51.100.7\r\n";
    assert_eq!(believed.get("pages.test", "/", fields).text(), "198.51.100.7 http", "each request anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_says_for_whom_a_connection_is() {
    let world = world("127.0.0.0/8", |config| config.proxy_protocol = true).await;
    let mut connection = world.connect();
    // With values that mean nothing here, and the request in the same packet.
    let request = b"GET / HTTP/1.1\r\nHost: pages.test\r\n\r\n";
    connection.send([&header(1, &[4, 0, 2, 1, 2])[..], request].concat());
    assert_eq!(connection.receive(true).text(), "192.0.2.1 http");
    for _ in 0..3 {
        assert_eq!(connection.get("pages.test", "/", "").text(), "192.0.2.1 http", "to the connection's end");
    }
    let fields = "X-Forwarded-For: 198.51.100.7\r\n";
    assert_eq!(connection.get("pages.test", "/", fields).text(), "192.0.2.1 http", "who is not a proxy is not asked");
    assert_eq!(connection.get(SITE, "/", "").text(), "home");

    let mut slowly = world.connect();
    for byte in header(1, &[]) {
        slowly.send([byte]);
    }
    assert_eq!(slowly.get("pages.test", "/", "").text(), "192.0.2.1 http");
    let mut health = world.connect();
    health.send(header(0, &[]));
    assert_eq!(health.get("pages.test", "/", "").text(), "127.0.0.1 http", "LOCAL asks for itself");

    for garbage in [&request[..], b"PROXY TCP4 192.0.2.1 10.0.0.1 4096 80\r\nGET / HTTP/1.1\r\n", &header(2, &[])] {
        let mut connection = world.connect();
        connection.send(garbage);
        assert!(connection.is_closed(), "it is required, and of version 2: {garbage:?}");
    }
    let mut long = header(1, &[]);
    long[14] = 0xff;
    let mut connection = world.connect();
    connection.send(long);
    assert!(connection.is_closed(), "nor longer than any proxy's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_of_anybody_else_is_garbage() {
    for (trusted, is_on) in [("10.0.0.0/8", true), ("127.0.0.0/8", false)] {
        let world = world(trusted, |config| config.proxy_protocol = is_on).await;
        let mut connection = world.connect();
        connection.send([&header(1, &[])[..], b"GET / HTTP/1.1\r\nHost: pages.test\r\n\r\n"].concat());
        assert_eq!(connection.receive(true).status, 400, "{trusted}");
        assert!(connection.is_closed());
        assert_eq!(world.get(SITE, "/").text(), "home", "who sends none is served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_has_the_deadline_of_a_head() {
    let configure = |config: &mut EdgeConfig| {
        config.proxy_protocol = true;
        config.limits.head_timeout = Duration::from_millis(200);
    };
    let world = world("127.0.0.0/8", configure).await;
    let mut half = world.connect();
    half.send(&header(1, &[])[..20]);
    assert!(half.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_comes_before_a_handshake() {
    let folder = Folder::with(&[("a", &["pages.test"])]);
    let configure = |config: &mut EdgeConfig| {
        config.proxy_protocol = true;
        config.certificates = Some(folder.open());
    };
    let world = world("127.0.0.0/8", configure).await;
    let mut socket = std::net::TcpStream::connect(world.tls_address.unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(&header(1, &[])).unwrap();
    let client = rustls::ClientConnection::new(tls13(), "pages.test".try_into().unwrap()).unwrap();
    let mut connection = Connection::over(rustls::StreamOwned::new(client, socket));
    assert_eq!(connection.get("pages.test", "/", "").text(), "192.0.2.1 https");
}
