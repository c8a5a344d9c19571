//! `POST` and `PUT /upload/{plan_id}/{hash}`: one blob, hashed by the engine while it arrives and never gathered here.

use axum::extract::{Request, State};
use axum::response::Response;
use pinstone_engine::hash::BlobHash;

use crate::auth::Caller;
use crate::body::{announced, arriving, check_not_encoded};
use crate::error::{ApiError, ErrorCode, file_too_large};
use crate::input::Segments;
use crate::routes::plan::plan_id;
use crate::state::ApiState;
use crate::{respond, wire};

/// Takes one blob of a plan. A request without a body and without a length is the empty blob.
pub(crate) async fn upload(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments((plan, hash)): Segments<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let plan = plan_id(&plan)?;
    let hash: BlobHash = hash.parse().map_err(|_| ErrorCode::InvalidHash)?;
    let (head, body) = request.into_parts();
    check_not_encoded(&head.headers)?;
    let length = announced(&head.headers)?;
    let limit = state.engine().limits().file_size;
    if length.is_some_and(|length| length > limit) {
        return Err(file_too_large(limit));
    }
    let body = arriving(body, state.config().idle_timeout);
    let stored = state.engine().upload(&caller, plan, hash, length, body).await?;
    Ok(respond::ok(&wire::UploadAnswer { hash: stored.hash.to_string(), size: stored.size }))
}
