//! What a running edge counts.
//!
//! Every worker has a shard of its own, which nobody else writes, and no two shards share a cache line: a request costs a few
//! additions to lines that its core has already. All other threads share one more. Whoever reads adds the shards up; each
//! number is right by itself, and together they are not of one moment.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::request::Protocol;

/// Upper bounds of the buckets of durations, in microseconds; beyond the last there is one more.
pub(crate) const BUCKETS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];

/// How a request ended, as it is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    Informational,
    Success,
    Redirect,
    ClientError,
    ServerError,
    /// The client left before there was an answer.
    NoAnswer,
}

impl Class {
    pub(crate) const ALL: [Self; 6] =
        [Self::Informational, Self::Success, Self::Redirect, Self::ClientError, Self::ServerError, Self::NoAnswer];

    /// The class of a status; zero where there was none.
    pub(crate) fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirect,
            4 => Self::ClientError,
            0 => Self::NoAnswer,
            _ => Self::ServerError,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::NoAnswer => "none",
        }
    }
}

/// The protocols as they are counted: by what a connection can do.
pub(crate) const PROTOCOLS: [&str; 2] = ["h1", "h2"];

/// Who answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Site,
    Control,
}

pub(crate) const SIDES: [&str; 2] = ["site", "control"];

/// What is looked for in memory before it is loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lookup {
    Manifest,
    SmallBlob,
    OpenFile,
    HostedImage,
}

pub(crate) const LOOKUPS: [&str; 4] = ["manifest", "small_blob", "open_file", "hosted_image"];

/// Why a connection was closed as soon as it was accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Its source address has as many as it may have.
    PerSource,
}

pub(crate) const REFUSALS: [&str; 1] = ["per_source"];

/// What an edge has done and is doing.
#[derive(Debug)]
pub struct Counters {
    /// Those of the workers, and last the one that is shared.
    shards: Box<[Shard]>,
}

/// The numbers of one worker, or of all other threads. 128 bytes, because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    begun: AtomicU64,
    accepted: AtomicU64,
    closed: AtomicU64,
    ended: [[[AtomicU64; Class::ALL.len()]; PROTOCOLS.len()]; SIDES.len()],
    broken_off: [AtomicU64; SIDES.len()],
    sent: [AtomicU64; SIDES.len()],
    first_byte: Durations,
    last_byte: Durations,
    hits: [AtomicU64; LOOKUPS.len()],
    misses: [AtomicU64; LOOKUPS.len()],
    refused: [AtomicU64; REFUSALS.len()],
    failed_handshakes: AtomicU64,
}

#[derive(Debug, Default)]
struct Durations {
    buckets: [AtomicU64; BUCKETS.len()],
    beyond: AtomicU64,
    micros: AtomicU64,
}

/// Durations by bucket, summed up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Distribution {
    /// How many fell into each bucket, by itself; the last one is what is beyond all bounds.
    pub(crate) counts: [u64; BUCKETS.len() + 1],
    /// Their sum, in microseconds.
    pub(crate) micros: u64,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) side: Side,
    pub(crate) protocol: Protocol,
    pub(crate) class: Class,
    /// Bytes of its body that were sent.
    pub(crate) sent: u64,
    /// Whether these were all.
    pub(crate) complete: bool,
    pub(crate) first_byte: Duration,
    pub(crate) last_byte: Duration,
}

thread_local! {
    /// Whose worker this thread is, by where its shards are, and which of them is its own. Nowhere, where it is none.
    static OWN: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// A shard, as a thread adds to it.
#[derive(Clone, Copy)]
struct Adding<'c> {
    shard: &'c Shard,
    is_own: bool,
}

impl Adding<'_> {
    /// Adds to a number of the shard.
    fn add(self, number: &AtomicU64, by: u64) {
        if self.is_own {
            // Nobody else changes it, so it need not be kept from them: nine such additions are a request's, and each took four
            // nanoseconds more.
            number.store(number.load(Relaxed).wrapping_add(by), Relaxed);
        } else {
            number.fetch_add(by, Relaxed);
        }
    }

    fn add_duration(self, durations: &Durations, duration: Duration) {
        let micros = micros(duration);
        let bucket = BUCKETS.iter().position(|bound| micros <= *bound);
        self.add(bucket.map_or(&durations.beyond, |bucket| &durations.buckets[bucket]), 1);
        self.add(&durations.micros, micros);
    }
}

impl Counters {
    /// Counters for so many workers.
    pub(crate) fn new(workers: NonZeroUsize) -> Self {
        Self { shards: (0..=workers.get()).map(|_| Shard::default()).collect() }
    }

    /// Has this thread, which is that worker and no other is, count in a shard of its own from now on.
    pub(crate) fn count_as_worker(&self, worker: usize) {
        if worker < self.workers() {
            OWN.set((self.place(), worker));
        }
    }

    /// Requests that were understood, since the start.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.sum(|shard| &shard.begun)
    }

    /// Requests that are being answered now.
    #[must_use]
    pub fn requests_in_flight(&self) -> u64 {
        let ended = self.shards.iter().flat_map(|shard| shard.ended.as_flattened().as_flattened());
        let ended: u64 = ended.map(|count| count.load(Relaxed)).sum();
        self.requests().saturating_sub(ended)
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn accepted_connections(&self) -> u64 {
        self.sum(|shard| &shard.accepted)
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        // Closed ones first: what is opened in between then counts as open, and never less than none are.
        let closed = self.sum(|shard| &shard.closed);
        self.accepted_connections().saturating_sub(closed)
    }

    /// Connections that were refused for this reason since the start.
    #[must_use]
    pub fn refused_connections(&self, reason: Refusal) -> u64 {
        self.sum(|shard| &shard.refused[reason as usize])
    }

    /// TLS handshakes that did not come to their end, since the start.
    #[must_use]
    pub fn failed_handshakes(&self) -> u64 {
        self.sum(|shard| &shard.failed_handshakes)
    }

    /// A connection was closed as soon as it was accepted.
    pub fn connection_refused(&self, reason: Refusal) {
        let adding = self.adding();
        adding.add(&adding.shard.refused[reason as usize], 1);
    }

    pub(crate) fn request_begun(&self) {
        let adding = self.adding();
        adding.add(&adding.shard.begun, 1);
    }

    pub(crate) fn request_ended(&self, ended: &Ended) {
        let Ended { side, class, sent, complete, .. } = *ended;
        let protocol = usize::from(ended.protocol == Protocol::Http2);
        let adding = self.adding();
        adding.add(&adding.shard.ended[side as usize][protocol][class as usize], 1);
        if sent > 0 {
            adding.add(&adding.shard.sent[side as usize], sent);
        }
        if class == Class::NoAnswer {
            return;
        }
        // What calls of the API take is mostly the client's own time.
        if side == Side::Site {
            adding.add_duration(&adding.shard.first_byte, ended.first_byte);
        }
        if !complete {
            adding.add(&adding.shard.broken_off[side as usize], 1);
        } else if side == Side::Site {
            adding.add_duration(&adding.shard.last_byte, ended.last_byte);
        }
    }

    pub(crate) fn looked_up(&self, what: Lookup, found: bool) {
        let adding = self.adding();
        let counts = if found { &adding.shard.hits } else { &adding.shard.misses };
        adding.add(&counts[what as usize], 1);
    }

    pub(crate) fn connection_opened(&self) {
        let adding = self.adding();
        adding.add(&adding.shard.accepted, 1);
    }

    pub(crate) fn handshake_failed(&self) {
        let adding = self.adding();
        adding.add(&adding.shard.failed_handshakes, 1);
    }

    pub(crate) fn connection_closed(&self) {
        let adding = self.adding();
        adding.add(&adding.shard.closed, 1);
    }

    /// Requests that have ended, by side, protocol and class, in the order of the labels.
    pub(crate) fn ended(&self, side: usize, protocol: usize, class: Class) -> u64 {
        self.sum(|shard| &shard.ended[side][protocol][class as usize])
    }

    pub(crate) fn broken_off(&self, side: usize) -> u64 {
        self.sum(|shard| &shard.broken_off[side])
    }

    pub(crate) fn sent(&self, side: usize) -> u64 {
        self.sum(|shard| &shard.sent[side])
    }

    pub(crate) fn hits(&self, lookup: usize) -> u64 {
        self.sum(|shard| &shard.hits[lookup])
    }

    pub(crate) fn misses(&self, lookup: usize) -> u64 {
        self.sum(|shard| &shard.misses[lookup])
    }

    pub(crate) fn refused(&self, reason: usize) -> u64 {
        self.sum(|shard| &shard.refused[reason])
    }

    pub(crate) fn first_byte(&self) -> Distribution {
        self.distribution(|shard| &shard.first_byte)
    }

    pub(crate) fn last_byte(&self) -> Distribution {
        self.distribution(|shard| &shard.last_byte)
    }

    pub(crate) fn workers(&self) -> usize {
        self.shards.len() - 1
    }

    fn adding(&self) -> Adding<'_> {
        let (place, own) = OWN.get();
        let is_own = place == self.place();
        Adding { shard: &self.shards[if is_own { own } else { self.workers() }], is_own }
    }

    fn place(&self) -> usize {
        self.shards.as_ptr().addr()
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| of(shard).load(Relaxed)).sum()
    }

    fn distribution(&self, of: impl Fn(&Shard) -> &Durations) -> Distribution {
        let mut all = Distribution::default();
        for durations in self.shards.iter().map(of) {
            let counts = durations.buckets.iter().chain([&durations.beyond]);
            all.counts.iter_mut().zip(counts).for_each(|(all, count)| *all += count.load(Relaxed));
            all.micros += durations.micros.load(Relaxed);
        }
        all
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u16, sent: u64, complete: bool, last_byte: Duration) -> Ended {
        let class = Class::of(status);
        let (side, protocol) = (Side::Site, Protocol::Http11);
        Ended { side, protocol, class, sent, complete, first_byte: Duration::from_micros(90), last_byte }
    }

    #[test]
    fn statuses_have_classes() {
        let got = [100, 200, 206, 304, 404, 499, 503, 999, 0].map(|status| Class::of(status).label());
        assert_eq!(got, ["1xx", "2xx", "2xx", "3xx", "4xx", "4xx", "5xx", "5xx", "none"]);
    }

    #[test]
    fn threads_count_in_shards_and_nothing_is_lost() {
        let counters = Counters::new(NonZeroUsize::new(3).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let counters = &counters;
                scope.spawn(move || {
                    if thread < 3 {
                        counters.count_as_worker(thread);
                    }
                    for _ in 0..1000 {
                        counters.request_begun();
                        counters.request_ended(&ended(200, 10, true, Duration::from_micros(100)));
                    }
                });
            }
        });
        assert_eq!((counters.requests(), counters.requests_in_flight()), (8000, 0));
        assert_eq!((counters.ended(0, 0, Class::Success), counters.sent(0)), (8000, 80_000));
        let last_byte = counters.last_byte();
        assert_eq!((last_byte.counts[0], last_byte.micros), (8000, 800_000), "a bound is within its bucket");
    }

    #[test]
    fn buckets() {
        let counters = Counters::new(NonZeroUsize::MIN);
        for micros in [0, 100, 101, 60_000_000, 60_000_001] {
            counters.request_ended(&ended(200, 0, true, Duration::from_micros(micros)));
        }
        let counts = counters.last_byte().counts;
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
    }

    #[test]
    fn what_broke_off_has_no_last_byte_and_what_was_never_answered_no_first() {
        let counters = Counters::new(NonZeroUsize::MIN);
        counters.request_ended(&ended(200, 5, false, Duration::from_secs(1)));
        counters.request_ended(&ended(0, 0, false, Duration::from_secs(1)));
        let total = |distribution: Distribution| distribution.counts.iter().sum::<u64>();
        assert_eq!((total(counters.first_byte()), total(counters.last_byte())), (1, 0));
        assert_eq!((counters.broken_off(0), counters.ended(0, 0, Class::NoAnswer)), (1, 1));
    }

    #[test]
    fn shards_share_no_line() {
        assert_eq!(size_of::<Shard>() % 128, 0);
        assert_eq!(align_of::<Shard>(), 128);
    }
}
