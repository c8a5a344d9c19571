//! `pinstone.toml`: what a folder says of itself, so that `pinstone deploy` needs no arguments.
//!
//! It is looked for in the current directory, then in the folder that is published. It is never published itself. Where
//! there is none, a `sitepod.toml` takes its place.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{CliError, file_error};
use crate::sitepod;

/// The file's name.
pub(crate) const FILE_NAME: &str = pinstone_engine::ignored::PROJECT_FILE;

/// What a `pinstone.toml` says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ProjectFile {
    /// Where the file is.
    pub(crate) folder: PathBuf,
    /// Its `[project]` table.
    pub(crate) project: ProjectTable,
    /// What its user should know of it.
    pub(crate) notes: Vec<String>,
}

/// The `[project]` table.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectTable {
    /// The project's name.
    pub(crate) name: Option<String>,
    /// The folder to publish, relative to the file.
    pub(crate) directory: Option<PathBuf>,
    /// The environment that is released to where no flag names one.
    pub(crate) environment: Option<String>,
    /// More lines for `.pinstoneignore`.
    #[serde(default)]
    pub(crate) ignore: Vec<String>,
    /// How the rules of the site are meant.
    pub(crate) profile: Option<String>,
    /// How paths find pages: `keep`, `auto`, `none`, `drop-slash` or `force-slash`.
    pub(crate) html: Option<String>,
    /// What a miss is answered with: `404-page` or `spa`.
    pub(crate) not_found: Option<String>,
    /// Whether diagnostics refuse a publish.
    pub(crate) strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    project: ProjectTable,
}

impl ProjectFile {
    /// Reads the project file that counts, if there is one: in `current`, or else in `published`.
    ///
    /// # Errors
    ///
    /// Where the first file found cannot be read or understood.
    pub(crate) fn find(current: &Path, published: Option<&Path>) -> Result<Option<Self>, CliError> {
        type Read = fn(&Path, &str) -> Result<(ProjectTable, Vec<String>), CliError>;
        let own: Read = |path, text| parse(path, text).map(|project| (project, Vec::new()));
        for (name, read) in [(FILE_NAME, own), (sitepod::FILE_NAME, sitepod::parse)] {
            for folder in std::iter::once(current).chain(published) {
                let path = folder.join(name);
                match std::fs::read_to_string(&path) {
                    Ok(text) => {
                        let (project, notes) = read(&path, &text)?;
                        return Ok(Some(Self { folder: folder.into(), project, notes }));
                    }
                    Err(error)
                        if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    }
                    Err(error) => return Err(file_error(&path, &error)),
                }
            }
        }
        Ok(None)
    }
}

/// Says what is wrong with the text of a project file, and where.
pub(crate) fn not_understood(path: &Path, text: &str, error: &toml::de::Error) -> CliError {
    let line = error.span().map_or(String::new(), |span| {
        let before = text.get(..span.start).unwrap_or(text);
        format!(", line {}", before.matches('\n').count() + 1)
    });
    CliError::usage(format!("cannot understand `{}`{line}: {}", path.display(), error.message()))
}

fn parse(path: &Path, text: &str) -> Result<ProjectTable, CliError> {
    let wrong = |error: toml::de::Error| not_understood(path, text, &error);
    let table: toml::Table = text.parse().map_err(wrong)?;
    for rules in ["redirects", "headers"] {
        if table.contains_key(rules) {
            return Err(CliError::usage(format!(
                "`{}` has `[[{rules}]]`, but this version of Pinstone does not apply rules",
                path.display()
            ))
            .hint(format!("remove `[[{rules}]]`; the site would not behave as they say")));
        }
    }
    toml::from_str::<Document>(text).map(|document| document.project).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<ProjectTable, CliError> {
        parse(Path::new(FILE_NAME), text)
    }

    #[test]
    fn a_whole_file() {
        let table = of(r#"
            [project]
            name = "docs"
            directory = "public"
            environment = "prod"
            ignore = ["*.map"]
            profile = "native"
            html = "drop-slash"
            not_found = "spa"
            strict = true
        "#)
        .unwrap();
        assert_eq!((table.html.as_deref(), table.not_found.as_deref()), (Some("drop-slash"), Some("spa")));
        assert_eq!(table.name.as_deref(), Some("docs"));
        assert_eq!(table.directory.as_deref(), Some(Path::new("public")));
        assert_eq!(table.ignore, ["*.map"]);
        assert_eq!(table.strict, Some(true));
        assert_eq!(of("").unwrap(), ProjectTable::default());
    }

    #[test]
    fn what_is_refused_and_where() {
        for (text, part) in [
            ("[project]\nnane = 'x'", "line 2: unknown field `nane`"),
            ("[other]", "unknown field `other`"),
            ("[[redirects]]\nfrom = '/a'", "does not apply rules"),
            ("[[headers]]\n", "does not apply rules"),
            ("[project]\nignore = 'x'", "line 2: invalid type"),
            ("[project", "line 1"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.message.contains(part), "{text:?}: {error}");
            assert_eq!(error.exit, crate::error::Exit::Usage, "{text:?}");
        }
    }

    #[test]
    fn the_current_directory_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        std::fs::create_dir(&site).unwrap();
        assert_eq!(ProjectFile::find(folder.path(), Some(&site)).unwrap(), None);
        std::fs::write(site.join(FILE_NAME), "[project]\nname = 'inner'").unwrap();
        let found = ProjectFile::find(folder.path(), Some(&site)).unwrap().unwrap();
        assert_eq!((found.folder.as_path(), found.project.name.as_deref()), (site.as_path(), Some("inner")));
        std::fs::write(folder.path().join(sitepod::FILE_NAME), "[project]\nname = 'other'").unwrap();
        let found = ProjectFile::find(folder.path(), Some(&site)).unwrap().unwrap();
        assert_eq!(found.project.name.as_deref(), Some("inner"), "any `pinstone.toml` goes before the other file");
        std::fs::write(folder.path().join(FILE_NAME), "[project]\nname = 'outer'").unwrap();
        let found = ProjectFile::find(folder.path(), Some(&site)).unwrap().unwrap();
        assert_eq!((found.folder.as_path(), found.project.name.as_deref()), (folder.path(), Some("outer")));
    }
    #[test]
    fn another_programs_file_counts_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(sitepod::FILE_NAME), "[project]\nname = 'other'").unwrap();
        let found = ProjectFile::find(folder.path(), None).unwrap().unwrap();
        assert_eq!((found.project.name.as_deref(), found.notes.len()), (Some("other"), 1));
    }
}
