//! What a command fails with: a code, a sentence, what to do next, and an exit code.
//!
//! Scripts depend on the exit codes and on the codes, so both are decided in one place, by functions that take values
//! and return values.

use std::borrow::Cow;
use std::io;
use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// It was not done, and doing it again will not help.
    Failed = 1,
    /// It was called wrongly, or its configuration is wrong.
    Usage = 2,
    /// Not signed in, or not allowed.
    Denied = 3,
    /// Something conflicts, or changed meanwhile.
    Conflict = 4,
    /// Unreachable or busy: a retry helps.
    Unavailable = 5,
    /// `fsck` found something, or `diff --exit-code` a difference.
    Found = 6,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The number that the process ends with.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The exit code for an answer with the status `status`.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            409 | 410 | 412 => Self::Conflict,
            408 | 429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command failed, as its user and its scripts are told.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CliError {
    /// For programs; never renamed.
    pub(crate) code: Cow<'static, str>,
    /// One sentence, lower case, without a full stop.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// What the process ends with.
    pub(crate) exit: Exit,
}

impl CliError {
    /// An error with the exit code `exit`.
    pub(crate) fn new(exit: Exit, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: None, exit }
    }

    /// A wrong argument, or a wrong line of a configuration.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Anything else that was not done.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message)
    }

    /// The folder changed while it was read.
    pub(crate) fn folder_changed(path: &str) -> Self {
        Self::new(Exit::Conflict, "folder_changed", format!("`{path}` changed while it was read; nothing was released"))
            .hint("deploy again once nothing writes to the folder")
    }

    /// The reader of standard output left. Nobody is told, because nobody listens.
    pub(crate) fn reader_left() -> Self {
        Self::new(Exit::Failed, Self::READER_LEFT, "")
    }

    /// Whether this is [`CliError::reader_left`].
    pub(crate) fn is_reader_left(&self) -> bool {
        self.code == Self::READER_LEFT
    }

    const READER_LEFT: &'static str = "reader_left";

    /// The same error with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

/// `error` and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(source) = inner {
        let source_text = match source.downcast_ref::<io::Error>() {
            Some(error) => plain(error),
            None => source.to_string(),
        };
        // Some errors repeat what caused them.
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        inner = source.source();
    }
    text
}

/// Says which file was meant, because an [`io::Error`] does not.
pub(crate) fn file_error(path: &std::path::Path, error: &io::Error) -> CliError {
    CliError::failed(format!("cannot read `{}`: {}", path.display(), plain(error)))
}

/// The text of `error` without the number that the standard library adds.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_exit_codes() {
        for (status, exit) in [
            (400, 1),
            (401, 3),
            (403, 3),
            (404, 1),
            (405, 1),
            (408, 5),
            (409, 4),
            (410, 4),
            (412, 4),
            (413, 1),
            (422, 1),
            (429, 5),
            (500, 1),
            (502, 5),
            (503, 5),
            (504, 5),
            (507, 1),
        ] {
            assert_eq!(Exit::of_status(status).number(), exit, "{status}");
        }
    }

    #[test]
    fn the_numbers_are_pinned() {
        let all = [
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Denied, 3),
            (Exit::Conflict, 4),
            (Exit::Unavailable, 5),
            (Exit::Found, 6),
            (Exit::Interrupted, 130),
        ];
        for (exit, number) in all {
            assert_eq!(exit.number(), number, "{exit:?}");
        }
    }

    #[test]
    fn chains_are_one_line() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write `x`")]
        struct Outer(#[source] io::Error);
        assert_eq!(chain(&Outer(io::Error::from_raw_os_error(13))), "cannot write `x`: permission denied");
    }

    #[test]
    fn io_errors_are_told_in_lower_case() {
        assert_eq!(plain(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(plain(&io::Error::other("")), "");
    }
}
