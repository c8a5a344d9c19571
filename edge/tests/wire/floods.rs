//! HTTP/2 of clients that mean harm, frame by frame. Each ends with a connection that is closed, and a fresh request
//! that is answered.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::world::{SITE, World};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `ENHANCE_YOUR_CALM` (RFC 9113 section 7).
const CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a GET, each as a literal or from the static table (RFC 7541).
fn get() -> Vec<u8> {
    let length = u8::try_from(SITE.len()).unwrap();
    [&[0x82, 0x86, 0x84, 0x41, length][..], SITE.as_bytes()].concat()
}

struct Client(TcpStream);

impl Client {
    fn new(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self(stream)
    }

    /// Sends, unless the other end has closed.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The next frame: its kind, its stream and its payload. Nothing after the last.
    fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let mut payload = vec![0; length];
        self.read(&mut payload)?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.0.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => None,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }

    /// Reads until the connection is closed; the reason, where one is given.
    fn reason(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some((kind, _, payload)) = self.next() {
            if kind == GOAWAY {
                reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        reason
    }
}

async fn world() -> World {
    World::with(&[("index.html", b"home")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connection_may_do_is_said_at_its_start() {
    let world = world().await;
    let mut client = Client::new(&world);
    let (kind, _, settings) = client.next().unwrap();
    assert_eq!(kind, SETTINGS);
    let setting = |id: u16| {
        let mut settings = settings.chunks(6);
        settings
            .find(|setting| setting[..2] == id.to_be_bytes())
            .map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    assert_eq!((setting(3), setting(6)), (Some(128), Some(16 << 10)), "streams, and bytes of a header list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_ends_its_connection() {
    let world = world().await;
    let mut client = Client::new(&world);
    let cancel = 8_u32.to_be_bytes();
    let burst = |first: u32| -> Vec<u8> {
        let streams = (0..200).map(|number| first + 2 * number);
        let pair = |stream| {
            [frame(HEADERS, END_STREAM | END_HEADERS, stream, &get()), frame(RST_STREAM, 0, stream, &cancel)].concat()
        };
        streams.flat_map(pair).collect()
    };
    let is_ended = (0..500).any(|number| !client.send(&burst(1 + 400 * number)));
    let reason = client.reason();
    assert!(is_ended || reason == Some(CALM), "{reason:?}");
    assert_eq!(world.get(SITE, "/").text(), "home");
    while world.counters.open_connections() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_continuations_ends_its_connection() {
    let world = world().await;
    let mut client = Client::new(&world);
    client.send(&frame(HEADERS, END_STREAM, 1, &get()));
    // A field without an end: a literal whose value goes on and on, in frames of any size.
    let more = frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b']).repeat(100);
    let is_ended = (0..10_000).any(|_| !client.send(&more));
    let reason = client.reason();
    assert!(is_ended || reason.is_some(), "{reason:?}");
    assert_eq!(world.get(SITE, "/").text(), "home");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_http_1_are_refused() {
    let world = world().await;
    let mut client = Client::new(&world);
    let field = |name: &str, value: &str| {
        let part = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
        [vec![0], part(name), part(value)].concat()
    };
    let mut stream = 1;
    for (name, value) in [("transfer-encoding", "chunked"), ("connection", "close"), ("keep-alive", "1")] {
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &[get(), field(name, value)].concat()));
        loop {
            let (kind, of, _) = client.next().expect("the connection goes on");
            if (kind, of) == (RST_STREAM, stream) {
                break;
            }
            assert_ne!((kind, of), (HEADERS, stream), "{name} was answered");
        }
        stream += 2;
    }
}
