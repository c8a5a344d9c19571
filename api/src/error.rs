//! What a failed call is answered with: one code, one status, one sentence, one next step.
//!
//! Nothing here takes text from a request: an answer that repeated input would carry it into logs and terminals, and an
//! id may hold digits that a client reads as a status. Where a store failed, the client is told so and no more; the
//! chain of causes goes to the log.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use pinstone_engine::StoreError;
use pinstone_engine::accounts::AccountError;
use pinstone_engine::archive::{ArchiveError, ArchivePublishError, Fault};
use pinstone_engine::blob::{ReadError, is_storage_full};
use pinstone_engine::clock::UnixMillis;
use pinstone_engine::diff::DiffError;
use pinstone_engine::domains::DomainError;
use pinstone_engine::meta::MetaError;
use pinstone_engine::plan::{PlanError, UploadError};
use pinstone_engine::projects::ProjectError;
use pinstone_engine::publish::{CommitError, PinError, ReleaseError};
use pinstone_engine::queries::LookupError;
use pinstone_engine::tokens::TokenError;
use pinstone_engine::usage::QuotaError;

use crate::body::broken;
use crate::timefmt::rfc3339;
use crate::{blob_frames, respond, wire};

mod code;

pub use code::ErrorCode;

/// A failed call: everything that the client is told.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    code: ErrorCode,
    message: Cow<'static, str>,
    /// How long to wait, where that is known.
    retry_after: Option<Duration>,
}

impl ApiError {
    /// Says more than the code's own sentence does. `message` must not hold anything of the request.
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// Says when to ask again.
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The code and the sentence, for a failure that is a part of an answer.
    pub(crate) fn into_texts(self) -> (String, String) {
        (self.code.as_str().to_owned(), self.message.into_owned())
    }

    /// The server's own failure: the chain goes to the log, not to the client.
    fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "a call failed");
        ErrorCode::Internal.into()
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: Cow::Borrowed(code.message()), retry_after: None }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = wire::ErrorBody {
            error: self.code.as_str().to_owned(),
            message: self.message.into_owned(),
            hint: Some(self.code.hint().to_owned()),
        };
        let mut answer = respond::json(self.code.status(), &body);
        let headers = answer.headers_mut();
        match self.code.status() {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_PAUSE.as_secs()));
            }
            _ => {}
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds are all that the field has; one that is too early would only be refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        answer
    }
}

/// How long a client is asked to wait where the server cannot answer now.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_full() {
            tracing::error!(error = %Chain(&error), "there is no room left");
            return ErrorCode::StorageFull.into();
        }
        match &error {
            StoreError::Meta(MetaError::Closed) | StoreError::Contended => ErrorCode::Unavailable.into(),
            // An object that a manifest names and the store does not have may be back at any time, like the store itself.
            StoreError::Objects(_) | StoreError::Read(ReadError::Store(_) | ReadError::Missing) => {
                tracing::error!(error = %Chain(&error), "the object store failed");
                ErrorCode::StorageUnavailable.into()
            }
            StoreError::Meta(_) | StoreError::Index(_) | StoreError::Read(_) => Self::internal(&error),
        }
    }
}

impl From<MetaError> for ApiError {
    fn from(error: MetaError) -> Self {
        StoreError::Meta(error).into()
    }
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::ProjectTaken => ErrorCode::ProjectTaken.into(),
            PlanError::OutOfScope => ErrorCode::InsufficientScope.into(),
            PlanError::Project(error) => error.into(),
            PlanError::NoFiles => ErrorCode::NoFiles.into(),
            PlanError::TooManyContentTypes { .. } => ErrorCode::TooManyContentTypes.into(),
            PlanError::TooLarge { limit } => publish_too_large(limit),
            PlanError::TooManyFiles { limit } => too_many_files(limit),
            PlanError::FileTooLarge { limit } => file_too_large(limit),
            PlanError::DuplicatePath(_) => ErrorCode::DuplicatePath.into(),
            PlanError::SizeConflict => ErrorCode::SizeConflict.into(),
            PlanError::MessageTooLong { limit } => message_too_long(limit),
            PlanError::UnsupportedSetting { setting } => Self::new(
                ErrorCode::UnsupportedSetting,
                format!("the setting `{setting}` has a value that this server does not serve"),
            ),
            PlanError::NotFound => ErrorCode::PlanNotFound.into(),
            PlanError::KeyReused => ErrorCode::IdempotencyKeyReused.into(),
            PlanError::Store(error) => error.into(),
        }
    }
}

impl From<ProjectError> for ApiError {
    fn from(error: ProjectError) -> Self {
        match error {
            ProjectError::NotFound => ErrorCode::ProjectNotFound.into(),
            ProjectError::Exists => ErrorCode::ProjectExists.into(),
            ProjectError::NameTaken => ErrorCode::ProjectTaken.into(),
            ProjectError::Name(error) => Self::new(ErrorCode::InvalidProject, error.to_string()),
            ProjectError::TooManyNames { .. } => Self::new(ErrorCode::TooManyNames, error.to_string()),
            ProjectError::Quota(error) => error.into(),
            ProjectError::OutOfScope => ErrorCode::InsufficientScope.into(),
            ProjectError::AccountGone => ErrorCode::Unauthorized.into(),
            ProjectError::KeyReused => ErrorCode::IdempotencyKeyReused.into(),
            ProjectError::Store(error) => error.into(),
        }
    }
}

impl From<QuotaError> for ApiError {
    fn from(error: QuotaError) -> Self {
        let code = match error {
            QuotaError::Projects { .. } => ErrorCode::ProjectQuota,
            QuotaError::Bytes { .. } => ErrorCode::StorageQuota,
        };
        Self::new(code, error.to_string())
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::PlanNotFound => ErrorCode::PlanNotFound.into(),
            UploadError::PlanOver => ErrorCode::PlanOver.into(),
            UploadError::NotPlanned => ErrorCode::BlobNotInPlan.into(),
            UploadError::HashMismatch => ErrorCode::HashMismatch.into(),
            UploadError::SizeMismatch { .. } => ErrorCode::SizeMismatch.into(),
            UploadError::TooLarge { limit } => file_too_large(limit),
            UploadError::NotForBatch { limit } => {
                Self::new(ErrorCode::BlobTooLargeForBatch, format!("a file of the batch is larger than {limit} bytes"))
            }
            UploadError::BatchTooLarge { blobs, size } => batch_too_large(blobs, size),
            UploadError::Body(cause) if cause.is::<blob_frames::NotABatch>() => ErrorCode::InvalidBatch.into(),
            UploadError::Body(cause) if cause.is::<blob_frames::TooLong>() => ErrorCode::BatchTooLarge.into(),
            UploadError::Body(cause) => broken(&cause).into(),
            UploadError::Store(error) => error.into(),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::PlanNotFound => ErrorCode::PlanNotFound.into(),
            CommitError::PlanOver => ErrorCode::PlanOver.into(),
            CommitError::MissingBlobs { .. } => ErrorCode::MissingBlobs.into(),
            CommitError::SizeMismatch { .. } => ErrorCode::PlannedSizeMismatch.into(),
            CommitError::TooLarge { limit } => publish_too_large(limit),
            CommitError::Quota(error) => error.into(),
            CommitError::MessageTooLong { limit } => message_too_long(limit),
            CommitError::KeyReused => ErrorCode::IdempotencyKeyReused.into(),
            CommitError::Strict { .. } => ErrorCode::DiagnosticsRefused.into(),
            CommitError::Conflict => ErrorCode::CommitConflict.into(),
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<ReleaseError> for ApiError {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::ProjectNotFound => ErrorCode::ProjectNotFound.into(),
            ReleaseError::ImageNotFound => ErrorCode::ImageNotFound.into(),
            ReleaseError::NothingCommitted => ErrorCode::NothingCommitted.into(),
            ReleaseError::EnvironmentNotFound => ErrorCode::EnvironmentNotFound.into(),
            ReleaseError::NothingToRollBackTo => ErrorCode::NothingToRollBackTo.into(),
            ReleaseError::ImageCollected => ErrorCode::ImageCollected.into(),
            ReleaseError::Conflict => ErrorCode::ReleaseConflict.into(),
            ReleaseError::NameIsPreview => ErrorCode::NameIsPreview.into(),
            ReleaseError::NameIsEnvironment => ErrorCode::NameIsEnvironment.into(),
            ReleaseError::PreviewNotFound => ErrorCode::PreviewNotFound.into(),
            ReleaseError::Lifetime { .. } => Self::new(ErrorCode::InvalidLifetime, error.to_string()),
            ReleaseError::KeyNeeded => ErrorCode::IdempotencyKeyRequired.into(),
            ReleaseError::KeyReused => ErrorCode::IdempotencyKeyReused.into(),
            ReleaseError::MessageTooLong { limit } => message_too_long(limit),
            ReleaseError::OutOfScope => ErrorCode::InsufficientScope.into(),
            ReleaseError::Store(error) => error.into(),
        }
    }
}

impl From<PinError> for ApiError {
    fn from(error: PinError) -> Self {
        match error {
            PinError::ProjectNotFound => ErrorCode::ProjectNotFound.into(),
            PinError::ImageNotFound => ErrorCode::ImageNotFound.into(),
            PinError::ImageCollected => ErrorCode::ImageCollected.into(),
            PinError::MessageTooLong { limit } => message_too_long(limit),
            PinError::Store(error) => error.into(),
        }
    }
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::ProjectNotFound => ErrorCode::ProjectNotFound.into(),
            LookupError::ImageNotFound => ErrorCode::ImageNotFound.into(),
            LookupError::EnvironmentNotFound => ErrorCode::EnvironmentNotFound.into(),
            LookupError::BadCursor => ErrorCode::InvalidCursor.into(),
            LookupError::Store(error) => error.into(),
        }
    }
}

impl From<DomainError> for ApiError {
    fn from(error: DomainError) -> Self {
        match error {
            DomainError::ProjectNotFound => ErrorCode::ProjectNotFound.into(),
            DomainError::NotFound => ErrorCode::DomainNotFound.into(),
            DomainError::Reserved => ErrorCode::DomainReserved.into(),
            DomainError::Exists => ErrorCode::DomainExists.into(),
            DomainError::Taken => ErrorCode::DomainTaken.into(),
            DomainError::HeldOff { until } => {
                // In whole seconds: thousandths could be the digits that clients take for a refused token.
                let free = rfc3339(UnixMillis(until.as_secs().saturating_add(1).saturating_mul(1000)));
                let message = format!("the domain was removed by another team, and is free from {free}");
                Self::new(ErrorCode::DomainHeld, message)
            }
            DomainError::Redirect => ErrorCode::InvalidRedirect.into(),
            DomainError::Ambiguous => ErrorCode::DomainAmbiguous.into(),
            DomainError::TooMany { .. } => Self::new(ErrorCode::TooManyDomains, error.to_string()),
            DomainError::KeyReused => ErrorCode::IdempotencyKeyReused.into(),
            DomainError::Store(error) => error.into(),
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Name { .. } => Self::new(ErrorCode::InvalidName, error.to_string()),
            TokenError::Lifetime { .. } => Self::new(ErrorCode::InvalidLifetime, error.to_string()),
            TokenError::ProjectNotFound => ErrorCode::ProjectNotFound.into(),
            TokenError::TooMany { .. } => Self::new(ErrorCode::TooManyTokens, error.to_string()),
            TokenError::NotFound => ErrorCode::TokenNotFound.into(),
            TokenError::OwnersToken => ErrorCode::OwnersToken.into(),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Email(error) => Self::new(ErrorCode::InvalidEmail, error.to_string()),
            AccountError::Password { .. } => Self::new(ErrorCode::InvalidPassword, error.to_string()),
            AccountError::WrongCredentials => ErrorCode::WrongCredentials.into(),
            AccountError::Slowed { wait } => Self { retry_after: Some(wait), ..ErrorCode::TooManyAttempts.into() },
            AccountError::RegistrationClosed => ErrorCode::RegistrationClosed.into(),
            AccountError::InviteInvalid => ErrorCode::InviteInvalid.into(),
            AccountError::InviteNotFound => ErrorCode::InviteNotFound.into(),
            AccountError::InviteLifetime { .. } => Self::new(ErrorCode::InvalidLifetime, error.to_string()),
            AccountError::TooManyInvites { .. } => Self::new(ErrorCode::TooManyInvites, error.to_string()),
            AccountError::OwnerOnly => ErrorCode::OwnerOnly.into(),
            AccountError::EmailTaken => ErrorCode::EmailTaken.into(),
            AccountError::OwnerRegistered => ErrorCode::OwnerRegistered.into(),
            AccountError::OwnerStays => ErrorCode::OwnerStays.into(),
            AccountError::Busy => Self::new(ErrorCode::Busy, error.to_string()),
            AccountError::Store(error) => error.into(),
        }
    }
}

impl From<DiffError> for ApiError {
    fn from(error: DiffError) -> Self {
        let (side, error) = match error {
            DiffError::Files(error) => return error.into(),
            DiffError::Lookup(error) => return error.into(),
            DiffError::From(error) => ("from", Self::from(error)),
            DiffError::To(error) => ("to", Self::from(error)),
        };
        Self::new(error.code, format!("`{side}`: {}", error.message))
    }
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        let code = archive_code(&error.fault);
        match &error.fault {
            Fault::Io(error) => return io_error(error),
            Fault::NoMemory => return code.into(),
            Fault::FileTooLarge { limit } if error.entry.is_none() => return file_too_large(*limit),
            _ => {}
        }
        let text = error.to_string();
        // These digits are what clients look for in a failure to tell that a token is refused.
        if text.contains("401") { code.into() } else { Self::new(code, text) }
    }
}

impl From<ArchivePublishError> for ApiError {
    fn from(error: ArchivePublishError) -> Self {
        match error {
            ArchivePublishError::Archive(error) => error.into(),
            ArchivePublishError::Plan(error) => error.into(),
            ArchivePublishError::Upload(error) => error.into(),
            ArchivePublishError::Commit(error) => error.into(),
            ArchivePublishError::Release(error) => error.into(),
        }
    }
}

/// The code of what is wrong with an archive, wherever it is read.
#[must_use]
pub fn archive_code(fault: &Fault) -> ErrorCode {
    match fault {
        Fault::Empty | Fault::NotAnArchive | Fault::NotATar | Fault::Packing(_) => ErrorCode::ArchiveUnknown,
        Fault::Unsupported(_) => ErrorCode::ArchiveUnsupported,
        Fault::Damaged(_) => ErrorCode::ArchiveDamaged,
        Fault::Name(_) => ErrorCode::ArchivePath,
        Fault::Link(_) => ErrorCode::ArchiveLink,
        Fault::Special(_) => ErrorCode::ArchiveSpecial,
        Fault::Duplicate | Fault::FileAndFolder => ErrorCode::ArchiveDuplicate,
        Fault::TooManyEntries { .. } | Fault::NamesTooLong { .. } => ErrorCode::ArchiveTooManyEntries,
        Fault::TooLarge { .. } => ErrorCode::ArchiveTooLarge,
        Fault::FileTooLarge { .. } => ErrorCode::FileTooLarge,
        Fault::Ratio { .. } => ErrorCode::ArchiveRatio,
        Fault::NoFiles { .. } => ErrorCode::NoFiles,
        Fault::Ignore(_) | Fault::IgnoreLine(_) => ErrorCode::ArchiveIgnoreFile,
        Fault::NoMemory => ErrorCode::Busy,
        Fault::Io(_) => ErrorCode::Internal,
    }
}

/// The answer where a file of the server's own cannot be written or read.
pub(crate) fn io_error(error: &std::io::Error) -> ApiError {
    if is_storage_full(error) {
        tracing::error!(%error, "there is no room left for an archive");
        return ErrorCode::StorageFull.into();
    }
    ApiError::internal(error)
}

/// The answer to an archive of more than `limit` bytes.
pub(crate) fn archive_too_large(limit: u64) -> ApiError {
    ApiError::new(ErrorCode::ArchiveTooLarge, format!("the archive is larger than {limit} bytes"))
}

/// The answer to a plan of more than `limit` files.
pub(crate) fn too_many_files(limit: u64) -> ApiError {
    ApiError::new(ErrorCode::TooManyFiles, format!("the plan has more than {limit} files"))
}

/// The answer to a file of more than `limit` bytes.
pub(crate) fn file_too_large(limit: u64) -> ApiError {
    ApiError::new(ErrorCode::FileTooLarge, format!("a file is larger than {limit} bytes"))
}

/// The answer to a publish of more than `limit` bytes.
fn publish_too_large(limit: u64) -> ApiError {
    ApiError::new(ErrorCode::PublishTooLarge, format!("all files together are larger than {limit} bytes"))
}

/// The answer to a batch of more than `blobs` files, or more than `size` bytes of them.
pub(crate) fn batch_too_large(blobs: usize, size: u64) -> ApiError {
    ApiError::new(ErrorCode::BatchTooLarge, format!("the batch has more than {blobs} files or {size} bytes"))
}

/// The answer to a message of more than `limit` bytes.
pub(crate) fn message_too_long(limit: usize) -> ApiError {
    ApiError::new(ErrorCode::MessageTooLong, format!("the message is longer than {limit} bytes"))
}

/// An error and what caused it, down to the last cause, on one line.
struct Chain<'e>(&'e (dyn Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let cause_text = error.to_string();
            // Some errors repeat what caused them.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_an_error_status_and_texts() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            for text in [code.message(), code.hint()] {
                assert!(!text.is_empty() && !text.ends_with('.') && !text.contains("401"), "{code:?}: {text}");
            }
        }
    }

    #[test]
    fn a_chain_names_every_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);
        assert_eq!(Chain(&Outer(std::fmt::Error)).to_string(), format!("outer: {}", std::fmt::Error));
    }
}
