//! Digests of what is sent, for who asks for them (RFC 9530, and Unencoded-Digest beside it). Pure.
//!
//! Only SHA-256 is there: it is taken when a file is stored. A wish is a structured dictionary of algorithms and weights
//! (RFC 9530 section 4); one that is malformed anywhere is as good as none, and a weight of 0 is a refusal.

use std::convert::Infallible;

use pinstone_engine::hash::Sha256Digest;
use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, DictSerializer, KeyRef, Parser};

const SHA_256: &str = "sha-256";

/// Whether the lines of a `Want-Repr-Digest` or `Want-Unencoded-Digest` ask for SHA-256.
#[must_use]
pub fn wants_sha256<'r>(lines: impl IntoIterator<Item = &'r [u8]>) -> bool {
    let mut weight = Weight(0);
    // Lines that follow each other are one dictionary, in which the last word counts.
    lines.into_iter().all(|line| Parser::new(line).parse_dictionary_with_visitor(&mut weight).is_ok()) && weight.0 > 0
}

/// The value of a digest field.
#[must_use]
pub fn value(digest: &Sha256Digest) -> String {
    let mut dictionary = DictSerializer::new();
    let key = KeyRef::from_str(SHA_256).expect("the name of an algorithm is a key");
    let _ = dictionary.bare_item(key, &digest.0[..]);
    dictionary.finish().expect("there is one member")
}

/// The weight of SHA-256 in a dictionary, from 0 to 10; anything else counts as 0.
struct Weight(i64);

impl<'de> DictionaryVisitor<'de> for Weight {
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok((key.as_str() == SHA_256).then_some(self))
    }
}

impl<'de> ItemVisitor<'de> for &mut Weight {
    type Error = Infallible;

    fn bare_item(self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de>, Infallible> {
        let weight = match item {
            BareItemFromInput::Integer(weight) => i64::from(weight),
            _ => 0,
        };
        self.0 = if (1..=10).contains(&weight) { weight } else { 0 };
        Ok(Ignored)
    }
}

impl<'de> EntryVisitor<'de> for &mut Weight {
    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        self.0 = 0;
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wishes() {
        for (lines, want) in [
            (&["sha-256=10"][..], true),
            (&["sha-256=1"], true),
            (&["sha-512=3, sha-256=10, unixsum=0"], true),
            (&["  sha-256=5  "], true),
            (&["sha-256=5;param=x"], true),
            (&["sha-512=3", "sha-256=2"], true),
            (&["sha-256=0, sha-256=3"], true), // the last counts, RFC 9651 section 3.2
            (&["other=(\"a\" :AA==:), sha-256=1, b, c;d=1.5"], true),
            (&["sha-256=0"], false),
            (&["sha-256=3, sha-256=0"], false),
            (&["sha-256=3", "sha-256=0"], false),
            (&["sha-256=11"], false),
            (&["sha-256=-1"], false),
            (&["sha-256=1.0"], false),
            (&["sha-256"], false), // a boolean
            (&["sha-256=\"1\""], false),
            (&["sha-256=(1)"], false),
            (&["sha-512=10"], false),
            (&["SHA-256=10"], false), // keys are lower case
            (&["sha-256=10,"], false),
            (&["sha-256=10 sha-512=1"], false),
            (&["sha-256 = 10"], false),
            (&["sha-256=10, sha-512=!"], false), // malformed anywhere
            (&["sha-256=10", "?"], false),
            (&["sha-256=1000000000000000"], false),
            (&["\u{e9}=1, sha-256=1"], false),
            (&[""], false),
            (&[], false),
        ] {
            assert_eq!(wants_sha256(lines.iter().map(|line| line.as_bytes())), want, "{lines:?}");
        }
    }

    #[test]
    fn a_digest_is_a_byte_sequence() {
        let hex = "44a5a8c1b2d0e8f6";
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&u64::from_str_radix(hex, 16).unwrap().to_be_bytes());
        assert_eq!(value(&Sha256Digest(bytes)), format!("sha-256=:RKWowbLQ6PY{}=:", "A".repeat(32)));
        assert_eq!(value(&Sha256Digest([0xff; 32])), format!("sha-256=:{}8=:", "/".repeat(42)));
    }

    proptest! {
        #[test]
        fn no_wish_panics(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = wants_sha256([&value[..]]);
            let _ = wants_sha256([&[b"sha-256=1, ", &value[..]].concat()[..]]);
        }
    }
}
