//! A batch: many small blobs, of one team or of nobody, durable together.

use std::collections::HashSet;

use bytes::Bytes;

use super::pack::PackWriter;
use super::{BlobState, BlobStore, Digests, IndexWrite, PutError};
use crate::hash::BlobHash;
use crate::id::TeamId;

/// What a blob of a batch is to its team. What others have makes no difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Packed {
    /// The team did not have it.
    Stored,
    /// The team had it already, from before or from earlier in the batch.
    Already,
}

/// Blobs on their way into one pack. Nothing of them is visible before [`finish`](Self::finish).
pub(crate) struct BatchWriter {
    store: BlobStore,
    team: Option<TeamId>,
    pack: Option<PackWriter>,
    seen: HashSet<BlobHash>,
    writes: Vec<IndexWrite>,
}

impl BlobStore {
    /// Begins a batch of `team`.
    pub(crate) fn batch(&self, team: TeamId) -> BatchWriter {
        self.batch_of(Some(team))
    }

    /// Begins a batch that no team shall be said to have.
    pub(super) fn unowned_batch(&self) -> BatchWriter {
        self.batch_of(None)
    }

    fn batch_of(&self, team: Option<TeamId>) -> BatchWriter {
        BatchWriter { store: self.clone(), team, pack: None, seen: HashSet::new(), writes: Vec::new() }
    }
}

impl BatchWriter {
    /// Adds blobs whose bytes were digested and are not larger than [`LARGEST_PACKED`](super::pack::LARGEST_PACKED), and
    /// says of each whether it was new to the team.
    ///
    /// # Errors
    ///
    /// Where a store fails; the batch is then to be given up.
    pub(crate) async fn add(&mut self, blobs: Vec<(Digests, Bytes)>) -> Result<Vec<Packed>, PutError> {
        let hashes: Vec<BlobHash> = blobs.iter().map(|(digests, _)| digests.blake3).collect();
        let known = self.store.index.get(&hashes).await?;
        let owned = match self.team {
            Some(team) => self.store.index.owned(team, &hashes).await?,
            // What nobody sent, nobody is told of.
            None => vec![true; hashes.len()],
        };
        let mut packed = Vec::with_capacity(blobs.len());
        for (((digests, bytes), known), owned) in blobs.into_iter().zip(known).zip(owned) {
            let hash = digests.blake3;
            if !self.seen.insert(hash) {
                packed.push(Packed::Already);
                continue;
            }
            self.writes.extend(self.team.map(|team| IndexWrite::Own { team, hash }));
            let is_stored = known.is_some_and(|record| record.state == BlobState::Live);
            // Whoever is told of a blob that only another team has learns that somebody has it.
            packed.push(if is_stored && owned { Packed::Already } else { Packed::Stored });
            if is_stored {
                continue;
            }
            let pack = match &mut self.pack {
                Some(pack) => pack,
                None => self.pack.insert(PackWriter::begin(&self.store.objects, &self.store.writing).await?),
            };
            let record = pack.add(&digests, bytes).await?;
            self.writes.push(IndexWrite::Put { hash, record });
        }
        Ok(packed)
    }

    /// Makes the batch durable: first the pack, then the rows that point into it.
    ///
    /// # Errors
    ///
    /// Where a store fails. A pack that nothing points to may be there then.
    pub(crate) async fn finish(self) -> Result<(), PutError> {
        if let Some(pack) = self.pack {
            pack.seal().await?;
        }
        if !self.writes.is_empty() {
            self.store.index.write(self.writes).await?;
        }
        Ok(())
    }

    /// The same with more rows, which are written together with the batch's.
    pub(super) async fn finish_with(mut self, rows: Vec<IndexWrite>) -> Result<(), PutError> {
        self.writes.extend(rows);
        self.finish().await
    }

    /// Gives the batch up: nothing of it was stored.
    pub(crate) async fn abort(self) {
        if let Some(pack) = self.pack {
            pack.abort().await;
        }
    }
}
