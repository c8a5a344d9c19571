//! Who is asking: a token becomes a principal, once, at the door. What the principal may do goes along with it, so that
//! nothing behind the door has to know tokens.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, TeamId, TokenId, UserId};
use crate::name::EnvironmentName;

/// Who is asking, for which team, and with how much of its rights.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// The team that owns what is made, and whose things can be seen.
    pub team: TeamId,
    /// The token, unless the caller is in this process.
    pub token: Option<TokenId>,
    /// Whether that is the one in the data folder, whose holder has the server.
    pub has_owners_token: bool,
    /// What commits and releases call the user.
    pub name: String,
    /// What may be done.
    pub access: Access,
    /// Where the request comes from.
    pub origin: Origin,
}

impl Principal {
    /// A caller in this process, who may do everything that the user may.
    #[must_use]
    pub fn new(user: UserId, team: TeamId, name: impl Into<String>) -> Self {
        let (access, origin) = (Access::default(), Origin::default());
        Self { user, team, token: None, has_owners_token: false, name: name.into(), access, origin }
    }

    /// The same caller, with a request's origin.
    #[must_use]
    pub fn with_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }
}

/// What a token is for. Each includes those before it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Looking.
    Read,
    /// Publishing and releasing.
    Deploy,
    /// Everything that its user may.
    #[default]
    Admin,
}

/// A text that is not `read`, `deploy` or `admin`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a scope is `read`, `deploy` or `admin`")]
pub struct NotAScope;

impl Scope {
    /// Every scope, from the least.
    pub const ALL: [Self; 3] = [Self::Read, Self::Deploy, Self::Admin];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(NotAScope)
    }
}

/// What a principal may do: a scope, and where that counts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// What may be done.
    pub scope: Scope,
    /// The only project that can be seen and changed; all of the team's where none is named.
    pub project: Option<ProjectId>,
    /// The only environment whose pointer can be moved; all where none is named. It limits no reading.
    pub environment: Option<EnvironmentName>,
}

impl Access {
    /// Whether nothing but the scope limits it: only then it reaches beyond projects, to the account and the team.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.project.is_none() && self.environment.is_none()
    }

    /// Whether it reaches a project of the team.
    #[must_use]
    pub fn reaches(&self, project: ProjectId) -> bool {
        self.project.is_none_or(|only| only == project)
    }

    /// Whether it may move this environment's pointer.
    #[must_use]
    pub fn moves(&self, environment: &EnvironmentName) -> bool {
        self.environment.as_ref().is_none_or(|only| only == environment)
    }
}

/// Where a request comes from, for the audit log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// Who sent it, as far as trusted proxies say; nothing for callers in this process.
    pub address: Option<IpAddr>,
    /// The request's id.
    pub request_id: Option<String>,
}

/// The address that a request comes from: what whoever listens puts among a request's extensions for the control plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source(pub IpAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_those_before_them_and_have_one_word_each() {
        assert!(Scope::Read < Scope::Deploy && Scope::Deploy < Scope::Admin);
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str(), "records and people use one word");
        }
        for wrong in ["", "Admin", "write"] {
            assert_eq!(wrong.parse::<Scope>(), Err(NotAScope), "{wrong:?}");
        }
    }

    #[test]
    fn where_an_access_counts() {
        let (mine, other) = (ProjectId::random(), ProjectId::random());
        let beta = EnvironmentName::beta();
        for (project, environment, everywhere, reaches_other, moves_prod) in [
            (None, None, true, true, true),
            (Some(mine), None, false, false, true),
            (None, Some(&beta), false, true, false),
            (Some(mine), Some(&beta), false, false, false),
        ] {
            let access = Access { scope: Scope::Deploy, project, environment: environment.cloned() };
            assert!(access.reaches(mine) && access.moves(&beta), "{access:?}");
            assert_eq!(access.is_everywhere(), everywhere, "{access:?}");
            assert_eq!(access.reaches(other), reaches_other, "{access:?}");
            assert_eq!(access.moves(&EnvironmentName::prod()), moves_prod, "{access:?}");
        }
    }
}
