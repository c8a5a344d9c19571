//! Filling a store in bulk: an image is copied to many new projects, and each shows it from then on.
//!
//! The rules and the rows are those of a publish: a project, a commit and a release with their numbers, audit rows and
//! events. What differs is how often a disk is waited for. Projects are made in batches: first all objects of a batch,
//! made durable by one sync, then one checked commit for each project, many at a time, which the store merges. So a
//! project is there with all that it shows or not at all, and an import that broke off goes on when it is made again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::account::Principal;
use crate::blob::{Digests, Hasher};
use crate::content_type;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::hash::ManifestId;
use crate::id::ImageId;
use crate::manifest::{Manifest, ManifestBuilder};
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::name::{EnvironmentName, ProjectName};
use crate::path::SitePath;
use crate::plan::{ATTEMPTS, pause};
use crate::pointers::ProjectRef;
use crate::projects::new_project;
use crate::publish::{Built, MoveRows, NewCommit, ProjectSelector};
use crate::records::images::ImageRecord;
use crate::records::releases::{Action, ReleaseRecord};
use crate::records::{self, Unknown};

/// Projects whose objects become durable together.
const BATCH: usize = 4096;
/// Commits in flight: as many as the embedded store merges into one.
const AT_ONCE: usize = 512;

/// An image that is to be copied to new projects.
#[derive(Clone, Debug)]
pub struct Copies {
    /// The project that has the image.
    pub project: ProjectSelector,
    /// The image.
    pub image: ImageId,
    /// The environment of each new project that shows it.
    pub environment: EnvironmentName,
    /// A file of the image that differs in each copy: its bytes are the name of the copy's project and a newline.
    pub own_file: Option<SitePath>,
    /// Why.
    pub message: Option<String>,
}

/// How far copying is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Projects that were made.
    pub made: u64,
    /// Projects that were there, and were left as they are.
    pub existing: u64,
}

/// Why an image was not copied. What was copied before stays.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no such project, or it is another team's.
    #[error("there is no such project")]
    ProjectNotFound,
    /// The project has no such image.
    #[error("the project has no such image")]
    ImageNotFound,
    /// The image is no longer kept.
    #[error("the image is no longer kept")]
    ImageCollected,
    /// The file that is to differ is not there.
    #[error("the image has no file `{0}`")]
    NoSuchFile(SitePath),
    /// The message is too long.
    #[error("a message has more than {limit} bytes")]
    MessageTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(CopyError);

impl Engine {
    /// Makes a project for each of `names`, and lets it show a copy of an image. A name that somebody has is passed over.
    ///
    /// `progress` is told after each batch of projects. When this returns, the last of them is served by this process.
    ///
    /// # Errors
    ///
    /// Where there is nothing to copy, or a store fails.
    pub async fn copy_to_projects(
        &self,
        caller: &Principal,
        copies: &Copies,
        names: impl IntoIterator<Item = ProjectName>,
        mut progress: impl FnMut(Copied),
    ) -> Result<Copied, CopyError> {
        let limit = self.limits().message_length;
        if copies.message.as_ref().is_some_and(|message| message.len() > limit) {
            return Err(CopyError::MessageTooLong { limit });
        }
        let project = self.find_project(caller, &copies.project).await?.ok_or(CopyError::ProjectNotFound)?;
        let image = records::images::get(self.meta(), project, copies.image).await?;
        let image = image.ok_or(CopyError::ImageNotFound)?.record;
        if image.collected_at.is_some() {
            return Err(CopyError::ImageCollected);
        }
        let manifest = Arc::new(self.blobs().manifest(&image.manifest).await?);
        if let Some(path) = &copies.own_file
            && manifest.get(path).is_none_or(|entry| entry.hidden)
        {
            return Err(CopyError::NoSuchFile(path.clone()));
        }
        // Copies are not counted one by one: who needs the numbers counts all of them.
        self.forget_usage(caller.team).await?;
        let source = Source { project, image, manifest };
        let mut names = names.into_iter();
        let mut copied = Copied::default();
        loop {
            let batch: Vec<ProjectName> = names.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            let some = self.copy_batch(caller, copies, &source, batch).await?;
            copied.made += some.made;
            copied.existing += some.existing;
            progress(copied);
        }
        self.catch_up_with_all().await?;
        Ok(copied)
    }

    async fn copy_batch(
        &self,
        caller: &Principal,
        copies: &Copies,
        source: &Source,
        names: Vec<ProjectName>,
    ) -> Result<Copied, CopyError> {
        let keys: Vec<_> = names.iter().map(records::projects::name_key).collect();
        let taken = self.meta().get(&keys).await?;
        let all = names.len() as u64;
        let free: Vec<_> =
            names.into_iter().zip(taken).filter_map(|(name, taken)| taken.is_none().then_some(name)).collect();
        if free.is_empty() {
            return Ok(Copied { made: 0, existing: all });
        }
        let built = match &copies.own_file {
            None => vec![Built::of(&source.image); free.len()],
            Some(path) => self.build_copies(caller, source, path, &free).await?,
        };
        let first = self.take_project_numbers(free.len() as u64).await?;
        let manifests: BTreeSet<ManifestId> = built.iter().map(|built| built.manifest).collect();
        let manifests: Vec<_> = manifests.into_iter().collect();
        let wanted: HashSet<_> = self.knows_no_variants(&manifests).await?.into_iter().collect();
        let made = stream::iter(free.into_iter().zip(built).zip(first..))
            .map(|((name, built), number)| {
                let wants_variants = wanted.contains(&built.manifest);
                self.copy_one(caller, copies, source, OneCopy { name, number, built, wants_variants })
            })
            .buffer_unordered(AT_ONCE)
            .try_fold(0, |made, new| std::future::ready(Ok(made + u64::from(new))))
            .await?;
        Ok(Copied { made, existing: all - made })
    }

    /// Takes the next `count` numbers for projects; answers the first. One that is not used is nobody's.
    async fn take_project_numbers(&self, count: u64) -> Result<u64, CopyError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let (commit, last) = self.count_projects(count).await?;
            if let Outcome::Done { .. } = self.meta().commit(commit).await? {
                return Ok(last + 1 - count);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Makes the manifests of copies that have a file of their own, and stores all of it, durably.
    async fn build_copies(
        &self,
        caller: &Principal,
        source: &Source,
        path: &SitePath,
        names: &[ProjectName],
    ) -> Result<Vec<Built>, CopyError> {
        let (manifest, path, names) = (Arc::clone(&source.manifest), path.clone(), names.to_vec());
        let made = tokio::task::spawn_blocking(move || {
            names.iter().map(|name| own_copy(&manifest, &path, name)).collect::<Result<Vec<_>, _>>()
        });
        let made = made.await.map_err(|_| MetaError::Closed)??;
        let mut built = Vec::with_capacity(made.len());
        let (mut blobs, mut manifests) = (Vec::with_capacity(made.len()), Vec::with_capacity(made.len()));
        for copy in made {
            built.push(copy.built);
            blobs.push(copy.own);
            manifests.push((copy.built.manifest, copy.bytes));
        }
        self.blobs().put_all(caller.team, blobs, manifests).await?;
        Ok(built)
    }

    /// Makes one project that shows a copy, by one checked commit; answers whether it is new.
    async fn copy_one(
        &self,
        caller: &Principal,
        copies: &Copies,
        source: &Source,
        copy: OneCopy,
    ) -> Result<bool, CopyError> {
        let OneCopy { name, number, built, wants_variants } = copy;
        let name_key = records::projects::name_key(&name);
        let source_key = records::images::key(source.project, source.image.image);
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let project = new_project(caller, name.clone(), number, now);
            let commit = Commit::new().check(source_key.clone(), Check::Exists);
            let commit = self.name_project(commit, caller, &project, Check::Absent);
            let new = NewCommit {
                project: &project,
                earlier: None,
                built: &built,
                message: copies.message.as_deref(),
                git: None,
                at: now,
            };
            let (commit, image) = self.record_commit(commit, caller, &new);
            let release = ReleaseRecord {
                number: 1,
                environment: copies.environment.clone(),
                action: Action::Release,
                image: Some(image.image),
                previous: None,
                at: now,
                user: caller.user,
                author: caller.name.clone(),
                message: copies.message.clone(),
                expires_at: None,
                unknown: Unknown::new(),
            };
            let rows = MoveRows { before: None, image: Some(&image), release: &release, last: 0 };
            let mut commit = self.record_move(commit, caller, project.reference(), rows);
            if wants_variants {
                let (key, value) = records::variants::want(&built.manifest, now);
                commit = commit.put(key, value);
            }
            match self.meta().commit(commit).await? {
                Outcome::Done { .. } => {
                    if wants_variants {
                        self.desk().hand_in(built.manifest);
                    }
                    return Ok(true);
                }
                Outcome::Refused { key } if key == name_key => return Ok(false),
                Outcome::Refused { key } if key == source_key => return Err(CopyError::ImageNotFound),
                // Another project's id begins like this one's: another id, then.
                Outcome::Refused { .. } => {}
            }
        }
        Err(StoreError::Contended.into())
    }
}

/// What is copied.
struct Source {
    project: ProjectRef,
    image: ImageRecord,
    manifest: Arc<Manifest>,
}

/// A copy that is to be made.
struct OneCopy {
    name: ProjectName,
    number: u64,
    built: Built,
    /// Whether nobody has said of its manifest that variants are wanted.
    wants_variants: bool,
}

/// A copy that has a file of its own.
struct OwnCopy {
    built: Built,
    /// The manifest.
    bytes: Bytes,
    own: (Digests, Bytes),
}

/// The manifest of `name`'s copy: that of the source, with other bytes at `path`.
fn own_copy(source: &Manifest, path: &SitePath, name: &ProjectName) -> Result<OwnCopy, MetaError> {
    let content = Bytes::from(format!("{name}\n"));
    let mut hasher = Hasher::default();
    hasher.update(&content);
    let digests = hasher.finish();
    let damaged = || MetaError::Damaged { what: "image's manifest" };
    let mut builder = ManifestBuilder::new(source.settings());
    let mut total_size = 0_u64;
    let mut hash = Vec::with_capacity(source.len());
    for entry in source.entries() {
        let own = entry.path == path.as_str();
        let (blob, size) = if own { (digests.blake3, digests.size) } else { (entry.blob, entry.size) };
        let file = SitePath::new(entry.path).map_err(|_| damaged())?;
        if entry.hidden {
            builder.add_hidden(file, blob, size, entry.content_type);
        } else if own {
            builder.add(file, blob, size, content_type::decide(path, None, digests.is_utf8));
        } else {
            builder.add(file, blob, size, entry.content_type);
        }
        total_size = total_size.saturating_add(size);
        hash.push((entry.path, blob));
    }
    let content_hash = crate::manifest::content_hash(hash, source.settings());
    let (manifest, bytes): (ManifestId, Bytes) = builder.finish().map_err(|_| damaged())?;
    let built = Built { manifest, content_hash, files: source.len() as u64, total_size };
    Ok(OwnCopy { built, bytes, own: (digests, content) })
}

impl Built {
    /// The manifest of an image that is there.
    fn of(image: &ImageRecord) -> Self {
        Self {
            manifest: image.manifest,
            content_hash: image.content_hash,
            files: image.files,
            total_size: image.total_size,
        }
    }
}
