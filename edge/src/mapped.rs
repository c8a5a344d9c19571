//! Large files, mapped into memory: what is sent of them without TLS is neither read nor copied by this program.
//!
//! The layers above hand on slices of the mapping as they do with any bytes. The stream knows them again
//! ([`Handed::find`]) and has the kernel send the same bytes of the file (`sendfile`); where it does not, the kernel copies
//! them out of the mapping. Either way the bytes are the same.
//!
//! Measured: windows that are read take twice the CPU for 10 MiB. This module is all of the edge that is `unsafe`.
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
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

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
pub(crate) struct Mapped {
    bytes: Mmap,
    file: Arc<File>,
}

/// Where a piece that was handed out lies. It keeps nothing: the piece keeps its mapping, and that the file.
#[derive(Debug)]
pub(crate) struct Handed {
    mapped: Weak<Mapped>,
    range: Range<usize>,
}

/// Bytes of a file, in the file.
#[derive(Debug)]
pub(crate) struct Stored {
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
        let Some(bytes) = self.bytes.get(start..range.end) else { return false };
        let count = bytes.len().div_ceil(PAGE);
        count <= pages.len() && residency(bytes, &mut pages[..count]) && pages[..count].iter().all(|page| page & 1 == 1)
    }

    /// The bytes of `range`, which keep the mapping. Only for a socket: see above.
    ///
    /// # Panics
    ///
    /// Where the range is not within the region.
    pub(crate) fn bytes(self: &Arc<Self>, range: Range<usize>) -> Bytes {
        assert!(range.start <= range.end && range.end <= self.bytes.len(), "{range:?} of {}", self.bytes.len());
        Bytes::from_owner(Stored { mapped: Arc::clone(self), range })
    }
}

impl AsRef<[u8]> for Stored {
    fn as_ref(&self) -> &[u8] {
        &self.mapped.bytes[self.range.clone()]
    }
}

impl Handed {
    /// What is handed out with these bytes of `mapped`.
    pub(crate) fn new(mapped: &Arc<Mapped>, range: Range<usize>) -> Self {
        Self { mapped: Arc::downgrade(mapped), range }
    }

    /// Where `bytes` are stored, if they are of this piece.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<Stored> {
        let mapped = self.mapped.upgrade()?;
        // While the mapping is there, nothing else has its addresses.
        let start = bytes.as_ptr().addr().checked_sub(mapped.bytes.as_ptr().addr())?;
        let range = start..start.checked_add(bytes.len())?;
        let is_of_it = self.range.start <= range.start && range.end <= self.range.end;
        is_of_it.then_some(Stored { mapped, range })
    }
}

impl Stored {
    /// Whether the bytes begin with a page. Where they do not, the kernel puts them into packets as it does with any, but by
    /// more and smaller ones: a packet has room for as many pages as 64 KiB are, and one that is cut in two takes two.
    pub(crate) fn is_aligned(&self) -> bool {
        self.range.start.is_multiple_of(PAGE)
    }

    /// The bytes before the first whole page.
    pub(crate) fn to_next_page(&self) -> &[u8] {
        let end = self.range.start.next_multiple_of(PAGE).min(self.range.end);
        &self.mapped.bytes[self.range.start..end]
    }

    /// Has the kernel send the bytes to a socket; answers how many it took, which are some.
    pub(crate) fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        let mut offset = self.range.start as u64;
        match rustix::fs::sendfile(socket, &self.mapped.file, Some(&mut offset), self.range.len())? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    }
}

#[allow(unsafe_code, reason = "a mapping cannot be made without")]
fn map(file: &Arc<File>, length: u64) -> Option<Arc<Mapped>> {
    let length = usize::try_from(length).ok()?;
    // SAFETY: the file is a blob's, and does not change while it is mapped. It is read by the kernel alone, which takes a
    // page that cannot be read as an error. See the module's description.
    let bytes = unsafe { memmap2::MmapOptions::new().len(length).map(file) };
    bytes.map(|bytes| Arc::new(Mapped { bytes, file: Arc::clone(file) })).ok()
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
    use std::io::{Read, Write};
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
    fn what_was_handed_out_is_known_again() {
        let mapped = Mapped::of(&region(1 << 20, 0)).unwrap();
        let (first, second) = (mapped.bytes(0..100_000), mapped.bytes(100_000..300_000));
        let handed = Handed::new(&mapped, 100_000..300_000);
        assert!(handed.find(&first).is_none() && handed.find(b"something else").is_none());
        let (mut from, mut to) = UnixStream::pair().unwrap();
        for range in [0..200_000, 7..8, 199_000..200_000] {
            let stored = handed.find(&second[range.clone()]).unwrap();
            assert_eq!(*stored.as_ref(), second[range.clone()]);
            let (sent, mut got) = (stored.send(&from).unwrap(), vec![0; range.len()]);
            to.read_exact(&mut got[..sent]).unwrap();
            assert!(sent > 0 && got[..sent] == second[range][..sent]);
        }
        from.flush().unwrap();
        for (start, before) in [(0, 4096 - 100_000 % 4096), (102_400 - 100_000, 0), (102_401 - 100_000, 4095)] {
            let stored = handed.find(&second[start..]).unwrap();
            assert_eq!((stored.to_next_page(), stored.is_aligned()), (&second[start..start + before], before == 0));
        }
        assert_eq!(handed.find(&second[..9]).unwrap().to_next_page(), &second[..9], "no more than the piece");
        drop((first, second, mapped));
        assert!(handed.find(&[]).is_none(), "the mapping is gone");
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
        let stored = Handed::new(&mapped, 0..200_000).find(&mapped.bytes(100_000..200_000)).unwrap();
        assert_eq!(stored.send(&from).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
