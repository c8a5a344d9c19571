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
use http::{Request, Response};
use http_body::Body as _;
use pinstone_engine::account::Source;
use pinstone_engine::host::{HostName, HostTarget, Hosts};
use tower::ServiceExt;

use crate::access_log::AccessLog;
use crate::account::Account;
use crate::answer::{self, Call, Decided};
use crate::answering::Answering;
use crate::cache::Caches;
use crate::client::{Client, Networks};
use crate::config::Limits;
use crate::control::{ControlBody, ControlService};
use crate::debug;
use crate::fields::Fields;
use crate::forwarded;
use crate::guard::{catch, caught};
use crate::head::{self, Answer, Body};
use crate::https;
use crate::mapped::LargeFiles;
use crate::pages::Page;
use crate::per_source::{Slot, Sources};
use crate::reply::Reply;
use crate::request::{self, Method, Protocol};
use crate::request_body::RequestBody;
use crate::request_head::RequestHead;
use crate::respond::{self, Sending};
use crate::source;
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
    /// For both.
    pub(crate) sending_sealed_streams: Sending,
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
    /// The worker that serves it.
    pub(crate) worker: Arc<Worker>,
    /// What it notes about itself.
    pub(crate) watch: Arc<Watch>,
    /// Who is at the other end.
    pub(crate) client: Client,
    /// What was shown on it, where it speaks TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// The version of TLS, as the log names it.
    pub(crate) tls_version: Option<&'static str>,
}

/// Begins to answer one request. A panic becomes a 500 and a line in the log.
pub(crate) fn serve(link: Arc<Link>, request: Box<RequestHead>, body: RequestBody) -> Answering {
    let in_flight = link.watch.begin(!body.is_end_stream());
    let client = forwarded::client(link.client, &link.worker.trusted, &request);
    let account = Account::begin(link, client, &request);
    let mut handling = Handling { request, body, client, account, in_flight };
    match catch(|| handling.route()) {
        Ok(Ok(answer)) => Answering::Done(handling.end(answer)),
        Ok(Err(awaited)) => Answering::begin(handling.wait_for(awaited)),
        Err(_) => Answering::Done(handling.give_up()),
    }
}

/// A request that is being answered.
#[derive(Debug)]
struct Handling {
    request: Box<RequestHead>,
    /// Taken where the request goes on.
    body: RequestBody,
    client: Client,
    account: Account,
    in_flight: InFlight,
}

/// Who answers, and with what.
enum Routed {
    Control(Response<ControlBody>),
    /// The answer of a site, and whether the connection ends with it.
    Site(Decided, bool),
}

/// What an answer waits for.
enum Awaited {
    /// What the control plane says to this.
    Control(ControlService, Box<Request<RequestBody>>),
    /// Something of a site.
    Site {
        awaited: answer::Awaited,
        /// Whether search engines may list what is answered.
        is_indexed: bool,
        /// Whether the connection ends with it.
        close: bool,
    },
}

impl Routed {
    fn site(answer: Answer, close: bool) -> Self {
        Self::Site(answer.into(), close)
    }
}

impl Handling {
    /// Answers with what is at hand.
    ///
    /// # Errors
    ///
    /// Says what has to be [waited for](Self::wait_for).
    fn route(&mut self) -> Result<Routed, Awaited> {
        let Self { request, body, client, account, .. } = self;
        let (link, facts) = account.parts();
        let (worker, client) = (&*link.worker, *client);
        let method = Method::parse(request.method());
        let has_body = !body.is_end_stream();
        let fields = Fields::of(request.fields());
        let authority = request.authority();
        let host = match request::host(request.protocol(), authority, fields.hosts.into_iter().flatten()) {
            Ok(host) => host,
            Err(_) => return Ok(Routed::site(head::page(method, Page::BadHost), true)),
        };
        if link.certificate.as_ref().is_some_and(|certificate| !certificate.covers(&host)) {
            return Ok(Routed::site(head::page(method, Page::Misdirected), has_body));
        }
        let target = worker.hosts.target(&host);
        if let (HostTarget::Control, Some(control)) = (target, &worker.control) {
            return match without_tls(worker, method, &host, true, client, request, &fields) {
                https::Verdict::Serve => {
                    let body = mem::replace(body, RequestBody::empty());
                    let Some(forwarded) = request.to_http(body) else {
                        return Ok(Routed::site(head::page(method, Page::BadRequest), true));
                    };
                    // It may be answered late, and is there once.
                    request.forget();
                    facts.goes_to_control();
                    link.watch.goes_to_control();
                    Err(Awaited::Control(control.clone(), Box::new(forwarded)))
                }
                https::Verdict::Redirect(location) => Ok(Routed::site(head::redirect(location), has_body)),
                https::Verdict::Refuse => Ok(Routed::Control(https::refusal())),
            };
        }

        if worker.debug_headers && debug::is_asked(request) {
            facts.debug();
        }
        if fields.has_transfer_encoding {
            return Ok(Routed::site(head::page(method, Page::BadRequest), true));
        }
        if request.count() > worker.limits.fields {
            return Ok(Routed::site(head::page(method, Page::TooManyFields), has_body));
        }
        let length = request.path_and_query().map_or(0, str::len);
        if length > worker.limits.target_bytes {
            return Ok(Routed::site(head::page(method, Page::TargetTooLong), has_body));
        }
        if let https::Verdict::Redirect(location) = without_tls(worker, method, &host, false, client, request, &fields)
        {
            return Ok(Routed::site(head::redirect(location), has_body));
        }
        let (is_indexed, close) = (is_indexed(target), has_body);
        match call(worker, request, client, &fields).answer(&host, target, facts) {
            Ok(decided) => Ok(of_site(decided, is_indexed, close)),
            Err(awaited) => Err(Awaited::Site { awaited, is_indexed, close }),
        }
    }

    /// Waits for what was not at hand, and answers.
    async fn wait_for(mut self, awaited: Awaited) -> Reply {
        let answered = match awaited {
            Awaited::Control(control, request) => {
                caught(pin!(to_control(control, self.client, *request))).await.map(Routed::Control)
            }
            Awaited::Site { awaited, is_indexed, close } => {
                let Self { request, client, account, .. } = &mut self;
                let (link, facts) = account.parts();
                let fields = Fields::of(request.fields());
                let call = call(&link.worker, request, *client, &fields);
                let waiting = pin!(call.wait_for(awaited, facts));
                caught(waiting).await.map(|decided| of_site(decided, is_indexed, close))
            }
        };
        match answered {
            Ok(answer) => self.end(answer),
            Err(_) => self.give_up(),
        }
    }

    /// Answers that it panicked.
    fn give_up(self) -> Reply {
        tracing::error!("a request was given up because its handler panicked");
        self.end(Routed::site(head::page(Method::Get, Page::Internal), true))
    }

    /// Puts the answer together.
    fn end(self, answer: Routed) -> Reply {
        let Self { request, client, mut account, in_flight, .. } = self;
        let (link, _) = account.parts();
        let mut reply = match answer {
            Routed::Control(response) => respond::forwarded(response, in_flight),
            Routed::Site(decided, close) => finish(link, request.protocol(), decided, close, in_flight),
        };
        if let (Some(hsts), true) = (&link.worker.hsts, client.is_tls) {
            // A site may have said something of its own.
            if reply.fields.get(&header::STRICT_TRANSPORT_SECURITY).is_none() {
                reply.fields.append(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
            }
        }
        account.answered(&mut reply);
        reply.body.tell(account);
        request.give_back();
        reply
    }
}

/// What is asked of a site.
fn call<'r>(worker: &'r Worker, request: &'r RequestHead, client: Client, fields: &'r Fields<'r>) -> Call<'r> {
    let (method, (path, query)) = (Method::parse(request.method()), request.path_then_query());
    Call { worker, method, authority: request.authority(), is_tls: client.is_tls, path, query, fields }
}

/// The answer of a site.
fn of_site(mut decided: Decided, is_indexed: bool, close: bool) -> Routed {
    if !is_indexed {
        respond::forbid_indexing(&mut decided.fields);
    }
    Routed::Site(decided, close)
}

fn finish(link: &Link, protocol: Protocol, mut decided: Decided, close: bool, in_flight: InFlight) -> Reply {
    let shared = &link.worker;
    if close && protocol != Protocol::Http2 {
        respond::close(&mut decided.fields);
    }
    let sending = match (protocol, link.certificate.is_some()) {
        (Protocol::Http2, false) => &shared.sending_streams,
        (Protocol::Http2, true) => &shared.sending_sealed_streams,
        (Protocol::Http10 | Protocol::Http11, false) => &shared.sending,
        (Protocol::Http10 | Protocol::Http11, true) => &shared.sending_sealed,
    };
    if let (LargeFiles::Read, Body::File(part), Some(source::Source::File(file))) =
        (sending.large_files, &decided.body, &decided.source)
    {
        shared.caches.note_read(file, part.end - part.start);
    }
    respond::reply(decided, sending, in_flight)
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
    request: &RequestHead,
    fields: &Fields<'_>,
) -> https::Verdict {
    let Some(port) = shared.redirect.filter(|_| !client.is_tls) else { return https::Verdict::Serve };
    let asked = https::Asked {
        method,
        host,
        path_and_query: request.path_and_query().unwrap_or("/"),
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
