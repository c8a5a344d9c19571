//! `diff`: what has to happen to one content for it to become another. A content is an image, what an environment shows
//! or showed, or a folder, which is read as `deploy` reads it.
//!
//! The server compares what it has, and files with what it has; nothing is sent but paths, hashes and sizes, and nothing
//! is recorded. Two folders are compared here, without a server.

use std::path::{Path, PathBuf};

use pinstone_api::wire::{DiffAnswer, DiffItem, DiffRequest, DiffSide, DiffSummary, PlanRequest, SiteSettings};
use pinstone_engine::diff::{Content, File, Summary, Walk};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::Settings;
use pinstone_engine::name::EnvironmentName;

use crate::client::Failure;
use crate::context::{self, Context, ProjectArgs};
use crate::deploy::{plan_files, read_folder, site_settings};
use crate::error::{CliError, Exit};
use crate::hashing::hash_all;
use crate::output::{self, Output};
use crate::progress::Step;
use crate::project_file::ProjectFile;
use crate::retry::Patience;
use crate::upload::blocking;
use crate::walk::{FoundFile, WalkOptions, walk};

mod shown;
mod side;

pub(crate) use shown::Report;
use shown::{Show, ShownSide, Told, differences, sent};
pub(crate) use side::image_called;
use side::{Typed, blame, image};

/// How many one call asks for.
const PAGE: u64 = 10_000;

/// Show what differs between two images, environments or folders
///
/// Prints `+` for what only B has, `-` for what only A has, `~` for what differs. With a folder it also says what a
/// publish would send. Nothing is uploaded and nothing is recorded.
///
/// One folder alone is compared with what an environment shows: what a deploy of it would change. Without an argument
/// that is the folder that `deploy` would publish.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A and B are each one of:
  prod, beta      what an environment shows
  prod#12         what its release 12 showed
  img_0f3c…       an image, by its id or the first digits of it, four or more
  ./public, ..    a folder: whatever has a slash, `.`, `..`, and what can be no
                  environment's name. Any other folder is written `./name`

Examples:
  pinstone diff                  what a deploy of this folder would change
  pinstone diff public --prod    what a deploy of `public` to `prod` would change
  pinstone diff prod beta        what a promotion would change
  pinstone diff prod#11 prod     what happened since release 11
  pinstone diff ./old ./new      two folders, without a server")]
pub(crate) struct Args {
    /// The old side; or alone, the folder that is the new one
    #[arg(value_name = "A")]
    a: Option<String>,
    /// The new side
    #[arg(value_name = "B")]
    b: Option<String>,
    #[command(flatten)]
    project: ProjectArgs,
    /// The environment that one folder is compared with [default: pinstone.toml's, or `beta`]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["prod", "b"])]
    env: Option<String>,
    /// Compare one folder with `prod`
    #[arg(long, conflicts_with = "b")]
    prod: bool,
    /// List all differences, not only the first hundred; --json always does
    #[arg(long)]
    all: bool,
    /// End with 6 where there are differences, as `fsck` does where it finds something
    #[arg(long)]
    exit_code: bool,
    /// Follow links that leave a folder
    #[arg(long)]
    follow_links: bool,
}

/// What is to be compared, all questions settled.
#[derive(Debug)]
struct Job {
    /// Each side with what was typed for it.
    from: (Typed, String),
    to: (Typed, String),
    /// Whether the old side is an environment that nobody typed, which may show nothing yet.
    is_default: bool,
    project_file: Option<ProjectFile>,
    follow_links: bool,
}

fn settle(args: &Args, current: &Path) -> Result<Job, CliError> {
    let follow_links = args.follow_links;
    if let (Some(a), Some(b)) = (&args.a, &args.b) {
        let (from, to) = (Typed::parse(a)?, Typed::parse(b)?);
        let folder = [&from, &to].into_iter().find_map(|side| match side {
            Typed::Folder(folder) => Some(folder.as_path()),
            _ => None,
        });
        let project_file = ProjectFile::find(current, folder)?;
        return Ok(Job { from: (from, a.clone()), to: (to, b.clone()), is_default: false, project_file, follow_links });
    }
    let named = args.a.as_ref().map(PathBuf::from);
    let project_file = ProjectFile::find(current, named.as_deref())?;
    let file = project_file.as_ref();
    let own = file.and_then(|file| Some(file.folder.join(file.project.directory.as_ref()?)));
    let folder = named.or(own).unwrap_or_else(|| current.to_owned());
    if !folder.is_dir() {
        return Err(no_folder(&folder));
    }
    let environment = context::environment(if args.prod { Some("prod") } else { args.env.as_deref() }, file)?;
    Ok(Job {
        from: (Typed::Environment(environment.clone()), environment.to_string()),
        to: (Typed::Folder(folder.clone()), folder.display().to_string()),
        is_default: true,
        project_file,
        follow_links,
    })
}

/// Says that the one argument is no folder, and what may be meant.
fn no_folder(folder: &Path) -> CliError {
    let shown = folder.display();
    let what = if folder.exists() { "is not a folder" } else { "is no folder here" };
    let error = CliError::usage(format!("`{shown}` {what}, and one side alone is always a folder"));
    match folder.to_str().map(Typed::parse) {
        Some(Ok(Typed::Folder(_))) => error.hint("name the folder that holds `index.html`"),
        _ => error.hint(format!("`pinstone diff {shown} .` compares it with this folder")),
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let job = settle(&args, Path::new("."))?;
    let mut show = Show::new(context.out, args.all);
    let told = match (&job.from.0, &job.to.0) {
        (Typed::Folder(from), Typed::Folder(to)) => folders(&job, from, to, &mut show).await?,
        (Typed::Folder(folder), _) | (_, Typed::Folder(folder)) => {
            folder_and_published(context, &args, &job, folder, &mut show).await?
        }
        _ => published(context, &args, &job, &mut show).await?,
    };
    let differences = differences(&told.summary);
    show.end(differences, "`--all` lists them")?;
    let report = Report { told, items: show.items };
    report.note_counts(context.out);
    if !report.told.sends.is_empty() {
        context.out.note(&report.told.sends);
    }
    context.out.object(&report)?;
    if args.exit_code && (differences > 0 || report.told.summary.settings_changed) {
        let what = if differences > 0 { output::count(differences, "path") } else { "the settings".to_owned() };
        return Err(CliError::new(Exit::Found, "differences", format!("the two differ in {what}")));
    }
    Ok(())
}

/// How many differences a dry run asks for; nothing for all.
pub(crate) fn dry_run_limit(out: Output) -> Option<u64> {
    Show::new(out, false).limit()
}

/// Tells what a publish of `folder` to `environment` would change.
pub(crate) fn tell_dry_run(
    out: Output,
    answer: DiffAnswer,
    folder: &Path,
    environment: &EnvironmentName,
) -> Result<Report, CliError> {
    let mut show = Show::new(out, false);
    let (from, to) = (Typed::Environment(environment.clone()), Typed::Folder(folder.into()));
    let told = told_and_shown(answer, &from, &to, &mut show)?;
    show.end(differences(&told.summary), "`--json` and `pinstone diff --all` list them")?;
    if told.from.side.image_id.is_none() {
        out.note(format!("`{environment}` shows nothing yet"));
    }
    let report = Report { told, items: show.items };
    report.note_counts(out);
    Ok(report)
}

/// Shows the differences of `answer`, and keeps the rest of it.
fn told_and_shown(answer: DiffAnswer, from: &Typed, to: &Typed, show: &mut Show) -> Result<Told, CliError> {
    let DiffAnswer { from: old, to: new, summary, missing, missing_bytes, items, .. } = answer;
    for item in items {
        show.add(item)?;
    }
    let (from, to) = (ShownSide::new(old, from), ShownSide::new(new, to));
    Ok(Told { from, to, summary, missing, missing_bytes, sends: String::new() })
}

/// Compares what is published with what is published, page by page.
async fn published(context: &Context, args: &Args, job: &Job, show: &mut Show) -> Result<Told, CliError> {
    let project = context::project(&args.project, job.project_file.as_ref())?;
    let client = context.client(1)?;
    let from = image(&client, &project, &job.from).await?;
    let to = image(&client, &project, &job.to).await?;
    let limit = show.limit().unwrap_or(PAGE).to_string();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("project", &*project), ("from", &*from), ("to", &*to), ("limit", &*limit)];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let answer: Result<DiffAnswer, Failure> = client.get(&["diff"], &query).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(blame(&client, &project, failure, [&job.from, &job.to]).await),
        };
        // The same cursor again would be the same page for ever.
        let next = answer.next_cursor.clone().filter(|next| show.all && Some(next) != cursor.as_ref());
        let new = (answer.summary.new_blobs, answer.summary.new_bytes);
        let mut told = told_and_shown(answer, &job.from.0, &job.to.0, show)?;
        if let Some(next) = next {
            cursor = Some(next);
            continue;
        }
        if new.0 > 0 {
            told.sends = format!("new in `{}`, whatever the names: {}", job.to.1, sent(new.0, new.1));
        }
        return Ok(told);
    }
}

/// Compares a folder with what is published.
async fn folder_and_published(
    context: &Context,
    args: &Args,
    job: &Job,
    folder: &Path,
    show: &mut Show,
) -> Result<Told, CliError> {
    let file = job.project_file.as_ref();
    let project = match context::named_project(&args.project, file) {
        Some(name) => name,
        // As a deploy of the folder would.
        None => context::project_of_folder(folder)?.to_string(),
    };
    let client = context.client(1)?;
    let folder_is_new = matches!(job.to.0, Typed::Folder(_));
    let published = if folder_is_new { &job.from } else { &job.to };
    // What nobody has typed may be missing; what was typed is looked at before a large folder is hashed.
    let with = if job.is_default { published.1.clone() } else { image(&client, &project, published).await? };
    let (found, hashes) = read_folder(folder, &options(job, file), context.out).await.map_err(not_a_deploy)?;
    let request = DiffRequest {
        plan: PlanRequest {
            project: project.clone(),
            files: plan_files(&found.files, &hashes),
            git: None,
            message: None,
            settings: site_settings(file),
        },
        from: folder_is_new.then(|| with.clone()),
        to: (!folder_is_new).then_some(with),
        limit: show.limit(),
        cursor: None,
    };
    let answer: Result<DiffAnswer, Failure> = client.post(&["diff"], &request, Patience::SHORT.for_large()).await;
    let answer = answer.map_err(|failure| failure.of(&published.1))?;
    if job.is_default && answer.from.image_id.is_none() {
        context.out.note(format!("`{}` of `{project}` shows nothing yet", published.1));
    }
    let mut told = told_and_shown(answer, &job.from.0, &job.to.0, show)?;
    let (files, bytes) = (told.missing.unwrap_or(0), told.missing_bytes.unwrap_or(0));
    told.sends = format!("a publish of `{}` would send {}", folder.display(), sent(files, bytes));
    Ok(told)
}

/// Compares two folders. No server is asked.
async fn folders(job: &Job, from: &Path, to: &Path, show: &mut Show) -> Result<Told, CliError> {
    let (out, mut folders) = (show.out, Vec::new());
    for folder in [from, to] {
        let file = ProjectFile::find(Path::new("."), Some(folder))?;
        folders.push(Folder::read(folder, &options(job, file.as_ref()), settings(file.as_ref())?, out).await?);
    }
    let [from, to] = [&folders[0], &folders[1]];
    let summary = Summary::of(from, to);
    let side = |folder: &Folder, total_size: u64, typed: &Typed| {
        let side = DiffSide {
            image_id: None,
            environment: None,
            file_count: folder.files.len() as u64,
            total_size,
            settings: folder.settings.1.clone(),
        };
        ShownSide::new(side, typed)
    };
    let mut walk = Walk::default();
    while let Some((_, pair)) = walk.difference(from, to) {
        show.add(DiffItem::from(&pair))?;
    }
    Ok(Told {
        from: side(from, summary.from_bytes(), &job.from.0),
        to: side(to, summary.to_bytes(), &job.to.0),
        summary: DiffSummary::from(&summary),
        missing: None,
        missing_bytes: None,
        sends: format!(
            "a publish of `{}` would send {} to a server that has `{}`",
            job.to.1,
            sent(summary.new.files, summary.new.bytes),
            job.from.1
        ),
    })
}

fn options(job: &Job, file: Option<&ProjectFile>) -> WalkOptions {
    let ignore = file.map(|file| file.project.ignore.clone()).unwrap_or_default();
    WalkOptions { follow_links: job.follow_links, ignore, everything: false }
}

/// The settings of a folder: as what they are, and as they were written.
fn settings(file: Option<&ProjectFile>) -> Result<(Settings, SiteSettings), CliError> {
    let written = site_settings(file).unwrap_or_default();
    let value = serde_json::to_value(&written).and_then(serde_json::from_value);
    let settings = value.map_err(|error| CliError::usage(format!("a setting of `pinstone.toml` is none: {error}")))?;
    Ok((settings, written))
}

/// The same error about a folder that nobody wanted to publish.
fn not_a_deploy(mut error: CliError) -> CliError {
    if error.code == "folder_changed" {
        error.message = error.message.replace("; nothing was released", "");
        error = error.hint("compare again once nothing writes to the folder");
    }
    error
}

/// A folder that was hashed.
#[derive(Debug)]
struct Folder {
    files: Vec<FoundFile>,
    hashes: Vec<BlobHash>,
    settings: (Settings, SiteSettings),
}

impl Folder {
    async fn read(
        folder: &Path,
        options: &WalkOptions,
        settings: (Settings, SiteSettings),
        out: Output,
    ) -> Result<Self, CliError> {
        let (folder, options) = (folder.to_owned(), options.clone());
        let read = blocking(move || {
            let files = walk(&folder, &options)?.files;
            let step = Step::start(out, "hashing", files.iter().map(|file| file.look.size).sum());
            let hashes = hash_all(&files, |bytes, _| step.advance(bytes))?;
            Ok(Self { files, hashes, settings })
        });
        read.await.map_err(not_a_deploy)
    }
}

impl Content for Folder {
    fn count(&self) -> usize {
        self.files.len()
    }

    fn file(&self, index: usize) -> File<'_> {
        let file = &self.files[index];
        File {
            path: &file.path,
            blob: self.hashes[index],
            size: Some(file.look.size),
            content_type: None, // the server decides
            hidden: None,
        }
    }

    fn settings(&self) -> Settings {
        self.settings.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn job(current: &Path, line: &[&str]) -> Result<Job, CliError> {
        use clap::Parser;
        settle(&Line::parse_from(std::iter::once(&"diff").chain(line)).args, current)
    }

    #[test]
    fn one_folder_alone_is_compared_with_an_environment() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("beta");
        std::fs::create_dir(&site).unwrap();
        let site_text = site.to_str().unwrap();
        let environment = |job: &Job| job.from.1.clone();

        let plain = job(folder.path(), &[]).unwrap();
        assert_eq!((environment(&plain).as_str(), &plain.to.0), ("beta", &Typed::Folder(folder.path().into())));
        assert!(plain.is_default);
        let named = job(folder.path(), &[site_text, "--env", "stage"]).unwrap();
        assert_eq!((environment(&named).as_str(), &named.to.0), ("stage", &Typed::Folder(site.clone())));
        assert_eq!(environment(&job(folder.path(), &[site_text, "--prod"]).unwrap()), "prod");

        std::fs::write(
            folder.path().join("pinstone.toml"),
            "[project]\ndirectory='beta'\nenvironment='next'\nignore=['x']\nhtml='keep'",
        )
        .unwrap();
        let filed = job(folder.path(), &[]).unwrap();
        assert_eq!((environment(&filed).as_str(), &filed.to.0), ("next", &Typed::Folder(site.clone())));
        assert_eq!(options(&filed, filed.project_file.as_ref()).ignore, ["x"]);
        let (is, written) = settings(filed.project_file.as_ref()).unwrap();
        assert_eq!((is, written.html.as_deref()), (Settings::default(), Some("keep")));

        for wrong in ["prod", "nowhere/at/all", "img_abcd"] {
            let error = job(folder.path(), &[wrong]).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{error}");
            let is_side = error.hint.as_deref().unwrap().contains("pinstone diff");
            assert_eq!(is_side, !wrong.contains('/'), "{wrong}: {:?}", error.hint);
        }
        assert!(!job(folder.path(), &["prod", site_text]).unwrap().is_default);
    }
}
