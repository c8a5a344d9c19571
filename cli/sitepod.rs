//! `sitepod.toml`: the project file of another program, read where there is no `pinstone.toml`, so that a folder that was
//! published by it is published as it is.
//!
//! Of what it says, the project's name, the folder and the ignored files mean something here; the rest is named once.

use std::path::{Path, PathBuf};

use pinstone_engine::name::ProjectName;
use serde::Deserialize;

use crate::context::sanitized;
use crate::error::CliError;
use crate::project_file::{ProjectTable, not_understood};

/// The file's name.
pub(crate) const FILE_NAME: &str = "sitepod.toml";

/// What is left out where the file has a table `deploy` that does not say, besides names with a dot in front and
/// `node_modules`, which are left out anyway.
const DEFAULT_IGNORE: &str = "**/*.map";

/// The keys that mean something here.
const READ: [(&str, &str); 3] = [("project", "name"), ("build", "directory"), ("deploy", "ignore")];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    project: Project,
    build: Build,
    deploy: Option<Deploy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Project {
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Build {
    directory: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Deploy {
    ignore: Option<Vec<String>>,
}

/// Reads the text of a `sitepod.toml`: what it says, as a `pinstone.toml` would, and what its user should know of it.
///
/// # Errors
///
/// Where it is no TOML, or a key that counts is of another type.
pub(crate) fn parse(path: &Path, text: &str) -> Result<(ProjectTable, Vec<String>), CliError> {
    let wrong = |error: toml::de::Error| not_understood(path, text, &error);
    let table: toml::Table = text.parse().map_err(wrong)?;
    let document: Document = toml::from_str(text).map_err(wrong)?;
    let mut notes = vec![format!(
        "`{}` is read, for there is no `pinstone.toml`",
        path.strip_prefix(".").unwrap_or(path).display()
    )];
    let ignored = ignored(&table);
    if !ignored.is_empty() {
        notes.push(format!("what it says of {} is ignored", ignored.join(", ")));
    }
    let name = document.project.name.as_deref().and_then(|name| {
        let (name, note) = project_name(name);
        notes.extend(note);
        name
    });
    let patterns = match &document.deploy {
        None => Vec::new(),
        Some(deploy) => deploy.ignore.clone().unwrap_or_else(|| vec![DEFAULT_IGNORE.to_owned()]),
    };
    let mut ignore: Vec<String> = patterns.iter().filter_map(|pattern| line(pattern)).collect();
    // The other program publishes its own file with the rest; nobody wants to visit it.
    ignore.push(format!("/{FILE_NAME}"));
    let table = ProjectTable { name, directory: document.build.directory, ignore, ..ProjectTable::default() };
    Ok((table, notes))
}

/// The keys that mean nothing here.
fn ignored(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in table {
        match value.as_table() {
            Some(inner) => {
                let unread = inner.keys().filter(|key| !READ.contains(&(name, key)));
                found.extend(unread.map(|key| format!("`{name}.{key}`")));
            }
            None => found.push(format!("`{name}`")),
        }
    }
    found
}

/// The project that `name` stands for, and what to say where that is another name.
fn project_name(name: &str) -> (Option<String>, Option<String>) {
    if name.parse::<ProjectName>().is_ok() {
        return (Some(name.to_owned()), None);
    }
    match sanitized(name).parse::<ProjectName>() {
        Ok(made) => (Some(made.to_string()), Some(format!("the project is called `{made}` here, and not `{name}`"))),
        Err(error) => (None, Some(format!("`{name}` is no project here: {error}; `--project` names one"))),
    }
}

/// A pattern over whole paths, in which `*` also stands for slashes, as a line in gitignore's syntax that leaves out the
/// same files; nothing where those are left out anyway.
fn line(pattern: &str) -> Option<String> {
    // Names with a dot in front are left out by both, but `.well-known`, which this would take with it.
    if matches!(pattern, "" | ".*" | "**/.*") {
        return None;
    }
    let escape = if pattern.starts_with(['!', '#']) { "\\" } else { "" };
    Some(match pattern.split_once('/') {
        None if pattern.starts_with('*') => pattern.to_owned(),
        None if escape.is_empty() => format!("/{pattern}"),
        None => format!("{escape}{pattern}"),
        Some(_) => {
            // `a/*.txt` also means `a/b/c.txt`.
            let parts: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
            let spread = |(number, part): (usize, &&str)| {
                let before = number.checked_sub(1).map(|before| parts[before]);
                let spreads = part.starts_with('*') && part.len() > 1 && *part != "**";
                if spreads && before.is_some_and(|before| before != "**") {
                    format!("**/{part}")
                } else {
                    (*part).to_owned()
                }
            };
            format!("/{}", parts.iter().enumerate().map(spread).collect::<Vec<_>>().join("/"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (ProjectTable, Vec<String>) {
        parse(Path::new(FILE_NAME), text).unwrap()
    }

    #[test]
    fn a_file_as_it_is_written_by_the_other_program() {
        let (table, notes) = of("[project]\nname = 'conf'\nsubdomain = 'conf'\nrouting_mode = 'subdomain'\n\
             [build]\ndirectory = './dist'\n\
             [deploy]\nignore = ['**/*.map', '.*', 'node_modules/**']\nconcurrent = 20\n\
             [deploy.routing]\ndomain = 'a.test'\n");
        assert_eq!((table.name.as_deref(), table.directory.as_deref()), (Some("conf"), Some(Path::new("./dist"))));
        assert_eq!(table.ignore, ["/**/*.map", "/node_modules/**", "/sitepod.toml"]);
        assert_eq!((table.environment, table.not_found), (None, None));
        assert_eq!(notes.len(), 2, "{notes:?}");
        for key in ["`project.subdomain`", "`project.routing_mode`", "`deploy.concurrent`", "`deploy.routing`"] {
            assert!(notes[1].contains(key), "{key}: {notes:?}");
        }
    }

    #[test]
    fn what_is_left_out_depends_on_the_table() {
        for (text, want) in [
            ("[project]\nname='abc'", &["/sitepod.toml"][..]),
            ("[deploy]", &["/**/*.map", "/sitepod.toml"]),
            ("[deploy]\nignore = []", &["/sitepod.toml"]),
        ] {
            assert_eq!(of(text).0.ignore, want, "{text}");
        }
        let wrong = parse(Path::new(FILE_NAME), "[deploy]\nignore = 'x'").unwrap_err();
        assert!(wrong.message.contains("`sitepod.toml`, line 2"), "{wrong}");
    }

    #[test]
    fn patterns_over_paths_become_lines() {
        for (pattern, want) in [
            ("*.map", Some("*.map")),
            ("**/*.map", Some("/**/*.map")),
            ("drafts/**", Some("/drafts/**")),
            ("drafts/*", Some("/drafts/*")),
            ("drafts/*.txt", Some("/drafts/**/*.txt")),
            ("draft*", Some("/draft*")),
            ("notes.txt", Some("/notes.txt")),
            ("!a", Some("\\!a")),
            (".*", None),
            ("", None),
        ] {
            assert_eq!(line(pattern).as_deref(), want, "{pattern}");
        }
    }

    #[test]
    fn names_that_are_none_here_are_told() {
        for (name, want, told) in [
            ("conf", Some("conf"), false),
            ("My Site", Some("my-site"), true),
            ("docs", None, true), // reserved
            ("x", None, true),
        ] {
            let (made, note) = project_name(name);
            assert_eq!((made.as_deref(), note.is_some()), (want, told), "{name}");
        }
    }
}
