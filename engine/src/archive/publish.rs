//! Publishing an archive: its list of files becomes a plan, what the plan lacks is read out of the archive, and the rest
//! is the ordinary way of commit and release.
//!
//! The archive is read to its end before the plan begins, so one that is refused leaves nothing: no plan, no project, no
//! blob.

use std::cell::Cell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Archive, ArchiveError, ArchiveLimits, FileContent, Format, ListOptions, Listing, Memory};
use crate::account::Principal;
use crate::blob::pack::{LARGEST_PACKED, MOST_PACKED};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::hash::BlobHash;
use crate::id::PlanId;
use crate::manifest::Settings;
use crate::meta::MetaError;
use crate::name::{EnvironmentName, ProjectName};
use crate::plan::{BatchBlob, NewPlan, PlanError, PlanView, PlannedFile, UploadError, check_texts};
use crate::publish::{
    CommitError, CommitRequest, Committed, ProjectSelector, ReleaseError, ReleaseRequest, Released, site_diagnostics,
};
use crate::records::idempotency::IdempotencyKey;
use crate::records::images::GitFacts;

/// How much of a file that is too large for a batch is handed over at once, and how many such pieces wait.
const PIECE: usize = 128 << 10;
const PIECES: usize = 4;
/// Such files stored at a time.
const LARGE_AT_ONCE: usize = 4;
/// Smaller files that are read ahead.
const SMALL_AHEAD: usize = 64;
/// How long a batch waits for its next file. What is read next may be a large one, which waits for memory that batches
/// hold, so a batch that waited for it could wait for ever.
const PAUSE: Duration = Duration::from_secs(1);

/// An archive that is to be published and shown.
#[derive(Clone, Debug)]
pub struct ArchivePublish {
    /// The project; its first publish makes it.
    pub project: ProjectName,
    /// The environment that is to show it.
    pub environment: EnvironmentName,
    /// How its files become the site's.
    pub options: ListOptions,
    /// Why it is published.
    pub message: Option<String>,
    /// Where its content comes from.
    pub git: Option<GitFacts>,
    /// Whether diagnostics of the site refuse the commit.
    pub strict: bool,
}

/// An archive that was published and is shown.
#[derive(Clone, Debug)]
pub struct ArchivePublished {
    /// How it was packed.
    pub format: Format,
    /// What was committed.
    pub committed: Committed,
    /// What was released.
    pub released: Released,
    /// Blobs that the team did not have.
    pub new: u64,
    /// Files that needed none of them.
    pub reused: u64,
    /// Entries that are files or links and were not published.
    pub ignored: u64,
    /// Links that were followed.
    pub links_followed: u64,
}

/// Why an archive was not published.
#[derive(Debug, thiserror::Error)]
pub enum ArchivePublishError {
    /// It was refused, and nothing of it was stored.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is no plan of it.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A blob of it was not stored.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// It was not committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It was committed and is not shown.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

impl Engine {
    /// Says what of a publish can be refused before its archive is there.
    ///
    /// # Errors
    ///
    /// Where its texts are too long, the project is another team's, or the environment is a preview.
    pub async fn check_archive_publish(
        &self,
        caller: &Principal,
        publish: &ArchivePublish,
    ) -> Result<(), ArchivePublishError> {
        check_texts(Settings::default(), publish.git.as_ref(), publish.message.as_deref(), self.limits())?;
        if !caller.access.moves(&publish.environment) {
            return Err(ReleaseError::OutOfScope.into());
        }
        let found = self.project_called(caller, &publish.project).await.map_err(PlanError::from)?;
        if caller.access.project.is_some() && found.is_none_or(|found| !self.reaches(caller, found)) {
            return Err(PlanError::OutOfScope.into());
        }
        match found {
            Some(project) if project.team != caller.team => Err(PlanError::ProjectTaken.into()),
            Some(project) => Ok(self.check_lasting(project, &publish.environment).await?),
            None => Ok(()),
        }
    }

    /// Publishes the archive in `file` and lets an environment show it.
    ///
    /// The same `key` with the same content gives the same commit and release. `memory` is held until this is answered.
    ///
    /// # Errors
    ///
    /// Where the archive is refused nothing was recorded or stored. Where a later step fails, what is stored stays for
    /// the next try, and nothing is shown that was not before.
    pub async fn publish_archive<M: Memory + 'static>(
        &self,
        caller: &Principal,
        file: File,
        publish: ArchivePublish,
        key: Option<&IdempotencyKey>,
        mut memory: M,
    ) -> Result<ArchivePublished, ArchivePublishError> {
        let (limits, options) = (ArchiveLimits::from(self.limits()), publish.options.clone());
        let publish_strictly = publish.strict;
        let reading = move || {
            let mut archive = Archive::open(file, limits)?;
            let listing = archive.list(&options, &mut memory)?;
            if publish_strictly {
                refuse_diagnostics(&listing)?;
            }
            Ok::<_, ArchivePublishError>((archive, listing, memory))
        };
        let (archive, listing, memory) = join(tokio::task::spawn_blocking(reading).await)??;
        let (format, ignored, links_followed) = (archive.format(), listing.ignored, listing.links_followed);
        let new_plan = NewPlan {
            project: publish.project.clone(),
            files: listing.files.iter().map(planned).collect(),
            git: publish.git,
            message: publish.message.clone(),
            settings: Settings::default(),
        };
        let step = |step| key.map(|key| key.derived(step));
        let view = self.plan(caller, new_plan, step("plan").as_ref()).await?;
        let plan = view.id;
        let committed = async {
            self.store_missing(caller, plan, archive, listing, &view).await?;
            let request = CommitRequest { plan, message: publish.message.clone(), strict: publish.strict };
            let committed = self.commit(caller, request, step("commit").as_ref()).await?;
            Ok::<_, ArchivePublishError>(committed)
        };
        let committed: Committed = match committed.await {
            Ok(committed) => committed,
            Err(error) => {
                // With a key the next try goes on with this plan; without one nobody knows it.
                if key.is_none()
                    && let Err(error) = self.close_plan(caller, plan).await
                {
                    tracing::warn!(%error, "the plan of an archive could not be closed; it expires");
                }
                return Err(error);
            }
        };
        let request = ReleaseRequest {
            project: ProjectSelector::Name(publish.project),
            environment: publish.environment,
            image: Some(committed.image),
            expected: None,
            message: publish.message,
        };
        let released = self.release(caller, request, step("release").as_ref()).await?;
        drop(memory);
        Ok(ArchivePublished {
            format,
            committed,
            released,
            new: view.missing.len() as u64,
            reused: view.reusable,
            ignored,
            links_followed,
        })
    }

    /// Stores what the plan lacks, out of the archive: one thread reads ahead, small files go into batches, and several
    /// larger ones are stored at a time.
    async fn store_missing(
        &self,
        caller: &Principal,
        plan: PlanId,
        archive: Archive<File>,
        listing: Listing,
        view: &PlanView,
    ) -> Result<(), ArchivePublishError> {
        if view.missing.is_empty() {
            return Ok(());
        }
        let missing = view.missing.iter().map(|blob| blob.hash).collect();
        let (small, small_ones) = mpsc::channel(SMALL_AHEAD);
        let (large, large_ones) = mpsc::channel(LARGE_AT_ONCE);
        let small_size = LARGEST_PACKED.min(self.limits().batch_size);
        let mut found = Found { missing, small_size, small, large };
        let reading = tokio::task::spawn_blocking(move || found.read(archive, &listing));
        // Where one of the two fails it takes nothing any more, so reading ends, and with it the other.
        let (small_stored, large_stored) =
            futures_util::join!(self.store_small(caller, plan, small_ones), self.store_large(caller, plan, large_ones));
        // A file that could not be read arrived cut off, so what reading says comes first.
        join(reading.await)??;
        small_stored?;
        large_stored?;
        Ok(())
    }

    /// Stores small files, as many in a batch as it takes.
    async fn store_small(
        &self,
        caller: &Principal,
        plan: PlanId,
        mut found: mpsc::Receiver<BatchBlob>,
    ) -> Result<(), UploadError> {
        let mut next = None;
        loop {
            if next.is_none() {
                next = found.recv().await;
            }
            if next.is_none() {
                return Ok(());
            }
            let (mut blobs, mut bytes) = (self.limits().batch_blobs.clamp(1, MOST_PACKED), self.limits().batch_size);
            let mut pause = Box::pin(tokio::time::sleep(PAUSE));
            let batch = stream::poll_fn(|context| {
                if next.is_none() {
                    next = match found.poll_recv(context) {
                        Poll::Ready(found) => found,
                        Poll::Pending => {
                            ready!(pause.as_mut().poll(context));
                            return Poll::Ready(None);
                        }
                    };
                    pause.as_mut().reset(Instant::now() + PAUSE);
                }
                // What does not fit begins the next batch.
                let fitting = next.take_if(|blob| blobs > 0 && blob.bytes.len() as u64 <= bytes);
                if let Some(blob) = &fitting {
                    blobs -= 1;
                    bytes -= blob.bytes.len() as u64;
                }
                Poll::Ready(fitting.map(Ok::<_, UploadError>))
            });
            let stored = self.upload_batch(caller, plan, batch).await?;
            if let Some((_, error)) = stored.failed.into_iter().next() {
                return Err(error);
            }
        }
    }

    /// Stores larger files as they are read. Where one fails, those that are under way come to their own ends: whoever is
    /// dropped leaves its parts in a store that is far away.
    async fn store_large(
        &self,
        caller: &Principal,
        plan: PlanId,
        mut found: mpsc::Receiver<LargeBlob>,
    ) -> Result<(), UploadError> {
        let store = |LargeBlob { hash, size, mut pieces }| {
            let body =
                stream::poll_fn(move |context| pieces.poll_recv(context).map(|piece| piece.map(Ok::<_, Infallible>)));
            self.upload(caller, plan, hash, Some(size), body)
        };
        let has_failed = AtomicBool::new(false);
        let found = stream::poll_fn(|context| match has_failed.load(Ordering::Relaxed) {
            true => Poll::Ready(None),
            false => found.poll_recv(context),
        });
        let mut stored = std::pin::pin!(found.map(store).buffer_unordered(LARGE_AT_ONCE));
        let mut result = Ok(());
        while let Some(ended) = stored.next().await {
            if let (Err(error), Ok(())) = (ended, &result) {
                has_failed.store(true, Ordering::Relaxed);
                result = Err(error);
            }
        }
        result
    }
}

/// A blob that is too large for a batch, on its way from the archive to the store.
struct LargeBlob {
    hash: BlobHash,
    size: u64,
    pieces: mpsc::Receiver<Bytes>,
}

/// Where the blobs go that are found in an archive.
struct Found {
    missing: HashSet<BlobHash>,
    /// Up to how many bytes a file goes into a batch.
    small_size: u64,
    small: mpsc::Sender<BatchBlob>,
    large: mpsc::Sender<LargeBlob>,
}

impl Found {
    /// Reads the blobs that are missing and passes them on, until all are found or nobody takes them any more.
    fn read(&mut self, mut archive: Archive<File>, listing: &Listing) -> Result<(), ArchiveError> {
        let Self { missing, small_size, small, large } = self;
        let left = Cell::new(missing.len());
        let wants = |hash: &BlobHash| missing.remove(hash);
        archive.contents(listing, wants, |hash, content| {
            left.set(left.get() - 1);
            let taken = if content.size() <= *small_size {
                small.blocking_send(BatchBlob { hash, bytes: whole(content)? }).is_ok()
            } else {
                pass_on(hash, content, large)?
            };
            Ok(if taken && left.get() > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
    }
}

/// Passes a large file on in pieces; answers whether anybody took them.
fn pass_on(
    hash: BlobHash,
    content: &mut FileContent<'_>,
    large: &mpsc::Sender<LargeBlob>,
) -> Result<bool, ArchiveError> {
    let (sender, pieces) = mpsc::channel(PIECES);
    if large.blocking_send(LargeBlob { hash, size: content.size(), pieces }).is_err() {
        return Ok(false);
    }
    loop {
        let piece = piece(content, PIECE)?;
        if piece.is_empty() {
            return Ok(true);
        }
        if sender.blocking_send(piece.into()).is_err() {
            return Ok(false);
        }
    }
}

fn whole(content: &mut FileContent<'_>) -> Result<Bytes, ArchiveError> {
    let size = usize::try_from(content.size()).expect("a small file's size fits");
    piece(content, size).map(Bytes::from)
}

/// The next bytes of a file, at most `most`; fewer at its end only.
fn piece(content: &mut FileContent<'_>, most: usize) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match content.read(&mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Refuses a site that has diagnostics before anything of it is recorded.
fn refuse_diagnostics(listing: &Listing) -> Result<(), CommitError> {
    match site_diagnostics(listing.files.iter().map(|file| file.path.as_str())).len() {
        0 => Ok(()),
        count => Err(CommitError::Strict { count }),
    }
}

fn planned(file: &super::ArchiveFile) -> PlannedFile {
    PlannedFile { path: file.path.clone(), blob: file.blob, size: Some(file.size), content_type: None }
}

/// What a task answered. It panics where the task did; that the runtime is ending is a store that is closed.
fn join<T>(ended: Result<T, tokio::task::JoinError>) -> Result<T, PlanError> {
    match ended {
        Ok(value) => Ok(value),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Meta(MetaError::Closed).into()),
        },
    }
}
