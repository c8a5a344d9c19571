//! Much that lies in files and little between it, such as frames and their heads, written by two calls: its pages are put into a pipe
//! (`vmsplice`), and go from there into the socket (`splice`).
//!
//! `sendfile` sends one stretch of a file, and HTTP/2 puts a head before each 16 KiB. To call it for each takes more than to copy all.
//! Measured: 100 KiB over HTTP/2 take 0.71 of the CPU of copying them (`docs/performance.md`).
//!
//! # Why it is sound
//!
//! The kernel reads what was put into the pipe when the client takes it, which may be long after the call. So nothing may ever be written
//! where that lies, and its pages may not be used for anything else:
//!
//! * What lies in files is mapped, and does not change (`mapped.rs`). A page that is in a pipe or on its way to a client is the kernel's
//!   until it arrives, whether the mapping is still there or not.
//! * What comes between is copied to memory that is mapped for that alone ([`Copies`]). Every byte of it is written once, before the
//!   kernel is told of it. When all of it is used it is unmapped, and the kernel keeps its pages for as long as it needs them.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use memmap2::MmapMut;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::param::page_size;
use rustix::pipe::{IoSliceRaw, PipeFlags, SpliceFlags};
use smallvec::SmallVec;

use crate::mapped::{self, Stored};

/// The most bytes that one call copies between what lies in files.
pub(crate) const MOST_COPIED: usize = 4 << 10;

/// How many bytes are worth one call. Of more, more is put into the pipe in vain where the socket takes only some: of 64, 128, 256 and
/// 512 KiB, 4, 13, 27 and 50 in a hundred, and 128 and 256 cost least.
pub(crate) const WORTH_A_CALL: usize = 128 << 10;

/// Memory for what is copied, which lasts for some hundred calls.
const COPIES: usize = 64 << 10;

/// The pages that a pipe has room for, of which a frame of 16 KiB may touch five.
const PAGES: usize = 128;

/// Something to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// Bytes that may change when they are written.
    Bytes(&'a [u8]),
    /// Bytes that lie in a file.
    Stored(&'a Stored),
}

impl<'a> Part<'a> {
    /// Whether its bytes lie in a file.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored(stored) => stored.len(),
        }
    }

    /// The bytes themselves, for the kernel alone.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Stored(stored) => stored.bytes(),
        }
    }
}

/// What a thread splices with.
#[derive(Debug, Default)]
enum Kept {
    /// Nothing yet; or it is in use, or could not be made just now.
    #[default]
    Nothing,
    Ready(Splicer),
    /// A sandbox does not let it.
    Refused,
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept::Nothing) };
}

/// Has the kernel write `parts` to a socket that does not block; answers how many bytes of them it took, which are some.
///
/// # Errors
///
/// Those of the socket, [`io::ErrorKind::WouldBlock`] among them, and that a file cannot be read.
pub(crate) fn send(socket: impl AsFd, parts: &[Part<'_>]) -> io::Result<usize> {
    let sent = match parts {
        [before @ .., Part::Stored(stored)] if !before.iter().any(Part::is_stored) => {
            let before: SmallVec<[_; 4]> = before.iter().map(Part::bytes).collect();
            stored.send(socket, &before)
        }
        several => send_several(socket, several),
    };
    sent.inspect_err(|error| {
        let is_of_file = error.kind() == io::ErrorKind::UnexpectedEof
            || [Errno::FAULT, Errno::IO].iter().any(|errno| Some(errno.raw_os_error()) == error.raw_os_error());
        if is_of_file {
            tracing::error!(%error, "a file could not be read while it was sent");
        }
    })
}

fn send_several(socket: impl AsFd, parts: &[Part<'_>]) -> io::Result<usize> {
    let splicer = match KEPT.take() {
        Kept::Nothing => Splicer::new().ok(),
        Kept::Ready(splicer) => Some(splicer),
        Kept::Refused => {
            KEPT.set(Kept::Refused);
            None
        }
    };
    // Where no file descriptor is left they are copied too.
    let Some(mut splicer) = splicer else { return copy(socket, parts) };
    let sent = splicer.send(&socket, parts);
    if sent.is_err_and(mapped::is_refused) {
        KEPT.set(Kept::Refused);
        return copy(socket, parts);
    }
    if splicer.is_empty {
        KEPT.set(Kept::Ready(splicer));
    }
    match sent {
        Err(Errno::NOMEM) => copy(socket, parts),
        sent => Ok(sent?),
    }
}

fn copy(socket: impl AsFd, parts: &[Part<'_>]) -> io::Result<usize> {
    let bufs: SmallVec<[_; 16]> = parts.iter().map(|part| IoSlice::new(part.bytes())).collect();
    Ok(mapped::copy(socket, &bufs, SendFlags::NOSIGNAL)?)
}

/// A pipe, and what it is filled with.
#[derive(Debug)]
struct Splicer {
    /// Its end to read from.
    from: OwnedFd,
    /// Its end to write to.
    to: OwnedFd,
    /// Whether nothing is in it. What is left in it would go to another client, so it is not used again then.
    is_empty: bool,
    /// Where what is put in in vain goes.
    null: File,
    copies: Copies,
}

impl Splicer {
    fn new() -> io::Result<Self> {
        let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Where it may not be larger it does with what it has.
        let _ = rustix::pipe::fcntl_setpipe_size(&to, PAGES * page_size());
        let null = File::options().write(true).open("/dev/null")?;
        Ok(Self { from, to, is_empty: true, null, copies: Copies::new(COPIES)? })
    }

    fn send(&mut self, socket: impl AsFd, parts: &[Part<'_>]) -> Result<usize, Errno> {
        let put = self.put(parts)?;
        self.is_empty = false;
        let (sent, error) = self.take(&socket, put);
        let (dropped, _) = self.take(&self.null, put - sent);
        self.is_empty = sent + dropped == put;
        if sent > 0 { Ok(sent) } else { Err(error.unwrap_or(Errno::PIPE)) }
    }

    /// Has `sink` take so many bytes out of the pipe; answers how many it took, and why not all.
    fn take(&self, sink: impl AsFd, bytes: usize) -> (usize, Option<Errno>) {
        let mut taken = 0;
        while taken < bytes {
            match rustix::pipe::splice(&self.from, None, &sink, None, bytes - taken, SpliceFlags::NONBLOCK) {
                Ok(0) => break,
                Ok(more) => taken += more,
                Err(Errno::INTR) => {}
                Err(error) => return (taken, Some(error)),
            }
        }
        (taken, None)
    }

    /// Puts as many bytes of `parts` into the pipe as there is room for; answers how many.
    ///
    /// Bytes that are not stored are read here, so they must not be a mapping's: where files are sent as they lie, none are.
    #[allow(unsafe_code, reason = "the call has no safe form")]
    fn put(&mut self, parts: &[Part<'_>]) -> Result<usize, Errno> {
        let copied = parts.iter().filter(|part| !part.is_stored()).map(Part::len).sum();
        let mut copies = self.copies.room(copied)?;
        let bufs: SmallVec<[_; 32]> = parts
            .iter()
            .map(|part| match part {
                Part::Stored(stored) => IoSliceRaw::from_slice(stored.bytes()),
                Part::Bytes(bytes) => {
                    let (copy, rest) = std::mem::take(&mut copies).split_at_mut(bytes.len());
                    copy.copy_from_slice(bytes);
                    copies = rest;
                    IoSliceRaw::from_slice(copy)
                }
            })
            .collect();
        // SAFETY: `to` is a pipe's end to write to, so the memory is not written to. What lies there is not changed for as long as the
        // kernel has it: see the module's description.
        unsafe { rustix::pipe::vmsplice(&self.to, &bufs, SpliceFlags::NONBLOCK) }
    }
}

/// Memory of which each byte is written once.
#[derive(Debug)]
struct Copies {
    memory: MmapMut,
    used: usize,
}

impl Copies {
    fn new(bytes: usize) -> io::Result<Self> {
        Ok(Self { memory: MmapMut::map_anon(bytes)?, used: 0 })
    }

    /// So many bytes that nothing was written to yet.
    fn room(&mut self, bytes: usize) -> Result<&mut [u8], Errno> {
        if self.memory.len() - self.used < bytes {
            *self = Self::new(bytes.max(COPIES)).map_err(|_| Errno::NOMEM)?;
        }
        let begin = self.used;
        self.used += bytes;
        Ok(&mut self.memory[begin..self.used])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapped::Mapped;
    use crate::mapped::tests::pattern;
    use pinstone_engine::blob::FileRegion;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    const FRAME: usize = 16 << 10;

    fn mapped(bytes: &[u8]) -> (Arc<Mapped>, Arc<File>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let file = Arc::new(file);
        let region = FileRegion { file: Arc::clone(&file), offset: 0, length: bytes.len() as u64 };
        (Mapped::of(&region).unwrap(), file)
    }

    /// An end that does not block, and one that does.
    fn pair() -> (UnixStream, UnixStream) {
        let (from, to) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        (from, to)
    }

    /// All that comes until the other end is closed.
    fn rest(mut to: UnixStream) -> Vec<u8> {
        let mut all = Vec::new();
        to.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn parts_arrive_in_their_order_and_as_they_were_when_they_were_written() {
        let want = pattern(100_000);
        let (mapped, _) = mapped(&want);
        // Whole pages, cut ones, single bytes; and more heads than one piece of memory has room for.
        for stored in [0..FRAME, 1..FRAME, 4095..4097, 99_999..100_000] {
            let (from, to) = pair();
            let reading = std::thread::spawn(move || rest(to));
            let mut all = Vec::new();
            let mut head = vec![0; MOST_COPIED / 2];
            for number in 0..100_u8 {
                head.fill(number);
                let (first, second) = (mapped.stored(stored.clone(), None), mapped.stored(number.into()..50_000, None));
                let parts = [Part::Bytes(&head), Part::Stored(&first), Part::Bytes(&head[..9]), Part::Stored(&second)];
                let bytes: Vec<u8> = parts.iter().flat_map(Part::bytes).copied().collect();
                let taken = loop {
                    match send(&from, &parts) {
                        Ok(taken) => break taken,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                    std::thread::yield_now();
                };
                all.extend_from_slice(&bytes[..taken]);
            }
            drop(from);
            assert!(reading.join().unwrap() == all, "{stored:?}");
        }
    }

    #[test]
    fn what_waits_in_a_socket_is_not_changed_by_what_is_written_behind_it() {
        let (from, to) = pair();
        let (mapped, _) = mapped(&pattern(100_000));
        let mut want: Vec<u8> = Vec::new();
        for number in 0..=u8::MAX {
            let head = [number; 9];
            let stored = [0..1, 7..8].map(|range| mapped.stored(range, None));
            let parts = [Part::Bytes(&head), Part::Stored(&stored[0]), Part::Bytes(&head), Part::Stored(&stored[1])];
            let Ok(taken) = send(&from, &parts) else { break };
            want.extend(parts.iter().flat_map(Part::bytes).take(taken));
        }
        // Neither the file nor what was copied is mapped any more when it is read.
        drop((from, mapped));
        KEPT.set(Kept::Nothing);
        assert!(!want.is_empty() && rest(to) == want);
    }

    #[test]
    fn what_a_socket_did_not_take_goes_to_no_other() {
        let (mine, theirs) = (mapped(&[b'm'; 100_000]).0, mapped(&[b't'; 100_000]).0);
        let send_frames = |socket: &UnixStream, of: &Arc<Mapped>| {
            let stored = [(); 6].map(|()| of.stored(0..FRAME, None));
            let parts: Vec<_> = stored.iter().flat_map(|stored| [Part::Bytes(b"head"), Part::Stored(stored)]).collect();
            let all: usize = parts.iter().map(Part::len).sum();
            send(socket, &parts).map(|taken| (taken, all))
        };
        let ((from, to), (other_from, other_to)) = (pair(), pair());
        let mut is_cut = false;
        let error = loop {
            match send_frames(&from, &mine) {
                Ok((taken, all)) => is_cut |= taken < all,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(is_cut, "a part of what was put into the pipe was taken");
        let (taken, _) = send_frames(&other_from, &theirs).unwrap();
        drop((from, other_from));
        let got = rest(other_to);
        assert!(got.len() == taken && got.iter().all(|byte| b"headt".contains(byte)));
        drop(to);
    }

    #[test]
    fn who_is_gone_and_what_is_gone_are_errors_and_no_more() {
        let (whole, _) = mapped(&pattern(100_000));
        let (cut, file) = mapped(&pattern(200_000));
        file.set_len(4096).unwrap();
        let (from, to) = pair();
        let stored = |of: &Arc<Mapped>| [100..200, 90_000..95_000].map(|range| of.stored(range, None));
        let (of_cut, of_whole) = (stored(&cut), stored(&whole));
        let both = |stored: &[Stored; 2], socket: &UnixStream| {
            let [first, second] = stored.each_ref().map(Part::Stored);
            send(socket, &[Part::Bytes(b"x"), first, Part::Bytes(b"y"), second])
        };
        // What comes before the page that is gone may be taken.
        let taken = both(&of_cut, &from).unwrap_or(0);
        assert!(taken <= 102, "{taken}");
        let second = [Part::Stored(&of_cut[1]), Part::Bytes(b"y"), Part::Stored(&of_cut[1])];
        assert_eq!(send(&from, &second).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(both(&of_whole, &from).unwrap(), 5102, "others are served");
        drop(to);
        assert_eq!(both(&of_whole, &from).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (from, to) = pair();
        assert_eq!(both(&of_whole, &from).unwrap(), 5102);
        drop(from);
        assert_eq!(rest(to).len(), 5102);
    }
}
