//! `env list` and `env delete`.

use pinstone_api::wire::EnvironmentItem;
use serde_json::json;

use crate::client::{Client, Failure, all_pages};
use crate::context::{self, Context, ProjectArgs};
use crate::error::{CliError, Exit};
use crate::images;
use crate::output::{self, table};

/// List or delete the environments of a project
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pinstone env list            what each environment shows, where, and since when
  pinstone env delete stage    its host shows nothing from then on")]
pub(crate) enum Args {
    /// List the environments: what each shows, where, and since when
    List(ListArgs),
    /// Delete an environment: its host shows nothing from then on
    ///
    /// Its images and the record of its releases are kept, so a release brings it back.
    Delete(DeleteArgs),
}

/// The arguments of `env list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    project: ProjectArgs,
}

/// The arguments of `env delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone env delete pr-17 --yes    delete it without a question")]
pub(crate) struct DeleteArgs {
    /// The environment
    name: String,
    #[command(flatten)]
    project: ProjectArgs,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    yes: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    match args {
        Args::List(args) => list_all(context, &args).await,
        Args::Delete(args) => delete(context, &args).await,
    }
}

async fn list_all(context: &Context, args: &ListArgs) -> Result<(), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let items = list(&context.client(1)?, &project).await?;
    for line in lines(&items) {
        context.out.line(line)?;
    }
    if items.is_empty() {
        context.out.note("no environment shows anything yet");
    }
    context.out.object(&json!({ "items": items }))
}

async fn delete(context: &Context, args: &DeleteArgs) -> Result<(), CliError> {
    let environment = context::parse_environment(&args.name)?;
    let (project, _) = context::project_here(&args.project)?;
    if !args.yes {
        if !output::can_ask() {
            let message =
                format!("deleting `{environment}` of `{project}` has to be confirmed, and nobody can be asked");
            return Err(CliError::usage(message).hint("say `--yes` to delete it without a question"));
        }
        let question = format!("delete `{environment}` of `{project}`, so that its host shows nothing?");
        if !output::confirmed(question).await {
            return Err(CliError::failed("not confirmed; nothing was deleted"));
        }
    }
    context.client(1)?.delete(&["environments", &project, &environment]).await?;
    context.out.note(format!("deleted `{environment}` of `{project}`"));
    context.out.object(&json!({ "project": project, "environment": environment, "deleted": true }))
}

/// The environments of `project`.
pub(crate) async fn list(client: &Client, project: &str) -> Result<Vec<EnvironmentItem>, Failure> {
    all_pages(client, &["environments"], &[("project", project)], usize::MAX).await
}

/// The error that a project has no environment `name`.
pub(crate) fn not_found(name: &str) -> CliError {
    CliError::new(Exit::Failed, "environment_not_found", format!("`{name}`: the project has no such environment"))
        .hint("`pinstone env list` shows those that the project has")
}

/// One line an environment.
pub(crate) fn lines(items: &[EnvironmentItem]) -> Vec<String> {
    let row = |item: &EnvironmentItem| {
        vec![
            item.name.clone(),
            item.url.clone(),
            item.image_id.clone(),
            format!("release {}", item.number),
            item.deployed_at.clone(),
            item.expires_at.as_ref().map(|at| format!("until {at}")).unwrap_or_default(),
            images::saved(&item.variants),
        ]
    };
    table(&items.iter().map(row).collect::<Vec<_>>())
}
