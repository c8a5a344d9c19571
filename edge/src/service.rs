//! From a request to a response: what is asked of every request, and who answers it.
//!
//! Host, then target; then the control plane, or the site (`answer.rs`): pointer, path, entry, head, bytes. One request
//! sees one pointer and with it one image. What a worker has at hand of earlier ones is checked against the pointer for
//! each; a connection remembers nothing.

use std::mem;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Request, Response, Uri, Version};
use http_body::Body as _;
use pinstone_engine::account::Source;
use pinstone_engine::host::{HostName, HostTarget, Hosts};
use tower::ServiceExt;

use crate::access_log::AccessLog;
use crate::account::{Account, Facts};
use crate::answer::{Call, Decided};
use crate::cache::Caches;
use crate::client::{Client, Networks};
use crate::config::Limits;
use crate::control::{ControlBody, ControlService};
use crate::debug;
use crate::field_maps;
use crate::fields::Fields;
use crate::forwarded;
use crate::guard::caught;
use crate::head::{self, Answer};
use crate::https;
use crate::pages::Page;
use crate::per_source::{Slot, Sources};
use crate::reply::Reply;
use crate::request::{self, Method, Protocol};
use crate::request_body::RequestBody;
use crate::respond::{self, Sending};
use crate::telemetry::{Counters, Refusal};
use crate::tls::{Certificate, Certificates};
use crate::watch::{InFlight, Watch};
use crate::worker::Worker;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) hosts: Hosts,
    pub(crate) limits: Limits,
    pub(crate) caches: Caches,
    /// The most that each worker has at hand of files.
    pub(crate) hot_bytes: usize,
    pub(crate) control: Option<ControlService>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) debug_headers: bool,
    pub(crate) sending: Sending,
    /// For what is encrypted on its way.
    pub(crate) sending_sealed: Sending,
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

/// Answers one request. A panic becomes a 500 and a line in the log.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    watch: Arc<Watch>,
    link: Arc<Link>,
    mut request: Request<RequestBody>,
) -> Reply {
    let in_flight = watch.begin(!request.body().is_end_stream());
    let protocol = protocol(request.version());
    let client = forwarded::client(link.client, &worker.trusted, request.headers());
    let mut account = Account::begin(worker, protocol, &link, client, &request);
    let (worker, facts) = account.parts();
    let answered = caught(pin!(route(worker, protocol, &watch, &link, client, &mut request, facts))).await;
    let mut reply = match answered {
        Ok(Routed::Control(response)) => respond::forwarded(response, in_flight),
        Ok(Routed::Site(decided, close)) => finish(worker, protocol, &link, decided, close, in_flight),
        Err(_) => {
            tracing::error!("a request was given up because its handler panicked");
            let decided = head::page(Method::Get, Page::Internal).into();
            finish(worker, protocol, &link, decided, true, in_flight)
        }
    };
    if let (Some(hsts), true) = (&worker.hsts, client.is_tls) {
        // A site may have said something of its own.
        if reply.fields.get(&header::STRICT_TRANSPORT_SECURITY).is_none() {
            reply.fields.append(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
    account.answered(&mut reply);
    reply.body.tell(account);
    field_maps::give_back(mem::take(request.headers_mut()));
    reply
}

fn finish(
    shared: &Shared,
    protocol: Protocol,
    link: &Link,
    mut decided: Decided,
    close: bool,
    in_flight: InFlight,
) -> Reply {
    let sending = match protocol {
        Protocol::Http2 => &shared.sending_streams,
        Protocol::Http10 | Protocol::Http11 => {
            if close {
                respond::close(&mut decided.fields);
            }
            if link.certificate.is_some() { &shared.sending_sealed } else { &shared.sending }
        }
    };
    respond::reply(decided, sending, in_flight)
}

fn protocol(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_11 => Protocol::Http11,
        _ => Protocol::Http10,
    }
}

enum Routed {
    Control(Response<ControlBody>),
    /// The answer of a site, and whether the connection ends with it.
    Site(Decided, bool),
}

impl Routed {
    fn site(answer: Answer, close: bool) -> Self {
        Self::Site(answer.into(), close)
    }
}

async fn route(
    worker: &Worker,
    protocol: Protocol,
    watch: &Watch,
    link: &Link,
    client: Client,
    // Moved only where it goes on: it is large.
    request: &mut Request<RequestBody>,
    facts: &mut Facts,
) -> Routed {
    let method = Method::parse(request.method().as_str());
    let has_body = !request.body().is_end_stream();
    let fields = Fields::of(request.headers());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = match request::host(protocol, authority, fields.hosts.into_iter().flatten()) {
        Ok(host) => host,
        Err(_) => return Routed::site(head::page(method, Page::BadHost), true),
    };
    if link.certificate.as_ref().is_some_and(|certificate| !certificate.covers(&host)) {
        return Routed::site(head::page(method, Page::Misdirected), has_body);
    }
    let target = worker.hosts.target(&host);
    if let (HostTarget::Control, Some(control)) = (target, &worker.control) {
        return match without_tls(worker, method, &host, true, client, request.uri(), &fields) {
            https::Verdict::Serve => {
                facts.goes_to_control();
                watch.goes_to_control();
                let request = mem::replace(request, Request::new(RequestBody::empty()));
                Routed::Control(Box::pin(to_control(control.clone(), client, request)).await)
            }
            https::Verdict::Redirect(location) => Routed::site(head::redirect(location), has_body),
            https::Verdict::Refuse => Routed::Control(https::refusal()),
        };
    }

    if worker.debug_headers && debug::is_asked(request.headers()) {
        facts.debug();
    }
    if fields.has_transfer_encoding {
        return Routed::site(head::page(method, Page::BadRequest), true);
    }
    if request.headers().len() > worker.limits.fields {
        return Routed::site(head::page(method, Page::TooManyFields), has_body);
    }
    let length = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if length > worker.limits.target_bytes {
        return Routed::site(head::page(method, Page::TargetTooLong), has_body);
    }
    if let https::Verdict::Redirect(location) =
        without_tls(worker, method, &host, false, client, request.uri(), &fields)
    {
        return Routed::site(head::redirect(location), has_body);
    }
    let (path, query) = (request.uri().path(), request.uri().query());
    let call = Call { worker, method, authority, is_tls: client.is_tls, path, query, fields: &fields };
    let mut decided = call.answer(&host, target, facts).await;
    if !is_indexed(target) {
        respond::forbid_indexing(&mut decided.fields);
    }
    Routed::Site(decided, has_body)
}

async fn to_control(
    control: ControlService,
    client: Client,
    mut request: Request<RequestBody>,
) -> Response<ControlBody> {
    request.extensions_mut().insert(client);
    // The control plane does not know the edge: what it has to know of the client is the engine's word.
    request.extensions_mut().insert(Source(client.address));
    match control.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What becomes of a request, if it came without TLS and there is TLS.
fn without_tls(
    shared: &Shared,
    method: Method,
    host: &HostName<'_>,
    is_control: bool,
    client: Client,
    uri: &Uri,
    fields: &Fields<'_>,
) -> https::Verdict {
    let Some(port) = shared.redirect.filter(|_| !client.is_tls) else { return https::Verdict::Serve };
    let asked = https::Asked {
        method,
        host,
        path_and_query: uri.path_and_query().map_or("/", |target| target.as_str()),
        is_control,
        is_local: client.address.is_loopback(),
        has_credentials: fields.has_credentials,
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
