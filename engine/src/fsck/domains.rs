//! Checking what is on record of domains: each shows what the team that has it claims, and is found again by what has to
//! find it.

use super::{Check, FsckError, Kind};
use crate::records::domains::{self, ClaimRecord, DomainRecord};

impl Check<'_> {
    /// The domains that somebody has, and the claims that they show.
    pub(super) async fn check_domains(&mut self) -> Result<(), FsckError> {
        for (key, item) in self.meta.snapshot(domains::prefix()).await?.items {
            let Some(row) = self.readable::<DomainRecord>(&key, &item, "domain") else { continue };
            let name = &row.domain;
            if key != domains::key(name) {
                self.report.add(Kind::Damaged, "domain", name, "its record is another domain's");
                continue;
            }
            let Some(holder) = row.holder else {
                if row.shows.is_some() {
                    self.report.add(Kind::Damaged, "domain", name, "it shows something, and nobody has it");
                }
                continue;
            };
            match domains::claim(self.meta, holder.team, name).await? {
                None => self.report.add(Kind::Missing, "record", name, "who has the domain does not claim it"),
                Some(claim) if claim.record.shows() != row.shows => {
                    self.report.add(Kind::Damaged, "domain", name, "it does not show what its claim says");
                }
                Some(_) => {}
            }
            let found_by = [domains::due_key(holder.due_at, name), domains::alike_key(name)];
            for (row, what) in self.meta.get(&found_by).await?.iter().zip(["schedule", "look-alikes"]) {
                if row.is_none() {
                    self.report.add(Kind::Missing, "record", name, format!("the domain is not among the {what}"));
                }
            }
        }
        for (key, item) in self.meta.snapshot(domains::claims_prefix()).await?.items {
            let Some(claim) = self.readable::<ClaimRecord>(&key, &item, "claim of a domain") else { continue };
            if key != domains::claim_key(domains::team_in(&key)?, &claim.domain) || claim.routes.is_empty() {
                self.report.add(Kind::Damaged, "domain", &claim.domain, "its claim is not what was written");
            }
        }
        Ok(())
    }
}
