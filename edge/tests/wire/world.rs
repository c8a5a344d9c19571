//! An engine with files in a temporary folder, an edge on a free port, and a client that sees every byte.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use object_store::local::LocalFileSystem;
use pinstone_edge::{ControlService, Counters, Edge, EdgeConfig, EdgeMetrics, Listeners, ServeError};
use pinstone_engine::blob::{BlobStore, index::MemoryIndex};
use pinstone_engine::clock::Clock;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::id::ImageId;
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::MemoryMeta;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::{CommitRequest, ProjectSelector, ReleaseRequest};
use pinstone_engine::{Engine, Limits};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SITE: &str = "demo.pages.test";

/// Files that are kept in memory only, in memory and open, and open only, and of lengths at the bounds of these.
pub(crate) fn files_of_all_kinds() -> Vec<(String, Vec<u8>)> {
    let byte = |n: u32| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0];
    let lengths = [1, 65_535, 65_536, 65_537, 100_000, 524_288, 524_289, 2_000_000];
    lengths.map(|length| (format!("{length}.bin"), (0..length).map(byte).collect())).into()
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    /// Where TLS is spoken, if there are certificates.
    pub(crate) tls_address: Option<SocketAddr>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
    folder: tempfile::TempDir,
}

impl World {
    /// An edge that serves these files as the project `demo`.
    pub(crate) async fn with(files: &[(&str, &[u8])]) -> Self {
        Self::start(Clock::system(), None, |_| {}, files).await
    }

    pub(crate) async fn start(
        clock: Clock,
        control: Option<ControlService>,
        configure: impl FnOnce(&mut EdgeConfig),
        files: &[(&str, &[u8])],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        let blobs = BlobStore::new(objects, Arc::new(MemoryIndex::default()));
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        let engine = Engine::assemble(meta, blobs, clock, Limits::default(), "pin_test").await.unwrap();
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        let mut config = EdgeConfig::new(hosts, Handle::current());
        config.workers = NonZeroUsize::new(2).unwrap();
        configure(&mut config);
        let any = ["127.0.0.1:0".parse().unwrap()];
        let mut listeners = Listeners::bind(&any, config.workers).unwrap();
        if config.certificates.is_some() {
            listeners = listeners.with_tls(Listeners::bind(&any, config.workers).unwrap());
        }
        let address = listeners.addresses()[0];
        let tls_address = listeners.tls_addresses().first().copied();
        let edge = Edge::new(config, engine.resolver(), control).unwrap();
        let (counters, metrics) = (edge.counters(), edge.metrics());
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(edge.serve(listeners, shutdown.clone()));
        let world = Self { engine, address, tls_address, counters, metrics, shutdown, serving, folder };
        if !files.is_empty() {
            world.publish("demo", "prod", files).await;
        }
        world
    }

    /// Publishes files and releases them; answers the image.
    pub(crate) async fn publish(&self, project: &str, environment: &str, files: &[(&str, &[u8])]) -> ImageId {
        self.publish_as(project, environment, Settings::default(), files).await
    }

    /// Publishes files of a site with settings, and releases them.
    pub(crate) async fn publish_as(
        &self,
        project: &str,
        environment: &str,
        settings: Settings,
        files: &[(&str, &[u8])],
    ) -> ImageId {
        let owner = self.engine.owner_principal();
        let bytes: BTreeMap<BlobHash, &[u8]> = files.iter().map(|(_, bytes)| (BlobHash::of(bytes), *bytes)).collect();
        let planned = |(path, bytes): &(&str, &[u8])| PlannedFile {
            path: SitePath::new(*path).unwrap(),
            blob: BlobHash::of(bytes),
            size: Some(bytes.len() as u64),
            content_type: None,
        };
        let plan = NewPlan {
            project: project.parse().unwrap(),
            files: files.iter().map(planned).collect(),
            git: None,
            message: None,
            settings,
        };
        let plan = self.engine.plan(&owner, plan, None).await.unwrap();
        for missing in &plan.missing {
            let body = Ok::<_, std::io::Error>(Bytes::copy_from_slice(bytes[&missing.hash]));
            let body = stream::iter([body]);
            self.engine.upload(&owner, plan.id, missing.hash, None, body).await.unwrap();
        }
        let commit = CommitRequest { plan: plan.id, message: None, strict: false };
        let image = self.engine.commit(&owner, commit, None).await.unwrap().image;
        let release = ReleaseRequest {
            project: ProjectSelector::Name(project.parse().unwrap()),
            environment: environment.parse().unwrap(),
            image: Some(image),
            expected: None,
            message: None,
        };
        self.engine.release(&owner, release, None).await.unwrap();
        image
    }

    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Connection::over(stream)
    }

    /// One GET of `target` from `host`, over a connection of its own.
    pub(crate) fn get(&self, host: &str, target: &str) -> Response {
        self.connect().get(host, target, "")
    }

    /// Where a blob is stored.
    pub(crate) fn blob_file(&self, bytes: &[u8]) -> PathBuf {
        let digits = BlobHash::of(bytes).to_string();
        self.folder.path().join("blobs").join(&digits[..2]).join(&digits)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of a field that comes at most once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next();
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        value.map(|(_, value)| value.as_str())
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A client's end of a connection.
pub(crate) struct Connection<S = TcpStream> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn get(&mut self, host: &str, target: &str, fields: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        self.receive(true)
    }

    /// Reads one response whose body, if it has one, is framed by Content-Length.
    pub(crate) fn receive(&mut self, has_body: bool) -> Response {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert_ne!(self.fill(), 0, "the connection ended in a head: {:?}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut response = Response { status, fields, body: Vec::new() };
        if has_body && !matches!(status, 204 | 304) {
            let length: usize = response.field("content-length").expect("a length").parse().unwrap();
            while self.read.len() < length {
                assert_ne!(self.fill(), 0, "the connection ended in a body");
            }
            response.body = self.read.drain(..length).collect();
        }
        response
    }

    /// Whether the other end closes now, and sends nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.read.is_empty() && self.fill() == 0
    }

    /// What was read beyond the last response.
    pub(crate) fn take_read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    fn fill(&mut self) -> usize {
        let mut buffer = [0; 64 << 10];
        let read = match self.stream.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => 0,
            Err(error) => panic!("nothing came: {error}"),
        };
        self.read.extend_from_slice(&buffer[..read]);
        read
    }
}
