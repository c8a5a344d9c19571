//! From a file's bytes to its variants, and back. Pure, but for a flag that says to give up.
//!
//! Encoders are fed in pieces so that a process which ends need not wait for a large file: at their strongest they take a
//! second for each few hundred KiB. The same encoder makes the same bytes of the same file.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::coding::Coding;
use crate::hash::BlobHash;

/// What encoders are fed with between two looks at the flag, in bytes.
const PIECE: usize = 64 << 10;

/// Up to this many bytes brotli is given its strongest level, above the strongest of the next kind, which is many times as
/// fast and makes a little more of it: a module of 30 MiB must not keep a thread busy for minutes.
const BROTLI_STRONGEST: usize = 4 << 20;
/// The largest window of brotli, as a power of two: 4 MiB, which every browser takes; its tables grow with it.
const BROTLI_WINDOW: i32 = 22;
const ZSTD_LEVEL: i32 = 19;
/// The largest window of zstd, as a power of two: 8 MiB, beyond which clients need not decode (RFC 9659).
const ZSTD_WINDOW: u32 = 23;
const GZIP_LEVEL: u32 = 9;

/// Of the bytes of a file, a variant has at most this many percent, or it is not kept.
const MOST_PERCENT: u64 = 95;

/// Whether a variant of `encoded` bytes saves enough of a file of `identity` bytes.
pub(crate) fn is_worth_keeping(identity: u64, encoded: u64) -> bool {
    u128::from(encoded) * 100 <= u128::from(identity) * u128::from(MOST_PERCENT)
}

/// Encodes `identity`, at the strongest level that is sensible for its size. Nothing where `stop` was set meanwhile.
///
/// # Errors
///
/// Where an encoder fails, which none does for lack of anything but memory.
pub(crate) fn encode(coding: Coding, identity: &[u8], stop: &AtomicBool) -> io::Result<Option<Vec<u8>>> {
    let out = Vec::with_capacity(identity.len() / 4);
    match coding {
        Coding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams {
                quality: if identity.len() <= BROTLI_STRONGEST { 11 } else { 9 },
                lgwin: brotli_window(identity.len()),
                size_hint: identity.len(),
                ..brotli::enc::BrotliEncoderParams::default()
            };
            let mut encoder = brotli::CompressorWriter::with_params(out, PIECE, &params);
            let is_whole = feed(&mut encoder, identity, stop)?;
            Ok(is_whole.then(|| encoder.into_inner()))
        }
        Coding::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
            // Known in advance, so that a small file gets small tables and a frame that says its size.
            encoder.set_pledged_src_size(Some(identity.len() as u64))?;
            encoder.window_log(ZSTD_WINDOW)?;
            if feed(&mut encoder, identity, stop)? { encoder.finish().map(Some) } else { Ok(None) }
        }
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
            if feed(&mut encoder, identity, stop)? { encoder.finish().map(Some) } else { Ok(None) }
        }
    }
}

/// The smallest window that a file of `length` bytes fits into whole, if any does: its tables are small, too.
fn brotli_window(length: usize) -> i32 {
    let fits = |window: &i32| (1_usize << window) - 16 >= length;
    (16..BROTLI_WINDOW).find(fits).unwrap_or(BROTLI_WINDOW)
}

/// Writes all of `identity`, or says that it was stopped.
fn feed(encoder: &mut impl Write, identity: &[u8], stop: &AtomicBool) -> io::Result<bool> {
    for piece in identity.chunks(PIECE) {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        encoder.write_all(piece)?;
    }
    Ok(!stop.load(Ordering::Relaxed))
}

/// The digest of what `encoded` decodes to, where it decodes to exactly `length` bytes. What decodes to more is given up
/// with the first byte too many.
///
/// # Errors
///
/// Where it does not.
pub(crate) fn decoded_digest(coding: Coding, encoded: &[u8], length: u64) -> io::Result<BlobHash> {
    match coding {
        Coding::Brotli => digest(brotli::Decompressor::new(encoded, PIECE), length),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(encoded)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            digest(decoder, length)
        }
        Coding::Gzip => digest(flate2::bufread::GzDecoder::new(encoded), length),
    }
}

fn digest(mut decoder: impl Read, length: u64) -> io::Result<BlobHash> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut seen = 0_u64;
    loop {
        let read = decoder.read(&mut piece)?;
        if read == 0 {
            break;
        }
        seen += read as u64;
        if seen > length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is more in it than there should be"));
        }
        hasher.update(&piece[..read]);
    }
    if seen < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is less in it than there should be"));
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(coding: Coding, identity: &[u8]) -> Vec<u8> {
        encode(coding, identity, &AtomicBool::new(false)).unwrap().unwrap()
    }

    fn text(length: usize) -> Vec<u8> {
        let words = ["the ", "page ", "of ", "a ", "site ", "with ", "<p>", "</p>\n", "class=\"x\" "];
        let mut text = Vec::new();
        for number in 0_u64.. {
            let digest = blake3::hash(&number.to_le_bytes());
            text.extend(digest.as_bytes().iter().flat_map(|byte| words[usize::from(*byte) % words.len()].bytes()));
            if text.len() >= length {
                break;
            }
        }
        text.truncate(length);
        text
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut noise = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    }

    #[test]
    fn every_coding_gives_back_what_went_in() {
        for identity in [text(256), text(70_000), noise(1000), vec![0; 300_000], Vec::new()] {
            for coding in Coding::ALL {
                let encoded = encoded(coding, &identity);
                let length = identity.len() as u64;
                let digest = decoded_digest(coding, &encoded, length).unwrap();
                assert_eq!(digest, BlobHash::of(&identity), "{coding} of {length} bytes");
                assert!(decoded_digest(coding, &encoded, length + 1).is_err(), "{coding}: less than was said");
                if length > 0 {
                    assert!(decoded_digest(coding, &encoded, length - 1).is_err(), "{coding}: more than was said");
                    let cut = &encoded[..encoded.len() / 2];
                    assert!(decoded_digest(coding, cut, length).is_err(), "{coding}: half of it");
                }
            }
        }
    }

    #[test]
    fn the_same_file_is_encoded_alike() {
        let identity = text(200_000);
        for coding in Coding::ALL {
            assert_eq!(encoded(coding, &identity), encoded(coding, &identity), "{coding}");
            assert!(is_worth_keeping(200_000, encoded(coding, &identity).len() as u64), "{coding}");
        }
    }

    #[test]
    fn what_saves_less_than_a_twentieth_is_not_kept() {
        for (identity, encoded, want) in [
            (100, 95, true),
            (100, 96, false),
            (1000, 950, true),
            (1000, 951, false),
            (256, 243, true),
            (256, 244, false),
            (100, 101, false),
            (u64::MAX, u64::MAX, false),
            (u64::MAX, u64::MAX / 2, true),
        ] {
            assert_eq!(is_worth_keeping(identity, encoded), want, "{encoded} of {identity}");
        }
        let noise = noise(10_000);
        for coding in Coding::ALL {
            assert!(!is_worth_keeping(10_000, encoded(coding, &noise).len() as u64), "{coding}");
        }
    }

    #[test]
    fn windows_fit_what_they_are_for() {
        for (length, want) in [(0, 16), (65_520, 16), (65_521, 17), (1 << 20, 21), (4 << 20, 22), (1 << 30, 22)] {
            assert_eq!(brotli_window(length), want, "{length}");
        }
        // A frame of zstd begins with what it asks of the decoder: no more than 8 MiB, however large the file is.
        let large = vec![7; (8 << 20) + 1];
        let frame = encoded(Coding::Zstd, &large);
        assert_eq!(frame[..4], 0xFD2F_B528_u32.to_le_bytes());
        assert_eq!(frame[4] & 0x20, 0, "the frame is not one segment");
        assert_eq!(frame[5], (23 - 10) << 3, "its window is 8 MiB");
        assert!(decoded_digest(Coding::Zstd, &frame, large.len() as u64).is_ok());
    }

    #[test]
    fn a_flag_stops_an_encoder() {
        for coding in Coding::ALL {
            assert_eq!(encode(coding, &text(1000), &AtomicBool::new(true)).unwrap(), None, "{coding}");
        }
    }
}
