//! What every command that talks to a server needs: the flags that all have, the project file, and a client.

use std::cell::OnceCell;
use std::io::Read;
use std::path::Path;

use pinstone_engine::name::{EnvironmentName, ProjectName};

use crate::client::Client;
use crate::endpoint::{self, Endpoint, Wanted};
use crate::error::CliError;
use crate::output::Output;
use crate::project_file::ProjectFile;

/// The flags that every command has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print one JSON object instead of text; errors too, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no notes and no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// The server's URL [variable: PINSTONE_ENDPOINT; default: that of the last login, the server running on
    /// ./pinstone-data, or http://localhost:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The token to show [variable: PINSTONE_TOKEN; default: that of the login at this server, or for one on this
    /// machine ./pinstone-data/owner.token]
    #[arg(long, global = true, value_name = "TOKEN", conflicts_with = "token_stdin")]
    pub(crate) token: Option<String>,
    /// Read the token from standard input, so that no process list shows it
    #[arg(long, global = true)]
    pub(crate) token_stdin: bool,
}

/// Which project is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct ProjectArgs {
    /// The project [variable: PINSTONE_PROJECT; default: pinstone.toml's, or the folder's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
}

/// Which environment of it is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct EnvironmentArgs {
    /// The environment [default: pinstone.toml's, or `beta`]
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
}

/// What a command runs with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) out: Output,
    global: Global,
    /// Standard input can be read once, and a command may need several clients.
    from_stdin: OnceCell<String>,
}

impl Context {
    /// Takes over the flags.
    pub(crate) fn new(global: Global) -> Self {
        Self { out: Output { json: global.json, quiet: global.quiet }, global, from_stdin: OnceCell::new() }
    }

    /// A client for the endpoint that is meant, with up to `connections` connections.
    pub(crate) fn client(&self, connections: usize) -> Result<Client, CliError> {
        Client::new(&self.endpoint()?, connections)
    }

    /// The endpoint that is meant, with the token to show it.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, CliError> {
        let token = if self.global.token_stdin { Some(self.token_of_stdin()?) } else { self.global.token.as_deref() };
        endpoint::find(&Wanted { endpoint: self.global.endpoint.as_deref(), token }, variable)
    }

    /// Whether the token is read from standard input, so that nothing else can be.
    pub(crate) fn takes_stdin(&self) -> bool {
        self.global.token_stdin
    }

    fn token_of_stdin(&self) -> Result<&str, CliError> {
        if let Some(token) = self.from_stdin.get() {
            return Ok(token);
        }
        // One line is enough for a token; a bound keeps a wrong pipe from filling the memory.
        let mut text = String::new();
        std::io::stdin()
            .take(4096)
            .read_to_string(&mut text)
            .map_err(|_| CliError::usage("cannot read the token from standard input"))?;
        Ok(self.from_stdin.get_or_init(|| text.lines().next().unwrap_or_default().trim().to_owned()))
    }
}

/// The variable `name` of the environment, where it is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The project that a command in the current folder is about, and that folder's project file, if it has one.
///
/// # Errors
///
/// Where the file cannot be read, or nothing names a project.
pub(crate) fn project_here(args: &ProjectArgs) -> Result<(String, Option<ProjectFile>), CliError> {
    let file = ProjectFile::find(Path::new("."), None)?;
    Ok((project(args, file.as_ref())?, file))
}

/// The project that is meant by a command that publishes nothing: flag, variable, project file here, folder's name.
pub(crate) fn project(args: &ProjectArgs, file: Option<&ProjectFile>) -> Result<String, CliError> {
    match named_project(args, file) {
        // A project can also be named by its id, so the server is who knows.
        Some(name) => Ok(name),
        None => project_of_folder(Path::new(".")).map(|name| name.to_string()),
    }
}

/// The project that something names: flag, variable or project file.
pub(crate) fn named_project(args: &ProjectArgs, file: Option<&ProjectFile>) -> Option<String> {
    args.project
        .clone()
        .or_else(|| variable("PINSTONE_PROJECT"))
        .or_else(|| file.and_then(|file| file.project.name.clone()))
}

/// The project that a folder's own name stands for.
pub(crate) fn project_of_folder(folder: &Path) -> Result<ProjectName, CliError> {
    let name = std::fs::canonicalize(folder)
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_default();
    sanitized(&name).parse().map_err(|error| {
        CliError::usage(format!("no project is named, and the folder's name `{name}` does not make one: {error}"))
            .hint("name the project by `--project NAME`, or in `pinstone.toml`")
    })
}

/// The environment that is meant: flag, project file, `beta`.
pub(crate) fn environment(flag: Option<&str>, file: Option<&ProjectFile>) -> Result<EnvironmentName, CliError> {
    match flag.or_else(|| file.and_then(|file| file.project.environment.as_deref())) {
        Some(name) => parse_environment(name),
        None => Ok(EnvironmentName::beta()),
    }
}

/// `name` as an environment's.
pub(crate) fn parse_environment(name: &str) -> Result<EnvironmentName, CliError> {
    name.parse().map_err(|error| CliError::usage(format!("`{name}` is no environment: {error}")))
}

/// `Meine Seite!` as `meine-seite`: what is left of a folder's name in a project's alphabet, and of its length.
pub(crate) fn sanitized(name: &str) -> String {
    let mut text = in_alphabet(name);
    text.truncate(40);
    text.trim_end_matches('-').to_owned()
}

/// `Feature/Foo` as `feature-foo`: what is left of a name in the alphabet of projects and environments.
pub(crate) fn in_alphabet(name: &str) -> String {
    let mut text = String::new();
    for letter in name.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => text.push(letter),
            _ if text.is_empty() || text.ends_with('-') => {}
            _ => text.push('-'),
        }
    }
    text.truncate(text.trim_end_matches('-').len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_become_project_names() {
        let long = "x".repeat(50);
        for (name, want) in [
            ("site", "site"),
            ("My Site (2)", "my-site-2"),
            ("__a__b__", "a-b"),
            ("...", ""),
            ("Büro", "b-ro"),
            (long.as_str(), &long[..40]),
        ] {
            assert_eq!(sanitized(name), want, "{name}");
        }
    }

    #[test]
    fn flags_beat_the_project_file() {
        let mut file = ProjectFile::default();
        assert_eq!(environment(None, None).unwrap().as_str(), "beta");
        file.project.environment = Some("stage".to_owned());
        file.project.name = Some("filed".to_owned());
        assert_eq!(environment(None, Some(&file)).unwrap().as_str(), "stage");
        assert_eq!(environment(Some("prod"), Some(&file)).unwrap().as_str(), "prod");
        assert!(environment(Some("NO"), Some(&file)).is_err());
        let flag = ProjectArgs { project: Some("flagged".to_owned()) };
        assert_eq!(project(&flag, Some(&file)).unwrap(), "flagged");
        assert_eq!(project(&ProjectArgs { project: None }, Some(&file)).unwrap(), "filed");
    }
}
