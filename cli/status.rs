//! `status`: how the server is, and what the project's environments show; or where no project is meant, which there are.

use std::path::Path;

use pinstone_api::wire::Health;
use serde_json::json;

use crate::client::Client;
use crate::context::{self, Context, ProjectArgs};
use crate::environments;
use crate::error::{CliError, Exit};
use crate::project_file::ProjectFile;
use crate::projects;

/// Show the server's health and what each environment shows
///
/// Where nothing names a project, and none is called like this folder, it lists the projects that there are. Ends with 5
/// where the server is degraded, and with 1 where `--env` names an environment that shows nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone status                      the project of this folder, or all projects
  pinstone status --project my-site    one project
  pinstone status --env prod --json    for a script")]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Only this environment
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let file = ProjectFile::find(Path::new("."), None)?;
    let named = context::named_project(&args.project, file.as_ref());
    let environment = args.env.as_deref().map(context::parse_environment).transpose()?;
    let client = context.client(1)?;
    let health: Health = client.get(&["health"], &[]).await?;
    context.out.note(format!(
        "server {}, version {}, up {}; metadata {}, storage {}",
        health.status, health.version, health.uptime, health.database, health.storage
    ));
    let is_named = named.is_some() || environment.is_some();
    let project = match named {
        Some(name) => Some(name),
        None if is_named => Some(context::project_of_folder(Path::new("."))?.to_string()),
        None => context::project_of_folder(Path::new(".")).ok().map(|name| name.to_string()),
    };
    let Some(project) = project else { return all_projects(context, &client, &health).await };
    let mut items = match environments::list(&client, &project).await {
        Ok(items) => items,
        Err(failure) if failure.code == "project_not_found" && !is_named => {
            return all_projects(context, &client, &health).await;
        }
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
    context.out.object(&json!({ "server": health, "project": project, "environments": items }))?;
    end(&health)
}

/// Lists the projects, where none is meant.
async fn all_projects(context: &Context, client: &Client, health: &Health) -> Result<(), CliError> {
    let projects = match projects::list(client).await {
        Ok(projects) => projects,
        // An older server cannot tell.
        Err(failure) if failure.code == "not_found" => Vec::new(),
        Err(failure) => return Err(failure.into()),
    };
    for line in projects::lines(&projects) {
        context.out.line(line)?;
    }
    if projects.is_empty() {
        context.out.note("no projects yet; the first `pinstone deploy` of one makes it");
    }
    context.out.object(&json!({ "server": health, "project": null, "environments": [], "projects": projects }))?;
    end(health)
}

fn end(health: &Health) -> Result<(), CliError> {
    if health.status == "healthy" {
        return Ok(());
    }
    Err(CliError::new(Exit::Unavailable, "degraded", "the server is degraded").hint("look at the server's log"))
}
