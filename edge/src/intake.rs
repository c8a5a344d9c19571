//! The body of a request on its way from the connection that reads it to whoever answers, who may be on another thread.
//!
//! What it holds is bounded by the windows of flow control: the client may send again only as much as was taken here. So who
//! takes tells the connection, which widens the windows. Nobody may want a body for long, and it must not keep others from
//! coming: so little may come of it until somebody does that all streams together have room for as much.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Bytes of a body that a client may send before any are taken, from the first that is asked for on.
pub(crate) const WINDOW: u32 = 256 << 10;

/// The same before any are asked for.
pub(crate) const UNASKED: u32 = 16 << 10;

/// Bytes of frames that are put together, so that small ones take no more memory than they say.
const PIECE: usize = 16 << 10;

/// The client went away, or its stream was closed, before the end of its request.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream was closed before the end of the request's body")]
pub(crate) struct Cut;

/// What was taken of all bodies of a connection and is not allowed again yet.
#[derive(Debug)]
pub(crate) struct Taken {
    bytes: AtomicU32,
    /// What the client may send while nothing waits to be taken.
    all: u32,
    /// What the client may still send.
    window: AtomicU32,
    connection: AtomicWaker,
}

impl Taken {
    /// Nothing was taken; the client may send so many bytes, of `all` that it may where nothing waits.
    pub(crate) fn new(window: u32, all: u32) -> Self {
        Self { bytes: AtomicU32::new(0), all, window: AtomicU32::new(window), connection: AtomicWaker::new() }
    }

    /// Wakes the connection when it is to widen a window.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.connection.register(cx.waker());
    }

    /// So many bytes are gone.
    pub(crate) fn add(&self, bytes: u32) {
        let taken = self.bytes.fetch_add(bytes, Relaxed) + bytes;
        if self.is_due(taken) {
            self.connection.wake();
        }
    }

    /// Whether so much was taken that the client is to hear of it: half of the window, or as much as is left of it. The rest
    /// may be held by bodies that nobody takes.
    fn is_due(&self, taken: u32) -> bool {
        taken > 0 && taken >= self.window.load(Relaxed).min(self.all / 2)
    }

    /// By how much the connection's window is to be widened now, if at all.
    pub(crate) fn due(&self) -> Option<u32> {
        self.is_due(self.bytes.load(Relaxed)).then(|| self.bytes.swap(0, Relaxed))
    }

    /// The client may send so many bytes now.
    pub(crate) fn set_window(&self, window: u32) {
        self.window.store(window, Relaxed);
    }
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    /// What came behind them, and is less than a piece.
    last: BytesMut,
    /// Bytes that are still to come or to be taken, where the request said so.
    left: Option<u64>,
    /// How it ended, once it has.
    end: Option<Result<(), Cut>>,
    /// Bytes taken that the stream is not allowed again yet; from the first that are asked for on.
    taken: u32,
    is_wanted: bool,
    /// Nobody takes any more.
    is_unwanted: bool,
    reader: Option<Waker>,
}

impl State {
    fn push(&mut self, bytes: &[u8]) {
        if self.last.len() + bytes.len() > PIECE && !self.last.is_empty() {
            self.pieces.push_back(mem::take(&mut self.last).freeze());
        }
        if bytes.len() >= PIECE / 2 && self.last.is_empty() {
            self.pieces.push_back(Bytes::copy_from_slice(bytes));
        } else {
            self.last.extend_from_slice(bytes);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let last = |last: &mut BytesMut| (!last.is_empty()).then(|| mem::take(last).freeze());
        self.pieces.pop_front().or_else(|| last(&mut self.last))
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.last.is_empty()
    }

    /// Whether so much was taken that the client is to hear of it.
    fn is_due(&self) -> bool {
        self.taken >= WINDOW / 2
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The end of a body that the connection has. Where it is dropped before it was told of the end, the body breaks off.
#[derive(Debug)]
pub(crate) struct Feed {
    state: Arc<Mutex<State>>,
    taken: Arc<Taken>,
}

/// The end of a body from which it is read.
#[derive(Debug)]
pub(crate) struct Intake {
    state: Arc<Mutex<State>>,
    taken: Arc<Taken>,
}

/// Both ends of a body of so many bytes, where that is known.
pub(crate) fn intake(length: Option<u64>, taken: Arc<Taken>) -> (Feed, Intake) {
    let state = State {
        pieces: VecDeque::new(),
        last: BytesMut::new(),
        left: length,
        end: None,
        taken: 0,
        is_wanted: false,
        is_unwanted: false,
        reader: None,
    };
    let state = Arc::new(Mutex::new(state));
    (Feed { state: Arc::clone(&state), taken: Arc::clone(&taken) }, Intake { state, taken })
}

impl Feed {
    /// Bytes came, in a frame that took so many of the window: it may have been padded.
    pub(crate) fn push(&self, bytes: &[u8], taken: u32) {
        let mut state = self.state.lock();
        if state.is_unwanted {
            // The stream is not allowed more. Others are not to wait for it.
            return self.taken.add(taken);
        }
        let padding = taken - length(bytes);
        state.taken += padding;
        if !bytes.is_empty() {
            state.push(bytes);
            state.wake();
        }
        drop(state);
        self.taken.add(padding);
    }

    /// The body is whole.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.end = Some(Ok(()));
        state.wake();
    }

    /// Whether somebody has asked for it.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.state.lock().is_wanted
    }

    /// Whether nobody will take any more of it.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.state.lock().is_unwanted
    }

    /// By how much the window is to be widened now, if at all.
    pub(crate) fn due(&self) -> Option<u32> {
        let mut state = self.state.lock();
        state.is_due().then(|| mem::take(&mut state.taken))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(Err(Cut));
            state.wake();
        }
    }
}

impl Intake {
    /// The next bytes; nothing behind the last.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut state = self.state.lock();
        if !mem::replace(&mut state.is_wanted, true) {
            state.taken += WINDOW - UNASKED;
            self.taken.connection.wake();
        }
        if let Some(piece) = state.pop() {
            let taken = length(&piece);
            state.left = state.left.map(|left| left.saturating_sub(u64::from(taken)));
            state.taken += taken;
            let is_due = state.is_due();
            drop(state);
            self.taken.add(taken);
            if is_due {
                self.taken.connection.wake();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(cut)) => Poll::Ready(Some(Err(cut))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether all of it was taken.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.is_empty() && matches!(state.end, Some(Ok(())))
    }

    /// Bytes that are still to be taken, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.state.lock().left
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.is_unwanted = true;
        let (pieces, last) = (mem::take(&mut state.pieces), mem::take(&mut state.last));
        drop(state);
        self.taken.add(pieces.iter().map(|piece| length(piece)).sum::<u32>() + length(&last));
    }
}

/// No piece is longer than a frame, and all together are within a window.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(intake: &mut Intake) -> Poll<Option<Result<Bytes, Cut>>> {
        intake.poll_piece(&mut Context::from_waker(Waker::noop()))
    }

    fn push(feed: &Feed, bytes: &[u8]) {
        feed.push(bytes, length(bytes));
    }

    fn all(intake: &mut Intake) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        loop {
            match next(intake) {
                Poll::Ready(Some(Ok(piece))) => bytes.extend_from_slice(&piece),
                Poll::Ready(None) => return (bytes, true),
                Poll::Ready(Some(Err(Cut))) | Poll::Pending => return (bytes, false),
            }
        }
    }

    fn taken() -> Arc<Taken> {
        Arc::new(Taken::new(8 * WINDOW, 8 * WINDOW))
    }

    #[test]
    fn a_body_comes_whole_or_breaks_off() {
        let (feed, mut body) = intake(Some(6), taken());
        assert!(next(&mut body).is_pending());
        push(&feed, b"abc");
        push(&feed, b"");
        push(&feed, b"def");
        assert_eq!((body.left(), body.is_over()), (Some(6), false));
        feed.end();
        assert_eq!(all(&mut body), (b"abcdef".to_vec(), true));
        assert_eq!((body.left(), body.is_over()), (Some(0), true));
        let (feed, mut body) = intake(None, taken());
        push(&feed, b"abc");
        drop(feed);
        assert_eq!((all(&mut body), body.is_over()), ((b"abc".to_vec(), false), false));
    }

    #[test]
    fn pieces_have_their_order_and_small_ones_are_put_together() {
        let (feed, mut body) = intake(None, taken());
        let mut want = Vec::new();
        for number in 0..3000_usize {
            let piece =
                vec![(number % 251).to_le_bytes()[0]; [1, 7, 900, PIECE - 1, 0, PIECE][number % 6] % (number + 1)];
            push(&feed, &piece);
            want.extend(piece);
        }
        let pieces = feed.state.lock().pieces.len();
        assert!(pieces <= 2 * want.len() / PIECE + 2, "{pieces} pieces of {} bytes", want.len());
        feed.end();
        assert!(all(&mut body) == (want, true));
    }

    #[test]
    fn windows_are_widened_by_what_was_taken() {
        let taken = taken();
        let (feed, mut body) = intake(None, Arc::clone(&taken));
        let half = vec![7; WINDOW as usize / 2];
        push(&feed, &half[..100]);
        assert_eq!(feed.due(), None, "nobody asks for it");
        assert!(next(&mut body).is_ready());
        assert_eq!(feed.due(), Some(WINDOW - UNASKED + 100));
        for _ in 0..2 {
            push(&feed, &half[1..]);
            assert_eq!(feed.due(), None, "nothing was taken");
            assert!(next(&mut body).is_ready());
            assert_eq!(feed.due(), None, "less than half");
            push(&feed, &half[..1]);
            assert!(next(&mut body).is_ready());
            assert_eq!((feed.due(), feed.due()), (Some(WINDOW / 2), None));
        }
        // Padding is taken at once.
        feed.push(b"", WINDOW / 2);
        assert_eq!((feed.due(), taken.due()), (Some(WINDOW / 2), None));
        // What nobody will take counts for the connection, and not for the stream.
        push(&feed, &half);
        drop(body);
        push(&feed, &half);
        assert_eq!((feed.due(), taken.due()), (None, None), "less than half of the connection's");
        taken.set_window(5 * WINDOW / 2 + 100);
        assert_eq!((taken.due(), taken.due()), (Some(5 * WINDOW / 2 + 100), None), "as much as is left");
    }
}
