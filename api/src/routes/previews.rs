//! `POST /preview`, `GET /previews` and `DELETE /previews/{project}/{slug}`: environments that end by themselves.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pinstone_engine::publish::{PreviewRequest, Previewed};

use crate::auth::{Caller, RetryKey};
use crate::body::{JsonBody, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::input::{self, ReadQuery, Segments};
use crate::state::ApiState;
use crate::{respond, timefmt, wire};

/// Lets a preview show an image until its end.
pub(crate) async fn create(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    JsonBody(body): JsonBody<wire::PreviewRequest>,
) -> Result<Response, ApiError> {
    let request = PreviewRequest {
        project: input::project(body.project.as_deref(), body.project_id.as_deref())?,
        image: input::image(Some(&body.image_id))?.ok_or(ErrorCode::InvalidImageId)?,
        slug: input::slug(body.slug.as_deref())?,
        // What ended before it began is refused like what is too short.
        lifetime: body.expires_in.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
        message: body.message,
    };
    to_the_end(async move {
        let preview = state.engine().preview(&caller, request, key.as_ref()).await?;
        Ok(respond::ok(&item(&state, preview)))
    })
    .await
}

/// Every preview of a project that is still kept.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let previews = state.engine().previews(&caller, &query.project()?).await?;
    let items = previews.into_iter().map(|preview| item(&state, preview)).collect();
    Ok(respond::ok(&wire::Page { items, next_cursor: None }))
}

/// Ends a preview for good.
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments((project, slug)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let project = input::project(Some(&project), None)?;
    let slug = input::slug(Some(&slug))?.ok_or(ErrorCode::PreviewNotFound)?;
    to_the_end(async move {
        state.engine().delete_preview(&caller, &project, &slug).await?;
        Ok(respond::no_content())
    })
    .await
}

fn item(state: &ApiState, preview: Previewed) -> wire::PreviewItem {
    wire::PreviewItem {
        url: state.urls().site(&preview.project, &preview.slug),
        project: preview.project.to_string(),
        slug: preview.slug.to_string(),
        image_id: preview.image.to_string(),
        expires_at: timefmt::rfc3339(preview.expires_at),
        expired: preview.is_expired,
        number: preview.number,
        deployed_at: timefmt::rfc3339(preview.released_at),
    }
}
