//! A DNS server of one's own: it knows what a test told it, and nothing else.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;

/// A server on a free port of 127.0.0.1. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Dns {
    address: SocketAddr,
    zone: Arc<Zone>,
    thread: Option<JoinHandle<()>>,
}

/// A record's type and its data.
type Record = (u16, Vec<u8>);

#[derive(Debug, Default)]
struct Zone {
    names: Mutex<HashMap<String, Vec<Record>>>,
    fails: AtomicBool,
    ends: AtomicBool,
}

impl Dns {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (address, zone) = (socket.local_addr().unwrap(), Arc::new(Zone::default()));
        let served = Arc::clone(&zone);
        let thread = std::thread::spawn(move || {
            let mut query = [0; 1500];
            while !served.ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                if let Some(answer) = served.answer(&query[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, zone, thread: Some(thread) }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets a name have this address too.
    pub(crate) fn add_address(&self, name: &str, address: &str) {
        self.add(
            name,
            match address.parse().unwrap() {
                IpAddr::V4(address) => (A, address.octets().to_vec()),
                IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
            },
        );
    }

    /// Lets a name have this TXT record too, in pieces of at most 20 bytes.
    pub(crate) fn add_text(&self, name: &str, text: &str) {
        let pieces = text.as_bytes().chunks(20);
        let piece = |piece: &[u8]| [&[u8::try_from(piece.len()).unwrap()][..], piece].concat();
        self.add(name, (TXT, pieces.flat_map(piece).collect()));
    }

    fn add(&self, name: &str, record: Record) {
        self.zone.names.lock().unwrap().entry(name.to_owned()).or_default().push(record);
    }

    /// Forgets a name.
    pub(crate) fn remove(&self, name: &str) {
        self.zone.names.lock().unwrap().remove(name);
    }

    /// Answers everything with a failure of its own, or as before.
    pub(crate) fn set_failing(&self, fails: bool) {
        self.zone.fails.store(fails, Ordering::Relaxed);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.zone.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Zone {
    /// The answer to a query of one question (RFC 1035 section 4).
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let mut labels = Vec::new();
        let mut at = 12;
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
        let question = query.get(12..at + 4)?;
        let names = self.names.lock().unwrap();
        let known = names.get(&labels.join("."));
        let records: Vec<_> = known.into_iter().flatten().filter(|(of, _)| *of == kind).collect();
        let fails = self.fails.load(Ordering::Relaxed);
        let code = if fails {
            2
        } else if known.is_none() {
            3
        } else {
            0
        };
        let count = if fails { 0 } else { u16::try_from(records.len()).ok()? };
        let mut answer = query[..2].to_vec();
        answer.extend_from_slice(&[0x81, 0x80 | code, 0, 1]);
        answer.extend_from_slice(&count.to_be_bytes());
        answer.extend_from_slice(&[0; 4]);
        answer.extend_from_slice(question);
        for (kind, data) in records.iter().take(usize::from(count)) {
            answer.extend_from_slice(&[0xc0, 12]);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            answer.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
            answer.extend_from_slice(data);
        }
        Some(answer)
    }
}
