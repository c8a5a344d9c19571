//! Questions on a terminal: a line, or a secret that is not shown; and secrets from standard input where there is none.
//!
//! Waiting for somebody keeps no interrupt waiting, and an interrupt leaves the terminal as it was.

use std::io::{self, BufRead, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::CliError;
use crate::output::{to_err, visible};
use crate::upload::blocking;

/// The longest line that is read, in bytes; a bound keeps a wrong pipe from filling the memory.
const LONGEST: u64 = 4096;

/// Asks for a line on the terminal. An empty answer stands for `default`, if there is one.
///
/// # Errors
///
/// Where the input ends, or nothing is answered and there is no default.
pub(crate) async fn line(question: &str, default: Option<&str>) -> Result<String, CliError> {
    let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
    let answer = answer(format!("{question}{shown}: ")).await?;
    match (answer.trim(), default) {
        ("", Some(default)) => Ok(default.to_owned()),
        ("", None) => Err(CliError::usage(format!("nothing was answered to `{question}`"))),
        (answer, _) => Ok(answer.to_owned()),
    }
}

/// Asks for a secret on the terminal, which does not show it.
///
/// # Errors
///
/// Where the input ends, or the answer is empty.
pub(crate) async fn secret(question: &str) -> Result<String, CliError> {
    // Held while somebody types; also where that is interrupted, what was on is on again.
    let hidden = Hidden::start()?;
    let answer = answer(format!("{question}: ")).await;
    drop(hidden);
    to_err(""); // the line's end was not shown either
    let answer = answer?.trim_end_matches(['\r', '\n']).to_owned();
    if answer.is_empty() { Err(CliError::usage(format!("nothing was answered to `{question}`"))) } else { Ok(answer) }
}

/// The first line of standard input, without its end.
///
/// # Errors
///
/// Where it cannot be read, is empty or too long. `what` says in the message what was to be there.
pub(crate) async fn first_line(what: &'static str) -> Result<String, CliError> {
    blocking(move || {
        let text = read_line(&mut io::stdin().lock());
        let text = text.map_err(|_| CliError::usage(format!("cannot read the {what} from standard input")))?;
        let line = text.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return Err(CliError::usage(format!("there is no {what} on standard input"))
                .hint(format!("pipe one in: its first line is the {what}")));
        }
        Ok(line.to_owned())
    })
    .await
}

async fn answer(question: String) -> Result<String, CliError> {
    blocking(move || {
        let mut to = io::stderr().lock();
        let _ = write!(to, "{}", visible(&question));
        let _ = to.flush();
        drop(to);
        read_line(&mut io::stdin().lock()).map_err(|_| CliError::usage("the answer cannot be read"))
    })
    .await
}

/// One line with its end, which is missing where the input ended.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST).read_line(&mut text)?;
    if text.len() as u64 == LONGEST && !text.ends_with('\n') {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(text)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn start() -> Result<Self, CliError> {
        let failed = |error: rustix::io::Errno| {
            CliError::failed(format!("the terminal cannot hide what is typed: {}", crate::error::plain(&error.into())))
                .hint("pipe the secret in by `--password-stdin`")
        };
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // What was typed before the question is no answer to it.
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_end_and_a_bound() {
        let long = "x".repeat(5000);
        let bound = format!("{}\n", &long[..4095]);
        for (input, want) in [
            ("", Some("")),
            ("a\nb\n", Some("a\n")),
            ("a b\r\n", Some("a b\r\n")),
            ("no end", Some("no end")),
            (bound.as_str(), Some(bound.as_str())),
            (long.as_str(), None),
        ] {
            assert_eq!(read_line(&mut input.as_bytes()).ok().as_deref(), want, "{input:.20}");
        }
    }
}
