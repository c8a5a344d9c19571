//! `GET /health` and `GET /config`: what anybody may ask.

use axum::extract::State;
use axum::response::Response;
use pinstone_engine::blob::pack::LARGEST_PACKED;
use pinstone_engine::path::MAX_PATH;

use crate::state::ApiState;
use crate::{respond, timefmt, wire};

/// Whether the stores answer. Always 200: the body says it, so that a degraded server can be told from a dead one.
pub(crate) async fn health(State(state): State<ApiState>) -> Response {
    let health = state.engine().health().await;
    let word = |works: bool| if works { "ok" } else { "error" };
    let status = if health.metadata && health.objects { "healthy" } else { "degraded" };
    respond::ok(&wire::Health {
        status: status.to_owned(),
        database: word(health.metadata).to_owned(),
        storage: word(health.objects).to_owned(),
        uptime: timefmt::uptime(state.uptime()),
        version: state.config().version.clone(),
    })
}

/// What a publisher needs to know before the first call.
pub(crate) async fn config(State(state): State<ApiState>) -> Response {
    let limits = state.engine().limits();
    respond::ok(&wire::PublicConfig {
        domain: state.urls().domain(),
        is_demo: false,
        registration: state.config().accounts.registration.as_str().to_owned(),
        version: state.config().version.clone(),
        limits: wire::Limits {
            files: limits.files,
            file_size: limits.file_size,
            publish_size: limits.publish_size,
            plan_size: limits.plan_size,
            batch_files: limits.batch_blobs as u64,
            batch_size: limits.batch_size,
            batch_file_size: LARGEST_PACKED,
            path_length: MAX_PATH as u64,
            message_length: limits.message_length as u64,
            archive_size: limits.archive_size,
            archive_unpacked: limits.archive_unpacked,
            preview_lifetime: limits.preview_lifetime.as_secs(),
        },
    })
}
