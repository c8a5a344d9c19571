//! An archive on its way into the stores: what is there is not stored again, and what is repeated is done once.

use std::io::{Seek, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pinstone_engine::archive::{
    Archive, ArchivePublish, ArchivePublishError, Fault, Format, ListOptions, Memory, Unbounded,
};
use pinstone_engine::blob::BlobStore;
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::clock::Clock;
use pinstone_engine::meta::MemoryMeta;
use pinstone_engine::plan::PlanError;
use pinstone_engine::publish::CommitError;
use pinstone_engine::{Engine, Limits};

use crate::build::*;
use crate::store::NoPacks;
use crate::world::{World, limits, publish};

fn large(seed: u32) -> Vec<u8> {
    (0..700_000_u32).map(|number| (number.wrapping_mul(seed) >> 11).to_le_bytes()[0]).collect()
}

#[tokio::test]
async fn an_archive_becomes_what_an_environment_shows() {
    let world = World::new().await;
    let entries: Vec<_> = (0..50)
        .map(|number| file(&format!("pages/{number}.html"), format!("page {number}")))
        .chain([
            file("index.html", "hello"),
            file("copy.html", "hello"),
            file("large.bin", large(7)),
            file(".env", "x"),
        ])
        .collect();
    let published = world.publish(&gzip(&tar(&entries))).await.unwrap();
    assert_eq!((published.format, published.committed.files, published.ignored), (Format::TarGz, 53, 1));
    assert_eq!((published.new, published.reused), (52, 1));
    assert!(published.released.changed && published.committed.diagnostics.is_empty());
    let shown = world.engine.resolver().pointers().find("demo", "prod").unwrap();
    assert_eq!(shown.image, published.committed.image);

    // The same content from another format is the same image, and nothing of it is stored.
    let before = world.everything().await.0;
    let again = world.publish(&zst(&tar(&entries[..53]))).await.unwrap();
    assert_eq!((again.new, again.reused, again.released.changed), (0, 53, false));
    assert_eq!((again.committed.image, again.committed.new_image), (published.committed.image, false));
    assert_eq!(world.everything().await.0, before);

    // Of what changed a little, only that is read out.
    let changed: Vec<_> = entries.iter().cloned().chain([file("new.bin", large(9)), file("new.html", "new")]).collect();
    let more = world.publish(&tar(&changed)).await.unwrap();
    assert_eq!((more.new, more.reused, more.released.number), (2, 53, 2));
}

#[tokio::test]
async fn many_small_files_are_stored_in_batches_within_their_bounds() {
    let world = World::with(Limits { batch_blobs: 7, batch_size: 100, ..Limits::default() }).await;
    // Twenty that are small for a batch of 100 bytes, and three that are too large for any.
    let entries: Vec<_> = (0..20)
        .map(|number| file(&format!("{number}"), format!("{number:030}")))
        .chain((0..3).map(|number| file(&format!("large-{number}"), format!("{number:0101}"))))
        .collect();
    let published = world.publish(&tar(&entries)).await.unwrap();
    assert_eq!((published.new, published.committed.files), (23, 23));
    let names = world.everything().await.0;
    let count = |kind: &str| names.iter().filter(|name| name.starts_with(kind)).count();
    assert_eq!((count("packs/"), count("blobs/"), count("plans/")), (7, 3, 0), "{names:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_site_is_told_and_taken() {
    let world = World::new().await;
    let codes = |published: &pinstone_engine::archive::ArchivePublished| {
        let found = &published.committed.diagnostics;
        found.iter().map(|diagnostic| diagnostic.code.clone()).collect::<Vec<_>>()
    };
    let entries = [file("top/index.html", "1"), file("top/A", "2"), file("top/a", "3")];
    let published = world.publish(&tar(&entries)).await.unwrap();
    assert_eq!(codes(&published), ["no_index", "case_collision"]);
    assert!(published.committed.diagnostics[0].message.contains("the folder `top`"));
    let strip = ArchivePublish {
        options: ListOptions { strip: 1, ..ListOptions::default() },
        message: Some("why".to_owned()),
        ..publish("demo")
    };
    let published = world.publish_with(&tar(&entries), strip, None).await.unwrap();
    assert_eq!(codes(&published), ["case_collision"]);
}

#[tokio::test]
async fn a_strict_publish_refuses_what_would_be_told_and_leaves_nothing() {
    let world = World::new().await;
    let strict = || ArchivePublish { strict: true, ..publish("demo") };
    let before = world.everything().await;
    for entries in [vec![file("page.html", "1")], vec![file("index.html", "1"), file("A", "2"), file("a", "3")]] {
        let error = world.publish_with(&tar(&entries), strict(), None).await.unwrap_err();
        assert!(matches!(error, ArchivePublishError::Commit(CommitError::Strict { count: 1 })), "{error:?}");
        assert_eq!(world.everything().await, before);
    }
    world.publish_with(&tar(&[file("index.html", "1")]), strict(), None).await.unwrap();
}

#[tokio::test]
async fn an_archive_does_not_wait_for_the_memory_that_it_holds_itself() {
    // Memory for one upload of more than 256 KiB, an archive that begins with small files of more than a MiB, and a large
    // one that has more pieces than wait for it.
    let world = World::far(1).await;
    let small = |number: u32| file(&format!("small-{number}"), large(2 * number + 1).split_off(650_000));
    let entries: Vec<_> =
        (0..30).map(small).chain([file("large", large(7).repeat(4))]).chain((30..40).map(small)).collect();
    let published = tokio::time::timeout(Duration::from_secs(60), world.publish(&tar(&entries))).await;
    assert_eq!(published.expect("it goes on").unwrap().new, 41);
}

#[tokio::test]
async fn uploads_that_are_under_way_end_where_another_has_failed() {
    let store = Arc::new(NoPacks::new());
    let blobs = BlobStore::new(store.clone(), Arc::new(MemoryIndex::default()));
    let clock = Clock::system();
    let meta = Arc::new(MemoryMeta::new(clock.clone()));
    let engine = Engine::assemble(meta, blobs, clock, Limits::default(), "pin_test").await.unwrap();
    let mut archive = engine.spool_file().unwrap();
    archive.write_all(&tar(&[file("large", large(7)), file("larger", large(9)), file("small", "1")])).unwrap();
    archive.rewind().unwrap();
    let owner = engine.owner_principal();
    let error = engine.publish_archive(&owner, archive, publish("demo"), None, Unbounded).await.unwrap_err();
    assert!(matches!(error, ArchivePublishError::Upload(_)), "{error:?}");
    assert_eq!(store.open.load(Ordering::SeqCst), 0, "uploads in parts that nobody ended");
}

#[tokio::test]
async fn a_key_makes_it_once() {
    let world = World::new().await;
    let archive = tar(&[file("index.html", "1")]);
    let first = world.publish_with(&archive, publish("demo"), Some("k")).await.unwrap();
    let rows = world.everything().await;
    for packed in [archive.clone(), gzip(&archive)] {
        let again = world.publish_with(&packed, publish("demo"), Some("k")).await.unwrap();
        assert_eq!(
            (&again.committed.image, again.committed.committed_at),
            (&first.committed.image, first.committed.committed_at)
        );
        assert_eq!((again.released.number, again.released.changed), (1, first.released.changed));
        assert_eq!(world.everything().await, rows, "nothing is recorded twice");
    }
    let other = world.publish_with(&tar(&[file("index.html", "2")]), publish("demo"), Some("k")).await.unwrap_err();
    assert!(matches!(other, ArchivePublishError::Plan(PlanError::KeyReused)), "{other:?}");
    let without = world.publish(&archive).await.unwrap();
    assert_eq!((without.released.number, without.released.changed), (1, false));
}

#[tokio::test]
async fn a_plan_that_is_refused_leaves_nothing_either() {
    let world = World::with(Limits { message_length: 3, ..Limits::default() }).await;
    let before = world.everything().await;
    let long = ArchivePublish { message: Some("long".to_owned()), ..publish("demo") };
    let error = world.publish_with(&tar(&[file("a", "x")]), long, None).await.unwrap_err();
    assert!(matches!(error, ArchivePublishError::Plan(PlanError::MessageTooLong { limit: 3 })), "{error:?}");
    assert_eq!(world.everything().await, before);
}

#[test]
fn memory_is_asked_for_and_its_lack_is_told() {
    struct Some(u64);
    impl Memory for Some {
        fn reserve(&mut self, bytes: u64) -> bool {
            match self.0.checked_sub(bytes) {
                Option::Some(left) => {
                    self.0 = left;
                    true
                }
                None => false,
            }
        }
    }
    let entries: Vec<_> = (0..100).map(|number| entry(b'5', format!("{number}/").as_bytes(), b"")).collect();
    for archive in [tar(&entries), zip(&[zipped("a", "x")])] {
        let mut archive = Archive::open(std::io::Cursor::new(archive), limits()).unwrap();
        let error = archive.list(&ListOptions::default(), &mut Some(1000)).unwrap_err();
        assert!(matches!(error.fault, Fault::NoMemory), "{error}");
        assert!(!matches!(
            archive.list(&ListOptions::default(), &mut Some(10 << 20)).map_err(|e| e.fault),
            Err(Fault::NoMemory)
        ));
    }
}
