//! Plans: open publishes. The record says what is decided; the list of files is an object.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, images::GitFacts, read};
use crate::clock::UnixMillis;
use crate::hash::ContentHash;
use crate::id::{ImageId, PlanId, ProjectId, TeamId, UserId};
use crate::manifest::Settings;
use crate::meta::{Key, MetaError, MetaStore};
use crate::pointers::ProjectRef;

/// Where a plan stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// Blobs may be uploaded, and it may be committed.
    Open,
    /// It became an image.
    Committed,
    /// It ran out or was given up.
    Expired,
}

/// An open publish.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlanRecord {
    /// Its id.
    pub id: PlanId,
    /// The project's owner.
    pub team: TeamId,
    /// The project.
    pub project: ProjectId,
    /// Who planned it.
    pub user: UserId,
    /// Where it stands.
    pub state: PlanState,
    /// What its content is known by.
    pub content_hash: ContentHash,
    /// How many files there are.
    pub files: u64,
    /// The sum of the sizes that were announced, in bytes.
    pub total_size: u64,
    /// The site's settings.
    pub settings: Settings,
    /// Where the content comes from.
    pub git: Option<GitFacts>,
    /// Why it is published.
    pub message: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Until when it is open.
    pub expires_at: UnixMillis,
    /// What became of it.
    pub committed: Option<CommittedPlan>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a plan became.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct CommittedPlan {
    /// The image.
    pub image: ImageId,
    /// The number of the commit.
    pub commit: u64,
    /// When.
    pub at: UnixMillis,
    /// Whether the project did not have the image before.
    pub new_image: bool,
}

impl PlanRecord {
    /// The project's ids.
    #[must_use]
    pub fn project(&self) -> ProjectRef {
        ProjectRef { team: self.team, project: self.project }
    }

    /// Where the plan stands at `now`: an open plan is over when its time is, whether or not anybody wrote that down.
    #[must_use]
    pub fn state_at(&self, now: UnixMillis) -> PlanState {
        match self.state {
            PlanState::Open if self.expires_at <= now => PlanState::Expired,
            state => state,
        }
    }
}

pub(crate) fn key(team: TeamId, plan: PlanId) -> Key {
    KeyWriter::new(Table::Plan).fixed(team.as_bytes()).fixed(plan.as_bytes()).finish()
}

/// The beginning of the keys of a team's plans.
pub(crate) fn prefix_of(team: TeamId) -> Key {
    KeyWriter::new(Table::Plan).fixed(team.as_bytes()).finish()
}

/// The beginning of every plan's key.
pub(crate) fn prefix() -> Key {
    KeyWriter::new(Table::Plan).finish()
}

pub(crate) async fn get(
    meta: &dyn MetaStore,
    team: TeamId,
    plan: PlanId,
) -> Result<Option<Stored<PlanRecord>>, MetaError> {
    read(meta, key(team, plan), "plan").await
}
