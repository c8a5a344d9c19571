//! What publishers ask about what they published. Reads only.

use std::collections::HashMap;

use crate::account::Principal;
use crate::blob::ReadError;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::hash::{BlobHash, ContentHash, ManifestId};
use crate::id::{ImageId, ProjectId};
use crate::manifest::Manifest;
use crate::meta::MetaError;
use crate::name::{EnvironmentName, ProjectName};
use crate::pointers::{ImageHosts, ProjectRef};
use crate::publish::ProjectSelector;
use crate::records::environments::EnvironmentRecord;
use crate::records::images::{CommitRecord, GitFacts, ImageRecord};
use crate::records::pins::PinRecord;
use crate::records::releases::ReleaseRecord;
use crate::records::{self, Stored, read_all};
use crate::variants::VariantState;

/// Rows passed over at a time on the way to a later page.
const SKIP_AT_ONCE: usize = 10_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There is no such project, or it is another team's.
    #[error("there is no such project")]
    ProjectNotFound,
    /// The project has no such image.
    #[error("the project has no such image")]
    ImageNotFound,
    /// The environment shows nothing.
    #[error("the environment shows nothing")]
    EnvironmentNotFound,
    /// The cursor is not one that a listing gave.
    #[error("the cursor is not one that a listing gave")]
    BadCursor,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(LookupError);

/// One page of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listing<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; nothing on the last one.
    pub next: Option<String>,
}

/// What an environment shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Current {
    /// The project.
    pub project: ProjectName,
    /// The image.
    pub image: ImageId,
    /// What its content is known by.
    pub content_hash: ContentHash,
    /// When it was released.
    pub released_at: UnixMillis,
    /// How many files it has.
    pub files: u64,
    /// The release's number.
    pub number: u64,
    /// The release's message.
    pub message: Option<String>,
    /// Who released it.
    pub author: String,
    /// Until when the environment shows it, where it is a preview.
    pub expires_at: Option<UnixMillis>,
}

/// An image and its latest commit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageSummary {
    /// The image.
    pub image: ImageId,
    /// Its project.
    pub project: ProjectId,
    /// What its content is known by.
    pub content_hash: ContentHash,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub total_size: u64,
    /// Where the content came from, as its latest commit says.
    pub git: Option<GitFacts>,
    /// Why it was committed last.
    pub message: Option<String>,
    /// Who committed it last.
    pub author: String,
    /// When it was first committed.
    pub created_at: UnixMillis,
    /// When it was last committed.
    pub committed_at: UnixMillis,
    /// The environments that show it.
    pub deployed_to: Vec<EnvironmentName>,
    /// The project's name.
    pub project_name: ProjectName,
    /// Who gets it by its own host.
    pub image_hosts: ImageHosts,
    /// That it is kept, whatever is released later.
    pub pin: Option<PinSummary>,
    /// How far its variants are.
    pub variants: VariantState,
}

/// Who keeps an image, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinSummary {
    /// Who pinned it.
    pub author: String,
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub message: Option<String>,
}

/// One file of an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileSummary {
    /// Where it is in the site.
    pub path: String,
    /// Its bytes.
    pub hash: BlobHash,
    /// How many there are.
    pub size: u64,
    /// What it is served as.
    pub content_type: String,
}

/// One environment that shows something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvironmentSummary {
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub name: EnvironmentName,
    /// What it shows.
    pub image: ImageId,
    /// Until when.
    pub expires_at: Option<UnixMillis>,
    /// The number of its last release.
    pub number: u64,
    /// When that was made.
    pub released_at: UnixMillis,
    /// How far the image's variants are.
    pub variants: VariantState,
}

impl Engine {
    /// What an environment shows.
    ///
    /// # Errors
    ///
    /// Where the project is unknown or the environment shows nothing, and where a store fails.
    pub async fn current(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        environment: &EnvironmentName,
    ) -> Result<Current, LookupError> {
        let (project, name) = self.project_to_read(caller, project).await?;
        let stored = records::environments::get(self.meta(), project, environment).await?;
        let stored = stored.ok_or(LookupError::EnvironmentNotFound)?.record;
        let now = self.clock().now();
        let shown = stored.shows.filter(|shown| !shown.is_expired(now)).ok_or(LookupError::EnvironmentNotFound)?;
        let release = records::releases::get(self.meta(), project, environment, stored.number).await?;
        let release = release.ok_or(MetaError::Damaged { what: "release of an environment" })?.record;
        let image = records::images::get(self.meta(), project, shown.image).await?;
        let image = image.ok_or(MetaError::Damaged { what: "image of an environment" })?.record;
        Ok(Current {
            project: name,
            image: shown.image,
            content_hash: image.content_hash,
            released_at: shown.released_at,
            files: image.files,
            number: stored.number,
            message: release.message,
            author: release.author,
            expires_at: shown.expires_at,
        })
    }

    /// The images of a project by latest commit, newest first; `cursor` is a [`Listing::next`].
    ///
    /// # Errors
    ///
    /// Where the project or the cursor is unknown, and where a store fails.
    pub async fn history(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<ImageSummary>, LookupError> {
        let (project, _) = self.project_to_read(caller, project).await?;
        let before = number_cursor(cursor)?;
        // One more than asked for says whether there is another page.
        let mut rows = records::images::history(self.meta(), project, before, limit + 1).await?;
        let next = next_cursor(&mut rows, limit, |(number, _)| *number);
        let items = self.summaries(project, &rows).await?;
        Ok(Listing { items, next })
    }

    /// Whether the image of a project that was committed last has this content.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails.
    pub async fn is_newest(
        &self,
        caller: &Principal,
        project: &ProjectName,
        content: &ContentHash,
    ) -> Result<bool, LookupError> {
        let (project, _) = self.project_to_read(caller, &ProjectSelector::Name(project.clone())).await?;
        let newest = records::images::history(self.meta(), project, u64::MAX, 1).await?;
        let Some((_, image)) = newest.first() else { return Ok(false) };
        let image = records::images::get(self.meta(), project, *image).await?;
        Ok(image.is_some_and(|image| image.record.content_hash == *content))
    }

    /// Page `page` (from 1) of the images of a project by latest commit, newest first, and how many there are in all.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails.
    pub async fn images(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        limit: usize,
        page: u64,
    ) -> Result<(Vec<ImageSummary>, u64), LookupError> {
        let (project, _) = self.project_to_read(caller, project).await?;
        let record = records::projects::get(self.meta(), project).await?.ok_or(LookupError::ProjectNotFound)?;
        let skipped = page.saturating_sub(1).saturating_mul(limit as u64);
        if skipped >= record.record.images {
            return Ok((Vec::new(), record.record.images));
        }
        let mut before = u64::MAX;
        let mut left = usize::try_from(skipped).unwrap_or(usize::MAX);
        while left > 0 {
            let rows = records::images::history(self.meta(), project, before, left.min(SKIP_AT_ONCE)).await?;
            let Some((last, _)) = rows.last() else { break };
            (before, left) = (*last, left - rows.len());
        }
        let rows = records::images::history(self.meta(), project, before, limit).await?;
        Ok((self.summaries(project, &rows).await?, record.record.images))
    }

    /// One image of a project.
    ///
    /// # Errors
    ///
    /// Where the project or the image is unknown, and where a store fails.
    pub async fn image(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        image: ImageId,
    ) -> Result<ImageSummary, LookupError> {
        let (project, _) = self.project_to_read(caller, project).await?;
        let record = records::images::get(self.meta(), project, image).await?.ok_or(LookupError::ImageNotFound)?;
        let rows = [(record.record.last_commit, image)];
        self.summaries(project, &rows).await?.pop().ok_or(LookupError::ImageNotFound)
    }

    /// Up to `limit` files of an image whose paths come after `after`, in the order of paths, and the path to go on after.
    ///
    /// # Errors
    ///
    /// Where the project or the image is unknown, and where a store fails.
    pub async fn image_files(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        image: ImageId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<FileSummary>, Option<String>), LookupError> {
        let (project, _) = self.project_to_read(caller, project).await?;
        let manifest = self.manifest_of(project, image).await?;
        let mut start = after.map_or(0, |after| manifest.lower_bound(after));
        if after.is_some_and(|after| start < manifest.len() && manifest.entry(start).path == after) {
            start += 1;
        }
        let end = manifest.len().min(start.saturating_add(limit));
        let files: Vec<_> = (start..end)
            .map(|index| manifest.entry(index))
            .map(|entry| FileSummary {
                path: entry.path.to_owned(),
                hash: entry.blob,
                size: entry.size,
                content_type: entry.content_type.to_owned(),
            })
            .collect();
        let next = if end < manifest.len() { files.last().map(|file| file.path.clone()) } else { None };
        Ok((files, next))
    }

    /// The releases of a project or of one environment, newest first; `cursor` is a [`Listing::next`].
    ///
    /// # Errors
    ///
    /// Where the project or the cursor is unknown, and where a store fails.
    pub async fn releases(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
        environment: Option<&EnvironmentName>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<ReleaseRecord>, LookupError> {
        let (project, _) = self.project_to_read(caller, project).await?;
        let before = number_cursor(cursor)?;
        let (items, next) = match environment {
            Some(environment) => {
                let mut found =
                    records::releases::of_environment(self.meta(), project, environment, before, limit + 1).await?;
                let next = next_cursor(&mut found, limit, |release| release.number);
                (found, next)
            }
            None => {
                let mut log = records::releases::log(self.meta(), project, before, limit + 1).await?;
                let next = next_cursor(&mut log, limit, |(number, _)| *number);
                let keys: Vec<_> =
                    log.iter().map(|(_, row)| records::releases::key(project, &row.environment, row.number)).collect();
                let found = read_all::<ReleaseRecord>(self.meta(), &keys, "release").await?;
                (found.into_iter().flatten().map(|stored| stored.record).collect(), next)
            }
        };
        Ok(Listing { items, next })
    }

    /// The environments of a project that show something, by name.
    ///
    /// # Errors
    ///
    /// Where the project is unknown, and where a store fails.
    pub async fn environments(
        &self,
        caller: &Principal,
        project: &ProjectSelector,
    ) -> Result<Vec<EnvironmentSummary>, LookupError> {
        let (project, name) = self.project_to_read(caller, project).await?;
        let shown = records::environments::shown(self.meta(), project, self.clock().now()).await?;
        let manifests = shown.iter().filter_map(|environment| environment.shows.as_ref()).map(|shows| shows.manifest);
        let made = self.variants_of(manifests.collect()).await?;
        let summary = |environment: EnvironmentRecord| {
            let shows = environment.shows?;
            let variants = made.get(&shows.manifest).copied().unwrap_or(VariantState::Off);
            Some(EnvironmentSummary {
                project: name.clone(),
                name: environment.name,
                image: shows.image,
                expires_at: shows.expires_at,
                number: environment.number,
                released_at: shows.released_at,
                variants,
            })
        };
        Ok(shown.into_iter().filter_map(summary).collect())
    }

    /// The project that `selector` names, where it is the caller's team's.
    pub(crate) async fn find_project(
        &self,
        caller: &Principal,
        selector: &ProjectSelector,
    ) -> Result<Option<ProjectRef>, MetaError> {
        let found = match selector {
            ProjectSelector::Name(name) => self.project_called(caller, name).await?,
            ProjectSelector::ShortId(short) => records::projects::find_by_short_id(self.meta(), short).await?,
            ProjectSelector::Id(project) => {
                let project = ProjectRef { team: caller.team, project: *project };
                records::projects::get(self.meta(), project).await?.map(|stored| stored.record.reference())
            }
        };
        Ok(found.filter(|project| self.reaches(caller, *project)))
    }

    /// Whether a project is the caller's team's, and one that the caller's token is for. Whatever is asked or done about a
    /// project passes here; what is not reached is not found.
    pub(crate) fn reaches(&self, caller: &Principal, project: ProjectRef) -> bool {
        project.team == caller.team && caller.access.reaches(project.project)
    }

    /// What an image of a project consists of.
    pub(crate) async fn manifest_of(&self, project: ProjectRef, image: ImageId) -> Result<Manifest, LookupError> {
        let record = records::images::get(self.meta(), project, image).await?.ok_or(LookupError::ImageNotFound)?.record;
        match self.blobs().manifest(&record.manifest).await {
            Err(ReadError::Missing) if record.collected_at.is_some() => Err(LookupError::ImageNotFound),
            other => Ok(other?),
        }
    }

    pub(crate) async fn project_to_read(
        &self,
        caller: &Principal,
        selector: &ProjectSelector,
    ) -> Result<(ProjectRef, ProjectName), LookupError> {
        let project = self.find_project(caller, selector).await?.ok_or(LookupError::ProjectNotFound)?;
        let record = records::projects::get(self.meta(), project).await?.ok_or(LookupError::ProjectNotFound)?;
        Ok((project, record.record.name))
    }

    async fn summaries(&self, project: ProjectRef, rows: &[(u64, ImageId)]) -> Result<Vec<ImageSummary>, LookupError> {
        let owner = records::projects::get(self.meta(), project).await?.ok_or(LookupError::ProjectNotFound)?.record;
        let environments = records::environments::shown(self.meta(), project, self.clock().now()).await?;
        let image_keys: Vec<_> = rows.iter().map(|(_, image)| records::images::key(project, *image)).collect();
        let commit_keys: Vec<_> =
            rows.iter().map(|(number, _)| records::images::commit_key(project, *number)).collect();
        let pin_keys: Vec<_> = rows.iter().map(|(_, image)| records::pins::key(project, *image)).collect();
        let images = read_all::<ImageRecord>(self.meta(), &image_keys, "image").await?;
        let commits = read_all::<CommitRecord>(self.meta(), &commit_keys, "commit").await?;
        let pins = read_all::<PinRecord>(self.meta(), &pin_keys, "pin").await?;
        let manifests = images.iter().flatten().map(|image| image.record.manifest).collect();
        let variants = self.variants_of(manifests).await?;
        let all = images.into_iter().zip(commits).zip(pins);
        let all = all.filter_map(|((image, commit), pin)| Some((image?, commit?, pin)));
        let shows = |environment: &&EnvironmentRecord, image| {
            environment.shows.as_ref().is_some_and(|shown| shown.image == image)
        };
        Ok(all
            .map(|(image, commit, pin)| ImageSummary {
                image: image.record.image,
                project: project.project,
                content_hash: image.record.content_hash,
                files: image.record.files,
                total_size: image.record.total_size,
                git: commit.record.git,
                message: commit.record.message,
                author: commit.record.author,
                created_at: image.record.first_committed_at,
                committed_at: commit.record.at,
                deployed_to: environments
                    .iter()
                    .filter(|environment| shows(environment, image.record.image))
                    .map(|environment| environment.name.clone())
                    .collect(),
                project_name: owner.name.clone(),
                image_hosts: owner.settings.image_hosts,
                pin: pin.map(|Stored { record, .. }| PinSummary {
                    author: record.author,
                    at: record.at,
                    message: record.message,
                }),
                variants: variants.get(&image.record.manifest).copied().unwrap_or(VariantState::Off),
            })
            .collect())
    }

    /// How far the variants of `manifests` are.
    async fn variants_of(&self, manifests: Vec<ManifestId>) -> Result<HashMap<ManifestId, VariantState>, MetaError> {
        let made = records::variants::made(self.meta(), &manifests).await?;
        let state = made.iter().map(|made| VariantState::of(made.as_ref(), self.desk()));
        Ok(manifests.into_iter().zip(state).collect())
    }
}

/// Cuts `rows`, which are newest first, to one page, and says where the next one begins where there is one.
fn next_cursor<T>(rows: &mut Vec<T>, limit: usize, number: impl Fn(&T) -> u64) -> Option<String> {
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(|last| number(last).to_string())
}

/// Reads a cursor that is a number; without one, listings begin at the highest.
pub(crate) fn number_cursor(cursor: Option<&str>) -> Result<u64, LookupError> {
    cursor.map_or(Ok(u64::MAX), |cursor| cursor.parse().map_err(|_| LookupError::BadCursor))
}
