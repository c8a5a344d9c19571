//! What an edge tells Prometheus about itself.

use std::sync::Arc;

use crate::access_log::Lost;
use crate::metrics::{Exposition, Kind, MetricSource};
use crate::service::Shared;
use crate::telemetry::{BUCKETS, Class, Distribution, LOOKUPS, PROTOCOLS, REFUSALS, SIDES};

/// Microseconds in a second.
const MICROS: f64 = 1e6;

/// The measurements of an [`Edge`](crate::Edge), also while and after it serves.
#[derive(Clone, Debug)]
pub struct EdgeMetrics(pub(crate) Arc<Shared>);

impl MetricSource for EdgeMetrics {
    fn write(&self, out: &mut Exposition) {
        self.requests(out);
        self.connections(out);
        self.memory(out);
        self.certificates(out);
        self.log(out);
        let pointers = self.0.caches.resolver().pointers();
        out.gauge("pinstone_pointer_table_projects", "Projects that are known.", pointers.len());
        out.gauge("pinstone_pointer_table_pointers", "Environments and previews that show an image.", pointers.shown());
    }
}

impl EdgeMetrics {
    fn requests(&self, out: &mut Exposition) {
        let counters = &self.0.counters;
        let mut family = out.family(
            "pinstone_edge_requests_total",
            Kind::Counter,
            "Requests that have ended, by class of the status (none: the client left before there was one), protocol, \
             and who answered.",
        );
        for (side, target) in SIDES.into_iter().enumerate() {
            for (number, protocol) in PROTOCOLS.into_iter().enumerate() {
                for class in Class::ALL.into_iter().skip(1) {
                    let labels = [("class", class.label()), ("protocol", protocol), ("target", target)];
                    family = family.sample(&labels, counters.ended(side, number, class));
                }
            }
        }
        let in_flight = counters.requests_in_flight();
        out.gauge("pinstone_edge_requests_in_flight", "Requests that are being answered.", in_flight);
        let mut family = out.family(
            "pinstone_edge_answers_broken_off_total",
            Kind::Counter,
            "Answers whose body did not reach its end, because the client left, was cut, or a file could not be read.",
        );
        for (side, target) in SIDES.into_iter().enumerate() {
            family = family.sample(&[("target", target)], counters.broken_off(side));
        }
        let mut family = out.family(
            "pinstone_edge_sent_bytes_total",
            Kind::Counter,
            "Bytes of bodies that were sent, without heads.",
        );
        for (side, target) in SIDES.into_iter().enumerate() {
            family = family.sample(&[("target", target)], counters.sent(side));
        }
        let mut histogram = |name, help, all: Distribution| {
            out.histogram(name, help, MICROS, &BUCKETS, &all.counts, all.micros);
        };
        histogram(
            "pinstone_edge_first_byte_seconds",
            "From a request's head to its answer's, on hosts of sites.",
            counters.first_byte(),
        );
        histogram(
            "pinstone_edge_last_byte_seconds",
            "From a request's head to the last byte of its answer, on hosts of sites, where that was reached.",
            counters.last_byte(),
        );
        let mut family =
            out.family("pinstone_edge_cache_hits_total", Kind::Counter, "What was looked for in memory and found.");
        for (number, cache) in LOOKUPS.into_iter().enumerate() {
            family = family.sample(&[("cache", cache)], counters.hits(number));
        }
        let mut family = out.family(
            "pinstone_edge_cache_misses_total",
            Kind::Counter,
            "What was looked for in memory and had to be loaded.",
        );
        for (number, cache) in LOOKUPS.into_iter().enumerate() {
            family = family.sample(&[("cache", cache)], counters.misses(number));
        }
    }

    fn connections(&self, out: &mut Exposition) {
        let (counters, limits) = (&self.0.counters, &self.0.limits);
        out.gauge("pinstone_edge_connections_open", "Connections that are open.", counters.open_connections());
        out.gauge("pinstone_edge_connections_limit", "Connections that may be open.", limits.connections);
        out.counter(
            "pinstone_edge_connections_accepted_total",
            "Connections that were accepted.",
            counters.accepted_connections(),
        );
        let mut family = out.family(
            "pinstone_edge_connections_refused_total",
            Kind::Counter,
            "Connections that were closed as soon as they were accepted, by reason.",
        );
        for (number, reason) in REFUSALS.into_iter().enumerate() {
            family = family.sample(&[("reason", reason)], counters.refused(number));
        }
        out.gauge("pinstone_edge_workers", "Threads that serve.", counters.workers());
    }

    fn memory(&self, out: &mut Exposition) {
        let (sending, limits) = (&self.0.sending, &self.0.limits);
        let used = limits.window_memory.saturating_sub(sending.budget.available());
        out.gauge("pinstone_edge_window_bytes", "Memory of windows of large files that are being sent.", used);
        let most = limits.window_memory;
        out.gauge("pinstone_edge_window_limit_bytes", "Memory that windows of large files may take.", most);
        let sizes = self.0.caches.sizes();
        let mut family = out.family("pinstone_edge_cache_entries", Kind::Gauge, "What is kept in memory, roughly.");
        for size in sizes {
            family = family.sample(&[("cache", size.name)], size.entries);
        }
        let mut family = out.family(
            "pinstone_edge_cache_weight",
            Kind::Gauge,
            "What is kept in memory by its weight, roughly: bytes of manifests and small files, a count of open files \
             and of images by their own hosts.",
        );
        for size in sizes {
            family = family.sample(&[("cache", size.name)], size.weight);
        }
        let mut family =
            out.family("pinstone_edge_cache_weight_limit", Kind::Gauge, "The weight that may be kept in memory.");
        for size in sizes {
            family = family.sample(&[("cache", size.name)], size.limit);
        }
    }

    fn certificates(&self, out: &mut Exposition) {
        let Some(certificates) = &self.0.certificates else { return };
        out.counter(
            "pinstone_edge_tls_handshakes_failed_total",
            "TLS handshakes that did not come to their end.",
            self.0.counters.failed_handshakes(),
        );
        let mut family = out.family(
            "pinstone_edge_tls_certificate_end_seconds",
            Kind::Gauge,
            "When a certificate ends, in seconds since the epoch, by the file that it was read from and its first name.",
        );
        for certificate in certificates.all() {
            let name = certificate.names().first().map(ToString::to_string).unwrap_or_default();
            let file = certificate.source().display().to_string();
            family = family.sample(&[("file", &file), ("name", &name)], certificate.not_after());
        }
    }

    fn log(&self, out: &mut Exposition) {
        let Some(log) = &self.0.access_log else { return };
        out.counter("pinstone_access_log_records_total", "Records that were written to the access log.", log.written());
        out.family(
            "pinstone_access_log_lost_total",
            Kind::Counter,
            "Records that are not in the access log, by reason.",
        )
        .sample(&[("reason", "queue_full")], log.lost(Lost::QueueFull))
        .sample(&[("reason", "write_failed")], log.lost(Lost::WriteFailed));
    }
}
