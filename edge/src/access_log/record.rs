//! What the access log has of one request: gathered while it is answered, turned to text by the log's own thread.
//!
//! Texts are copied into one buffer, each cut at its bound, so that a record holds on to no connection's memory and its
//! size has an end.

use std::net::IpAddr;

use pinstone_engine::clock::UnixMillis;

use crate::request::Protocol;

/// A text of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Method,
    Host,
    Target,
    Referer,
    UserAgent,
    RequestId,
    Project,
    Environment,
    Image,
}

impl Part {
    const COUNT: usize = 9;

    /// The bytes that are kept; the rest is cut off.
    fn bound(self) -> usize {
        match self {
            Self::Method => 32,
            Self::Target => 8 << 10,
            Self::Referer | Self::UserAgent => 1 << 10,
            Self::Host | Self::Project | Self::Environment | Self::Image => 255,
            Self::RequestId => 128,
        }
    }
}

/// Whether all that an answer needed was in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// Yes.
    Hit,
    /// No: the last of these had to be loaded.
    Miss(&'static str),
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) at: UnixMillis,
    pub(crate) client: IpAddr,
    pub(crate) protocol: Protocol,
    /// Zero where the client left before there was an answer.
    pub(crate) status: u16,
    pub(crate) sent: u64,
    pub(crate) complete: bool,
    pub(crate) first_byte_micros: u64,
    pub(crate) last_byte_micros: u64,
    /// The coding that the bytes of a file were sent in.
    pub(crate) variant: Option<&'static str>,
    pub(crate) cache: Option<Found>,
    /// The version of TLS.
    pub(crate) tls: Option<&'static str>,
    text: Vec<u8>,
    parts: [(u32, u32); Part::COUNT],
}

impl Record {
    pub(crate) fn new(at: UnixMillis, client: IpAddr, protocol: Protocol) -> Self {
        Self {
            at,
            client,
            protocol,
            status: 0,
            sent: 0,
            complete: false,
            first_byte_micros: 0,
            last_byte_micros: 0,
            variant: None,
            cache: None,
            tls: None,
            text: Vec::with_capacity(512),
            parts: [(0, 0); Part::COUNT],
        }
    }

    /// Keeps a text, up to its bound. A part is set once; again would only cost memory.
    pub(crate) fn put(&mut self, part: Part, value: &[u8]) {
        let value = &value[..value.len().min(part.bound())];
        let start = self.text.len();
        self.text.extend_from_slice(value);
        let place = |at: usize| u32::try_from(at).expect("the bounds of all parts are far below 4 GiB");
        self.parts[part as usize] = (place(start), place(self.text.len()));
    }

    /// A text; nothing where there is none, or an empty one.
    pub(crate) fn get(&self, part: Part) -> Option<&[u8]> {
        let (start, end) = self.parts[part as usize];
        (start < end).then(|| &self.text[start as usize..end as usize])
    }

    /// The status that is written: 499, as other servers write it, where the client left before there was one.
    pub(crate) fn shown_status(&self) -> u16 {
        if self.status == 0 { 499 } else { self.status }
    }

    /// The memory that it takes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.text.capacity()
    }
}
