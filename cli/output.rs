//! Where texts go: data to standard output, everything else to standard error.
//!
//! With `--json` there is one object on standard output and nothing else; an error is one object on standard error.
//! A reader of standard output that leaves early, such as `head`, is no error worth telling.
//!
//! Messages, authors, paths and errors come from others, and a terminal obeys what is printed on it. So whatever people
//! read passes [`visible`] on its way out; JSON has escapes of its own.

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use crate::error::CliError;

/// Writes what a command has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One object instead of lines.
    pub(crate) json: bool,
    /// No notes and no progress.
    pub(crate) quiet: bool,
}

impl Output {
    /// Writes one line of data; nothing with `--json`.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), CliError> {
        if self.json {
            return Ok(());
        }
        write_out(visible(text.as_ref()).as_bytes())
    }

    /// Writes lines that are ours and meant for a program, as they are; nothing with `--json`.
    pub(crate) fn raw(self, text: &str) -> Result<(), CliError> {
        if self.json { Ok(()) } else { write_out(text.as_bytes()) }
    }

    /// Writes the one object of `--json`; nothing without it.
    pub(crate) fn object(self, object: &impl Serialize) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_vec(object)
            .map_err(|error| CliError::failed(format!("the result is not expressible as JSON: {error}")))?;
        write_out(&text)
    }

    /// Tells people something; nothing with `--quiet` or `--json`.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if self.notes() {
            to_err(&visible(text.as_ref()));
        }
    }

    /// Warns people, also with `--quiet`; with `--json` the object carries the warnings.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        if !self.json {
            to_err(&format!("{} {}", paint("warning:", "33"), visible(text.as_ref())));
        }
    }

    /// Tells why the command failed.
    pub(crate) fn error(self, error: &CliError) {
        if error.is_reader_left() {
            return;
        }
        if self.json {
            let body = pinstone_api::wire::ErrorBody {
                error: error.code.clone().into_owned(),
                message: error.message.clone(),
                hint: error.hint.clone(),
            };
            to_err(&serde_json::to_string(&body).unwrap_or_else(|_| error.message.clone()));
            return;
        }
        // Some errors are lists. What follows the first line is set in, so that it never looks like a line of ours.
        let mut lines = error.message.lines().map(|line| visible(line.trim_start()));
        to_err(&format!("{} {}", paint("error:", "31"), lines.next().unwrap_or_default()));
        lines.for_each(|line| to_err(&format!("  {line}")));
        if let Some(hint) = &error.hint {
            to_err(&format!("{} {}", paint("hint:", "36"), visible(hint)));
        }
    }

    /// Whether people are told more than errors and warnings.
    pub(crate) fn notes(self) -> bool {
        !self.quiet && !self.json
    }

    /// Whether progress can be drawn: standard error is a terminal and nobody asked for silence.
    pub(crate) fn draws(self) -> bool {
        self.notes() && io::stderr().is_terminal()
    }
}

fn write_out(text: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::reader_left(),
        _ => CliError::failed(format!("cannot write to standard output: {}", crate::error::plain(&error))),
    })
}

/// Writes one line to standard error. Where that is closed, there is nobody to tell.
pub(crate) fn to_err(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `text` with every character that a terminal would obey instead of show written as an escape: control characters,
/// line ends among them, and those that change the direction of what follows (Unicode annex 9).
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_obeyed(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn paint(word: &str, color: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
        || !io::stderr().is_terminal();
    if plain { word.to_owned() } else { format!("\x1b[1;{color}m{word}\x1b[0m") }
}

/// Asks a question on the terminal, and says whether the answer was yes. Without a terminal nobody can be asked, and
/// the answer is no.
pub(crate) async fn confirmed(question: String) -> bool {
    if !can_ask() {
        return false;
    }
    // Waiting for somebody must not keep an interrupt waiting.
    let asked = tokio::task::spawn_blocking(move || ask(&question, &mut io::stdin().lock(), &mut io::stderr()));
    asked.await.unwrap_or(false)
}

fn ask(question: &str, from: &mut impl BufRead, to: &mut impl Write) -> bool {
    let _ = write!(to, "{} [y/N] ", visible(question));
    let _ = to.flush();
    let mut answer = String::new();
    let read = from.read_line(&mut answer).is_ok();
    if !answer.ends_with('\n') {
        // The input ended, so nobody has ended the line of the question.
        let _ = writeln!(to);
    }
    read && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// `1234567` as `1.2 MB`: powers of ten, as disks and networks are sold.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, size) in UNITS {
        if count >= size {
            return format!("{}.{} {unit}", count / size, count % size / (size / 10));
        }
    }
    format!("{count} B")
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Sets rows in columns: every column but the last is as wide as its widest cell, as [`visible`] shows it.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<Cow<'_, str>>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (count, text) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (1_250_000, "1.2 MB"), (u64::MAX, "18446744.0 TB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".to_owned(), "0 files".to_owned()));
    }

    #[test]
    fn terminals_are_told_nothing_to_obey() {
        for (text, want) in [
            ("plain — text, “quotes” and 日本", "plain — text, “quotes” and 日本"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{1b}[2Kgone\r", "\\u{1b}[2Kgone\\r"),
            ("a\nhint: b\tc", "a\\nhint: b\\tc"),
            ("\u{0}\u{7f}", "\\u{0}\\u{7f}"),
            ("\u{9b}31m", "\\u{9b}31m"), // CSI in one character
            ("exe.\u{202e}gpj\u{2066}", "exe.\\u{202e}gpj\\u{2066}"),
        ] {
            assert_eq!(visible(text), want, "{text:?}");
            assert_eq!(visible(&visible(text)), want, "shown twice, {text:?} is the same");
        }
        assert_eq!(table(&[vec!["\u{1b}".to_owned(), "b".to_owned()]]), ["\\u{1b}  b"]);
    }

    #[test]
    fn a_question_without_an_answer_ends_its_line() {
        for (input, yes, end) in
            [("y\n", true, ""), ("yes\n", true, ""), ("n\n", false, ""), ("", false, "\n"), ("y", true, "\n")]
        {
            let mut told = Vec::new();
            assert_eq!(ask("sure?", &mut input.as_bytes(), &mut told), yes, "{input:?}");
            assert_eq!(String::from_utf8(told).unwrap(), format!("sure? [y/N] {end}"), "{input:?}");
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), ["a     b", "long  c"]);
        assert!(table(&[]).is_empty());
    }
}
