//! Reading the audit log: who did what in the caller's team, newest first.

use crate::account::Principal;
use crate::clock::UnixMillis;
use crate::engine::Engine;
use crate::publish::ProjectSelector;
use crate::queries::{Listing, LookupError, number_cursor};
use crate::records;
use crate::records::audit::AuditRecord;

/// Rows that are looked at for one page, at most. Where few of them match, a page has few items, or none, and goes on.
const MOST_READ: usize = 10_000;
/// Rows read at a time.
const AT_ONCE: usize = 1000;

/// Which rows are asked for. What is not said matches all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// From this moment on.
    pub from: Option<UnixMillis>,
    /// Before this moment.
    pub to: Option<UnixMillis>,
    /// By whom, as the rows call them.
    pub actor: Option<String>,
    /// In which project.
    pub project: Option<ProjectSelector>,
}

impl Engine {
    /// The caller's team's rows that match, newest first, up to `limit`; `cursor` is a [`Listing::next`].
    ///
    /// # Errors
    ///
    /// Where the project or the cursor is unknown, and where a store fails.
    pub async fn audit_log(
        &self,
        caller: &Principal,
        filter: &AuditFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<AuditRecord>, LookupError> {
        let project = match &filter.project {
            Some(selector) => Some(self.find_project(caller, selector).await?.ok_or(LookupError::ProjectNotFound)?),
            None => None,
        };
        let matches = |row: &AuditRecord| {
            filter.from.is_none_or(|from| from <= row.at)
                && filter.to.is_none_or(|to| row.at < to)
                && filter.actor.as_ref().is_none_or(|actor| *actor == row.actor)
                && project.is_none_or(|project| row.project == Some(project.project))
        };
        let mut before = number_cursor(cursor)?;
        let (mut items, mut read) = (Vec::new(), 0);
        loop {
            let rows = records::audit::before(self.meta(), caller.team, before, AT_ONCE).await?;
            let is_last_page = rows.len() < AT_ONCE;
            for (number, row) in rows {
                if items.len() == limit || read == MOST_READ {
                    return Ok(Listing { items, next: Some(before.to_string()) });
                }
                (before, read) = (number, read + 1);
                items.extend(Some(row).filter(matches));
            }
            if is_last_page {
                return Ok(Listing { items, next: None });
            }
        }
    }
}
