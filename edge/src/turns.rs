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
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::watch::Watch;

/// Of so many connections that wait, one has its turn each time. However many there are and whatever a look at what came takes,
/// none waits for longer than so many of those.
const AT_A_TIME: usize = 8;

/// From how many bytes on a turn is over, and the most that the kernel is asked to send at once, while there are others that write little.
pub(crate) const SHORT: Turn = Turn { over: 512 << 10, at_once: 1 << 20 };

/// The same where there are none: about as much as a socket has room for, and the fewest rounds. 10 MiB take 0.92 of the CPU.
const LONG: Turn = Turn { over: LONGEST, at_once: LONGEST };

/// The most that is written in a turn, but for the end of its last write, in bytes.
pub(crate) const LONGEST: usize = 4 << 20;

/// So many turns after the last time that somebody wrote little, others are taken to write much only.
const ALONE: u32 = 64;

/// How much may be written in a turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Turn {
    /// From so many bytes on it is over.
    pub(crate) over: usize,
    /// The most bytes of one write.
    pub(crate) at_once: usize,
}

/// The connections of a worker that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: Mutex<Waiting>,
    /// Turns that were given.
    given: AtomicU32,
    /// How many had been when somebody last wrote without one.
    given_before: AtomicU32,
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

    /// Somebody writes little, and needs no turn for that.
    pub(crate) fn note_little(&self) {
        self.given_before.store(self.given.load(Relaxed), Relaxed);
    }

    /// How much may be written in a turn now.
    pub(crate) fn turn(&self) -> Turn {
        let alone = self.given.load(Relaxed).wrapping_sub(self.given_before.load(Relaxed));
        if alone >= ALONE { LONG } else { SHORT }
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
                connections.drain(..count).collect()
            };
            for (watch, waker) in next {
                self.given.fetch_add(1, Relaxed);
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
    async fn turns_are_long_while_nobody_writes_little() {
        let turns = Turns::default();
        let mut giving = std::pin::pin!(turns.give());
        let mut give = |times: u32| {
            for _ in 0..times {
                turns.wait(&Watch::new(), Waker::noop());
                let given = turns.given.load(Relaxed);
                while turns.given.load(Relaxed) == given {
                    assert!(poll_in_place(giving.as_mut()).is_pending());
                }
            }
            turns.turn()
        };
        for _ in 0..2 {
            assert_eq!([give(ALONE - 1), give(1), give(ALONE)], [SHORT, LONG, LONG]);
            turns.note_little();
            assert_eq!(turns.turn(), SHORT);
        }
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
