//! Planning a publish: a list of files in, the blobs that have to be uploaded out; then the uploads.
//!
//! The plan is recorded before anything is looked up. From then on the blobs it counts on are leased to it: whoever
//! collects garbage reads plans first. `missing` answers only from blobs that the caller's own team has, so it tells
//! nothing of others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::account::Principal;
use crate::blob::{BlobRecord, BlobState, PutError};
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::hash::{BlobHash, ContentHash};
use crate::id::{ImageId, PlanId, TeamId, random_bytes};
use crate::limits::Limits;
use crate::manifest::{Profile, Settings};
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::name::ProjectName;
use crate::path::SitePath;
use crate::pointers::PointerEvent;
use crate::projects::ProjectError;
use crate::publish::Diagnostic;
use crate::records::idempotency::{IdempotencyKey, Known, Once};
use crate::records::images::GitFacts;
use crate::records::plans::{PlanRecord, PlanState};
use crate::records::{self, Stored, Unknown, encode};

mod batch;
mod body;
mod file_list;

pub use batch::{Batch, BatchBlob};

pub(crate) use body::{PlanBody, checked, hashes_of};
use body::{Prepared, prepare};

/// The longest id or branch of a git commit, in bytes.
const LONGEST_GIT_NAME: usize = 512;
/// How often a commit is tried again when what it checks changed meanwhile. Each time somebody else got on.
pub(crate) const ATTEMPTS: u32 = 64;

/// One file of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedFile {
    /// Where it is in the site.
    pub path: SitePath,
    /// Its bytes.
    pub blob: BlobHash,
    /// How many there are, where the publisher says so.
    pub size: Option<u64>,
    /// What the publisher takes it for.
    pub content_type: Option<String>,
}

/// A publish that somebody wants to begin.
#[derive(Clone, Debug)]
pub struct NewPlan {
    /// The project; the first plan makes it.
    pub project: ProjectName,
    /// Its files, in any order.
    pub files: Vec<PlannedFile>,
    /// Where the content comes from.
    pub git: Option<GitFacts>,
    /// Why it is published.
    pub message: Option<String>,
    /// The site's settings.
    pub settings: Settings,
}

/// A blob that has to be uploaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MissingBlob {
    /// The first path that has it.
    pub path: SitePath,
    /// Its name.
    pub hash: BlobHash,
    /// How many bytes it has, where the publisher says so.
    pub size: Option<u64>,
}

/// A plan as its publisher sees it.
#[derive(Clone, Debug)]
pub struct PlanView {
    /// The plan.
    pub id: PlanId,
    /// What the content is known by.
    pub content_hash: ContentHash,
    /// Where the plan stands.
    pub status: PlanState,
    /// What has to be uploaded, each hash once, in the order of paths.
    pub missing: Vec<MissingBlob>,
    /// How many files need no upload.
    pub reusable: u64,
    /// How many files there are.
    pub files: u64,
    /// The sum of the sizes that are known, in bytes.
    pub total_size: u64,
    /// The sum of the sizes of what is missing, as far as they are known, in bytes.
    pub missing_bytes: u64,
    /// Until when the plan is open.
    pub expires_at: UnixMillis,
    /// The image that it became.
    pub image: Option<ImageId>,
    /// What a commit will tell of the site; only where the plan is new.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Another team has a project of this name.
    #[error("the project's name is taken")]
    ProjectTaken,
    /// The token is for another project, and makes none.
    #[error("the token is for another project")]
    OutOfScope,
    /// The project could not be made.
    #[error(transparent)]
    Project(ProjectError),
    /// A site without files is a mistake more often than a wish.
    #[error("a plan has no files")]
    NoFiles,
    /// There are too many.
    #[error("a plan has more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: u64,
    },
    /// One of them is too large.
    #[error("a file has more than {limit} bytes")]
    FileTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// All of them are too large together.
    #[error("a publish has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Two files have one path.
    #[error("two files have the same path")]
    DuplicatePath(SitePath),
    /// No site has so many kinds of files.
    #[error("a plan has more than {limit} different content types")]
    TooManyContentTypes {
        /// The limit.
        limit: usize,
    },
    /// One hash is announced with two sizes.
    #[error("one hash is announced with two sizes")]
    SizeConflict,
    /// The message is too long.
    #[error("a message has more than {limit} bytes")]
    MessageTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A setting that is known and not served.
    #[error("the setting `{setting}` has a value that this version does not serve")]
    UnsupportedSetting {
        /// The setting's name.
        setting: &'static str,
    },
    /// There is no such plan, or it is another team's.
    #[error("there is no such plan")]
    NotFound,
    /// The idempotency key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(PlanError);

/// A blob that was taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Uploaded {
    /// Its name.
    pub hash: BlobHash,
    /// How many bytes it has.
    pub size: u64,
}

/// Why an upload was not taken. Whichever it is, nothing became visible.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is no such plan, or it is another team's.
    #[error("there is no such plan")]
    PlanNotFound,
    /// The plan was committed, ran out or was given up.
    #[error("the plan is over")]
    PlanOver,
    /// The plan does not name this hash.
    #[error("the plan does not name this hash")]
    NotPlanned,
    /// The bytes do not have the hash.
    #[error("the bytes do not have the hash that they were announced under")]
    HashMismatch,
    /// More or fewer bytes than announced.
    #[error("{actual} bytes arrived and {expected} were announced")]
    SizeMismatch {
        /// How many were announced.
        expected: u64,
        /// How many had arrived when the upload ended or was given up.
        actual: u64,
    },
    /// More bytes than a file may have.
    #[error("a file has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// A blob of a batch is too large for one.
    #[error("a blob of a batch has more than {limit} bytes")]
    NotForBatch {
        /// The limit, in bytes.
        limit: u64,
    },
    /// There is too much in a batch.
    #[error("a batch has more than {blobs} blobs or {size} bytes")]
    BatchTooLarge {
        /// The most blobs.
        blobs: usize,
        /// The most bytes of them all.
        size: u64,
    },
    /// The body broke off.
    #[error("the body broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(UploadError);

impl From<PutError> for UploadError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::HashMismatch => Self::HashMismatch,
            PutError::SizeMismatch { expected, actual } => Self::SizeMismatch { expected, actual },
            PutError::TooLarge { limit } => Self::TooLarge { limit },
            PutError::Body(error) => Self::Body(error),
            PutError::Store(error) => error.into(),
            PutError::Index(error) => error.into(),
        }
    }
}

#[derive(Deserialize, Serialize)]
struct PlanAnswer {
    plan: PlanId,
}

impl Engine {
    /// Begins a publish: records it, then answers what has to be uploaded.
    ///
    /// # Errors
    ///
    /// Where the files are not a site, a bound is exceeded or the project is another team's, nothing is recorded.
    pub async fn plan(
        &self,
        caller: &Principal,
        mut new: NewPlan,
        key: Option<&IdempotencyKey>,
    ) -> Result<PlanView, PlanError> {
        check_texts(new.settings, new.git.as_ref(), new.message.as_deref(), self.limits())?;
        let (files, settings, limits) = (std::mem::take(&mut new.files), new.settings, self.limits().clone());
        let Prepared { body, list, content_hash, diagnostics } =
            off_thread(move || prepare(files, settings, &limits)).await?;
        // The list has what the content hash leaves out: sizes and content types.
        let asked = (&new.project, BlobHash::of(&list), settings, &new.message, &new.git);
        let once = key.map(|key| Once::new(caller.team, caller.user, key, "plan", &asked));
        let mut stale = None;
        if let Some(once) = &once {
            match once.look::<PlanAnswer>(self.meta(), self.clock().now()).await? {
                Known::Done(answer) => match self.plan_status(caller, answer.plan).await {
                    // It went with its project, so the key stands for nothing.
                    Err(PlanError::NotFound) => stale = once.in_the_way(self.meta()).await?,
                    status => return status,
                },
                Known::OtherRequest => return Err(PlanError::KeyReused),
                Known::New(in_the_way) => stale = in_the_way,
            }
        }
        let project = self.project_for(caller, &new.project).await?;
        let now = self.clock().now();
        let record = PlanRecord {
            id: PlanId::random(),
            team: project.team,
            project: project.project,
            user: caller.user,
            state: PlanState::Open,
            content_hash,
            files: body.files.len() as u64,
            total_size: body.total_size(),
            settings,
            git: new.git,
            message: new.message,
            created_at: now,
            expires_at: now.plus(self.limits().plan_lifetime),
            committed: None,
            unknown: Unknown::new(),
        };
        // The body first: a record whose body is missing would be a plan that nobody can go on with.
        self.blobs().put_plan(&record.id, list).await?;
        let plan_key = records::plans::key(project.team, record.id);
        let mut commit = Commit::new().check(plan_key.clone(), Check::Absent).put(plan_key, encode(&record));
        if let Some(once) = &once {
            commit = once.record(commit, stale.as_ref(), &PlanAnswer { plan: record.id }, now);
        }
        if let Outcome::Refused { .. } = self.meta().commit(commit).await? {
            self.forget_plan_body(record.id).await;
            // The same key came twice at once, and the other request was first.
            return match once.as_ref().map(|once| once.look::<PlanAnswer>(self.meta(), now)) {
                Some(look) => match look.await? {
                    Known::Done(answer) => self.plan_status(caller, answer.plan).await,
                    _ => Err(PlanError::KeyReused),
                },
                None => Err(StoreError::Contended.into()),
            };
        }
        self.plan_bodies().insert(record.id, Arc::clone(&body)).await;
        let view = self.view(&record, body).await?;
        Ok(PlanView { diagnostics, ..view })
    }

    /// Says where a plan stands and what is still missing.
    ///
    /// # Errors
    ///
    /// [`PlanError::NotFound`] where there is no such plan of the caller's team.
    pub async fn plan_status(&self, caller: &Principal, id: PlanId) -> Result<PlanView, PlanError> {
        let mut plan = self.plan_record(caller, id).await?;
        if plan.state_at(self.clock().now()) == PlanState::Open {
            match self.plan_body(id).await {
                Ok(body) => return self.view(&plan, body).await,
                // The list goes away with the end of the plan, which came after the record was read.
                Err(PlanError::NotFound) => plan = self.plan_record(caller, id).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(PlanView {
            id: plan.id,
            content_hash: plan.content_hash,
            status: plan.state_at(self.clock().now()),
            missing: Vec::new(),
            reusable: plan.files,
            files: plan.files,
            total_size: plan.total_size,
            missing_bytes: 0,
            expires_at: plan.expires_at,
            image: plan.committed.map(|committed| committed.image),
            diagnostics: Vec::new(),
        })
    }

    async fn plan_record(&self, caller: &Principal, id: PlanId) -> Result<PlanRecord, PlanError> {
        Ok(self.find_plan(caller, id).await?.ok_or(PlanError::NotFound)?.record)
    }

    /// The plan of this id, where it is the caller's team's and for a project that the caller reaches.
    pub(crate) async fn find_plan(
        &self,
        caller: &Principal,
        id: PlanId,
    ) -> Result<Option<Stored<PlanRecord>>, MetaError> {
        let found = records::plans::get(self.meta(), caller.team, id).await?;
        Ok(found.filter(|plan| self.reaches(caller, plan.record.project())))
    }

    /// How many files a plan has; nothing where there is no such plan of the caller's team.
    ///
    /// # Errors
    ///
    /// Where the metadata store fails.
    pub async fn files_of_plan(&self, caller: &Principal, id: PlanId) -> Result<Option<u64>, MetaError> {
        Ok(self.find_plan(caller, id).await?.map(|stored| stored.record.files))
    }

    /// Gives an open plan up. One that is over already stays as it is.
    ///
    /// # Errors
    ///
    /// [`PlanError::NotFound`] where there is no such plan of the caller's team.
    pub async fn close_plan(&self, caller: &Principal, id: PlanId) -> Result<(), PlanError> {
        let Stored { mut record, revision } = self.find_plan(caller, id).await?.ok_or(PlanError::NotFound)?;
        if record.state != PlanState::Open {
            return Ok(());
        }
        record.state = PlanState::Expired;
        let key = records::plans::key(caller.team, id);
        let commit = Commit::new().check(key.clone(), Check::Revision(revision)).put(key, encode(&record));
        // Refused means that the plan was committed or closed meanwhile, and is over either way.
        if let Outcome::Done { .. } = self.meta().commit(commit).await? {
            self.forget_plan_body(id).await;
        }
        Ok(())
    }

    /// Takes the bytes of one blob of a plan, durably. Taking a blob that is there already is no error.
    ///
    /// # Errors
    ///
    /// Where the plan is not open or does not name `hash`, the bytes are not what was announced, or a store fails.
    pub async fn upload<S, E>(
        &self,
        caller: &Principal,
        plan: PlanId,
        hash: BlobHash,
        content_length: Option<u64>,
        body: S,
    ) -> Result<Uploaded, UploadError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let planned = *self.open_plan(caller, plan).await?.blobs.get(&hash).ok_or(UploadError::NotPlanned)?;
        let limit = self.limits().file_size;
        let size = match (planned.size, content_length) {
            (Some(expected), Some(actual)) if expected != actual => {
                return Err(UploadError::SizeMismatch { expected, actual });
            }
            (planned, announced) => planned.or(announced),
        };
        if size.is_some_and(|size| size > limit) {
            return Err(UploadError::TooLarge { limit });
        }
        let digests = self.blobs().put(caller.team, hash, size, limit, body).await?;
        Ok(Uploaded { hash, size: digests.size })
    }

    /// The files of a plan that takes uploads.
    async fn open_plan(&self, caller: &Principal, plan: PlanId) -> Result<Arc<PlanBody>, UploadError> {
        let record = self.find_plan(caller, plan).await?.ok_or(UploadError::PlanNotFound)?;
        if record.record.state_at(self.clock().now()) != PlanState::Open {
            return Err(UploadError::PlanOver);
        }
        self.planned(plan).await
    }

    /// The files of a plan that took uploads a moment ago.
    async fn planned(&self, plan: PlanId) -> Result<Arc<PlanBody>, UploadError> {
        match self.plan_body(plan).await {
            Ok(body) => Ok(body),
            Err(PlanError::Store(error)) => Err(error.into()),
            Err(_) => Err(UploadError::PlanOver),
        }
    }

    async fn view(&self, plan: &PlanRecord, body: Arc<PlanBody>) -> Result<PlanView, PlanError> {
        let sorted = Arc::clone(&body);
        let hashes = off_thread(move || Ok(sorted.hashes())).await?;
        let present = self.present(plan.team, &hashes).await?;
        let (missing, missing_bytes) = off_thread(move || Ok(body.missing(&hashes, &present))).await?;
        Ok(PlanView {
            id: plan.id,
            content_hash: plan.content_hash,
            status: plan.state_at(self.clock().now()),
            reusable: plan.files.saturating_sub(missing.len() as u64),
            missing,
            files: plan.files,
            total_size: plan.total_size,
            missing_bytes,
            expires_at: plan.expires_at,
            image: plan.committed.map(|committed| committed.image),
            diagnostics: Vec::new(),
        })
    }

    /// What the index has of each of `hashes`, where `team` has shown that it has the bytes and they count as stored.
    pub(crate) async fn present(
        &self,
        team: TeamId,
        hashes: &[BlobHash],
    ) -> Result<Vec<Option<BlobRecord>>, StoreError> {
        let index = self.blobs().index();
        let owned = index.owned(team, hashes).await?;
        let records = index.get(hashes).await?;
        let live = |record: &BlobRecord| record.state == BlobState::Live;
        Ok(records.into_iter().zip(owned).map(|(record, owned)| record.filter(live).filter(|_| owned)).collect())
    }

    /// The files of a plan that is open, from memory or from its object, read once for all who ask at the same time.
    pub(crate) async fn plan_body(&self, id: PlanId) -> Result<Arc<PlanBody>, PlanError> {
        let load = async {
            let bytes = match self.blobs().plan(&id).await {
                Err(object_store::Error::NotFound { .. }) => return Err(PlanError::NotFound),
                other => other?,
            };
            off_thread(move || {
                let files = file_list::decode(bytes).ok_or(MetaError::Damaged { what: "plan's list of files" })?;
                PlanBody::new(files).map(Arc::new)
            })
            .await
        };
        let loaded = self.plan_bodies().try_get_with(id, load).await;
        loaded.map_err(|error| match &*error {
            PlanError::NotFound => PlanError::NotFound,
            // The object store did not answer, so it is asked again by whoever asks next.
            PlanError::Store(StoreError::Objects(_)) => {
                StoreError::Objects(object_store::Error::Generic { store: "objects", source: Box::new(error) }).into()
            }
            other => {
                tracing::error!(error = %other, "the list of files of a plan could not be read");
                MetaError::Damaged { what: "plan's list of files" }.into()
            }
        })
    }

    /// Drops the list of files of a plan that is over. What a crash leaves behind is garbage that names nothing.
    pub(crate) async fn forget_plan_body(&self, id: PlanId) {
        self.plan_bodies().invalidate(&id).await;
        if let Err(error) = self.blobs().delete_plan(&id).await {
            tracing::warn!(%error, "the list of files of a plan that is over could not be removed");
        }
    }
}

/// Checks what a plan asks for beside its files.
pub(crate) fn check_texts(
    settings: Settings,
    git: Option<&GitFacts>,
    message: Option<&str>,
    limits: &Limits,
) -> Result<(), PlanError> {
    if settings.profile != Profile::Native {
        return Err(PlanError::UnsupportedSetting { setting: "profile" });
    }
    for (text, limit) in [
        (message, limits.message_length),
        (git.and_then(|git| git.message.as_deref()), limits.message_length),
        (git.and_then(|git| git.commit.as_deref()), LONGEST_GIT_NAME),
        (git.and_then(|git| git.branch.as_deref()), LONGEST_GIT_NAME),
    ] {
        if text.is_some_and(|text| text.len() > limit) {
            return Err(PlanError::MessageTooLong { limit });
        }
    }
    Ok(())
}

/// Runs what takes too long for a thread that serves others: two hundred thousand files take a good part of a second.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PlanError> + Send + 'static,
) -> Result<T, PlanError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending.
            Err(_) => Err(MetaError::Closed.into()),
        },
    }
}

/// Waits before a commit is tried again, so that many who want the same record do not keep each other from it.
pub(crate) async fn pause(attempt: u32) {
    if attempt >= 3 {
        let [random] = random_bytes();
        let most = u64::from(attempt.min(16));
        tokio::time::sleep(Duration::from_millis(u64::from(random) * most / 256)).await;
    }
}

/// An event as the feed carries it.
pub(crate) fn event_bytes(event: &PointerEvent) -> Bytes {
    serde_json::to_vec(event).expect("events have text keys and finite numbers").into()
}
