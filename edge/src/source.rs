//! Where the bytes of an answer come from.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pinstone_engine::blob::{BlobSource, FileRegion};
use tokio::sync::OwnedSemaphorePermit;

use crate::mapped::{self, LargeFiles, Mapped, Stored};

/// A file's bytes, none of them copied yet.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// All of them, in memory.
    Memory(Whole),
    /// Where they are stored.
    File(Arc<OpenFile>),
}

impl From<BlobSource> for Source {
    fn from(source: BlobSource) -> Self {
        match source {
            BlobSource::Memory(bytes) => Self::Memory(bytes.into()),
            BlobSource::File(region) => Self::File(Arc::new(OpenFile::new(region, None))),
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
    pub(crate) region: FileRegion,
    mapped: OnceLock<Option<Arc<Mapped>>>,
    /// Its place among the files that are open beside what memory has of them.
    _place: Option<OwnedSemaphorePermit>,
}

impl OpenFile {
    /// The file of `region`, which has `place` until it is closed.
    pub(crate) fn new(region: FileRegion, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { region, mapped: OnceLock::new(), _place: place }
    }

    /// The file, mapped when it is first asked for; nothing where it cannot be, or is too small.
    pub(crate) fn mapped(&self) -> Option<&Arc<Mapped>> {
        self.mapped.get_or_init(|| Mapped::of(&self.region)).as_ref()
    }
}
