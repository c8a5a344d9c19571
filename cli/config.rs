//! What `serve` runs with. Every key is in one file, a flag and a variable; a flag beats a variable beats the file beats
//! the default.
//!
//! Nothing here stops at the first mistake: an operator who has three wrong keys is told three, before a socket opens.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pinstone_api::DomainConfig;
use pinstone_api::config::{PublicUrl, Rates};
use pinstone_edge::{AccessLogConfig, CacheConfig, Certificates, EdgeConfig, Limits as EdgeLimits, Networks};
use pinstone_engine::StorageOptions;
use pinstone_engine::accounts::Registration;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::limits::Limits as EngineLimits;
use pinstone_engine::objects::S3Options;
use pinstone_engine::variants::VariantOptions;
use tokio::runtime::Handle;

use crate::error::{CliError, Exit};

mod args;
mod keys;
mod layers;
mod parts;
mod reader;
#[cfg(test)]
mod tests;
mod tls;
mod values;

pub(crate) use args::{DataArgs, StoreArgs};
pub(crate) use keys::Flags;
use layers::{read_file, variables};
use reader::Reader;
pub(crate) use tls::TlsConfig;

/// What `serve` runs with, all of it checked.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) data: PathBuf,
    pub(crate) storage: StorageOptions,
    /// `None` for both loopback addresses on port 8080.
    pub(crate) listen: Option<Vec<SocketAddr>>,
    pub(crate) base_domain: HostName<'static>,
    pub(crate) control_hosts: Option<Vec<HostName<'static>>>,
    /// `None` for the base domain and the port that is listened on.
    pub(crate) public_url: Option<PublicUrl>,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) access_log: Option<AccessLogConfig>,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) limits: EngineLimits,
    pub(crate) api: ApiBounds,
    pub(crate) domains: DomainConfig,
    pub(crate) variants: VariantOptions,
    pub(crate) workers: NonZeroUsize,
    pub(crate) edge: EdgeLimits,
    pub(crate) cache: CacheConfig,
    pub(crate) sendfile: Option<bool>,
    pub(crate) debug_headers: bool,
    /// From the wish to end to the end of accepting.
    pub(crate) shutdown_delay: Duration,
    pub(crate) trusted_proxies: Networks,
    pub(crate) proxy_protocol: bool,
    pub(crate) tls: TlsConfig,
    /// What is shown where `tls` listens.
    pub(crate) certificates: Option<Arc<Certificates>>,
}

impl ServerConfig {
    /// The names that the server answers to.
    pub(crate) fn hosts(&self) -> Hosts {
        Hosts::new(&self.base_domain, self.control_hosts.as_deref())
    }

    /// The edge's part, with the runtime that may wait for disks.
    pub(crate) fn edge(&self, loader: Handle) -> EdgeConfig {
        EdgeConfig {
            workers: self.workers,
            limits: self.edge.clone(),
            cache: self.cache.clone(),
            sendfile: self.sendfile,
            debug_headers: self.debug_headers,
            certificates: self.certificates.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            proxy_protocol: self.proxy_protocol,
            ..EdgeConfig::new(self.hosts(), loader)
        }
    }
}

/// The control plane's bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ApiBounds {
    pub(crate) plan_memory: u64,
    pub(crate) json_size: u64,
    pub(crate) idle_timeout: Duration,
    pub(crate) json_timeout: Duration,
    pub(crate) archives: u64,
    pub(crate) archive_spool: u64,
    pub(crate) archive_timeout: Duration,
    pub(crate) rates: Rates,
    /// Without it, it depends on the base domain.
    pub(crate) registration: Option<Registration>,
    pub(crate) password_length: usize,
    pub(crate) session_life: Duration,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Reads the configuration, and the certificates that it names. `file` is what a flag named; `variable` reads the
/// environment.
///
/// # Errors
///
/// Names every mistake, one a line.
pub(crate) fn load(
    file: Option<&Path>,
    flags: Flags,
    variable: impl Fn(&str) -> Option<String>,
    loader: Handle,
) -> Result<ServerConfig, CliError> {
    read(file, flags, variable, loader, true)
}

fn read(
    file: Option<&Path>,
    flags: Flags,
    variable: impl Fn(&str) -> Option<String>,
    loader: Handle,
    opens_certificates: bool,
) -> Result<ServerConfig, CliError> {
    let mut mistakes = Vec::new();
    let named = file.map(Path::to_owned).or_else(|| variable("PINSTONE_CONFIG").map(PathBuf::from));
    let layers = [flags.into_layer(), variables(&variable), read_file(named.as_deref(), &mut mistakes)];
    let s3 = S3Options::from_variables(&variable);
    let mut config = Reader { layers, mistakes: &mut mistakes }.read(loader, s3);
    if opens_certificates {
        match config.tls.open() {
            Ok(certificates) => config.certificates = certificates.map(Arc::new),
            Err(wrong) => mistakes.extend(wrong.errors.iter().map(ToString::to_string)),
        }
    }
    if mistakes.is_empty() {
        return Ok(config);
    }
    let message = match &*mistakes {
        [only] => format!("the configuration is wrong: {only}"),
        all => format!("the configuration has {} mistakes:\n  {}", all.len(), all.join("\n  ")),
    };
    Err(CliError::new(Exit::Usage, "invalid_configuration", message)
        .hint("`pinstone serve --help` describes every key; `pinstone check-config` tries it without serving"))
}
