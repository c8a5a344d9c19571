//! What the maker of variants is told by those who publish, and what it tells those who watch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::coding::Coding;
use crate::hash::ManifestId;

/// New images that are worked on before older ones, at most; beyond, they are found as the others are.
const MOST_NEW: usize = 1024;

/// Where new images are announced to the maker. All that has to last is in rows of the metadata store: what is lost here
/// is only found later.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    new: Mutex<VecDeque<ManifestId>>,
    /// Whether more images came than fit.
    has_overflowed: AtomicBool,
    is_staffed: AtomicBool,
    bell: Notify,
    counters: Arc<VariantCounters>,
}

impl Desk {
    /// Says that a manifest was committed whose variants nobody wanted before.
    pub(crate) fn hand_in(&self, manifest: ManifestId) {
        self.counters.queued.fetch_add(1, Relaxed);
        // Where nobody works, nobody would take it away.
        if !self.is_staffed() {
            return;
        }
        let mut new = self.new.lock();
        if new.len() < MOST_NEW {
            new.push_back(manifest);
        } else {
            self.has_overflowed.store(true, Relaxed);
        }
        drop(new);
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> Option<ManifestId> {
        self.new.lock().pop_front()
    }

    /// Whether something is handed in and not taken yet.
    pub(super) fn has_new(&self) -> bool {
        !self.new.lock().is_empty()
    }

    /// Whether images came that were not kept here, since this was last asked.
    pub(super) fn has_overflowed(&self) -> bool {
        self.has_overflowed.swap(false, Relaxed)
    }

    /// Waits until something is handed in.
    pub(super) async fn bell(&self) {
        self.bell.notified().await;
    }

    /// Says that somebody works here.
    pub(super) fn staff(&self) {
        self.is_staffed.store(true, Relaxed);
    }

    /// Whether this process makes variants.
    pub(crate) fn is_staffed(&self) -> bool {
        self.is_staffed.load(Relaxed)
    }

    pub(crate) fn counters(&self) -> &Arc<VariantCounters> {
        &self.counters
    }
}

/// What was done to make variants since the start of the process. Each number is right by itself; together they are not of
/// one moment.
#[derive(Debug, Default)]
pub struct VariantCounters {
    queued: AtomicU64,
    manifests: AtomicU64,
    files: AtomicU64,
    identity_bytes: AtomicU64,
    kept: [AtomicU64; Coding::ALL.len()],
    kept_bytes: [AtomicU64; Coding::ALL.len()],
    not_kept: AtomicU64,
    processor_nanos: AtomicU64,
    failures: AtomicU64,
}

impl VariantCounters {
    /// Manifests whose variants are wanted and not made yet, also from before the start once the maker has looked.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    /// Manifests whose variants were all made, and announced.
    #[must_use]
    pub fn manifests(&self) -> u64 {
        self.manifests.load(Relaxed)
    }

    /// Files that were encoded, in one coding or several.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files.load(Relaxed)
    }

    /// The bytes that those files have.
    #[must_use]
    pub fn identity_bytes(&self) -> u64 {
        self.identity_bytes.load(Relaxed)
    }

    /// Variants in `coding` that were worth keeping.
    #[must_use]
    pub fn kept(&self, coding: Coding) -> u64 {
        self.kept[coding as usize].load(Relaxed)
    }

    /// The bytes that those variants have.
    #[must_use]
    pub fn kept_bytes(&self, coding: Coding) -> u64 {
        self.kept_bytes[coding as usize].load(Relaxed)
    }

    /// Variants that saved too little.
    #[must_use]
    pub fn not_kept(&self) -> u64 {
        self.not_kept.load(Relaxed)
    }

    /// How long processors worked for it.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        Duration::from_nanos(self.processor_nanos.load(Relaxed))
    }

    /// How often a store failed while variants were made.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    pub(super) fn count_queue(&self, queued: u64) {
        self.queued.store(queued, Relaxed);
    }

    pub(super) fn add_encoded(&self, identity: u64) {
        self.files.fetch_add(1, Relaxed);
        self.identity_bytes.fetch_add(identity, Relaxed);
    }

    /// A variant was made, of so many bytes if it was kept.
    pub(super) fn add_variant(&self, coding: Coding, kept: Option<u64>) {
        match kept {
            Some(bytes) => {
                self.kept[coding as usize].fetch_add(1, Relaxed);
                self.kept_bytes[coding as usize].fetch_add(bytes, Relaxed);
            }
            None => {
                self.not_kept.fetch_add(1, Relaxed);
            }
        }
    }

    pub(super) fn add_time(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.processor_nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn add_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// So many manifests left the queue, and of so many the variants were made now.
    pub(super) fn finish(&self, left: u64, made: u64) {
        self.manifests.fetch_add(made, Relaxed);
        // What two processes count may differ for a while.
        let fewer = |queued: u64| Some(queued.saturating_sub(left));
        let _ = self.queued.fetch_update(Relaxed, Relaxed, fewer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told() {
        let desk = Desk::default();
        let manifest = |number: usize| ManifestId::of(&number.to_le_bytes());
        desk.hand_in(manifest(0));
        assert_eq!(desk.take(), None, "nobody works here");
        desk.staff();
        for number in 0..=MOST_NEW {
            desk.hand_in(manifest(number));
        }
        assert!(desk.has_overflowed() && !desk.has_overflowed());
        for number in 0..MOST_NEW {
            assert_eq!(desk.take(), Some(manifest(number)));
        }
        assert_eq!((desk.take(), desk.counters().queued()), (None, MOST_NEW as u64 + 2));
        desk.counters().finish(5000, 1);
        assert_eq!((desk.counters().queued(), desk.counters().manifests()), (0, 1));
    }
}
