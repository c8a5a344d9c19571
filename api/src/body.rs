//! Taking a request's body: JSON gathered within bounds, uploads passed on as they arrive.
//!
//! Whoever is not allowed to ask was refused before: nothing here runs until the caller is known. The order is type,
//! announced length, bytes, depth, JSON; each refuses what would cost more in the next.

use std::borrow::Cow;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use pinstone_engine::meta::MetaError;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use crate::auth::TokenEnded;
use crate::error::{ApiError, ErrorCode};
use crate::json_depth::is_deeper_than;
use crate::json_shape::Object;
use crate::state::ApiState;

/// The body of an upload paused for too long.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body arrived in time")]
pub(crate) struct Stalled;

/// A JSON body of at most [`json_size`](crate::config::ApiConfig::json_size) bytes.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A JSON body as [`JsonBody`] takes it, or none, which says nothing.
#[derive(Debug)]
pub(crate) struct MaybeJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let bytes = gather_json(request, state).await?;
        read_json(&bytes, state).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for MaybeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let bytes = gather_json(request, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { read_json(&bytes, state).map(Self) }
    }
}

async fn gather_json(request: Request, state: &ApiState) -> Result<Vec<u8>, ApiError> {
    let (head, body) = request.into_parts();
    let length = announced(&head.headers)?;
    check_json(&head.headers)?;
    gather(state, length, body, state.config().json_size, ErrorCode::BodyTooLarge).await
}

fn read_json<T: DeserializeOwned>(bytes: &[u8], state: &ApiState) -> Result<T, ApiError> {
    let text = json_text(bytes, state.engine().limits().json_depth)?;
    serde_json::from_str(text).map(|Object(body)| body).map_err(|error| shape_error(&error))
}

/// Checks that a body is JSON that nobody compressed. A request that does not say what it sends is believed.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), ApiError> {
    check_not_encoded(headers)?;
    match headers.get(CONTENT_TYPE) {
        None => Ok(()),
        Some(value) if value.to_str().is_ok_and(is_json) => Ok(()),
        Some(_) => Err(ErrorCode::UnsupportedMediaType.into()),
    }
}

/// Checks that a body is sent as it is.
pub(crate) fn check_not_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        None => Ok(()),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => Err(ErrorCode::UnsupportedEncoding.into()),
    }
}

/// How many bytes the request announces, if it does.
pub(crate) fn announced(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    match length {
        Some(length) => Ok(Some(length)),
        None => Err(ApiError::new(ErrorCode::InvalidRequest, "the Content-Length is not a number of bytes")),
    }
}

/// Gathers a body of at most `limit` bytes; `too_large` is the answer to more.
pub(crate) async fn gather(
    state: &ApiState,
    announced: Option<u64>,
    body: Body,
    limit: u64,
    too_large: ErrorCode,
) -> Result<Vec<u8>, ApiError> {
    /// What is set aside at once: an announcement is only words.
    const AT_ONCE: u64 = 1 << 20;

    let announced = announced.unwrap_or(0);
    if announced > limit {
        return Err(too_large.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced.min(AT_ONCE)).unwrap_or(0));
    let end = Instant::now() + state.config().json_timeout;
    let mut frames = body.into_data_stream();
    loop {
        let deadline = end.min(Instant::now() + state.config().idle_timeout);
        match timeout_at(deadline, frames.next()).await {
            Err(_) => return Err(ErrorCode::RequestTimeout.into()),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => return Err(broken(&cause(error)).into()),
            Ok(Some(Ok(frame))) => {
                if (bytes.len() + frame.len()) as u64 > limit {
                    return Err(too_large.into());
                }
                bytes.extend_from_slice(&frame);
            }
        }
    }
}

/// What a body broke off with, out of the wrappers that it comes in.
pub(crate) fn cause(error: axum::Error) -> axum::BoxError {
    let mut cause = error.into_inner();
    loop {
        match cause.downcast::<axum::Error>() {
            Ok(wrapper) => cause = wrapper.into_inner(),
            Err(cause) => return cause,
        }
    }
}

/// The answer to a body that does not come to its end.
pub(crate) fn broken(cause: &axum::BoxError) -> ErrorCode {
    if cause.is::<TokenEnded>() {
        ErrorCode::Unauthorized
    } else if cause.is::<MetaError>() {
        // Whether the token still holds could not be said.
        ErrorCode::Unavailable
    } else if cause.is::<Stalled>() {
        ErrorCode::RequestTimeout
    } else {
        ErrorCode::UploadBroken
    }
}

/// The body as it arrives; a pause of more than `idle` ends it with [`Stalled`].
pub(crate) fn arriving(
    body: Body,
    idle: std::time::Duration,
) -> impl Stream<Item = Result<Bytes, axum::BoxError>> + Send + Unpin {
    let frames: Option<BodyDataStream> = Some(body.into_data_stream());
    Box::pin(stream::unfold(frames, move |frames| async move {
        let mut frames = frames?;
        match timeout(idle, frames.next()).await {
            Err(_) => Some((Err(Stalled.into()), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(cause(error)), None)),
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(frames))),
        }
    }))
}

/// The text of a JSON body that is not nested too deeply.
pub(crate) fn json_text(bytes: &[u8], depth: usize) -> Result<&str, ApiError> {
    if is_deeper_than(bytes, depth) {
        return Err(ApiError::new(ErrorCode::JsonTooDeep, format!("the JSON is nested more than {depth} levels deep")));
    }
    std::str::from_utf8(bytes).map_err(|_| ErrorCode::InvalidJson.into())
}

/// What is wrong with a JSON body, without anything that it says: where, and which field, where that is a name of ours.
pub(crate) fn shape_error(error: &serde_json::Error) -> ApiError {
    let (code, what): (_, Cow<'_, str>) = match error.classify() {
        serde_json::error::Category::Data => (ErrorCode::InvalidRequest, named_field(&error.to_string()).into()),
        _ => (ErrorCode::InvalidJson, "the body is not JSON".into()),
    };
    ApiError::new(code, format!("{what}, at line {} column {}", error.line(), error.column()))
}

fn named_field(text: &str) -> String {
    // These two texts name only fields that the types in `wire` have; all others may quote what was sent.
    for kind in ["missing", "duplicate"] {
        let field = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix(" field `"));
        if let Some((field, _)) = field.and_then(|rest| rest.split_once('`')) {
            return format!("the JSON has a {kind} field, `{field}`");
        }
    }
    "the JSON does not have the shape that this call takes".to_owned()
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Runs `work` where it may block, and ends with it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    join(tokio::task::spawn_blocking(work)).await
}

/// Runs `work` to its end even if the client leaves: what was decided is then also recorded and served.
pub(crate) async fn to_the_end(
    work: impl Future<Output = Result<Response, ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
    join(tokio::spawn(tracing::Instrument::in_current_span(work))).await?
}

async fn join<T>(task: tokio::task::JoinHandle<T>) -> Result<T, ApiError> {
    match task.await {
        Ok(value) => Ok(value),
        Err(ended) => match ended.try_into_panic() {
            // The panic belongs to this call, and is answered where the call is framed.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ErrorCode::Unavailable.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn what_counts_as_json() {
        for (value, want) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("text/json", false),
            ("", false),
        ] {
            assert_eq!(is_json(value), want, "{value:?}");
        }
    }

    #[test]
    fn a_shape_error_repeats_nothing_of_the_body() {
        for (json, want) in [
            ("{}", "the JSON has a missing field, `plan_id`, at line 1 column 2"),
            (r#"{"plan_id":"a","plan_id":"b"}"#, "the JSON has a duplicate field, `plan_id`, at line 1 column 24"),
            (r#"{"plan_id":["secret"]}"#, "the JSON does not have the shape that this call takes, at line 1 column 11"),
            (r#"{"plan_id":"secret"#, "the body is not JSON, at line 1 column 18"),
        ] {
            let error = serde_json::from_str::<wire::CommitRequest>(json).unwrap_err();
            let text = format!("{:?}", shape_error(&error));
            assert!(text.contains(want), "{json}: {text}");
        }
    }
}
