//! The bodies of calls about accounts, tokens, invitations and the audit log. What holds a secret does not print it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json_shape::seconds;

macro_rules! secretive {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

secretive!(LoginRequest RegisterRequest PasswordRequest SignedIn NewToken NewInvite);

/// `POST /auth/login`.
#[derive(Clone, Deserialize, Serialize)]
pub struct LoginRequest {
    /// What the user signs in by.
    pub email: String,
    /// What the user signs in with.
    pub password: String,
    /// `login`, which is the default, or `register`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}

/// `POST /auth/register`.
#[derive(Clone, Deserialize, Serialize)]
pub struct RegisterRequest {
    /// What the user will sign in by.
    pub email: String,
    /// What the user will sign in with.
    pub password: String,
    /// The invitation, where registering takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

/// `POST /auth/password`.
#[derive(Clone, Deserialize, Serialize)]
pub struct PasswordRequest {
    /// The password as it is. With the owner's token it may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<String>,
    /// The password as it is to be.
    pub new_password: String,
}

/// The answer to `POST /auth/login` and `/auth/register`.
#[derive(Clone, Deserialize, Serialize)]
pub struct SignedIn {
    /// The session's token.
    pub token: String,
    /// The same, by its other name.
    pub api_key: String,
    /// The user's id.
    pub user_id: String,
    /// The user's email, as it is kept.
    pub email: String,
    /// Whether the account is new.
    pub created: bool,
    /// One sentence.
    pub message: String,
    /// When the session ends.
    pub expires_at: String,
    /// The user.
    pub user: User,
}

/// A user.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct User {
    /// The user's number.
    pub id: u64,
    /// The user's email; empty while the owner has not registered.
    pub email: String,
    /// When the user was made.
    pub created_at: String,
    /// The user's id.
    #[serde(default)]
    pub user_id: String,
    /// What commits and releases call the user.
    #[serde(default)]
    pub name: String,
    /// The user's personal team.
    #[serde(default)]
    pub team_id: String,
    /// Whether it is the server's owner.
    #[serde(default)]
    pub is_admin: bool,
}

/// The answer to `GET /auth/info`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuthInfo {
    /// The user's id.
    pub id: String,
    /// The user's email; empty while the owner has not registered.
    pub email: String,
    /// Whether it is the server's owner.
    pub is_admin: bool,
    /// Never so far.
    pub is_anonymous: bool,
}

/// The answer to `GET /me`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Me {
    /// Who asks.
    pub user: User,
    /// What the token that is asked with is for.
    pub token: Access,
}

/// What a token is for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Access {
    /// Its id.
    pub id: Option<String>,
    /// `read`, `deploy` or `admin`.
    pub scope: String,
    /// The only project that it reaches, by id.
    pub project_id: Option<String>,
    /// The only environment that it moves.
    pub environment: Option<String>,
}

/// The answer to `DELETE /account`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AccountDeleted {
    /// One sentence.
    pub message: String,
    /// How many projects went with it.
    pub deleted_projects: u64,
}

/// `POST /tokens`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenRequest {
    /// What it is called.
    pub name: String,
    /// `read`, `deploy` or `admin`.
    pub scope: String,
    /// The only project that it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The only environment that it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How many seconds it lasts; without it, until it is revoked.
    #[serde(default, deserialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<i64>,
}

/// The answer to `POST /tokens`.
#[derive(Clone, Deserialize, Serialize)]
pub struct NewToken {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// The token. No other answer has it.
    pub token: String,
    /// `read`, `deploy` or `admin`.
    pub scope: String,
    /// The only project that it reaches.
    pub project: Option<String>,
    /// The only environment that it moves.
    pub environment: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// A command that uses it.
    pub curl: String,
}

/// One token in `GET /tokens`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenItem {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// `read`, `deploy` or `admin`.
    pub scope: String,
    /// The only project that it reaches; its id where it is gone.
    pub project: Option<String>,
    /// The only environment that it moves.
    pub environment: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// When it was last used.
    pub last_used_at: Option<String>,
    /// Whether somebody signed in by it.
    pub session: bool,
    /// Whether it is the one that is asked with.
    pub current: bool,
}

/// `POST /invites`. The body may be left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct InviteRequest {
    /// The only email that can register with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// How many seconds it lasts; 7 days where this is missing.
    #[serde(default, deserialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<i64>,
}

/// The answer to `POST /invites`.
#[derive(Clone, Deserialize, Serialize)]
pub struct NewInvite {
    /// Its id.
    pub id: String,
    /// The invitation. No other answer has it.
    pub invite: String,
    /// The only email that can register with it.
    pub email: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// When it is over.
    pub expires_at: String,
}

/// One invitation in `GET /invites`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InviteItem {
    /// Its id.
    pub id: String,
    /// The only email that can register with it.
    pub email: Option<String>,
    /// Who made it.
    pub author: String,
    /// When it was made.
    pub created_at: String,
    /// When it is over.
    pub expires_at: String,
}

/// One row in `GET /audit`, newest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuditItem {
    /// When.
    pub at: String,
    /// Who; empty where somebody could not sign in.
    pub actor: String,
    /// The id of the token they came with.
    pub credential: Option<String>,
    /// What.
    pub action: String,
    /// To what, in words.
    pub object: String,
    /// In which project, by id.
    pub project_id: Option<String>,
    /// Where the request came from.
    pub from_address: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
}
