//! What differs between two contents of a site: one walk over both, in the order of their paths.
//!
//! Both sides are read where they are, sorted as they are, so a walk takes as many steps as there are paths and builds
//! nothing for a file that is alike on both sides. Whatever has files in the order of paths can be a side: a manifest, the
//! files of a publish that nobody has sent yet, a folder that was hashed.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map;
use std::fmt;

use crate::hash::BlobHash;
use crate::manifest::{Manifest, Settings};

mod compare;

pub use compare::{Comparison, DiffError, NewFiles, Side, Version, Which};

/// One side of a comparison: the files of a site.
///
/// Every implementation keeps this: paths ascend, byte by byte, and none occurs twice.
pub trait Content: fmt::Debug + Send + Sync {
    /// How many files there are.
    fn count(&self) -> usize;

    /// The file number `index` in the order of paths, where `index` is below [`Content::count`].
    fn file(&self, index: usize) -> File<'_>;

    /// The site's settings.
    fn settings(&self) -> Settings;

    /// The number of the first file whose path comes after `path`.
    fn first_after(&self, path: &str) -> usize {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.file(middle).path <= path {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// One file of a side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct File<'s> {
    /// Where it is in the site.
    pub path: &'s str,
    /// Its bytes.
    pub blob: BlobHash,
    /// How many there are, where that is known.
    pub size: Option<u64>,
    /// What it is served as, where that is known: it takes a look at the bytes.
    pub content_type: Option<&'s str>,
    /// Whether it is kept but never served, where that is known.
    pub hidden: Option<bool>,
}

impl File<'_> {
    /// Whether both are served alike, as far as that is known.
    fn is_served_as(&self, other: &File<'_>) -> bool {
        let same_type = self.content_type.zip(other.content_type).is_none_or(|(one, other)| one == other);
        let same_place = self.hidden.zip(other.hidden).is_none_or(|(one, other)| one == other);
        same_type && same_place
    }
}

impl Content for Manifest {
    fn count(&self) -> usize {
        self.len()
    }

    fn file(&self, index: usize) -> File<'_> {
        let entry = self.entry(index);
        File {
            path: entry.path,
            blob: entry.blob,
            size: Some(entry.size),
            content_type: Some(entry.content_type),
            hidden: Some(entry.hidden),
        }
    }

    fn settings(&self) -> Settings {
        Manifest::settings(self)
    }
}

/// A site without files: what an environment shows that shows nothing yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Content for Nothing {
    fn count(&self) -> usize {
        0
    }

    fn file(&self, index: usize) -> File<'_> {
        panic!("file {index} of none")
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }
}

/// How a path differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// Both have it, with other bytes.
    Content,
    /// Both have it with the same bytes, and serve it differently.
    Served,
}

/// One path of a walk, with what each side has there. At least one side has something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pair<'s> {
    /// What the old side has.
    pub from: Option<File<'s>>,
    /// What the new side has.
    pub to: Option<File<'s>>,
}

impl<'s> Pair<'s> {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &'s str {
        self.from.or(self.to).map_or("", |file| file.path)
    }

    /// How the sides differ here; nothing where they are alike.
    #[must_use]
    pub fn change(&self) -> Option<Change> {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from.blob != to.blob => Some(Change::Content),
            (Some(from), Some(to)) if !from.is_served_as(to) => Some(Change::Served),
            (None, Some(_)) => Some(Change::Added),
            (Some(_), None) => Some(Change::Removed),
            _ => None,
        }
    }
}

/// Where a walk over two sides stands. It holds neither, so it can wait while they are elsewhere; every step takes the
/// same two.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Walk {
    from: usize,
    to: usize,
}

impl Walk {
    /// A walk that begins behind `path`.
    #[must_use]
    pub fn after(path: &str, from: &dyn Content, to: &dyn Content) -> Self {
        Self { from: from.first_after(path), to: to.first_after(path) }
    }

    /// The next path of either side.
    pub fn step<'s>(&mut self, from: &'s dyn Content, to: &'s dyn Content) -> Option<Pair<'s>> {
        let old = (self.from < from.count()).then(|| from.file(self.from));
        let new = (self.to < to.count()).then(|| to.file(self.to));
        let order = match (&old, &new) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.path.cmp(new.path),
        };
        self.from += usize::from(order.is_le());
        self.to += usize::from(order.is_ge());
        Some(Pair { from: old.filter(|_| order.is_le()), to: new.filter(|_| order.is_ge()) })
    }

    /// The next path at which the sides differ, and how.
    pub fn difference<'s>(&mut self, from: &'s dyn Content, to: &'s dyn Content) -> Option<(Change, Pair<'s>)> {
        while let Some(pair) = self.step(from, to) {
            if let Some(change) = pair.change() {
                return Some((change, pair));
            }
        }
        None
    }
}

/// Files, and the bytes that they have, as far as that is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, size: Option<u64>) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size.unwrap_or(0));
    }
}

/// All differences, counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Files that only the new side has.
    pub added: Count,
    /// Files that only the old side has.
    pub removed: Count,
    /// Files that both have and that differ, as the old side has them.
    pub changed_from: Count,
    /// The same files, as the new side has them.
    pub changed_to: Count,
    /// Files that are alike.
    pub unchanged: Count,
    /// How many of the changed files have the same bytes, and are only served differently.
    pub retyped: u64,
    /// How many of the added files have the bytes of a removed one, each of which counts once.
    pub moved: u64,
    /// The different blobs of the new side that the old side has at no path: what a publish of the new side sends to a
    /// server that has nothing but the old one.
    pub new: Count,
    /// Whether the sites have different settings.
    pub settings_changed: bool,
}

impl Summary {
    /// Walks over both sides.
    ///
    /// It takes time for every path of both, and memory, up to some 110 bytes, for every one that differs.
    #[must_use]
    pub fn of(from: &dyn Content, to: &dyn Content) -> Self {
        let mut summary = Self { settings_changed: from.settings() != to.settings(), ..Self::default() };
        // The sizes of blobs that may be new, and how often each removed blob can still be the origin of a move.
        let mut new: HashMap<BlobHash, Option<u64>> = HashMap::new();
        let mut removed: HashMap<BlobHash, u32> = HashMap::new();
        let mut walk = Walk::default();
        while let Some(pair) = walk.step(from, to) {
            let (old, now) = (pair.from.and_then(|file| file.size), pair.to.and_then(|file| file.size));
            let Some(change) = pair.change() else {
                summary.unchanged.add(now.or(old));
                continue;
            };
            match change {
                Change::Added => summary.added.add(now),
                Change::Removed => summary.removed.add(old),
                Change::Content | Change::Served => {
                    summary.changed_from.add(old);
                    summary.changed_to.add(now);
                    summary.retyped += u64::from(change == Change::Served);
                }
            }
            match (change, pair.from, pair.to) {
                (Change::Added | Change::Content, _, Some(to)) => drop(new.insert(to.blob, to.size)),
                (Change::Removed, Some(from), _) => *removed.entry(from.blob).or_default() += 1,
                _ => {}
            }
        }
        if !removed.is_empty() && summary.added.files > 0 {
            let mut walk = Walk::default();
            while let Some((change, pair)) = walk.difference(from, to) {
                if let (Change::Added, Some(file)) = (change, pair.to)
                    && let hash_map::Entry::Occupied(mut left) = removed.entry(file.blob)
                {
                    summary.moved += 1;
                    *left.get_mut() -= 1;
                    if *left.get() == 0 {
                        left.remove();
                    }
                }
            }
        }
        if !new.is_empty() {
            for index in 0..from.count() {
                new.remove(&from.file(index).blob);
            }
        }
        for size in new.into_values() {
            summary.new.add(size);
        }
        summary
    }

    /// How many paths differ.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.added.files + self.removed.files + self.changed_to.files
    }

    /// Whether the sides have the same files, the same settings and serve them alike.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.differences() == 0 && !self.settings_changed
    }

    /// The bytes of all files of the old side.
    #[must_use]
    pub fn from_bytes(&self) -> u64 {
        self.removed.bytes.saturating_add(self.changed_from.bytes).saturating_add(self.unchanged.bytes)
    }

    /// The bytes of all files of the new side.
    #[must_use]
    pub fn to_bytes(&self) -> u64 {
        self.added.bytes.saturating_add(self.changed_to.bytes).saturating_add(self.unchanged.bytes)
    }
}
