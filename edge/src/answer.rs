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
use crate::fields::{Fields, List};
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

/// What an answer waits for, where it is not at hand.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// The image that this host is the image's own host of.
    Image(Box<HostName<'static>>),
    /// What the path leads to at this place.
    Path(Arc<Place>),
    /// What the answer with a file lacks.
    File(Box<Incomplete>),
    /// The bytes of the site's page for what is missing.
    NotFound(Arc<Prepared>),
}

/// The answer with a file, which lacks bytes or digests.
#[derive(Debug)]
pub(crate) struct Incomplete {
    file: Arc<Prepared>,
    /// What of the file is answered with.
    form: Representation,
    decided: Decided,
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
    /// Answers it as `host`, which stands for `target`, with what is at hand.
    ///
    /// # Errors
    ///
    /// Says what has to be [waited for](Self::wait_for).
    pub(crate) fn answer(
        self,
        host: &HostName<'_>,
        target: HostTarget<'_>,
        facts: &mut Facts,
    ) -> Result<Decided, Awaited> {
        match place::find(self.worker, host, target, self.path, facts) {
            Ok(place) => self.answer_at(&place, facts),
            Err(Nowhere::Page(page)) => Ok(self.nothing_shown(target, page)),
            Err(Nowhere::Moved(domain)) => Ok(self.moved(domain.as_str())),
            Err(Nowhere::Image) => Err(Awaited::Image(Box::new(host.clone().into_owned()))),
        }
    }

    /// Waits for what was not at hand, and answers.
    pub(crate) async fn wait_for(self, mut awaited: Awaited, facts: &mut Facts) -> Decided {
        loop {
            let answered = match awaited {
                Awaited::Image(host) => match place::find_image(self.worker, &host, facts).await {
                    Ok(place) => match self.answer_at(&place, facts) {
                        Ok(decided) => return decided,
                        Err(next) => {
                            awaited = next;
                            continue;
                        }
                    },
                    Err(page) => return self.nothing_shown(self.worker.hosts.target(&host), page),
                },
                Awaited::Path(place) => Box::pin(self.look_up(&place, facts)).await,
                Awaited::File(incomplete) => self.complete(*incomplete, facts).await,
                Awaited::NotFound(page) => self.fetch_not_found(Some(page), facts).await,
            };
            return answered.unwrap_or_else(|error| {
                error.report();
                self.page(error.page())
            });
        }
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

    fn answer_at(self, place: &Arc<Place>, facts: &mut Facts) -> Result<Decided, Awaited> {
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
        match leads_to {
            Some(LeadsTo::File(file)) => self.file(file, facts).map_err(Awaited::File),
            Some(LeadsTo::Nothing(Some(page))) => self.not_found(page, facts).map_err(Awaited::NotFound),
            Some(LeadsTo::Nothing(None)) => Ok(self.page(Page::NotFound)),
            None => Err(Awaited::Path(Arc::clone(place))),
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
                self.fetch_file(file, facts).await
            }
            Resolution::Redirect(location) => Ok(head::redirect(location).into()),
            Resolution::NotFound(page) => {
                if let Some(hot) = hot {
                    hot.keep_missing(place, self.path, page.as_ref().map(|page| page.path));
                }
                self.fetch_not_found(missing(page), facts).await
            }
            Resolution::Shell { shell, page } => {
                let (mode, accept) = (self.fields.lines(List::SecFetchMode), self.fields.lines(List::Accept));
                let mut decided = if navigation::is_navigation(mode, accept) {
                    self.fetch_file(prepare(&shell, self.path), facts).await?
                } else {
                    self.fetch_not_found(missing(page), facts).await?
                };
                respond::vary(&mut decided.fields, navigation::DEPENDS_ON);
                Ok(decided)
            }
        }
    }

    /// Answers with a file: 200, or what the conditions and the range of the request make of it.
    ///
    /// # Errors
    ///
    /// What is there of an answer that has to be [completed](Self::complete).
    fn file(self, file: Arc<Prepared>, facts: &mut Facts) -> Result<Decided, Box<Incomplete>> {
        let (form, mut decided) = self.decide(&file, file.published());
        let is_complete = self.take_at_hand(&file, &form, &mut decided, facts);
        if is_complete && !self.fields.wants_digests() {
            return Ok(decided);
        }
        Err(Box::new(Incomplete { file, form, decided }))
    }

    async fn fetch_file(self, file: Arc<Prepared>, facts: &mut Facts) -> Result<Decided, EdgeError> {
        match self.file(file, facts) {
            Ok(decided) => Ok(decided),
            Err(incomplete) => self.complete(*incomplete, facts).await,
        }
    }

    /// Fetches what the answer with a file lacks: bytes, if they were not at hand, and digests.
    async fn complete(self, incomplete: Incomplete, facts: &mut Facts) -> Result<Decided, EdgeError> {
        let Incomplete { file, mut form, mut decided } = incomplete;
        let mut published = file.published();
        loop {
            match self.fetch(&file, &form, decided, facts).await {
                Ok(fetched) => {
                    decided = fetched;
                    break;
                }
                Err(error) => give_up_variants(&form, &mut published, error)?,
            }
            (form, decided) = self.decide(&file, published);
            self.take_at_hand(&file, &form, &mut decided, facts);
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
            preconditions: &self.fields.preconditions,
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

    /// Answers a miss with the site's own page.
    ///
    /// # Errors
    ///
    /// The page, where its bytes have to be [fetched](Self::fetch_not_found).
    fn not_found(self, page: Arc<Prepared>, facts: &mut Facts) -> Result<Decided, Arc<Prepared>> {
        let (form, mut decided) = self.decide_not_found(&page, page.published());
        if self.take_at_hand(&page, &form, &mut decided, facts) { Ok(decided) } else { Err(page) }
    }

    /// The same, where the site may have none.
    async fn fetch_not_found(self, page: Option<Arc<Prepared>>, facts: &mut Facts) -> Result<Decided, EdgeError> {
        let Some(page) = page else { return Ok(self.page(Page::NotFound)) };
        let mut published = page.published();
        loop {
            let (form, mut decided) = self.decide_not_found(&page, published);
            self.take_at_hand(&page, &form, &mut decided, facts);
            match self.fetch(&page, &form, decided, facts).await {
                Ok(decided) => return Ok(decided),
                Err(error) => give_up_variants(&form, &mut published, error)?,
            }
        }
    }

    /// Decides in which form the site's own page is the answer to a miss.
    fn decide_not_found(&self, page: &Arc<Prepared>, published: Published<'_>) -> (Representation, Decided) {
        let accepted = self.accepted(&published);
        let form = published.negotiate(&accepted);
        let make = || head::not_found(self.method, &accepted, &published).0.head;
        let fields = self.head(page, &form, Kind::Whole, make);
        let body = head::whole(self.method, &form);
        (form, Decided { status: StatusCode::NOT_FOUND, fields, body, source: None })
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

    /// Gives the answer the bytes of a file that are at hand; says whether it has all that it needs, which may be none.
    fn take_at_hand(&self, file: &Prepared, form: &Representation, decided: &mut Decided, facts: &mut Facts) -> bool {
        if !has_bytes(&decided.body) {
            return true;
        }
        facts.set_variant(form.coding.map_or("identity", Coding::token));
        let caches = &self.worker.caches;
        decided.source = match file.bytes(form) {
            Some(whole) => {
                caches.looked_up(facts, Lookup::SmallBlob, true);
                Some(Source::Memory(whole))
            }
            None => caches.at_hand(form.blob, form.length, facts),
        };
        decided.source.is_some()
    }

    /// Opens the file, where the answer has bytes of it, which were not at hand.
    async fn fetch(
        self,
        file: &Arc<Prepared>,
        form: &Representation,
        mut decided: Decided,
        facts: &mut Facts,
    ) -> Result<Decided, EdgeError> {
        if decided.source.is_none() && has_bytes(&decided.body) {
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
        for (wish, field, blob) in [
            (List::WantReprDigest, Field::ReprDigest, sent.blob),
            (List::WantUnencodedDigest, Field::UnencodedDigest, published.blob),
        ] {
            if !digest::wants_sha256(self.fields.lines(wish)) {
                continue;
            }
            match self.worker.caches.sha256(blob).await {
                Ok(sha256) => respond::add(&mut decided.fields, field, digest::value(&sha256).into()),
                Err(error) => error.report(),
            }
        }
    }
}

/// Whether it is bytes of a file.
fn has_bytes(body: &Body) -> bool {
    !matches!(body, Body::Empty | Body::Page(_))
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
mod tests;
