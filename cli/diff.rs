//! `diff`: which paths two contents do not have in common. A content is an image, what an environment shows, or a
//! folder, which is read as `deploy` reads it.

use std::collections::BTreeMap;
use std::path::Path;

use pinstone_api::wire::ImageFile;
use pinstone_engine::id::ImageId;
use pinstone_engine::name::EnvironmentName;
use serde_json::json;

use crate::client::{Client, Failure, all_pages};
use crate::context::{self, Context, ProjectArgs};
use crate::error::CliError;
use crate::hashing::hash_all;
use crate::project_file::ProjectFile;
use crate::promote::current;
use crate::upload::blocking;
use crate::walk::{WalkOptions, walk};

/// Show which files differ between two images, environments or folders
///
/// Each side is an image's id, an environment's name, or a folder. A folder whose name could be an environment's is
/// written with a slash: `./public`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone diff prod beta        what a promotion would change
  pinstone diff beta ./public    what a deploy would change")]
pub(crate) struct Args {
    /// The old side
    a: String,
    /// The new side
    b: String,
    #[command(flatten)]
    project: ProjectArgs,
    /// Follow links that leave a folder
    #[arg(long)]
    follow_links: bool,
}

/// One side of a comparison.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Side {
    Image(ImageId),
    Environment(EnvironmentName),
    Folder(String),
}

impl Side {
    fn parse(text: &str) -> Self {
        if let Ok(image) = text.parse() {
            return Self::Image(image);
        }
        match text.parse() {
            Ok(environment) => Self::Environment(environment),
            // Names of environments have neither dots nor slashes, so `.` and `./public` arrive here.
            Err(_) => Self::Folder(text.to_owned()),
        }
    }
}

/// Paths to hashes.
type Content = BTreeMap<String, String>;

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let file = ProjectFile::find(".".as_ref(), None)?;
    let project = context::project(&args.project, file.as_ref());
    let options = WalkOptions {
        follow_links: args.follow_links,
        ignore: file.map(|file| file.project.ignore).unwrap_or_default(),
    };
    let mut contents = Vec::new();
    for typed in [&args.a, &args.b] {
        contents.push(match Side::parse(typed) {
            Side::Folder(folder) => read_folder(folder, options.clone()).await?,
            Side::Image(image) => {
                let read = read_image(&context.client(1)?, &project.clone()?, &image.to_string()).await;
                read.map_err(|failure| failure.of(typed))?
            }
            Side::Environment(environment) => {
                let (client, project) = (context.client(1)?, project.clone()?);
                let shown = current(&client, &project, &environment).await.map_err(|failure| {
                    let missing = failure.code == "environment_not_found";
                    let error = failure.of(typed);
                    let is_folder = missing && Path::new(environment.as_str()).is_dir();
                    if is_folder { error.hint(format!("the folder is written `./{environment}`")) } else { error }
                })?;
                read_image(&client, &project, &shown.image_id).await.map_err(|failure| failure.of(typed))?
            }
        });
    }
    let changes = compare(&contents[0], &contents[1]);
    for (path, change) in &changes {
        context.out.line(format!("{:<7} {path}", change.word()))?;
    }
    let of = |wanted| changes.iter().filter(|(_, change)| *change == wanted).map(|(path, _)| *path).collect::<Vec<_>>();
    let (added, removed, changed) = (of(Change::Added), of(Change::Removed), of(Change::Changed));
    context.out.note(format!("{} added, {} removed, {} changed", added.len(), removed.len(), changed.len()));
    context.out.object(&json!({ "added": added, "removed": removed, "changed": changed }))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    Added,
    Removed,
    Changed,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// What has to happen to `a` for it to become `b`, by path.
fn compare<'a>(a: &'a Content, b: &'a Content) -> Vec<(&'a str, Change)> {
    let mut changes: Vec<_> = a
        .iter()
        .filter_map(|(path, hash)| match b.get(path) {
            None => Some((path.as_str(), Change::Removed)),
            Some(other) => (other != hash).then_some((path.as_str(), Change::Changed)),
        })
        .chain(b.keys().filter(|path| !a.contains_key(*path)).map(|path| (path.as_str(), Change::Added)))
        .collect();
    changes.sort_unstable_by_key(|(path, _)| *path);
    changes
}

async fn read_folder(folder: String, options: WalkOptions) -> Result<Content, CliError> {
    blocking(move || {
        let found = walk(Path::new(&folder), &options)?;
        let hashes = hash_all(&found.files, |_, _| ())?;
        let pair = |(file, hash): (&crate::walk::FoundFile, &pinstone_engine::hash::BlobHash)| {
            (file.path.to_string(), hash.to_string())
        };
        Ok(found.files.iter().zip(&hashes).map(pair).collect())
    })
    .await
}

async fn read_image(client: &Client, project: &str, image: &str) -> Result<Content, Failure> {
    let files: Vec<ImageFile> =
        all_pages(client, &["images", image, "files"], &[("project", project)], usize::MAX).await?;
    Ok(files.into_iter().map(|file| (file.path, file.hash)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let image = format!("img_{}", "ab".repeat(16));
        assert_eq!(Side::parse(&image), Side::Image(image.parse().unwrap()));
        assert_eq!(Side::parse("beta"), Side::Environment(EnvironmentName::beta()));
        for folder in [".", "./beta", "a/b", "/tmp", "Public", "img_1"] {
            assert_eq!(Side::parse(folder), Side::Folder(folder.to_owned()));
        }
    }

    #[test]
    fn changes_are_by_path() {
        let content = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(path, hash)| ((*path).to_owned(), (*hash).to_owned())).collect::<Content>()
        };
        let a = content(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let b = content(&[("a", "1"), ("b", "2"), ("bb", "1")]);
        assert_eq!(compare(&a, &b), [("b", Change::Changed), ("bb", Change::Added), ("c", Change::Removed)]);
        assert!(compare(&a, &a).is_empty());
    }
}
