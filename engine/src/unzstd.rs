//! Zstandard frames, one behind another, out of bytes that strangers send.
//!
//! Each frame is looked at before the decoder sees it: the library also knows the formats of before its first version,
//! which nobody sends and which no bound holds for. A frame's window is bounded by what every decoder is asked to support.

use std::fmt;

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

/// The largest window of a frame, as a power of two: 8 MiB (RFC 8878 section 3.1.1.1.2). `zstd` needs more only with
/// `--long` or `--ultra`.
const WINDOW_LOG: u32 = 23;

/// Why bytes are not taken for frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnzstdError {
    /// A frame contradicts itself.
    #[error("its zstd stream is wrong")]
    Wrong,
    /// Where a frame should begin, something else does.
    #[error("something follows its last zstd frame")]
    NoFrame,
    /// A frame asks for more than every decoder has.
    #[error("its zstd window is larger than 8 MiB: compress it without `--long` and `--ultra`")]
    Window,
    /// There is no memory for a window.
    #[error("there is no memory left to unpack it")]
    NoMemory,
}

/// A decoder of frames, which is given their bytes in pieces of any size.
pub struct Unzstd {
    decoder: DCtx<'static>,
    /// The first bytes of a frame, as far as they have come.
    magic: [u8; 4],
    seen: usize,
    in_frame: bool,
}

impl fmt::Debug for Unzstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unzstd").field("in_frame", &self.in_frame).finish_non_exhaustive()
    }
}

impl Unzstd {
    /// A decoder before its first frame.
    ///
    /// # Errors
    ///
    /// Where there is no memory for it.
    pub fn new() -> Result<Self, UnzstdError> {
        let mut decoder = DCtx::try_create().ok_or(UnzstdError::NoMemory)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(error)?;
        Ok(Self { decoder, magic: [0; 4], seen: 0, in_frame: false })
    }

    /// Unpacks some of `packed` into `out`: how many bytes were taken, and how many came out. Where `out` was filled, more
    /// may come out of what was taken.
    ///
    /// # Errors
    ///
    /// Where the bytes are no frames, or one asks for too much memory.
    pub fn step(&mut self, packed: &[u8], out: &mut [u8]) -> Result<(usize, usize), UnzstdError> {
        let mut taken = 0;
        if !self.in_frame {
            taken = packed.len().min(self.magic.len() - self.seen);
            self.magic[self.seen..self.seen + taken].copy_from_slice(&packed[..taken]);
            self.seen += taken;
            if self.seen < self.magic.len() {
                return Ok((taken, 0));
            }
            if !is_zstd(&self.magic) {
                return Err(UnzstdError::NoFrame);
            }
            let (mut input, mut nowhere) = (InBuffer::around(&self.magic), [0; 1]);
            let mut nowhere = OutBuffer::around(&mut nowhere[..]);
            self.decoder.decompress_stream(&mut nowhere, &mut input).map_err(error)?;
            (self.in_frame, self.seen) = (true, 0);
        }
        let (mut input, mut output) = (InBuffer::around(&packed[taken..]), OutBuffer::around(&mut *out));
        let hint = self.decoder.decompress_stream(&mut output, &mut input).map_err(error)?;
        self.in_frame = hint != 0;
        Ok((taken + input.pos(), output.pos()))
    }

    /// Whether what was given so far can be all.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        !self.in_frame && self.seen == 0
    }
}

/// Whether bytes begin with a frame of zstd, or with one that decoders skip (RFC 8878 section 3.1).
#[must_use]
pub fn is_zstd(bytes: &[u8]) -> bool {
    matches!(bytes, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn error(code: usize) -> UnzstdError {
    match get_error_name(code) {
        "Frame requires too much memory for decoding" => UnzstdError::Window,
        "Allocation error : not enough memory" => UnzstdError::NoMemory,
        _ => UnzstdError::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8], piece: usize, room: usize) -> Result<Vec<u8>, UnzstdError> {
        let (mut unzstd, mut all, mut out) = (Unzstd::new()?, Vec::new(), vec![0; room]);
        for mut piece in packed.chunks(piece) {
            loop {
                let (taken, came) = unzstd.step(piece, &mut out)?;
                piece = &piece[taken..];
                all.extend_from_slice(&out[..came]);
                if piece.is_empty() && came < room {
                    break;
                }
            }
        }
        if unzstd.is_between_frames() { Ok(all) } else { Err(UnzstdError::Wrong) }
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let frames = [zstd(&b"one ".repeat(1000)), skipped.to_vec(), zstd(b""), zstd(b"two")].concat();
        let want = [&b"one ".repeat(1000)[..], b"two"].concat();
        let old = [&[0x27, 0xb5, 0x2f, 0xfd, 0, 0][..], &[0x40, 0, 3], b"old", &[0xc0, 0, 0]].concat();
        for (piece, room) in [(1, 1), (1, 1000), (3, 7), (1000, 1), (1000, 100_000)] {
            assert_eq!(unpack(&frames, piece, room).as_deref(), Ok(&*want), "pieces of {piece}, {room} at a time");
            assert_eq!(unpack(&frames[..frames.len() - 1], piece, room), Err(UnzstdError::Wrong));
            for behind in [&b"more"[..], &old] {
                assert_eq!(unpack(&[&*frames, behind].concat(), piece, room), Err(UnzstdError::NoFrame));
            }
            assert_eq!(unpack(&old, piece, room), Err(UnzstdError::NoFrame), "a frame of version 0.7");
            assert_eq!(unpack(&[], piece, room).as_deref(), Ok(&[][..]));
        }
    }
}
