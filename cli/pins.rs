//! `pin` and `unpin`: keeping an image although nothing shows it any more.

use pinstone_api::wire::{ImageItem, PinRequest};
use serde_json::json;

use crate::context::{self, Context, ProjectArgs};
use crate::diff;
use crate::error::CliError;
use crate::retry::Patience;

/// Keep an image, whatever is released later
///
/// Its own host goes on showing it, and it can be released at any time. Prints that host's URL, where there is one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone pin img_0f3c -m 'shown to the board'    an image, by its first digits
  pinstone pin prod                                what `prod` shows now
  pinstone pin prod#12                             what its release 12 showed")]
pub(crate) struct PinArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Why it is kept
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
}

/// Keep an image no longer than any other
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone unpin img_0f3c")]
pub(crate) struct UnpinArgs {
    #[command(flatten)]
    image: ImageArgs,
}

/// Which image is meant.
#[derive(Debug, clap::Args)]
struct ImageArgs {
    /// The image: its id or the first digits of it, four or more; or what an environment or one of its releases shows
    image: String,
    #[command(flatten)]
    project: ProjectArgs,
}

/// Runs `pin`.
pub(crate) async fn pin(context: &Context, args: PinArgs) -> Result<(), CliError> {
    let typed = args.image.image.clone();
    let (project, image) = find(context, args.image).await?;
    let client = context.client(1)?;
    let request = PinRequest { message: args.message };
    let (segments, query) = (["images", image.as_str(), "pin"], [("project", project.as_str())]);
    let pinned: ImageItem =
        client.put_json(&segments, &query, &request, Patience::LONG).await.map_err(|failure| failure.of(&typed))?;
    context.out.note(format!("{} of `{project}` is kept", pinned.image_id));
    if let Some(url) = &pinned.url {
        context.out.line(url)?;
    }
    context.out.object(&pinned)
}

/// Runs `unpin`.
pub(crate) async fn unpin(context: &Context, args: UnpinArgs) -> Result<(), CliError> {
    let typed = args.image.image.clone();
    let (project, image) = find(context, args.image).await?;
    let client = context.client(1)?;
    let (segments, query) = (["images", image.as_str(), "pin"], [("project", project.as_str())]);
    client.delete_with(&segments, &query).await.map_err(|failure| failure.of(&typed))?;
    context.out.note(format!("{image} of `{project}` is not pinned"));
    context.out.object(&json!({ "project": project, "image_id": image, "pinned": false }))
}

/// The project and the image that are meant.
async fn find(context: &Context, args: ImageArgs) -> Result<(String, String), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let image = diff::image_called(&context.client(1)?, &project, &args.image).await?;
    Ok((project, image))
}
