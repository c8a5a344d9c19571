//! Images and the commits that made them, and the list of images by latest commit.

use serde::{Deserialize, Serialize};

use super::{Stored, Table, Unknown, decode, projects, read, trailing_number};
use crate::clock::UnixMillis;
use crate::hash::{ContentHash, ManifestId};
use crate::hex;
use crate::id::{ImageId, UserId};
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};
use crate::pointers::ProjectRef;

/// A manifest that was committed to a project.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ImageRecord {
    /// The image.
    pub image: ImageId,
    /// Its manifest.
    pub manifest: ManifestId,
    /// What its content is known by.
    pub content_hash: ContentHash,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub total_size: u64,
    /// When it was first committed.
    pub first_committed_at: UnixMillis,
    /// The number of its latest commit.
    pub last_commit: u64,
    /// When the collector removed its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected_at: Option<UnixMillis>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Where content came from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GitFacts {
    /// The commit's id.
    pub commit: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// The subject line.
    pub message: Option<String>,
}

/// One act of committing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CommitRecord {
    /// Its number in the project.
    pub number: u64,
    /// The image that it made or met again.
    pub image: ImageId,
    /// When.
    pub at: UnixMillis,
    /// Who.
    pub user: UserId,
    /// What they were called then.
    pub author: String,
    /// Why.
    pub message: Option<String>,
    /// Where the content came from.
    pub git: Option<GitFacts>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

pub(crate) fn key(project: ProjectRef, image: ImageId) -> Key {
    projects::of(Table::Image, project).fixed(image.as_bytes()).finish()
}

/// The beginning of every image's key.
pub(crate) fn prefix() -> Key {
    super::KeyWriter::new(Table::Image).finish()
}

pub(crate) fn commit_key(project: ProjectRef, number: u64) -> Key {
    projects::of(Table::Commit, project).number(number).finish()
}

/// The key of the row that lists an image by its latest commit.
pub(crate) fn history_key(project: ProjectRef, commit: u64) -> Key {
    projects::of(Table::History, project).number(commit).finish()
}

pub(crate) async fn get(
    meta: &dyn MetaStore,
    project: ProjectRef,
    image: ImageId,
) -> Result<Option<Stored<ImageRecord>>, MetaError> {
    read(meta, key(project, image), "image").await
}

/// The image of `project` whose id begins with these 16 hex digits, collected or not.
pub(crate) async fn find_by_digits(
    meta: &dyn MetaStore,
    project: ProjectRef,
    digits: &str,
) -> Result<Option<ImageRecord>, MetaError> {
    let Some(start) = hex::decode::<8>(digits) else { return Ok(None) };
    let from = projects::of(Table::Image, project).fixed(&start).finish();
    let to = after_prefix(&from);
    let found = meta.scan(from, to, 1, Order::Ascending).await?;
    let Some((_, item)) = found.first() else { return Ok(None) };
    Ok(Some(decode(item, "image")?.record))
}

/// The manifests of every image of `project` that is still kept.
pub(crate) async fn manifests(meta: &dyn MetaStore, project: ProjectRef) -> Result<Vec<ManifestId>, MetaError> {
    const PAGE: usize = 1000;
    let mut from = projects::of(Table::Image, project).finish();
    let to = after_prefix(&from);
    let mut found = Vec::new();
    loop {
        let page = meta.scan(from, to.clone(), PAGE, Order::Ascending).await?;
        for (_, item) in &page {
            let image: ImageRecord = decode(item, "image")?.record;
            found.extend(image.collected_at.is_none().then_some(image.manifest));
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => from = [last, &[0][..]].concat().into(),
            _ => return Ok(found),
        }
    }
}

/// The images of `project` by latest commit, newest first: commits below `before`, up to `limit`.
pub(crate) async fn history(
    meta: &dyn MetaStore,
    project: ProjectRef,
    before: u64,
    limit: usize,
) -> Result<Vec<(u64, ImageId)>, MetaError> {
    let from = projects::of(Table::History, project).finish();
    let rows = meta.scan(from, history_key(project, before), limit, Order::Descending).await?;
    rows.iter().map(|(key, item)| Ok((trailing_number(key)?, decode(item, "history")?.record))).collect()
}
