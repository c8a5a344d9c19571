//! The certificates of one moment, by the names that they are for.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pinstone_engine::host::HostName;
use rustls::sign::SigningKey;
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme};

use super::names::{self, CertName};

/// A certificate that can be shown, with its key.
pub struct Certificate {
    names: Vec<CertName>,
    not_after: i64,
    source: PathBuf,
    is_default: bool,
    key: Arc<dyn SigningKey>,
    config: Arc<ServerConfig>,
}

impl Certificate {
    pub(super) fn new(
        names: Vec<CertName>,
        not_after: i64,
        source: PathBuf,
        is_default: bool,
        key: Arc<dyn SigningKey>,
        config: Arc<ServerConfig>,
    ) -> Self {
        Self { names, not_after, source, is_default, key, config }
    }

    /// The names that it is for.
    #[must_use]
    pub fn names(&self) -> &[CertName] {
        &self.names
    }

    /// When it ends, in seconds since the epoch.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The file that it was read from.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Whether it is for `host`.
    pub(crate) fn covers(&self, host: &HostName<'_>) -> bool {
        names::cover(&self.names, host)
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What comes first where several are for a name: what costs less to sign with, then what lasts longer.
    fn rank(&self) -> impl Ord + use<'_> {
        let is_rsa = self.key.algorithm() == SignatureAlgorithm::RSA;
        (is_rsa, std::cmp::Reverse(self.not_after), &self.source)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is nobody's business.
        let Self { names, not_after, source, is_default, .. } = self;
        f.debug_struct("Certificate")
            .field("names", names)
            .field("not_after", not_after)
            .field("source", source)
            .field("is_default", is_default)
            .finish_non_exhaustive()
    }
}

/// What a client says before it is shown a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hello<'h> {
    /// The name that it asks for (RFC 6066 section 3).
    pub(crate) name: Option<&'h str>,
    /// The address that it connected to, which is all there is where it asks for none.
    pub(crate) address: Option<IpAddr>,
    /// What it can check.
    pub(crate) schemes: &'h [SignatureScheme],
}

/// Certificates, best first, by their names.
#[derive(Debug, Default)]
pub(crate) struct Set {
    all: Vec<Arc<Certificate>>,
    exact: HashMap<Box<str>, Vec<Arc<Certificate>>>,
    wildcard: HashMap<Box<str>, Vec<Arc<Certificate>>>,
    addresses: HashMap<IpAddr, Vec<Arc<Certificate>>>,
    default: Vec<Arc<Certificate>>,
}

impl Set {
    pub(super) fn new(mut all: Vec<Arc<Certificate>>) -> Self {
        all.sort_by(|one, other| one.rank().cmp(&other.rank()));
        let mut set = Self::default();
        for certificate in &all {
            for name in &certificate.names {
                match name {
                    CertName::Exact(name) => put(&mut set.exact, name.clone(), certificate),
                    CertName::Wildcard(rest) => put(&mut set.wildcard, rest.clone(), certificate),
                    CertName::Ip(address) => put(&mut set.addresses, *address, certificate),
                }
            }
        }
        set.default = all.iter().filter(|certificate| certificate.is_default).cloned().collect();
        if set.default.is_empty()
            && let [only] = &*all
        {
            set.default.push(Arc::clone(only));
        }
        set.all = all;
        set
    }

    pub(super) fn all(&self) -> &[Arc<Certificate>] {
        &self.all
    }

    pub(super) fn covers(&self, host: &HostName<'_>) -> bool {
        match host.ip() {
            Some(address) => self.addresses.contains_key(&address.to_canonical()),
            None => self.exact.contains_key(host.as_str()) || self.wildcard.contains_key(parent(host.as_str())),
        }
    }

    /// The certificate to show: the one for the very name, else a wildcard's, else the default one. Where none is left, a
    /// client is told nothing, not even which names there are.
    pub(super) fn choose(&self, hello: &Hello<'_>) -> Option<&Arc<Certificate>> {
        let named = match hello.name {
            Some(name) => {
                // A name as clients write it: in any case, without a dot at the end.
                let name = name.to_ascii_lowercase();
                self.exact.get(&*name).or_else(|| self.wildcard.get(parent(&name)))
            }
            None => hello.address.and_then(|address| self.addresses.get(&address.to_canonical())),
        };
        let candidates = named.unwrap_or(&self.default);
        candidates.iter().find(|one| one.key.choose_scheme(hello.schemes).is_some()).or(candidates.first())
    }
}

fn put<K: Eq + Hash>(map: &mut HashMap<K, Vec<Arc<Certificate>>>, key: K, certificate: &Arc<Certificate>) {
    map.entry(key).or_default().push(Arc::clone(certificate));
}

/// What follows the first label.
fn parent(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, parent)| parent)
}
