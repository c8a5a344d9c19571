//! Whether a load balancer should send visitors here. Pure.
//!
//! It is asked by machines that take a server out when the answer is no, so no is only for what another server would do
//! better: this one is ending, or cannot read what it serves. A full disk takes no releases and a store that is away
//! leaves what is cached; both are told, and sites are served meanwhile. That the pointer table is loaded needs no word:
//! a process that answers has it.

use pinstone_engine::Health;
use serde_json::json;

/// One thing that is not as it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reason {
    code: &'static str,
    message: &'static str,
    is_grave: bool,
}

/// All of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Report(Vec<Reason>);

impl Report {
    pub(super) fn is_ready(&self) -> bool {
        !self.0.iter().any(|reason| reason.is_grave)
    }

    pub(super) fn to_json(&self) -> String {
        let status = match (self.is_ready(), self.0.is_empty()) {
            (true, true) => "ready",
            (true, false) => "degraded",
            (false, _) => "unavailable",
        };
        let reasons: Vec<_> =
            self.0.iter().map(|reason| json!({ "code": reason.code, "message": reason.message })).collect();
        format!("{{\"status\":\"{status}\",\"reasons\":{}}}\n", json!(reasons))
    }
}

/// What is wrong with a server in this state.
pub(super) fn judge(draining: bool, health: &Health) -> Report {
    let grave = |code, message| Reason { code, message, is_grave: true };
    let bearable = |code, message| Reason { code, message, is_grave: false };
    let mut reasons = Vec::new();
    if draining {
        reasons.push(grave("draining", "the server is ending"));
    }
    if !health.metadata_reads {
        reasons.push(grave("metadata_unreadable", "the metadata store does not answer"));
    } else if !health.metadata {
        reasons.push(bearable("metadata_read_only", "the metadata store takes no commits; sites are served"));
    }
    if !health.objects {
        reasons.push(if health.objects_cached {
            bearable("objects_unreachable", "the object store does not answer; what is cached is served")
        } else {
            grave("objects_unreadable", "the object store does not answer")
        });
    }
    Report(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_server_would_do_better_is_unavailable() {
        let well = Health { metadata: true, metadata_reads: true, objects: true, objects_cached: false };
        for (draining, health, status, codes) in [
            (false, well, "ready", &[][..]),
            (true, well, "unavailable", &["draining"]),
            (false, Health { metadata: false, ..well }, "degraded", &["metadata_read_only"]),
            (false, Health { metadata: false, metadata_reads: false, ..well }, "unavailable", &["metadata_unreadable"]),
            (false, Health { objects: false, ..well }, "unavailable", &["objects_unreadable"]),
            (false, Health { objects: false, objects_cached: true, ..well }, "degraded", &["objects_unreachable"]),
            (
                true,
                Health { metadata: false, objects: false, ..well },
                "unavailable",
                &["draining", "metadata_read_only", "objects_unreadable"],
            ),
        ] {
            let report = judge(draining, &health);
            let value: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
            let told: Vec<_> = value["reasons"].as_array().unwrap().iter().map(|reason| &reason["code"]).collect();
            assert_eq!((value["status"].as_str(), told.len()), (Some(status), codes.len()), "{value}");
            assert!(told.iter().zip(codes).all(|(told, code)| *told == code), "{value}");
            assert_eq!(report.is_ready(), status != "unavailable", "{value}");
        }
    }
}
