//! `GET /environments` and `DELETE /environments/{project}/{environment}`: the pointers of a project.

use axum::extract::State;
use axum::response::Response;

use crate::auth::Caller;
use crate::body::to_the_end;
use crate::error::{ApiError, ErrorCode};
use crate::input::{self, ReadQuery, Segments};
use crate::state::ApiState;
use crate::{respond, timefmt, wire};

/// Every environment of a project.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let environments = state.engine().environments(&caller, &query.project()?).await?;
    let items = environments.into_iter().map(|environment| wire::EnvironmentItem {
        url: state.urls().site(&environment.project, &environment.name),
        name: environment.name.to_string(),
        image_id: environment.image.to_string(),
        expires_at: environment.expires_at.map(timefmt::rfc3339),
        protected: false,
        number: environment.number,
        deployed_at: timefmt::rfc3339(environment.released_at),
        variants: super::images::variants(environment.variants),
    });
    Ok(respond::ok(&wire::Page { items: items.collect(), next_cursor: None }))
}

/// Lets an environment show nothing.
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments((project, environment)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let project = input::project(Some(&project), None)?;
    let environment = input::environment(Some(&environment), None)?.ok_or(ErrorCode::EnvironmentRequired)?;
    to_the_end(async move {
        state.engine().delete_environment(&caller, &project, &environment).await?;
        Ok(respond::no_content())
    })
    .await
}
