//! What a connection is about to write: frames, in their order, as few pieces.
//!
//! Heads of frames and what is small lie together, so that many answers are one piece; what is large stays where it is and is
//! kept until the socket took it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::frame::{self, Head, Reason, flag, kind};
use crate::buffers;

/// Bytes beyond which nothing is added but what cannot wait: with less, a write is worth its system call; of more, a client that
/// takes nothing would hold memory.
pub(crate) const ENOUGH: usize = 48 << 10;

/// Memory for what lies together: enough, and what comes beyond that.
const TOGETHER: usize = 64 << 10;

/// The most bytes of a payload that are copied beside their head.
const COPIED: usize = 4 << 10;

/// Pieces that one write takes.
pub(crate) const SLICES: usize = 16;

/// A part of what is to be written.
#[derive(Debug)]
enum Piece {
    /// The next so many bytes of those that lie together.
    Together(usize),
    Shared(Bytes),
}

/// Frames that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// What lies together, from `written` on. Without memory while there is none.
    together: Vec<u8>,
    written: usize,
    length: usize,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether it is to be written before anything is added.
    pub(crate) fn is_full(&self) -> bool {
        self.length >= ENOUGH
    }

    /// Has `put` append to what lies together.
    fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.together.capacity() == 0 {
            self.together = buffers::take(TOGETHER);
        } else if self.written >= TOGETHER / 4 {
            // A client that takes less than comes would else have all that was ever sent kept.
            self.together.drain(..self.written);
            self.written = 0;
        }
        let before = self.together.len();
        put(&mut self.together);
        let added = self.together.len() - before;
        self.length += added;
        match self.pieces.back_mut() {
            Some(Piece::Together(length)) => *length += added,
            _ => self.pieces.push_back(Piece::Together(added)),
        }
    }

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
    pub(crate) fn data(&mut self, stream: u32, ends: bool, bytes: Bytes) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        if bytes.len() <= COPIED {
            return self.frame(kind::DATA, flags, stream, &bytes);
        }
        let head = Head { length: bytes.len(), kind: kind::DATA, flags, stream };
        self.append(|out| out.extend_from_slice(&head.bytes()));
        self.length += bytes.len();
        self.pieces.push_back(Piece::Shared(bytes));
    }

    /// The next pieces, in `slices`, at most `most` bytes of them; answers how many pieces.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES], mut most: usize) -> usize {
        let mut together = &self.together[self.written..];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let bytes = match piece {
                Piece::Together(length) => {
                    let (piece, rest) = together.split_at(*length);
                    together = rest;
                    piece
                }
                Piece::Shared(bytes) => bytes,
            };
            let taken = bytes.len().min(most);
            if taken == 0 {
                break;
            }
            *slice = IoSlice::new(&bytes[..taken]);
            most -= taken;
            count += 1;
        }
        count
    }

    /// So many bytes were written.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        self.length -= bytes;
        while bytes > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let (taken, is_over) = match piece {
                Piece::Together(length) => {
                    let taken = bytes.min(*length);
                    *length -= taken;
                    self.written += taken;
                    (taken, *length == 0)
                }
                Piece::Shared(shared) => {
                    let taken = bytes.min(shared.len());
                    shared.advance(taken);
                    (taken, shared.is_empty())
                }
            };
            bytes -= taken;
            if is_over {
                self.pieces.pop_front();
            }
        }
        if self.is_empty() {
            // Most connections are idle most of the time.
            buffers::give_back(std::mem::take(&mut self.together));
            self.pieces = VecDeque::new();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(out: &mut Outgoing, at_once: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = out.slices(&mut slices, 5000);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert!(!bytes.is_empty());
            let taken = bytes.len().min(at_once);
            all.extend_from_slice(&bytes[..taken]);
            out.advance(taken);
        }
        all
    }

    #[test]
    fn frames_go_out_in_their_order_however_few_bytes_are_taken() {
        let large = Bytes::from(vec![7; COPIED + 1]);
        for at_once in [1, 8, 1000, usize::MAX] {
            let mut out = Outgoing::default();
            let mut want = Vec::new();
            for stream in [1, 3, 5] {
                out.fields(stream, false, |out| out.extend_from_slice(b"fields"));
                frame::put(&mut want, kind::HEADERS, flag::END_HEADERS, stream, b"fields");
                out.data(stream, false, large.clone());
                frame::put(&mut want, kind::DATA, 0, stream, &large);
                out.data(stream, true, Bytes::from_static(b"small"));
                frame::put(&mut want, kind::DATA, flag::END_STREAM, stream, b"small");
                out.reset(stream, Reason::Calm);
                frame::put(&mut want, kind::RST_STREAM, 0, stream, &[0, 0, 0, 11]);
            }
            assert_eq!(out.length, want.len());
            assert!(written(&mut out, at_once) == want, "{at_once} at once");
            assert_eq!((out.together.capacity(), out.pieces.capacity()), (0, 0), "an idle connection holds no memory");
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

    #[test]
    fn what_was_written_is_not_kept_while_there_is_more() {
        let mut out = Outgoing::default();
        let (mut want, mut seen) = (Vec::new(), Vec::new());
        for number in 0..2000_usize {
            let payload = vec![(number % 251).to_le_bytes()[0]; 1000];
            out.data(1, false, payload.clone().into());
            frame::put(&mut want, kind::DATA, 0, 1, &payload);
            if number > 20 {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = out.slices(&mut slices, 1009);
                seen.extend(slices[..count].iter().flat_map(|slice| slice.iter().copied()));
                out.advance(1009);
            }
        }
        assert!(out.together.capacity() <= 2 * TOGETHER, "{}", out.together.capacity());
        seen.extend(written(&mut out, usize::MAX));
        assert!(seen == want);
    }

    #[test]
    fn it_is_full_at_some_point() {
        let mut out = Outgoing::default();
        for _ in 0..ENOUGH / (8 << 10) {
            assert!(!out.is_full());
            out.data(1, false, vec![7; 8 << 10].into());
        }
        assert!(out.is_full());
    }
}
