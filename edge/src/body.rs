//! The body of an answer: shared bytes, or a region of a file in bounded windows; never gathered.
//!
//! What the page cache has is sent at once. What it has not is read on the pool, so that a cold disk never stops a thread that
//! serves others. A file that ends too early ends the connection: fewer bytes than announced must not look like an answer.
//!
//! To ask the kernel for bytes that are not in memory is work even where it is told not to wait (`RWF_NOWAIT`): it finds room for
//! them and for what it reads ahead, up to megabytes at once, takes that from others, and asks the disk for it. That is half a
//! millisecond and more in which nobody else is served, so it is left to the pool too: see [`RegionBody::lies`].

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pinstone_engine::blob::FileRegion;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::account::Account;
use crate::buffers::Buffer;
use crate::control::{BoxError, ControlBody};
use crate::mapped::{self, LargeFiles, Mapped, Stored};
use crate::parts::PartsBody;
use crate::piece::Piece;
use crate::source::{self, OpenFile};
use crate::watch::InFlight;
use crate::windows::{self, Budget, Room, Windows};

type PolledFrame = Result<Frame<Piece>, BoxError>;

/// The body of any answer. It holds what it needs until its last byte was taken.
#[derive(Debug)]
pub(crate) struct EdgeBody {
    content: Content,
    in_flight: Option<InFlight>,
    account: Option<Told>,
}

/// The account that ends with the body, and what the socket had taken when the body began.
#[derive(Debug)]
struct Told {
    account: Account,
    /// How long the body is, where that is known.
    length: Option<u64>,
    written_before: Option<u64>,
}

/// Where a body's bytes are.
#[derive(Debug)]
pub(crate) enum Content {
    Empty,
    Bytes(Bytes),
    /// Bytes of a file that is in memory.
    Stored(Stored),
    /// Many bytes in memory.
    Slices(Box<Slices>),
    /// Boxed, as all that few answers have: a body is moved several times.
    Region(Box<RegionBody>),
    Parts(Box<PartsBody>),
    Control(ControlBody),
}

impl From<Piece> for Content {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Bytes(bytes) => Self::Bytes(bytes),
            Piece::Stored(stored) => Self::Stored(stored),
        }
    }
}

impl EdgeBody {
    /// A body that keeps its request in flight until it is dropped.
    pub(crate) fn new(content: Content, in_flight: InFlight) -> Self {
        let in_flight = match &content {
            Content::Bytes(_) | Content::Stored(_) => in_flight.sending(),
            // Clients owe these piece by piece: that a disk is slow, that there is no memory for a window, or that the
            // control plane thinks, is no fault of theirs.
            Content::Empty | Content::Slices(_) | Content::Region(_) | Content::Parts(_) | Content::Control(_) => {
                in_flight
            }
        };
        Self { content, in_flight: Some(in_flight), account: None }
    }

    /// Has the account told when the body is over.
    pub(crate) fn tell(&mut self, account: Account) {
        let written_before = self.in_flight.as_ref().and_then(InFlight::written);
        let length = http_body::Body::size_hint(self).exact();
        self.account = Some(Told { account, length, written_before });
    }

    /// It is given up, and so many of the bytes that were taken of it are not sent.
    pub(crate) fn give_up(&mut self, bytes: usize) {
        if bytes == 0 {
            // Whether all of it was sent is known when it is dropped.
            return;
        }
        if let Some(told) = &mut self.account {
            told.account.take_back(bytes);
        }
        self.end(false);
    }

    fn end(&mut self, complete: bool) {
        let Some(Told { account, length, written_before }) = self.account.take() else { return };
        // Nobody asks for the end of a body whose length is reached.
        let complete = complete || length == Some(account.sent());
        // What the layer below was given and the socket never took did not reach the client.
        let written = self.in_flight.as_ref().and_then(InFlight::written);
        let at_most = written.zip(written_before).map(|(now, before)| now.saturating_sub(before));
        account.over(complete, at_most);
    }
}

impl http_body::Body for EdgeBody {
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PolledFrame>> {
        let this = self.get_mut();
        let frame = match &mut this.content {
            Content::Empty => None,
            Content::Bytes(bytes) => {
                let mut bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                // The layer below may keep them for long, and has no use for a body whose end it knows.
                if let Some(in_flight) = this.in_flight.take_if(|in_flight| in_flight.is_multiplexed()) {
                    bytes = in_flight.until_taken(bytes);
                }
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into())))
            }
            Content::Stored(_) => match std::mem::replace(&mut this.content, Content::Empty) {
                Content::Stored(mut stored) => {
                    if let Some(in_flight) = this.in_flight.take_if(|in_flight| in_flight.is_multiplexed()) {
                        stored = stored.until_taken(in_flight);
                    }
                    Some(Ok(Frame::data(Piece::Stored(stored))))
                }
                _ => None,
            },
            Content::Slices(slices) => {
                slices.next().map(|bytes| Ok(Frame::data(owed(bytes, this.in_flight.as_ref()).into())))
            }
            Content::Region(region) => read_frame(ready!(region.poll_window(cx, this.in_flight.as_ref()))),
            Content::Parts(parts) => read_frame(ready!(parts.poll_piece(cx, this.in_flight.as_ref()))),
            Content::Control(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                let put = |data| Piece::Bytes(owed(data, this.in_flight.as_ref()));
                frame.map(|frame| frame.map(|frame| frame.map_data(put)))
            }
        };
        match &frame {
            None => {
                this.end(true);
                this.in_flight = None;
            }
            Some(Ok(frame)) => {
                if let (Some(told), Some(data)) = (&mut this.account, frame.data_ref()) {
                    told.account.add_sent(data.len());
                }
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::Stored(stored) => stored.len() == 0,
            Content::Slices(slices) => slices.left.is_empty(),
            Content::Region(region) => region.left.is_empty(),
            Content::Parts(parts) => parts.left() == 0,
            Content::Control(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stored(stored) => SizeHint::with_exact(stored.len() as u64),
            Content::Slices(slices) => SizeHint::with_exact(slices.left.len() as u64),
            Content::Region(region) => SizeHint::with_exact(region.left.end - region.left.start),
            Content::Parts(parts) => SizeHint::with_exact(parts.left()),
            Content::Control(body) => body.size_hint(),
        }
    }
}

/// The same bytes, which the client owes to take until they are dropped by the layer below.
pub(crate) fn owed(bytes: Bytes, in_flight: Option<&InFlight>) -> Bytes {
    match in_flight {
        Some(in_flight) => in_flight.owe(bytes),
        None => bytes,
    }
}

/// The frame for what was read of a file.
fn read_frame(read: Option<io::Result<Piece>>) -> Option<PolledFrame> {
    match read? {
        Ok(piece) => Some(Ok(Frame::data(piece))),
        Err(error) => {
            tracing::error!(%error, "a file could not be read while it was sent");
            Some(Err(error.into()))
        }
    }
}

impl Drop for EdgeBody {
    fn drop(&mut self) {
        let complete = http_body::Body::is_end_stream(self);
        self.end(complete);
    }
}

/// A part of what is in memory, sent by slices as large as windows: a client owes each of them, others have their turn in between, and
/// what was sent is what was taken but for one.
#[derive(Debug)]
pub(crate) struct Slices {
    left: Bytes,
    window: usize,
}

impl Slices {
    /// Sends `bytes`, at most `window` of them at once.
    pub(crate) fn new(bytes: Bytes, window: usize) -> Self {
        Self { left: bytes, window }
    }

    /// The next slice; `None` where nothing is left.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let length = self.left.len().min(self.window);
        (length > 0).then(|| self.left.split_to(length))
    }
}

/// How much of a file that was waited for has to be in memory before the rest of it is sent without the pool: the most that the kernel
/// was seen to read ahead. Somewhere in that it left a mark, and who comes upon the mark has the next bytes read ahead.
const READ_AHEAD: usize = 8 << 20;

/// How far the pool goes through such a file each time, in bytes, so that what it reads ahead is asked for there: windows may be
/// much smaller (HTTP/2).
const GO_THROUGH: u64 = 256 << 10;

/// Where the next bytes of a file are, as far as that can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lies {
    /// At least so many of them in memory.
    Here(usize),
    /// Not in memory, or not far enough.
    OnDisk,
    /// The attempt to read them will tell.
    Untold,
}

/// A part of a file, sent window by window.
#[derive(Debug)]
pub(crate) struct RegionBody {
    file: Arc<File>,
    /// What is still to be sent, in bytes from the start of the file.
    left: Range<u64>,
    window: usize,
    pool: Handle,
    windows: Windows,
    /// Memory for the window that is being read.
    room: Option<Room>,
    reading: Option<JoinHandle<io::Result<Buffer>>>,
    /// Whether the file system can say that a read would wait.
    nowait: bool,
    /// The file, where it can tell what is in memory of it.
    mapped: Option<Arc<Mapped>>,
    large_files: LargeFiles,
    /// The most that is handed out of it at once.
    at_once: usize,
    /// Up to where the pool has gone through the file, where it had to: no marks of the kernel's are left there.
    gone_through: Option<u64>,
}

impl RegionBody {
    /// Sends the bytes `part` of `region`, at most `window` of them in memory, for which `budget` has room, and waits for
    /// disks on `pool`.
    ///
    /// The part must lie inside the region.
    pub(crate) fn new(region: &FileRegion, part: &Range<u64>, window: usize, budget: &Budget, pool: Handle) -> Self {
        debug_assert!(part.start <= part.end && part.end <= region.length, "{part:?} of {region:?}");
        let left = region.offset + part.start..region.offset + part.end;
        let (file, windows) = (Arc::clone(&region.file), Windows::new(budget));
        Self {
            file,
            left,
            window,
            pool,
            windows,
            room: None,
            reading: None,
            nowait: true,
            mapped: None,
            large_files: LargeFiles::Read,
            at_once: window,
            gone_through: None,
        }
    }

    /// Has what is in memory of `file` reach the socket in this way, at most so many bytes at once.
    pub(crate) fn sent_as(mut self, large_files: LargeFiles, at_once: usize, file: &OpenFile) -> Self {
        self.mapped = file.mapped().map(Arc::clone);
        (self.large_files, self.at_once) = (large_files, at_once);
        self
    }

    /// Sends these bytes next, counted from the start of the file. Nothing of the last part may be left.
    pub(crate) fn go_on_with(&mut self, part: Range<u64>) {
        debug_assert!(self.left.is_empty() && self.reading.is_none(), "{:?} is left", self.left);
        self.left = part;
    }

    /// The next window; `None` where nothing is left. The client of `in_flight` owes to take it.
    pub(crate) fn poll_window(
        &mut self,
        cx: &mut Context<'_>,
        in_flight: Option<&InFlight>,
    ) -> Poll<Option<io::Result<Piece>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left.end - self.left.start).map_or(self.window, |left| left.min(self.window));
        if self.reading.is_none() {
            let lies = self.lies(wanted);
            if let Lies::Here(length) = lies
                && self.room.is_none()
                && let Some(piece) = self.take_mapped(length, in_flight)
            {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.room.is_none() {
                self.room = Some(ready!(self.windows.poll_room(cx, wanted)));
            }
            let at_hand = match lies {
                Lies::Here(length) => Some(length.min(wanted)),
                Lies::Untold => Some(wanted),
                Lies::OnDisk => None,
            };
            if let Some(at_hand) = at_hand {
                match self.read_resident(at_hand) {
                    Some(Ok(window)) => return Poll::Ready(Some(Ok(self.take(window, in_flight)))),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => {}
                }
            }
            let (file, offset) = (Arc::clone(&self.file), self.left.start);
            let read = offset + wanted as u64;
            // The first window is not to wait for others.
            let through =
                if self.gone_through.is_none() { read } else { read.max(offset + GO_THROUGH).min(self.left.end) };
            self.gone_through = Some(through);
            self.reading = Some(self.pool.spawn_blocking(move || {
                let mut window = Buffer::new(wanted);
                file.read_exact_at(window.as_mut_slice(), offset)?;
                // What fails will fail again, when it is wanted.
                let _ = source::read_through(&file, read..through);
                Ok(window)
            }));
        }
        let reading = self.reading.as_mut().expect("it is read since now, or since before");
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        if let Some(in_flight) = in_flight {
            in_flight.need_turn();
        }
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        Poll::Ready(Some(read.map(|window| self.take(window, in_flight))))
    }

    /// Where the next `window` bytes are, or more of them where more can be sent at once.
    fn lies(&self, window: usize) -> Lies {
        let Some((mapped, start)) = self.mapped.as_ref().zip(usize::try_from(self.left.start).ok()) else {
            return Lies::Untold;
        };
        let left = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX - start);
        let most = if self.large_files == LargeFiles::Read { window } else { self.at_once }.min(left);
        let ahead = if self.gone_through.is_some() { left.min(READ_AHEAD) } else { 0 };
        let mut here = mapped.resident(start..start + most.max(ahead));
        if let Some(through) = self.gone_through.filter(|_| here < ahead) {
            // No further than the pool has gone.
            here = usize::try_from(through.saturating_sub(self.left.start)).map_or(here, |safe| safe.min(here));
        }
        if here >= window.min(most) { Lies::Here(here.min(most)) } else { Lies::OnDisk }
    }

    /// Takes a piece as it lies in the page cache, which costs no memory of ours.
    fn take_mapped(&mut self, length: usize, in_flight: Option<&InFlight>) -> Option<Piece> {
        if length < mapped::LEAST || self.large_files == LargeFiles::Read {
            return None;
        }
        let start = usize::try_from(self.left.start).ok()?;
        let stored = self.mapped.as_ref()?.stored(start..start + length, in_flight.map(InFlight::owed_in_file));
        self.left.start += length as u64;
        Some(Piece::of_file(stored, self.large_files))
    }

    /// Takes what the page cache has, or says that only the pool can read it.
    fn read_resident(&mut self, wanted: usize) -> Option<io::Result<Buffer>> {
        if !self.nowait {
            return None;
        }
        let mut window = Buffer::new(wanted);
        let read = rustix::io::preadv2(
            &self.file,
            &mut [IoSliceMut::new(window.as_mut_slice())],
            self.left.start,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            // The file is over, unless a file system answers so for what is not resident: the pool finds out.
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(read) => {
                window.truncate(read);
                Some(Ok(window))
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.nowait = false;
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    fn take(&mut self, window: Buffer, in_flight: Option<&InFlight>) -> Piece {
        self.left.start += window.len() as u64;
        let room = self.room.take().expect("room was taken before the window was read");
        windows::window(window, room, in_flight.map(InFlight::owed)).into()
    }
}

impl Drop for RegionBody {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            // Has an effect only while the read waits for a thread of the pool.
            reading.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::mapped::tests::on_disk;
    use crate::watch::Watch;
    use bytes::Buf;
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use pinstone_engine::hash::BlobHash;
    use std::future::poll_fn;
    use std::io::Write;
    use std::time::Duration;

    fn region(bytes: &[u8], offset: u64, length: u64) -> FileRegion {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        FileRegion { file: Arc::new(file), offset, length }
    }

    fn body(region: &FileRegion, part: Range<u64>, window: usize, nowait: bool) -> EdgeBody {
        let mut body = RegionBody::new(region, &part, window, &Budget::new(1 << 20), Handle::current());
        body.nowait = nowait;
        EdgeBody::new(Content::Region(Box::new(body)), Watch::new().begin(false))
    }

    #[tokio::test]
    async fn a_region_arrives_whole_in_windows() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
        let region = region(&bytes, 1000, 250_000);
        for nowait in [true, false] {
            for part in [0..250_000, 0..1, 4095..4097, 249_999..250_000, 100..200_100, 7..7] {
                let mut body = body(&region, part.clone(), 64 << 10, nowait);
                let length = part.end - part.start;
                assert_eq!(http_body::Body::size_hint(&body).exact(), Some(length));
                let mut sent = Vec::new();
                while let Some(frame) = body.frame().await {
                    let window = frame.unwrap().into_data().unwrap();
                    assert!(!window.is_empty() && window.len() <= 64 << 10);
                    sent.extend_from_slice(window.chunk());
                    let left = length - sent.len() as u64;
                    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(left));
                    assert_eq!(http_body::Body::is_end_stream(&body), left == 0);
                }
                let (from, to) =
                    (1000 + usize::try_from(part.start).unwrap(), 1000 + usize::try_from(part.end).unwrap());
                assert!(sent == bytes[from..to], "{part:?}, nowait: {nowait}");
            }
        }
    }

    /// Runs it where the pool has one thread.
    fn with_one_reader(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap().block_on(test);
    }

    #[test]
    fn small_windows_are_not_each_waited_for() {
        with_one_reader(async {
            const WINDOW: usize = 16 << 10;
            const LENGTH: usize = 1 << 20;
            let region = on_disk(&vec![7; LENGTH]);
            // As where a device reads little ahead: what is not asked for is not there.
            rustix::fs::fadvise(&region.file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            rustix::fs::fadvise(&region.file, 0, None, rustix::fs::Advice::Random).unwrap();
            let file = OpenFile::new(BlobHash::of(b""), region.clone(), None);
            let budget = Budget::new(1 << 20);
            let body = RegionBody::new(&region, &(0..LENGTH as u64), WINDOW, &budget, Handle::current());
            let mut body = body.sent_as(LargeFiles::Read, WINDOW, &file);
            let (mut waited, mut windows) = (0, 0);
            while let Some(window) = poll_fn(|cx| {
                let polled = body.poll_window(cx, None);
                waited += u32::from(polled.is_pending());
                polled
            })
            .await
            {
                assert_eq!(window.unwrap().len(), WINDOW);
                windows += 1;
            }
            assert_eq!(windows, LENGTH / WINDOW);
            assert!((1..=LENGTH as u64 / GO_THROUGH + 1).contains(&waited.into()), "{waited} of {windows}");
        });
    }

    #[test]
    fn what_is_not_in_memory_is_left_to_the_pool_until_enough_of_it_is() {
        with_one_reader(what_is_left_to_the_pool());
    }

    async fn what_is_left_to_the_pool() {
        const WINDOW: usize = 256 << 10;
        let read_ahead = READ_AHEAD as u64;
        let length = read_ahead + (4 << 20);
        let region = on_disk(&vec![7; READ_AHEAD + (4 << 20)]);
        let forget = |from: u64, bytes: u64| {
            let bytes = std::num::NonZeroU64::new(bytes);
            rustix::fs::fadvise(&region.file, from, bytes, rustix::fs::Advice::DontNeed).unwrap();
        };
        // Each looks with eyes of its own: what was in memory is taken to be there for a while.
        let body = |large_files, at: u64| {
            let file = OpenFile::new(BlobHash::of(b""), region.clone(), None);
            let body = RegionBody::new(&region, &(at..length), WINDOW, &Budget::new(1 << 20), Handle::current());
            body.sent_as(large_files, large_files.at_once(), &file)
        };
        let lies = |large_files, at| body(large_files, at).lies(WINDOW);
        let behind_disk = |at| {
            let mut body = body(LargeFiles::Sent, at);
            body.gone_through = Some(at);
            body.lies(WINDOW)
        };
        let whole = LargeFiles::Sent.at_once();
        assert_eq!([LargeFiles::Read, LargeFiles::Sent].map(|way| lies(way, 0)), [WINDOW, whole].map(Lies::Here));
        assert_eq!(behind_disk(0), Lies::Here(whole));

        forget(read_ahead - (1 << 20), 1 << 20);
        assert_eq!([lies(LargeFiles::Sent, 0), behind_disk(0)], [Lies::Here(whole), Lies::OnDisk]);
        assert_eq!(behind_disk(read_ahead), Lies::Here(whole), "what lies before is of no account");
        let before_it = read_ahead - (1 << 20) - WINDOW as u64;
        assert_eq!(lies(LargeFiles::Sent, before_it), Lies::Here(WINDOW), "less can be sent than at once");
        for way in [LargeFiles::Read, LargeFiles::Copied, LargeFiles::Sent] {
            assert_eq!(lies(way, before_it + WINDOW as u64), Lies::OnDisk);
        }
        assert_eq!(lies(LargeFiles::Read, before_it), Lies::Here(WINDOW));

        for way in [LargeFiles::Read, LargeFiles::Sent] {
            forget(read_ahead - (1 << 20), 1 << 20);
            let (watch, mut waits) = (Watch::new(), body(way, before_it + WINDOW as u64));
            let in_flight = watch.begin(false);
            let mut window = poll_fn(|cx| waits.poll_window(cx, Some(&in_flight)));
            // The pool has one thread, which is kept from it meanwhile.
            let (go_on, waiting) = std::sync::mpsc::channel::<()>();
            let holder = tokio::task::spawn_blocking(move || waiting.recv());
            assert!(Pin::new(&mut window).poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
            assert!(watch.needs_no_turn());
            drop(go_on);
            assert!(holder.await.unwrap().is_err());
            assert_eq!(window.await.unwrap().unwrap().len(), WINDOW);
            assert!(
                waits.gone_through.is_some() && !watch.needs_no_turn(),
                "others have their turn before it is written"
            );
        }
        let small = RegionBody::new(&region, &(0..length), WINDOW, &Budget::new(1 << 20), Handle::current());
        assert_eq!(small.lies(WINDOW), Lies::Untold, "of a file that is not mapped");
    }

    #[tokio::test]
    async fn windows_wait_for_room_and_give_it_back() {
        let bytes = vec![7; 100_000];
        let region = region(&bytes, 0, 100_000);
        let budget = Budget::new(128 << 10);
        let body = || {
            let body = RegionBody::new(&region, &(0..100_000), 64 << 10, &budget, Handle::current());
            EdgeBody::new(Content::Region(Box::new(body)), Watch::new().begin(false))
        };
        let (mut first, mut second, mut third) = (body(), body(), body());
        let held = (first.frame().await.unwrap().unwrap(), second.frame().await.unwrap().unwrap());
        let waits = |body: &mut EdgeBody| {
            let mut next = std::pin::pin!(body.frame());
            next.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
        };
        assert!(waits(&mut third), "two windows are all there is room for");
        drop(held.0);
        assert!(third.frame().await.unwrap().is_ok(), "a window that was taken makes room");
        drop((first, second));
        drop(held.1);
        assert_eq!(third.collect().await.unwrap().to_bytes().len(), 100_000 - (64 << 10));

        let connection = budget.within(windows::semaphore(64 << 10));
        let body = || {
            let body = RegionBody::new(&region, &(0..100_000), 64 << 10, &connection, Handle::current());
            EdgeBody::new(Content::Region(Box::new(body)), Watch::new().begin(false))
        };
        let (mut first, mut second) = (body(), body());
        let held = first.frame().await.unwrap().unwrap();
        assert!(waits(&mut second), "a connection has its own bound");
        drop(held);
        assert!(!waits(&mut second));
    }

    #[tokio::test]
    async fn a_client_owes_only_what_it_could_take() {
        let limits = Limits { write_timeout: Duration::from_millis(1), ..Limits::default() };
        let is_cut = |watch: &Watch| {
            // Longer than any kernel's tick.
            std::thread::sleep(Duration::from_millis(25));
            watch.sweep(&limits, false);
            watch.order() == crate::watch::Order::Cut
        };
        let region = region(&[7; 200_000], 0, 200_000);
        let budget = Budget::new(64 << 10);
        let file = |watch: &Arc<Watch>| {
            let body = RegionBody::new(&region, &(0..200_000), 64 << 10, &budget, Handle::current());
            EdgeBody::new(Content::Region(Box::new(body)), watch.begin(false))
        };
        let (holder, waiter) = (Watch::new(), Watch::new());
        let (mut holds, mut waits) = (file(&holder), file(&waiter));
        let held = holds.frame().await.unwrap().unwrap();
        assert!(poll(&mut waits).is_pending());
        assert!(!is_cut(&waiter), "we make it wait for memory");
        assert!(is_cut(&holder));
        drop((held, holds));
        let _held = waits.frame().await.unwrap().unwrap();
        assert!(is_cut(&waiter), "now it could take something");

        let control = |watch: &Arc<Watch>| {
            let first = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"first")))]);
            let body = ControlBody::new(StreamBody::new(first.chain(stream::pending())));
            EdgeBody::new(Content::Control(body), watch.begin(false))
        };
        let (thinking, stalled) = (Watch::new(), Watch::new());
        let (mut thinks, mut stalls) = (control(&thinking), control(&stalled));
        let _held = stalls.frame().await.unwrap().unwrap();
        drop(thinks.frame().await.unwrap().unwrap());
        assert!(poll(&mut thinks).is_pending());
        assert!(!is_cut(&thinking), "the control plane takes its time");
        assert!(is_cut(&stalled));
    }

    fn poll(body: &mut EdgeBody) -> Poll<Option<PolledFrame>> {
        http_body::Body::poll_frame(Pin::new(body), &mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn a_truncated_file_is_an_error_and_not_a_shorter_answer() {
        let region = region(&[7; 100_000], 0, 200_000);
        for nowait in [true, false] {
            let body = body(&region, 0..200_000, 64 << 10, nowait);
            let error = body.collect().await.unwrap_err();
            let error = error.downcast_ref::<io::Error>().expect("a read failed");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "nowait: {nowait}");
        }
    }
}
