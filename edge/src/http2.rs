//! HTTP/2 (RFC 9113), the server's side.
//!
//! A connection is one state machine in one task ([`connection`]): it reads what came, has each request answered where it was
//! read, and writes what all of that made in as few pieces as there can be. Mostly an answer is there at once, so most
//! streams begin and end within one turn and are kept nowhere. One that has to wait for something, a disk or the control
//! plane, is polled when that wakes it, and only then.
//!
//! The steps by themselves: [`frame`] and [`hpack`] are bytes, [`request`] is what makes a request of fields, [`sender`] what is
//! sent on streams, [`Outgoing`](crate::outgoing::Outgoing) what the socket is to take next.
//!
//! # What a client can make us do
//!
//! All of it is bounded, whatever a client sends or leaves:
//!
//! - memory: [`STREAMS`] streams, whose bodies are read as far as their windows go ([`CONNECTION_WINDOW`] in all) and whose
//!   answers are asked for as their clients take them; one block of fields ([`BLOCK`]), one frame, and
//!   [`ENOUGH`](crate::outgoing::ENOUGH) to be written, beyond which nothing is read, so that a client which asks for answers to PING or SETTINGS has to take them;
//! - work: a stream that is taken back, or that breaks a rule, costs of an allowance ([`resets`]) that fills slowly.
//!
//! How long it may take is the [`Watch`](crate::watch::Watch)'s to say, as for HTTP/1.
//!
//! # Why it is our own
//!
//! An answer of 1 KiB took 6.4 µs with `h2` below hyper, largely to move requests and answers between its parts, and takes 0.45
//! of that here. Measured in `docs/performance.md`.

use http::header::{self, HeaderName};

use crate::intake::UNASKED;

pub(crate) mod connection;
mod frame;
mod hpack;
mod outgoing;
mod request;
mod resets;
mod sender;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use connection::Connection;

/// The client's preface (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that a client may have at a time (`SETTINGS_MAX_CONCURRENT_STREAMS`).
const STREAMS: u32 = 128;

/// The most that the fields of a request take, each with 32 bytes more (`SETTINGS_MAX_HEADER_LIST_SIZE`).
const LARGEST_LIST: u32 = 16 << 10;

/// The most bytes of a block of fields, packed as they are. More than any list that is allowed takes.
const BLOCK: usize = 32 << 10;

/// Bytes that a client may send on all streams of a connection before any are taken. Not even as many streams as there may be,
/// of which nobody asks for anything, take all of it from one that is read.
const CONNECTION_WINDOW: u32 = STREAMS * UNASKED;

/// What either end may send on a stream before it hears anything of the other (RFC 9113 section 6.9.2).
const FIRST_WINDOW: u32 = 65_535;

/// Whether a field is about a connection of HTTP/1, so that no message of HTTP/2 has it (RFC 9113 section 8.2.2).
fn is_of_the_connection(name: &HeaderName) -> bool {
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
