//! `GET` and `POST /projects`, `GET`, `PATCH` and `DELETE /projects/{project}`, `GET /subdomain/check` and
//! `PUT /domains/rename`: projects as a whole.

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::header::LINK;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use pinstone_engine::pointers::ImageHosts;
use pinstone_engine::projects::{ProjectChange, ProjectSummary};
use pinstone_engine::publish::ProjectSelector;
use serde::Deserialize;

use crate::auth::{Caller, RetryKey};
use crate::body::{JsonBody, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::input::{self, ReadQuery, Segments};
use crate::routes::BASE;
use crate::state::ApiState;
use crate::{respond, timefmt, wire};

/// How many projects are listed where nobody says, and at most.
const LISTED: usize = 1000;

/// The projects that the token reaches. The list is an array, so the `Link` field says where the next page is.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let limit = query.limit(LISTED, LISTED)?;
    let projects = state.engine().projects(&caller, query.cursor(), limit).await?;
    let items: Vec<_> = projects.items.into_iter().map(item).collect();
    let mut answer = respond::ok(&items);
    if let Some(next) = projects.next {
        let link = format!("<{BASE}/projects?limit={limit}&cursor={next}>; rel=\"next\"");
        answer.headers_mut().insert(LINK, HeaderValue::try_from(link).expect("ids and numbers are ASCII"));
    }
    Ok(answer)
}

/// Makes a project.
pub(crate) async fn create(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    JsonBody(body): JsonBody<wire::ProjectRequest>,
) -> Result<Response, ApiError> {
    let name = input::project_name(&body.name)?;
    to_the_end(async move {
        let project = state.engine().create_project(&caller, &name, key.as_ref()).await?;
        Ok(respond::json(StatusCode::CREATED, &item(project)))
    })
    .await
}

/// One project.
pub(crate) async fn one(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
) -> Result<Response, ApiError> {
    let project = state.engine().project(&caller, &input::project(Some(&project), None)?).await?;
    Ok(respond::ok(&item(project)))
}

/// Changes what a project is called, or how it is set.
pub(crate) async fn change(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    JsonBody(body): JsonBody<wire::ProjectChange>,
) -> Result<Response, ApiError> {
    let project = input::project(Some(&project), None)?;
    let image_hosts = body.image_hosts.as_deref().map(str::parse::<ImageHosts>).transpose();
    let change = ProjectChange {
        name: body.name.as_deref().map(input::project_name).transpose()?,
        image_hosts: image_hosts.map_err(|_| ErrorCode::InvalidImageHosts)?,
    };
    to_the_end(async move {
        let project = state.engine().change_project(&caller, &project, change).await?;
        Ok(respond::ok(&item(project)))
    })
    .await
}

/// Renames a project, as the protocol's first client asks for it.
pub(crate) async fn rename(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
    JsonBody(body): JsonBody<wire::RenameRequest>,
) -> Result<Response, ApiError> {
    let project: ProjectSelector = query.project()?;
    let change = ProjectChange { name: Some(input::project_name(&body.new_subdomain)?), ..ProjectChange::default() };
    to_the_end(async move {
        let project = state.engine().change_project(&caller, &project, change).await?;
        Ok(respond::ok(&item(project)))
    })
    .await
}

/// Deletes a project.
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
) -> Result<Response, ApiError> {
    let project = input::project(Some(&project), None)?;
    to_the_end(async move {
        state.engine().delete_project(&caller, &project).await?;
        let message = "the project is deleted: its hosts show nothing, and its name is free".to_owned();
        Ok(respond::ok(&wire::ProjectDeleted { message }))
    })
    .await
}

/// The query of a check.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CheckQuery {
    subdomain: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for CheckQuery {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, ApiError> {
        input::query(head, state).await
    }
}

/// Whether a name is free for a new project.
pub(crate) async fn check(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: CheckQuery,
) -> Result<Response, ApiError> {
    let name = query
        .subdomain
        .filter(|name| !name.is_empty())
        .ok_or_else(|| ApiError::new(ErrorCode::InvalidQuery, "`subdomain` is missing"))?;
    let check = state.engine().check_name(&caller, &name).await?;
    let suggestion = check.suggestion.map(|name| name.to_string());
    Ok(respond::ok(&wire::SubdomainCheck { available: check.is_available, suggestion }))
}

fn item(project: ProjectSummary) -> wire::ProjectItem {
    wire::ProjectItem {
        id: project.id.to_string(),
        name: project.name.to_string(),
        subdomain: project.name.to_string(),
        owner_id: project.team.to_string(),
        created_at: timefmt::rfc3339(project.created_at),
        image_hosts: project.image_hosts.as_str().to_owned(),
    }
}
