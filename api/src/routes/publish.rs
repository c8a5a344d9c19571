//! `POST /commit`, `/release` and `/rollback`: the calls that change what is recorded or shown.
//!
//! Each runs to its end even if the client leaves, so that an answer that nobody heard is still true when it is asked
//! for again.

use axum::extract::State;
use axum::response::Response;
use pinstone_engine::Principal;
use pinstone_engine::publish::{CommitRequest, ReleaseRequest, Released};
use pinstone_engine::records::idempotency::IdempotencyKey;

use crate::auth::{Caller, RetryKey};
use crate::body::{JsonBody, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::routes::plan::plan_id;
use crate::state::ApiState;
use crate::{input, respond, timefmt, wire};

/// What a commit holds in memory for each file, at most: its hash, what is known of its blob, its place in the manifest.
const COMMIT_WEIGHT: u64 = 512;

/// Makes a plan's files an image. What all commits hold together is bounded, as it is for plans.
pub(crate) async fn commit(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    JsonBody(body): JsonBody<wire::CommitRequest>,
) -> Result<Response, ApiError> {
    let request =
        CommitRequest { plan: plan_id(&body.plan_id)?, message: body.message, strict: body.strict.unwrap_or(false) };
    let files = state.engine().files_of_plan(&caller, request.plan).await?.unwrap_or(0);
    let memory = state.plan_memory(files.saturating_mul(COMMIT_WEIGHT)).await?;
    to_the_end(async move {
        let committed = state.engine().commit(&caller, request, key.as_ref()).await?;
        drop(memory);
        Ok(respond::ok(&wire::CommitAnswer {
            image_id: committed.image.to_string(),
            content_hash: committed.content_hash.to_string(),
            created_at: timefmt::rfc3339(committed.created_at),
            committed_at: timefmt::rfc3339(committed.committed_at),
            files_count: committed.files,
            total_size: committed.total_size,
            new_image: committed.new_image,
            diagnostics: committed.diagnostics.into_iter().map(wire::Diagnostic::from).collect(),
        }))
    })
    .await
}

/// Lets an environment show an image.
pub(crate) async fn release(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    JsonBody(body): JsonBody<wire::ReleaseRequest>,
) -> Result<Response, ApiError> {
    point(state, caller, key, body, Step::Release).await
}

/// Lets an environment show an earlier image.
pub(crate) async fn rollback(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    JsonBody(body): JsonBody<wire::ReleaseRequest>,
) -> Result<Response, ApiError> {
    point(state, caller, key, body, Step::Rollback).await
}

#[derive(Clone, Copy)]
enum Step {
    Release,
    Rollback,
}

async fn point(
    state: ApiState,
    caller: Principal,
    key: Option<IdempotencyKey>,
    body: wire::ReleaseRequest,
    step: Step,
) -> Result<Response, ApiError> {
    let request = ReleaseRequest {
        project: input::project(body.project.as_deref(), body.project_id.as_deref())?,
        environment: input::environment(body.environment.as_deref(), body.env.as_deref())?
            .ok_or(ErrorCode::EnvironmentRequired)?,
        image: input::image(body.image_id.as_deref())?,
        // The empty text is a statement of its own: the environment must show nothing.
        expected: match body.expected_image_id.as_deref() {
            None => None,
            Some(text) => Some(input::image(Some(text))?),
        },
        message: body.message,
    };
    to_the_end(async move {
        let released = match step {
            Step::Release => state.engine().release(&caller, request, key.as_ref()).await?,
            Step::Rollback => state.engine().rollback(&caller, request, key.as_ref()).await?,
        };
        Ok(respond::ok(&release_answer(&state, released)))
    })
    .await
}

/// A release as it is answered.
pub(crate) fn release_answer(state: &ApiState, released: Released) -> wire::ReleaseAnswer {
    wire::ReleaseAnswer {
        url: state.urls().site(&released.project, &released.environment),
        project: released.project.to_string(),
        environment: released.environment.to_string(),
        image_id: released.image.to_string(),
        previous_image_id: released.previous.map_or_else(String::new, |image| image.to_string()),
        number: released.number,
        action: released.action.as_str().to_owned(),
        changed: released.changed,
        deployed_at: timefmt::rfc3339(released.released_at),
    }
}
