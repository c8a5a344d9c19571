//! Calls to the API of a server.
//!
//! Every POST carries an `Idempotency-Key` that is the same for all tries of one operation, so that a try whose answer
//! was lost is not done twice. An answer is lost as long as its last byte is missing, so a try ends only there. Which
//! failures are tried again, and when, is [`crate::retry`]'s decision.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pinstone_api::wire::{BatchAnswer, ErrorBody};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::endpoint::{Endpoint, is_local};
use crate::error::CliError;
use crate::retry::{Patience, next_try};

mod failure;
mod pages;

pub(crate) use failure::Failure;
pub(crate) use pages::all_pages;

/// The longest text of an error that is read; an answer of a stranger can be endless.
const MAX_ERROR: usize = 64 * 1024;

/// What to do next where a call that changes something had no answer.
const MAY_BE_DONE: &str = "it may have been done; `pinstone status` tells";
/// The same for a call that a deploy repeats anyway.
const DEPLOY_AGAIN: &str = "deploy again; what arrived is not sent twice";

/// One server, called over a pool of connections.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    has_token: bool,
    requests: AtomicU64,
    sent: AtomicU64,
}

/// A success, whole.
#[derive(Debug)]
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

/// What is posted.
#[derive(Clone, Debug)]
struct Payload {
    bytes: Bytes,
    media_type: &'static str,
    encoding: Option<&'static str>,
}

impl Payload {
    /// No body.
    const NONE: Self = Self { bytes: Bytes::new(), media_type: "application/json", encoding: None };

    fn json(body: &impl Serialize) -> Result<Self, Failure> {
        let bytes = serde_json::to_vec(body).map_err(|error| Failure {
            status: Some(400),
            code: "bad_request".to_owned(),
            message: format!("the request is not expressible as JSON: {error}"),
            hint: None,
            retry_after: None,
            is_unsure: false,
        })?;
        Ok(Self { bytes: bytes.into(), ..Self::NONE })
    }
}

impl Client {
    /// A client for `endpoint` that keeps up to `connections` connections.
    ///
    /// # Errors
    ///
    /// Where the machine has no certificates to trust and the endpoint needs them.
    pub(crate) fn new(endpoint: &Endpoint, connections: usize) -> Result<Self, CliError> {
        // A second install changes nothing, and is the only way that this fails.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
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
        Ok(Self {
            http,
            base: endpoint.url.clone(),
            has_token: endpoint.token.is_some(),
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        })
    }

    /// Whether the server is on this machine, so that its bytes cross no network.
    pub(crate) fn is_local(&self) -> bool {
        is_local(&self.base)
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
        self.call(Method::GET, &url, None, Patience::SHORT, |answer| self.read_json(answer)).await
    }

    /// As [`Client::get`], with the cursor of the page that the `Link` field names as the next one, if it does.
    pub(crate) async fn get_linked<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(T, Option<String>), Failure> {
        let read = |answer: &Answer| Ok((self.read_json(answer)?, pages::linked_cursor(&answer.headers)));
        self.call(Method::GET, &self.url(segments, query), None, Patience::SHORT, read).await
    }

    /// Posts `body` as JSON to `/api/v1/<segments>`, as one operation however often it is tried.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T, Failure> {
        self.send_json(Method::POST, &self.url(segments, &[]), body, patience).await
    }

    /// As [`Client::post`], where the answer has nothing.
    pub(crate) async fn post_and_forget(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<(), Failure> {
        let body = Payload::json(body)?;
        self.call(Method::POST, &self.url(segments, &[]), Some(body), patience, |_| Ok(())).await
    }

    /// Posts nothing to `/api/v1/<segments>`, and reads an answer.
    pub(crate) async fn post_nothing<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, Failure> {
        let url = self.url(segments, &[]);
        self.call(Method::POST, &url, Some(Payload::NONE), Patience::SHORT, |answer| self.read_json(answer)).await
    }

    /// Posts nothing to `/api/v1/<segments>`; the answer has nothing either.
    pub(crate) async fn tell(&self, segments: &[&str]) -> Result<(), Failure> {
        let url = self.url(segments, &[]);
        self.call(Method::POST, &url, Some(Payload::NONE), Patience::SHORT, |_| Ok(())).await
    }

    /// Whether `/api/v1/<segments>?<query>` is answered well, whatever the answer has.
    pub(crate) async fn ask(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<(), Failure> {
        self.call(Method::GET, &self.url(segments, query), None, Patience::SHORT, |_| Ok(())).await
    }

    /// Puts `body` as JSON to `/api/v1/<segments>?<query>`.
    pub(crate) async fn put_json<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T, Failure> {
        self.send_json(Method::PUT, &self.url(segments, query), body, patience).await
    }

    /// Changes what is at `/api/v1/<segments>` as `body` says.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T, Failure> {
        self.send_json(Method::PATCH, &self.url(segments, &[]), body, patience).await
    }

    async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T, Failure> {
        let body = Payload::json(body)?;
        self.call(method, url, Some(body), patience, |answer| self.read_json(answer)).await
    }

    /// Posts a batch of files, compressed or not, to `/api/v1/<segments>`.
    pub(crate) async fn post_batch(
        &self,
        segments: &[&str],
        bytes: Bytes,
        encoding: Option<&'static str>,
    ) -> Result<BatchAnswer, Failure> {
        let url = self.url(segments, &[]);
        let body = Payload { bytes, media_type: "application/vnd.pinstone.blobs", encoding };
        self.call(Method::POST, &url, Some(body), Patience::LONG.for_large(), |answer| self.read_json(answer)).await
    }

    /// Deletes `/api/v1/<segments>`.
    pub(crate) async fn delete(&self, segments: &[&str]) -> Result<(), Failure> {
        self.delete_with(segments, &[]).await
    }

    /// Deletes `/api/v1/<segments>?<query>`.
    pub(crate) async fn delete_with(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<(), Failure> {
        let url = self.url(segments, query);
        match self.call(Method::DELETE, &url, None, Patience::SHORT, |_| Ok(())).await {
            // It is gone because a try whose answer was lost has deleted it.
            Err(failure) if failure.is_unsure && failure.status == Some(404) => Ok(()),
            result => result,
        }
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
        let mut unsure = false;
        loop {
            made += 1;
            let request = self
                .http
                .put(url.clone())
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(reqwest::header::CONTENT_LENGTH, length)
                .body(body().await?);
            self.count(length);
            let failure = match self.answer(request).await {
                Ok(_) => return Ok(Ok(())),
                Err(failure) => failure,
            };
            unsure |= failure.is_unsure;
            match next_try(Patience::LONG, made, failure.failed(), jitter()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Ok(Err(failure.after(unsure, Some(DEPLOY_AGAIN)))),
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

    /// Makes one call, as often as `patience` allows, until an answer has arrived whole and was understood by `read`.
    async fn call<T>(
        &self,
        method: Method,
        url: &Url,
        body: Option<Payload>,
        patience: Patience,
        read: impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let key = random_hex();
        let mut made = 0;
        let mut unsure = false;
        loop {
            made += 1;
            let mut request = self.http.request(method.clone(), url.clone());
            if let Some(longest) = patience.per_try {
                request = request.timeout(longest);
            }
            let mut length = 0;
            if let Some(body) = &body {
                length = body.bytes.len() as u64;
                request = request
                    .header(CONTENT_TYPE, body.media_type)
                    .header("idempotency-key", &key)
                    .body(body.bytes.clone());
                if let Some(encoding) = body.encoding {
                    request = request.header(CONTENT_ENCODING, encoding);
                }
            }
            self.count(length);
            let failure = match self.answer(request).await.and_then(|answer| read(&answer)) {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            };
            unsure |= failure.is_unsure;
            match next_try(patience, made, failure.failed(), jitter()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(failure.after(unsure, next_step(&method, url))),
            }
        }
    }

    /// Makes one request and reads its answer to the end, so that the connection can be used again. Only a success is a
    /// result.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let mut answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            let headers = std::mem::take(answer.headers_mut());
            let body = answer.bytes().await.map_err(|error| self.broken_off(&error))?;
            return Ok(Answer { headers, body });
        }
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok());
        let body = read_some(answer).await.map_err(|error| self.broken_off(&error))?;
        let failure = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) if status == 401 && self.has_token => Failure {
                status: Some(status),
                code: body.error,
                message: format!("the server at `{}` does not take the token", self.origin()),
                hint: body.hint,
                retry_after,
                is_unsure: false,
            },
            Ok(body) => {
                let told = body.message.trim_end_matches('.').to_owned();
                let message = if told.is_empty() { format!("the server answered {status}") } else { told };
                Failure {
                    status: Some(status),
                    code: body.error,
                    message,
                    hint: body.hint,
                    retry_after,
                    is_unsure: false,
                }
            }
            Err(_) => Failure {
                status: Some(status),
                code: format!("http_{status}"),
                message: format!("`{}` answered {status}, not as an API does", self.origin()),
                hint: Some("check `--endpoint`: it names the server's API, not a site".to_owned()),
                retry_after,
                // A gateway tells so that it waited for the server in vain.
                is_unsure: status == StatusCode::GATEWAY_TIMEOUT.as_u16(),
            },
        };
        Err(failure)
    }

    fn read_json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            // Where an answer ends with its connection, one that was cut looks whole until here.
            if error.is_eof() { self.cut("it ends too early") } else { Failure::not_understood(&self.base) }
        })
    }

    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn broken_off(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() { self.unreachable(error) } else { self.cut(&chain(error)) }
    }

    fn cut(&self, why: &str) -> Failure {
        Failure {
            status: None,
            code: "unreachable".to_owned(),
            message: format!("the answer of `{}` broke off: {why}", self.origin()),
            hint: Some("check the network, and try again".to_owned()),
            retry_after: None,
            is_unsure: true,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let origin = self.origin();
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
        Failure {
            status: None,
            code: code.to_owned(),
            message,
            hint: Some(hint.to_owned()),
            retry_after: None,
            is_unsure: !error.is_connect(),
        }
    }
}

/// What to do next where nobody knows whether a call was done; `None` for one that changes nothing.
fn next_step(method: &Method, url: &Url) -> Option<&'static str> {
    let path = url.path();
    let repeated = ["plan", "commit"].iter().any(|call| path.ends_with(&format!("/api/v1/{call}")))
        || path.contains("/api/v1/upload/");
    match *method {
        Method::GET => None,
        Method::POST if path.ends_with("/api/v1/tokens") => Some("it may have been made; `pinstone token list` tells"),
        Method::POST if path.ends_with("/api/v1/invites") => {
            Some("it may have been made; `pinstone invite list` tells")
        }
        Method::POST if path.ends_with("/auth/password") => {
            Some("it may have been changed; try to sign in with the new one")
        }
        // A session that nobody has the token of ends by itself.
        _ if path.contains("/api/v1/auth/") => None,
        // A comparison of files has a body, and changes nothing.
        _ if url.path().ends_with("/api/v1/diff") => None,
        _ if repeated => Some(DEPLOY_AGAIN),
        _ => Some(MAY_BE_DONE),
    }
}

async fn read_some(mut answer: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = MAX_ERROR - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == MAX_ERROR {
            break;
        }
    }
    Ok(body)
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::endpoint::TokenSource;
    use crate::error::Exit;

    const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{\"done\":1}";
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{\"don";
    const CUT_WITHOUT_LENGTH: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"don";
    const CUT_ERROR: &str = "HTTP/1.1 409 Conflict\r\nContent-Length: 99\r\nConnection: close\r\n\r\n{\"err";
    const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 37\r\nConnection: close\r\n\r\n\
                             {\"error\":\"not_found\",\"message\":\"gone\"}";

    const FEW: Patience = Patience {
        tries: 3,
        first: Duration::from_millis(1),
        longest: Duration::from_millis(2),
        per_try: Some(Duration::from_secs(20)),
    };

    /// A client of a server that gives these answers, one a connection, and the requests that it got. A server that has
    /// no answer left keeps its client waiting.
    async fn server(answers: &'static [&'static str]) -> (Client, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&got);
        tokio::spawn(async move {
            let mut answers = answers.iter();
            let mut waiting = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !(request.ends_with(b"\r\n\r\n") || request.ends_with(b"}")) {
                    request.push(stream.read_u8().await.unwrap());
                }
                requests.lock().unwrap().push(String::from_utf8(request).unwrap().to_lowercase());
                match answers.next() {
                    Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    None => waiting.push(stream),
                }
            }
        });
        (Client::new(&Endpoint { url, token: None, source: TokenSource::Nowhere }, 1).unwrap(), got)
    }

    async fn post(client: &Client, patience: Patience) -> Result<Value, CliError> {
        // The body ends with the one brace that the server waits for.
        Ok(client.post(&["release"], &json!({ "project": "p" }), patience).await?)
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_asked_for_again_with_the_same_key() {
        for answers in [&[CUT, WHOLE][..], &[CUT_WITHOUT_LENGTH, WHOLE], &[CUT_ERROR, WHOLE], &["", WHOLE]] {
            let (client, got) = server(answers).await;
            assert_eq!(post(&client, FEW).await.unwrap(), json!({ "done": 1 }), "{answers:?}");
            let keys: Vec<String> = got
                .lock()
                .unwrap()
                .iter()
                .filter_map(|request| request.lines().find(|line| line.starts_with("idempotency-key: ")))
                .map(str::to_owned)
                .collect();
            assert_eq!(keys.len(), 2, "{answers:?}");
            assert_eq!(keys[0], keys[1], "{answers:?}");
        }
    }

    #[tokio::test]
    async fn a_call_whose_answers_are_lost_may_have_been_done() {
        let (client, got) = server(&[CUT, CUT_WITHOUT_LENGTH, CUT_ERROR]).await;
        let error = post(&client, FEW).await.unwrap_err();
        assert_eq!((error.exit, error.hint.as_deref()), (Exit::Unavailable, Some(MAY_BE_DONE)));
        assert!(error.message.contains("broke off"), "{error}");
        assert_eq!(got.lock().unwrap().len(), 3);

        // What changes nothing was not done.
        let (client, _) = server(&[CUT, CUT]).await;
        let error = CliError::from(client.get::<Value>(&["health"], &[]).await.unwrap_err());
        assert_eq!(error.exit, Exit::Unavailable);
        assert_ne!(error.hint.as_deref(), Some(MAY_BE_DONE));
    }

    #[tokio::test]
    async fn an_upload_whose_answer_breaks_off_is_sent_again() {
        for answers in [&[CUT, WHOLE][..], &[CUT_ERROR, WHOLE]] {
            let (client, got) = server(answers).await;
            let sent = client.put(&["upload", "p", "h"], 2, async || Ok::<_, ()>("x}".into())).await.unwrap();
            assert!(sent.is_ok(), "{answers:?}: {sent:?}");
            assert_eq!(got.lock().unwrap().len(), 2, "{answers:?}");
        }
    }

    #[tokio::test]
    async fn what_a_lost_try_deleted_is_deleted() {
        let (client, _) = server(&["", NOT_FOUND]).await;
        client.delete(&["environments", "p", "e"]).await.unwrap();
        let (client, _) = server(&[NOT_FOUND]).await;
        assert_eq!(client.delete(&["environments", "p", "e"]).await.unwrap_err().status, Some(404));
    }

    #[tokio::test]
    async fn a_try_of_a_small_call_has_an_end() {
        assert_eq!(Patience::SHORT.per_try, Some(Duration::from_secs(30)));
        assert_eq!(Patience::LONG.for_large().per_try, None);
        let (client, got) = server(&[]).await;
        let hasty = Patience { tries: 2, per_try: Some(Duration::from_millis(50)), ..FEW };
        let error = post(&client, hasty).await.unwrap_err();
        assert_eq!(
            (&*error.code, error.exit, error.hint.as_deref()),
            ("timed_out", Exit::Unavailable, Some(MAY_BE_DONE))
        );
        assert!(got.lock().unwrap().len() <= 2);
    }

    #[test]
    fn what_to_do_about_a_lost_answer() {
        let url = |path: &str| format!("http://a/base/api/v1/{path}").parse::<Url>().unwrap();
        for (method, path, want) in [
            (Method::GET, "plan", None),
            (Method::POST, "plan", Some(DEPLOY_AGAIN)),
            (Method::POST, "commit", Some(DEPLOY_AGAIN)),
            (Method::POST, "upload/plan_1", Some(DEPLOY_AGAIN)),
            (Method::POST, "diff", None),
            (Method::POST, "release", Some(MAY_BE_DONE)),
            (Method::POST, "auth/login", None),
            (Method::POST, "tokens", Some("it may have been made; `pinstone token list` tells")),
            (Method::POST, "rollback", Some(MAY_BE_DONE)),
            (Method::DELETE, "environments/p/plan", Some(MAY_BE_DONE)),
        ] {
            assert_eq!(next_step(&method, &url(path)), want, "{method} {path}");
        }
    }
}
