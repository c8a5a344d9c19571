//! Arbitrary bytes are refused or are a variant list; and what is a list has one encoding only.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinstone_engine::variants::VariantList;

fuzz_target!(|data: &[u8]| {
    let Ok(list) = VariantList::open(Bytes::copy_from_slice(data)) else { return };
    for (identity, variants) in list.iter() {
        assert!(!variants.is_empty());
        assert_eq!(list.get(&identity), variants);
    }
    let written = VariantList::write(list.iter()).expect("the blobs of a list make a list");
    let (id, bytes) = written.expect("a list has one blob at least");
    assert_eq!(bytes, data, "two encodings of one content");
    assert_eq!(id, list.id());
});
