//! What becomes of HTTP where there is HTTPS.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use pinstone_edge::{Client, ControlBody, ControlService, EdgeConfig, RequestBody};
use pinstone_engine::clock::Clock;

use crate::tls_client::Folder;
use crate::world::{SITE, World};

/// Answers with who asks.
pub(crate) fn whoami() -> ControlService {
    ControlService::new(tower::service_fn(|request: Request<RequestBody>| async move {
        let client = request.extensions().get::<Client>().expect("a call has a client");
        let answer = format!("{} {}", client.address, if client.is_tls { "https" } else { "http" });
        let body = ControlBody::new(Full::from(answer).map_err(|never: Infallible| match never {}));
        Ok::<_, Infallible>(Response::new(body))
    }))
}

async fn world(configure: impl FnOnce(&mut EdgeConfig)) -> World {
    let folder = Folder::with(&[("a", &["*.pages.test", "pages.test"])]);
    let with_certificates = |config: &mut EdgeConfig| {
        config.certificates = Some(folder.open());
        configure(config);
    };
    World::start(Clock::system(), Some(whoami()), with_certificates, &[("index.html", b"home")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_are_sent_to_https() {
    let world = world(|config| config.https.redirect = Some(8443)).await;
    let mut connection = world.connect();
    for (target, location) in [
        ("/", "https://demo.pages.test:8443/"),
        ("/a/b%20c?d=e&f", "https://demo.pages.test:8443/a/b%20c?d=e&f"),
        ("//evil.test", "https://demo.pages.test:8443//evil.test"),
    ] {
        let response = connection.get("DEMO.pages.test:80", target, "");
        assert_eq!((response.status, response.field("location")), (308, Some(location)), "{target}");
        assert_eq!(response.field("cache-control"), Some("max-age=300"), "it does not stick");
    }
    connection.send(format!("HEAD / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    assert_eq!(connection.receive(false).status, 308);
    connection.send(format!("PUT / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    assert_eq!(connection.receive(true).status, 405);
    connection.send(format!("OPTIONS / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    assert_eq!(connection.receive(true).status, 204);
    // Nobody can be sent where no certificate is.
    assert_eq!(connection.get("other.test", "/", "").status, 404);
    assert_eq!(connection.get(SITE, &format!("/{}", "x".repeat(9000)), "").status, 414, "bounds come first");
    connection.send(format!("GET / HTTP/1.1\r\nHost: {SITE}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
    assert_eq!(connection.receive(true).status, 400);
    assert!(connection.is_closed());
    let mut connection = world.connect();
    connection.send(format!("GET / HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: 3\r\n\r\nabc"));
    let response = connection.receive(true);
    assert_eq!((response.status, response.field("connection")), (308, Some("close")), "a body ends it");
    assert_eq!(world.connect_tls(SITE).get(SITE, "/", "").text(), "home");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_tls_are_refused_but_from_here() {
    let configure = |config: &mut EdgeConfig| {
        config.https.redirect = Some(443);
        config.trusted_proxies = ["127.0.0.1".parse().unwrap()].into_iter().collect();
    };
    let world = world(configure).await;
    let mut connection = world.connect();
    let with_token = "Authorization: Bearer t\r\n";
    // This machine has not been on a wire.
    assert_eq!(connection.get("pages.test", "/api/v1/me", with_token).text(), "127.0.0.1 http");
    let from_outside = "X-Forwarded-For: 192.0.2.1\r\n";
    let response = connection.get("pages.test", "/api/v1/me", &format!("{from_outside}{with_token}"));
    assert_eq!(response.status, 403);
    assert!(response.text().starts_with(r#"{"error":"https_required","#), "{}", response.text());
    assert!(response.text().contains(r#""hint":"#));
    assert_eq!((response.field("location"), response.field("cache-control")), (None, Some("no-store")));
    connection.send(format!("POST /api/v1/auth/login HTTP/1.1\r\nHost: pages.test\r\n{from_outside}\r\n"));
    assert_eq!(connection.receive(true).status, 403, "there may be a password in it");
    let browser = connection.get("pages.test", "/", from_outside);
    assert_eq!((browser.status, browser.field("location")), (308, Some("https://pages.test/")));
    let over_tls = format!("{from_outside}X-Forwarded-Proto: https\r\n{with_token}");
    assert_eq!(connection.get("pages.test", "/", &over_tls).text(), "192.0.2.1 https");
    assert_eq!(world.connect_tls("pages.test").get("pages.test", "/", with_token).text(), "127.0.0.1 https");
}

#[tokio::test(flavor = "multi_thread")]
async fn hsts_is_said_over_tls_alone() {
    const FIELD: &str = "strict-transport-security";
    let world = world(|config| config.https.hsts = Some(Duration::from_secs(3600))).await;
    let mut secured = world.connect_tls(SITE);
    for (host, target) in [(SITE, "/"), (SITE, "/nothing"), ("pages.test", "/")] {
        assert_eq!(secured.get(host, target, "").field(FIELD), Some("max-age=3600"), "{host}{target}");
        assert_eq!(world.get(host, target).field(FIELD), None, "{host}{target}");
    }
    let silent = self::world(|_| {}).await;
    assert_eq!(silent.connect_tls(SITE).get(SITE, "/", "").field(FIELD), None, "nothing is said by default");
    assert_eq!(silent.get(SITE, "/").status, 200, "and nobody is sent anywhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_has_the_certificates_is_believed() {
    let configure = |config: &mut EdgeConfig| {
        config.https.redirect = Some(443);
        config.https.hsts = Some(Duration::from_secs(60));
        config.trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    };
    let world = World::start(Clock::system(), None, configure, &[("index.html", b"home")]).await;
    let mut connection = world.connect();
    let asked = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: ";
    let plain = connection.get("other.test", "/", &format!("{asked}http\r\n"));
    assert_eq!((plain.status, plain.field("location")), (308, Some("https://other.test/")));
    let secured = connection.get(SITE, "/", &format!("{asked}https\r\n"));
    assert_eq!((secured.text(), secured.field("strict-transport-security")), ("home", Some("max-age=60")));
}
