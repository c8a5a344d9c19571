//! `PUT` and `POST /deploy/{project}`: an archive becomes what an environment shows, in one call.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use pinstone_engine::archive::{ArchivePublish, ArchivePublished, ListOptions, Memory};
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::records::images::GitFacts;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::{Caller, RetryKey};
use crate::body::{announced, check_not_encoded, to_the_end};
use crate::error::{ApiError, ErrorCode, archive_too_large};
use crate::input::{self, Segments};
use crate::routes::publish::release_answer;
use crate::state::{ApiState, memory_units};
use crate::{respond, timefmt, wire};

/// The most folders that can be taken away from names: a path has no more.
const MOST_STRIPPED: usize = 512;

/// The query of the call. Keys that it does not know are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeployQuery {
    environment: Option<String>,
    env: Option<String>,
    message: Option<String>,
    strip: Option<String>,
    strict: Option<String>,
    git_commit: Option<String>,
    git_branch: Option<String>,
    git_message: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for DeployQuery {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, ApiError> {
        input::query(head, state).await
    }
}

/// Publishes the archive that is the body, and shows it.
///
/// Everything that can be refused without the archive is refused before its first byte is asked for, so that a client
/// that waits with `Expect: 100-continue` sends nothing in vain.
pub(crate) async fn deploy(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    Segments(project): Segments<String>,
    query: DeployQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let project = input::project_name(&project)?;
    let environment =
        input::environment(query.environment.as_deref(), query.env.as_deref())?.unwrap_or_else(EnvironmentName::beta);
    let publish = ArchivePublish {
        project,
        environment,
        options: ListOptions { strip: strip(query.strip.as_deref())?, ignore: Vec::new() },
        strict: flag(query.strict.as_deref(), "strict")?,
        message: given(query.message),
        git: git(query.git_commit, query.git_branch, query.git_message),
    };
    state.engine().check_archive_publish(&caller, &publish).await?;
    let limit = state.engine().limits().archive_size;
    let (head, body) = request.into_parts();
    check_not_encoded(&head.headers)?;
    check_not_a_form(&head.headers)?;
    let length = announced(&head.headers)?;
    if length.is_some_and(|length| length > limit) {
        return Err(archive_too_large(limit));
    }
    let (spools, config) = (state.spools(), state.config());
    let room = spools.room(length, config).await?;
    let spooled = spools.receive(state.engine(), config, room, body, limit).await?;
    let memory = PlanMemory { all: Arc::clone(state.plan_memory_left()), held: None };
    to_the_end(async move {
        let published =
            Box::pin(state.engine().publish_archive(&caller, spooled.file, publish, key.as_ref(), memory)).await?;
        drop(spooled.room);
        Ok(respond::ok(&answer(&state, published)))
    })
    .await
}

fn answer(state: &ApiState, published: ArchivePublished) -> wire::DeployAnswer {
    let ArchivePublished { format, committed, released, new, reused, ignored, links_followed } = published;
    wire::DeployAnswer {
        release: release_answer(state, released),
        format: format.as_str().to_owned(),
        content_hash: committed.content_hash.to_string(),
        created_at: timefmt::rfc3339(committed.created_at),
        committed_at: timefmt::rfc3339(committed.committed_at),
        files_count: committed.files,
        total_size: committed.total_size,
        new_image: committed.new_image,
        new,
        reused,
        ignored,
        links_followed,
        diagnostics: committed.diagnostics.into_iter().map(wire::Diagnostic::from).collect(),
    }
}

/// The memory of plans, taken as an archive's list of files grows. It is not waited for: who has some and waits for more
/// could wait for others who do the same.
#[derive(Debug)]
struct PlanMemory {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Memory for PlanMemory {
    fn reserve(&mut self, bytes: u64) -> bool {
        match Arc::clone(&self.all).try_acquire_many_owned(memory_units(bytes)) {
            Ok(permit) => {
                match &mut self.held {
                    Some(held) => held.merge(permit),
                    None => self.held = Some(permit),
                }
                true
            }
            Err(_) => false,
        }
    }
}

/// A form holds a file among other things; here the file is the body.
fn check_not_a_form(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_form = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.len() >= 10 && value[..10].eq_ignore_ascii_case(b"multipart/")
    };
    match headers.get(CONTENT_TYPE) {
        Some(value) if is_form(value) => Err(ErrorCode::ArchiveInForm.into()),
        // What the body is, its first bytes say.
        _ => Ok(()),
    }
}

fn strip(text: Option<&str>) -> Result<usize, ApiError> {
    let wrong = || ApiError::new(ErrorCode::InvalidQuery, "`strip` is not a number of folders");
    let folders = text.filter(|text| !text.is_empty()).map_or(Ok(0), |text| text.parse().map_err(|_| wrong()))?;
    if folders <= MOST_STRIPPED { Ok(folders) } else { Err(wrong()) }
}

fn flag(text: Option<&str>, name: &str) -> Result<bool, ApiError> {
    match text {
        None | Some("" | "0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(ApiError::new(ErrorCode::InvalidQuery, format!("`{name}` is neither `true` nor `false`"))),
    }
}

fn git(commit: Option<String>, branch: Option<String>, message: Option<String>) -> Option<GitFacts> {
    let (commit, branch, message) = (given(commit), given(branch), given(message));
    let is_given = commit.is_some() || branch.is_some() || message.is_some();
    is_given.then_some(GitFacts { commit, branch, message })
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
