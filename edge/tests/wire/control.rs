//! Requests for control hosts go through whole.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use pinstone_edge::{Client, ControlBody, ControlService, RequestBody};
use pinstone_engine::account::Source;
use pinstone_engine::clock::Clock;

use crate::world::{SITE, World};

/// Answers with what was asked, and with the body that came.
fn echo() -> ControlService {
    ControlService::new(tower::service_fn(|request: Request<RequestBody>| async move {
        let client = request.extensions().get::<Client>().expect("a call has a client");
        assert!(client.address.is_loopback() && client.peer.ip() == client.address && !client.is_tls);
        assert_eq!(request.extensions().get(), Some(&Source(client.address)));
        let asked = format!("{} {} ", request.method(), request.uri().path());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let answer = [asked.as_bytes(), &body].concat();
        let body = ControlBody::new(Full::from(answer).map_err(|never: Infallible| match never {}));
        Ok::<_, Infallible>(Response::builder().header("x-control", "1").body(body).unwrap())
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn control_hosts_have_none_of_the_rules_of_sites() {
    let world = World::start(Clock::system(), Some(echo()), |_| {}, &[("index.html", b"home")]).await;
    let mut connection = world.connect();
    for host in ["pages.test", "api.pages.test", "console.pages.test:80", "127.0.0.1", "[::1]:8080"] {
        connection.send(format!("PUT /v1//%2e%2e HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello"));
        let response = connection.receive(true);
        assert_eq!((response.status, response.text()), (200, "PUT /v1//%2e%2e hello"), "{host}");
        assert_eq!((response.field("x-control"), response.field("connection")), (Some("1"), None), "{host}");
        assert_eq!(response.field("x-robots-tag"), None, "{host}");
    }
    connection.send("POST /t HTTP/1.1\r\nHost: pages.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(connection.receive(true).text(), "POST /t abc");
    let long = format!("/{}", "x".repeat(10_000));
    assert_eq!(connection.get("pages.test", &long, "").status, 200);
    assert_eq!(connection.get(SITE, &long, "").status, 414);
    assert_eq!(connection.get(SITE, "/", "").text(), "home", "on the same connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_answered_and_the_edge_goes_on() {
    let panics = ControlService::new(tower::service_fn(|_: Request<RequestBody>| async move {
        assert!(std::hint::black_box(false), "on purpose");
        Ok::<Response<ControlBody>, Infallible>(Response::default())
    }));
    let world = World::start(Clock::system(), Some(panics), |_| {}, &[("index.html", b"home")]).await;
    let mut connection = world.connect();
    let response = connection.get("pages.test", "/", "");
    assert_eq!((response.status, response.field("connection")), (500, Some("close")));
    assert!(connection.is_closed());
    assert_eq!(world.get(SITE, "/").text(), "home");
}
