//! A manifest: the complete content of a site, immutable, stored under the digest of its own bytes.
//!
//! Paths to blobs, sizes and content types; the site's settings; room for its rules. It is looked up in place: opening
//! one checks the bytes once and builds nothing per entry, so 100,000 entries cost no map of strings. What can be
//! derived (tables, tries, diagnostics) is never in it.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::hash::{BlobHash, ContentHash, ManifestId};

mod codec;

use codec::{ENTRY_LENGTH, Layout};
pub use codec::{ManifestBuilder, ManifestError};

/// How requests without an exact match find a page. The table is in the documentation of the edge.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum HtmlMode {
    /// What was published is reachable at exactly its path.
    #[default]
    Keep = 0,
    /// One address per page.
    Auto = 1,
    /// Exact paths only.
    None = 2,
    /// Every page without a trailing slash.
    DropSlash = 3,
    /// Every page with a trailing slash.
    ForceSlash = 4,
}

/// What a path that is not there is answered with.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[repr(u8)]
pub enum NotFoundMode {
    /// The nearest `404.html` walking up from the path, with status 404.
    #[default]
    #[serde(rename = "404-page")]
    Page = 0,
    /// One page with status 200, for navigations.
    #[serde(rename = "spa")]
    Spa = 1,
}

/// Whose rules files the site speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Profile {
    /// Pinstone's own.
    #[default]
    Native = 0,
    /// Netlify's.
    Netlify = 1,
    /// Cloudflare's.
    Cloudflare = 2,
}

/// The settings of a site, part of its content.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct Settings {
    /// How requests find pages.
    pub html: HtmlMode,
    /// What a miss is answered with.
    pub not_found: NotFoundMode,
    /// Whose rules files the site speaks.
    pub profile: Profile,
}

/// One file of a site, as its manifest has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'m> {
    /// Where the file is in the site.
    pub path: &'m str,
    /// The file's bytes.
    pub blob: BlobHash,
    /// How many bytes they are.
    pub size: u64,
    /// The value of Content-Type, decided when the site was published.
    pub content_type: &'m str,
    /// Whether the file is kept but never served, as rules files are.
    pub hidden: bool,
}

/// A checked manifest. Cloning it shares the bytes.
#[derive(Clone)]
pub struct Manifest {
    id: ManifestId,
    bytes: Bytes,
    layout: Layout,
    total_size: u64,
}

impl Manifest {
    /// Checks `bytes` from end to end: the version, the order, every path, every index, and that nothing is left over.
    ///
    /// # Errors
    ///
    /// Says what is wrong. A manifest of a newer version is refused as such.
    pub fn open(bytes: Bytes) -> Result<Self, ManifestError> {
        let (layout, total_size) = codec::check(&bytes)?;
        Ok(Self { id: ManifestId::of(&bytes), bytes, layout, total_size })
    }

    /// The digest of the canonical bytes.
    #[must_use]
    pub fn id(&self) -> ManifestId {
        self.id
    }

    /// The canonical bytes, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The site's settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.layout.settings
    }

    /// How many files there are, hidden ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.entries
    }

    /// Whether there is no file at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of all files' sizes, in bytes.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.total_size
    }

    /// The file at exactly `path`, by binary search in the stored bytes.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Entry<'_>> {
        let index = self.position(path.as_bytes()).ok()?;
        Some(self.entry(index))
    }

    /// The file number `index` in the order of paths.
    ///
    /// # Panics
    ///
    /// Where `index` is not below [`Manifest::len`].
    #[must_use]
    pub fn entry(&self, index: usize) -> Entry<'_> {
        assert!(index < self.len(), "entry {index} of {}", self.len());
        let raw = codec::RawEntry::read(&self.bytes[self.layout.entries_at + index * ENTRY_LENGTH..]);
        let path = self.layout.path(&self.bytes, &raw);
        Entry {
            path: std::str::from_utf8(path).expect("paths were checked when the manifest was opened"),
            blob: BlobHash::from_bytes(raw.blob),
            size: raw.size,
            content_type: self.layout.content_type(&self.bytes, raw.content_type),
            hidden: raw.flags & codec::HIDDEN != 0,
        }
    }

    /// Every file, in the order of paths.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> + Clone {
        (0..self.len()).map(|index| self.entry(index))
    }

    /// The index of the first file whose path is not before `path`: where a listing goes on.
    #[must_use]
    pub fn lower_bound(&self, path: &str) -> usize {
        self.position(path.as_bytes()).unwrap_or_else(|index| index)
    }

    /// What a plan of this content is known by.
    #[must_use]
    pub fn content_hash(&self) -> ContentHash {
        content_hash(self.entries().map(|entry| (entry.path, entry.blob)), self.settings())
    }

    fn position(&self, path: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = &self.bytes[self.layout.entries_at + middle * ENTRY_LENGTH..];
            match self.layout.path_of(&self.bytes, entry).cmp(path) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest").field("id", &self.id).field("entries", &self.len()).finish_non_exhaustive()
    }
}

/// Computes what a plan is known by, from its files in the order of paths and its settings.
pub fn content_hash<'a>(
    sorted_files: impl IntoIterator<Item = (&'a str, BlobHash)>,
    settings: Settings,
) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    for (path, blob) in sorted_files {
        let length = u32::try_from(path.len()).expect("a path is at most 1,024 bytes");
        hasher.update(&length.to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(blob.as_bytes());
    }
    hasher.update(&settings.to_bytes());
    hasher.finalize().into()
}

/// Paths that differ from an earlier one only in the case of letters, each with that one: allowed, and worth a warning,
/// because many file systems cannot hold both.
#[must_use]
pub fn case_collisions<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    let mut seen: std::collections::HashMap<String, &str> = std::collections::HashMap::new();
    let mut found = Vec::new();
    for path in paths {
        match seen.entry(path.to_lowercase()) {
            std::collections::hash_map::Entry::Occupied(first) => found.push((*first.get(), path)),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_collisions_are_found() {
        let paths = ["A.html", "a.html", "b/x", "B/X", "c", "É", "é"];
        assert_eq!(case_collisions(paths), [("A.html", "a.html"), ("b/x", "B/X"), ("É", "é")]);
    }
}
