//! Who asks: the bearer token of a request, as the principal that it stands for. Every call of the table of routes
//! passes [`admit`] before anything else of it is looked at.

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName};
use http_body::Body as _;
use pinstone_engine::Principal;
use pinstone_engine::account::{Origin, Source};
use pinstone_engine::records::idempotency::IdempotencyKey;
use tokio::time::{Duration, Instant};

use crate::access::{Need, admits};
use crate::body::cause;
use crate::error::{ApiError, ErrorCode};
use crate::frame::RequestId;
use crate::rate::Left;
use crate::routes::Route;
use crate::state::ApiState;

/// The longest token that is looked up, in bytes.
const MAX_TOKEN: usize = 512;
/// How long a body may take before its token is looked up again at its end, whether or not one is known to have ended:
/// another process may have ended it.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// The principal behind a request. As an extractor it finds whom [`admit`] let in, and nobody where nobody was asked.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) struct Sender(pub(crate) Origin);

/// The token of a request ended while its body arrived. What arrived counts for nothing.
#[derive(Debug, thiserror::Error)]
#[error("the token ended while the body arrived")]
pub(crate) struct TokenEnded;

/// Lets a call through that has what its route needs.
///
/// This is before the body: a stranger's is not read. It is looked up again behind a body that took its time, so that a
/// token that ends while an upload arrives takes the upload along.
pub(crate) async fn admit(
    State((state, route)): State<(ApiState, &'static Route)>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = match (route.need(request.method()), bearer(request.headers())) {
        (Need::Nothing, _) => None,
        (Need::NothingOrToken, None) if !request.headers().contains_key(AUTHORIZATION) => None,
        (_, token) => match token {
            Some(token) => Some(token.to_owned()),
            None => return ApiError::from(ErrorCode::Unauthorized).into_response(),
        },
    };
    let Some(token) = token else { return next.run(request).await };
    let (ended, since) = (state.engine().tokens_ended(), Instant::now());
    let principal = match state.engine().authenticate(&token).await {
        Ok(Some(principal)) => principal,
        Ok(None) => return ApiError::from(ErrorCode::Unauthorized).into_response(),
        Err(error) => return ApiError::from(error).into_response(),
    };
    if let Need::Token(scope, object) = route.need(request.method())
        && !admits(&principal.access, scope, object)
    {
        return ApiError::from(ErrorCode::InsufficientScope).into_response();
    }
    let left = match allowance(&state, route, &principal).await {
        Ok(left) => left,
        Err(refused) => return refused,
    };
    let principal = principal.with_origin(origin(request.extensions()));
    request.extensions_mut().insert(Caller(principal));
    if !request.body().is_end_stream() {
        let state = state.clone();
        request = request.map(|body| guarded(body, Guard { state, token, ended, since }));
    }
    let mut answer = next.run(request).await;
    if let Some(left) = left {
        left.tell(answer.headers_mut(), state.engine().clock().now());
    }
    answer
}

/// Counts a call against what its token may do. Answers what is left, or the refusal.
async fn allowance(state: &ApiState, route: &'static Route, principal: &Principal) -> Result<Option<Left>, Response> {
    let Some(token) = principal.token.filter(|_| !principal.has_owners_token) else { return Ok(None) };
    if route.is_upload() {
        return Ok(state.limiter().upload(token).await);
    }
    match state.limiter().call(token) {
        None => Ok(None),
        Some(Ok(left)) => Ok(Some(left)),
        Some(Err((left, wait))) => {
            let mut answer = ApiError::from(ErrorCode::RateLimited).after(wait).into_response();
            left.tell(answer.headers_mut(), state.engine().clock().now());
            Err(answer)
        }
    }
}

/// What is asked again at the end of a body.
struct Guard {
    state: ApiState,
    token: String,
    ended: u64,
    since: Instant,
}

impl Guard {
    async fn still_holds(&self) -> Result<(), axum::BoxError> {
        let engine = self.state.engine();
        if engine.tokens_ended() == self.ended && self.since.elapsed() < TRUSTED_FOR {
            return Ok(());
        }
        match engine.authenticate(&self.token).await? {
            Some(_) => Ok(()),
            None => Err(TokenEnded.into()),
        }
    }
}

/// The same body, which breaks off at its end where its token has ended.
fn guarded(body: Body, guard: Guard) -> Body {
    let frames = Some((body.into_data_stream(), guard));
    Body::from_stream(stream::unfold(frames, |state| async move {
        let (mut frames, guard) = state?;
        match frames.next().await {
            Some(Ok(frame)) => Some((Ok::<Bytes, axum::BoxError>(frame), Some((frames, guard)))),
            Some(Err(error)) => Some((Err(cause(error)), None)),
            None => guard.still_holds().await.err().map(|error| (Err(error), None)),
        }
    }))
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, ApiError> {
        head.extensions.get::<Self>().cloned().ok_or(ErrorCode::Unauthorized.into())
    }
}

/// The principal behind a request that may have none.
#[derive(Debug)]
pub(crate) struct MaybeCaller(pub(crate) Option<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeCaller {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(head.extensions.get::<Caller>().map(|caller| caller.0.clone())))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Sender {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(origin(&head.extensions)))
    }
}

fn origin(extensions: &Extensions) -> Origin {
    Origin {
        address: extensions.get::<Source>().map(|source| source.0),
        request_id: extensions.get::<RequestId>().map(|id| id.0.clone()),
    }
}

/// The key under which a request may be repeated, where it has one.
#[derive(Debug)]
pub(crate) struct RetryKey(pub(crate) Option<IdempotencyKey>);

impl FromRequestParts<ApiState> for RetryKey {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

        let mut values = head.headers.get_all(IDEMPOTENCY_KEY).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(Self(None)),
            (Some(value), None) => {
                let key = value.to_str().ok().and_then(|text| text.parse().ok());
                Ok(Self(Some(key.ok_or(ErrorCode::InvalidIdempotencyKey)?)))
            }
            (Some(_), Some(_)) => Err(ErrorCode::InvalidIdempotencyKey.into()),
        }
    }
}

/// The token of the one Authorization field, whose scheme is `Bearer` in any case (RFC 9110 section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=MAX_TOKEN).contains(&token.len())).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
        for (fields, want) in [
            (&["Bearer pin_1"][..], Some("pin_1")),
            (&["bEARER   pin_1 "], Some("pin_1")),
            (&[], None),
            (&["Bearer"], None),
            (&["Bearer "], None),
            (&["Basic pin_1"], None),
            (&["pin_1"], None),
            (&["Bearer pin_1", "Bearer pin_1"], None),
            (&[&long], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, field.parse().unwrap());
            }
            assert_eq!(bearer(&headers), want, "{fields:?}");
        }
    }
}
