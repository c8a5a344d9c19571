//! The path of a file in a site: decoded, relative, and without anything a file system would interpret.

use std::fmt;
use std::ops::Deref;

/// The longest path, in bytes.
pub const MAX_PATH: usize = 1024;
/// The longest segment of a path, in bytes.
pub const MAX_SEGMENT: usize = 255;

/// Why a text is not the path of a file in a site.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// There is nothing to name.
    #[error("a path is empty")]
    Empty,
    /// It starts with `/`.
    #[error("a path starts with `/`; paths are relative to the site's root")]
    Absolute,
    /// A segment is empty, `.` or `..`.
    #[error("a path has an empty, `.` or `..` segment")]
    Segment,
    /// A control character, NUL among them.
    #[error("a path has a control character")]
    Control,
    /// A backslash, which no request can name.
    #[error("a path has a backslash, which no request can name")]
    Backslash,
    /// Longer than [`MAX_PATH`], or a segment longer than [`MAX_SEGMENT`].
    #[error("a path is longer than 1,024 bytes, or a segment longer than 255")]
    TooLong,
}

/// The path of a file in a site, such as `docs/index.html`.
///
/// UTF-8, `/` between segments, none of them empty, `.` or `..`, no control character and no backslash; at most
/// [`MAX_PATH`] bytes, each segment at most [`MAX_SEGMENT`]. Compared byte by byte: paths that differ in case differ.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SitePath(Box<str>);

impl SitePath {
    /// Takes `text` as a path, which it must be already: nothing is decoded or cleaned.
    ///
    /// # Errors
    ///
    /// Says which rule `text` breaks.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, PathError> {
        let text = text.into();
        Self::check(&text)?;
        Ok(Self(text))
    }

    /// Checks what [`SitePath::new`] checks, and keeps nothing.
    ///
    /// # Errors
    ///
    /// Says which rule `text` breaks.
    pub fn check(text: &str) -> Result<(), PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if text.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(PathError::Control);
        }
        if text.contains('\\') {
            return Err(PathError::Backslash);
        }
        for segment in text.split('/') {
            if matches!(segment, "" | "." | "..") {
                return Err(PathError::Segment);
            }
            if segment.len() > MAX_SEGMENT {
                return Err(PathError::TooLong);
            }
        }
        Ok(())
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for SitePath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SitePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_path() {
        for good in ["a", "index.html", "a b/ü/…", ".well-known/x", "a/...", "file+&=.html", "%2e%2e/x"] {
            assert_eq!(SitePath::check(good), Ok(()), "{good:?}");
        }
        let long_segment = "s".repeat(256);
        let long = "d/".repeat(600) + "x";
        for (wrong, why) in [
            ("", PathError::Empty),
            ("/a", PathError::Absolute),
            ("a//b", PathError::Segment),
            ("a/", PathError::Segment),
            ("./a", PathError::Segment),
            ("a/../b", PathError::Segment),
            ("..", PathError::Segment),
            ("a\0b", PathError::Control),
            ("a\nb", PathError::Control),
            ("a\\b", PathError::Backslash),
            (&long_segment, PathError::TooLong),
            (&long, PathError::TooLong),
        ] {
            assert_eq!(SitePath::check(wrong), Err(why), "{wrong:?}");
        }
    }
}
