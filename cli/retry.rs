//! Whether a call is made again, and after how long. Pure: the caller sleeps.

use std::time::Duration;

/// How patient a call is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Patience {
    /// How often the call is made in all, at least once.
    pub(crate) tries: u32,
    /// The wait after the first failure; each later one is twice as long.
    pub(crate) first: Duration,
    /// The longest wait between two tries, whatever the server asks for.
    pub(crate) longest: Duration,
    /// The longest that one try takes, from connecting to the answer's last byte; `None` for calls whose bodies or work
    /// can be large, where only standing still is an end.
    pub(crate) per_try: Option<Duration>,
}

impl Patience {
    /// In the middle of an operation: some ten seconds, which covers a restart of the server.
    pub(crate) const LONG: Self = Self {
        tries: 6,
        first: Duration::from_millis(300),
        longest: Duration::from_secs(20),
        per_try: Some(Duration::from_secs(30)),
    };
    /// For the first contact: a server that is not there is told at once.
    pub(crate) const SHORT: Self = Self { tries: 2, first: Duration::from_millis(200), ..Self::LONG };

    /// For a call whose answer is a secret: nobody could tell what a try made whose answer was lost.
    pub(crate) const ONCE: Self = Self { tries: 1, ..Self::LONG };

    /// The same for a call whose body, answer or work grows with the site.
    pub(crate) const fn for_large(self) -> Self {
        Self { per_try: None, ..self }
    }
}

/// How a call failed, as far as another try is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failed {
    /// No answer, or not all of it: refused, reset, timed out.
    NoAnswer,
    /// An answer with this status, and the seconds of its `Retry-After`.
    Status(u16, Option<u64>),
}

/// How long to wait before try number `made + 1`, or `None` to give up. `made` counts from 1.
///
/// `jitter` is any number: it spreads the wait over its second half, so that many clients of one restarted server do
/// not return in step. A `Retry-After` is a lower bound, up to [`Patience::longest`].
pub(crate) fn next_try(patience: Patience, made: u32, failed: Failed, jitter: u64) -> Option<Duration> {
    if made >= patience.tries {
        return None;
    }
    let asked = match failed {
        Failed::NoAnswer => None,
        Failed::Status(408 | 429 | 502 | 503 | 504, after) => after.map(Duration::from_secs),
        Failed::Status(..) => return None,
    };
    let doubled = patience.first.saturating_mul(1 << made.saturating_sub(1).min(16)).min(patience.longest);
    let half = doubled / 2;
    let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let wait = half + Duration::from_millis(jitter % spread);
    Some(wait.max(asked.unwrap_or_default()).min(patience.longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn what_is_tried_again() {
        let patience = Patience { tries: 3, first: MS(100), longest: MS(5_000), per_try: None };
        for (made, failed, jitter, want) in [
            (1, Failed::NoAnswer, 0, Some(MS(50))),
            (1, Failed::NoAnswer, 50, Some(MS(100))),
            (2, Failed::NoAnswer, 0, Some(MS(100))),
            (2, Failed::NoAnswer, 100, Some(MS(200))),
            (3, Failed::NoAnswer, 0, None),
            (1, Failed::Status(503, None), 0, Some(MS(50))),
            (1, Failed::Status(503, Some(2)), 0, Some(MS(2_000))),
            (1, Failed::Status(429, Some(60)), 0, Some(MS(5_000))), // asked for more than the patience allows
            (1, Failed::Status(429, Some(0)), 0, Some(MS(50))),
            (1, Failed::Status(408, None), 0, Some(MS(50))),
            (1, Failed::Status(502, None), 0, Some(MS(50))),
            (1, Failed::Status(504, None), 0, Some(MS(50))),
            (1, Failed::Status(500, Some(1)), 0, None),
            (1, Failed::Status(409, None), 0, None),
            (1, Failed::Status(410, None), 0, None),
            (1, Failed::Status(401, None), 0, None),
        ] {
            assert_eq!(next_try(patience, made, failed, jitter), want, "try {made}, {failed:?}, jitter {jitter}");
        }
    }

    #[test]
    fn waits_never_grow_beyond_the_bound() {
        let patience = Patience { tries: u32::MAX, first: MS(300), longest: MS(20_000), per_try: None };
        for made in [1, 5, 17, 40, 1_000_000] {
            let wait = next_try(patience, made, Failed::NoAnswer, u64::MAX).expect("tries are left");
            assert!(wait <= patience.longest, "try {made}: {wait:?}");
        }
    }
}
