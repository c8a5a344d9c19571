//! What a host that shows something answers: from a path to a file, and from a file and a request to an answer.
//!
//! A head is decided before a byte is fetched, so a 304 and a HEAD cost no read.

use std::sync::Arc;

use http::StatusCode;
use pinstone_engine::coding::{Coding, Variants};
use pinstone_engine::host::{HostName, HostTarget};
use pinstone_engine::manifest::Entry;

use crate::account::Facts;
use crate::canonical;
use crate::digest;
use crate::encoding::Accepted;
use crate::entity::{Asked, Decision, Entity, Published, Representation};
use crate::error::EdgeError;
use crate::fields::Fields;
use crate::head::{self, Answer, Body, Field, Head};
use crate::hot::{Hot, LeadsTo};
use crate::navigation;
use crate::pages::Page;
use crate::path::{self, Resolution};
use crate::place::{self, Nowhere, Place};
use crate::prepared::{Kind, Prepared};
use crate::renamed;
use crate::reply::ReplyFields;
use crate::request::Method;
use crate::respond;
use crate::source::Source;
use crate::telemetry::Lookup;
use crate::worker::Worker;

/// An answer, and the bytes that it speaks of.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) status: StatusCode,
    pub(crate) fields: ReplyFields,
    pub(crate) body: Body,
    pub(crate) source: Option<Source>,
}

impl From<Answer> for Decided {
    fn from(answer: Answer) -> Self {
        let (status, fields) = respond::head(answer.head);
        Self { status, fields: fields.into(), body: answer.body, source: None }
    }
}

/// A request for a site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'r> {
    pub(crate) worker: &'r Worker,
    pub(crate) method: Method,
    /// The authority of its target; where it has none, Host says it.
    pub(crate) authority: Option<&'r str>,
    pub(crate) path: &'r str,
    pub(crate) query: Option<&'r str>,
    pub(crate) fields: &'r Fields<'r>,
    pub(crate) is_tls: bool,
}

impl Call<'_> {
    /// Answers it as `host`, which stands for `target`.
    pub(crate) async fn answer(self, host: &HostName<'_>, target: HostTarget<'_>, facts: &mut Facts) -> Decided {
        let answered = match place::find(self.worker, host, target, self.path, facts).await {
            Ok(place) => self.answer_at(&place, facts).await,
            Err(Nowhere::Page(page)) => return self.nothing_shown(target, page),
            Err(Nowhere::Moved(domain)) => return self.moved(domain.as_str()),
        };
        answered.unwrap_or_else(|error| {
            error.report();
            self.page(error.page())
        })
    }

    /// Answers where a host shows nothing: with the page that says why, or with the way to the name that its project has
    /// by now.
    fn nothing_shown(self, target: HostTarget<'_>, page: Page) -> Decided {
        if page == Page::UnknownHost {
            let resolver = self.worker.caches.resolver();
            let now = resolver.clock().now();
            let project = renamed::project(resolver.pointers(), now, target);
            if let Some(project) = project
                && let Some(host) = self.worker.hosts.same_of(target, &project)
            {
                return head::redirect(renamed::location(&host, self.authority(), self.path, self.query)).into();
            }
        }
        self.page(page)
    }

    /// Sends a visitor to the same address at another host.
    fn moved(&self, host: &str) -> Decided {
        match self.method {
            Method::Get | Method::Head => {
                head::redirect(canonical::location(host, self.authority(), self.is_tls, self.path, self.query)).into()
            }
            Method::Options => head::options().into(),
            Method::Other => self.page(Page::Method),
        }
    }

    /// The host that was asked, with its port, as the request has it.
    fn authority(&self) -> &str {
        let field = self.fields.hosts[0].and_then(|host| std::str::from_utf8(host).ok());
        self.authority.or(field).unwrap_or_default()
    }

    async fn answer_at(self, place: &Arc<Place>, facts: &mut Facts) -> Result<Decided, EdgeError> {
        match self.method {
            Method::Get | Method::Head => {}
            Method::Options => return Ok(head::options().into()),
            Method::Other => return Ok(self.page(Page::Method)),
        }
        let variants = self.worker.caches.resolver().pointers().variants();
        let leads_to = self.hot_of(place).and_then(|hot| hot.leads_to(place, self.path, variants));
        if leads_to.is_some() {
            self.worker.caches.looked_up(facts, Lookup::Manifest, true);
        }
        // Boxed, as all that is rare or waits: what lies within the future of a request is moved with it.
        match leads_to {
            Some(LeadsTo::File(file)) => self.file(&file, facts).await,
            Some(LeadsTo::Nothing(Some(page))) => Box::pin(self.not_found(Some(page), facts)).await,
            Some(LeadsTo::Nothing(None)) => Ok(self.page(Page::NotFound)),
            None => Box::pin(self.look_up(place, facts)).await,
        }
    }

    /// What is at hand of a place: nothing of what may be closed at any time.
    fn hot_of(&self, place: &Place) -> Option<&Hot> {
        (!place.is_image_host()).then_some(&self.worker.hot)
    }

    /// Finds out what the path leads to.
    async fn look_up(self, place: &Arc<Place>, facts: &mut Facts) -> Result<Decided, EdgeError> {
        let variants = self.worker.caches.resolver().pointers().variants();
        let generation = variants.generation();
        let site = place.site(self.worker, facts).await?;
        let resolution = match path::resolve_under(&site, place.prefix(), self.path, self.query) {
            Ok(resolution) => resolution,
            Err(_) => return Ok(self.page(Page::BadRequest)),
        };
        let hot = self.hot_of(place);
        // Before the variants are looked at. Not while their list is on its way.
        let lasting = hot.filter(|_| site.is_current(generation));
        let prepare = |entry: &Entry<'_>, path: &str| Arc::new(Prepared::new(place, &site, entry, path, generation));
        let keep = |file: &Arc<Prepared>| {
            if let Some(hot) = lasting {
                hot.keep(file);
            }
        };
        let missing = |page: Option<Entry<'_>>| {
            let page = page?;
            let at_hand = hot.and_then(|hot| hot.file(place, page.path, variants));
            Some(at_hand.unwrap_or_else(|| {
                let file = prepare(&page, page.path);
                keep(&file);
                file
            }))
        };
        match resolution {
            Resolution::Found(entry) => {
                let file = prepare(&entry, self.path);
                keep(&file);
                self.file(&file, facts).await
            }
            Resolution::Redirect(location) => Ok(head::redirect(location).into()),
            Resolution::NotFound(page) => {
                if let Some(hot) = hot {
                    hot.keep_missing(place, self.path, page.as_ref().map(|page| page.path));
                }
                self.not_found(missing(page), facts).await
            }
            Resolution::Shell { shell, page } => {
                let (mode, accept) = (self.fields.sec_fetch_mode.iter(), self.fields.accept.iter());
                let mut decided = if navigation::is_navigation(mode, accept) {
                    self.file(&prepare(&shell, self.path), facts).await?
                } else {
                    self.not_found(missing(page), facts).await?
                };
                respond::vary(&mut decided.fields, navigation::DEPENDS_ON);
                Ok(decided)
            }
        }
    }

    /// Answers with a file: 200, or what the conditions and the range of the request make of it.
    async fn file(self, file: &Arc<Prepared>, facts: &mut Facts) -> Result<Decided, EdgeError> {
        let (form, mut decided) = self.decide(file, file.published());
        let is_complete = self.take_from_memory(file, &form, &mut decided, facts);
        if is_complete && !self.fields.wants_digests() {
            return Ok(decided);
        }
        Box::pin(self.complete(file, form, decided, facts)).await
    }

    /// Fetches what the answer with a file lacks: bytes, if it has not taken them from memory, and digests.
    async fn complete(
        self,
        file: &Arc<Prepared>,
        mut form: Representation,
        mut decided: Decided,
        facts: &mut Facts,
    ) -> Result<Decided, EdgeError> {
        let mut published = file.published();
        loop {
            match self.fetch(file, &form, decided, facts).await {
                Ok(fetched) => {
                    decided = fetched;
                    break;
                }
                Err(error) => give_up_variants(&form, &mut published, error)?,
            }
            (form, decided) = self.decide(file, published);
        }
        if self.fields.wants_digests() {
            Box::pin(self.add_digests(&mut decided, &form, &published)).await;
        }
        Ok(decided)
    }

    /// Decides what is answered with a file that was published as this, and with which form of it.
    fn decide(&self, file: &Arc<Prepared>, published: Published<'_>) -> (Representation, Decided) {
        let now = self.worker.caches.resolver().clock().coarse().as_secs();
        let last_modified = file.place().last_modified.as_secs();
        let asked = Asked {
            preconditions: self.fields.preconditions.clone(),
            range: self.fields.range(),
            accepted: self.accepted(&published),
        };
        let entity = Entity { published, last_modified, now, cache_control: file.cache_control };
        let (form, decision) = entity.decide(self.method, &asked);
        let decided = self.carry_out(file, &entity, &form, decision);
        (form, decided)
    }

    /// Puts together what was decided about a file.
    fn carry_out(
        &self,
        file: &Arc<Prepared>,
        entity: &Entity<'_>,
        form: &Representation,
        decision: Decision,
    ) -> Decided {
        // A date in the future is sent as now, so such a head is of this second only.
        let is_lasting = entity.last_modified <= entity.now;
        let (kind, status, body) = match decision {
            Decision::Whole if is_lasting => (Kind::Whole, StatusCode::OK, head::whole(self.method, form)),
            Decision::NotModified if is_lasting => (Kind::NotModified, StatusCode::NOT_MODIFIED, Body::Empty),
            Decision::Part(part) if is_lasting => {
                let mut fields = self.head(file, form, Kind::Part, || head::of_parts(entity, form));
                for (field, value) in head::of_part(&part, form.length) {
                    respond::add(&mut fields, field, value);
                }
                let body = Body::File(part);
                return Decided { status: StatusCode::PARTIAL_CONTENT, fields, body, source: None };
            }
            decision => return head::decided(self.method, entity, form, decision).into(),
        };
        let fields = self.head(file, form, kind, || head::decided(self.method, entity, form, decision).head);
        Decided { status, fields, body, source: None }
    }

    /// Answers a miss with the site's own page, where it has one.
    async fn not_found(self, page: Option<Arc<Prepared>>, facts: &mut Facts) -> Result<Decided, EdgeError> {
        let Some(page) = page else { return Ok(self.page(Page::NotFound)) };
        let mut published = page.published();
        let accepted = self.accepted(&published);
        loop {
            let form = published.negotiate(&accepted);
            let make = || head::not_found(self.method, &accepted, &published).0.head;
            let fields = self.head(&page, &form, Kind::Whole, make);
            let body = head::whole(self.method, &form);
            let decided = Decided { status: StatusCode::NOT_FOUND, fields, body, source: None };
            match self.fetch(&page, &form, decided, facts).await {
                Ok(decided) => return Ok(decided),
                Err(error) => give_up_variants(&form, &mut published, error)?,
            }
        }
    }

    /// One of the edge's own pages.
    fn page(&self, page: Page) -> Decided {
        let (status, head) = self.worker.pages.head(page, &self.worker.shapes);
        let body = if self.method == Method::Head { Body::Empty } else { Body::Page(page) };
        Decided { status, fields: head.into(), body, source: None }
    }

    /// A head that is worth keeping.
    fn head(
        &self,
        file: &Arc<Prepared>,
        form: &Representation,
        kind: Kind,
        make: impl FnOnce() -> Head,
    ) -> ReplyFields {
        let (head, added) = file.head(form, kind, &self.worker.shapes, make);
        if added > 0 {
            self.worker.hot.grew(file, added);
        }
        head.into()
    }

    /// What the request accepts. It is not read where there is nothing to choose from.
    fn accepted(&self, published: &Published<'_>) -> Accepted {
        if published.variants.is_empty() { Accepted::default() } else { self.fields.accepted() }
    }

    /// Gives the answer the bytes of a file that are in memory; says whether it has all that it needs, which may be none.
    fn take_from_memory(
        &self,
        file: &Prepared,
        form: &Representation,
        decided: &mut Decided,
        facts: &mut Facts,
    ) -> bool {
        if matches!(decided.body, Body::Empty | Body::Page(_)) {
            return true;
        }
        facts.set_variant(form.coding.map_or("identity", Coding::token));
        let Some(whole) = file.bytes(form) else { return false };
        self.worker.caches.looked_up(facts, Lookup::SmallBlob, true);
        decided.source = Some(Source::Memory(whole));
        true
    }

    /// Opens the file, where the answer has bytes of it.
    async fn fetch(
        self,
        file: &Arc<Prepared>,
        form: &Representation,
        mut decided: Decided,
        facts: &mut Facts,
    ) -> Result<Decided, EdgeError> {
        if decided.source.is_none() && !self.take_from_memory(file, form, &mut decided, facts) {
            decided.source = Some(Box::pin(self.load(file, form, facts)).await?);
        }
        Ok(decided)
    }

    async fn load(self, file: &Arc<Prepared>, form: &Representation, facts: &mut Facts) -> Result<Source, EdgeError> {
        let source = self.worker.caches.blob(form.blob, form.length, facts).await?;
        if let Source::Memory(whole) = &source
            && self.worker.caches.is_small(form.length)
        {
            let added = file.keep_bytes(form, whole);
            self.worker.hot.grew(file, added);
        }
        Ok(source)
    }

    /// Adds the digests that the request asks for. One that cannot be had is left out: it was a wish.
    ///
    /// A digest is of the whole form, also where a part of it is sent (RFC 9530 section 3): who puts parts together can
    /// check the outcome. A 304 sends nothing, so it has none.
    async fn add_digests(self, decided: &mut Decided, sent: &Representation, published: &Published<'_>) {
        if decided.status != StatusCode::OK && decided.status != StatusCode::PARTIAL_CONTENT {
            return;
        }
        let Fields { want_repr_digest, want_unencoded_digest, .. } = self.fields;
        for (wish, field, blob) in [
            (want_repr_digest, Field::ReprDigest, sent.blob),
            (want_unencoded_digest, Field::UnencodedDigest, published.blob),
        ] {
            if !digest::wants_sha256(wish.iter()) {
                continue;
            }
            match self.worker.caches.sha256(blob).await {
                Ok(sha256) => respond::add(&mut decided.fields, field, digest::value(&sha256).into()),
                Err(error) => error.report(),
            }
        }
    }
}

/// Where a variant cannot be read, the file itself can still be: it is decided once more, as if there were none.
fn give_up_variants(form: &Representation, published: &mut Published<'_>, error: EdgeError) -> Result<(), EdgeError> {
    if form.coding.is_none() {
        return Err(error);
    }
    error.report();
    published.variants = Variants::default();
    Ok(())
}

#[cfg(test)]
mod tests {
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
            call.answer(&host, self.worker.hosts.target(&host), &mut facts).await
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
}
