//! How many streams a client may take back, or have taken from it.
//!
//! A stream that is reset no longer counts as open, so a client that resets each as soon as it asked could make us work without
//! end (CVE-2023-44487); the same where it breaks a rule so that we reset it (CVE-2025-8671). Browsers reset dozens when a
//! visitor leaves a page.

use std::time::Duration;

/// Resets that may come at once, and how many more in a second. Those of nghttp2.
const BURST: u32 = 1000;
const PER_SECOND: u32 = 33;

/// What is left of the allowance of a connection.
#[derive(Debug)]
pub(crate) struct Resets {
    left: u32,
    /// Up to when it was filled.
    filled: Duration,
}

impl Resets {
    /// The whole allowance; `now` is of any clock that goes on.
    pub(crate) fn new(now: Duration) -> Self {
        Self { left: BURST, filled: now }
    }

    /// Takes one; whether there was one left.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let seconds = now.saturating_sub(self.filled).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled += Duration::from_secs(seconds);
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_fills_slowly_and_not_beyond_itself() {
        let taken = |resets: &mut Resets, now| (0..=BURST).take_while(|_| resets.take(now)).count();
        let at = Duration::from_millis;
        let mut resets = Resets::new(at(0));
        assert_eq!(taken(&mut resets, at(999)), 1000);
        assert_eq!(taken(&mut resets, at(1000)), 33);
        assert_eq!(taken(&mut resets, at(1999)), 0);
        assert_eq!(taken(&mut resets, at(3500)), 66);
        assert_eq!(taken(&mut resets, at(1_000_000)), 1000);
        assert_eq!(taken(&mut resets, at(5)), 0, "a clock that goes back gives nothing");
    }
}
