//! Variants and the lists of them in the blob store.

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload};

use super::object_writer::ObjectWriter;
use super::pack::LARGEST_PACKED;
use super::{BlobRecord, BlobState, BlobStore, Digests, IndexWrite, Location, Made, PutError, ReadError, VariantKey};
use super::{blob_path, variant_list_path};
use crate::coding::Variant;
use crate::hash::VariantListId;
use crate::variants::{VariantList, VariantListError};

/// What was made of a blob in one coding.
#[derive(Debug)]
pub(crate) struct NewVariant {
    /// Of what, and in what.
    pub(crate) key: VariantKey,
    /// The encoded bytes, where they are worth keeping.
    pub(crate) kept: Option<(Digests, Bytes)>,
    /// Whether there is a row, of a variant that is not stored any more.
    pub(crate) replaces: bool,
}

impl BlobStore {
    /// Stores variants, the small ones together, and then says in the index what was made. No team is said to have them.
    ///
    /// # Errors
    ///
    /// Where a store fails. Objects that nothing names may be there then.
    pub(crate) async fn put_variants(&self, made: Vec<NewVariant>) -> Result<(), PutError> {
        let (mut small, mut rows) = (Vec::new(), Vec::with_capacity(made.len()));
        for NewVariant { key: (identity, coding), kept, replaces } in made {
            let made = match &kept {
                Some((digests, _)) => Made::Kept(Variant { blob: digests.blake3, size: digests.size }),
                None => Made::NotKept,
            };
            match kept {
                Some((digests, bytes)) if digests.size <= LARGEST_PACKED => small.push((digests, bytes)),
                Some((digests, bytes)) => rows.extend(self.put_alone(digests, bytes).await?),
                None => {}
            }
            if replaces {
                rows.push(IndexWrite::Unvary { identity, coding });
            }
            rows.push(IndexWrite::Vary { identity, coding, made });
        }
        let mut batch = self.unowned_batch();
        if let Err(error) = batch.add(small).await {
            batch.abort().await;
            return Err(error);
        }
        batch.finish_with(rows).await
    }

    /// Stores one blob as an object of its own; answers the row that the index is to have of it, if it has none.
    async fn put_alone(&self, digests: Digests, bytes: Bytes) -> Result<Option<IndexWrite>, PutError> {
        let hash = digests.blake3;
        let known = self.index.get(&[hash]).await?.pop().flatten();
        if known.is_some_and(|record| record.state == BlobState::Live) {
            return Ok(None);
        }
        let mut object = ObjectWriter::new(&self.objects, blob_path(&hash), &self.writing);
        if let Err(error) = object.write(bytes).await {
            object.abort().await;
            return Err(error.into());
        }
        object.finish().await?;
        Ok(Some(IndexWrite::Put { hash, record: BlobRecord::stored(Location::Single, &digests) }))
    }

    /// Stores a variant list's bytes under their digest, durably.
    pub(crate) async fn put_variant_list(&self, id: &VariantListId, bytes: Bytes) -> Result<(), object_store::Error> {
        self.objects.put(&variant_list_path(id), PutPayload::from(bytes)).await.map(drop)
    }

    /// Reads a variant list and checks it: that its bytes have this digest, and all that [`VariantList::open`] checks.
    ///
    /// # Errors
    ///
    /// [`ReadError::Missing`], [`ReadError::Damaged`] where the bytes have another digest or are no list that this program
    /// knows, and where the store fails.
    pub async fn variant_list(&self, id: &VariantListId) -> Result<VariantList, ReadError> {
        let bytes = self.whole(*id.as_bytes(), variant_list_path(id)).await?;
        // That of 200,000 files takes milliseconds to check, which is too long for a thread that serves others.
        let list =
            tokio::task::spawn_blocking(move || VariantList::open(bytes)).await.map_err(|_| ReadError::Damaged)?;
        match list {
            Ok(list) if list.id() == *id => Ok(list),
            Ok(_) => Err(ReadError::Damaged),
            Err(error) => {
                if let VariantListError::Newer { .. } = error {
                    tracing::warn!(%error, "a variant list is not used");
                }
                Err(ReadError::Damaged)
            }
        }
    }
}
