//! Teams and users. One built-in owner with one team exists from the first start; every other user has a personal team
//! from the commit that made the user.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, decode, read};
use crate::clock::UnixMillis;
use crate::hash::BlobHash;
use crate::id::{TeamId, UserId};
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
    /// What the user signs in by. The owner has none until the owner registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What the user signs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordRecord>,
    /// The number of the user's last token. Whoever makes a token or ends all checks this record, so that none is made while
    /// all are ended.
    #[serde(default)]
    pub tokens: u64,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What is kept of a password.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PasswordRecord {
    /// `argon2id`.
    pub algorithm: String,
    /// Memory that computing it takes, in KiB.
    pub memory_kib: u32,
    /// How often that memory is gone through.
    pub passes: u32,
    /// 16 random bytes, in hex digits.
    pub salt: String,
    /// 32 bytes, in hex digits.
    pub hash: String,
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

/// That an account was deleted: what belongs to its personal team goes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeletionRecord {
    /// Who the user was.
    pub user: UserId,
    /// Since when.
    pub since: UnixMillis,
    /// When all of it was gone. The row stays, so that nothing is made that began before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<UnixMillis>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

pub(crate) fn team_key(team: TeamId) -> Key {
    KeyWriter::new(Table::Team).fixed(team.as_bytes()).finish()
}

pub(crate) fn slug_key(slug: &str) -> Key {
    KeyWriter::new(Table::TeamBySlug).text(slug).finish()
}

pub(crate) fn user_key(user: UserId) -> Key {
    KeyWriter::new(Table::User).fixed(user.as_bytes()).finish()
}

pub(crate) fn email_key(email: &str) -> Key {
    KeyWriter::new(Table::UserByEmail).text(email).finish()
}

pub(crate) fn counter_key() -> Key {
    KeyWriter::new(Table::Counter).text("users").finish()
}

pub(crate) fn owner_key() -> Key {
    KeyWriter::new(Table::Owner).finish()
}

pub(crate) fn deletion_key(team: TeamId) -> Key {
    KeyWriter::new(Table::AccountDeleted).fixed(team.as_bytes()).finish()
}

pub(crate) async fn owner(meta: &dyn MetaStore) -> Result<Option<Stored<OwnerRecord>>, MetaError> {
    read(meta, owner_key(), "owner").await
}

pub(crate) async fn user(meta: &dyn MetaStore, user: UserId) -> Result<Option<Stored<UserRecord>>, MetaError> {
    read(meta, user_key(user), "user").await
}

pub(crate) async fn team(meta: &dyn MetaStore, team: TeamId) -> Result<Option<Stored<TeamRecord>>, MetaError> {
    read(meta, team_key(team), "team").await
}

/// The user of this email, which is in the form that it is kept in.
pub(crate) async fn user_by_email(meta: &dyn MetaStore, email: &str) -> Result<Option<Stored<UserRecord>>, MetaError> {
    match read::<UserId>(meta, email_key(email), "email").await? {
        Some(found) => user(meta, found.record).await,
        None => Ok(None),
    }
}

/// Every account that was deleted, by its personal team.
pub(crate) async fn deletions(meta: &dyn MetaStore) -> Result<Vec<(TeamId, DeletionRecord)>, MetaError> {
    let rows = meta.snapshot(KeyWriter::new(Table::AccountDeleted).finish()).await?.items;
    rows.iter()
        .map(|(key, item)| {
            let team = key.get(1..).and_then(|id| <[u8; 16]>::try_from(id).ok());
            let team = team.ok_or(MetaError::Damaged { what: "key" })?;
            Ok((TeamId::from_bytes(team), decode::<DeletionRecord>(item, "deletion")?.record))
        })
        .collect()
}
