//! What a deploy tells: of the folder, of what was sent, and of what is released now.

use pinstone_api::wire::{Diagnostic, PlanAnswer};
use pinstone_engine::publish::site_diagnostics;
use serde::Serialize;

use crate::diff;
use crate::error::{CliError, Exit};
use crate::output::{self, Output};
use crate::walk::FoundFile;

/// The object that `--json` prints.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) project: String,
    pub(super) environment: String,
    pub(super) archive: Option<String>,
    pub(super) format: Option<&'static str>,
    pub(super) image_id: Option<String>,
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slug: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<String>,
    pub(super) number: Option<u64>,
    pub(super) changed: Option<bool>,
    pub(super) files: u64,
    pub(super) total_size: u64,
    pub(super) new: u64,
    pub(super) reused: u64,
    pub(super) missing_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) requests: u64,
    pub(super) ignored: u64,
    pub(super) links_followed: u64,
    pub(super) seconds: f64,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) dry_run: bool,
    /// What would change; only of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) diff: Option<diff::Report>,
}

/// What is worth knowing about a folder before a server sees it.
pub(super) fn own_warnings(files: &[FoundFile]) -> Vec<Diagnostic> {
    site_diagnostics(files.iter().map(|file| file.path.as_str())).into_iter().map(Diagnostic::from).collect()
}

pub(super) fn count_plan(report: &mut Report, plan: &PlanAnswer) {
    report.new = plan.missing.len() as u64;
    report.reused = report.files.saturating_sub(report.new);
    report.missing_bytes = plan.missing_bytes;
    add_warnings(&mut report.warnings, plan.warnings.clone());
}

/// Adds what is not known yet: server and client can find the same.
pub(super) fn add_warnings(warnings: &mut Vec<Diagnostic>, more: Vec<Diagnostic>) {
    for new in more {
        if !warnings.iter().any(|old| old.code == new.code && old.file == new.file && old.line == new.line) {
            warnings.push(new);
        }
    }
}

fn tell_warnings(out: Output, warnings: &[Diagnostic]) {
    for warning in warnings {
        let place = if warning.line > 0 { format!("{}:{}: ", warning.file, warning.line) } else { String::new() };
        out.warn(format!("{place}{}", warning.message));
    }
}

/// Says why a strict publish did not begin. A server would say the same, once it had all files.
pub(super) fn refused(out: Output, warnings: &[Diagnostic]) -> CliError {
    tell_warnings(out, warnings);
    let what = output::count(warnings.len() as u64, "warning");
    let first = warnings.first().map(|warning| warning.message.as_str()).unwrap_or_default();
    let message = format!("{what}, which a strict publish refuses; nothing was sent: {first}");
    CliError::new(Exit::Failed, "diagnostics_refused", message).hint("mend the site, or publish it without `strict`")
}

pub(super) fn tell(out: Output, report: &Report) -> Result<(), CliError> {
    tell_warnings(out, &report.warnings);
    if report.dry_run {
        out.note(format!(
            "dry run: {} new ({}), {} reused; nothing was sent",
            report.new,
            output::bytes(report.missing_bytes),
            report.reused
        ));
        return out.object(report);
    }
    out.note(format!(
        "{} new, {} reused; sent {} in {}, {:.1} s",
        report.new,
        report.reused,
        output::bytes(report.sent_bytes),
        output::count(report.requests, "request"),
        report.seconds
    ));
    match (&report.expires_at, report.changed, report.number) {
        (Some(end), ..) => {
            out.note(format!("preview `{}` of `{}`, until {end}", report.environment, report.project));
        }
        (None, Some(true), Some(number)) => {
            out.note(format!("released to `{}` of `{}`, number {number}", report.environment, report.project));
        }
        _ => out.note(format!("`{}` of `{}` showed this already", report.environment, report.project)),
    }
    out.line(report.url.as_deref().unwrap_or_default())?;
    out.object(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{WalkOptions, walk};

    fn found(names: &[&str]) -> Vec<FoundFile> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        walk(folder.path(), &WalkOptions::default()).unwrap().files
    }

    #[test]
    fn warnings_about_a_folder() {
        let codes = |names| own_warnings(&found(names)).into_iter().map(|w| w.code).collect::<Vec<_>>();
        assert!(codes(&["index.html", "a"]).is_empty());
        assert_eq!(codes(&["index.htm"]), ["no_index"]);
        assert_eq!(codes(&["index.html", "A", "a"]), ["case_collision"]);
    }
}
