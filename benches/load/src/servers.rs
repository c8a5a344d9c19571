//! The servers: how each is found, started on one core, and stopped.
//!
//! Every server runs from a configuration of its own in the harness's folder, on a free port of the loopback address,
//! without any of the user's settings.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::http;
use crate::tls::Identity;

mod peers;

use peers::{Http2, PEERS, Peer, Tls};

/// The Pinstone that all others are compared with, and another one beside it.
pub(crate) const OURS: &str = "pinstone";
pub(crate) const BEFORE: &str = "before";

/// The name that requests carry, and the project that Pinstone shows under it.
pub(crate) const HOST: &str = "bench.localhost";
pub(crate) const PROJECT: &str = "bench";

/// How long a server may take to start, with 100,000 sites to load, or to end.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long TLS may take, once there are answers without it.
const TLS_PATIENCE: Duration = Duration::from_secs(20);

/// What kind of server one is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Floor,
    Pinstone(Knows),
    Peer(&'static Peer),
}

/// What a Pinstone can be told: versions differ.
#[derive(Clone, Copy, Debug)]
struct Knows {
    /// `--tls-listen` and what goes with it.
    tls: bool,
    /// `--edge-connections-per-source`.
    per_source: bool,
    /// `--metrics-listen`.
    metrics: bool,
}

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    program: PathBuf,
    kind: Kind,
}

/// Something that would be measured if it were installed.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    pub(crate) install: String,
}

/// Where servers find and keep things.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The harness's temporary folder.
    pub(crate) folder: PathBuf,
    /// The files to serve.
    pub(crate) root: PathBuf,
    /// Where each Pinstone has its data, in a folder by its name.
    pub(crate) data: PathBuf,
    /// The cores to run on, as `taskset --cpu-list` takes them.
    pub(crate) cores: String,
    /// A control group that servers are put into, for what it bounds.
    pub(crate) group: Option<PathBuf>,
    /// The certificate to serve TLS with, where it is served.
    pub(crate) tls: Option<Arc<Identity>>,
}

/// A server that runs. Dropped, it is stopped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
    /// Where it speaks HTTP/2 by prior knowledge, if it does.
    pub(crate) h2_port: Option<u16>,
    /// Where it serves TLS, or why not.
    tls: Result<Secure, String>,
    /// Where Pinstone tells its metrics, if it does.
    metrics_port: Option<u16>,
    /// From the start of the process to the first answer, which is one without TLS.
    pub(crate) started_in: Duration,
}

/// Where TLS is served.
#[derive(Debug)]
enum Secure {
    Port(u16),
    Process(Box<Running>),
}

/// Which listeners a process is to have.
#[derive(Clone, Copy, Debug)]
enum Listen<'a> {
    Plain,
    Both(&'a Identity),
    Tls(&'a Identity),
}

impl<'a> Listen<'a> {
    fn identity(self) -> Option<&'a Identity> {
        match self {
            Self::Plain => None,
            Self::Both(identity) | Self::Tls(identity) => Some(identity),
        }
    }
}

/// A program in `PATH`, or where Debian keeps servers.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let cargo = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    folders.chain(cargo).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What a program says of its version: the first word that starts with a digit and has a dot.
pub(crate) fn version(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output().ok()?;
    // nginx and wrk print it on standard error.
    let text = [output.stdout, output.stderr].concat();
    version_in(&String::from_utf8_lossy(&text)).map(str::to_owned)
}

/// Whether a program prints a word.
pub(crate) fn says(program: &Path, arguments: &[&str], word: &str) -> bool {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success() && String::from_utf8_lossy(&output.stdout).contains(word))
}

fn version_in(text: &str) -> Option<&str> {
    text.split([' ', '/', '\n', '\t'])
        .map(|word| word.trim_start_matches(['v', '(']))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
}

impl Server {
    /// The floor, Pinstone, another Pinstone where there is one, and every peer that is installed; and what is missing.
    pub(crate) fn find(pinstone: &Path, before: Option<&Path>) -> Result<(Vec<Self>, Vec<Missing>)> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut servers = vec![
            Self { name: "floor", version: env!("CARGO_PKG_VERSION").to_owned(), program: own, kind: Kind::Floor },
            Self::pinstone(OURS, pinstone)?,
        ];
        if let Some(before) = before {
            servers.push(Self::pinstone(BEFORE, before)?);
        }
        let mut missing = Vec::new();
        for peer in &PEERS {
            let found = find_program(peer.program);
            match found.and_then(|program| Some((version(&program, peer.version_flag)?, program))) {
                Some((version, program)) if version.starts_with(peer.version) => {
                    servers.push(Self { name: peer.name, version, program, kind: Kind::Peer(peer) });
                }
                _ => missing.push(Missing { name: peer.name, install: peer.install.to_owned() }),
            }
        }
        Ok((servers, missing))
    }

    fn pinstone(name: &'static str, program: &Path) -> Result<Self> {
        let version = version(program, "--version")
            .with_context(|| format!("{} is no Pinstone; `make load` builds one", program.display()))?;
        let knows = |flag| says(program, &["serve", "--help"], flag);
        let knows = Knows {
            tls: knows("--tls-listen"),
            per_source: knows("--edge-connections-per-source"),
            metrics: knows("--metrics-listen"),
        };
        Ok(Self { name, version, program: program.to_owned(), kind: Kind::Pinstone(knows) })
    }

    /// Whether it only answers a constant.
    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.kind, Kind::Floor)
    }

    /// The program itself.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Where it has its data, where it is a Pinstone.
    pub(crate) fn data(&self, place: &Place) -> PathBuf {
        place.data.join(self.name)
    }

    /// Whether it is a Pinstone, which has to be published to.
    pub(crate) fn is_pinstone(&self) -> bool {
        matches!(self.kind, Kind::Pinstone(_))
    }

    /// Whether this Pinstone cannot serve TLS.
    pub(crate) fn is_pinstone_without_tls(&self) -> bool {
        matches!(self.kind, Kind::Pinstone(Knows { tls: false, .. }))
    }

    /// Starts it and waits for its first answer to `path` on `host`, and for one over TLS where the place has a
    /// certificate. A peer that does not serve TLS is started without.
    pub(crate) fn start(&self, place: &Place, host: &str, path: &str) -> Result<Running> {
        let start = |listen| self.start_with(listen, place, host, path);
        let running = match (self.kind, place.tls.as_deref()) {
            (Kind::Pinstone(Knows { tls: true, .. }), Some(identity)) => start(Listen::Both(identity)),
            (Kind::Floor | Kind::Pinstone(_), _) | (_, None) => start(Listen::Plain),
            (Kind::Peer(peer), Some(identity)) => {
                let secure = match peer.tls {
                    Tls::OtherPort(_) => start(Listen::Both(identity)),
                    Tls::OtherProcess(_) => start(Listen::Plain).and_then(|plain| {
                        Ok(plain.with_tls(Ok(Secure::Process(Box::new(start(Listen::Tls(identity))?)))))
                    }),
                };
                secure.or_else(|error| {
                    let reason = format!("does not serve TLS: {error:#}");
                    start(Listen::Plain).map(|running| running.with_tls(Err(reason)))
                })
            }
        };
        running.with_context(|| format!("cannot start {}", self.name))
    }

    fn start_with(&self, listen: Listen<'_>, place: &Place, host: &str, path: &str) -> Result<Running> {
        let ports = free_ports()?;
        // The shell enters the group and becomes `taskset`, which sets the cores and becomes the server: the process id is
        // the server's.
        let mut command = Command::new("taskset");
        if let Some(group) = &place.group {
            command = Command::new("sh");
            command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec taskset "$@""#]).arg(group);
        }
        command.arg("--cpu-list").arg(&place.cores).arg(&self.program);
        self.arguments(&mut command, listen, place, ports)?;
        let log = place.folder.join(match listen {
            Listen::Tls(_) => format!("{}-tls.log", self.name),
            Listen::Plain | Listen::Both(_) => format!("{}.log", self.name),
        });
        let output = File::options().create(true).append(true).open(&log)?;
        clean_environment(&mut command, &place.folder);
        command.stdin(Stdio::null()).stderr(output.try_clone()?);
        if self.is_pinstone() {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(output);
        }
        let began = Instant::now();
        let child = command.spawn().context("cannot run `taskset`; it is in Debian's util-linux")?;
        let [port, h2_port, tls_port, metrics_port] = ports;
        let metrics_port = matches!(self.kind, Kind::Pinstone(Knows { metrics: true, .. })).then_some(metrics_port);
        let h2_port = match self.kind {
            Kind::Peer(Peer { h2: Http2::SamePort, .. }) => Some(port),
            Kind::Peer(Peer { h2: Http2::OtherPort, .. }) => Some(h2_port),
            _ => None,
        };
        let tls = Err("is not served with TLS".to_owned());
        let mut running = Running { child, port, h2_port, tls, metrics_port, started_in: Duration::ZERO };
        let said = || fs::read_to_string(&log).unwrap_or_default();
        if self.is_pinstone() {
            let port = running.announced_port().with_context(said)?;
            (running.port, running.h2_port) = (port, Some(port));
        }
        if !matches!(listen, Listen::Tls(_)) {
            let port = running.port;
            running.wait_for_answer(PATIENCE, said, || http::Connection::open(port, None)?.get(host, path, &[]))?;
            running.started_in = began.elapsed();
        }
        if let Some(identity) = listen.identity() {
            let client = identity.client(&["http/1.1"])?;
            let get = || http::Connection::open(tls_port, Some(&client))?.get(host, path, &[]);
            running.wait_for_answer(TLS_PATIENCE, said, get).context("over TLS")?;
            running.tls = Ok(Secure::Port(tls_port));
        }
        Ok(running)
    }

    /// Writes a configuration, where the server takes one, and names what it is started with.
    fn arguments(&self, command: &mut Command, listen: Listen<'_>, place: &Place, ports: [u16; 4]) -> Result<()> {
        let [port, h2_port, tls_port, metrics_port] = ports.map(|port| port.to_string());
        match self.kind {
            Kind::Floor => {
                command.args(["floor", "--port"]).arg(port);
            }
            Kind::Pinstone(knows) => {
                command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(self.data(place));
                if knows.per_source {
                    // All load comes from one address.
                    command.args(["--edge-connections-per-source", "0"]);
                }
                if knows.metrics {
                    command.arg("--metrics-listen").arg(format!("127.0.0.1:{metrics_port}"));
                }
                if let Some(identity) = listen.identity() {
                    command.arg("--tls-listen").arg(format!("127.0.0.1:{tls_port}"));
                    command.arg("--tls-cert").arg(&identity.certificate).arg("--tls-key").arg(&identity.key);
                }
            }
            Kind::Peer(peer) => {
                let (prefix, port) = match listen {
                    Listen::Tls(_) => ("tls-", &tls_port),
                    Listen::Plain | Listen::Both(_) => ("", &port),
                };
                let config = place.folder.join(format!("{prefix}{}", peer.config_name));
                let (Tls::OtherPort(with_tls) | Tls::OtherProcess(with_tls)) = peer.tls;
                let path = |path: Option<&PathBuf>| path.map(|path| path.to_string_lossy().into_owned());
                let identity = listen.identity();
                // What others hold comes first.
                let fill = |text: &str| {
                    text.replace("@TLS@", if identity.is_some() { with_tls } else { "" })
                        .replace("@CONFIG@", &config.to_string_lossy())
                        .replace("@TMP@", &place.folder.to_string_lossy())
                        .replace("@ROOT@", &place.root.to_string_lossy())
                        .replace("@CERT@", &path(identity.map(|identity| &identity.certificate)).unwrap_or_default())
                        .replace("@KEY@", &path(identity.map(|identity| &identity.key)).unwrap_or_default())
                        .replace("@H2PORT@", &h2_port)
                        .replace("@TLSPORT@", &tls_port)
                        .replace("@PORT@", port)
                        .replace("@MIME@", "/etc/nginx/mime.types")
                        // Started by root, a worker of nginx would become a user that may not read the files.
                        .replace("@USER@", if rustix::process::geteuid().is_root() { "user root;" } else { "" })
                };
                fs::write(&config, fill(peer.config)).with_context(|| format!("cannot write {}", config.display()))?;
                command.args(peer.arguments.iter().map(|argument| fill(argument)));
            }
        }
        Ok(())
    }
}

impl Running {
    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn with_tls(mut self, tls: Result<Secure, String>) -> Self {
        self.tls = tls;
        self
    }

    /// The process and the port that serve TLS, or why there is none.
    pub(crate) fn tls(&self) -> Result<(u32, u16), &str> {
        match &self.tls {
            Ok(Secure::Port(port)) => Ok((self.pid(), *port)),
            Ok(Secure::Process(process)) => process.tls(),
            Err(reason) => Err(reason),
        }
    }

    /// Whether files of what was published are still to be compressed. `false` of a server that does not tell.
    pub(crate) fn has_variants_queued(&self) -> Result<bool> {
        let Some(port) = self.metrics_port else { return Ok(false) };
        let answer = http::Connection::open(port, None)?.get("localhost", "/metrics", &[])?;
        ensure!(answer.status == 200, "it answers {} for its metrics", answer.status);
        Ok(has_queued(&String::from_utf8_lossy(&answer.body)))
    }

    /// Asks until the answer is a good one.
    fn wait_for_answer(
        &mut self,
        patience: Duration,
        said: impl Fn() -> String,
        get: impl Fn() -> Result<http::Answer>,
    ) -> Result<()> {
        let began = Instant::now();
        loop {
            match get() {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) if began.elapsed() > patience => bail!("it answers with {}", answer.status),
                Err(error) if began.elapsed() > patience => return Err(error),
                Ok(_) | Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}: {}", said().trim());
            }
            // Short beside any start, and long enough to leave it the core where there is only one.
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// The port in the line that Pinstone prints when it listens without TLS.
    fn announced_port(&mut self) -> Result<u16> {
        let stdout = self.child.stdout.take().context("its output is read")?;
        let (found, wait) = mpsc::channel();
        // Reads to the end, so that the server never waits for a reader; ends with the server.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("listening on ").filter(|url| url.starts_with("http:")) {
                    let _ = found.send(url.to_owned());
                }
            }
        });
        let url = wait.recv_timeout(PATIENCE).context("it did not say where it listens")?;
        let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        port.with_context(|| format!("no port in `{url}`"))
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        // Asked, not killed: nginx's workers would outlive a master that was killed.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("it has a process id")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Takes the user's settings from what a command sees.
pub(crate) fn clean_environment(command: &mut Command, home: &Path) {
    let own = |name: &OsString| name.to_string_lossy().starts_with("PINSTONE_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env(name, home);
    }
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").env_remove("GOMAXPROCS").current_dir(home);
}

/// Finds in Pinstone's metrics whether variants are queued.
fn has_queued(metrics: &str) -> bool {
    let value = metrics.lines().find_map(|line| line.strip_prefix("pinstone_variants_queued "));
    value.is_some_and(|value| value.trim() != "0")
}

/// Different ports that were free a moment ago.
fn free_ports() -> Result<[u16; 4]> {
    let bind = || TcpListener::bind(http::local(0));
    let bound = [bind()?, bind()?, bind()?, bind()?];
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(&bound) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_is_a_line_of_the_metrics() {
        let metrics = |value: &str| {
            format!(
                "# HELP pinstone_variants_queued Manifests whose variants are not made yet.\n\
                 # TYPE pinstone_variants_queued gauge\n\
                 pinstone_variants_queued{value}\n\
                 pinstone_variants_files_total 7\n"
            )
        };
        for (text, want) in [
            (metrics(" 0"), false),
            (metrics(" 1"), true),
            (metrics(" 100000"), true),
            (metrics("_otherwise 3"), false), // an older Pinstone
            (String::new(), false),
        ] {
            assert_eq!(has_queued(&text), want, "{text}");
        }
    }

    #[test]
    fn versions_as_the_programs_print_them() {
        for (text, want) in [
            ("nginx version: nginx/1.22.1\n", Some("1.22.1")),
            ("h2o version 2.2.5\nOpenSSL: OpenSSL 3.0.19 27 Jan 2026\n", Some("2.2.5")),
            ("2.6.2\n", Some("2.6.2")),
            ("v2.8.4 h1:q3pe0wpBj1OcHFZ3n/1nl4V4bxBrYoSoab7rL9BMYNk=\n", Some("2.8.4")),
            ("lighttpd/1.4.69 (ssl) - a light and fast webserver\n", Some("1.4.69")),
            ("static-web-server 2.44.1\n", Some("2.44.1")),
            ("pinstone 0.1.0\n", Some("0.1.0")),
            ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\n", Some("4.1.0-3+b2")),
            ("h2load nghttp2/1.52.0\n", Some("1.52.0")),
            ("usage: x\n", None),
        ] {
            assert_eq!(version_in(text), want, "{text}");
        }
    }
}
