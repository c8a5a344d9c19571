//! A server in memory, and a client of it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use pinstone_engine::account::Source;
use pinstone_engine::accounts::Registration;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::meta::MemoryMeta;
use pinstone_engine::{Engine, Limits};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::dns::Dns;
use crate::config::ApiConfig;
use crate::wire::account;
use crate::{Api, wire};

/// The owner's token of an engine in memory.
pub(super) const TOKEN: &str = "pin_in_memory";

/// The password of everybody here.
pub(super) const PASSWORD: &str = "correct horse battery";

/// A server, and the token of its owner.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) meta: Arc<MemoryMeta>,
    pub(super) clock: Clock,
    api: Api,
    token: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

/// A request that is being put together.
pub(super) struct Call<'w> {
    world: &'w World,
    request: Request<Body>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Limits::default(), |_| {}).await
    }

    /// A server where everybody may register.
    pub(super) async fn open() -> Self {
        Self::registering(Registration::Open).await
    }

    pub(super) async fn registering(registration: Registration) -> Self {
        Self::with(Limits::default(), |config| config.accounts.registration = registration).await
    }

    pub(super) async fn with(limits: Limits, change: impl FnOnce(&mut ApiConfig)) -> Self {
        let clock = Clock::manual(UnixMillis(1_700_000_000_000));
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        let engine = Engine::in_memory_over(Arc::clone(&meta), clock.clone(), limits).await;
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        let mut config = ApiConfig::new("http://pages.test:8080".parse().unwrap(), hosts, "1.2.3");
        // It knows no name; tests that need some have a server of their own.
        static EMPTY: LazyLock<Dns> = LazyLock::new(Dns::start);
        config.domains.dns_servers = vec![EMPTY.address()];
        change(&mut config);
        let token = TOKEN.to_owned();
        Self { api: Api::new(engine.clone(), config), engine, meta, clock, token }
    }

    /// A call by the owner.
    pub(super) fn call(&self, method: Method, path: &str) -> Call<'_> {
        self.stranger(method, path).header(AUTHORIZATION.as_str(), &format!("Bearer {}", self.token))
    }

    /// A call with a token.
    pub(super) fn call_as(&self, token: &str, method: Method, path: &str) -> Call<'_> {
        let call = self.stranger(method, &format!("/api/v1{path}"));
        call.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    pub(super) async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.call_as(token, Method::GET, path).send().await
    }

    pub(super) async fn delete_as(&self, token: &str, path: &str) -> Answer {
        self.call_as(token, Method::DELETE, path).send().await
    }

    pub(super) async fn post_as(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.call_as(token, Method::POST, path).json(&body.to_string()).send().await
    }

    /// A token of whoever has `token`.
    pub(super) async fn token_as(&self, token: &str, body: &Value) -> account::NewToken {
        self.post_as(token, "/tokens", body).await.made()
    }

    /// The session of a new user. Registration is open for it.
    pub(super) async fn user(&self, email: &str) -> account::SignedIn {
        let body = json!({ "email": email, "password": PASSWORD });
        self.stranger(Method::POST, "/api/v1/auth/register").json(&body.to_string()).send().await.made()
    }

    /// An attempt to sign in, from an address.
    pub(super) async fn login(&self, email: &str, password: &str, address: &str) -> Answer {
        let body = json!({ "email": email, "password": password }).to_string();
        self.stranger(Method::POST, "/api/v1/auth/login").json(&body).from(address).send().await
    }

    /// A call by nobody in particular.
    pub(super) fn stranger(&self, method: Method, path: &str) -> Call<'_> {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        Call { world: self, request }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, &format!("/api/v1{path}")).send().await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, &format!("/api/v1{path}")).send().await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    pub(super) async fn post_text(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, &format!("/api/v1{path}")).json(body).send().await
    }

    pub(super) async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> Answer {
        let call = self.call(Method::POST, &format!("/api/v1{path}")).json(&body.to_string());
        call.header("idempotency-key", key).send().await
    }

    pub(super) async fn upload(&self, plan: &str, hash: &str, bytes: &[u8]) -> Answer {
        self.call(Method::POST, &format!("/api/v1/upload/{plan}/{hash}")).bytes(bytes).send().await
    }

    /// Plans `files` in the shape of a list.
    pub(super) async fn plan(&self, project: &str, files: &[(&str, &str)]) -> wire::PlanAnswer {
        self.post("/plan", &plan_of(project, files)).await.ok()
    }

    /// Publishes `files` up to the commit, and answers the image.
    pub(super) async fn publish(&self, project: &str, files: &[(&str, &str)]) -> wire::CommitAnswer {
        let plan = self.plan(project, files).await;
        for missing in &plan.missing {
            let (_, text) = files.iter().find(|(_, text)| hash(text) == missing.hash).unwrap();
            assert_eq!(self.upload(&plan.plan_id, &missing.hash, text.as_bytes()).await.status, StatusCode::OK);
        }
        self.post("/commit", &json!({ "plan_id": plan.plan_id })).await.ok()
    }

    /// Asserts that there is no trace of the project `my-site`.
    pub(super) async fn assert_nothing_stored(&self) {
        self.get("/history?project=my-site").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    }
}

impl Call<'_> {
    /// The address that the call comes from.
    pub(super) fn from(mut self, address: &str) -> Self {
        self.request.extensions_mut().insert(Source(address.parse().unwrap()));
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        let name: http::HeaderName = name.parse().unwrap();
        self.request.headers_mut().append(name, value.parse().unwrap());
        self
    }

    /// A JSON body with its length, as clients send it.
    pub(super) fn json(mut self, body: &str) -> Self {
        self.request.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
        self.bytes(body.as_bytes())
    }

    /// A body with its length.
    pub(super) fn bytes(mut self, body: &[u8]) -> Self {
        *self.request.body_mut() = Body::from(body.to_vec());
        self.header("content-length", &body.len().to_string())
    }

    /// A body in pieces, without a length unless a header says it; a piece that is none breaks the body off.
    pub(super) fn pieces(mut self, pieces: &[Option<&[u8]>]) -> Self {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| piece.map(Bytes::copy_from_slice).ok_or_else(|| std::io::Error::other("broken off")))
            .collect();
        *self.request.body_mut() = Body::from_stream(stream::iter(pieces));
        self
    }

    /// A body as it comes.
    pub(super) fn stream(
        mut self,
        body: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    ) -> Self {
        *self.request.body_mut() = Body::from_stream(body);
        self
    }

    /// A body that never comes.
    pub(super) fn silence(mut self) -> Self {
        *self.request.body_mut() = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        self
    }

    /// The sizes of the pieces in which the body of the answer comes.
    pub(super) async fn pieces_of_answer(self) -> Vec<usize> {
        let mut body = self.world.api.clone().oneshot(self.request).await.unwrap().into_body();
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            sizes.extend(frame.unwrap().data_ref().map(Bytes::len));
        }
        sizes
    }

    pub(super) async fn send(self) -> Answer {
        let (method, path) = (self.request.method().clone(), self.request.uri().path().to_owned());
        let answer = self.world.api.clone().oneshot(self.request).await.unwrap();
        let (head, body) = answer.into_parts();
        let bytes = tokio::time::timeout(Duration::from_secs(60), body.collect()).await.unwrap().unwrap().to_bytes();
        let answer =
            Answer { status: head.status, headers: head.headers, text: String::from_utf8(bytes.to_vec()).unwrap() };
        let id = answer.header("x-request-id");
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) || id == "my-id", "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        super::description::assert_described(&method, &path, answer.status);
        answer
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        assert!(self.text.ends_with("}\n"), "{self:?}");
        serde_json::from_str(&self.text).unwrap()
    }

    /// The body of an answer with 200.
    pub(super) fn ok<T: serde::de::DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        assert_eq!(self.header("cache-control"), "no-store");
        serde_json::from_value(self.json()).unwrap()
    }

    /// The body of an answer with 201.
    pub(super) fn made<T: serde::de::DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, StatusCode::CREATED, "{self:?}");
        serde_json::from_value(self.json()).unwrap()
    }

    /// Asserts that there is nothing to say.
    pub(super) fn expect_nothing(&self) {
        assert_eq!((self.status, &*self.text), (StatusCode::NO_CONTENT, ""), "{self:?}");
    }

    /// Asserts a failure that says what and what next, and repeats none of `sent`.
    pub(super) fn expect_error(&self, status: StatusCode, code: &str, sent: &[&str]) {
        assert_eq!((self.status, self.json()["error"].as_str()), (status, Some(code)), "{self:?}");
        let body: wire::ErrorBody = serde_json::from_value(self.json()).unwrap();
        assert!(!body.message.is_empty() && body.hint.is_some_and(|hint| !hint.is_empty()), "{}", self.text);
        for text in sent {
            assert!(!self.text.contains(text), "{text} is repeated in {}", self.text);
        }
        // A client looks for these digits in the text of a failure, to tell whether its token is refused.
        assert!(!self.text.contains("401"), "{}", self.text);
        assert!(self.text.len() < 1000, "{} bytes", self.text.len());
    }
}

/// The JSON of a plan in the shape of a list.
pub(super) fn plan_of(project: &str, files: &[(&str, &str)]) -> Value {
    let files: Vec<_> =
        files.iter().map(|(path, text)| json!({ "path": path, "blake3": hash(text), "size": text.len() })).collect();
    json!({ "project": project, "files": files })
}

/// The name of `text` as a blob.
pub(super) fn hash(text: &str) -> String {
    BlobHash::of(text.as_bytes()).to_string()
}
