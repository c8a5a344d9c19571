//! `POST` and `PUT /upload/{plan_id}/{hash}`: one blob, hashed by the engine while it arrives and never gathered here;
//! `POST /upload/{plan_id}`: many small ones.

use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pinstone_engine::hash::BlobHash;

use crate::auth::Caller;
use crate::blob_frames;
use crate::body::{announced, arriving, check_not_encoded};
use crate::error::{ApiError, ErrorCode, batch_too_large, file_too_large};
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
    let _turn = state.limiter().turn(plan).await?;
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

/// Takes many small blobs of a plan at once.
pub(crate) async fn batch(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(plan): Segments<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let plan = plan_id(&plan)?;
    let _turn = state.limiter().turn(plan).await?;
    let (head, body) = request.into_parts();
    let is_compressed = check_batch(&head.headers)?;
    let limits = state.engine().limits();
    // No encoding makes a batch much longer than it is.
    let longest = limits.batch_size + limits.batch_size / 8 + (limits.batch_blobs * blob_frames::HEAD) as u64 + 1024;
    let too_large = || batch_too_large(limits.batch_blobs, limits.batch_size);
    if announced(&head.headers)?.is_some_and(|length| length > longest) {
        return Err(too_large());
    }
    let body = blob_frames::bounded(arriving(body, state.config().idle_timeout), longest);
    let taken = state.engine().upload_batch(&caller, plan, blob_frames::blobs(body, is_compressed)).await?;
    let failed = taken.failed.into_iter().map(|(index, error)| {
        let (error, message) = ApiError::from(error).into_texts();
        wire::BatchFailure { index: index as u64, error, message }
    });
    let failed = failed.collect();
    Ok(respond::ok(&wire::BatchAnswer { stored: taken.stored, already: taken.already, failed }))
}

/// Checks that a body says it is a batch, or says nothing; answers whether it is compressed.
fn check_batch(headers: &HeaderMap) -> Result<bool, ApiError> {
    if headers.get(CONTENT_TYPE).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(blob_frames::MEDIA_TYPE)) {
        let message = "the body's type is not that of a batch";
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
    }
    match headers.get(CONTENT_ENCODING) {
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"zstd") => Ok(true),
        _ => check_not_encoded(headers).map(|()| false),
    }
}
