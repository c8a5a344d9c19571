//! What clients that mean harm make an edge hold, and that it lets go of it.
//!
//! The edge serves in a process of its own, which is this program again, so that its memory and its descriptors are
//! counted without those of the attack. Each attack comes twice: what the second one leaves behind beyond the first
//! would be a leak. `-- memory --nocapture` shows the figures.

use std::alloc::System;
use std::fmt;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cap::Cap;
use pinstone_edge::EdgeConfig;
use pinstone_engine::clock::Clock;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::raw_http2::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, HEADERS, LARGEST_WINDOW, PING, RST_STREAM, SETTINGS, frame,
    get,
};
use crate::world::{Connection, SITE, World};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The file that is asked for.
const LARGE: usize = 8 << 20;

/// What the process is told that serves: its deadline for writes, in milliseconds.
const SERVE: &str = "PINSTONE_TEST_SERVE";

/// Without something happening that was to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that stay: tables have the size that they had to have once, and caches remember.
const SLACK: u64 = MIB;

/// Descriptors that come and go by themselves, such as those of the runtime.
const SPARE_DESCRIPTORS: usize = 4;

/// Counts what is allocated. What the process holds of the system says little about it afterwards: the allocator keeps
/// most of it for the next time.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Not a test of its own: the process that the others attack.
#[test]
fn serves_another_test() {
    let Ok(serve) = std::env::var(SERVE) else { return };
    let (write_timeout, sendfile) = serve.split_once(' ').expect("both are said");
    let configure = |config: &mut EdgeConfig| {
        config.sendfile = Some(sendfile.parse().unwrap());
        config.limits.write_timeout = Duration::from_millis(write_timeout.parse().unwrap());
        config.limits.head_timeout = config.limits.write_timeout;
        // What is kept of files that are asked for often has a bound of its own, and would be taken for what an attack left.
        config.cache.often_bytes = 0;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let large = vec![7; LARGE];
        World::start(Clock::system(), None, configure, &[("index.html", b"home"), ("large.bin", &large)]).await
    });
    println!("\naddress {}", world.address);
    // Tells what it holds for each line, until the other process has seen enough or is gone.
    for _ in std::io::stdin().lines() {
        println!("\nallocated {}", ALLOCATOR.allocated());
    }
}

/// An edge in a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

/// What a process holds.
#[derive(Clone, Copy)]
struct Held {
    /// Bytes that are allocated.
    memory: u64,
    /// Bytes that the system has given for it, with what the allocator keeps.
    resident: u64,
    descriptors: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |bytes: u64| format!("{}.{}", bytes / MIB, bytes * 10 / MIB % 10);
        write!(f, "{} MiB ({}), {}", tenths(self.memory), tenths(self.resident), self.descriptors)
    }
}

impl Server {
    fn start(write_timeout: Duration) -> Self {
        Self::sending(write_timeout, true)
    }

    /// One that says whether the kernel sends files as they lie.
    fn sending(write_timeout: Duration, sendfile: bool) -> Self {
        raise_descriptors();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["memory::serves_another_test", "--exact", "--nocapture"])
            .env(SERVE, format!("{} {sendfile}", write_timeout.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = value(&mut lines, "address ").parse().unwrap();
        let server = Self { process, address, pipes: Mutex::new((stdin, lines)) };
        // What is made at the first use is there before anything is measured.
        for _ in 0..8 {
            server.is_well();
            server.connect().get(SITE, "/large.bin", "");
            let mut client = Client::new(server.address);
            assert!(client.ask("/large.bin", 1, 1));
            while client.next().expect("an answer").0 != DATA {}
        }
        server
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection::over(stream)
    }

    /// A fresh request is answered.
    fn is_well(&self) {
        assert_eq!(self.connect().get(SITE, "/", "").text(), "home");
    }

    fn held(&self) -> Held {
        let process = format!("/proc/{}", self.process.id());
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let field = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        let kib: u64 = field.trim().trim_end_matches(" kB").parse().unwrap();
        let mut pipes = self.pipes.lock().unwrap();
        let (ask, answers) = &mut *pipes;
        ask.write_all(b"\n").unwrap();
        let memory = value(answers, "allocated ").parse().unwrap();
        let descriptors = std::fs::read_dir(format!("{process}/fd")).unwrap().count();
        Held { memory, resident: kib * KIB, descriptors }
    }

    /// What it holds once that does not fall any more, and there are no more descriptors than that.
    fn settled(&self, descriptors: usize) -> Held {
        let end = Instant::now() + PATIENCE;
        let mut last = self.held();
        loop {
            std::thread::sleep(Duration::from_millis(150));
            let held = self.held();
            if held.descriptors <= descriptors.min(last.descriptors) && held.memory >= last.memory {
                return held;
            }
            assert!(Instant::now() < end, "descriptors stay open: {held}");
            last = held;
        }
    }

    /// Attacks twice, and measures.
    fn attack<A>(&self, attack: &Attack<'_>, start: impl Fn() -> A) -> Figures {
        let Attack { name, connections, ends, most } = *attack;
        let before = self.settled(usize::MAX);
        let few = before.descriptors + SPARE_DESCRIPTORS;
        let once = || {
            let (is_over, peak) = (AtomicBool::new(false), Mutex::new(before));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Relaxed) {
                        let held = self.held();
                        let mut peak = peak.lock().unwrap();
                        peak.memory = peak.memory.max(held.memory);
                        peak.resident = peak.resident.max(held.resident);
                        peak.descriptors = peak.descriptors.max(held.descriptors);
                        drop(peak);
                        if matches!(ends, Ends::Never) {
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                });
                // Or a failure would wait for the thread above.
                let _over = Sets(&is_over);
                let running = start();
                let all = before.descriptors + connections;
                let seen = || self.held().descriptors.max(peak.lock().unwrap().descriptors) >= all;
                until("all connections are there", seen);
                match ends {
                    Ends::ByTheServer => until("stalled clients are cut", || self.held().descriptors <= few),
                    Ends::ByTheClient => {}
                    // What stays is of interest, not what the last answers took. An idle connection rests after a second.
                    Ends::Never => {
                        std::thread::sleep(Duration::from_millis(2500));
                        *peak.lock().unwrap() = self.settled(usize::MAX);
                    }
                }
                self.is_well();
                drop(running);
            });
            let after = self.settled(few);
            (peak.into_inner().unwrap(), after)
        };
        let ((first, left), (second, after)) = (once(), once());
        self.is_well();
        let peak = if first.memory > second.memory { first } else { second };
        eprintln!("| {name} | {before} | {peak} | {left} | {after} |");
        let added = peak.memory - before.memory;
        let held = peak.resident.saturating_sub(before.resident);
        assert!(added <= most, "{name}: {added} bytes at the peak, not {most}");
        assert!(held <= 2 * most, "{name}: {held} bytes of the system at the peak, not {}", 2 * most);
        for (attack, held) in [left, after].into_iter().enumerate() {
            let bound = before.memory + before.memory / 10 + SLACK;
            assert!(held.memory <= bound, "{name}: {} bytes are left of attack {attack}, not {bound}", held.memory);
        }
        assert!(after.memory <= left.memory + left.memory / 10 + SLACK / 4, "{name}: the second attack left more");
        Figures { added }
    }
}

/// What follows these words, on the next line that begins with them.
fn value(lines: &mut Lines<BufReader<ChildStdout>>, words: &str) -> String {
    lines.find_map(|line| Some(line.ok()?.strip_prefix(words)?.to_owned())).expect("the process answers")
}

/// What is going to happen.
struct Attack<'a> {
    name: &'a str,
    /// How many there are at the same time.
    connections: usize,
    ends: Ends,
    /// Bytes of memory that it may add.
    most: u64,
}

/// How an attack ends.
#[derive(Clone, Copy)]
enum Ends {
    Never,
    ByTheClient,
    ByTheServer,
}

struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

struct Figures {
    /// Bytes of memory that the attack added at its peak.
    added: u64,
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// As many descriptors as the system allows, here and in the processes that are started from here.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _as_it_was = setrlimit(Resource::Nofile, limit);
}

/// Whether so many connections can be had, and says so where they cannot.
fn has_descriptors(needed: u64) -> bool {
    raise_descriptors();
    let has = getrlimit(Resource::Nofile).current.is_none_or(|limit| limit >= needed);
    if !has {
        eprintln!("skipped: this needs {needed} descriptors");
    }
    has
}

#[test]
fn idle_connections_are_cheap() {
    const COUNT: usize = 2000;
    if !has_descriptors(3 * COUNT as u64) {
        return;
    }
    let server = Server::start(PATIENCE);
    let attack = |name, most| Attack { name, connections: COUNT, ends: Ends::Never, most };
    let http1 = || {
        let mut connections: Vec<_> = (0..COUNT).map(|_| server.connect()).collect();
        connections.iter_mut().for_each(|connection| assert_eq!(connection.get(SITE, "/", "").status, 200));
        connections
    };
    let http2 = || {
        let mut clients: Vec<_> = (0..COUNT).map(|_| Client::new(server.address)).collect();
        clients.iter_mut().for_each(|client| assert!(client.ask("/", 1, 1)));
        clients.iter_mut().for_each(|client| while client.next().expect("an answer").0 != HEADERS {});
        clients
    };
    let figures = [
        server.attack(&attack("2,000 idle connections, HTTP/1", 80 * MIB), http1),
        server.attack(&attack("2,000 idle connections, HTTP/2", 30 * MIB), http2),
    ];
    let each = figures.map(|figures| figures.added / KIB / COUNT as u64);
    eprintln!("an idle connection: {} KiB over HTTP/1, {} KiB over HTTP/2", each[0], each[1]);
    // Nothing of what reads and writes: one buffer alone is 8 KiB.
    assert!(each[0] <= 4, "an idle connection over HTTP/1 holds {} KiB", each[0]);
    // Of HTTP/2 it has the tables of fields.
    assert!(each[1] <= 6, "an idle connection over HTTP/2 holds {} KiB", each[1]);
}

#[test]
fn half_sent_heads_are_let_go() {
    const COUNT: usize = 500;
    if !has_descriptors(3 * COUNT as u64) {
        return;
    }
    let server = Server::start(Duration::from_secs(1));
    // What the head takes, with as much for the buffer that it is read into, and the connection.
    let most = COUNT as u64 * 96 * KIB;
    let attack =
        Attack { name: "500 half-sent heads of 31 KiB", connections: COUNT / 2, ends: Ends::ByTheServer, most };
    let head = format!("GET / HTTP/1.1\r\nHost: {SITE}\r\nA: {}", "x".repeat(31 << 10));
    server.attack(&attack, || connections(&server, COUNT, &head));
}

#[test]
fn stalled_readers_of_http_1_hold_a_window_each() {
    const COUNT: usize = 200;
    let server = Server::start(Duration::from_secs(1));
    // Two windows, for the socket may have taken a part of the first, and the connection.
    let most = COUNT as u64 * 160 * KIB;
    let name = "200 connections that read nothing of 8 MiB, HTTP/1";
    let attack = Attack { name, connections: COUNT / 2, ends: Ends::ByTheServer, most };
    let head = format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n");
    server.attack(&attack, || connections(&server, COUNT, &head));
}

#[test]
fn slow_uploads_to_a_site_are_let_go() {
    const COUNT: usize = 200;
    let server = Server::start(Duration::from_secs(1));
    let attack = Attack {
        name: "200 endless uploads to a site, a byte at a time",
        connections: COUNT / 2,
        ends: Ends::ByTheServer,
        most: 16 * MIB,
    };
    let head = format!("POST / HTTP/1.1\r\nHost: {SITE}\r\nContent-Length: 100000000\r\n\r\n");
    server.attack(&attack, || {
        let mut connections = connections(&server, COUNT, &head);
        std::thread::spawn(move || {
            let end = Instant::now() + PATIENCE;
            while !connections.is_empty() && Instant::now() < end {
                connections.retain_mut(|connection| connection.stream.write_all(b"x").is_ok());
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    });
}

/// So many connections that have each sent `head`.
fn connections(server: &Server, count: usize, head: &str) -> Vec<Connection> {
    let connection = |_| {
        let mut connection = server.connect();
        connection.send(head);
        connection
    };
    (0..count).map(connection).collect()
}

#[test]
fn stalled_streams_share_the_memory_of_their_connection() {
    const CONNECTIONS: usize = 20;
    for sendfile in [true, false] {
        let server = Server::sending(Duration::from_secs(1), sendfile);
        for (windows, name) in [
            (0, "20 × 100 streams of 8 MiB, windows shut"),
            (1, "20 × 100 streams of 8 MiB, windows of a byte"),
            (LARGEST_WINDOW, "20 × 100 streams of 8 MiB, windows open and nothing read"),
        ] {
            let attack = Attack { name, connections: CONNECTIONS, ends: Ends::ByTheServer, most: 40 * MIB };
            server.attack(&attack, || -> Vec<Client> {
                let client = |_| {
                    let mut client = Client::with_windows(server.address, windows);
                    assert!(client.ask("/large.bin", 1, 100));
                    client
                };
                (0..CONNECTIONS).map(client).collect()
            });
        }
    }
}

#[test]
fn floods_leave_nothing_behind() {
    let server = Server::start(Duration::from_secs(2));
    flood(&server, "4 floods of resets", |number| {
        let pair = |number| {
            let (request, cancel) = (get("/large.bin"), 8_u32.to_be_bytes());
            let stream = 1 + 2 * number;
            [frame(HEADERS, END_STREAM | END_HEADERS, stream, &request), frame(RST_STREAM, 0, stream, &cancel)].concat()
        };
        (100 * number..100 * (number + 1)).flat_map(pair).collect()
    });
    flood(&server, "4 floods of CONTINUATION", |number| {
        let begin = if number == 0 { frame(HEADERS, END_STREAM, 1, &get("/")) } else { Vec::new() };
        let field = [&[0x40, 2, b'a', b'b', 100][..], &[b'c'; 100]].concat();
        [begin, frame(CONTINUATION, 0, 1, &field).repeat(100)].concat()
    });
    flood(&server, "4 floods of PING", |_| frame(PING, 0, 0, &[1; 8]).repeat(1000));
    flood(&server, "4 floods of SETTINGS", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]).repeat(1000));
}

/// Sends burst after burst from several connections, and from new ones where those are closed.
fn flood(server: &Server, name: &str, burst: fn(u32) -> Vec<u8>) {
    const CONNECTIONS: usize = 4;
    const TIME: Duration = Duration::from_millis(400);
    let address = server.address;
    let floods = move || {
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            let mut client = Client::new(address);
            // Whoever takes no answers is not read from any more, sooner or later.
            client.0.set_write_timeout(Some(TIME)).unwrap();
            let _closed = (0..10_000).take_while(|_| Instant::now() < end).all(|number| client.send(&burst(number)));
        }
    };
    let attack = Attack { name, connections: 1, ends: Ends::ByTheClient, most: 32 * MIB };
    server.attack(&attack, || {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| std::thread::spawn(floods)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
