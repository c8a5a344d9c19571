//! How connections and the edge itself end.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use pinstone_edge::{Edge, EdgeConfig, Listeners};
use pinstone_engine::clock::Clock;
use pinstone_engine::host::{HostName, Hosts};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::world::{SITE, World};

async fn world(configure: impl FnOnce(&mut EdgeConfig), files: &[(&str, &[u8])]) -> World {
    World::start(Clock::system(), None, configure, files).await
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_is_in_flight() {
    let large = vec![9; 20_000_000];
    let world = World::with(&[("large.bin", &large), ("a.txt", b"a")]).await;
    let mut idle = world.connect();
    assert_eq!(idle.get(SITE, "/a.txt", "").text(), "a");
    let mut busy = world.connect();
    busy.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    let head = busy.receive(false);
    assert_eq!(head.field("content-length"), Some("20000000"));
    world.shutdown.cancel();
    assert!(idle.is_closed(), "what is idle is closed at once");
    let address = world.address;
    let refused = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(refused, "no new connections");
    assert!(!world.serving.is_finished(), "a body is still being sent");
    let mut body = busy.take_read();
    busy.stream.read_to_end(&mut body).unwrap();
    assert!(body == large, "to its last byte");
    world.serving.await.unwrap().unwrap();
    assert_eq!(world.counters.open_connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_grace_what_is_left_is_cut() {
    let large = vec![9; 20_000_000];
    let grace = Duration::from_millis(200);
    let world = world(|config| config.limits.shutdown_grace = grace, &[("large.bin", &large)]).await;
    let mut busy = world.connect();
    busy.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    busy.receive(false);
    let started = Instant::now();
    world.shutdown.cancel();
    world.serving.await.unwrap().unwrap();
    assert!(started.elapsed() >= grace && started.elapsed() < Duration::from_secs(5));
    assert_eq!(world.counters.open_connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_end_connections_that_are_in_the_way() {
    let large = vec![9; 50_000_000];
    let configure = |config: &mut EdgeConfig| {
        config.limits.head_timeout = Duration::from_millis(300);
        config.limits.idle_timeout = Duration::from_secs(2);
        config.limits.write_timeout = Duration::from_millis(500);
    };
    let world = world(configure, &[("a.txt", b"a"), ("large.bin", &large)]).await;
    let started = Instant::now();
    let mut slow_head = world.connect();
    slow_head.send("GET / HT");
    let mut slow_second_head = world.connect();
    assert_eq!(slow_second_head.get(SITE, "/a.txt", "").text(), "a");
    slow_second_head.send("GET /a.t");
    let mut silent = world.connect();
    let mut idle = world.connect();
    assert_eq!(idle.get(SITE, "/a.txt", "").text(), "a");
    let mut stalled = world.connect();
    stalled.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));

    assert!(slow_head.is_closed());
    assert!(slow_second_head.is_closed());
    let heads = started.elapsed();
    // Deadlines are of a clock that goes by the kernel's ticks, of at most 10 ms.
    assert!(heads >= Duration::from_millis(275) && heads < Duration::from_millis(1900), "{heads:?}");
    assert!(silent.is_closed());
    assert!(idle.is_closed());
    let idled = started.elapsed();
    assert!(idled >= Duration::from_millis(1975) && idled < Duration::from_secs(6), "{idled:?}");
    let mut body = Vec::new();
    let ended = stalled.stream.read_to_end(&mut body).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset), "nor does the kernel keep what a client did not read");
    assert!(body.len() < large.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_served() {
    let large: Vec<u8> = (0..12_000_000_u32).map(|n| (n % 241).to_le_bytes()[0]).collect();
    let configure = |config: &mut EdgeConfig| config.limits.write_timeout = Duration::from_millis(500);
    let world = world(configure, &[("large.bin", &large)]).await;
    let mut connection = world.connect();
    // Else the kernel decides how much there is to be read each time, and with little the reader is too slow.
    socket2::SockRef::from(&connection.stream).set_recv_buffer_size(2 << 20).unwrap();
    connection.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    connection.receive(false);
    let mut body = connection.take_read();
    let mut chunk = vec![0; 1 << 20];
    while body.len() < large.len() {
        std::thread::sleep(Duration::from_millis(100));
        let read = connection.stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0);
        body.extend_from_slice(&chunk[..read]);
    }
    assert!(body == large);
}

/// Longer than it takes an idle connection to give its memory back.
const RESTED: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_rested_goes_on() {
    let large = vec![7; 3_000_000];
    let world = world(|_| {}, &[("a.txt", b"a"), ("large.bin", &large)]).await;
    let mut clients: Vec<_> = (0..4).map(|_| world.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get(SITE, "/a.txt", "").text(), "a"));
    let head = format!("GET /a.txt HTTP/1.1\r\nHost: {SITE}\r\n\r\n");
    for round in 0..2 {
        // One has sent half a head, one reads nothing, and one has asked before it rests: none of that is lost.
        clients[1].send(&head[..20]);
        clients[2].send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
        clients[3].send(head.repeat(3));
        std::thread::sleep(RESTED);
        assert_eq!(clients[0].get(SITE, "/a.txt", "").text(), "a", "round {round}");
        clients[1].send(&head[20..]);
        assert_eq!(clients[1].receive(true).text(), "a", "round {round}");
        assert!(clients[2].receive(true).body == large, "round {round}");
        for _ in 0..3 {
            assert_eq!(clients[3].receive(true).text(), "a", "round {round}");
        }
    }
    std::thread::sleep(RESTED);
    world.shutdown.cancel();
    clients.iter_mut().for_each(|client| assert!(client.is_closed(), "who rests is told of the end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_rests_has_the_deadline_of_an_idle_one() {
    let configure = |config: &mut EdgeConfig| config.limits.idle_timeout = Duration::from_secs(4);
    let world = world(configure, &[("a.txt", b"a")]).await;
    let mut client = world.connect();
    assert_eq!(client.get(SITE, "/a.txt", "").text(), "a");
    std::thread::sleep(RESTED);
    client.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let open = client.stream.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(open.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{open}");
    client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_new_connections_wait() {
    let configure = |config: &mut EdgeConfig| {
        config.workers = NonZeroUsize::MIN;
        config.limits.connections = 2;
    };
    let world = world(configure, &[("a.txt", b"a")]).await;
    let mut first = world.connect();
    let mut second = world.connect();
    assert_eq!(first.get(SITE, "/a.txt", "").text(), "a");
    assert_eq!(second.get(SITE, "/a.txt", "").text(), "a");
    let mut third = world.connect();
    third.send(format!("GET /a.txt HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    third.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let waits = third.stream.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(waits.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    third.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(first);
    assert_eq!(third.receive(true).text(), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_future_ends_the_workers() {
    let world = World::with(&[("a.txt", b"a")]).await;
    assert_eq!(world.get(SITE, "/a.txt").text(), "a");
    world.serving.abort();
    let address = world.address;
    let refused = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        TcpStream::connect(address).is_err()
    });
    assert!(refused);
}

#[tokio::test(flavor = "current_thread")]
async fn one_thread_is_enough() {
    let mut world = World::with(&[("a.txt", b"a"), ("large.bin", &[7; 300_000])]).await;
    let config = EdgeConfig::new(Hosts::new(&HostName::parse("pages.test").unwrap(), None), Handle::current());
    let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()], NonZeroUsize::new(2).unwrap()).unwrap();
    world.address = listeners.addresses()[0];
    let edge = Edge::new(config, world.engine.resolver(), None).unwrap();
    let shutdown = CancellationToken::new();
    let client = tokio::task::spawn_blocking(move || {
        // Several, so that both sockets are asked sooner or later.
        for _ in 0..8 {
            assert_eq!(world.get(SITE, "/a.txt").text(), "a");
        }
        assert_eq!(world.get(SITE, "/large.bin").body.len(), 300_000);
    });
    let stop = async {
        let asked = client.await;
        shutdown.cancel();
        asked
    };
    let (served, asked) = tokio::join!(edge.serve_here(listeners, shutdown.clone()), stop);
    served.unwrap();
    asked.unwrap();
}
