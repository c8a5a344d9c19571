//! `GET /images`, `/images/{image_id}` and `/images/{image_id}/files`: what a project has, and what is in it.

use axum::extract::State;
use axum::response::Response;
use pinstone_engine::id::ImageId;
use pinstone_engine::pointers::ImageHosts;
use pinstone_engine::queries::ImageSummary;
use pinstone_engine::variants::VariantState;

use crate::auth::Caller;
use crate::error::{ApiError, ErrorCode};
use crate::input::{ReadQuery, Segments};
use crate::state::{ApiState, LISTING};
use crate::{respond, timefmt, wire};

/// The project's images, by their latest commit, newest first, in numbered pages.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let (limit, page) = (query.limit(50, 200)?, query.page()?);
    let (images, total) = state.engine().images(&caller, &query.project()?, limit, page).await?;
    let images = images.into_iter().map(|image| item(&state, image)).collect();
    Ok(respond::ok(&wire::ImagesAnswer { images, total }))
}

/// One image.
pub(crate) async fn one(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(image): Segments<String>,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let image = state.engine().image(&caller, &query.project()?, image_id(&image)?).await?;
    Ok(respond::ok(&item(&state, image)))
}

/// The files of an image, in the order of their paths.
pub(crate) async fn files(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(image): Segments<String>,
    query: ReadQuery,
) -> Result<Response, ApiError> {
    let limit = query.limit(1000, 10_000)?;
    let image = image_id(&image)?;
    let memory = state.plan_memory(LISTING).await?;
    let (files, next) = state.engine().image_files(&caller, &query.project()?, image, query.cursor(), limit).await?;
    let items = files.into_iter().map(|file| wire::ImageFile {
        path: file.path,
        hash: file.hash.to_string(),
        size: file.size,
        content_type: file.content_type,
    });
    let answer = respond::ok(&wire::Page { items: items.collect(), next_cursor: next });
    Ok(respond::holding(answer, memory))
}

/// The image that a request's path names. What is no id names no image.
pub(super) fn image_id(text: &str) -> Result<ImageId, ApiError> {
    text.parse().map_err(|_| ErrorCode::ImageNotFound.into())
}

pub(super) fn item(state: &ApiState, image: ImageSummary) -> wire::ImageItem {
    let git = image.git.unwrap_or_default();
    let url = || state.urls().image(&image.project_name, image.image);
    wire::ImageItem {
        id: image.image.to_string(),
        image_id: image.image.to_string(),
        project_id: image.project.to_string(),
        content_hash: image.content_hash.to_string(),
        file_count: image.files,
        total_size: image.total_size,
        git_commit: git.commit,
        git_branch: git.branch,
        git_message: git.message,
        message: image.message,
        author: image.author,
        created_at: timefmt::rfc3339(image.created_at),
        committed_at: timefmt::rfc3339(image.committed_at),
        deployed_to: image.deployed_to.iter().map(ToString::to_string).collect(),
        url: (image.image_hosts != ImageHosts::Off).then(url),
        pinned: image.pin.is_some(),
        pin: image.pin.map(|pin| wire::Pin {
            author: pin.author,
            message: pin.message.unwrap_or_default(),
            created_at: timefmt::rfc3339(pin.at),
        }),
        variants: variants(image.variants),
    }
}

pub(super) fn variants(state: VariantState) -> wire::Variants {
    let text = |text: &str| wire::Variants { state: text.to_owned(), ..wire::Variants::default() };
    match state {
        VariantState::Pending => text("pending"),
        VariantState::Off => text("off"),
        VariantState::Made(bytes) => wire::Variants {
            bytes: Some(wire::VariantBytes {
                identity: bytes.identity,
                br: bytes.br,
                zstd: bytes.zstd,
                gzip: bytes.gzip,
            }),
            saved: Some(bytes.saved()),
            ..text("made")
        },
    }
}
