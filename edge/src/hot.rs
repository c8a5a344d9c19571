//! What a worker has at hand of the hosts and files that it answered for lately: one look at it instead of five look-ups.
//!
//! It holds nothing of its own: each piece is the outcome of the steps that any request takes, kept under what the
//! request said, and every request checks that it still holds. A host's pointer is looked up again whenever the table
//! has changed, and a file is forgotten when its manifest has got other variants. What collides is forgotten too, so
//! whoever asks for many addresses makes others slower at most.
//!
//! Each worker has its own, so cores share no line of memory over it. Its lock is never waited for: it is there for what
//! the compiler cannot know.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use pinstone_engine::pointers::PointerTable;
use pinstone_engine::variants::VariantDirectory;

use crate::place::Place;
use crate::prepared::Prepared;

mod domains;

pub(crate) use domains::Custom;

/// Hosts that are kept: some 300 bytes each.
const HOSTS: usize = 4096;
/// Bytes of the limit for which there is a place for one file.
const BYTES_PER_FILE: usize = 4 << 10;
/// Files whose hashes fall together and can be kept beside each other; the one used last comes first.
const WAYS: usize = 2;

/// What one worker has at hand.
#[derive(Debug)]
pub(crate) struct Hot {
    /// The most bytes of files.
    limit: usize,
    seed: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    hosts: Box<[Option<Arc<Place>>]>,
    files: Box<[[Option<Arc<Prepared>>; WAYS]]>,
    /// Bytes of files.
    bytes: usize,
    /// Where room is made next.
    hand: usize,
}

impl Hot {
    /// Keeps files of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let sets = (limit / BYTES_PER_FILE / WAYS).next_power_of_two().clamp(1, 1 << 16);
        let kept = Kept {
            hosts: (0..HOSTS).map(|_| None).collect(),
            files: (0..sets).map(|_| [const { None }; WAYS]).collect(),
            bytes: 0,
            hand: 0,
        };
        Self { limit, seed: RandomState::new().hash_one(0), kept: Mutex::new(kept) }
    }

    /// What `host` shows, which is this environment of this project.
    pub(crate) fn place(
        &self,
        host: &str,
        project: &str,
        environment: &str,
        pointers: &PointerTable,
    ) -> Option<Arc<Place>> {
        // Before the look-up: what is found is at least as new.
        let changes = pointers.changes();
        let mut kept = self.kept.lock();
        let slot = &mut kept.hosts[index(hash(self.seed, host.as_bytes()), HOSTS)];
        let known = slot.as_ref().filter(|place| place.is_of(host));
        if let Some(place) = known.filter(|place| place.seen.load(Relaxed) == changes) {
            return Some(Arc::clone(place));
        }
        let Some(pointer) = pointers.find(project, environment) else {
            if known.is_some() {
                *slot = None;
            }
            return None;
        };
        let place = match known.filter(|place| place.is_what(&pointer)) {
            Some(place) => Arc::clone(place),
            None => Arc::new(Place::of_pointer(host, pointer)),
        };
        place.seen.store(changes, Relaxed);
        *slot = Some(Arc::clone(&place));
        Some(place)
    }

    /// The file that `path` leads to at `place`.
    pub(crate) fn file(&self, place: &Arc<Place>, path: &str, variants: &VariantDirectory) -> Option<Arc<Prepared>> {
        let mut kept = self.kept.lock();
        let set = self.set(&kept, place, path);
        let ways = &mut kept.files[set];
        let way = ways.iter().position(|way| way.as_ref().is_some_and(|file| file.is_of(place, path)))?;
        ways[..=way].rotate_right(1);
        let file = ways[0].as_ref()?;
        if file.is_current(variants) {
            return Some(Arc::clone(file));
        }
        kept.forget(set, 0);
        None
    }

    /// Keeps a file.
    pub(crate) fn keep(&self, file: &Arc<Prepared>) {
        let mut kept = self.kept.lock();
        let set = self.set(&kept, file.place(), file.path());
        kept.forget(set, WAYS - 1);
        kept.files[set].rotate_right(1);
        kept.bytes += file.weight();
        kept.files[set][0] = Some(Arc::clone(file));
        kept.make_room(self.limit);
    }

    /// Something was added to a file that may be kept here.
    pub(crate) fn grew(&self, file: &Arc<Prepared>, bytes: usize) {
        let mut kept = self.kept.lock();
        let set = self.set(&kept, file.place(), file.path());
        let is_kept = kept.files[set].iter().flatten().any(|kept| Arc::ptr_eq(kept, file));
        file.add_weight(bytes);
        if is_kept {
            kept.bytes += bytes;
            kept.make_room(self.limit);
        }
    }

    /// Bytes of files that are at hand.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }

    fn set(&self, kept: &Kept, place: &Arc<Place>, path: &str) -> usize {
        let place = Arc::as_ptr(place).addr() as u64;
        index(hash(self.seed ^ place.wrapping_mul(MULTIPLIER), path.as_bytes()), kept.files.len())
    }
}

impl Kept {
    fn forget(&mut self, set: usize, way: usize) {
        if let Some(file) = self.files[set][way].take() {
            self.bytes -= file.weight();
        }
    }

    fn make_room(&mut self, limit: usize) {
        while self.bytes > limit {
            let set = self.hand % self.files.len();
            (0..WAYS).for_each(|way| self.forget(set, way));
            self.hand = set + 1;
        }
    }
}

/// An odd number without a pattern: the golden ratio in 64 bits.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash for tables in which what collides is forgotten: quick, and not to be foreseen without the seed.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mix = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
        let halves = (product as u64, (product >> 64) as u64);
        halves.0 ^ halves.1
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = seed ^ bytes.len() as u64;
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word), MULTIPLIER);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state ^ u64::from_le_bytes(last), MULTIPLIER ^ seed)
}

/// The place of a hash in a table whose length is a power of two.
#[allow(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
fn index(hash: u64, length: usize) -> usize {
    hash as usize & (length - 1)
}
