//! From the name of an entry to a path in the archive: one spelling for each, and none that leads anywhere else. Pure.

use super::error::NameFault;
use crate::path::SitePath;

/// The longest name that is looked at, in bytes: a longer one is no path, however it is written.
pub(super) const LONGEST_NAME: usize = 4096;

/// A name that is a path in the archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Name<'n> {
    /// Without a `./` before it and a `/` behind it; empty for the archive's own root.
    pub(super) path: &'n str,
    /// Whether it is written as that of a folder.
    pub(super) is_folder: bool,
}

/// Reads a name.
///
/// `./` before it is what `tar` writes when it packs `.`, and `/` behind it marks a folder. Anything else that has to be
/// taken away before it is a path is refused: two programs would take away different things.
pub(super) fn parse(raw: &[u8]) -> Result<Name<'_>, NameFault> {
    if raw.is_empty() {
        return Err(NameFault::Empty);
    }
    if raw.contains(&0) {
        return Err(NameFault::Nul);
    }
    if raw.len() > LONGEST_NAME {
        return Err(NameFault::TooLong);
    }
    let text = std::str::from_utf8(raw).map_err(|_| NameFault::NotUtf8)?;
    if text.contains('\\') {
        return Err(NameFault::Backslash);
    }
    if text.starts_with('/') {
        return Err(NameFault::Absolute);
    }
    if text.split('/').any(|segment| segment == "..") {
        return Err(NameFault::Parent);
    }
    let mut path = text;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    if matches!(path, "" | ".") {
        return Ok(Name { path: "", is_folder: true });
    }
    let (path, is_folder) = match path.strip_suffix('/') {
        Some(path) => (path, true),
        None => (path, false),
    };
    if has_drive(path) {
        return Err(NameFault::Drive);
    }
    SitePath::check(path)?;
    Ok(Name { path, is_folder })
}

/// Whether a name starts with the letter of a drive. `C:x` names a file on another drive without any separator.
fn has_drive(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (raw, path, is_folder) in [
            ("a", "a", false),
            ("./a/b.html", "a/b.html", false),
            ("././a", "a", false),
            ("a/b/", "a/b", true),
            (".", "", true),
            ("./", "", true),
            ("..a/b..", "..a/b..", false),
            ("ab:c", "ab:c", false),
        ] {
            assert_eq!(parse(raw.as_bytes()), Ok(Name { path, is_folder }), "{raw:?}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "d/".repeat(600) + "x";
        let longer = "d/".repeat(3000);
        for (raw, why) in [
            (&b""[..], NameFault::Empty),
            (b"a\0b", NameFault::Nul),
            (b"a\xff", NameFault::NotUtf8),
            (b"/a", NameFault::Absolute),
            (b".//a", NameFault::Absolute),
            (b"//a", NameFault::Absolute),
            (b"..", NameFault::Parent),
            (b"../a", NameFault::Parent),
            (b"./../a", NameFault::Parent),
            (b"a/../../b", NameFault::Parent),
            (b"a/..", NameFault::Parent),
            (b"a/../", NameFault::Parent),
            (b"..\\a", NameFault::Backslash),
            (b"a\\b", NameFault::Backslash),
            (b"C:\\a", NameFault::Backslash),
            (b"C:/a", NameFault::Drive),
            (b"c:a", NameFault::Drive),
            (b"a//b", NameFault::Segment),
            (b"a//", NameFault::Segment),
            (b"a/./b", NameFault::Segment),
            (b"a\nb", NameFault::Control),
            (long.as_bytes(), NameFault::TooLong),
            (longer.as_bytes(), NameFault::TooLong),
        ] {
            assert_eq!(parse(raw), Err(why), "{:?}", raw.escape_ascii().to_string());
        }
    }
}
