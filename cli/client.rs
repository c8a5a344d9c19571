//! Calls to the API of a server.
//!
//! Every POST carries an `Idempotency-Key` that is the same for all tries of one operation, so that a try whose answer
//! was lost is not done twice. Which failures are tried again, and when, is [`crate::retry`]'s decision.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pinstone_api::wire::ErrorBody;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::endpoint::{Endpoint, is_local};
use crate::error::{CliError, Exit};
use crate::retry::{Failed, Patience, next_try};

/// The longest text of an error that is read; an answer of a stranger can be endless.
const MAX_ERROR: usize = 64 * 1024;

/// One server, called over a pool of connections.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    requests: AtomicU64,
    sent: AtomicU64,
}

/// Why a call has no result.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The status of the answer, or `None` where there was no answer.
    pub(crate) status: Option<u16>,
    /// The server's code, or one of ours.
    pub(crate) code: String,
    message: String,
    hint: Option<String>,
    retry_after: Option<u64>,
}

impl Failure {
    fn failed(&self) -> Failed {
        self.status.map_or(Failed::NoAnswer, |status| Failed::Status(status, self.retry_after))
    }

    /// Whether the server was not reached, or is busy.
    pub(crate) fn is_unavailable(&self) -> bool {
        CliError::from(self.clone()).exit == Exit::Unavailable
    }

    fn not_understood(url: &Url) -> Self {
        Self {
            status: Some(200),
            code: "not_understood".to_owned(),
            message: format!("the answer of `{}` was not understood", url.origin().ascii_serialization()),
            hint: Some("check that the endpoint is a Pinstone server of this version".to_owned()),
            retry_after: None,
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        let exit = failure.status.map_or(Exit::Unavailable, Exit::of_status);
        let hint = own_hint(&failure.code).map(str::to_owned).or(failure.hint);
        Self { code: failure.code.into(), message: failure.message, hint, exit }
    }
}

/// What to do next in words of this program, where the server's are about calls of the API.
fn own_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "unauthorized" => {
            "give a token by `--token-stdin` or `PINSTONE_TOKEN`; the owner's is in `owner.token` of the server's data \
             folder"
        }
        "project_not_found" => "check `--project`; the first `pinstone deploy` of a project makes it",
        "environment_not_found" => "`pinstone env list` shows those that the project has",
        "image_not_found" => "`pinstone images` lists those that the project has",
        "release_conflict" => "look at `pinstone releases`, and try again if it is still wanted",
        "project_taken" => "choose another name by `--project`",
        "nothing_to_roll_back_to" => "name what to show by `--to`; `pinstone images` lists what there is",
        "image_collected" => "publish its content again by `pinstone deploy`",
        "file_too_large" | "too_many_files" | "plan_too_large" => {
            "leave files out by `.pinstoneignore`, or raise `limits` in the server's configuration"
        }
        "message_too_long" => "give a shorter `--message`",
        _ => return None,
    })
}

impl Client {
    /// A client for `endpoint` that keeps up to `connections` connections.
    ///
    /// # Errors
    ///
    /// Where the machine has no certificates to trust and the endpoint needs them.
    pub(crate) fn new(endpoint: &Endpoint, connections: usize) -> Result<Self, CliError> {
        // A second install changes nothing, and is the only way that this fails.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = &endpoint.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| CliError::usage("the token has characters that no token has"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pinstone/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(connections.max(1))
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        if is_local(&endpoint.url) {
            builder = builder.no_proxy();
            if let Some(name) = endpoint.url.domain() {
                // Names under `localhost` are this machine (RFC 6761 section 6.3), but not every resolver knows it.
                let loopback = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
                builder = builder.resolve_to_addrs(name, &loopback);
            }
        }
        if endpoint.url.scheme() == "http" {
            // Cleartext needs no certificates, so none are read: a machine may have none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| {
            CliError::failed(format!("cannot prepare connections: {}", chain(&error)))
                .hint("install the package `ca-certificates`")
        })?;
        Ok(Self { http, base: endpoint.url.clone(), requests: AtomicU64::new(0), sent: AtomicU64::new(0) })
    }

    /// How many requests were made.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many bytes the bodies of the requests had.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Gets `/api/v1/<segments>?<query>`.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let url = self.url(segments, query);
        let answer = self.call(Method::GET, &url, None, Patience::SHORT).await?;
        read_json(&url, answer).await
    }

    /// Posts `body` as JSON to `/api/v1/<segments>`, as one operation however often it is tried.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T, Failure> {
        let url = self.url(segments, &[]);
        let body = serde_json::to_vec(body).map_err(|error| Failure {
            status: Some(400),
            code: "bad_request".to_owned(),
            message: format!("the request is not expressible as JSON: {error}"),
            hint: None,
            retry_after: None,
        })?;
        let answer = self.call(Method::POST, &url, Some(body.into()), patience).await?;
        read_json(&url, answer).await
    }

    /// Deletes `/api/v1/<segments>`.
    pub(crate) async fn delete(&self, segments: &[&str]) -> Result<(), Failure> {
        self.call(Method::DELETE, &self.url(segments, &[]), None, Patience::SHORT).await.map(drop)
    }

    /// Puts one body of `length` bytes to `/api/v1/<segments>`. It is made by `body` for every try.
    ///
    /// # Errors
    ///
    /// The inner error is the server's, or the network's; the outer one is `body`'s.
    pub(crate) async fn put<E>(
        &self,
        segments: &[&str],
        length: u64,
        mut body: impl AsyncFnMut() -> Result<reqwest::Body, E>,
    ) -> Result<Result<(), Failure>, E> {
        let url = self.url(segments, &[]);
        let mut made = 0;
        loop {
            made += 1;
            let request = self
                .http
                .put(url.clone())
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(reqwest::header::CONTENT_LENGTH, length)
                .body(body().await?);
            self.count(length);
            let failure = match self.checked(request).await {
                // The answer is read to its end, so that the connection is used again.
                Ok(answer) => {
                    let _ = answer.bytes().await;
                    return Ok(Ok(()));
                }
                Err(failure) => failure,
            };
            match next_try(Patience::LONG, made, failure.failed(), jitter()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Ok(Err(failure)),
            }
        }
    }

    fn count(&self, length: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(length, Ordering::Relaxed);
    }

    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn call(
        &self,
        method: Method,
        url: &Url,
        body: Option<Bytes>,
        patience: Patience,
    ) -> Result<Response, Failure> {
        let key = random_hex();
        let mut made = 0;
        loop {
            made += 1;
            let mut request = self.http.request(method.clone(), url.clone());
            let mut length = 0;
            if let Some(body) = &body {
                length = body.len() as u64;
                request =
                    request.header(CONTENT_TYPE, "application/json").header("idempotency-key", &key).body(body.clone());
            }
            self.count(length);
            let failure = match self.checked(request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match next_try(patience, made, failure.failed(), jitter()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(failure),
            }
        }
    }

    /// Makes one request, and takes its answer only where that is a success.
    async fn checked(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok());
        let body = read_some(answer).await;
        let failure = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => {
                let told = body.message.trim_end_matches('.').to_owned();
                let message = if told.is_empty() { format!("the server answered {status}") } else { told };
                Failure { status: Some(status), code: body.error, message, hint: body.hint, retry_after }
            }
            Err(_) => Failure {
                status: Some(status),
                code: format!("http_{status}"),
                message: format!(
                    "`{}` answered {status}, not as an API does",
                    self.base.origin().ascii_serialization()
                ),
                hint: Some("check `--endpoint`: it names the server's API, not a site".to_owned()),
                retry_after,
            },
        };
        Err(failure)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let origin = self.base.origin().ascii_serialization();
        let (code, message) = if error.is_timeout() {
            ("timed_out", format!("`{origin}` did not answer in time"))
        } else {
            ("unreachable", format!("cannot reach `{origin}`: {}", chain(error)))
        };
        let hint = if is_local(&self.base) {
            "start a server by `pinstone serve`, or name another by `--endpoint`"
        } else {
            "check `--endpoint` and the network, and try again"
        };
        Failure { status: None, code: code.to_owned(), message, hint: Some(hint.to_owned()), retry_after: None }
    }
}

/// Every page of a list, up to `limit` items.
pub(crate) async fn all_pages<T: DeserializeOwned>(
    client: &Client,
    segments: &[&str],
    query: &[(&str, &str)],
    limit: usize,
) -> Result<Vec<T>, Failure> {
    let mut items: Vec<T> = Vec::new();
    let mut cursor: Option<String> = None;
    while items.len() < limit {
        let wanted = (limit - items.len()).min(1000).to_string();
        let mut query = query.to_vec();
        query.push(("limit", &wanted));
        if let Some(cursor) = &cursor {
            query.push(("cursor", cursor));
        }
        let page: pinstone_api::wire::Page<T> = client.get(segments, &query).await?;
        items.extend(page.items);
        match page.next_cursor {
            // The same cursor again would be the same page for ever.
            Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
            _ => break,
        }
    }
    items.truncate(limit);
    Ok(items)
}

async fn read_json<T: DeserializeOwned>(url: &Url, answer: Response) -> Result<T, Failure> {
    let body = answer.bytes().await.map_err(|error| Failure {
        status: None,
        code: "unreachable".to_owned(),
        message: format!("the answer broke off: {}", chain(&error)),
        hint: None,
        retry_after: None,
    })?;
    serde_json::from_slice(&body).map_err(|_| Failure::not_understood(url))
}

async fn read_some(mut answer: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = MAX_ERROR - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_ERROR {
            break;
        }
    }
    body
}

/// The innermost reason of `error`: what the layers above it add is where it passed, not what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text = inner.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// 32 hex digits that nobody can guess.
pub(crate) fn random_hex() -> String {
    format!("{:016x}{:016x}", jitter(), jitter())
}

fn jitter() -> u64 {
    // Without randomness the waits are merely less spread out, and a key is merely not unique among operations.
    getrandom::u64().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ now.as_secs().rotate_left(32) ^ u64::from(std::process::id()).rotate_left(16)
    })
}
