//! What custom domains show: for each a few prefixes, and the environment that is shown under each.
//!
//! The same promises as for pointers: readers take no lock, an event carries all of a domain's new state and a number,
//! and what is older than what was seen changes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domains::name::{DomainName, PathPrefix};
use crate::id::ProjectId;
use crate::name::EnvironmentName;

/// What a domain shows, in an event and in the domain's record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DomainShown {
    /// What is shown under which prefix; no prefix occurs twice.
    pub routes: Vec<DomainRoute>,
    /// The domain that visitors are sent to, as long as that shows something itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<DomainName>,
}

/// What a domain shows under one prefix.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DomainRoute {
    /// The prefix.
    pub prefix: PathPrefix,
    /// The project.
    pub project_id: ProjectId,
    /// Its environment.
    pub environment: EnvironmentName,
}

impl DomainShown {
    /// What is shown at `path`, which is decoded, without a leading slash and without empty segments: the longest prefix
    /// that covers it.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<&DomainRoute> {
        let covering = self.routes.iter().filter(|route| route.prefix.covers(path));
        // All of them are beginnings of the path, so the longest text has the most segments.
        covering.max_by_key(|route| route.prefix.as_str().len())
    }

    /// What is shown at every path, where one thing is.
    #[must_use]
    pub fn only(&self) -> Option<&DomainRoute> {
        match &*self.routes {
            [route] if route.prefix.is_whole() => Some(route),
            _ => None,
        }
    }
}

/// The domains that show something.
#[derive(Debug, Default)]
pub(super) struct DomainTable(papaya::HashMap<Box<str>, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// The number of the last change seen, also when nothing is shown any more.
    number: u64,
    shows: Option<Arc<DomainShown>>,
}

impl DomainTable {
    pub(super) fn find(&self, domain: &str) -> Option<Arc<DomainShown>> {
        self.0.pin().get(domain)?.shows.clone()
    }

    pub(super) fn apply(&self, domain: &DomainName, number: u64, shows: Option<DomainShown>) {
        let table = self.0.pin();
        if table.get(domain.as_str()).is_some_and(|entry| number < entry.number) {
            return;
        }
        table.insert(domain.as_str().into(), Entry { number, shows: shows.map(Arc::new) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(prefixes: &[&str]) -> DomainShown {
        let route = |prefix: &&str| DomainRoute {
            prefix: prefix.parse().unwrap(),
            project_id: ProjectId::from_bytes([1; 16]),
            environment: EnvironmentName::prod(),
        };
        DomainShown { routes: prefixes.iter().map(route).collect(), redirect_to: None }
    }

    #[test]
    fn the_longest_prefix_is_shown() {
        for (prefixes, path, want) in [
            (&["/"][..], "docs/a", Some("/")),
            (&["/", "/docs"], "docs", Some("/docs")),
            (&["/docs", "/"], "docs/", Some("/docs")),
            (&["/", "/docs"], "docsx", Some("/")),
            (&["/", "/docs"], "", Some("/")),
            (&["/", "/docs", "/docs/v2"], "docs/v2/a", Some("/docs/v2")),
            (&["/docs/v2", "/docs", "/"], "docs/v20", Some("/docs")),
            (&["/docs"], "", None),
            (&["/docs"], "other", None),
            (&["/a b"], "a b/c", Some("/a b")),
            (&[], "", None),
        ] {
            let shown = shown(prefixes);
            let found = shown.route(path).map(|route| route.prefix.to_string());
            assert_eq!(found.as_deref(), want, "{prefixes:?} at {path:?}");
            assert_eq!(shown.only().is_some(), *prefixes == ["/"], "{prefixes:?}");
        }
    }

    #[test]
    fn old_changes_of_a_domain_change_nothing() {
        let table = DomainTable::default();
        let domain: DomainName = "a.example".parse().unwrap();
        for (number, shows, want) in [
            (2, Some(&["/"][..]), Some(1)),
            (1, Some(&["/", "/old"][..]), Some(1)),
            (2, Some(&["/"]), Some(1)),
            (3, Some(&["/", "/docs"]), Some(2)),
            (5, None, None),
            (4, Some(&["/"]), None),
            (6, Some(&["/"]), Some(1)),
        ] {
            table.apply(&domain, number, shows.map(shown));
            let found = table.find("a.example").map(|shown| shown.routes.len());
            assert_eq!(found, want, "after {number}");
        }
        assert!(table.find("b.example").is_none());
    }
}
