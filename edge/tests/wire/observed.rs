//! What is seen of the edge from outside of its answers: the access log, the metrics, and fields for debugging.

use std::convert::Infallible;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinstone_edge::metrics::{Exposition, MetricSource};
use pinstone_edge::{
    AccessLog, AccessLogConfig, AccessLogFormat, AccessLogTarget, BoxError, ControlBody, ControlService, EdgeConfig,
    Lost, RequestBody,
};
use pinstone_engine::clock::Clock;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::raw_http2::{Client, DATA, RST_STREAM, frame};
use crate::world::{SITE, World};

#[path = "../../../tests/support/prometheus_text.rs"]
mod prometheus_text;

use prometheus_text::{Parsed, parse};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn log(path: &Path) -> AccessLog {
    let target = AccessLogTarget::File(path.to_owned());
    AccessLog::open(AccessLogConfig::new(target, AccessLogFormat::Json)).unwrap()
}

/// A world with a log, and where that is.
struct Logged {
    world: World,
    log: AccessLog,
    folder: tempfile::TempDir,
}

impl Logged {
    async fn with(control: Option<ControlService>, files: &[(&str, &[u8])]) -> Self {
        Self::sending(None, control, files).await
    }

    async fn sending(sendfile: Option<bool>, control: Option<ControlService>, files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = log(&folder.path().join("access.log"));
        let configure = |config: &mut EdgeConfig| (config.access_log, config.sendfile) = (Some(log.clone()), sendfile);
        let world = World::start(Clock::system(), control, configure, files).await;
        Self { world, log, folder }
    }

    /// The lines, once there are so many.
    fn lines(&self, count: u64) -> Vec<Value> {
        until("the lines are written", || self.log.written() >= count);
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len() as u64, count, "{text}");
        lines
    }
}

fn scrape(world: &World) -> Parsed {
    let mut out = Exposition::new();
    world.metrics.write(&mut out);
    let text = out.into_text();
    parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Requests that ended with this class over HTTP/1 on hosts of sites.
fn ended(parsed: &Parsed, class: &str) -> f64 {
    let labels = [("class", class), ("protocol", "h1"), ("target", "site")];
    parsed.value("pinstone_edge_requests_total", &labels).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_answer_is_logged_with_all_its_facts() {
    let logged = Logged::with(None, &[("index.html", b"home")]).await;
    let image = logged.world.publish("demo", "beta", &[("index.html", b"later")]).await;
    let mut connection = logged.world.connect();
    let fields = "Referer: https://a.test/x\r\nUser-Agent: test \"1\"\r\nX-Request-Id: r-7\r\n\
                  Authorization: Basic c2VjcmV0\r\nCookie: session=secret\r\n";
    assert_eq!(connection.get("demo-beta.pages.test", "/?q=1", fields).text(), "later");
    assert_eq!(connection.get("demo-beta.pages.test", "/", "").text(), "later");
    let lines = logged.lines(2);
    let first = &lines[0];
    let text = |name: &str| first[name].as_str().unwrap_or_else(|| panic!("{name} in {first}")).to_owned();
    assert!(text("time").ends_with('Z') && text("time").len() == "2026-01-01T00:00:00.000Z".len(), "{first}");
    for (name, want) in [
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("host", "demo-beta.pages.test"),
        ("target", "/?q=1"),
        ("protocol", "HTTP/1.1"),
        ("referer", "https://a.test/x"),
        ("user_agent", "test \"1\""),
        ("project", "demo"),
        ("environment", "beta"),
        ("image", &*image.host_digits()),
        ("variant", "identity"),
        ("cache", "miss"),
        ("request_id", "r-7"),
    ] {
        assert_eq!(text(name), want, "{name}");
    }
    assert_eq!((&first["status"], &first["bytes"], &first["complete"]), (&200.into(), &5.into(), &true.into()));
    assert!(first["first_byte_us"].as_u64().unwrap() <= first["last_byte_us"].as_u64().unwrap(), "{first}");
    assert_eq!((&first["tls"], &lines[1]["referer"], &lines[1]["cache"]), (&Value::Null, &Value::Null, &"hit".into()));
    let all = format!("{lines:?}");
    assert!(!all.contains("c2VjcmV0") && !all.contains("secret"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_logged_with_what_it_got() {
    let large = vec![7; 40_000_000];
    let logged = Logged::with(None, &[("large.bin", &large)]).await;
    let mut connection = logged.world.connect();
    connection.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    connection.receive(false);
    let mut got = connection.take_read().len();
    let mut buffer = [0; 64 << 10];
    while got < 1_000_000 {
        got += connection.stream.read(&mut buffer).unwrap();
    }
    drop(connection);
    let line = &logged.lines(1)[0];
    let bytes = line["bytes"].as_u64().unwrap();
    assert!(bytes >= got as u64 && bytes < large.len() as u64, "{got} of {line}");
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()));
    let parsed = scrape(&logged.world);
    assert_eq!(parsed.value("pinstone_edge_answers_broken_off_total", &[("target", "site")]), Some(1.0));
    assert_eq!(parsed.value("pinstone_edge_last_byte_seconds_count", &[]), Some(0.0));
    assert_eq!(parsed.value("pinstone_edge_requests_in_flight", &[]), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_bodies_are_complete() {
    let logged = Logged::with(None, &[("index.html", b"home"), ("empty.txt", b"")]).await;
    let mut connection = logged.world.connect();
    let etag = connection.get(SITE, "/", "").field("etag").unwrap().to_owned();
    connection.send(format!("HEAD / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    assert_eq!(connection.receive(false).field("content-length"), Some("4"));
    assert_eq!(connection.get(SITE, "/", &format!("If-None-Match: {etag}\r\n")).status, 304);
    assert_eq!(connection.get(SITE, "/empty.txt", "").status, 200);
    assert_eq!(connection.get(SITE, "/nothing", "").status, 404);
    assert_eq!(connection.get("nobody.pages.test", "/", "").status, 404);
    let lines = logged.lines(6);
    let facts = |line: &Value| (line["status"].as_u64().unwrap(), line["bytes"].as_u64().unwrap());
    let got: Vec<_> = lines.iter().map(facts).collect();
    assert_eq!(got[..4], [(200, 4), (200, 0), (304, 0), (200, 0)], "{lines:?}");
    assert!(got[4].1 > 0 && got[5].1 > 0, "built-in pages have bytes: {lines:?}");
    assert!(lines.iter().all(|line| line["complete"] == true), "{lines:?}");
    assert_eq!((&lines[1]["variant"], &lines[1]["cache"]), (&Value::Null, &"hit".into()), "nothing was sent of a file");
    assert_eq!((&lines[5]["project"], &lines[5]["cache"]), (&Value::Null, &Value::Null), "{}", lines[5]);
    let parsed = scrape(&logged.world);
    let classes = ["2xx", "3xx", "4xx", "5xx", "none"].map(|class| ended(&parsed, class));
    assert_eq!(classes, [3.0, 1.0, 2.0, 0.0, 0.0]);
}

/// A body that knows its length and not its end, like one that comes over a channel.
struct Measured(Option<Bytes>);

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Answers 201 with an id, but for `/never`, which it never answers.
fn control() -> ControlService {
    ControlService::new(tower::service_fn(|request: Request<RequestBody>| async move {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        let body = ControlBody::new(Measured(Some(Bytes::from_static(b"made"))));
        let response = Response::builder().status(201).header("x-request-id", "req-1").body(body);
        Ok::<_, Infallible>(response.unwrap())
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_control_hosts_are_logged_without_a_project() {
    let logged = Logged::with(Some(control()), &[("index.html", b"home")]).await;
    let mut connection = logged.world.connect();
    connection.send("POST /v1/x HTTP/1.1\r\nHost: api.pages.test\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!(connection.receive(true).status, 201);
    let line = &logged.lines(1)[0];
    assert_eq!((&line["status"], &line["bytes"], &line["method"]), (&201.into(), &4.into(), &"POST".into()));
    assert_eq!((&line["request_id"], &line["project"]), (&"req-1".into(), &Value::Null), "{line}");
    assert_eq!(line["complete"], true, "its length was reached");
    let parsed = scrape(&logged.world);
    let labels = [("class", "2xx"), ("protocol", "h1"), ("target", "control")];
    assert_eq!(parsed.value("pinstone_edge_requests_total", &labels), Some(1.0));
    assert_eq!(parsed.value("pinstone_edge_first_byte_seconds_count", &[]), Some(0.0), "sites only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_its_answer_is_logged() {
    let logged = Logged::with(Some(control()), &[]).await;
    let mut connection = logged.world.connect();
    connection.send("GET /never HTTP/1.1\r\nHost: api.pages.test\r\n\r\n");
    let in_flight = || scrape(&logged.world).value("pinstone_edge_requests_in_flight", &[]);
    until("the request is under way", || in_flight() == Some(1.0));
    drop(connection);
    let line = &logged.lines(1)[0];
    assert_eq!((&line["status"], &line["complete"], &line["bytes"]), (&499.into(), &false.into(), &0.into()));
    let labels = [("class", "none"), ("protocol", "h1"), ("target", "control")];
    assert_eq!(scrape(&logged.world).value("pinstone_edge_requests_total", &labels), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_log_that_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _unread = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let target = AccessLogTarget::File(path);
    let config = AccessLogConfig { memory: 16 << 10, ..AccessLogConfig::new(target, AccessLogFormat::Json) };
    let log = AccessLog::open(config).unwrap();
    let configure = |config: &mut EdgeConfig| config.access_log = Some(log.clone());
    let world = World::start(Clock::system(), None, configure, &[("a.txt", b"a")]).await;
    let mut connection = world.connect();
    let mut asked = 0;
    until("records are dropped", || {
        for _ in 0..50 {
            assert_eq!(connection.get(SITE, "/a.txt", "").text(), "a");
            asked += 1;
        }
        log.lost(Lost::QueueFull) > 10
    });
    let parsed = scrape(&world);
    assert_eq!(ended(&parsed, "2xx"), f64::from(asked), "all are answered and counted");
    assert!(parsed.value("pinstone_access_log_lost_total", &[("reason", "queue_full")]).unwrap() > 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_taken_back_is_logged_with_what_was_sent() {
    const WINDOW: usize = 65_535;
    for sendfile in [true, false] {
        // Of the cache, and of a file.
        let files = [200_000, 3_000_000].map(|length| vec![7; length]);
        let logged = Logged::sending(Some(sendfile), None, &[("a.bin", &files[0]), ("b.bin", &files[1])]).await;
        for path in ["/a.bin", "/b.bin"] {
            let mut client = Client::new(logged.world.address);
            assert!(client.ask(path, 1, 1));
            let mut got = 0;
            while got < WINDOW {
                let (kind, _, payload) = client.next().expect("as much as the window has room for");
                got += if kind == DATA { payload.len() } else { 0 };
            }
            assert!(client.send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())));
            let count = if path == "/a.bin" { 1 } else { 2 };
            let lines = logged.lines(count);
            let line = lines.last().unwrap();
            assert_eq!((&line["bytes"], &line["complete"]), (&WINDOW.into(), &false.into()), "{line}, {sendfile}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_counted_by_class_protocol_bytes_and_cache() {
    let large = vec![7; 1_000_000];
    let world = World::with(&[("a.txt", b"abc"), ("large.bin", &large)]).await;
    let mut connection = world.connect();
    for target in ["/a.txt", "/a.txt", "/large.bin", "/large.bin"] {
        assert_eq!(connection.get(SITE, target, "").status, 200);
    }
    connection.send(format!("DELETE / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    assert_eq!(connection.receive(true).status, 405);
    let stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let (mut sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let request = Request::get(format!("http://{SITE}/a.txt")).body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");

    until("all have ended", || scrape(&world).value("pinstone_edge_requests_in_flight", &[]) == Some(0.0));
    let parsed = scrape(&world);
    assert_eq!((ended(&parsed, "2xx"), ended(&parsed, "4xx")), (4.0, 1.0));
    let labels = [("class", "2xx"), ("protocol", "h2"), ("target", "site")];
    assert_eq!(parsed.value("pinstone_edge_requests_total", &labels), Some(1.0));
    let sent = parsed.value("pinstone_edge_sent_bytes_total", &[("target", "site")]).unwrap();
    assert!(sent > 2_000_009.0 && sent < 2_010_000.0, "files, and one page: {sent}");
    for (cache, hits, misses) in [("manifest", 4.0, 1.0), ("small_blob", 2.0, 1.0), ("open_file", 1.0, 1.0)] {
        let of = |name| parsed.value(name, &[("cache", cache)]).unwrap();
        assert_eq!(
            (of("pinstone_edge_cache_hits_total"), of("pinstone_edge_cache_misses_total")),
            (hits, misses),
            "{cache}"
        );
    }
    for (name, want) in [
        ("pinstone_edge_first_byte_seconds_count", 6.0),
        ("pinstone_edge_last_byte_seconds_count", 6.0),
        ("pinstone_edge_connections_open", 2.0),
        ("pinstone_edge_connections_accepted_total", 2.0),
        ("pinstone_edge_workers", 2.0),
        ("pinstone_edge_window_bytes", 0.0),
        ("pinstone_pointer_table_projects", 1.0),
        ("pinstone_pointer_table_pointers", 1.0),
    ] {
        assert_eq!(parsed.value(name, &[]), Some(want), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debugging_is_for_who_asks_where_it_is_allowed() {
    let files: &[(&str, &[u8])] = &[("index.html", b"home")];
    let configure = |config: &mut EdgeConfig| config.debug_headers = true;
    let world = World::start(Clock::system(), None, configure, files).await;
    let image = world.publish("demo", "prod", files).await;
    let asks = "Pinstone-Debug: 1\r\n";
    let first = world.connect().get(SITE, "/", asks);
    assert_eq!(first.text(), "home");
    assert_eq!(
        (first.field("pinstone-project"), first.field("pinstone-image")),
        (Some("demo"), Some(&*image.to_string()))
    );
    assert_eq!(first.field("cache-status"), Some("pinstone; fwd=miss; detail=blob"));
    assert_eq!(first.field("cache-control"), Some("public, max-age=0, must-revalidate, private"));
    let timing = first.field("server-timing").unwrap().to_owned();
    let names: Vec<_> = timing.split(", ").map(|step| step.split_once(";dur=").unwrap()).collect();
    assert_eq!(names.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["resolve", "manifest", "blob"]);
    assert!(names.iter().all(|(_, took)| took.parse::<f64>().is_ok()), "{timing}");
    let again = world.connect().get(SITE, "/", &format!("{asks}If-None-Match: *\r\n"));
    assert_eq!((again.status, again.field("cache-status")), (304, Some("pinstone; hit")));
    let unknown = world.connect().get("nobody.pages.test", "/", asks);
    assert_eq!((unknown.status, unknown.field("cache-status"), unknown.field("pinstone-image")), (404, None, None));

    let silent = World::with(files).await;
    for response in [
        world.get(SITE, "/"),
        world.connect().get(SITE, "/", "Pinstone-Debug: 0\r\n"),
        silent.connect().get(SITE, "/", asks),
    ] {
        for name in ["pinstone-project", "pinstone-image", "cache-status", "server-timing"] {
            assert_eq!(response.field(name), None);
        }
        assert_eq!(response.field("cache-control"), Some("public, max-age=0, must-revalidate"));
    }
}
