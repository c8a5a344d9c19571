//! `releases`: what the environments of a project showed, and since when.

use pinstone_api::wire::ReleaseItem;
use serde_json::json;

use crate::client::all_pages;
use crate::context::{self, Context, ProjectArgs};
use crate::environments;
use crate::error::CliError;
use crate::output::table;

/// List releases, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone releases --env prod --limit 5    the last five releases of `prod`")]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Only this environment's
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let environment = args.env.as_deref().map(context::parse_environment).transpose()?;
    let mut query = vec![("project", project.as_str())];
    if let Some(environment) = &environment {
        query.push(("environment", environment));
    }
    let client = context.client(1)?;
    let items: Vec<ReleaseItem> = all_pages(&client, &["releases"], &query, args.limit as usize).await?;
    // A deleted one still has its releases; one that has none was never there.
    if let Some(environment) = environment.as_ref().filter(|_| items.is_empty()) {
        return Err(environments::not_found(environment));
    }
    let row = |item: &ReleaseItem| {
        vec![
            item.number.to_string(),
            item.environment.clone(),
            item.action.clone(),
            if item.image_id.is_empty() { "-".to_owned() } else { item.image_id.clone() },
            item.created_at.clone(),
            item.author.clone(),
            item.message.lines().next().unwrap_or_default().to_owned(),
        ]
    };
    for line in table(&items.iter().map(row).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    if items.is_empty() {
        context.out.note("no releases yet");
    }
    context.out.object(&json!({ "items": items }))
}
