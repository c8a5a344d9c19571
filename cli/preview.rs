//! `preview`: a folder becomes something to look at for a while. It is published as by `deploy`; only the last step is
//! another one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pinstone_api::wire::{PreviewItem, PreviewRequest};
use pinstone_engine::name::{EnvironmentName, ProjectName};
use serde_json::json;

use crate::client::{Client, Failure, all_pages};
use crate::context::{self, Context, ProjectArgs};
use crate::deploy;
use crate::error::CliError;
use crate::lifetime::{lifetime, seconds};
use crate::output::table;
use crate::retry::Patience;

/// Publish a folder as a preview, which ends by itself; list or delete previews
///
/// Prints the preview's URL. A preview has a host of its own, which search engines do not list. When its time is over,
/// the host says so; a day later the preview is forgotten. Previewing again with the same slug moves the preview to the
/// new content and renews its time.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  pinstone preview                              preview the current folder for a day
  pinstone preview public --slug pr-7           under a name; again, to show what is newer
  pinstone preview --slug \"$BRANCH\"            `Feature/Foo` is called `feature-foo`
  pinstone preview --slug pr-7 --expires 3d     for three days
  pinstone preview list                         what there is, and until when
  pinstone preview delete pr-7                  end it now
A folder that is called `list`, `delete` or `help` is written with a slash: `./list`."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    publish: PublishArgs,
}

/// What can be done to previews that are there.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the previews: what each shows, where, and until when
    ///
    /// One that is over is listed for another day: until then it can be renewed.
    List(ListArgs),
    /// Delete a preview: its host shows nothing from then on
    ///
    /// Its image and the record of its releases are kept.
    Delete(DeleteArgs),
}

/// The arguments of `preview` itself.
#[derive(Debug, clap::Args)]
struct PublishArgs {
    /// The folder to publish, or an archive of one, as `deploy` takes it [default: pinstone.toml's `directory`, or the
    /// current folder]
    dir: Option<PathBuf>,
    #[command(flatten)]
    project: ProjectArgs,
    /// The preview's name, such as a branch's. It is written in lower-case letters, digits and hyphens, whatever it has
    /// else; what is longer than 21 is cut and given 6 digits of its hash [default: 8 digits that nobody has]
    #[arg(long, value_name = "NAME", value_parser = slug)]
    slug: Option<Slug>,
    /// How long it lasts, such as `90m`, `3d` or a number of seconds [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires: Option<Duration>,
    /// Why it is published
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Show what would change and what would be sent, and send nothing; without `--slug`, compared with the environment
    /// that `deploy` releases to
    #[arg(long)]
    dry_run: bool,
    /// Refuse to publish where the server finds something to warn about
    #[arg(long)]
    strict: bool,
    /// Follow links that leave the folder
    #[arg(long)]
    follow_links: bool,
    /// Take N folders away from the start of each name in an archive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=512))]
    strip_components: Option<u16>,
    /// How many uploads run at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
}

/// The arguments of `preview list`.
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    project: ProjectArgs,
}

/// The arguments of `preview delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone preview delete pr-7
  pinstone preview delete Feature/Foo    the preview of a branch, by its name")]
struct DeleteArgs {
    /// The preview; a branch's name is taken as `--slug` takes it
    #[arg(value_parser = slug)]
    slug: Slug,
    #[command(flatten)]
    project: ProjectArgs,
}

/// The preview that is wanted of an image.
#[derive(Debug)]
pub(crate) struct Wanted {
    slug: Option<EnvironmentName>,
    expires: Option<Duration>,
}

impl Wanted {
    /// The name that is asked for; empty where the server is to find one.
    pub(crate) fn name(&self) -> String {
        self.slug.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Makes the preview, or moves and renews it.
    pub(crate) async fn post(
        &self,
        client: &Client,
        project: &ProjectName,
        image_id: String,
        message: Option<String>,
    ) -> Result<PreviewItem, Failure> {
        let request = PreviewRequest {
            project: Some(project.to_string()),
            project_id: None,
            image_id,
            slug: self.slug.as_ref().map(ToString::to_string),
            expires_in: self.expires.map(seconds),
            message,
        };
        client.post(&["preview"], &request, Patience::LONG).await
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    match args.command {
        None => publish(context, args.publish).await,
        Some(Command::List(args)) => list(context, &args).await,
        Some(Command::Delete(args)) => delete(context, &args).await,
    }
}

async fn publish(context: &Context, args: PublishArgs) -> Result<(), CliError> {
    if let Some(word) = args.dir.as_deref().and_then(Path::to_str).filter(|dir| matches!(*dir, "list" | "delete"))
        && !Path::new(word).is_dir()
    {
        // Behind a flag, a word is a folder.
        return Err(CliError::usage(format!("`{word}` stands behind the flags of `preview`"))
            .hint(format!("write `pinstone preview {word}` first, then its flags")));
    }
    if let Some(note) = args.slug.as_ref().and_then(Slug::note) {
        context.out.note(note);
    }
    let wanted = Wanted { slug: args.slug.map(|slug| slug.name), expires: args.expires };
    let args = deploy::Args {
        dir: args.dir,
        project: args.project,
        env: None,
        prod: false,
        message: args.message,
        dry_run: args.dry_run,
        strict: args.strict,
        follow_links: args.follow_links,
        concurrency: args.concurrency,
        yes: true,
        strip_components: args.strip_components,
    };
    let mut job = deploy::settle(args, Path::new("."))?;
    // What a dry run compares the folder with.
    job.environment = wanted.slug.clone().unwrap_or(job.environment);
    job.preview = Some(wanted);
    deploy::publish(context, &mut job).await
}

async fn list(context: &Context, args: &ListArgs) -> Result<(), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let query = [("project", project.as_str())];
    let items: Vec<PreviewItem> = all_pages(&context.client(1)?, &["previews"], &query, usize::MAX).await?;
    let row = |item: &PreviewItem| {
        let end = if item.expired { "over since" } else { "until" };
        vec![item.slug.clone(), item.url.clone(), item.image_id.clone(), format!("{end} {}", item.expires_at)]
    };
    for line in table(&items.iter().map(row).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    if items.is_empty() {
        context.out.note("no previews; `pinstone preview` makes one");
    }
    context.out.object(&json!({ "items": items }))
}

async fn delete(context: &Context, args: &DeleteArgs) -> Result<(), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let slug = &args.slug.name;
    context.client(1)?.delete(&["previews", &project, slug]).await.map_err(|failure| failure.of(slug))?;
    context.out.note(format!("deleted the preview `{slug}` of `{project}`"));
    context.out.object(&json!({ "project": project, "slug": slug.as_str(), "deleted": true }))
}

/// The name that a preview is to have, and what was typed for it.
#[derive(Clone, Debug)]
struct Slug {
    name: EnvironmentName,
    typed: String,
}

impl Slug {
    /// What to say where the preview is not called as it was typed.
    fn note(&self) -> Option<String> {
        (*self.name != *self.typed).then(|| format!("`{}` as a preview's name is `{}`", self.typed, self.name))
    }
}

/// Reads the name that a preview is to have. What is none, such as a branch's with capitals and slashes, is made one.
fn slug(text: &str) -> Result<Slug, String> {
    match EnvironmentName::of_slug(text).or_else(|_| EnvironmentName::of_slug(&context::in_alphabet(text))) {
        Ok(name) if name.always_lasts() => {
            Err(format!("`{name}` is an environment that lasts; `deploy` releases to it"))
        }
        Ok(name) => Ok(Slug { name, typed: text.to_owned() }),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_preview_can_be_called() {
        for (typed, want) in [
            ("pr-7", "pr-7"),
            ("Feature/Foo", "feature-foo"),
            ("fix_the/Über__bug!", "fix-the-ber-bug"),
            ("dependabot/npm/a", "dependabot-npm-a"),
        ] {
            let made = slug(typed).unwrap();
            assert_eq!((&*made.name, made.note().is_some()), (want, typed != want), "{typed}");
        }
        assert_eq!(slug(&"x".repeat(60)).map(|slug| slug.name.len()), Ok(21));
        let one = |end: &str| slug(&format!("feature/a-very-long-name-of-a-branch-that-ends-{end}")).unwrap().name;
        assert_ne!(one("here"), one("there"), "what is cut is told apart");
        for wrong in ["prod", "Beta", "i-1", "I/1", "", "日本"] {
            assert!(slug(wrong).is_err(), "{wrong}");
        }
    }
}
