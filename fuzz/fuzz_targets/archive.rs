//! Arbitrary bytes are refused or are an archive; and what is an archive is a site that can be read again, byte for byte.

#![no_main]

use std::collections::HashSet;
use std::io::Cursor;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use pinstone_engine::archive::{Archive, ArchiveLimits, ListOptions, Unbounded};
use pinstone_engine::path::SitePath;

const LIMITS: ArchiveLimits =
    ArchiveLimits { entries: 50, file_size: 64 << 10, names: 16 << 10, unpacked: 1 << 20, times: 100 };

fuzz_target!(|data: &[u8]| {
    // The first byte says how many folders are stripped.
    let Some((strip, data)) = data.split_first() else { return };
    let Ok(mut archive) = Archive::open(Cursor::new(data), LIMITS) else { return };
    let options = ListOptions { strip: usize::from(*strip % 4), ignore: Vec::new() };
    let Ok(listing) = archive.list(&options, &mut Unbounded) else { return };
    assert!((1..=50).contains(&listing.files.len()));
    assert!(listing.files.windows(2).all(|pair| pair[0].path < pair[1].path), "sorted, each path once");
    for file in &listing.files {
        SitePath::check(&file.path).expect("each is a path");
        assert!(file.size <= LIMITS.file_size);
    }
    let mut wanted: HashSet<_> = listing.files.iter().map(|file| file.blob).collect();
    let sizes: HashSet<_> = listing.files.iter().map(|file| (file.blob, file.size)).collect();
    let mut given = HashSet::new();
    archive
        .contents(
            &listing,
            |blob| wanted.remove(blob),
            |blob, content| {
                let (mut hasher, mut buffer) = (blake3::Hasher::new(), [0; 777]);
                loop {
                    match content.read(&mut buffer)? {
                        0 => break,
                        read => drop(hasher.update(&buffer[..read])),
                    }
                }
                assert!(sizes.contains(&(blob, hasher.count())));
                assert_eq!(blob, hasher.finalize().into());
                given.insert(blob);
                Ok(ControlFlow::Continue(()))
            },
        )
        .expect("what was read once can be read again");
    assert!(wanted.is_empty() && given.len() == sizes.len(), "every file is given");
});
