//! Accounts: registering, signing in, passwords.
//!
//! Where registration is not open, a known and an unknown email are answered alike: both cost one password computation,
//! both leave the same row in the audit log, and both count as a failure. Who fails is slowed down by account and source
//! together, so that nobody keeps somebody else out.

use std::net::IpAddr;
use std::time::Duration;

use crate::account::{Origin, Principal};
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::error::{StoreError, from_stores};
use crate::id::{TeamId, TokenId, UserId};
use crate::meta::{Check, Commit, MetaError, Outcome};
use crate::plan::{ATTEMPTS, pause};
use crate::records::accounts::{PasswordRecord, UserRecord};
use crate::records::{self, Stored, encode};
use crate::tokens::TokenError;

mod delete;
mod email;
mod invite;
mod password;
mod register;
mod throttle;

pub use email::{Email, NotAnEmail};
pub use invite::{DEFAULT_INVITE, InviteSummary, LONGEST_INVITE, MOST_INVITES};
pub use password::LONGEST_PASSWORD;
pub(crate) use password::Passwords;
use throttle::Attempt;
pub(crate) use throttle::Throttle;

/// Who may register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Registration {
    /// Everybody; signing in with an unknown email registers it.
    Open,
    /// Who has an invitation.
    Invite,
    /// Nobody but the owner.
    Closed,
}

/// A text that is not `open`, `invite` or `closed`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("registration is `open`, `invite` or `closed`")]
pub struct NotARegistration;

impl Registration {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Closed => "closed",
        }
    }
}

impl std::str::FromStr for Registration {
    type Err = NotARegistration;

    fn from_str(text: &str) -> Result<Self, NotARegistration> {
        let all = [Self::Open, Self::Invite, Self::Closed];
        all.into_iter().find(|value| value.as_str() == text).ok_or(NotARegistration)
    }
}

/// What the operator says of accounts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountRules {
    /// Who may register.
    pub registration: Registration,
    /// The shortest password, in bytes. 8 by default.
    pub password_length: usize,
    /// How long somebody who signed in stays so. 30 days by default.
    pub session_life: Duration,
}

impl AccountRules {
    /// The defaults, with this registration.
    #[must_use]
    pub fn new(registration: Registration) -> Self {
        Self { registration, password_length: 8, session_life: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

/// What somebody shows to be let in.
#[derive(Clone)]
pub struct Credentials {
    /// What they sign in by.
    pub email: String,
    /// What they sign in with.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// A user as others see them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserSummary {
    /// The user's id.
    pub id: UserId,
    /// The user's number.
    pub number: u64,
    /// The user's personal team.
    pub team: TeamId,
    /// What commits and releases call the user.
    pub name: String,
    /// What the user signs in by; nothing while the owner has not registered.
    pub email: Option<String>,
    /// Whether it is the built-in owner.
    pub is_owner: bool,
    /// When the user was made.
    pub created_at: UnixMillis,
}

/// Somebody who was let in.
#[derive(Clone)]
pub struct SignedIn {
    /// The session's secret, which nothing keeps.
    pub secret: String,
    /// The session.
    pub token: TokenId,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// Who it is.
    pub user: UserSummary,
    /// Whether the account is new.
    pub created: bool,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIn").field("token", &self.token).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why somebody was not let in, or an account stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The email is not one.
    #[error(transparent)]
    Email(#[from] NotAnEmail),
    /// The password is too short or too long.
    #[error("a password has {shortest} to {longest} bytes")]
    Password {
        /// The shortest, in bytes.
        shortest: usize,
        /// The longest, in bytes.
        longest: usize,
    },
    /// There is no such user, or the password is another.
    #[error("the email or the password is wrong")]
    WrongCredentials,
    /// There were too many failures.
    #[error("too many attempts failed")]
    Slowed {
        /// How long to wait before the next.
        wait: Duration,
    },
    /// Nobody can register.
    #[error("registration is closed")]
    RegistrationClosed,
    /// There is no such invitation, it is over, was used, or is for somebody else.
    #[error("the invitation is not valid")]
    InviteInvalid,
    /// There is no such invitation.
    #[error("there is no such invitation")]
    InviteNotFound,
    /// An invitation cannot last for so short or so long.
    #[error("an invitation lasts 1 to {} seconds", longest.as_secs())]
    InviteLifetime {
        /// The longest time.
        longest: Duration,
    },
    /// There are as many invitations as there can be.
    #[error("there are at most {limit} invitations")]
    TooManyInvites {
        /// The limit.
        limit: usize,
    },
    /// It is for the built-in owner.
    #[error("only the owner can do this")]
    OwnerOnly,
    /// Somebody has an account by this email.
    #[error("there is an account by this email")]
    EmailTaken,
    /// The owner has an email and a password already.
    #[error("the owner has registered before")]
    OwnerRegistered,
    /// The built-in owner cannot be deleted.
    #[error("the built-in owner cannot be deleted")]
    OwnerStays,
    /// Too many passwords are computed at the moment.
    #[error("too many passwords are computed at once")]
    Busy,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(AccountError);

impl From<TokenError> for AccountError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Store(error) => error.into(),
            // The account went while it was asked about.
            _ => Self::WrongCredentials,
        }
    }
}

impl Engine {
    /// Lets somebody in. Where registration is open, an unknown email becomes an account.
    ///
    /// # Errors
    ///
    /// Where the email or the password is wrong, too many attempts failed, or a store fails.
    pub async fn login(
        &self,
        origin: &Origin,
        credentials: &Credentials,
        rules: &AccountRules,
    ) -> Result<SignedIn, AccountError> {
        let email: Email = credentials.email.parse()?;
        let attempt = self.begin_attempt(origin.address, Some(&email))?;
        let found = match records::accounts::user_by_email(self.meta(), email.as_str()).await {
            Ok(found) => found,
            Err(error) => return self.not_decided(&attempt, error.into()),
        };
        if found.is_none() && rules.registration == Registration::Open {
            let made = self.make_account(origin, &email, &credentials.password, rules, None).await;
            return match made {
                // It goes on counting, so that one source does not make accounts without end.
                Ok(made) => Ok(made),
                // It was made by another request a moment ago, which may have had another password.
                Err(AccountError::EmailTaken) => Err(AccountError::WrongCredentials),
                Err(error) => self.not_decided(&attempt, error),
            };
        }
        let kept = found.as_ref().and_then(|user| user.record.password.as_ref());
        let is_right = self.is_password(&attempt, &credentials.password, kept).await?;
        let Some(user) = found.as_ref().filter(|_| is_right) else {
            self.audit_failure(&attempt, origin, found.as_ref().map(|user| &user.record)).await?;
            return Err(AccountError::WrongCredentials);
        };
        self.throttle().succeeded(&attempt);
        self.sign_in_known(origin, user.record.id, kept, rules).await
    }

    /// The caller's user.
    ///
    /// # Errors
    ///
    /// Where the user was deleted since the caller came, or a store fails.
    pub async fn me(&self, caller: &Principal) -> Result<UserSummary, AccountError> {
        Ok(self.summary_of_user(self.user_of(caller).await?.record))
    }

    /// Changes the caller's password, and ends every other session. Who comes with the owner's token need not know the
    /// password of before.
    ///
    /// # Errors
    ///
    /// [`AccountError::WrongCredentials`] where `current` is not the password; and where the new one is too short or too
    /// long, too many attempts failed, or a store fails.
    pub async fn change_password(
        &self,
        caller: &Principal,
        current: Option<&str>,
        new: &str,
        rules: &AccountRules,
    ) -> Result<(), AccountError> {
        check_password(new, rules)?;
        let user = self.user_of(caller).await?.record;
        if !self.has_owners_token(caller).await? {
            let email: Option<Email> = user.email.as_deref().and_then(|email| email.parse().ok());
            let attempt = self.begin_attempt(caller.origin.address, email.as_ref())?;
            if !self.is_password(&attempt, current.unwrap_or_default(), user.password.as_ref()).await? {
                self.audit_failure(&attempt, &caller.origin, Some(&user)).await?;
                return Err(AccountError::WrongCredentials);
            }
            self.throttle().succeeded(&attempt);
        }
        let before = user.password;
        let kept = self.passwords().keep(new).await?;
        for tries in 0..ATTEMPTS {
            pause(tries).await;
            let Stored { mut record, revision } = self.user_of(caller).await?;
            if record.password != before {
                // Somebody else changed it meanwhile, and the one that was shown counts no more.
                return Err(AccountError::WrongCredentials);
            }
            record.password = Some(kept.clone());
            let key = records::accounts::user_key(record.id);
            let object = format!("password of {}", record.name);
            let (audit_key, audit) = self.audit(caller, "password.change", object, self.clock().now());
            let commit = Commit::new()
                .check(key.clone(), Check::Revision(revision))
                .put(key, encode(&record))
                .put(audit_key, audit);
            let commit = self.without_sessions(commit, &record, caller.token).await?;
            if self.commit_ending_tokens(commit).await? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// How many passwords this process has computed.
    #[must_use]
    pub fn passwords_computed(&self) -> u64 {
        self.passwords().computed()
    }

    /// Whether the caller is the built-in owner.
    #[must_use]
    pub fn is_owner(&self, caller: &Principal) -> bool {
        caller.user == self.owner_principal().user
    }

    pub(crate) fn summary_of_user(&self, user: UserRecord) -> UserSummary {
        UserSummary {
            is_owner: user.id == self.owner_principal().user,
            id: user.id,
            number: user.number,
            team: user.team,
            name: user.name,
            email: user.email,
            created_at: user.created_at,
        }
    }

    fn begin_attempt(&self, source: Option<IpAddr>, email: Option<&Email>) -> Result<Attempt, AccountError> {
        let begun = self.throttle().begin(source, email.map(Email::as_str), self.clock().now());
        begun.map_err(|wait| AccountError::Slowed { wait })
    }

    fn not_decided<T>(&self, attempt: &Attempt, error: AccountError) -> Result<T, AccountError> {
        self.throttle().undecided(attempt);
        Err(error)
    }

    async fn is_password(
        &self,
        attempt: &Attempt,
        password: &str,
        kept: Option<&PasswordRecord>,
    ) -> Result<bool, AccountError> {
        // No password is so long, so one that is costs no computation, whoever it is said to be of.
        if password.len() > LONGEST_PASSWORD {
            return Ok(false);
        }
        match self.passwords().is(password, kept).await {
            Err(error) => self.not_decided(attempt, error),
            decided => decided,
        }
    }

    /// Makes a session for a user who has shown the password that `shown` is kept of.
    async fn sign_in_known(
        &self,
        origin: &Origin,
        user: UserId,
        shown: Option<&PasswordRecord>,
        rules: &AccountRules,
    ) -> Result<SignedIn, AccountError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let user = records::accounts::user(self.meta(), user).await?.ok_or(AccountError::WrongCredentials)?;
            if user.record.password.as_ref() != shown {
                return Err(AccountError::WrongCredentials);
            }
            let now = self.clock().now();
            let (team, id, name) = (user.record.team, user.record.id, user.record.name.clone());
            let (commit, signed_in) = self.sign_in(user, Commit::new(), rules.session_life, now).await?;
            let caller = Principal {
                token: Some(signed_in.token),
                ..Principal::new(id, team, name).with_origin(origin.clone())
            };
            let object = format!("account {}", caller.name);
            let (audit_key, audit) = self.audit(&caller, "login", object, now);
            if let Outcome::Done { .. } = self.meta().commit(commit.put(audit_key, audit)).await? {
                return Ok(signed_in);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Writes down that an attempt failed, as far as there is room for it: for the user whom it was about, and for the
    /// owner. What was sent as an email is not written, for it may be anything.
    async fn audit_failure(
        &self,
        attempt: &Attempt,
        origin: &Origin,
        about: Option<&UserRecord>,
    ) -> Result<(), MetaError> {
        let now = self.clock().now();
        if !self.throttle().may_audit(attempt, now) {
            return Ok(());
        }
        let owner = self.owner_principal();
        let mut commit = Commit::new();
        if let Some(user) = about.filter(|user| user.team != owner.team) {
            let (key, row) =
                self.audit_of_nobody(user.team, "login.failed", format!("account {}", user.name), origin, now);
            commit = commit.put(key, row);
        }
        let object = about.map_or_else(|| "no account".to_owned(), |user| format!("account {}", user.name));
        let (key, row) = self.audit_of_nobody(owner.team, "login.failed", object, origin, now);
        self.meta().commit(commit.put(key, row)).await.map(drop)
    }
}

fn check_password(password: &str, rules: &AccountRules) -> Result<(), AccountError> {
    let (shortest, longest) = (rules.password_length, LONGEST_PASSWORD);
    if (shortest..=longest).contains(&password.len()) {
        Ok(())
    } else {
        Err(AccountError::Password { shortest, longest })
    }
}
