//! What teams use, and that they use no more than they may.
//!
//! A team's row is changed by the same checked commit that makes a project or an image, so publishes at the same time
//! never exceed a limit together. Bytes are those of distinct blobs. Which blobs are counted is in the blob index, as
//! marks with the number of the count. An index takes no part in a commit; so the row names the image that it counted
//! last, and whoever commits next marks that image's blobs first. A crash in between changes nothing.
//!
//! Where something goes that was counted, the row says that its numbers no longer hold; the next to need them counts
//! anew, under another number, which makes all marks of before worthless at once.

use std::collections::HashMap;

use crate::account::Principal;
use crate::blob::{IndexWrite, Owner};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::hash::{BlobHash, ManifestId};
use crate::id::TeamId;
use crate::limits::{Limits, NO_LIMIT};
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::plan::{ATTEMPTS, pause};
use crate::pointers::ProjectRef;
use crate::projects::ProjectSummary;
use crate::publish::ProjectSelector;
use crate::queries::{Listing, LookupError};
use crate::records::usage::{ProjectUsage, UnmarkedImage, UsageRecord};
use crate::records::{self, Stored, encode};

/// Projects and images read at a time.
const AT_ONCE: usize = 100;
/// Blobs marked in one write.
const MARKS_AT_ONCE: usize = 10_000;

/// What a team uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TeamUsage {
    /// How many projects it has.
    pub projects: u64,
    /// How many bytes their images take up; a file that several have is counted once.
    pub stored_bytes: u64,
}

/// What a project uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectUse {
    /// The project.
    pub project: ProjectSummary,
    /// How many images it has.
    pub images: u64,
    /// How many bytes they take up; a file that several have is counted once.
    pub stored_bytes: u64,
}

/// A limit of a team that would be exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuotaError {
    /// There would be too many projects.
    #[error("a team has at most {limit} projects")]
    Projects {
        /// The limit.
        limit: u64,
    },
    /// There would be too many bytes.
    #[error("the images of a team take up at most {limit} bytes")]
    Bytes {
        /// The limit, in bytes.
        limit: u64,
    },
}

/// What is known of a team's use, as it was read.
#[derive(Debug)]
pub(crate) struct Seen {
    team: TeamId,
    check: Check,
    record: UsageRecord,
}

/// The distinct blobs of an image, with their sizes.
pub(crate) type Sizes = [(BlobHash, u64)];

impl Seen {
    /// Adds the row to `commit`, with what `change` makes of it.
    fn put(mut self, commit: Commit, change: impl FnOnce(&mut UsageRecord)) -> Commit {
        change(&mut self.record);
        let key = records::usage::key(self.team);
        commit.check(key.clone(), self.check).put(key, encode(&self.record))
    }

    /// Counts one project more.
    pub(crate) fn add_project(self, commit: Commit, limits: &Limits) -> Result<Commit, QuotaError> {
        if self.record.projects >= limits.team_projects {
            return Err(QuotaError::Projects { limit: limits.team_projects });
        }
        Ok(self.put(commit, |usage| usage.projects += 1))
    }

    /// Counts one project less; what it used is no longer known.
    pub(crate) fn remove_project(self, commit: Commit) -> Commit {
        self.put(commit, |usage| {
            usage.projects = usage.projects.saturating_sub(1);
            usage.is_counted = false;
        })
    }
}

impl Engine {
    /// What the caller's team uses.
    ///
    /// # Errors
    ///
    /// Where a store fails.
    pub async fn team_usage(&self, caller: &Principal) -> Result<TeamUsage, StoreError> {
        let usage = self.counted(caller.team).await?.record;
        Ok(TeamUsage { projects: usage.projects, stored_bytes: usage.bytes })
    }

    /// What each project uses that the caller reaches, or the one that is named. Pages are those of
    /// [`Engine::projects`].
    ///
    /// # Errors
    ///
    /// Where the project or the cursor is unknown, and where a store fails.
    pub async fn project_usage(
        &self,
        caller: &Principal,
        project: Option<&ProjectSelector>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<ProjectUse>, LookupError> {
        let count = self.counted(caller.team).await?.record.count;
        let listing = match project {
            Some(project) => Listing { items: vec![self.project(caller, project).await?], next: None },
            None => self.projects(caller, cursor, limit).await?,
        };
        let of: Vec<_> =
            listing.items.iter().map(|project| ProjectRef { team: project.team, project: project.id }).collect();
        let bytes = records::usage::of_projects(self.meta(), &of, count).await?;
        let mut items = Vec::with_capacity(of.len());
        for ((project, stored_bytes), reference) in listing.items.into_iter().zip(bytes).zip(of) {
            let row = records::projects::get(self.meta(), reference).await?;
            let images = row.map_or(0, |row| row.record.images);
            items.push(ProjectUse { project, images, stored_bytes });
        }
        Ok(Listing { items, next: listing.next })
    }

    /// What the team's row says, for a commit that changes it. The numbers hold where `limits` are to be held to them.
    pub(crate) async fn usage_to_change(&self, team: TeamId, is_limited: bool) -> Result<Seen, StoreError> {
        let seen = self.usage(team).await?;
        if is_limited && !seen.record.is_counted { self.count(team).await } else { Ok(seen) }
    }

    /// Says that what is known of a team's use does not hold, because it is about to change by many commits that do not
    /// count. Nobody else is to change it meanwhile.
    pub(crate) async fn forget_usage(&self, team: TeamId) -> Result<(), StoreError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let seen = self.usage(team).await?;
            let commit = seen.put(Commit::new(), |usage| usage.is_counted = false);
            if let Outcome::Done { .. } = self.meta().commit(commit).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }

    async fn usage(&self, team: TeamId) -> Result<Seen, MetaError> {
        match records::usage::get(self.meta(), team).await? {
            Some(Stored { record, revision }) => Ok(Seen { team, check: Check::Revision(revision), record }),
            None => {
                // Without a row it is a team of before there were any, or one that has no project yet.
                let (_, first) = records::projects::of_team(self.meta(), team, None, 1).await?;
                let record = UsageRecord { is_counted: first.is_none(), ..UsageRecord::default() };
                Ok(Seen { team, check: Check::Absent, record })
            }
        }
    }

    async fn counted(&self, team: TeamId) -> Result<Seen, StoreError> {
        let seen = self.usage(team).await?;
        if seen.record.is_counted { Ok(seen) } else { self.count(team).await }
    }

    /// Counts an image that is new to `project`, and adds that to `commit`.
    ///
    /// # Errors
    ///
    /// Where the team would have more bytes than it may, and where a store fails.
    pub(crate) async fn add_image(
        &self,
        commit: Commit,
        project: ProjectRef,
        image: UnmarkedImage,
        sizes: &Sizes,
    ) -> Result<Result<Commit, QuotaError>, StoreError> {
        let limit = self.limits().team_bytes;
        let seen = self.usage_to_change(project.team, limit < NO_LIMIT).await?;
        if !seen.record.is_counted {
            // Also where nothing is counted: whoever is at counting sees that there is more.
            return Ok(Ok(seen.put(commit, |_| {})));
        }
        if let Some(unmarked) = seen.record.unmarked {
            let of = ProjectRef { team: project.team, project: unmarked.project };
            let sizes = self.sizes_of(&unmarked.manifest).await?;
            for owner in owners(of) {
                self.mark(owner, seen.record.count, &sizes).await?;
            }
        }
        let [of_team, of_project] = owners(project);
        let of_team = self.unmarked(of_team, seen.record.count, sizes).await?.1;
        let of_project = self.unmarked(of_project, seen.record.count, sizes).await?.1;
        let bytes = seen.record.bytes.saturating_add(of_team);
        if of_team > 0 && bytes > limit {
            return Ok(Err(QuotaError::Bytes { limit }));
        }
        let count = seen.record.count;
        let before = records::usage::of_projects(self.meta(), &[project], count).await?;
        let own = ProjectUsage { count, bytes: before.first().map_or(0, |bytes| bytes.saturating_add(of_project)) };
        let commit = commit.put(records::usage::project_key(project), encode(&own));
        Ok(Ok(seen.put(commit, |usage| {
            usage.bytes = bytes;
            usage.unmarked = Some(image);
        })))
    }

    /// Which of `sizes` are not marked for `owner`, and how many bytes they have.
    async fn unmarked(&self, owner: Owner, count: u32, sizes: &Sizes) -> Result<(Vec<BlobHash>, u64), StoreError> {
        let hashes: Vec<_> = sizes.iter().map(|(hash, _)| *hash).collect();
        let marks = self.blobs().index().counted(owner, &hashes).await?;
        let new = sizes.iter().zip(marks).filter(|(_, mark)| *mark != Some(count)).map(|(blob, _)| *blob);
        let (mut blobs, mut bytes) = (Vec::new(), 0_u64);
        for (hash, size) in new {
            blobs.push(hash);
            bytes = bytes.saturating_add(size);
        }
        Ok((blobs, bytes))
    }

    /// Marks blobs as counted for `owner`; answers how many bytes those have that were not.
    async fn mark(&self, owner: Owner, count: u32, sizes: &Sizes) -> Result<u64, StoreError> {
        let (blobs, bytes) = self.unmarked(owner, count, sizes).await?;
        for some in blobs.chunks(MARKS_AT_ONCE) {
            let marks = some.iter().map(|hash| IndexWrite::Count { owner, hash: *hash, count });
            self.blobs().index().write(marks.collect()).await?;
        }
        Ok(bytes)
    }

    /// The distinct blobs of a manifest.
    async fn sizes_of(&self, manifest: &ManifestId) -> Result<Vec<(BlobHash, u64)>, StoreError> {
        let manifest = self.blobs().manifest(manifest).await?;
        let sizes: HashMap<_, _> = manifest.entries().map(|entry| (entry.blob, entry.size)).collect();
        Ok(sizes.into_iter().collect())
    }

    /// Counts all that a team uses anew.
    async fn count(&self, team: TeamId) -> Result<Seen, StoreError> {
        // One at a time: it reads every manifest of the team.
        let _alone = self.counting().lock().await;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let seen = self.usage(team).await?;
            if seen.record.is_counted {
                return Ok(seen);
            }
            // Another number for each try: what an earlier one has marked does not count for this one.
            let count = seen.record.count.wrapping_add(1 + attempt);
            let (projects, bytes) = self.count_all(team, count).await?;
            let record = UsageRecord { is_counted: true, projects, bytes, count, unmarked: None, ..seen.record };
            let key = records::usage::key(team);
            let commit = Commit::new().check(key.clone(), seen.check).put(key, encode(&record));
            if let Outcome::Done { revision, .. } = self.meta().commit(commit).await? {
                return Ok(Seen { team, check: Check::Revision(revision), record });
            }
        }
        Err(StoreError::Contended)
    }

    /// Marks and adds up all images of a team: how many projects it has, and how many bytes.
    async fn count_all(&self, team: TeamId, count: u32) -> Result<(u64, u64), StoreError> {
        let (mut projects, mut bytes, mut after) = (0, 0_u64, None);
        loop {
            let (page, next) = records::projects::of_team(self.meta(), team, after, AT_ONCE).await?;
            for project in page {
                let reference = project.record.reference();
                let mut own = 0_u64;
                for manifest in records::images::manifests(self.meta(), reference).await? {
                    let sizes = self.sizes_of(&manifest).await?;
                    let [of_team, of_project] = owners(reference);
                    bytes = bytes.saturating_add(self.mark(of_team, count, &sizes).await?);
                    own = own.saturating_add(self.mark(of_project, count, &sizes).await?);
                }
                let usage = encode(&ProjectUsage { count, bytes: own });
                self.meta().commit(Commit::new().put(records::usage::project_key(reference), usage)).await?;
                projects += 1;
            }
            match next {
                Some(_) => after = next,
                None => return Ok((projects, bytes)),
            }
        }
    }
}

/// Whom a project's blobs are marked for: its team, and itself.
fn owners(project: ProjectRef) -> [Owner; 2] {
    [*project.team.as_bytes(), *project.project.as_bytes()]
}
