//! The bodies of requests and answers about projects as a whole.

use serde::{Deserialize, Serialize};

/// `POST /projects`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProjectRequest {
    /// What the project is to be called.
    pub name: String,
}

/// `PUT /domains/rename`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RenameRequest {
    /// What the project is to be called: the first label of its host.
    pub new_subdomain: String,
}

/// The answer of `GET /subdomain/check`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SubdomainCheck {
    /// Whether a new project could be called so.
    pub available: bool,
    /// A name like it that a new project could have, where this one is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

/// The answer of `DELETE /projects/{project}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProjectDeleted {
    /// What happened, in words.
    pub message: String,
}

/// `PATCH /projects/{project}`. What is missing stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ProjectChange {
    /// What the project is to be called. Its former hosts lead to the new ones for 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who gets the project's images by their own hosts: `public`, `protected` or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_hosts: Option<String>,
}

/// One project.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProjectItem {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The first label of its host.
    pub subdomain: String,
    /// The team that owns it.
    pub owner_id: String,
    /// When it was made.
    pub created_at: String,
    /// Who gets its images by their own hosts: `public`, `protected` or `off`.
    pub image_hosts: String,
}

/// The answer of `GET /usage`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Usage {
    /// How many projects the team has; nothing where the token is for one project.
    pub projects: Option<u64>,
    /// How many bytes the images of the team take up, a file that several have counted once; nothing where the token is
    /// for one project.
    pub stored_bytes: Option<u64>,
    /// What the team may use.
    pub limits: TeamLimits,
    /// What each project uses.
    pub items: Vec<UsageItem>,
    /// Where the next page begins; nothing on the last one.
    pub next_cursor: Option<String>,
}

/// What a team may use. What is missing has no limit.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TeamLimits {
    /// How many projects.
    pub projects: Option<u64>,
    /// How many bytes of images.
    pub stored_bytes: Option<u64>,
    /// How many bytes one publish.
    pub publish_bytes: Option<u64>,
}

/// What a project uses.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UsageItem {
    /// The project's name.
    pub project: String,
    /// The project's id.
    pub project_id: String,
    /// How many images it has.
    pub images: u64,
    /// How many bytes they take up, a file that several have counted once.
    pub stored_bytes: u64,
}
