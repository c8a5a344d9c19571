//! TLS: which certificate a client is shown, and how certificates come in.
//!
//! Certificates are read from files into one immutable set, which handshakes look into and nobody locks. The files are
//! looked at every few seconds, off the threads that serve; what changed is read and a new set takes the old one's place.
//! So a connection keeps the certificate that it was shown, and a file that is broken changes nothing.
//!
//! Each certificate has a configuration of its own; they share the keys of tickets and the sessions, so a client resumes on
//! whichever worker it meets. The ClientHello is read before a configuration is chosen, so that a connection knows which
//! certificate it has; what is shown to a challenge, by its protocol, is to be chosen there too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_util::sync::CancellationToken;

mod expiry;
mod files;
pub(crate) mod handshake;
mod load;
mod names;
mod reload;
mod set;

pub use load::{CertificateError, Problem};
pub use names::{CertName, cover};
pub use set::Certificate;

use self::set::Set;

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Sessions of TLS 1.2 clients without tickets that are remembered.
const SESSIONS: usize = 4096;

/// HTTP/2 and HTTP/1, by the names that clients know them by (RFC 7301), best first.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// Where certificates are. Without any, there is nothing that a TLS listener could show.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CertificateSources {
    /// A certificate with its chain, and its key. It is also shown to who names no host, or one that is not there.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// A folder of certificates: `NAME.crt` or `NAME.pem` beside `NAME.key`, a `NAME.pem` with both, and
    /// `NAME/fullchain.pem` beside `NAME/privkey.pem`. The one whose NAME is `default` is shown like a `pair` is.
    pub folder: Option<PathBuf>,
}

/// The certificates of an edge, kept as their files are.
pub struct Certificates {
    sources: CertificateSources,
    template: Template,
    set: ArcSwap<Set>,
    /// What was read, and when it was last different. Only [`Certificates::refresh`] waits for it.
    known: Mutex<reload::Known>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// Why there are no certificates to serve with.
#[derive(Debug, thiserror::Error)]
#[error("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct CertificateErrors {
    /// Each of them.
    pub errors: Vec<CertificateError>,
}

impl Certificates {
    /// Reads all certificates.
    ///
    /// # Errors
    ///
    /// Names every file that is wrong, not only the first, and says so where there is no certificate at all.
    pub fn open(sources: CertificateSources) -> Result<Self, CertificateErrors> {
        let template = Template::new();
        let (known, set, errors) = reload::Known::read(&sources, &template);
        if errors.is_empty() {
            Ok(Self { sources, template, set: ArcSwap::from_pointee(set), known: Mutex::new(known) })
        } else {
            Err(CertificateErrors { errors })
        }
    }

    /// The certificates that are shown now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Certificate>> {
        self.set.load().all().to_vec()
    }

    /// Whether one of the certificates covers `host`.
    #[must_use]
    pub fn cover(&self, host: &pinstone_engine::host::HostName<'_>) -> bool {
        self.set.load().covers(host)
    }

    /// Looks at the files. What differs is read once it has not changed from one look to the next, so that no file is
    /// read that is being written; what is broken then is told once, and what was there before is shown further. Also
    /// tells of certificates that end soon.
    ///
    /// It waits for disks.
    pub fn refresh(&self, now: SystemTime) {
        let mut known = self.known.lock();
        if let Some(set) = known.refresh(&self.sources, &self.template) {
            self.set.store(Arc::new(set));
        }
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        known.expiry.tell(self.set.load().all(), now);
    }

    /// Looks at the files every few seconds, until `shutdown`. To be run where disks may be waited for.
    pub(crate) async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = period.tick() => {}
            }
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.refresh(SystemTime::now())).await {
                tracing::error!(%error, "certificates could not be looked at");
            }
        }
    }

    fn current(&self) -> Arc<Set> {
        self.set.load_full()
    }
}

/// What the configurations of all certificates have in common.
#[derive(Debug)]
struct Template {
    provider: Arc<CryptoProvider>,
    /// Keys of tickets, which change every few hours. Nothing where the system gives no random bytes.
    tickets: Option<Arc<dyn ProducesTickets>>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl Template {
    fn new() -> Self {
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new()
            .inspect_err(|error| tracing::error!(%error, "TLS sessions are not resumed by tickets"))
            .ok();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { provider, tickets, sessions: ServerSessionMemoryCache::new(SESSIONS) }
    }

    fn config(&self, certificate: Arc<CertifiedKey>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites of both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::clone(&self.sessions);
        if let Some(tickets) = &self.tickets {
            config.ticketer = Arc::clone(tickets);
        }
        Arc::new(config)
    }
}
