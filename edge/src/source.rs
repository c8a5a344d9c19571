//! Where the bytes of an answer come from.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pinstone_engine::blob::{BlobSource, FileRegion};
use pinstone_engine::hash::BlobHash;
use tokio::sync::OwnedSemaphorePermit;

use crate::mapped::{self, LargeFiles, Mapped};

/// How many times its length is read of a large file before it is loaded into memory, as a power of two.
const OFTEN: u32 = 3;

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
    /// The file, where it is worth it to have the kernel send `part` from there, and no disk has to be waited for: what is mapped of
    /// it, and where the part lies in that.
    pub(crate) fn resident(
        &self,
        part: &Range<usize>,
        large_files: LargeFiles,
    ) -> Option<(&Arc<OpenFile>, &Arc<Mapped>, Range<usize>)> {
        let file = self.file.as_ref().filter(|_| large_files == LargeFiles::Sent && part.len() >= mapped::LEAST)?;
        let offset = usize::try_from(file.region.offset).ok()?;
        let stored = offset.checked_add(part.start)?..offset.checked_add(part.end)?;
        let mapped = file.mapped()?;
        mapped.is_resident(stored.clone()).then_some((file, mapped, stored))
    }
}

/// A file that is open for all answers that send of it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) hash: BlobHash,
    pub(crate) region: FileRegion,
    /// Bytes of it that answers had to read.
    read: AtomicU64,
    mapped: OnceLock<Option<Arc<Mapped>>>,
    /// Its place among the files that are open beside what memory has of them.
    _place: Option<OwnedSemaphorePermit>,
}

impl OpenFile {
    /// The file of `region`, which has `place` until nobody begins to send of it any more.
    pub(crate) fn new(hash: BlobHash, region: FileRegion, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { hash, region, read: AtomicU64::new(0), mapped: OnceLock::new(), _place: place }
    }

    /// An answer has to read so many bytes of it. Says whether it is time to see to it that the next ones need not: when 8 times its
    /// length was read, and then more and more seldom, for there may be no room.
    pub(crate) fn note_read(&self, bytes: u64) -> bool {
        let before = self.read.fetch_add(bytes, Relaxed);
        let times = |bytes: u64| bytes.checked_div(self.region.length).unwrap_or(0).max(1).ilog2();
        let (before, after) = (times(before), times(before.saturating_add(bytes)));
        after >= OFTEN && after > before
    }

    /// The file, mapped when it is first asked for; nothing where it cannot be, or is too small.
    pub(crate) fn mapped(&self) -> Option<&Arc<Mapped>> {
        self.mapped.get_or_init(|| Mapped::of(&self.region)).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_part_is_sent_from_where_it_is_stored() {
        let all: Vec<u8> = (0..300_000_u32).map(|at| (at % 251).to_le_bytes()[0]).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&all).unwrap();
        // As in a pack.
        let region = FileRegion { file: file.into(), offset: 1000, length: 200_000 };
        let bytes = Bytes::copy_from_slice(&all[1000..201_000]);
        let file = Some(Arc::new(OpenFile::new(BlobHash::of(&bytes), region, None)));
        let whole = Whole { bytes: bytes.clone(), file };
        for part in [0..200_000, 0..mapped::LEAST, 5000..105_000, 100_000..200_000] {
            let (_, mapped, stored) = whole.resident(&part, LargeFiles::Sent).unwrap();
            assert!(mapped.stored(stored, None).bytes() == &bytes[part.clone()], "{part:?}");
            for other in [LargeFiles::Copied, LargeFiles::Read] {
                assert!(whole.resident(&part, other).is_none());
            }
        }
        assert!(whole.resident(&(0..mapped::LEAST - 1), LargeFiles::Sent).is_none());
        assert!(Whole::from(bytes).resident(&(0..200_000), LargeFiles::Sent).is_none());
    }
}
