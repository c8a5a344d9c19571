//! Who asks: the bearer token of a request, as the principal that it stands for.

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use pinstone_engine::Principal;
use pinstone_engine::records::idempotency::IdempotencyKey;

use crate::error::{ApiError, ErrorCode};
use crate::state::ApiState;

/// The longest token that is looked up, in bytes.
const MAX_TOKEN: usize = 512;

/// The principal behind a request. As an extractor it stands before all others, so that a stranger's request is refused
/// before its body is read.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let token = bearer(&head.headers).ok_or(ErrorCode::Unauthorized)?;
        match state.engine().authenticate(token).await? {
            Some(principal) => Ok(Self(principal)),
            None => Err(ErrorCode::Unauthorized.into()),
        }
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
