//! Pins: images that are kept although nothing shows them any more.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, projects, read};
use crate::clock::UnixMillis;
use crate::id::{ImageId, UserId};
use crate::meta::{Key, MetaError, MetaStore};
use crate::pointers::ProjectRef;

/// That an image of a project is to be kept, and who said so. It has a row of its own, so that pinning an image and
/// committing it again do not get in each other's way.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PinRecord {
    /// The image.
    pub image: ImageId,
    /// When it was pinned.
    pub at: UnixMillis,
    /// Who pinned it.
    pub user: UserId,
    /// What they were called then.
    pub author: String,
    /// Why.
    pub message: Option<String>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

pub(crate) fn key(project: ProjectRef, image: ImageId) -> Key {
    projects::of(Table::Pin, project).fixed(image.as_bytes()).finish()
}

/// The beginning of every pin's key.
pub(crate) fn prefix() -> Key {
    KeyWriter::new(Table::Pin).finish()
}

pub(crate) async fn get(
    meta: &dyn MetaStore,
    project: ProjectRef,
    image: ImageId,
) -> Result<Option<Stored<PinRecord>>, MetaError> {
    read(meta, key(project, image), "pin").await
}
