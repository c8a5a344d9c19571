//! `promote`: one environment shows what another does.

use pinstone_api::wire::{CurrentAnswer, ReleaseAnswer, ReleaseRequest};

use crate::client::{Client, Failure};
use crate::context::{self, Context, ProjectArgs};
use crate::error::CliError;
use crate::output;
use crate::retry::Patience;
use crate::rollback::tell;

/// Release what one environment shows to another
///
/// Nothing is uploaded, and TO gets the very image that FROM was looked at with. Where TO changes in that moment,
/// nothing is released. Asks first on a terminal where TO is `prod`, and goes on without a question where there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone promote beta prod          release to `prod` what `beta` shows
  pinstone promote beta prod --yes    without a question")]
pub(crate) struct Args {
    /// The environment whose image is taken
    from: String,
    /// The environment that shows it from now on
    to: String,
    #[command(flatten)]
    project: ProjectArgs,
    /// Why
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Do not ask before releasing to `prod`
    #[arg(long, short)]
    yes: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let from = context::parse_environment(&args.from)?;
    let to = context::parse_environment(&args.to)?;
    if from == to {
        return Err(CliError::usage("an environment cannot be promoted to itself"));
    }
    let (project, _) = context::project_here(&args.project)?;
    if to.is_prod() && !args.yes && output::can_ask() {
        let question = format!("release to `prod` of `{project}` what `{from}` shows?");
        if !output::confirmed(question).await {
            return Err(CliError::failed("not confirmed; nothing was released"));
        }
    }
    let client = context.client(1)?;
    let image = current(&client, &project, &from).await.map_err(|failure| failure.of(&from))?.image_id;
    let shown = match current(&client, &project, &to).await {
        Ok(shown) => shown.image_id,
        // An environment that shows nothing yet is made by its first release.
        Err(failure) if failure.code == "environment_not_found" => String::new(),
        Err(failure) => return Err(failure.into()),
    };
    let request = ReleaseRequest {
        project: Some(project),
        environment: Some(to.to_string()),
        image_id: Some(image),
        expected_image_id: Some(shown),
        message: args.message,
        ..ReleaseRequest::default()
    };
    let answer: ReleaseAnswer = client.post(&["release"], &request, Patience::LONG).await?;
    tell(context, &answer)
}

/// What `environment` shows now.
pub(crate) async fn current(client: &Client, project: &str, environment: &str) -> Result<CurrentAnswer, Failure> {
    client.get(&["current"], &[("project", project), ("environment", environment)]).await
}
