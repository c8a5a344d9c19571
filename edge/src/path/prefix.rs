//! The path under which a host shows an image.

use pinstone_engine::domains::name::PathPrefix;
use pinstone_engine::path::{PathError, SitePath};

/// A path of one segment or more, such as `docs`, under which a host shows an image: `/docs/a.html` is its `a.html`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix<'p>(&'p str);

/// Where a path is, as a prefix sees it.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Place<'r> {
    /// Under the prefix; this remains without it.
    Inside(&'r str),
    /// The prefix itself, without the slash behind it.
    Bare,
    /// Somewhere else.
    Outside,
}

impl<'p> Prefix<'p> {
    /// Takes a decoded path without slashes around it.
    ///
    /// # Errors
    ///
    /// Says what is no path.
    pub fn new(path: &'p str) -> Result<Self, PathError> {
        SitePath::check(path)?;
        Ok(Self(path))
    }

    /// The prefix of a domain; nothing where that is all of the domain.
    #[must_use]
    pub fn of(prefix: &'p PathPrefix) -> Option<Self> {
        (!prefix.is_whole()).then_some(Self(prefix.as_str()))
    }

    /// The path, without slashes around it.
    #[must_use]
    pub fn as_str(self) -> &'p str {
        self.0
    }

    /// Finds where `path` is, which is decoded and has no leading slash and no empty segment.
    pub(super) fn place<'r>(self, path: &'r str) -> Place<'r> {
        match path.strip_prefix(self.0) {
            Some("") => Place::Bare,
            Some(rest) => rest.strip_prefix('/').map_or(Place::Outside, Place::Inside),
            None => Place::Outside,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_path_is() {
        for (prefix, path, want) in [
            ("docs", "docs", Place::Bare),
            ("docs", "docs/", Place::Inside("")),
            ("docs", "docs/a/b", Place::Inside("a/b")),
            ("docs", "docs/docs", Place::Inside("docs")),
            ("docs", "", Place::Outside),
            ("docs", "doc", Place::Outside),
            ("docs", "docsy", Place::Outside),
            ("docs", "docs.html", Place::Outside),
            ("docs", "Docs/", Place::Outside),
            ("docs", "a/docs/", Place::Outside),
            ("team/docs", "team", Place::Outside),
            ("team/docs", "team/docs", Place::Bare),
            ("team/docs", "team/docs/a/", Place::Inside("a/")),
        ] {
            assert_eq!(Prefix::new(prefix).unwrap().place(path), want, "{path} under {prefix}");
        }
    }

    #[test]
    fn what_is_no_prefix() {
        for wrong in ["", "/", "/docs", "docs/", "a//b", "..", "a/./b", "a\\b", "a\nb"] {
            assert!(Prefix::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
