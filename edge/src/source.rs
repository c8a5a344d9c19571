//! Where the bytes of an answer come from.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pinstone_engine::blob::{BlobSource, FileRegion};
use pinstone_engine::hash::BlobHash;
use tokio::sync::OwnedSemaphorePermit;

use crate::mapped::{self, LargeFiles, Mapped, Stored};

/// How often a large file is read before it is loaded into memory.
const OFTEN: u32 = 8;

/// A file's bytes, none of them copied yet.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// All of them, in memory.
    Memory(Whole),
    /// Where they are stored.
    File(Arc<OpenFile>),
}

impl Source {
    /// A blob that was opened.
    pub(crate) fn of(hash: BlobHash, source: BlobSource) -> Self {
        match source {
            BlobSource::Memory(bytes) => Self::Memory(bytes.into()),
            BlobSource::File(region) => Self::File(Arc::new(OpenFile::new(hash, region, None))),
        }
    }
}

/// All bytes of a file, in memory.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    /// The same bytes as they are stored, where the kernel may send them from there.
    pub(crate) file: Option<Arc<OpenFile>>,
}

impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, file: None }
    }
}

impl Whole {
    /// A part of it as it is stored, where it is worth it to send that, and no disk has to be waited for.
    pub(crate) fn stored(&self, part: &Range<usize>, large_files: LargeFiles) -> Option<Stored> {
        let file = self.file.as_ref().filter(|_| large_files == LargeFiles::Sent && part.len() >= mapped::LEAST)?;
        let offset = usize::try_from(file.region.offset).ok()?;
        let stored = offset.checked_add(part.start)?..offset.checked_add(part.end)?;
        let mapped = file.mapped()?;
        mapped.is_resident(stored.clone()).then(|| mapped.stored(stored, None))
    }
}

/// A file that is open for all answers that send of it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) hash: BlobHash,
    pub(crate) region: FileRegion,
    /// Answers that had to read it.
    read: AtomicU32,
    mapped: OnceLock<Option<Arc<Mapped>>>,
    /// Its place among the files that are open beside what memory has of them.
    _place: Option<OwnedSemaphorePermit>,
}

impl OpenFile {
    /// The file of `region`, which has `place` until it is closed.
    pub(crate) fn new(hash: BlobHash, region: FileRegion, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { hash, region, read: AtomicU32::new(0), mapped: OnceLock::new(), _place: place }
    }

    /// One more answer has to read it. Says whether it is time to see to it that the next ones need not: at first when it was read
    /// [`OFTEN`] times, and then more and more seldom, for there may be no room.
    pub(crate) fn is_read_often(&self) -> bool {
        let read = self.read.fetch_add(1, Relaxed).wrapping_add(1);
        read >= OFTEN && read.is_power_of_two()
    }

    /// The file, mapped when it is first asked for; nothing where it cannot be, or is too small.
    pub(crate) fn mapped(&self) -> Option<&Arc<Mapped>> {
        self.mapped.get_or_init(|| Mapped::of(&self.region)).as_ref()
    }
}
