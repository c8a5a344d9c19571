//! Invitations: who has one may register where registration is by invitation. Only the owner makes them.

use std::time::Duration;

use super::{AccountError, Email};
use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::InviteId;
use crate::meta::{Check, Commit, Key, Outcome, Revision};
use crate::plan::{ATTEMPTS, pause};
use crate::records::invites::InviteRecord;
use crate::records::tokens::secret_digest;
use crate::records::{self, Unknown, encode};
use crate::tokens::new_secret;

/// The most invitations that there can be at a time.
pub const MOST_INVITES: usize = 1000;
/// How long an invitation lasts where nobody says it.
pub const DEFAULT_INVITE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The longest time that an invitation can be asked to last.
pub const LONGEST_INVITE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Invitations that are over and make room, in one commit.
const REMOVED_AT_ONCE: usize = 50;

/// An invitation, without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InviteSummary {
    /// Its id.
    pub id: InviteId,
    /// The only email that can register with it.
    pub email: Option<String>,
    /// Who made it.
    pub author: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it is over.
    pub expires_at: UnixMillis,
}

/// An invitation that was shown and holds.
pub(super) struct Admission {
    pub(super) key: Key,
    revision: Revision,
}

impl Admission {
    /// Adds to `commit` that nobody else registers with it.
    pub(super) fn use_up(&self, commit: Commit) -> Commit {
        commit.check(self.key.clone(), Check::Revision(self.revision)).delete(self.key.clone())
    }
}

impl Engine {
    /// Makes an invitation, for one email or for whoever has it; answers its secret, which nothing keeps.
    ///
    /// # Errors
    ///
    /// Where the caller is not the owner, the email is none, a bound is exceeded, or a store fails.
    pub async fn create_invite(
        &self,
        caller: &Principal,
        email: Option<&str>,
        lifetime: Option<Duration>,
    ) -> Result<(String, InviteSummary), AccountError> {
        self.check_owner(caller)?;
        let email = email.map(str::parse::<Email>).transpose()?;
        let lifetime = lifetime.unwrap_or(DEFAULT_INVITE);
        if !(Duration::from_secs(1)..=LONGEST_INVITE).contains(&lifetime) {
            return Err(AccountError::InviteLifetime { longest: LONGEST_INVITE });
        }
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let all = records::invites::all(self.meta(), MOST_INVITES + REMOVED_AT_ONCE).await?;
            let (over, live): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(_, invite)| invite.record.expires_at <= now);
            if live.len() >= MOST_INVITES {
                return Err(AccountError::TooManyInvites { limit: MOST_INVITES });
            }
            let secret = new_secret("inv_");
            let record = InviteRecord {
                id: InviteId::random(),
                user: caller.user,
                author: caller.name.clone(),
                email: email.as_ref().map(Email::to_string),
                created_at: now,
                expires_at: now.plus(lifetime),
                unknown: Unknown::new(),
            };
            let object = match &record.email {
                Some(email) => format!("invitation {} for {email}", record.id),
                None => format!("invitation {}", record.id),
            };
            let (audit_key, audit) = self.audit(caller, "invite.create", object, now);
            let commit = over
                .into_iter()
                .take(REMOVED_AT_ONCE)
                .fold(Commit::new(), |commit, (key, _)| commit.delete(key))
                .put(records::invites::key(&secret_digest(&secret)), encode(&record))
                .put(audit_key, audit);
            if let Outcome::Done { .. } = self.meta().commit(commit).await? {
                return Ok((secret, summary(record)));
            }
        }
        Err(StoreError::Contended.into())
    }

    /// The invitations that still admit somebody, those that end soonest first.
    ///
    /// # Errors
    ///
    /// Where the caller is not the owner, and where a store fails.
    pub async fn invites(&self, caller: &Principal) -> Result<Vec<InviteSummary>, AccountError> {
        self.check_owner(caller)?;
        let now = self.clock().now();
        let all = records::invites::all(self.meta(), MOST_INVITES + REMOVED_AT_ONCE).await?;
        let live = all.into_iter().map(|(_, invite)| invite.record).filter(|invite| invite.expires_at > now);
        let mut live: Vec<_> = live.map(summary).collect();
        live.sort_by_key(|invite| (invite.expires_at, *invite.id.as_bytes()));
        Ok(live)
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    ///
    /// Where the caller is not the owner, there is no such invitation, and where a store fails.
    pub async fn delete_invite(&self, caller: &Principal, id: InviteId) -> Result<(), AccountError> {
        self.check_owner(caller)?;
        let all = records::invites::all(self.meta(), MOST_INVITES + REMOVED_AT_ONCE).await?;
        let (key, invite) =
            all.into_iter().find(|(_, invite)| invite.record.id == id).ok_or(AccountError::InviteNotFound)?;
        let (audit_key, audit) = self.audit(caller, "invite.delete", format!("invitation {id}"), self.clock().now());
        let commit =
            Commit::new().check(key.clone(), Check::Revision(invite.revision)).delete(key).put(audit_key, audit);
        match self.meta().commit(commit).await? {
            Outcome::Done { .. } => Ok(()),
            // Somebody has registered with it meanwhile.
            Outcome::Refused { .. } => Err(AccountError::InviteNotFound),
        }
    }

    /// The invitation with this secret, where it admits `email`.
    pub(super) async fn admission(&self, secret: &str, email: &Email) -> Result<Admission, AccountError> {
        let digest = secret_digest(secret);
        let found = records::invites::get(self.meta(), &digest).await?.ok_or(AccountError::InviteInvalid)?;
        let is_for_them = found.record.email.as_ref().is_none_or(|only| only == email.as_str());
        if !is_for_them || found.record.expires_at <= self.clock().now() {
            return Err(AccountError::InviteInvalid);
        }
        Ok(Admission { key: records::invites::key(&digest), revision: found.revision })
    }

    fn check_owner(&self, caller: &Principal) -> Result<(), AccountError> {
        if self.is_owner(caller) { Ok(()) } else { Err(AccountError::OwnerOnly) }
    }
}

fn summary(invite: InviteRecord) -> InviteSummary {
    InviteSummary {
        id: invite.id,
        email: invite.email,
        author: invite.author,
        created_at: invite.created_at,
        expires_at: invite.expires_at,
    }
}
