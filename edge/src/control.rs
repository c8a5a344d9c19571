//! The door to the control plane. The edge hands requests for control hosts through it whole and knows nothing of what
//! is behind; its own rules do not apply to them.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

use crate::request_body::RequestBody;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer from the control plane.
pub type ControlBody = UnsyncBoxBody<Bytes, BoxError>;

/// Answers the requests for control hosts.
///
/// It is polled on an edge thread, so it must not block or compute there: it forwards to a runtime of its own. Requests
/// carry a [`Client`](crate::Client) among their extensions, and its address as a
/// [`Source`](pinstone_engine::account::Source).
pub type ControlService =
    tower::util::BoxCloneSyncService<http::Request<RequestBody>, http::Response<ControlBody>, Infallible>;
