//! The frames that a connection is about to write.

use super::frame::{self, Head, Reason, flag, kind};
use crate::outgoing::Outgoing;
use crate::piece::Piece;

impl Outgoing {
    /// Adds a frame whose payload is short.
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.append(|out| frame::put(out, kind, flags, stream, payload));
    }

    /// Adds the end of a stream that something is wrong with.
    pub(crate) fn reset(&mut self, stream: u32, reason: Reason) {
        self.frame(kind::RST_STREAM, 0, stream, &(reason as u32).to_be_bytes());
    }

    /// Widens the window of a stream, or of the connection.
    pub(crate) fn widen(&mut self, stream: u32, by: u32) {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    }

    /// Adds the frames of a block of fields, which `encode` appends: a HEADERS frame, and where the block is longer than a frame
    /// may be, CONTINUATION frames behind it.
    pub(crate) fn fields(&mut self, stream: u32, ends: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        self.append(|out| {
            let begin = out.len();
            out.extend_from_slice(&[0; frame::HEAD]);
            encode(out);
            let length = out.len() - begin - frame::HEAD;
            let end_stream = if ends { flag::END_STREAM } else { 0 };
            let mut head = Head { length, kind: kind::HEADERS, flags: end_stream | flag::END_HEADERS, stream };
            if length <= frame::LARGEST {
                out[begin..begin + frame::HEAD].copy_from_slice(&head.bytes());
                return;
            }
            let block = out.split_off(begin + frame::HEAD);
            out.truncate(begin);
            let (count, mut parts) = (length.div_ceil(frame::LARGEST), block.chunks(frame::LARGEST));
            for number in 1..=count {
                let part = parts.next().unwrap_or_default();
                head.flags = if number == 1 { end_stream } else { 0 };
                head.flags |= if number == count { flag::END_HEADERS } else { 0 };
                frame::put(out, head.kind, head.flags, stream, part);
                head.kind = kind::CONTINUATION;
            }
        });
    }

    /// Adds a piece of a stream's body.
    pub(crate) fn data(&mut self, stream: u32, ends: bool, piece: Piece) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        let head = Head { length: piece.len(), kind: kind::DATA, flags, stream };
        self.append(|out| out.extend_from_slice(&head.bytes()));
        self.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::tests::written;
    use bytes::Bytes;

    #[test]
    fn frames_go_out_in_their_order() {
        let large = Bytes::from(vec![7; 5000]);
        for at_once in [1, 8, 1000, usize::MAX] {
            let mut out = Outgoing::default();
            let mut want = Vec::new();
            for stream in [1, 3, 5] {
                out.fields(stream, false, |out| out.extend_from_slice(b"fields"));
                frame::put(&mut want, kind::HEADERS, flag::END_HEADERS, stream, b"fields");
                out.data(stream, false, large.clone().into());
                frame::put(&mut want, kind::DATA, 0, stream, &large);
                out.data(stream, true, Bytes::from_static(b"small").into());
                frame::put(&mut want, kind::DATA, flag::END_STREAM, stream, b"small");
                out.reset(stream, Reason::Calm);
                frame::put(&mut want, kind::RST_STREAM, 0, stream, &[0, 0, 0, 11]);
            }
            assert!(written(&mut out, at_once) == want, "{at_once} at once");
        }
    }

    #[test]
    fn a_block_is_as_many_frames_as_it_takes() {
        const LARGEST: usize = frame::LARGEST;
        for (length, ends, want) in [
            (0, true, &[(kind::HEADERS, 5, 0)][..]),
            (LARGEST, false, &[(kind::HEADERS, 4, LARGEST)]),
            (LARGEST + 1, true, &[(kind::HEADERS, 1, LARGEST), (kind::CONTINUATION, 4, 1)]),
            (
                3 * LARGEST,
                false,
                &[(kind::HEADERS, 0, LARGEST), (kind::CONTINUATION, 0, LARGEST), (kind::CONTINUATION, 4, LARGEST)],
            ),
        ] {
            let mut out = Outgoing::default();
            out.frame(kind::PING, flag::ACK, 0, b"12345678");
            let block: Vec<u8> = (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect();
            out.fields(7, ends, |out| out.extend_from_slice(&block));
            let bytes = written(&mut out, usize::MAX);
            let (mut rest, mut frames, mut seen) = (&bytes[frame::HEAD + 8..], Vec::new(), Vec::new());
            while let Some(head) = Head::parse(rest) {
                frames.push((head.kind, head.flags, head.length));
                seen.extend_from_slice(&rest[frame::HEAD..frame::HEAD + head.length]);
                rest = &rest[frame::HEAD + head.length..];
            }
            assert_eq!(frames.as_slice(), want);
            assert!(seen == block, "{length}");
        }
    }
}
