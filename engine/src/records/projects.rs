//! Projects, by id, and the names and short ids that lead to them.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, decode, read};
use crate::clock::UnixMillis;
use crate::hex;
use crate::id::{ProjectId, TeamId};
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};
use crate::name::ProjectName;
use crate::pointers::{FormerName, PointerEvent, ProjectRef, ProjectSettings};

/// What is hosted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProjectRecord {
    /// Its id.
    pub id: ProjectId,
    /// Its number.
    pub number: u64,
    /// Its owner.
    pub team: TeamId,
    /// Its name.
    pub name: ProjectName,
    /// When it was made.
    pub created_at: UnixMillis,
    /// The number of its last commit.
    pub commits: u64,
    /// How many images it has.
    pub images: u64,
    /// What its hosts have to know.
    #[serde(default)]
    pub settings: ProjectSettings,
    /// The names that it had and that nobody else took since, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_names: Vec<FormerName>,
    /// When it was deleted. The row stays, so that nothing is written for it that began before; nothing leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<UnixMillis>,
    /// When the last of what belonged to it was removed, after it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emptied_at: Option<UnixMillis>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Where a name or short id leads.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct ProjectIndex {
    pub(crate) team: TeamId,
    pub(crate) project: ProjectId,
    /// Until when the name is kept for the team, where the project has another one by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<UnixMillis>,
}

impl From<ProjectIndex> for ProjectRef {
    fn from(index: ProjectIndex) -> Self {
        Self { team: index.team, project: index.project }
    }
}

impl ProjectRecord {
    /// The project's ids.
    #[must_use]
    pub fn reference(&self) -> ProjectRef {
        ProjectRef { team: self.team, project: self.id }
    }

    /// The bytes of the short id: the first four of the id.
    pub(crate) fn short_id(&self) -> [u8; 4] {
        let [first, second, third, fourth, ..] = *self.id.as_bytes();
        [first, second, third, fourth]
    }

    /// What the event feed says of it.
    #[must_use]
    pub fn event(&self) -> PointerEvent {
        PointerEvent::Project {
            team: self.team,
            project_id: self.id,
            name: self.name.clone(),
            settings: self.settings,
            former_names: self.former_names.clone(),
        }
    }
}

pub(crate) fn key(project: ProjectRef) -> Key {
    of(Table::Project, project).finish()
}

/// The beginning of every project's key.
pub(crate) fn prefix() -> Key {
    KeyWriter::new(Table::Project).finish()
}

/// A key of a table whose rows belong to projects, up to the project.
pub(crate) fn of(table: Table, project: ProjectRef) -> KeyWriter {
    KeyWriter::new(table).fixed(project.team.as_bytes()).fixed(project.project.as_bytes())
}

pub(crate) fn name_key(name: &ProjectName) -> Key {
    KeyWriter::new(Table::ProjectByName).text(name).finish()
}

pub(crate) fn short_id_key(short: &[u8; 4]) -> Key {
    KeyWriter::new(Table::ProjectByShortId).fixed(short).finish()
}

pub(crate) fn counter_key() -> Key {
    KeyWriter::new(Table::Counter).text("projects").finish()
}

/// A project, also one that was deleted.
pub(crate) async fn row(meta: &dyn MetaStore, project: ProjectRef) -> Result<Option<Stored<ProjectRecord>>, MetaError> {
    read(meta, key(project), "project").await
}

/// A project that was not deleted.
pub(crate) async fn get(meta: &dyn MetaStore, project: ProjectRef) -> Result<Option<Stored<ProjectRecord>>, MetaError> {
    Ok(row(meta, project).await?.filter(|project| project.record.deleted_at.is_none()))
}

/// Up to `limit` projects of `team` that were not deleted and whose keys come after `after`, and the key to go on after.
pub(crate) async fn of_team(
    meta: &dyn MetaStore,
    team: TeamId,
    after: Option<Key>,
    limit: usize,
) -> Result<(Vec<Stored<ProjectRecord>>, Option<Key>), MetaError> {
    let all = KeyWriter::new(Table::Project).fixed(team.as_bytes()).finish();
    let from = after.map_or_else(|| all.clone(), |after| [&after, &[0][..]].concat().into());
    let rows = meta.scan(from, after_prefix(&all), limit, Order::Ascending).await?;
    let next = rows.last().filter(|_| rows.len() == limit).map(|(key, _)| key.clone());
    let projects: Result<Vec<Stored<ProjectRecord>>, _> =
        rows.iter().map(|(_, item)| decode(item, "project")).collect();
    Ok((projects?.into_iter().filter(|project| project.record.deleted_at.is_none()).collect(), next))
}

/// Where a name leads: to the project that has it, or that had it last.
pub(crate) async fn by_name(
    meta: &dyn MetaStore,
    name: &ProjectName,
) -> Result<Option<Stored<ProjectIndex>>, MetaError> {
    read(meta, name_key(name), "project name").await
}

/// The project that has a name, or had it last.
pub(crate) async fn find_by_name(meta: &dyn MetaStore, name: &ProjectName) -> Result<Option<ProjectRef>, MetaError> {
    Ok(by_name(meta, name).await?.map(|index| index.record.into()))
}

pub(crate) async fn find_by_short_id(meta: &dyn MetaStore, short: &str) -> Result<Option<ProjectRef>, MetaError> {
    let Some(short) = hex::decode(short) else { return Ok(None) };
    let index: Option<Stored<ProjectIndex>> = read(meta, short_id_key(&short), "project short id").await?;
    Ok(index.map(|index| index.record.into()))
}

/// The project that a key of a project's table begins with.
pub(crate) fn project_in(key: &Key) -> Result<ProjectRef, MetaError> {
    let id = |at: usize| key.get(at..at + 16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    match (id(1), id(17)) {
        (Some(team), Some(project)) => {
            Ok(ProjectRef { team: TeamId::from_bytes(team), project: ProjectId::from_bytes(project) })
        }
        _ => Err(MetaError::Damaged { what: "key" }),
    }
}
