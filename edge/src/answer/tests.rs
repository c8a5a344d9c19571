//! What a site answers, with all that is at hand and with nothing of it.

use std::io;

use bytes::Bytes;
use http::header;
use object_store::memory::InMemory;
use pinstone_engine::Engine;
use pinstone_engine::blob::{BlobStore, index::MemoryIndex};
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::coding::Variant;
use pinstone_engine::hash::{BlobHash, ManifestId};
use pinstone_engine::host::Hosts;
use pinstone_engine::id::{ImageId, ProjectId, TeamId};
use pinstone_engine::manifest::{Manifest, ManifestBuilder, Settings};
use pinstone_engine::meta::MemoryMeta;
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::path::SitePath;
use pinstone_engine::pointers::{PointerEvent, ProjectSettings, Shown};
use pinstone_engine::variants::VariantList;
use tokio::runtime::Handle;

use super::*;
use crate::request::Protocol;
use crate::request_head;
use crate::{Edge, EdgeConfig};

const FILE: &[u8] = &[b'x'; 300];
const ENCODED: &[u8] = b"encoded";
const HOST: &str = "demo.pages.test";

/// A worker whose store has these blobs, and one site of one file. The clock is a manual one.
struct World {
    worker: Arc<Worker>,
    manifest: ManifestId,
    project: ProjectId,
    clock: Clock,
    engine: Engine,
}

impl World {
    async fn with(stored: &[&'static [u8]], hot_bytes: u64) -> Self {
        let (objects, index) = (Arc::new(InMemory::new()), Arc::new(MemoryIndex::default()));
        let blobs = BlobStore::new(objects, index);
        for bytes in stored {
            let body = futures_util::stream::iter([Ok::<_, io::Error>(Bytes::from_static(bytes))]);
            blobs.put(TeamId::from_bytes([7; 16]), BlobHash::of(bytes), None, 1 << 20, body).await.unwrap();
        }
        let mut site = ManifestBuilder::new(Settings::default());
        site.add(SitePath::new("a.txt").unwrap(), BlobHash::of(FILE), 300, "text/plain");
        site.add(SitePath::new("404.html").unwrap(), BlobHash::of(FILE), 300, "text/html");
        let (_, bytes) = site.finish().unwrap();
        let manifest = Manifest::open(bytes).unwrap();
        let clock = Clock::manual(UnixMillis(1_000_000));
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        let limits = pinstone_engine::Limits::default();
        let engine = Engine::assemble(meta, blobs, clock.clone(), limits, "pin_test").await.unwrap();
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        let mut config = EdgeConfig::new(hosts, Handle::current());
        config.workers = std::num::NonZeroUsize::MIN;
        config.cache.hot_bytes = hot_bytes;
        let shared = Edge::new(config, engine.resolver(), None).unwrap().shared;
        let id = manifest.id();
        shared.caches.put_manifest(manifest).await;
        let (team, project) = (TeamId::random(), ProjectId::random());
        let settings = ProjectSettings::default();
        let (name, former_names) = ("demo".parse().unwrap(), Vec::new());
        let event = PointerEvent::Project { team, project_id: project, name, settings, former_names };
        engine.resolver().pointers().apply(event);
        let world = Self { worker: Worker::new(shared), manifest: id, project, clock, engine };
        world.release(1, Some(500_000), None);
        world
    }

    /// Shows the image, with this moment as its Last-Modified.
    fn release(&self, number: u64, last_modified: Option<u64>, expires_at: Option<u64>) {
        self.release_of(self.manifest, number, last_modified, expires_at);
    }

    fn release_of(&self, manifest: ManifestId, number: u64, last_modified: Option<u64>, expires_at: Option<u64>) {
        let shows = last_modified.map(|moment| Shown {
            image: ImageId::from(&manifest),
            manifest,
            released_at: UnixMillis(moment),
            last_modified: UnixMillis(moment),
            expires_at: expires_at.map(UnixMillis),
        });
        let environment = EnvironmentName::prod();
        let event = PointerEvent::Pointer { project_id: self.project, environment, number, shows };
        self.engine.resolver().pointers().apply(event);
    }

    /// Says that the file has a variant, in a list that is in memory already.
    async fn announce(&self, coding: Coding) {
        let variant = Variant { blob: BlobHash::of(ENCODED), size: ENCODED.len() as u64 };
        let variants = Variants::default().with(coding, variant);
        let (id, bytes) = VariantList::write([(BlobHash::of(FILE), variants)]).unwrap().unwrap();
        self.worker.caches.put_list(id, VariantList::open(bytes).unwrap()).await;
        let event = PointerEvent::Variants { manifest: self.manifest, list: Some(id) };
        self.engine.resolver().pointers().apply(event);
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Decided {
        let request = request_head::tests::head(fields);
        let fields = Fields::of(request.fields());
        let call = Call {
            worker: &self.worker,
            method: Method::Get,
            path,
            query: None,
            fields: &fields,
            authority: None,
            is_tls: false,
        };
        let host = HostName::parse(HOST).unwrap();
        let mut facts = Facts::new(Protocol::Http11, false, None);
        match call.answer(&host, self.worker.hosts.target(&host), &mut facts) {
            Ok(decided) => decided,
            Err(awaited) => call.wait_for(awaited, &mut facts).await,
        }
    }

    fn place(&self) -> Arc<Place> {
        self.worker.hot.place(HOST, "demo", "prod", self.engine.resolver().pointers()).unwrap()
    }

    fn at_hand(&self, path: &str) -> bool {
        self.worker.hot.file(&self.place(), path, self.engine.resolver().pointers().variants()).is_some()
    }

    fn leads_to(&self, path: &str) -> Option<LeadsTo> {
        self.worker.hot.leads_to(&self.place(), path, self.engine.resolver().pointers().variants())
    }
}

fn field(decided: &Decided, name: header::HeaderName) -> Option<&str> {
    decided.fields.get(&name).map(|value| value.to_str().unwrap())
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &BlobHash::of(bytes).to_string()[..32])
}

#[tokio::test]
async fn what_is_at_hand_answers_as_what_is_looked_up() {
    let (kept, looked_up) = (World::with(&[FILE], 1 << 20).await, World::with(&[FILE], 0).await);
    let (own, other) = (etag(FILE), etag(b"other"));
    for path in ["/a.txt", "/none/such"] {
        for fields in [
            &[][..],
            &[("if-none-match", &*own)],
            &[("if-none-match", &*other)],
            &[("if-match", &*other)],
            &[("range", "bytes=1-2")],
            &[("range", "bytes=1-2,5-6")],
            &[("range", "bytes=999-")],
            &[("range", "bytes=1-2"), ("if-range", &*other)],
            &[("want-repr-digest", "sha-256=1")],
            &[("accept-encoding", "br, zstd, gzip")],
        ] {
            let want = looked_up.get(path, fields).await;
            for _ in 0..3 {
                let got = kept.get(path, fields).await;
                let what = format!("{path} {fields:?}");
                assert_eq!(
                    (got.status, got.fields.map(), &got.body),
                    (want.status, want.fields.map(), &want.body),
                    "{what}"
                );
                assert_eq!(got.source.is_some(), want.source.is_some(), "{what}");
            }
        }
    }
    // The head of a part is that of the whole, but for what says which part it is.
    for world in [&kept, &looked_up] {
        let mut want = world.get("/a.txt", &[]).await.fields.map();
        let length = want.insert(header::CONTENT_LENGTH, http::HeaderValue::from_static("2")).unwrap();
        let content_range = format!("bytes 1-2/{}", length.to_str().unwrap());
        want.insert(header::CONTENT_RANGE, http::HeaderValue::try_from(content_range).unwrap());
        assert_eq!(world.get("/a.txt", &[("range", "bytes=1-2")]).await.fields.map(), want);
    }
    assert!(kept.at_hand("/a.txt") && kept.at_hand("404.html"));
    assert!(!looked_up.at_hand("/a.txt"), "there is room for nothing");
    assert!(matches!(kept.leads_to("/none/such"), Some(LeadsTo::Nothing(Some(_)))));
}

#[tokio::test]
async fn what_is_missing_makes_no_file_go_and_is_looked_for_in_each_release() {
    let world = World::with(&[FILE], 1 << 20).await;
    let long = "/long".repeat(100);
    world.get("/a.txt", &[]).await;
    for number in 0..10_000 {
        world.get(&format!("/none/{number}"), &[]).await;
    }
    world.get(&long, &[]).await;
    assert!(world.at_hand("/a.txt") && world.at_hand("404.html"));
    assert!(matches!(world.leads_to("/none/9999"), Some(LeadsTo::Nothing(Some(_)))));
    assert!(world.leads_to("/none/0").is_none(), "there is room for some");
    assert!(world.leads_to(&long).is_none(), "this would take too much of it");

    let mut site = ManifestBuilder::new(Settings::default());
    site.add(SitePath::new("none/9999").unwrap(), BlobHash::of(FILE), 300, "text/plain");
    let manifest = Manifest::open(site.finish().unwrap().1).unwrap();
    let id = manifest.id();
    world.worker.caches.put_manifest(manifest).await;
    world.release_of(id, 2, Some(600_000), None);
    assert_eq!(world.get("/none/9999", &[]).await.status, StatusCode::OK);
    for _ in 0..2 {
        let sent = world.get("/a.txt", &[]).await;
        assert_eq!((sent.status, sent.body), (StatusCode::NOT_FOUND, Body::Page(Page::NotFound)));
    }
    assert!(matches!(world.leads_to("/a.txt"), Some(LeadsTo::Nothing(None))), "the site has no page for it");
    world.release(3, Some(700_000), None);
    assert_eq!(world.get("/a.txt", &[]).await.status, StatusCode::OK);
    assert_eq!(world.get("/none/9999", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_release_is_seen_by_the_next_request() {
    let world = World::with(&[FILE], 1 << 20).await;
    let modified = |decided: &Decided| field(decided, header::LAST_MODIFIED).map(str::to_owned);
    let first = world.get("/a.txt", &[]).await;
    assert_eq!(modified(&first).as_deref(), Some("Thu, 01 Jan 1970 00:08:20 GMT"));
    world.release(2, Some(700_000), None);
    let second = world.get("/a.txt", &[]).await;
    assert_eq!(modified(&second).as_deref(), Some("Thu, 01 Jan 1970 00:11:40 GMT"));
    world.release(3, None, None);
    assert_eq!(world.get("/a.txt", &[]).await.status, StatusCode::NOT_FOUND);
    world.release(4, Some(800_000), Some(1_001_000));
    assert_eq!(world.get("/a.txt", &[]).await.status, StatusCode::OK);
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.get("/a.txt", &[]).await.status, StatusCode::GONE, "a preview is over at its time");
}

#[tokio::test]
async fn a_date_in_the_future_is_not_kept() {
    let world = World::with(&[FILE], 1 << 20).await;
    world.release(2, Some(1_003_000), None);
    for date in ["00:16:40", "00:16:42", "00:16:43"] {
        let sent = world.get("/a.txt", &[]).await;
        let want = format!("Thu, 01 Jan 1970 {date} GMT");
        assert_eq!(field(&sent, header::LAST_MODIFIED), Some(&*want));
        let part = world.get("/a.txt", &[("range", "bytes=1-2")]).await;
        assert_eq!(field(&part, header::LAST_MODIFIED), Some(&*want));
        world.clock.advance(std::time::Duration::from_secs(2));
    }
}

#[tokio::test]
async fn variants_are_sent_as_soon_as_they_are_known() {
    let world = World::with(&[FILE, ENCODED], 1 << 20).await;
    let accept = [("accept-encoding", "zstd, gzip")];
    assert_eq!(field(&world.get("/a.txt", &accept).await, header::CONTENT_ENCODING), None);
    assert!(world.at_hand("/a.txt"));
    for coding in [Coding::Gzip, Coding::Zstd] {
        world.announce(coding).await;
        // The list is loaded by a task of its own.
        loop {
            let sent = world.get("/a.txt", &accept).await;
            if field(&sent, header::CONTENT_ENCODING) == Some(coding.token()) {
                assert_eq!(field(&sent, header::ETAG), Some(&*etag(ENCODED)));
                break;
            }
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            assert_eq!(field(&world.get("/a.txt", &[]).await, header::CONTENT_ENCODING), None);
            let sent = world.get("/a.txt", &accept).await;
            assert_eq!(field(&sent, header::CONTENT_ENCODING), Some(coding.token()));
        }
        assert!(world.at_hand("/a.txt"));
    }
}

#[tokio::test]
async fn where_a_variant_is_lost_the_file_itself_is_sent() {
    let accept = [("accept-encoding", "zstd")];
    for (stored, body, coding) in [(&[FILE, ENCODED][..], ENCODED, Some("zstd")), (&[FILE][..], FILE, None)] {
        let world = World::with(stored, 1 << 20).await;
        world.announce(Coding::Zstd).await;
        while !world.at_hand("/a.txt") {
            world.get("/a.txt", &[]).await;
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            let sent = world.get("/a.txt", &accept).await;
            assert_eq!(field(&sent, header::CONTENT_ENCODING), coding);
            assert_eq!(field(&sent, header::VARY), Some("Accept-Encoding"));
            assert_eq!(field(&sent, header::ETAG), Some(&*etag(body)));
            assert_eq!(field(&sent, header::CONTENT_LENGTH), Some(&*body.len().to_string()));
            assert!(matches!(&sent.source, Some(Source::Memory(whole)) if whole.bytes == body));
        }
    }
    let world = World::with(&[], 1 << 20).await;
    world.announce(Coding::Zstd).await;
    let sent = world.get("/a.txt", &accept).await;
    assert_eq!((sent.status, sent.body), (StatusCode::SERVICE_UNAVAILABLE, Body::Page(Page::Unavailable)));
}

#[tokio::test]
async fn what_is_at_hand_has_its_bound() {
    let mut site = ManifestBuilder::new(Settings::default());
    for number in 0..2_000 {
        let path = SitePath::new(format!("{number}.txt")).unwrap();
        site.add(path, BlobHash::of(FILE), 300, "text/plain");
    }
    let (_, bytes) = site.finish().unwrap();
    let world = World::with(&[FILE], 256 << 10).await;
    let manifest = Manifest::open(bytes).unwrap();
    let id = manifest.id();
    world.worker.caches.put_manifest(manifest).await;
    world.release_of(id, 9, Some(1), None);
    for round in 0..2 {
        for number in 0..2_000 {
            let sent = world.get(&format!("/{number}.txt"), &[]).await;
            assert_eq!(sent.status, StatusCode::OK, "{number}");
            let bytes = world.worker.hot.bytes();
            assert!(bytes <= 256 << 10, "{bytes} bytes in round {round}");
        }
    }
    let kept = (0..2_000).filter(|number| world.at_hand(&format!("/{number}.txt"))).count();
    assert!((150..240).contains(&kept), "{kept} files of some 1.2 KiB each");
}
