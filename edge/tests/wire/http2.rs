//! HTTP/2 by prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::RANGE;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinstone_edge::EdgeConfig;
use pinstone_edge::metrics::{Exposition, MetricSource};
use pinstone_engine::clock::Clock;
use tokio::net::TcpStream;

use crate::world::{SITE, World, files_of_all_kinds};

async fn connect(world: &World) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: Method, target: &str) -> Request<Full<Bytes>> {
    let uri = format!("http://{SITE}{target}");
    Request::builder().method(method).uri(uri).body(Full::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_on_one_connection() {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253).to_le_bytes()[0]).collect();
    let world = World::with(&[("index.html", b"home"), ("large.bin", &large)]).await;
    let sender = connect(&world).await;
    let answers = (0..64).map(|number| {
        let mut sender = sender.clone();
        let target = if number % 8 == 0 { "/large.bin" } else { "/" };
        async move {
            let response = sender.send_request(request(Method::GET, target)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            assert!(!response.headers().contains_key("connection"));
            response.into_body().collect().await.unwrap().to_bytes()
        }
    });
    for (number, body) in join_all(answers).await.into_iter().enumerate() {
        assert!(if number % 8 == 0 { body == large } else { body == "home" }, "stream {number}");
    }
    assert_eq!(world.counters.accepted_connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_as_they_were_however_they_are_sent() {
    let files = files_of_all_kinds();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
    for sendfile in [true, false] {
        let world = World::start(Clock::system(), None, |config| config.sendfile = Some(sendfile), &files).await;
        let sender = connect(&world).await;
        let get = |name: &str, range: Option<(usize, usize)>| {
            let (mut sender, mut request) = (sender.clone(), request(Method::GET, &format!("/{name}")));
            let range = range.map(|(from, to)| format!("bytes={from}-{to}").parse().unwrap());
            request.headers_mut().extend(range.map(|range| (RANGE, range)));
            async move {
                let response = sender.send_request(request).await.unwrap();
                response.into_body().collect().await.unwrap().to_bytes()
            }
        };
        // The second time they are at hand, and frames of all of them go out together.
        for _ in 0..2 {
            let whole =
                files.iter().map(async |(name, file)| assert!(get(name, None).await == *file, "{name}, {sendfile}"));
            let parts = files.iter().map(async |(name, file)| {
                let last = file.len() - 1;
                for (from, to) in [(last.min(4097), last), (0, last.min(70_000)), (last / 3, last / 2)] {
                    let part = get(name, Some((from, to))).await;
                    assert!(part == file[from..=to], "{from} to {to} of {name}, {sendfile}");
                }
            });
            tokio::join!(join_all(whole), join_all(parts));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rules_as_http_1() {
    let world = World::with(&[("index.html", b"home"), ("d/index.html", b"d")]).await;
    let mut sender = connect(&world).await;
    let head = sender.send_request(request(Method::HEAD, "/")).await.unwrap();
    assert_eq!((head.status(), &head.headers()["content-length"]), (StatusCode::OK, &"4".parse().unwrap()));
    let redirect = sender.send_request(request(Method::GET, "/d?q")).await.unwrap();
    assert_eq!(redirect.headers()["location"], "/d/?q");
    let not_modified = {
        let mut request = request(Method::GET, "/");
        request.headers_mut().insert("if-none-match", "*".parse().unwrap());
        sender.send_request(request).await.unwrap()
    };
    assert_eq!(not_modified.status(), StatusCode::NOT_MODIFIED);
    let posted =
        sender.send_request(request(Method::POST, "/").map(|_| Full::from("a body that nobody wants"))).await.unwrap();
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    for (host, status) in [(SITE, 200), ("other.test", 400)] {
        let mut request = request(Method::GET, "/");
        request.headers_mut().insert("host", host.parse().unwrap());
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "host: {host}");
    }
    let userinfo = Request::get(format!("http://u@{SITE}/")).body(Full::default()).unwrap();
    assert_eq!(sender.send_request(userinfo).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let long = request(Method::GET, &format!("/{}", "x".repeat(9000)));
    assert_eq!(sender.send_request(long).await.unwrap().status(), StatusCode::URI_TOO_LONG);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_are_the_same_as_over_http_1() {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253).to_le_bytes()[0]).collect();
    let world = World::with(&[("large.bin", &large)]).await;
    let range = "bytes=5-70000,-100000,400000-499999,0-0";
    let over_http_1 = world.connect().get(SITE, "/large.bin", &format!("Range: {range}\r\n"));
    let mut request = request(Method::GET, "/large.bin");
    request.headers_mut().insert("range", range.parse().unwrap());
    let response = connect(&world).await.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), over_http_1.status), (206, 206));
    let field = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
    for name in ["content-type", "content-length"] {
        assert_eq!(field(name), over_http_1.field(name), "{name}");
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body == over_http_1.body && body.len() > 270_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_that_is_asked_for_often_is_read_no_more() {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253).to_le_bytes()[0]).collect();
    // Where the kernel sends it as it lies, nobody reads it.
    let configure = |config: &mut EdgeConfig| config.sendfile = Some(false);
    let world = World::start(Clock::system(), None, configure, &[("large.bin", &large)]).await;
    let mut sender = connect(&world).await;
    let mut get = async |range: Option<&str>| {
        let mut request = request(Method::GET, "/large.bin");
        request.headers_mut().extend(range.map(|range| (RANGE, range.parse().unwrap())));
        let response = sender.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let is_in_memory = || {
        let mut out = Exposition::new();
        world.metrics.write(&mut out);
        out.into_text().contains("pinstone_edge_cache_entries{cache=\"large_blob\"} 1\n")
    };
    // The count of what is kept comes with some delay.
    let mut asked = 0;
    while !is_in_memory() {
        assert!(get(None).await == large);
        asked += 1;
        assert!(asked < 1000, "it is still read");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What it is read from is gone, so all of this is from memory.
    std::fs::write(world.blob_file(&large), b"").unwrap();
    assert!(get(None).await == large);
    assert!(get(Some("bytes=5-700000")).await == large[5..=700_000]);
    let parts = get(Some("bytes=0-9,600000-999999")).await;
    assert!(parts.windows(400_000).any(|window| window == &large[600_000..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_list_has_a_bound() {
    let world = World::with(&[("index.html", b"home")]).await;
    let mut sender = connect(&world).await;
    for (length, status) in [(15_000, 200), (17_000, 431), (100, 200)] {
        let mut request = request(Method::GET, "/");
        request.headers_mut().insert("a", "x".repeat(length).parse().unwrap());
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "a field of {length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_open_streams() {
    let large = vec![3; 8_000_000];
    let world = World::with(&[("large.bin", &large)]).await;
    let mut sender = connect(&world).await;
    let response = sender.send_request(request(Method::GET, "/large.bin")).await.unwrap();
    world.shutdown.cancel();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body == large);
    world.serving.await.unwrap().unwrap();
}
