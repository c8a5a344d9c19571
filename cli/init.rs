//! `init`: a `pinstone.toml`, so that `pinstone deploy` needs no arguments here.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use pinstone_engine::name::{EnvironmentName, ProjectName};
use serde_json::json;

use crate::context::{self, Context, ProjectArgs};
use crate::error::{CliError, Exit, plain};
use crate::output;
use crate::project_file::{FILE_NAME, ProjectFile, ProjectTable};
use crate::prompt;

/// Where programs that make sites put them.
const USUAL_FOLDERS: [&str; 7] = ["public", "dist", "build", "out", "_site", "www", "site"];

/// Write a `pinstone.toml` that says what is published from this folder
///
/// On a terminal it asks for what no flag says; without one it takes what is in brackets. A `pinstone.toml` that is there
/// is never overwritten. A `sitepod.toml` gives the answers that it has.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone init                                          asks, and writes pinstone.toml
  pinstone init --yes                                    asks nothing
  pinstone init --project my-site --directory public --env prod
  pinstone init --directory dist --not-found spa         a site that is one page")]
pub(crate) struct Args {
    /// The project [variable: PINSTONE_PROJECT; default: the folder's name]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// The folder to publish [default: the first of public, dist, build, out, _site, www and site that has an
    /// index.html, or this one]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The environment to release to where no flag names one [default: beta]
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// How paths find pages [default: keep]
    #[arg(long, value_name = "HOW",
        value_parser = PossibleValuesParser::new(["keep", "auto", "none", "drop-slash", "force-slash"]))]
    html: Option<String>,
    /// What a miss is answered with: the nearest 404.html, or the index.html of a site that is one page [default:
    /// 404-page]
    #[arg(long, value_name = "WHAT", value_parser = PossibleValuesParser::new(["404-page", "spa"]))]
    not_found: Option<String>,
    /// Files to leave out, in gitignore's syntax; may be given several times
    #[arg(long, value_name = "LINE")]
    ignore: Vec<String>,
    /// Refuse to publish where the server finds something to warn about
    #[arg(long)]
    strict: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let current = Path::new(".");
    if Path::new(FILE_NAME).symlink_metadata().is_ok() {
        return Err(CliError::new(Exit::Conflict, "file_exists", format!("`{FILE_NAME}` is there already"))
            .hint("change it by hand, or remove it first; nothing was written"));
    }
    let other = ProjectFile::find(current, None)?;
    other.iter().flat_map(|file| &file.notes).for_each(|note| context.out.note(note));
    let asks = !args.yes && output::can_ask();
    let table = settle(args, other.map(|file| file.project).unwrap_or_default(), current);
    let table = if asks { ask(table).await? } else { table };
    let (name, environment) = check(&table)?;
    let text = text(&table);
    let mut file = OpenOptions::new().write(true).create_new(true).open(FILE_NAME).map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    let directory = table.directory.as_deref().unwrap_or(current);
    context.out.note(format!(
        "wrote `{FILE_NAME}`: `{}` is published to `{environment}` of `{name}`; `pinstone deploy` does it",
        directory.display()
    ));
    if !directory.is_dir() {
        context.out.note(format!("`{}` is not there yet", directory.display()));
    }
    context.out.line(FILE_NAME)?;
    context.out.object(&json!({
        "file": FILE_NAME, "project": name, "directory": directory, "environment": environment,
    }))
}

fn failed(error: &std::io::Error) -> CliError {
    CliError::failed(format!("cannot write `{FILE_NAME}`: {}", plain(error)))
}

/// What is written where nobody is asked: flags, then what another program's file says, then what is usual.
fn settle(args: Args, other: ProjectTable, current: &Path) -> ProjectTable {
    let here = || context::project_of_folder(current).ok().map(|name| name.to_string());
    ProjectTable {
        name: context::named_project(&ProjectArgs { project: args.project }, None).or(other.name).or_else(here),
        directory: args.directory.or(other.directory).or_else(|| Some(usual_folder(current))),
        environment: args.env.or(other.environment).or_else(|| Some(EnvironmentName::beta().to_string())),
        ignore: other.ignore.into_iter().chain(args.ignore).collect(),
        html: args.html,
        not_found: args.not_found,
        strict: args.strict.then_some(true),
        profile: None,
    }
}

/// Asks for the three answers that differ between sites; each has what would be written as its default.
async fn ask(mut table: ProjectTable) -> Result<ProjectTable, CliError> {
    let folder = table.directory.as_deref().unwrap_or(Path::new(".")).display().to_string();
    table.name = Some(prompt::line("project", table.name.as_deref()).await?);
    table.directory = Some(prompt::line("folder to publish", Some(&folder)).await?.into());
    table.environment = Some(prompt::line("environment", table.environment.as_deref()).await?);
    Ok(table)
}

/// The names in `table`, which a server would take.
fn check(table: &ProjectTable) -> Result<(ProjectName, EnvironmentName), CliError> {
    let Some(name) = &table.name else {
        return Err(CliError::usage("no project is named, and the folder's name does not make one")
            .hint("name the project by `--project NAME`"));
    };
    let name = name.parse().map_err(|error| CliError::usage(format!("`{name}` is no project: {error}")))?;
    Ok((name, context::environment(table.environment.as_deref(), None)?))
}

/// The first usual folder that has a site in it.
fn usual_folder(current: &Path) -> PathBuf {
    let has_site = |name: &&&str| current.join(name).join("index.html").is_file();
    USUAL_FOLDERS.iter().find(has_site).map_or_else(|| ".".into(), PathBuf::from)
}

/// The file's text.
fn text(table: &ProjectTable) -> String {
    let quoted = |value: &str| toml::Value::from(value).to_string();
    let mut lines = vec!["# What `pinstone deploy` publishes from here. Flags and variables go before it.".to_owned()];
    lines.push("[project]".to_owned());
    let directory = table.directory.as_ref().map(|directory| directory.to_string_lossy());
    for (key, value) in [
        ("name", table.name.as_deref()),
        ("directory", directory.as_deref()),
        ("environment", table.environment.as_deref()),
        ("html", table.html.as_deref()),
        ("not_found", table.not_found.as_deref()),
    ] {
        lines.extend(value.map(|value| format!("{key} = {}", quoted(value))));
    }
    if !table.ignore.is_empty() {
        let ignored: Vec<_> = table.ignore.iter().map(|line| quoted(line)).collect();
        lines.push(format!("ignore = [{}]", ignored.join(", ")));
    }
    lines.extend(table.strict.map(|strict| format!("strict = {strict}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn settled(current: &Path, other: ProjectTable, line: &[&str]) -> ProjectTable {
        use clap::Parser;
        settle(Line::parse_from(std::iter::once(&"init").chain(line)).args, other, current)
    }

    #[test]
    fn flags_beat_another_programs_file_beats_what_is_usual() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("My Site");
        std::fs::create_dir_all(site.join("dist")).unwrap();
        let plain = settled(&site, ProjectTable::default(), &[]);
        assert_eq!((plain.name.as_deref(), plain.environment.as_deref()), (Some("my-site"), Some("beta")));
        assert_eq!(plain.directory.as_deref(), Some(Path::new(".")));
        std::fs::write(site.join("dist/index.html"), "x").unwrap();
        assert_eq!(settled(&site, ProjectTable::default(), &[]).directory.as_deref(), Some(Path::new("dist")));
        let other = ProjectTable {
            name: Some("other".to_owned()),
            directory: Some("www".into()),
            ignore: vec!["a".to_owned()],
            ..ProjectTable::default()
        };
        let filed = settled(&site, other.clone(), &["--ignore", "b"]);
        assert_eq!((filed.name.as_deref(), filed.directory.as_deref()), (Some("other"), Some(Path::new("www"))));
        assert_eq!(filed.ignore, ["a", "b"]);
        let flags = settled(&site, other, &["--project", "flag", "--directory", "x", "--env", "prod"]);
        assert_eq!((flags.name.as_deref(), flags.environment.as_deref()), (Some("flag"), Some("prod")));
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let table = ProjectTable {
            name: Some("my-site".to_owned()),
            directory: Some("a \"b\" \\ c".into()),
            environment: Some("stage".to_owned()),
            ignore: vec!["*.map".to_owned(), "#'\"".to_owned()],
            html: Some("auto".to_owned()),
            not_found: Some("spa".to_owned()),
            strict: Some(true),
            profile: None,
        };
        std::fs::write(folder.path().join(FILE_NAME), text(&table)).unwrap();
        assert_eq!(ProjectFile::find(folder.path(), None).unwrap().unwrap().project, table);
    }

    #[test]
    fn what_no_server_would_take_is_not_written() {
        for (name, environment) in [(None, "beta"), (Some("a--b"), "beta"), (Some("docs"), "beta"), (Some("abc"), "NO")]
        {
            let table = ProjectTable {
                name: name.map(str::to_owned),
                environment: Some(environment.to_owned()),
                ..ProjectTable::default()
            };
            assert_eq!(check(&table).unwrap_err().exit, Exit::Usage, "{name:?} {environment}");
        }
    }
}
