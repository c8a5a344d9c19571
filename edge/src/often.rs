//! Large files that are asked for often, in memory: what is to be encrypted or framed need not be read for each answer anew.
//!
//! Measured: 10 MiB over TLS take 0.80 of the CPU that reading them window by window does. Whoever downloads a file slowly keeps it,
//! also when it is long out of the cache; so room is taken for the bytes themselves, and given back when the last of them are
//! dropped. Without room nothing is loaded, and files are read as they always can be.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use moka::future::Cache;
use pinstone_engine::hash::BlobHash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::source::{OpenFile, Whole};

/// What room is counted in, in bytes.
const UNIT: u64 = 4 << 10;

/// Of all the room, the part that one file may have at most.
const PART: u64 = 8;

/// Large files in memory.
#[derive(Debug)]
pub(crate) struct Often {
    files: Cache<BlobHash, Whole>,
    room: Arc<Semaphore>,
    largest: u64,
    /// Who loads a file: one at a time, for it takes a disk and a core to itself.
    loader: Arc<Semaphore>,
}

/// A file that is to be loaded, and the room for it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) file: Arc<OpenFile>,
    files: Cache<BlobHash, Whole>,
    room: OwnedSemaphorePermit,
    _loader: OwnedSemaphorePermit,
}

/// Bytes that have their room until they are dropped.
struct Loaded {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Often {
    /// Room for `bytes`, of which the files that nobody is sent have three quarters.
    pub(crate) fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            files: Cache::builder()
                .max_capacity(bytes / 4 * 3)
                .weigher(|_, whole: &Whole| u32::try_from((whole.bytes.len() as u64).max(UNIT)).unwrap_or(u32::MAX))
                .build(),
            room: Arc::new(Semaphore::new(units)),
            largest: bytes / PART,
            loader: Arc::new(Semaphore::new(1)),
        }
    }

    /// Those that are in memory.
    pub(crate) fn files(&self) -> &Cache<BlobHash, Whole> {
        &self.files
    }

    /// The file of so many bytes, if it is in memory.
    pub(crate) async fn get(&self, hash: &BlobHash, size: u64) -> Option<Whole> {
        if size > self.largest { None } else { self.files.get(hash).await }
    }

    /// The bytes of a file that is open, if they are in memory. Mostly that is known without a look-up.
    pub(crate) async fn bytes_of(&self, file: &OpenFile) -> Option<Whole> {
        if !file.is_loaded.load(Relaxed) {
            return None;
        }
        let whole = self.files.get(&file.hash).await;
        if whole.is_none() {
            file.is_loaded.store(false, Relaxed);
        }
        whole
    }

    /// An answer has to read so many bytes of `file`, which is to be loaded where that happens often, and there is room.
    pub(crate) fn note_read(&self, file: &Arc<OpenFile>, bytes: u64) -> Option<Wanted> {
        let size = file.region.length;
        if size > self.largest || !file.note_read(bytes) {
            return None;
        }
        if self.files.contains_key(&file.hash) {
            // It was loaded for another one, which was open before.
            file.is_loaded.store(true, Relaxed);
            return None;
        }
        let loader = Arc::clone(&self.loader).try_acquire_owned().ok()?;
        let units = u32::try_from(size.div_ceil(UNIT)).ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(units).ok()?;
        Some(Wanted { file: Arc::clone(file), files: self.files.clone(), room, _loader: loader })
    }
}

impl Wanted {
    /// Keeps it.
    pub(crate) async fn keep(self, whole: Whole) {
        let Self { file: open, files, room, .. } = self;
        let Whole { bytes, file } = whole;
        files.insert(open.hash, Whole { bytes: Bytes::from_owner(Loaded { bytes, _room: room }), file }).await;
        open.is_loaded.store(true, Relaxed);
    }
}

impl AsRef<[u8]> for Loaded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use pinstone_engine::blob::FileRegion;

    use super::*;

    fn file(number: u8, length: u64) -> Arc<OpenFile> {
        let region = FileRegion { file: tempfile::tempfile().unwrap().into(), offset: 0, length };
        Arc::new(OpenFile::new(BlobHash::of(&[number]), region, None))
    }

    /// Reads it until it is to be loaded, at most a thousand times.
    fn read_often(often: &Often, file: &Arc<OpenFile>) -> Option<Wanted> {
        (0..1000).find_map(|_| often.note_read(file, file.region.length))
    }

    #[tokio::test]
    async fn what_is_read_often_is_kept_and_bounded_however_long_clients_hold_it() {
        const LENGTH: u64 = 1 << 20;
        let often = Often::new(8 * LENGTH);
        let one = file(0, LENGTH);
        assert!((0..7).all(|_| often.note_read(&one, LENGTH).is_none()), "seven times is not often");
        assert!((0..1000).all(|_| often.note_read(&file(1, LENGTH), 1).is_none()), "nor are single bytes");
        let (mut held, mut files) = (Vec::new(), Vec::new());
        for number in 0..8 {
            let file = file(number, LENGTH);
            let wanted = read_often(&often, &file).expect("there is room");
            assert!(read_often(&often, &one).is_none(), "one at a time");
            wanted.keep(Bytes::from(vec![number; 1 << 20]).into()).await;
            if let Some(kept) = often.bytes_of(&file).await {
                assert!(kept.bytes[..] == vec![number; 1 << 20]);
                assert!(often.get(&file.hash, LENGTH).await.is_some_and(|same| same.bytes == kept.bytes));
                held.push(kept);
            }
            often.files.run_pending_tasks().await;
            files.push(file);
        }
        for file in &files {
            let is_kept = often.bytes_of(file).await.is_some();
            assert_eq!(file.is_loaded.load(Relaxed), is_kept, "what is gone is looked for once");
        }
        assert!(held.len() == 8 && often.files.weighted_size() <= 6 << 20);
        let ninth = file(9, LENGTH);
        assert!(read_often(&often, &ninth).is_none(), "clients hold what is out of the cache");
        held.clear();
        assert!(read_often(&often, &ninth).is_some());
    }

    #[tokio::test]
    async fn what_is_too_large_is_not() {
        let often = Often::new(8 << 20);
        assert!(read_often(&often, &file(0, (1 << 20) + 1)).is_none());
        assert!(read_often(&Often::new(0), &file(0, 1)).is_none());
    }
}
