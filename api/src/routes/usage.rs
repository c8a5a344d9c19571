//! `GET /usage`: what the team uses, and what each project does.

use axum::extract::State;
use axum::response::Response;
use pinstone_engine::limits::NO_LIMIT;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::input::ReadQuery;
use crate::state::ApiState;
use crate::{respond, wire};

/// How many projects are answered where nobody says.
const LISTED: usize = 100;
/// How many projects are answered at most.
const MOST_LISTED: usize = 1000;

/// What the caller's team uses and may use, and what each project uses that the token reaches.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let limit = query.limit(LISTED, MOST_LISTED)?;
    let project = query.optional_project()?;
    let projects = state.engine().project_usage(&caller, project.as_ref(), query.cursor(), limit).await?;
    // What a token does not reach, it does not learn by adding up.
    let team = match caller.access.project {
        None => Some(state.engine().team_usage(&caller).await?),
        Some(_) => None,
    };
    let limits = state.engine().limits();
    let limited = |limit: u64| Some(limit).filter(|limit| *limit < NO_LIMIT);
    let items = projects.items.into_iter().map(|usage| wire::UsageItem {
        project: usage.project.name.to_string(),
        project_id: usage.project.id.to_string(),
        images: usage.images,
        stored_bytes: usage.stored_bytes,
    });
    Ok(respond::ok(&wire::Usage {
        projects: team.map(|team| team.projects),
        stored_bytes: team.map(|team| team.stored_bytes),
        limits: wire::TeamLimits {
            projects: limited(limits.team_projects),
            stored_bytes: limited(limits.team_bytes),
            publish_bytes: limited(limits.publish_size),
        },
        items: items.collect(),
        next_cursor: projects.next,
    }))
}
