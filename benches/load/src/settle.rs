//! Waiting until a server has nothing left to do: after a publish it may compress files, merge them or collect others, and
//! what it does for itself would be measured as what an answer costs.
//!
//! Seen from outside, in what the process uses, so that it holds for every version, whatever it does by itself. But work that
//! waits uses nothing: files are compressed by threads of the lowest priority, which others can keep from a core for longer
//! than is waited here. So a server that is idle is asked for what it still has to compress, where it tells.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::procfs;
use crate::servers::Running;

/// How long a server must have been idle, and what it may use meanwhile: its timers tick.
const IDLE: Duration = Duration::from_secs(2);
const TICKS: u64 = 2;

/// How long is waited at most.
const BOUND: Duration = Duration::from_secs(300);

/// How often is looked.
const STEP: Duration = Duration::from_millis(100);

/// Waits until the server is idle, but not for ever, and says so where it was not. Gives the CPU that it used meanwhile.
pub(crate) fn settle(server: &Running, what: &str) -> Result<Duration> {
    let (began, before) = (Instant::now(), procfs::tree_ticks(server.pid())?);
    let mut watch = Watch::default();
    loop {
        let (at, ticks) = (began.elapsed(), procfs::tree_ticks(server.pid())?);
        let mut idle = watch.is_idle(at, ticks);
        // It is asked no more often than it was idle, since to answer is work, too.
        if idle && server.has_variants_queued()? {
            (watch, idle) = (Watch::default(), false);
        }
        if idle || at > BOUND {
            if !idle {
                eprintln!("warning: {what} is still at work after {} s, and is measured so", BOUND.as_secs());
            }
            return Ok(procfs::ticks(ticks.saturating_sub(before)));
        }
        std::thread::sleep(STEP);
    }
}

/// Since when a process has used next to nothing.
#[derive(Debug, Default)]
struct Watch {
    since: Option<(Duration, u64)>,
}

impl Watch {
    /// Takes what the process had used at a time, and tells whether it has been idle for long enough.
    fn is_idle(&mut self, at: Duration, ticks: u64) -> bool {
        let (since, from) = *self.since.get_or_insert((at, ticks));
        if ticks.saturating_sub(from) > TICKS {
            self.since = Some((at, ticks));
            return false;
        }
        at.saturating_sub(since) >= IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_two_seconds_with_next_to_nothing() {
        for (readings, want) in [
            (&[(0, 500), (1900, 500)][..], false),
            (&[(0, 500), (1000, 501), (2000, 502)], true), // timers
            (&[(0, 500), (1000, 503), (2000, 503)], false),
            (&[(0, 500), (1000, 503), (2000, 503), (3000, 504)], true),
            (&[(0, 500), (1000, 600), (2000, 700), (3000, 800)], false),
            (&[(0, 500), (300, 501), (1500, 503), (3400, 504)], false), // slow work is work
            (&[(0, 500)], false),
        ] {
            let mut watch = Watch::default();
            let idle = readings.iter().map(|(at, ticks)| watch.is_idle(Duration::from_millis(*at), *ticks)).last();
            assert_eq!(idle, Some(want), "{readings:?}");
        }
    }
}
