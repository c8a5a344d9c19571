//! A client of HTTP/2 that knows frames and nothing else, so that it can send what no library would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::world::SITE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const LARGEST_WINDOW: u32 = (1 << 31) - 1;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `ENHANCE_YOUR_CALM` (RFC 9113 section 7).
pub(crate) const CALM: u32 = 11;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a GET, each as a literal or from the static table (RFC 7541).
pub(crate) fn get(target: &str) -> Vec<u8> {
    get_of(SITE, target)
}

pub(crate) fn get_of(host: &str, target: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [&[0x82, 0x86, 0x04][..], &text(target), &[0x41], &text(host)].concat()
}

/// A client that sends what it is told to.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self(stream)
    }

    /// One whose streams have a window of `bytes` each, and the connection the largest there is.
    pub(crate) fn with_windows(address: SocketAddr, bytes: u32) -> Self {
        let mut client = Self::new(address);
        client.send(&frame(SETTINGS, 0, 0, &[&[0, 4][..], &bytes.to_be_bytes()].concat()));
        client.send(&frame(WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - 65_535).to_be_bytes()));
        client
    }

    /// Asks for the target on so many streams, from `first` on.
    pub(crate) fn ask(&mut self, target: &str, first: u32, streams: u32) -> bool {
        let request = get(target);
        let ask = |number| frame(HEADERS, END_STREAM | END_HEADERS, first + 2 * number, &request);
        self.send(&(0..streams).flat_map(ask).collect::<Vec<u8>>())
    }

    /// Sends; whether the other end was still there.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The next frame: its kind, its stream and its payload. Nothing after the last.
    pub(crate) fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
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
    pub(crate) fn reason(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some((kind, _, payload)) = self.next() {
            if kind == GOAWAY {
                reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        reason
    }
}
