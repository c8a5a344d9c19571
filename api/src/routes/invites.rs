//! `POST` and `GET /invites`, `DELETE /invites/{invite_id}`: who may register where that takes an invitation.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use pinstone_engine::id::InviteId;

use crate::auth::Caller;
use crate::body::{MaybeJson, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::input::{self, Segments};
use crate::state::ApiState;
use crate::wire::account as wire;
use crate::{respond, timefmt};

/// Makes an invitation.
pub(crate) async fn create(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    MaybeJson(body): MaybeJson<wire::InviteRequest>,
) -> Result<Response, ApiError> {
    to_the_end(async move {
        let email = body.email.as_deref().filter(|email| !email.is_empty());
        let lifetime = body.expires_in.map(input::seconds);
        let (secret, invite) = state.engine().create_invite(&caller, email, lifetime).await?;
        let answer = wire::NewInvite {
            id: invite.id.to_string(),
            invite: secret,
            email: invite.email,
            created_at: timefmt::rfc3339(invite.created_at),
            expires_at: timefmt::rfc3339(invite.expires_at),
        };
        Ok(respond::json(StatusCode::CREATED, &answer))
    })
    .await
}

/// Every invitation that still holds.
pub(crate) async fn list(State(state): State<ApiState>, Caller(caller): Caller) -> Result<Response, ApiError> {
    let items = state.engine().invites(&caller).await?.into_iter().map(|invite| wire::InviteItem {
        id: invite.id.to_string(),
        email: invite.email,
        author: invite.author,
        created_at: timefmt::rfc3339(invite.created_at),
        expires_at: timefmt::rfc3339(invite.expires_at),
    });
    Ok(respond::ok(&crate::wire::Page { items: items.collect::<Vec<_>>(), next_cursor: None }))
}

/// Takes an invitation back.
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(invite): Segments<String>,
) -> Result<Response, ApiError> {
    let invite: InviteId = invite.parse().map_err(|_| ErrorCode::InviteNotFound)?;
    to_the_end(async move {
        state.engine().delete_invite(&caller, invite).await?;
        Ok(respond::no_content())
    })
    .await
}
