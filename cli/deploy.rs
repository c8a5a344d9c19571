//! `deploy`: a folder becomes what an environment shows.
//!
//! Walk, hash, plan, upload what is missing, look at the folder once more, commit, release. Whatever fails before the
//! release leaves the environment as it was. A plan that is over, or a connection that was lost for long, is answered
//! by planning again: what arrived before is not sent twice. An archive is unpacked first, and then a folder as any.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pinstone_api::wire::{
    CommitAnswer, CommitRequest, DiffAnswer, DiffRequest, Git, PlanAnswer, PlanFile, PlanFiles, PlanRequest,
    ReleaseAnswer, ReleaseRequest, SiteSettings,
};
use pinstone_engine::archive::ListOptions;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::name::{EnvironmentName, ProjectName};

use crate::archive;
use crate::client::{Client, Failure};
use crate::context::{self, Context, ProjectArgs};
use crate::diff;
use crate::error::CliError;
use crate::hashing::hash_all;
use crate::output::{self, Output};
use crate::preview::Wanted;
use crate::progress::Step;
use crate::project_file::ProjectFile;
use crate::retry::Patience;
use crate::upload::{UploadFailure, blocking, upload_all};
use crate::walk::{Found, FoundFile, WalkOptions, walk};

mod report;

use report::{Report, add_warnings, count_plan, own_warnings, refused, tell};

/// How often a publish is planned in all.
const ROUNDS: u32 = 4;

/// Publish a folder or an archive and release it to an environment
///
/// Sends only what the server does not have, and prints the URL. Names that start with a dot (but `.well-known`),
/// `node_modules` and `pinstone-data` are left out, and whatever `.pinstoneignore` names; `!name` there takes a name back
/// in, but never a server's data folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone deploy                            publish the current folder to `beta`
  pinstone deploy public --project my-site   publish `public` as the project `my-site`
  pinstone deploy --prod -m 'new prices'     release to `prod`, and say why
  pinstone deploy site.tar.gz                publish what is packed in it as the project `site`
  tar -cz -C public . | pinstone deploy - --project my-site
  pinstone deploy --dry-run                  show what would change and be sent")]
pub(crate) struct Args {
    /// The folder to publish, or a tar, tar.gz, tar.zst or zip of one, or `-` for such an archive on standard input
    /// [default: pinstone.toml's `directory`, or the current folder]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// The environment to release to [default: pinstone.toml's, or `beta`]
    #[arg(long, value_name = "NAME", conflicts_with = "prod")]
    pub(crate) env: Option<String>,
    /// Release to `prod`; asks first on a terminal, and goes on without a question where there is none
    #[arg(long)]
    pub(crate) prod: bool,
    /// Why it is published
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Show what would change and what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse to publish where the server finds something to warn about
    #[arg(long)]
    pub(crate) strict: bool,
    /// Follow links that leave the folder
    #[arg(long)]
    pub(crate) follow_links: bool,
    /// Take N folders away from the start of each name in an archive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=512))]
    pub(crate) strip_components: Option<u16>,
    /// How many uploads run at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,
    /// Do not ask before releasing to `prod`
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// What is to be done, all questions settled.
#[derive(Debug)]
pub(crate) struct Job {
    folder: PathBuf,
    /// What is unpacked to be that folder.
    archive: Option<archive::Source>,
    strip: usize,
    project: ProjectName,
    pub(crate) environment: EnvironmentName,
    /// Where this is to be a preview, and not a release to `environment`.
    pub(crate) preview: Option<Wanted>,
    message: Option<String>,
    settings: Option<SiteSettings>,
    strict: bool,
    dry_run: bool,
    connections: usize,
    walk: WalkOptions,
    /// What is worth knowing of the project file.
    notes: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let yes = args.yes;
    let mut job = settle(args, Path::new("."))?;
    if job.environment.is_prod() && !job.dry_run && !yes && output::can_ask() {
        let question = format!("release `{}` to `prod`?", job.project);
        if !output::confirmed(question).await {
            return Err(CliError::failed("not confirmed; nothing was sent"));
        }
    }
    publish(context, &mut job).await
}

/// Publishes a folder, and tells what came of it.
pub(crate) async fn publish(context: &Context, job: &mut Job) -> Result<(), CliError> {
    if job.archive == Some(archive::Source::Stdin) && context.takes_stdin() {
        return Err(CliError::usage("the archive and the token cannot both come from standard input")
            .hint("give the token by `PINSTONE_TOKEN`"));
    }
    let started = Instant::now();
    let out = context.out;
    job.notes.iter().for_each(|note| out.note(note));
    let client = context.client(job.connections)?;
    let unpacked = unpack(&client, job, out).await?;
    let (found, hashes) = read_folder(&job.folder, &job.walk, out).await?;
    let git = if job.archive.is_some() { None } else { git_facts(&job.folder).await? };
    let mut report = Report {
        project: job.project.to_string(),
        environment: job.preview.as_ref().map_or_else(|| job.environment.to_string(), Wanted::name),
        archive: job.archive.as_ref().map(archive::Source::argument),
        format: unpacked.as_ref().map(|unpacked| unpacked.format.as_str()),
        files: found.files.len() as u64,
        total_size: found.files.iter().map(|file| file.look.size).sum(),
        ignored: found.ignored + unpacked.as_ref().map_or(0, |unpacked| unpacked.ignored),
        links_followed: found.links_followed + unpacked.as_ref().map_or(0, |unpacked| unpacked.links_followed),
        warnings: own_warnings(&found.files),
        dry_run: job.dry_run,
        ..Report::default()
    };
    out.note(format!(
        "{}: {} ({}), {} ignored, {} followed",
        job.archive.as_ref().map_or_else(|| format!("`{}`", job.folder.display()), archive::Source::shown),
        output::count(report.files, "file"),
        output::bytes(report.total_size),
        report.ignored,
        output::count(report.links_followed, "link"),
    ));
    let publish = Publish { client: &client, job, found: &found, hashes: &hashes, git, out };
    if job.dry_run {
        publish.dry_run(&mut report).await?;
    } else {
        if job.strict && !report.warnings.is_empty() {
            return Err(refused(out, &report.warnings));
        }
        publish.publish(&mut report).await?;
    }
    report.requests = client.requests();
    report.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    tell(out, &report)
}

/// Unpacks the archive that is to be published, if it is one. The folder lasts as long as what is answered.
async fn unpack(client: &Client, job: &mut Job, out: Output) -> Result<Option<archive::Unpacked>, CliError> {
    let Some(source) = &job.archive else { return Ok(None) };
    out.note(format!("reading {}", source.shown()));
    // What is ignored is decided while the archive is read, so all that is unpacked is published.
    let options = ListOptions { strip: job.strip, ignore: std::mem::take(&mut job.walk.ignore) };
    let unpacked = archive::unpack(client, source, options, out).await?;
    job.folder = unpacked.folder().to_owned();
    job.walk.everything = true;
    Ok(Some(unpacked))
}

pub(crate) fn settle(args: Args, current: &Path) -> Result<Job, CliError> {
    let file = ProjectFile::find(current, args.dir.as_deref())?;
    let file = file.as_ref();
    let table = file.map(|file| file.project.clone()).unwrap_or_default();
    let named = file.zip(table.directory.as_ref()).map(|(file, directory)| file.folder.join(directory));
    let archive = archive::Source::of(args.dir.as_deref());
    if args.strip_components.is_some() && archive.is_none() {
        return Err(CliError::usage("`--strip-components` is about names in an archive, and a folder is published")
            .hint("name the folder within the folder"));
    }
    let folder = args.dir.or(named).unwrap_or_else(|| current.to_owned());
    if archive.is_none() && !folder.is_dir() {
        let what = if folder.exists() { "is not a folder" } else { "does not exist" };
        return Err(
            CliError::usage(format!("`{}` {what}", folder.display())).hint("name the folder that holds `index.html`")
        );
    }
    let project = match context::named_project(&args.project, file) {
        Some(name) => name.parse().map_err(|error| CliError::usage(format!("`{name}` is no project: {error}")))?,
        None => match &archive {
            Some(archive) => archive.project()?,
            None => context::project_of_folder(&folder)?,
        },
    };
    let environment = if args.prod { Some("prod") } else { args.env.as_deref() };
    Ok(Job {
        folder,
        archive,
        strip: args.strip_components.map_or(0, usize::from),
        project,
        environment: context::environment(environment, file)?,
        preview: None,
        message: args.message,
        settings: site_settings(file),
        strict: args.strict || table.strict.unwrap_or(false),
        dry_run: args.dry_run,
        connections: usize::from(args.concurrency),
        walk: WalkOptions { follow_links: args.follow_links, ignore: table.ignore, everything: false },
        notes: file.map(|file| file.notes.clone()).unwrap_or_default(),
    })
}

/// The settings that a project file has, where it has any.
pub(crate) fn site_settings(file: Option<&ProjectFile>) -> Option<SiteSettings> {
    let table = &file?.project;
    let settings =
        SiteSettings { html: table.html.clone(), not_found: table.not_found.clone(), profile: table.profile.clone() };
    Some(settings).filter(|settings| *settings != SiteSettings::default())
}

/// The files of a plan.
pub(crate) fn plan_files(files: &[FoundFile], hashes: &[BlobHash]) -> PlanFiles {
    let file = |(file, hash): (&FoundFile, &BlobHash)| PlanFile {
        path: file.path.to_string(),
        blake3: hash.to_string(),
        sha256: None,
        size: file.look.size,
        content_type: None, // the server knows better than a name's ending
    };
    PlanFiles::List(files.iter().zip(hashes).map(file).collect())
}

async fn git_facts(folder: &Path) -> Result<Option<Git>, CliError> {
    let folder = folder.to_owned();
    blocking(move || Ok(crate::git::facts(&folder))).await
}

/// Finds the files of a folder, at least one, and hashes them.
pub(crate) async fn read_folder(
    folder: &Path,
    options: &WalkOptions,
    out: Output,
) -> Result<(Found, Vec<BlobHash>), CliError> {
    let (folder, options) = (folder.to_owned(), options.clone());
    blocking(move || {
        let found = walk(&folder, &options)?;
        if found.files.is_empty() {
            let message = format!("`{}` has no files to publish", folder.display());
            let hint = match found.ignored {
                0 => "name the folder that holds `index.html`".to_owned(),
                ignored => format!("{ignored} names in it are ignored; `.pinstoneignore` can take them back in"),
            };
            return Err(CliError::failed(message).hint(hint));
        }
        let step = Step::start(out, "hashing", found.files.iter().map(|file| file.look.size).sum());
        let hashes = hash_all(&found.files, |bytes, _| step.advance(bytes))?;
        Ok((found, hashes))
    })
    .await
}

/// One publish, from the first plan to the release.
struct Publish<'a> {
    client: &'a Client,
    job: &'a Job,
    found: &'a Found,
    hashes: &'a [BlobHash],
    git: Option<Git>,
    out: Output,
}

impl Publish<'_> {
    fn plan_request(&self) -> PlanRequest {
        PlanRequest {
            project: self.job.project.to_string(),
            files: plan_files(&self.found.files, self.hashes),
            git: self.git.clone(),
            message: self.job.message.clone(),
            settings: self.job.settings.clone(),
        }
    }

    async fn plan(&self, patience: Patience) -> Result<PlanAnswer, Failure> {
        self.client.post(&["plan"], &self.plan_request(), patience.for_large()).await
    }

    /// Asks what a publish would change and send. No plan is made, so the server keeps nothing of it.
    async fn dry_run(&self, report: &mut Report) -> Result<(), CliError> {
        let request = DiffRequest {
            plan: self.plan_request(),
            from: Some(self.job.environment.to_string()),
            to: None,
            limit: diff::dry_run_limit(self.out),
            cursor: None,
        };
        let answer: DiffAnswer = self.client.post(&["diff"], &request, Patience::SHORT.for_large()).await?;
        report.new = answer.missing.unwrap_or(0);
        report.reused = report.files.saturating_sub(report.new);
        report.missing_bytes = answer.missing_bytes.unwrap_or(0);
        // As it was typed: where an archive is unpacked is gone when that is read.
        let archive = self.job.archive.as_ref().map(|archive| PathBuf::from(archive.argument()));
        let shown = archive.as_ref().unwrap_or(&self.job.folder);
        report.diff = Some(diff::tell_dry_run(self.out, answer, shown, &self.job.environment)?);
        Ok(())
    }

    async fn publish(&self, report: &mut Report) -> Result<(), CliError> {
        let commit = self.commit_in_rounds(report).await?;
        add_warnings(&mut report.warnings, commit.diagnostics);
        if let Some(wanted) = &self.job.preview {
            let preview =
                wanted.post(self.client, &self.job.project, commit.image_id, self.job.message.clone()).await?;
            report.environment.clone_from(&preview.slug);
            report.image_id = Some(preview.image_id);
            report.url = Some(preview.url);
            report.slug = Some(preview.slug);
            report.expires_at = Some(preview.expires_at);
            report.number = Some(preview.number);
            report.changed = Some(true);
            return Ok(());
        }
        let request = ReleaseRequest {
            project: Some(self.job.project.to_string()),
            environment: Some(self.job.environment.to_string()),
            image_id: Some(commit.image_id),
            message: self.job.message.clone(),
            ..ReleaseRequest::default()
        };
        let release: ReleaseAnswer = self.client.post(&["release"], &request, Patience::LONG).await?;
        report.image_id = Some(release.image_id);
        report.url = Some(release.url);
        report.number = Some(release.number);
        report.changed = Some(release.changed);
        Ok(())
    }

    async fn commit_in_rounds(&self, report: &mut Report) -> Result<CommitAnswer, CliError> {
        let mut round = 1;
        loop {
            let patience = if round == 1 { Patience::SHORT } else { Patience::LONG };
            let plan = self.plan(patience).await.map_err(|failure| self.explained(failure, round))?;
            if round == 1 {
                count_plan(report, &plan);
            }
            let failure = match self.upload_and_commit(&plan, report).await {
                Ok(commit) => return Ok(commit),
                Err(UploadFailure::Folder(error)) => return Err(error),
                Err(UploadFailure::Server(failure)) => failure,
            };
            if round == ROUNDS || !helps_to_plan_again(&failure) {
                return Err(self.explained(failure, round + 1));
            }
            round += 1;
            self.out.note(format!("{}; planning again", CliError::from(failure)));
        }
    }

    /// The failure as an error that says which file it is about, and what there is after it.
    fn explained(&self, failure: Failure, round: u32) -> CliError {
        let was_away = failure.is_unavailable();
        let mut error = CliError::from(failure);
        if error.code == "file_too_large"
            && let Some(largest) = self.found.files.iter().max_by_key(|file| file.look.size)
        {
            let size = output::bytes(largest.look.size);
            error.message = format!("{}; the largest is `{}` ({size})", error.message, largest.path);
        }
        if round > 1 && was_away {
            error.message = format!("{}; nothing was released", error.message);
            error = error.hint("deploy again once the server is there; what arrived is not sent twice");
        }
        error
    }

    async fn upload_and_commit(&self, plan: &PlanAnswer, report: &mut Report) -> Result<CommitAnswer, UploadFailure> {
        let by_hash: HashMap<BlobHash, &FoundFile> = self.hashes.iter().copied().zip(&self.found.files).collect();
        let missing = plan.missing.iter().map(|blob| {
            let hash: BlobHash = blob.hash.parse().ok()?;
            by_hash.get(&hash).map(|file| (*file, hash))
        });
        let Some(missing) = missing.collect::<Option<Vec<_>>>() else {
            let error = CliError::failed("the server asks for a file that was not planned");
            return Err(UploadFailure::Folder(error.hint("check that server and client have the same version")));
        };
        if !missing.is_empty() {
            let bytes = missing.iter().map(|(file, _)| file.look.size).sum();
            let what = output::count(missing.len() as u64, "file");
            self.out.note(format!("uploading {what} ({})", output::bytes(bytes)));
            let step = Arc::new(Step::start(self.out, "uploading", bytes));
            let before = self.client.sent();
            let uploaded = upload_all(self.client, plan, &missing, self.job.connections, &step).await;
            report.sent_bytes += self.client.sent() - before;
            uploaded?;
        }
        self.check_folder().await.map_err(UploadFailure::Folder)?;
        let request = CommitRequest {
            plan_id: plan.plan_id.clone(),
            message: self.job.message.clone(),
            strict: Some(self.job.strict),
        };
        self.client.post(&["commit"], &request, Patience::LONG.for_large()).await.map_err(UploadFailure::Server)
    }

    /// Walks once more: only a folder that is as it was when it was hashed is committed.
    async fn check_folder(&self) -> Result<(), CliError> {
        let (folder, options) = (self.job.folder.clone(), self.job.walk.clone());
        let now = blocking(move || walk(&folder, &options)).await?;
        match first_change(&self.found.files, &now.files) {
            Some(path) => Err(CliError::folder_changed(path)),
            None => Ok(()),
        }
    }
}

/// The first path at which two walks of one folder differ.
fn first_change<'a>(before: &'a [FoundFile], now: &'a [FoundFile]) -> Option<&'a str> {
    for (before, now) in before.iter().zip(now) {
        if before.path != now.path || before.look != now.look {
            // Both are sorted, so the lesser path is the one that the other walk lacks.
            return Some(before.path.as_str().min(now.path.as_str()));
        }
    }
    before.get(now.len()).or(now.get(before.len())).map(|file| file.path.as_str())
}

/// Whether a new plan can do what this one could not: it is over, blobs that it counted on are gone, or the server was
/// away for longer than one call is patient.
fn helps_to_plan_again(failure: &Failure) -> bool {
    failure.status == Some(410)
        || matches!(&*failure.code, "missing_blobs" | "commit_conflict" | "upload_broken")
        || failure.is_unavailable()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn changes_between_two_walks_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let walked = || walk(folder.path(), &WalkOptions::default()).unwrap().files;
        std::fs::write(folder.path().join("b"), "1").unwrap();
        let before = walked();
        assert_eq!(first_change(&before, &walked()), None);
        for (path, content) in [("b", Some("22")), ("c", Some("x")), ("a", Some("x")), ("b", None)] {
            let path_on_disk = folder.path().join(path);
            let before = walked();
            match content {
                Some(content) => std::fs::write(&path_on_disk, content).unwrap(),
                None => std::fs::remove_file(&path_on_disk).unwrap(),
            }
            assert_eq!(first_change(&before, &walked()), Some(path), "{content:?}");
        }
    }

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn job(current: &Path, line: &[&str]) -> Result<Job, CliError> {
        use clap::Parser;
        settle(Line::parse_from(std::iter::once(&"deploy").chain(line)).args, current)
    }

    #[test]
    fn flags_the_project_file_and_defaults_settle_a_deploy() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("My Site");
        std::fs::create_dir(&site).unwrap();
        let site_text = site.to_str().unwrap();

        let plain = job(folder.path(), &[site_text]).unwrap();
        assert_eq!((plain.project.as_str(), plain.environment.as_str()), ("my-site", "beta"));
        assert_eq!((plain.settings, plain.strict, plain.connections), (None, false, 8));

        std::fs::write(
            folder.path().join("pinstone.toml"),
            "[project]\nname='filed'\ndirectory='My Site'\nenvironment='stage'\nhtml='keep'\nstrict=true\nignore=['x']",
        )
        .unwrap();
        let filed = job(folder.path(), &[]).unwrap();
        assert_eq!((filed.project.as_str(), filed.environment.as_str()), ("filed", "stage"));
        assert_eq!((filed.folder.as_path(), filed.strict, filed.walk.ignore.len()), (site.as_path(), true, 1));
        assert_eq!(filed.settings.unwrap().html.as_deref(), Some("keep"));

        let flags = job(folder.path(), &["--project", "flag", "--prod", "--concurrency", "3"]).unwrap();
        assert_eq!((flags.project.as_str(), flags.environment.as_str(), flags.connections), ("flag", "prod", 3));

        assert_eq!(job(folder.path(), &["nowhere"]).unwrap_err().exit, Exit::Usage);
        assert_eq!(job(folder.path(), &["--project", "a--b"]).unwrap_err().exit, Exit::Usage);
    }
}
