//! `PUT` and `DELETE /images/{image_id}/pin`: keeping an image, and letting it go.

use axum::extract::State;
use axum::response::Response;

use crate::auth::Caller;
use crate::body::{MaybeJson, to_the_end};
use crate::error::ApiError;
use crate::input::{ReadQuery, Segments};
use crate::routes::images::{image_id, item};
use crate::state::ApiState;
use crate::{respond, wire};

/// Keeps an image.
pub(crate) async fn pin(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(image): Segments<String>,
    query: ReadQuery,
    MaybeJson(body): MaybeJson<wire::PinRequest>,
) -> Result<Response, ApiError> {
    let (project, image) = (query.project()?, image_id(&image)?);
    to_the_end(async move {
        state.engine().pin(&caller, &project, image, body.message.as_deref()).await?;
        let image = state.engine().image(&caller, &project, image).await?;
        Ok(respond::ok(&item(&state, image)))
    })
    .await
}

/// Lets an image go.
pub(crate) async fn unpin(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(image): Segments<String>,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let (project, image) = (query.project()?, image_id(&image)?);
    to_the_end(async move {
        state.engine().unpin(&caller, &project, image).await?;
        Ok(respond::no_content())
    })
    .await
}
