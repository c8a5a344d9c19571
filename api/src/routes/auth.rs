//! `/auth/…`, `/me` and `/account`: signing in and out, registering, passwords, and the end of an account.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use pinstone_engine::accounts::{AccountError, Credentials, SignedIn, UserSummary};

use crate::auth::{Caller, MaybeCaller, Sender};
use crate::body::{JsonBody, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::state::ApiState;
use crate::wire::account as wire;
use crate::{respond, timefmt};

/// Signs somebody in. Where registration is open, an unknown email registers.
pub(crate) async fn login(
    State(state): State<ApiState>,
    Sender(origin): Sender,
    JsonBody(body): JsonBody<wire::LoginRequest>,
) -> Result<Response, ApiError> {
    let credentials = credentials(body.email, body.password)?;
    let registers = match body.action.as_deref() {
        None | Some("" | "login") => false,
        Some("register") => true,
        Some(_) => {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "`action` is neither `login` nor `register`"));
        }
    };
    to_the_end(async move {
        let (engine, rules) = (state.engine(), &state.config().accounts);
        let signed_in = if registers {
            engine.register(None, &origin, &credentials, None, rules).await?
        } else {
            engine.login(&origin, &credentials, rules).await?
        };
        Ok(respond::ok(&answer(signed_in)))
    })
    .await
}

/// Makes an account; with the owner's token, the owner's.
pub(crate) async fn register(
    State(state): State<ApiState>,
    MaybeCaller(caller): MaybeCaller,
    Sender(origin): Sender,
    JsonBody(body): JsonBody<wire::RegisterRequest>,
) -> Result<Response, ApiError> {
    let credentials = credentials(body.email, body.password)?;
    let invite = body.invite.filter(|invite| !invite.is_empty());
    to_the_end(async move {
        let rules = &state.config().accounts;
        let registering = state.engine().register(caller.as_ref(), &origin, &credentials, invite.as_deref(), rules);
        Ok(respond::json(StatusCode::CREATED, &answer(registering.await?)))
    })
    .await
}

/// Who asks, in short.
pub(crate) async fn info(State(state): State<ApiState>, Caller(caller): Caller) -> Result<Response, ApiError> {
    let user = state.engine().me(&caller).await.map_err(gone)?;
    Ok(respond::ok(&wire::AuthInfo {
        id: user.id.to_string(),
        email: user.email.unwrap_or_default(),
        is_admin: user.is_owner,
        is_anonymous: false,
    }))
}

/// Who asks, and what the token is for.
pub(crate) async fn me(State(state): State<ApiState>, Caller(caller): Caller) -> Result<Response, ApiError> {
    let me = state.engine().me(&caller).await.map_err(gone)?;
    let token = wire::Access {
        id: caller.token.map(|token| token.to_string()),
        scope: caller.access.scope.as_str().to_owned(),
        project_id: caller.access.project.map(|project| project.to_string()),
        environment: caller.access.environment.map(|environment| environment.to_string()),
    };
    Ok(respond::ok(&wire::Me { user: user(me), token }))
}

/// Ends the token that is asked with.
pub(crate) async fn logout(State(state): State<ApiState>, Caller(caller): Caller) -> Result<Response, ApiError> {
    to_the_end(async move {
        state.engine().logout(&caller).await?;
        Ok(respond::no_content())
    })
    .await
}

/// Ends all sessions.
pub(crate) async fn logout_everywhere(
    State(state): State<ApiState>,
    Caller(caller): Caller,
) -> Result<Response, ApiError> {
    to_the_end(async move {
        state.engine().logout_everywhere(&caller).await?;
        Ok(respond::no_content())
    })
    .await
}

/// Changes the password, and ends all other sessions.
pub(crate) async fn password(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    JsonBody(body): JsonBody<wire::PasswordRequest>,
) -> Result<Response, ApiError> {
    to_the_end(async move {
        let (current, rules) = (body.current_password.as_deref(), &state.config().accounts);
        match state.engine().change_password(&caller, current, &body.new_password, rules).await {
            Ok(()) => Ok(respond::no_content()),
            // The token is right, so that a 401 would say something else.
            Err(AccountError::WrongCredentials) => Err(ErrorCode::WrongPassword.into()),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// Deletes the account and what is its own.
pub(crate) async fn delete_account(
    State(state): State<ApiState>,
    Caller(caller): Caller,
) -> Result<Response, ApiError> {
    to_the_end(async move {
        let deleted_projects = state.engine().delete_account(&caller).await.map_err(gone)?;
        let message = "the account is deleted, and its projects with it".to_owned();
        Ok(respond::ok(&wire::AccountDeleted { message, deleted_projects }))
    })
    .await
}

/// What cannot be anybody's is refused before it costs anything.
fn credentials(email: String, password: String) -> Result<Credentials, ApiError> {
    if password.is_empty() {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "the password is empty"));
    }
    Ok(Credentials { email, password })
}

/// The account went between the door and here, so the token is nobody's.
fn gone(error: AccountError) -> ApiError {
    match error {
        AccountError::WrongCredentials => ErrorCode::Unauthorized.into(),
        other => other.into(),
    }
}

fn answer(signed_in: SignedIn) -> wire::SignedIn {
    let SignedIn { secret, created, expires_at, user: who, .. } = signed_in;
    let message = if created { "the account is made" } else { "signed in" };
    wire::SignedIn {
        api_key: secret.clone(),
        token: secret,
        user_id: who.id.to_string(),
        email: who.email.clone().unwrap_or_default(),
        created,
        message: message.to_owned(),
        expires_at: timefmt::rfc3339(expires_at),
        user: user(who),
    }
}

fn user(user: UserSummary) -> wire::User {
    wire::User {
        id: user.number,
        email: user.email.unwrap_or_default(),
        created_at: timefmt::rfc3339(user.created_at),
        user_id: user.id.to_string(),
        name: user.name,
        team_id: user.team.to_string(),
        is_admin: user.is_owner,
    }
}
