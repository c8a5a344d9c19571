//! Teams, users and tokens. One built-in owner with one team exists from the first start.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, read};
use crate::clock::UnixMillis;
use crate::hash::BlobHash;
use crate::id::{TeamId, TokenId, UserId};
use crate::meta::{Key, MetaError, MetaStore};

/// A team, which owns projects and blobs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TeamRecord {
    /// Its id.
    pub id: TeamId,
    /// Its number.
    pub number: u64,
    /// The name it has in addresses.
    pub slug: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A user.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UserRecord {
    /// The user's id.
    pub id: UserId,
    /// The user's number.
    pub number: u64,
    /// What commits and releases call the user.
    pub name: String,
    /// The user's personal team.
    pub team: TeamId,
    /// When the user was made.
    pub created_at: UnixMillis,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A token, under the digest of its secret: the secret itself is nowhere.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// The team that it acts for.
    pub team: TeamId,
    /// What it is called.
    pub name: String,
    /// What commits and releases call its user.
    pub user_name: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Who the built-in owner is, and which token is theirs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OwnerRecord {
    /// The owner.
    pub user: UserId,
    /// The owner's team.
    pub team: TeamId,
    /// The digest of the owner's token.
    pub secret: BlobHash,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The digest that a token's secret is known by. Secrets are 256 random bits, so a plain digest says nothing of them.
#[must_use]
pub fn secret_digest(secret: &str) -> BlobHash {
    BlobHash::of(secret.as_bytes())
}

pub(crate) fn team_key(team: TeamId) -> Key {
    KeyWriter::new(Table::Team).fixed(team.as_bytes()).finish()
}

pub(crate) fn user_key(user: UserId) -> Key {
    KeyWriter::new(Table::User).fixed(user.as_bytes()).finish()
}

pub(crate) fn token_key(secret: &BlobHash) -> Key {
    KeyWriter::new(Table::TokenBySecret).fixed(secret.as_bytes()).finish()
}

pub(crate) fn owner_key() -> Key {
    KeyWriter::new(Table::Owner).finish()
}

pub(crate) async fn owner(meta: &dyn MetaStore) -> Result<Option<Stored<OwnerRecord>>, MetaError> {
    read(meta, owner_key(), "owner").await
}

pub(crate) async fn user(meta: &dyn MetaStore, user: UserId) -> Result<Option<Stored<UserRecord>>, MetaError> {
    read(meta, user_key(user), "user").await
}

pub(crate) async fn token(meta: &dyn MetaStore, secret: &BlobHash) -> Result<Option<Stored<TokenRecord>>, MetaError> {
    read(meta, token_key(secret), "token").await
}
