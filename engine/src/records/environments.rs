//! Environments: the named pointers of a project, and the only thing that a release changes.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, decode, projects, read};
use crate::clock::UnixMillis;
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};
use crate::name::EnvironmentName;
use crate::pointers::{ProjectRef, Shown};

/// A named pointer of a project. Its row stays when it is deleted, so that numbers never repeat.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EnvironmentRecord {
    /// Its name.
    pub name: EnvironmentName,
    /// The number of its last release.
    pub number: u64,
    /// The moment that `Last-Modified` names since the last release, kept through a delete.
    pub last_modified: UnixMillis,
    /// What it shows; nothing after a delete.
    pub shows: Option<Shown>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

pub(crate) fn key(project: ProjectRef, environment: &EnvironmentName) -> Key {
    projects::of(Table::Environment, project).text(environment).finish()
}

/// The beginning of every environment's key.
pub(crate) fn prefix() -> Key {
    KeyWriter::new(Table::Environment).finish()
}

pub(crate) async fn get(
    meta: &dyn MetaStore,
    project: ProjectRef,
    environment: &EnvironmentName,
) -> Result<Option<Stored<EnvironmentRecord>>, MetaError> {
    read(meta, key(project, environment), "environment").await
}

/// Every environment of `project` that shows something at `now`, by name.
pub(crate) async fn shown(
    meta: &dyn MetaStore,
    project: ProjectRef,
    now: UnixMillis,
) -> Result<Vec<EnvironmentRecord>, MetaError> {
    those(meta, project, |shown| !shown.is_expired(now)).await
}

/// Every environment of `project` that shows something at `now` or is a preview that is over and still kept, by name.
pub(crate) async fn kept(
    meta: &dyn MetaStore,
    project: ProjectRef,
    now: UnixMillis,
) -> Result<Vec<EnvironmentRecord>, MetaError> {
    those(meta, project, |shown| !shown.has_lapsed(now)).await
}

async fn those(
    meta: &dyn MetaStore,
    project: ProjectRef,
    wanted: impl Fn(&Shown) -> bool,
) -> Result<Vec<EnvironmentRecord>, MetaError> {
    const PAGE: usize = 1000;
    let mut from = projects::of(Table::Environment, project).finish();
    let to = after_prefix(&from);
    let mut found = Vec::new();
    loop {
        let page = meta.scan(from, to.clone(), PAGE, Order::Ascending).await?;
        for (_, item) in &page {
            let environment: Stored<EnvironmentRecord> = decode(item, "environment")?;
            found
                .extend(Some(environment.record).filter(|environment| environment.shows.as_ref().is_some_and(&wanted)));
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => from = [last, &[0][..]].concat().into(),
            _ => break,
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The project that the key of an environment names.
pub(crate) fn project_of(key: &Key) -> Result<ProjectRef, MetaError> {
    projects::project_in(key)
}
