//! Large files, mapped into memory: what is sent of them without TLS is not read by this program.
//!
//! The layers above hand on slices of the mapping as they do with any bytes, and the kernel copies them from there to the socket.
//!
//! Measured: windows that are read take twice the CPU for 10 MiB. To have the kernel send the pages as they lie (`sendfile`)
//! takes a tenth more or less CPU than to copy them, by the machine, and its client gets half as many bytes a second: over
//! loopback each page is then a piece of its own that has to be taken. This module and `listener/queue.rs` are all of the edge
//! that is `unsafe`.
//!
//! # Why it is sound
//!
//! A mapping promises the compiler bytes that do not change. Files of blobs do not: a file is named when it is whole and
//! synced, is never opened for writing again, and lies in a folder that is the server's alone. It may be unlinked; then
//! the mapping keeps it.
//!
//! What fails is the read of a page, where the disk does or somebody cut the file short. To a program that reads the page
//! itself this is a signal; to the kernel that reads it on behalf of `write` it is EFAULT, an error like any other. So the
//! bytes that this module gives out are for the socket, and nothing else reads them: they go where there is no TLS and no
//! HTTP/2, and in pieces too large to be put together with others.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;
use pinstone_engine::blob::FileRegion;

/// The least that is worth it, in bytes: for less, reading is as cheap.
pub(crate) const LEAST: usize = 64 << 10;

/// The most that is handed out at once, in bytes. What the socket takes of it in one go stops the worker for about a tenth
/// of a millisecond.
pub(crate) const MOST: usize = 512 << 10;

/// What the kernel tells apart, in bytes; where pages are larger, it is told of each more than once.
const PAGE: usize = 4 << 10;

/// A file in memory.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

/// Some bytes of it, which keep it.
#[derive(Debug)]
struct Piece {
    mapped: Arc<Mapped>,
    range: Range<usize>,
}

impl Mapped {
    /// Maps the file of a region as far as the region goes; nothing where that cannot be, or is not worth it.
    pub(crate) fn of(region: &FileRegion) -> Option<Arc<Self>> {
        if region.length < LEAST as u64 {
            return None;
        }
        map(&region.file, region.offset.checked_add(region.length)?)
    }

    /// Whether all of `range` is in memory, so that sending it waits for no disk. As far as that can be known: what is there
    /// now may be taken away before it is sent.
    pub(crate) fn is_resident(&self, range: Range<usize>) -> bool {
        let start = range.start / PAGE * PAGE;
        let mut pages = [0; MOST / PAGE + 1];
        let Some(bytes) = self.0.get(start..range.end) else { return false };
        let count = bytes.len().div_ceil(PAGE);
        count <= pages.len() && residency(bytes, &mut pages[..count]) && pages[..count].iter().all(|page| page & 1 == 1)
    }

    /// The bytes of `range`, which keep the mapping. Only for a socket: see above.
    ///
    /// # Panics
    ///
    /// Where the range is not within the region.
    pub(crate) fn bytes(self: &Arc<Self>, range: Range<usize>) -> Bytes {
        assert!(range.start <= range.end && range.end <= self.0.len(), "{range:?} of {}", self.0.len());
        Bytes::from_owner(Piece { mapped: Arc::clone(self), range })
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.mapped.0[self.range.clone()]
    }
}

#[allow(unsafe_code, reason = "a mapping cannot be made without")]
fn map(file: &Arc<File>, length: u64) -> Option<Arc<Mapped>> {
    let length = usize::try_from(length).ok()?;
    // SAFETY: the file is a blob's, and does not change while it is mapped. It is read by the kernel alone, which takes a
    // page that cannot be read as an error. See the module's description.
    let bytes = unsafe { memmap2::MmapOptions::new().len(length).map(file) };
    bytes.map(|bytes| Arc::new(Mapped(bytes))).ok()
}

/// Asks which pages of `bytes` are in memory; `bytes` has to begin with a page.
#[allow(unsafe_code, reason = "the call has no safe form")]
fn residency(bytes: &[u8], pages: &mut [u8]) -> bool {
    if bytes.is_empty() || pages.len() < bytes.len().div_ceil(PAGE) {
        return bytes.is_empty();
    }
    let address = bytes.as_ptr().cast_mut().cast();
    // SAFETY: `bytes` is a slice, so it is mapped; the kernel reads nothing of it, and writes a byte for each page, which
    // `pages` has room for: its pages are not smaller than `PAGE`.
    unsafe { libc::mincore(address, bytes.len(), pages.as_mut_ptr()) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn region(length: usize, offset: u64) -> FileRegion {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(length)).unwrap();
        FileRegion { file: Arc::new(file), offset, length: length as u64 - offset }
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn bytes_are_those_of_the_file_and_outlive_it() {
        let region = region(1 << 20, 777);
        let mapped = Mapped::of(&region).unwrap();
        drop(region);
        let want = pattern(1 << 20);
        for range in [0..1, 777..200_777, 4095..4097, (1 << 20) - 1..1 << 20, 9..9] {
            assert!(mapped.bytes(range.clone()) == want[range.clone()], "{range:?}");
            assert!(mapped.is_resident(range));
        }
        let kept = mapped.bytes(5..10);
        drop(mapped);
        assert_eq!(*kept, want[5..10]);
    }

    #[test]
    fn what_is_small_or_beyond_the_end_is_not_mapped_or_not_there() {
        assert!(Mapped::of(&region(LEAST - 1, 0)).is_none());
        let mapped = Mapped::of(&region(1 << 20, 0)).unwrap();
        assert!(!mapped.is_resident((1 << 20) - 1..(1 << 20) + 1));
        assert!(!mapped.is_resident(0..MOST + PAGE + 1), "more than is handed out at once");
        assert!(mapped.is_resident(PAGE - 1..PAGE - 1 + MOST));
    }

    #[test]
    fn what_is_not_in_memory_is_said_to_be_so() {
        // Where the program lies: the system's folder for temporary files may be memory itself.
        let folder = std::env::current_exe().unwrap();
        let mut file = tempfile::tempfile_in(folder.parent().unwrap()).unwrap();
        file.write_all(&pattern(1 << 20)).unwrap();
        file.sync_all().unwrap();
        let region = FileRegion { file: Arc::new(file), offset: 0, length: 1 << 20 };
        let mapped = Mapped::of(&region).unwrap();
        assert!(mapped.is_resident(0..MOST));
        rustix::fs::fadvise(&region.file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(!mapped.is_resident(0..MOST));
        std::os::unix::fs::FileExt::read_exact_at(&*region.file, &mut vec![0; 1 << 20], 0).unwrap();
        assert!(mapped.is_resident(0..MOST));
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error_of_the_socket() {
        let region = region(1 << 20, 0);
        let mapped = Mapped::of(&region).unwrap();
        region.file.set_len(PAGE as u64).unwrap();
        let (mut from, _to) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let error = from.write(&mapped.bytes(100_000..200_000)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    }
}
