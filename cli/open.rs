//! `open`: the site in a browser.

use serde_json::json;

use crate::context::{self, Context, EnvironmentArgs, ProjectArgs};
use crate::error::CliError;
use crate::promote::current;

/// Open the site in a browser, and print its URL
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone open --env prod    open `prod`
  pinstone open --print       only print the URL")]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// Only print the URL
    #[arg(long)]
    print: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let (project, file) = context::project_here(&args.project)?;
    let environment = context::environment(args.environment.env.as_deref(), file.as_ref())?;
    let shown = current(&context.client(1)?, &project, &environment).await?;
    // The URL comes from the server; a browser is shown nothing but a web address.
    let is_web = reqwest::Url::parse(&shown.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_web {
        return Err(CliError::failed("the server's answer names no web address"));
    }
    context.out.line(&shown.url)?;
    let wanted = !args.print && !context.out.json;
    let opened = wanted && webbrowser::open(&shown.url).is_ok();
    if wanted && !opened {
        context.out.note("no browser could be opened");
    }
    context.out.object(&json!({ "project": project, "environment": environment, "url": shown.url }))
}
