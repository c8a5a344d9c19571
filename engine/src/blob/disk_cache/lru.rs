//! Which files the cache holds, in the order of their last use, and which of them have to go. Pure.
//!
//! A file that is open is in use, however long ago it was asked for: whoever keeps it open does not ask again. Letting it
//! go would free nothing, so others go first.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::{Arc, Weak};

use super::Key;

/// The smallest piece that a file system gives out, in bytes.
const BLOCK: u64 = 4 << 10;
/// What is remembered of a file takes some hundred bytes of memory, so there are not more of them than this.
const MOST: usize = 1 << 19;

/// The files of one folder.
#[derive(Debug)]
pub(super) struct Lru {
    files: HashMap<Key, Slot>,
    /// By last use.
    order: BTreeMap<u64, Key>,
    /// The next use.
    next: u64,
    /// What the files take, in bytes.
    charged: u64,
    limit: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    size: u64,
    used: u64,
    /// Whether its content was hashed in this process's time.
    trusted: bool,
    /// The file, as long as somebody has it open.
    open: Weak<File>,
}

impl Default for Lru {
    fn default() -> Self {
        Self { files: HashMap::new(), order: BTreeMap::new(), next: 0, charged: 0, limit: u64::MAX }
    }
}

/// What a file of `size` bytes takes: whole blocks, and one for its name and inode.
fn charge(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_add(1).saturating_mul(BLOCK)
}

impl Lru {
    /// What all files take, in bytes.
    pub(super) fn charged(&self) -> u64 {
        self.charged
    }

    /// Whether a file of `size` bytes can be kept at all.
    pub(super) fn has_room_for(&self, size: u64) -> bool {
        charge(size) <= self.limit
    }

    /// The size of a file that is there and was found right, which is used now; and the file, where somebody has it open.
    pub(super) fn touch(&mut self, key: &Key) -> Option<(u64, Option<Arc<File>>)> {
        let slot = self.files.get_mut(key).filter(|slot| slot.trusted)?;
        self.order.remove(&slot.used);
        slot.used = self.next;
        self.order.insert(self.next, *key);
        self.next += 1;
        Some((slot.size, slot.open.upgrade()))
    }

    /// Says that somebody has the file open.
    pub(super) fn opened(&mut self, key: &Key, file: &Arc<File>) {
        if let Some(slot) = self.files.get_mut(key) {
            slot.open = Arc::downgrade(file);
        }
    }

    /// The size of a file that is there and was not hashed yet.
    pub(super) fn untrusted(&self, key: &Key) -> Option<u64> {
        self.files.get(key).filter(|slot| !slot.trusted).map(|slot| slot.size)
    }

    /// Says that a file's content was hashed and is right.
    pub(super) fn trust(&mut self, key: &Key) {
        if let Some(slot) = self.files.get_mut(key) {
            slot.trusted = true;
        }
        self.touch(key);
    }

    /// Takes a file in; answers those that have to go.
    pub(super) fn insert(&mut self, key: Key, size: u64, trusted: bool) -> Vec<Key> {
        self.remove(&key);
        self.files.insert(key, Slot { size, used: self.next, trusted, open: Weak::new() });
        self.order.insert(self.next, key);
        self.next += 1;
        self.charged = self.charged.saturating_add(charge(size));
        self.evict(self.limit)
    }

    /// Whether the file was there; it is not any more.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let Some(slot) = self.files.remove(key) else { return false };
        self.order.remove(&slot.used);
        self.charged = self.charged.saturating_sub(charge(slot.size));
        true
    }

    /// Sets what all files may take; answers those that have to go.
    pub(super) fn set_limit(&mut self, limit: u64) -> Vec<Key> {
        self.limit = limit;
        self.evict(limit)
    }

    /// Lets the least used go until `bytes` are free.
    pub(super) fn free(&mut self, bytes: u64) -> Vec<Key> {
        self.evict(self.charged.saturating_sub(bytes))
    }

    fn evict(&mut self, limit: u64) -> Vec<Key> {
        let mut victims = Vec::new();
        let mut spared = 0;
        while self.charged > limit || self.files.len() > MOST {
            let Some((_, key)) = self.order.pop_first() else { break };
            let Some(slot) = self.files.get_mut(&key) else { continue };
            if slot.open.strong_count() > 0 && spared < self.order.len() {
                spared += 1;
                slot.used = self.next;
                self.order.insert(self.next, key);
                self.next += 1;
                continue;
            }
            self.charged = self.charged.saturating_sub(charge(slot.size));
            self.files.remove(&key);
            victims.push(key);
        }
        victims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        [number; 32]
    }

    #[test]
    fn the_least_used_goes_first() {
        let mut lru = Lru::default();
        assert!(lru.set_limit(3 * charge(100)).is_empty());
        for number in 1..=3 {
            assert!(lru.insert(key(number), 100, true).is_empty());
        }
        assert_eq!(size(lru.touch(&key(1))), Some(100));
        assert_eq!(lru.insert(key(4), 100, true), [key(2)]);
        assert_eq!(size(lru.touch(&key(2))), None);
        // One that is twice as large as others takes the place of more.
        assert_eq!(lru.insert(key(5), 2 * BLOCK, true), [key(3), key(1)]);
        assert_eq!(lru.charged(), charge(100) + charge(2 * BLOCK));
        // The same one again is there once.
        assert!(lru.insert(key(5), 2 * BLOCK, true).is_empty());
        assert!(lru.remove(&key(5)) && !lru.remove(&key(5)));
        assert_eq!(lru.charged(), charge(100));
        assert_eq!(lru.free(1), [key(4)]);
        assert_eq!((lru.charged(), lru.files.len(), lru.order.len()), (0, 0, 0));
    }

    fn size(touched: Option<(u64, Option<Arc<File>>)>) -> Option<u64> {
        touched.map(|(size, _)| size)
    }

    #[test]
    fn what_is_open_stays_as_long_as_there_is_anything_else() {
        let mut lru = Lru::default();
        lru.set_limit(3 * charge(100));
        for number in 1..=3 {
            lru.insert(key(number), 100, true);
        }
        let open = Arc::new(tempfile::tempfile().unwrap());
        lru.opened(&key(1), &open);
        lru.opened(&key(2), &open);
        assert!(lru.touch(&key(2)).is_some_and(|(_, file)| file.is_some()));
        assert_eq!(lru.insert(key(4), 100, true), [key(3)]);
        assert_eq!(lru.insert(key(5), 100, true), [key(4)]);
        // Nothing but open files: they go all the same, the bound holds.
        assert_eq!(lru.free(u64::MAX).len(), 3);
        drop(open);
        lru.insert(key(1), 100, true);
        assert!(lru.touch(&key(1)).is_some_and(|(_, file)| file.is_none()));
    }

    #[test]
    fn what_is_too_large_has_no_room_and_what_is_empty_takes_some() {
        let mut lru = Lru::default();
        lru.set_limit(10 * BLOCK);
        assert!(lru.has_room_for(9 * BLOCK) && !lru.has_room_for(9 * BLOCK + 1));
        assert!(charge(0) > 0, "files without bytes are not without cost");
        lru.set_limit(0);
        assert!(!lru.has_room_for(0));
        assert_eq!(charge(u64::MAX), u64::MAX);
    }

    #[test]
    fn what_was_found_is_trusted_only_when_it_was_hashed() {
        let mut lru = Lru::default();
        lru.insert(key(1), 7, false);
        assert_eq!((size(lru.touch(&key(1))), lru.untrusted(&key(1))), (None, Some(7)));
        lru.trust(&key(1));
        assert_eq!((size(lru.touch(&key(1))), lru.untrusted(&key(1))), (Some(7), None));
        lru.trust(&key(2));
        assert_eq!(lru.untrusted(&key(2)), None);
    }
}
