//! What is done to a stopped server: `check-config`, `fsck`, `admin`.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use pinstone_engine::data_folder::rotate_owner_token;
use pinstone_engine::fsck::{self, Finding, FsckError};
use pinstone_engine::objects::StorageOptions;
use pinstone_engine::rebuild::{self, Rebuilt};
use serde_json::json;

use crate::config::{DataArgs, StoreArgs};
use crate::context::Context;
use crate::error::{CliError, Exit, chain};
use crate::import;
use crate::output::{Output, bytes, count, to_err};
use crate::serve;
use crate::upload::blocking;

/// Check the configuration as `serve` would, without serving
///
/// Takes the flags of `serve`, and names every mistake at once.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckConfigArgs {
    #[command(flatten)]
    serve: serve::Args,
}

/// Check that everything that is stored is whole; the server must be stopped
///
/// Follows every environment to its image, its files and their bytes, and hashes all of it. Changes nothing, but for
/// `--rebuild-index`. Ends with 6 where something is missing or damaged; what nothing refers to is reported, and harmless.
/// Objects in an S3 store are all read, whatever the local cache has of them.
#[derive(Debug, clap::Args)]
pub(crate) struct FsckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// First make the index of blobs again, from the stored objects and images alone
    ///
    /// For an index that is lost or damaged. Reads and hashes every object; objects that are not what they are named for
    /// are reported and count for nothing.
    #[arg(long)]
    rebuild_index: bool,
}

/// Administer a stopped server
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AdminArgs {
    /// Make a new owner's token; the old one stops working
    RotateOwnerToken(RotateArgs),
    Import(import::Args),
}

/// The arguments of `admin rotate-owner-token`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// Runs `check-config`.
pub(crate) fn check_config(context: &Context, args: CheckConfigArgs) -> Result<(), CliError> {
    let config = args.serve.load()?;
    context.out.line("the configuration is right")?;
    let certificates = config.certificates.iter().flat_map(|certificates| certificates.all());
    let certificates = certificates
        .map(|certificate| {
            let names: Vec<_> = certificate.names().iter().map(ToString::to_string).collect();
            let not_after = date(certificate.not_after());
            let file = certificate.source().display().to_string();
            context.out.line(format!("{file}: {}, until {not_after}", names.join(" ")))?;
            Ok(json!({ "file": file, "names": names, "not_after": not_after }))
        })
        .collect::<Result<Vec<_>, CliError>>()?;
    context.out.object(&json!({
        "ok": true,
        "data": config.data,
        "blobs": config.storage.url.map(|url| url.to_string()),
        "listen": config.listen,
        "base_domain": config.base_domain.as_str(),
        "public_url": config.public_url.map(|url| url.to_string()),
        "tls": { "listen": config.tls.listen, "certificates": certificates },
    }))
}

/// A moment as people and programs read it.
fn date(seconds: i64) -> String {
    let since_epoch = Duration::from_secs(seconds.try_into().unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
}

/// Runs `fsck`.
pub(crate) async fn check_data(context: &Context, args: FsckArgs) -> Result<(), CliError> {
    let config = args.store.load()?;
    let out = context.out;
    let rebuilt =
        if args.rebuild_index { Some(rebuild_index(&config.data, &config.storage, out).await?) } else { None };
    let mut told = 0;
    let progress = |progress: fsck::Progress| {
        // One line per tenth is enough to see that it goes on.
        let tenth = progress.blobs * 10 / progress.of.max(1);
        if tenth > told && progress.blobs < progress.of && progress.of > 1000 {
            told = tenth;
            out.note(format!("{} of {}", progress.blobs, count(progress.of, "blob")));
        }
    };
    let report = fsck::run_on(&config.data, &config.storage, progress).await.map_err(fsck_error)?;
    tell_findings(out, &report.findings)?;
    out.note(format!(
        "{}, {}, {} ({}) read, {} decoded: {} missing, {} damaged, {} unreferenced",
        count(report.pointers, "environment"),
        count(report.images, "image"),
        count(report.blobs, "blob"),
        bytes(report.bytes),
        count(report.variants, "variant"),
        report.missing,
        report.damaged,
        report.unreferenced
    ));
    let clean = report.is_clean();
    let mut object = serde_json::to_value(&report).unwrap_or_default();
    object["clean"] = clean.into();
    if let Some(rebuilt) = rebuilt {
        object["rebuilt"] = serde_json::to_value(&rebuilt).unwrap_or_default();
    }
    out.object(&object)?;
    if clean {
        out.line("clean")?;
        return Ok(());
    }
    let message = format!("{} missing, {} damaged", report.missing, report.damaged);
    Err(CliError::new(Exit::Found, "found", message).hint(
        "restore what is named above from a backup; or, for blobs whose sites are still at hand, run `pinstone fsck \
         --rebuild-index`, start the server, and deploy those sites again",
    ))
}

async fn rebuild_index(data: &Path, storage: &StorageOptions, out: Output) -> Result<Rebuilt, CliError> {
    let mut told = 0;
    let progress = |progress: rebuild::Progress| {
        if progress.blobs / 10_000 > told {
            told = progress.blobs / 10_000;
            out.note(format!("{} found ({})", count(progress.blobs, "blob"), bytes(progress.bytes)));
        }
    };
    let rebuilt = rebuild::run(data, storage, progress).await.map_err(fsck_error)?;
    tell_findings(out, &rebuilt.findings)?;
    out.note(format!(
        "the index was made again: {} ({}) of {} and single objects; {} removed",
        count(rebuilt.blobs, "blob"),
        bytes(rebuilt.bytes),
        count(rebuilt.packs, "pack"),
        count(rebuilt.removed, "stale row"),
    ));
    if rebuilt.variants_wanted > 0 {
        let manifests = count(rebuilt.variants_wanted, "image");
        out.note(format!("compressed forms of {manifests} were lost; the server makes them again"));
    }
    Ok(rebuilt)
}

fn tell_findings(out: Output, findings: &[Finding]) -> Result<(), CliError> {
    for finding in findings {
        let kind = serde_json::to_value(finding.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default();
        out.line(format!("{kind} {} {}: {}", finding.what, finding.name, finding.detail))?;
    }
    Ok(())
}

fn fsck_error(error: FsckError) -> CliError {
    match error {
        FsckError::Open(error) => serve::open_error(error),
        FsckError::Store(_) => CliError::failed(chain(&error)),
    }
}

/// Runs `admin`.
pub(crate) async fn run(context: &Context, args: AdminArgs) -> Result<(), CliError> {
    match args {
        AdminArgs::RotateOwnerToken(args) => rotate(context, args).await,
        AdminArgs::Import(args) => import::run(context.out, args).await,
    }
}

async fn rotate(context: &Context, args: RotateArgs) -> Result<(), CliError> {
    let data = args.data.find()?;
    let folder = data.clone();
    blocking(move || rotate_owner_token(&folder).map(drop).map_err(serve::open_error)).await?;
    let path = data.join("owner.token");
    if !context.out.json {
        to_err("the new owner's token is in:");
    }
    context.out.line(path.display().to_string())?;
    context.out.object(&json!({ "path": path }))
}
