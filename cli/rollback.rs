//! `rollback`: an environment shows an earlier image again. It is a release, so it has a number and can be undone.

use pinstone_api::wire::{ReleaseAnswer, ReleaseItem, ReleaseRequest};

use crate::client::{Client, Failure, all_pages};
use crate::context::{self, Context, EnvironmentArgs, ProjectArgs};
use crate::diff;
use crate::error::{CliError, Exit};
use crate::retry::Patience;

/// Show an earlier image again
///
/// Without `--to`, the image that the environment showed before its current one; again, to go back one further.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone rollback --env prod            back to what `prod` showed before
  pinstone rollback --env prod --to 12    what release 12 of `prod` showed
  pinstone rollback --to img_0f3c…        one image")]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// What to show: the number of a release of this environment, an image's id or the first digits of it, or a release
    /// of another environment, as `beta#12`
    #[arg(long, value_name = "IMAGE|NUMBER")]
    to: Option<String>,
    /// Why
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
}

/// What `--to` names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Target<'t> {
    /// What `pin` and `diff` call an image, or a release of any environment.
    Called(&'t str),
    Release(u64),
}

impl<'t> Target<'t> {
    fn parse(text: &'t str) -> Result<Self, CliError> {
        if let Ok(number) = text.trim_start_matches('#').parse() {
            return Ok(Self::Release(number));
        }
        if text.starts_with("img_") || text.contains('#') {
            return Ok(Self::Called(text));
        }
        Err(CliError::usage(format!("`{text}` is neither an image nor the number of a release"))
            .hint("`pinstone releases` lists both"))
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let (project, file) = context::project_here(&args.project)?;
    let environment = context::environment(args.environment.env.as_deref(), file.as_ref())?;
    let target = args.to.as_deref().map(Target::parse).transpose()?;
    let client = context.client(1)?;
    let image = match target {
        None => None,
        Some(Target::Called(typed)) => Some(diff::image_called(&client, &project, typed).await?),
        Some(Target::Release(number)) => Some(image_of(&client, &project, &environment, number).await?),
    };
    let request = ReleaseRequest {
        project: Some(project),
        environment: Some(environment.to_string()),
        image_id: image,
        message: args.message,
        ..ReleaseRequest::default()
    };
    let answer: Result<ReleaseAnswer, Failure> = client.post(&["rollback"], &request, Patience::LONG).await;
    let answer = answer.map_err(|failure| {
        let is_image = matches!(&*failure.code, "image_not_found" | "image_collected");
        failure.of(args.to.as_deref().filter(|_| is_image).unwrap_or(&environment))
    })?;
    tell(context, &answer)
}

/// Tells what a release or rollback did.
pub(crate) fn tell(context: &Context, answer: &ReleaseAnswer) -> Result<(), CliError> {
    let ReleaseAnswer { project, environment, number, image_id, .. } = answer;
    if answer.changed {
        context.out.note(format!("`{environment}` of `{project}` shows {image_id}, release {number}"));
    } else {
        context.out.note(format!("`{environment}` of `{project}` showed {image_id} already"));
    }
    context.out.line(&answer.url)?;
    context.out.object(answer)
}

/// The image that release `number` of an environment showed.
pub(crate) async fn image_of(
    client: &Client,
    project: &str,
    environment: &str,
    number: u64,
) -> Result<String, CliError> {
    let query = [("project", project), ("environment", environment)];
    let releases: Vec<ReleaseItem> = all_pages(client, &["releases"], &query, usize::MAX).await?;
    let how = format!("`pinstone releases --env {environment}` lists those that it has");
    match releases.into_iter().find(|release| release.number == number) {
        Some(release) if !release.image_id.is_empty() => Ok(release.image_id),
        Some(_) => {
            let message = format!("release {number} of `{environment}` shows nothing: it is a delete");
            Err(CliError::new(Exit::Failed, "release_not_found", message).hint(how))
        }
        // As what else is not there.
        None => {
            let message = format!("`{environment}` has no release {number}");
            Err(CliError::new(Exit::Failed, "release_not_found", message).hint(how))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_names() {
        let image = format!("img_{}", "0f".repeat(16));
        for (text, want) in [
            ("12", Some(Target::Release(12))),
            ("#12", Some(Target::Release(12))),
            (image.as_str(), Some(Target::Called(&image))),
            ("img_12ab", Some(Target::Called("img_12ab"))),
            ("beta#12", Some(Target::Called("beta#12"))),
            ("-1", None),
            ("", None),
            ("beta", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Target::parse(text).ok(), want, "{text:?}");
        }
    }
}
