//! What requests name, parsed once: projects, environments, images, limits. Inside the handlers everything has a type.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use pinstone_engine::clock::UnixMillis;
use pinstone_engine::diff::Version;
use pinstone_engine::domains::DomainSelector;
use pinstone_engine::domains::name::{DomainName, DomainNameError, PathPrefix, PrefixError};
use pinstone_engine::id::ImageId;
use pinstone_engine::name::{EnvironmentName, NameError, ProjectName};
use pinstone_engine::publish::ProjectSelector;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ErrorCode};
use crate::timefmt;

/// The query of a call that reads. Keys that a call does not know are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReadQuery {
    project: Option<String>,
    project_id: Option<String>,
    environment: Option<String>,
    env: Option<String>,
    limit: Option<String>,
    page: Option<String>,
    cursor: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ReadQuery {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, ApiError> {
        query(head, state).await
    }
}

/// Reads the query of a call. Keys that `T` does not know are ignored.
pub(crate) async fn query<T: DeserializeOwned, S: Send + Sync>(head: &mut Parts, state: &S) -> Result<T, ApiError> {
    match Query::from_request_parts(head, state).await {
        Ok(Query(query)) => Ok(query),
        Err(_) => Err(ErrorCode::InvalidQuery.into()),
    }
}

impl ReadQuery {
    pub(crate) fn project(&self) -> Result<ProjectSelector, ApiError> {
        project(self.project.as_deref(), self.project_id.as_deref())
    }

    /// The project, where the query names one.
    pub(crate) fn optional_project(&self) -> Result<Option<ProjectSelector>, ApiError> {
        match given(self.project.as_deref()).or(given(self.project_id.as_deref())) {
            Some(text) => Ok(Some(project(Some(text), None)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn environment(&self) -> Result<Option<EnvironmentName>, ApiError> {
        environment(self.environment.as_deref(), self.env.as_deref())
    }

    /// How many items to answer: `default` where nothing is asked for, never more than `most`.
    pub(crate) fn limit(&self, default: usize, most: usize) -> Result<usize, ApiError> {
        limit(self.limit.as_deref(), default, most)
    }

    /// Which page to answer, from 1.
    pub(crate) fn page(&self) -> Result<u64, ApiError> {
        Ok(number(self.page.as_deref(), "page")?.unwrap_or(1))
    }

    /// The old and the new side of a comparison.
    pub(crate) fn sides(&self) -> Result<(Version, Version), ApiError> {
        match (version(self.from.as_deref())?, version(self.to.as_deref())?) {
            (Some(from), Some(to)) => Ok((from, to)),
            _ => Err(ErrorCode::SideRequired.into()),
        }
    }

    /// Where to go on; an empty cursor means the beginning.
    pub(crate) fn cursor(&self) -> Option<&str> {
        given(self.cursor.as_deref())
    }
}

/// The parameters in a request's path. What cannot be decoded names nothing.
#[derive(Debug)]
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(head, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(_) => Err(ErrorCode::NotFound.into()),
        }
    }
}

/// The project that a request names by `project` or, where that is missing, by `project_id`.
pub(crate) fn project(name: Option<&str>, id: Option<&str>) -> Result<ProjectSelector, ApiError> {
    let text = given(name).or(given(id)).ok_or(ErrorCode::ProjectRequired)?;
    text.parse().map_err(|error| invalid_project(&error))
}

/// The name of a project that a plan may make.
pub(crate) fn project_name(text: &str) -> Result<ProjectName, ApiError> {
    if text.is_empty() {
        return Err(ErrorCode::ProjectRequired.into());
    }
    text.parse().map_err(|error| invalid_project(&error))
}

fn invalid_project(error: &NameError) -> ApiError {
    ApiError::new(ErrorCode::InvalidProject, error.to_string())
}

/// The environment that a request names by `environment` or, where that is missing, by `env`.
pub(crate) fn environment(name: Option<&str>, other: Option<&str>) -> Result<Option<EnvironmentName>, ApiError> {
    if let (Some(name), Some(other)) = (given(name), given(other))
        && name != other
    {
        return Err(ApiError::new(ErrorCode::InvalidEnvironment, "`environment` and `env` name two environments"));
    }
    let Some(text) = given(name).or(given(other)) else { return Ok(None) };
    match text.parse() {
        Ok(name) => Ok(Some(name)),
        Err(error) => Err(ApiError::new(ErrorCode::InvalidEnvironment, NameError::to_string(&error))),
    }
}

/// A domain that a request names.
pub(crate) fn domain(text: &str) -> Result<DomainName, ApiError> {
    if text.is_empty() {
        return Err(ErrorCode::DomainRequired.into());
    }
    text.parse().map_err(|error| match error {
        DomainNameError::PublicSuffix => ApiError::from(ErrorCode::PublicSuffix),
        error => ApiError::new(ErrorCode::InvalidDomain, error.to_string()),
    })
}

/// A prefix of a domain; nothing and `/` are all of it.
pub(crate) fn prefix(text: &str) -> Result<PathPrefix, ApiError> {
    text.parse().map_err(|error: PrefixError| ApiError::new(ErrorCode::InvalidPrefix, error.to_string()))
}

/// A domain in a request's path, with a prefix or without one: `example.com`, `example.com/` or `example.com/docs`.
pub(crate) fn domain_selector(text: &str) -> Result<DomainSelector, ApiError> {
    let (name, rest) = text.split_once('/').map_or((text, None), |(name, rest)| (name, Some(rest)));
    Ok(DomainSelector { domain: domain(name)?, prefix: rest.map(prefix).transpose()? })
}

/// The name of the preview that a request asks for, if it asks for one.
pub(crate) fn slug(text: Option<&str>) -> Result<Option<EnvironmentName>, ApiError> {
    let Some(text) = given(text) else { return Ok(None) };
    match EnvironmentName::of_slug(text) {
        Ok(name) => Ok(Some(name)),
        Err(error) => Err(ApiError::new(ErrorCode::InvalidSlug, error.to_string())),
    }
}

/// The image that a request's body names, if it names one.
pub(crate) fn image(text: Option<&str>) -> Result<Option<ImageId>, ApiError> {
    match given(text) {
        None => Ok(None),
        Some(text) => Ok(Some(text.parse().map_err(|_| ErrorCode::InvalidImageId)?)),
    }
}

/// What a side of a comparison names: an image by its id, or else an environment.
pub(crate) fn version(text: Option<&str>) -> Result<Option<Version>, ApiError> {
    match given(text) {
        // No environment is called so: its alphabet has no `_`.
        Some(id) if id.starts_with("img_") => Ok(image(Some(id))?.map(Version::Image)),
        name => Ok(environment(name, None)?.map(Version::Environment)),
    }
}

/// How many items to answer: `default` where nothing is asked for, never more than `most`.
pub(crate) fn limit(text: Option<&str>, default: usize, most: usize) -> Result<usize, ApiError> {
    let limit = number(text, "limit")?;
    Ok(limit.map_or(default, |limit| usize::try_from(limit).unwrap_or(most).min(most)))
}

/// How long something is asked to last. What ended before it began is refused like what is too short.
pub(crate) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The moment that a query names, if it names one.
pub(crate) fn time(text: Option<&str>) -> Result<Option<UnixMillis>, ApiError> {
    let Some(text) = given(text) else { return Ok(None) };
    timefmt::parse(text).map(Some).ok_or_else(|| ErrorCode::InvalidTime.into())
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn number(text: Option<&str>, key: &'static str) -> Result<Option<u64>, ApiError> {
    let Some(text) = given(text) else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too large for us is large all the same.
    match text.parse().unwrap_or(u64::MAX) {
        number if digits && number > 0 => Ok(Some(number)),
        _ => Err(ApiError::new(ErrorCode::InvalidQuery, format!("`{key}` is not a whole number from 1"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_clamped_and_checked() {
        for (text, want) in [
            (None, Some(20)),
            (Some(""), Some(20)),
            (Some("1"), Some(1)),
            (Some("200"), Some(200)),
            (Some("201"), Some(200)),
            (Some("18446744073709551615"), Some(200)),
            (Some("18446744073709551616"), Some(200)),
            (Some("0"), None),
            (Some("-1"), None),
            (Some("+1"), None),
            (Some("1.5"), None),
            (Some("many"), None),
        ] {
            let query = ReadQuery { limit: text.map(str::to_owned), ..ReadQuery::default() };
            assert_eq!(query.limit(20, 200).ok(), want, "{text:?}");
        }
    }
}
