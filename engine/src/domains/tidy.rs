//! Forgetting what domains showed of projects that are gone.
//!
//! Nothing of a project is shown from the commit on that deletes it; this is so that its domains are free for others.

use super::name::DomainName;
use crate::engine::Engine;
use crate::error::StoreError;
use crate::id::TeamId;
use crate::meta::Outcome;
use crate::plan::{ATTEMPTS, pause};
use crate::records;

/// Claims of a team that are looked at.
const ALL: usize = 10_000;

impl Engine {
    /// Takes out of a team's claims what shows projects that are gone. A domain of which nothing is left is free at once: the
    /// projects, and mostly the team, do not come back.
    pub(crate) async fn tidy_domains(&self, team: TeamId) -> Result<(), StoreError> {
        for claim in records::domains::claims_of(self.meta(), team, ALL).await? {
            self.tidy_domain(team, &claim.record.domain).await?;
        }
        Ok(())
    }

    pub(super) async fn tidy_domain(&self, team: TeamId, domain: &DomainName) -> Result<(), StoreError> {
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let Some(before) = records::domains::claim(self.meta(), team, domain).await? else { return Ok(()) };
            let mut claim = before.record.clone();
            if !self.forget_dead(team, &mut claim).await? {
                return Ok(());
            }
            let commit = self.claiming(team, Some(&before), &claim);
            let commit = self.showing(commit, team, &claim, None).await?;
            if let Outcome::Done { position, .. } = self.meta().commit(commit).await? {
                self.catch_up(position).await?;
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }
}
