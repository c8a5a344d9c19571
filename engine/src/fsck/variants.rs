//! Checking variants: that each is there, and decodes to the file that it was made of.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, stream};

use super::{Check, FsckError, Kind, PAGE};
use crate::blob::{BlobRecord, BlobStore, ReadError, VariantKey};
use crate::coding::Coding;
use crate::error::StoreError;
use crate::hash::BlobHash;
use crate::meta::{Item, Key};
use crate::records::variants::{MadeRecord, WantedRecord, made_prefix, manifest_in, wanted_prefix};
use crate::variants::encode::decoded_digest;

/// Variants decoded at a time. Each is in memory, as large as it is stored.
const AT_ONCE: usize = 4;

impl Check<'_> {
    /// The manifests whose variants are wanted or made, and their lists.
    pub(super) async fn check_lists(&mut self) -> Result<(), FsckError> {
        for (key, item) in self.meta.snapshot(wanted_prefix()).await?.items {
            self.check_row::<WantedRecord>(&key, &item)?;
        }
        for (key, item) in self.meta.snapshot(made_prefix()).await?.items {
            let Some(list) = self.check_row::<MadeRecord>(&key, &item)?.and_then(|made| made.list) else { continue };
            if !self.lists.insert(list) {
                continue;
            }
            match self.blobs.variant_list(&list).await {
                Ok(opened) => {
                    for (identity, variants) in opened.iter() {
                        let named = Coding::ALL.into_iter().filter_map(|coding| Some((coding, variants.get(coding)?)));
                        self.variants.extend(named.map(|(coding, variant)| ((identity, coding), variant.blob)));
                    }
                }
                Err(ReadError::Missing) => self.report.add(Kind::Missing, "list", list, "a manifest has it"),
                Err(error @ (ReadError::Damaged | ReadError::Manifest(_))) => {
                    self.report.add(Kind::Damaged, "list", list, error.to_string());
                }
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Ok(())
    }

    /// A row about a manifest, if it can be read and an image names the manifest.
    fn check_row<T: serde::de::DeserializeOwned>(&mut self, key: &Key, item: &Item) -> Result<Option<T>, FsckError> {
        let Some(record) = self.readable::<T>(key, item, "variants") else { return Ok(None) };
        if !self.images.contains_key(&manifest_in(key)?) {
            self.report.add(Kind::Unreferenced, "record", crate::hex::encode(key), "no image has its manifest");
        }
        Ok(Some(record))
    }

    /// What the index says that was made. Answers every blob that is a variant of one that is stored, and notes what has
    /// to be decoded.
    pub(super) async fn check_made(
        &mut self,
        rows: &HashMap<BlobHash, BlobRecord>,
    ) -> Result<HashSet<BlobHash>, FsckError> {
        let mut after = None;
        loop {
            let page = self.blobs.index().scan_made(after, PAGE).await.map_err(StoreError::from)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (key, made) in page {
                let name = named(&key);
                match made {
                    None => self.report.add(Kind::Damaged, "variant", name, "its row in the index cannot be read"),
                    Some(_) if !rows.contains_key(&key.0) => {
                        self.report.add(Kind::Unreferenced, "variant", name, "the file that it is of is not stored");
                    }
                    Some(made) => self.variants.extend(made.kept().map(|variant| (key, variant.blob))),
                }
            }
        }
        Ok(self.variants.iter().map(|(_, variant)| *variant).collect())
    }

    /// Decodes every variant, and compares it with the file that it was made of.
    pub(super) async fn check_variants(&mut self, rows: &HashMap<BlobHash, BlobRecord>) -> Result<(), FsckError> {
        let variants = std::mem::take(&mut self.variants);
        let blobs = self.blobs;
        let mut decoded = stream::iter(variants)
            .map(|(key, variant)| async move {
                let Some(identity) = rows.get(&key.0).filter(|_| rows.contains_key(&variant)) else {
                    return (key, Err(ReadError::Missing));
                };
                (key, decodes_to(blobs, key, identity.size, variant).await)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((key, is_right)) = decoded.next().await {
            let name = named(&key);
            match is_right {
                Ok(true) => self.report.variants += 1,
                Ok(false) | Err(ReadError::Damaged) => {
                    self.report.add(Kind::Damaged, "variant", name, "it does not decode to the file that it is of");
                }
                Err(ReadError::Missing) => {
                    self.report.add(Kind::Missing, "variant", name, "it or the file that it is of is not stored");
                }
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Ok(())
    }
}

/// Whether the blob `variant` is what `key` says, of a file of `size` bytes.
///
/// # Errors
///
/// Where it cannot be read.
pub(crate) async fn decodes_to(
    blobs: &BlobStore,
    (identity, coding): VariantKey,
    size: u64,
    variant: BlobHash,
) -> Result<bool, ReadError> {
    let bytes = blobs.read(&variant).await?;
    let decoded = tokio::task::spawn_blocking(move || decoded_digest(coding, &bytes, size)).await;
    // Whatever a decoder says of them, and if it panics: these bytes are not to be sent.
    Ok(matches!(decoded, Ok(Ok(digest)) if digest == identity))
}

fn named((identity, coding): &VariantKey) -> String {
    format!("{identity} {coding}")
}
