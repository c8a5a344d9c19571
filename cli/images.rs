//! `images`: what was published to a project.

use pinstone_api::wire::{ImageItem, ImagesAnswer, Variants};
use serde_json::json;

use crate::context::{self, Context, ProjectArgs};
use crate::environments;
use crate::error::CliError;
use crate::output::{self, table};

/// How many images one call asks for.
const PAGE: usize = 100;

/// List images, the latest commit first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone images --limit 3    the last three images that were published")]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Only images that this environment shows
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let environment = args.env.as_deref().map(context::parse_environment).transpose()?;
    let client = context.client(1)?;
    let mut images: Vec<ImageItem> = Vec::new();
    let mut total = 0;
    let wanted = args.limit as usize;
    let size = wanted.min(PAGE);
    // Pages of one size, so that page 2 begins where page 1 ends.
    for page in 1_u64.. {
        let (page, limit) = (page.to_string(), size.to_string());
        let query = [("project", project.as_str()), ("limit", &limit), ("page", &page)];
        let answer: ImagesAnswer = client.get(&["images"], &query).await?;
        total = answer.total;
        let last = answer.images.len() < size;
        let shown =
            |image: &ImageItem| environment.as_ref().is_none_or(|e| image.deployed_to.iter().any(|d| **d == **e));
        images.extend(answer.images.into_iter().filter(shown));
        if last || images.len() >= wanted {
            break;
        }
    }
    if let Some(environment) = environment.as_ref().filter(|_| images.is_empty()) {
        return Err(environments::not_found(environment));
    }
    images.truncate(wanted);
    let row = |image: &ImageItem| {
        let why = image.message.as_deref().or(image.git_message.as_deref()).unwrap_or_default();
        vec![
            image.image_id.clone(),
            image.committed_at.clone(),
            output::count(image.file_count, "file"),
            output::bytes(image.total_size),
            image.deployed_to.join(","),
            if image.pinned { "pinned" } else { "" }.to_owned(),
            saved(&image.variants),
            why.lines().next().unwrap_or_default().to_owned(),
        ]
    };
    for line in table(&images.iter().map(row).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    if (images.len() as u64) < total && environment.is_none() {
        context.out.note(format!("{} of {total} images", images.len()));
    }
    context.out.object(&json!({ "images": images, "total": total }))
}

/// What compressed forms of an image's files save, in words; nothing where there are none.
pub(crate) fn saved(variants: &Variants) -> String {
    match (&*variants.state, variants.saved) {
        ("made", Some(saved)) if saved > 0 => format!("saves {}", output::bytes(saved)),
        ("pending", _) => "being compressed".to_owned(),
        _ => String::new(),
    }
}
