//! How far a command is: bars on a terminal, a line now and then elsewhere, nothing with `--quiet` or `--json`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::lifetime::in_words;
use crate::output::{self, Output};

/// How often a line is written where there is no terminal: what is watched over there ends what is silent for long.
const EVERY: Duration = Duration::from_secs(10);

/// One step of which the size is known.
#[derive(Debug)]
pub(crate) struct Step {
    bar: ProgressBar,
    lines: Option<Lines>,
}

impl Step {
    /// Starts the step `name`, of `bytes` bytes.
    pub(crate) fn start(out: Output, name: &'static str, bytes: u64) -> Self {
        Self::with(
            out,
            name,
            Size::Bytes(bytes),
            "{msg:<10} [{bar:30}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta}",
        )
    }

    /// Starts the step `name`, of `count` things.
    pub(crate) fn counting(out: Output, name: &'static str, count: u64) -> Self {
        Self::with(out, name, Size::Things(count), "{msg:<10} [{bar:30}] {human_pos}/{human_len}  {per_sec:.0}  {eta}")
    }

    fn with(out: Output, name: &'static str, size: Size, template: &str) -> Self {
        if !out.draws() {
            return Self { bar: ProgressBar::hidden(), lines: out.notes().then(|| Lines::new(name, size)) };
        }
        let (Size::Bytes(length) | Size::Things(length)) = size;
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name);
        Self { bar, lines: None }
    }

    /// Says that `more` bytes or things are done.
    pub(crate) fn advance(&self, more: u64) {
        self.bar.inc(more);
        self.tell();
    }

    /// Says that `done` of them are done in all.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
        self.tell();
    }

    /// Takes back `bytes` that have to be done again.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    fn tell(&self) {
        let Some(lines) = &self.lines else { return };
        let elapsed = lines.started.elapsed();
        if lines.is_due(elapsed) {
            output::to_err(&lines.text(self.bar.position(), elapsed));
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // An unfinished bar would stay on the terminal above the error.
        self.bar.finish_and_clear();
    }
}

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
enum Size {
    Bytes(u64),
    Things(u64),
}

/// What is told where nothing is drawn. Pure but for the moment of the last line: the caller has the clock.
#[derive(Debug)]
struct Lines {
    name: &'static str,
    size: Size,
    started: Instant,
    /// After how many milliseconds the next line is due.
    next: AtomicU64,
}

impl Lines {
    fn new(name: &'static str, size: Size) -> Self {
        Self { name, size, started: Instant::now(), next: AtomicU64::new(millis(EVERY)) }
    }

    /// Whether a line is due; whoever is told so writes it.
    fn is_due(&self, elapsed: Duration) -> bool {
        let (now, next) = (millis(elapsed), self.next.load(Ordering::Relaxed));
        let after = now.saturating_add(millis(EVERY));
        now >= next && self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn text(&self, done: u64, elapsed: Duration) -> String {
        let (Size::Bytes(all) | Size::Things(all)) = self.size;
        let shown = |number: u64| match self.size {
            Size::Bytes(_) => output::bytes(number),
            Size::Things(_) => number.to_string(),
        };
        let percent = u128::from(done) * 100 / u128::from(all.max(1));
        let mut text = format!("{}: {} of {} ({percent} %)", self.name, shown(done), shown(all));
        let left = u128::from(all.saturating_sub(done)) * elapsed.as_millis() / u128::from(done.max(1)) / 1000;
        // An estimate of a year is none.
        if done > 0 && (1..=31_536_000).contains(&left) {
            let left = Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX));
            text = format!("{text}, about {} left", in_words(left));
        }
        text
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_now_and_then_and_written_once() {
        let lines = Lines::new("uploading", Size::Bytes(1));
        for (seconds, due) in
            [(0, false), (9, false), (10, true), (10, false), (15, false), (21, true), (30, false), (31, true)]
        {
            assert_eq!(lines.is_due(Duration::from_secs(seconds)), due, "after {seconds} s");
        }
    }

    #[test]
    fn lines_say_how_far_it_is() {
        for (size, done, seconds, want) in [
            (Size::Bytes(100_000_000), 25_000_000, 20, "step: 25.0 MB of 100.0 MB (25 %), about 1 minute left"),
            (Size::Bytes(100), 0, 10, "step: 0 B of 100 B (0 %)"),
            (Size::Bytes(u64::MAX), 1, 10, "step: 1 B of 18446744.0 TB (0 %)"),
            (Size::Bytes(0), 0, 10, "step: 0 B of 0 B (0 %)"),
            (Size::Things(10), 10, 30, "step: 10 of 10 (100 %)"),
        ] {
            assert_eq!(Lines::new("step", size).text(done, Duration::from_secs(seconds)), want);
        }
    }

    #[test]
    fn what_is_not_drawn_is_counted() {
        let step = Step::start(Output { json: false, quiet: false }, "step", 10);
        step.advance(5);
        step.take_back(2);
        assert_eq!(step.bar.position(), 3);
    }

    #[test]
    fn nothing_is_told_to_who_wants_silence() {
        for (json, quiet) in [(true, false), (false, true)] {
            assert!(Step::start(Output { json, quiet }, "step", 1).lines.is_none());
        }
    }
}
