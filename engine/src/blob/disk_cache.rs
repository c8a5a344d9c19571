//! The local disk in front of a store that is far away.
//!
//! A blob is fetched whole, once for all who ask for it at the same time, and hashed while it arrives; nothing of it is
//! handed out before it has the hash that is its name. What is handed out is an open file, which keeps its bytes also
//! when the cache gives the name up. A fetch that has begun goes on when those who asked have left: they, or others,
//! will ask again.
//!
//! The names of the files are the index, so a start reads folders and no contents. What a start found is believed only
//! once it was hashed, when it is first asked for: nothing here is synced, so a power cut may leave anything. Whatever
//! goes wrong with the cache costs a fetch, never an answer, as far as memory allows.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, ObjectStore};
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{BlobSource, FileRegion, ReadError};

mod area;
mod incoming;
mod lru;

use area::{Area, make_private};
use incoming::{Incoming, Sink};

/// Blobs up to this many bytes arrive in memory and are handed out from there.
const SMALL: u64 = 64 << 10;
/// What is fetched into memory where the disk takes nothing, in bytes, and how many of them at a time.
const SPARE: u64 = 8 << 20;
const SPARES: usize = 8;
/// How long a fetch may wait for those before it.
const QUEUE: Duration = Duration::from_secs(10);
/// How often a fetch that broke off goes on where it was, as long as each attempt brings something.
const RESUMES: u32 = 8;
/// After this many fetches in a row that found no store, it counts as down: after a [`REST`] each time, one fetch finds out
/// whether it still is, and whoever else asks is told at once.
const FAILURES: u32 = 4;
const REST: Duration = Duration::from_secs(1);
/// The most disk that is taken where nothing else is said; and never more than half of what there is to be had.
const BYTES: u64 = 10 << 30;
/// The share of manifests in all of it is one part in so many: what all requests of a site need is not to be driven out
/// by its largest files.
const MANIFESTS: u64 = 8;

/// What a file of the cache is named for.
type Key = [u8; 32];

/// The bounds of a cache on the local disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskCacheOptions {
    /// Bytes on the disk; 0 keeps nothing. Without it 10 GiB, or half of what the disk has left where that is less.
    pub bytes: Option<u64>,
    /// Blobs fetched at once; further ones wait. Each holds about 1 MiB in memory.
    pub fetches: usize,
}

impl Default for DiskCacheOptions {
    fn default() -> Self {
        Self { bytes: None, fetches: 64 }
    }
}

/// What kind of thing is cached.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    Blob,
    Manifest,
}

/// Something that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    /// The BLAKE3 of its bytes.
    pub(crate) key: Key,
    /// The object that has it.
    pub(crate) object: ObjectPath,
    /// How many bytes it has and where in the object they begin; `None` where the object is the thing, of any size.
    pub(crate) part: Option<Part>,
}

/// Where in an object something is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Whether it is all of the object, so that no range has to be asked for.
    pub(crate) is_all: bool,
}

/// Why something was not fetched, for all who waited for it.
#[derive(Clone, Debug)]
enum Failure {
    /// The store does not have the object.
    Missing,
    /// The object is not what it is named for.
    Damaged,
    Store(Arc<object_store::Error>),
    /// Too many are being fetched.
    Busy,
    /// Neither disk nor memory has room.
    Disk(Arc<io::Error>),
    /// The task that fetched ended before its time.
    GivenUp,
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        let generic = |source| Self::Store(object_store::Error::Generic { store: "objects", source });
        match failure {
            Failure::Missing => Self::Missing,
            Failure::Damaged => Self::Damaged,
            Failure::Store(error) => generic(Box::new(error)),
            Failure::Busy => generic("too much is being fetched at once".into()),
            Failure::Disk(error) => generic(Box::new(error)),
            Failure::GivenUp => generic("a fetch was given up".into()),
        }
    }
}

impl Failure {
    fn store(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            other => Self::Store(Arc::new(other)),
        }
    }

    fn disk(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

type Landed = Option<Result<BlobSource, Failure>>;
/// By which those who wait for a fetch are told of its end.
type Told = watch::Sender<Landed>;

/// The cache. Clones are the same one; with the last of them, fetches under way end.
#[derive(Clone)]
pub(crate) struct DiskCache {
    shared: Arc<Shared>,
    fetching: Arc<Mutex<JoinSet<()>>>,
}

struct Shared {
    blobs: Area,
    manifests: Area,
    /// Where files grow until they have their names.
    incoming: PathBuf,
    next: AtomicU64,
    /// What is being fetched, and who is told of it.
    flights: Mutex<HashMap<(Kind, Key), Arc<Told>>>,
    fetches: Arc<Semaphore>,
    spares: Semaphore,
    /// How the store did of late.
    health: Mutex<Health>,
}

/// Whether the store is there.
#[derive(Clone, Debug, Default)]
struct Health {
    /// Fetches in a row that did not find it.
    failures: u32,
    /// What the last of them failed with, and until when it is left alone.
    last: Option<(Instant, Failure)>,
    /// Whether a fetch is finding out.
    is_probed: bool,
}

impl Health {
    /// What to answer at once, where the store counts as down and others find out whether it still is.
    fn down(&self) -> Option<Failure> {
        let (until, failure) = self.last.as_ref().filter(|_| self.failures >= FAILURES)?;
        (self.is_probed || Instant::now() < *until).then(|| failure.clone())
    }
}

/// A fetch that finds out how the store does.
struct Probe<'s>(&'s Shared);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.health.lock().is_probed = false;
    }
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskCache({})", self.shared.incoming.display())
    }
}

impl DiskCache {
    /// Opens the cache in `folder`, which is made where it is not there, and takes in what it holds. It reads folders and
    /// may take seconds: not for a thread that serves others.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be made or read.
    pub(crate) fn open(folder: &Path, options: &DiskCacheOptions) -> io::Result<Self> {
        let incoming = folder.join("incoming");
        for path in [folder, &incoming] {
            make_private(path)?;
        }
        // What never got a name.
        for file in fs::read_dir(&incoming)? {
            fs::remove_file(file?.path())?;
        }
        let (blobs, manifests) = (Area::scan(folder.join("blobs"))?, Area::scan(folder.join("manifests"))?);
        let held = blobs.lru.lock().charged() + manifests.lru.lock().charged();
        let bytes = options.bytes.map_or_else(|| default_bytes(folder, held), Ok)?;
        let shared = Shared {
            blobs,
            manifests,
            incoming,
            next: AtomicU64::default(),
            flights: Mutex::default(),
            fetches: Arc::new(Semaphore::new(options.fetches.clamp(1, Semaphore::MAX_PERMITS))),
            spares: Semaphore::new(SPARES),
            health: Mutex::default(),
        };
        let for_manifests = bytes / MANIFESTS;
        shared.manifests.shrink_to(for_manifests);
        shared.blobs.shrink_to(bytes - for_manifests);
        Ok(Self { shared: Arc::new(shared), fetching: Arc::default() })
    }

    /// What is wanted, from the disk, or else from `store`.
    ///
    /// # Errors
    ///
    /// As the store fails, and where it has something else than is wanted.
    pub(crate) async fn get(&self, wanted: Wanted, store: &Arc<dyn ObjectStore>) -> Result<BlobSource, ReadError> {
        if wanted.part.is_some_and(|part| part.length == 0) {
            return Ok(BlobSource::Memory(Bytes::new()));
        }
        if let Some(found) = self.shared.look(&wanted).await {
            return Ok(found);
        }
        let flight = (wanted.kind, wanted.key);
        let mut landed = {
            let mut flights = self.shared.flights.lock();
            match flights.get(&flight) {
                Some(told) => told.subscribe(),
                None => {
                    let (told, landed) = watch::channel(None);
                    let told = Arc::new(told);
                    flights.insert(flight, Arc::clone(&told));
                    self.spawn(wanted, Arc::clone(store), told);
                    landed
                }
            }
        };
        let landed = landed.wait_for(Option::is_some).await.map(|landed| landed.clone());
        landed.ok().flatten().unwrap_or(Err(Failure::GivenUp)).map_err(ReadError::from)
    }

    /// Gives up what is cached under this name, because it is not what it should be; answers whether there was anything.
    pub(crate) async fn forget(&self, kind: Kind, key: Key) -> bool {
        let shared = Arc::clone(&self.shared);
        off_thread(move || shared.area(kind).remove(&key)).await.unwrap_or(false)
    }

    fn spawn(&self, wanted: Wanted, store: Arc<dyn ObjectStore>, told: Arc<Told>) {
        let shared = Arc::clone(&self.shared);
        let mut fetching = self.fetching.lock();
        while fetching.try_join_next().is_some() {}
        fetching.spawn(async move {
            // Also where this panics or is aborted, so that the next one who asks begins anew.
            let flight = Flight { shared: &shared, key: (wanted.kind, wanted.key), told };
            let result = shared.fetch(&wanted, &*store, &flight.told).await;
            flight.land(result);
        });
    }
}

/// A fetch that others wait for.
struct Flight<'s> {
    shared: &'s Shared,
    key: (Kind, Key),
    told: Arc<Told>,
}

impl Flight<'_> {
    /// Tells all who wait. Whoever asks from now on finds it on the disk, or begins anew.
    fn land(self, result: Result<BlobSource, Failure>) {
        self.remove();
        self.told.send_replace(Some(result));
    }

    fn remove(&self) {
        let mut flights = self.shared.flights.lock();
        if flights.get(&self.key).is_some_and(|told| Arc::ptr_eq(told, &self.told)) {
            flights.remove(&self.key);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Shared {
    fn area(&self, kind: Kind) -> &Area {
        match kind {
            Kind::Blob => &self.blobs,
            Kind::Manifest => &self.manifests,
        }
    }

    /// Opens what is on the disk and was found right in this process's time.
    async fn look(self: &Arc<Self>, wanted: &Wanted) -> Option<BlobSource> {
        let (size, open) = self.area(wanted.kind).lru.lock().touch(&wanted.key)?;
        if let Some(file) = open {
            return Some(BlobSource::File(FileRegion { file, offset: 0, length: size }));
        }
        let (shared, kind, key) = (Arc::clone(self), wanted.kind, wanted.key);
        let opened = off_thread(move || {
            let area = shared.area(kind);
            match area.open(&key, size) {
                Ok(file) => Some(area.opened(&key, file)),
                Err(error) => {
                    tracing::warn!(%error, "a cached file is gone or has changed; it is fetched again");
                    area.remove(&key);
                    None
                }
            }
        });
        let file = opened.await.ok().flatten()?;
        Some(BlobSource::File(FileRegion { file, offset: 0, length: size }))
    }

    /// Hashes what an earlier process has left, and opens it where it is right.
    async fn examine(self: &Arc<Self>, wanted: &Wanted) -> Option<BlobSource> {
        let size = self.area(wanted.kind).lru.lock().untrusted(&wanted.key)?;
        let (shared, wanted) = (Arc::clone(self), wanted.clone());
        let examined = off_thread(move || {
            let area = shared.area(wanted.kind);
            let is_right = |file: &File| -> io::Result<bool> {
                let is_long_enough = wanted.part.is_none_or(|part| part.length == size);
                Ok(is_long_enough && hash_file(file)? == wanted.key)
            };
            let opened = area.open(&wanted.key, size);
            match opened.and_then(|file| Ok(is_right(&file)?.then_some(file))) {
                Ok(Some(file)) => {
                    area.lru.lock().trust(&wanted.key);
                    return Some(area.opened(&wanted.key, file));
                }
                Ok(None) => tracing::warn!("a cached file is damaged; it is fetched again"),
                Err(error) => tracing::warn!(%error, "a cached file cannot be read; it is fetched again"),
            }
            area.remove(&wanted.key);
            None
        });
        let file = examined.await.ok().flatten()?;
        Some(BlobSource::File(FileRegion { file, offset: 0, length: size }))
    }

    /// Fetches what is wanted, unless it is there by now, and checks it.
    async fn fetch(
        self: &Arc<Self>,
        wanted: &Wanted,
        store: &dyn ObjectStore,
        told: &Told,
    ) -> Result<BlobSource, Failure> {
        // An earlier fetch may have ended between the look at the disk and this one's beginning.
        if let Some(found) = self.look(wanted).await {
            return Ok(found);
        }
        if let Some(found) = self.examine(wanted).await {
            return Ok(found);
        }
        if let Some(failure) = self.health.lock().down() {
            return Err(failure);
        }
        let _turn = self.turn().await?;
        // Those who asked may have left while this one waited its turn, and the store may have gone.
        if self.is_abandoned((wanted.kind, wanted.key), told) {
            return Err(Failure::GivenUp);
        }
        let _probe = self.probe()?;
        let fetched = match self.download(wanted, store, false).await {
            Err(Failure::Disk(error)) => {
                tracing::warn!(%error, "the cache takes nothing; small files are fetched into memory");
                let fits = wanted.part.is_none_or(|part| part.length <= SPARE);
                let _spare = self.spares.acquire().await.map_err(|_| Failure::GivenUp)?;
                if fits { self.download(wanted, store, true).await } else { Err(Failure::Disk(error)) }
            }
            other => other,
        };
        self.note(&fetched);
        fetched
    }

    /// Whether nobody waits for a fetch. Then nobody will: whoever asks from now on begins another.
    fn is_abandoned(&self, key: (Kind, Key), told: &Told) -> bool {
        // Under the lock under which others join.
        let mut flights = self.flights.lock();
        let is_abandoned = told.receiver_count() == 0;
        if is_abandoned {
            flights.remove(&key);
        }
        is_abandoned
    }

    /// Waits for a turn to fetch.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        match tokio::time::timeout(QUEUE, Arc::clone(&self.fetches).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Failure::GivenUp),
            Err(_) => Err(Failure::Busy),
        }
    }

    /// Fails at once where the store counts as down; finds out whether it still is where nobody else does.
    fn probe(&self) -> Result<Option<Probe<'_>>, Failure> {
        let mut health = self.health.lock();
        if let Some(failure) = health.down() {
            return Err(failure);
        }
        health.is_probed = health.failures >= FAILURES;
        // Only where it is to be: dropping one takes the lock.
        Ok(health.is_probed.then(|| Probe(self)))
    }

    /// Remembers how the store did.
    fn note(&self, fetched: &Result<BlobSource, Failure>) {
        let mut health = self.health.lock();
        match fetched {
            Err(failure @ Failure::Store(error)) => {
                // An answer of any kind is one: a store that fails one object may well have the others.
                if found_no_store(error) {
                    health.failures = health.failures.saturating_add(1);
                    health.last = Some((Instant::now() + REST, failure.clone()));
                }
            }
            Ok(_) | Err(Failure::Missing | Failure::Damaged) => health.failures = 0,
            Err(Failure::Busy | Failure::Disk(_) | Failure::GivenUp) => {}
        }
    }

    /// Fetches it, into memory where it is small or has to go there, and keeps it on the disk where that has room.
    async fn download(
        self: &Arc<Self>,
        wanted: &Wanted,
        store: &dyn ObjectStore,
        into_memory: bool,
    ) -> Result<BlobSource, Failure> {
        let (mut part, mut done, mut resumed) = (wanted.part, 0, 0);
        let mut sink: Option<Sink> = None;
        loop {
            let mut options = GetOptions::default();
            if let Some(part) = part.filter(|part| !part.is_all || done > 0) {
                options.range = Some((part.offset + done..part.offset + part.length).into());
            }
            let mut arrived = 0;
            let received = async {
                let got = store.get_opts(&wanted.object, options).await.map_err(Failure::store)?;
                let end = part.map_or(got.meta.size, |part| part.offset + part.length);
                let is_right =
                    if part.is_some_and(|part| !part.is_all) { got.meta.size >= end } else { got.meta.size == end };
                if !is_right {
                    return Err(Failure::Damaged);
                }
                let part = part.get_or_insert(Part { offset: 0, length: end, is_all: true });
                let sink = match &mut sink {
                    Some(sink) => sink,
                    none => none.insert(self.sink(part.length, into_memory).await?),
                };
                let mut stream = got.into_stream();
                while let Some(piece) = stream.next().await {
                    let piece = piece.map_err(Failure::store)?;
                    arrived += piece.len() as u64;
                    if done + arrived > part.length {
                        return Err(Failure::Damaged);
                    }
                    sink.take(piece).await?;
                }
                Ok(())
            };
            let received = received.await;
            done += arrived;
            match received {
                Ok(()) | Err(Failure::Store(_)) if part.is_some_and(|part| part.length == done) => break,
                // The stream ended early, or broke off: what is there is kept as long as it grows.
                Ok(()) | Err(Failure::Store(_)) if arrived > 0 && resumed < RESUMES => resumed += 1,
                Ok(()) => {
                    let source = Box::new(io::Error::from(io::ErrorKind::UnexpectedEof));
                    return Err(Failure::store(object_store::Error::Generic { store: "objects", source }));
                }
                Err(failure) => return Err(failure),
            }
        }
        let sink = sink.expect("the loop ends only after something was received");
        self.keep(wanted, sink, done).await
    }

    /// Makes place for `length` bytes.
    async fn sink(self: &Arc<Self>, length: u64, into_memory: bool) -> Result<Sink, Failure> {
        if length <= SMALL || (into_memory && length <= SPARE) {
            let capacity = usize::try_from(length).map_err(|_| Failure::Damaged)?;
            return Ok(Sink::Memory(BytesMut::with_capacity(capacity)));
        }
        if into_memory {
            return Err(Failure::disk(io::ErrorKind::StorageFull.into()));
        }
        let shared = Arc::clone(self);
        let made = off_thread(move || shared.make_incoming(length)).await?;
        made.map(|incoming| Sink::File(Box::new(incoming))).map_err(Failure::disk)
    }

    /// A file with room for `length` bytes. A full disk has room once the cache gives some of it back.
    fn make_incoming(&self, length: u64) -> io::Result<Incoming> {
        let path = self.incoming.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let incoming = Incoming::create(path)?;
        let reserve =
            || rustix::fs::fallocate(&*incoming.file, FallocateFlags::empty(), 0, length).map_err(io::Error::from);
        match reserve() {
            Err(error) if is_full(&error) => {
                tracing::warn!("the disk of the cache is full; the cache gives some of it back");
                self.blobs.free(length.max(64 << 20));
                reserve()?;
            }
            // Not every file system reserves, and those that do not need not.
            Ok(()) | Err(_) => {}
        }
        Ok(incoming)
    }

    /// Checks what has arrived, and gives it its place.
    async fn keep(self: &Arc<Self>, wanted: &Wanted, sink: Sink, length: u64) -> Result<BlobSource, Failure> {
        let (shared, kind, key) = (Arc::clone(self), wanted.kind, wanted.key);
        match sink {
            Sink::Memory(bytes) => {
                let bytes = bytes.freeze();
                off_thread(move || {
                    if blake3::hash(&bytes).as_bytes() != &key {
                        return Err(Failure::Damaged);
                    }
                    // Where the disk does not take it, it is answered all the same.
                    if let Err(error) = shared.write_small(kind, key, &bytes) {
                        tracing::debug!(%error, "a file was not cached");
                    }
                    Ok(BlobSource::Memory(bytes))
                })
                .await?
            }
            Sink::File(mut incoming) => {
                incoming.flush().await?;
                off_thread(move || {
                    if incoming.hasher.finalize().as_bytes() != &key {
                        return Err(Failure::Damaged);
                    }
                    let file = Arc::clone(&incoming.file);
                    if let Err(error) = shared.area(kind).adopt(key, length, &mut incoming) {
                        tracing::debug!(%error, "a file was not cached");
                    }
                    Ok(BlobSource::File(FileRegion { file, offset: 0, length }))
                })
                .await?
            }
        }
    }

    fn write_small(&self, kind: Kind, key: Key, bytes: &[u8]) -> io::Result<()> {
        let area = self.area(kind);
        if !area.lru.lock().has_room_for(bytes.len() as u64) {
            return Ok(());
        }
        let mut incoming = self.make_incoming(bytes.len() as u64)?;
        incoming.file.write_all_at(bytes, 0)?;
        area.adopt(key, bytes.len() as u64, &mut incoming)
    }
}

fn hash_file(mut file: &File) -> io::Result<Key> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(read) => drop(hasher.update(&buffer[..read])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether nothing was heard of the store at all.
#[cfg(feature = "s3")]
fn found_no_store(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<object_store::client::HttpError>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(not(feature = "s3"))]
fn found_no_store(_: &object_store::Error) -> bool {
    false
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// How much the cache may take where nobody said: the disk is the metadata's too.
fn default_bytes(folder: &Path, held: u64) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder).map_err(io::Error::from)?;
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(BYTES.min(left.saturating_add(held) / 2))
}

/// Runs what waits for a disk, or computes.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::GivenUp)
}

#[cfg(test)]
mod tests;
