//! The bodies of requests and answers, as JSON has them.
//!
//! The names are pinned: clients depend on them, and answers only grow. Unknown fields of requests are ignored. Several
//! answers carry more than one client needs, because two published descriptions of this protocol differ. Times are RFC
//! 3339 with `Z`.

use std::collections::BTreeMap;

use pinstone_engine::publish::{self, Severity};
use serde::{Deserialize, Serialize};

use crate::json_shape::seconds;

pub mod account;
pub mod domain;
mod project;

pub use project::*;

/// The answer to anything that failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorBody {
    /// The code: never renamed.
    pub error: String,
    /// One sentence, without hashes, ids or echoed input.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// `GET /health`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Health {
    /// `healthy` or `degraded`.
    pub status: String,
    /// `ok` or `error`.
    pub database: String,
    /// `ok` or `error`.
    pub storage: String,
    /// How long the server has been running, such as `1h2m3s`.
    pub uptime: String,
    /// The server's version.
    pub version: String,
}

/// `GET /config`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PublicConfig {
    /// The base domain, with the port where it is not the scheme's own.
    pub domain: String,
    /// Whether this is a public demonstration.
    pub is_demo: bool,
    /// Who may register: `open`, `invite` or `closed`.
    pub registration: String,
    /// The server's version.
    pub version: String,
    /// What a publish may be.
    pub limits: Limits,
}

/// What a publish may be.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Limits {
    /// Files of one plan.
    pub files: u64,
    /// Bytes of one file.
    pub file_size: u64,
    /// Bytes of all files of one publish.
    #[serde(default)]
    pub publish_size: u64,
    /// Bytes of the JSON of one plan.
    pub plan_size: u64,
    /// Files of one batch.
    #[serde(default)]
    pub batch_files: u64,
    /// Bytes of the files of one batch.
    #[serde(default)]
    pub batch_size: u64,
    /// Bytes of a file that goes into a batch; a larger one is uploaded alone.
    #[serde(default)]
    pub batch_file_size: u64,
    /// Bytes of a path.
    pub path_length: u64,
    /// Bytes of a message.
    pub message_length: u64,
    /// Bytes of an archive as it is sent.
    #[serde(default)]
    pub archive_size: u64,
    /// Bytes that an archive may unpack to.
    #[serde(default)]
    pub archive_unpacked: u64,
    /// Seconds that a preview may be asked to last.
    #[serde(default)]
    pub preview_lifetime: u64,
}

/// `POST /plan`, for clients to send. The server does not read it into this type: a plan may be large, so it goes from
/// text to the engine's types in one pass.
#[derive(Clone, Debug, Serialize)]
pub struct PlanRequest {
    /// The project's name. The first plan makes the project.
    pub project: String,
    /// What the site consists of.
    pub files: PlanFiles,
    /// Where the content comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// Why it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The site's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SiteSettings>,
}

/// The files of a plan, in either of two shapes. The answer has the shape of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum PlanFiles {
    /// One object a file.
    List(Vec<PlanFile>),
    /// Path to hash; one leading `/` of a path is removed.
    Map(BTreeMap<String, String>),
}

/// One file of a plan.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlanFile {
    /// Where it is in the site.
    pub path: String,
    /// BLAKE3 of its bytes, 64 hex digits.
    pub blake3: String,
    /// SHA-256 of its bytes, in Base64; taken again at ingest, so it is not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How many bytes it has.
    pub size: u64,
    /// What the publisher takes it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Where content comes from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Git {
    /// The commit's id.
    #[serde(default)]
    pub commit: Option<String>,
    /// The branch.
    #[serde(default)]
    pub branch: Option<String>,
    /// The subject line.
    #[serde(default)]
    pub message: Option<String>,
}

/// The settings of a site.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SiteSettings {
    /// `keep`, `auto`, `none`, `drop-slash` or `force-slash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// `404-page` or `spa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_found: Option<String>,
    /// `native`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// The answer to `POST /plan` with a list of files.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlanAnswer<M = Vec<MissingBlob>> {
    /// The plan.
    pub plan_id: String,
    /// What the content is known by.
    pub content_hash: String,
    /// `direct`.
    pub upload_mode: String,
    /// What has to be uploaded, each hash once. Never null.
    pub missing: M,
    /// How many files need no upload.
    pub reusable: u64,
    /// How many files there are.
    pub files_count: u64,
    /// How many bytes they have, as far as is known.
    pub total_size: u64,
    /// How many bytes have to be uploaded, as far as is known.
    pub missing_bytes: u64,
    /// Where many small files are sent at once; empty where a server takes no batches.
    #[serde(default)]
    pub batch_url: String,
    /// Until when the plan is open.
    pub expires_at: String,
    /// What is allowed and worth knowing, such as paths that differ only in case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}

/// One blob that has to be uploaded.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MissingBlob {
    /// A path that has it.
    pub path: String,
    /// Its hash.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
    /// Where to upload it.
    pub upload_url: String,
}

/// The answer to `POST /plan` with a map of files.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MapPlanAnswer {
    /// The plan.
    pub plan_id: String,
    /// What the content is known by.
    pub content_hash: String,
    /// What has to be uploaded, each hash once. Never null.
    pub missing: Vec<String>,
    /// Where to upload each.
    pub upload_urls: BTreeMap<String, String>,
    /// How many files need no upload.
    pub reusable: u64,
    /// Until when the plan is open.
    pub expires_at: String,
    /// What is allowed and worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}

/// `GET /plans/{plan_id}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlanStatus {
    /// The plan.
    pub plan_id: String,
    /// `open`, `committed` or `expired`.
    pub status: String,
    /// The hashes that still have to be uploaded.
    pub missing: Vec<String>,
    /// The image it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Until when it is open.
    pub expires_at: String,
}

/// The answer to an upload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UploadAnswer {
    /// The blob's hash.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
}

/// The answer to a batch.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BatchAnswer {
    /// How many files the team has since.
    pub stored: u64,
    /// How many it had already.
    pub already: u64,
    /// Those that were not taken, in the order in which they were sent.
    pub failed: Vec<BatchFailure>,
}

/// A file of a batch that was not taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BatchFailure {
    /// Its place in the batch, from 0.
    pub index: u64,
    /// Why: a code.
    pub error: String,
    /// Why: a sentence.
    pub message: String,
}

/// `POST /commit`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct CommitRequest {
    /// The plan.
    pub plan_id: String,
    /// Why it is published; the plan's message counts where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether diagnostics refuse the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// The answer to `POST /commit`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CommitAnswer {
    /// The image.
    pub image_id: String,
    /// What its content is known by.
    pub content_hash: String,
    /// When the image was first committed.
    pub created_at: String,
    /// When this commit was made.
    pub committed_at: String,
    /// How many files it has.
    pub files_count: u64,
    /// How many bytes they have.
    pub total_size: u64,
    /// Whether the project did not have this image before.
    pub new_image: bool,
    /// What was found in it.
    pub diagnostics: Vec<Diagnostic>,
}

/// Something that the publisher should know about a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Diagnostic {
    /// The file.
    pub file: String,
    /// The line, from 1, or 0 where none is meant.
    pub line: u64,
    /// `warning` or `error`.
    pub severity: String,
    /// The code: never renamed.
    pub code: String,
    /// One sentence.
    pub message: String,
}

impl From<publish::Diagnostic> for Diagnostic {
    fn from(found: publish::Diagnostic) -> Self {
        let publish::Diagnostic { file, line, severity, code, message } = found;
        let severity = match severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        Self { file, line, severity: severity.to_owned(), code, message }
    }
}

/// `POST /release` and `POST /rollback`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ReleaseRequest {
    /// The project's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The project's id, or its short id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// The environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The environment, by its other name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The image; without it, the latest commit's, or for a rollback the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// What the environment must show now; `""` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_image_id: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer to `POST /release` and `POST /rollback`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReleaseAnswer {
    /// Where it can be seen.
    pub url: String,
    /// The project's name.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// What it shows now.
    pub image_id: String,
    /// What it showed before; `""` for nothing.
    pub previous_image_id: String,
    /// The release's number in this environment.
    pub number: u64,
    /// `release` or `rollback`.
    pub action: String,
    /// Whether anything changed.
    pub changed: bool,
    /// When the release was made.
    pub deployed_at: String,
}

/// The answer to `PUT` and `POST /deploy/{project}`: what was released, and what it was made of.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeployAnswer {
    /// The release.
    #[serde(flatten)]
    pub release: ReleaseAnswer,
    /// What the archive was: `tar`, `tar.gz`, `tar.zst` or `zip`.
    pub format: String,
    /// What its content is known by.
    pub content_hash: String,
    /// When the image was first committed.
    pub created_at: String,
    /// When this commit was made.
    pub committed_at: String,
    /// How many files it has.
    pub files_count: u64,
    /// How many bytes they have.
    pub total_size: u64,
    /// Whether the project did not have this image before.
    pub new_image: bool,
    /// How many different files the team did not have.
    pub new: u64,
    /// How many files needed nothing to be stored.
    pub reused: u64,
    /// How many files and links of the archive are ignored.
    pub ignored: u64,
    /// How many links of the archive were followed.
    pub links_followed: u64,
    /// What was found in it.
    pub diagnostics: Vec<Diagnostic>,
}

/// `GET /current`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CurrentAnswer {
    /// What the environment shows.
    pub image_id: String,
    /// What its content is known by.
    pub content_hash: String,
    /// When it was released.
    pub deployed_at: String,
    /// How many files it has.
    pub file_count: u64,
    /// The release's number.
    pub number: u64,
    /// Where it can be seen.
    pub url: String,
    /// The release's message, `""` for none.
    pub message: String,
    /// Who released it.
    pub author: String,
    /// Until when, where the environment is a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// One image in `GET /history`, by its latest commit, newest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HistoryItem {
    /// The image.
    pub image_id: String,
    /// What its content is known by.
    pub content_hash: String,
    /// When it was last committed.
    pub created_at: String,
    /// The commit's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_branch: Option<String>,
    /// The subject line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_message: Option<String>,
    /// Why it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who committed it.
    pub author: String,
    /// How many files it has.
    pub file_count: u64,
    /// How many bytes they have.
    pub total_size: u64,
    /// The environments that show it.
    pub deployed_to: Vec<String>,
}

/// One release in `GET /releases`, newest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReleaseItem {
    /// Its number in the environment.
    pub number: u64,
    /// The environment.
    pub environment: String,
    /// `release`, `rollback` or `delete`.
    pub action: String,
    /// What the environment showed from then on; `""` after a delete.
    pub image_id: String,
    /// What it showed before; `""` for nothing.
    pub previous_image_id: String,
    /// Who did it.
    pub author: String,
    /// Why; `""` for no reason given.
    pub message: String,
    /// When.
    pub created_at: String,
    /// Until when it was to be shown, where the environment was a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// `GET /images`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ImagesAnswer {
    /// The images of this page, by latest commit, newest first.
    pub images: Vec<ImageItem>,
    /// How many the project has.
    pub total: u64,
}

/// One image, in `GET /images` and `GET /images/{id}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ImageItem {
    /// The image, again.
    pub id: String,
    /// The image.
    pub image_id: String,
    /// The project's id.
    pub project_id: String,
    /// What its content is known by.
    pub content_hash: String,
    /// How many files it has.
    pub file_count: u64,
    /// How many bytes they have.
    pub total_size: u64,
    /// The commit's id.
    pub git_commit: Option<String>,
    /// The branch.
    pub git_branch: Option<String>,
    /// The subject line.
    pub git_message: Option<String>,
    /// Why it was published.
    pub message: Option<String>,
    /// Who committed it last.
    pub author: String,
    /// When it was first committed.
    pub created_at: String,
    /// When it was last committed.
    pub committed_at: String,
    /// The environments that show it.
    pub deployed_to: Vec<String>,
    /// Where it can be seen by itself; missing where the project's images have no hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether it is kept, whatever is released later.
    #[serde(default)]
    pub pinned: bool,
    /// Who keeps it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// Its files under content codings.
    #[serde(default)]
    pub variants: Variants,
}

/// An image's files under content codings: whether they are there, and what they save.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Variants {
    /// `made`, `pending`, or `off` where the server makes none.
    pub state: String,
    /// How many bytes the files have that are worth encoding, where their variants are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<VariantBytes>,
    /// How many of them a visitor is spared who takes every coding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<u64>,
}

/// Bytes of an image's files by what they are sent in. A file without a variant counts as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct VariantBytes {
    /// As they are.
    pub identity: u64,
    /// By brotli.
    pub br: u64,
    /// By Zstandard.
    pub zstd: u64,
    /// By gzip.
    pub gzip: u64,
}

/// `PUT /images/{id}/pin`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PinRequest {
    /// Why it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Who keeps an image, and why.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Pin {
    /// Who pinned it.
    pub author: String,
    /// Why; `""` for no reason given.
    pub message: String,
    /// When it was pinned.
    pub created_at: String,
}

/// `POST /preview`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PreviewRequest {
    /// The project's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The project's id, or its short id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// What the preview is to show.
    pub image_id: String,
    /// What the preview is to be called; without it, a name that nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// How long it lasts, in seconds; a day where this is missing.
    #[serde(default, deserialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<i64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer to `POST /preview`, and one preview in `GET /previews`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PreviewItem {
    /// Where it can be seen.
    pub url: String,
    /// The project's name.
    pub project: String,
    /// What it is called; not what was asked for, where that was too long.
    pub slug: String,
    /// What it shows.
    pub image_id: String,
    /// When it is or was over.
    pub expires_at: String,
    /// Whether it is over: its host answers 410 then.
    pub expired: bool,
    /// The number of its last release.
    pub number: u64,
    /// When that was made.
    pub deployed_at: String,
}

/// One file in `GET /images/{id}/files`, in the order of paths.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImageFile {
    /// Where it is in the site.
    pub path: String,
    /// Its hash.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it is served as.
    pub content_type: String,
}

/// One environment in `GET /environments`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EnvironmentItem {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub image_id: String,
    /// Where.
    pub url: String,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Whether a password guards it.
    pub protected: bool,
    /// The number of its last release.
    pub number: u64,
    /// When that was made.
    pub deployed_at: String,
    /// The image's files under content codings.
    #[serde(default)]
    pub variants: Variants,
}

/// `POST /diff`, for clients to send: a plan, and what it is compared with. Exactly one of `from` and `to` is given; the
/// files are the other side. As a plan, it is read by the server in one pass.
#[derive(Clone, Debug, Serialize)]
pub struct DiffRequest {
    /// What would be published, and to which project. Neither has to exist.
    #[serde(flatten)]
    pub plan: PlanRequest,
    /// The old side: an image's id, or an environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The new side, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How many differences to answer; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The `next_cursor` of an answer that had a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The answer to `GET` and `POST /diff`: what has to happen to one side for it to become the other.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DiffAnswer<I = Vec<DiffItem>> {
    /// The old side.
    pub from: DiffSide,
    /// The new side.
    pub to: DiffSide,
    /// All differences, counted, on every page.
    pub summary: DiffSummary,
    /// How many different files a publish would send. Only where files were sent for comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    /// How many bytes they have, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_bytes: Option<u64>,
    /// The differences of this page, in the order of their paths.
    pub items: I,
    /// What to send as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// One side of a comparison.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiffSide {
    /// The image; null for files that are not published, and for an environment that shows nothing.
    pub image_id: Option<String>,
    /// The environment by which the image was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How many files there are.
    pub file_count: u64,
    /// How many bytes they have, as far as is known.
    pub total_size: u64,
    /// The site's settings.
    pub settings: SiteSettings,
}

/// All differences, counted. Bytes are counted as far as they are known.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiffSummary {
    /// Files that only `to` has.
    pub added: u64,
    /// Files that only `from` has.
    pub removed: u64,
    /// Files that both have and that differ.
    pub changed: u64,
    /// Files that are alike.
    pub unchanged: u64,
    /// How many of the changed files have the same bytes, and are only served differently.
    pub retyped: u64,
    /// How many of the added files have the bytes of a removed one.
    pub moved: u64,
    /// The bytes of the added files.
    pub added_bytes: u64,
    /// The bytes of the removed files.
    pub removed_bytes: u64,
    /// The bytes of the changed files in `from`.
    pub changed_from_bytes: u64,
    /// The bytes of the changed files in `to`.
    pub changed_to_bytes: u64,
    /// The bytes of the files that are alike.
    pub unchanged_bytes: u64,
    /// How many different contents `to` has that `from` has nowhere: what a publish would send to a server that has
    /// nothing but `from`.
    pub new_blobs: u64,
    /// How many bytes they have.
    pub new_bytes: u64,
    /// Whether the settings differ.
    pub settings_changed: bool,
}

/// One path at which the sides differ.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiffItem {
    /// Where it is in the site.
    pub path: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// What the old side has there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DiffFile>,
    /// What the new side has there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DiffFile>,
}

/// One file of one side.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DiffFile {
    /// Its hash.
    pub hash: String,
    /// Its size in bytes, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What it is served as, where that is known: it takes a look at the bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether it is kept and never served; left out where it is served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}
