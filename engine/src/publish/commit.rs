//! From a plan whose blobs are all there to an image: the manifest first, then one checked commit.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Diagnostic, site_diagnostics};
use crate::account::Principal;
use crate::blob::BlobRecord;
use crate::clock::UnixMillis;
use crate::content_type;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::hash::{BlobHash, ContentHash, ManifestId};
use crate::id::{ImageId, PlanId};
use crate::manifest::{ManifestBuilder, Settings};
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::plan::{ATTEMPTS, PlanBody, PlanError, pause};
use crate::records::idempotency::{IdempotencyKey, Known, Once};
use crate::records::images::{CommitRecord, GitFacts, ImageRecord};
use crate::records::plans::{CommittedPlan, PlanRecord, PlanState};
use crate::records::projects::ProjectRecord;
use crate::records::usage::UnmarkedImage;
use crate::records::{self, Stored, Unknown, encode};
use crate::usage::QuotaError;

/// A plan that is to become an image.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The plan.
    pub plan: PlanId,
    /// Why; the plan's message counts where this is missing.
    pub message: Option<String>,
    /// Whether diagnostics refuse the commit.
    pub strict: bool,
}

/// What a commit made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Committed {
    /// The image.
    pub image: ImageId,
    /// What its content is known by.
    pub content_hash: ContentHash,
    /// When the image was first committed.
    pub created_at: UnixMillis,
    /// When this commit was made.
    pub committed_at: UnixMillis,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub total_size: u64,
    /// Whether the project did not have it before.
    pub new_image: bool,
    /// What was found in it.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why a plan was not committed. Whichever it is, nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is no such plan, or it is another team's.
    #[error("there is no such plan")]
    PlanNotFound,
    /// The plan ran out or was given up.
    #[error("the plan is over")]
    PlanOver,
    /// The upload step was skipped, or a blob is not this team's.
    #[error("{count} blobs of the plan are not stored")]
    MissingBlobs {
        /// How many.
        count: usize,
    },
    /// What was planned is not what is stored.
    #[error("{count} files have another size than the plan says")]
    SizeMismatch {
        /// How many.
        count: usize,
    },
    /// All files together are too large.
    #[error("a publish has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The team would use more than it may.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The message is too long.
    #[error("a message has more than {limit} bytes")]
    MessageTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The site has diagnostics, and the commit was to be strict.
    #[error("the site has {count} diagnostics")]
    Strict {
        /// How many.
        count: usize,
    },
    /// The idempotency key came with another request before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The plan changed while it was committed.
    #[error("the plan changed while it was committed")]
    Conflict,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(CommitError);

impl Engine {
    /// Makes an image of a plan whose blobs are all there. Committing a plan again answers what the first commit did.
    ///
    /// # Errors
    ///
    /// Where the plan is over, blobs are missing or are not what was planned, or a store fails.
    pub async fn commit(
        &self,
        caller: &Principal,
        request: CommitRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Committed, CommitError> {
        let limit = self.limits().message_length;
        if request.message.as_ref().is_some_and(|message| message.len() > limit) {
            return Err(CommitError::MessageTooLong { limit });
        }
        let asked = (request.plan, &request.message, request.strict);
        let once = key.map(|key| Once::new(caller.team, caller.user, key, "commit", &asked));
        let mut stale = match self.look(once.as_ref()).await? {
            ControlFlow::Break(answer) => return Ok(answer),
            ControlFlow::Continue(in_the_way) => in_the_way,
        };
        let plan = self.plan_to_commit(caller, request.plan).await?;
        if let Some(committed) = plan.record.committed {
            return self.committed_before(&plan.record, committed).await;
        }
        let body = match self.plan_body(request.plan).await {
            Ok(body) => body,
            Err(PlanError::Store(error)) => return Err(error.into()),
            // Its object goes away when it is committed or closed: it was, since the record was read.
            Err(_) => {
                let now = self.plan_to_commit(caller, request.plan).await?;
                return match now.record.committed {
                    Some(committed) => self.committed_before(&now.record, committed).await,
                    None => Err(CommitError::Conflict),
                };
            }
        };
        let (built, sizes, diagnostics) = self.build_manifest(&plan.record, body, request.strict).await?;
        let _turn = self.turn_to_commit(plan.record.team).await;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let message = request.message.as_deref();
            let (mut commit, mut committed) = self.commit_of_plan(caller, &plan, &built, message).await?;
            committed.diagnostics.clone_from(&diagnostics);
            if committed.new_image {
                let project = plan.record.project();
                let image = UnmarkedImage { project: project.project, manifest: built.manifest };
                commit = self.add_image(commit, project, image, &sizes).await??;
            }
            let wants_variants = committed.new_image && self.knows_no_variants(&[built.manifest]).await?.len() == 1;
            if wants_variants {
                let (key, value) = records::variants::want(&built.manifest, committed.committed_at);
                commit = commit.put(key, value);
            }
            let commit = match &once {
                Some(once) => once.record(commit, stale.as_ref(), &committed, committed.committed_at),
                None => commit,
            };
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                if wants_variants {
                    self.desk().hand_in(built.manifest);
                }
                // The image's own host answers from now on, also where the project is new.
                self.catch_up(position).await?;
                self.forget_plan_body(request.plan).await;
                return Ok(committed);
            }
            stale = match self.look(once.as_ref()).await? {
                ControlFlow::Break(answer) => return Ok(answer),
                ControlFlow::Continue(in_the_way) => in_the_way,
            };
            let now = self.plan_to_commit(caller, request.plan).await?;
            match now.record.committed {
                Some(committed) => return self.committed_before(&now.record, committed).await,
                None if now.revision != plan.revision => return Err(CommitError::Conflict),
                None => {}
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Which of `manifests` nobody has said of that their variants are wanted.
    pub(crate) async fn knows_no_variants(&self, manifests: &[ManifestId]) -> Result<Vec<ManifestId>, MetaError> {
        records::variants::unknown(self.meta(), manifests).await
    }

    /// The answer that was given to the same request before, or else what is in the way of writing one.
    async fn look(&self, once: Option<&Once>) -> Result<ControlFlow<Committed, Option<Stored<()>>>, CommitError> {
        let Some(once) = once else { return Ok(ControlFlow::Continue(None)) };
        match once.look(self.meta(), self.clock().now()).await? {
            Known::Done(answer) => Ok(ControlFlow::Break(answer)),
            Known::OtherRequest => Err(CommitError::KeyReused),
            Known::New(in_the_way) => Ok(ControlFlow::Continue(in_the_way)),
        }
    }

    async fn plan_to_commit(&self, caller: &Principal, id: PlanId) -> Result<Stored<PlanRecord>, CommitError> {
        let plan = self.find_plan(caller, id).await?.ok_or(CommitError::PlanNotFound)?;
        match plan.record.state_at(self.clock().now()) {
            PlanState::Expired => Err(CommitError::PlanOver),
            PlanState::Open | PlanState::Committed => Ok(plan),
        }
    }

    async fn committed_before(&self, plan: &PlanRecord, committed: CommittedPlan) -> Result<Committed, CommitError> {
        let image = records::images::get(self.meta(), plan.project(), committed.image).await?;
        let image = image.ok_or(MetaError::Damaged { what: "committed plan" })?.record;
        let diagnostics = match self.blobs().manifest(&image.manifest).await {
            Ok(manifest) => {
                let found = move || site_diagnostics(manifest.entries().map(|entry| entry.path));
                tokio::task::spawn_blocking(found).await.map_err(|_| MetaError::Closed)?
            }
            // It was committed all the same, and warnings are worth no failure.
            Err(_) => Vec::new(),
        };
        Ok(Committed {
            image: image.image,
            content_hash: image.content_hash,
            created_at: image.first_committed_at,
            committed_at: committed.at,
            files: image.files,
            total_size: image.total_size,
            new_image: committed.new_image,
            diagnostics,
        })
    }

    /// Builds the manifest of a plan and stores it, durably; with what was found in the site, which refuses it where that
    /// is `strict`.
    async fn build_manifest(
        &self,
        plan: &PlanRecord,
        body: Arc<PlanBody>,
        strict: bool,
    ) -> Result<(Built, Vec<(BlobHash, u64)>, Vec<Diagnostic>), CommitError> {
        let hashes = body.hashes();
        let present = self.present(plan.team, &hashes).await?;
        let count = present.iter().filter(|record| record.is_none()).count();
        if count > 0 {
            return Err(CommitError::MissingBlobs { count });
        }
        let blobs: HashMap<BlobHash, BlobRecord> =
            hashes.into_iter().zip(present).filter_map(|(hash, record)| Some((hash, record?))).collect();
        let count =
            body.files.iter().filter(|file| file.size.is_some_and(|size| size != blobs[&file.blob].size)).count();
        if count > 0 {
            return Err(CommitError::SizeMismatch { count });
        }
        let sizes: Vec<_> = blobs.iter().map(|(hash, record)| (*hash, record.size)).collect();
        let (settings, limit) = (plan.settings, self.limits().publish_size);
        // Two hundred thousand files take a good part of a second to sort and encode.
        let built = tokio::task::spawn_blocking(move || {
            let found = site_diagnostics(body.files.iter().map(|file| file.path.as_str()));
            match found.len() {
                count if strict && count > 0 => Err(CommitError::Strict { count }),
                _ => Ok::<_, CommitError>((build(&body, &blobs, settings)?, found)),
            }
        });
        let ((manifest, bytes, files, total_size), found) = built.await.map_err(|_| MetaError::Closed)??;
        if total_size > limit {
            return Err(CommitError::TooLarge { limit });
        }
        self.blobs().put_manifest(&manifest, bytes).await?;
        Ok((Built { manifest, content_hash: plan.content_hash, files, total_size }, sizes, found))
    }

    /// The commit that makes an image of a plan, and what it will have made.
    async fn commit_of_plan(
        &self,
        caller: &Principal,
        plan: &Stored<PlanRecord>,
        built: &Built,
        message: Option<&str>,
    ) -> Result<(Commit, Committed), CommitError> {
        let project_ref = plan.record.project();
        let image_id = ImageId::from(&built.manifest);
        let project = records::projects::get(self.meta(), project_ref).await?;
        // It was deleted meanwhile, and its plans with it.
        let project = project.ok_or(CommitError::PlanNotFound)?;
        let earlier = records::images::get(self.meta(), project_ref, image_id).await?;
        let now = self.clock().now();
        let new_image = earlier.is_none();
        let number = project.record.commits + 1;
        let mut plan_record = plan.record.clone();
        plan_record.state = PlanState::Committed;
        plan_record.committed = Some(CommittedPlan { image: image_id, commit: number, at: now, new_image });

        let plan_key = records::plans::key(plan.record.team, plan.record.id);
        let image_check = earlier.as_ref().map_or(Check::Absent, |earlier| Check::Revision(earlier.revision));
        let commit = Commit::new()
            .check(plan_key.clone(), Check::Revision(plan.revision))
            .check(records::projects::key(project_ref), Check::Revision(project.revision))
            .check(records::images::key(project_ref, image_id), image_check)
            .put(plan_key, encode(&plan_record));
        let new = NewCommit {
            project: &project.record,
            earlier: earlier.as_ref().map(|earlier| &earlier.record),
            built,
            message: message.or(plan.record.message.as_deref()),
            git: plan.record.git.as_ref(),
            at: now,
        };
        let (commit, image) = self.record_commit(commit, caller, &new);
        let committed = Committed {
            image: image_id,
            content_hash: built.content_hash,
            created_at: image.first_committed_at,
            committed_at: now,
            files: built.files,
            total_size: built.total_size,
            new_image,
            diagnostics: Vec::new(),
        };
        Ok((commit, committed))
    }

    /// Adds to `commit` the rows of a project that has one commit more: the project's own, the image's, the commit's,
    /// the history's and the audit's. The checks are the caller's.
    pub(crate) fn record_commit(
        &self,
        commit: Commit,
        caller: &Principal,
        new: &NewCommit<'_>,
    ) -> (Commit, ImageRecord) {
        let NewCommit { project, earlier, built, at, .. } = *new;
        let reference = project.reference();
        let number = project.commits + 1;
        let image = ImageRecord {
            image: ImageId::from(&built.manifest),
            manifest: built.manifest,
            content_hash: built.content_hash,
            files: built.files,
            total_size: built.total_size,
            first_committed_at: earlier.map_or(at, |earlier| earlier.first_committed_at),
            last_commit: number,
            collected_at: None,
            unknown: earlier.map(|earlier| earlier.unknown.clone()).unwrap_or_default(),
        };
        let commit_record = CommitRecord {
            number,
            image: image.image,
            at,
            user: caller.user,
            author: caller.name.clone(),
            message: new.message.map(str::to_owned),
            git: new.git.cloned(),
            unknown: Unknown::new(),
        };
        let mut project_record = project.clone();
        project_record.commits = number;
        project_record.images += u64::from(earlier.is_none());
        let object = format!("{} of project {}", image.image, project.name);
        let (audit_key, audit) = self.audit_in(caller, Some(project.id), "commit", object, at);
        let mut commit = commit
            .put(records::projects::key(reference), encode(&project_record))
            .put(records::images::key(reference, image.image), encode(&image))
            .put(records::images::commit_key(reference, number), encode(&commit_record))
            .put(records::images::history_key(reference, number), encode(&image.image))
            .put(audit_key, audit);
        if let Some(earlier) = earlier {
            commit = commit.delete(records::images::history_key(reference, earlier.last_commit));
        }
        (commit, image)
    }
}

/// A commit that is to be recorded.
#[derive(Clone, Copy)]
pub(crate) struct NewCommit<'c> {
    /// The project as it was before.
    pub(crate) project: &'c ProjectRecord,
    /// The image, where the project has it already.
    pub(crate) earlier: Option<&'c ImageRecord>,
    pub(crate) built: &'c Built,
    pub(crate) message: Option<&'c str>,
    pub(crate) git: Option<&'c GitFacts>,
    pub(crate) at: UnixMillis,
}

/// A manifest that is stored.
#[derive(Clone, Copy)]
pub(crate) struct Built {
    pub(crate) manifest: ManifestId,
    pub(crate) content_hash: ContentHash,
    pub(crate) files: u64,
    pub(crate) total_size: u64,
}

type BuiltBytes = (ManifestId, bytes::Bytes, u64, u64);

fn build(
    body: &PlanBody,
    blobs: &HashMap<BlobHash, BlobRecord>,
    settings: Settings,
) -> Result<BuiltBytes, CommitError> {
    let mut builder = ManifestBuilder::new(settings);
    let mut total_size = 0_u64;
    for file in &body.files {
        let blob = &blobs[&file.blob];
        total_size = total_size.saturating_add(blob.size);
        let content_type = content_type::decide(&file.path, file.content_type.as_deref(), blob.is_utf8);
        builder.add(file.path.clone(), file.blob, blob.size, content_type);
    }
    let (manifest, bytes) = builder.finish().map_err(|error| {
        tracing::error!(%error, "a plan that was checked does not make a manifest");
        MetaError::Damaged { what: "plan's list of files" }
    })?;
    Ok((manifest, bytes, body.files.len() as u64, total_size))
}
