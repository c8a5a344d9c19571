//! Turning uploaded blobs into a live release: the one write path.
//!
//! Order: blobs, index, manifest, then one checked commit that moves the pointer, writes the release, the audit row and
//! the event. Each step names only what is already durable, so a crash in between leaves garbage, never a pointer to
//! something missing. A release is acknowledged only after this process serves it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ProjectId;
use crate::name::{NameError, ProjectName};

mod commit;
mod diagnostics;
mod pin;
mod preview;
mod release;

pub(crate) use commit::{Built, NewCommit};
pub use commit::{CommitError, CommitRequest, Committed};
pub use diagnostics::site_diagnostics;
pub use pin::PinError;
pub use preview::{DEFAULT_PREVIEW, PreviewRequest, Previewed, SHORTEST_PREVIEW};
pub(crate) use release::MoveRows;
pub use release::{ReleaseError, ReleaseRequest, Released};

/// How a caller names a project: by its name, its short id or its id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProjectSelector {
    /// By name.
    Name(ProjectName),
    /// By the first 8 hex digits of its id.
    ShortId(String),
    /// By its id.
    Id(ProjectId),
}

impl FromStr for ProjectSelector {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        match text.parse() {
            Ok(name) => Ok(Self::Name(name)),
            Err(NameError::LooksLikeShortId) => Ok(Self::ShortId(text.to_owned())),
            Err(error) => Err(error),
        }
    }
}

/// How bad something is that was found in a site.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It may be meant.
    Warning,
    /// It does not work.
    Error,
}

/// Something in a site that its publisher should know.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Diagnostic {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 where none is meant.
    pub line: u64,
    /// How bad it is.
    pub severity: Severity,
    /// The code: never renamed.
    pub code: String,
    /// One sentence.
    pub message: String,
}
