//! Registering: a user, a personal team and a session come into being by one commit. The built-in owner is there already, and
//! only gets an email and a password.

use super::invite::Admission;
use super::{AccountError, AccountRules, Credentials, Email, Registration, SignedIn, check_password};
use crate::account::{Origin, Principal, Scope};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::{TeamId, UserId};
use crate::meta::{Check, Commit, Outcome};
use crate::plan::{ATTEMPTS, pause};
use crate::records::accounts::{TeamRecord, UserRecord};
use crate::records::{self, Stored, Unknown, encode};
use crate::tokens::{Issue, issue_first_token};

impl Engine {
    /// Makes an account, or gives the built-in owner an email and a password where the caller is the owner. An invitation is
    /// looked at only where registration is by invitation.
    ///
    /// # Errors
    ///
    /// Where nobody may register or not with this invitation, the email is taken, or a store fails.
    pub async fn register(
        &self,
        caller: Option<&Principal>,
        origin: &Origin,
        credentials: &Credentials,
        invite: Option<&str>,
        rules: &AccountRules,
    ) -> Result<SignedIn, AccountError> {
        let email: Email = credentials.email.parse()?;
        if let Some(owner) = caller.filter(|caller| self.is_owner(caller) && may_all(caller)) {
            return self.register_owner(owner, &email, &credentials.password, rules).await;
        }
        // Each counts, so that one source does not make accounts without end.
        let _counted = match rules.registration {
            Registration::Closed => return Err(AccountError::RegistrationClosed),
            Registration::Open | Registration::Invite => self.begin_attempt(origin.address, None)?,
        };
        let admission = match (rules.registration, invite) {
            (Registration::Invite, None) => return Err(AccountError::InviteInvalid),
            (Registration::Invite, Some(invite)) => Some(self.admission(invite, &email).await?),
            _ => None,
        };
        self.make_account(origin, &email, &credentials.password, rules, admission.as_ref()).await
    }

    /// Makes a user with a personal team and a session, by one commit.
    pub(super) async fn make_account(
        &self,
        origin: &Origin,
        email: &Email,
        password: &str,
        rules: &AccountRules,
        invite: Option<&Admission>,
    ) -> Result<SignedIn, AccountError> {
        check_password(password, rules)?;
        let email_key = records::accounts::email_key(email.as_str());
        if records::read::<UserId>(self.meta(), email_key.clone(), "email").await?.is_some() {
            return Err(AccountError::EmailTaken);
        }
        let kept = self.passwords().keep(password).await?;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let now = self.clock().now();
            let counter_key = records::accounts::counter_key();
            let counter: Option<Stored<u64>> = records::read(self.meta(), counter_key.clone(), "counter").await?;
            // The owner is the first, and was never counted.
            let number = counter.as_ref().map_or(1, |counter| counter.record) + 1;
            let counted = counter.map_or(Check::Absent, |counter| Check::Revision(counter.revision));
            let (team, slug) = (TeamId::random(), format!("user-{number}"));
            let home = TeamRecord { id: team, number, slug: slug.clone(), created_at: now, unknown: Unknown::new() };
            let mut user = UserRecord {
                id: UserId::random(),
                number,
                name: email.to_string(),
                team,
                created_at: now,
                email: Some(email.to_string()),
                password: Some(kept.clone()),
                tokens: 0,
                unknown: Unknown::new(),
            };
            let slug_key = records::accounts::slug_key(&slug);
            let commit = Commit::new()
                .check(email_key.clone(), Check::Absent)
                .check(counter_key.clone(), counted)
                .check(slug_key.clone(), Check::Absent)
                .put(email_key.clone(), encode(&user.id))
                .put(counter_key, encode(&number))
                .put(slug_key, encode(&team))
                .put(records::accounts::team_key(team), encode(&home));
            let commit = invite.into_iter().fold(commit, |commit, invite| invite.use_up(commit));
            let expires_at = now.plus(rules.session_life);
            let (commit, secret, token) = issue_first_token(commit, &mut user, Issue::session(expires_at), now);
            let caller = Principal {
                token: Some(token.id),
                ..Principal::new(user.id, team, email.as_str()).with_origin(origin.clone())
            };
            let (audit_key, audit) = self.audit(&caller, "account.create", format!("account {email}"), now);
            match self.meta().commit(commit.put(audit_key, audit)).await? {
                Outcome::Done { .. } => {
                    let user = self.summary_of_user(user);
                    return Ok(SignedIn { secret, token: token.id, expires_at, user, created: true });
                }
                Outcome::Refused { key } if key == email_key => return Err(AccountError::EmailTaken),
                Outcome::Refused { key } if invite.is_some_and(|invite| invite.key == key) => {
                    return Err(AccountError::InviteInvalid);
                }
                Outcome::Refused { .. } => {}
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Gives the built-in owner an email and a password.
    async fn register_owner(
        &self,
        owner: &Principal,
        email: &Email,
        password: &str,
        rules: &AccountRules,
    ) -> Result<SignedIn, AccountError> {
        check_password(password, rules)?;
        let email_key = records::accounts::email_key(email.as_str());
        let mut kept = None;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let mut user = self.user_of(owner).await?;
            if user.record.email.is_some() {
                return Err(AccountError::OwnerRegistered);
            }
            let kept = match &mut kept {
                Some(kept) => kept,
                none => none.insert(self.passwords().keep(password).await?),
            };
            user.record.email = Some(email.to_string());
            user.record.password = Some(kept.clone());
            let now = self.clock().now();
            let (audit_key, audit) = self.audit(owner, "account.create", format!("account {email}"), now);
            let commit = Commit::new()
                .check(email_key.clone(), Check::Absent)
                .put(email_key.clone(), encode(&user.record.id))
                .put(audit_key, audit);
            let (commit, signed_in) = self.sign_in(user, commit, rules.session_life, now).await?;
            match self.meta().commit(commit).await? {
                Outcome::Done { .. } => return Ok(SignedIn { created: true, ..signed_in }),
                Outcome::Refused { key } if key == email_key => return Err(AccountError::EmailTaken),
                Outcome::Refused { .. } => {}
            }
        }
        Err(StoreError::Contended.into())
    }
}

/// Whether the caller may do everything that the user may.
fn may_all(caller: &Principal) -> bool {
    caller.access.scope == Scope::Admin && caller.access.is_everywhere()
}
