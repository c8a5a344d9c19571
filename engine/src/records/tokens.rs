//! Tokens, each under the digest of its secret, and the list of a user's tokens. The secret itself is nowhere.

use serde::{Deserialize, Serialize};

use super::accounts::{self, UserRecord};
use super::{KeyWriter, Stored, Table, Unknown, decode, read, read_all};
use crate::account::{Access, Scope};
use crate::clock::UnixMillis;
use crate::hash::BlobHash;
use crate::id::{ProjectId, TeamId, TokenId, UserId};
use crate::meta::{Key, MetaError, MetaStore, Order, after_prefix};
use crate::name::EnvironmentName;

/// A token: who comes with it, and what they may do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Its number among its user's; 0 for the owner's, which no list has.
    #[serde(default)]
    pub number: u64,
    /// Whose it is.
    pub user: UserId,
    /// The team that it acts for.
    pub team: TeamId,
    /// What it is called.
    pub name: String,
    /// What commits and releases called its user when it was made.
    pub user_name: String,
    /// What may be done with it.
    #[serde(default)]
    pub scope: Scope,
    /// The only project that it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// The only environment that it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// Whether it stands for somebody who signed in, and ends when they sign out.
    #[serde(default)]
    pub session: bool,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on it is nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMillis>,
    /// When it was last used, not to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<UnixMillis>,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl TokenRecord {
    /// Whether its time was over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// What may be done with it.
    #[must_use]
    pub fn access(&self) -> Access {
        Access { scope: self.scope, project: self.project, environment: self.environment.clone() }
    }
}

/// A row of a user's list of tokens.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct TokenIndex {
    pub(crate) id: TokenId,
    pub(crate) secret: BlobHash,
}

/// The digest that a secret is known by. Secrets are 256 random bits, so a plain digest says nothing of them.
#[must_use]
pub fn secret_digest(secret: &str) -> BlobHash {
    BlobHash::of(secret.as_bytes())
}

pub(crate) fn key(secret: &BlobHash) -> Key {
    KeyWriter::new(Table::TokenBySecret).fixed(secret.as_bytes()).finish()
}

pub(crate) fn list_key(user: UserId, number: u64) -> Key {
    KeyWriter::new(Table::Token).fixed(user.as_bytes()).number(number).finish()
}

pub(crate) async fn get(meta: &dyn MetaStore, secret: &BlobHash) -> Result<Option<Stored<TokenRecord>>, MetaError> {
    read(meta, key(secret), "token").await
}

/// A token together with its user, where both are there. With a right guess at the user it is one read, of one moment.
pub(crate) async fn with_user(
    meta: &dyn MetaStore,
    secret: &BlobHash,
    guess: Option<UserId>,
) -> Result<Option<(TokenRecord, UserRecord)>, MetaError> {
    let keys: Vec<_> = std::iter::once(key(secret)).chain(guess.map(accounts::user_key)).collect();
    let mut items = meta.get(&keys).await?.into_iter();
    let Some(token) = items.next().flatten() else { return Ok(None) };
    let token: TokenRecord = decode(&token, "token")?.record;
    let user = match guess {
        Some(guess) if guess == token.user => items.next().flatten().map(|item| decode(&item, "user")).transpose()?,
        _ => accounts::user(meta, token.user).await?,
    };
    Ok(user.map(|user| (token, user.record)))
}

/// Up to `limit` tokens of a user, oldest first, each with the digest that it is under.
pub(crate) async fn of_user(
    meta: &dyn MetaStore,
    user: UserId,
    limit: usize,
) -> Result<Vec<(BlobHash, Stored<TokenRecord>)>, MetaError> {
    let from = KeyWriter::new(Table::Token).fixed(user.as_bytes()).finish();
    let rows = meta.scan(from.clone(), after_prefix(&from), limit, Order::Ascending).await?;
    let rows: Result<Vec<TokenIndex>, _> =
        rows.iter().map(|(_, item)| Ok::<_, MetaError>(decode(item, "list of tokens")?.record)).collect();
    let rows = rows?;
    let keys: Vec<_> = rows.iter().map(|row| key(&row.secret)).collect();
    let tokens = read_all::<TokenRecord>(meta, &keys, "token").await?;
    // One that was ended since the list was read is in it no more.
    Ok(rows.into_iter().zip(tokens).filter_map(|(row, token)| Some((row.secret, token?))).collect())
}
