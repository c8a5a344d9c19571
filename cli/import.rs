//! `admin import`: fills the data folder of a stopped server, without HTTP.
//!
//! A folder is published as `deploy` does it, through the same engine, only in this process. Many sites are one such
//! publish and copies of its image.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::ImageId;
use pinstone_engine::import::Copies;
use pinstone_engine::manifest::Settings;
use pinstone_engine::name::{EnvironmentName, ProjectName};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlanError, PlannedFile, UploadError};
use pinstone_engine::publish::{CommitRequest, ProjectSelector, ReleaseRequest};
use pinstone_engine::variants::VariantOptions;
use pinstone_engine::{Engine, OpenOptions};
use serde::Serialize;
use serde_json::json;
use tokio_util::io::ReaderStream;

use crate::config::StoreArgs;
use crate::context::{parse_environment, project_of_folder};
use crate::deploy::read_folder;
use crate::error::{CliError, Exit, chain};
use crate::output::{Output, bytes, count};
use crate::progress::Step;
use crate::project_file::{ProjectFile, ProjectTable};
use crate::serve;
use crate::upload::{Opened, WINDOW, blocking, open};
use crate::walk::{FoundFile, WalkOptions};

/// Files of a folder stored at a time.
const AT_ONCE: usize = 16;
/// The digits that names of copies end in.
const DIGITS: usize = 6;
/// The file that differs from site to site with `--distinct`.
const OWN_FILE: &str = "site.txt";

/// Fill the data folder of a stopped server in bulk
///
/// Publishes each FOLDER as `deploy` would, but directly into the data folder, which is made where it is not there, and
/// releases it. With `--sites`, publishes one folder to that many projects, fast: `site-000001` is published as usual, and
/// the others are copies of it, each with its own commit and release. A copy whose project exists is left as it is, so
/// an import that broke off can be repeated.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone admin import docs blog                      publish two folders to `prod` of `docs` and `blog`
  pinstone admin import public --project my-site       publish a folder under another name
  pinstone admin import --sites 100000 --from public   make site-000001 to site-100000")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The folders to publish
    #[arg(value_name = "FOLDER", required_unless_present = "sites", conflicts_with = "sites")]
    folders: Vec<PathBuf>,
    /// The project [default: pinstone.toml's in the folder, or the folder's name]
    #[arg(long, value_name = "NAME", conflicts_with = "sites")]
    project: Option<String>,
    /// How many projects are to show one folder
    #[arg(long, value_name = "N", requires = "from", value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    sites: Option<u32>,
    /// The folder that they show
    #[arg(long, value_name = "FOLDER", requires = "sites")]
    from: Option<PathBuf>,
    /// What their names begin with; six digits follow
    #[arg(long, value_name = "TEXT", requires = "sites", default_value = "site-")]
    prefix: String,
    /// Give each of them a file of its own, `site.txt`, with its name; slower, and a manifest for each
    #[arg(long, requires = "sites")]
    distinct: bool,
    /// The environment to release to
    #[arg(long, value_name = "NAME", default_value = "prod")]
    env: String,
    /// Why it is published
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Follow links that leave a folder
    #[arg(long)]
    follow_links: bool,
}

/// A folder that is to be published, all questions settled.
#[derive(Debug)]
struct Job {
    folder: PathBuf,
    project: ProjectName,
    settings: Settings,
    walk: WalkOptions,
    /// Whether it gets a file with its name.
    distinct: bool,
}

/// One publish, as `--json` tells it.
#[derive(Debug, Serialize)]
struct Published {
    project: ProjectName,
    environment: EnvironmentName,
    image_id: ImageId,
    number: u64,
    changed: bool,
    files: u64,
    total_size: u64,
    new: u64,
}

/// Runs the command.
pub(crate) async fn run(out: Output, args: Args) -> Result<(), CliError> {
    let started = Instant::now();
    let environment = parse_environment(&args.env)?;
    let names = match args.sites {
        Some(sites) => names(&args.prefix, sites)?,
        None => Vec::new(),
    };
    let folders = args.from.iter().chain(&args.folders);
    let named = names.first().map(|name| name.as_str()).or(args.project.as_deref());
    if named.is_some() && folders.clone().count() > 1 {
        return Err(CliError::usage("`--project` names one project, and there are several folders")
            .hint("import them one after another, or let each folder's name be its project's"));
    }
    let jobs = folders.map(|folder| settle(folder, named, args.distinct, args.follow_links));
    let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    check_names(&jobs)?;

    let config = args.store.load()?;
    // The server makes them; an import is to end when everything is in.
    let variants = VariantOptions { workers: 0, ..config.variants };
    let options =
        OpenOptions { limits: config.limits, storage: config.storage, variants, ..OpenOptions::new(&config.data) };
    let engine = Engine::open(options).await.map_err(serve::open_error)?;
    let import = Import { engine: &engine, environment, message: args.message, out };
    let imported = if names.is_empty() { import.folders(&jobs).await } else { import.sites(&jobs, &names).await };
    // Also where it failed: what was imported before stays, and the next start need not look for leftovers.
    engine.close().await;
    let mut object = imported?;
    object["data"] = json!(config.data);
    object["seconds"] = json!((started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
    out.object(&object)
}

/// `site-000001` and so on.
fn names(prefix: &str, sites: u32) -> Result<Vec<ProjectName>, CliError> {
    let parse = |number| {
        let name = format!("{prefix}{number:0DIGITS$}");
        name.parse().map_err(|error| CliError::usage(format!("`{name}` is no project: {error}")))
    };
    (1..=sites).map(parse).collect()
}

fn settle(folder: &Path, named: Option<&str>, distinct: bool, follow_links: bool) -> Result<Job, CliError> {
    if !folder.is_dir() {
        let what = if folder.exists() { "is not a folder" } else { "does not exist" };
        return Err(
            CliError::usage(format!("`{}` {what}", folder.display())).hint("name the folder that holds `index.html`")
        );
    }
    let table = ProjectFile::find(folder, None)?.map(|file| file.project).unwrap_or_default();
    let project = match named.or(table.name.as_deref()) {
        Some(name) => name.parse().map_err(|error| CliError::usage(format!("`{name}` is no project: {error}")))?,
        None => project_of_folder(folder)?,
    };
    let settings = settings(&table).map_err(|error| {
        CliError::usage(format!(
            "cannot understand `{}` of `{}`: {error}",
            crate::project_file::FILE_NAME,
            folder.display()
        ))
    })?;
    let walk = WalkOptions { follow_links, ignore: table.ignore, everything: false };
    Ok(Job { folder: folder.to_owned(), project, settings, walk, distinct })
}

/// The settings that a project file names.
fn settings(table: &ProjectTable) -> Result<Settings, serde_json::Error> {
    let named = [("html", &table.html), ("not_found", &table.not_found), ("profile", &table.profile)];
    let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.as_deref()?.into())));
    serde_json::from_value(serde_json::Value::Object(named.collect()))
}

/// Two folders of one name would be two releases of one project, which nobody means.
fn check_names(jobs: &[Job]) -> Result<(), CliError> {
    let mut seen: HashMap<&ProjectName, &Path> = HashMap::new();
    for job in jobs {
        if let Some(first) = seen.insert(&job.project, &job.folder) {
            let (first, second, name) = (first.display(), job.folder.display(), &job.project);
            return Err(CliError::usage(format!("`{first}` and `{second}` would both be the project `{name}`"))
                .hint("import them one after another, with `--project NAME`"));
        }
    }
    Ok(())
}

/// An import that is being made.
struct Import<'i> {
    engine: &'i Engine,
    environment: EnvironmentName,
    message: Option<String>,
    out: Output,
}

impl Import<'_> {
    /// Publishes each folder to its project.
    async fn folders(&self, jobs: &[Job]) -> Result<serde_json::Value, CliError> {
        let mut projects = Vec::with_capacity(jobs.len());
        for job in jobs {
            let published = Box::pin(self.publish(job)).await?;
            self.out.line(format!("{} {}", published.project, published.image_id))?;
            projects.push(published);
        }
        Ok(json!({ "projects": projects }))
    }

    /// Publishes the folder to the first of `names`, and copies its image to the others.
    async fn sites(&self, jobs: &[Job], names: &[ProjectName]) -> Result<serde_json::Value, CliError> {
        let (Some(job), Some((first, others))) = (jobs.first(), names.split_first()) else {
            return Err(CliError::usage("there is no folder to import"));
        };
        let model = Box::pin(self.publish(job)).await?;
        let copies = Copies {
            project: ProjectSelector::Name(first.clone()),
            image: model.image_id,
            environment: self.environment.clone(),
            own_file: job.distinct.then(own_file),
            message: self.message.clone(),
        };
        let of = others.len() as u64;
        let step = Step::counting(self.out, "importing", of);
        let mut told = 0;
        let caller = self.engine.owner_principal();
        let copied = self.engine.copy_to_projects(&caller, &copies, others.iter().cloned(), |copied| {
            let done = copied.made + copied.existing;
            step.set(done);
            // Where no bar is drawn, one line per tenth is enough to see that it goes on.
            let tenth = done * 10 / of.max(1);
            if tenth > told && done < of && !self.out.draws() {
                told = tenth;
                self.out.note(format!("{done} of {}", count(of, "site")));
            }
        });
        let copied = Box::pin(copied).await.map_err(|error| CliError::failed(chain(&error)))?;
        drop(step);
        let last = others.last().unwrap_or(first);
        self.out.note(format!(
            "`{first}` to `{last}` show {} ({}); {} made now, {} existed",
            count(model.files, "file"),
            bytes(model.total_size),
            copied.made,
            copied.existing,
        ));
        self.out.line(format!("{first} {}", model.image_id))?;
        Ok(json!({
            "first": model,
            "last": last,
            "sites": names.len(),
            "made": copied.made,
            "existing": copied.existing,
        }))
    }

    /// Plan, uploads of what is missing, commit, release.
    async fn publish(&self, job: &Job) -> Result<Published, CliError> {
        let (found, hashes) = read_folder(&job.folder, &job.walk, self.out).await?;
        let mut sources: HashMap<BlobHash, Source> = HashMap::with_capacity(hashes.len());
        let mut files = Vec::with_capacity(hashes.len());
        let mut add = |path: SitePath, blob, size, source| {
            sources.insert(blob, source);
            files.push(PlannedFile { path, blob, size: Some(size), content_type: None });
        };
        for (file, hash) in found.files.into_iter().zip(hashes) {
            if !(job.distinct && file.path.as_str() == OWN_FILE) {
                add(file.path.clone(), hash, file.look.size, Source::File(file));
            }
        }
        if job.distinct {
            let content = Bytes::from(format!("{}\n", job.project));
            add(own_file(), BlobHash::of(&content), content.len() as u64, Source::Memory(content));
        }

        let caller = self.engine.owner_principal();
        let new = NewPlan {
            project: job.project.clone(),
            files,
            git: None,
            message: self.message.clone(),
            settings: job.settings,
        };
        let plan = self.engine.plan(&caller, new, None).await.map_err(|error| match error {
            PlanError::ProjectTaken => CliError::new(Exit::Conflict, "project_taken", chain(&error)),
            PlanError::DuplicatePath(path) => CliError::failed(format!("two files have the path `{path}`")),
            error => CliError::failed(chain(&error)),
        })?;
        let step = Step::start(self.out, "storing", plan.missing_bytes);
        let store = |missing: pinstone_engine::plan::MissingBlob| {
            let (source, caller, step) = (sources.get(&missing.hash), &caller, &step);
            async move {
                let source = source.ok_or_else(|| CliError::failed("the plan misses a file that is not in it"))?;
                let body = source.open().await?;
                let stored = self.engine.upload(caller, plan.id, missing.hash, missing.size, body).await;
                step.advance(missing.size.unwrap_or_default());
                stored.map(drop).map_err(|error| match error {
                    UploadError::HashMismatch | UploadError::SizeMismatch { .. } => {
                        CliError::folder_changed(&missing.path)
                    }
                    error => CliError::failed(chain(&error)),
                })
            }
        };
        let new = plan.missing.len() as u64;
        stream::iter(plan.missing).map(store).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        drop(step);

        let request = CommitRequest { plan: plan.id, message: None, strict: false };
        let committed = self.engine.commit(&caller, request, None).await.map_err(failed)?;
        let request = ReleaseRequest {
            project: ProjectSelector::Name(job.project.clone()),
            environment: self.environment.clone(),
            image: Some(committed.image),
            expected: None,
            message: self.message.clone(),
        };
        let released = self.engine.release(&caller, request, None).await.map_err(failed)?;
        self.out.note(format!(
            "`{}`: {} ({}), {new} new, release {} of `{}`",
            job.folder.display(),
            count(committed.files, "file"),
            bytes(committed.total_size),
            released.number,
            self.environment,
        ));
        Ok(Published {
            project: released.project,
            environment: released.environment,
            image_id: released.image,
            number: released.number,
            changed: released.changed,
            files: committed.files,
            total_size: committed.total_size,
            new,
        })
    }
}

fn own_file() -> SitePath {
    SitePath::new(OWN_FILE).expect("a plain name is a path")
}

fn failed(error: impl std::error::Error + 'static) -> CliError {
    CliError::failed(chain(&error))
}

/// Where the bytes of a file come from.
#[derive(Debug)]
enum Source {
    File(FoundFile),
    Memory(Bytes),
}

type Body = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

impl Source {
    async fn open(&self) -> Result<Body, CliError> {
        let whole = |bytes: Bytes| Box::pin(stream::iter([Ok::<_, Infallible>(bytes)]).map(|Ok(bytes)| Ok(bytes)));
        match self {
            Self::Memory(bytes) => Ok(whole(bytes.clone())),
            Self::File(found) => {
                let of = found.clone();
                Ok(match blocking(move || open(&of)).await? {
                    Opened::Whole(bytes) => whole(bytes.into()),
                    Opened::File(file) => {
                        Box::pin(ReaderStream::with_capacity(tokio::fs::File::from_std(file), WINDOW))
                    }
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_sites() {
        let made = names("site-", 3).unwrap();
        assert_eq!(
            made.iter().map(ProjectName::as_str).collect::<Vec<_>>(),
            ["site-000001", "site-000002", "site-000003"]
        );
        assert_eq!(names("", 1).unwrap().len(), 1);
        for wrong in ["Site-", "a--", "-", &"a".repeat(35), "ab"] {
            assert!(names(wrong, 2).is_err(), "{wrong}: `ab000001` would look like a short id");
        }
    }

    #[test]
    fn one_folder_for_one_project() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name).join("dist");
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let (first, second) = (make("a"), make("b"));
        let jobs = [settle(&first, None, false, false).unwrap(), settle(&second, None, false, false).unwrap()];
        assert!(check_names(&jobs[..1]).is_ok());
        assert!(check_names(&jobs).unwrap_err().message.contains("`dist`"));
        std::fs::write(second.join("pinstone.toml"), "[project]\nname = 'other'\nhtml = 'auto'").unwrap();
        let told = settle(&second, None, false, false).unwrap();
        assert_eq!((told.project.as_str(), told.settings.html), ("other", pinstone_engine::manifest::HtmlMode::Auto));
        assert_eq!(settle(&second, Some("flag"), false, false).unwrap().project.as_str(), "flag");
        std::fs::write(second.join("pinstone.toml"), "[project]\nhtml = 'maybe'").unwrap();
        assert_eq!(settle(&second, None, false, false).unwrap_err().exit, Exit::Usage);
        assert!(settle(&folder.path().join("absent"), None, false, false).is_err());
    }
}
