//! Which names of a folder or an archive are not published.
//!
//! Names that start with a dot except `.well-known`, `node_modules` and `pinstone-data`, unless a line of
//! `.pinstoneignore` takes them back in. The lines have gitignore's syntax and are the only ones: what Git ignores is
//! often just what is to be published. Whoever walks a folder or lists an archive asks for a folder before what is in
//! it: nothing in an ignored folder comes back.

use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The name of the file with ignore lines, in the root of what is published.
pub const IGNORE_FILE: &str = ".pinstoneignore";
/// The name of the file with a project's settings, in the root of what is published.
pub const PROJECT_FILE: &str = "pinstone.toml";

/// What is ignored before any line of the publisher's is read.
///
/// `pinstone-data` is where a server that was started in the folder keeps its data, its owner's token among it.
const DEFAULT_LINES: [&str; 4] = [".*", "!.well-known", "node_modules", "pinstone-data/"];

/// A line that is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{pattern}`, ignore line {line} of `{source_name}`, is no pattern: {reason}")]
pub struct IgnoreError {
    /// Where the line is: [`IGNORE_FILE`], [`PROJECT_FILE`] or `built-in`.
    pub source_name: &'static str,
    /// Which line, from 1; 0 where it is only their sum that cannot be used.
    pub line: usize,
    /// The line.
    pub pattern: String,
    /// Why.
    pub reason: String,
}

/// The names that are not published.
#[derive(Clone, Debug)]
pub struct IgnoreRules(Gitignore);

impl IgnoreRules {
    /// Takes the text of an [`IGNORE_FILE`], and lines of a [`PROJECT_FILE`], which come later and so win.
    ///
    /// # Errors
    ///
    /// Names the first line that is no pattern.
    pub fn new(file: &str, more: &[String]) -> Result<Self, IgnoreError> {
        // Paths are asked for relative to the root, so which root it is does not matter.
        let mut builder = GitignoreBuilder::new("/");
        let sources = [
            ("built-in", DEFAULT_LINES.to_vec()),
            (IGNORE_FILE, file.trim_start_matches('\u{feff}').lines().collect()),
            (PROJECT_FILE, more.iter().map(String::as_str).collect()),
        ];
        for (source_name, lines) in sources {
            for (index, line) in lines.into_iter().enumerate() {
                builder.add_line(None, line).map_err(|error| IgnoreError {
                    source_name,
                    line: index + 1,
                    pattern: line.to_owned(),
                    reason: reason(error),
                })?;
            }
        }
        builder.build().map(Self).map_err(|error| IgnoreError {
            source_name: IGNORE_FILE,
            line: 0,
            pattern: String::new(),
            reason: reason(error),
        })
    }

    /// Whether the name at `path`, relative to the root, is ignored by itself: what it is in was asked for before.
    #[must_use]
    pub fn ignores(&self, path: impl AsRef<Path>, is_folder: bool) -> bool {
        matches!(self.0.matched(path, is_folder), Match::Ignore(_))
    }
}

fn reason(error: ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err,
        other => other.to_string(),
    }
}

/// Whether `path`, relative to the root, is a file of ours: never published, and not counted as ignored.
#[must_use]
pub fn is_own_file(path: &Path) -> bool {
    path == Path::new(IGNORE_FILE) || path == Path::new(PROJECT_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_take_away_and_take_back() {
        let rules = IgnoreRules::new("\u{feff}# comment\n*.map\n!sub/c.map\n/draft/\n!.keep\n", &["only".to_owned()]);
        let rules = rules.unwrap();
        for (path, is_folder, want) in [
            ("a.html", false, false),
            ("b.map", false, true),
            ("sub/c.map", false, false),
            ("draft", true, true),
            ("draft", false, false),
            ("a/draft", true, false),
            (".env", false, true),
            ("a/.env", false, true),
            (".keep", false, false),
            (".well-known", true, false),
            ("node_modules", true, true),
            ("a/node_modules", true, true),
            ("pinstone-data", true, true),
            ("pinstone-data", false, false),
            ("only", false, true),
        ] {
            assert_eq!(rules.ignores(path, is_folder), want, "{path}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = IgnoreRules::new("ok\na{b\n", &[]).unwrap_err();
        assert_eq!((error.source_name, error.line, &*error.pattern), (IGNORE_FILE, 2, "a{b"));
        let error = IgnoreRules::new("", &["a{b".to_owned()]).unwrap_err();
        assert_eq!((error.source_name, error.line), (PROJECT_FILE, 1));
    }
}
