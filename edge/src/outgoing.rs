//! What a connection is about to write, in its order, as few pieces.
//!
//! Heads and what is small lie together, so that many answers are one piece; what is large stays where it is and is kept until
//! the socket took it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::buffers;
use crate::mapped::{self, Stored};
use crate::piece::Piece;
use crate::splice::{self, Part};

/// Bytes beyond which nothing is added but what cannot wait: with less, a write is worth its system call; of more, a client that
/// takes nothing would hold memory.
pub(crate) const ENOUGH: usize = 48 << 10;

/// Memory for what lies together: enough, and what comes beyond that.
const TOGETHER: usize = 64 << 10;

/// The most bytes that are copied beside what comes before them.
const COPIED: usize = 4 << 10;

/// Parts that one write takes.
const PARTS: usize = 32;

/// Bytes that one write takes of what is neither [`LITTLE`] nor [`MUCH`]: about as many as a packet has room for over loopback. It is
/// on its way then while the rest is copied. Measured for 100 KiB, against one write of all: 0.69 of the CPU with this, 0.81
/// with half of it, 1.0 with twice as much.
const AT_ONCE: usize = 64 << 10;

/// Up to so many bytes a second write is not worth it (ranges of 64 KiB, whose heads were left for one: 1.2 of the CPU).
const LITTLE: usize = 96 << 10;

/// From so many bytes on the socket is full anyway, and the fewest calls are best (10 MiB: 1.2 of the CPU by the above).
const MUCH: usize = 256 << 10;

/// Bytes that lie in files of which nothing is added beyond: they take no memory, and so many are written at once.
const ENOUGH_STORED: usize = splice::WORTH_A_CALL;

/// Pieces of which as much is true, however small they are.
const ENOUGH_PIECES: usize = 64;

/// What a connection writes to.
pub(crate) trait WriteStored: AsyncWrite {
    /// Writes `parts`, of which some are stored in files; answers how many bytes of all were taken.
    fn poll_write_stored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[Part<'_>]) -> Poll<io::Result<usize>>;
}

/// Bytes that stay where they are, and how many of those that lie together come before them, and behind the last such piece.
#[derive(Debug)]
struct Large {
    before: usize,
    piece: Piece,
}

/// Bytes that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// In their order. Mostly there is one at a time, and never many: see [`ENOUGH`] and [`ENOUGH_PIECES`].
    large: SmallVec<[Large; 1]>,
    /// What lies together, from `written` on. Without memory while there is none.
    together: Vec<u8>,
    written: usize,
    /// How much of it comes before the last large piece.
    placed: usize,
    length: usize,
    /// How much of it is stored in files.
    stored: usize,
}

impl Outgoing {
    /// Bytes of memory that it has.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.together.capacity() + if self.large.spilled() { self.large.capacity() * size_of::<Large>() } else { 0 }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it is to be written before anything is added.
    pub(crate) fn is_full(&self) -> bool {
        self.length - self.stored >= ENOUGH || self.stored >= ENOUGH_STORED || self.large.len() >= ENOUGH_PIECES
    }

    /// Has `put` append to what lies together.
    pub(crate) fn append<R>(&mut self, put: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.together.capacity() == 0 {
            self.together = buffers::take(TOGETHER);
        } else if self.written >= TOGETHER / 4 {
            // A client that takes less than comes would else have all that was ever sent kept.
            self.together.drain(..self.written);
            self.placed = self.placed.saturating_sub(self.written);
            self.written = 0;
        }
        let before = self.together.len();
        let result = put(&mut self.together);
        self.length += self.together.len() - before;
        result
    }

    /// Adds bytes, which are copied where they are few.
    pub(crate) fn push(&mut self, piece: impl Into<Piece>) {
        let piece = piece.into();
        if let Piece::Bytes(bytes) = &piece
            && bytes.len() <= COPIED
        {
            return self.append(|out| out.extend_from_slice(bytes));
        }
        if piece.is_empty() {
            return;
        }
        self.length += piece.len();
        self.stored += piece.stored();
        let before = self.together.len() - self.placed.max(self.written);
        self.placed = self.together.len();
        self.large.push(Large { before, piece });
    }

    /// Writes it to a stream that does not block: by whole `unit`s, which are a power of two, unless some of it is stored in files.
    pub(crate) fn poll_write<S>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        unit: usize,
    ) -> Poll<io::Result<()>>
    where
        S: WriteStored,
    {
        debug_assert!(unit.is_power_of_two(), "{unit}");
        loop {
            // What is stored is not encrypted, so it is in no record; and however short, there may be enough of it.
            let most = if self.stored == 0 { self.length & !(unit - 1) } else { self.length };
            if most == 0 {
                return Poll::Ready(Ok(()));
            }
            let most = if (LITTLE..MUCH).contains(&most) { AT_ONCE } else { most };
            let written = if self.large.is_empty() {
                stream.as_mut().poll_write(cx, &self.together[self.written..][..most])
            } else {
                let parts = self.parts(most);
                if parts.stored > 0 {
                    stream.as_mut().poll_write_stored(cx, &parts.parts)
                } else {
                    let slices: SmallVec<[_; PARTS]> =
                        parts.parts.iter().map(|part| IoSlice::new(part.bytes())).collect();
                    stream.as_mut().poll_write_vectored(cx, &slices)
                }
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
    }

    /// What is to be written next: at most `most` bytes where none of them are stored in a file; else what is worth a call.
    fn parts(&self, most: usize) -> Parts<'_> {
        let mut parts = Parts { parts: SmallVec::new(), bytes: 0, stored: 0, most };
        let mut together = &self.together[self.written..];
        for large in &self.large {
            let (before, rest) = together.split_at(large.before);
            together = rest;
            let is_room = parts.add_bytes(before)
                && match &large.piece {
                    Piece::Bytes(bytes) => parts.add_bytes(bytes),
                    Piece::Stored(stored) => parts.add_stored(stored),
                };
            if !is_room {
                return parts;
            }
        }
        parts.add_bytes(together);
        parts
    }

    /// So many bytes were written.
    fn advance(&mut self, mut bytes: usize) {
        self.length -= bytes;
        let mut taken_whole = 0;
        for large in &mut self.large {
            let before = bytes.min(large.before);
            large.before -= before;
            self.written += before;
            bytes -= before;
            let taken = bytes.min(large.piece.len());
            self.stored -= taken.min(large.piece.stored());
            large.piece.advance(taken);
            bytes -= taken;
            if !large.piece.is_empty() {
                break;
            }
            taken_whole += 1;
        }
        self.large.drain(..taken_whole);
        self.written += bytes;
        if self.is_empty() {
            // Most connections are idle most of the time.
            buffers::give_back(std::mem::take(&mut self.together));
            *self = Self::default();
        }
    }
}

/// What is written by one call, while it is put together.
struct Parts<'a> {
    parts: SmallVec<[Part<'a>; PARTS]>,
    /// How much of it is not stored in a file, and how much is.
    bytes: usize,
    stored: usize,
    most: usize,
}

impl<'a> Parts<'a> {
    /// Adds as many of `bytes` as there is room for, behind what is stored all of them or none; says whether there is room for more.
    fn add_bytes(&mut self, bytes: &'a [u8]) -> bool {
        let taken = match self.stored {
            0 => bytes.len().min(self.most.saturating_sub(self.bytes)),
            _ if self.bytes + bytes.len() <= splice::MOST_COPIED => bytes.len(),
            _ => 0,
        };
        if taken > 0 {
            self.parts.push(Part::Bytes(&bytes[..taken]));
            self.bytes += taken;
        }
        taken == bytes.len() && self.is_room()
    }

    /// Adds what is stored, where it can be written together with what there is; says whether there is room for more. What is long has
    /// a call of its own, with what comes before it.
    fn add_stored(&mut self, stored: &'a Stored) -> bool {
        let is_long = stored.len() >= mapped::LEAST;
        let is_apart = if is_long { self.stored > 0 } else { self.bytes > splice::MOST_COPIED };
        if is_apart {
            return false;
        }
        self.parts.push(Part::Stored(stored));
        self.stored += stored.len();
        !is_long && self.is_room()
    }

    fn is_room(&self) -> bool {
        let most = if self.stored == 0 { self.most } else { splice::WORTH_A_CALL };
        self.bytes + self.stored < most && self.parts.len() < PARTS
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mapped::Mapped;
    use crate::pipe::Pipe;
    use bytes::Bytes;
    use pinstone_engine::blob::FileRegion;
    use std::io::Write;
    use std::task::Waker;

    fn next(out: &Outgoing, most: usize) -> Vec<u8> {
        out.parts(most).parts.iter().flat_map(|part| part.bytes()).copied().collect()
    }

    /// All that is to be written, taken by so many bytes.
    pub(crate) fn written(out: &mut Outgoing, at_once: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let bytes = next(out, 5000);
            assert!(!bytes.is_empty());
            let taken = bytes.len().min(at_once);
            all.extend_from_slice(&bytes[..taken]);
            out.advance(taken);
        }
        all
    }

    #[test]
    fn bytes_go_out_in_their_order_however_few_are_taken() {
        for at_once in [1, 8, 1000, usize::MAX] {
            let mut out = Outgoing::default();
            let mut want = Vec::new();
            for number in 0..60_usize {
                let length = [1, 100, COPIED, COPIED + 1, 3, 9000][number % 6];
                let bytes = vec![(number % 251).to_le_bytes()[0]; length];
                want.extend_from_slice(&bytes);
                match number % 7 {
                    0 => out.append(|out| out.extend_from_slice(&bytes)),
                    _ => out.push(Bytes::from(bytes)),
                }
            }
            assert_eq!(out.length, want.len());
            assert!(written(&mut out, at_once) == want, "{at_once} at once");
            assert_eq!(out.memory(), 0, "an idle connection holds none");
        }
    }

    #[test]
    fn what_was_written_is_not_kept_while_there_is_more() {
        let mut out = Outgoing::default();
        let (mut want, mut seen) = (Vec::new(), Vec::new());
        for number in 0..4000_usize {
            let length = if number % 50 == 0 { COPIED + 1 } else { 1000 };
            let bytes = vec![(number % 251).to_le_bytes()[0]; length];
            want.extend_from_slice(&bytes);
            out.push(Bytes::from(bytes));
            while number > 20 && out.length > 10_000 {
                let bytes = next(&out, 1009);
                out.advance(bytes.len());
                seen.extend(bytes);
            }
        }
        assert!(out.together.capacity() <= 2 * TOGETHER, "{}", out.together.capacity());
        seen.extend(written(&mut out, usize::MAX));
        assert!(seen == want);
    }

    #[test]
    fn what_is_stored_goes_out_in_its_place() {
        let bytes: Vec<u8> = (0..300_000_usize).map(|at| (at % 251).to_le_bytes()[0]).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mapped = Mapped::of(&FileRegion { file: file.into(), offset: 0, length: bytes.len() as u64 }).unwrap();
        let stored = |range| Piece::Stored(mapped.stored(range, None));
        // A write ends before what is stored, where that begins, within it, and at its end.
        let at_once = [None, Some(777), Some(20_000), Some(20_001), Some(120_000)];
        for (unwritten, at_once) in
            [0, 1, 20_000].into_iter().flat_map(|before| at_once.map(|at_once| (before, at_once)))
        {
            let (mut out, mut pipe) = (Outgoing::default(), Pipe::default());
            pipe.0.lock().taken_at_once = at_once;
            let mut write = |out: &mut Outgoing| {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(matches!(out.poll_write(Pin::new(&mut pipe), &mut cx, 1), Poll::Ready(Ok(()))));
                pipe.0.lock().to_client.clone()
            };
            let mut want = Vec::new();
            for (number, range) in [0..100_000, 4096..4097, 99_999..300_000, 5..5].into_iter().enumerate() {
                let before = vec![number.to_le_bytes()[0]; unwritten];
                out.push(Bytes::from(before.clone()));
                out.push(stored(range.clone()));
                out.append(|out| out.push(b'!'));
                want.extend([&before, &bytes[range], &b"!"[..]].concat());
                if number == 1 {
                    assert!(write(&mut out) == want);
                }
            }
            assert!(write(&mut out) == want, "with {unwritten} bytes before each, {at_once:?} at once");
            assert_eq!(out.memory(), 0);
        }
    }

    #[test]
    fn it_is_full_at_some_point() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; mapped::LEAST]).unwrap();
        let mapped = Mapped::of(&FileRegion { file: file.into(), offset: 0, length: mapped::LEAST as u64 }).unwrap();
        let stored = |length| Piece::Stored(mapped.stored(0..length, None));
        let in_memory = |length| Piece::Bytes(vec![7; length].into());
        for (enough, is_stored, length) in
            [(ENOUGH, false, 8 << 10), (ENOUGH_STORED, true, 16 << 10), (ENOUGH_PIECES, true, 1)]
        {
            let mut out = Outgoing::default();
            for _ in 0..enough / length {
                assert!(!out.is_full());
                out.push(if is_stored { stored(length) } else { in_memory(length) });
            }
            assert!(out.is_full(), "{length}");
            // And no more once it was written by whole records.
            let mut cx = Context::from_waker(Waker::noop());
            assert!(matches!(out.poll_write(Pin::new(&mut Pipe::default()), &mut cx, 16 << 10), Poll::Ready(Ok(()))));
            assert!(!out.is_full(), "{length}");
        }
    }
}
