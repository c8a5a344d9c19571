//! What custom domains show, at hand as what other hosts show. A domain that shows one thing costs what a project's host
//! does; with prefixes, one look-up more, because which one is meant depends on the path.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pinstone_engine::domains::name::DomainName;
use pinstone_engine::pointers::{DomainRoute, PointerTable};

use super::Hot;
use crate::path::folder_of;
use crate::place::Place;

/// What a custom domain shows at a path.
#[derive(Debug)]
pub(crate) enum Custom {
    /// This.
    Place(Arc<Place>),
    /// Nothing itself: visitors are sent to another domain.
    Moved(DomainName),
    /// Nothing at this path, or not now.
    Nothing,
}

impl Hot {
    /// What `domain` shows at `path`, as the request has it; nothing where it is nobody's domain.
    pub(crate) fn custom(&self, domain: &str, path: &str, pointers: &PointerTable) -> Option<Custom> {
        // Before the look-ups: what is found is at least as new.
        let changes = pointers.changes();
        if let Some(place) = self.known(domain).filter(|place| place.seen.load(Relaxed) == changes) {
            return Some(Custom::Place(place));
        }
        let shown = pointers.domain(domain)?;
        if let Some(target) = shown.redirect_to.as_ref().filter(|target| pointers.domain(target.as_str()).is_some()) {
            return Some(Custom::Moved(target.clone()));
        }
        let place = match shown.only() {
            Some(route) => self.shown(domain, route, pointers, changes),
            None => {
                // What no site contains is refused by what is shown at all of the domain, or is nowhere.
                let path = folder_of(path).unwrap_or_default();
                let route = shown.route(&path);
                route.and_then(|route| self.shown(&format!("{domain}{}", route.prefix), route, pointers, changes))
            }
        };
        Some(place.map_or(Custom::Nothing, Custom::Place))
    }

    /// The place that is kept under `name`, which may hold no more.
    fn known(&self, name: &str) -> Option<Arc<Place>> {
        let hash = self.hashing.of(name.as_bytes());
        self.kept.lock().hosts.find(hash, |place| place.is_of(name)).map(|place| Arc::clone(place))
    }

    /// What a route shows, kept under `name`.
    fn shown(&self, name: &str, route: &DomainRoute, pointers: &PointerTable, changes: u64) -> Option<Arc<Place>> {
        let pointer = pointers.find_by_id(&route.project_id, &route.environment)?;
        let prefix = &route.prefix;
        let hash = self.hashing.of(name.as_bytes());
        let is_it = |place: &Place| place.is_what(&pointer) && place.is_under(prefix);
        let make = || Place::of_pointer(name, Arc::clone(&pointer)).under(prefix);
        let place = self.kept.lock().place(hash, name, is_it, make);
        place.seen.store(changes, Relaxed);
        Some(place)
    }
}
