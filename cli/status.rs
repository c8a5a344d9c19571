//! `status`: how the server is, and what the project's environments show.

use pinstone_api::wire::Health;
use serde_json::json;

use crate::context::{self, Context, ProjectArgs};
use crate::environments;
use crate::error::{CliError, Exit};

/// Show the server's health and what each environment shows
///
/// Ends with 5 where the server is degraded, and with 1 where `--env` names an environment that shows nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Only this environment
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let environment = args.env.as_deref().map(context::parse_environment).transpose()?;
    let client = context.client(1)?;
    let health: Health = client.get(&["health"], &[]).await?;
    context.out.note(format!(
        "server {}, version {}, up {}; metadata {}, storage {}",
        health.status, health.version, health.uptime, health.database, health.storage
    ));
    let mut items = match environments::list(&client, &project).await {
        Ok(items) => items,
        Err(failure) if failure.code == "project_not_found" => {
            context.out.note(format!("no project `{project}` yet; `pinstone deploy` makes it"));
            Vec::new()
        }
        Err(failure) => return Err(failure.into()),
    };
    if let Some(wanted) = &environment {
        let known: Vec<String> = items.iter().map(|item| item.name.clone()).collect();
        items.retain(|item| *item.name == **wanted);
        if items.is_empty() {
            let hint = match &*known {
                [] => format!("no environment shows anything yet; `pinstone deploy --env {wanted}` makes it"),
                _ => format!("those that show something are {}", known.join(", ")),
            };
            return Err(environments::not_found(wanted).hint(hint));
        }
    }
    for line in environments::lines(&items) {
        context.out.line(line)?;
    }
    let healthy = health.status == "healthy";
    context.out.object(&json!({ "server": health, "project": project, "environments": items }))?;
    if healthy {
        Ok(())
    } else {
        Err(CliError::new(Exit::Unavailable, "degraded", "the server is degraded").hint("look at the server's log"))
    }
}
