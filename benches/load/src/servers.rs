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
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::http;

/// The name that requests carry, and the project that Pinstone shows under it.
pub(crate) const HOST: &str = "bench.localhost";
pub(crate) const PROJECT: &str = "bench";

/// How long a server may take to start, with 100,000 sites to load, or to end.
const PATIENCE: Duration = Duration::from_secs(180);

/// A file server that others made.
#[derive(Debug)]
struct Peer {
    name: &'static str,
    program: &'static str,
    version_flag: &'static str,
    /// Versions that the configuration is written for start with this.
    version: &'static str,
    install: &'static str,
    config_name: &'static str,
    config: &'static str,
    arguments: &'static [&'static str],
    h2: Http2,
}

/// Whether a peer speaks HTTP/2 without TLS, by prior knowledge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Http2 {
    SamePort,
    OtherPort,
    None,
}

const PEERS: [Peer; 5] = [
    Peer {
        name: "nginx",
        program: "nginx",
        version_flag: "-v",
        version: "",
        install: "apt-get install nginx-light",
        config_name: "nginx.conf",
        config: include_str!("../peers/nginx.conf"),
        arguments: &["-p", "@TMP@", "-e", "@TMP@/nginx-error.log", "-c", "@CONFIG@", "-g", "daemon off; @USER@"],
        h2: Http2::OtherPort,
    },
    Peer {
        name: "h2o",
        program: "h2o",
        version_flag: "--version",
        version: "",
        install: "apt-get install h2o",
        config_name: "h2o.conf",
        config: include_str!("../peers/h2o.conf"),
        arguments: &["--conf", "@CONFIG@"],
        h2: Http2::SamePort,
    },
    Peer {
        name: "lighttpd",
        program: "lighttpd",
        version_flag: "-v",
        version: "",
        install: "apt-get install lighttpd",
        config_name: "lighttpd.conf",
        config: include_str!("../peers/lighttpd.conf"),
        arguments: &["-D", "-f", "@CONFIG@"],
        h2: Http2::SamePort,
    },
    Peer {
        name: "caddy",
        program: "caddy",
        version_flag: "version",
        version: "",
        install: "apt-get install caddy",
        config_name: "Caddyfile",
        config: include_str!("../peers/Caddyfile"),
        arguments: &["run", "--adapter", "caddyfile", "--config", "@CONFIG@"],
        h2: Http2::SamePort,
    },
    Peer {
        name: "static-web-server",
        program: "static-web-server",
        version_flag: "--version",
        version: "2.",
        install: "cargo install static-web-server --version '^2' --locked",
        config_name: "static-web-server.toml",
        config: include_str!("../peers/static-web-server.toml"),
        arguments: &["--config-file", "@CONFIG@"],
        h2: Http2::None,
    },
];

/// What kind of server one is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Floor,
    Pinstone,
    Peer(&'static Peer),
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
    /// Pinstone's data.
    pub(crate) data: PathBuf,
    /// The cores to run on, as `taskset --cpu-list` takes them.
    pub(crate) cores: String,
    /// A control group that servers are put into, for what it bounds.
    pub(crate) group: Option<PathBuf>,
}

/// A server that runs. Dropped, it is stopped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
    /// Where it speaks HTTP/2 by prior knowledge, if it does.
    pub(crate) h2_port: Option<u16>,
    /// From the start of the process to the first answer.
    pub(crate) started_in: Duration,
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

fn version_in(text: &str) -> Option<&str> {
    text.split([' ', '/', '\n', '\t'])
        .map(|word| word.trim_start_matches(['v', '(']))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
}

impl Server {
    /// Pinstone, the floor, and every peer that is installed; and what is missing.
    pub(crate) fn find(pinstone: &Path) -> Result<(Vec<Self>, Vec<Missing>)> {
        let pinstone_version = version(pinstone, "--version")
            .with_context(|| format!("{} is no Pinstone; `make load` builds one", pinstone.display()))?;
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut servers = vec![
            Self { name: "floor", version: env!("CARGO_PKG_VERSION").to_owned(), program: own, kind: Kind::Floor },
            Self { name: "pinstone", version: pinstone_version, program: pinstone.to_owned(), kind: Kind::Pinstone },
        ];
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

    /// Whether it only answers a constant.
    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.kind, Kind::Floor)
    }

    /// Whether it is the one that all others are compared with.
    pub(crate) fn is_pinstone(&self) -> bool {
        matches!(self.kind, Kind::Pinstone)
    }

    /// Starts it and waits for its first answer to `path` on `host`.
    pub(crate) fn start(&self, place: &Place, host: &str, path: &str) -> Result<Running> {
        self.start_inner(place, host, path).with_context(|| format!("cannot start {}", self.name))
    }

    fn start_inner(&self, place: &Place, host: &str, path: &str) -> Result<Running> {
        let free = free_ports()?;
        let [port, other] = free;
        let mut h2_port = None;
        // The shell enters the group and becomes `taskset`, which sets the cores and becomes the server: the process id is
        // the server's.
        let mut command = Command::new("taskset");
        if let Some(group) = &place.group {
            command = Command::new("sh");
            command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec taskset "$@""#]).arg(group);
        }
        command.arg("--cpu-list").arg(&place.cores).arg(&self.program);
        match self.kind {
            Kind::Floor => {
                command.args(["floor", "--port"]).arg(port.to_string());
            }
            Kind::Pinstone => {
                command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&place.data);
            }
            Kind::Peer(peer) => {
                h2_port = match peer.h2 {
                    Http2::SamePort => Some(port),
                    Http2::OtherPort => Some(other),
                    Http2::None => None,
                };
                let config = place.folder.join(peer.config_name);
                let fill = |text: &str| {
                    text.replace("@CONFIG@", &config.to_string_lossy())
                        .replace("@TMP@", &place.folder.to_string_lossy())
                        .replace("@ROOT@", &place.root.to_string_lossy())
                        .replace("@H2PORT@", &other.to_string())
                        .replace("@PORT@", &port.to_string())
                        .replace("@MIME@", "/etc/nginx/mime.types")
                        // Started by root, a worker of nginx would become a user that may not read the files.
                        .replace("@USER@", if rustix::process::geteuid().is_root() { "user root;" } else { "" })
                };
                fs::write(&config, fill(peer.config)).with_context(|| format!("cannot write {}", config.display()))?;
                command.args(peer.arguments.iter().map(|argument| fill(argument)));
            }
        }
        let log = place.folder.join(format!("{}.log", self.name));
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
        let mut running = Running { child, port, h2_port, started_in: Duration::ZERO };
        let said = || fs::read_to_string(&log).unwrap_or_default();
        if self.is_pinstone() {
            let port = running.announced_port().with_context(said)?;
            (running.port, running.h2_port) = (port, Some(port));
        }
        loop {
            let answer =
                http::Connection::open(running.port).and_then(|mut connection| connection.get(host, path, &[]));
            match answer {
                Ok(answer) if answer.status == 200 => break,
                Ok(answer) if began.elapsed() > PATIENCE => bail!("GET {path} is answered with {}", answer.status),
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Ok(_) | Err(_) => {}
            }
            if let Some(status) = running.child.try_wait()? {
                bail!("it ended with {status}: {}", said());
            }
            // Short beside any start, and long enough to leave it the core where there is only one.
            std::thread::sleep(Duration::from_micros(500));
        }
        running.started_in = began.elapsed();
        Ok(running)
    }
}

impl Running {
    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port in the line that Pinstone prints when it listens.
    fn announced_port(&mut self) -> Result<u16> {
        let stdout = self.child.stdout.take().context("its output is read")?;
        let (found, wait) = mpsc::channel();
        // Reads to the end, so that the server never waits for a reader; ends with the server.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("listening on ") {
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

/// Two different ports that were free a moment ago.
fn free_ports() -> Result<[u16; 2]> {
    let sockets = [TcpListener::bind(http::local(0))?, TcpListener::bind(http::local(0))?];
    Ok([sockets[0].local_addr()?.port(), sockets[1].local_addr()?.port()])
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn every_place_in_a_configuration_is_known() {
        let known = ["CONFIG", "TMP", "ROOT", "H2PORT", "PORT", "MIME", "USER"];
        for peer in &PEERS {
            for text in [peer.config].iter().chain(peer.arguments) {
                for name in text.split('@').skip(1).step_by(2).filter(|name| *name != "…") {
                    assert!(known.contains(&name), "{}: @{name}@", peer.name);
                }
                assert_eq!(text.matches('@').count() % 2, 0, "{}: {text}", peer.name);
            }
        }
    }
}
