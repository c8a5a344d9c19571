//! A table in which what collides is forgotten, so that it never grows and is looked at in one place.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Entries whose hashes fall together and can be kept beside each other: as many as, with a byte of the hash of each, fill a
/// line of a core's cache.
const WAYS: usize = 7;

/// What is kept by its hash, until others fall together with it.
#[derive(Debug)]
pub(super) struct Ways<T> {
    /// As many as a power of two.
    sets: Box<[Set<T>]>,
    /// The set to empty next, where something has to go.
    hand: usize,
}

/// Entries that fall together; the one used last comes first. Of those that are not meant only the tag is looked at, mostly:
/// where there are many, each lies in memory that no core has near.
#[derive(Debug)]
#[repr(align(64))]
struct Set<T> {
    entries: [Option<Arc<T>>; WAYS],
    tags: [u8; WAYS],
}

impl<T> Set<T> {
    const EMPTY: Self = Self { entries: [const { None }; WAYS], tags: [0; WAYS] };

    /// Has the entry at `way` come first.
    fn put_first(&mut self, way: usize) {
        if way > 0 {
            self.entries[..=way].rotate_right(1);
            self.tags[..=way].rotate_right(1);
        }
    }
}

impl<T> Ways<T> {
    /// With room for `entries`, or up to twice as many.
    pub(super) fn with_room_for(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| Set::EMPTY).collect(), hand: 0 }
    }

    /// The entry of this hash that is meant. It counts as used.
    pub(super) fn find(&mut self, hash: u64, is_meant: impl Fn(&T) -> bool) -> Option<&mut Arc<T>> {
        let (set, tag) = self.set(hash);
        let is_it = |way: &usize| set.tags[*way] == tag && set.entries[*way].as_deref().is_some_and(&is_meant);
        let way = (0..WAYS).find(is_it)?;
        set.put_first(way);
        set.entries[0].as_mut()
    }

    /// Keeps an entry; answers what had to make room for it.
    pub(super) fn put(&mut self, hash: u64, entry: Arc<T>) -> Option<Arc<T>> {
        let (set, tag) = self.set(hash);
        let free = set.entries.iter().position(Option::is_none);
        set.put_first(free.unwrap_or(WAYS - 1));
        set.tags[0] = tag;
        set.entries[0].replace(entry)
    }

    /// Forgets an entry, and answers it.
    pub(super) fn remove(&mut self, hash: u64, is_meant: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.find(hash, is_meant)?;
        self.set(hash).0.entries[0].take()
    }

    /// Forgets some, each time others, in turn.
    pub(super) fn make_room(&mut self) -> [Option<Arc<T>>; WAYS] {
        let hand = self.hand;
        self.hand = (hand + 1) % self.sets.len();
        std::mem::replace(&mut self.sets[hand], Set::EMPTY).entries
    }

    /// The set that a hash falls into, and the byte by which it is told from others there.
    fn set(&mut self, hash: u64) -> (&mut Set<T>, u8) {
        #[allow(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let set = hash as usize & (self.sets.len() - 1);
        (&mut self.sets[set], hash.to_be_bytes()[0])
    }
}

/// Hashes for [`Ways`]: quick, and not to be foreseen from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashing {
    seed: u64,
}

impl Hashing {
    /// Hashes that no other has.
    pub(super) fn new() -> Self {
        Self { seed: RandomState::new().hash_one(0) }
    }

    /// The hash of `bytes`.
    pub(super) fn of(self, bytes: &[u8]) -> u64 {
        let mix = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
            let halves = (product as u64, (product >> 64) as u64);
            halves.0 ^ halves.1
        };
        let (words, rest) = bytes.as_chunks::<8>();
        let mut state = self.seed ^ bytes.len() as u64;
        for word in words {
            state = mix(state ^ u64::from_le_bytes(*word), MULTIPLIER);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mix(state ^ u64::from_le_bytes(last), MULTIPLIER ^ self.seed)
    }

    /// The hash of `bytes` as something that belongs to `owner`.
    pub(super) fn of_both<T>(self, owner: &Arc<T>, bytes: &[u8]) -> u64 {
        let owner = Arc::as_ptr(owner).addr() as u64;
        Self { seed: self.seed ^ owner.wrapping_mul(MULTIPLIER) }.of(bytes)
    }
}

/// An odd number without a pattern: the golden ratio in 64 bits.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_line() {
        assert_eq!((size_of::<Set<u64>>(), align_of::<Set<u64>>()), (64, 64));
    }

    #[test]
    fn of_those_that_fall_together_the_last_used_are_kept() {
        let mut ways = Ways::with_room_for(WAYS);
        let has = |ways: &mut Ways<usize>, entry| ways.find(7, |kept| *kept == entry).is_some();
        (0..WAYS).for_each(|entry| assert_eq!(ways.put(7, Arc::new(entry)), None));
        assert!(has(&mut ways, 0));
        assert_eq!(ways.put(7, Arc::new(WAYS)), Some(Arc::new(1)), "0 was used after it");
        assert_eq!((0..=WAYS).map(|entry| has(&mut ways, entry)).filter(|has| *has).count(), WAYS);
        assert_eq!(ways.remove(7, |kept| *kept == 3), Some(Arc::new(3)));
        assert_eq!(ways.remove(7, |kept| *kept == 3), None);
        assert_eq!(ways.put(7, Arc::new(9)), None, "there is a place free");
        assert!(has(&mut ways, 0));
    }

    #[test]
    fn only_what_has_the_same_tag_is_looked_at() {
        let mut ways = Ways::with_room_for(WAYS);
        let hash = |tag: u64| tag << 56;
        (0..5).for_each(|tag| assert_eq!(ways.put(hash(tag), Arc::new(tag)), None));
        for tag in 0..5 {
            assert_eq!(ways.find(hash(tag), |_| true).map(|found| **found), Some(tag));
        }
        assert_eq!(ways.find(hash(5), |_| panic!("there is none")), None);
    }

    #[test]
    fn room_is_made_everywhere_in_turn() {
        let mut ways = Ways::with_room_for(3 * WAYS);
        (0..8).for_each(|hash| assert_eq!(ways.put(hash, Arc::new(hash)), None));
        let mut gone: Vec<u64> = (0..4).flat_map(|_| ways.make_room()).flatten().map(|entry| *entry).collect();
        gone.sort_unstable();
        assert_eq!(gone, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(ways.put(0, Arc::new(8)), None);
        assert_eq!(ways.make_room().into_iter().flatten().count(), 1, "it begins again");
    }

    #[test]
    fn hashes_tell_bytes_and_owners_apart() {
        let (hashing, one, other) = (Hashing::new(), Arc::new(()), Arc::new(()));
        let texts: [&[u8]; 6] = [b"", b"\0", b"a", b"abcdefgh", b"abcdefg", b"abcdefgh\0"];
        let hashes: std::collections::HashSet<u64> = texts
            .into_iter()
            .flat_map(|text| [hashing.of(text), hashing.of_both(&one, text), hashing.of_both(&other, text)])
            .collect();
        assert_eq!(hashes.len(), 3 * texts.len());
        assert_eq!(hashing.of_both(&one, b"a"), hashing.of_both(&one, b"a"));
    }
}
