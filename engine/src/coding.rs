//! Content codings that files are stored in beside their own bytes, and the forms of one file.
//!
//! A *variant* is a blob like any other, whose bytes are those of an *identity* blob under one coding. Its name is the hash
//! of its own bytes, so everything that is said of blobs holds for it.

use std::fmt;

use crate::hash::BlobHash;

/// A content coding that variants are made in (RFC 9110 section 8.4.1; RFC 7932, RFC 8878, RFC 1952).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Coding {
    /// `br`.
    Brotli = 0,
    /// `zstd`.
    Zstd = 1,
    /// `gzip`.
    Gzip = 2,
}

impl Coding {
    /// Every coding, the one first that is preferred where a client likes several equally.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The name in `Content-Encoding` and `Accept-Encoding`.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A file's bytes under one coding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Variant {
    /// The encoded bytes.
    pub blob: BlobHash,
    /// How many they are.
    pub size: u64,
}

/// The variants that one blob has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Variants([Option<Variant>; Coding::ALL.len()]);

impl Variants {
    /// The variant in `coding`, where there is one.
    #[must_use]
    pub fn get(&self, coding: Coding) -> Option<Variant> {
        self.0[coding as usize]
    }

    /// The same with this variant.
    #[must_use]
    pub fn with(mut self, coding: Coding, variant: Variant) -> Self {
        self.0[coding as usize] = Some(variant);
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_coding_has_its_own_place() {
        let variant = |byte, size| Variant { blob: BlobHash::from_bytes([byte; 32]), size };
        let variants = Variants::default().with(Coding::Gzip, variant(1, 10)).with(Coding::Brotli, variant(2, 8));
        assert!(Variants::default().is_empty() && !variants.is_empty());
        assert_eq!(Coding::ALL.map(|coding| variants.get(coding).map(|v| v.size)), [Some(8), None, Some(10)]);
        assert_eq!(Coding::ALL.map(Coding::token), ["br", "zstd", "gzip"]);
    }
}
