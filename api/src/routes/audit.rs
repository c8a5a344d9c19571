//! `GET /audit`: who did what.

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::request::Parts;
use pinstone_engine::audit::AuditFilter;
use serde::Deserialize;

use crate::auth::Caller;
use crate::error::{ApiError, ErrorCode};
use crate::input;
use crate::state::ApiState;
use crate::wire::account as wire;
use crate::{respond, timefmt};

/// The query of the call. Keys that it does not know are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuditQuery {
    from: Option<String>,
    to: Option<String>,
    actor: Option<String>,
    project: Option<String>,
    project_id: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for AuditQuery {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, ApiError> {
        input::query(head, state).await
    }
}

/// The rows of the caller's team that match, newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: AuditQuery,
) -> Result<Response, ApiError> {
    let limit = input::limit(query.limit.as_deref(), 50, 200)?;
    let project = match input::project(query.project.as_deref(), query.project_id.as_deref()) {
        Err(error) if error.code() == ErrorCode::ProjectRequired => None,
        project => Some(project?),
    };
    let filter = AuditFilter {
        from: input::time(query.from.as_deref())?,
        to: input::time(query.to.as_deref())?,
        actor: query.actor.filter(|actor| !actor.is_empty()),
        project,
    };
    let cursor = query.cursor.as_deref().filter(|cursor| !cursor.is_empty());
    let page = state.engine().audit_log(&caller, &filter, cursor, limit).await?;
    let items = page.items.into_iter().map(|row| wire::AuditItem {
        at: timefmt::rfc3339(row.at),
        actor: row.actor,
        credential: row.credential.map(|token| token.to_string()),
        action: row.action,
        object: row.object,
        project_id: row.project.map(|project| project.to_string()),
        from_address: row.from_address.map(|address| address.to_string()),
        request_id: row.request_id,
    });
    Ok(respond::ok(&crate::wire::Page { items: items.collect::<Vec<_>>(), next_cursor: page.next }))
}
