//! `project show` and `project set`: how a project is set.

use clap::builder::PossibleValuesParser;
use pinstone_api::wire::{ProjectChange, ProjectItem};

use crate::context::{self, Context, ProjectArgs};
use crate::error::CliError;
use crate::output::table;
use crate::retry::Patience;

/// Show how a project is set, or set it
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Show how the project is set
    Show(ShowArgs),
    /// Set the project
    Set(SetArgs),
}

/// The arguments of `project show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    project: ProjectArgs,
}

/// The arguments of `project set`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone project set --image-hosts off    only environments and previews show the project")]
pub(crate) struct SetArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Who gets an image by its own host, `PROJECT--i-DIGITS`: everybody, only who has access (nobody has it so far), or
    /// nobody
    #[arg(long, value_name = "WHO", value_parser = PossibleValuesParser::new(["public", "protected", "off"]))]
    image_hosts: String,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let project: ProjectItem = match args {
        Args::Show(args) => {
            let (project, _) = context::project_here(&args.project)?;
            context.client(1)?.get(&["projects", &project], &[]).await?
        }
        Args::Set(args) => {
            let (project, _) = context::project_here(&args.project)?;
            let change = ProjectChange { image_hosts: Some(args.image_hosts), ..ProjectChange::default() };
            context.client(1)?.patch(&["projects", &project], &change, Patience::LONG).await?
        }
    };
    let rows = [
        ["name", &*project.name],
        ["id", &*project.id],
        ["created", &*project.created_at],
        ["image hosts", &*project.image_hosts],
    ];
    for line in table(&rows.map(|row| row.map(str::to_owned).to_vec())) {
        context.out.line(line)?;
    }
    context.out.object(&project)
}
