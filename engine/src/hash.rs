//! Digests, each with a type of its own, so that none is taken for another.

use std::fmt;
use std::str::FromStr;

use crate::hex;
use crate::text::serde_as_text;

/// A text that is not a digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a digest is 64 hex digits")]
pub struct NotADigest;

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Text form: 64 hex digits, read in either case, always printed lower-case.
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The digest whose 32 bytes are `bytes`.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The digest of `bytes`, which are all in memory.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Eight digits are enough in a log line.
                write!(f, "{}({})", stringify!($name), hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = NotADigest;

            fn from_str(text: &str) -> Result<Self, NotADigest> {
                hex::decode(text).map(Self).ok_or(NotADigest)
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }

        serde_as_text!($name);
    };
}

digest! {
    /// The BLAKE3 digest of a blob's bytes, and the only name a blob has.
    BlobHash
}

digest! {
    /// The BLAKE3 digest of a manifest's canonical bytes, and the name it is stored under.
    ManifestId
}

digest! {
    /// The BLAKE3 digest of a variant list's canonical bytes, and the name it is stored under.
    VariantListId
}

digest! {
    /// What a plan's content is, known before any byte arrives.
    ///
    /// BLAKE3 over the sorted, length-prefixed (path, blob hash) pairs and the settings sent with the plan;
    /// `docs/formats.md` has the bytes.
    ContentHash
}

/// The SHA-256 digest of a blob's bytes, taken at ingest for `Repr-Digest` (RFC 9530).
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Sha256Digest(pub [u8; 32]);

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({})", hex::encode(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_either_case_and_print_lower_case() {
        let lower = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(BlobHash::of(b"").to_string(), lower);
        assert_eq!(lower.to_uppercase().parse(), Ok(BlobHash::of(b"")));
        let twice = format!("{lower}{lower}");
        for wrong in ["", "af13", &lower[1..], &twice, &lower.replace('a', "g"), &format!("{}é", &lower[2..])] {
            assert_eq!(wrong.parse::<BlobHash>(), Err(NotADigest), "{wrong:?}");
        }
    }
}
