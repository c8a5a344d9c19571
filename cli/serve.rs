//! `serve`: engine, control plane and edge in one process.
//!
//! Order: configuration, data folder, sockets, control plane, edge; so that a mistake is told before anything is taken,
//! and nothing is taken that another process has. The end is the same way back: no new connections, no calls under way,
//! no store open.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pinstone_api::config::{ApiConfig, PublicUrl};
use pinstone_api::{Api, DomainConfig};
use pinstone_edge::metrics::{Exposition, Kind, MetricSource};
use pinstone_edge::{AccessLog, AccessLogTarget, BindError, ControlService, Edge, EdgeConfig, HttpsConfig, Listeners};
use pinstone_engine::blob::is_storage_full;
use pinstone_engine::coding::Coding;
use pinstone_engine::data_folder::OpenError;
use pinstone_engine::{AccountRules, Engine, OpenOptions};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Flags, LogFormat, ServerConfig};
use crate::context::variable;
use crate::error::{CliError, Exit, chain, plain};
use crate::forward::Forwarder;
use crate::monitor::{Monitor, Probed, Probes};
use crate::output::{Output, to_err};

/// The port where nothing names one.
const DEFAULT_PORT: u16 = 8080;
/// How long the end of the server waits for the last lines of the access log.
const LAST_LINES: Duration = Duration::from_secs(2);
/// What a running server says of itself in its data folder.
const SERVER_FILE: &str = "server.json";

/// Run the server: API, sites and storage in one process
///
/// Prints `listening on URL` when it accepts. Without any argument it keeps its data in `./pinstone-data` and listens on
/// this machine only, on port 8080.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone serve                                   try it on this machine
  pinstone serve --listen 127.0.0.1:0              on any free port
  pinstone serve --data /srv/pinstone \\
    --listen 0.0.0.0:80 --base-domain pages.example --public-url http://pages.example
  pinstone serve --data /srv/pinstone --base-domain pages.example \\
    --public-url https://pages.example --listen 0.0.0.0:80 \\
    --tls-listen 0.0.0.0:443 --tls-dir /etc/letsencrypt/live --tls-redirect true
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_ENDPOINT_URL=https://s3.example \\
    pinstone serve --blobs s3://bucket/prefix      keep files in an S3-compatible store

Every key of the file is a flag and a variable: `limits.files` is `--limits-files` and `PINSTONE_LIMITS__FILES`.
`--help` lists all, `-h` the most used ones. A flag beats a variable beats the file.")]
pub(crate) struct Args {
    /// The configuration [variable: PINSTONE_CONFIG; default: ./pinstone-server.toml, if there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    ///
    /// Names every mistake.
    pub(crate) fn load(self) -> Result<ServerConfig, CliError> {
        config::load(self.config.as_deref(), self.flags, variable, Handle::current())
    }
}

/// Serves until it is told to end.
pub(crate) async fn run(out: Output, args: Args) -> Result<(), CliError> {
    let config = args.load()?;
    start_log(&config)?;
    raise_file_limit();
    let log = open_access_log(&config)?;
    let stop = stop_by_signal()?;
    let is_first_start = !config.data.join("FORMAT").exists();
    let options = OpenOptions {
        limits: config.limits.clone(),
        storage: config.storage.clone(),
        variants: config.variants,
        ..OpenOptions::new(&config.data)
    };
    let engine = Engine::open(options).await.map_err(open_error)?;
    let served = serve(out, &config, &engine, log.clone(), is_first_start, stop).await;
    engine.close().await;
    if let Some(log) = log {
        let written = tokio::task::spawn_blocking(move || log.close(LAST_LINES)).await;
        if !written.unwrap_or(false) {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
    }
    served
}

async fn serve(
    out: Output,
    config: &ServerConfig,
    engine: &Engine,
    log: Option<AccessLog>,
    is_first_start: bool,
    stop: CancellationToken,
) -> Result<(), CliError> {
    let listeners = bind(config, out)?;
    let monitor_listener = bind_monitor(config).await?;
    let urls = urls(&listeners);
    let public_url = config.public_url.clone().unwrap_or_else(|| default_public_url(config, &listeners));
    let https_port = if public_url.is_secure() {
        Some(public_url.port())
    } else {
        listeners.tls_addresses().first().map(SocketAddr::port)
    };
    let calls = TaskTracker::new();
    let api_config = api_config(config, public_url.clone(), &listeners);
    let domain_checks = Api::domain_checks(engine.clone(), &api_config);
    let api = Api::new(engine.clone(), api_config);
    let probes = Probes::new(engine.clone(), stop.clone());
    let api = Probed::new(api, probes.clone());
    let control = ControlService::new(Forwarder::new(api, Handle::current(), calls.clone()));
    let https = HttpsConfig { redirect: https_port.filter(|_| config.tls.redirect), hsts: config.tls.hsts };
    let edge_config = EdgeConfig { access_log: log.clone(), https, ..config.edge(Handle::current()) };
    let edge =
        Edge::new(edge_config, engine.resolver(), Some(control)).map_err(|error| CliError::usage(error.to_string()))?;
    let monitor = Monitor::new(probes, vec![Box::new(edge.metrics()), Box::new(variant_metrics(engine))]);
    let monitor_url = monitor_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let monitor_url = monitor_url.map(|address| url_of("http", address));
    let helpers = TaskTracker::new();
    let ended = CancellationToken::new();
    helpers.spawn(domain_checks.run(ended.clone()));
    if let Some(listener) = monitor_listener {
        helpers.spawn(monitor.serve(listener, ended.clone()));
    }
    if let Some(log) = log.filter(|_| is_a_file(config)) {
        helpers.spawn(reopen_by_signal(log, ended.clone())?);
    }
    write_server_file(&config.data, &urls, monitor_url.as_deref())?;
    for url in &urls {
        // On one line of its own, whatever else is printed. A reader that left must not end the server.
        let _ = writeln!(io::stdout().lock(), "listening on {url}").and_then(|()| io::stdout().flush());
    }
    if is_first_start {
        welcome(out, config, &public_url);
    }
    if let Some(url) = &monitor_url {
        let _ = writeln!(io::stdout().lock(), "metrics on {url}/metrics").and_then(|()| io::stdout().flush());
    }
    let closing = CancellationToken::new();
    let close = async {
        stop.cancelled().await;
        // Until then new visitors are served, while load balancers learn that others should serve them.
        tokio::time::sleep(config.shutdown_delay).await;
        closing.cancel();
        std::future::pending::<Infallible>().await
    };
    let served = tokio::select! {
        served = edge.serve(listeners, closing.clone()) => served,
        never = close => match never {},
    };
    calls.close();
    if tokio::time::timeout(config.edge.shutdown_grace + Duration::from_secs(1), calls.wait()).await.is_err() {
        tracing::warn!(calls = calls.len(), "calls did not end in time and are cut");
    }
    ended.cancel();
    helpers.close();
    helpers.wait().await;
    // This process still holds the folder, so the file is its own and not a successor's.
    let _ = std::fs::remove_file(config.data.join(SERVER_FILE));
    served.map_err(|error| CliError::failed(chain(&error)))
}

/// What there is to know of the forms of files that are made in the background.
fn variant_metrics(engine: &Engine) -> impl MetricSource + use<> {
    let counters = engine.variant_counters();
    move |out: &mut Exposition| {
        out.gauge("pinstone_variants_queued", "Manifests whose variants are not made yet.", counters.queued());
        out.counter("pinstone_variants_files_total", "Files that variants were made of.", counters.files());
        out.counter(
            "pinstone_variants_identity_bytes_total",
            "Bytes of files that variants were made of.",
            counters.identity_bytes(),
        );
        let mut family =
            out.family("pinstone_variants_kept_total", Kind::Counter, "Variants that were made and kept, by coding.");
        for coding in Coding::ALL {
            family = family.sample(&[("coding", coding.token())], counters.kept(coding));
        }
        let mut family =
            out.family("pinstone_variants_kept_bytes_total", Kind::Counter, "Bytes of variants that were kept.");
        for coding in Coding::ALL {
            family = family.sample(&[("coding", coding.token())], counters.kept_bytes(coding));
        }
        let not_kept = counters.not_kept();
        out.counter("pinstone_variants_not_kept_total", "Variants that saved too little to be kept.", not_kept);
        let seconds = counters.processor_time().as_secs_f64();
        out.family("pinstone_variants_cpu_seconds_total", Kind::Counter, "Processor time that variants took.")
            .sample(&[], seconds);
        out.counter(
            "pinstone_variants_failures_total",
            "Rounds of making variants that failed and are tried again.",
            counters.failures(),
        );
    }
}

fn api_config(config: &ServerConfig, public_url: PublicUrl, listeners: &Listeners) -> ApiConfig {
    let bounds = config.api;
    let own_ports = listeners.addresses().iter().map(SocketAddr::port).collect();
    let defaults = ApiConfig::new(public_url, config.hosts(), env!("CARGO_PKG_VERSION"));
    ApiConfig {
        accounts: AccountRules {
            registration: bounds.registration.unwrap_or(defaults.accounts.registration),
            password_length: bounds.password_length,
            session_life: bounds.session_life,
        },
        domains: DomainConfig { own_ports, ..config.domains.clone() },
        plan_memory: bounds.plan_memory,
        json_size: bounds.json_size,
        idle_timeout: bounds.idle_timeout,
        json_timeout: bounds.json_timeout,
        archives: bounds.archives,
        archive_spool: bounds.archive_spool,
        archive_timeout: bounds.archive_timeout,
        rates: bounds.rates,
        ..defaults
    }
}

fn bind(config: &ServerConfig, out: Output) -> Result<Listeners, CliError> {
    let plain = bind_plain(config, out)?;
    if config.tls.listen.is_empty() {
        return Ok(plain);
    }
    let secured =
        Listeners::bind(&config.tls.listen, config.workers).map_err(|error| bind_error(&error, "--tls-listen"))?;
    Ok(plain.with_tls(secured))
}

fn bind_plain(config: &ServerConfig, out: Output) -> Result<Listeners, CliError> {
    let Some(wanted) = &config.listen else {
        let listeners =
            Listeners::bind_localhost(DEFAULT_PORT, config.workers).map_err(|error| bind_error(&error, "--listen"))?;
        if !listeners.addresses().iter().any(SocketAddr::is_ipv6) {
            out.note("this machine has no IPv6, so only 127.0.0.1 is listened on");
        }
        return Ok(listeners);
    };
    match Listeners::bind(wanted, config.workers) {
        Ok(listeners) => Ok(listeners),
        Err(error) => {
            // A machine without IPv6 loses nothing with its own loopback address.
            let missing = error.address.ip() == Ipv6Addr::LOCALHOST && error.source.kind() != io::ErrorKind::AddrInUse;
            let rest: Vec<_> = wanted.iter().copied().filter(|address| address.ip() != error.address.ip()).collect();
            if !missing || rest.is_empty() {
                return Err(bind_error(&error, "--listen"));
            }
            out.note("this machine has no IPv6, so ::1 is not listened on");
            Listeners::bind(&rest, config.workers).map_err(|error| bind_error(&error, "--listen"))
        }
    }
}

/// Listens where the metrics are asked for.
async fn bind_monitor(config: &ServerConfig) -> Result<Option<TcpListener>, CliError> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    let failed = |source| bind_error(&BindError { address, source }, "--metrics-listen");
    TcpListener::bind(address).await.map(Some).map_err(failed)
}

fn is_a_file(config: &ServerConfig) -> bool {
    config.access_log.as_ref().is_some_and(|log| matches!(log.target, AccessLogTarget::File(_)))
}

/// Opens the access log, so that one which cannot be written is told before anything is served.
fn open_access_log(config: &ServerConfig) -> Result<Option<AccessLog>, CliError> {
    let Some(wanted) = &config.access_log else { return Ok(None) };
    let failed = |error: io::Error| {
        let target = match &wanted.target {
            AccessLogTarget::File(path) => format!("the access log `{}`", path.display()),
            AccessLogTarget::Stdout => "the access log".to_owned(),
        };
        CliError::new(Exit::Failed, "access_log_not_usable", format!("cannot open {target}: {}", plain(&error)))
            .hint("make its folder, and let the server's user write there; or name another by `--access-log`")
    };
    AccessLog::open(wanted.clone()).map(Some).map_err(failed)
}

/// Opens the access log anew at every SIGHUP, for programs that rotate logs.
fn reopen_by_signal(log: AccessLog, end: CancellationToken) -> Result<impl Future<Output = ()>, CliError> {
    let failed = |error: io::Error| CliError::failed(format!("cannot wait for signals: {}", plain(&error)));
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    Ok(async move {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                received = hangup.recv() => match received {
                    Some(()) => log.reopen(),
                    None => return,
                },
            }
        }
    })
}

/// `flag` is what named the address.
fn bind_error(error: &BindError, flag: &str) -> CliError {
    let told = CliError::new(
        if error.source.kind() == io::ErrorKind::AddrInUse { Exit::Unavailable } else { Exit::Failed },
        "cannot_listen",
        chain(error),
    );
    match error.source.kind() {
        io::ErrorKind::AddrInUse => {
            told.hint(format!("stop what uses the port, or name another by `{flag} 127.0.0.1:0`"))
        }
        io::ErrorKind::PermissionDenied => {
            told.hint(format!("ports below 1024 need a privilege; name another by `{flag}`"))
        }
        _ => told.hint(format!("name an address of this machine by `{flag}`")),
    }
}

/// What a data folder that cannot be opened means for the process.
pub(crate) fn open_error(error: OpenError) -> CliError {
    let text = chain(&error);
    if is_storage_full(&error) {
        return CliError::new(Exit::Failed, "storage_full", text)
            .hint("make room on the data folder's disk, then start the server again");
    }
    match error {
        OpenError::InUse { .. } => CliError::new(Exit::Unavailable, "data_in_use", text)
            .hint("stop the server that runs on it, or name another folder by `--data`"),
        OpenError::Newer { .. } => CliError::new(Exit::Failed, "data_newer", text)
            .hint("start the version of Pinstone that wrote it, or a later one"),
        OpenError::NotADataFolder { .. } => {
            CliError::new(Exit::Failed, "not_a_data_folder", text).hint("name an empty or absent folder by `--data`")
        }
        OpenError::Absent { .. } => CliError::new(Exit::Failed, "no_data_folder", text)
            .hint("name the data folder of a server by `--data`; `pinstone serve` makes one"),
        OpenError::Io { .. } => CliError::new(Exit::Failed, "data_not_usable", text)
            .hint("check who may write the data folder, and that its disk can be written"),
        OpenError::Meta { .. } | OpenError::Objects { .. } => {
            CliError::new(Exit::Failed, "data_damaged", text).hint("restore the data folder from a backup")
        }
        OpenError::StoreSettings { .. } => CliError::new(Exit::Usage, "invalid_configuration", text)
            .hint("the `AWS_*` variables say how an S3 store is reached; docs/operations.md lists them"),
        OpenError::StoreUnreachable { .. } => CliError::new(Exit::Unavailable, "store_unreachable", text)
            .hint("check `AWS_ENDPOINT_URL` and whether the store runs"),
        OpenError::StoreRefused { .. } => CliError::new(Exit::Failed, "store_refused", text).hint(
            "check that the bucket is there, its region, and what its credentials may do: get, put, list, delete",
        ),
        OpenError::StoreNotEmpty { .. } => {
            CliError::new(Exit::Failed, "store_not_empty", text).hint("name an empty or absent folder by `--blobs`")
        }
        OpenError::StoreTaken { .. } => CliError::new(Exit::Failed, "store_taken", text).hint(
            "name an empty bucket or another prefix in it by `--blobs`, or the data folder of this store by `--data`",
        ),
        OpenError::OtherStore { .. } => CliError::new(Exit::Failed, "other_store", text)
            .hint("leave `--blobs` out; or copy all objects, `FORMAT` among them, to the new store first"),
        OpenError::MetaGone { .. } => CliError::new(Exit::Failed, "data_damaged", text)
            .hint("check that the disk of `meta` is mounted, or restore the data folder from a backup"),
        OpenError::StoreGone { .. } => CliError::new(Exit::Failed, "store_gone", text)
            .hint("check that the bucket, the prefix and the endpoint are the right ones, or that the disk is mounted"),
        OpenError::StoreNewer { .. } => CliError::new(Exit::Failed, "data_newer", text)
            .hint("start the version of Pinstone that wrote it, or a later one"),
    }
}

/// Where this server is reached if nobody says so: over TLS, if that is spoken anywhere.
fn default_public_url(config: &ServerConfig, listeners: &Listeners) -> PublicUrl {
    let (is_secure, address) = match listeners.tls_addresses().first() {
        Some(address) => (true, Some(address)),
        None => (false, listeners.addresses().first()),
    };
    PublicUrl::new(is_secure, &config.base_domain, address.map_or(DEFAULT_PORT, SocketAddr::port))
}

/// URLs that lead to the server from this machine, those without TLS first.
fn urls(listeners: &Listeners) -> Vec<String> {
    let tls = listeners.tls_addresses();
    let plain = &listeners.addresses()[..listeners.addresses().len() - tls.len()];
    let plain = plain.iter().map(|address| url_of("http", *address));
    plain.chain(tls.iter().map(|address| url_of("https", *address))).collect()
}

/// A URL that leads to `address` from this machine.
fn url_of(scheme: &str, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// Tells programs on this machine where the server is. It appears whole or not at all.
fn write_server_file(data: &Path, urls: &[String], monitor: Option<&str>) -> Result<(), CliError> {
    let mut content = json!({ "pid": std::process::id(), "urls": urls, "version": env!("CARGO_PKG_VERSION") });
    if let Some(url) = monitor {
        content["metrics_url"] = format!("{url}/metrics").into();
    }
    let (path, new) = (data.join(SERVER_FILE), data.join("server.json.new"));
    std::fs::write(&new, format!("{content}\n"))
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(|error| CliError::failed(format!("cannot write `{}`: {}", path.display(), plain(&error))))
}

fn welcome(out: Output, config: &ServerConfig, public_url: &PublicUrl) {
    let token = config.data.join("owner.token");
    let is_default = config.data == Path::new("pinstone-data");
    let command = if is_default {
        "pinstone deploy FOLDER --project NAME".to_owned()
    } else {
        format!("pinstone deploy FOLDER --project NAME --endpoint {public_url} --token-stdin < {}", token.display())
    };
    out.note(format!("Pinstone runs at {public_url}"));
    out.note(format!("the owner's token is in {}", token.display()));
    out.note(format!("publish a folder with: {command}"));
}

fn start_log(config: &ServerConfig) -> Result<(), CliError> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .map_err(|error| CliError::usage(format!("`log` is not a filter: {error}")))?;
    // A log that cannot be written, such as one on a full disk, must not end what wanted to write it.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let started = match config.log_format {
        LogFormat::Text => {
            let colors = io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colors).try_init()
        }
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| CliError::failed(format!("cannot start the log: {error}")))
}

/// Takes as many open files as the system lets this process have: every connection is one.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the number of open files is not raised");
        }
    }
}

/// A token that the first SIGINT or SIGTERM cancels. The second one ends the process at once.
fn stop_by_signal() -> Result<CancellationToken, CliError> {
    let failed = |error: io::Error| CliError::failed(format!("cannot wait for signals: {}", plain(&error)));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    // Without a handler the first write beyond a limit on the size of files ends the process; with one it is refused.
    drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map_err(failed)?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        next().await;
        tracing::info!("ending");
        cancelled.cancel();
        next().await;
        to_err("interrupted");
        std::process::exit(i32::from(Exit::Interrupted.number()));
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_this_machine() {
        for (address, url) in [
            ("127.0.0.1:1", "http://127.0.0.1:1"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:8080", "http://[::1]:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("10.0.0.1:1", "http://10.0.0.1:1"),
        ] {
            assert_eq!(url_of("http", address.parse().unwrap()), url, "{address}");
        }
    }

    #[test]
    fn a_folder_in_use_is_worth_a_retry() {
        let path = PathBuf::from("x");
        assert_eq!(open_error(OpenError::InUse { path: path.clone() }).exit, Exit::Unavailable);
        assert_eq!(open_error(OpenError::Newer { path, found: 9 }).exit, Exit::Failed);
    }

    #[test]
    fn the_server_file_replaces_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        for url in ["http://a", "http://b"] {
            write_server_file(folder.path(), &[url.to_owned()], None).unwrap();
            let text = std::fs::read_to_string(folder.path().join(SERVER_FILE)).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (value["urls"][0].as_str(), value["pid"].as_u64()),
                (Some(url), Some(std::process::id().into()))
            );
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
