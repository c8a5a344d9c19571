//! The streams of a connection that are open.

use std::collections::VecDeque;

use futures_util::future::AbortHandle;

use super::STREAMS;
use super::frame::{LARGEST_NUMBER, Reason, Violation};
use crate::body::EdgeBody;
use crate::intake::Feed;
use crate::piece::Piece;

/// Streams that were reset here and whose numbers are remembered: the client may have sent more before it heard of that. Twice as
/// many as may be open.
const REMEMBERED: usize = 2 * STREAMS as usize;

/// What may be sent. Below zero where the client has made windows smaller that were used already (RFC 9113 section 6.9.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window(i64);

impl Window {
    pub(crate) fn new(bytes: u32) -> Self {
        Self(bytes.into())
    }

    /// Bytes that may be sent now.
    pub(crate) fn open(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// So many were sent.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.0 -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// Makes it larger, or smaller; says whether it is one still.
    #[must_use]
    pub(crate) fn widen(&mut self, by: i64) -> bool {
        self.0 += by;
        self.0 <= i64::from(LARGEST_NUMBER)
    }
}

/// How far an answer is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It has just begun.
    Begun,
    /// The answer, or the next piece of its body, is waited for, until this says that nobody wants it.
    Waiting(AbortHandle),
    /// Its body is sent.
    Sending {
        body: EdgeBody,
        /// What was taken of it and not sent.
        piece: Piece,
    },
}

/// The request's body, while it comes.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) feed: Feed,
    /// What the client may send.
    pub(crate) window: u32,
    /// Bytes that are still to come, where the request said how many.
    pub(crate) left: Option<u64>,
}

/// A request that is open.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) window: Window,
    pub(crate) progress: Progress,
    /// Nothing where all of it came.
    pub(crate) receiving: Option<Receiving>,
    /// The answer has no body, whatever its fields say.
    pub(crate) is_head: bool,
    /// It has its place in the queue of those that can go on.
    pub(crate) is_queued: bool,
}

impl Stream {
    /// A request whose answer has just begun.
    pub(crate) fn new(id: u32, window: u32, is_head: bool, receiving: Option<Receiving>) -> Self {
        Self { id, window: Window::new(window), progress: Progress::Begun, receiving, is_head, is_queued: false }
    }
}

impl Receiving {
    /// A body of which nothing came, and so many bytes may.
    pub(crate) fn new(feed: Feed, window: u32, length: Option<u64>) -> Self {
        Self { feed, window, left: length }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        match &mut self.progress {
            Progress::Begun => {}
            Progress::Waiting(waiting) => waiting.abort(),
            Progress::Sending { body, piece } => body.give_up(piece.len()),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// By their numbers: a new one comes last.
    #[allow(clippy::vec_box, reason = "one that ends is taken out of the middle, and all behind it are moved")]
    open: Vec<Box<Stream>>,
    /// Those that can go on, by turns.
    queue: VecDeque<u32>,
    /// The largest number that the client used.
    last: u32,
    reset: VecDeque<u32>,
    /// The largest number that was remembered and is not any more.
    forgotten: u32,
}

/// What is known of a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// It was not used.
    Idle,
    Open,
    /// It was reset here: what still comes for it is passed over.
    Reset,
    /// It is over.
    Closed,
}

impl Streams {
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= STREAMS as usize
    }

    pub(crate) fn known(&self, id: u32) -> Known {
        if id > self.last || id.is_multiple_of(2) {
            Known::Idle
        } else if self.place(id).is_ok() {
            Known::Open
        } else if id <= self.forgotten || self.reset.contains(&id) {
            Known::Reset
        } else {
            Known::Closed
        }
    }

    /// The client used the next number.
    pub(crate) fn begin(&mut self, id: u32) {
        debug_assert!(id > self.last);
        self.last = id;
    }

    /// Keeps the stream that has begun last, and does not end yet.
    pub(crate) fn insert(&mut self, stream: Stream) {
        debug_assert!(self.open.last().is_none_or(|last| last.id < stream.id));
        self.open.push(Box::new(stream));
    }

    fn place(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id)
    }

    pub(crate) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let place = self.place(id).ok()?;
        Some(&mut self.open[place])
    }

    /// Forgets a stream, with all that it has.
    pub(crate) fn remove(&mut self, id: u32) {
        drop(self.take(id));
    }

    /// The stream, which is open no longer.
    pub(crate) fn take(&mut self, id: u32) -> Option<Box<Stream>> {
        let stream = self.open.remove(self.place(id).ok()?);
        if self.open.is_empty() {
            self.clear();
        }
        Some(stream)
    }

    /// Remembers that a stream was reset here.
    pub(crate) fn on_reset(&mut self, id: u32) {
        if self.reset.len() == REMEMBERED
            && let Some(forgotten) = self.reset.pop_front()
        {
            self.forgotten = self.forgotten.max(forgotten);
        }
        self.reset.push_back(id);
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.open = Vec::new();
        self.queue = VecDeque::new();
    }

    /// Puts a stream behind all others that can go on.
    pub(crate) fn enqueue(&mut self, id: u32) {
        if let Some(stream) = self.get(id)
            && !std::mem::replace(&mut stream.is_queued, true)
        {
            self.queue.push_back(id);
        }
    }

    /// The same for all that are not there.
    pub(crate) fn enqueue_all(&mut self) {
        for stream in &mut self.open {
            if !std::mem::replace(&mut stream.is_queued, true) {
                self.queue.push_back(stream.id);
            }
        }
    }

    /// The stream whose turn it is, of those that can go on.
    pub(crate) fn next(&mut self) -> Option<&mut Stream> {
        while let Some(id) = self.queue.pop_front() {
            if let Ok(place) = self.place(id) {
                let stream = &mut self.open[place];
                stream.is_queued = false;
                return Some(stream);
            }
        }
        None
    }

    /// Makes the windows of all streams larger, or smaller.
    pub(crate) fn widen_all(&mut self, by: i64) -> Result<(), Violation> {
        if !self.open.iter_mut().all(|stream| stream.window.widen(by)) {
            return Err(Violation::Connection(Reason::FlowControl, "a window became too large"));
        }
        self.enqueue_all();
        Ok(())
    }

    /// Those whose requests have bodies that still come.
    pub(crate) fn receiving(&mut self) -> impl Iterator<Item = (u32, &mut Receiving)> {
        self.open.iter_mut().filter_map(|stream| Some((stream.id, stream.receiving.as_mut()?)))
    }
}
