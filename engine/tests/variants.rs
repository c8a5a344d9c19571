//! Variants: made once ever, announced, and found by who serves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload};
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::blob::{DiskCacheOptions, IndexWrite, Location, Made};
use pinstone_engine::coding::{Coding, Variant};
use pinstone_engine::fsck::Kind;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::import::Copies;
use pinstone_engine::meta::{Commit, Order};
use pinstone_engine::path::SitePath;
use pinstone_engine::rebuild;
use pinstone_engine::variants::{VariantOptions, VariantState};

use variants_support::{Stores, codings, digits, image, made, noise, publish, text, variants};

mod variants_support;

const ALL: [&str; 3] = ["br", "zstd", "gzip"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_encoded_once_ever_whoever_publishes_it_and_whenever() {
    let stores = Stores::memory();
    let (page, style, other) = (text("page", 5000), text("style", 900), text("other", 3000));
    let one = [("index.html", page.clone()), ("again.html", page.clone()), ("style.css", style.clone())];
    let two = [("index.html", other.clone()), ("style.css", style.clone())];

    let engine = stores.maker().await;
    let counters = engine.variant_counters();
    let manifest = publish(&engine, "one", &one).await;
    made(&stores, &engine, "one").await;
    assert_eq!((counters.files(), counters.manifests(), counters.queued()), (2, 1, 0));
    assert_eq!((counters.kept(Coding::Brotli), counters.not_kept(), counters.identity_bytes()), (2, 0, 5900));
    assert!(counters.processor_time() > std::time::Duration::ZERO);
    assert!(counters.kept_bytes(Coding::Gzip) > 0);
    // The same content in another project is the same manifest: nothing is left to do.
    assert_eq!(publish(&engine, "same", &one).await, manifest);
    assert!(matches!(image(&engine, "same").await.variants, VariantState::Made(_)), "at once");
    publish(&engine, "two", &two).await;
    made(&stores, &engine, "two").await;
    assert_eq!((counters.files(), counters.manifests()), (3, 2), "only what is new is encoded");
    engine.close().await;

    let engine = stores.maker().await;
    let resolver = engine.resolver();
    assert_eq!(resolver.pointers().variants().len(), 2, "a start knows what was made before");
    for bytes in [&page, &style] {
        assert_eq!(codings(&resolver, &manifest, bytes).await, ALL);
    }
    publish(&engine, "three", &[("a.html", page.clone()), ("b.html", other.clone())]).await;
    made(&stores, &engine, "three").await;
    assert_eq!((engine.variant_counters().files(), engine.variant_counters().manifests()), (0, 1));
    engine.close().await;
    let report = stores.fsck().await;
    assert!(report.is_clean() && report.findings.is_empty(), "{report:?}");
    assert_eq!(report.variants, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_worth_it_is_encoded_and_kept() {
    let stores = Stores::memory();
    let cases: [(&str, Bytes, &[&str]); 8] = [
        ("page.html", text("page", 4000), &ALL),
        ("smallest.css", text("smallest", 256), &ALL),
        ("too-small.css", text("too small", 255), &[]),
        ("empty.txt", Bytes::new(), &[]),
        ("noise.txt", noise("noise", 4000), &[]),
        ("photo.png", text("not a photo", 4000), &[]),
        ("thing.bin", text("who knows what", 4000), &[]),
        ("icon.svg", text("icon", 4000), &ALL),
    ];
    let site: Vec<_> = cases.iter().map(|(path, bytes, _)| (*path, bytes.clone())).collect();
    let engine = stores.maker().await;
    let manifest = publish(&engine, "demo", &site).await;
    made(&stores, &engine, "demo").await;
    let resolver = engine.resolver();
    for (path, bytes, want) in &cases {
        assert_eq!(codings(&resolver, &manifest, bytes).await, *want, "{path}");
        let rows = stores.index.made(&[BlobHash::of(bytes)]).await.unwrap()[0];
        let tried = !want.is_empty() || *path == "noise.txt";
        assert!(rows.iter().all(|row| row.is_some() == tried), "{path}: {rows:?}");
    }
    let noise = stores.index.made(&[BlobHash::of(&cases[4].1)]).await.unwrap()[0];
    assert_eq!(noise, [Some(Made::NotKept); 3], "that it is not worth it is remembered");
    let VariantState::Made(bytes) = image(&engine, "demo").await.variants else { panic!("it was made") };
    assert_eq!(bytes.identity, 4000 + 256 + 4000 + 4000);
    assert!(bytes.smallest <= bytes.br.min(bytes.zstd).min(bytes.gzip) && bytes.br < bytes.identity, "{bytes:?}");
    assert_eq!(bytes.saved(), bytes.identity - bytes.smallest);

    // A site of nothing that is worth it is done, too, and has no list.
    let plain = publish(&engine, "plain", &[("photo.png", noise_site())]).await;
    made(&stores, &engine, "plain").await;
    assert_eq!(resolver.pointers().variants().list(&plain), None);
    engine.close().await;
    assert!(stores.fsck().await.findings.is_empty());
}

fn noise_site() -> Bytes {
    noise("photo", 700)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_variants_are_packed_together_and_large_ones_are_objects() {
    let stores = Stores::memory();
    let large = digits("large", 150 << 10);
    let pages: Vec<_> = (0..20).map(|number| text(&format!("page {number}"), 2000)).collect();
    let names: Vec<_> = (0..20).map(|number| format!("{number}.html")).collect();
    let mut site: Vec<_> = names.iter().map(String::as_str).zip(pages).collect();
    site.push(("large.txt", large.clone()));
    let engine = stores.engine().await;
    let manifest = publish(&engine, "demo", &site).await;
    let (packs, singles) = (stores.objects_in("packs").await.len(), stores.objects_in("blobs").await.len());
    engine.make_variants(VariantOptions::default()).unwrap();
    made(&stores, &engine, "demo").await;
    let resolver = engine.resolver();
    for coding in Coding::ALL {
        let variant = variants(&resolver, &manifest, &large).await.get(coding).unwrap();
        let row = stores.index.get(&[variant.blob]).await.unwrap()[0].unwrap();
        assert_eq!((row.location, row.size), (Location::Single, variant.size), "{coding}");
    }
    // As many packs as there were seconds of work.
    let more = stores.objects_in("packs").await.len() - packs;
    assert!((1..=5).contains(&more), "{more} packs for 60 small variants");
    assert_eq!(stores.objects_in("blobs").await.len() - singles, 3);
    for (_, bytes) in &site {
        assert_eq!(codings(&resolver, &manifest, bytes).await, ALL);
    }
    engine.close().await;
    assert!(stores.fsck().await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_no_variants_leaves_them_to_who_does() {
    let stores = Stores::memory();
    let page = text("page", 2000);
    let engine = stores.engine().await;
    engine.make_variants(VariantOptions { workers: 0, ..VariantOptions::default() }).unwrap();
    let manifest = publish(&engine, "demo", &[("index.html", page.clone())]).await;
    assert_eq!(image(&engine, "demo").await.variants, VariantState::Off);
    assert_eq!((engine.variant_counters().queued(), engine.variant_counters().files()), (1, 0));
    engine.close().await;

    let engine = stores.maker().await;
    made(&stores, &engine, "demo").await;
    assert_eq!(codings(&engine.resolver(), &manifest, &page).await, ALL);
    engine.close().await;

    // What is there is used, also by who makes none.
    let engine = stores.engine().await;
    assert_eq!(codings(&engine.resolver(), &manifest, &page).await, ALL);
    assert!(matches!(image(&engine, "demo").await.variants, VariantState::Made(_)));
    let owner = engine.owner_principal();
    let environments = engine.environments(&owner, &"demo".parse().unwrap()).await.unwrap();
    assert!(matches!(environments[0].variants, VariantState::Made(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_from_before_there_were_variants_get_theirs() {
    let stores = Stores::memory();
    let (page, second) = (text("page", 2000), text("second", 2000));
    let engine = stores.engine().await;
    let manifests = [
        publish(&engine, "one", &[("a.html", page.clone())]).await,
        publish(&engine, "two", &[("b.html", second)]).await,
    ];
    engine.close().await;
    // As if a program had written it that knows nothing of variants.
    let rows = stores.meta.scan(Bytes::from_static(&[0x60]), Bytes::from_static(&[0x62]), 100, Order::Ascending).await;
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 2);
    let forget = rows.into_iter().fold(Commit::new(), |commit, (key, _)| commit.delete(key));
    stores.meta.commit(forget).await.unwrap();

    let engine = stores.maker().await;
    for (project, manifest) in ["one", "two"].iter().zip(&manifests) {
        made(&stores, &engine, project).await;
        assert!(engine.resolver().pointers().variants().list(manifest).is_some());
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_row_stays_whoever_made_it() {
    let stores = Stores::memory();
    let page = text("page", 3000);
    let engine = stores.engine().await;
    let manifest = publish(&engine, "demo", &[("index.html", page.clone())]).await;
    // Another version of an encoder was here before.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &page).unwrap();
    let earlier = Bytes::from(encoder.finish().unwrap());
    // Its bytes are also a file of some site.
    publish(&engine, "archive", &[("page.gz", earlier.clone())]).await;
    let variant = Variant { blob: BlobHash::of(&earlier), size: earlier.len() as u64 };
    let row = IndexWrite::Vary { identity: BlobHash::of(&page), coding: Coding::Gzip, made: Made::Kept(variant) };
    stores.index.write(vec![row]).await.unwrap();

    engine.make_variants(VariantOptions::default()).unwrap();
    made(&stores, &engine, "demo").await;
    let resolver = engine.resolver();
    assert_eq!(codings(&resolver, &manifest, &page).await, ALL);
    assert_eq!(variants(&resolver, &manifest, &page).await.get(Coding::Gzip), Some(variant));
    assert_eq!(engine.variant_counters().kept(Coding::Gzip), 0, "it was not made again");
    engine.close().await;
    assert!(stores.fsck().await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variant_that_is_not_stored_any_more_is_made_again() {
    let stores = Stores::memory();
    let page = text("page", 3000);
    let engine = stores.engine().await;
    let manifest = publish(&engine, "demo", &[("index.html", page.clone())]).await;
    let gone = Variant { blob: BlobHash::of(b"gone"), size: 10 };
    let row = IndexWrite::Vary { identity: BlobHash::of(&page), coding: Coding::Brotli, made: Made::Kept(gone) };
    stores.index.write(vec![row]).await.unwrap();
    engine.make_variants(VariantOptions::default()).unwrap();
    made(&stores, &engine, "demo").await;
    assert_eq!(codings(&engine.resolver(), &manifest, &page).await, ALL);
    engine.close().await;
    assert!(stores.fsck().await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_an_image_share_the_work_and_the_list() {
    let stores = Stores::memory();
    let engine = stores.engine().await;
    publish(&engine, "model", &[("index.html", text("page", 3000)), ("site.txt", Bytes::from_static(b"model\n"))])
        .await;
    let owner = engine.owner_principal();
    let names = |prefix: &str| (0..40).map(|number| format!("{prefix}-{number}").parse().unwrap()).collect::<Vec<_>>();
    let image_id = image(&engine, "model").await.image;
    for (prefix, own_file) in [("same", None), ("own", Some(SitePath::new("site.txt").unwrap()))] {
        let (project, environment) = ("model".parse().unwrap(), "prod".parse().unwrap());
        let copies = Copies { project, image: image_id, environment, own_file, message: None };
        assert_eq!(engine.copy_to_projects(&owner, &copies, names(prefix), |_| {}).await.unwrap().made, 40);
    }
    engine.make_variants(VariantOptions::default()).unwrap();
    for name in ["model".parse().unwrap()].into_iter().chain(names("same")).chain(names("own")) {
        made(&stores, &engine, &name).await;
    }
    let counters = engine.variant_counters();
    assert_eq!((counters.files(), counters.manifests(), counters.queued()), (1, 41, 0));
    let resolver = engine.resolver();
    assert_eq!(resolver.pointers().variants().len(), 41);
    assert_eq!(stores.objects_in("variants").await.len(), 1, "files that differ have no variants, so all share a list");
    engine.close().await;
    assert!(stores.fsck().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_from_a_store_far_away_as_from_a_near_one() {
    let (stores, folder) = (Stores::memory(), tempfile::tempdir().unwrap());
    let blobs = stores.blobs().behind_cache(folder.path(), &DiskCacheOptions::default(), 64 << 20).unwrap();
    let engine = stores.engine_over(blobs).await;
    engine.make_variants(VariantOptions::default()).unwrap();
    let (page, large) = (text("page", 3000), digits("large", 150 << 10));
    let manifest = publish(&engine, "demo", &[("index.html", page.clone()), ("large.txt", large.clone())]).await;
    made(&stores, &engine, "demo").await;
    for bytes in [&page, &large] {
        assert_eq!(codings(&engine.resolver(), &manifest, bytes).await, ALL);
    }
    engine.close().await;
    assert!(stores.fsck().await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_damaged_is_sent_as_it_is_and_the_others_are_not() {
    let stores = Stores::memory();
    let (page, large) = (text("page", 3000), text("large", 100 << 10));
    let engine = stores.engine().await;
    let manifest = publish(&engine, "demo", &[("index.html", page.clone()), ("large.html", large.clone())]).await;
    let object = stores.objects_in("blobs").await.pop().unwrap().location;
    stores.objects.put(&object, PutPayload::from(noise("damage", large.len()))).await.unwrap();
    engine.make_variants(VariantOptions::default()).unwrap();
    made(&stores, &engine, "demo").await;
    assert_eq!(codings(&engine.resolver(), &manifest, &page).await, ALL);
    assert!(variants(&engine.resolver(), &manifest, &large).await.is_empty());
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_beyond_the_bound_is_sent_as_it_is() {
    let stores = Stores::memory();
    let (page, large) = (text("page", 3000), text("large", 3001));
    let engine = stores.engine().await;
    engine.make_variants(VariantOptions { largest: 3000, ..VariantOptions::default() }).unwrap();
    let manifest = publish(&engine, "demo", &[("index.html", page.clone()), ("large.html", large.clone())]).await;
    made(&stores, &engine, "demo").await;
    assert_eq!(codings(&engine.resolver(), &manifest, &page).await, ALL);
    assert!(variants(&engine.resolver(), &manifest, &large).await.is_empty());
    engine.close().await;
}

/// A store with one site whose variants are made.
async fn made_site() -> (Stores, pinstone_engine::hash::ManifestId, Bytes) {
    let stores = Stores::memory();
    let page = text("page", 3000);
    let engine = stores.maker().await;
    let manifest = publish(&engine, "demo", &[("index.html", page.clone())]).await;
    made(&stores, &engine, "demo").await;
    engine.close().await;
    (stores, manifest, page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_decodes_variants_and_reads_lists() {
    let (stores, _, page) = made_site().await;
    let identity = BlobHash::of(&page);
    let found = |report: &pinstone_engine::fsck::Report| -> Vec<_> {
        report.findings.iter().map(|finding| (finding.kind, finding.what)).collect()
    };
    let rows = stores.index.made(&[identity]).await.unwrap()[0];
    let [Some(Made::Kept(br)), Some(Made::Kept(zstd)), _] = rows else { panic!("{rows:?}") };

    // A row that names the bytes of another coding.
    let wrong = IndexWrite::Vary { identity, coding: Coding::Brotli, made: Made::Kept(zstd) };
    stores.index.write(vec![IndexWrite::Unvary { identity, coding: Coding::Brotli }, wrong]).await.unwrap();
    assert_eq!(found(&stores.fsck().await), [(Kind::Damaged, "variant")]);
    let right = IndexWrite::Vary { identity, coding: Coding::Brotli, made: Made::Kept(br) };
    stores.index.write(vec![IndexWrite::Unvary { identity, coding: Coding::Brotli }, right]).await.unwrap();
    assert!(stores.fsck().await.findings.is_empty());

    // A variant that is not stored.
    let row = stores.index.get(&[br.blob]).await.unwrap()[0].unwrap();
    stores.index.write(vec![IndexWrite::Remove { hash: br.blob }]).await.unwrap();
    assert_eq!(found(&stores.fsck().await), [(Kind::Missing, "variant")]);
    stores.index.write(vec![IndexWrite::Put { hash: br.blob, record: row }]).await.unwrap();

    // What was made of a file that is gone harms nobody.
    let (stray, coding) = (BlobHash::of(b"stray"), Coding::Gzip);
    stores.index.write(vec![IndexWrite::Vary { identity: stray, coding, made: Made::NotKept }]).await.unwrap();
    assert_eq!(found(&stores.fsck().await), [(Kind::Unreferenced, "variant")]);
    stores.index.write(vec![IndexWrite::Unvary { identity: stray, coding }]).await.unwrap();

    // A list that is damaged, lost, and nobody's.
    let list = stores.objects_in("variants").await.pop().unwrap().location;
    let bytes = stores.objects.get(&list).await.unwrap().bytes().await.unwrap();
    stores.objects.put(&list, PutPayload::from(bytes.slice(..bytes.len() - 1))).await.unwrap();
    assert_eq!(found(&stores.fsck().await), [(Kind::Damaged, "list")]);
    stores.objects.delete(&list).await.unwrap();
    assert_eq!(found(&stores.fsck().await), [(Kind::Missing, "list")]);
    stores.objects.put(&list, PutPayload::from(bytes.clone())).await.unwrap();
    let other = object_store::path::Path::from(format!("variants/00/{}", "0".repeat(64)));
    stores.objects.put(&other, PutPayload::from(bytes)).await.unwrap();
    assert_eq!(found(&stores.fsck().await), [(Kind::Unreferenced, "list")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_knows_again_what_lists_name() {
    let (mut stores, ..) = made_site().await;
    let rows = stores.index.scan_made(None, 100).await.unwrap();
    assert_eq!(rows.len(), 3);
    // An index that is lost, and one row that is wrong.
    stores.index = Arc::new(MemoryIndex::default());
    let ((identity, coding), _) = rows[0];
    stores.index.write(vec![IndexWrite::Vary { identity, coding, made: Made::NotKept }]).await.unwrap();
    let rebuilt = rebuild::rebuild(&*stores.meta, &stores.blobs(), |_| {}).await.unwrap();
    assert_eq!((rebuilt.variants, rebuilt.variants_wanted, rebuilt.findings.len()), (3, 0, 0), "{rebuilt:?}");
    assert_eq!(stores.index.scan_made(None, 100).await.unwrap(), rows);
    assert!(stores.fsck().await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_with_a_list_or_a_variant_is_made_again() {
    for lose_list in [true, false] {
        let (stores, manifest, page) = made_site().await;
        if lose_list {
            let list = stores.objects_in("variants").await.pop().unwrap().location;
            stores.objects.delete(&list).await.unwrap();
        } else {
            // The pack of the variants; that of the site is the other one.
            let (identity, variant) =
                (BlobHash::of(&page), stores.index.made(&[BlobHash::of(&page)]).await.unwrap()[0]);
            let pack = |row: pinstone_engine::blob::BlobRecord| match row.location {
                Location::Pack { pack, .. } => pack.to_string(),
                Location::Single => panic!("it is small"),
            };
            let variant = variant[0].unwrap().kept().unwrap().blob;
            let both = stores.index.get(&[identity, variant]).await.unwrap();
            let [site, lost] = [pack(both[0].unwrap()), pack(both[1].unwrap())];
            assert_ne!(site, lost);
            let path = object_store::path::Path::from(format!("packs/{}/{lost}", &lost[..2]));
            stores.objects.delete(&path).await.unwrap();
        }
        assert!(!stores.fsck().await.is_clean());
        let rebuilt = rebuild::rebuild(&*stores.meta, &stores.blobs(), |_| {}).await.unwrap();
        assert_eq!(rebuilt.variants_wanted, 1, "{rebuilt:?}");
        let engine = stores.maker().await;
        made(&stores, &engine, "demo").await;
        assert_eq!(codings(&engine.resolver(), &manifest, &page).await, ALL);
        engine.close().await;
        let report = stores.fsck().await;
        assert!(report.is_clean(), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_the_middle_of_the_work_loses_nothing() {
    let stores = Stores::memory();
    let pages: Vec<_> = (0..30).map(|number| text(&format!("page {number}"), 20_000)).collect();
    let names: Vec<_> = (0..30).map(|number| format!("{number}.html")).collect();
    let site: Vec<_> = names.iter().map(String::as_str).zip(pages).collect();
    let engine = stores.maker().await;
    let manifest = publish(&engine, "demo", &site).await;
    while engine.variant_counters().files() == 0 {
        tokio::task::yield_now().await;
    }
    engine.close().await;
    let before = engine.variant_counters().files();
    let rows = stores.index.scan_made(None, 1000).await.unwrap().len() as u64;
    assert_eq!(rows, before * 3, "what was made is stored");

    let engine = stores.maker().await;
    made(&stores, &engine, "demo").await;
    assert_eq!(before + engine.variant_counters().files(), 30, "and not made again");
    for (_, bytes) in &site {
        assert_eq!(codings(&engine.resolver(), &manifest, bytes).await, ALL);
    }
    engine.close().await;
    assert!(stores.fsck().await.findings.is_empty());
}
