//! What was made of blobs, from the lists that say so.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};

use super::{AT_ONCE, ROWS, Rebuild};
use crate::blob::{IndexWrite, Made, ReadError, VariantKey};
use crate::clock::Clock;
use crate::coding::{Coding, Variant};
use crate::error::StoreError;
use crate::fsck::{FsckError, Kind, decodes_to};
use crate::hash::ManifestId;
use crate::meta::Commit;
use crate::records::variants::{MadeRecord, made_prefix, manifest_in, record_lost};
use crate::variants::VariantList;

/// Manifests that are wanted again by one commit.
const LOST_AT_ONCE: usize = 32;

impl<P: FnMut(super::Progress)> Rebuild<'_, P> {
    /// Lets the index know what lists name, and nothing else.
    pub(super) async fn restore_variants(&mut self) -> Result<(), FsckError> {
        let mut lists: HashMap<_, Vec<ManifestId>> = HashMap::new();
        let mut lost = Vec::new();
        for (key, item) in self.meta.snapshot(made_prefix()).await?.items {
            let manifest = manifest_in(&key)?;
            match crate::records::decode::<MadeRecord>(&item, "variants") {
                Ok(made) => {
                    if let Some(list) = made.record.list {
                        lists.entry(list).or_default().push(manifest);
                    }
                }
                Err(error) => {
                    self.note(Kind::Damaged, "record", crate::hex::encode(&key), error.to_string());
                    lost.push(manifest);
                }
            }
        }
        let mut right: HashMap<VariantKey, Variant> = HashMap::new();
        for (id, manifests) in lists {
            let is_whole = match self.blobs.variant_list(&id).await {
                Ok(list) => self.take_right(&list, &mut right).await?,
                Err(error @ (ReadError::Missing | ReadError::Damaged)) => {
                    self.note(Kind::Damaged, "list", id, error.to_string());
                    false
                }
                Err(error) => return Err(StoreError::from(error).into()),
            };
            if !is_whole {
                lost.extend(manifests);
            }
        }
        self.write_made(right).await?;
        self.want_again(&lost).await
    }

    /// Takes those variants of a list that are stored and right; answers whether all are.
    async fn take_right(
        &mut self,
        list: &VariantList,
        right: &mut HashMap<VariantKey, Variant>,
    ) -> Result<bool, FsckError> {
        let named = list.iter().flat_map(|(identity, variants)| {
            let variant = move |coding| Some(((identity, coding), variants.get(coding)?));
            Coding::ALL.into_iter().filter_map(variant)
        });
        let unknown: Vec<_> = named.filter(|(key, variant)| right.get(key) != Some(variant)).collect();
        let blobs = self.blobs;
        let mut is_whole = true;
        let mut decoded = stream::iter(unknown)
            .map(|(key, variant)| async move {
                let size = match blobs.index().get(&[key.0]).await?.pop().flatten() {
                    Some(identity) => identity.size,
                    None => return Err(ReadError::Missing),
                };
                Ok((key, variant, decodes_to(blobs, key, size, variant.blob).await?))
            })
            .buffer_unordered(AT_ONCE);
        while let Some(decoded) = decoded.next().await {
            match decoded {
                // Where two lists name two, either is right, and one has to be the first.
                Ok((key, variant, true)) => {
                    right.entry(key).or_insert(variant);
                }
                Ok((_, _, false)) | Err(ReadError::Missing | ReadError::Damaged) => is_whole = false,
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Ok(is_whole)
    }

    /// Writes the rows of what is right, and removes all others.
    async fn write_made(&mut self, mut right: HashMap<VariantKey, Variant>) -> Result<(), FsckError> {
        self.made.variants = right.len() as u64;
        let mut after = None;
        loop {
            let page = self.blobs.index().scan_made(after, ROWS).await.map_err(StoreError::from)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (key, made) in page {
                let (identity, coding) = key;
                match (made.and_then(Made::kept), right.get(&key)) {
                    (Some(kept), Some(variant)) if kept == *variant => {
                        right.remove(&key);
                    }
                    _ => self.rows.push(IndexWrite::Unvary { identity, coding }),
                }
            }
            self.write().await?;
        }
        for ((identity, coding), variant) in right {
            self.rows.push(IndexWrite::Vary { identity, coding, made: Made::Kept(variant) });
            if self.rows.len() >= ROWS {
                self.write().await?;
            }
        }
        self.write().await
    }

    /// Has the variants of manifests made anew that have lost some.
    async fn want_again(&mut self, lost: &[ManifestId]) -> Result<(), FsckError> {
        let now = Clock::system().now();
        for some in lost.chunks(LOST_AT_ONCE) {
            let commit = some.iter().fold(Commit::new(), |commit, manifest| record_lost(commit, *manifest, now));
            self.meta.commit(commit).await?;
        }
        self.made.variants_wanted = lost.len() as u64;
        Ok(())
    }
}
