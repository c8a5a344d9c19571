//! What `serve` runs with. Every key is in one file, a flag and a variable; a flag beats a variable beats the file beats
//! the default.
//!
//! Nothing here stops at the first mistake: an operator who has three wrong keys is told three, before a socket opens.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pinstone_api::DomainConfig;
use pinstone_api::config::{PublicUrl, Rates};
use pinstone_edge::{
    AccessLogConfig, AccessLogFormat, CacheConfig, Certificates, EdgeConfig, Limits as EdgeLimits, Networks,
};
use pinstone_engine::accounts::Registration;
use pinstone_engine::blob::DiskCacheOptions;
use pinstone_engine::domains::proof::DomainRules;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::limits::Limits as EngineLimits;
use pinstone_engine::objects::S3Options;
use pinstone_engine::variants::VariantOptions;
use pinstone_engine::{StorageOptions, StoreUrl};
use tokio::runtime::Handle;

use crate::error::{CliError, Exit, plain};

mod tls;
mod values;

pub(crate) use tls::TlsConfig;
use values::{
    access_log, address, batch_files, batch_size, count, count_or_off, count_or_zero, domain, domains_per_team,
    duration, duration_or_zero, fetches, fields, filter, host, ip_address, log_format, message_length, network,
    password_length, rate, size, size_or_off, size_or_zero, switch, upload_memory, variant_workers, workers,
};

/// The file that is read where no flag names one.
pub(crate) const DEFAULT_FILE: &str = "pinstone-server.toml";

/// Declares every key once: its flag, and how it is spelled in the file.
macro_rules! keys {
    ($($(#[$doc:meta])* $field:ident: $key:literal, $flag:literal, $value:literal $(, $list:ident)?;)*) => {
        /// The configuration's keys, as flags.
        #[derive(Clone, Debug, Default, clap::Args)]
        #[command(next_help_heading = "Configuration (flag, variable `PINSTONE_…`, or key in the file)")]
        pub(crate) struct Flags {
            $($(#[$doc])*
            #[arg(long = $flag, value_name = $value, hide_short_help = $key.contains('.') $(, num_args = $list())?)]
            $field: Vec<String>,)*
        }

        impl Flags {
            fn into_layer(self) -> Layer {
                let mut layer = Layer::new();
                $(if !self.$field.is_empty() {
                    layer.insert($key, Given { values: self.$field, origin: concat!("`--", $flag, "`").to_owned() });
                })*
                layer
            }
        }

        /// Every key, as the file spells it.
        const KEYS: &[&str] = &[$($key),*];
    };
}

fn list() -> std::ops::RangeFrom<usize> {
    1..
}

keys! {
    /// The data folder [default: ./pinstone-data]
    data: "data", "data", "DIR";
    /// Where to listen; port 0 takes any free port [default: 127.0.0.1:8080 [::1]:8080]
    listen: "listen", "listen", "ADDR", list;
    /// Where files are kept: `s3://bucket/prefix`, or a folder's path [default: as remembered, or DATA/objects]
    blobs: "blobs", "blobs", "URL";
    /// The domain that sites are under [default: localhost]
    base_domain: "base_domain", "base-domain", "NAME";
    /// Where this server is reached [default: http://<base domain>:<port>]
    public_url: "public_url", "public-url", "URL";
    /// The hosts of the API [default: the base domain, api. and console. under it, and IP addresses]
    control_hosts: "control_hosts", "control-hosts", "NAME", list;
    /// Who may register: `open`, `invite` or `closed` [default: open where the base domain is localhost, else closed]
    registration: "registration", "registration", "WHO";
    /// How the log looks: `text` or `json` [default: text]
    log_format: "log_format", "log-format", "FORMAT";
    /// What is logged, such as `info` or `warn,pinstone_api=debug` [default: warn,h2=error,pinstone=info]
    log: "log", "log", "FILTER";
    /// Where requests are logged: a file, or `-` for standard output [default: nowhere]
    access_log: "access_log", "access-log", "FILE";
    /// How the access log looks: `json` or `combined` [default: json]
    access_log_format: "access_log_format", "access-log-format", "FORMAT";
    /// Where `/metrics`, `/healthz` and `/readyz` are answered [default: nowhere]
    metrics_listen: "metrics_listen", "metrics-listen", "ADDR";
    /// Proxies that may say for whom they ask, by Forwarded, X-Forwarded-For and -Proto [default: none]
    trusted_proxies: "trusted_proxies", "trusted-proxy", "CIDR", list;
    /// Where to listen for TLS [default: nowhere]
    tls_listen: "tls.listen", "tls-listen", "ADDR", list;
    /// A certificate and its chain, as PEM; also for who names no host, or an unknown one
    tls_cert: "tls.cert", "tls-cert", "FILE";
    /// The certificate's private key, as PEM
    tls_key: "tls.key", "tls-key", "FILE";
    /// A folder of certificates: NAME.crt or NAME.pem and NAME.key, or NAME/fullchain.pem and NAME/privkey.pem
    tls_dir: "tls.dir", "tls-dir", "DIR";
    /// Send visitors without TLS to HTTPS, and refuse API calls without it: `true` or `false` [default: false]
    tls_redirect: "tls.redirect", "tls-redirect", "BOOL";
    /// How long browsers that came over TLS are to use nothing else; `0` takes it back [default: not said]
    tls_hsts: "tls.hsts", "tls-hsts", "DURATION";
    /// Files of one plan; `0` is without a limit [default: 200000]
    limits_files: "limits.files", "limits-files", "COUNT";
    /// Size of one file; `0` is without a limit [default: 100MiB]
    limits_file_size: "limits.file_size", "limits-file-size", "SIZE";
    /// Size of all files of one publish; `0` is without a limit [default: 0]
    limits_publish_size: "limits.publish_size", "limits-publish-size", "SIZE";
    /// Projects of one team; `0` is without a limit [default: 0]
    limits_team_projects: "limits.team_projects", "limits-team-projects", "COUNT";
    /// Size of all images of one team, shared files counted once; `0` is without a limit [default: 0]
    limits_team_bytes: "limits.team_bytes", "limits-team-bytes", "SIZE";
    /// Size of one plan's JSON [default: 64MiB]
    limits_plan_size: "limits.plan_size", "limits-plan-size", "SIZE";
    /// Files of one batch [default: 10000]
    limits_batch_files: "limits.batch_files", "limits-batch-files", "COUNT";
    /// Size of the files of one batch [default: 32MiB]
    limits_batch_size: "limits.batch_size", "limits-batch-size", "SIZE";
    /// How deep JSON may nest [default: 16]
    limits_json_depth: "limits.json_depth", "limits-json-depth", "COUNT";
    /// Length of a message [default: 4KiB]
    limits_message_length: "limits.message_length", "limits-message-length", "SIZE";
    /// Size of an archive as it is sent [default: 1GiB]
    limits_archive_size: "limits.archive_size", "limits-archive-size", "SIZE";
    /// Size of all that an archive unpacks to [default: 4GiB]
    limits_archive_unpacked: "limits.archive_unpacked", "limits-archive-unpacked", "SIZE";
    /// How long a plan stays open [default: 24h]
    limits_plan_lifetime: "limits.plan_lifetime", "limits-plan-lifetime", "DURATION";
    /// How long a preview may last [default: 30d]
    limits_preview_lifetime: "limits.preview_lifetime", "limits-preview-lifetime", "DURATION";
    /// Open plans kept in memory [default: 128MiB]
    limits_plan_cache: "limits.plan_cache", "limits-plan-cache", "SIZE";
    /// Memory for plans that are being read [default: 128MiB]
    api_plan_memory: "api.plan_memory", "api-plan-memory", "SIZE";
    /// JSON bodies of other calls [default: 64KiB]
    api_json_size: "api.json_size", "api-json-size", "SIZE";
    /// How long a body may pause [default: 60s]
    api_idle_timeout: "api.idle_timeout", "api-idle-timeout", "DURATION";
    /// How long a JSON body may take [default: 10m]
    api_json_timeout: "api.json_timeout", "api-json-timeout", "DURATION";
    /// Archives that are received or read at once [default: 4]
    api_archives: "api.archives", "api-archives", "COUNT";
    /// Disk for archives that are received or read [default: 4GiB]
    api_archive_spool: "api.archive_spool", "api-archive-spool", "SIZE";
    /// How long an archive may take to arrive [default: 1h]
    api_archive_timeout: "api.archive_timeout", "api-archive-timeout", "DURATION";
    /// Calls a minute of one token, uploads apart; `0` is without a limit [default: 100]
    api_calls_per_minute: "api.calls_per_minute", "api-calls-per-minute", "COUNT";
    /// Uploads a minute of one token; more wait, and `0` is without a limit [default: 6000]
    api_uploads_per_minute: "api.uploads_per_minute", "api-uploads-per-minute", "COUNT";
    /// Uploads of one plan at a time; more wait, and `0` is without a limit [default: 10]
    api_uploads_at_once: "api.uploads_at_once", "api-uploads-at-once", "COUNT";
    /// The shortest password, in bytes [default: 8]
    accounts_password_length: "accounts.password_length", "accounts-password-length", "COUNT";
    /// How long somebody who signed in stays so [default: 30d]
    accounts_session_lifetime: "accounts.session_lifetime", "accounts-session-lifetime", "DURATION";
    /// DNS servers that are asked about custom domains, each with its port [default: those of the system]
    domains_dns_servers: "domains.dns_servers", "domains-dns-servers", "ADDR", list;
    /// How often custom domains are proven again [default: 24h]
    domains_recheck: "domains.recheck", "domains-recheck", "DURATION";
    /// How long a custom domain is served that cannot be proven any more [default: 7d]
    domains_grace: "domains.grace", "domains-grace", "DURATION";
    /// How long nobody else gets a custom domain that was removed [default: 3d]
    domains_hold_off: "domains.hold_off", "domains-hold-off", "DURATION";
    /// Custom domains of one team [default: 100]
    domains_per_team: "domains.per_team", "domains-per-team", "COUNT";
    /// Addresses that this server is reached by, beside its own and those of its base domain [default: none]
    domains_own_addresses: "domains.own_addresses", "domains-own-addresses", "IP", list;
    /// Networks that are not public, and may be asked for a domain's file [default: none]
    domains_special_networks: "domains.special_networks", "domains-special-networks", "CIDR", list;
    /// The port that a domain's file is fetched from [default: 80]
    domains_file_port: "domains.file_port", "domains-file-port", "PORT";
    /// Memory for large uploads that are passed on to an S3 store [default: 256MiB]
    api_upload_memory: "api.upload_memory", "api-upload-memory", "SIZE";
    /// Threads that compress files in the background; 0 compresses none [default: 1]
    variants_workers: "variants.workers", "variants-workers", "COUNT";
    /// The largest file that is compressed [default: 32MiB]
    variants_largest: "variants.largest", "variants-largest", "SIZE";
    /// Threads that serve [default: one a core]
    edge_workers: "edge.workers", "edge-workers", "COUNT";
    /// Connections open at once [default: 10000]
    edge_connections: "edge.connections", "edge-connections", "COUNT";
    /// Connections open at once from an IPv4 address or an IPv6 /64; `0` for any number [default: 256]
    edge_connections_per_source: "edge.connections_per_source", "edge-connections-per-source", "COUNT";
    /// Whether connections of trusted proxies begin with a PROXY header, version 2: `true` or `false` [default: false]
    edge_proxy_protocol: "edge.proxy_protocol", "edge-proxy-protocol", "BOOL";
    /// Size of a request's head [default: 32KiB]
    edge_head_bytes: "edge.head_bytes", "edge-head-bytes", "SIZE";
    /// Fields of a request's head [default: 100]
    edge_fields: "edge.fields", "edge-fields", "COUNT";
    /// Length of a request's target [default: 8KiB]
    edge_target_bytes: "edge.target_bytes", "edge-target-bytes", "SIZE";
    /// How much of a large file an answer holds in memory [default: 64KiB]
    edge_window_bytes: "edge.window_bytes", "edge-window-bytes", "SIZE";
    /// How much of large files all answers hold in memory [default: 256MiB]
    edge_window_memory: "edge.window_memory", "edge-window-memory", "SIZE";
    /// How long a request's head may take [default: 10s]
    edge_head_timeout: "edge.head_timeout", "edge-head-timeout", "DURATION";
    /// How long a client may take no byte of an answer [default: 30s]
    edge_write_timeout: "edge.write_timeout", "edge-write-timeout", "DURATION";
    /// How long a connection may be idle [default: 75s]
    edge_idle_timeout: "edge.idle_timeout", "edge-idle-timeout", "DURATION";
    /// How long answers may take once the server is told to end [default: 10s]
    edge_shutdown_grace: "edge.shutdown_grace", "edge-shutdown-grace", "DURATION";
    /// How long new connections are taken once the server is told to end, while `/readyz` says no [default: 0s]
    edge_shutdown_delay: "edge.shutdown_delay", "edge-shutdown-delay", "DURATION";
    /// Whether `Pinstone-Debug: 1` asks how an answer came about: `true` or `false` [default: false]
    edge_debug_headers: "edge.debug_headers", "edge-debug-headers", "BOOL";
    /// Memory for manifests [default: 256MiB]
    cache_manifest_bytes: "cache.manifest_bytes", "cache-manifest-bytes", "SIZE";
    /// Memory for small files [default: 256MiB]
    cache_blob_bytes: "cache.blob_bytes", "cache-blob-bytes", "SIZE";
    /// The largest file that is kept in memory [default: 512KiB]
    cache_small_blob: "cache.small_blob", "cache-small-blob", "SIZE";
    /// Memory for the heads of common answers, and for the small files that go with them [default: 64MiB]
    cache_hot_bytes: "cache.hot_bytes", "cache-hot-bytes", "SIZE";
    /// Files kept open [default: 1024]
    cache_open_files: "cache.open_files", "cache-open-files", "COUNT";
    /// Disk for what an S3 store has sent [default: 10GiB, or half of what is free]
    cache_disk_bytes: "cache.disk_bytes", "cache-disk-bytes", "SIZE";
    /// Files fetched from an S3 store at once; each takes 1 MiB of memory [default: 64]
    cache_fetches: "cache.fetches", "cache-fetches", "COUNT";
}

/// Which data folder is meant by a command that works on a stopped server's.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// The data folder [variable: PINSTONE_DATA; default: the configuration's, or ./pinstone-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The server's configuration [variable: PINSTONE_CONFIG; default: ./pinstone-server.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DataArgs {
    /// Finds the folder as `serve` would.
    ///
    /// # Errors
    ///
    /// Where the configuration is wrong.
    pub(crate) fn find(self) -> Result<PathBuf, CliError> {
        self.load().map(|config| config.data)
    }

    /// Reads all of the configuration as `serve` would.
    ///
    /// # Errors
    ///
    /// Where it is wrong.
    pub(crate) fn load(self) -> Result<ServerConfig, CliError> {
        self.load_with(None)
    }

    fn load_with(self, blobs: Option<String>) -> Result<ServerConfig, CliError> {
        let (data, blobs) = (self.data.into_iter().collect(), blobs.into_iter().collect());
        let flags = Flags { data, blobs, ..Flags::default() };
        // Who works on a stopped store need not be able to read its certificates.
        read(self.config.as_deref(), flags, crate::context::variable, Handle::current(), false)
    }
}

/// Which data folder is meant, and where its files are kept.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Where files are kept [variable: PINSTONE_BLOBS; default: the configuration's, or as the data folder remembers]
    #[arg(long, value_name = "URL")]
    blobs: Option<String>,
}

impl StoreArgs {
    /// Reads all of the configuration as `serve` would.
    ///
    /// # Errors
    ///
    /// Where it is wrong.
    pub(crate) fn load(self) -> Result<ServerConfig, CliError> {
        self.data.load_with(self.blobs)
    }
}

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

type Layer = BTreeMap<&'static str, Given>;

/// What one layer says for a key.
#[derive(Clone, Debug)]
struct Given {
    values: Vec<String>,
    /// Where it says so, as a mistake names it.
    origin: String,
}

fn variables(variable: &impl Fn(&str) -> Option<String>) -> Layer {
    let of = |key: &&'static str| {
        let name = format!("PINSTONE_{}", key.replace('.', "__").to_uppercase());
        let values = variable(&name)?.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>();
        // The one key whose value has commas of its own.
        let values = if *key == "log" { vec![values.join(",")] } else { values };
        Some((*key, Given { values, origin: format!("`{name}`") }))
    };
    KEYS.iter().filter_map(of).collect()
}

fn read_file(named: Option<&Path>, mistakes: &mut Vec<String>) -> Layer {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => return Layer::new(),
        Err(error) => {
            mistakes.push(format!("cannot read `{}`: {}", path.display(), plain(&error)));
            return Layer::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => {
            let mut layer = Layer::new();
            flatten("", &table, path, &mut layer, mistakes);
            layer
        }
        Err(error) => {
            let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or(&text).matches('\n').count() + 1);
            mistakes.push(format!("`{}`, line {line}: {}", path.display(), error.message().trim_end()));
            Layer::new()
        }
    }
}

/// Puts the keys of `table`, which is at `prefix`, into `layer`.
fn flatten(prefix: &str, table: &toml::Table, path: &Path, layer: &mut Layer, mistakes: &mut Vec<String>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let origin = format!("`{key}` in `{}`", path.display());
        let known = KEYS.iter().find(|known| **known == key);
        let below = format!("{key}.");
        match (known, value) {
            (None, toml::Value::Table(inner)) if KEYS.iter().any(|known| known.starts_with(&below)) => {
                flatten(&below, inner, path, layer, mistakes);
            }
            (None, _) => mistakes.push(format!("{origin} is no key")),
            (Some(known), value) => match texts(value) {
                Some(values) => drop(layer.insert(known, Given { values, origin })),
                None => {
                    mistakes.push(format!("{origin} is neither a text, a number, true or false, nor a list of texts"))
                }
            },
        }
    }
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(switch) => Some(vec![switch.to_string()]),
        toml::Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Gives each key the type it has, and collects what cannot have it.
struct Reader<'m> {
    /// The first one that has a key decides.
    layers: [Layer; 3],
    mistakes: &'m mut Vec<String>,
}

impl Reader<'_> {
    fn read(&mut self, loader: Handle, s3: S3Options) -> ServerConfig {
        let storage = self.storage(s3);
        let (limits, edge, cache) = (EngineLimits::default(), EdgeLimits::default(), CacheConfig::default());
        let variants = VariantOptions::default();
        let localhost = HostName::parse("localhost").expect("`localhost` is a host");
        let base_domain = self.one("base_domain", domain).unwrap_or(localhost);
        let public_url: Option<PublicUrl> = self.one("public_url", str::parse);
        let tls = self.tls(public_url.as_ref());
        let trusted_proxies: Networks = self.many("trusted_proxies", str::parse).into_iter().flatten().collect();
        let proxy_protocol = self.one("edge.proxy_protocol", switch).unwrap_or(false);
        if proxy_protocol && trusted_proxies.is_empty() {
            self.wrong("edge.proxy_protocol", "it needs `trusted_proxies`: nobody else may send such a header");
        }
        // Only defaults that do not depend on the configuration are taken from here.
        let api = pinstone_api::config::ApiConfig::new(
            PublicUrl::new(false, &base_domain, 80),
            Hosts::new(&base_domain, None),
            "",
        );
        let config = ServerConfig {
            data: self.one("data", |text| Ok::<_, String>(PathBuf::from(text))).unwrap_or("pinstone-data".into()),
            storage,
            listen: self.many("listen", address),
            control_hosts: self.many("control_hosts", host),
            public_url,
            // A client that floods a connection of HTTP/2 is to end it, and not to fill the log.
            log: self.one("log", filter).unwrap_or_else(|| "warn,h2=error,pinstone=info".to_owned()),
            log_format: self.one("log_format", log_format).unwrap_or(LogFormat::Text),
            access_log: self.access_log(),
            metrics_listen: self.one("metrics_listen", address),
            limits: EngineLimits {
                files: self.one("limits.files", count_or_off).unwrap_or(limits.files),
                file_size: self.one("limits.file_size", size_or_off).unwrap_or(limits.file_size),
                publish_size: self.one("limits.publish_size", size_or_off).unwrap_or(limits.publish_size),
                team_projects: self.one("limits.team_projects", count_or_off).unwrap_or(limits.team_projects),
                team_bytes: self.one("limits.team_bytes", size_or_off).unwrap_or(limits.team_bytes),
                plan_size: self.one("limits.plan_size", size).unwrap_or(limits.plan_size),
                batch_blobs: self.one("limits.batch_files", batch_files).unwrap_or(limits.batch_blobs),
                batch_size: self.one("limits.batch_size", batch_size).unwrap_or(limits.batch_size),
                json_depth: self.one("limits.json_depth", count).unwrap_or(limits.json_depth),
                message_length: self.one("limits.message_length", message_length).unwrap_or(limits.message_length),
                archive_size: self.one("limits.archive_size", size).unwrap_or(limits.archive_size),
                archive_unpacked: self.one("limits.archive_unpacked", size).unwrap_or(limits.archive_unpacked),
                plan_lifetime: self.one("limits.plan_lifetime", duration).unwrap_or(limits.plan_lifetime),
                preview_lifetime: self.one("limits.preview_lifetime", duration).unwrap_or(limits.preview_lifetime),
                plan_cache: self.one("limits.plan_cache", size_or_zero).unwrap_or(limits.plan_cache),
            },
            api: ApiBounds {
                plan_memory: self.one("api.plan_memory", size).unwrap_or(api.plan_memory),
                json_size: self.one("api.json_size", size).unwrap_or(api.json_size),
                idle_timeout: self.one("api.idle_timeout", duration).unwrap_or(api.idle_timeout),
                json_timeout: self.one("api.json_timeout", duration).unwrap_or(api.json_timeout),
                archives: self.one("api.archives", count).unwrap_or(api.archives),
                archive_spool: self.one("api.archive_spool", size).unwrap_or(api.archive_spool),
                archive_timeout: self.one("api.archive_timeout", duration).unwrap_or(api.archive_timeout),
                rates: Rates {
                    calls_per_minute: self.one("api.calls_per_minute", rate).unwrap_or(api.rates.calls_per_minute),
                    uploads_per_minute: self
                        .one("api.uploads_per_minute", rate)
                        .unwrap_or(api.rates.uploads_per_minute),
                    uploads_at_once: self.one("api.uploads_at_once", rate).unwrap_or(api.rates.uploads_at_once),
                },
                registration: self.one("registration", str::parse::<Registration>),
                password_length: self
                    .one("accounts.password_length", password_length)
                    .unwrap_or(api.accounts.password_length),
                session_life: self.one("accounts.session_lifetime", duration).unwrap_or(api.accounts.session_life),
            },
            domains: self.domains(),
            variants: VariantOptions {
                workers: self.one("variants.workers", variant_workers).unwrap_or(variants.workers),
                largest: self.one("variants.largest", size).unwrap_or(variants.largest),
            },
            workers: self
                .one("edge.workers", workers)
                .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
            edge: EdgeLimits {
                connections: self.one("edge.connections", count).unwrap_or(edge.connections),
                connections_per_source: self
                    .one("edge.connections_per_source", count_or_zero)
                    .unwrap_or(edge.connections_per_source),
                head_bytes: self.one("edge.head_bytes", size).unwrap_or(edge.head_bytes),
                fields: self.one("edge.fields", fields).unwrap_or(edge.fields),
                target_bytes: self.one("edge.target_bytes", size).unwrap_or(edge.target_bytes),
                window_bytes: self.one("edge.window_bytes", size).unwrap_or(edge.window_bytes),
                window_memory: self.one("edge.window_memory", size).unwrap_or(edge.window_memory),
                head_timeout: self.one("edge.head_timeout", duration).unwrap_or(edge.head_timeout),
                write_timeout: self.one("edge.write_timeout", duration).unwrap_or(edge.write_timeout),
                idle_timeout: self.one("edge.idle_timeout", duration).unwrap_or(edge.idle_timeout),
                shutdown_grace: self.one("edge.shutdown_grace", duration_or_zero).unwrap_or(edge.shutdown_grace),
            },
            cache: CacheConfig {
                manifest_bytes: self.one("cache.manifest_bytes", size_or_zero).unwrap_or(cache.manifest_bytes),
                blob_bytes: self.one("cache.blob_bytes", size_or_zero).unwrap_or(cache.blob_bytes),
                small_blob: self.one("cache.small_blob", size_or_zero).unwrap_or(cache.small_blob),
                hot_bytes: self.one("cache.hot_bytes", size_or_zero).unwrap_or(cache.hot_bytes),
                open_files: self.one("cache.open_files", count).unwrap_or(cache.open_files),
                ..cache
            },
            debug_headers: self.one("edge.debug_headers", switch).unwrap_or(false),
            shutdown_delay: self.one("edge.shutdown_delay", duration_or_zero).unwrap_or(Duration::ZERO),
            trusted_proxies,
            proxy_protocol,
            tls,
            certificates: None,
            base_domain,
        };
        if let Err(error) = config.edge(loader).check() {
            let told: Vec<_> = error.mistakes.iter().map(|mistake| self.with_key(mistake)).collect();
            self.mistakes.extend(told);
        }
        config
    }

    /// Where requests are logged. The format alone opens no log.
    fn access_log(&mut self) -> Option<AccessLogConfig> {
        let format = self.one("access_log_format", str::parse::<AccessLogFormat>).unwrap_or_default();
        let target = self.one("access_log", access_log)?;
        Some(AccessLogConfig::new(target, format))
    }

    /// Where objects are kept, and what the usual variables say of an S3 store.
    fn storage(&mut self, s3: S3Options) -> StorageOptions {
        let defaults = StorageOptions::default();
        let url = self.one("blobs", str::parse::<StoreUrl>);
        if let Some(StoreUrl::S3 { bucket, .. }) = &url
            && let Err(error) = s3.check(bucket)
        {
            self.mistakes.extend(error.mistakes);
        }
        let cache = DiskCacheOptions {
            bytes: self.one("cache.disk_bytes", size_or_zero),
            fetches: self.one("cache.fetches", fetches).unwrap_or(defaults.cache.fetches),
        };
        let upload_memory = self.one("api.upload_memory", upload_memory).unwrap_or(defaults.upload_memory);
        StorageOptions { url, s3, cache, upload_memory }
    }

    /// How domains are proven. What this server listens on is not known yet.
    fn domains(&mut self) -> DomainConfig {
        let defaults = DomainConfig::default();
        let rules = DomainRules {
            recheck: self.one("domains.recheck", duration).unwrap_or(defaults.rules.recheck),
            grace: self.one("domains.grace", duration_or_zero).unwrap_or(defaults.rules.grace),
            hold_off: self.one("domains.hold_off", duration_or_zero).unwrap_or(defaults.rules.hold_off),
            per_team: self.one("domains.per_team", domains_per_team).unwrap_or(defaults.rules.per_team),
        };
        DomainConfig {
            rules,
            dns_servers: self.many("domains.dns_servers", address).unwrap_or_default(),
            file_port: self.one("domains.file_port", count).unwrap_or(defaults.file_port),
            special_networks: self.many("domains.special_networks", network).unwrap_or_default(),
            own_addresses: self.many("domains.own_addresses", ip_address).unwrap_or_default(),
            own_ports: defaults.own_ports,
        }
    }

    /// A mistake that the edge found in its own words, which start with the name of a field: with the key that the
    /// field has here, and where it was given.
    fn with_key(&self, mistake: &str) -> String {
        let (name, rest) = mistake.split_once(' ').unwrap_or((mistake, ""));
        let is_meant = |key: &&&str| key.strip_prefix("edge.").or(key.strip_prefix("cache.")) == Some(name);
        match KEYS.iter().find(is_meant).map(|key| (key, self.given(key))) {
            Some((_, Some(given))) => format!("{}: `{}`: it {rest}", given.origin, given.values.join(",")),
            Some((key, None)) => format!("`{key}` {rest}"),
            None => mistake.to_owned(),
        }
    }

    /// Tells what is wrong with a key that is fine by itself, where it is given.
    fn wrong(&mut self, key: &'static str, why: &str) {
        if let Some(given) = self.given(key) {
            self.mistakes.push(format!("{}: `{}`: {why}", given.origin, given.values.join(",")));
        }
    }

    fn given(&self, key: &'static str) -> Option<Given> {
        debug_assert!(KEYS.contains(&key), "{key}");
        self.layers.iter().find_map(|layer| layer.get(key)).cloned()
    }

    fn one<T, E: Display>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let given = self.given(key)?;
        let [value] = &*given.values else {
            self.mistakes.push(format!("{} is given more than once, or as a list", given.origin));
            return None;
        };
        self.parsed(&given, value, &parse)
    }

    fn many<T, E: Display>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<Vec<T>> {
        let given = self.given(key)?;
        if given.values.is_empty() {
            self.mistakes.push(format!("{} is empty", given.origin));
        }
        Some(given.values.iter().filter_map(|value| self.parsed(&given, value, &parse)).collect())
    }

    fn parsed<T, E: Display>(
        &mut self,
        given: &Given,
        value: &str,
        parse: &impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.mistakes.push(format!("{}: `{value}`: {error}", given.origin));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(line: &[&str]) -> Flags {
        use clap::Parser;
        Line::parse_from(std::iter::once(&"serve").chain(line)).flags
    }

    pub(super) fn loaded(
        file: Option<&str>,
        line: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<ServerConfig, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.toml");
        std::fs::write(&path, file.unwrap_or_default()).unwrap();
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        load(Some(&path), flags(line), variable, runtime.handle().clone())
    }

    #[test]
    fn defaults() {
        let config = loaded(None, &[], &[]).unwrap();
        assert_eq!(config.data, Path::new("pinstone-data"));
        assert_eq!((config.listen, config.public_url, config.control_hosts), (None, None, None));
        assert_eq!(config.base_domain.as_str(), "localhost");
        assert_eq!(config.limits, EngineLimits::default());
    }

    #[test]
    fn flag_beats_variable_beats_file() {
        let file = Some("data = 'file'\nbase_domain = 'file.test'\n[limits]\nfiles = 1\nfile_size = '1KiB'");
        let config = loaded(file, &[], &[]).unwrap();
        assert_eq!((config.data.to_str(), config.limits.files, config.limits.file_size), (Some("file"), 1, 1024));
        let variables = [("PINSTONE_DATA", "variable"), ("PINSTONE_LIMITS__FILES", "2")];
        let config = loaded(file, &[], &variables).unwrap();
        assert_eq!((config.data.to_str(), config.limits.files), (Some("variable"), 2));
        assert_eq!(config.base_domain.as_str(), "file.test");
        let config = loaded(file, &["--data", "flag", "--limits-files", "3"], &variables).unwrap();
        assert_eq!((config.data.to_str(), config.limits.files), (Some("flag"), 3));
    }

    #[test]
    fn lists_come_from_everywhere() {
        let want: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
        for (file, line, variables) in [
            (Some("listen = ['127.0.0.1:0', '[::1]:0']"), &[][..], &[][..]),
            (None, &["--listen", "127.0.0.1:0", "[::1]:0"], &[]),
            (None, &["--listen", "127.0.0.1:0", "--listen", "[::1]:0"], &[]),
            (None, &[], &[("PINSTONE_LISTEN", "127.0.0.1:0, [::1]:0")]),
        ] {
            assert_eq!(loaded(file, line, variables).unwrap().listen, Some(want.clone()), "{file:?} {line:?}");
        }
        let config = loaded(None, &[], &[("PINSTONE_LOG", "warn,pinstone=debug")]).unwrap();
        assert_eq!(config.log, "warn,pinstone=debug");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let file = "dat = 'x'\nbase_domain = 'a b'\nlog_format = 'xml'\nlisten = []\n[limits]\nfiles = -1\nfile = 2\n\
                    [edge]\nhead_bytes = '1 KiB'\nidle_timeout = 5\n[other]\nx = 1\n[cache]\nopen_files = true";
        let line = ["--public-url", "localhost", "--data", "a", "--data", "b"];
        let error = loaded(Some(file), &line, &[("PINSTONE_CONTROL_HOSTS", "ok.test,no:80")]).unwrap_err();
        assert_eq!((error.exit, &*error.code), (Exit::Usage, "invalid_configuration"));
        for part in [
            "`dat` in `",
            "`base_domain` in `",
            "`log_format` in `",
            "`listen` in `",
            "`limits.files` in `",
            "`limits.file` in `",
            "`edge.head_bytes` in `",
            "`1 KiB`: it must be at least 8 KiB",
            "`edge.idle_timeout` in `",
            "`other` in `",
            "`cache.open_files` in `",
            "`--public-url`: `localhost`",
            "`--data` is given more than once",
            "`PINSTONE_CONTROL_HOSTS`: `no:80`",
            "has 13 mistakes",
        ] {
            assert!(error.message.contains(part), "{part}: {}", error.message);
        }
    }

    #[test]
    fn a_file_that_is_no_toml_is_one_mistake_among_others() {
        let error = loaded(Some("a = \n"), &["--listen", "8080"], &[]).unwrap_err();
        assert!(error.message.contains("line 1") && error.message.contains("`--listen`: `8080`"), "{error}");
    }

    #[test]
    fn zero_and_too_much_are_mistakes_that_name_the_key() {
        for key in KEYS.iter().filter(|key| key.contains('.')) {
            let name = format!("PINSTONE_{}", key.replace('.', "__").to_uppercase());
            let is_duration =
                ["timeout", "lifetime", "grace", "delay", "recheck", "hold_off"].iter().any(|end| key.ends_with(end));
            let result = loaded(None, &[], &[(&name, if is_duration { "0s" } else { "0" })]);
            let means_something = [
                "limits.files",
                "limits.file_size",
                "limits.publish_size",
                "limits.team_projects",
                "limits.team_bytes",
                "api.calls_per_minute",
                "api.uploads_per_minute",
                "api.uploads_at_once",
                "limits.plan_cache",
                "edge.connections_per_source",
                "domains.grace",
                "domains.hold_off",
                "edge.shutdown_grace",
                "edge.shutdown_delay",
                "tls.hsts",
                "variants.workers",
                "cache.manifest_bytes",
                "cache.blob_bytes",
                "cache.small_blob",
                "cache.hot_bytes",
                "cache.disk_bytes",
            ];
            match result {
                Ok(_) => assert!(means_something.contains(key), "{key}"),
                Err(error) => {
                    assert!(!means_something.contains(key), "{error}");
                    assert!(error.message.contains(&format!("`{name}`: `0")), "{error}");
                }
            }
        }
        for (line, want) in [
            (["--edge-workers", "1025"], "`--edge-workers`: `1025`: there are at most 1024 threads"),
            (["--edge-window-bytes", "1GiB"], "`--edge-window-bytes`: `1GiB`: it must be at most"),
            (["--edge-head-bytes", "1"], "`--edge-head-bytes`: `1`: it must be at least"),
            (["--edge-idle-timeout", "999999years"], "`--edge-idle-timeout`: `999999years`: a duration is at most"),
        ] {
            let error = loaded(None, &line, &[]).map(drop).unwrap_err();
            assert!(error.message.contains(want), "{line:?}: {error}");
        }
        // Too few only beside another key, which has its default.
        let error = loaded(None, &["--edge-connections", "1", "--edge-workers", "2"], &[]).map(drop).unwrap_err();
        assert!(error.message.contains("`--edge-connections`: `1`: it must be at least"), "{error}");
    }

    #[test]
    fn who_may_register() {
        let config = loaded(None, &[], &[]).unwrap();
        assert_eq!((config.api.registration, config.api.password_length), (None, 8));
        assert_eq!(config.api.session_life, Duration::from_secs(30 * 24 * 60 * 60));
        let file = "registration = 'invite'\n[accounts]\npassword_length = 12\nsession_lifetime = '7d'";
        let config = loaded(Some(file), &[], &[]).unwrap();
        assert_eq!((config.api.registration, config.api.password_length), (Some(Registration::Invite), 12));
        assert_eq!(config.api.session_life, Duration::from_secs(7 * 24 * 60 * 60));
        let wrong = ["--registration", "everybody", "--accounts-password-length", "7"];
        let error = loaded(None, &wrong, &[]).map(drop).unwrap_err();
        assert!(error.message.contains("`--registration`: `everybody`: registration is `open`"), "{error}");
        assert!(error.message.contains("`--accounts-password-length`: `7`: a password has"), "{error}");
    }

    #[test]
    fn domains_have_their_rules() {
        let config = loaded(None, &[], &[]).unwrap().domains;
        assert_eq!((config.rules, config.file_port), (DomainRules::default(), 80));
        let file = "[domains]\ndns_servers = ['127.0.0.1:53', '[::1]:53']\nrecheck = '1h'\ngrace = '0s'\nhold_off = '0s'\n\
                    per_team = 7\nfile_port = 8080\nspecial_networks = ['127.0.0.0/8', '10.1.1.1']\n\
                    own_addresses = ['192.0.2.1']";
        let config = loaded(Some(file), &[], &[]).unwrap().domains;
        assert_eq!((config.dns_servers.len(), config.rules.per_team, config.file_port), (2, 7, 8080));
        assert_eq!((config.rules.grace, config.rules.hold_off), (Duration::ZERO, Duration::ZERO));
        assert_eq!((config.special_networks.len(), config.own_addresses.len()), (2, 1));
        let wrong = ["--domains-per-team", "10001", "--domains-special-networks", "x", "--domains-file-port", "70000"];
        let error = loaded(None, &wrong, &[]).map(drop).unwrap_err();
        assert!(error.message.contains("has 3 mistakes"), "{error}");
    }

    #[test]
    fn a_store_is_checked_before_it_is_asked() {
        let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")];
        let config = loaded(Some("blobs = 's3://bucket/a'\n[cache]\ndisk_bytes = '1GiB'"), &[], &keys).unwrap();
        assert_eq!(config.storage.url.as_ref().map(ToString::to_string).as_deref(), Some("s3://bucket/a"));
        assert_eq!((config.storage.cache.bytes, config.storage.cache.fetches), (Some(1 << 30), 64));
        assert!(!format!("{config:?}").contains("wJalrXUtnFEMI"), "{config:?}");
        assert_eq!(loaded(None, &[], &[]).unwrap().storage.url, None);
        let error = loaded(None, &["--blobs", "s3://bucket"], &keys[1..]).map(drop).unwrap_err();
        assert!(error.message.contains("`AWS_ACCESS_KEY_ID` is not"), "{error}");
        assert!(!error.message.contains("wJalrXUtnFEMI"), "{error}");
        // The variables are no mistake of a server that has no use for them.
        assert!(loaded(None, &["--blobs", "/srv/objects"], &keys[1..]).is_ok());
        for wrong in ["bucket", "s3://", "https://s3.example/bucket", "s3://key:secret@bucket"] {
            let error = loaded(None, &["--blobs", wrong], &[]).map(drop).unwrap_err();
            assert!(error.message.contains("`--blobs`: "), "{wrong}: {error}");
        }
        let error =
            loaded(None, &["--api-upload-memory", "1MiB", "--cache-fetches", "100000"], &[]).map(drop).unwrap_err();
        assert!(error.message.contains("at least 16 MiB") && error.message.contains("at most 4096"), "{error}");
    }

    #[test]
    fn an_access_log_has_a_target_and_a_format() {
        use pinstone_edge::AccessLogTarget;
        let config = loaded(None, &["--access-log-format", "combined"], &[]).unwrap();
        assert!(config.access_log.is_none() && config.metrics_listen.is_none(), "nothing is there by default");
        let file = "access_log = '/var/log/a'\nmetrics_listen = '127.0.0.1:9100'\n[edge]\ndebug_headers = true";
        let config = loaded(Some(file), &[], &[("PINSTONE_EDGE__SHUTDOWN_DELAY", "5s")]).unwrap();
        let log = config.access_log.unwrap();
        assert_eq!((log.target, log.format), (AccessLogTarget::File("/var/log/a".into()), AccessLogFormat::Json));
        assert_eq!(config.metrics_listen, Some("127.0.0.1:9100".parse().unwrap()));
        assert_eq!((config.debug_headers, config.shutdown_delay), (true, Duration::from_secs(5)));
        let config = loaded(Some(file), &["--access-log", "-", "--access-log-format", "combined"], &[]).unwrap();
        let log = config.access_log.unwrap();
        assert_eq!((log.target, log.format), (AccessLogTarget::Stdout, AccessLogFormat::Combined));
        let wrong = ["--access-log", "", "--access-log-format", "common", "--metrics-listen", "9100"];
        let error = loaded(None, &wrong, &[]).map(drop).unwrap_err();
        assert!(error.message.contains("has 3 mistakes"), "{error}");
    }

    #[test]
    fn every_key_is_read() {
        // A key that is declared but never read would be accepted and do nothing; one that is read but not declared
        // stops a debug build. So each is given a value that no type takes, and each has to be complained about.
        for key in KEYS.iter().filter(|key| !matches!(**key, "data" | "access_log")) {
            let name = format!("PINSTONE_{}", key.replace('.', "__").to_uppercase());
            let error = loaded(None, &[], &[(&name, "=no=")]).map(drop).unwrap_err();
            assert!(error.message.contains(&name), "{key}: {error}");
        }
    }
}
