//! `project …`: projects as a whole.

use clap::builder::PossibleValuesParser;
use pinstone_engine::name::ProjectName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{Client, Failure};
use crate::context::{self, Context, ProjectArgs};
use crate::error::CliError;
use crate::output::{self, table};
use crate::project_file::ProjectFile;
use crate::retry::Patience;

/// List, make, show, set, rename and delete projects
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pinstone project list                          the projects that you reach
  pinstone project create my-site                make one before its first deploy
  pinstone project rename my-site our-site       its addresses change, and the old ones lead to the new
  pinstone project delete our-site --yes         all of it, at once")]
pub(crate) enum Args {
    /// List the projects that you reach
    List(ListArgs),
    /// Make a project; the first deploy of one does so by itself
    Create(CreateArgs),
    /// Show how a project is set
    Show(ShowArgs),
    /// Set a project
    Set(SetArgs),
    /// Rename a project: its hosts are called by the new name from then on
    ///
    /// The old addresses lead to the new ones for a while, and nobody else gets the old name meanwhile.
    Rename(RenameArgs),
    /// Delete a project: its environments, previews, images and domains
    ///
    /// Its hosts show nothing from then on. There is no way back.
    Delete(DeleteArgs),
}

/// The arguments of `project list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

/// The arguments of `project create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone project create my-site")]
pub(crate) struct CreateArgs {
    /// What it is called: lower-case letters, digits and hyphens, 3 to 40 of them
    #[arg(value_parser = name)]
    name: ProjectName,
}

/// The arguments of `project show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone project show            the project of this folder
  pinstone project show my-site")]
pub(crate) struct ShowArgs {
    /// The project; as `--project`
    #[arg(value_name = "PROJECT", conflicts_with = "project")]
    name: Option<String>,
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

/// The arguments of `project rename`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone project rename my-site our-site")]
pub(crate) struct RenameArgs {
    /// What it is called now
    old: String,
    /// What it is to be called
    #[arg(value_parser = name)]
    new: ProjectName,
}

/// The arguments of `project delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone project delete my-site          asks first
  pinstone project delete my-site --yes    deletes it without a question")]
pub(crate) struct DeleteArgs {
    /// The project; it has to be named, whatever folder this is
    name: String,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    yes: bool,
}

/// One project, as far as it is shown here; the rest is passed on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Project {
    pub(crate) name: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_hosts: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A list of projects: a bare array, as the first clients of the protocol have it, or a page.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Listed {
    Bare(Vec<Project>),
    Page { items: Vec<Project> },
}

/// What a name that is taken is answered with.
#[derive(Debug, Deserialize)]
struct NameCheck {
    suggestion: Option<String>,
}

fn name(text: &str) -> Result<ProjectName, String> {
    text.parse().map_err(|error: pinstone_engine::name::NameError| error.to_string())
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    match args {
        Args::List(args) => list_all(context, &args).await,
        Args::Create(args) => create(context, &args.name).await,
        Args::Show(args) => {
            let project = ProjectArgs { project: args.name.or(args.project.project) };
            let (project, _) = context::project_here(&project)?;
            tell(context, &context.client(1)?.get(&["projects", &project], &[]).await?)
        }
        Args::Set(args) => {
            let (project, _) = context::project_here(&args.project)?;
            let change = json!({ "image_hosts": args.image_hosts });
            tell(context, &context.client(1)?.patch(&["projects", &project], &change, Patience::LONG).await?)
        }
        Args::Rename(args) => rename(context, &args).await,
        Args::Delete(args) => delete(context, &args).await,
    }
}

/// The projects that the caller reaches, from as many pages as there are.
pub(crate) async fn list(client: &Client) -> Result<Vec<Project>, Failure> {
    let (mut projects, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let query: Vec<_> = cursor.iter().map(|cursor| ("cursor", &**cursor)).collect();
        let (listed, next) = client.get_linked(&["projects"], &query).await?;
        let (Listed::Bare(page) | Listed::Page { items: page }) = listed;
        // An empty page, or the same cursor again, would lead on for ever.
        let goes_on = !page.is_empty() && next.is_some() && next != cursor;
        projects.extend(page);
        if !goes_on {
            return Ok(projects);
        }
        cursor = next;
    }
}

/// One line a project.
pub(crate) fn lines(projects: &[Project]) -> Vec<String> {
    let row = |project: &Project| vec![project.name.clone(), project.id.clone(), project.created_at.clone()];
    table(&projects.iter().map(row).collect::<Vec<_>>())
}

async fn list_all(context: &Context, _args: &ListArgs) -> Result<(), CliError> {
    let projects = list(&context.client(1)?).await?;
    for line in lines(&projects) {
        context.out.line(line)?;
    }
    if projects.is_empty() {
        context.out.note("no projects yet; the first `pinstone deploy` of one makes it");
    }
    context.out.object(&json!({ "items": projects }))
}

async fn create(context: &Context, name: &ProjectName) -> Result<(), CliError> {
    let client = context.client(1)?;
    let made: Result<Project, Failure> = client.post(&["projects"], &json!({ "name": name }), Patience::LONG).await;
    match made {
        Ok(made) => {
            context.out.note(format!("made the project `{}`; `pinstone deploy --project {0}` publishes it", made.name));
            tell(context, &made)
        }
        Err(failure) => Err(taken(&client, failure, name).await),
    }
}

/// The failure as an error, with a free name where this one is taken.
async fn taken(client: &Client, failure: Failure, name: &ProjectName) -> CliError {
    let is_taken = matches!(&*failure.code, "project_taken" | "project_exists" | "name_reserved");
    let error = CliError::from(failure);
    if !is_taken {
        return error;
    }
    let check: Result<NameCheck, Failure> = client.get(&["subdomain", "check"], &[("subdomain", name)]).await;
    match check.ok().and_then(|check| check.suggestion) {
        Some(free) => error.hint(format!("`{free}` is free")),
        None => error.hint("choose another name"),
    }
}

async fn rename(context: &Context, args: &RenameArgs) -> Result<(), CliError> {
    let client = context.client(1)?;
    let change = json!({ "name": args.new });
    let renamed: Result<Project, Failure> = client.patch(&["projects", &args.old], &change, Patience::LONG).await;
    let renamed = match renamed {
        Ok(renamed) => renamed,
        Err(failure) if failure.code == "project_not_found" => return Err(failure.of_project(&args.old)),
        Err(failure) => return Err(taken(&client, failure, &args.new).await),
    };
    context.out.note(format!("`{}` is called `{}` now", args.old, renamed.name));
    let file = ProjectFile::find(std::path::Path::new("."), None)?;
    if file.is_some_and(|file| file.project.name.as_deref() == Some(&*args.old)) {
        context.out.warn(format!("the project file here still says `{}`: change its `name`", args.old));
    }
    tell(context, &renamed)
}

async fn delete(context: &Context, args: &DeleteArgs) -> Result<(), CliError> {
    let name = &args.name;
    if !args.yes {
        if !output::can_ask() {
            let message = format!("deleting the project `{name}` has to be confirmed, and nobody can be asked");
            return Err(CliError::usage(message).hint("say `--yes` to delete it without a question"));
        }
        let question = format!("delete the project `{name}` with all that it shows and has shown?");
        if !output::confirmed(question).await {
            return Err(CliError::failed("not confirmed; nothing was deleted"));
        }
    }
    context.client(1)?.delete(&["projects", name]).await.map_err(|failure| failure.of_project(name))?;
    context.out.note(format!("deleted the project `{name}`"));
    context.out.object(&json!({ "project": name, "deleted": true }))
}

fn tell(context: &Context, project: &Project) -> Result<(), CliError> {
    let mut rows = vec![["name", &*project.name], ["id", &*project.id], ["created", &*project.created_at]];
    rows.extend(project.image_hosts.as_deref().map(|who| ["image hosts", who]));
    for line in table(&rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    context.out.object(project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_both_shapes_and_passed_on_whole() {
        for text in [r#"[{"name":"abc","more":1}]"#, r#"{"items":[{"name":"abc","more":1}],"next_cursor":null}"#] {
            let (Listed::Bare(items) | Listed::Page { items }) = serde_json::from_str(text).unwrap();
            assert_eq!((items.len(), &*items[0].name), (1, "abc"), "{text}");
            assert_eq!(serde_json::to_value(&items[0]).unwrap()["more"], 1, "{text}");
        }
    }
}
