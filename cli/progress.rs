//! How far a deploy is: bars on a terminal, plain lines elsewhere, nothing with `--quiet` or `--json`.

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
        if !out.draws() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(bytes);
        let template = "{msg:<10} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name);
        Self { bar }
    }

    /// Says that `bytes` more are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
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
