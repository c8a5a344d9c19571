//! `GET /current`, `/history` and `/releases`: what an environment shows, and how it came about.

use axum::extract::State;
use axum::response::Response;
use pinstone_engine::name::EnvironmentName;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::input::ReadQuery;
use crate::state::ApiState;
use crate::{respond, timefmt, wire};

/// What an environment shows; `prod` where none is named.
pub(crate) async fn current(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let project = query.project()?;
    let environment = query.environment()?.unwrap_or_else(EnvironmentName::prod);
    let current = state.engine().current(&caller, &project, &environment).await?;
    Ok(respond::ok(&wire::CurrentAnswer {
        image_id: current.image.to_string(),
        content_hash: current.content_hash.to_string(),
        deployed_at: timefmt::rfc3339(current.released_at),
        file_count: current.files,
        number: current.number,
        url: state.urls().site(&current.project, &environment),
        message: current.message.unwrap_or_default(),
        author: current.author,
        expires_at: current.expires_at.map(timefmt::rfc3339),
    }))
}

/// The project's images, by their latest commit, newest first.
pub(crate) async fn history(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let limit = query.limit(20, 200)?;
    let page = state.engine().history(&caller, &query.project()?, query.cursor(), limit).await?;
    let items = page.items.into_iter().map(|image| {
        let git = image.git.unwrap_or_default();
        wire::HistoryItem {
            image_id: image.image.to_string(),
            content_hash: image.content_hash.to_string(),
            created_at: timefmt::rfc3339(image.committed_at),
            git_commit: git.commit,
            git_branch: git.branch,
            git_message: git.message,
            message: image.message,
            author: image.author,
            file_count: image.files,
            total_size: image.total_size,
            deployed_to: image.deployed_to.iter().map(ToString::to_string).collect(),
        }
    });
    Ok(respond::ok(&wire::Page { items: items.collect(), next_cursor: page.next }))
}

/// The releases of a project, or of one environment, newest first.
pub(crate) async fn releases(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let limit = query.limit(50, 200)?;
    let environment = query.environment()?;
    let page = state.engine().releases(&caller, &query.project()?, environment.as_ref(), query.cursor(), limit).await?;
    let items = page.items.into_iter().map(|release| wire::ReleaseItem {
        number: release.number,
        environment: release.environment.to_string(),
        action: release.action.as_str().to_owned(),
        image_id: release.image.map_or_else(String::new, |image| image.to_string()),
        previous_image_id: release.previous.map_or_else(String::new, |image| image.to_string()),
        author: release.author,
        message: release.message.unwrap_or_default(),
        created_at: timefmt::rfc3339(release.at),
        expires_at: release.expires_at.map(timefmt::rfc3339),
    });
    Ok(respond::ok(&wire::Page { items: items.collect(), next_cursor: page.next }))
}
