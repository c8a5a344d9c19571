//! `POST` and `GET /tokens`, `DELETE /tokens/{token_id}`: named tokens, for machines and colleagues.
//!
//! An answer that has a secret is not kept for a repeated Idempotency-Key, because no secret is kept anywhere.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use pinstone_engine::account::Scope;
use pinstone_engine::id::TokenId;
use pinstone_engine::tokens::{NewToken, TokenSummary};

use crate::auth::Caller;
use crate::body::{JsonBody, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::input::{self, Segments};
use crate::routes::BASE;
use crate::state::ApiState;
use crate::wire::account as wire;
use crate::{respond, timefmt};

/// Makes a token.
pub(crate) async fn create(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    JsonBody(body): JsonBody<wire::TokenRequest>,
) -> Result<Response, ApiError> {
    let project = body.project.as_deref().filter(|project| !project.is_empty());
    let new = NewToken {
        name: body.name,
        scope: body.scope.parse().map_err(|_| ErrorCode::InvalidScope)?,
        project: project.map(|project| input::project(Some(project), None)).transpose()?,
        environment: input::environment(body.environment.as_deref(), None)?,
        lifetime: body.expires_in.map(input::seconds),
    };
    to_the_end(async move {
        let (secret, token) = state.engine().create_token(&caller, new).await?;
        let curl = curl(&state, &secret, &token);
        let answer = wire::NewToken {
            id: token.id.to_string(),
            name: token.name,
            token: secret,
            scope: token.scope.as_str().to_owned(),
            project: token.project_name.map(|name| name.to_string()),
            environment: token.environment.map(|environment| environment.to_string()),
            created_at: timefmt::rfc3339(token.created_at),
            expires_at: token.expires_at.map(timefmt::rfc3339),
            curl,
        };
        Ok(respond::json(StatusCode::CREATED, &answer))
    })
    .await
}

/// Every token of the caller's user.
pub(crate) async fn list(State(state): State<ApiState>, Caller(caller): Caller) -> Result<Response, ApiError> {
    let tokens = state.engine().tokens(&caller).await?;
    let items = tokens.into_iter().map(|token| wire::TokenItem {
        current: Some(token.id) == caller.token,
        id: token.id.to_string(),
        name: token.name,
        scope: token.scope.as_str().to_owned(),
        project: token.project.map(|id| token.project_name.map_or_else(|| id.to_string(), |name| name.to_string())),
        environment: token.environment.map(|environment| environment.to_string()),
        created_at: timefmt::rfc3339(token.created_at),
        expires_at: token.expires_at.map(timefmt::rfc3339),
        last_used_at: token.last_used_at.map(timefmt::rfc3339),
        session: token.is_session,
    });
    Ok(respond::ok(&crate::wire::Page { items: items.collect::<Vec<_>>(), next_cursor: None }))
}

/// Ends a token at once.
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(token): Segments<String>,
) -> Result<Response, ApiError> {
    let token: TokenId = token.parse().map_err(|_| ErrorCode::TokenNotFound)?;
    to_the_end(async move {
        state.engine().revoke_token(&caller, token).await?;
        Ok(respond::no_content())
    })
    .await
}

/// A command that does what the token is for. None of its parts can hold what a shell would understand.
fn curl(state: &ApiState, secret: &str, token: &TokenSummary) -> String {
    let api = format!("{}{BASE}", state.urls().public_url());
    let authorization = format!("-H 'Authorization: Bearer {secret}'");
    if token.scope != Scope::Deploy {
        return format!("curl {authorization} '{api}/me'");
    }
    let project = token.project_name.as_ref().map_or("my-site", |name| name.as_str());
    let environment = token.environment.as_ref().map_or("beta", |name| name.as_str());
    format!("curl -T site.tar.gz {authorization} '{api}/deploy/{project}?environment={environment}'")
}
