//! Why a call has no result, and what its user is told of it: the server's words, or ours where the server's are about
//! calls of the API.

use std::time::Duration;

use reqwest::Url;

use crate::error::{CliError, Exit};
use crate::retry::Failed;

/// Why a call has no result.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The status of the answer, or `None` where there was no answer.
    pub(crate) status: Option<u16>,
    /// The server's code, or one of ours.
    pub(crate) code: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) retry_after: Option<u64>,
    /// Whether some try reached the server and got no answer, so that nobody knows what it did.
    pub(super) is_unsure: bool,
}

impl Failure {
    /// The same failure, once earlier tries are known to be unsure and the call is one that changes something.
    pub(super) fn after(mut self, unsure: bool, next_step: Option<&str>) -> Self {
        self.is_unsure |= unsure;
        if let Some(hint) = next_step.filter(|_| self.is_unsure && self.is_unavailable()) {
            self.hint = Some(hint.to_owned());
        }
        self
    }

    /// The failure as an error that names, by what its user typed, which one of several things is missing.
    pub(crate) fn of(self, typed: &str) -> CliError {
        let is_meant = matches!(
            &*self.code,
            "environment_not_found" | "image_not_found" | "image_collected" | "preview_not_found"
        ) || self.code.contains("domain");
        self.naming(typed, is_meant)
    }

    /// The same where what was typed is a project.
    pub(crate) fn of_project(self, typed: &str) -> CliError {
        let is_meant = self.code == "project_not_found";
        self.naming(typed, is_meant)
    }

    fn naming(self, typed: &str, is_meant: bool) -> CliError {
        let mut error = CliError::from(self);
        if is_meant {
            error.message = format!("`{typed}`: {}", error.message);
        }
        error
    }

    /// The failure as far as another try is concerned.
    pub(super) fn failed(&self) -> Failed {
        self.status.map_or(Failed::NoAnswer, |status| Failed::Status(status, self.retry_after))
    }

    /// Whether the server was not reached, or is busy.
    pub(crate) fn is_unavailable(&self) -> bool {
        CliError::from(self.clone()).exit == Exit::Unavailable
    }

    /// A good answer that is none of this API.
    pub(super) fn not_understood(url: &Url) -> Self {
        Self {
            status: Some(200),
            code: "not_understood".to_owned(),
            message: format!("the answer of `{}` was not understood", url.origin().ascii_serialization()),
            hint: Some("check that the endpoint is a Pinstone server of this version".to_owned()),
            retry_after: None,
            is_unsure: false,
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let exit = failure.status.map_or(Exit::Unavailable, Exit::of_status);
        let wait = failure
            .retry_after
            .filter(|_| failure.status == Some(429))
            .map(|seconds| format!("try again in {}", humantime::format_duration(Duration::from_secs(seconds))));
        let hint = wait.or_else(|| own_hint(&failure.code).map(str::to_owned)).or(failure.hint);
        let message = match &*failure.code {
            "invalid_lifetime" => in_words_of_days(&failure.message).unwrap_or(failure.message),
            _ => failure.message,
        };
        Self { code: failure.code.into(), message, hint, exit }
    }
}

/// `… 1 to 2592000 seconds` as `… 1 second to 30 days`: nobody counts days in seconds.
fn in_words_of_days(message: &str) -> Option<String> {
    let (what, bound) = message.strip_suffix(" seconds")?.rsplit_once(" 1 to ")?;
    let bound = Duration::from_secs(bound.parse().ok()?);
    Some(format!("{what} 1 second to {}", crate::lifetime::in_words(bound)))
}

/// What to do next in words of this program, where the server's are about calls of the API.
fn own_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "unauthorized" => {
            "sign in by `pinstone login`, or give a token by `--token-stdin` or `PINSTONE_TOKEN`; the owner's is in \
             `owner.token` of the server's data folder"
        }
        "wrong_credentials" => "check both; `pinstone login --register` makes an account where the server lets it",
        "wrong_password" => "type it again; the owner's token changes the owner's password without it, by `--reset`",
        "invite_not_found" => "`pinstone invite list` lists those that still hold",
        "token_not_found" => "`pinstone token list` lists those that there are",
        "owner_only" => "only the server's owner can do this, by the owner's token or account",
        "too_many_tokens" => "revoke some that are not used; `pinstone token list` says when each was last used",
        "email_taken" => "sign in without `--register`",
        "owner_registered" => "sign in with the owner's email and password, without the owner's token",
        "invite_invalid" => "give a valid invitation by `--invite`; each is for one account, and some for one email",
        "insufficient_scope" => {
            "`pinstone whoami` says what the token is for; sign in by `pinstone login`, or use one with a wider scope"
        }
        "project_not_found" => "`pinstone project list` shows those that there are; the first deploy of one makes it",
        "environment_not_found" => "`pinstone env list` shows those that the project has",
        "preview_not_found" => "`pinstone preview list` shows those that the project has",
        "name_is_environment" => "give another `--slug`; `pinstone env list` shows the names in use",
        "name_is_preview" => {
            "name another environment; or move the preview by `pinstone preview --slug`, or end it by `pinstone preview \
             delete`"
        }
        "domain_not_found" => "`pinstone domain list` lists those that there are; name a path behind the domain",
        "domain_exists" => "remove it by `pinstone domain remove` first, or add another path of it",
        "domain_ambiguous" => "name the path too, as in `example.com/docs`, or `example.com/` for the one without",
        "invalid_lifetime" => "give another `--expires`",
        "image_not_found" => "`pinstone images` lists those that the project has",
        "release_conflict" => "look at `pinstone releases`, and try again if it is still wanted",
        "project_taken" => "choose another name by `--project`",
        "nothing_to_roll_back_to" => "name what to show by `--to`; `pinstone images` lists what there is",
        "image_collected" => "publish its content again by `pinstone deploy`",
        "file_too_large" | "too_many_files" | "plan_too_large" => {
            "leave files out by `.pinstoneignore`, or raise `limits` in the server's configuration"
        }
        "message_too_long" => "give a shorter `--message`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, code: &str, retry_after: Option<u64>) -> Failure {
        Failure {
            status: Some(status),
            code: code.to_owned(),
            message: "it is so".to_owned(),
            hint: Some("the server's".to_owned()),
            retry_after,
            is_unsure: false,
        }
    }

    #[test]
    fn what_to_do_next_is_the_wait_then_ours_then_the_servers() {
        for (status, code, retry_after, want) in [
            (429, "too_many_attempts", Some(90), "try again in 1m 30s"),
            (429, "too_many_attempts", None, "the server's"),
            (503, "busy", Some(90), "the server's"),
            (409, "email_taken", None, "sign in without `--register`"),
        ] {
            let error = CliError::from(failure(status, code, retry_after));
            assert_eq!(error.hint.as_deref(), Some(want), "{code}");
        }
    }

    #[test]
    fn what_was_typed_is_named_where_it_is_what_is_wrong() {
        for (code, thing, project) in [
            ("environment_not_found", true, false),
            ("domain_taken", true, false),
            ("invalid_domain", true, false),
            ("project_not_found", false, true),
            ("unauthorized", false, false),
        ] {
            let named = |error: CliError| error.message.starts_with("`x`: ");
            assert_eq!(named(failure(404, code, None).of("x")), thing, "{code}");
            assert_eq!(named(failure(404, code, None).of_project("x")), project, "{code}");
        }
    }

    #[test]
    fn bounds_of_durations_are_told_in_days() {
        for (message, want) in [
            ("a preview lasts 1 to 2592000 seconds", Some("a preview lasts 1 second to 30 days")),
            ("a token lasts 1 to 5400 seconds", Some("a token lasts 1 second to 1 hour 30 minutes")),
            ("a token lasts some seconds", None),
            ("nothing of this kind lasts for so short or so long", None),
        ] {
            assert_eq!(in_words_of_days(message).as_deref(), want, "{message}");
        }
    }
}
