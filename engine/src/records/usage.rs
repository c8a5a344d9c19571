//! What a team uses: how many projects it has, and how many bytes their images take up, shared files counted once.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, projects, read, read_all};
use crate::hash::ManifestId;
use crate::id::{ProjectId, TeamId};
use crate::meta::{Key, MetaError, MetaStore};
use crate::pointers::ProjectRef;

/// What a team uses. Whoever makes or deletes a project or an image of the team changes this row in the same commit.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct UsageRecord {
    /// Whether the numbers are right. Where they are not, they are counted anew before they are needed.
    pub(crate) is_counted: bool,
    /// How many projects there are.
    pub(crate) projects: u64,
    /// How many bytes all images of all projects take up.
    pub(crate) bytes: u64,
    /// Which count the blobs in the index are marked with that belong to this one.
    pub(crate) count: u32,
    /// The image whose blobs are counted, and perhaps not marked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unmarked: Option<UnmarkedImage>,
    #[serde(flatten)]
    pub(crate) unknown: Unknown,
}

/// An image whose blobs are to be marked.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct UnmarkedImage {
    pub(crate) project: ProjectId,
    pub(crate) manifest: ManifestId,
}

/// What a project uses. It counts only where it is of the same count as its team's.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ProjectUsage {
    pub(crate) count: u32,
    pub(crate) bytes: u64,
}

pub(crate) fn key(team: TeamId) -> Key {
    KeyWriter::new(Table::Usage).fixed(team.as_bytes()).finish()
}

pub(crate) fn project_key(project: ProjectRef) -> Key {
    projects::of(Table::ProjectUsage, project).finish()
}

pub(crate) async fn get(meta: &dyn MetaStore, team: TeamId) -> Result<Option<Stored<UsageRecord>>, MetaError> {
    read(meta, key(team), "usage").await
}

/// What each of `projects` uses by the team's count of this number, in bytes, in their order.
pub(crate) async fn of_projects(
    meta: &dyn MetaStore,
    projects: &[ProjectRef],
    count: u32,
) -> Result<Vec<u64>, MetaError> {
    let keys: Vec<_> = projects.iter().map(|project| project_key(*project)).collect();
    let rows = read_all::<ProjectUsage>(meta, &keys, "usage").await?;
    let bytes =
        |row: Option<Stored<ProjectUsage>>| row.filter(|row| row.record.count == count).map(|row| row.record.bytes);
    Ok(rows.into_iter().map(|row| bytes(row).unwrap_or(0)).collect())
}
