//! Checking a data folder that no server has open: every pointer → image → manifest → blob → bytes.
//!
//! It trusts nothing that can be computed: manifests and blobs are read to their ends and hashed. It changes nothing.
//! What is missing or damaged is a fault; what nothing refers to is garbage, which a crash may leave and which harms
//! nobody.

use std::collections::{BTreeMap, HashMap, HashSet};
#[cfg(feature = "rocksdb")]
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blob::pack::{PackError, read_directory};
use crate::blob::{self, BlobRecord, BlobStore, Location, ReadError, VariantKey};
#[cfg(feature = "rocksdb")]
use crate::clock::Clock;
use crate::data_folder::OpenError;
#[cfg(feature = "rocksdb")]
use crate::engine::open_stores;
use crate::error::StoreError;
use crate::hash::{BlobHash, ManifestId, VariantListId};
use crate::id::{PackId, PlanId, TeamId};
use crate::manifest::Manifest;
use crate::meta::{Item, Key, MetaError, MetaStore};
#[cfg(feature = "rocksdb")]
use crate::objects::{Purpose, StorageOptions};
use crate::records::environments::EnvironmentRecord;
use crate::records::images::ImageRecord;
use crate::records::pins::PinRecord;
use crate::records::plans::{PlanRecord, PlanState};
use crate::records::projects::{self, ProjectRecord};
use crate::records::{self, Stored, decode};

mod domains;
mod variants;

pub(crate) use variants::decodes_to;

/// Blobs read at a time: enough that a store far away is not waited for most of the time.
const AT_ONCE: usize = 16;
/// Rows of the index read at a time.
const PAGE: usize = 10_000;
/// Findings of each kind that are named in the report; all are counted.
const NAMED: usize = 1000;

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something refers to it, and it is not there. A fault.
    Missing,
    /// It is there, and is not what it should be. A fault.
    Damaged,
    /// It is there, and nothing refers to it. No fault.
    Unreferenced,
}

/// One thing that was found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// What it is about: `blob`, `pack`, `manifest`, `image`, `environment`, `plan`, `file`, `record`, `variant`, `list`,
    /// `domain`.
    pub what: &'static str,
    /// Which one.
    pub name: String,
    /// What is wrong, in words.
    pub detail: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Environments that show something.
    pub pointers: u64,
    /// Images.
    pub images: u64,
    /// Manifests read.
    pub manifests: u64,
    /// Packs.
    pub packs: u64,
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read and hashed.
    pub bytes: u64,
    /// Variants decoded and compared with the files that they were made of.
    pub variants: u64,
    /// How many things are missing.
    pub missing: u64,
    /// How many are damaged.
    pub damaged: u64,
    /// How many are referred to by nothing.
    pub unreferenced: u64,
    /// The findings, at most 1,000 of each kind.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is missing or damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing == 0 && self.damaged == 0
    }

    fn add(&mut self, kind: Kind, what: &'static str, name: impl ToString, detail: impl Into<String>) {
        let count = match kind {
            Kind::Missing => &mut self.missing,
            Kind::Damaged => &mut self.damaged,
            Kind::Unreferenced => &mut self.unreferenced,
        };
        *count += 1;
        if *count <= NAMED as u64 {
            self.findings.push(Finding { kind, what, name: name.to_string(), detail: detail.into() });
        }
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Blobs read.
    pub blobs: u64,
    /// Blobs to read.
    pub of: u64,
}

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A store failed while it was read.
    #[error("the check broke off")]
    Store(#[from] StoreError),
}

impl From<MetaError> for FsckError {
    fn from(error: MetaError) -> Self {
        Self::Store(error.into())
    }
}

/// Checks the data folder at `data`, which no server may have open, and its objects, where it remembers them to be.
///
/// # Errors
///
/// Where the folder cannot be opened or a store fails. What it finds is in the report, not an error.
#[cfg(feature = "rocksdb")]
pub async fn run(data: &Path, progress: impl FnMut(Progress)) -> Result<Report, FsckError> {
    run_on(data, &StorageOptions::default(), progress).await
}

/// The same, with what `storage` says of where the objects are and how they are reached. Everything is read from the store
/// itself, and nothing from the cache in front of it.
///
/// # Errors
///
/// As [`run`].
#[cfg(feature = "rocksdb")]
pub async fn run_on(
    data: &Path,
    storage: &StorageOptions,
    progress: impl FnMut(Progress),
) -> Result<Report, FsckError> {
    with_stopped(data, storage, async |meta, blobs| check(meta, blobs, progress).await).await
}

/// Opens the stores of a data folder that no server has open, for `work`.
#[cfg(feature = "rocksdb")]
pub(crate) async fn with_stopped<T>(
    data: &Path,
    storage: &StorageOptions,
    work: impl AsyncFnOnce(&dyn MetaStore, &BlobStore) -> Result<T, FsckError>,
) -> Result<T, FsckError> {
    let opened = Box::pin(open_stores(data, Purpose::Check, Clock::system(), storage)).await;
    let (folder, meta, blobs) = opened?;
    let done = work(&*meta, &blobs).await;
    meta.close().await;
    // Neither a check nor a repair must hide from the next start that the last one was interrupted.
    if !folder.was_interrupted() {
        folder.close().map_err(|source| OpenError::Io { action: "write", path: data.join("LOCK"), source })?;
    }
    done
}

/// Checks what two stores hold. `run` does so for a data folder; tests do for any.
///
/// # Errors
///
/// Where a store fails.
pub async fn check(
    meta: &dyn MetaStore,
    blobs: &BlobStore,
    progress: impl FnMut(Progress),
) -> Result<Report, FsckError> {
    let mut check = Check {
        meta,
        blobs,
        report: Report::default(),
        images: HashMap::new(),
        named: BTreeMap::new(),
        variants: HashSet::new(),
        lists: HashSet::new(),
    };
    check.check_images().await?;
    check.check_pointers().await?;
    check.check_pins().await?;
    check.check_domains().await?;
    let plans = check.check_plans().await?;
    check.check_lists().await?;
    check.check_blobs(progress).await?;
    check.check_objects(&plans).await?;
    check.report.findings.sort_by(|a, b| (a.kind, a.what, &a.name).cmp(&(b.kind, b.what, &b.name)));
    Ok(check.report)
}

/// The pack that an object is named for.
pub(crate) fn pack_named(object: &object_store::path::Path) -> Option<PackId> {
    object.filename()?.parse().ok()
}

struct Check<'s> {
    meta: &'s dyn MetaStore,
    blobs: &'s BlobStore,
    report: Report,
    /// Every manifest that an image names.
    images: HashMap<ManifestId, HashSet<TeamId>>,
    /// Every blob that a manifest names, with its size and the teams that must have it.
    named: BTreeMap<BlobHash, Named>,
    /// Every variant that a list or the index names.
    variants: HashSet<(VariantKey, BlobHash)>,
    /// Every list that a manifest has.
    lists: HashSet<VariantListId>,
}

#[derive(Default)]
struct Named {
    size: Option<u64>,
    teams: HashSet<TeamId>,
    /// Named by an open plan only, which may well miss it.
    planned: bool,
}

/// Whether nothing leads to a project any more, so that nothing of it has to be there.
fn is_deleted(project: &Stored<ProjectRecord>) -> bool {
    project.record.deleted_at.is_some()
}

impl Check<'_> {
    async fn check_images(&mut self) -> Result<(), FsckError> {
        for (key, item) in self.meta.snapshot(records::images::prefix()).await?.items {
            let owner = projects::project_in(&key)?;
            let Some(image) = self.readable::<ImageRecord>(&key, &item, "image") else { continue };
            let project = projects::row(self.meta, owner).await?;
            if image.collected_at.is_some() || project.as_ref().is_some_and(is_deleted) {
                continue;
            }
            self.report.images += 1;
            self.images.entry(image.manifest).or_default().insert(owner.team);
            if project.is_none() {
                self.report.add(Kind::Missing, "record", owner.project, "an image's project has no record");
            }
            let manifest = match self.blobs.manifest(&image.manifest).await {
                Ok(manifest) => manifest,
                Err(ReadError::Missing) => {
                    self.report.add(Kind::Missing, "manifest", image.manifest, format!("{} names it", image.image));
                    continue;
                }
                Err(error @ (ReadError::Damaged | ReadError::Manifest(_))) => {
                    self.report.add(Kind::Damaged, "manifest", image.manifest, error.to_string());
                    continue;
                }
                Err(error) => return Err(StoreError::from(error).into()),
            };
            self.report.manifests += 1;
            if manifest.len() as u64 != image.files || manifest.content_hash() != image.content_hash {
                self.report.add(Kind::Damaged, "image", image.image, "its record does not match its manifest");
            }
            self.name_blobs(&manifest, owner.team);
        }
        Ok(())
    }

    /// The record, or a finding that it cannot be read.
    fn readable<T: DeserializeOwned>(&mut self, key: &Key, item: &Item, what: &'static str) -> Option<T> {
        match decode(item, what) {
            Ok(stored) => Some(stored.record),
            Err(error) => {
                self.report.add(Kind::Damaged, "record", crate::hex::encode(key), error.to_string());
                None
            }
        }
    }

    fn name_blobs(&mut self, manifest: &Manifest, team: TeamId) {
        for entry in manifest.entries() {
            let named = self.named.entry(entry.blob).or_default();
            named.teams.insert(team);
            named.planned = false;
            match named.size {
                Some(size) if size != entry.size => {
                    self.report.add(Kind::Damaged, "blob", entry.blob, "manifests give it two sizes");
                }
                _ => named.size = Some(entry.size),
            }
        }
    }

    async fn check_pointers(&mut self) -> Result<(), FsckError> {
        for (key, item) in self.meta.snapshot(projects::prefix()).await?.items {
            let Some(project) = self.readable::<ProjectRecord>(&key, &item, "project") else { continue };
            if project.deleted_at.is_some() {
                continue;
            }
            if projects::find_by_name(self.meta, &project.name).await? != Some(project.reference()) {
                self.report.add(Kind::Damaged, "record", &project.name, "the project's name does not lead to it");
            }
        }
        for (key, item) in self.meta.snapshot(records::environments::prefix()).await?.items {
            let project = projects::project_in(&key)?;
            if projects::row(self.meta, project).await?.as_ref().is_some_and(is_deleted) {
                continue;
            }
            let Some(environment) = self.readable::<EnvironmentRecord>(&key, &item, "environment") else { continue };
            let name = format!("{} of {}", environment.name, project.project);
            let releases = records::releases::count(self.meta, project, &environment.name).await?;
            if releases != environment.number {
                let detail = format!("it has {releases} releases and its number is {}", environment.number);
                self.report.add(Kind::Damaged, "environment", &name, detail);
            }
            let last = records::releases::get(self.meta, project, &environment.name, environment.number).await?;
            let shown = environment.shows.as_ref().map(|shown| shown.image);
            let expires_at = environment.shows.as_ref().and_then(|shown| shown.expires_at);
            match last {
                None => self.report.add(Kind::Missing, "record", &name, "its last release has no record"),
                Some(last) if last.record.image != shown => {
                    self.report.add(Kind::Damaged, "environment", &name, "it does not show what was last released");
                }
                Some(last) if last.record.expires_at != expires_at => {
                    self.report.add(Kind::Damaged, "environment", &name, "it does not end when its last release says");
                }
                Some(_) => {}
            }
            let Some(shown) = environment.shows else { continue };
            self.report.pointers += 1;
            match records::images::get(self.meta, project, shown.image).await? {
                None => self.report.add(Kind::Missing, "image", shown.image, format!("{name} shows it")),
                Some(image) if image.record.manifest != shown.manifest || image.record.collected_at.is_some() => {
                    self.report.add(
                        Kind::Damaged,
                        "image",
                        shown.image,
                        format!("{name} shows another manifest of it"),
                    );
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The images that are pinned: they are to be there.
    async fn check_pins(&mut self) -> Result<(), FsckError> {
        for (key, item) in self.meta.snapshot(records::pins::prefix()).await?.items {
            let project = projects::project_in(&key)?;
            if projects::row(self.meta, project).await?.as_ref().is_some_and(is_deleted) {
                continue;
            }
            let Some(pin) = self.readable::<PinRecord>(&key, &item, "pin") else { continue };
            let image = records::images::get(self.meta, project, pin.image).await?;
            if image.is_none_or(|image| image.record.collected_at.is_some()) {
                self.report.add(Kind::Missing, "image", pin.image, "it is pinned");
            }
        }
        Ok(())
    }

    /// The plans that are open: what they name is not garbage, and may be missing.
    async fn check_plans(&mut self) -> Result<HashSet<PlanId>, FsckError> {
        let mut open = HashSet::new();
        for (key, item) in self.meta.snapshot(records::plans::prefix()).await?.items {
            let Some(plan) = self.readable::<PlanRecord>(&key, &item, "plan") else { continue };
            if plan.state != PlanState::Open {
                continue;
            }
            open.insert(plan.id);
            match self.blobs.plan(&plan.id).await {
                Ok(bytes) => match crate::plan::hashes_of(bytes) {
                    Some(hashes) => {
                        for hash in hashes {
                            self.named.entry(hash).or_insert_with(|| Named { planned: true, ..Named::default() });
                        }
                    }
                    None => self.report.add(Kind::Damaged, "plan", plan.id, "its list of files cannot be read"),
                },
                Err(object_store::Error::NotFound { .. }) => {
                    self.report.add(Kind::Missing, "plan", plan.id, "its list of files is not there");
                }
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Ok(open)
    }

    async fn check_blobs(&mut self, mut progress: impl FnMut(Progress)) -> Result<(), FsckError> {
        let mut rows: HashMap<BlobHash, BlobRecord> = HashMap::new();
        let mut after = None;
        loop {
            let page = self.blobs.index().scan(after, PAGE).await.map_err(StoreError::from)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            rows.extend(page);
        }
        let named = std::mem::take(&mut self.named);
        for (hash, named) in &named {
            if named.planned {
                continue;
            }
            let Some(row) = rows.get(hash) else {
                self.report.add(Kind::Missing, "blob", hash, "a manifest names it and the index does not have it");
                continue;
            };
            if named.size != Some(row.size) {
                self.report.add(Kind::Damaged, "blob", hash, "manifest and index give it two sizes");
            }
            for team in &named.teams {
                let owned = self.blobs.index().owned(*team, &[*hash]).await.map_err(StoreError::from)?;
                if owned != [true] {
                    self.report.add(Kind::Missing, "blob", hash, format!("{team} uses it and is not said to have it"));
                }
            }
        }
        let variants = self.check_made(&rows).await?;
        let of = rows.len() as u64;
        let blobs = self.blobs;
        let mut read = stream::iter(&rows)
            .map(|(hash, row)| async move { (hash, row, blobs.digest(hash, row).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((hash, row, digests)) = read.next().await {
            match digests {
                Ok(digests) => {
                    self.report.bytes += digests.size;
                    let right = digests.blake3 == *hash
                        && digests.size == row.size
                        && digests.sha256 == row.sha256
                        && digests.is_utf8 == row.is_utf8;
                    if !right {
                        self.report.add(Kind::Damaged, "blob", hash, "its bytes are not those that were stored");
                    }
                }
                Err(ReadError::Missing) => {
                    self.report.add(Kind::Missing, "blob", hash, "the index has it and its object is not there");
                }
                Err(ReadError::Damaged) => self.report.add(Kind::Damaged, "blob", hash, "its object is too short"),
                Err(error) => return Err(StoreError::from(error).into()),
            }
            if !named.contains_key(hash) && !variants.contains(hash) {
                self.report.add(Kind::Unreferenced, "blob", hash, "no image and no open plan names it");
            }
            self.report.blobs += 1;
            progress(Progress { blobs: self.report.blobs, of });
        }
        drop(read);
        self.check_variants(&rows).await?;
        self.find_unindexed(&rows).await?;
        self.check_packs(&rows).await
    }

    /// The packs: those that were cut are no packs, and those that no row points into were never acknowledged.
    async fn check_packs(&mut self, rows: &HashMap<BlobHash, BlobRecord>) -> Result<(), FsckError> {
        let mut used: HashMap<PackId, u64> = HashMap::new();
        for row in rows.values() {
            if let Location::Pack { pack, .. } = row.location {
                *used.entry(pack).or_default() += 1;
            }
        }
        let objects = self.blobs.objects().clone();
        let mut list = objects.list(Some(&blob::PACKS.into()));
        while let Some(object) = list.try_next().await.map_err(StoreError::from)? {
            let Some(pack) = pack_named(&object.location) else {
                self.report.add(Kind::Unreferenced, "file", &object.location, "it is no pack");
                continue;
            };
            let used = used.remove(&pack).unwrap_or(0);
            let kind = if used > 0 { Kind::Damaged } else { Kind::Unreferenced };
            self.report.packs += 1;
            match read_directory(&*objects, &pack).await {
                Ok(rows) if rows.len() as u64 >= used => {
                    if used == 0 {
                        self.report.add(kind, "pack", pack, "the index has nothing of it");
                    }
                }
                Ok(_) => self.report.add(kind, "pack", pack, "it has less in it than the index says"),
                Err(PackError::Store(error)) => return Err(StoreError::from(error).into()),
                // Where the index has something of it, its blobs are named above, unless their bytes are still right.
                Err(error) => self.report.add(kind, "pack", pack, error.to_string()),
            }
        }
        for (pack, blobs) in used {
            self.report.add(Kind::Missing, "pack", pack, format!("{blobs} blobs of the index are in it"));
        }
        Ok(())
    }

    /// Objects under `blobs/` that the index does not have: uploads that were never acknowledged.
    async fn find_unindexed(&mut self, rows: &HashMap<BlobHash, BlobRecord>) -> Result<(), FsckError> {
        let objects = self.blobs.objects().clone();
        let mut list = objects.list(Some(&blob::BLOBS.into()));
        while let Some(object) = list.try_next().await.map_err(StoreError::from)? {
            let name = object.location.filename().unwrap_or_default();
            let indexed = name.parse().is_ok_and(|hash: BlobHash| {
                rows.get(&hash).is_some_and(|row| matches!(row.location, Location::Single))
            });
            if !indexed {
                self.report.add(Kind::Unreferenced, "file", &object.location, "the index does not have it");
            }
        }
        Ok(())
    }

    async fn check_objects(&mut self, plans: &HashSet<PlanId>) -> Result<(), FsckError> {
        let objects = self.blobs.objects().clone();
        let mut list = objects.list(Some(&blob::MANIFESTS.into()));
        while let Some(object) = list.try_next().await.map_err(StoreError::from)? {
            let name = object.location.filename().unwrap_or_default();
            if !name.parse().is_ok_and(|id| self.images.contains_key(&id)) {
                self.report.add(Kind::Unreferenced, "manifest", &object.location, "no image names it");
            }
        }
        let mut list = objects.list(Some(&blob::VARIANTS.into()));
        while let Some(object) = list.try_next().await.map_err(StoreError::from)? {
            let name = object.location.filename().unwrap_or_default();
            if !name.parse().is_ok_and(|id| self.lists.contains(&id)) {
                self.report.add(Kind::Unreferenced, "list", &object.location, "no manifest has it");
            }
        }
        let mut list = objects.list(Some(&blob::PLANS.into()));
        while let Some(object) = list.try_next().await.map_err(StoreError::from)? {
            let name = object.location.filename().unwrap_or_default();
            if !name.parse().is_ok_and(|id| plans.contains(&id)) {
                self.report.add(Kind::Unreferenced, "plan", &object.location, "no open plan has it");
            }
        }
        Ok(())
    }
}
