//! The one read path: what a host shows, the manifest behind it, the bytes of a blob.
//!
//! The pointer table answers from memory. Manifests and blobs come from the blob store; whoever asks often keeps them,
//! keyed by hash, for as long as it likes: they never change.

use std::sync::Arc;

use crate::blob::{BlobSource, BlobStore, ReadError};
use crate::clock::{Clock, UnixMillis};
use crate::hash::{BlobHash, ManifestId, Sha256Digest, VariantListId};
use crate::id::ImageId;
use crate::manifest::Manifest;
use crate::meta::{MetaError, MetaStore};
use crate::pointers::{PointerTable, ProjectRef};
use crate::records;
use crate::variants::VariantList;

/// An image that is asked for by its own host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostedImage {
    /// The image.
    pub image: ImageId,
    /// Its manifest.
    pub manifest: ManifestId,
    /// When it was first committed: what `Last-Modified` names on its own host.
    pub first_committed_at: UnixMillis,
    /// Whether its content is no longer kept.
    pub is_collected: bool,
}

/// Reads what is published. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Resolver {
    pointers: Arc<PointerTable>,
    blobs: BlobStore,
    meta: Arc<dyn MetaStore>,
    clock: Clock,
}

impl Resolver {
    pub(crate) fn new(pointers: Arc<PointerTable>, blobs: BlobStore, meta: Arc<dyn MetaStore>, clock: Clock) -> Self {
        Self { pointers, blobs, meta, clock }
    }

    /// What every host shows.
    #[must_use]
    pub fn pointers(&self) -> &Arc<PointerTable> {
        &self.pointers
    }

    /// The clock that expiries are compared with.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Reads and checks a manifest. Not for an edge thread: run it on a runtime that may wait.
    ///
    /// # Errors
    ///
    /// As [`BlobStore::manifest`].
    pub async fn manifest(&self, id: &ManifestId) -> Result<Manifest, ReadError> {
        self.blobs.manifest(id).await
    }

    /// Reads and checks a variant list; [`PointerTable::variants`] says which one a manifest has. Not for an edge thread:
    /// run it on a runtime that may wait.
    ///
    /// # Errors
    ///
    /// As [`BlobStore::variant_list`].
    pub async fn variant_list(&self, id: &VariantListId) -> Result<VariantList, ReadError> {
        self.blobs.variant_list(id).await
    }

    /// Opens a blob. Not for an edge thread: run it on a runtime that may wait.
    ///
    /// # Errors
    ///
    /// As [`BlobStore::open`].
    pub async fn open_blob(&self, hash: &BlobHash) -> Result<BlobSource, ReadError> {
        self.blobs.open(hash).await
    }

    /// The SHA-256 digest of a blob, as it was taken when the blob was stored. It asks the blob index, so it is not for an
    /// edge thread; its answers never change.
    ///
    /// # Errors
    ///
    /// [`ReadError::Missing`] where no such blob is stored, and where the index fails.
    pub async fn sha256(&self, hash: &BlobHash) -> Result<Sha256Digest, ReadError> {
        let record = self.blobs.index().get(&[*hash]).await?.pop().flatten();
        record.map(|record| record.sha256).ok_or(ReadError::Missing)
    }

    /// Gives up what the local cache has of a blob, because it is not what it should be; answers whether it had anything.
    pub async fn forget_cached(&self, hash: &BlobHash) -> bool {
        self.blobs.forget_cached(hash).await
    }

    /// Finds the image of a project whose id begins with these 16 hex digits. It asks the metadata store, so it is not
    /// for an edge thread, and its answers are worth keeping for a short while in a bounded cache.
    ///
    /// # Errors
    ///
    /// Where the metadata store does not answer.
    pub async fn hosted_image(&self, project: ProjectRef, digits: &str) -> Result<Option<HostedImage>, MetaError> {
        let image = records::images::find_by_digits(&*self.meta, project, digits).await?;
        Ok(image.map(|record| HostedImage {
            image: record.image,
            manifest: record.manifest,
            first_committed_at: record.first_committed_at,
            is_collected: record.collected_at.is_some(),
        }))
    }
}
