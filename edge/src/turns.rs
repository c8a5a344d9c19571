//! Who writes much waits for its turn: few such writes are made each time before the worker looks at what has come.
//!
//! A small answer takes the kernel some 10 µs; half a megabyte that it copies, or a whole one that it sends as it lies, some hundred. So
//! much is written in a turn at most, and more only where nobody has written little for some time.
//! Where each of several downloads wrote whenever its socket has room, small answers would wait for all of them each time; and were
//! it the runtime that has them take turns, it would look for what came only when all had theirs. So does who writes what a disk
//! was waited for, however little it is: there may be more of it at once each time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::watch::Watch;

/// Of so many connections that wait, one has its turn each time. However many there are and whatever a look at what came takes,
/// none waits for longer than so many of those.
const AT_A_TIME: usize = 8;

/// From how many bytes on a turn in which much may be written is over.
pub(crate) const TURN_BYTES: u64 = 512 << 10;

/// The same where nobody else is there: about as much as a socket has room for, and the fewest rounds.
const ALONE_BYTES: u64 = 4 << 20;

/// So often has the worker to have looked at what came since somebody last wrote little.
const ALONE: u32 = 64;

/// The connections of a worker that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: Mutex<Waiting>,
    /// How often turns were given, each time after a look at what came.
    rounds: AtomicU32,
    /// What that was when somebody last wrote little.
    little_in: AtomicU32,
    /// Whether more than one had its turn the last time.
    is_crowded: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The one that has waited longest comes first.
    connections: VecDeque<(Arc<Watch>, Waker)>,
    /// Who gives turns, where it waits for somebody to want one.
    giver: Option<Waker>,
}

impl Turns {
    /// Has the connection wait, if it does not yet; its task is woken when it has its turn.
    pub(crate) fn wait(&self, watch: &Arc<Watch>, waker: &Waker) {
        if !watch.wait_for_turn() {
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.connections.push_back((Arc::clone(watch), waker.clone()));
        let giver = waiting.giver.take();
        drop(waiting);
        if let Some(giver) = giver {
            giver.wake();
        }
    }

    /// Somebody wrote little: an answer that others are not to stand in the way of.
    pub(crate) fn note_little(&self) {
        self.little_in.store(self.rounds.load(Relaxed), Relaxed);
    }

    /// From how many bytes on a turn is over.
    pub(crate) fn bytes(&self) -> u64 {
        let alone = self.rounds.load(Relaxed).wrapping_sub(self.little_in.load(Relaxed));
        if alone >= ALONE && !self.is_crowded.load(Relaxed) { ALONE_BYTES } else { TURN_BYTES }
    }

    /// Gives turns, for ever. A connection that has ended meanwhile costs the others nothing but that one.
    pub(crate) async fn give(&self) {
        loop {
            poll_fn(|cx| {
                let mut waiting = self.waiting.lock();
                if waiting.connections.is_empty() {
                    waiting.giver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            // Who yields is woken when the runtime has asked what came.
            tokio::task::yield_now().await;
            let next: Vec<_> = {
                let connections = &mut self.waiting.lock().connections;
                let count = connections.len().div_ceil(AT_A_TIME);
                self.is_crowded.store(count > 1, Relaxed);
                connections.drain(..count).collect()
            };
            self.rounds.store(self.rounds.load(Relaxed).wrapping_add(1), Relaxed);
            for (watch, waker) in next {
                watch.give_turn();
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::poll_in_place;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// Has connections write much as often as they may, until each did so often; in which order they did.
    async fn written(connections: usize, times: usize) -> Vec<usize> {
        let (turns, order) = (Arc::new(Turns::default()), Arc::new(Mutex::new(Vec::new())));
        let giving = {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { turns.give().await })
        };
        let connection = |number: usize| {
            let (turns, order, watch) = (Arc::clone(&turns), Arc::clone(&order), Watch::new());
            let mut left = times;
            tokio::spawn(poll_fn(move |cx| {
                watch.begin_turn();
                if watch.has_turn() {
                    order.lock().push(number);
                    left -= 1;
                }
                if left == 0 {
                    return Poll::Ready(());
                }
                turns.wait(&watch, cx.waker());
                turns.wait(&watch, cx.waker());
                Poll::Pending
            }))
        };
        let all: Vec<_> = (0..connections).map(connection).collect();
        for ended in all {
            ended.await.unwrap();
        }
        giving.abort();
        order.lock().clone()
    }

    #[tokio::test]
    async fn all_have_their_turn_one_after_the_other() {
        assert_eq!(written(1, 3).await, [0, 0, 0]);
        assert_eq!(written(3, 3).await, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[tokio::test]
    async fn what_came_is_looked_at_before_each_turn() {
        let looked = Arc::new(AtomicUsize::new(0));
        let looking = {
            let looked = Arc::clone(&looked);
            tokio::spawn(async move {
                loop {
                    tokio::task::yield_now().await;
                    looked.fetch_add(1, SeqCst);
                }
            })
        };
        written(4, 25).await;
        looking.abort();
        assert!(looked.load(SeqCst) >= 100, "{looked:?} times for a hundred turns");
    }

    #[tokio::test]
    async fn turns_are_long_where_nobody_else_is_there() {
        let turns = Turns::default();
        let mut giving = std::pin::pin!(turns.give());
        let mut give = |connections: usize, rounds: u32| {
            for _ in 0..rounds {
                let before = turns.rounds.load(Relaxed);
                (0..connections).for_each(|_| turns.wait(&Watch::new(), Waker::noop()));
                while turns.rounds.load(Relaxed) == before {
                    assert!(poll_in_place(giving.as_mut()).is_pending());
                }
            }
            let bytes = turns.bytes();
            while !turns.waiting.lock().connections.is_empty() {
                assert!(poll_in_place(giving.as_mut()).is_pending());
            }
            bytes
        };
        for _ in 0..2 {
            assert_eq!([give(1, ALONE - 1), give(1, 1), give(1, ALONE)], [TURN_BYTES, ALONE_BYTES, ALONE_BYTES]);
            turns.note_little();
            assert_eq!(turns.bytes(), TURN_BYTES);
        }
        assert_eq!(
            [give(1, ALONE), give(AT_A_TIME + 1, 1)],
            [ALONE_BYTES, TURN_BYTES],
            "many are there that write much"
        );
    }

    #[tokio::test]
    async fn where_many_wait_several_have_their_turn_at_a_time() {
        let (turns, given) = (Turns::default(), AtomicUsize::new(0));
        let watches: Vec<_> = (0..3 * AT_A_TIME).map(|_| Watch::new()).collect();
        watches.iter().for_each(|watch| turns.wait(watch, Waker::noop()));
        let mut giving = std::pin::pin!(turns.give());
        while watches.iter().any(|watch| watch.waits_for_turn()) {
            assert!(futures_util::poll!(giving.as_mut()).is_pending());
            given.fetch_add(1, SeqCst);
        }
        let looks = given.load(SeqCst);
        assert!((AT_A_TIME..=2 * AT_A_TIME).contains(&looks), "{looks} times");
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_holds_nobody_up() {
        let (turns, watch) = (Arc::new(Turns::default()), Watch::new());
        turns.wait(&Watch::new(), Waker::noop());
        let (mut waits, waiting) = (false, Arc::clone(&turns));
        let served = poll_fn(|cx| {
            watch.begin_turn();
            if watch.has_turn() {
                return Poll::Ready(());
            }
            assert!(!std::mem::replace(&mut waits, true), "it is woken for its turn alone");
            waiting.wait(&watch, cx.waker());
            Poll::Pending
        });
        let giving = tokio::spawn(async move { turns.give().await });
        served.await;
        giving.abort();
        watch.begin_turn();
        assert!(!watch.has_turn(), "it ends with the turn");
    }
}
