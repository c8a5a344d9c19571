//! A SeaweedFS of one's own: an S3-compatible store that a test starts, stops and starts again.
//!
//! The binary is found by `PINSTONE_WEED`, on the `PATH`, or where `.ci/setup --checks` puts it. Where there is none, a test
//! says so and passes by, except in CI, where it must not.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Who may do everything in a store of a test.
pub(crate) const KEY_ID: &str = "pinstone-test-key";
pub(crate) const SECRET: &str = "pinstone-test-secret-that-nobody-logs";
/// The bucket that is there.
pub(crate) const BUCKET: &str = "pinstone-test";

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ports of one store: HTTP and gRPC of S3, master, volume server and filer; administration, WebDAV.
const PORTS: u16 = 10;
/// Which of them is the filer's.
const FILER: u16 = 6;

/// A store in a temporary folder. Dropped, it is killed and removed.
#[derive(Debug)]
pub(crate) struct SeaweedFs {
    binary: PathBuf,
    folder: TempDir,
    first_port: u16,
    child: Option<Child>,
}

impl SeaweedFs {
    /// Starts a store; `None`, with a line that says why, where there is no binary and this is not CI.
    pub(crate) fn start() -> Option<Self> {
        let Some(binary) = find() else {
            let hint = "`.ci/setup --checks` installs it; `PINSTONE_WEED` names another one";
            assert!(std::env::var_os("CI").is_none(), "there is no SeaweedFS to test with: {hint}");
            eprintln!("passed by: there is no SeaweedFS to test with; {hint}");
            return None;
        };
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let mut store = Self { binary, folder, first_port: 0, child: None };
        store.run();
        Some(store)
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.first_port).into()
    }

    /// Ends it as a crash of its machine's processes would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it was started");
    }

    /// Starts it again, where it was, with what it had.
    pub(crate) fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let start = Instant::now();
        while !self.try_run() {
            assert!(start.elapsed() < PATIENCE, "SeaweedFS does not start:\n{}", self.log());
            // A store that was used keeps its address. A new one may have met somebody on its ports.
            if !self.data().join("filerldb2").exists() {
                self.first_port = 0;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn try_run(&mut self) -> bool {
        if self.first_port == 0 {
            self.first_port = free_ports();
        }
        let port = |number: u16| (self.first_port + number).to_string();
        std::fs::create_dir_all(self.data()).expect("the folder is writable");
        let log =
            File::options().create(true).append(true).open(self.folder.path().join("log")).expect("it is writable");
        let mut command = Command::new(&self.binary);
        for name in ["AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"] {
            command.env_remove(name);
        }
        command
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("S3_BUCKET", BUCKET)
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .args([
                "mini",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-webdav=false",
                "-admin.ui=false",
                "-master.telemetry=false",
            ])
            // Otherwise a wrong name is a new bucket.
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"])
            .arg(format!("-dir={}", self.data().display()));
        for (number, name) in (0..).step_by(2).zip(["s3", "master", "volume", "filer"]) {
            command.arg(format!("-{name}.port={}", port(number)));
            command.arg(format!("-{name}.port.grpc={}", port(number + 1)));
        }
        command.arg(format!("-admin.port={}", port(8))).arg(format!("-webdav.port={}", port(9)));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).spawn();
        let mut child = child.expect("the binary runs");
        let start = Instant::now();
        loop {
            if self.has_bucket() {
                self.child = Some(child);
                return true;
            }
            if child.try_wait().expect("it was started").is_some() || start.elapsed() > PATIENCE / 2 {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it answers, and has the bucket: its filer tells.
    fn has_bucket(&self) -> bool {
        let ask = |port: u16, target: &str| -> std::io::Result<String> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.first_port + port));
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {target} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
            let mut answer = String::new();
            stream.take(64 << 10).read_to_string(&mut answer)?;
            Ok(answer)
        };
        let is_there =
            ask(FILER, &format!("/buckets/{BUCKET}/?limit=1")).is_ok_and(|answer| answer.contains(" 200 OK"));
        is_there && ask(0, &format!("/{BUCKET}/")).is_ok_and(|answer| answer.contains("AccessDenied"))
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// Ports in a row that nobody has, below those that systems hand out by themselves.
fn free_ports() -> u16 {
    static TURN: AtomicU16 = AtomicU16::new(0);
    let seed = u16::try_from(std::process::id() % 1000).expect("it is below 1000");
    for _ in 0..1000 {
        let turn = seed.wrapping_add(TURN.fetch_add(37, Ordering::Relaxed)) % 1000;
        let first = 12_000 + turn * 18;
        let all = (first..first + PORTS).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if all.collect::<Result<Vec<_>, _>>().is_ok() {
            return first;
        }
    }
    panic!("there are no free ports");
}

fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PINSTONE_WEED") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The folder of the workspace, or that of one of its packages.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = [here, here.parent().unwrap_or(here)].map(|folder| folder.join("target/seaweedfs/bin"));
    std::env::split_paths(&path).chain(installed).map(|folder| folder.join("weed")).find(|weed| weed.is_file())
}
