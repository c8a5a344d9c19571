//! How far a command is: bars on a terminal, plain lines elsewhere, nothing with `--quiet` or `--json`.

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// One step of which the size is known.
#[derive(Debug)]
pub(crate) struct Step {
    bar: ProgressBar,
}

impl Step {
    /// Starts the step `name`, of `bytes` bytes.
    pub(crate) fn start(out: Output, name: &'static str, bytes: u64) -> Self {
        Self::with(
            out,
            name,
            bytes,
            "{msg:<10} [{bar:30}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta}",
        )
    }

    /// Starts the step `name`, of `count` things.
    pub(crate) fn counting(out: Output, name: &'static str, count: u64) -> Self {
        Self::with(out, name, count, "{msg:<10} [{bar:30}] {human_pos}/{human_len}  {per_sec:.0}  {eta}")
    }

    fn with(out: Output, name: &'static str, length: u64, template: &str) -> Self {
        if !out.draws() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name);
        Self { bar }
    }

    /// Says that `more` bytes or things are done.
    pub(crate) fn advance(&self, more: u64) {
        self.bar.inc(more);
    }

    /// Says that `done` of them are done in all.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Takes back `bytes` that have to be done again.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.bar.dec(bytes);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // An unfinished bar would stay on the terminal above the error.
        self.bar.finish_and_clear();
    }
}
