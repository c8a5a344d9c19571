//! What every host shows, in memory: the one mutable step between a request and its bytes.
//!
//! Loaded once from a snapshot of the metadata store, then fed by its event feed. Readers take no lock, and never wait
//! for the store: a project with all that its environments show is one atomically swapped `Arc`. Events carry the whole
//! new state and a number, so applying one again, or one that the snapshot held already, changes nothing.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::UnixMillis;
use crate::domains::name::DomainName;
use crate::hash::{ManifestId, VariantListId};
use crate::id::{ImageId, ProjectId, TeamId};
use crate::name::{EnvironmentName, ProjectName};
use crate::variants::VariantDirectory;

mod domains;
mod project;
#[cfg(test)]
mod tests;

use domains::DomainTable;
pub use domains::{DomainRoute, DomainShown};
use project::{ById, ByName, Project};

/// How long a preview that is over is still kept, and its name with it: until then it can be renewed as it was.
pub const PREVIEW_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// What an environment shows since a release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pointer {
    /// The project's id.
    pub project_id: ProjectId,
    /// The project's name.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The number of the release that made it so.
    pub number: u64,
    /// The image shown.
    pub image: ImageId,
    /// The image's manifest.
    pub manifest: ManifestId,
    /// When the release was made.
    pub released_at: UnixMillis,
    /// The moment that `Last-Modified` names: `released_at`, but never earlier than its predecessor's.
    pub last_modified: UnixMillis,
    /// When the environment stops showing it, for previews. Compared at request time.
    pub expires_at: Option<UnixMillis>,
}

impl Pointer {
    /// Whether the pointer has run out at `now`.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// A change of what hosts show, as the event feed carries it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PointerEvent {
    /// A project exists, under this name and with these settings.
    Project {
        /// The team that owns it.
        team: TeamId,
        /// The project's id.
        project_id: ProjectId,
        /// Its name.
        name: ProjectName,
        /// Its settings; those of a lower number than were seen are old news, and what comes with them.
        #[serde(default)]
        settings: ProjectSettings,
        /// The names that it had, whose hosts lead to those of its own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        former_names: Vec<FormerName>,
    },
    /// An environment shows another image, or none.
    Pointer {
        /// The project's id.
        project_id: ProjectId,
        /// The environment.
        environment: EnvironmentName,
        /// The number of the release; a lower one than was seen is old news.
        number: u64,
        /// What is shown from now on.
        shows: Option<Shown>,
    },
    /// A project is gone, and what its environments show. Nothing brings it back.
    ProjectDeleted {
        /// The project's id.
        project_id: ProjectId,
    },
    /// A custom domain shows something else, or nothing.
    Domain {
        /// The domain.
        domain: DomainName,
        /// How often what it shows has changed; a lower number than was seen is old news.
        number: u64,
        /// What it shows from now on.
        shows: Option<DomainShown>,
    },
    /// The variants of a manifest's files were made.
    Variants {
        /// The manifest.
        manifest: ManifestId,
        /// What lists them; nothing where no file has any.
        list: Option<VariantListId>,
    },
}

/// The image that an environment shows, in an event and in the environment's record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Shown {
    /// The image.
    pub image: ImageId,
    /// Its manifest.
    pub manifest: ManifestId,
    /// When the release was made.
    pub released_at: UnixMillis,
    /// The moment that `Last-Modified` names.
    pub last_modified: UnixMillis,
    /// When the environment stops showing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMillis>,
}

impl Shown {
    /// Whether a preview shows it, which ends.
    #[must_use]
    pub fn is_preview(&self) -> bool {
        self.expires_at.is_some()
    }

    /// Whether a preview showed it whose time was over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether a preview showed it that was over for so long at `now` that it is no longer kept: its name is free.
    #[must_use]
    pub fn has_lapsed(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|end| end.plus(PREVIEW_GRACE) <= now)
    }
}

/// What hosts have to know of a project beside what its environments show.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ProjectSettings {
    /// How often they, the project's name and its former names were changed.
    pub number: u64,
    /// Who gets an image by the image's own host.
    pub image_hosts: ImageHosts,
}

/// A name that a project had before.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FormerName {
    /// The name.
    pub name: ProjectName,
    /// Until when its hosts lead to those of the project's own name. Compared at request time.
    pub until: UnixMillis,
}

/// Who gets an image by the image's own host.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageHosts {
    /// Everybody.
    #[default]
    Public,
    /// Only who has access. Nothing gives access so far, so it is nobody.
    Protected,
    /// Nobody: there are no such hosts.
    Off,
}

/// A text that is not `public`, `protected` or `off`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("hosts of images are `public`, `protected` or `off`")]
pub struct NotImageHosts;

impl ImageHosts {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Protected => "protected",
            Self::Off => "off",
        }
    }
}

impl FromStr for ImageHosts {
    type Err = NotImageHosts;

    fn from_str(text: &str) -> Result<Self, NotImageHosts> {
        let all = [Self::Public, Self::Protected, Self::Off];
        all.into_iter().find(|value| value.as_str() == text).ok_or(NotImageHosts)
    }
}

/// What every host shows.
#[derive(Debug)]
pub struct PointerTable {
    by_name: papaya::HashMap<ByName, Arc<Project>>,
    by_id: papaya::HashMap<ById, Arc<Project>>,
    /// Whose a name was, and until when its hosts lead on.
    former: papaya::HashMap<Box<str>, (ProjectId, UnixMillis)>,
    domains: DomainTable,
    /// How many environments show something.
    shown: AtomicUsize,
    variants: VariantDirectory,
    /// How many changes of projects and pointers were taken.
    changes: AtomicU64,
    applied: watch::Sender<u64>,
}

/// A project's id together with its owner's: what its keys in the metadata store begin with.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ProjectRef {
    /// The team that owns the project.
    pub team: TeamId,
    /// The project.
    pub project: ProjectId,
}

impl Default for PointerTable {
    fn default() -> Self {
        Self {
            by_name: papaya::HashMap::new(),
            by_id: papaya::HashMap::new(),
            former: papaya::HashMap::new(),
            domains: DomainTable::default(),
            shown: AtomicUsize::new(0),
            variants: VariantDirectory::default(),
            changes: AtomicU64::new(0),
            applied: watch::Sender::new(0),
        }
    }
}

impl PointerTable {
    /// What `environment` of `project` shows, at the cost of one lookup and no lock. May have expired.
    #[must_use]
    pub fn find(&self, project: &str, environment: &str) -> Option<Arc<Pointer>> {
        self.by_name.pin().get(project)?.pointer(environment).cloned()
    }

    /// The same, of a project that is named by its id.
    #[must_use]
    pub fn find_by_id(&self, project: &ProjectId, environment: &str) -> Option<Arc<Pointer>> {
        self.by_id.pin().get(project)?.pointer(environment).cloned()
    }

    /// What a custom domain shows, at the cost of one lookup and no lock. Its projects may be gone.
    #[must_use]
    pub fn domain(&self, domain: &str) -> Option<Arc<DomainShown>> {
        self.domains.find(domain)
    }

    /// The ids of the project of this name.
    #[must_use]
    pub fn project(&self, name: &str) -> Option<ProjectRef> {
        self.by_name.pin().get(name).map(|project| project.reference)
    }

    /// The ids of the project of this name, and who gets its images by their own hosts.
    #[must_use]
    pub fn image_hosts(&self, name: &str) -> Option<(ProjectRef, ImageHosts)> {
        let projects = self.by_name.pin();
        let project = projects.get(name)?;
        Some((project.reference, project.settings().image_hosts))
    }

    /// What the project is called now that was called `name` a while ago, where that name's hosts still lead on at `now`.
    /// Only where no project has the name: it is not looked for here.
    #[must_use]
    pub fn renamed(&self, name: &str, now: UnixMillis) -> Option<ProjectName> {
        let former = self.former.pin();
        let (project, until) = former.get(name)?;
        if *until <= now {
            return None;
        }
        self.by_id.pin().get(project).map(|project| project.name.clone())
    }

    /// Which manifest has which variants.
    #[must_use]
    pub fn variants(&self) -> &VariantDirectory {
        &self.variants
    }

    /// How many projects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many environments and previews show an image, also those that have expired.
    #[must_use]
    pub fn shown(&self) -> usize {
        self.shown.load(Ordering::Relaxed)
    }

    /// Whether there is no project.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes with every change of what a host shows: what was found before is looked for again only then. It is to be
    /// read before [`PointerTable::find`] is called, so that what is found is at least as new.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Takes one change. Called by one task at a time: readers may be many, the writer is one.
    pub fn apply(&self, event: PointerEvent) {
        match event {
            PointerEvent::Project { team, project_id, name, settings, former_names } => {
                self.apply_project(team, project_id, name, settings, former_names);
            }
            PointerEvent::Pointer { project_id, environment, number, shows } => {
                self.apply_pointer(&project_id, environment, number, shows);
            }
            PointerEvent::ProjectDeleted { project_id } => self.remove_project(project_id),
            PointerEvent::Domain { domain, number, shows } => self.domains.apply(&domain, number, shows),
            PointerEvent::Variants { manifest, list } => return self.variants.set(&manifest, list),
        }
        // After the change: who reads the new number finds what it counts.
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn apply_pointer(&self, id: &ProjectId, environment: EnvironmentName, number: u64, shows: Option<Shown>) {
        let by_id = self.by_id.pin();
        // A snapshot can hold a pointer of a project that is newer than the snapshot of projects. The feed then has both
        // events, in order.
        let Some(known) = by_id.get(id) else { return };
        if known.number(&environment).is_some_and(|seen| number < seen) {
            return;
        }
        match (known.pointer(&environment).is_some(), shows.is_some()) {
            (false, true) => {
                self.shown.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.shown.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        self.replace(Project::clone(known).with_release(environment, number, shows));
    }

    /// Puts a project in the place of the one that it is a changed copy of, under the same name.
    fn replace(&self, project: Project) {
        let project = Arc::new(project);
        // Its name may be another project's by now.
        if self.has_its_name(&project) {
            self.by_name.pin().insert(ByName(Arc::clone(&project)), Arc::clone(&project));
        }
        self.by_id.pin().insert(ById(Arc::clone(&project)), project);
    }

    fn has_its_name(&self, project: &Project) -> bool {
        self.by_name.pin().get(project.name.as_str()).is_some_and(|named| named.reference == project.reference)
    }

    fn remove_project(&self, id: ProjectId) {
        let by_id = self.by_id.pin();
        let Some(project) = by_id.remove(&id) else { return };
        // Its name may be another project's by now.
        if self.has_its_name(project) {
            self.by_name.pin().remove(project.name.as_str());
        }
        self.forget_former(project, |_| true);
        self.shown.fetch_sub(project.pointers().count(), Ordering::Relaxed);
    }

    fn apply_project(
        &self,
        team: TeamId,
        id: ProjectId,
        name: ProjectName,
        settings: ProjectSettings,
        former_names: Vec<FormerName>,
    ) {
        let (by_id, former) = (self.by_id.pin(), self.former.pin());
        let known = by_id.get(&id);
        if known.is_some_and(|known| settings.number <= known.settings().number) {
            return;
        }
        for former_name in &former_names {
            former.insert(former_name.name.as_str().into(), (id, former_name.until));
        }
        if let Some(known) = known {
            self.forget_former(known, |name| !former_names.iter().any(|kept| kept.name == *name));
        }
        let project = match known {
            Some(known) if known.name == name => {
                return self.replace(Project::clone(known).with_settings(settings, former_names));
            }
            Some(known) => Project::clone(known).with_name(name),
            None => Project::new(ProjectRef { team, project: id }, name),
        };
        let project = Arc::new(project.with_settings(settings, former_names));
        self.by_name.pin().insert(ByName(Arc::clone(&project)), Arc::clone(&project));
        by_id.insert(ById(Arc::clone(&project)), project);
        if let Some(known) = known
            && self.has_its_name(known)
        {
            self.by_name.pin().remove(known.name.as_str());
        }
    }

    /// Lets the hosts of those former names of a project that are meant lead nowhere.
    fn forget_former(&self, project: &Project, is_meant: impl Fn(&ProjectName) -> bool) {
        let former = self.former.pin();
        for FormerName { name, .. } in project.former_names().iter().filter(|former| is_meant(&former.name)) {
            // It may be another project's former name by now.
            if former.get(name.as_str()).is_some_and(|(id, _)| *id == project.reference.project) {
                former.remove(name.as_str());
            }
        }
    }

    /// Says that every event up to `position` of the feed is in the table.
    pub fn set_applied(&self, position: u64) {
        self.applied.send_if_modified(|applied| {
            let newer = position > *applied;
            *applied = (*applied).max(position);
            newer
        });
    }

    /// The position of the feed up to which every event is in the table.
    #[must_use]
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until the table holds every event up to `position`.
    ///
    /// # Panics
    ///
    /// Never: the sender lives as long as the table.
    pub async fn wait_for(&self, position: u64) {
        let mut applied = self.applied.subscribe();
        applied.wait_for(|applied| *applied >= position).await.expect("the table holds the sender");
    }
}
