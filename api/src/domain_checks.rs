//! Proving domains again, by the engine's schedule: a task that whoever runs the server starts and ends.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use pinstone_engine::Engine;
use pinstone_engine::domains::{Checked, Due};
use tokio_util::sync::CancellationToken;

use crate::proof::Prover;

/// Domains that are looked at together.
const AT_ONCE: usize = 8;
/// Domains read from the schedule at a time.
const PAGE: usize = 100;
/// How often the schedule is looked at, at most and at least.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Proves domains again.
#[derive(Debug)]
pub struct DomainChecks {
    pub(crate) engine: Engine,
    pub(crate) prover: Prover,
    pub(crate) rules: pinstone_engine::domains::proof::DomainRules,
}

impl DomainChecks {
    /// Works until `stop`. What is being asked then is given up, and is still due at the next start.
    pub async fn run(self, stop: CancellationToken) {
        let (soonest, latest) = LOOKS;
        let pause = (self.rules.recheck / 10).clamp(soonest, latest);
        tokio::select! {
            () = stop.cancelled() => {}
            () = async {
                loop {
                    tokio::time::sleep(pause).await;
                    while self.check_page().await {}
                }
            } => {}
        }
    }

    /// Looks at domains that are due; answers whether there may be more.
    async fn check_page(&self) -> bool {
        let due = match self.engine.domains_due(PAGE).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "the schedule of domains cannot be read");
                return false;
            }
        };
        let is_full = due.len() == PAGE;
        let checks = stream::iter(due).map(|due| self.check(due)).buffer_unordered(AT_ONCE);
        // Those that could not be noted stay due, and would come again at once.
        let noted = checks.fold(true, async |all, noted| all && noted).await;
        is_full && noted
    }

    async fn check(&self, due: Due) -> bool {
        let Ok(evidence) = self.prover.evidence(&due.domain, &due.token).await else { return false };
        match self.engine.record_domain_check(&due, &evidence, &self.rules).await {
            Ok(Checked::Failing) => {
                tracing::warn!(domain = %due.domain, "a domain cannot be proven any more; it is shown for a while");
                true
            }
            Ok(Checked::Ended) => {
                tracing::warn!(domain = %due.domain, "a domain could not be proven for too long, and shows nothing now");
                true
            }
            Ok(Checked::Holds | Checked::Unknown | Checked::Gone) => true,
            Err(error) => {
                tracing::warn!(%error, "what was found of a domain cannot be noted");
                false
            }
        }
    }
}
