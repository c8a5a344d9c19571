//! What every host shows, in memory: the one mutable step between a request and its bytes.
//!
//! Loaded once from a snapshot of the metadata store, then fed by its event feed. Readers take no lock, and never wait
//! for the store: a pointer is one atomically swapped `Arc`. Events carry the whole new state and a number, so applying
//! one again, or one that the snapshot held already, changes nothing.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::UnixMillis;
use crate::domains::name::DomainName;
use crate::hash::{ManifestId, VariantListId};
use crate::id::{ImageId, ProjectId, TeamId};
use crate::name::{EnvironmentName, ProjectName};
use crate::variants::VariantDirectory;

mod domains;

use domains::DomainTable;
pub use domains::{DomainRoute, DomainShown};

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
        /// Its settings; those of a lower number than were seen are old news.
        #[serde(default)]
        settings: ProjectSettings,
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
    /// How often they were changed.
    pub number: u64,
    /// Who gets an image by the image's own host.
    pub image_hosts: ImageHosts,
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
    by_name: papaya::HashMap<Box<str>, Arc<Project>>,
    by_id: papaya::HashMap<ProjectId, Arc<Project>>,
    domains: DomainTable,
    /// How many slots show something.
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

#[derive(Debug)]
struct Project {
    team: TeamId,
    id: ProjectId,
    name: ProjectName,
    settings: ArcSwap<ProjectSettings>,
    /// Sorted by name. Swapped whole when an environment is new, which is rare.
    environments: ArcSwap<Vec<Arc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    environment: EnvironmentName,
    /// The number of the last release seen, also when nothing is shown any more.
    number: AtomicU64,
    pointer: ArcSwapOption<Pointer>,
}

impl Default for PointerTable {
    fn default() -> Self {
        Self {
            by_name: papaya::HashMap::new(),
            by_id: papaya::HashMap::new(),
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
        self.by_name.pin().get(project)?.pointer(environment)
    }

    /// The same, of a project that is named by its id.
    #[must_use]
    pub fn find_by_id(&self, project: &ProjectId, environment: &str) -> Option<Arc<Pointer>> {
        self.by_id.pin().get(project)?.pointer(environment)
    }

    /// What a custom domain shows, at the cost of one lookup and no lock. Its projects may be gone.
    #[must_use]
    pub fn domain(&self, domain: &str) -> Option<Arc<DomainShown>> {
        self.domains.find(domain)
    }

    /// The ids of the project of this name.
    #[must_use]
    pub fn project(&self, name: &str) -> Option<ProjectRef> {
        self.by_name.pin().get(name).map(|project| ProjectRef { team: project.team, project: project.id })
    }

    /// The ids of the project of this name, and who gets its images by their own hosts.
    #[must_use]
    pub fn image_hosts(&self, name: &str) -> Option<(ProjectRef, ImageHosts)> {
        let projects = self.by_name.pin();
        let project = projects.get(name)?;
        let reference = ProjectRef { team: project.team, project: project.id };
        Some((reference, project.settings.load().image_hosts))
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
            PointerEvent::Project { team, project_id, name, settings } => {
                self.apply_project(team, project_id, name, settings);
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

    fn apply_pointer(&self, project: &ProjectId, environment: EnvironmentName, number: u64, shows: Option<Shown>) {
        let projects = self.by_id.pin();
        // A snapshot can hold a pointer of a project that is newer than the snapshot of projects. The feed then has both
        // events, in order.
        let Some(project) = projects.get(project) else { return };
        match project.apply(environment, number, shows) {
            (false, true) => {
                self.shown.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.shown.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn remove_project(&self, id: ProjectId) {
        let by_id = self.by_id.pin();
        let Some(project) = by_id.remove(&id) else { return };
        let by_name = self.by_name.pin();
        // Its name may be another project's by now.
        if by_name.get(project.name.as_str()).is_some_and(|named| named.id == id) {
            by_name.remove(project.name.as_str());
        }
        for slot in project.environments.load().iter() {
            // Also for who looked the project up a moment ago.
            if slot.pointer.swap(None).is_some() {
                self.shown.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn apply_project(&self, team: TeamId, id: ProjectId, name: ProjectName, settings: ProjectSettings) {
        let by_id = self.by_id.pin();
        if let Some(project) = by_id.get(&id).filter(|project| project.name == name) {
            if settings.number > project.settings.load().number {
                project.settings.store(Arc::new(settings));
            }
            return;
        }
        let settings = ArcSwap::from_pointee(settings);
        let project = Arc::new(Project { team, id, name, settings, environments: ArcSwap::default() });
        self.by_name.pin().insert(project.name.as_str().into(), Arc::clone(&project));
        by_id.insert(id, project);
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

impl Project {
    fn pointer(&self, environment: &str) -> Option<Arc<Pointer>> {
        let environments = self.environments.load();
        let index = environments.binary_search_by(|slot| slot.environment.as_str().cmp(environment)).ok()?;
        environments[index].pointer.load_full()
    }

    /// Answers whether the environment showed something before, and does so now.
    fn apply(&self, environment: EnvironmentName, number: u64, shows: Option<Shown>) -> (bool, bool) {
        let slot = self.slot(&environment);
        if number < slot.number.load(Ordering::Relaxed) {
            return (false, false);
        }
        slot.number.store(number, Ordering::Relaxed);
        let does_now = shows.is_some();
        let before = slot.pointer.swap(shows.map(|shown| {
            Arc::new(Pointer {
                project_id: self.id,
                project: self.name.clone(),
                environment,
                number,
                image: shown.image,
                manifest: shown.manifest,
                released_at: shown.released_at,
                last_modified: shown.last_modified,
                expires_at: shown.expires_at,
            })
        }));
        (before.is_some(), does_now)
    }

    fn slot(&self, environment: &EnvironmentName) -> Arc<Slot> {
        let environments = self.environments.load();
        match environments.binary_search_by(|slot| slot.environment.cmp(environment)) {
            Ok(index) => Arc::clone(&environments[index]),
            Err(index) => {
                let slot = Arc::new(Slot {
                    environment: environment.clone(),
                    number: AtomicU64::new(0),
                    pointer: ArcSwapOption::empty(),
                });
                let mut grown = Vec::clone(&environments);
                grown.insert(index, Arc::clone(&slot));
                self.environments.store(Arc::new(grown));
                slot
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(image: u8) -> Shown {
        let manifest = ManifestId::from_bytes([image; 32]);
        Shown {
            image: ImageId::from(&manifest),
            manifest,
            released_at: UnixMillis(1),
            last_modified: UnixMillis(1),
            expires_at: None,
        }
    }

    #[test]
    fn events_apply_in_any_repetition_and_old_ones_change_nothing() {
        let table = PointerTable::default();
        let (team, project_id) = (TeamId::random(), ProjectId::random());
        let name: ProjectName = "demo".parse().unwrap();
        let pointer =
            |number, shows| PointerEvent::Pointer { project_id, environment: EnvironmentName::prod(), number, shows };
        table.apply(pointer(1, Some(shown(1))));
        assert_eq!(table.find("demo", "prod"), None, "the project is not known yet");
        let settings = ProjectSettings::default();
        table.apply(PointerEvent::Project { team, project_id, name: name.clone(), settings });
        table.apply(pointer(1, Some(shown(1))));
        table.apply(pointer(2, Some(shown(2))));
        table.apply(PointerEvent::Project { team, project_id, name, settings });
        table.apply(pointer(1, Some(shown(1))));
        assert_eq!(table.find("demo", "prod").unwrap().number, 2);
        assert_eq!(table.find("demo", "beta"), None);
        assert_eq!((table.len(), table.shown()), (1, 1));
        table.apply(pointer(3, None));
        table.apply(pointer(2, Some(shown(2))));
        assert_eq!(table.find("demo", "prod"), None, "a removed pointer stays removed");
        assert_eq!((table.len(), table.shown()), (1, 0));
    }

    #[test]
    fn settings_change_without_touching_pointers_and_old_ones_change_nothing() {
        let table = PointerTable::default();
        let (team, project_id) = (TeamId::random(), ProjectId::random());
        let change = |number, image_hosts| PointerEvent::Project {
            team,
            project_id,
            name: "demo".parse().unwrap(),
            settings: ProjectSettings { number, image_hosts },
        };
        assert_eq!(table.image_hosts("demo"), None);
        table.apply(change(0, ImageHosts::Public));
        table.apply(PointerEvent::Pointer {
            project_id,
            environment: EnvironmentName::prod(),
            number: 1,
            shows: Some(shown(1)),
        });
        let hosts = || table.image_hosts("demo").map(|(_, hosts)| hosts);
        for (number, value, want) in [
            (2, ImageHosts::Off, ImageHosts::Off),
            (1, ImageHosts::Protected, ImageHosts::Off),
            (2, ImageHosts::Off, ImageHosts::Off),
            (0, ImageHosts::Public, ImageHosts::Off),
            (3, ImageHosts::Protected, ImageHosts::Protected),
        ] {
            table.apply(change(number, value));
            assert_eq!(hosts(), Some(want), "after {value:?} with number {number}");
            assert_eq!(table.find("demo", "prod").unwrap().number, 1);
        }
    }

    #[test]
    fn what_is_said_of_variants_is_read_and_found() {
        let (manifest, list) = (ManifestId::of(b"manifest"), VariantListId::of(b"list"));
        let table = PointerTable::default();
        for (event, want) in [
            (format!(r#"{{"type":"variants","manifest":"{manifest}","list":"{list}"}}"#), Some(list)),
            (format!(r#"{{"type":"variants","manifest":"{manifest}","list":null}}"#), None),
        ] {
            let read: PointerEvent = serde_json::from_str(&event).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), event);
            table.apply(read);
            assert_eq!(table.variants().list(&manifest), want);
        }
    }

    #[test]
    fn events_without_settings_are_read() {
        let (team, project_id) = (TeamId::random(), ProjectId::random());
        let text = format!(r#"{{"type":"project","team":"{team}","project_id":"{project_id}","name":"demo"}}"#);
        let event: PointerEvent = serde_json::from_str(&text).unwrap();
        let settings = ProjectSettings { number: 0, image_hosts: ImageHosts::Public };
        assert_eq!(event, PointerEvent::Project { team, project_id, name: "demo".parse().unwrap(), settings });
    }

    #[test]
    fn a_preview_is_over_at_its_time_and_kept_for_a_day() {
        let day = 24 * 60 * 60 * 1000;
        let lasting = shown(1);
        let preview = Shown { expires_at: Some(UnixMillis(1000)), ..shown(1) };
        for (now, expired, lapsed) in
            [(999, false, false), (1000, true, false), (999 + day, true, false), (1000 + day, true, true)]
        {
            let now = UnixMillis(now);
            assert_eq!((preview.is_expired(now), preview.has_lapsed(now)), (expired, lapsed), "{now:?}");
            assert_eq!((lasting.is_expired(now), lasting.has_lapsed(now)), (false, false), "{now:?}");
        }
    }

    #[test]
    fn words_for_the_hosts_of_images() {
        for value in [ImageHosts::Public, ImageHosts::Protected, ImageHosts::Off] {
            assert_eq!(value.as_str().parse(), Ok(value));
            assert_eq!(serde_json::to_value(value).unwrap(), value.as_str(), "records and people use one word");
        }
        for wrong in ["", "Public", "on"] {
            assert_eq!(wrong.parse::<ImageHosts>(), Err(NotImageHosts), "{wrong:?}");
        }
    }
}
