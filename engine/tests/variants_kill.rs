//! Every operation of making variants fails once, before it was done and after, and the process dies once at each: what
//! was stored is not made again, what is announced is there, and in the end all is made.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use object_store::ObjectStore;
use pinstone_engine::Engine;
use pinstone_engine::Limits;
#[cfg(feature = "rocksdb")]
use pinstone_engine::OpenOptions;
use pinstone_engine::blob::{BlobIndex, BlobStore};
use pinstone_engine::hash::{BlobHash, ManifestId};
use pinstone_engine::meta::MetaStore;
use pinstone_engine::variants::VariantOptions;

use faults::{Counted, Fault, Faulty, How, Switch};
use variants_support::{Stores, clock, codings, digits, made, publish, text};

#[allow(dead_code, reason = "other tests take more of it")]
mod faults;
mod variants_support;

/// Two sites that share a file; one has a file whose variants are objects of their own, if `large`.
fn sites(large: bool) -> [Vec<(&'static str, Bytes)>; 2] {
    let (page, style) = (text("page", 1500), text("style", 1000));
    let mut first = vec![("index.html", page), ("style.css", style.clone())];
    if large {
        first.insert(1, ("large.txt", digits("large", 136 << 10)));
    }
    [first, vec![("index.html", text("other", 1500)), ("style.css", style)]]
}

const PROJECTS: [&str; 2] = ["one", "two"];
/// Rounds at a time: some of them mostly wait, because a store that failed is left alone for a second.
const AT_ONCE: usize = 8;

/// An engine over stores in which one operation goes wrong.
async fn faulty(below: &Stores, switch: &Arc<Switch>) -> Engine {
    let meta: Arc<dyn MetaStore> = Arc::new(Faulty { inner: Arc::clone(&below.meta), switch: Arc::clone(switch) });
    let index: Arc<dyn BlobIndex> = Arc::new(Faulty { inner: Arc::clone(&below.index), switch: Arc::clone(switch) });
    let objects: Arc<dyn ObjectStore> =
        Arc::new(Faulty { inner: Arc::clone(&below.objects), switch: Arc::clone(switch) });
    let blobs = BlobStore::new(objects, index);
    Engine::assemble(meta, blobs, clock(), Limits::default(), "pin_x").await.unwrap()
}

/// Files of which everything was made.
async fn files_made(stores: &Stores, large: bool) -> u64 {
    let hashes: std::collections::BTreeSet<_> =
        sites(large).iter().flatten().map(|(_, bytes)| BlobHash::of(bytes)).collect();
    let hashes: Vec<_> = hashes.into_iter().collect();
    let made = stores.index.made(&hashes).await.unwrap();
    made.iter().filter(|made| made.iter().all(Option::is_some)).count() as u64
}

async fn assert_served(engine: &Engine, manifests: &[ManifestId; 2], large: bool) {
    let resolver = engine.resolver();
    for (manifest, site) in manifests.iter().zip(sites(large)) {
        for (path, bytes) in site {
            assert_eq!(codings(&resolver, manifest, &bytes).await, ["br", "zstd", "gzip"], "{path}");
        }
    }
}

/// One round; answers what went wrong, where there are so many operations.
async fn round(stores: &Stores, fault: Fault, large: bool) -> Option<String> {
    let files = if large { 4 } else { 3 };
    let engine = stores.engine().await;
    let mut manifests = Vec::new();
    for (project, site) in PROJECTS.iter().zip(sites(large)) {
        manifests.push(publish(&engine, project, &site).await);
    }
    let manifests: [ManifestId; 2] = manifests.try_into().unwrap();
    engine.close().await;

    let switch = Arc::new(Switch::default());
    let engine = faulty(stores, &switch).await;
    let counters = engine.variant_counters();
    switch.arm(fault);
    engine.make_variants(VariantOptions::default()).unwrap();
    // The test asks the stores below, which answer also when the process is dead.
    let watcher = stores.engine().await;
    let all_made = async {
        for project in PROJECTS {
            made(stores, &watcher, project).await;
        }
    };
    tokio::select! {
        biased;
        () = all_made => {}
        () = switch.died() => {}
    }
    let struck = switch.disarm();
    engine.close().await;
    watcher.close().await;
    let (encoded, stored) = (counters.files(), files_made(stores, large).await);
    let report = stores.fsck().await;
    assert!(report.is_clean(), "{struck:?}: {report:?}");

    let engine = stores.maker().await;
    for project in PROJECTS {
        made(stores, &engine, project).await;
    }
    assert_served(&engine, &manifests, large).await;
    let again = engine.variant_counters().files();
    assert_eq!(again, files - stored, "{struck:?}: what was stored is not made again");
    if fault.how.is_death() {
        assert!(encoded + again <= 2 * files, "{struck:?}: {encoded} and {again}");
    }
    engine.close().await;
    let report = stores.fsck().await;
    assert!(report.is_clean(), "{struck:?}: {report:?}");
    println!("{fault:?}: {struck:?}, {encoded} files encoded before, {again} after");
    struck
}

/// All rounds of one kind of fault, up to the first that there is no operation for; answers how many there were.
async fn sweep(counted: Counted, how: How, large: bool) -> usize {
    let mut rounds = 0;
    loop {
        let some = (rounds..rounds + AT_ONCE).map(|at| async move {
            let (stores, fault) = (Stores::memory(), Fault { counted, at, how });
            round(&stores, fault, large).await
        });
        let struck = join_all(some).await.into_iter().flatten().count();
        rounds += struck;
        if struck < AT_ONCE {
            return rounds;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_variants_survives_a_failure_or_death_at_any_write() {
    for how in How::ALL {
        let large = matches!(how, How::FailAfter | How::DieBefore);
        let rounds = sweep(Counted::Writes, how, large).await;
        // That old images are wanted, a pack, rows, two lists, what was made; the large variants.
        assert!(rounds >= if large { 9 } else { 6 }, "{how:?}: only {rounds} writes were counted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_variants_survives_a_failure_of_any_read() {
    for how in [How::FailBefore, How::FailAfter] {
        let rounds = sweep(Counted::Reads, how, false).await;
        assert!(rounds >= 10, "{how:?}: only {rounds} reads were counted");
    }
}

/// On disks, at some points: each round opens databases.
#[cfg(feature = "rocksdb")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_on_a_disk_survive_a_death_at_a_write() {
    use pinstone_engine::meta::RocksStore;

    for at in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("objects")).unwrap();
        let store = Arc::new(RocksStore::open(&folder.path().join("meta"), clock()).unwrap());
        let objects = object_store::local::LocalFileSystem::new_with_prefix(folder.path().join("objects")).unwrap();
        let stores = Stores { meta: store.clone(), index: store.clone(), objects: Arc::new(objects.with_fsync(true)) };
        let how = if at % 2 == 0 { How::DieBefore } else { How::DieAfter };
        let struck = round(&stores, Fault { counted: Counted::Writes, at, how }, false).await;
        store.close().await;
        if struck.is_none() {
            break;
        }
    }
}

#[cfg(feature = "rocksdb")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_makes_variants_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = |workers| OpenOptions {
        variants: VariantOptions { workers, ..VariantOptions::default() },
        ..OpenOptions::new(folder.path().join("data"))
    };
    let engine = Engine::open(options(0)).await.unwrap();
    let mut manifests = Vec::new();
    for (project, site) in PROJECTS.iter().zip(sites(true)) {
        manifests.push(publish(&engine, project, &site).await);
    }
    engine.close().await;
    drop(engine);

    let engine = Engine::open(options(2)).await.unwrap();
    let counters = engine.variant_counters();
    while counters.manifests() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counters.files(), 4);
    engine.close().await;
    drop(engine);

    let engine = Engine::open(options(1)).await.unwrap();
    assert_served(&engine, &manifests.try_into().unwrap(), true).await;
    assert_eq!(engine.variant_counters().files(), 0);
    engine.close().await;
    drop(engine);
    let report = pinstone_engine::fsck::run(&folder.path().join("data"), |_| {}).await.unwrap();
    assert!(report.is_clean() && report.findings.is_empty(), "{report:?}");
}
