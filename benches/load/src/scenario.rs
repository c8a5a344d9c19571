//! What is measured: the list of scenarios, and which of their figures is compared.

use crate::corpus::{LOOKED_FOR, MISSING, PAGES};
use crate::measure::Metric;
use crate::report::figure;

/// Connections where a scenario is not about their number.
const CONNECTIONS: usize = 64;
/// Fewer for large files, so that what is under way when the clock stops does not count.
const LARGE_CONNECTIONS: usize = 16;
/// Connections of those that share nothing but a handshake.
pub(crate) const HANDSHAKES: usize = CONNECTIONS;
/// Connections that wait.
const IDLE: usize = 5000;

/// One thing to measure of every server.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Names it on the command line and in JSON.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) work: Work,
    /// The figure that servers are compared by.
    pub(crate) lead: Metric,
}

/// What is done.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Http(Http),
    /// HTTP/2: over TLS, or without it by prior knowledge.
    Http2 {
        path: &'static str,
        clients: usize,
        streams: usize,
        tls: bool,
    },
    /// A connection with a full TLS handshake per request.
    Handshake,
    /// Small requests alone, and beside one large download.
    Fairness,
    /// Small requests for a hot file alone, and beside reads of files that memory has no room for.
    Cold,
    /// Memory of connections that wait.
    Idle {
        connections: usize,
        over: Over,
    },
    /// From the start of the process to the first answer.
    ColdStart,
    /// Load spread over sites that `pinstone admin import` made.
    Sites {
        sites: usize,
    },
    /// A start with as many sites.
    ColdStartOfSites {
        sites: usize,
    },
    /// Publishing, by programs rather than servers.
    Publish,
}

/// What connections speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    Http1,
    Https,
    Http2Tls,
}

impl Work {
    /// Whether it takes a server that serves TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        match self {
            Self::Http(http) => http.tls,
            Self::Http2 { tls, .. } => *tls,
            Self::Handshake => true,
            Self::Idle { over, .. } => *over != Over::Http1,
            _ => false,
        }
    }
}

/// Load over HTTP/1.1.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) target: Target,
    pub(crate) tls: bool,
    pub(crate) connections: usize,
    /// Whether each request has a connection of its own.
    pub(crate) close: bool,
    /// Whether requests carry the validator of what they ask for.
    pub(crate) conditional: bool,
    /// What every answer must have.
    pub(crate) status: u16,
    /// Whether the constant answer can stand beside it.
    pub(crate) floor: bool,
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    One(&'static str),
    Pages,
    Folder(usize),
    /// 64 KiB of a file of 10 MiB, anywhere.
    Ranges,
}

/// The names of what publishing measures, in the order one flow measures them.
pub(crate) const PUBLISH: [&str; 3] = ["publish", "republish-same", "republish-20"];

/// Every scenario, in the order of the report. `folders` are the titles of one's own files.
pub(crate) fn all(folders: &[String], publish_files: usize) -> Vec<Scenario> {
    let get = |path| Http {
        target: Target::One(path),
        tls: false,
        connections: CONNECTIONS,
        close: false,
        conditional: false,
        status: 200,
        floor: false,
    };
    let small = || Http { floor: true, ..get("/1k.bin") };
    let mut all = Vec::new();
    let mut add = |name: &str, title: &str, lead, work| {
        all.push(Scenario { name: name.to_owned(), title: title.to_owned(), work, lead });
    };
    let cpu = Metric::CpuMicros;
    add("1k", "1 KiB", cpu, Work::Http(small()));
    add("16k", "16 KiB", cpu, Work::Http(get("/16k.bin")));
    add("100k", "100 KiB", cpu, Work::Http(get("/100k.bin")));
    let large = Http { connections: LARGE_CONNECTIONS, ..get("/10m.bin") };
    add("10m", "10 MiB, 16 connections", cpu, Work::Http(large));
    add(
        "pages",
        &format!("{} pages of 0.7 to 20 KiB, at random", figure(PAGES as f64)),
        cpu,
        Work::Http(Http { target: Target::Pages, ..get("") }),
    );
    for (number, title) in folders.iter().enumerate() {
        let work = Work::Http(Http { target: Target::Folder(number), ..get("") });
        add(&format!("folder-{number}"), title, cpu, work);
    }
    let ranges = Http { target: Target::Ranges, status: 206, ..get("") };
    add("range-64k", "64 KiB ranges of 10 MiB", cpu, Work::Http(ranges));
    add("304", "304 to a validator", cpu, Work::Http(Http { conditional: true, status: 304, ..get("/1k.bin") }));
    let not_found = |path| Work::Http(Http { status: 404, ..get(path) });
    add("404", "404", cpu, not_found(MISSING));
    add("404-looked-for", "404, looked for each time", cpu, not_found(LOOKED_FOR));
    add("1k-c1000", "1 KiB, 1,000 connections", cpu, Work::Http(Http { connections: 1000, ..small() }));
    add("1k-close", "1 KiB, a connection per request", cpu, Work::Http(Http { close: true, ..small() }));
    let h2 = |path, streams, tls| Work::Http2 { path, clients: 4, streams, tls };
    add("h2-1k", "1 KiB, HTTP/2 cleartext, 4 × 32 streams", cpu, h2("/1k.bin", 32, false));
    add("h2-100k", "100 KiB, HTTP/2 cleartext, 4 × 32 streams", cpu, h2("/100k.bin", 32, false));
    let tls = |path| Http { tls: true, ..get(path) };
    add("tls-1k", "1 KiB, TLS 1.3", cpu, Work::Http(tls("/1k.bin")));
    add("tls-100k", "100 KiB, TLS 1.3", cpu, Work::Http(tls("/100k.bin")));
    let large = Http { connections: LARGE_CONNECTIONS, ..tls("/10m.bin") };
    add("tls-10m", "10 MiB, TLS 1.3, 16 connections", cpu, Work::Http(large));
    add("tls-handshake", "full TLS 1.3 handshake + 1 KiB", cpu, Work::Handshake);
    add("tls-h2-1k", "1 KiB, HTTP/2 over TLS, 4 × 32 streams", cpu, h2("/1k.bin", 32, true));
    add("tls-h2-100k", "100 KiB, HTTP/2 over TLS, 4 × 32 streams", cpu, h2("/100k.bin", 32, true));
    add("tls-h2-100k-16", "100 KiB, HTTP/2 over TLS, 4 × 16 streams", cpu, h2("/100k.bin", 16, true));
    add("fair", "1 KiB, 16 connections, beside one 10 MiB download", Metric::P99, Work::Fairness);
    add("cold", "1 KiB, 16 connections, beside reads of files that memory has no room for", Metric::P99, Work::Cold);
    for (name, what, over) in [
        ("idle-5000", "", Over::Http1),
        ("idle-tls-5000", ", TLS 1.3", Over::Https),
        ("idle-h2-tls-5000", ", HTTP/2 over TLS", Over::Http2Tls),
    ] {
        let work = Work::Idle { connections: IDLE, over };
        add(name, &format!("{} idle connections{what}", figure(IDLE as f64)), Metric::IdleKib, work);
    }
    add("cold-start", "cold start", Metric::StartMillis, Work::ColdStart);
    for (sites, number) in [(1, "1"), (1000, "1,000"), (100_000, "100,000")] {
        let title = format!("1 KiB, spread over {number} {}", if sites == 1 { "site" } else { "sites" });
        add(&format!("sites-{sites}"), &title, cpu, Work::Sites { sites });
    }
    let work = Work::ColdStartOfSites { sites: 100_000 };
    add("cold-start-100000", "cold start with 100,000 sites", Metric::StartMillis, work);
    for (name, what) in PUBLISH.into_iter().zip(["", " again, nothing changed", " again, 20 changed"]) {
        add(
            name,
            &format!("publish {} small files{what}", figure(publish_files as f64)),
            Metric::Seconds,
            Work::Publish,
        );
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ() {
        let all = all(&["one".to_owned(), "other".to_owned()], 20);
        assert_eq!(all.iter().map(|scenario| &scenario.name).collect::<HashSet<_>>().len(), all.len());
        let tls = all.iter().filter(|scenario| scenario.work.needs_tls()).map(|scenario| scenario.name.as_str());
        assert!(tls.clone().all(|name| name.contains("tls")), "{:?}", tls.collect::<Vec<_>>());
        assert_eq!(all.iter().filter(|scenario| scenario.name.contains("tls")).count(), tls.count());
        assert!(PUBLISH.iter().all(|name| all.iter().any(|scenario| scenario.name == *name)));
    }
}
