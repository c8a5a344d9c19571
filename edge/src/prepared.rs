//! A file as a host answers with it, worked out once: what it is, and the heads of its commonest answers.
//!
//! All of it follows from the place and the path, so it is the same for every request that names both. What a request
//! decides itself (conditions, ranges, which form) is decided for each, by `entity.rs`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::StatusCode;
use pinstone_engine::coding::{Coding, Variants};
use pinstone_engine::hash::{BlobHash, VariantListId};
use pinstone_engine::manifest::Entry;
use pinstone_engine::variants::VariantDirectory;
use smol_str::SmolStr;

use crate::entity::{self, Published, Representation};
use crate::head::{self, Head};
use crate::pages::Page;
use crate::place::Place;
use crate::request::Method;
use crate::respond;
use crate::site::Site;
use crate::source::Whole;

mod kept;

pub(crate) use kept::{KeptHead, Shapes};

/// A file at a place.
///
/// In this order, what leads on to other memory lies in three lines of a core's cache, and comes first: where there are many files, no
/// core has them near. See [`Form::touch`].
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Prepared {
    place: Arc<Place>,
    /// How it was asked for. That of a page that stands for what is missing has no leading slash: no request has that.
    path: SmolStr,
    /// The state of the directory in which `list` was found to be the manifest's.
    generation: AtomicU64,
    as_published: Form,
    content_type: Box<str>,
    blob: BlobHash,
    length: u64,
    variants: Variants,
    pub(crate) cache_control: &'static str,
    /// The list that the variants are from.
    list: Option<VariantListId>,
    coded: [OnceLock<Box<Form>>; Coding::ALL.len()],
    weight: AtomicUsize,
}

/// One form of a file. In this order, for the same reason.
#[derive(Debug, Default)]
#[repr(C)]
struct Form {
    whole: OnceLock<Arc<KeptHead>>,
    all: OnceLock<Whole>,
    /// The lines of `whole`.
    lines: OnceLock<Bytes>,
    not_modified: OnceLock<Arc<KeptHead>>,
    part: OnceLock<Arc<KeptHead>>,
}

impl Form {
    /// Has the core fetch what an answer with all of it begins with, before it is known that there will be one: each piece lies
    /// somewhere else, and where each is looked at only when the one before it is there, they are waited for one after the other.
    fn touch(&self) {
        if let Some(head) = self.whole.get() {
            black_box(head.length());
        }
        if let Some(lines) = self.lines.get() {
            black_box(lines.first().copied());
        }
        if let Some(whole) = self.all.get() {
            black_box(whole.bytes.first().copied());
        }
    }
}

/// The heads of the edge's own pages, each made when it is first sent.
#[derive(Debug, Default)]
pub(crate) struct PageHeads([OnceLock<(StatusCode, Arc<KeptHead>)>; Page::COUNT]);

impl PageHeads {
    /// The head that a page is sent with.
    pub(crate) fn head(&self, page: Page, shapes: &Shapes) -> (StatusCode, Arc<KeptHead>) {
        let make = || {
            let head = head::page(Method::Get, page).head;
            (respond::status(head.status), Arc::new(shapes.keep(head)))
        };
        self.0[page as usize].get_or_init(make).clone()
    }
}

/// A head that is worth keeping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Of an answer that has all of a form.
    Whole,
    /// Of one that says that the client has it.
    NotModified,
    /// Of one that has a part, but for what says which.
    Part,
}

impl Prepared {
    /// The file that `path` leads to at `place`. `generation` is that of the directory before the site was looked at.
    pub(crate) fn new(place: &Arc<Place>, site: &Site, entry: &Entry<'_>, path: &str, generation: u64) -> Self {
        let Entry { content_type, blob, size, .. } = *entry;
        let (variants, list) = site.variants(&blob);
        let coded = if variants.is_empty() { 0 } else { Coding::ALL.len() * size_of::<Form>() };
        Self {
            place: Arc::clone(place),
            path: path.into(),
            content_type: content_type.into(),
            blob,
            length: size,
            variants,
            cache_control: entity::cache_control(place.within(path), entry.path, content_type, place.is_image_host()),
            list,
            generation: AtomicU64::new(generation),
            as_published: Form::default(),
            coded: Default::default(),
            weight: AtomicUsize::new(size_of::<Self>() + coded + path.len() + content_type.len()),
        }
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn is_of(&self, place: &Arc<Place>, path: &str) -> bool {
        if !Arc::ptr_eq(&self.place, place) {
            return false;
        }
        self.as_published.touch();
        *self.path == *path
    }

    /// Whether its variants are still those that its manifest has.
    pub(crate) fn is_current(&self, directory: &VariantDirectory) -> bool {
        let generation = directory.generation();
        if self.generation.load(Relaxed) == generation {
            return true;
        }
        let is_same = directory.list(&self.place.manifest) == self.list;
        if is_same {
            self.generation.store(generation, Relaxed);
        }
        is_same
    }

    /// What it is.
    pub(crate) fn published(&self) -> Published<'_> {
        Published { content_type: &self.content_type, blob: self.blob, length: self.length, variants: self.variants }
    }

    /// Bytes of memory that it takes, and keeps others from being dropped.
    pub(crate) fn weight(&self) -> usize {
        self.weight.load(Relaxed)
    }

    pub(crate) fn add_weight(&self, bytes: usize) {
        self.weight.fetch_add(bytes, Relaxed);
    }

    /// A head of a form, made by `make` where there is none yet; and how many bytes were added by that.
    pub(crate) fn head(
        &self,
        form: &Representation,
        kind: Kind,
        shapes: &Shapes,
        make: impl FnOnce() -> Head,
    ) -> (Arc<KeptHead>, usize) {
        let form = self.form(form);
        let kept = match kind {
            Kind::Whole => &form.whole,
            Kind::NotModified => &form.not_modified,
            Kind::Part => &form.part,
        };
        let mut added = 0;
        let head = kept.get_or_init(|| {
            let head = shapes.keep(make());
            added = head.weight();
            if matches!(kind, Kind::Whole) {
                form.lines.get_or_init(|| head.shared_lines());
            }
            Arc::new(head)
        });
        (Arc::clone(head), added)
    }

    /// The bytes of a form, where they are at hand.
    pub(crate) fn bytes(&self, form: &Representation) -> Option<Whole> {
        self.form(form).all.get().cloned()
    }

    /// Keeps the bytes of a form at hand; answers how many.
    pub(crate) fn keep_bytes(&self, form: &Representation, whole: &Whole) -> usize {
        // Of an owner of its own: a count that the workers share would be passed between their cores.
        let own = Whole { bytes: Bytes::from_owner(whole.bytes.clone()), file: whole.file.clone() };
        if self.form(form).all.set(own).is_ok() { whole.bytes.len() } else { 0 }
    }

    fn form(&self, form: &Representation) -> &Form {
        match form.coding {
            None => &self.as_published,
            Some(coding) => self.coded[coding as usize].get_or_init(Box::default),
        }
    }
}
