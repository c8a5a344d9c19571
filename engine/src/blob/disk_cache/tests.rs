use std::os::unix::fs::PermissionsExt;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::incoming::BATCH;
use super::*;

/// A store that counts what it is asked, and waits or fails where a test says so.
#[derive(Debug, Default)]
struct Far {
    inner: InMemory,
    gets: AtomicU64,
    /// Each GET takes one, where there is this.
    gate: Option<Semaphore>,
    fault: Mutex<Fault>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    Down,
    /// Every answer breaks off after so many bytes.
    Cut(usize),
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Far")
    }
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "Far", source: "out of reach".into() }
}

#[async_trait]
impl ObjectStore for Far {
    async fn put_opts(&self, at: &ObjectPath, what: PutPayload, o: PutOptions) -> object_store::Result<PutResult> {
        self.inner.put_opts(at, what, o).await
    }

    async fn put_multipart_opts(
        &self,
        at: &ObjectPath,
        o: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let fault = *self.fault.lock();
        if fault == Fault::Down {
            return Err(broken());
        }
        let mut got = self.inner.get_opts(at, options).await?;
        if let Fault::Cut(after) = fault {
            let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
            let bytes = got.bytes().await?;
            let part = bytes.slice(..after.min(bytes.len()));
            let pieces = vec![Ok(part), Err(broken())];
            let payload = GetResultPayload::Stream(futures_util::stream::iter(pieces).boxed());
            got = GetResult { payload, meta, range, attributes, extensions: Default::default() };
        }
        Ok(got)
    }

    fn delete_stream(
        &self,
        which: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(which)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, o: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, o).await
    }
}

struct World {
    far: Arc<Far>,
    store: Arc<dyn ObjectStore>,
    cache: DiskCache,
    folder: tempfile::TempDir,
}

fn world() -> World {
    world_with(Far::default(), &DiskCacheOptions { bytes: Some(64 << 20), ..DiskCacheOptions::default() })
}

fn world_with(far: Far, options: &DiskCacheOptions) -> World {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(&folder.path().join("cache"), options).unwrap();
    let far = Arc::new(far);
    World { store: far.clone(), far, cache, folder }
}

fn noise(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

impl World {
    /// Puts bytes into the store, and says how to ask for them.
    async fn put(&self, bytes: &Bytes) -> Wanted {
        let key = *blake3::hash(bytes).as_bytes();
        let object = ObjectPath::from(format!("blobs/{}", crate::hex::encode(&key)));
        self.far.inner.put(&object, PutPayload::from(bytes.clone())).await.unwrap();
        let part = Some(Part { offset: 0, length: bytes.len() as u64, is_all: true });
        Wanted { kind: Kind::Blob, key, object, part }
    }

    async fn get(&self, wanted: &Wanted) -> Result<Bytes, ReadError> {
        self.cache.get(wanted.clone(), &self.store).await?.read().await
    }

    fn gets(&self) -> u64 {
        self.far.gets.load(Ordering::SeqCst)
    }

    fn fail(&self, fault: Fault) {
        *self.far.fault.lock() = fault;
    }

    /// The same cache after a restart.
    fn reopen(self, bytes: u64) -> Self {
        let Self { far, store, cache, folder } = self;
        drop(cache);
        let options = DiskCacheOptions { bytes: Some(bytes), ..DiskCacheOptions::default() };
        let cache = DiskCache::open(&folder.path().join("cache"), &options).unwrap();
        Self { far, store, cache, folder }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().join("cache")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

#[tokio::test]
async fn what_was_fetched_is_not_fetched_again() {
    let world = world();
    let small = usize::try_from(SMALL).unwrap();
    for length in [1, 100, small, small + 1, BATCH, 3 * BATCH + 17] {
        let bytes = noise(length as u64, length);
        let wanted = world.put(&bytes).await;
        let before = world.gets();
        for _ in 0..3 {
            assert_eq!(world.get(&wanted).await.unwrap(), bytes, "{length} bytes");
        }
        assert_eq!(world.gets() - before, 1, "{length} bytes");
    }
    let empty = world.put(&Bytes::new()).await;
    assert_eq!((world.get(&empty).await.unwrap().len(), world.gets()), (0, 6), "nothing is not asked for");
    assert!(world.files().iter().all(|file| fs::metadata(file).unwrap().permissions().mode() & 0o077 == 0));
}

#[tokio::test]
async fn parts_of_an_object_and_objects_of_unknown_size() {
    let world = world();
    let pack = noise(1, 500_000);
    let object = ObjectPath::from("packs/one");
    world.far.inner.put(&object, PutPayload::from(pack.clone())).await.unwrap();
    for (offset, length) in [(0, 10), (100, 300_000), (499_999, 1)] {
        let bytes = pack.slice(offset..offset + length);
        let part = Some(Part { offset: offset as u64, length: length as u64, is_all: false });
        let wanted = Wanted { kind: Kind::Blob, key: *blake3::hash(&bytes).as_bytes(), object: object.clone(), part };
        assert_eq!(world.get(&wanted).await.unwrap(), bytes);
        assert_eq!(world.get(&wanted).await.unwrap(), bytes);
    }
    assert_eq!(world.gets(), 3);
    let beyond = Part { offset: 499_999, length: 2, is_all: false };
    let wanted = Wanted { kind: Kind::Blob, key: [1; 32], object: object.clone(), part: Some(beyond) };
    assert!(world.get(&wanted).await.is_err());

    let whole = Wanted { kind: Kind::Manifest, key: *blake3::hash(&pack).as_bytes(), object, part: None };
    assert_eq!(world.get(&whole).await.unwrap(), pack);
    assert_eq!(world.get(&whole).await.unwrap(), pack);
    assert_eq!(world.gets(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_ask_and_one_fetches() {
    let world = world_with(Far { gate: Some(Semaphore::new(0)), ..Far::default() }, &DiskCacheOptions::default());
    for length in [1000, 3 << 20] {
        let bytes = noise(2, length);
        let wanted = world.put(&bytes).await;
        let before = world.gets();
        let mut asking = JoinSet::new();
        for _ in 0..10_000 {
            let (cache, store, wanted) = (world.cache.clone(), Arc::clone(&world.store), wanted.clone());
            asking.spawn(async move { cache.get(wanted, &store).await.unwrap().len() });
        }
        let flight = (Kind::Blob, wanted.key);
        let waiting = || world.cache.shared.flights.lock().get(&flight).map_or(0, |told| told.receiver_count());
        while waiting() < 10_000 {
            tokio::task::yield_now().await;
        }
        world.far.gate.as_ref().unwrap().add_permits(1);
        while let Some(asked) = asking.join_next().await {
            assert_eq!(asked.unwrap(), length as u64);
        }
        assert_eq!(world.gets() - before, 1, "{length} bytes");
        assert!(world.cache.shared.flights.lock().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_goes_on_when_the_first_who_asked_has_left() {
    let world = world_with(Far { gate: Some(Semaphore::new(0)), ..Far::default() }, &DiskCacheOptions::default());
    let bytes = noise(3, 1 << 20);
    let wanted = world.put(&bytes).await;
    let (cache, store, first) = (world.cache.clone(), Arc::clone(&world.store), wanted.clone());
    let first = tokio::spawn(async move { cache.get(first, &store).await.map(|found| found.len()) });
    while world.gets() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let second = world.get(&wanted);
    world.far.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(second.await.unwrap(), bytes);
    assert_eq!(world.gets(), 1);
}

#[tokio::test]
async fn nothing_wrong_is_handed_out_or_kept() {
    for length in [1000, 300_000] {
        let world = world();
        let bytes = noise(4, length);
        let wanted = world.put(&bytes).await;
        let mut wrong = bytes.to_vec();
        wrong[length / 2] ^= 1;
        for wrong in [wrong.clone(), wrong[1..].to_vec(), [wrong, vec![1]].concat()] {
            world.far.inner.put(&wanted.object, PutPayload::from(wrong)).await.unwrap();
            assert!(matches!(world.get(&wanted).await, Err(ReadError::Damaged)), "{length} bytes");
            assert!(world.files().is_empty(), "{:?}", world.files());
        }
        world.far.inner.delete(&wanted.object).await.unwrap();
        assert!(matches!(world.get(&wanted).await, Err(ReadError::Missing)));
        world.put(&bytes).await;
        assert_eq!(world.get(&wanted).await.unwrap(), bytes, "it is served once it is back");
    }
}

#[tokio::test]
async fn what_is_cached_is_served_while_the_store_is_down_and_the_rest_once_it_is_back() {
    let world = world();
    let (known, unknown) = (noise(5, 200_000), noise(6, 200_000));
    let (known_at, unknown_at) = (world.put(&known).await, world.put(&unknown).await);
    assert_eq!(world.get(&known_at).await.unwrap(), known);
    world.fail(Fault::Down);
    for _ in 0..20 {
        assert_eq!(world.get(&known_at).await.unwrap(), known);
        assert!(matches!(world.get(&unknown_at).await, Err(ReadError::Store(_))));
    }
    world.fail(Fault::None);
    assert_eq!(world.get(&unknown_at).await.unwrap(), unknown);
}

#[tokio::test]
async fn a_fetch_that_breaks_off_goes_on_where_it_was() {
    let world = world();
    let bytes = noise(7, 400_000);
    let wanted = world.put(&bytes).await;
    world.fail(Fault::Cut(100_000));
    assert_eq!(world.get(&wanted).await.unwrap(), bytes);
    // The last of four pieces breaks off after its last byte, which is as good as an end.
    assert_eq!(world.gets(), 4);
    let endless = world.put(&noise(8, 400_000)).await;
    world.fail(Fault::Cut(1000));
    assert!(matches!(world.get(&endless).await, Err(ReadError::Store(_))), "it is given up at last");
    world.fail(Fault::Cut(0));
    let before = world.gets();
    assert!(world.get(&endless).await.is_err());
    assert_eq!(world.gets() - before, 1, "what brings nothing is not asked again");
}

#[tokio::test]
async fn a_restart_keeps_what_is_right_and_notices_what_is_not() {
    let mut world = world();
    let all: Vec<Bytes> = (10..14).map(|seed| noise(seed, 100_000)).collect();
    let mut wanted = Vec::new();
    for bytes in &all {
        wanted.push(world.put(bytes).await);
        world.get(wanted.last().unwrap()).await.unwrap();
    }
    let path = |world: &World, wanted: &Wanted| world.cache.shared.blobs.path(&wanted.key);
    let damage = |path: PathBuf, work: &dyn Fn(&File)| work(&File::options().write(true).open(path).unwrap());
    damage(path(&world, &wanted[1]), &|file| file.write_all_at(b"x", 50_000).unwrap());
    damage(path(&world, &wanted[2]), &|file| file.set_len(99_999).unwrap());
    fs::remove_file(path(&world, &wanted[3])).unwrap();
    fs::write(world.folder.path().join("cache/incoming/7"), "what a crash left").unwrap();
    fs::write(world.folder.path().join("cache/blobs/stranger"), "x").unwrap();
    world = world.reopen(64 << 20);
    assert_eq!(world.gets(), 4);
    for (number, (wanted, bytes)) in wanted.iter().zip(&all).enumerate() {
        for _ in 0..2 {
            assert_eq!(world.get(wanted).await.unwrap(), bytes, "number {number}");
        }
        assert_eq!(world.gets(), 4 + number as u64, "all but the first are fetched again, once");
    }
    assert!(fs::read_dir(world.folder.path().join("cache/incoming")).unwrap().next().is_none());

    // What goes wrong while it runs: a length that is another, and a name that is gone, are noticed too.
    damage(path(&world, &wanted[0]), &|file| file.set_len(5).unwrap());
    fs::remove_file(path(&world, &wanted[1])).unwrap();
    for (wanted, bytes) in wanted.iter().zip(&all).take(2) {
        assert_eq!(world.get(wanted).await.unwrap(), bytes);
    }
    assert_eq!(world.gets(), 9);
    assert!(world.cache.forget(Kind::Blob, wanted[2].key).await);
    assert!(!world.cache.forget(Kind::Blob, wanted[2].key).await);
    assert_eq!(world.get(&wanted[2]).await.unwrap(), all[2]);
    assert_eq!(world.gets(), 10);
}

#[tokio::test]
async fn the_cache_keeps_to_its_bound_and_open_files_keep_their_bytes() {
    let room = 10 * (100_000_u64.div_ceil(4096) + 1) * 4096;
    // Manifests have an eighth of it to themselves.
    let options = DiskCacheOptions { bytes: Some(room * 8 / 7 + 8), ..DiskCacheOptions::default() };
    let world = world_with(Far::default(), &options);
    let all: Vec<Bytes> = (20..40).map(|seed| noise(seed, 100_000)).collect();
    let first = world.put(&all[0]).await;
    let open = world.cache.get(first.clone(), &world.store).await.unwrap();
    for bytes in &all[1..] {
        let wanted = world.put(bytes).await;
        world.get(&wanted).await.unwrap();
        assert!(world.files().len() <= 10, "{} files", world.files().len());
    }
    assert_eq!(world.files().len(), 10);
    let before = world.gets();
    assert_eq!(world.get(&first).await.unwrap(), all[0]);
    assert_eq!(world.gets(), before, "others have gone before the one that is open");
    assert!(world.cache.forget(Kind::Blob, first.key).await);
    assert_eq!(world.files().len(), 9);
    assert_eq!(open.read().await.unwrap(), all[0], "it was opened before it lost its name");
    assert_eq!(world.get(&first).await.unwrap(), all[0]);
    assert_eq!(world.gets() - before, 1);

    // One that is larger than all of it is answered, and not kept.
    let huge = noise(41, 2_000_000);
    let wanted = world.put(&huge).await;
    assert_eq!(world.get(&wanted).await.unwrap(), huge);
    assert_eq!(world.files().len(), 10);
    // A start with less room makes room.
    let world = world.reopen(room / 2);
    assert!(world.files().len() <= 5, "{} files", world.files().len());
    let world = world.reopen(0);
    assert!(world.files().is_empty());
    assert_eq!(world.get(&wanted).await.unwrap(), huge, "a cache of nothing passes everything on");
    assert!(world.files().is_empty());
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_answered_from_memory() {
    let world = world();
    let (small, middle, large) = (noise(50, 1000), noise(51, 1 << 20), noise(52, 9 << 20));
    let wanted = [world.put(&small).await, world.put(&middle).await, world.put(&large).await];
    // Nothing can be written there: not even by root.
    fs::remove_dir(world.folder.path().join("cache/incoming")).unwrap();
    assert_eq!(world.get(&wanted[0]).await.unwrap(), small);
    assert_eq!(world.get(&wanted[1]).await.unwrap(), middle);
    assert!(matches!(world.get(&wanted[2]).await, Err(ReadError::Store(_))), "memory is bounded");
    fs::create_dir(world.folder.path().join("cache/incoming")).unwrap();
    for (wanted, bytes) in wanted.iter().zip([small, middle, large]) {
        assert_eq!(world.get(wanted).await.unwrap(), bytes, "it goes on without a restart");
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_are_bounded_and_who_waits_too_long_is_told() {
    let options = DiskCacheOptions { bytes: Some(64 << 20), fetches: 2 };
    let world = world_with(Far { gate: Some(Semaphore::new(0)), ..Far::default() }, &options);
    let mut asking = JoinSet::new();
    for seed in 60..65 {
        let wanted = world.put(&noise(seed, 1000)).await;
        let (cache, store) = (world.cache.clone(), Arc::clone(&world.store));
        asking.spawn(async move { cache.get(wanted, &store).await.is_ok() });
    }
    for _ in 0..3 {
        assert!(!asking.join_next().await.unwrap().unwrap(), "three have waited too long");
    }
    assert_eq!(world.gets(), 2);
    world.far.gate.as_ref().unwrap().add_permits(2);
    while let Some(asked) = asking.join_next().await {
        assert!(asked.unwrap(), "those whose turn it was are answered");
    }
}

#[tokio::test]
async fn who_comes_when_a_fetch_is_given_up_begins_another() {
    let world = world();
    let (key, shared) = ((Kind::Blob, [7; 32]), &world.cache.shared);
    let (told, landed) = watch::channel(None);
    let told = Arc::new(told);
    shared.flights.lock().insert(key, Arc::clone(&told));
    assert!(!shared.is_abandoned(key, &told), "somebody waits for it");
    drop(landed);
    assert!(shared.is_abandoned(key, &told));
    assert!(shared.flights.lock().is_empty(), "nobody can join it any more");
}
