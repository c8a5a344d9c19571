//! A project as the pointer table holds it: never changed, but replaced by a changed copy.
//!
//! Every site is one, asked for or not, so what most of them have in common takes no room: settings that nobody set, names
//! that a project never had, environments beside the first. Names are kept inline, and not a second time as keys. In
//! return a release copies the list of the project's environments, 16 bytes each: little beside what made it durable.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use super::{FormerName, Pointer, ProjectRef, ProjectSettings, Shown};
use crate::id::ProjectId;
use crate::name::{EnvironmentName, ProjectName};

#[derive(Clone, Debug)]
pub(super) struct Project {
    pub(super) reference: ProjectRef,
    pub(super) name: ProjectName,
    /// Nothing of a project that is as it was created.
    changed: Option<Arc<Changed>>,
    /// Sorted by name. The only one of a project is in place: another step in memory would be felt by every look-up.
    environments: SmallVec<[Environment; 1]>,
}

#[derive(Debug)]
struct Changed {
    settings: ProjectSettings,
    former_names: Vec<FormerName>,
}

#[derive(Clone, Debug)]
enum Environment {
    Shows(Arc<Pointer>),
    ShowsNothing(Arc<Emptied>),
}

#[derive(Debug)]
struct Emptied {
    environment: EnvironmentName,
    /// The number of the release since which it shows nothing.
    number: u64,
}

impl Project {
    pub(super) fn new(reference: ProjectRef, name: ProjectName) -> Self {
        Self { reference, name, changed: None, environments: SmallVec::new() }
    }

    pub(super) fn settings(&self) -> ProjectSettings {
        self.changed.as_ref().map(|changed| changed.settings).unwrap_or_default()
    }

    pub(super) fn former_names(&self) -> &[FormerName] {
        self.changed.as_ref().map_or(&[], |changed| &changed.former_names)
    }

    pub(super) fn pointer(&self, environment: &str) -> Option<&Arc<Pointer>> {
        self.environments[self.position(environment).ok()?].pointer()
    }

    /// What the environments show.
    pub(super) fn pointers(&self) -> impl Iterator<Item = &Arc<Pointer>> {
        self.environments.iter().filter_map(Environment::pointer)
    }

    /// The number of the last release seen of `environment`, also when nothing is shown any more.
    pub(super) fn number(&self, environment: &str) -> Option<u64> {
        Some(self.environments[self.position(environment).ok()?].number())
    }

    pub(super) fn with_settings(mut self, settings: ProjectSettings, former_names: Vec<FormerName>) -> Self {
        let is_changed = settings != ProjectSettings::default() || !former_names.is_empty();
        self.changed = is_changed.then(|| Arc::new(Changed { settings, former_names }));
        self
    }

    pub(super) fn with_name(mut self, name: ProjectName) -> Self {
        for environment in &mut self.environments {
            if let Environment::Shows(pointer) = environment {
                *pointer = Arc::new(Pointer { project: name.clone(), ..Pointer::clone(pointer) });
            }
        }
        self.name = name;
        self
    }

    pub(super) fn with_release(mut self, environment: EnvironmentName, number: u64, shows: Option<Shown>) -> Self {
        let position = self.position(&environment);
        let released = match shows {
            Some(shown) => Environment::Shows(Arc::new(Pointer {
                project_id: self.reference.project,
                project: self.name.clone(),
                environment,
                number,
                image: shown.image,
                manifest: shown.manifest,
                released_at: shown.released_at,
                last_modified: shown.last_modified,
                expires_at: shown.expires_at,
            })),
            None => Environment::ShowsNothing(Arc::new(Emptied { environment, number })),
        };
        match position {
            Ok(index) => self.environments[index] = released,
            Err(index) => self.environments.insert(index, released),
        }
        self
    }

    /// Where `environment` is, or where it would be.
    fn position(&self, environment: &str) -> Result<usize, usize> {
        self.environments.binary_search_by(|known| known.name().cmp(environment))
    }
}

impl Environment {
    fn name(&self) -> &str {
        match self {
            Self::Shows(pointer) => &pointer.environment,
            Self::ShowsNothing(emptied) => &emptied.environment,
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Shows(pointer) => pointer.number,
            Self::ShowsNothing(emptied) => emptied.number,
        }
    }

    fn pointer(&self) -> Option<&Arc<Pointer>> {
        match self {
            Self::Shows(pointer) => Some(pointer),
            Self::ShowsNothing(_) => None,
        }
    }
}

/// A key that is read from the project itself, beside the same project as the value. A set would need half of that, but
/// need not take the newer of two that are equal; of a map's value that is certain.
macro_rules! key {
    ($name:ident, $key:ty, $of:expr) => {
        #[derive(Debug)]
        pub(super) struct $name(pub(super) Arc<Project>);

        impl Borrow<$key> for $name {
            fn borrow(&self) -> &$key {
                let of: fn(&Project) -> &$key = $of;
                of(&self.0)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                Borrow::<$key>::borrow(self).hash(state);
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                Borrow::<$key>::borrow(self) == Borrow::<$key>::borrow(other)
            }
        }

        impl Eq for $name {}
    };
}

key!(ByName, str, |project| &project.name);
key!(ById, ProjectId, |project| &project.reference.project);
