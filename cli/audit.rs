//! `audit`: who did what, as the server recorded it.

use std::time::SystemTime;

use pinstone_api::wire::account::AuditItem;
use serde_json::json;

use crate::client::all_pages;
use crate::context::Context;
use crate::error::CliError;
use crate::lifetime::moment;
use crate::output::table;

/// Show who did what, newest first
///
/// Everything that changed something is recorded with who did it, by which token and from where; so are attempts to sign
/// in that failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone audit                                         the last fifty entries
  pinstone audit --project my-site --from 7d             what happened to a project in the last week
  pinstone audit --from 2026-01-01 --to 2026-02-01 --limit 10000 --json
  pinstone audit --actor me@example.com                  what one user did")]
pub(crate) struct Args {
    /// Only from this moment on: a day of UTC, a time, or how long ago, such as `7d`
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Only before this moment
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// Only what this user did, by the name that the entries have
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only what happened to this project [default: whatever happened to all]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let now = SystemTime::now();
    let at = |flag: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match moment(text, now) {
            Ok(moment) => Ok(Some(moment)),
            Err(why) => Err(CliError::usage(format!("`{flag} {text}`: {why}"))),
        },
    };
    let (from, to) = (at("--from", &args.from)?, at("--to", &args.to)?);
    let filters = [("from", &from), ("to", &to), ("actor", &args.actor), ("project", &args.project)];
    let query: Vec<(&str, &str)> =
        filters.iter().filter_map(|(key, value)| value.as_deref().map(|value| (*key, value))).collect();
    let items: Vec<AuditItem> = all_pages(&context.client(1)?, &["audit"], &query, args.limit as usize).await?;
    let row = |item: &AuditItem| {
        vec![
            item.at.clone(),
            if item.actor.is_empty() { "-".to_owned() } else { item.actor.clone() },
            item.action.clone(),
            item.object.clone(),
            item.from_address.clone().unwrap_or_default(),
        ]
    };
    for line in table(&items.iter().map(row).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    if items.is_empty() {
        context.out.note("nothing that matches is recorded");
    } else if items.len() == args.limit as usize {
        context.out.note(format!("the last {}; `--limit` shows more", items.len()));
    }
    context.out.object(&json!({ "items": items }))
}
