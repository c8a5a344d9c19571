//! The account of one request: facts are noted while it is answered, and told when it is over.
//!
//! It lies in the answer's body and ends with it, as the last byte was taken or the client left; or, where the client
//! left before there was an answer, with the future that made one. Only then is it counted and logged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use pinstone_engine::id::ImageId;

use crate::access_log::{Found, Part, Record};
use crate::client::Client;
use crate::debug::Debugging;
use crate::reply::Reply;
use crate::request::Protocol;
use crate::request_head::RequestHead;
use crate::service::{Link, Shared};
use crate::telemetry::{Class, Ended, Lookup, Side, micros};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Up to so many bytes are handed over in no time.
const AT_ONCE: u64 = 64 << 10;

/// One request, from its head to the end of its answer.
#[derive(Debug)]
pub(crate) struct Account {
    link: Arc<Link>,
    /// Boxed: an answer is moved a dozen times on its way, and these are the larger half of it.
    facts: Box<Facts>,
}

/// What is known of a request and its answer so far.
#[derive(Debug)]
pub(crate) struct Facts {
    started: Instant,
    protocol: Protocol,
    side: Side,
    /// Zero until there is an answer.
    status: u16,
    /// The turn of its connection in which there was.
    turn: u32,
    /// The answer ends with its head, whatever its body's length is said to be.
    ends_with_head: bool,
    first_byte: Duration,
    sent: u64,
    complete: bool,
    variant: Option<&'static str>,
    found: Option<Found>,
    record: Option<Box<Record>>,
    /// Where the client asked how its answer came about.
    debugging: Option<Box<Debugging>>,
}

impl Account {
    /// Opens the account of a request that has just arrived.
    pub(crate) fn begin(link: Arc<Link>, client: Client, request: &RequestHead) -> Self {
        link.worker.counters.request_begun();
        let record = link.worker.access_log.as_ref().map(|_| {
            let mut record = record(&link.worker, client.address, request);
            record.tls = link.tls_version;
            record
        });
        let is_head = request.method() == "HEAD";
        Self { link, facts: Box::new(Facts::new(request.protocol(), is_head, record)) }
    }

    /// The connection of the request, and where facts are noted while it is answered.
    pub(crate) fn parts(&mut self) -> (&Link, &mut Facts) {
        (&self.link, &mut self.facts)
    }

    /// There is an answer: its head is on the way.
    pub(crate) fn answered(&mut self, reply: &mut Reply) {
        let facts = &mut self.facts;
        facts.first_byte = facts.started.elapsed();
        facts.turn = self.link.watch.turn();
        facts.status = reply.status.as_u16();
        facts.ends_with_head |= matches!(facts.status, 204 | 304);
        if let Some(debugging) = facts.debugging.take() {
            debugging.mark(facts.found, &mut reply.fields);
        }
        if let (Some(record), Side::Control) = (&mut facts.record, facts.side)
            && let Some(id) = reply.fields.get(&REQUEST_ID)
        {
            record.put(Part::RequestId, id.as_bytes());
        }
    }

    /// Bytes of the body that were taken so far.
    pub(crate) fn sent(&self) -> u64 {
        self.facts.sent
    }

    /// So many bytes of the body were taken.
    pub(crate) fn add_sent(&mut self, bytes: usize) {
        self.facts.sent += bytes as u64;
    }

    /// So many of them go nowhere.
    pub(crate) fn take_back(&mut self, bytes: usize) {
        self.facts.sent = self.facts.sent.saturating_sub(bytes as u64);
    }

    /// The body is over. `complete` says whether its end was reached; otherwise the client cannot have got more than
    /// `at_most` bytes, where that is known.
    pub(crate) fn over(mut self, complete: bool, at_most: Option<u64>) {
        let facts = &mut self.facts;
        facts.complete = complete || facts.ends_with_head;
        if let (false, Some(most)) = (facts.complete, at_most) {
            facts.sent = facts.sent.min(most);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Facts { protocol, side, status, first_byte, sent, complete, variant, found, .. } = *self.facts;
        let Link { worker, watch, .. } = &*self.link;
        // Nothing was waited for and little was sent in between, and to read the clock is what takes longest here.
        let is_at_once = complete && sent <= AT_ONCE && self.facts.turn == watch.turn();
        let last_byte = if is_at_once { first_byte } else { self.facts.started.elapsed() };
        let class = Class::of(status);
        worker.counters.request_ended(&Ended { side, protocol, class, sent, complete, first_byte, last_byte });
        if let (Some(mut record), Some(log)) = (self.facts.record.take(), &worker.access_log) {
            (record.status, record.sent, record.complete) = (status, sent, complete);
            // Without an answer there was no first byte: both are then the moment when the client had left.
            record.first_byte_micros = micros(if status == 0 { last_byte } else { first_byte });
            record.last_byte_micros = micros(last_byte);
            (record.variant, record.cache) = (variant, found);
            log.push(record);
        }
    }
}

impl Facts {
    /// Nothing is known yet but what the request says.
    pub(crate) fn new(protocol: Protocol, is_head: bool, record: Option<Box<Record>>) -> Self {
        Self {
            started: Instant::now(),
            protocol,
            side: Side::Site,
            status: 0,
            turn: 0,
            ends_with_head: is_head,
            first_byte: Duration::ZERO,
            sent: 0,
            complete: false,
            variant: None,
            found: None,
            record,
            debugging: None,
        }
    }

    /// The control plane answers.
    pub(crate) fn goes_to_control(&mut self) {
        self.side = Side::Control;
    }

    /// The client asked how its answer comes about, and may know.
    pub(crate) fn debug(&mut self) {
        self.debugging = Some(Box::new(Debugging::new(self.started)));
    }

    /// The host shows this image.
    pub(crate) fn shows(&mut self, project: &str, environment: Option<&str>, image: &ImageId) {
        if let Some(record) = &mut self.record {
            record.put(Part::Project, project.as_bytes());
            record.put(Part::Environment, environment.unwrap_or_default().as_bytes());
            record.put(Part::Image, image.host_digits().as_bytes());
        }
        if let Some(debugging) = &mut self.debugging {
            debugging.shows(project, image);
        }
    }

    /// Something was found in memory, or had to be loaded; either way it is there now.
    pub(crate) fn looked_up(&mut self, what: Lookup, found: bool) {
        if !found {
            self.found = Some(Found::Miss(match what {
                Lookup::Manifest => "manifest",
                Lookup::SmallBlob | Lookup::OpenFile => "blob",
                Lookup::HostedImage => "image",
            }));
        } else if self.found.is_none() {
            self.found = Some(Found::Hit);
        }
        if let Some(debugging) = &mut self.debugging {
            debugging.step_to(what);
        }
    }

    /// The bytes of a file are sent in this coding.
    pub(crate) fn set_variant(&mut self, coding: &'static str) {
        self.variant = Some(coding);
    }
}

fn record(shared: &Shared, client: IpAddr, request: &RequestHead) -> Box<Record> {
    let mut record = Box::new(Record::new(shared.caches.resolver().clock().now(), client, request.protocol()));
    let field = |name| request.first(name).unwrap_or_default();
    record.put(Part::Method, request.method().as_bytes());
    // An authority in the target replaces the field (RFC 9112 section 3.2.2).
    record.put(Part::Host, request.authority().map_or_else(|| field("host"), |authority| host(authority).as_bytes()));
    record.put(Part::Target, request.path_and_query().unwrap_or_default().as_bytes());
    record.put(Part::Referer, field("referer"));
    record.put(Part::UserAgent, field("user-agent"));
    record.put(Part::RequestId, field("x-request-id"));
    record
}

/// The host of an authority.
fn host(authority: &str) -> &str {
    let behind_user = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    match behind_user.find(']') {
        Some(end) => &behind_user[..=end],
        None => behind_user.split_once(':').map_or(behind_user, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_a_host() {
        for (authority, want) in [
            ("a.test", "a.test"),
            ("a.test:80", "a.test"),
            ("u:p@a.test:80", "a.test"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host(authority), want);
        }
    }
}
