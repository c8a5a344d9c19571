//! What a worker has at hand of the hosts, files and misses that it answered for lately: one look at it instead of five look-ups.
//!
//! It holds nothing of its own: each piece is the outcome of the steps that any request takes, kept under what the
//! request said, and every request checks that it still holds. A host's pointer is looked up again whenever the table
//! has changed, and a file is forgotten when its manifest has got other variants. A miss holds for as long as its place, whose
//! manifest never changes. What collides is forgotten too, so whoever asks for many addresses makes others slower at most.
//!
//! Each worker has its own, so cores share no line of memory over it. Its lock is never waited for: it is there for what
//! the compiler cannot know.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use pinstone_engine::pointers::PointerTable;
use pinstone_engine::variants::VariantDirectory;
use smol_str::SmolStr;

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
/// Paths that lead to nothing that there is room for, or up to two for each: some 150 bytes each, and 1.4 KiB at most, where each is
/// as long as may be and the last that keeps its place.
const MISSING: usize = 1024;
/// The most bytes of such a path.
const LONGEST_MISSING: usize = 256;

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
    /// Apart from the files: whoever asks for what is not there makes none of them go.
    missing: Ways<Missing>,
    /// Bytes of files.
    bytes: usize,
}

/// A path that leads to nothing.
#[derive(Debug)]
struct Missing {
    place: Arc<Place>,
    path: SmolStr,
    /// The path of the page that the site has for it. Not the page, whose bytes would be kept beyond their bound.
    page: Option<SmolStr>,
}

impl Missing {
    fn is_of(&self, place: &Arc<Place>, path: &str) -> bool {
        Arc::ptr_eq(&self.place, place) && *self.path == *path
    }
}

/// What a path leads to, as far as it is known.
#[derive(Debug)]
pub(crate) enum LeadsTo {
    /// This file.
    File(Arc<Prepared>),
    /// Nothing, for which the site may have a page.
    Nothing(Option<Arc<Prepared>>),
}

impl Hot {
    /// Keeps files of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let hosts = Ways::with_room_for(HOSTS.max(limit / BYTES_PER_HOST));
        let files = Ways::with_room_for(limit / BYTES_PER_FILE);
        let missing = Ways::with_room_for(MISSING);
        Self { limit, hashing: Hashing::new(), kept: Mutex::new(Kept { hosts, files, missing, bytes: 0 }) }
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

    /// What `path` leads to at `place`.
    pub(crate) fn leads_to(&self, place: &Arc<Place>, path: &str, variants: &VariantDirectory) -> Option<LeadsTo> {
        let hash = self.hashing.of_both(place, path.as_bytes());
        let kept = &mut *self.kept.lock();
        if let Some(file) = kept.file(hash, place, path, variants) {
            return Some(LeadsTo::File(file));
        }
        let missing = Arc::clone(kept.missing.find(hash, |missing| missing.is_of(place, path))?);
        let Some(page) = &missing.page else { return Some(LeadsTo::Nothing(None)) };
        let hash = self.hashing.of_both(place, page.as_bytes());
        kept.file(hash, place, page, variants).map(|page| LeadsTo::Nothing(Some(page)))
    }

    /// The file that `path` leads to at `place`.
    pub(crate) fn file(&self, place: &Arc<Place>, path: &str, variants: &VariantDirectory) -> Option<Arc<Prepared>> {
        let hash = self.hashing.of_both(place, path.as_bytes());
        self.kept.lock().file(hash, place, path, variants)
    }

    /// Keeps that `path` leads to nothing at `place`, which has the page at this path for that.
    pub(crate) fn keep_missing(&self, place: &Arc<Place>, path: &str, page: Option<&str>) {
        if path.len() > LONGEST_MISSING {
            return;
        }
        let hash = self.hashing.of_both(place, path.as_bytes());
        let missing = &mut self.kept.lock().missing;
        // It is known where its page was not at hand, or several asked for it at once.
        if missing.find(hash, |missing| missing.is_of(place, path)).is_none() {
            let entry = Missing { place: Arc::clone(place), path: path.into(), page: page.map(Into::into) };
            missing.put(hash, Arc::new(entry));
        }
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

    /// The file that is kept under `path`, where its manifest has no other variants by now.
    fn file(
        &mut self,
        hash: u64,
        place: &Arc<Place>,
        path: &str,
        variants: &VariantDirectory,
    ) -> Option<Arc<Prepared>> {
        let file = self.files.find(hash, |file| file.is_of(place, path))?;
        if file.is_current(variants) {
            return Some(Arc::clone(file));
        }
        let old = self.files.remove(hash, |file| file.is_of(place, path));
        self.forget(old);
        None
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
