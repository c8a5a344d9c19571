//! Frames of HTTP/2 as bytes (RFC 9113 sections 4 and 6), and the reasons for which they end something.

/// Bytes of a frame's head: length, kind, flags and stream (RFC 9113 section 4.1).
pub(crate) const HEAD: usize = 9;

/// The most bytes of a payload that are taken: what any client may send (RFC 9113 section 4.2).
pub(crate) const LARGEST: usize = 16 << 10;

/// The largest window of flow control (RFC 9113 section 6.9.1), and the largest number of a stream.
pub(crate) const LARGEST_NUMBER: u32 = (1 << 31) - 1;

/// What a frame is about (RFC 9113 section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// What a frame says beside its payload; what it means depends on the kind.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 32;
}

/// What a peer can be told of its other end (RFC 9113 section 6.5.2).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Reason {
    /// Nothing is wrong.
    None = 0,
    /// A rule was broken that has no reason of its own.
    Protocol = 1,
    /// The server could not go on.
    Internal = 2,
    /// More came than there was a window for.
    FlowControl = 3,
    /// Something came for a stream whose end had come.
    StreamClosed = 5,
    /// A frame has a length that none of its kind has.
    FrameSize = 6,
    /// Nothing was done for the stream: it may be asked for again.
    RefusedStream = 7,
    /// Fields could not be decoded, nor could any that follow.
    Compression = 9,
    /// The client does too much of something.
    Calm = 11,
}

/// What a frame that breaks a rule puts an end to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Violation {
    /// The connection, and what the log says of it.
    Connection(Reason, &'static str),
    /// A stream.
    Stream(u32, Reason),
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    /// Bytes of the payload.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Zero stands for the connection.
    pub(crate) stream: u32,
}

impl Head {
    /// Reads the head that `bytes` begin with, if all of it is there.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let [long, middle, short, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        let length = usize::from(long) << 16 | usize::from(middle) << 8 | usize::from(short);
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(stream) & LARGEST_NUMBER })
    }

    /// The head as it is sent.
    pub(crate) fn bytes(&self) -> [u8; HEAD] {
        debug_assert!(self.length < 1 << 24, "{self:?}");
        #[allow(clippy::cast_possible_truncation, reason = "a length has three bytes")]
        let [long, middle, short] = [(self.length >> 16) as u8, (self.length >> 8) as u8, self.length as u8];
        let [first, second, third, fourth] = self.stream.to_be_bytes();
        [long, middle, short, self.kind, self.flags, first, second, third, fourth]
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A payload without its padding (RFC 9113 section 6.1), where the frame has some; nothing where that is longer than the frame.
pub(crate) fn without_padding<'a>(head: &Head, payload: &'a [u8]) -> Option<&'a [u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// A payload of HEADERS without what it said of priorities, which nobody asks for any more (RFC 9113 section 5.3.2).
pub(crate) fn without_priority<'a>(head: &Head, payload: &'a [u8]) -> Option<&'a [u8]> {
    if head.has(flag::PRIORITY) { payload.get(5..) } else { Some(payload) }
}

/// The number that a payload of four bytes is, without the bit that means nothing.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?) & LARGEST_NUMBER)
}

/// The settings of a payload, each with its value; nothing where it is not made of whole ones.
pub(crate) fn settings(payload: &[u8]) -> Option<impl Iterator<Item = (u16, u32)>> {
    let (settings, []) = payload.as_chunks::<6>() else { return None };
    Some(settings.iter().map(|&[high, low, value @ ..]| (u16::from_be_bytes([high, low]), u32::from_be_bytes(value))))
}

/// Appends a frame whose payload is at hand.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { length: payload.len(), kind, flags, stream }.bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_nine_bytes_and_has_a_bit_that_means_nothing() {
        let head = Head { length: 0x01_02_03, kind: kind::DATA, flags: flag::END_STREAM, stream: 0x7f00_0001 };
        let mut bytes = head.bytes();
        assert_eq!(bytes, [1, 2, 3, 0, 1, 0x7f, 0, 0, 1]);
        bytes[5] |= 0x80;
        assert_eq!(Head::parse(&bytes), Some(head));
        assert_eq!(Head::parse(&bytes[..8]), None);
    }

    #[test]
    fn padding_and_priority_are_left_out() {
        let head = |flags| Head { length: 0, kind: kind::HEADERS, flags, stream: 1 };
        for (flags, payload, want) in [
            (0, &b"abc"[..], Some(&b"abc"[..])),
            (flag::PADDED, b"\x02abc", Some(b"a")),
            (flag::PADDED, b"\x03abc", Some(b"")),
            (flag::PADDED, b"\x04abc", None),
            (flag::PADDED, b"", None),
            (flag::PRIORITY, b"54321abc", Some(b"abc")),
            (flag::PRIORITY, b"4321", None),
            (flag::PADDED | flag::PRIORITY, b"\x0154321abc", Some(b"ab")),
        ] {
            let head = head(flags);
            let read = without_padding(&head, payload).and_then(|payload| without_priority(&head, payload));
            assert_eq!(read, want, "{flags} {payload:?}");
        }
    }

    #[test]
    fn settings_come_whole() {
        let read = |payload: &[u8]| settings(payload).map(Iterator::collect::<Vec<_>>);
        assert_eq!(read(&[0, 4, 0, 1, 0, 0, 0, 5, 0, 0, 64, 0]), Some(vec![(4, 65_536), (5, 16_384)]));
        assert_eq!((read(&[]), read(&[0; 7])), (Some(Vec::new()), None));
    }
}
