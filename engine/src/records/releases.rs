//! Releases: every recorded move of a pointer, numbered per environment, and a log of them per project.

use serde::{Deserialize, Serialize};

use super::{Stored, Table, Unknown, decode, projects, read, trailing_number};
use crate::clock::UnixMillis;
use crate::id::{ImageId, UserId};
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};
use crate::name::EnvironmentName;
use crate::pointers::ProjectRef;

/// What kind of move a release is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// To any image.
    Release,
    /// To an earlier image.
    Rollback,
    /// To nothing.
    Delete,
}

impl Action {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Rollback => "rollback",
            Self::Delete => "delete",
        }
    }
}

/// One recorded move of a pointer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReleaseRecord {
    /// Its number in the environment, from 1.
    pub number: u64,
    /// The environment.
    pub environment: EnvironmentName,
    /// What kind of move.
    pub action: Action,
    /// What is shown from then on.
    pub image: Option<ImageId>,
    /// What was shown before.
    pub previous: Option<ImageId>,
    /// When.
    pub at: UnixMillis,
    /// Who.
    pub user: UserId,
    /// What they were called then.
    pub author: String,
    /// Why.
    pub message: Option<String>,
    /// Until when it is shown, where the environment is a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMillis>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A row of a project's log: which release it was.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LogRecord {
    pub(crate) environment: EnvironmentName,
    pub(crate) number: u64,
}

/// The number of the last row of a project's log.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct LogCounter {
    pub(crate) last: u64,
}

pub(crate) fn key(project: ProjectRef, environment: &EnvironmentName, number: u64) -> Key {
    projects::of(Table::Release, project).text(environment).number(number).finish()
}

pub(crate) fn log_key(project: ProjectRef, number: u64) -> Key {
    projects::of(Table::ReleaseLog, project).number(number).finish()
}

/// The counter is the row whose number no release has: it comes first, and listings start after it.
pub(crate) fn log_counter_key(project: ProjectRef) -> Key {
    log_key(project, 0)
}

pub(crate) async fn get(
    meta: &dyn MetaStore,
    project: ProjectRef,
    environment: &EnvironmentName,
    number: u64,
) -> Result<Option<Stored<ReleaseRecord>>, MetaError> {
    read(meta, key(project, environment, number), "release").await
}

/// Releases of one environment with numbers below `before`, newest first, up to `limit`.
pub(crate) async fn of_environment(
    meta: &dyn MetaStore,
    project: ProjectRef,
    environment: &EnvironmentName,
    before: u64,
    limit: usize,
) -> Result<Vec<ReleaseRecord>, MetaError> {
    let from = key(project, environment, 0);
    let rows = meta.scan(from, key(project, environment, before), limit, Order::Descending).await?;
    rows.iter().map(|(_, item)| Ok(decode(item, "release")?.record)).collect()
}

/// Rows of the project's log with numbers below `before`, newest first, up to `limit`.
pub(crate) async fn log(
    meta: &dyn MetaStore,
    project: ProjectRef,
    before: u64,
    limit: usize,
) -> Result<Vec<(u64, LogRecord)>, MetaError> {
    let rows = meta.scan(log_key(project, 1), log_key(project, before), limit, Order::Descending).await?;
    rows.iter().map(|(key, item)| Ok((trailing_number(key)?, decode(item, "release log")?.record))).collect()
}

/// How many releases an environment has: for `fsck`, which compares it with the environment's number.
pub(crate) async fn count(
    meta: &dyn MetaStore,
    project: ProjectRef,
    environment: &EnvironmentName,
) -> Result<u64, MetaError> {
    let from = projects::of(Table::Release, project).text(environment).finish();
    let rows = meta.scan(from.clone(), after_prefix(&from), usize::MAX, Order::Ascending).await?;
    Ok(rows.len() as u64)
}
