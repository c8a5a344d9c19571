//! From a request to a response: the pure steps, in order, and what they need fetched in between.
//!
//! Host, then target, then pointer, path, entry, head, bytes. One request sees one pointer and with it one image, looked
//! up anew for every request: a connection remembers nothing. A head is decided before a byte is fetched, so a 304 and
//! a HEAD cost no read.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use pinstone_engine::account::Source;
use pinstone_engine::blob::BlobSource;
use pinstone_engine::clock::UnixMillis;
use pinstone_engine::coding::{Coding, Variants};
use pinstone_engine::hash::ManifestId;
use pinstone_engine::host::{HostName, HostTarget, Hosts};
use pinstone_engine::manifest::Entry;
use pinstone_engine::pointers::ImageHosts;
use tower::ServiceExt;

use crate::access_log::AccessLog;
use crate::account::{Account, Facts};
use crate::body::EdgeBody;
use crate::cache::Caches;
use crate::client::{Client, Networks};
use crate::conditional::Preconditions;
use crate::config::Limits;
use crate::control::ControlService;
use crate::debug;
use crate::digest;
use crate::encoding::Accepted;
use crate::entity::{self, Asked, Entity, Published, Representation};
use crate::error::EdgeError;
use crate::forwarded;
use crate::head::{self, Answer, Body, Field, Head, Status};
use crate::https;
use crate::navigation;
use crate::pages::Page;
use crate::path::{self, Resolution};
use crate::per_source::{Slot, Sources};
use crate::request::{self, Method, Protocol};
use crate::respond::{self, Sending};
use crate::site::Site;
use crate::telemetry::{Counters, Refusal};
use crate::tls::{Certificate, Certificates};
use crate::watch::{InFlight, Watch};

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hosts: Hosts,
    pub(crate) limits: Limits,
    pub(crate) caches: Caches,
    pub(crate) control: Option<ControlService>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) debug_headers: bool,
    pub(crate) sending: Sending,
    /// For HTTP/2, where every stream of a connection may hold a window.
    pub(crate) sending_streams: Sending,
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// The port that requests without TLS are sent to.
    pub(crate) redirect: Option<u16>,
    /// What answers over TLS say of the time to come.
    pub(crate) hsts: Option<HeaderValue>,
    pub(crate) trusted: Networks,
    pub(crate) proxy_protocol: bool,
    pub(crate) sources: Arc<Sources>,
}

impl Shared {
    /// Takes a place for one connection from `address`, or tells that there is none left.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Slot> {
        let admitted = self.sources.admit(address).ok();
        if admitted.is_none() {
            self.counters.connection_refused(Refusal::PerSource);
            if self.sources.is_worth_telling() {
                tracing::warn!(%address, "connections are refused: this source has as many as it may");
            }
        }
        admitted
    }
}

/// What all requests of a connection have in common.
#[derive(Debug)]
pub(crate) struct Link {
    /// Who is at the other end.
    pub(crate) client: Client,
    /// What was shown on it, where it speaks TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// The version of TLS, as the log names it.
    pub(crate) tls_version: Option<&'static str>,
}

/// An answer, and the bytes that it speaks of.
struct Decided {
    answer: Answer,
    source: Option<BlobSource>,
}

impl From<Answer> for Decided {
    fn from(answer: Answer) -> Self {
        Self { answer, source: None }
    }
}

/// Answers one request. A panic becomes a 500 and a line in the log.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    link: Arc<Link>,
    request: Request<Incoming>,
) -> Response<EdgeBody> {
    let in_flight = watch.begin(!request.body().is_end_stream());
    let protocol = protocol(request.version());
    let client = forwarded::client(link.client, &shared.trusted, request.headers());
    let mut account = Account::begin(shared, protocol, &link, client, &request);
    let (shared, facts) = account.parts();
    let answered = AssertUnwindSafe(route(shared, protocol, &link, client, request, facts)).catch_unwind().await;
    let mut response = match answered {
        Ok(Routed::Control(response)) => respond::forwarded(response, in_flight),
        Ok(Routed::Site(decided, close)) => finish(shared, protocol, *decided, close, in_flight),
        Err(_) => {
            tracing::error!("a request was given up because its handler panicked");
            let decided = head::page(Method::Get, Page::Internal).into();
            finish(shared, protocol, decided, true, in_flight)
        }
    };
    if let (Some(hsts), true) = (&shared.hsts, client.is_tls) {
        // A site may have said something of its own.
        response.headers_mut().entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
    }
    account.answered(&mut response);
    response.body_mut().tell(account);
    response
}

fn finish(
    shared: &Shared,
    protocol: Protocol,
    decided: Decided,
    close: bool,
    in_flight: InFlight,
) -> Response<EdgeBody> {
    let Answer { mut head, body } = decided.answer;
    let sending = match protocol {
        Protocol::Http2 => &shared.sending_streams,
        Protocol::Http10 | Protocol::Http11 => {
            if close {
                head.close();
            }
            &shared.sending
        }
    };
    respond::response(head, body, decided.source.as_ref(), sending, in_flight)
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_11 => Protocol::Http11,
        _ => Protocol::Http10,
    }
}

enum Routed {
    Control(Response<crate::control::ControlBody>),
    /// The answer of a site, and whether the connection ends with it.
    Site(Box<Decided>, bool),
}

async fn route(
    shared: &Shared,
    protocol: Protocol,
    link: &Link,
    client: Client,
    mut request: Request<Incoming>,
    facts: &mut Facts,
) -> Routed {
    let method = Method::parse(request.method().as_str());
    let site = |answer: Answer, close| Routed::Site(Box::new(answer.into()), close);
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let hosts = request.headers().get_all(header::HOST);
    let host = match request::host(protocol, authority, hosts.iter().map(HeaderValue::as_bytes)) {
        Ok(host) => host,
        Err(_) => return site(head::page(method, Page::BadHost), true),
    };
    if link.certificate.as_ref().is_some_and(|certificate| !certificate.covers(&host)) {
        return site(head::page(method, Page::Misdirected), !request.body().is_end_stream());
    }
    let target = shared.hosts.target(&host);
    if let (HostTarget::Control, Some(control)) = (target, &shared.control) {
        match without_tls(shared, method, &host, true, client, &request) {
            https::Verdict::Serve => {}
            https::Verdict::Redirect(location) => {
                return site(head::redirect(location), !request.body().is_end_stream());
            }
            https::Verdict::Refuse => return Routed::Control(https::refusal()),
        }
        let control = control.clone();
        facts.goes_to_control();
        request.extensions_mut().insert(client);
        // The control plane does not know the edge: what it has to know of the client is the engine's word.
        request.extensions_mut().insert(Source(client.address));
        return match control.oneshot(request).await {
            Ok(response) => Routed::Control(response),
            Err(never) => match never {},
        };
    }

    let headers = request.headers();
    if shared.debug_headers && debug::is_asked(headers) {
        facts.debug();
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return site(head::page(method, Page::BadRequest), true);
    }
    let close = !request.body().is_end_stream();
    if headers.len() > shared.limits.fields {
        return site(head::page(method, Page::TooManyFields), close);
    }
    let length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if length > shared.limits.target_bytes {
        return site(head::page(method, Page::TargetTooLong), close);
    }
    if let https::Verdict::Redirect(location) = without_tls(shared, method, &host, false, client, &request) {
        return site(head::redirect(location), close);
    }
    let mut decided = match show(shared, target, facts).await {
        Ok(shown) => answer(shared, method, &request, &shown, facts).await.unwrap_or_else(|error| {
            error.report();
            head::page(method, error.page()).into()
        }),
        Err(page) => head::page(method, page).into(),
    };
    if !is_indexed(target) {
        decided.answer.head.forbid_indexing();
    }
    Routed::Site(Box::new(decided), close)
}

/// What becomes of a request, if it came without TLS and there is TLS.
fn without_tls(
    shared: &Shared,
    method: Method,
    host: &HostName<'_>,
    is_control: bool,
    client: Client,
    request: &Request<Incoming>,
) -> https::Verdict {
    let Some(port) = shared.redirect.filter(|_| !client.is_tls) else { return https::Verdict::Serve };
    let headers = request.headers();
    let asked = https::Asked {
        method,
        host,
        path_and_query: request.uri().path_and_query().map_or("/", |target| target.as_str()),
        is_control,
        is_local: client.address.is_loopback(),
        has_credentials: headers.contains_key(header::AUTHORIZATION) || headers.contains_key(header::COOKIE),
        // Where a proxy has the certificates, it has those that it needs.
        is_covered: shared.certificates.as_ref().is_none_or(|certificates| certificates.cover(host)),
    };
    https::decide(&asked, port)
}

/// Whether search engines may list what a host shows: `prod` and custom domains.
fn is_indexed(target: HostTarget<'_>) -> bool {
    match target {
        HostTarget::Site { environment, .. } => environment == "prod",
        HostTarget::Custom(_) => true,
        HostTarget::Control | HostTarget::Image { .. } | HostTarget::Unknown => false,
    }
}

/// The image that a host shows, for the time of one request.
struct Shown {
    manifest: ManifestId,
    last_modified: UnixMillis,
    /// Whether the host is the image's own.
    is_image_host: bool,
}

/// Finds what a host shows, or the page that says why it shows nothing.
async fn show(shared: &Shared, target: HostTarget<'_>, facts: &mut Facts) -> Result<Shown, Page> {
    let resolver = shared.caches.resolver();
    match target {
        HostTarget::Site { project, environment } => {
            let pointer = resolver.pointers().find(project, environment).ok_or(Page::UnknownHost)?;
            facts.shows(project, Some(environment), &pointer.image);
            if pointer.expires_at.is_some() && pointer.is_expired(resolver.clock().now()) {
                return Err(Page::Expired);
            }
            let (manifest, last_modified) = (pointer.manifest, pointer.last_modified);
            Ok(Shown { manifest, last_modified, is_image_host: false })
        }
        HostTarget::Image { project, digits } => {
            let (of, image_hosts) = resolver.pointers().image_hosts(project).ok_or(Page::UnknownHost)?;
            // Decided before the image is looked for, so that who may not see it does not learn whether it is there.
            match image_hosts {
                ImageHosts::Public => {}
                ImageHosts::Protected => return Err(Page::Protected),
                ImageHosts::Off => return Err(Page::UnknownHost),
            }
            match shared.caches.hosted(of, digits, facts).await {
                Ok(Some(image)) if image.is_collected => Err(Page::ImageGone),
                Ok(Some(image)) => {
                    facts.shows(project, None, &image.image);
                    let (manifest, last_modified) = (image.manifest, image.first_committed_at);
                    Ok(Shown { manifest, last_modified, is_image_host: true })
                }
                Ok(None) => Err(Page::UnknownHost),
                Err(error) => {
                    error.report();
                    Err(error.page())
                }
            }
        }
        HostTarget::Control | HostTarget::Custom(_) | HostTarget::Unknown => Err(Page::UnknownHost),
    }
}

/// Answers a request for a host that shows something.
async fn answer(
    shared: &Shared,
    method: Method,
    request: &Request<Incoming>,
    shown: &Shown,
    facts: &mut Facts,
) -> Result<Decided, EdgeError> {
    match method {
        Method::Get | Method::Head => {}
        Method::Options => return Ok(head::options().into()),
        Method::Other => return Ok(head::page(method, Page::Method).into()),
    }
    let site = shared.caches.manifest(&shown.manifest, facts).await?;
    let resolution = match path::resolve(&site, request.uri().path(), request.uri().query()) {
        Ok(resolution) => resolution,
        Err(_) => return Ok(head::page(method, Page::BadRequest).into()),
    };
    match resolution {
        Resolution::Found(entry) => file(shared, method, request, shown, &site, &entry, facts).await,
        Resolution::Redirect(location) => Ok(head::redirect(location).into()),
        Resolution::NotFound(page) => not_found(shared, method, request, &site, page, facts).await,
        Resolution::Shell { shell, page } => {
            let mut decided =
                if navigation::is_navigation(lines(request, SEC_FETCH_MODE), lines(request, header::ACCEPT)) {
                    file(shared, method, request, shown, &site, &shell, facts).await?
                } else {
                    not_found(shared, method, request, &site, page, facts).await?
                };
            decided.answer.head.vary(navigation::DEPENDS_ON);
            Ok(decided)
        }
    }
}

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Answers with a file: 200, or what the conditions and the range of the request make of it.
async fn file(
    shared: &Shared,
    method: Method,
    request: &Request<Incoming>,
    shown: &Shown,
    site: &Site,
    entry: &Entry<'_>,
    facts: &mut Facts,
) -> Result<Decided, EdgeError> {
    let now = shared.caches.resolver().clock().now().as_secs();
    let path = request.uri().path();
    let cache_control = entity::cache_control(path, entry.path, entry.content_type, shown.is_image_host);
    let preconditions = preconditions(request);
    let range = single(request, header::RANGE).and_then(Result::ok);
    let published = published(site, entry);
    let asked = Asked { preconditions, range, accepted: accepted(request, &published) };
    let (mut decided, sent) = send(shared, published, facts, |published| {
        let last_modified = shown.last_modified.as_secs();
        head::file(method, &asked, &Entity { published: *published, last_modified, now, cache_control })
    })
    .await?;
    add_digests(shared, request, &mut decided.answer.head, &sent, entry).await;
    Ok(decided)
}

/// Answers a miss with the site's own page, where it has one.
async fn not_found(
    shared: &Shared,
    method: Method,
    request: &Request<Incoming>,
    site: &Site,
    page: Option<Entry<'_>>,
    facts: &mut Facts,
) -> Result<Decided, EdgeError> {
    let Some(page) = page else { return Ok(head::page(method, Page::NotFound).into()) };
    let published = published(site, &page);
    let accepted = accepted(request, &published);
    let (decided, _) = send(shared, published, facts, |page| head::not_found(method, &accepted, page)).await?;
    Ok(decided)
}

/// A file of a site, and what was made of it.
fn published<'m>(site: &Site, entry: &Entry<'m>) -> Published<'m> {
    let Entry { content_type, blob, size, .. } = *entry;
    Published { content_type, blob, length: size, variants: site.variants(&blob) }
}

/// What the request accepts. It is not read where there is nothing to choose from.
fn accepted(request: &Request<Incoming>, published: &Published<'_>) -> Accepted {
    if published.variants.is_empty() {
        return Accepted::default();
    }
    Accepted::parse(lines(request, header::ACCEPT_ENCODING))
}

/// Decides on an answer, and opens what it speaks of. Where a variant cannot be read, the file itself can still be: it is
/// decided once more, as if there were none.
async fn send<'m>(
    shared: &Shared,
    mut published: Published<'m>,
    facts: &mut Facts,
    decide: impl Fn(&Published<'m>) -> (Answer, Representation),
) -> Result<(Decided, Representation), EdgeError> {
    loop {
        let (answer, sent) = decide(&published);
        match fetch(shared, answer, &sent, facts).await {
            Ok(decided) => return Ok((decided, sent)),
            Err(error) if sent.coding.is_some() => {
                error.report();
                published.variants = Variants::default();
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens the file, where the answer has bytes of it.
async fn fetch(
    shared: &Shared,
    answer: Answer,
    sent: &Representation,
    facts: &mut Facts,
) -> Result<Decided, EdgeError> {
    let source = match answer.body {
        Body::File(_) | Body::Parts(_) => {
            facts.set_variant(sent.coding.map_or("identity", Coding::token));
            Some(shared.caches.blob(sent.blob, sent.length, facts).await?)
        }
        Body::Empty | Body::Page(_) => None,
    };
    Ok(Decided { answer, source })
}

/// Adds the digests that the request asks for. One that cannot be had is left out: it was a wish.
///
/// A digest is of the whole form, also where a part of it is sent (RFC 9530 section 3): who puts parts together can check
/// the outcome. A 304 sends nothing, so it has none.
async fn add_digests(
    shared: &Shared,
    request: &Request<Incoming>,
    head: &mut Head,
    sent: &Representation,
    entry: &Entry<'_>,
) {
    const WANT_REPR: HeaderName = HeaderName::from_static("want-repr-digest");
    const WANT_UNENCODED: HeaderName = HeaderName::from_static("want-unencoded-digest");
    if !matches!(head.status, Status::Ok | Status::PartialContent) {
        return;
    }
    for (wish, field, blob) in
        [(WANT_REPR, Field::ReprDigest, sent.blob), (WANT_UNENCODED, Field::UnencodedDigest, entry.blob)]
    {
        if !digest::wants_sha256(lines(request, wish)) {
            continue;
        }
        match shared.caches.sha256(blob).await {
            Ok(sha256) => head.fields.push((field, digest::value(&sha256).into())),
            Err(error) => error.report(),
        }
    }
}

fn lines(request: &Request<Incoming>, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    request.headers().get_all(name).iter().map(HeaderValue::as_bytes)
}

fn preconditions(request: &Request<Incoming>) -> Preconditions<'_> {
    let lines = |name| lines(request, name).collect();
    let date = |name| single(request, name).and_then(Result::ok);
    Preconditions {
        if_match: lines(header::IF_MATCH),
        if_unmodified_since: date(header::IF_UNMODIFIED_SINCE),
        if_none_match: lines(header::IF_NONE_MATCH),
        if_modified_since: date(header::IF_MODIFIED_SINCE),
        // Several at once match nothing.
        if_range: single(request, header::IF_RANGE).map(|value| value.unwrap_or_default()),
    }
}

/// More than one line came where one may.
#[derive(Clone, Copy, Debug)]
struct SeveralLines;

/// The value of a field that may come once.
fn single(request: &Request<Incoming>, name: HeaderName) -> Option<Result<&[u8], SeveralLines>> {
    let mut lines = request.headers().get_all(name).iter();
    let first = lines.next()?;
    Some(if lines.next().is_none() { Ok(first.as_bytes()) } else { Err(SeveralLines) })
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;
    use http_body_util::BodyExt;
    use object_store::memory::InMemory;
    use pinstone_engine::Engine;
    use pinstone_engine::blob::{BlobStore, index::MemoryIndex};
    use pinstone_engine::clock::Clock;
    use pinstone_engine::coding::{Coding, Variant};
    use pinstone_engine::hash::BlobHash;
    use pinstone_engine::host::HostName;
    use pinstone_engine::id::TeamId;
    use pinstone_engine::meta::MemoryMeta;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{Edge, EdgeConfig};

    /// What a store has that has these blobs.
    async fn shared(stored: &[&'static [u8]]) -> Arc<Shared> {
        let blobs = BlobStore::new(Arc::new(InMemory::new()), Arc::new(MemoryIndex::default()));
        for bytes in stored {
            let body = futures_util::stream::iter([Ok::<_, io::Error>(Bytes::from_static(bytes))]);
            blobs.put(TeamId::from_bytes([7; 16]), BlobHash::of(bytes), None, 1 << 20, body).await.unwrap();
        }
        let clock = Clock::system();
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        let limits = pinstone_engine::Limits::default();
        let engine = Engine::assemble(meta, blobs, clock, limits, "pin_test").await.unwrap();
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        Edge::new(EdgeConfig::new(hosts, Handle::current()), engine.resolver(), None).unwrap().shared
    }

    #[tokio::test]
    async fn a_variant_is_sent_and_where_it_is_lost_the_file_itself() {
        const FILE: &[u8] = &[b'x'; 300];
        let (file, encoded) = (FILE, &b"encoded"[..]);
        let variant = Variant { blob: BlobHash::of(encoded), size: encoded.len() as u64 };
        let published = Published {
            content_type: "text/plain",
            blob: BlobHash::of(file),
            length: file.len() as u64,
            variants: Variants::default().with(Coding::Zstd, variant),
        };
        let asked = Asked { accepted: Accepted::parse([&b"zstd"[..]]), ..Asked::default() };
        let decide = |published: &Published<'static>| {
            let cache_control = entity::REVALIDATE;
            let entity = Entity { published: *published, last_modified: 1, now: 1, cache_control };
            head::file(Method::Get, &asked, &entity)
        };
        let mut facts = Facts::new(Protocol::Http11, false, None);
        for (stored, body, coding) in [(&[file, encoded][..], encoded, Some("zstd")), (&[file][..], file, None)] {
            let shared = shared(stored).await;
            let (decided, sent) = send(&shared, published, &mut facts, decide).await.unwrap();
            assert_eq!(sent.coding.map(Coding::token), coding);
            let in_flight = Watch::new().begin(false);
            let response = finish(&shared, Protocol::Http11, decided, false, in_flight);
            let field = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(field(header::CONTENT_ENCODING).as_deref(), coding);
            assert_eq!(field(header::VARY).as_deref(), Some("Accept-Encoding"));
            assert_eq!(field(header::ETAG), Some(format!("\"{}\"", &BlobHash::of(body).to_string()[..32])));
            assert_eq!(field(header::CONTENT_LENGTH), Some(body.len().to_string()));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
        }
        let lost = send(&*shared(&[]).await, published, &mut facts, decide).await;
        let error = lost.err().expect("nothing is stored");
        assert_eq!(error.page(), Page::Unavailable);
    }
}
