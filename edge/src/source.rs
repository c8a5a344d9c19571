//! Where the bytes of an answer come from.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pinstone_engine::blob::{BlobSource, FileRegion};
use pinstone_engine::hash::BlobHash;
use tokio::sync::OwnedSemaphorePermit;

use crate::mapped::{self, LargeFiles, Mapped, REMEMBERED};

/// How many times its length is read of a large file before it is loaded into memory, as a power of two.
const OFTEN: u32 = 3;

/// How many times its length has to be copied from memory until it is worth it to read a file for the answers to come: to copy 100 KiB
/// takes some 5 µs more than to send them, and to read them some 100 µs.
const WORTH_A_READ: u64 = 64;

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
    ///
    /// These bytes are in memory whether the file is there or not, so nobody would ever read it again; where the kernel has taken
    /// pages of it away and it is asked for often, `bring_back` is called for it, which has to lead to [`OpenFile::bring_back`].
    pub(crate) fn resident(
        &self,
        part: &Range<usize>,
        large_files: LargeFiles,
        bring_back: impl FnOnce(&Arc<OpenFile>),
    ) -> Option<(&Arc<OpenFile>, &Arc<Mapped>, Range<usize>)> {
        let file = self.file.as_ref().filter(|_| large_files == LargeFiles::Sent && part.len() >= mapped::LEAST)?;
        if file.mapped().is_none() || file.absent.is_known(part.len()) {
            return None;
        }
        let resident = file.resident(part).map(|(mapped, stored)| (file, mapped, stored));
        if resident.is_none() && file.absent.note(part.len(), file.region.length) {
            bring_back(file);
        }
        resident
    }
}

/// A file that is open for all answers that send of it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) hash: BlobHash,
    pub(crate) region: FileRegion,
    /// Bytes of it that answers had to read.
    read: AtomicU64,
    /// Whether all of it is in memory, or was: see `often.rs`.
    pub(crate) is_loaded: AtomicBool,
    mapped: OnceLock<Option<Arc<Mapped>>>,
    absent: Absent,
    /// Its place among the files that are open beside what memory has of them.
    _place: Option<OwnedSemaphorePermit>,
}

impl OpenFile {
    /// The file of `region`, which has `place` until nobody begins to send of it any more.
    pub(crate) fn new(hash: BlobHash, region: FileRegion, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            hash,
            region,
            read: AtomicU64::new(0),
            is_loaded: AtomicBool::new(false),
            mapped: OnceLock::new(),
            absent: Absent::default(),
            _place: place,
        }
    }

    /// An answer has to read so many bytes of it. Says whether it is time to see to it that the next ones need not: when 8 times its
    /// length was read, and then more and more seldom, for there may be no room.
    pub(crate) fn note_read(&self, bytes: u64) -> bool {
        let before = self.read.fetch_add(bytes, Relaxed);
        let times = |bytes: u64| bytes.checked_div(self.region.length).unwrap_or(0).max(1).ilog2();
        let (before, after) = (times(before), times(before.saturating_add(bytes)));
        after >= OFTEN && after > before
    }

    /// Reads the file, so that it is in the page cache. May wait for a disk.
    pub(crate) fn bring_back(&self) {
        let FileRegion { file, offset, length } = &self.region;
        // The kernel would read no more than a device takes at once if it were advised to (`POSIX_FADV_WILLNEED`).
        if let Err(error) = read_through(file, *offset..offset + length) {
            tracing::debug!(%error, "a file that is asked for often could not be read into the page cache");
        }
        self.absent.is_read.store(false, Relaxed);
    }

    /// What is mapped of the file, and where `part` of the blob lies in that, where the part is worth it and no disk has to be waited
    /// for.
    pub(crate) fn resident(&self, part: &Range<usize>) -> Option<(&Arc<Mapped>, Range<usize>)> {
        if part.len() < mapped::LEAST {
            return None;
        }
        let offset = usize::try_from(self.region.offset).ok()?;
        let stored = offset.checked_add(part.start)?..offset.checked_add(part.end)?;
        let mapped = self.mapped()?;
        mapped.is_resident(stored.clone()).then_some((mapped, stored))
    }

    /// The file, mapped when it is first asked for; nothing where it cannot be, or is too small.
    pub(crate) fn mapped(&self) -> Option<&Arc<Mapped>> {
        self.mapped.get_or_init(|| Mapped::of(&self.region)).as_ref()
    }
}

/// Reads so much of a file, so that it is in the page cache, as is what the kernel reads ahead of it. May wait for a disk.
pub(crate) fn read_through(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut scratch = [0; 16 << 10];
    for at in range.clone().step_by(scratch.len()) {
        let wanted = usize::try_from(range.end - at).map_or(scratch.len(), |left| left.min(scratch.len()));
        file.read_exact_at(&mut scratch[..wanted], at)?;
    }
    Ok(())
}

/// What is known of a file that is not in the page cache though its bytes are in memory.
#[derive(Debug, Default)]
struct Absent {
    /// When that was seen, by [`mapped::now`]; 0 for never.
    seen: AtomicU32,
    /// Bytes that were copied from memory since it was read.
    copied: AtomicU64,
    /// Whether it is being read.
    is_read: AtomicBool,
}

impl Absent {
    /// Whether it was seen so lately that it need not be looked at again, for an answer of so many bytes.
    fn is_known(&self, bytes: usize) -> bool {
        let seen = self.seen.load(Relaxed);
        let is_known = mapped::is_within(REMEMBERED, seen, mapped::now);
        if is_known {
            self.copied.fetch_add(bytes as u64, Relaxed);
        }
        is_known
    }

    /// It was seen, for an answer of so many bytes. Says whether the file, of this `length`, is to be read: nobody else is told then
    /// until it was.
    fn note(&self, bytes: usize, length: u64) -> bool {
        self.seen.store(mapped::now(), Relaxed);
        let copied = self.copied.fetch_add(bytes as u64, Relaxed);
        let is_to_be_read = copied / WORTH_A_READ >= length && !self.is_read.swap(true, Relaxed);
        if is_to_be_read {
            self.copied.store(0, Relaxed);
        }
        is_to_be_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapped::tests::on_disk;
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
            let (_, mapped, stored) = whole.resident(&part, LargeFiles::Sent, is_there).unwrap();
            assert!(mapped.stored(stored, None).bytes() == &bytes[part.clone()], "{part:?}");
            for other in [LargeFiles::Copied, LargeFiles::Read] {
                assert!(whole.resident(&part, other, is_there).is_none());
            }
        }
        assert!(whole.resident(&(0..mapped::LEAST - 1), LargeFiles::Sent, is_there).is_none());
        assert!(Whole::from(bytes).resident(&(0..200_000), LargeFiles::Sent, is_there).is_none());
    }

    #[test]
    fn what_is_asked_for_often_is_brought_back() {
        const LENGTH: usize = 256 << 10;
        let bytes = Bytes::from(vec![7; LENGTH]);
        let region = on_disk(&bytes);
        rustix::fs::fadvise(&region.file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let file = Some(Arc::new(OpenFile::new(BlobHash::of(&bytes), region, None)));
        let whole = Whole { bytes, file };
        let wanted = std::cell::RefCell::new(Vec::new());
        let is_sent = || {
            let bring_back = |file: &Arc<OpenFile>| wanted.borrow_mut().push(Arc::clone(file));
            whole.resident(&(0..LENGTH), LargeFiles::Sent, bring_back).is_some()
        };
        assert!((0..WORTH_A_READ).all(|_| !is_sent()));
        assert!(wanted.borrow().is_empty(), "it may never be asked for again");
        let wait = || std::thread::sleep(std::time::Duration::from_millis(2 * u64::from(REMEMBERED)));
        for _ in 0..3 {
            wait();
            assert!((0..2 * WORTH_A_READ).all(|_| !is_sent()));
        }
        assert_eq!(wanted.borrow().len(), 1, "it is read once at a time");
        wanted.borrow()[0].bring_back();
        assert!(!is_sent(), "it was looked at a moment ago");
        wait();
        assert!(is_sent());
    }

    fn is_there(_: &Arc<OpenFile>) {
        panic!("it is in memory");
    }
}
