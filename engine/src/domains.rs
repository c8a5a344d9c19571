//! Custom domains: whose one is, and what it shows.
//!
//! A team *claims* a domain: it says what the domain is to show, under which prefixes. Any team can claim any domain that
//! nobody has, so that nobody keeps others from theirs by claiming it. The first to *prove* that it controls the domain
//! has it, with all that its claim says, and keeps it for as long as it can be proven again; only what the team that has
//! a domain claims is shown. Asking the network is not the engine's: it says what to look for, and decides by what was
//! found.
//!
//! Each change is one checked commit with its audit row and, where visitors see it, its event.

use crate::clock::UnixMillis;
use crate::error::{StoreError, from_stores};
use crate::host::{HostName, HostTarget, Hosts};
use crate::id::ProjectId;
use crate::name::{EnvironmentName, ProjectName};
use crate::publish::ProjectSelector;

pub(crate) mod alike;
mod ask;
mod change;
mod list;
pub mod name;
pub mod proof;
mod prove;
mod tidy;

pub use alike::NameWarning;
use name::{DomainName, PathPrefix};
use proof::NotProven;
pub use prove::{Checked, Due};

/// The most prefixes that a team can have at one domain: with all of them an event fits the feed.
pub const MOST_PREFIXES: usize = 50;

/// A domain that is to be claimed.
#[derive(Clone, Debug)]
pub struct NewDomain {
    /// The project that it is to show.
    pub project: ProjectSelector,
    /// The domain.
    pub domain: DomainName,
    /// The prefix under which it is to show the project.
    pub prefix: PathPrefix,
    /// The environment that it is to show.
    pub environment: EnvironmentName,
    /// The domain that visitors are to be sent to: the same with or without `www.`.
    pub redirect_to: Option<DomainName>,
}

/// What is to be different about a domain; the rest stays as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DomainChange {
    /// The environment that is shown under the prefix.
    pub environment: Option<EnvironmentName>,
    /// The domain that visitors of all its prefixes are sent to, or that they are sent nowhere.
    pub redirect_to: Option<Option<DomainName>>,
}

/// One prefix of a domain, as its team sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainSummary {
    /// The domain.
    pub domain: DomainName,
    /// The prefix.
    pub prefix: PathPrefix,
    /// The project.
    pub project: ProjectName,
    /// The project's id.
    pub project_id: ProjectId,
    /// The environment.
    pub environment: EnvironmentName,
    /// Where visitors are sent.
    pub redirect_to: Option<DomainName>,
    /// Whether the team has the domain, so that it is shown.
    pub is_active: bool,
    /// What proves that the domain is the team's.
    pub token: String,
    /// When the prefix was added.
    pub created_at: UnixMillis,
    /// When the domain was proven last.
    pub checked_at: Option<UnixMillis>,
    /// Until when it is shown although it cannot be proven any more.
    pub ends_at: Option<UnixMillis>,
}

/// A domain that was claimed.
#[derive(Clone, Debug)]
pub struct Added {
    /// What was added.
    pub domain: DomainSummary,
    /// What its owner should know of its name.
    pub warnings: Vec<NameWarning>,
}

/// What became of an attempt to prove a domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// Whether the team has the domain now.
    pub is_active: bool,
    /// Why it could not be proven at this moment. A domain that the team has keeps being shown for a while.
    pub missing: Option<NotProven>,
}

/// A domain as a call names it: with a prefix, or without one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainSelector {
    /// The domain.
    pub domain: DomainName,
    /// The prefix, where one is named.
    pub prefix: Option<PathPrefix>,
}

/// Why nothing became of a domain. Whichever it is, nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// There is no such project, or it is another team's.
    #[error("there is no such project")]
    ProjectNotFound,
    /// The team does not claim such a domain, or not with this prefix.
    #[error("the team has no such domain")]
    NotFound,
    /// The name is the server's own, or that of a project.
    #[error("names under the server's own domain belong to its projects")]
    Reserved,
    /// The team has the prefix of this domain already.
    #[error("the domain has this prefix already")]
    Exists,
    /// Another team has the domain.
    #[error("another team has the domain")]
    Taken,
    /// Another team removed it a while ago.
    #[error("the domain was removed a while ago, and is kept for who removed it")]
    HeldOff {
        /// When it is free.
        until: UnixMillis,
    },
    /// Visitors cannot be sent there.
    #[error("a domain can send visitors to itself with or without `www.` only, and not back and forth")]
    Redirect,
    /// Several prefixes of the domain could be meant.
    #[error("the domain has several prefixes")]
    Ambiguous,
    /// The team has as many domains as there can be, or the domain as many prefixes.
    #[error("a team has at most {domains} domains, each with at most {MOST_PREFIXES} prefixes")]
    TooMany {
        /// The most domains.
        domains: usize,
    },
    /// The same key was sent with another request.
    #[error("this idempotency key was sent with another request")]
    KeyReused,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
from_stores!(DomainError);

/// Whether a domain is none that a team can claim: the server's own, or below its base domain, where each name is a
/// project's.
pub(crate) fn is_systems(hosts: &Hosts, domain: &DomainName) -> bool {
    let Ok(host) = HostName::parse(domain.as_str()) else { return true };
    !matches!(hosts.target(&host), HostTarget::Custom(_))
}
