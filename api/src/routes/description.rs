//! `GET /openapi.json` and `GET /docs`: the description of this API, for programs and for people.

use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::reference;

/// The description, made of `docs/openapi.yaml` when this was built.
pub(crate) const DESCRIPTION: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// The description as JSON.
pub(crate) async fn json() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, DESCRIPTION).into_response()
}

/// The description as a page.
pub(crate) async fn page() -> Response {
    static MAIN: OnceLock<String> = OnceLock::new();
    reference::page(MAIN.get_or_init(|| {
        let description = serde_json::from_str(DESCRIPTION).expect("it was written as JSON by the build");
        reference::main(&description)
    }))
}
