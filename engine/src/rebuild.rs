//! Making the blob index again from what it is about: the objects, and the manifests of images.
//!
//! Nothing of the old index is believed. A blob is in the new one if bytes that have its hash are stored, alone or in a
//! pack; a team has a blob if an image of its projects names it. What a team uploaded for a plan that is still open is
//! forgotten, and uploaded again. What was made of a blob is in the new index if a variant list says so and the variant
//! is right; where some of a list is not, the variants of its manifests are wanted again. The server must be stopped. Rows are written before stale ones are removed, so that
//! breaking off does no harm: it is run again.

use std::collections::HashSet;
#[cfg(feature = "rocksdb")]
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use serde::Serialize;

use crate::blob::pack::{PackError, read_directory};
use crate::blob::{self, BlobRecord, BlobStore, Digests, IndexWrite, Location, ReadError};
use crate::error::StoreError;
use crate::fsck::{Finding, FsckError, Kind};
use crate::hash::{BlobHash, Sha256Digest};
use crate::id::PackId;
use crate::meta::MetaStore;
#[cfg(feature = "rocksdb")]
use crate::objects::StorageOptions;
use crate::records::images::ImageRecord;
use crate::records::{self, projects};

mod variants;

/// Objects read at a time.
const AT_ONCE: usize = 4;
/// Rows written at a time.
const ROWS: usize = 10_000;

/// What was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rebuilt {
    /// Blobs that the index has now.
    pub blobs: u64,
    /// Packs that they were found in.
    pub packs: u64,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// Rows that were removed: no bytes with their hash are stored.
    pub removed: u64,
    /// Pairs of team and blob that images name.
    pub owned: u64,
    /// Variants that lists name, and that the index knows again.
    pub variants: u64,
    /// Manifests whose variants are made again, because some of them were lost.
    pub variants_wanted: u64,
    /// Objects that count for nothing, and why.
    pub findings: Vec<Finding>,
}

/// How far it is: objects read.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Blobs found so far.
    pub blobs: u64,
    /// Bytes read so far.
    pub bytes: u64,
}

/// Makes the index of the data folder at `data` again, which no server may have open. `storage` says where its objects
/// are and how they are reached.
///
/// # Errors
///
/// Where the folder cannot be opened or a store fails. Objects that count for nothing are in what it answers.
#[cfg(feature = "rocksdb")]
pub async fn run(data: &Path, storage: &StorageOptions, progress: impl FnMut(Progress)) -> Result<Rebuilt, FsckError> {
    crate::fsck::with_stopped(data, storage, async |meta, blobs| rebuild(meta, blobs, progress).await).await
}

/// Makes the index of a blob store again. `run` does so for a data folder; tests do for any.
///
/// # Errors
///
/// Where a store fails.
pub async fn rebuild(
    meta: &dyn MetaStore,
    blobs: &BlobStore,
    progress: impl FnMut(Progress),
) -> Result<Rebuilt, FsckError> {
    let mut rebuild =
        Rebuild { meta, blobs, made: Rebuilt::default(), found: HashSet::new(), rows: Vec::new(), progress };
    rebuild.find_packed().await?;
    rebuild.find_single().await?;
    rebuild.own().await?;
    rebuild.write().await?;
    rebuild.remove_others().await?;
    rebuild.restore_variants().await?;
    rebuild.made.blobs = rebuild.found.len() as u64;
    Ok(rebuild.made)
}

struct Rebuild<'s, P> {
    meta: &'s dyn MetaStore,
    blobs: &'s BlobStore,
    made: Rebuilt,
    found: HashSet<BlobHash>,
    /// Rows that are not written yet.
    rows: Vec<IndexWrite>,
    progress: P,
}

impl<P: FnMut(Progress)> Rebuild<'_, P> {
    async fn find_packed(&mut self) -> Result<(), FsckError> {
        let objects = self.blobs.objects().clone();
        let mut list = objects.list(Some(&blob::PACKS.into()));
        while let Some(object) = list.try_next().await.map_err(StoreError::from)? {
            let Some(pack) = crate::fsck::pack_named(&object.location) else {
                self.note(Kind::Unreferenced, "file", &object.location, "it is no pack");
                continue;
            };
            let rows = match read_directory(&*objects, &pack).await {
                Ok(rows) => rows,
                Err(PackError::Store(error)) => return Err(StoreError::from(error).into()),
                Err(error) => {
                    self.note(Kind::Damaged, "pack", pack, error.to_string());
                    continue;
                }
            };
            self.made.packs += 1;
            self.take(rows, Some(pack)).await?;
        }
        Ok(())
    }

    async fn find_single(&mut self) -> Result<(), FsckError> {
        let objects = self.blobs.objects().clone();
        let mut list = objects.list(Some(&blob::BLOBS.into()));
        let mut page = Vec::new();
        loop {
            let object = list.try_next().await.map_err(StoreError::from)?;
            let is_last = object.is_none();
            if let Some(object) = object {
                match object.location.filename().unwrap_or_default().parse::<BlobHash>() {
                    // A blob that is in a pack is as good there.
                    Ok(hash) if self.found.contains(&hash) => {}
                    Ok(hash) => page.push((hash, unread(object.size))),
                    Err(_) => self.note(Kind::Unreferenced, "file", &object.location, "it is no blob"),
                }
            }
            if is_last || page.len() == ROWS {
                self.take(std::mem::take(&mut page), None).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Reads blobs that should be there, and takes those that are what they are named for.
    async fn take(&mut self, rows: Vec<(BlobHash, BlobRecord)>, pack: Option<PackId>) -> Result<(), FsckError> {
        let blobs = self.blobs;
        let mut read = stream::iter(rows)
            .map(|(hash, row)| async move { (hash, row, blobs.digest(&hash, &row).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((hash, row, digests)) = read.next().await {
            match digests {
                Ok(digests) if digests.blake3 == hash => {
                    self.made.bytes += digests.size;
                    if self.found.insert(hash) {
                        self.rows.push(IndexWrite::Put { hash, record: BlobRecord::stored(row.location, &digests) });
                    }
                }
                Ok(_) | Err(ReadError::Missing | ReadError::Damaged) => {
                    let place = pack.map_or_else(String::new, |pack| format!("in pack {pack}, "));
                    self.note(Kind::Damaged, "blob", hash, format!("{place}its bytes have another hash"));
                }
                Err(error) => return Err(StoreError::from(error).into()),
            }
            if self.rows.len() >= ROWS {
                write(blobs, &mut self.rows).await?;
            }
            (self.progress)(Progress { blobs: self.found.len() as u64, bytes: self.made.bytes });
        }
        Ok(())
    }

    /// What images name, their teams have.
    async fn own(&mut self) -> Result<(), FsckError> {
        for (key, item) in self.meta.snapshot(records::images::prefix()).await?.items {
            let team = projects::project_in(&key)?.team;
            let image = match records::decode::<ImageRecord>(&item, "image") {
                Ok(image) => image.record,
                Err(error) => {
                    self.note(Kind::Damaged, "record", crate::hex::encode(&key), error.to_string());
                    continue;
                }
            };
            if image.collected_at.is_some() {
                continue;
            }
            let manifest = match self.blobs.manifest(&image.manifest).await {
                Ok(manifest) => manifest,
                Err(error @ (ReadError::Missing | ReadError::Damaged | ReadError::Manifest(_))) => {
                    self.note(Kind::Damaged, "manifest", image.manifest, error.to_string());
                    continue;
                }
                Err(error) => return Err(StoreError::from(error).into()),
            };
            for entry in manifest.entries() {
                self.rows.push(IndexWrite::Own { team, hash: entry.blob });
                self.made.owned += 1;
            }
            if self.rows.len() >= ROWS {
                self.write().await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), FsckError> {
        write(self.blobs, &mut self.rows).await
    }

    async fn remove_others(&mut self) -> Result<(), FsckError> {
        let mut after = None;
        loop {
            let page = self.blobs.index().hashes(after, ROWS).await.map_err(StoreError::from)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            let stale = page.iter().filter(|hash| !self.found.contains(hash));
            self.rows.extend(stale.map(|hash| IndexWrite::Remove { hash: *hash }));
            self.made.removed += self.rows.len() as u64;
            self.write().await?;
        }
    }

    fn note(&mut self, kind: Kind, what: &'static str, name: impl ToString, detail: impl Into<String>) {
        self.made.findings.push(Finding { kind, what, name: name.to_string(), detail: detail.into() });
    }
}

async fn write(blobs: &BlobStore, rows: &mut Vec<IndexWrite>) -> Result<(), FsckError> {
    blobs.index().write(std::mem::take(rows)).await.map_err(|error| StoreError::from(error).into())
}

/// All that is known of an object before it is read: enough to read it.
fn unread(size: u64) -> BlobRecord {
    let digests =
        Digests { blake3: BlobHash::from_bytes([0; 32]), sha256: Sha256Digest([0; 32]), is_utf8: false, size };
    BlobRecord::stored(Location::Single, &digests)
}
