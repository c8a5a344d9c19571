//! Arbitrary bytes are refused or are a manifest; and what is a manifest has one encoding only.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinstone_engine::manifest::{Manifest, ManifestBuilder};
use pinstone_engine::path::SitePath;

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = Manifest::open(Bytes::copy_from_slice(data)) else { return };
    let mut builder = ManifestBuilder::new(manifest.settings());
    let mut total = 0_u64;
    for (index, entry) in manifest.entries().enumerate() {
        assert_eq!(manifest.get(entry.path), Some(entry));
        assert_eq!(manifest.lower_bound(entry.path), index);
        total += entry.size;
        let path = SitePath::new(entry.path).expect("an opened manifest holds valid paths only");
        if entry.hidden {
            builder.add_hidden(path, entry.blob, entry.size, entry.content_type);
        } else {
            builder.add(path, entry.blob, entry.size, entry.content_type);
        }
    }
    assert_eq!(manifest.total_size(), total);
    let (id, bytes) = builder.finish().expect("the entries of a manifest make a manifest");
    assert_eq!(bytes, data, "two encodings of one content");
    assert_eq!(id, manifest.id());
});
