//! `GET` and `PATCH /projects/{project}`: a project, and how it is set.

use axum::extract::State;
use axum::response::Response;
use pinstone_engine::pointers::ImageHosts;
use pinstone_engine::publish::{ProjectChange, ProjectSummary};

use crate::auth::Caller;
use crate::body::{JsonBody, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::input::{self, Segments};
use crate::state::ApiState;
use crate::{respond, timefmt, wire};

/// One project.
pub(crate) async fn one(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
) -> Result<Response, ApiError> {
    let project = state.engine().project(&caller, &input::project(Some(&project), None)?).await?;
    Ok(respond::ok(&item(project)))
}

/// Changes how a project is set.
pub(crate) async fn change(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(project): Segments<String>,
    JsonBody(body): JsonBody<wire::ProjectChange>,
) -> Result<Response, ApiError> {
    let project = input::project(Some(&project), None)?;
    let image_hosts = body.image_hosts.as_deref().map(str::parse::<ImageHosts>).transpose();
    let change = ProjectChange { image_hosts: image_hosts.map_err(|_| ErrorCode::InvalidImageHosts)? };
    to_the_end(async move {
        let project = state.engine().change_project(&caller, &project, change).await?;
        Ok(respond::ok(&item(project)))
    })
    .await
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
