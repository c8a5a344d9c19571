//! The bytes of a tar, out of whatever it is packed with, within bounds.
//!
//! How much may come out is fixed before the first byte does: a bomb is stopped where it exceeds its allowance, not
//! where it has filled something.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::Fault;
use crate::unzstd::{Unzstd, UnzstdError};

/// How much is read from the file at once.
pub(super) const WINDOW: usize = 64 << 10;

/// What a tar is packed with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// How many bytes may come out of an archive, and which bound that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) bytes: u64,
    /// Set where the bytes are so many times the archive's own.
    pub(super) times: Option<u64>,
}

impl Allowance {
    /// The fault of an archive that unpacks to more.
    pub(super) fn exceeded(self) -> Fault {
        match self.times {
            Some(times) => Fault::Ratio { times },
            None => Fault::TooLarge { limit: self.bytes },
        }
    }
}

/// An unpacked tar.
pub(super) struct Unpacked<R: Read> {
    source: Source<R>,
    allowance: Allowance,
    left: u64,
}

enum Source<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Zstd<BufReader<R>>),
}

impl<R: Read> fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<R: Read> Unpacked<R> {
    /// Unpacks `packed` from its first byte on.
    pub(super) fn new(packed: R, packing: Packing, allowance: Allowance) -> Result<Self, Fault> {
        let packed = BufReader::with_capacity(WINDOW, packed);
        let source = match packing {
            Packing::None => Source::Plain(packed),
            Packing::Gzip => Source::Gzip(Box::new(MultiGzDecoder::new(packed))),
            Packing::Zstd => Source::Zstd(Zstd::new(packed)?),
        };
        Ok(Self { source, allowance, left: allowance.bytes })
    }

    /// Reads some bytes; none at the end only, which is also the end of all that was packed.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        loop {
            let read = match &mut self.source {
                Source::Plain(source) => source.read(buffer).map_err(|error| fault_of(error, "it ends too early")),
                Source::Gzip(source) => {
                    source.read(buffer).map_err(|error| fault_of(error, "its gzip stream is wrong or has an appendix"))
                }
                Source::Zstd(source) => source.read(buffer),
            };
            match read {
                Ok(read) => {
                    self.left = self.left.checked_sub(read as u64).ok_or_else(|| self.allowance.exceeded())?;
                    return Ok(read);
                }
                Err(Fault::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Fills `buffer`; answers how much of it was filled before the end.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// Reads exactly as much as `buffer` takes.
    pub(super) fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        if self.fill(buffer)? == buffer.len() { Ok(()) } else { Err(ENDS_EARLY) }
    }

    /// Passes over `bytes` bytes.
    pub(super) fn skip(&mut self, mut bytes: u64) -> Result<(), Fault> {
        let mut buffer = [0; 8 << 10];
        while bytes > 0 {
            let want = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            match self.read(&mut buffer[..want])? {
                0 => return Err(ENDS_EARLY),
                read => bytes -= read as u64,
            }
        }
        Ok(())
    }
}

/// The fault of an archive that is cut off.
pub(super) const ENDS_EARLY: Fault = Fault::Damaged("it ends too early");

/// Tells a failing disk, whose errors have a number of the system's, from bytes that are wrong.
pub(super) fn fault_of(error: io::Error, wrong: &'static str) -> Fault {
    match error.kind() {
        _ if error.raw_os_error().is_some() => Fault::Io(error),
        io::ErrorKind::Interrupted => Fault::Io(error),
        io::ErrorKind::UnexpectedEof => ENDS_EARLY,
        _ => Fault::Damaged(wrong),
    }
}

/// Frames of zstd out of a file.
struct Zstd<R> {
    packed: R,
    frames: Unzstd,
}

impl<R: BufRead> Zstd<R> {
    fn new(packed: R) -> Result<Self, Fault> {
        Ok(Self { packed, frames: Unzstd::new()? })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let packed = self.packed.fill_buf().map_err(|error| fault_of(error, "it cannot be read"))?;
            let is_over = packed.is_empty();
            if is_over && self.frames.is_between_frames() {
                return Ok(0);
            }
            let (taken, came) = self.frames.step(packed, buffer)?;
            self.packed.consume(taken);
            if came > 0 {
                return Ok(came);
            }
            if is_over {
                return Err(ENDS_EARLY);
            }
        }
    }
}

impl From<UnzstdError> for Fault {
    fn from(error: UnzstdError) -> Self {
        match error {
            UnzstdError::Wrong => Self::Damaged("its zstd stream is wrong"),
            UnzstdError::NoFrame => Self::Damaged("something follows its last zstd frame"),
            UnzstdError::Window => {
                Self::Unsupported("its zstd window is larger than 8 MiB: compress it without `--long` and `--ultra`")
            }
            UnzstdError::NoMemory => Self::NoMemory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8], packing: Packing, bytes: u64) -> Result<Vec<u8>, String> {
        let allowance = Allowance { bytes, times: None };
        let all = || {
            let mut unpacked = Unpacked::new(packed, packing, allowance)?;
            let mut all = vec![0; 100_000];
            let filled = unpacked.fill(&mut all)?;
            all.truncate(filled);
            Ok(all)
        };
        all().map_err(|fault: Fault| fault.to_string())
    }

    #[test]
    fn frames_and_members_follow_one_another_and_nothing_else_does() {
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let gzip = |bytes: &[u8]| {
            use std::io::Write;
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let two = [zstd(b"one "), skipped.to_vec(), zstd(b""), zstd(b"two")].concat();
        assert_eq!(unpack(&two, Packing::Zstd, 7).unwrap(), b"one two");
        assert!(unpack(&two, Packing::Zstd, 6).unwrap_err().contains("more than 6 bytes"));
        assert!(unpack(&two[..two.len() - 1], Packing::Zstd, 7).unwrap_err().contains("too early"));
        assert!(unpack(&[&*two, b"more"].concat(), Packing::Zstd, 7).unwrap_err().contains("follows its last"));
        // A frame of version 0.7, which the library would read.
        assert!(unpack(&[&*two, &[0x27, 0xb5, 0x2f, 0xfd]].concat(), Packing::Zstd, 7).is_err());

        let two = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(unpack(&two, Packing::Gzip, 7).unwrap(), b"one two");
        assert!(unpack(&two, Packing::Gzip, 6).unwrap_err().contains("more than 6 bytes"));
        assert!(unpack(&two[..two.len() - 1], Packing::Gzip, 7).unwrap_err().contains("too early"));
        assert!(
            unpack(&[&*two, b"more than a header".as_slice()].concat(), Packing::Gzip, 7)
                .unwrap_err()
                .contains("appendix")
        );
    }

    #[test]
    fn a_window_beyond_what_every_decoder_has_is_refused_by_its_name() {
        use std::io::Write;
        // A frame of a known size that its window covers asks for that much at once; so the size is kept unknown.
        for (log, taken) in [(23, true), (24, false)] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(log)).unwrap();
            encoder.write_all(&[7; 1000]).unwrap();
            encoder.flush().unwrap();
            encoder.write_all(&[8; 1000]).unwrap();
            let unpacked = unpack(&encoder.finish().unwrap(), Packing::Zstd, 2000);
            assert_eq!(unpacked.is_ok(), taken, "{log}: {unpacked:?}");
            assert!(taken || unpacked.unwrap_err().contains("--long"), "{log}");
        }
    }
}
