//! `GET` and `POST /domains`, `POST /domains/{domain}/verify`, `PATCH` and `DELETE /domains/{domain}` and `GET /domains/check`:
//! custom domains.

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use pinstone_engine::Principal;
use pinstone_engine::domains::proof::{FILE_PATH, NotProven, TXT_LABEL};
use pinstone_engine::domains::{DomainChange, DomainSelector, DomainSummary, NameWarning, NewDomain};
use pinstone_engine::host::HostName;
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::publish::ProjectSelector;
use serde::Deserialize;

use crate::auth::{Caller, RetryKey};
use crate::body::{JsonBody, to_the_end};
use crate::error::{ApiError, ErrorCode};
use crate::input::{self, Segments};
use crate::state::ApiState;
use crate::wire::domain as wire;
use crate::{respond, timefmt};

/// The query of `GET /domains` and `GET /domains/check`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DomainQuery {
    project: Option<String>,
    project_id: Option<String>,
    domain: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for DomainQuery {
    type Rejection = ApiError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, ApiError> {
        input::query(head, state).await
    }
}

/// Says that a domain is to show a project.
pub(crate) async fn add(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(key): RetryKey,
    JsonBody(body): JsonBody<wire::DomainRequest>,
) -> Result<Response, ApiError> {
    let redirect_to = body.redirect_to.as_deref().filter(|domain| !domain.is_empty());
    let new = NewDomain {
        project: input::project(body.project.as_deref(), body.project_id.as_deref())?,
        domain: input::domain(&body.domain)?,
        prefix: input::prefix(body.slug.as_deref().unwrap_or_default())?,
        environment: input::environment(body.environment.as_deref(), body.env.as_deref())?
            .unwrap_or_else(EnvironmentName::prod),
        redirect_to: redirect_to.map(input::domain).transpose()?,
    };
    to_the_end(async move {
        let (hosts, rules) = (&state.config().hosts, &state.config().domains.rules);
        let added = state.engine().add_domain(&caller, &new, hosts, rules, key.as_ref()).await?;
        let warnings = added.warnings.into_iter().map(warning).collect();
        Ok(respond::ok(&wire::DomainAnswer { domain: item(added.domain), warnings }))
    })
    .await
}

/// The domains of a project, its own host first; all custom ones that the caller reaches where none is named.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    query: DomainQuery,
) -> Result<Response, ApiError> {
    let is_named = [&query.project, &query.project_id].into_iter().flatten().any(|text| !text.is_empty());
    let project = match is_named {
        true => Some(input::project(query.project.as_deref(), query.project_id.as_deref())?),
        false => None,
    };
    let mut domains = Vec::new();
    if let Some(project) = &project {
        domains.push(own_host(&state, &caller, project).await?);
    }
    let rules = &state.config().domains.rules;
    domains.extend(state.engine().domains(&caller, project.as_ref(), rules).await?.into_iter().map(item));
    Ok(respond::ok(&wire::Domains { domains }))
}

/// Looks whether a domain can be proven now.
pub(crate) async fn verify(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    RetryKey(_): RetryKey,
    Segments(domain): Segments<String>,
) -> Result<Response, ApiError> {
    let selector = input::domain_selector(&domain)?;
    let (engine, hosts) = (state.engine(), &state.config().hosts);
    if engine.is_own_host(&caller, hosts, &selector.domain) {
        return Ok(respond::ok(&wire::Verification {
            domain: selector.domain.to_string(),
            status: "active".to_owned(),
            verified: true,
            message: "it is the project's own host, and needs no proof".to_owned(),
        }));
    }
    let token = engine.domain_token(&caller, &selector).await?;
    let evidence = state.prover().evidence(&selector.domain, &token).await.map_err(|_| ErrorCode::Busy)?;
    to_the_end(async move {
        let rules = &state.config().domains.rules;
        let verified = state.engine().verify_domain(&caller, &selector, &evidence, rules).await?;
        Ok(respond::ok(&wire::Verification {
            message: told(&selector, verified.missing, &token, verified.is_active),
            domain: selector.domain.to_string(),
            status: status(verified.is_active).to_owned(),
            verified: verified.is_active && verified.missing.is_none(),
        }))
    })
    .await
}

/// Changes what a domain shows under a prefix, or where its visitors are sent.
pub(crate) async fn change(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(domain): Segments<String>,
    JsonBody(body): JsonBody<wire::DomainChange>,
) -> Result<Response, ApiError> {
    let selector = input::domain_selector(&domain)?;
    let redirect_to = match body.redirect_to.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(target) => Some(Some(input::domain(target)?)),
    };
    let environment = input::environment(body.environment.as_deref(), body.env.as_deref())?;
    let change = DomainChange { environment, redirect_to };
    if state.engine().is_own_host(&caller, &state.config().hosts, &selector.domain) {
        return Err(ErrorCode::SystemDomain.into());
    }
    to_the_end(async move {
        let rules = &state.config().domains.rules;
        Ok(respond::ok(&item(state.engine().change_domain(&caller, &selector, &change, rules).await?)))
    })
    .await
}

/// Lets a domain show nothing under a prefix any more.
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Caller(caller): Caller,
    Segments(domain): Segments<String>,
) -> Result<Response, ApiError> {
    let selector = input::domain_selector(&domain)?;
    if state.engine().is_own_host(&caller, &state.config().hosts, &selector.domain) {
        return Err(ErrorCode::SystemDomain.into());
    }
    to_the_end(async move {
        let (hosts, rules) = (&state.config().hosts, &state.config().domains.rules);
        state.engine().remove_domain(&caller, &selector, hosts, rules).await?;
        Ok(respond::no_content())
    })
    .await
}

/// Whether this server shows something at a host: for whoever gets certificates when they are needed. It is public, because
/// the host itself tells as much.
pub(crate) async fn check(State(state): State<ApiState>, query: DomainQuery) -> Result<Response, ApiError> {
    let domain = query.domain.filter(|domain| !domain.is_empty()).ok_or(ErrorCode::DomainRequired)?;
    match HostName::parse(&domain) {
        Ok(host) if state.engine().serves(&state.config().hosts, &host) => Ok(StatusCode::OK.into_response()),
        _ => Err(ErrorCode::DomainNotFound.into()),
    }
}

/// The host that a project has by its name.
async fn own_host(
    state: &ApiState,
    caller: &Principal,
    project: &ProjectSelector,
) -> Result<wire::DomainItem, ApiError> {
    let project = state.engine().project(caller, project).await?;
    let environment = EnvironmentName::prod();
    Ok(wire::DomainItem {
        domain: state.config().hosts.site_host(&project.name, &environment),
        slug: "/".to_owned(),
        kind: "system".to_owned(),
        status: status(true).to_owned(),
        is_primary: true,
        created_at: timefmt::rfc3339(project.created_at),
        project: project.name.to_string(),
        environment: environment.to_string(),
        unicode: None,
        redirect_to: None,
        verification_token: None,
        verification_txt: None,
        verification_file: None,
        checked_at: None,
        ends_at: None,
    })
}

fn item(domain: DomainSummary) -> wire::DomainItem {
    let name = domain.domain.to_string();
    let unicode = domain.domain.to_unicode();
    let is_pending = !domain.is_active;
    wire::DomainItem {
        slug: domain.prefix.to_string(),
        kind: "custom".to_owned(),
        status: status(domain.is_active).to_owned(),
        is_primary: false,
        created_at: timefmt::rfc3339(domain.created_at),
        project: domain.project.to_string(),
        environment: domain.environment.to_string(),
        unicode: (unicode != name).then_some(unicode),
        redirect_to: domain.redirect_to.map(|domain| domain.to_string()),
        verification_txt: is_pending.then(|| format!("{TXT_LABEL}.{name}. TXT \"{}\"", domain.token)),
        verification_file: is_pending.then(|| format!("http://{name}{FILE_PATH}")),
        verification_token: Some(domain.token),
        checked_at: domain.checked_at.map(timefmt::rfc3339),
        ends_at: domain.ends_at.map(timefmt::rfc3339),
        domain: name,
    }
}

fn status(is_active: bool) -> &'static str {
    if is_active { "active" } else { "pending" }
}

/// What somebody is told who wants to know whether a domain is proven.
fn told(selector: &DomainSelector, missing: Option<NotProven>, token: &str, is_active: bool) -> String {
    let txt = format!("a TXT record at {TXT_LABEL}.{} with the text {token}", selector.domain);
    let found = match missing {
        None if is_active => return "the domain is yours, and is served".to_owned(),
        None | Some(NotProven::Nowhere) => format!("there is neither {txt}, nor a file {FILE_PATH} with it"),
        Some(NotProven::OnlyTxtCounts) => format!("the domain leads to this server already, so it takes {txt}"),
        Some(NotProven::SpecialAddress) => {
            format!("the domain leads to an address that is not public, so it takes {txt}")
        }
        Some(NotProven::NoAnswer) => format!("nobody answered; it takes {txt}, or a file {FILE_PATH} with it"),
    };
    if is_active { format!("{found}; the domain is served for a while all the same") } else { found }
}

fn warning(warning: NameWarning) -> wire::DomainWarning {
    let (code, message) = match warning {
        NameWarning::MixedScripts => ("mixed_scripts", "a part of the name mixes letters of several scripts"),
        NameWarning::LooksLikeAnother => ("looks_like_another", "another domain on this server looks the same"),
        NameWarning::LooksLikeTheServer => ("looks_like_the_server", "the name looks like this server's own"),
    };
    wire::DomainWarning { code: code.to_owned(), message: message.to_owned() }
}
