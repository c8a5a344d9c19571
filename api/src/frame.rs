//! What every answer of a control host has, whichever handler gave it: a request id, and headers that keep browsers
//! from guessing. A handler that panics is answered here too, so that one bad call ends nothing but itself.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument;

use crate::error::{ApiError, ErrorCode};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken from a request, in characters.
const MAX_REQUEST_ID: usize = 64;

/// The id of a request, among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Frames one call.
pub(crate) async fn frame(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(id.to_str().unwrap_or_default().to_owned()));
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let mut answer = async {
        match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(answer) => {
                tracing::debug!(status = answer.status().as_u16(), "answered");
                answer
            }
            Err(_) => {
                // The panic hook has written what and where.
                tracing::error!("the handler of a call panicked");
                ApiError::from(ErrorCode::Internal).into_response()
            }
        }
    }
    .instrument(span)
    .await;
    let headers = answer.headers_mut();
    headers.insert(X_REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    answer
}

/// The request's own id where it is a sane one, or a new one of 16 hex digits.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if is_sane(value.as_bytes()) => value.clone(),
        _ => HeaderValue::try_from(random_hex()).expect("hex digits are a header value"),
    }
}

fn is_sane(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// 64 random bits as 16 hex digits.
pub(crate) fn random_hex() -> String {
    let bits = getrandom::u64().expect("the operating system gives randomness after boot");
    format!("{bits:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_request_ids_are_kept() {
        let long = "x".repeat(MAX_REQUEST_ID + 1);
        for (fields, kept) in [
            (&["abc-DEF_1.2"][..], true),
            (&[&long[1..]], true),
            (&[&long], false),
            (&[""], false),
            (&["a b"], false),
            (&["a\u{e9}"], false),
            (&["a", "a"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(X_REQUEST_ID, HeaderValue::from_bytes(field.as_bytes()).unwrap());
            }
            let id = request_id(&headers);
            assert_eq!(fields.first().is_some_and(|field| id == *field), kept, "{fields:?}");
            assert!(is_sane(id.as_bytes()), "{id:?}");
        }
    }
}
