//! A table in which what collides is forgotten, so that it never grows and is looked at in one place.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Entries whose hashes fall together and can be kept beside each other; the one used last comes first.
const WAYS: usize = 2;

/// What is kept by its hash, until others fall together with it.
#[derive(Debug)]
pub(super) struct Ways<T> {
    /// As many as a power of two.
    sets: Box<[[Option<Arc<T>>; WAYS]]>,
    /// The set to empty next, where something has to go.
    hand: usize,
}

impl<T> Ways<T> {
    /// With room for `entries`, or up to twice as many.
    pub(super) fn with_room_for(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| [const { None }; WAYS]).collect(), hand: 0 }
    }

    /// The entry of this hash that is meant. It counts as used.
    pub(super) fn find(&mut self, hash: u64, is_meant: impl Fn(&T) -> bool) -> Option<&mut Arc<T>> {
        let set = self.set(hash);
        let way = set.iter().position(|way| way.as_ref().is_some_and(|entry| is_meant(entry)))?;
        set[..=way].rotate_right(1);
        set[0].as_mut()
    }

    /// Keeps an entry; answers what had to make room for it.
    pub(super) fn put(&mut self, hash: u64, entry: Arc<T>) -> Option<Arc<T>> {
        let set = self.set(hash);
        set.rotate_right(1);
        set[0].replace(entry)
    }

    /// Forgets an entry, and answers it.
    pub(super) fn remove(&mut self, hash: u64, is_meant: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.find(hash, is_meant)?;
        self.set(hash)[0].take()
    }

    /// Forgets some, each time others, in turn.
    pub(super) fn make_room(&mut self) -> [Option<Arc<T>>; WAYS] {
        let hand = self.hand;
        self.hand = (hand + 1) % self.sets.len();
        std::mem::take(&mut self.sets[hand])
    }

    #[allow(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn set(&mut self, hash: u64) -> &mut [Option<Arc<T>>; WAYS] {
        &mut self.sets[hash as usize & (self.sets.len() - 1)]
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
    fn of_those_that_fall_together_the_last_used_are_kept() {
        let mut ways = Ways::with_room_for(WAYS);
        let has = |ways: &mut Ways<u32>, entry| ways.find(7, |kept| *kept == entry).is_some();
        assert_eq!(ways.put(7, Arc::new(1)), None);
        assert_eq!(ways.put(7, Arc::new(2)), None);
        assert!(has(&mut ways, 1));
        assert_eq!(ways.put(9, Arc::new(3)), Some(Arc::new(2)), "1 was used after it");
        assert_eq!((has(&mut ways, 1), has(&mut ways, 2), has(&mut ways, 3)), (true, false, true));
        assert_eq!(ways.remove(7, |kept| *kept == 1), Some(Arc::new(1)));
        assert_eq!(ways.remove(7, |kept| *kept == 1), None);
        assert!(has(&mut ways, 3));
    }

    #[test]
    fn room_is_made_everywhere_in_turn() {
        let mut ways = Ways::with_room_for(5);
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
