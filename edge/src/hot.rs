//! What a worker has at hand of the hosts and files that it answered for lately: one look at it instead of five look-ups.
//!
//! It holds nothing of its own: each piece is the outcome of the steps that any request takes, kept under what the
//! request said, and every request checks that it still holds. A host's pointer is looked up again whenever the table
//! has changed, and a file is forgotten when its manifest has got other variants. What collides is forgotten too, so
//! whoever asks for many addresses makes others slower at most.
//!
//! Each worker has its own, so cores share no line of memory over it. Its lock is never waited for: it is there for what
//! the compiler cannot know.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use pinstone_engine::pointers::PointerTable;
use pinstone_engine::variants::VariantDirectory;

use crate::place::Place;
use crate::prepared::Prepared;

mod domains;
mod ways;

pub(crate) use domains::Custom;
use ways::{Hashing, Ways};

/// Hosts that there is room for whatever the limit is: some 250 bytes each.
const HOSTS: usize = 4096;
/// Bytes of the limit for which there is room for one host more, or up to two, beside it: a quarter of it at most.
const BYTES_PER_HOST: usize = 2 << 10;
/// Bytes of the limit for which there is room for one file, or up to two: small ones take as many, so that few fall together.
const BYTES_PER_FILE: usize = 2 << 10;

/// What one worker has at hand.
#[derive(Debug)]
pub(crate) struct Hot {
    /// The most bytes of files.
    limit: usize,
    hashing: Hashing,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    hosts: Ways<Place>,
    files: Ways<Prepared>,
    /// Bytes of files.
    bytes: usize,
}

impl Hot {
    /// Keeps files of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let hosts = Ways::with_room_for(HOSTS.max(limit / BYTES_PER_HOST));
        let files = Ways::with_room_for(limit / BYTES_PER_FILE);
        Self { limit, hashing: Hashing::new(), kept: Mutex::new(Kept { hosts, files, bytes: 0 }) }
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
        let hash = self.hashing.of(host.as_bytes());
        let kept = &mut *self.kept.lock();
        let known = kept.hosts.find(hash, |place| place.is_of(host));
        if let Some(place) = known.filter(|place| place.seen.load(Relaxed) == changes) {
            return Some(Arc::clone(place));
        }
        let Some(pointer) = pointers.find(project, environment) else {
            kept.hosts.remove(hash, |place| place.is_of(host));
            return None;
        };
        let is_it = |place: &Place| place.is_what(&pointer);
        let place = kept.place(hash, host, is_it, || Place::of_pointer(host, Arc::clone(&pointer)));
        place.seen.store(changes, Relaxed);
        Some(place)
    }

    /// The file that `path` leads to at `place`.
    pub(crate) fn file(&self, place: &Arc<Place>, path: &str, variants: &VariantDirectory) -> Option<Arc<Prepared>> {
        let hash = self.hashing.of_both(place, path.as_bytes());
        let kept = &mut *self.kept.lock();
        let file = kept.files.find(hash, |file| file.is_of(place, path))?;
        if file.is_current(variants) {
            return Some(Arc::clone(file));
        }
        let old = kept.files.remove(hash, |file| file.is_of(place, path));
        kept.forget(old);
        None
    }

    /// Keeps a file.
    pub(crate) fn keep(&self, file: &Arc<Prepared>) {
        let mut kept = self.kept.lock();
        kept.bytes += file.weight();
        let gone = kept.files.put(self.hash(file), Arc::clone(file));
        kept.forget(gone);
        kept.make_room(self.limit);
    }

    /// Something was added to a file that may be kept here.
    pub(crate) fn grew(&self, file: &Arc<Prepared>, bytes: usize) {
        let mut kept = self.kept.lock();
        let is_kept = kept.files.find(self.hash(file), |kept| std::ptr::eq(kept, &**file)).is_some();
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

    fn hash(&self, file: &Prepared) -> u64 {
        self.hashing.of_both(file.place(), file.path().as_bytes())
    }
}

impl Kept {
    /// The place that is kept under `name`. Where there is none, or it is not it any more, one is made.
    fn place(
        &mut self,
        hash: u64,
        name: &str,
        is_it: impl Fn(&Place) -> bool,
        make: impl FnOnce() -> Place,
    ) -> Arc<Place> {
        match self.hosts.find(hash, |place| place.is_of(name)) {
            Some(known) if is_it(known) => Arc::clone(known),
            known => {
                let place = Arc::new(make());
                match known {
                    Some(known) => *known = Arc::clone(&place),
                    None => drop(self.hosts.put(hash, Arc::clone(&place))),
                }
                place
            }
        }
    }

    fn forget(&mut self, files: impl IntoIterator<Item = Arc<Prepared>>) {
        files.into_iter().for_each(|file| self.bytes -= file.weight());
    }

    fn make_room(&mut self, limit: usize) {
        while self.bytes > limit {
            let gone = self.files.make_room();
            self.forget(gone.into_iter().flatten());
        }
    }
}
