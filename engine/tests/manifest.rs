//! The manifest's bytes: one form for one content, and nothing else opens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use bytes::Bytes;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::{Manifest, ManifestBuilder, ManifestError, Settings};
use pinstone_engine::path::SitePath;
use proptest::prelude::*;

/// A manifest as version 1 wrote it. It never changes: what was stored once is read for good.
const GOLDEN: &[u8] = include_bytes!("fixtures/manifest-v1.bin");

fn sample() -> ManifestBuilder {
    let mut builder = ManifestBuilder::new(Settings::default());
    let path = |text: &str| SitePath::new(text).unwrap();
    builder.add(path("index.html"), BlobHash::of(b"<h1>hi</h1>"), 11, "text/html; charset=utf-8");
    builder.add(path("assets/app.4f3a9c1b.js"), BlobHash::of(b"go()"), 4, "text/javascript; charset=utf-8");
    builder.add(path("ünïcode/…/file.bin"), BlobHash::of(b""), 0, "application/octet-stream");
    builder.add_hidden(path("_headers"), BlobHash::of(b"/*"), 2, "application/octet-stream");
    builder
}

#[test]
fn the_golden_manifest_reads_and_is_what_is_written_today() {
    let (id, bytes) = sample().finish().unwrap();
    if std::env::var_os("PINSTONE_WRITE_FIXTURES").is_some() {
        std::fs::write("tests/fixtures/manifest-v1.bin", &bytes).unwrap();
    }
    assert_eq!(bytes, GOLDEN, "version 1 has one form");
    let manifest = Manifest::open(Bytes::from_static(GOLDEN)).unwrap();
    assert_eq!(manifest.id(), id);
    assert_eq!(manifest.id().to_string(), include_str!("fixtures/manifest-v1.id").trim());
    assert_eq!((manifest.len(), manifest.total_size()), (4, 17));
    let entry = manifest.get("index.html").unwrap();
    assert_eq!((entry.size, entry.content_type, entry.hidden), (11, "text/html; charset=utf-8", false));
    assert!(manifest.get("_headers").unwrap().hidden);
    for absent in ["", "index.htm", "index.html/", "INDEX.HTML", "zzz", "assets"] {
        assert_eq!(manifest.get(absent), None, "{absent:?}");
    }
}

#[test]
fn a_newer_version_is_refused_as_such() {
    let mut bytes = GOLDEN.to_vec();
    bytes[4] = 2;
    assert_eq!(Manifest::open(bytes.into()).err(), Some(ManifestError::Newer { found: 2 }));
}

#[test]
fn every_flipped_bit_gives_another_manifest_or_none() {
    for at in 0..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        if let Ok(manifest) = Manifest::open(bytes.clone().into()) {
            assert_eq!(rebuilt(&manifest), bytes, "what opens is canonical: bit {at}");
        }
    }
    for end in 0..GOLDEN.len() {
        assert!(Manifest::open(Bytes::copy_from_slice(&GOLDEN[..end])).is_err(), "cut at {end}");
    }
    assert!(Manifest::open([GOLDEN, b"x"].concat().into()).is_err(), "nothing may follow");
}

#[test]
fn two_files_of_one_path_make_no_manifest() {
    let mut builder = sample();
    builder.add(SitePath::new("index.html").unwrap(), BlobHash::of(b"x"), 1, "text/html");
    assert!(matches!(builder.finish(), Err(ManifestError::Duplicate(path)) if path.as_str() == "index.html"));
}

#[test]
fn a_hundred_thousand_entries_cost_sixty_bytes_each_beside_their_paths() {
    let mut builder = ManifestBuilder::new(Settings::default());
    let mut paths = 0;
    for number in 0..100_000_u32 {
        let path = format!("docs/{:03}/page-{number}.html", number % 1000);
        paths += path.len();
        builder.add(SitePath::new(path).unwrap(), BlobHash::of(&number.to_le_bytes()), 1, "text/html");
    }
    let (_, bytes) = builder.finish().unwrap();
    assert!((bytes.len() - paths) / 100_000 <= 60, "{} bytes", bytes.len());
    let manifest = Manifest::open(bytes).unwrap();
    for number in [0, 1, 99_999, 54_321_u32] {
        let path = format!("docs/{:03}/page-{number}.html", number % 1000);
        assert_eq!(manifest.get(&path).unwrap().blob, BlobHash::of(&number.to_le_bytes()), "{path}");
    }
}

fn rebuilt(manifest: &Manifest) -> Bytes {
    let mut builder = ManifestBuilder::new(manifest.settings());
    for entry in manifest.entries() {
        let path = SitePath::new(entry.path).unwrap();
        if entry.hidden {
            builder.add_hidden(path, entry.blob, entry.size, entry.content_type);
        } else {
            builder.add(path, entry.blob, entry.size, entry.content_type);
        }
    }
    builder.finish().unwrap().1
}

proptest! {
    #[test]
    fn any_files_in_any_order_make_one_form(
        files in proptest::collection::btree_map("[a-zé/.]{1,12}", (any::<u32>(), 0_u8..4), 0..40),
        seed in any::<u64>(),
    ) {
        let mut files: Vec<_> = files
            .into_iter()
            .filter_map(|(path, rest)| Some((SitePath::new(path).ok()?, rest)))
            .collect();
        let build = |files: &[(SitePath, (u32, u8))]| {
            let mut builder = ManifestBuilder::new(Settings::default());
            for (path, (size, kind)) in files {
                let blob = BlobHash::of(path.as_bytes());
                builder.add(path.clone(), blob, u64::from(*size), format!("text/x-{kind}"));
            }
            builder.finish().unwrap()
        };
        let (id, bytes) = build(&files);
        let rotation = usize::try_from(seed % 64).unwrap() % files.len().max(1);
        files.rotate_left(rotation);
        prop_assert_eq!(build(&files), (id, bytes.clone()), "the order of files does not matter");
        let manifest = Manifest::open(bytes.clone()).unwrap();
        prop_assert_eq!(rebuilt(&manifest), bytes);
        for (path, (size, _)) in &files {
            prop_assert_eq!(manifest.get(path).map(|entry| entry.size), Some(u64::from(*size)));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::open(bytes.clone().into());
        let _ = Manifest::open([&GOLDEN[..40], &bytes].concat().into());
    }
}
