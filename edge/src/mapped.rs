//! Large files, mapped into memory: what is sent of them without TLS is not read by this program.
//!
//! A piece of one goes to the socket in one of two ways ([`LargeFiles`]): the kernel sends the
//! pages of the file as they lie (`sendfile`, or where they are many or there is something between them, `splice.rs`), or it copies
//! them out of the mapping (`write`). Either way the bytes are the same.
//! This module, `splice.rs` and `listener/queue.rs` are all of the edge that is `unsafe`.
//!
//! # Why it is sound
//!
//! A mapping promises the compiler bytes that do not change. Files of blobs do not: a file is named when it is whole and
//! synced, is never opened for writing again, and lies in a folder that is the server's alone. It may be unlinked; then
//! the mapping keeps it.
//!
//! What fails is the read of a page, where the disk does or somebody cut the file short. To a program that reads the page
//! itself this is a signal; to the kernel that reads it on behalf of `write` it is EFAULT, an error like any other, and for
//! `sendfile` the end of the file. So the bytes that this module gives out are for the socket, and nothing else reads them: they
//! go where there is no TLS, and are not copied to be put together with others.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use memmap2::Mmap;
use pinstone_engine::blob::FileRegion;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketType};
use rustix::param::page_size;
use smallvec::SmallVec;

use crate::watch::{InFlight, Owed, ticks};

/// The least that is worth it, in bytes: for less, reading is as cheap.
pub(crate) const LEAST: usize = 64 << 10;

/// The file is told apart by so many bytes when it is asked whether they are in memory.
const BLOCK: usize = 512 << 10;

/// For how long, in milliseconds, a block that was in memory is taken to be there: to ask takes a fifteenth of what it takes to send
/// it. Memory that is short may lose a block within a second, and seldom one that was sent a moment ago.
pub(crate) const REMEMBERED: u32 = 100;

/// The smallest page of any kernel that this is built for, in bytes.
const SMALLEST_PAGE: usize = 4 << 10;

/// How the bytes of a large file reach a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LargeFiles {
    /// They are read into memory of ours, window by window, and encrypted or framed there.
    Read,
    /// The kernel copies them out of a mapping.
    Copied,
    /// The kernel sends the pages of the file as they lie.
    Sent,
}

impl LargeFiles {
    /// What costs least where nothing has to be done to the bytes, unless it is said whether to send them.
    ///
    /// Sending pages saves a copy, and with CUBIC, which most systems have, that is a quarter to half of the CPU. BBR lets a timer
    /// say when each packet may go; with it both the CPU and what clients take per second are better by a copy on most machines
    /// that were measured. See `docs/performance.md`.
    pub(crate) fn without_tls(sendfile: Option<bool>) -> Self {
        match sendfile {
            Some(true) => Self::Sent,
            Some(false) => Self::Copied,
            None => {
                // That of new sockets, to which listening ones belong.
                let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
                let algorithm = socket.and_then(rustix::net::sockopt::tcp_congestion);
                Self::with(algorithm.as_deref().unwrap_or_default())
            }
        }
    }

    /// The most that is handed out at once, in bytes. What the socket takes of it in one go stops the worker for about a tenth of a
    /// millisecond; and what of a file is in memory is known for no longer.
    pub(crate) fn at_once(self) -> usize {
        if self == Self::Sent { 1 << 20 } else { 512 << 10 }
    }

    fn with(congestion_control: &str) -> Self {
        if congestion_control.starts_with("bbr") { Self::Copied } else { Self::Sent }
    }
}

/// A file in memory.
#[derive(Debug)]
pub(crate) struct Mapped {
    bytes: Mmap,
    file: Arc<File>,
    /// When each [`BLOCK`] was last seen in memory, by [`now`]; 0 for never.
    seen: Box<[AtomicU32]>,
}

/// Some bytes of it, which keep it.
#[derive(Debug)]
pub(crate) struct Stored {
    held: Arc<Held>,
    range: Range<usize>,
}

/// What pieces of one answer hold until the last of them is dropped.
#[derive(Debug)]
struct Held {
    mapped: Arc<Mapped>,
    _until: Until,
}

/// What ends with the last piece.
#[derive(Debug)]
#[expect(dead_code, reason = "they end when they are dropped")]
enum Until {
    Nothing,
    /// The client owes to take them.
    Owed(Owed),
    /// The request, and what the pieces held before.
    InFlight(InFlight, Arc<Held>),
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
        let length = range.len();
        range.end <= self.bytes.len() && self.resident(range) == length
    }

    /// How many bytes at the beginning of `range` are in memory.
    pub(crate) fn resident(&self, range: Range<usize>) -> usize {
        self.resident_at(now(), range)
    }

    fn resident_at(&self, now: u32, range: Range<usize>) -> usize {
        let end = range.end.min(self.bytes.len());
        let mut at = range.start;
        while at < end {
            let end_of_block = (at / BLOCK + 1).saturating_mul(BLOCK);
            at = self.resident_to(now, at);
            if at < end_of_block {
                break;
            }
        }
        at.min(end).saturating_sub(range.start)
    }

    /// Up to where everything is in memory from `at` on, as far as its block goes.
    fn resident_to(&self, now: u32, at: usize) -> usize {
        let block = at / BLOCK;
        let whole = block * BLOCK..(block + 1).saturating_mul(BLOCK).min(self.bytes.len());
        let seen = &self.seen[block];
        let last = seen.load(Relaxed);
        if is_within(REMEMBERED, last, || now) {
            return whole.end;
        }
        let (page, mut pages) = (page_size(), [0; BLOCK / SMALLEST_PAGE]);
        let pages = &mut pages[..whole.len().div_ceil(page)];
        if !residency(&self.bytes[whole.clone()], pages) {
            return at;
        }
        let is_absent = |page: &u8| page & 1 == 0;
        let first = (at - whole.start) / page;
        if let Some(here) = pages[first..].iter().position(is_absent) {
            return at.max(whole.start + (first + here) * page);
        }
        if !pages[..first].iter().any(is_absent) {
            seen.store(now, Relaxed);
        }
        whole.end
    }

    /// The bytes of `range`. Only for a socket: see above.
    ///
    /// # Panics
    ///
    /// Where the range is not within the region.
    pub(crate) fn stored(self: &Arc<Self>, range: Range<usize>, owed: Option<Owed>) -> Stored {
        assert!(range.start <= range.end && range.end <= self.bytes.len(), "{range:?} of {}", self.bytes.len());
        let held = Held { mapped: Arc::clone(self), _until: owed.map_or(Until::Nothing, Until::Owed) };
        Stored { held: Arc::new(held), range }
    }
}

impl Stored {
    /// The bytes themselves. Who reads them waits for the disk where they are not in memory any more.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.held.mapped.bytes[self.range.clone()]
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// The same bytes, which are all that is left of the answer; the request is in flight until they are dropped.
    pub(crate) fn until_taken(self, in_flight: InFlight) -> Self {
        let Self { held, range } = self;
        let mapped = Arc::clone(&held.mapped);
        Self { held: Arc::new(Held { mapped, _until: Until::InFlight(in_flight, held) }), range }
    }

    /// Whether the file still goes as far as these bytes do. Behind its end a page of the mapping is zeros.
    pub(crate) fn is_whole(&self) -> bool {
        rustix::fs::fstat(&*self.held.mapped.file)
            .is_ok_and(|stat| usize::try_from(stat.st_size).is_ok_and(|size| size >= self.range.end))
    }

    /// Takes the first `bytes` out of it.
    pub(crate) fn split_to(&mut self, bytes: usize) -> Self {
        let first = Self { held: Arc::clone(&self.held), range: self.range.start..self.range.start + bytes };
        self.advance(bytes);
        first
    }

    /// The same bytes as any others.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Leaves no more than the first `bytes`.
    pub(crate) fn truncate(&mut self, bytes: usize) {
        self.range.end = self.range.end.min(self.range.start.saturating_add(bytes));
    }

    /// Leaves all but the first `bytes`.
    pub(crate) fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.range.len(), "{bytes} of {:?}", self.range);
        self.range.start += bytes;
    }

    /// Has the kernel send `before` and then these bytes to a socket that does not block, in the same packets; answers how many of
    /// all of them it took, which are some.
    ///
    /// What lies before the first whole page is copied with `before`: a packet has room for as many pages as 64 KiB are, and a page
    /// that is cut in two takes two of the places. Where the socket took a part of a page, the rest of it goes on behind that, in the
    /// same place of the packet.
    pub(crate) fn send(&self, socket: impl AsFd, before: &[&[u8]]) -> io::Result<usize> {
        let Range { mut start, end } = self.range;
        let mut copied = 0;
        if !before.is_empty() {
            let first = &self.held.mapped.bytes[start..start.next_multiple_of(page_size()).min(end)];
            start += first.len();
            let first = (!first.is_empty()).then_some(first);
            let bufs: SmallVec<[_; 4]> = before.iter().copied().chain(first).map(IoSlice::new).collect();
            let follows = if start == end { SendFlags::empty() } else { SendFlags::MORE };
            let flags = follows | SendFlags::NOSIGNAL;
            copied = copy(&socket, &bufs, flags)?;
            if start == end || copied < bufs.iter().map(|buf| buf.len()).sum() {
                return Ok(copied);
            }
        }
        let mut offset = start as u64;
        let sent = match rustix::fs::sendfile(&socket, &self.held.mapped.file, Some(&mut offset), end - start) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if is_refused(error) => {
                rustix::net::send(&socket, &self.held.mapped.bytes[start..end], SendFlags::NOSIGNAL)
            }
            sent => sent,
        };
        match sent {
            Ok(sent) => Ok(copied + sent),
            Err(Errno::AGAIN | Errno::INTR) if copied > 0 => Ok(copied),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether this says that a file system or a sandbox does not let the kernel send a file as it lies.
pub(crate) fn is_refused(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP)
}

/// Has the kernel copy `bufs` to a socket; answers how many bytes it took.
pub(crate) fn copy(socket: impl AsFd, bufs: &[IoSlice<'_>], flags: SendFlags) -> Result<usize, Errno> {
    match bufs {
        [one] => rustix::net::send(socket, one, flags),
        several => rustix::net::sendmsg(socket, several, &mut SendAncillaryBuffer::default(), flags),
    }
}

impl AsRef<[u8]> for Stored {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Milliseconds that have passed, of which only the difference says something; never 0.
#[allow(clippy::cast_possible_truncation, reason = "what is cut off is of no account for differences")]
pub(crate) fn now() -> u32 {
    (ticks().as_millis() as u32).max(1)
}

/// Whether what was noted, by [`now`], is less than so many milliseconds old; not where it is 0, for never, and the clock is not read.
pub(crate) fn is_within(milliseconds: u32, noted: u32, now: impl FnOnce() -> u32) -> bool {
    noted != 0 && now().wrapping_sub(noted) < milliseconds
}

#[allow(unsafe_code, reason = "a mapping cannot be made without")]
fn map(file: &Arc<File>, length: u64) -> Option<Arc<Mapped>> {
    let length = usize::try_from(length).ok()?;
    // SAFETY: the file is a blob's, and does not change while it is mapped. It is read by the kernel alone, which takes a
    // page that cannot be read as an error. See the module's description.
    let bytes = unsafe { memmap2::MmapOptions::new().len(length).map(file) }.ok()?;
    // Where a sandbox forbids to ask, it is of no use: nothing would ever be said to be in memory.
    let can_tell = residency(&bytes[..length.min(1)], &mut [0]);
    let seen = (0..length.div_ceil(BLOCK)).map(|_| AtomicU32::new(0)).collect();
    can_tell.then(|| Arc::new(Mapped { bytes, file: Arc::clone(file), seen }))
}

/// Asks which pages of `bytes` are in memory; `bytes` has to begin with a page.
#[allow(unsafe_code, reason = "the call has no safe form")]
fn residency(bytes: &[u8], pages: &mut [u8]) -> bool {
    if bytes.is_empty() || pages.len() < bytes.len().div_ceil(page_size()) {
        return bytes.is_empty();
    }
    let address = bytes.as_ptr().cast_mut().cast();
    // SAFETY: `bytes` is a slice, so it is mapped; the kernel reads nothing of it, and writes a byte for each page, which
    // `pages` has room for.
    unsafe { libc::mincore(address, bytes.len(), pages.as_mut_ptr()) == 0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn region(length: usize, offset: u64) -> FileRegion {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&pattern(length)).unwrap();
        FileRegion { file: Arc::new(file), offset, length: length as u64 - offset }
    }

    /// A file with these bytes, which its disk has too, so that they can be taken out of memory.
    pub(crate) fn on_disk(bytes: &[u8]) -> FileRegion {
        // Where the program lies: the system's folder for temporary files may be memory itself.
        let program = std::env::current_exe().unwrap();
        let mut file = tempfile::tempfile_in(program.parent().unwrap()).unwrap();
        // What was written at once may lie together in memory, and goes together.
        bytes.chunks(LEAST).for_each(|chunk| file.write_all(chunk).unwrap());
        file.sync_all().unwrap();
        FileRegion { file: Arc::new(file), offset: 0, length: bytes.len() as u64 }
    }

    pub(crate) fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn bytes_are_those_of_the_file_and_outlive_it() {
        let region = region(1 << 20, 777);
        let mapped = Mapped::of(&region).unwrap();
        drop(region);
        let want = pattern(1 << 20);
        for range in [0..1, 777..200_777, 4095..4097, (1 << 20) - 1..1 << 20, 9..9] {
            assert!(mapped.stored(range.clone(), None).bytes() == &want[range.clone()], "{range:?}");
            assert!(mapped.is_resident(range));
        }
        let mut kept = mapped.stored(5..10, None);
        drop(mapped);
        kept.truncate(100);
        kept.advance(1);
        kept.truncate(3);
        assert_eq!(kept.bytes(), &want[6..9]);
    }

    #[test]
    fn what_is_small_or_beyond_the_end_is_not_mapped_or_not_there() {
        assert!(Mapped::of(&region(LEAST - 1, 0)).is_none());
        let mapped = Mapped::of(&region(1 << 20, 0)).unwrap();
        assert!(!mapped.is_resident((1 << 20) - 1..(1 << 20) + 1));
        assert!(mapped.is_resident(0..1 << 20) && mapped.is_resident(page_size() - 1..BLOCK + 1));
    }

    #[test]
    fn what_is_not_in_memory_is_said_to_be_so() {
        let region = on_disk(&pattern(1 << 20));
        let mapped = Mapped::of(&region).unwrap();
        let all = 0..1 << 20;
        let is_resident_at = |now, range: Range<usize>| mapped.resident_at(now, range.clone()) == range.len();
        assert!(is_resident_at(1000, all.clone()));
        rustix::fs::fadvise(&region.file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(is_resident_at(1000 + REMEMBERED - 1, all.clone()), "it was seen a moment ago");
        let later = 1000 + REMEMBERED;
        assert!(!is_resident_at(later, all.clone()));
        // Without reading ahead, as a disk that is busy leaves it.
        rustix::fs::fadvise(&region.file, 0, None, rustix::fs::Advice::Random).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&*region.file, &mut [0; SMALLEST_PAGE], BLOCK as u64).unwrap();
        assert!(is_resident_at(later, BLOCK + 1..BLOCK + 9), "the rest of its block need not be there");
        assert_eq!(mapped.resident_at(later, BLOCK + 1..1 << 20), SMALLEST_PAGE.max(page_size()) - 1);
        assert_eq!(mapped.resident_at(later, 5..1 << 20), 0);
        assert!(!is_resident_at(later, BLOCK - 9..BLOCK + 9) && !is_resident_at(later, all.clone()));
        std::os::unix::fs::FileExt::read_exact_at(&*region.file, &mut vec![0; 1 << 20], 0).unwrap();
        assert!(is_resident_at(later, all));
    }

    #[test]
    fn what_is_sent_is_what_comes_before_and_the_bytes_of_the_file_wherever_they_begin() {
        let mapped = Mapped::of(&region(1 << 20, 0)).unwrap();
        let want = pattern(1 << 20);
        let head = [&b"HTTP/1.1 200 OK\r\n"[..], b"\r\n"];
        for before in [&head[..], &head[..1], &[]] {
            for range in [0..200_000, 4096..4097, 777..100_000, 8191..8193, 5000..5010, 12_288..16_384] {
                let (from, mut to) = UnixStream::pair().unwrap();
                let reader = std::thread::spawn(move || {
                    let mut got = Vec::new();
                    to.read_to_end(&mut got).unwrap();
                    got
                });
                let before_length: usize = before.iter().map(|buf| buf.len()).sum();
                let mut rest = mapped.stored(range.clone(), None);
                // The first call takes all that comes before, for there is room.
                rest.advance(rest.send(&from, before).unwrap() - before_length);
                while !rest.bytes().is_empty() {
                    rest.advance(rest.send(&from, &[]).unwrap());
                }
                drop(from);
                let all: Vec<u8> = before.iter().copied().flatten().chain(&want[range.clone()]).copied().collect();
                assert!(reader.join().unwrap() == all, "{range:?}");
            }
        }
    }

    #[test]
    fn a_socket_that_is_full_takes_what_there_is_room_for() {
        let mapped = Mapped::of(&region(8 << 20, 0)).unwrap();
        let (from, _to) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let mut rest = mapped.stored(0..8 << 20, None);
        let error = loop {
            match rest.send(&from, &[b"x"]) {
                Ok(0) => panic!("it took nothing"),
                Ok(sent) => rest.advance(sent - 1),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(!rest.bytes().is_empty());
    }

    #[test]
    fn files_are_copied_where_a_timer_says_when_a_packet_may_go() {
        assert_eq!(["cubic", "reno", "bbr", "bbr3", ""].map(LargeFiles::with), {
            use LargeFiles::{Copied, Sent};
            [Sent, Sent, Copied, Copied, Sent]
        });
        assert_ne!(LargeFiles::without_tls(None), LargeFiles::Read);
        assert_eq!([true, false].map(|is| LargeFiles::without_tls(Some(is))), [LargeFiles::Sent, LargeFiles::Copied]);
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error_of_the_socket() {
        let region = region(1 << 20, 0);
        let mapped = Mapped::of(&region).unwrap();
        region.file.set_len(SMALLEST_PAGE as u64).unwrap();
        let (mut from, _to) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let gone = mapped.stored(102_400..200_000, None);
        assert_eq!(from.write(gone.bytes()).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(gone.send(&from, &[]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
