//! `POST /plan`, `GET` and `DELETE /plans/{plan_id}`: what a publish consists of, and what of it is missing.

use axum::extract::{Request, State};
use axum::response::Response;
use pinstone_engine::id::PlanId;
use pinstone_engine::plan::{MissingBlob, NewPlan, PlanView};
use pinstone_engine::records::plans::PlanState;
use serde::{Serialize, Serializer};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::{Caller, RetryKey};
use crate::body::{announced, blocking, check_json, gather, to_the_end};
use crate::config::PublicUrl;
use crate::error::{ApiError, ErrorCode};
use crate::input::Segments;
use crate::plan_body::{self, Shape};
use crate::routes::BASE;
use crate::state::{ApiState, LISTING};
use crate::{respond, timefmt, wire};

/// What a plan holds in memory for each byte of its JSON, at most: the text, the files, their index, the list as it is
/// stored, and the answer, which names a URL for each of them. Measured with 180,000 files: 5.5.
const PLAN_WEIGHT: u64 = 6;

/// Opens a plan.
///
/// The bytes of a plan are counted before they are read, and until it is answered: what all plans hold together is
/// bounded.
pub(crate) async fn create(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    request: Request,
) -> Result<Response, ApiError> {
    let (bytes, memory) = gather_files(&state, request, PLAN_WEIGHT, 0).await?;
    let limits = state.engine().limits().clone();
    // The permit goes along: a client that leaves does not stop the thread, so the bytes are still held.
    let (plan, memory) = blocking(move || (plan_body::parse(&bytes, &limits), memory)).await?;
    let (plan, shape) = plan?;
    to_the_end(async move {
        let (project, smallest) = (plan.project.clone(), smallest_of(&plan, shape));
        let mut view = state.engine().plan(&caller, plan, key.as_ref()).await?;
        if let Some(file) = smallest
            && view.missing.is_empty()
            && !state.engine().is_newest(&caller, &project, &view.content_hash).await?
        {
            view.missing_bytes = file.size.unwrap_or(0);
            view.reusable -= 1;
            view.missing.push(file);
        }
        let answer = move || match shape {
            Shape::List | Shape::ListWithSha256 => respond::ok(&list_answer(&view, state.urls().public_url())),
            Shape::Map => respond::ok(&map_answer(&view, state.urls().public_url())),
        };
        Ok(respond::holding(blocking(answer).await?, memory))
    })
    .await
}

/// The file that is listed as missing although it is there, so that the plan gets committed; none for most clients.
///
/// The protocol's first client commits a plan for a preview only where it has uploaded something. Where it has not, it
/// shows the project's newest image, whatever was planned.
fn smallest_of(plan: &NewPlan, shape: Shape) -> Option<MissingBlob> {
    if shape != Shape::ListWithSha256 {
        return None;
    }
    let file = plan.files.iter().min_by_key(|file| file.size)?;
    Some(MissingBlob { path: file.path.clone(), hash: file.blob, size: file.size })
}

/// Gathers the JSON of a body that lists files as a plan does, with the permit for what it will hold in memory: `weight`
/// for each of its bytes, and `more` beside.
pub(crate) async fn gather_files(
    state: &ApiState,
    request: Request,
    weight: u64,
    more: u64,
) -> Result<(Vec<u8>, OwnedSemaphorePermit), ApiError> {
    let (head, body) = request.into_parts();
    let length = announced(&head.headers)?;
    check_json(&head.headers)?;
    let limit = state.engine().limits().plan_size;
    if length.is_some_and(|length| length > limit) {
        return Err(ErrorCode::PlanTooLarge.into());
    }
    let held = length.unwrap_or(limit).saturating_mul(weight);
    let memory = state.plan_memory(held.saturating_add(more)).await?;
    let bytes = gather(state, length, body, limit, ErrorCode::PlanTooLarge).await?;
    Ok((bytes, memory))
}

/// How a plan stands.
pub(crate) async fn status(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(plan): Segments<String>,
) -> Result<Response, ApiError> {
    let plan = plan_id(&plan)?;
    let memory = state.plan_memory(LISTING).await?;
    let view = state.engine().plan_status(&caller, plan).await?;
    let answer = blocking(move || respond::ok(&status_answer(&view))).await?;
    Ok(respond::holding(answer, memory))
}

fn status_answer(view: &PlanView) -> wire::PlanStatus {
    let status = match view.status {
        PlanState::Open => "open",
        PlanState::Committed => "committed",
        PlanState::Expired => "expired",
    };
    wire::PlanStatus {
        plan_id: view.id.to_string(),
        status: status.to_owned(),
        missing: view.missing.iter().map(|blob| blob.hash.to_string()).collect(),
        image_id: view.image.map(|image| image.to_string()),
        expires_at: timefmt::rfc3339(view.expires_at),
    }
}

/// Gives a plan up.
pub(crate) async fn close(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(plan): Segments<String>,
) -> Result<Response, ApiError> {
    state.engine().close_plan(&caller, plan_id(&plan)?).await?;
    Ok(respond::no_content())
}

/// The plan that a request names. What is no id names no plan.
pub(crate) fn plan_id(text: &str) -> Result<PlanId, ApiError> {
    text.parse().map_err(|_| ErrorCode::PlanNotFound.into())
}

/// The missing blobs of a plan, written one by one: 200,000 of them would be a second copy of the answer.
#[derive(Debug)]
struct EachMissing<'v> {
    view: &'v PlanView,
    public_url: &'v PublicUrl,
}

impl Serialize for EachMissing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.view.missing.iter().map(|blob| wire::MissingBlob {
            path: blob.path.to_string(),
            hash: blob.hash.to_string(),
            size: blob.size.unwrap_or(0),
            upload_url: upload_url(self.public_url, self.view.id, blob),
        }))
    }
}

fn list_answer<'v>(view: &'v PlanView, public_url: &'v PublicUrl) -> wire::PlanAnswer<EachMissing<'v>> {
    wire::PlanAnswer {
        plan_id: view.id.to_string(),
        content_hash: view.content_hash.to_string(),
        upload_mode: "direct".to_owned(),
        missing: EachMissing { view, public_url },
        reusable: view.reusable,
        files_count: view.files,
        total_size: view.total_size,
        missing_bytes: view.missing_bytes,
        batch_url: format!("{public_url}{BASE}/upload/{}", view.id),
        expires_at: timefmt::rfc3339(view.expires_at),
        warnings: warnings(view),
    }
}

fn map_answer(view: &PlanView, public_url: &PublicUrl) -> wire::MapPlanAnswer {
    wire::MapPlanAnswer {
        plan_id: view.id.to_string(),
        content_hash: view.content_hash.to_string(),
        missing: view.missing.iter().map(|blob| blob.hash.to_string()).collect(),
        upload_urls: view
            .missing
            .iter()
            .map(|blob| (blob.hash.to_string(), upload_url(public_url, view.id, blob)))
            .collect(),
        reusable: view.reusable,
        expires_at: timefmt::rfc3339(view.expires_at),
        warnings: warnings(view),
    }
}

fn upload_url(public_url: &PublicUrl, plan: PlanId, blob: &MissingBlob) -> String {
    format!("{public_url}{BASE}/upload/{plan}/{}", blob.hash)
}

fn warnings(view: &PlanView) -> Vec<wire::Diagnostic> {
    view.diagnostics.iter().cloned().map(wire::Diagnostic::from).collect()
}
