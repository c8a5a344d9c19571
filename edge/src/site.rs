//! A manifest in memory, and beside it where the variants of its files are.
//!
//! The two are kept together so that a request finds both by one lookup. The manifest never changes. The list of variants
//! comes later, when they were made: the engine's directory tells that something has changed by a number, which costs a
//! request one comparison; what has changed is loaded on the loader's threads. Until it is there, files are sent as they
//! are.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::future::Cache;
use pinstone_engine::blob::ReadError;
use pinstone_engine::coding::Variants;
use pinstone_engine::hash::{BlobHash, ManifestId, VariantListId};
use pinstone_engine::manifest::Manifest;
use pinstone_engine::resolve::Resolver;
use pinstone_engine::variants::{VariantDirectory, VariantList};
use tokio::runtime::Handle;

/// How long the first request for a site waits for a list beside the manifest. One on the local disk is there sooner.
const SOON: Duration = Duration::from_millis(50);
/// How long a list that could not be loaded is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// The share of the memory for manifests that lists may take when no manifest in memory has them.
const LISTS: u64 = 8;
/// A number that the directory never has: nothing was looked up yet.
const NEVER: u64 = u64::MAX;

/// A manifest, and the variants of its files.
#[derive(Debug)]
pub(crate) struct Site {
    manifest: Manifest,
    variants: ArcSwapOption<VariantList>,
    /// The directory's generation that `variants` is of.
    seen: AtomicU64,
    /// Whether a newer list is being loaded.
    is_loading: AtomicBool,
}

impl Deref for Site {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

impl Site {
    pub(crate) fn new(manifest: Manifest, list: Option<Arc<VariantList>>) -> Self {
        Self {
            manifest,
            variants: ArcSwapOption::new(list),
            seen: AtomicU64::new(NEVER),
            is_loading: AtomicBool::new(false),
        }
    }

    /// The variants of a file's bytes that are known so far, and the list that they are from.
    pub(crate) fn variants(&self, blob: &BlobHash) -> (Variants, Option<VariantListId>) {
        let list = self.variants.load();
        let variants = list.as_ref().map(|list| list.get(blob)).unwrap_or_default();
        (variants, list.as_ref().map(|list| list.id()))
    }

    /// Whether the variants that are known are those that the directory had in this generation.
    pub(crate) fn is_current(&self, generation: u64) -> bool {
        self.seen.load(Ordering::Acquire) == generation
    }

    /// The most memory that this may take: the list may come when the cache has weighed it already.
    pub(crate) fn most_bytes(&self) -> usize {
        self.manifest.as_bytes().len().saturating_add(VariantList::most_bytes(self.manifest.len()))
    }

    /// What is to be loaded for the variants to be those that the directory has, where anything is.
    fn wanted(&self, directory: &VariantDirectory) -> Option<(u64, VariantListId)> {
        // First this: what is looked up after it is at least as new.
        let generation = directory.generation();
        let list = directory.list(&self.manifest.id());
        let had = self.variants.load().as_ref().map(|list| list.id());
        if list == had {
            self.seen.store(generation, Ordering::Release);
            return None;
        }
        let Some(list) = list else {
            self.put(None, generation);
            return None;
        };
        Some((generation, list))
    }

    fn put(&self, list: Option<Arc<VariantList>>, generation: u64) {
        self.variants.store(list);
        self.seen.store(generation, Ordering::Release);
    }
}

/// Loads lists, each once for all manifests that share it.
#[derive(Clone, Debug)]
pub(crate) struct ListLoader {
    resolver: Resolver,
    loader: Handle,
    lists: Cache<VariantListId, Arc<VariantList>>,
}

impl ListLoader {
    pub(crate) fn new(resolver: Resolver, loader: Handle, manifest_bytes: u64) -> Self {
        let weigh =
            |_: &VariantListId, list: &Arc<VariantList>| u32::try_from(list.as_bytes().len()).unwrap_or(u32::MAX);
        let lists = Cache::builder().max_capacity(manifest_bytes / LISTS).weigher(weigh).build();
        Self { resolver, loader, lists }
    }

    /// The list of a manifest that is being loaded, if there is one and it can be had at once. To be called on the
    /// loader.
    pub(crate) async fn soon(&self, manifest: &ManifestId) -> Option<Arc<VariantList>> {
        let list = self.resolver.pointers().variants().list(manifest)?;
        // What fails here is tried again, and told, when the site is looked at.
        tokio::time::timeout(SOON, self.load(list)).await.ok()?.ok()
    }

    /// Has the variants of `site` loaded where they have changed. Costs one comparison where they have not.
    pub(crate) fn keep_up(&self, site: &Arc<Site>) {
        let directory = self.resolver.pointers().variants();
        if site.seen.load(Ordering::Relaxed) != directory.generation() {
            self.catch_up(site, directory);
        }
    }

    #[cold]
    fn catch_up(&self, site: &Arc<Site>, directory: &VariantDirectory) {
        let Some((generation, list)) = site.wanted(directory) else { return };
        if site.is_loading.swap(true, Ordering::Acquire) {
            return;
        }
        let (lists, site) = (self.clone(), Arc::clone(site));
        // Nobody waits for it: it is one read, and a pause where that failed.
        self.loader.spawn(async move {
            match lists.load(list).await {
                Ok(list) => site.put(Some(list), generation),
                Err(error) => {
                    tracing::warn!(%error, "a list of variants could not be loaded; files are sent as they are");
                    tokio::time::sleep(RETRY).await;
                }
            }
            site.is_loading.store(false, Ordering::Release);
        });
    }

    /// As if it had been loaded.
    #[cfg(test)]
    pub(crate) async fn put(&self, id: VariantListId, list: VariantList) {
        self.lists.insert(id, Arc::new(list)).await;
    }

    async fn load(&self, id: VariantListId) -> Result<Arc<VariantList>, Arc<ReadError>> {
        self.lists.try_get_with(id, async { self.resolver.variant_list(&id).await.map(Arc::new) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use pinstone_engine::Engine;
    use pinstone_engine::clock::Clock;
    use pinstone_engine::coding::{Coding, Variant};
    use pinstone_engine::manifest::{ManifestBuilder, Settings};
    use pinstone_engine::pointers::PointerEvent;

    fn site() -> Arc<Site> {
        let (_, bytes) = ManifestBuilder::new(Settings::default()).finish().unwrap();
        Arc::new(Site::new(Manifest::open(bytes).unwrap(), None))
    }

    fn list(size: u64) -> (VariantListId, Bytes) {
        let variant = Variant { blob: BlobHash::of(&size.to_le_bytes()), size };
        let variants = Variants::default().with(Coding::Gzip, variant);
        VariantList::write([(BlobHash::of(b"page"), variants)]).unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_list_that_is_announced_reaches_a_site_in_memory_and_another_takes_its_place() {
        let engine = Engine::in_memory(Clock::system()).await;
        let resolver = engine.resolver();
        let lists = ListLoader::new(resolver.clone(), Handle::current(), 1 << 20);
        let (site, page) = (site(), BlobHash::of(b"page"));
        let announce = |list| {
            resolver.pointers().apply(PointerEvent::Variants { manifest: site.manifest.id(), list });
        };
        let size = || site.variants(&page).0.get(Coding::Gzip).map(|variant| variant.size);
        lists.keep_up(&site);
        assert_eq!(size(), None);
        for size_of_it in [100, 200] {
            let (id, bytes) = list(size_of_it);
            // As if it had been read: what stores it is the engine's own.
            lists.put(id, VariantList::open(bytes).unwrap()).await;
            announce(Some(id));
            while size() != Some(size_of_it) {
                lists.keep_up(&site);
                tokio::task::yield_now().await;
            }
            assert_eq!(site.seen.load(Ordering::Relaxed), resolver.pointers().variants().generation());
            assert_eq!(lists.soon(&site.manifest.id()).await.map(|list| list.id()), Some(id));
        }
        announce(None);
        lists.keep_up(&site);
        assert_eq!(size(), None, "what is gone is not named any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_not_there_is_asked_for_now_and_then_only() {
        let engine = Engine::in_memory(Clock::system()).await;
        let lists = ListLoader::new(engine.resolver(), Handle::current(), 1 << 20);
        let (site, (id, bytes)) = (site(), list(1));
        let event = PointerEvent::Variants { manifest: site.manifest.id(), list: Some(id) };
        engine.resolver().pointers().apply(event);
        lists.keep_up(&site);
        tokio::time::sleep(RETRY / 2).await;
        assert!(site.is_loading.load(Ordering::Relaxed), "it is left alone for a while");
        tokio::time::sleep(RETRY).await;
        lists.put(id, VariantList::open(bytes).unwrap()).await;
        while site.variants(&BlobHash::of(b"page")).0.is_empty() {
            lists.keep_up(&site);
            tokio::task::yield_now().await;
        }
    }
}
