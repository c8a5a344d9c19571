//! What is measured of a blob while it streams past, in one pass.

use sha2::{Digest, Sha256};

use crate::hash::{BlobHash, Sha256Digest};

/// What one pass over a blob's bytes found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Digests {
    /// The blob's name.
    pub blake3: BlobHash,
    /// For `Repr-Digest`.
    pub sha256: Sha256Digest,
    /// Whether all of it is valid UTF-8.
    pub is_utf8: bool,
    /// How many bytes there were.
    pub size: u64,
}

/// Takes BLAKE3, SHA-256 and UTF-8 validity of bytes that arrive in pieces.
#[derive(Clone, Debug, Default)]
pub struct Hasher {
    blake3: blake3::Hasher,
    sha256: Sha256,
    utf8: Utf8Check,
    size: u64,
}

impl Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.blake3.update(piece);
        self.sha256.update(piece);
        self.utf8.update(piece);
        self.size += piece.len() as u64;
    }

    /// Says what was found.
    #[must_use]
    pub fn finish(self) -> Digests {
        Digests {
            blake3: self.blake3.finalize().into(),
            sha256: Sha256Digest(self.sha256.finalize().into()),
            is_utf8: self.utf8.finish(),
            size: self.size,
        }
    }
}

/// UTF-8 validity across pieces: a sequence that a piece cuts is kept until the next one.
#[derive(Clone, Debug, Default)]
struct Utf8Check {
    cut: Vec<u8>,
    wrong: bool,
}

impl Utf8Check {
    fn update(&mut self, mut piece: &[u8]) {
        while !self.wrong && !self.cut.is_empty() && !piece.is_empty() {
            self.cut.push(piece[0]);
            piece = &piece[1..];
            match simdutf8::compat::from_utf8(&self.cut) {
                Ok(_) => self.cut.clear(),
                Err(error) => self.wrong = error.error_len().is_some(),
            }
        }
        if self.wrong {
            return;
        }
        if let Err(error) = simdutf8::compat::from_utf8(piece) {
            match error.error_len() {
                Some(_) => self.wrong = true,
                None => self.cut.extend_from_slice(&piece[error.valid_up_to()..]),
            }
        }
    }

    fn finish(self) -> bool {
        !self.wrong && self.cut.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_is_the_same_however_it_is_cut() {
        let euro = "a€b𝄞c";
        for (bytes, want) in [
            (euro.as_bytes().to_vec(), true),
            (euro.as_bytes()[..3].to_vec(), false),
            (b"\xff".to_vec(), false),
            (b"a\xe2\x82".to_vec(), false),
            (b"\xe2\x82x".to_vec(), false),
            (b"\xed\xa0\x80".to_vec(), false),
            (Vec::new(), true),
        ] {
            for size in 1..=bytes.len().max(1) {
                let mut hasher = Hasher::default();
                bytes.chunks(size).for_each(|piece| hasher.update(piece));
                let found = hasher.finish();
                assert_eq!(found.is_utf8, want, "{bytes:?} in pieces of {size}");
                assert_eq!(found.blake3, BlobHash::of(&bytes));
                assert_eq!(found.size, bytes.len() as u64);
            }
        }
    }
}
