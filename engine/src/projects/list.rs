//! Which projects there are, and which names are free.

use super::{Holder, ProjectSummary};
use crate::account::Principal;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::hex;
use crate::id::random_bytes;
use crate::meta::MetaError;
use crate::name::ProjectName;
use crate::pointers::ProjectRef;
use crate::queries::{Listing, LookupError};
use crate::records;

/// How often another name is tried as a suggestion.
const SUGGESTIONS: usize = 8;

/// Whether a name can be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameCheck {
    /// Whether a new project could have it.
    pub is_available: bool,
    /// One like it that could be had, where it cannot.
    pub suggestion: Option<ProjectName>,
}

impl Engine {
    /// The projects that the caller reaches, up to `limit`, in the order of their making within a page; `cursor` is a
    /// [`Listing::next`].
    ///
    /// # Errors
    ///
    /// Where the cursor is unknown, and where a store fails.
    pub async fn projects(
        &self,
        caller: &Principal,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<ProjectSummary>, LookupError> {
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let project = cursor.parse().map_err(|_| LookupError::BadCursor)?;
                Some(records::projects::key(ProjectRef { team: caller.team, project }))
            }
        };
        if let Some(only) = caller.access.project {
            let only = ProjectRef { team: caller.team, project: only };
            let found = records::projects::get(self.meta(), only).await?;
            return Ok(Listing { items: found.into_iter().map(|found| found.record.into()).collect(), next: None });
        }
        let (mut projects, next) = records::projects::of_team(self.meta(), caller.team, after, limit).await?;
        projects.sort_by_key(|project| project.record.number);
        let next = match next {
            Some(key) => Some(records::projects::project_in(&key)?.project.to_string()),
            None => None,
        };
        Ok(Listing { items: projects.into_iter().map(|project| project.record.into()).collect(), next })
    }

    /// Whether a new project could be called `text`, and what else it could be called. The name may be gone when it is
    /// asked for.
    ///
    /// # Errors
    ///
    /// Where a store fails.
    pub async fn check_name(&self, caller: &Principal, text: &str) -> Result<NameCheck, StoreError> {
        let wanted = ProjectName::like(text);
        if let Some(name) = wanted.as_ref().filter(|_| text.parse::<ProjectName>().is_ok())
            && self.is_free(caller, name).await?
        {
            return Ok(NameCheck { is_available: true, suggestion: None });
        }
        let mut suggestion = wanted.filter(|name| name.as_str() != text);
        // Digits alone would be like nothing that was asked for.
        let tries = if text.contains(|c: char| c.is_ascii_alphanumeric()) { SUGGESTIONS } else { 0 };
        for _ in 0..tries {
            match suggestion {
                Some(name) if self.is_free(caller, &name).await? => {
                    return Ok(NameCheck { is_available: false, suggestion: Some(name) });
                }
                _ => suggestion = ProjectName::like(&format!("{text}-{}", hex::encode(&random_bytes::<2>()))),
            }
        }
        Ok(NameCheck { is_available: false, suggestion: None })
    }

    async fn is_free(&self, caller: &Principal, name: &ProjectName) -> Result<bool, MetaError> {
        Ok(name.check_new().is_ok() && matches!(self.holder(caller, name).await?, Holder::Nobody(_)))
    }
}
