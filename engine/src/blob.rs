//! The blob store: hash in, bytes out, over any object store.
//!
//! A blob is stored in two steps, object then index row, each durable before the next begins; a crash in between leaves
//! an object that nothing names. Bytes are hashed while they stream, and the object gets its name only after they
//! matched, so nothing that does not match is ever visible. Stored objects are never rewritten, only unlinked: an open
//! file keeps its bytes.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload};

use crate::hash::{BlobHash, ManifestId, VariantListId};
use crate::id::{PackId, PlanId, TeamId};
use crate::manifest::{Manifest, ManifestError};

mod batch;
mod bulk;
mod disk_cache;
pub mod index;
mod multipart;
mod object_writer;
pub mod pack;
mod remote;
mod variants;
mod verify;

pub(crate) use batch::{BatchWriter, Packed};
pub(crate) use bulk::Unsynced;
pub(crate) use disk_cache::DiskCache;
pub use disk_cache::DiskCacheOptions;
use object_writer::{GATHER, IN_FLIGHT, ObjectWriter, PART};
use remote::Heard;
pub(crate) use remote::Writing;
pub(crate) use variants::NewVariant;

pub use index::{BlobIndex, BlobRecord, BlobState, IndexError, IndexWrite, Location, Made, MadeOf, Owner, VariantKey};
pub use verify::{Digests, Hasher};

/// Why a blob was not stored. Whichever it is, nothing became visible.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The bytes are not those that were announced.
    #[error("the bytes do not have the hash that they were announced under")]
    HashMismatch,
    /// There are more or fewer bytes than announced.
    #[error("{actual} bytes arrived and {expected} were announced")]
    SizeMismatch {
        /// How many were announced.
        expected: u64,
        /// How many arrived before the upload was given up or ended.
        actual: u64,
    },
    /// There are more bytes than a file may have.
    #[error("a file has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The body broke off.
    #[error("the body broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The object store did not take it.
    #[error("the object store did not take the blob")]
    Store(#[from] object_store::Error),
    /// The index did not take it.
    #[error("the blob index did not take the blob")]
    Index(#[from] IndexError),
}

/// Why a blob or manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing is stored under this name.
    #[error("nothing is stored under this name")]
    Missing,
    /// What is stored is not what it is named for.
    #[error("what is stored under this name is damaged")]
    Damaged,
    /// A manifest's bytes are none.
    #[error("the stored manifest cannot be read")]
    Manifest(#[from] ManifestError),
    /// The object store failed.
    #[error("the object store did not answer")]
    Store(#[source] object_store::Error),
    /// The index failed.
    #[error("the blob index did not answer")]
    Index(#[from] IndexError),
}

impl From<object_store::Error> for ReadError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            other => Self::Store(other),
        }
    }
}

/// Where a blob's bytes can be had, without having copied any.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// A region of an open file that is never rewritten.
    File(FileRegion),
    /// Bytes in memory.
    Memory(Bytes),
}

impl BlobSource {
    /// How many bytes the blob has.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::File(region) => region.length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Whether the blob is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of its bytes, in memory.
    async fn read(self) -> Result<Bytes, ReadError> {
        let region = match self {
            Self::Memory(bytes) => return Ok(bytes),
            Self::File(region) => region,
        };
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(region.length).map_err(|_| ReadError::Damaged)?];
            region.file.read_exact_at(&mut bytes, region.offset).map_err(|_| ReadError::Damaged)?;
            Ok(Bytes::from(bytes))
        });
        read.await.map_err(|_| ReadError::Damaged)?
    }
}

/// A region of an open file.
#[derive(Clone, Debug)]
pub struct FileRegion {
    /// The file; closed when the last region of it is dropped.
    pub file: Arc<File>,
    /// Where the region starts in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// Stores blobs, manifests and plans' bodies in an object store, and knows blobs by its index.
#[derive(Clone)]
pub struct BlobStore {
    objects: Arc<dyn ObjectStore>,
    index: Arc<dyn BlobIndex>,
    /// For many objects at once; without it, `objects` does.
    unsynced: Option<Unsynced>,
    /// How large objects are written.
    writing: Writing,
    /// In front of objects that are far away.
    cache: Option<DiskCache>,
    heard: Arc<Heard>,
}

impl fmt::Debug for BlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobStore({})", self.objects)
    }
}

impl BlobStore {
    /// Puts the two together. `objects` must make what it acknowledges durable.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, index: Arc<dyn BlobIndex>) -> Self {
        let (writing, heard) = (Writing::default(), Arc::default());
        Self { objects, index, unsynced: None, writing, cache: None, heard }
    }

    /// The index of this store's blobs.
    #[must_use]
    pub fn index(&self) -> &Arc<dyn BlobIndex> {
        &self.index
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Stores `body` as the blob `hash` of `team`, durably, and answers what was measured on the way.
    ///
    /// The body is read to its end and hashed even where the blob is there already, because `team` has to show that it
    /// has the bytes; it is then not stored again.
    ///
    /// # Errors
    ///
    /// Where the body is not `hash`, is not `size` bytes long, has more than `limit` bytes or breaks off, and where a
    /// store fails.
    pub async fn put<S, E>(
        &self,
        team: TeamId,
        hash: BlobHash,
        size: Option<u64>,
        limit: u64,
        mut body: S,
    ) -> Result<Digests, PutError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stored = self.index.get(&[hash]).await?.pop().flatten();
        let stored = stored.is_some_and(|record| record.state == BlobState::Live);
        let mut bound = Bound { expected: size, limit, seen: 0 };
        let mut hasher = Hasher::default();
        let mut object = (!stored).then(|| ObjectWriter::new(&self.objects, blob_path(&hash), &self.writing));
        let received = async {
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(|error| PutError::Body(error.into()))?;
                bound.take(chunk.len())?;
                hasher.update(&chunk);
                if let Some(object) = &mut object {
                    object.write(chunk).await?;
                }
            }
            bound.end()
        };
        let received = received.await;
        let digests = hasher.finish();
        let matched = received.and_then(|()| if digests.blake3 == hash { Ok(()) } else { Err(PutError::HashMismatch) });
        match (matched, object) {
            (Ok(()), Some(object)) => object.finish().await?,
            (Ok(()), None) => {}
            (Err(error), object) => {
                if let Some(object) = object {
                    object.abort().await;
                }
                return Err(error);
            }
        }
        let mut writes = vec![IndexWrite::Own { team, hash }];
        if !stored {
            writes.push(IndexWrite::Put { hash, record: BlobRecord::stored(Location::Single, &digests) });
        }
        self.index.write(writes).await?;
        Ok(digests)
    }

    /// Opens a blob for reading, without copying its bytes where the object store has files.
    ///
    /// # Errors
    ///
    /// [`ReadError::Missing`] where no such blob is stored, [`ReadError::Damaged`] where its object is shorter than the
    /// index says, and where a store fails.
    pub async fn open(&self, hash: &BlobHash) -> Result<BlobSource, ReadError> {
        let record = self.index.get(&[*hash]).await?.pop().flatten().ok_or(ReadError::Missing)?;
        self.open_at(hash, &record).await
    }

    /// Opens the blob that `record` of the index describes.
    ///
    /// # Errors
    ///
    /// As [`BlobStore::open`].
    pub async fn open_at(&self, hash: &BlobHash, record: &BlobRecord) -> Result<BlobSource, ReadError> {
        if let Some(cache) = &self.cache {
            return self.open_cached(cache, hash, record).await;
        }
        let (object, offset) = object_of(hash, record);
        let result = self.objects.get(&object).await?;
        let end = offset.checked_add(record.size).ok_or(ReadError::Damaged)?;
        if result.meta.size < end {
            return Err(ReadError::Damaged);
        }
        match result.payload {
            GetResultPayload::File(file, _) => {
                Ok(BlobSource::File(FileRegion { file: Arc::new(file), offset, length: record.size }))
            }
            // Stores refuse an empty range.
            GetResultPayload::Stream(_) if record.size == 0 => Ok(BlobSource::Memory(Bytes::new())),
            GetResultPayload::Stream(_) => {
                let bytes = self.objects.get_range(&object, offset..end).await?;
                Ok(BlobSource::Memory(bytes))
            }
        }
    }

    /// Reads all of a blob into memory. Its bytes are not checked.
    pub(crate) async fn read(&self, hash: &BlobHash) -> Result<Bytes, ReadError> {
        self.open(hash).await?.read().await
    }

    /// Reads a blob to its end and hashes what is stored: what `fsck` asks.
    ///
    /// # Errors
    ///
    /// As [`BlobStore::open`].
    pub async fn digest(&self, hash: &BlobHash, record: &BlobRecord) -> Result<Digests, ReadError> {
        let mut hasher = Hasher::default();
        let (object, offset) = object_of(hash, record);
        let whole = matches!(record.location, Location::Single);
        // Stores refuse an empty range, and nothing of the pack is needed.
        if !whole && record.size == 0 {
            return Ok(hasher.finish());
        }
        let end = offset.checked_add(record.size).ok_or(ReadError::Damaged)?;
        let options = object_store::GetOptions {
            range: (!whole).then(|| (offset..end).into()),
            ..object_store::GetOptions::default()
        };
        let mut stream = match self.objects.get_opts(&object, options).await {
            Ok(result) => result.into_stream(),
            // A range beyond the end fails in every store with another error.
            Err(_) if !whole && self.objects.head(&object).await?.size < end => return Err(ReadError::Damaged),
            Err(error) => return Err(error.into()),
        };
        while let Some(chunk) = stream.try_next().await? {
            hasher.update(&chunk);
        }
        Ok(hasher.finish())
    }

    /// Stores a manifest's bytes under their digest, durably.
    pub(crate) async fn put_manifest(&self, id: &ManifestId, bytes: Bytes) -> Result<(), object_store::Error> {
        self.objects.put(&manifest_path(id), PutPayload::from(bytes)).await.map(drop)
    }

    /// Reads a manifest and checks it: that its bytes have this digest, and all that [`Manifest::open`] checks.
    ///
    /// # Errors
    ///
    /// [`ReadError::Missing`], [`ReadError::Damaged`] where the bytes have another digest, [`ReadError::Manifest`] where
    /// they are no manifest that this program knows, and where the store fails.
    pub async fn manifest(&self, id: &ManifestId) -> Result<Manifest, ReadError> {
        let bytes = self.manifest_bytes(id).await?;
        // 200,000 entries take milliseconds to check, which is too long for a thread that serves others.
        let manifest =
            tokio::task::spawn_blocking(move || Manifest::open(bytes)).await.map_err(|_| ReadError::Damaged)?;
        match manifest {
            Ok(manifest) if manifest.id() == *id => Ok(manifest),
            Ok(_) => Err(ReadError::Damaged),
            Err(newer @ ManifestError::Newer { .. }) => Err(newer.into()),
            Err(_) => Err(ReadError::Damaged),
        }
    }

    /// Stores the body of a plan, durably.
    pub(crate) async fn put_plan(&self, id: &PlanId, bytes: Bytes) -> Result<(), object_store::Error> {
        self.objects.put(&plan_path(id), PutPayload::from(bytes)).await.map(drop)
    }

    /// Reads the body of a plan.
    pub(crate) async fn plan(&self, id: &PlanId) -> Result<Bytes, object_store::Error> {
        self.objects.get(&plan_path(id)).await?.bytes().await
    }

    /// Removes the body of a plan that is over. Its absence is not an error.
    pub(crate) async fn delete_plan(&self, id: &PlanId) -> Result<(), object_store::Error> {
        match self.objects.delete(&plan_path(id)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Counts an upload's bytes against what was announced and what is allowed.
struct Bound {
    expected: Option<u64>,
    limit: u64,
    seen: u64,
}

impl Bound {
    fn take(&mut self, bytes: usize) -> Result<(), PutError> {
        self.seen += bytes as u64;
        match self.expected {
            Some(expected) if self.seen > expected => Err(PutError::SizeMismatch { expected, actual: self.seen }),
            _ if self.seen > self.limit => Err(PutError::TooLarge { limit: self.limit }),
            _ => Ok(()),
        }
    }

    fn end(&self) -> Result<(), PutError> {
        match self.expected {
            Some(expected) if expected != self.seen => Err(PutError::SizeMismatch { expected, actual: self.seen }),
            _ => Ok(()),
        }
    }
}

/// The object that says that a store is Pinstone's, and which one.
pub(crate) const MARKER: &str = "FORMAT";
/// The folders of the object store, and the only places that know their names.
pub(crate) const BLOBS: &str = "blobs";
pub(crate) const MANIFESTS: &str = "manifests";
pub(crate) const PACKS: &str = "packs";
pub(crate) const PLANS: &str = "plans";
pub(crate) const VARIANTS: &str = "variants";

pub(crate) fn blob_path(hash: &BlobHash) -> ObjectPath {
    fanned(BLOBS, &hash.to_string())
}

pub(crate) fn manifest_path(id: &ManifestId) -> ObjectPath {
    fanned(MANIFESTS, &id.to_string())
}

pub(crate) fn variant_list_path(id: &VariantListId) -> ObjectPath {
    fanned(VARIANTS, &id.to_string())
}

pub(crate) fn pack_path(pack: &PackId) -> ObjectPath {
    fanned(PACKS, &pack.to_string())
}

/// Which object has a blob's bytes, and from where on.
fn object_of(hash: &BlobHash, record: &BlobRecord) -> (ObjectPath, u64) {
    match &record.location {
        Location::Single => (blob_path(hash), 0),
        Location::Pack { pack, offset } => (pack_path(pack), *offset),
    }
}

pub(crate) fn plan_path(id: &PlanId) -> ObjectPath {
    ObjectPath::from_iter([PLANS, &*id.to_string()])
}

fn fanned(folder: &str, digits: &str) -> ObjectPath {
    ObjectPath::from_iter([folder, &digits[..2], digits])
}

/// Whether the reason of `error` is that a disk or a quota is full, or a file as large as it may be.
#[must_use]
pub fn is_storage_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // One failed write answers many commits, which share its reason.
        let shared = error.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>();
        let error = shared.map_or(error, |shared| &**shared);
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            if matches!(io.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
                return true;
            }
        }
        next = error.source();
    }
    false
}
