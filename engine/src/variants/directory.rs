//! Which manifest has which variant list, in memory: fed by the event feed, as the pointer table is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::hash::{ManifestId, VariantListId};
use crate::id::ImageId;

/// Which manifest has which variant list. Readers take no lock.
///
/// An entry is 48 bytes beside what the map adds. Manifests are known by the first half of their digests: whoever found two that share it
/// would find nothing worse than identity sent, or the right variants, because a list is looked up by whole hashes.
#[derive(Debug, Default)]
pub struct VariantDirectory {
    lists: papaya::HashMap<ImageId, VariantListId>,
    generation: AtomicU64,
}

impl VariantDirectory {
    /// The list of `manifest`, where one was announced.
    #[must_use]
    pub fn list(&self, manifest: &ManifestId) -> Option<VariantListId> {
        self.lists.pin().get(&ImageId::from(manifest)).copied()
    }

    /// Changes with every change of the directory: what was looked up before is looked up again only then. It is to be
    /// read before the lookup.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many manifests have a list.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether no manifest has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what an event or a snapshot says. Called by one task at a time.
    pub(crate) fn set(&self, manifest: &ManifestId, list: Option<VariantListId>) {
        let (lists, key) = (self.lists.pin(), ImageId::from(manifest));
        if lists.get(&key).copied() == list {
            return;
        }
        match list {
            Some(list) => {
                lists.insert(key, list);
            }
            None => {
                lists.remove(&key);
            }
        }
        self.generation.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_changes_with_what_is_found() {
        let directory = VariantDirectory::default();
        let (one, other) = (ManifestId::of(b"one"), ManifestId::of(b"other"));
        let (first, second) = (VariantListId::of(b"first"), VariantListId::of(b"second"));
        for (set, changes) in [
            ((&one, None), false),
            ((&one, Some(first)), true),
            ((&one, Some(first)), false),
            ((&other, Some(first)), true),
            ((&one, Some(second)), true),
            ((&one, None), true),
            ((&one, None), false),
        ] {
            let (before, (manifest, list)) = (directory.generation(), set);
            directory.set(manifest, list);
            assert_eq!(directory.list(manifest), list);
            assert_eq!(directory.generation() != before, changes, "{set:?}");
        }
        assert_eq!((directory.list(&other), directory.len()), (Some(first), 1));
    }
}
