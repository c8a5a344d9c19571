//! Much that lies in files, written without copying it: its pages are put into a pipe (`vmsplice`), and go from there into the socket
//! (`splice`).
//!
//! `sendfile` sends one stretch of a file, and HTTP/2 puts a head before each 16 KiB. To call it for each takes more than to copy all; and
//! of a long stretch it sends 64 KiB after the other, page by page.
//! Measured (`docs/performance.md`): 100 KiB over HTTP/2 take 0.71 of the CPU of copying them, 10 MiB over HTTP/1.1 0.89 of that of
//! `sendfile`.
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

/// How many bytes between which something is copied are worth one call: 128 and 256 KiB cost least, of 64 to 512.
pub(crate) const WORTH_A_CALL: usize = 128 << 10;

/// From how many bytes on one stretch of a file goes by way of a pipe: for less, `sendfile` takes no more.
const LONG: usize = 256 << 10;

/// Memory for what is copied, which lasts for some hundred calls.
const COPIES: usize = 64 << 10;

/// The pages that a pipe has room for: 10 MiB take 0.95 of the CPU that they take with half as many, and with twice as many 0.99.
const PAGES: usize = 128;

/// The most bytes of one, as many as a system lets any user have (`fs.pipe-max-size`), however large its pages are.
const LARGEST: usize = 1 << 20;

/// For how long, in milliseconds, none is made where one could not be.
const WITHOUT: u32 = 100;

/// Connections of a thread for which a pipe is kept with what their sockets did not take. Others send long stretches by `sendfile`; what
/// is between heads they put in again.
const MOST_FILLED: usize = 64;

/// Empty pipes that a thread keeps.
const SPARE: usize = 16;

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

/// What a connection splices with: a pipe, while there is something in it that its socket did not take.
///
/// That does not count as written. It is the beginning of what the connection writes next, which goes on out of the pipe.
#[derive(Debug, Default)]
pub(crate) struct Splicing(Option<Filled>);

/// A pipe that has so many bytes in it.
#[derive(Debug)]
struct Filled {
    pipe: Pipe,
    bytes: usize,
}

/// What the connections of a thread splice with in turn.
#[derive(Debug, Default)]
struct Kept {
    /// Those that are empty.
    pipes: Vec<Pipe>,
    /// How many connections have one that is not.
    filled: usize,
    copies: Copies,
    /// When one could not be made, by [`mapped::now`]; 0 for never.
    failed: u32,
    /// A sandbox does not let it.
    is_refused: bool,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

impl Splicing {
    /// Whether what is written next has begun to go by way of a pipe. It is then to [go on](Self::go_on).
    pub(crate) fn has_begun(&self) -> bool {
        self.0.is_some()
    }

    /// Has the kernel write `parts` to a socket that does not block; answers how many bytes of them it took, which are some. Where it
    /// [has begun](Self::has_begun), that goes on instead.
    ///
    /// # Errors
    ///
    /// Those of the socket, [`io::ErrorKind::WouldBlock`] among them, and that a file cannot be read.
    pub(crate) fn send(&mut self, socket: impl AsFd, parts: &[Part<'_>]) -> io::Result<usize> {
        let sent = match parts {
            _ if self.has_begun() => self.go_on(&socket, total(parts)),
            // By whole pages, as many as there is room for, once what comes before it has gone.
            [Part::Stored(stored)] if stored.len() >= LONG && KEPT.with_borrow(Kept::has_place) => {
                // Of a page that is cut, the kernel would send zeros behind what is left of it.
                if stored.is_whole() {
                    self.begin(&socket, parts).unwrap_or_else(|| stored.send(&socket, &[]))
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
            [before @ .., Part::Stored(stored)]
                if !before.is_empty() && stored.len() >= LONG && !has_stored(before) =>
            {
                copy(&socket, before, SendFlags::MORE)
            }
            [before @ .., Part::Stored(stored)] if !has_stored(before) => {
                let before: SmallVec<[_; 4]> = before.iter().map(Part::bytes).collect();
                stored.send(&socket, &before)
            }
            several => self.begin(&socket, several).unwrap_or_else(|| copy(&socket, several, SendFlags::empty())),
        };
        sent.inspect_err(|error| {
            let is_of_file = error.kind() == io::ErrorKind::UnexpectedEof
                || [Errno::FAULT, Errno::IO].iter().any(|errno| Some(errno.raw_os_error()) == error.raw_os_error());
            if is_of_file {
                tracing::error!(%error, "a file could not be read while it was sent");
            }
        })
    }

    /// Has the socket take what is in the pipe, of which the first `most` bytes are offered to it; answers how many it took.
    ///
    /// # Errors
    ///
    /// Those of the socket, [`io::ErrorKind::WouldBlock`] among them.
    pub(crate) fn go_on(&mut self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let Some(filled) = &mut self.0 else { return Ok(0) };
        let (sent, error) = filled.pipe.take(socket, most.min(filled.bytes));
        filled.bytes -= sent;
        if filled.bytes == 0 {
            self.end();
        }
        if sent > 0 { Ok(sent) } else { Err(error.unwrap_or(Errno::PIPE).into()) }
    }

    /// Sends by way of a pipe what there is room for; nothing where there can be none.
    fn begin(&mut self, socket: impl AsFd, parts: &[Part<'_>]) -> Option<io::Result<usize>> {
        let filled = KEPT.with_borrow_mut(|kept| kept.fill(parts))?;
        let sent = filled.map_err(Into::into).and_then(|filled| {
            let bytes = filled.bytes;
            self.0 = Some(filled);
            self.go_on(socket, bytes)
        });
        let errno = sent.as_ref().err().and_then(Errno::from_io_error);
        let is_refused = errno.is_some_and(mapped::is_refused);
        // Where memory is short too.
        let goes_otherwise = is_refused || errno == Some(Errno::NOMEM);
        let is_kept = KEPT.with_borrow_mut(|kept| {
            kept.is_refused |= is_refused;
            kept.filled <= MOST_FILLED
        });
        if goes_otherwise || !is_kept {
            self.end();
        }
        (!goes_otherwise).then_some(sent)
    }

    /// Ends with what is in the pipe, if there is anything.
    fn end(&mut self) {
        let Some(Filled { pipe, bytes }) = self.0.take() else { return };
        // Nothing is kept by a thread that ends.
        let _ = KEPT.try_with(|kept| kept.borrow_mut().give_back(pipe, bytes == 0));
    }
}

impl Drop for Splicing {
    fn drop(&mut self) {
        self.end();
    }
}

impl Kept {
    /// Whether what is put into a pipe may stay there for long.
    fn has_place(&self) -> bool {
        self.filled < MOST_FILLED
    }

    /// Fills a pipe, for a connection; nothing where there can be none.
    fn fill(&mut self, parts: &[Part<'_>]) -> Option<Result<Filled, Errno>> {
        let pipe = self.pipe()?;
        let put = self.put(&pipe, parts);
        self.filled += usize::from(put.is_ok());
        Some(put.map(|bytes| Filled { pipe, bytes }))
    }

    /// A pipe that nothing is in; nothing where there can be none.
    fn pipe(&mut self) -> Option<Pipe> {
        if self.is_refused {
            return None;
        }
        self.pipes.pop().or_else(|| {
            if mapped::is_within(WITHOUT, self.failed, mapped::now) {
                return None;
            }
            let pipe = Pipe::new().ok();
            if pipe.is_none() {
                self.failed = mapped::now();
            }
            pipe
        })
    }

    /// Takes back a pipe, which is closed where something is left in it: that would go to another client.
    fn give_back(&mut self, pipe: Pipe, is_empty: bool) {
        self.filled = self.filled.saturating_sub(1);
        if is_empty && self.pipes.len() < SPARE {
            self.pipes.push(pipe);
        }
    }

    /// Puts as many bytes of `parts` into a pipe as there is room for; answers how many.
    ///
    /// Bytes that are not stored are read here, so they must not be a mapping's: where files are sent as they lie, none are.
    #[allow(unsafe_code, reason = "the call has no safe form")]
    fn put(&mut self, pipe: &Pipe, parts: &[Part<'_>]) -> Result<usize, Errno> {
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
        unsafe { rustix::pipe::vmsplice(&pipe.to, &bufs, SpliceFlags::NONBLOCK) }
    }
}

/// How many bytes there are.
pub(crate) fn total(parts: &[Part<'_>]) -> usize {
    parts.iter().map(Part::len).sum()
}

fn has_stored(parts: &[Part<'_>]) -> bool {
    parts.iter().any(Part::is_stored)
}

fn copy(socket: impl AsFd, parts: &[Part<'_>], flags: SendFlags) -> io::Result<usize> {
    let bufs: SmallVec<[_; 16]> = parts.iter().map(|part| IoSlice::new(part.bytes())).collect();
    Ok(mapped::copy(socket, &bufs, flags | SendFlags::NOSIGNAL)?)
}

#[derive(Debug)]
struct Pipe {
    /// Its end to read from.
    from: OwnedFd,
    /// Its end to write to.
    to: OwnedFd,
}

impl Pipe {
    fn new() -> Result<Self, Errno> {
        let (from, to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user has a bound for what all pipes have room for, beyond which one has room for two pages.
        rustix::pipe::fcntl_setpipe_size(&to, (PAGES * page_size()).min(LARGEST))?;
        Ok(Self { from, to })
    }

    /// Has a socket take so many bytes out of it; answers how many it took, and why not all.
    fn take(&self, socket: impl AsFd, bytes: usize) -> (usize, Option<Errno>) {
        let mut taken = 0;
        while taken < bytes {
            match rustix::pipe::splice(&self.from, None, &socket, None, bytes - taken, SpliceFlags::NONBLOCK) {
                Ok(0) => break,
                Ok(more) => taken += more,
                Err(Errno::INTR) => {}
                Err(error) => return (taken, Some(error)),
            }
        }
        (taken, None)
    }
}

/// Memory of which each byte is written once.
#[derive(Debug, Default)]
struct Copies {
    /// Nothing until something is to be copied.
    memory: Option<MmapMut>,
    used: usize,
}

impl Copies {
    /// So many bytes that nothing was written to yet.
    fn room(&mut self, bytes: usize) -> Result<&mut [u8], Errno> {
        let left = self.memory.as_ref().map_or(0, |memory| memory.len() - self.used);
        if left < bytes {
            let memory = MmapMut::map_anon(bytes.max(COPIES)).map_err(|_| Errno::NOMEM)?;
            *self = Self { memory: Some(memory), used: 0 };
        }
        let begin = self.used;
        self.used += bytes;
        Ok(self.memory.as_mut().map_or(&mut [], |memory| &mut memory[begin..begin + bytes]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapped::Mapped;
    use crate::mapped::tests::pattern;
    use pinstone_engine::blob::FileRegion;
    use std::fs::File;
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

    /// A part of which some may have been sent.
    enum Left {
        Bytes(Vec<u8>),
        Stored(Stored),
    }

    impl Left {
        fn part(&self) -> Part<'_> {
            match self {
                Self::Bytes(bytes) => Part::Bytes(bytes),
                Self::Stored(stored) => Part::Stored(stored),
            }
        }
    }

    /// Offers all that is left, until the socket took so much of it at least, or all, or takes nothing more.
    fn send_some(splicing: &mut Splicing, socket: &UnixStream, left: &mut Vec<Left>, least: usize) -> io::Result<()> {
        let mut sent = 0;
        while sent < least && !left.is_empty() {
            let parts: Vec<_> = left.iter().map(Left::part).collect();
            let mut taken = splicing.send(socket, &parts)?;
            sent += taken;
            left.retain_mut(|part| {
                let of_this = taken.min(part.part().len());
                taken -= of_this;
                match part {
                    Left::Bytes(bytes) => drop(bytes.drain(..of_this)),
                    Left::Stored(stored) => stored.advance(of_this),
                }
                part.part().len() > 0
            });
        }
        Ok(())
    }

    fn is_full(sent: &io::Result<()>) -> bool {
        sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn kept() -> (usize, usize) {
        KEPT.with_borrow(|kept| (kept.filled, kept.pipes.len()))
    }

    #[test]
    fn parts_arrive_in_their_order_and_as_they_were_when_they_were_written() {
        let want = pattern(600_000);
        let (mapped, _) = mapped(&want);
        // Whole pages, cut ones, single bytes, what is more than a pipe has room for; and more heads than one piece of memory has.
        for stored in [0..FRAME, 1..FRAME, 4095..4097, 599_999..600_000, 5..600_000] {
            let (from, to) = pair();
            let reading = std::thread::spawn(move || rest(to));
            let (mut splicing, mut all) = (Splicing::default(), Vec::<u8>::new());
            for number in 0..100_u8 {
                let stored = [stored.clone(), number.into()..50_000].map(|range| mapped.stored(range, None));
                let [first, second] = stored.map(Left::Stored);
                let heads = [MOST_COPIED / 2, 9].map(|length| Left::Bytes(vec![number; length]));
                let [head, small] = heads;
                let mut left = if number % 2 == 0 { vec![head, first, small, second] } else { vec![head, first] };
                all.extend(left.iter().flat_map(|part| part.part().bytes()));
                while !left.is_empty() {
                    let sent = send_some(&mut splicing, &from, &mut left, usize::MAX);
                    assert!(sent.is_ok() || is_full(&sent), "{sent:?}");
                    std::thread::yield_now();
                }
            }
            assert!(!splicing.has_begun());
            drop(from);
            assert!(reading.join().unwrap() == all, "{stored:?}");
        }
        assert!(matches!(kept(), (0, 1)), "{:?}", kept());
    }

    #[test]
    fn what_waits_in_a_socket_is_not_changed_by_what_is_written_behind_it() {
        let (from, to) = pair();
        let (mapped, _) = mapped(&pattern(100_000));
        let (mut splicing, mut want) = (Splicing::default(), Vec::<u8>::new());
        for number in 0..=u8::MAX {
            let head = [number; 9];
            let stored = [0..1, 7..8].map(|range| mapped.stored(range, None));
            let parts = [Part::Bytes(&head), Part::Stored(&stored[0]), Part::Bytes(&head), Part::Stored(&stored[1])];
            let taken = splicing.send(&from, &parts).unwrap_or(0);
            want.extend(parts.iter().flat_map(Part::bytes).take(taken));
            if taken < total(&parts) {
                break;
            }
        }
        // Neither the file nor what was copied is mapped any more when it is read.
        drop((from, mapped, splicing));
        KEPT.take();
        assert!(!want.is_empty() && rest(to) == want);
    }

    /// Frames of a file.
    fn frames(of: &Arc<Mapped>) -> Vec<Left> {
        let stored = [(); 6].map(|()| of.stored(0..FRAME, None));
        stored.into_iter().flat_map(|stored| [Left::Bytes(b"head".to_vec()), Left::Stored(stored)]).collect()
    }

    #[test]
    fn what_a_socket_did_not_take_goes_to_it_and_to_no_other() {
        let (mine, theirs) = (mapped(&[b'm'; 100_000]).0, mapped(&[b't'; 100_000]).0);
        let ((from, to), (other_from, other_to)) = (pair(), pair());
        let (mut splicing, mut other) = (Splicing::default(), Splicing::default());
        let mut left = Vec::new();
        let sent = loop {
            left.extend(frames(&mine));
            let sent = send_some(&mut splicing, &from, &mut left, usize::MAX);
            if splicing.has_begun() || left.len() > 100 {
                break sent;
            }
        };
        assert!(is_full(&sent) && splicing.has_begun(), "a part of what was put into the pipe was taken");
        let mut theirs = frames(&theirs);
        let _ = send_some(&mut other, &other_from, &mut theirs, usize::MAX);
        drop((other_from, other));
        let got = rest(other_to);
        assert!(!got.is_empty() && got.iter().all(|byte| b"headt".contains(byte)));
        // What is written next may be told apart from what lies in files, and be less than is in the pipe.
        let reading = std::thread::spawn(move || rest(to));
        let mut few = 0;
        while few < 3 {
            few += splicing.go_on(&from, 3 - few).unwrap_or(0);
        }
        drop((from, splicing));
        let got = reading.join().unwrap();
        assert!(got.iter().all(|byte| b"headm".contains(byte)));
        assert_eq!(kept().0, 0);
    }

    #[test]
    fn pipes_with_something_in_them_have_a_bound() {
        let (mapped, _) = mapped(&pattern(100_000));
        let full = |_| {
            let (mut splicing, ends, mut left) = (Splicing::default(), pair(), Vec::new());
            for _ in 0..1000 {
                left.extend(frames(&mapped));
                if is_full(&send_some(&mut splicing, &ends.0, &mut left, usize::MAX)) {
                    break;
                }
            }
            (splicing, ends, left)
        };
        let connections: Vec<_> = (0..MOST_FILLED + 3).map(full).collect();
        let begun = connections.iter().filter(|(splicing, ..)| splicing.has_begun()).count();
        // Fewer where this user has many pipes already.
        assert!(begun > 0 && begun <= MOST_FILLED && begun == kept().0, "{begun} of {:?}", kept());
        // The last ones have none, and go on as well.
        for (mut splicing, (from, to), mut left) in connections.into_iter().rev() {
            let reading = std::thread::spawn(move || rest(to));
            while !left.is_empty() {
                let _ = send_some(&mut splicing, &from, &mut left, 1);
            }
            drop(from);
            let got = reading.join().unwrap();
            assert!(got.chunks(4 + FRAME).all(|frame| frame[..4] == *b"head" && frame[4..] == pattern(FRAME)));
        }
        assert_eq!(kept().0, 0);
        assert!(kept().1 <= SPARE);
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
            Splicing::default().send(socket, &[Part::Bytes(b"x"), first, Part::Bytes(b"y"), second])
        };
        // What comes before the page that is gone may be taken.
        let taken = both(&of_cut, &from).unwrap_or(0);
        assert!(taken <= 102, "{taken}");
        let second = [Part::Stored(&of_cut[1]), Part::Bytes(b"y"), Part::Stored(&of_cut[1])];
        assert_eq!(Splicing::default().send(&from, &second).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(both(&of_whole, &from).unwrap(), 5102, "others are served");
        let (long, file) = mapped(&pattern(LONG + 5000));
        let long = long.stored(0..LONG + 5000, None);
        assert!(long.is_whole());
        file.set_len(LONG as u64 + 4999).unwrap();
        let sent = Splicing::default().send(&from, &[Part::Stored(&long)]);
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "what is behind its end is no part of it");
        drop(to);
        assert_eq!(both(&of_whole, &from).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (from, to) = pair();
        assert_eq!(both(&of_whole, &from).unwrap(), 5102);
        drop(from);
        assert_eq!(rest(to).len(), 5102);
    }
}
