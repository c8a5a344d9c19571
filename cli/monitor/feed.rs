//! How far the pointer table is behind the event feed, in events and in time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pinstone_edge::metrics::Exposition;
use pinstone_engine::FeedStatus;

/// Remembers since when the table lacks an event.
#[derive(Debug, Default)]
pub(super) struct FeedWatch(Mutex<Option<Behind>>);

/// An event that was in the feed and not in the table.
#[derive(Clone, Copy, Debug)]
struct Behind {
    position: u64,
    since: Instant,
}

impl FeedWatch {
    pub(super) fn write(&self, feed: &FeedStatus, now: Instant, out: &mut Exposition) {
        out.gauge("pinstone_feed_position", "The last event of the metadata store's feed.", feed.position);
        out.gauge("pinstone_feed_applied_position", "The last event in the pointer table.", feed.applied);
        let events = feed.position.saturating_sub(feed.applied);
        out.gauge("pinstone_feed_lag_events", "Events of the feed that are not in the pointer table.", events);
        let age = self.age(feed, now).as_secs_f64();
        out.gauge(
            "pinstone_feed_lag_seconds",
            "How long the oldest event that was seen missing in the pointer table has been missing.",
            age,
        );
    }

    /// Since when the table has been behind. An event counts from when it was first seen to be missing, until the table
    /// has it; a table that is always a little behind a busy feed is not late.
    fn age(&self, feed: &FeedStatus, now: Instant) -> Duration {
        let mut behind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *behind = match *behind {
            Some(still) if feed.applied < still.position => Some(still),
            _ if feed.applied < feed.position => Some(Behind { position: feed.position, since: now }),
            _ => None,
        };
        behind.map_or(Duration::ZERO, |behind| now.saturating_duration_since(behind.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_table_that_stands_still_is_late() {
        let watch = FeedWatch::default();
        let start = Instant::now();
        for (second, position, applied, want) in [
            (0, 5, 5, 0),
            (10, 7, 5, 0),
            (20, 9, 6, 10),
            (30, 11, 10, 0), // it has event 7, so it moves
            (40, 11, 10, 10),
            (50, 11, 11, 0),
            (60, 12, 11, 0),
        ] {
            let age = watch.age(&FeedStatus { position, applied }, start + Duration::from_secs(second));
            assert_eq!(age, Duration::from_secs(want), "after {second} s");
        }
    }
}
