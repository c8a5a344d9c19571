//! When a connection has taken too long. No timer runs for a request: a connection notes what it does, and its worker
//! looks at all of them a few times in each deadline.

use std::future::poll_fn;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Semaphore;

use crate::config::Limits;
use crate::windows;

mod in_flight;
mod verdict;

pub(crate) use in_flight::{InFlight, Owed};
pub(crate) use verdict::{Order, sweep_period};

use verdict::{Notes, judge};

/// HTTP/2: bytes written beyond those read that count as progress of what is being sent.
const PROGRESS: i64 = 1 << 10;

/// HTTP/2: how many bytes read ahead of what is written are remembered.
const MOST_READ_AHEAD: i64 = 64 << 10;

/// HTTP/2: bytes of windows that the answers of one connection hold together.
const CONNECTION_WINDOWS: u64 = 1 << 20;

/// What a connection notes about itself. Written while it is polled, or by others of its worker between its polls: the counts rely
/// on that. Times are milliseconds since it was opened, plus one, and zero stands for none.
#[derive(Debug)]
pub(crate) struct Watch {
    opened: Duration,
    in_flight: AtomicU32,
    /// Bodies and pieces of bodies that the client has to take.
    sending: AtomicU32,
    /// The pieces among them, by the generation in which they were handed out.
    owed: [AtomicU32; 2],
    /// The generation of what is handed out now: an index of `owed`. The other one is at least as old as this one.
    generation: AtomicUsize,
    generation_since: AtomicU64,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    progress_at: AtomicU64,
    blocked_since: AtomicU64,
    lingering_since: AtomicU64,
    /// Bytes that the socket took.
    written: AtomicU64,
    /// HTTP/2: bytes written less bytes read since the last progress.
    balance: AtomicI64,
    /// HTTP/2: what the windows of this connection's answers may take.
    windows: OnceLock<Arc<Semaphore>>,
    /// The last request went to the control plane.
    is_of_control: AtomicBool,
    /// HTTP/2: frames come between requests too, and begin no head.
    multiplexed: AtomicBool,
    /// The request in flight has a body: bytes that come now are not the next head.
    reading_body: AtomicBool,
    /// The last request had a body, which may be coming still, for an answer does not wait for it.
    unread_body: AtomicBool,
    /// Bytes came that no request was made of yet.
    unparsed: AtomicBool,
    /// The connection has a task, which is woken when it can go on.
    has_task: AtomicBool,
    /// Its turns so far: it is polled once in each.
    turn: AtomicU32,
    /// When this one began.
    turn_since: AtomicU64,
    /// What `written` was when its turn began.
    written_before: AtomicU64,
    /// What it may write: a [`Much`].
    much: AtomicU8,
    /// The connection is to be reset when it ends, so that its end is not taken for that of an answer.
    is_broken: AtomicBool,
    /// An [`Order`], and who carries it out.
    order: AtomicU8,
    carrier: AtomicWaker,
}

/// What a connection may write in its turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Much {
    /// A little.
    No,
    /// It may not even write little before it has waited until it may.
    Needs,
    /// It waits until it may.
    Waits,
    /// It may in the next one.
    Next,
    /// It may in this one.
    Now,
}

/// HTTP/2: what bytes that were read have changed. A head is a HEADERS frame and the CONTINUATION frames behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moved {
    /// Something came to its end: a head, or a frame of another kind.
    pub(crate) ended: bool,
    /// Something has begun and has no end yet.
    pub(crate) is_partial: bool,
}

/// The monotonic clock as of the last tick of the kernel's timer: a quarter of what the exact time costs.
pub(crate) fn ticks() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

/// One more of what only the connection's own thread counts, which asks less of the processor than where others may too; answers
/// how many there were.
fn add_one(count: &AtomicU32) -> u32 {
    let before = count.load(Relaxed);
    count.store(before.wrapping_add(1), Relaxed);
    before
}

/// One less of it.
fn take_one(count: &AtomicU32) -> u32 {
    let before = count.load(Relaxed);
    count.store(before.wrapping_sub(1), Relaxed);
    before
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: ticks(),
            in_flight: AtomicU32::new(0),
            sending: AtomicU32::new(0),
            owed: [AtomicU32::new(0), AtomicU32::new(0)],
            generation: AtomicUsize::new(0),
            generation_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            progress_at: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            lingering_since: AtomicU64::new(0),
            written: AtomicU64::new(0),
            balance: AtomicI64::new(0),
            windows: OnceLock::new(),
            is_of_control: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            reading_body: AtomicBool::new(false),
            unread_body: AtomicBool::new(false),
            unparsed: AtomicBool::new(false),
            has_task: AtomicBool::new(false),
            turn: AtomicU32::new(0),
            turn_since: AtomicU64::new(1),
            written_before: AtomicU64::new(0),
            much: AtomicU8::new(Much::No as u8),
            is_broken: AtomicBool::new(false),
            order: AtomicU8::new(Order::GoOn as u8),
            carrier: AtomicWaker::new(),
        })
    }

    /// Looks at the connection now, and tells it where it has to end. Where memory for windows `is_scarce`, each has its
    /// deadline; else a connection that takes some may leave others, as the stream of a film that is paused.
    pub(crate) fn sweep(&self, limits: &Limits, is_scarce: bool) {
        if self.holds_old(limits.write_timeout) && is_scarce {
            return self.tell(Order::Cut);
        }
        let time = |noted: &AtomicU64| match noted.load(Relaxed) {
            0 => None,
            noted => Some(Duration::from_millis(noted - 1)),
        };
        let now = ticks().saturating_sub(self.opened);
        let notes = Notes {
            in_flight: self.in_flight.load(Relaxed) > 0,
            sending: self.sending.load(Relaxed) > 0,
            idle_since: time(&self.idle_since).unwrap_or_default(),
            head_since: time(&self.head_since),
            // That others have their turns first is no fault of the client's.
            progress_at: if self.waits_for_turn() { now } else { time(&self.progress_at).unwrap_or_default() },
            blocked_since: time(&self.blocked_since),
            lingering_since: time(&self.lingering_since),
        };
        self.tell(judge(&notes, now, limits));
    }

    /// Tells the connection what to do.
    pub(crate) fn tell(&self, order: Order) {
        if self.order.fetch_max(order as u8, AcqRel) < order as u8 {
            self.carrier.wake();
        }
    }

    /// What the connection has to do. The task is woken when that changes.
    pub(crate) fn poll_order(&self, cx: &Context<'_>) -> Order {
        self.carrier.register(cx.waker());
        self.order()
    }

    pub(crate) fn order(&self) -> Order {
        let order = self.order.load(Acquire);
        [Order::Close, Order::Cut].into_iter().find(|known| *known as u8 == order).unwrap_or(Order::GoOn)
    }

    /// The connection gets a task, and is polled by it.
    pub(crate) fn set_task(&self) {
        self.has_task.store(true, Relaxed);
    }

    /// Whether the connection is polled by whoever accepted it, and so will be polled again without being woken.
    pub(crate) fn has_no_task(&self) -> bool {
        !self.has_task.load(Relaxed)
    }

    /// The connection is polled once more.
    pub(crate) fn begin_turn(&self) {
        add_one(&self.turn);
        match self.much.load(Relaxed) {
            much if much == Much::Next as u8 => self.much.store(Much::Now as u8, Relaxed),
            much if much == Much::Now as u8 => self.much.store(Much::No as u8, Relaxed),
            _ => {}
        }
        self.turn_since.store(self.since_opened(), Relaxed);
        self.written_before.store(self.written.load(Relaxed), Relaxed);
    }

    /// Which turn the connection has. What happens in one and the same waited for nothing in between.
    pub(crate) fn turn(&self) -> u32 {
        self.turn.load(Relaxed)
    }

    /// Has the connection wait for a turn in which it may write much; says whether it did not yet.
    pub(crate) fn wait_for_turn(&self) -> bool {
        self.much.swap(Much::Waits as u8, Relaxed) != Much::Waits as u8
    }

    /// Has the connection write nothing before it has had a turn, unless it has one.
    pub(crate) fn need_turn(&self) {
        let _ = self.much.compare_exchange(Much::No as u8, Much::Needs as u8, Relaxed, Relaxed);
    }

    /// Whether it may write a little without one.
    pub(crate) fn needs_no_turn(&self) -> bool {
        self.much.load(Relaxed) == Much::No as u8
    }

    /// Whether it waits for one.
    pub(crate) fn waits_for_turn(&self) -> bool {
        self.much.load(Relaxed) == Much::Waits as u8
    }

    /// The next turn is one in which it may write much. What it waited is no time of the client's; whether it takes anything was
    /// not asked meanwhile, so where it did not before, that stands.
    pub(crate) fn give_turn(&self) {
        self.much.store(Much::Next as u8, Relaxed);
        if self.sending.load(Relaxed) > 0 {
            // Roughly: it may have been polled meanwhile.
            let now = self.since_opened();
            let waited = now.saturating_sub(self.turn_since.load(Relaxed));
            self.progress_at.store(self.progress_at.load(Relaxed).saturating_add(waited).min(now), Relaxed);
        }
    }

    /// This turn becomes one, whoever else waits: the connection ends with what it writes now.
    pub(crate) fn take_turn(&self) {
        self.much.store(Much::Now as u8, Relaxed);
        self.written_before.store(self.written.load(Relaxed), Relaxed);
    }

    /// Whether this turn is one.
    pub(crate) fn has_turn(&self) -> bool {
        self.much.load(Relaxed) == Much::Now as u8
    }

    /// Bytes that the socket took in this turn.
    pub(crate) fn written_in_turn(&self) -> u64 {
        self.written.load(Relaxed) - self.written_before.load(Relaxed)
    }

    /// Waits until the connection has to end.
    pub(crate) async fn ends(&self) {
        poll_fn(|cx| if self.poll_order(cx) >= Order::Close { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// The connection ends in the middle of an answer, whose end it would be taken for.
    pub(crate) fn reset(&self) {
        self.is_broken.store(true, Relaxed);
    }

    /// Whether the connection is cut because its client does not take what is there for it, so that the kernel is not to keep it
    /// any longer either; or its end would be taken for that of an answer.
    pub(crate) fn must_reset(&self) -> bool {
        let owes = self.blocked_since.load(Relaxed) != 0 || self.sending.load(Relaxed) > 0;
        let is_left = self.order() == Order::Cut && owes && self.lingering_since.load(Relaxed) == 0;
        is_left || self.is_broken.load(Relaxed)
    }

    /// Whether the client has left a piece for longer than this. Pieces are told apart by two generations, not by their
    /// times: a new one begins when nothing is left of the one before the last.
    fn holds_old(&self, limit: Duration) -> bool {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let now = self.since_opened();
        if now.saturating_sub(self.generation_since.load(Relaxed)) <= limit {
            return false;
        }
        let other = 1 - self.generation.load(Relaxed);
        if self.owed[other].load(Relaxed) > 0 {
            return true;
        }
        self.generation.store(other, Relaxed);
        self.generation_since.store(now, Relaxed);
        false
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    /// The connection speaks HTTP/2.
    pub(crate) fn set_multiplexed(&self) {
        self.multiplexed.store(true, Relaxed);
        self.head_since.store(0, Relaxed);
        self.idle_since.store(self.now(), Relaxed);
    }

    /// So many bytes were read.
    pub(crate) fn on_read(&self, bytes: usize) {
        if self.is_multiplexed() {
            let read = i64::try_from(bytes).unwrap_or(i64::MAX);
            let balance = self.balance.load(Relaxed).saturating_sub(read);
            self.balance.store(balance.max(-MOST_READ_AHEAD), Relaxed);
            return;
        }
        if self.reading_body.load(Relaxed) {
            return;
        }
        self.unparsed.store(true, Relaxed);
        if self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// HTTP/2: what the bytes that were read have begun and ended.
    pub(crate) fn on_frames(&self, moved: Moved) {
        self.unparsed.store(moved.is_partial, Relaxed);
        if !moved.is_partial {
            self.head_since.store(0, Relaxed);
        } else if moved.ended || self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Bytes came under TLS, perhaps not enough for a record.
    pub(crate) fn on_sealed_read(&self) {
        if self.reading_body.load(Relaxed) {
            return;
        }
        if self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// What comes before the first request is over: a handshake, or a proxy's header. Now the client may take its time,
    /// as between two requests.
    pub(crate) fn on_preamble(&self) {
        self.head_since.store(0, Relaxed);
        self.unparsed.store(false, Relaxed);
        self.idle_since.store(self.now(), Relaxed);
    }

    /// All that was written was taken.
    pub(crate) fn on_flushed(&self) {
        if self.blocked_since.load(Relaxed) != 0 {
            self.blocked_since.store(0, Relaxed);
        }
    }

    /// The client took so many bytes.
    pub(crate) fn on_write(&self, bytes: usize) {
        // Only the connection's own thread writes it.
        self.written.store(self.written.load(Relaxed) + bytes as u64, Relaxed);
        if self.blocked_since.load(Relaxed) != 0 {
            self.blocked_since.store(0, Relaxed);
        }
        if self.is_multiplexed() && !self.is_progress(bytes) {
            return;
        }
        if self.sending.load(Relaxed) > 0 {
            self.progress_at.store(self.now(), Relaxed);
        }
    }

    /// Whether what was written with these bytes is more than answers to the client's own frames: a PING is answered by
    /// one of its own length, also by a client that takes nothing of a file.
    fn is_progress(&self, bytes: usize) -> bool {
        let written = i64::try_from(bytes).unwrap_or(i64::MAX);
        let balance = self.balance.load(Relaxed).saturating_add(written);
        let is_progress = balance >= PROGRESS;
        self.balance.store(if is_progress { 0 } else { balance }, Relaxed);
        is_progress
    }

    /// What the windows of the connection's answers may take together, where it has many answers at a time.
    fn windows(&self) -> Option<Arc<Semaphore>> {
        let windows = || windows::semaphore(CONNECTION_WINDOWS);
        self.is_multiplexed().then(|| Arc::clone(self.windows.get_or_init(windows)))
    }

    /// The client takes no bytes at the moment.
    pub(crate) fn on_write_blocked(&self) {
        if self.blocked_since.load(Relaxed) == 0 {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// A request arrived. It is in flight until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>, has_body: bool) -> InFlight {
        add_one(&self.in_flight);
        if !self.is_multiplexed() {
            // Over HTTP/2 a part of the next head may have come already, and is known.
            self.head_since.store(0, Relaxed);
            self.unparsed.store(false, Relaxed);
        }
        self.reading_body.store(has_body, Relaxed);
        self.unread_body.store(false, Relaxed);
        InFlight::new(self)
    }

    /// HTTP/1: a request is waited for, of which a part may have come.
    pub(crate) fn on_waiting(&self, is_partial: bool) {
        self.unparsed.store(is_partial, Relaxed);
        if is_partial && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// HTTP/1: what came means nothing, and begins no head.
    pub(crate) fn on_nothing(&self) {
        self.head_since.store(0, Relaxed);
    }

    /// HTTP/1: the body of the request came whole.
    pub(crate) fn on_body_over(&self) {
        self.reading_body.store(false, Relaxed);
        self.unread_body.store(false, Relaxed);
    }

    /// A request came.
    pub(crate) fn on_request(&self) {
        self.is_of_control.store(false, Relaxed);
    }

    /// The last request is the control plane's.
    pub(crate) fn goes_to_control(&self) {
        self.is_of_control.store(true, Relaxed);
    }

    /// Whether the answer is to be finished for a client that has closed its side: it may have asked for one thing and wait for
    /// it (RFC 9112 section 9.6), or be gone. What a site answers is soon over either way; the control plane may work for long,
    /// and is told that nobody waits.
    pub(crate) fn may_finish(&self) -> bool {
        !self.is_of_control.load(Relaxed)
    }

    /// Whether the client may be sending still when the connection closes, as one that speaks HTTP/2 always may. Closing
    /// at once would then reset it, and the last answer be lost on the way (RFC 9112 section 9.6).
    pub(crate) fn must_linger(&self) -> bool {
        self.unread_body.load(Relaxed) || self.unparsed.load(Relaxed) || self.is_multiplexed()
    }

    /// The connection is half closed.
    pub(crate) fn on_linger(&self) {
        self.lingering_since.store(self.now(), Relaxed);
    }

    /// There is something for the client to take. Its time begins with the first such thing: who takes nothing gains none by
    /// asking for more.
    fn on_owed(&self) {
        if add_one(&self.sending) == 0 {
            self.progress_at.store(self.now(), Relaxed);
        }
    }

    /// When the turn began: a request notes half a dozen times, all of them for deadlines of seconds.
    fn now(&self) -> u64 {
        self.turn_since.load(Relaxed)
    }

    fn since_opened(&self) -> u64 {
        u64::try_from(ticks().saturating_sub(self.opened).as_millis()).map_or(u64::MAX, |now| now.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Instant;

    /// Longer than any kernel's tick.
    const A_TICK: Duration = Duration::from_millis(25);

    #[test]
    fn a_pipelined_part_of_a_head_has_its_deadline() {
        let watch = Watch::new();
        watch.on_read(1);
        assert_ne!(watch.head_since.load(Relaxed), 0);
        let first = watch.begin(false);
        assert!(!watch.must_linger());
        watch.on_read(1);
        assert_eq!(watch.head_since.load(Relaxed), 0, "a request is in flight");
        drop(first);
        assert_ne!(watch.head_since.load(Relaxed), 0);
        assert!(watch.must_linger());
        let upload = watch.begin(true);
        watch.on_read(1);
        drop(upload);
        assert_eq!(watch.head_since.load(Relaxed), 0, "that was a body");
        assert!(watch.must_linger(), "which may be coming still");
        drop(watch.begin(false));
        assert!(!watch.must_linger());
    }

    #[test]
    fn after_a_handshake_the_client_may_take_its_time() {
        let watch = Watch::new();
        watch.on_read(1);
        assert_ne!(watch.head_since.load(Relaxed), 0, "a handshake has the deadline of a head");
        watch.on_preamble();
        assert_eq!(watch.head_since.load(Relaxed), 0);
        assert!(!watch.must_linger());
        watch.on_sealed_read();
        assert_ne!(watch.head_since.load(Relaxed), 0, "a part of a record is a part of a head");
        let first = watch.begin(false);
        watch.on_sealed_read();
        assert_eq!(watch.head_since.load(Relaxed), 0, "a request is in flight");
        drop(first);
    }

    #[test]
    fn what_tls_holds_back_counts_as_blocked() {
        let watch = Watch::new();
        watch.on_write_blocked();
        assert_ne!(watch.blocked_since.load(Relaxed), 0);
        watch.on_flushed();
        assert_eq!(watch.blocked_since.load(Relaxed), 0);
    }

    #[test]
    fn answering_pings_is_no_progress() {
        let watch = Watch::new();
        watch.set_multiplexed();
        let _sending = watch.begin(false).sending();
        watch.progress_at.store(1, Relaxed);
        for _ in 0..1000 {
            watch.on_read(17 * 8);
            (0..8).for_each(|_| watch.on_write(17));
        }
        assert_eq!(watch.progress_at.load(Relaxed), 1, "a client that takes nothing gets no time");
        std::thread::sleep(A_TICK);
        watch.begin_turn();
        watch.on_read(13);
        (0..4).for_each(|_| watch.on_write(512));
        assert!(watch.progress_at.load(Relaxed) > 1, "a slow client that takes something does");
    }

    #[test]
    fn http_2_has_no_heads_but_those_that_began() {
        let watch = Watch::new();
        let moved = |ended, is_partial| Moved { ended, is_partial };
        watch.on_read(1);
        watch.set_multiplexed();
        watch.on_read(1);
        watch.on_frames(moved(true, false));
        assert_eq!(watch.head_since.load(Relaxed), 0);
        watch.on_frames(moved(false, true));
        watch.head_since.store(1, Relaxed);
        std::thread::sleep(A_TICK);
        watch.begin_turn();
        watch.on_frames(moved(false, true));
        assert_eq!(watch.head_since.load(Relaxed), 1, "more of the same head");
        watch.on_frames(moved(true, true));
        assert!(watch.head_since.load(Relaxed) > 1, "the next one");
        let request = watch.begin(false);
        assert_ne!(watch.head_since.load(Relaxed), 0, "was of another head");
        drop(request);
        assert_ne!(watch.head_since.load(Relaxed), 0);
        watch.on_frames(moved(true, false));
        assert_eq!(watch.head_since.load(Relaxed), 0);
    }

    #[test]
    fn where_memory_is_scarce_every_window_has_its_deadline() {
        let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
        for (is_scarce, is_stalled, in_file) in
            [(false, true, false), (true, false, false), (true, true, false), (true, true, true)]
        {
            let watch = Watch::new();
            watch.set_multiplexed();
            let request = watch.begin(false);
            let stalled = is_stalled.then(|| if in_file { request.owed_in_file() } else { request.owed() });
            let mut taken = request.owed();
            let end = Instant::now() + Duration::from_millis(700);
            while Instant::now() < end {
                // Some of it is taken all the time.
                watch.begin_turn();
                taken = request.owed();
                watch.on_write(2000);
                watch.sweep(&limits, is_scarce);
                std::thread::sleep(Duration::from_millis(1));
            }
            let cut = watch.order() == Order::Cut;
            let takes_memory = is_stalled && !in_file;
            assert_eq!(cut, is_scarce && takes_memory, "scarce: {is_scarce}, stalled: {is_stalled}, {in_file}");
            drop((stalled, taken));
            assert!(watch.owed.iter().all(|owed| owed.load(Relaxed) == 0));
        }
    }

    #[test]
    fn who_waits_for_a_turn_has_the_time_of_it_again() {
        let limits = Limits { write_timeout: Duration::from_millis(50), ..Limits::default() };
        for waits in [false, true] {
            let watch = Watch::new();
            let _sending = watch.begin(false).sending();
            assert!(!waits || watch.wait_for_turn());
            std::thread::sleep(4 * A_TICK);
            watch.sweep(&limits, false);
            assert_eq!(watch.order() == Order::Cut, !waits, "waits: {waits}");
            if waits {
                watch.give_turn();
                watch.begin_turn();
                watch.sweep(&limits, false);
                assert!(watch.has_turn() && watch.order() == Order::GoOn);
                std::thread::sleep(4 * A_TICK);
                watch.sweep(&limits, false);
                assert_eq!(watch.order(), Order::Cut, "it takes nothing");
            }
        }
    }

    #[test]
    fn asking_for_more_gives_no_time() {
        let watch = Watch::new();
        watch.set_multiplexed();
        let request = watch.begin(false);
        let stalled = request.owe(Bytes::from_static(b"window"));
        watch.progress_at.store(1, Relaxed);
        std::thread::sleep(A_TICK);
        watch.begin_turn();
        let _more = watch.begin(false).sending();
        let _further = watch.begin(false).owed();
        assert_eq!(watch.progress_at.load(Relaxed), 1);
        drop(request);
        assert_eq!(watch.sending.load(Relaxed), 3, "the last window of an answer is owed too");
        drop(stalled);
        assert_eq!(watch.sending.load(Relaxed), 2);
    }
}
