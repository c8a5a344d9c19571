//! Tokens: who comes with one, how one is made, and how it ends.
//!
//! A token is looked up with every request and nothing of it is remembered between two, so that one that ended is nobody's
//! from the next request on, also on a connection that stays. What takes long is asked about twice:
//! [`Engine::tokens_ended`] says cheaply whether there is a reason to.
//!
//! Whoever makes a token, or ends all, checks the record of its user. So none is made while all are ended, and a user's
//! tokens have one order.

use std::time::Duration;

use crate::account::{Principal, Scope};
use crate::accounts::SignedIn;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::hash::BlobHash;
use crate::hex;
use crate::id::{ProjectId, TokenId, random_bytes};
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::name::{EnvironmentName, ProjectName};
use crate::plan::{ATTEMPTS, pause};
use crate::publish::ProjectSelector;
use crate::records::accounts::UserRecord;
use crate::records::projects::ProjectRecord;
use crate::records::tokens::{TokenIndex, TokenRecord, secret_digest};
use crate::records::{self, Stored, Unknown, encode, read_all};

pub(crate) mod uses;

/// The most named tokens that a user can have.
pub const MOST_TOKENS: usize = 500;
/// The most sessions that a user can have; one more ends the oldest. All of them end in one commit.
pub const MOST_SESSIONS: usize = 40;
/// The longest name of a token, in characters.
pub const LONGEST_TOKEN_NAME: usize = 100;
/// The longest time that a token can be asked to last. Without one it does not end by itself.
pub const LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Rows of a user's list that are read: more than there can be.
const ALL: usize = MOST_TOKENS + MOST_SESSIONS + 100;

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is called: 1 to [`LONGEST_TOKEN_NAME`] characters, none of them a control character.
    pub name: String,
    /// What may be done with it.
    pub scope: Scope,
    /// The only project that it reaches.
    pub project: Option<ProjectSelector>,
    /// The only environment that it moves.
    pub environment: Option<EnvironmentName>,
    /// How long it lasts.
    pub lifetime: Option<Duration>,
}

/// A token, without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenSummary {
    /// Its id.
    pub id: TokenId,
    /// What it is called.
    pub name: String,
    /// What may be done with it.
    pub scope: Scope,
    /// The only project that it reaches.
    pub project: Option<ProjectId>,
    /// What that project is called; nothing where it is gone.
    pub project_name: Option<ProjectName>,
    /// The only environment that it moves.
    pub environment: Option<EnvironmentName>,
    /// Whether somebody signed in by it.
    pub is_session: bool,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it ends.
    pub expires_at: Option<UnixMillis>,
    /// When it was last used.
    pub last_used_at: Option<UnixMillis>,
}

/// Why a token was not made or ended. Whichever it is, nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be called that.
    #[error("a token's name has 1 to {longest} characters and no control characters")]
    Name {
        /// The longest name, in bytes.
        longest: usize,
    },
    /// It cannot last for so short or so long.
    #[error("a token lasts 1 to {} seconds", longest.as_secs())]
    Lifetime {
        /// The longest time.
        longest: Duration,
    },
    /// There is no such project, or it is another team's.
    #[error("there is no such project")]
    ProjectNotFound,
    /// The user has as many as there can be.
    #[error("a user has at most {limit} tokens")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The user has no such token.
    #[error("there is no such token")]
    NotFound,
    /// The owner's token is a file in the data folder, and ends when that changes.
    #[error("the owner's token does not end by a call")]
    OwnersToken,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(TokenError);

/// What a token is made of, beside what its user and the moment say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Issue {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) project: Option<ProjectId>,
    pub(crate) environment: Option<EnvironmentName>,
    pub(crate) is_session: bool,
    pub(crate) expires_at: Option<UnixMillis>,
}

impl Issue {
    /// What somebody gets who signs in.
    pub(crate) fn session(expires_at: UnixMillis) -> Self {
        let name = "login".to_owned();
        Self { name, scope: Scope::Admin, is_session: true, expires_at: Some(expires_at), ..Self::default() }
    }
}

/// A token of a user, with the digest that it is under.
pub(crate) type Listed = (BlobHash, Stored<TokenRecord>);

impl Engine {
    /// Who comes with this token; nobody where it is none, or its time is over.
    ///
    /// # Errors
    ///
    /// Where the metadata store does not answer.
    pub async fn authenticate(&self, token: &str) -> Result<Option<Principal>, MetaError> {
        // The store is asked for the digest, so how long the answer takes says nothing of the secret.
        let digest = secret_digest(token);
        let guess = self.token_uses().user(&digest);
        // A user who is deleted takes all tokens along, from this moment on and however many there are.
        let Some((record, user)) = records::tokens::with_user(self.meta(), &digest, guess).await? else {
            return Ok(None);
        };
        let now = self.clock().now();
        if record.is_expired(now) {
            return Ok(None);
        }
        self.token_uses().note(digest, &record, now);
        Ok(Some(Principal {
            token: Some(record.id),
            // Every other token has a number among its user's, from 1.
            has_owners_token: record.number == 0,
            access: record.access(),
            ..Principal::new(record.user, record.team, user.name)
        }))
    }

    /// How often this process has ended tokens. While it stays the same, who came with a token still does.
    #[must_use]
    pub fn tokens_ended(&self) -> u64 {
        self.token_uses().ended()
    }

    /// Makes a token for the caller's user; answers its secret, which nothing keeps.
    ///
    /// # Errors
    ///
    /// Where a bound is exceeded, the project is unknown, or a store fails.
    pub async fn create_token(&self, caller: &Principal, new: NewToken) -> Result<(String, TokenSummary), TokenError> {
        let name = new.name.trim();
        if !(1..=LONGEST_TOKEN_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(TokenError::Name { longest: LONGEST_TOKEN_NAME });
        }
        let bounds = Duration::from_secs(1)..=LONGEST_TOKEN_LIFE;
        if new.lifetime.is_some_and(|lifetime| !bounds.contains(&lifetime)) {
            return Err(TokenError::Lifetime { longest: LONGEST_TOKEN_LIFE });
        }
        let (project, project_name) = match &new.project {
            None => (None, None),
            Some(selector) => {
                let found = self.find_project(caller, selector).await?.ok_or(TokenError::ProjectNotFound)?;
                let record = records::projects::get(self.meta(), found).await?.ok_or(TokenError::ProjectNotFound)?;
                (Some(found.project), Some(record.record.name))
            }
        };
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let mut user = self.user_of(caller).await?;
            let now = self.clock().now();
            let named = self.tokens_of(&user.record).await?.into_iter().filter(|(_, token)| !token.record.session);
            let (over, live): (Vec<_>, Vec<_>) = named.partition(|(_, token)| token.record.is_expired(now));
            if live.len() >= MOST_TOKENS {
                return Err(TokenError::TooMany { limit: MOST_TOKENS });
            }
            let issue = Issue {
                name: name.to_owned(),
                scope: new.scope,
                project,
                environment: new.environment.clone(),
                is_session: false,
                expires_at: new.lifetime.map(|lifetime| now.plus(lifetime)),
            };
            // Those that are over make room; a few at a time, as a commit takes no more.
            let commit = over.iter().take(20).fold(Commit::new(), end);
            let (commit, secret, token) = issue_token(commit, &mut user, issue, now);
            let object = format!("token {} `{}`, {}", token.id, token.name, token.scope.as_str());
            let (audit_key, audit) = self.audit_in(caller, project, "token.create", object, now);
            if let Outcome::Done { .. } = self.meta().commit(commit.put(audit_key, audit)).await? {
                return Ok((secret, summary(token, project_name)));
            }
        }
        Err(StoreError::Contended.into())
    }

    /// The tokens of the caller's user that are not over, oldest first; the owner's own is not among them.
    ///
    /// # Errors
    ///
    /// Where the metadata store does not answer.
    pub async fn tokens(&self, caller: &Principal) -> Result<Vec<TokenSummary>, TokenError> {
        let user = self.user_of(caller).await?;
        let now = self.clock().now();
        let mut tokens = self.tokens_of(&user.record).await?;
        tokens.retain(|(_, token)| !token.record.is_expired(now));
        let keys: Vec<_> = tokens
            .iter()
            .filter_map(|(_, token)| token.record.project)
            .map(|project| records::projects::key(crate::pointers::ProjectRef { team: caller.team, project }))
            .collect();
        let projects = read_all::<ProjectRecord>(self.meta(), &keys, "project").await?;
        let projects: Vec<_> = projects.into_iter().flatten().map(|project| project.record).collect();
        let name_of = |id: ProjectId| {
            projects.iter().find(|project| project.id == id && project.deleted_at.is_none()).map(|p| p.name.clone())
        };
        let seen = |(digest, Stored { mut record, .. }): Listed| {
            record.last_used_at = self.token_uses().last(&digest).max(record.last_used_at);
            let name = record.project.and_then(name_of);
            summary(record, name)
        };
        Ok(tokens.into_iter().map(seen).collect())
    }

    /// Ends a token of the caller's user at once.
    ///
    /// # Errors
    ///
    /// [`TokenError::NotFound`] where the user has no such token, and where a store fails.
    pub async fn revoke_token(&self, caller: &Principal, id: TokenId) -> Result<(), TokenError> {
        self.end_token(caller, id, "token.revoke").await
    }

    /// Ends the token that the caller came with.
    ///
    /// # Errors
    ///
    /// [`TokenError::OwnersToken`] where that is the owner's, and where a store fails.
    pub async fn logout(&self, caller: &Principal) -> Result<(), TokenError> {
        let Some(token) = caller.token else { return Ok(()) };
        match self.end_token(caller, token, "logout").await {
            Err(TokenError::NotFound) if self.has_owners_token(caller).await? => Err(TokenError::OwnersToken),
            // Somebody else has ended it meanwhile.
            Err(TokenError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// Ends every session of the caller's user, this one too. Named tokens stay.
    ///
    /// # Errors
    ///
    /// Where a store fails.
    pub async fn logout_everywhere(&self, caller: &Principal) -> Result<(), TokenError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let user = self.user_of(caller).await?;
            let commit = self.without_sessions(Commit::new(), &user.record, None).await?;
            let key = records::accounts::user_key(user.record.id);
            let object = format!("sessions of {}", user.record.name);
            let (audit_key, audit) = self.audit(caller, "logout.everywhere", object, self.clock().now());
            let commit = commit
                .check(key.clone(), Check::Revision(user.revision))
                .put(key, encode(&user.record))
                .put(audit_key, audit);
            if self.commit_ending_tokens(commit).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    async fn end_token(&self, caller: &Principal, id: TokenId, action: &str) -> Result<(), TokenError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let user = self.user_of(caller).await?;
            let tokens = self.tokens_of(&user.record).await?;
            let listed = tokens.iter().find(|(_, token)| token.record.id == id).ok_or(TokenError::NotFound)?;
            let record = &listed.1.record;
            let object = format!("token {id} `{}`", record.name);
            let (audit_key, audit) = self.audit_in(caller, record.project, action, object, self.clock().now());
            // No check: whoever wrote the row meanwhile only noted its use, and gone is what it is to be.
            let commit = end(Commit::new(), listed).put(audit_key, audit);
            if self.commit_ending_tokens(commit).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Makes a session for a user who has shown who they are, in the commit that says so.
    pub(crate) async fn sign_in(
        &self,
        mut user: Stored<UserRecord>,
        mut commit: Commit,
        life: Duration,
        now: UnixMillis,
    ) -> Result<(Commit, SignedIn), MetaError> {
        let sessions = self.tokens_of(&user.record).await?;
        let sessions: Vec<_> = sessions.into_iter().filter(|(_, token)| token.record.session).collect();
        let (over, live): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|(_, token)| token.record.is_expired(now));
        let too_many = (live.len() + 1).saturating_sub(MOST_SESSIONS);
        commit = over.iter().chain(live.iter().take(too_many)).fold(commit, end);
        let expires_at = now.plus(life);
        let (commit, secret, token) = issue_token(commit, &mut user, Issue::session(expires_at), now);
        let user = self.summary_of_user(user.record);
        Ok((commit, SignedIn { secret, token: token.id, expires_at, user, created: false }))
    }

    /// Adds to `commit` the end of every session of `user` but `kept`.
    pub(crate) async fn without_sessions(
        &self,
        commit: Commit,
        user: &UserRecord,
        kept: Option<TokenId>,
    ) -> Result<Commit, MetaError> {
        let tokens = self.tokens_of(user).await?;
        let ending = tokens.iter().filter(|(_, token)| token.record.session && Some(token.record.id) != kept);
        Ok(ending.fold(commit, end))
    }

    /// Makes a commit that ends tokens, and lets who came with one be asked again; answers whether it happened.
    pub(crate) async fn commit_ending_tokens(&self, commit: Commit) -> Result<bool, MetaError> {
        let done = matches!(self.meta().commit(commit).await?, Outcome::Done { .. });
        if done {
            self.token_uses().end();
        }
        Ok(done)
    }

    pub(crate) async fn tokens_of(&self, user: &UserRecord) -> Result<Vec<Listed>, MetaError> {
        records::tokens::of_user(self.meta(), user.id, ALL).await
    }

    /// The caller's user. One whose record went since the caller came has no tokens and nothing else.
    pub(crate) async fn user_of(&self, caller: &Principal) -> Result<Stored<UserRecord>, TokenError> {
        records::accounts::user(self.meta(), caller.user).await?.ok_or(TokenError::NotFound)
    }

    /// Whether the caller is in this process or came with the token that the data folder holds.
    pub(crate) async fn has_owners_token(&self, caller: &Principal) -> Result<bool, MetaError> {
        let Some(token) = caller.token else { return Ok(self.is_owner(caller)) };
        let Some(owner) = records::accounts::owner(self.meta()).await? else { return Ok(false) };
        let theirs = records::tokens::get(self.meta(), &owner.record.secret).await?;
        Ok(theirs.is_some_and(|theirs| theirs.record.id == token))
    }
}

/// A new secret: a prefix that tells what it is, and 256 random bits.
pub(crate) fn new_secret(prefix: &str) -> String {
    format!("{prefix}{}", hex::encode(&random_bytes::<32>()))
}

/// Adds to `commit` a new token of `user`, whose record it checks and counts up; answers the secret too.
fn issue_token(
    commit: Commit,
    user: &mut Stored<UserRecord>,
    issue: Issue,
    now: UnixMillis,
) -> (Commit, String, TokenRecord) {
    let key = records::accounts::user_key(user.record.id);
    let commit = commit.check(key, Check::Revision(user.revision));
    issue_first_token(commit, &mut user.record, issue, now)
}

/// The same for a user that the commit makes, and who needs no check.
pub(crate) fn issue_first_token(
    commit: Commit,
    user: &mut UserRecord,
    issue: Issue,
    now: UnixMillis,
) -> (Commit, String, TokenRecord) {
    let secret = new_secret("pin_");
    let digest = secret_digest(&secret);
    user.tokens += 1;
    let token = TokenRecord {
        id: TokenId::random(),
        number: user.tokens,
        user: user.id,
        team: user.team,
        name: issue.name,
        user_name: user.name.clone(),
        scope: issue.scope,
        project: issue.project,
        environment: issue.environment,
        session: issue.is_session,
        created_at: now,
        expires_at: issue.expires_at,
        last_used_at: None,
        unknown: Unknown::new(),
    };
    let commit = commit
        .put(records::accounts::user_key(user.id), encode(user))
        .put(records::tokens::key(&digest), encode(&token))
        .put(records::tokens::list_key(user.id, token.number), encode(&TokenIndex { id: token.id, secret: digest }));
    (commit, secret, token)
}

/// Adds to `commit` the end of a token.
pub(crate) fn end(commit: Commit, (digest, token): &Listed) -> Commit {
    commit
        .delete(records::tokens::key(digest))
        .delete(records::tokens::list_key(token.record.user, token.record.number))
}

fn summary(token: TokenRecord, project_name: Option<ProjectName>) -> TokenSummary {
    TokenSummary {
        id: token.id,
        name: token.name,
        scope: token.scope,
        project: token.project,
        project_name,
        environment: token.environment,
        is_session: token.session,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
    }
}
