//! What an edge is given: the names it answers to, where it may wait, and its bounds.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pinstone_engine::host::Hosts;
use tokio::runtime::Handle;

use crate::access_log::AccessLog;
use crate::client::Networks;
use crate::https::HttpsConfig;
use crate::tls::Certificates;

/// The configuration of an [`Edge`](crate::Edge).
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// The names of this installation.
    pub hosts: Hosts,
    /// The runtime that loads manifests and blobs and reads what is not in the page cache. Its threads may wait.
    pub loader: Handle,
    /// The threads that serve, each with its own runtime and accept queue: what [`Listeners`](crate::Listeners) are made
    /// for.
    pub workers: NonZeroUsize,
    /// What a client may ask for and how long it may take.
    pub limits: Limits,
    /// How much is kept in memory.
    pub cache: CacheConfig,
    /// Where requests are logged.
    pub access_log: Option<AccessLog>,
    /// Whether the kernel sends large files without TLS as they lie in the page cache (`sendfile` and `splice`), rather than copy
    /// them, or over HTTP/2 have them read. Nothing for what is mostly better: to send them, unless TCP's congestion control is BBR.
    pub sendfile: Option<bool>,
    /// Whether who asks by `Pinstone-Debug: 1` is told how an answer came about.
    pub debug_headers: bool,
    /// What is shown on the addresses that TLS is spoken on.
    pub certificates: Option<Arc<Certificates>>,
    /// What HTTPS means beside HTTP.
    pub https: HttpsConfig,
    /// Who may say for whom they ask. Nobody by default.
    pub trusted_proxies: Networks,
    /// Whether the connections of trusted proxies begin with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Sources that may have any number of connections, beside trusted proxies. This machine by default, for that is where
    /// a proxy mostly is.
    pub uncapped: Networks,
}

impl EdgeConfig {
    /// The defaults, with as many workers as there are cores.
    #[must_use]
    pub fn new(hosts: Hosts, loader: Handle) -> Self {
        Self {
            hosts,
            loader,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            cache: CacheConfig::default(),
            access_log: None,
            sendfile: None,
            debug_headers: false,
            certificates: None,
            https: HttpsConfig::default(),
            trusted_proxies: Networks::default(),
            proxy_protocol: false,
            uncapped: Networks::loopback(),
        }
    }

    /// Checks every bound.
    ///
    /// # Errors
    ///
    /// Names all that cannot be served with, not only the first.
    pub fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let mut mistakes = Vec::new();
        let mut need = |holds: bool, mistake: &'static str| {
            if !holds {
                mistakes.push(mistake);
            }
        };
        need(limits.connections >= self.workers.get(), "connections must be at least the number of workers");
        need(limits.head_bytes >= 8 << 10, "head_bytes must be at least 8 KiB");
        need(limits.target_bytes >= 1 << 10, "target_bytes must be at least 1 KiB");
        need(limits.fields >= 1, "fields must be at least 1");
        need(limits.window_bytes >= 4 << 10, "window_bytes must be at least 4 KiB");
        need(limits.window_bytes <= 16 << 20, "window_bytes must be at most 16 MiB");
        need(limits.window_memory >= 4 * limits.window_bytes as u64, "window_memory must be at least 4 windows");
        let timeouts = [limits.head_timeout, limits.write_timeout, limits.idle_timeout];
        need(timeouts.iter().all(|timeout| !timeout.is_zero()), "timeouts must not be zero");
        need(self.cache.open_files >= 1, "open_files must be at least 1");
        need(self.cache.small_blob <= 16 << 20, "small_blob must be at most 16 MiB");
        if mistakes.is_empty() { Ok(()) } else { Err(ConfigError { mistakes }) }
    }
}

/// Values that an edge cannot serve with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", mistakes.join("; "))]
pub struct ConfigError {
    /// Each of them, as a sentence.
    pub mistakes: Vec<&'static str>,
}

/// What a client may ask for and how long it may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once, over all workers. Further ones wait in the listen backlog.
    pub connections: usize,
    /// Connections open at once from one source: an IPv4 address, or a /64 of IPv6. Further ones are reset. Zero is any
    /// number.
    pub connections_per_source: usize,
    /// Bytes of a request's head; beyond: 431.
    pub head_bytes: usize,
    /// Fields of a request's head; beyond: 431.
    pub fields: usize,
    /// Bytes of a request's target on a site's host; beyond: 414.
    pub target_bytes: usize,
    /// Bytes of a large file that one answer holds in memory at a time.
    pub window_bytes: usize,
    /// Bytes of windows of all answers together; further ones wait.
    pub window_memory: u64,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// Without a byte taken by a client that is being sent a file.
    pub write_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// From the wish to shut down to cutting what is still being answered.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            // Some 40 people behind one address, with 6 connections of HTTP/1 each; and a fortieth of all there are.
            connections_per_source: 256,
            head_bytes: 32 << 10,
            fields: 100,
            target_bytes: 8 << 10,
            window_bytes: 64 << 10,
            window_memory: 256 << 20,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// How much is kept in memory. What is cached is named by a hash, so nothing here expires but answers about images.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// Bytes of manifests.
    pub manifest_bytes: u64,
    /// Bytes of small blobs.
    pub blob_bytes: u64,
    /// The largest blob that is kept whole whenever it is asked for, in bytes; larger ones are sent from files.
    pub small_blob: u64,
    /// Bytes of larger blobs that are asked for often over TLS or HTTP/2, in memory as a whole; none of more than an eighth of that.
    pub often_bytes: u64,
    /// Bytes of what the workers together have at hand of the files that they sent lately: heads of answers, and small
    /// blobs, which are mostly those of `blob_bytes`.
    pub hot_bytes: u64,
    /// Files kept open, each with a mapping of its own (the kernel has `vm.max_map_count` for a process, mostly 65,530); as many more
    /// may be of those that are in memory.
    pub open_files: u64,
    /// SHA-256 digests of files that were asked for with their digests, some 100 bytes each.
    pub digests: u64,
    /// Answers about images that were asked for by their own host.
    pub hosted_images: u64,
    /// How long a host's image is served before it is asked again whether it is still kept.
    pub hosted_image_ttl: Duration,
    /// How long a host without an image stays one.
    pub missing_image_ttl: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            manifest_bytes: 256 << 20,
            blob_bytes: 256 << 20,
            small_blob: 512 << 10,
            often_bytes: 128 << 20,
            hot_bytes: 256 << 20,
            open_files: 1024,
            digests: 10_000,
            hosted_images: 10_000,
            hosted_image_ttl: Duration::from_secs(60),
            missing_image_ttl: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinstone_engine::host::HostName;

    #[tokio::test]
    async fn all_mistakes_are_named_at_once() {
        let hosts = Hosts::new(&HostName::parse("localhost").unwrap(), None);
        let mut config = EdgeConfig::new(hosts, Handle::current());
        assert_eq!(config.check(), Ok(()));
        config.limits.connections = 0;
        config.limits.idle_timeout = Duration::ZERO;
        config.cache.open_files = 0;
        assert_eq!(config.check().unwrap_err().mistakes.len(), 3);
    }
}
