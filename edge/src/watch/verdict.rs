//! What becomes of a connection, from what it noted: deadlines as a pure function.

use std::time::Duration;

use crate::config::Limits;

/// How long a connection whose client may be sending still stays half open, so that the last answer arrives.
const LINGER: Duration = Duration::from_secs(2);

/// What the connection has to do beside answering. A later one replaces an earlier one, never the other way round.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub(crate) enum Order {
    /// Nothing.
    GoOn,
    /// No more requests, please: it has been idle for too long, or the edge shuts down.
    Close,
    /// Enough: it is in the way, and what is open is cut.
    Cut,
}

/// The notes of one moment; times since the connection was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Notes {
    pub(super) in_flight: bool,
    pub(super) sending: bool,
    pub(super) idle_since: Duration,
    pub(super) head_since: Option<Duration>,
    pub(super) progress_at: Duration,
    pub(super) blocked_since: Option<Duration>,
    pub(super) lingering_since: Option<Duration>,
}

/// What a connection with these notes has to do `now`.
pub(super) fn judge(notes: &Notes, now: Duration, limits: &Limits) -> Order {
    let over = |since: Duration, limit: Duration| now.saturating_sub(since) > limit;
    let over_any = |since: Option<Duration>, limit| since.is_some_and(|since| over(since, limit));
    if over_any(notes.lingering_since, LINGER)
        || over_any(notes.blocked_since, limits.write_timeout)
        || (notes.sending && over(notes.progress_at, limits.write_timeout))
    {
        return Order::Cut;
    }
    // What waits for the socket may be the end of an answer whose body is over.
    if notes.in_flight || notes.lingering_since.is_some() || notes.blocked_since.is_some() {
        return Order::GoOn;
    }
    if over_any(notes.head_since, limits.head_timeout) {
        return Order::Cut;
    }
    if over(notes.idle_since, limits.idle_timeout + limits.head_timeout) {
        // It was asked to close and did not.
        return Order::Cut;
    }
    if notes.head_since.is_none() && over(notes.idle_since, limits.idle_timeout) {
        return Order::Close;
    }
    Order::GoOn
}

/// How often connections are looked at, so that no deadline is missed by much.
pub(crate) fn sweep_period(limits: &Limits) -> Duration {
    let shortest = limits.head_timeout.min(limits.write_timeout).min(limits.idle_timeout);
    (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let limits = Limits::default();
        let at = Duration::from_secs;
        let idle = Notes { idle_since: at(100), ..Notes::default() };
        let busy = Notes { in_flight: true, idle_since: at(0), ..Notes::default() };
        for (notes, now, want, why) in [
            (idle, at(175), Order::GoOn, "idle for 75 s"),
            (idle, at(176), Order::Close, "idle for longer"),
            (idle, at(186), Order::Cut, "did not close"),
            (Notes { head_since: Some(at(170)), ..idle }, at(180), Order::GoOn, "a head has 10 s"),
            (Notes { head_since: Some(at(120)), ..idle }, at(131), Order::Cut, "a slow head"),
            (busy, at(1000), Order::GoOn, "the answer is ours to make"),
            (Notes { sending: true, progress_at: at(970), ..busy }, at(1000), Order::GoOn, "30 s of patience"),
            (Notes { sending: true, progress_at: at(969), ..busy }, at(1000), Order::Cut, "nobody takes the file"),
            (Notes { blocked_since: Some(at(969)), ..busy }, at(1000), Order::Cut, "nobody reads the socket"),
            (Notes { blocked_since: Some(at(180)), ..idle }, at(190), Order::GoOn, "it takes the last answer slowly"),
            (Notes { lingering_since: Some(at(100)), ..idle }, at(102), Order::GoOn, "lingering"),
            (Notes { lingering_since: Some(at(100)), ..idle }, at(103), Order::Cut, "lingered"),
        ] {
            assert_eq!(judge(&notes, now, &limits), want, "{why}: {notes:?} at {now:?}");
        }
    }
}
