//! What differs where objects are far away: they are sent in larger parts and come back through the cache.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::disk_cache::{DiskCache, DiskCacheOptions, Kind, Part, Wanted};
use super::multipart::Staging;
use super::{BlobRecord, BlobSource, BlobStore, GATHER, IN_FLIGHT, Location, MARKER, PART, ReadError};
use super::{blob_path, manifest_path, pack_path};
use crate::hash::{BlobHash, ManifestId};

/// The parts that S3-compatible stores take, in bytes: none but the last may have fewer.
const REMOTE_PART: usize = 5 << 20;
/// How many of them are on their way at once: the store is far away.
const REMOTE_IN_FLIGHT: usize = 2;
/// How long a store may take to say that it is there.
const PROBE: Duration = Duration::from_secs(4);
/// How long that is believed of a remote store: whoever may ask for our health must not be able to keep a store busy.
const PROBE_AGAIN: Duration = Duration::from_secs(1);

/// How large objects are written.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    /// Bodies up to this many bytes are gathered and stored in one write.
    pub(super) gather: usize,
    /// Larger ones are written in parts of this many bytes.
    pub(super) part: usize,
    /// At most so many of them are in memory, beside the one that is gathered.
    pub(super) in_flight: usize,
    /// One permit for each body of more than [`GATHER`] bytes that may be in memory.
    room: Option<Arc<Semaphore>>,
    /// Who writes to which object, where these are files of this machine.
    pub(super) staging: Option<Arc<Staging>>,
}

impl Default for Writing {
    fn default() -> Self {
        Self { gather: GATHER, part: PART, in_flight: IN_FLIGHT, room: None, staging: None }
    }
}

impl Writing {
    /// To a remote store, with `memory` bytes for all bodies at once.
    pub(crate) fn remote(memory: u64) -> Self {
        // A part that is gathered, beside those that are sent.
        let each = REMOTE_PART as u64 * (REMOTE_IN_FLIGHT as u64 + 1);
        let bodies = usize::try_from(memory / each).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            gather: REMOTE_PART,
            part: REMOTE_PART,
            in_flight: REMOTE_IN_FLIGHT,
            room: Some(Arc::new(Semaphore::new(bodies))),
            staging: None,
        }
    }

    /// Waits until a large body may be in memory; it may as long as the permit lives.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        let room = self.room.clone()?;
        Some(room.acquire_owned().await.expect("the semaphore is never closed"))
    }
}

/// What was last heard of a store.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Whether the store has a marker, by which it can be told from another one.
    is_marked: bool,
    last: Mutex<Option<(Instant, bool)>>,
}

impl BlobStore {
    /// Says that the store has a marker.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn marked(mut self) -> Self {
        self.heard = Arc::new(Heard { is_marked: true, last: Mutex::default() });
        self
    }

    /// Says that the objects are the files below `folder`, so that an upload that fails at its end leaves no temporary file
    /// there.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.writing.staging = Some(Staging::new(folder.to_owned()));
        self
    }

    /// Says that the objects are far away: large ones are sent in parts that other stores take, with `upload_memory` bytes
    /// for all of them at once, and what is read comes through a cache in `folder`. Reads that folder, and may take
    /// seconds: not for a thread that serves others.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be made or read.
    pub fn behind_cache(self, folder: &Path, cache: &DiskCacheOptions, upload_memory: u64) -> io::Result<Self> {
        let cache = DiskCache::open(folder, cache)?;
        Ok(self.remote(Writing::remote(upload_memory), Some(cache)))
    }

    /// The same in parts. Without a cache every read asks the store, which is what a check wants.
    pub(crate) fn remote(mut self, writing: Writing, cache: Option<DiskCache>) -> Self {
        self.writing = writing;
        self.cache = cache;
        self
    }

    /// Whether there is a cache that can serve some of it while the store does not answer.
    pub(crate) fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// Whether the object store answers.
    pub(crate) async fn answers(&self) -> bool {
        let mut last = self.heard.last.lock().await;
        match *last {
            Some((at, answered)) if self.cache.is_some() && at.elapsed() < PROBE_AGAIN => return answered,
            _ => {}
        }
        let probe = ObjectPath::from(if self.heard.is_marked { MARKER } else { "blobs/probe" });
        let answered = match tokio::time::timeout(PROBE, self.objects.head(&probe)).await {
            Ok(Ok(_)) => true,
            // No object has that name; that it is not there is an answer.
            Ok(Err(object_store::Error::NotFound { .. })) => !self.heard.is_marked,
            Ok(Err(_)) | Err(_) => false,
        };
        *last = Some((Instant::now(), answered));
        answered
    }

    /// Gives up what is cached of a blob, because it is not what it should be; answers whether anything was.
    pub async fn forget_cached(&self, hash: &BlobHash) -> bool {
        match &self.cache {
            Some(cache) => cache.forget(Kind::Blob, *hash.as_bytes()).await,
            None => false,
        }
    }

    /// A blob from the cache, or through it.
    pub(super) async fn open_cached(
        &self,
        cache: &DiskCache,
        hash: &BlobHash,
        record: &BlobRecord,
    ) -> Result<BlobSource, ReadError> {
        let (object, offset, is_all) = match &record.location {
            Location::Single => (blob_path(hash), 0, true),
            Location::Pack { pack, offset } => (pack_path(pack), *offset, false),
        };
        offset.checked_add(record.size).ok_or(ReadError::Damaged)?;
        let part = Some(Part { offset, length: record.size, is_all });
        let wanted = Wanted { kind: Kind::Blob, key: *hash.as_bytes(), object, part };
        cache.get(wanted, &self.objects).await
    }

    /// The bytes of a manifest, as they are stored.
    pub(super) async fn manifest_bytes(&self, id: &ManifestId) -> Result<Bytes, ReadError> {
        self.whole(*id.as_bytes(), manifest_path(id)).await
    }

    /// The bytes of an object whose digest is its name: a manifest, or what belongs to one.
    pub(super) async fn whole(&self, key: [u8; 32], object: ObjectPath) -> Result<Bytes, ReadError> {
        let Some(cache) = &self.cache else { return Ok(self.objects.get(&object).await?.bytes().await?) };
        let wanted = Wanted { kind: Kind::Manifest, key, object, part: None };
        cache.get(wanted, &self.objects).await?.read().await
    }
}
