//! What a host shows at the time of one request, or the page that says why it shows nothing.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pinstone_engine::clock::UnixMillis;
use pinstone_engine::domains::name::{DomainName, PathPrefix};
use pinstone_engine::hash::ManifestId;
use pinstone_engine::host::{HostName, HostTarget};
use pinstone_engine::pointers::{ImageHosts, Pointer};
use smol_str::SmolStr;

use crate::account::Facts;
use crate::error::EdgeError;
use crate::hot::Custom;
use crate::pages::Page;
use crate::path::Prefix;
use crate::site::Site;
use crate::telemetry::Lookup;
use crate::worker::Worker;

/// An image, as a host shows it.
#[derive(Debug)]
pub(crate) struct Place {
    host: SmolStr,
    /// The path under which the host shows it, where that is not all of it.
    prefix: PathPrefix,
    /// What makes the host show it; nothing where the host is the image's own.
    pointer: Option<Arc<Pointer>>,
    pub(crate) manifest: ManifestId,
    pub(crate) last_modified: UnixMillis,
    /// The state of the pointer table in which this was found to hold.
    pub(crate) seen: AtomicU64,
    /// The image's manifest, for as long as the cache keeps it.
    site: Mutex<Weak<Site>>,
}

impl Place {
    pub(crate) fn of_pointer(host: &str, pointer: Arc<Pointer>) -> Self {
        let (manifest, last_modified) = (pointer.manifest, pointer.last_modified);
        Self::new(host, Some(pointer), manifest, last_modified)
    }

    fn new(host: &str, pointer: Option<Arc<Pointer>>, manifest: ManifestId, last_modified: UnixMillis) -> Self {
        let (prefix, seen, site) = (PathPrefix::default(), AtomicU64::new(0), Mutex::default());
        Self { host: host.into(), prefix, pointer, manifest, last_modified, seen, site }
    }

    /// The image's manifest, as [`Caches::manifest`](crate::cache::Caches::manifest) has it, without looking for it there
    /// each time.
    pub(crate) async fn site(&self, worker: &Worker, facts: &mut Facts) -> Result<Arc<Site>, EdgeError> {
        let known = self.site.lock().upgrade();
        if let Some(site) = known {
            worker.caches.looked_up(facts, Lookup::Manifest, true);
            worker.caches.keep_up(&site);
            return Ok(site);
        }
        let site = Box::pin(worker.caches.manifest(&self.manifest, facts)).await?;
        *self.site.lock() = Arc::downgrade(&site);
        Ok(site)
    }

    /// The same image, under a prefix of the host.
    pub(crate) fn under(self, prefix: &PathPrefix) -> Self {
        Self { prefix: prefix.clone(), ..self }
    }

    pub(crate) fn is_under(&self, prefix: &PathPrefix) -> bool {
        self.prefix == *prefix
    }

    /// The path under which the host shows the image, where that is not all of it.
    pub(crate) fn prefix(&self) -> Option<Prefix<'_>> {
        Prefix::of(&self.prefix)
    }

    /// The path of a request as the image sees it, where the prefix stands there in plain letters; else as it is.
    pub(crate) fn within<'p>(&self, path: &'p str) -> &'p str {
        let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(self.prefix.as_str()));
        if self.prefix.is_whole() { path } else { rest.filter(|rest| rest.starts_with('/')).unwrap_or(path) }
    }

    pub(crate) fn is_of(&self, host: &str) -> bool {
        *self.host == *host
    }

    pub(crate) fn is_what(&self, pointer: &Arc<Pointer>) -> bool {
        self.pointer.as_ref().is_some_and(|own| Arc::ptr_eq(own, pointer))
    }

    /// Whether the host is the image's own.
    pub(crate) fn is_image_host(&self) -> bool {
        self.pointer.is_none()
    }
}

/// Why a host shows nothing.
#[derive(Debug)]
pub(crate) enum Nowhere {
    /// As this page says.
    Page(Page),
    /// Visitors are sent to another host.
    Moved(DomainName),
    /// It is an image's own host, and the image is to be [found](find_image).
    Image,
}

impl From<Page> for Nowhere {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

/// Finds what a host shows at a path, or the page that says why it shows nothing.
pub(crate) fn find(
    worker: &Worker,
    host: &HostName<'_>,
    target: HostTarget<'_>,
    path: &str,
    facts: &mut Facts,
) -> Result<Arc<Place>, Nowhere> {
    let resolver = worker.caches.resolver();
    let place = match target {
        HostTarget::Site { project, environment } => {
            let place = worker.hot.place(host.as_str(), project, environment, resolver.pointers());
            place.ok_or(Page::UnknownHost)?
        }
        HostTarget::Custom(domain) => match worker.hot.custom(domain, path, resolver.pointers()) {
            Some(Custom::Place(place)) => place,
            Some(Custom::Moved(domain)) => return Err(Nowhere::Moved(domain)),
            Some(Custom::Nothing) => return Err(Page::NotFound.into()),
            None => return Err(Page::UnknownHost.into()),
        },
        HostTarget::Image { .. } => return Err(Nowhere::Image),
        HostTarget::Control | HostTarget::Unknown => return Err(Page::UnknownHost.into()),
    };
    if let Some(pointer) = &place.pointer {
        facts.shows(&pointer.project, Some(&pointer.environment), &pointer.image);
        if pointer.expires_at.is_some() && pointer.is_expired(resolver.clock().now()) {
            return Err(Page::Expired.into());
        }
    }
    Ok(place)
}

/// Finds the image that a host is the image's own host of.
pub(crate) async fn find_image(worker: &Worker, host: &HostName<'_>, facts: &mut Facts) -> Result<Arc<Place>, Page> {
    let HostTarget::Image { project, digits } = worker.hosts.target(host) else { return Err(Page::UnknownHost) };
    let (of, image_hosts) = worker.caches.resolver().pointers().image_hosts(project).ok_or(Page::UnknownHost)?;
    // Decided before the image is looked for, so that who may not see it does not learn whether it is there.
    match image_hosts {
        ImageHosts::Public => {}
        ImageHosts::Protected => return Err(Page::Protected),
        ImageHosts::Off => return Err(Page::UnknownHost),
    }
    match worker.caches.hosted(of, digits, facts).await {
        Ok(Some(image)) if image.is_collected => Err(Page::ImageGone),
        Ok(Some(image)) => {
            facts.shows(project, None, &image.image);
            let (manifest, last_modified) = (image.manifest, image.first_committed_at);
            Ok(Arc::new(Place::new(host.as_str(), None, manifest, last_modified)))
        }
        Ok(None) => Err(Page::UnknownHost),
        Err(error) => {
            error.report();
            Err(error.page())
        }
    }
}
