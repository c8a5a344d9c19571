//! Bodies of the calls about domains.

use serde::{Deserialize, Serialize};

/// `POST /domains`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct DomainRequest {
    /// The project's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The project's id, or its short id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// The domain, in any case and script.
    pub domain: String,
    /// The path under which it is to show the project; `/` where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// The environment that it is to show; `prod` where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The same as `environment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The domain that visitors are sent to instead: the same with or without `www.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
}

/// `PATCH /domains/{domain}`. What is missing stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct DomainChange {
    /// The environment that the prefix shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The same as `environment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The domain that visitors are sent to; an empty text where they are sent nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
}

/// Something about a domain's name that its owner should know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DomainWarning {
    /// The code: never renamed.
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// The answer to `POST /domains`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DomainAnswer {
    /// What was added.
    #[serde(flatten)]
    pub domain: DomainItem,
    /// What the domain's owner should know of its name.
    pub warnings: Vec<DomainWarning>,
}

/// One domain and prefix in `GET /domains`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DomainItem {
    /// The domain, in lower case and punycode.
    pub domain: String,
    /// The prefix, such as `/` or `/docs`.
    pub slug: String,
    /// `system` for a project's own host, else `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `active` or `pending`.
    pub status: String,
    /// Whether it is the project's own host.
    pub is_primary: bool,
    /// When it was added.
    pub created_at: String,
    /// The project.
    pub project: String,
    /// The environment that it shows.
    pub environment: String,
    /// The domain as people read it, where that is another text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unicode: Option<String>,
    /// Where visitors are sent instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
    /// What proves that the domain is the team's. Always the same for the same domain and team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_token: Option<String>,
    /// The TXT record that proves it, as a line of a zone, while it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_txt: Option<String>,
    /// The address of the file that proves it too, while it is pending and the domain leads elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_file: Option<String>,
    /// When it was proven last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<String>,
    /// When it ends, because it cannot be proven any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
}

/// `GET /domains`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Domains {
    /// All of them: the project's own host first, the others by name and prefix.
    pub domains: Vec<DomainItem>,
}

/// The answer to `POST /domains/{domain}/verify`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Verification {
    /// The domain.
    pub domain: String,
    /// `active` or `pending`.
    pub status: String,
    /// Whether it was proven just now.
    pub verified: bool,
    /// What was found, or what is missing.
    pub message: String,
}
