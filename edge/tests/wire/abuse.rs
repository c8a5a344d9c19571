//! Clients that are slow, or stand still, on purpose or not: who is waited for, for how long, and who is not.

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use pinstone_edge::{BoxError, ControlBody, ControlService, EdgeConfig, RequestBody};
use pinstone_engine::clock::Clock;

use crate::raw_http2::{CONTINUATION, Client, END_HEADERS, END_STREAM, HEADERS, WINDOW_UPDATE, frame, get, get_of};
use crate::world::{Connection, SITE, World};

/// Longer than any deadline of these tests, even where everything else has the processor.
const PATIENCE: Duration = Duration::from_secs(30);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that no two places of a file share by chance.
fn large(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n % 251).to_le_bytes()[0]).collect()
}

async fn world(control: Option<ControlService>, configure: impl FnOnce(&mut EdgeConfig), file: &[u8]) -> World {
    World::start(Clock::system(), control, configure, &[("index.html", b"home"), ("large.bin", file)]).await
}

/// Answers with these pieces, each after a pause.
fn slowly(pause: Duration, pieces: &[&'static [u8]]) -> ControlService {
    let pieces: Vec<&'static [u8]> = pieces.to_vec();
    ControlService::new(tower::service_fn(move |_: Request<RequestBody>| {
        let pieces = stream::iter(pieces.clone()).then(move |piece| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece)))
        });
        std::future::ready(Ok::<_, Infallible>(Response::new(ControlBody::new(StreamBody::new(pieces)))))
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_side_gets_its_answer() {
    let large = large(8 << 20);
    let world = world(None, |_| {}, &large).await;
    for (target, want) in [("/", &b"home"[..]), ("/large.bin", &large), ("/", b"home")] {
        let mut connection = world.connect();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
        connection.stream.shutdown(Shutdown::Write).unwrap();
        // Long enough for the end of the stream to be seen before the answer is over.
        std::thread::sleep(Duration::from_millis(50));
        let answer = connection.receive(true);
        assert!(answer.body == want, "{target}: {} bytes", answer.body.len());
        assert!(connection.is_closed(), "{target}");
        until("nobody waits for more", || world.counters.open_connections() == 0);
    }
    let mut gone = world.connect();
    gone.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    gone.receive(false);
    drop(gone);
    until("nobody sends on", || world.counters.open_connections() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_answer_is_not_lost_to_what_a_client_sends_meanwhile() {
    let large = large(8 << 20);
    let world = world(None, |_| {}, &large).await;
    let mut connection = world.connect();
    connection.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n"));
    connection.receive(false);
    connection.send("nobody reads this");
    let mut body = connection.take_read();
    let mut chunk = vec![0; 256 << 10];
    while body.len() < large.len() {
        // The end waits within the socket until the edge has closed it.
        std::thread::sleep(Duration::from_millis(10));
        let read = connection.stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0, "after {} bytes", body.len());
        body.extend_from_slice(&chunk[..read]);
    }
    assert!(body == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_a_deadline_however_slowly_it_comes() {
    let world = world(None, |config| config.limits.head_timeout = Duration::from_millis(400), b"").await;
    let field = [&[0x40, 1, b'a', 100][..], &[b'b'; 100]].concat();
    let open_head = frame(HEADERS, END_STREAM, 1, &get("/"));
    // Before the first of these bytes is sent.
    let started = Instant::now();
    let http2 = |first: &[u8]| {
        let client = Client::new(world.address);
        let mut connection = Connection::over(client.0);
        connection.send(first);
        connection
    };
    let mut http1 = world.connect();
    http1.send(format!("GET / HTTP/1.1\r\nHost: {SITE}\r\nA: "));
    let slow: [(&str, Connection, Vec<u8>); 4] = [
        ("HTTP/1", http1, vec![b'a'; 200]),
        ("HTTP/2, within a frame", http2(&open_head[..12]), open_head[12..20].to_vec()),
        ("HTTP/2, between frames", http2(&open_head), Vec::new()),
        ("HTTP/2, more and more fields", http2(&open_head), frame(CONTINUATION, 0, 1, &field)),
    ];
    std::thread::scope(|scope| {
        for (what, mut connection, more) in slow {
            scope.spawn(move || {
                let mut more = more.into_iter();
                let mut scratch = [0; 1024];
                connection.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                loop {
                    match connection.stream.read(&mut scratch) {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                        Err(_) => break,
                    }
                    assert!(started.elapsed() < PATIENCE, "{what}");
                    if let Some(byte) = more.next() {
                        let _ended = connection.stream.write_all(&[byte]);
                    }
                }
                // Deadlines are of a clock that goes by the kernel's ticks.
                assert!(started.elapsed() >= Duration::from_millis(375), "{what}: {:?}", started.elapsed());
            });
        }
        assert_eq!(world.get(SITE, "/").text(), "home");
    });
    until("all are gone", || world.counters.open_connections() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_may_be_idle_between_frames() {
    let world = world(None, |config| config.limits.head_timeout = Duration::from_millis(200), b"").await;
    let mut client = Client::new(world.address);
    for stream in [1, 3] {
        assert!(client.ask("/", stream, 1));
        while client.next().expect("the connection goes on").0 != HEADERS {}
        std::thread::sleep(Duration::from_millis(600));
    }
    assert!(client.ask("/", 5, 1));
    while client.next().expect("the connection goes on").1 != 5 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_wants_is_not_waited_for() {
    // Gives up after a while, as a control plane does.
    let control = ControlService::new(tower::service_fn(|request: Request<RequestBody>| async move {
        let body = tokio::time::timeout(Duration::from_millis(300), request.into_body().collect()).await;
        let status = if body.is_ok() { StatusCode::OK } else { StatusCode::REQUEST_TIMEOUT };
        let body = ControlBody::new(Full::from("late").map_err(|never: Infallible| match never {}));
        Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
    }));
    let world = world(Some(control), |_| {}, b"").await;
    for (host, status) in [(SITE, 405), ("pages.test", 408)] {
        let mut connection = world.connect();
        connection.send(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n"));
        let mut writer = connection.stream.try_clone().unwrap();
        let drip = std::thread::spawn(move || {
            let end = Instant::now() + PATIENCE;
            while writer.write_all(b"x").is_ok() {
                assert!(Instant::now() < end, "the connection stays");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(connection.receive(true).status, status, "{host}");
        assert!(connection.is_closed(), "{host}");
        drip.join().unwrap();
        until("it is gone", || world.counters.open_connections() == 0);
    }
    assert_eq!(world.get(SITE, "/").text(), "home");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_may_think_and_its_client_must_take() {
    const PIECES: [&[u8]; 3] = [&[b'a'; 100_000], &[b'b'; 100_000], &[b'c'; 100_000]];
    let configure = |config: &mut EdgeConfig| config.limits.write_timeout = Duration::from_millis(300);
    let world = world(Some(slowly(Duration::from_secs(1), &PIECES)), configure, b"").await;
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get_of("pages.test", "/"));
    let mut takes = Client::with_windows(world.address, 1 << 20);
    takes.send(&request);
    let mut stalls: Vec<Client> = [0, 10].map(|window| Client::with_windows(world.address, window)).into();
    stalls.iter_mut().for_each(|client| assert!(client.send(&request)));
    let mut body = 0;
    while body < 300_000 {
        let (kind, _, payload) = takes.next().expect("nobody cuts who waits for us");
        body += if kind == 0 { payload.len() } else { 0 };
    }
    until("who takes nothing is cut", || world.counters.open_connections() == 1);
    drop(takes);
    assert_eq!(world.get(SITE, "/").text(), "home");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_trickle_does_not_keep_the_memory_of_all() {
    let configure = |config: &mut EdgeConfig| {
        config.limits.write_timeout = Duration::from_secs(1);
        config.limits.window_memory = 256 << 10;
    };
    let world = world(None, configure, &large(1 << 20)).await;
    // With nothing to be loaded, the first streams have the memory.
    assert_eq!(world.get(SITE, "/large.bin").status, 200);
    let mut client = Client::with_windows(world.address, 0);
    // Just enough of a window for progress, in the time that there is for it; then of the next one. All others are kept.
    let drip = |number: u32| frame(WINDOW_UPDATE, 0, 1 + 2 * (number / 12), &1200_u32.to_be_bytes());
    assert!(client.ask("/large.bin", 1, 100));
    let (address, mut reader) = (world.address, client.0.try_clone().unwrap());
    let read = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let other = std::thread::spawn(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        Connection::over(stream).get(SITE, "/large.bin", "").body.len()
    });
    let end = Instant::now() + PATIENCE;
    for number in 0.. {
        if other.is_finished() || !client.send(&drip(number)) {
            break;
        }
        assert!(Instant::now() < end, "the memory is kept");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(client);
    assert_eq!(other.join().unwrap(), 1 << 20);
    let _ended = read.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_has_its_deadline_too() {
    let configure = |config: &mut EdgeConfig| config.limits.write_timeout = Duration::from_millis(300);
    let world = world(None, configure, &[7; 10_000]).await;
    let mut client = Client::with_windows(world.address, 0);
    // Every request is one more thing that the client does not take.
    let end = Instant::now() + PATIENCE;
    let mut stream = 1;
    while client.ask("/large.bin", stream, 1) && client.send(&frame(WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes())) {
        assert!(Instant::now() < end, "asking on and on gives it time");
        std::thread::sleep(Duration::from_millis(100));
        stream += 2;
        if stream > 200 {
            break;
        }
    }
    assert!(stream < 200, "it was cut");
}
