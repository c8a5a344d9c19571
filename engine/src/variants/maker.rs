//! Making variants: the one task that works wanted manifests off, and hands what takes a processor to the workers.
//!
//! Order: variants durable, then the rows of the index that name them, then the list, then one checked commit that
//! removes the wish, writes what was made and tells of it. So a crash leaves a wish, and at most the last second's work
//! to be done again. Manifests are taken in groups, so that many small ones share packs and commits; a file that several
//! of them have is encoded once, because what is not in the index yet is in the batch.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::desk::Desk;
use super::workers::Workers;
use super::{VariantList, VariantOptions};
use crate::blob::{BlobRecord, BlobState, BlobStore, Made, NewVariant, PutError, ReadError};
use crate::clock::Clock;
use crate::coding::{self, Coding, Variants};
use crate::error::StoreError;
use crate::hash::{BlobHash, ManifestId, VariantListId};
use crate::manifest::Manifest;
use crate::meta::{Check, Commit, Key, MetaError, MetaStore, Order, Outcome, Revision, after_prefix};
use crate::records::images::ImageRecord;
use crate::records::variants::{self as rows, MadeRecord, VariantBytes};
use crate::records::{self, Unknown, decode};

mod file;

use file::{Encoded, Missing};

/// Manifests that are finished by one commit: each is a check, a removal, a row and an event of 128.
const GROUP: usize = 32;
/// No more manifests are taken into a group that has so many files, or has taken so long.
const GROUP_FILES: usize = 20_000;
const GROUP_TIME: Duration = Duration::from_secs(1);
/// Files that are looked up together.
const CHUNK: usize = 1000;
/// Rows that are read together, and written.
const PAGE: usize = 1000;
const ROWS: usize = 100;
/// How much is made before it is stored: as much as a killed process may have made in vain.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_VARIANTS: usize = 8192;
const BATCH_TIME: Duration = Duration::from_secs(1);
/// A manifest that has taken so long waits for others that came meanwhile: it may take hours, and they seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a maker that is told to stop may still store what it has made.
const GRACE: Duration = Duration::from_secs(2);
/// How long a store that failed is left alone: this at first, then twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked for wishes that nobody has told of.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);

/// A maker that runs. It stops by [`stop`](Self::stop), or is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct MakerHandle {
    task: JoinHandle<()>,
    workers: Arc<Workers>,
    stop: watch::Sender<bool>,
}

impl MakerHandle {
    /// Starts a maker with workers of its own.
    ///
    /// # Errors
    ///
    /// Where a thread cannot be started.
    pub(crate) fn start(
        meta: Arc<dyn MetaStore>,
        blobs: BlobStore,
        clock: Clock,
        desk: Arc<Desk>,
        options: VariantOptions,
    ) -> io::Result<Self> {
        let workers = Arc::new(Workers::start(options.workers)?);
        let (stop, stopping) = watch::channel(false);
        desk.staff();
        let maker = Maker {
            meta,
            blobs,
            clock,
            desk,
            largest: options.largest,
            workers: Arc::clone(&workers),
            stopping,
            is_caught_up: false,
            scan: Scan::default(),
            broken: HashSet::new(),
            spent: HashMap::new(),
            last_list: None,
        };
        Ok(Self { task: tokio::spawn(maker.run()), workers, stop })
    }

    /// Has what was made stored, gives up the rest, and waits until no thread works any more.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        self.workers.stop();
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            self.task.abort();
            drop((&mut self.task).await);
        }
        // Workers are waited for, which takes as long as a few KiB of a large file.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }
}

impl Drop for MakerHandle {
    fn drop(&mut self) {
        self.task.abort();
        self.workers.stop();
    }
}

/// The task.
struct Maker {
    meta: Arc<dyn MetaStore>,
    blobs: BlobStore,
    clock: Clock,
    desk: Arc<Desk>,
    largest: u64,
    workers: Arc<Workers>,
    stopping: watch::Receiver<bool>,
    is_caught_up: bool,
    scan: Scan,
    /// Manifests that cannot be read. They stay wanted, and the next process tries again.
    broken: HashSet<ManifestId>,
    /// What was spent on manifests that wait.
    spent: HashMap<ManifestId, Duration>,
    /// The list that was stored last: copies of an image mostly share it.
    last_list: Option<VariantListId>,
}

/// How far it was looked for wishes.
#[derive(Debug, Default)]
struct Scan {
    after: Option<ManifestId>,
    page: VecDeque<ManifestId>,
    is_over: bool,
}

/// A manifest of which nothing is left to encode.
struct Ready {
    manifest: ManifestId,
    /// That of its wish.
    revision: Revision,
    /// Nothing where its variants were made before, and only the wish is left.
    files: Option<Arc<Vec<File>>>,
    processor_time: Duration,
}

/// A file of a manifest that is worth encoding.
#[derive(Clone, Copy, Debug)]
struct File {
    blob: BlobHash,
    size: u64,
    /// How many paths have it.
    paths: u64,
}

/// What was made and is not stored yet.
#[derive(Default)]
struct Batch {
    made: Vec<NewVariant>,
    identities: HashSet<BlobHash>,
    bytes: usize,
    processor_time: Duration,
}

impl Batch {
    fn add(&mut self, encoded: Encoded) {
        self.identities.insert(encoded.identity);
        self.bytes += encoded.bytes();
        self.processor_time += encoded.processor_time;
        self.made.extend(encoded.made);
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.made.len() >= BATCH_VARIANTS || self.processor_time >= BATCH_TIME
    }

    /// Stores what is in it, durably.
    async fn store(&mut self, blobs: &BlobStore) -> Result<(), StoreError> {
        let Self { made, .. } = std::mem::take(self);
        if made.is_empty() {
            return Ok(());
        }
        blobs.put_variants(made).await.map_err(|error| match error {
            PutError::Store(error) => error.into(),
            PutError::Index(error) => error.into(),
            // What is encoded here is not announced by anybody, so nothing else can be wrong with it.
            _ => MetaError::Damaged { what: "variant" }.into(),
        })
    }
}

impl Maker {
    async fn run(mut self) {
        let (mut pause, mut is_failing) = (PAUSE, false);
        while !self.is_stopping() {
            match self.round().await {
                Ok(has_worked) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!("variants are made again");
                        pause = PAUSE;
                    }
                    if !has_worked {
                        self.wait().await;
                    }
                }
                Err(error) => {
                    self.desk.counters().add_failure();
                    if !std::mem::replace(&mut is_failing, true) {
                        let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                        tracing::warn!(%error, reason, "variants cannot be made; this is tried again until it works");
                    }
                    // What was taken from the desk is among the wishes still.
                    self.scan = Scan::default();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stopped(&mut self.stopping) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        // Where nobody is left who could tell, it is the end, too.
        *self.stopping.borrow() || self.stopping.has_changed().is_err()
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.desk.bell() => {}
            () = tokio::time::sleep(LOOK_EVERY) => self.scan = Scan::default(),
            () = stopped(&mut self.stopping) => {}
        }
    }

    /// Works off a group of manifests; answers whether there was any.
    async fn round(&mut self) -> Result<bool, StoreError> {
        if !self.is_caught_up {
            self.want_old_images().await?;
            let queued = self.count_wanted().await?;
            self.desk.counters().count_queue(queued);
            self.is_caught_up = true;
        }
        let mut batch = Batch::default();
        let gathered = self.gather(&mut batch).await;
        // In any case: what was made is not to be made again.
        batch.store(&self.blobs).await?;
        let ready = match gathered {
            Err(_) if self.is_stopping() => Vec::new(),
            ready => ready?,
        };
        let has_worked = !ready.is_empty();
        self.finish(ready).await?;
        Ok(has_worked)
    }

    /// Encodes the files of a group of manifests.
    async fn gather(&mut self, batch: &mut Batch) -> Result<Vec<Ready>, StoreError> {
        let began = Instant::now();
        let (mut ready, mut files) = (Vec::new(), 0);
        while ready.len() < GROUP && files < GROUP_FILES && (ready.is_empty() || began.elapsed() < GROUP_TIME) {
            let Some((manifest, revision)) = self.next(&ready).await? else { break };
            if let Some(one) = self.encode_files(manifest, revision, batch).await? {
                files += one.files.as_ref().map_or(0, |files| files.len());
                ready.push(one);
            }
        }
        Ok(ready)
    }

    /// The next manifest to be worked on: new ones first, then whichever is wanted.
    async fn next(&mut self, taken: &[Ready]) -> Result<Option<(ManifestId, Revision)>, StoreError> {
        loop {
            let manifest = match self.desk.take() {
                Some(new) => new,
                None => match self.next_found().await? {
                    Some(found) => found,
                    None => return Ok(None),
                },
            };
            if self.broken.contains(&manifest) || taken.iter().any(|ready| ready.manifest == manifest) {
                continue;
            }
            // Whatever is both new and found is done when it comes again.
            if let Some(revision) = rows::wanted(&*self.meta, &manifest).await? {
                return Ok(Some((manifest, revision)));
            }
        }
    }

    /// The next manifest among all that are wanted, in the order of their digests.
    async fn next_found(&mut self) -> Result<Option<ManifestId>, StoreError> {
        if self.desk.has_overflowed() {
            self.scan = Scan::default();
        }
        while self.scan.page.is_empty() && !self.scan.is_over {
            let page = rows::scan_wanted(&*self.meta, self.scan.after.as_ref(), PAGE).await?;
            self.scan.is_over = page.len() < PAGE;
            self.scan.after = page.last().copied().or(self.scan.after);
            self.scan.page = page.into();
        }
        Ok(self.scan.page.pop_front())
    }

    /// Encodes what is missing of a manifest's files. Nothing where the manifest cannot be read, or has to wait.
    async fn encode_files(
        &mut self,
        manifest: ManifestId,
        revision: Revision,
        batch: &mut Batch,
    ) -> Result<Option<Ready>, StoreError> {
        if rows::made(&*self.meta, &[manifest]).await?.iter().any(Option::is_some) {
            return Ok(Some(Ready { manifest, revision, files: None, processor_time: Duration::ZERO }));
        }
        let opened = match self.blobs.manifest(&manifest).await {
            Ok(opened) => opened,
            Err(error @ (ReadError::Missing | ReadError::Damaged | ReadError::Manifest(_))) => {
                tracing::warn!(%manifest, %error, "no variants are made of a manifest that cannot be read");
                self.broken.insert(manifest);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let found = self.workers.run(move |_| Arc::new(worth_encoding(&opened))).await;
        let (files, mut processor_time) = found.ok_or(MetaError::Closed)?;
        processor_time += self.spent.remove(&manifest).unwrap_or_default();
        let began = Instant::now();
        for chunk in files.chunks(CHUNK) {
            let missing = self.missing(chunk, batch).await?;
            let workers = self.workers.count();
            let encoding = missing.into_iter().map(|missing| {
                file::encode(self.blobs.clone(), Arc::clone(&self.workers), Arc::clone(&self.desk), missing)
            });
            let mut encoding = stream::iter(encoding).buffer_unordered(workers);
            while let Some(encoded) = encoding.next().await {
                // A file that cannot be read has no variants, and whoever asks for it is told.
                let Some(encoded) = encoded? else { continue };
                processor_time += encoded.processor_time;
                batch.add(encoded);
                if !batch.is_full() {
                    continue;
                }
                batch.store(&self.blobs).await?;
                if began.elapsed() >= PATIENCE && self.desk.has_new() {
                    drop(encoding);
                    self.spent.insert(manifest, processor_time);
                    self.scan.page.push_front(manifest);
                    return Ok(None);
                }
            }
        }
        Ok(Some(Ready { manifest, revision, files: Some(files), processor_time }))
    }

    /// What of `files` was never encoded, or was and is not stored any more.
    async fn missing(&self, files: &[File], batch: &Batch) -> Result<Vec<Missing>, StoreError> {
        let is_open = |file: &&File| file.size <= self.largest && !batch.identities.contains(&file.blob);
        let files: Vec<File> = files.iter().filter(is_open).copied().collect();
        let identities: Vec<_> = files.iter().map(|file| file.blob).collect();
        let made = self.blobs.index().made(&identities).await?;
        let kept = made.iter().flatten().flatten().filter_map(|made| made.kept());
        let kept: Vec<BlobHash> = kept.map(|variant| variant.blob).collect();
        let stored = self.blobs.index().get(&kept).await?;
        let is_gone = |(hash, row): (BlobHash, Option<BlobRecord>)| {
            (!row.is_some_and(|row| row.state == BlobState::Live)).then_some(hash)
        };
        let gone: HashSet<BlobHash> = kept.into_iter().zip(stored).filter_map(is_gone).collect();
        let missing = files.iter().zip(made).filter_map(|(file, made)| {
            let codings = Coding::ALL.into_iter().zip(made).filter_map(|(coding, made)| match made {
                None => Some((coding, false)),
                Some(Made::Kept(variant)) if gone.contains(&variant.blob) => Some((coding, true)),
                Some(_) => None,
            });
            let codings: Vec<_> = codings.collect();
            (!codings.is_empty()).then_some(Missing { identity: file.blob, size: file.size, codings })
        });
        Ok(missing.collect())
    }

    /// Lists and announces the variants of manifests of which all are stored.
    async fn finish(&mut self, ready: Vec<Ready>) -> Result<(), StoreError> {
        let mut done = Vec::with_capacity(ready.len());
        for ready in ready {
            let made = match ready.files {
                Some(files) => Some(self.list(files, ready.processor_time).await?),
                None => None,
            };
            done.push((ready.manifest, ready.revision, made));
        }
        if done.is_empty() || self.commit(&done).await? {
            return Ok(());
        }
        // One of the wishes has changed. The others need not wait for it.
        for one in done {
            if !self.commit(&[one]).await? {
                self.scan = Scan::default();
            }
        }
        Ok(())
    }

    /// Commits what became of manifests; answers whether all wishes were as they had been.
    async fn commit(&self, done: &[(ManifestId, Revision, Option<MadeRecord>)]) -> Result<bool, StoreError> {
        let mut commit = Commit::new();
        for (manifest, revision, made) in done {
            let key = rows::wanted_key(manifest);
            commit = commit.check(key.clone(), Check::Revision(*revision));
            commit = match made {
                Some(made) => rows::record_made(commit, *manifest, made),
                None => commit.delete(key),
            };
        }
        let Outcome::Done { .. } = self.meta.commit(commit).await? else { return Ok(false) };
        let made = done.iter().filter(|(_, _, made)| made.is_some()).count();
        self.desk.counters().finish(done.len() as u64, made as u64);
        tracing::debug!(made, "variants of manifests were made");
        Ok(true)
    }

    /// Makes and stores the list of a manifest's files.
    async fn list(&mut self, files: Arc<Vec<File>>, processor_time: Duration) -> Result<MadeRecord, StoreError> {
        let mut found = Vec::with_capacity(files.len());
        for chunk in files.chunks(CHUNK) {
            let identities: Vec<_> = chunk.iter().map(|file| file.blob).collect();
            found.extend(self.blobs.index().made(&identities).await?);
        }
        let written = self.workers.run(move |_| {
            let variants: Vec<Variants> = found.into_iter().map(variants_of).collect();
            let mut bytes = VariantBytes::default();
            files.iter().zip(&variants).for_each(|(file, variants)| count_bytes(&mut bytes, file, variants));
            let list = VariantList::write(files.iter().map(|file| file.blob).zip(variants));
            (bytes, list)
        });
        let ((bytes, list), _) = written.await.ok_or(MetaError::Closed)?;
        // Files are in order, variants are not empty, and a manifest has fewer files than a list can hold.
        let list = list.map_err(|_| MetaError::Damaged { what: "variants" })?;
        if let Some((id, bytes)) = &list
            && self.last_list != Some(*id)
        {
            self.blobs.put_variant_list(id, bytes.clone()).await?;
            self.last_list = Some(*id);
        }
        Ok(MadeRecord {
            at: self.clock.now(),
            list: list.map(|(id, _)| id),
            bytes,
            cpu_ms: u64::try_from(processor_time.as_millis()).unwrap_or(u64::MAX),
            unknown: Unknown::new(),
        })
    }

    /// Once in the life of a store: what was committed before there were variants is wanted, too.
    async fn want_old_images(&self) -> Result<(), StoreError> {
        if rows::has_caught_up(&*self.meta).await? {
            return Ok(());
        }
        let prefix = records::images::prefix();
        let (mut from, end): (Key, Key) = (prefix.clone(), after_prefix(&prefix));
        loop {
            let page = self.meta.scan(from.clone(), end.clone(), PAGE, Order::Ascending).await?;
            let Some((last, _)) = page.last() else { break };
            from = [&last[..], &[0]].concat().into();
            let mut manifests = BTreeSet::new();
            for (_, item) in &page {
                // One that cannot be read is told of by whoever asks for it.
                let Ok(image) = decode::<ImageRecord>(item, "image") else { continue };
                manifests.extend(image.record.collected_at.is_none().then_some(image.record.manifest));
            }
            let manifests: Vec<_> = manifests.into_iter().collect();
            let unknown = rows::unknown(&*self.meta, &manifests).await?;
            for some in unknown.chunks(ROWS) {
                let now = self.clock.now();
                let want = |commit: Commit, manifest| {
                    let (key, value) = rows::want(manifest, now);
                    commit.put(key, value)
                };
                self.meta.commit(some.iter().fold(Commit::new(), want)).await?;
            }
        }
        let (key, value) = rows::caught_up(self.clock.now());
        self.meta.commit(Commit::new().put(key, value)).await?;
        Ok(())
    }

    async fn count_wanted(&self) -> Result<u64, StoreError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = rows::scan_wanted(&*self.meta, after.as_ref(), PAGE).await?;
            count += page.len() as u64;
            match page.last() {
                Some(last) => after = Some(*last),
                None => return Ok(count),
            }
        }
    }
}

/// Waits until the maker is to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that nobody is left who could tell.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// The files of a manifest that are worth encoding, in the order of their hashes.
fn worth_encoding(manifest: &Manifest) -> Vec<File> {
    let mut files: BTreeMap<BlobHash, File> = BTreeMap::new();
    for entry in manifest.entries() {
        if !entry.hidden && coding::is_eligible(entry.content_type, entry.size) {
            let file = files.entry(entry.blob).or_insert(File { blob: entry.blob, size: entry.size, paths: 0 });
            file.paths += 1;
        }
    }
    files.into_values().collect()
}

fn variants_of(made: [Option<Made>; Coding::ALL.len()]) -> Variants {
    let kept = |(coding, made): (Coding, Option<Made>)| Some((coding, made?.kept()?));
    let kept = Coding::ALL.into_iter().zip(made).filter_map(kept);
    kept.fold(Variants::default(), |variants, (coding, variant)| variants.with(coding, variant))
}

fn count_bytes(bytes: &mut VariantBytes, file: &File, variants: &Variants) {
    let size = |coding| variants.get(coding).map_or(file.size, |variant| variant.size);
    let sizes = Coding::ALL.map(size);
    let smallest = sizes.into_iter().fold(file.size, u64::min);
    let [br, zstd, gzip] = sizes;
    for (sum, size) in [
        (&mut bytes.identity, file.size),
        (&mut bytes.br, br),
        (&mut bytes.zstd, zstd),
        (&mut bytes.gzip, gzip),
        (&mut bytes.smallest, smallest),
    ] {
        *sum = sum.saturating_add(size.saturating_mul(file.paths));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::Variant;
    use crate::manifest::{ManifestBuilder, Settings};
    use crate::path::SitePath;

    #[test]
    fn files_are_counted_once_however_many_paths_they_have() {
        let mut builder = ManifestBuilder::new(Settings::default());
        let blob = |name: &str| BlobHash::of(name.as_bytes());
        let path = |path: &str| SitePath::new(path).unwrap();
        builder.add(path("a.html"), blob("page"), 1000, "text/html");
        builder.add(path("b.html"), blob("page"), 1000, "text/html");
        builder.add(path("as-it-is"), blob("page"), 1000, "application/octet-stream");
        builder.add(path("small.css"), blob("small"), coding::SMALLEST - 1, "text/css");
        builder.add(path("photo.png"), blob("photo"), 9000, "image/png");
        builder.add(path("empty.txt"), blob("empty"), 0, "text/plain");
        builder.add_hidden(path("_headers"), blob("rules"), 3000, "text/plain");
        let (_, bytes) = builder.finish().unwrap();
        let files = worth_encoding(&Manifest::open(bytes).unwrap());
        assert_eq!(
            files.iter().map(|file| (file.blob, file.size, file.paths)).collect::<Vec<_>>(),
            [(blob("page"), 1000, 2)]
        );

        let variant = |size| Variant { blob: BlobHash::of(b"v"), size };
        let variants = Variants::default().with(Coding::Brotli, variant(200)).with(Coding::Gzip, variant(300));
        let mut counted = VariantBytes::default();
        count_bytes(&mut counted, &files[0], &variants);
        let want = VariantBytes { identity: 2000, br: 400, zstd: 2000, gzip: 600, smallest: 400 };
        assert_eq!((counted, counted.saved()), (want, 1600));
    }
}
