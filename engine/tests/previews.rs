//! Previews, pins and the settings of a project, through the engine's own door.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use pinstone_engine::blob::BlobStore;
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::diff::{DiffError, Version};
use pinstone_engine::fsck;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{ImageId, TeamId, UserId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::{Commit, MemoryMeta, MetaStore};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::pointers::{ImageHosts, PREVIEW_GRACE};
use pinstone_engine::projects::{ProjectChange, ProjectError};
use pinstone_engine::publish::{
    CommitRequest, DEFAULT_PREVIEW, PinError, PreviewRequest, Previewed, ReleaseError, ReleaseRequest, Released,
};
use pinstone_engine::queries::LookupError;
use pinstone_engine::records::idempotency::IdempotencyKey;
use pinstone_engine::{Engine, Limits, Principal};

const MINUTE: Duration = Duration::from_secs(60);
const START: UnixMillis = UnixMillis(1_700_000_000_000);

struct World {
    engine: Engine,
    clock: Clock,
    owner: Principal,
    meta: Arc<MemoryMeta>,
    blobs: BlobStore,
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let clock = Clock::manual(START);
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        let blobs = BlobStore::new(Arc::new(object_store::memory::InMemory::new()), Arc::new(MemoryIndex::default()));
        let engine = Engine::assemble(meta.clone(), blobs.clone(), clock.clone(), limits, "pin_x").await.unwrap();
        let owner = engine.owner_principal();
        Self { engine, clock, owner, meta, blobs }
    }

    async fn image(&self, content: &str) -> ImageId {
        let blob = BlobHash::of(content.as_bytes());
        let path = SitePath::new("index.html").unwrap();
        let size = Some(content.len() as u64);
        let plan = NewPlan {
            project: "demo".parse().unwrap(),
            files: vec![PlannedFile { path, blob, size, content_type: None }],
            git: None,
            message: None,
            settings: Settings::default(),
        };
        let plan = self.engine.plan(&self.owner, plan, None).await.unwrap();
        let body = stream::iter(vec![Ok::<_, Infallible>(Bytes::copy_from_slice(content.as_bytes()))]);
        self.engine.upload(&self.owner, plan.id, blob, None, body).await.unwrap();
        let commit = CommitRequest { plan: plan.id, message: None, strict: false };
        self.engine.commit(&self.owner, commit, None).await.unwrap().image
    }

    async fn preview(&self, slug: &str, image: ImageId, lifetime: Duration) -> Result<Previewed, ReleaseError> {
        self.engine.preview(&self.owner, request(Some(slug), image, Some(lifetime)), None).await
    }

    async fn release(&self, environment: &str, image: ImageId) -> Result<Released, ReleaseError> {
        self.engine.release(&self.owner, to(environment, image), None).await
    }

    async fn listed(&self) -> Vec<(String, bool)> {
        let previews = self.engine.previews(&self.owner, &"demo".parse().unwrap()).await.unwrap();
        previews.into_iter().map(|preview| (preview.slug.to_string(), preview.is_expired)).collect()
    }

    /// What the host of an environment shows, as whoever serves it sees it: nothing, something that is over, an image.
    fn shown(&self, environment: &str) -> Option<Result<ImageId, ()>> {
        let pointer = self.engine.resolver().pointers().find("demo", environment)?;
        Some(if pointer.is_expired(self.clock.now()) { Err(()) } else { Ok(pointer.image) })
    }

    async fn image_hosts(&self, value: ImageHosts) {
        let change = ProjectChange { image_hosts: Some(value), ..ProjectChange::default() };
        let project = self.engine.change_project(&self.owner, &"demo".parse().unwrap(), change).await.unwrap();
        assert_eq!(project.image_hosts, value);
    }

    /// The actions of the audit log, oldest first.
    async fn audited(&self) -> Vec<String> {
        let rows = self.meta.snapshot(Bytes::from_static(&[0x40])).await.unwrap().items;
        let action = |value: &[u8]| {
            let row: serde_json::Value = serde_json::from_slice(&value[1..]).unwrap();
            row["action"].as_str().unwrap().to_owned()
        };
        rows.iter().map(|(_, item)| action(&item.value)).collect()
    }

    async fn assert_sound(&self) {
        let report = fsck::check(&*self.meta, &self.blobs, |_| ()).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

fn request(slug: Option<&str>, image: ImageId, lifetime: Option<Duration>) -> PreviewRequest {
    let slug = slug.map(|slug| slug.parse().unwrap());
    PreviewRequest { project: "demo".parse().unwrap(), image, slug, lifetime, message: None }
}

fn to(environment: &str, image: ImageId) -> ReleaseRequest {
    ReleaseRequest {
        project: "demo".parse().unwrap(),
        environment: environment.parse().unwrap(),
        image: Some(image),
        expected: None,
        message: None,
    }
}

fn stranger() -> Principal {
    Principal::new(UserId::random(), TeamId::random(), "stranger")
}

#[tokio::test]
async fn a_preview_is_shown_until_its_end() {
    let world = World::new().await;
    let image = world.image("one").await;
    let preview = world.preview("pr-7", image, MINUTE).await.unwrap();
    assert_eq!((preview.image, preview.number, preview.is_expired), (image, 1, false));
    assert_eq!(preview.expires_at, START.plus(MINUTE));
    assert_eq!(world.shown("pr-7"), Some(Ok(image)), "acknowledged, so served");
    let current = world.engine.current(&world.owner, &"demo".parse().unwrap(), &"pr-7".parse().unwrap()).await.unwrap();
    assert_eq!(current.expires_at, Some(START.plus(MINUTE)));
    assert_eq!(world.listed().await, [("pr-7".to_owned(), false)]);

    world.clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(world.shown("pr-7"), Some(Ok(image)));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.shown("pr-7"), Some(Err(())), "over, and nothing had to happen for it");
    assert_eq!(world.listed().await, [("pr-7".to_owned(), true)]);
    let demo = "demo".parse().unwrap();
    let current = world.engine.current(&world.owner, &demo, &"pr-7".parse().unwrap()).await;
    assert!(matches!(current, Err(LookupError::EnvironmentNotFound)), "{current:?}");
    assert!(world.engine.environments(&world.owner, &demo).await.unwrap().is_empty(), "it shows nothing");
    let images = world.engine.history(&world.owner, &demo, None, 10).await.unwrap();
    assert!(images.items[0].deployed_to.is_empty());
    let (preview, image) = (Version::Environment("pr-7".parse().unwrap()), Version::Image(image));
    let compared = world.engine.compare(&world.owner, &demo, &preview, &image, None).await;
    assert!(matches!(compared, Err(DiffError::From(LookupError::EnvironmentNotFound))), "{compared:?}");

    world.clock.advance(PREVIEW_GRACE);
    assert!(world.listed().await.is_empty(), "forgotten a day later");
    assert_eq!(world.shown("pr-7"), Some(Err(())));
    world.assert_sound().await;
}

#[tokio::test]
async fn the_same_slug_moves_and_renews() {
    let world = World::new().await;
    let (one, two) = (world.image("one").await, world.image("two").await);
    world.preview("pr-7", one, MINUTE).await.unwrap();
    let seen = world.engine.resolver().pointers().find("demo", "pr-7").unwrap().last_modified;
    world.clock.advance(MINUTE / 2);
    let renewed = world.preview("pr-7", one, MINUTE).await.unwrap();
    assert_eq!((renewed.number, renewed.expires_at), (2, START.plus(MINUTE / 2).plus(MINUTE)));
    let pointer = world.engine.resolver().pointers().find("demo", "pr-7").unwrap();
    assert_eq!(pointer.last_modified, seen, "renewed, it shows what it showed");
    let moved = world.preview("pr-7", two, 10 * MINUTE).await.unwrap();
    assert_eq!((moved.number, world.shown("pr-7")), (3, Some(Ok(two))));
    assert!(world.engine.resolver().pointers().find("demo", "pr-7").unwrap().last_modified > seen);
    world.clock.advance(20 * MINUTE);
    assert_eq!(world.shown("pr-7"), Some(Err(())));
    world.preview("pr-7", one, MINUTE).await.unwrap();
    assert_eq!(world.shown("pr-7"), Some(Ok(one)), "one that is over comes back");

    let demo = "demo".parse().unwrap();
    let releases = world.engine.releases(&world.owner, &demo, None, None, 10).await.unwrap().items;
    let told: Vec<_> = releases.iter().map(|release| (release.number, release.image, release.previous)).collect();
    let (one, two) = (Some(one), Some(two));
    assert_eq!(told, [(4, one, two), (3, two, one), (2, one, one), (1, one, None)]);
    assert!(releases.iter().all(|release| release.expires_at.is_some()));
    world.assert_sound().await;
}

#[tokio::test]
async fn how_long_previews_last_is_bounded() {
    let world = World::with(Limits { preview_lifetime: 10 * MINUTE, ..Limits::default() }).await;
    let image = world.image("one").await;
    for wrong in [Duration::ZERO, Duration::from_millis(999), 10 * MINUTE + Duration::from_secs(1), Duration::MAX] {
        let error = world.preview("pr-7", image, wrong).await.unwrap_err();
        assert!(matches!(error, ReleaseError::Lifetime { .. }), "{wrong:?}: {error:?}");
    }
    assert_eq!(world.shown("pr-7"), None, "nothing was made");
    world.preview("pr-7", image, 10 * MINUTE).await.unwrap();
    let unsaid = world.engine.preview(&world.owner, request(None, image, None), None).await.unwrap();
    assert_eq!(unsaid.expires_at, START.plus(10 * MINUTE), "the default is within the bound");

    let world = World::new().await;
    let image = world.image("one").await;
    let unsaid = world.engine.preview(&world.owner, request(None, image, None), None).await.unwrap();
    assert_eq!(unsaid.expires_at, START.plus(DEFAULT_PREVIEW));
    assert_eq!(unsaid.slug.len(), 8, "8 hex digits where nobody named it");
    let other = world.engine.preview(&world.owner, request(None, image, None), None).await.unwrap();
    assert_ne!(unsaid.slug, other.slug);
}

#[tokio::test]
async fn previews_and_lasting_environments_share_one_namespace() {
    let world = World::new().await;
    let (one, two) = (world.image("one").await, world.image("two").await);
    let demo = "demo".parse().unwrap();
    world.release("stage", one).await.unwrap();
    for lasting in ["stage", "prod", "beta"] {
        let error = world.preview(lasting, two, MINUTE).await.unwrap_err();
        assert!(matches!(error, ReleaseError::NameIsEnvironment), "{lasting}: {error:?}");
    }
    assert_eq!(world.shown("stage"), Some(Ok(one)));
    let error = world.engine.delete_preview(&world.owner, &demo, &"stage".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ReleaseError::PreviewNotFound), "a lasting environment is no preview: {error:?}");
    assert_eq!(world.shown("stage"), Some(Ok(one)));

    world.preview("pr-7", one, MINUTE).await.unwrap();
    let key: IdempotencyKey = "k".parse().unwrap();
    for over in [false, true] {
        // Also the image that it shows: it would look as if it lasted.
        for image in [one, two] {
            let error = world.release("pr-7", image).await.unwrap_err();
            assert!(matches!(error, ReleaseError::NameIsPreview), "over: {over}: {error:?}");
            let error = world.engine.rollback(&world.owner, to("pr-7", image), Some(&key)).await.unwrap_err();
            assert!(matches!(error, ReleaseError::NameIsPreview), "over: {over}: {error:?}");
        }
        world.clock.advance(MINUTE);
    }
    // Once it is no longer kept, its name is free.
    world.clock.advance(PREVIEW_GRACE);
    let released = world.release("pr-7", one).await.unwrap();
    assert_eq!((released.number, released.previous, released.changed), (2, None, true));
    assert_eq!(world.shown("pr-7"), Some(Ok(one)));
    assert!(matches!(world.preview("pr-7", one, MINUTE).await, Err(ReleaseError::NameIsEnvironment)));
    world.engine.delete_environment(&world.owner, &demo, &"pr-7".parse().unwrap()).await.unwrap();
    world.preview("pr-7", two, MINUTE).await.unwrap();
    world.assert_sound().await;
}

#[tokio::test]
async fn a_deleted_preview_is_gone() {
    let world = World::new().await;
    let image = world.image("one").await;
    let (demo, slug) = ("demo".parse().unwrap(), "pr-7".parse().unwrap());
    let delete = async || world.engine.delete_preview(&world.owner, &demo, &slug).await;
    for wait in [Duration::ZERO, MINUTE, MINUTE + PREVIEW_GRACE] {
        assert!(matches!(delete().await, Err(ReleaseError::PreviewNotFound)));
        world.preview("pr-7", image, MINUTE).await.unwrap();
        world.clock.advance(wait);
        delete().await.unwrap();
        assert_eq!(world.shown("pr-7"), None, "after {wait:?}");
        assert!(world.listed().await.is_empty());
    }
    assert_eq!(world.preview("pr-7", image, MINUTE).await.unwrap().number, 7, "numbers go on");
    world.engine.delete_environment(&world.owner, &demo, &slug).await.unwrap();
    assert_eq!(world.shown("pr-7"), None, "it is an environment too");
    let audited = world.audited().await;
    assert_eq!(audited[audited.len() - 4..], ["preview", "preview.delete", "preview", "preview.delete"]);
    world.assert_sound().await;
}

#[tokio::test]
async fn a_key_gives_the_same_preview() {
    let world = World::new().await;
    let (one, two) = (world.image("one").await, world.image("two").await);
    let key: IdempotencyKey = "k".parse().unwrap();
    let ask = async |image| world.engine.preview(&world.owner, request(None, image, Some(MINUTE)), Some(&key)).await;
    let first = ask(one).await.unwrap();
    world.clock.advance(MINUTE / 2);
    assert_eq!(ask(one).await.unwrap(), first, "not another name, and not renewed");
    assert!(matches!(ask(two).await, Err(ReleaseError::KeyReused)));
    assert_eq!(world.listed().await.len(), 1);
    world.clock.advance(MINUTE);
    assert_eq!(ask(one).await.unwrap(), first, "also when it is over: what was done is not done again");
    assert_eq!(world.shown(&first.slug), Some(Err(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_at_once_makes_one_preview() {
    let world = World::new().await;
    let image = world.image("one").await;
    let key: IdempotencyKey = "k".parse().unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (engine, owner, key) = (world.engine.clone(), world.owner.clone(), key.clone());
            tokio::spawn(async move { engine.preview(&owner, request(None, image, None), Some(&key)).await.unwrap() })
        })
        .collect();
    let mut slugs = std::collections::BTreeSet::new();
    for task in tasks {
        slugs.insert(task.await.unwrap().slug);
    }
    assert_eq!((slugs.len(), world.listed().await.len()), (1, 1), "{slugs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_release_and_a_preview_of_one_name_at_once_one_is_made() {
    let world = World::new().await;
    let image = world.image("one").await;
    for round in 0..50 {
        let name = format!("name-{round}");
        let (engine, owner) = (world.engine.clone(), world.owner.clone());
        let of = request(Some(&name), image, Some(MINUTE));
        let preview = tokio::spawn(async move { engine.preview(&owner, of, None).await });
        let (engine, owner) = (world.engine.clone(), world.owner.clone());
        let of = to(&name, image);
        let release = tokio::spawn(async move { engine.release(&owner, of, None).await });
        let (preview, release) = (preview.await.unwrap(), release.await.unwrap());
        let expires = world.engine.resolver().pointers().find("demo", &name).unwrap().expires_at;
        match (&preview, &release) {
            (Ok(made), Err(ReleaseError::NameIsPreview)) => assert_eq!(expires, Some(made.expires_at)),
            (Err(ReleaseError::NameIsEnvironment), Ok(_)) => assert_eq!(expires, None),
            both => panic!("{both:?}"),
        }
    }
    world.assert_sound().await;
}

#[tokio::test]
async fn previews_are_the_teams_own() {
    let world = World::new().await;
    let image = world.image("one").await;
    world.preview("pr-7", image, MINUTE).await.unwrap();
    let (stranger, demo) = (stranger(), "demo".parse().unwrap());
    let made = world.engine.preview(&stranger, request(Some("pr-7"), image, None), None).await;
    assert!(matches!(made, Err(ReleaseError::ProjectNotFound)));
    let deleted = world.engine.delete_preview(&stranger, &demo, &"pr-7".parse().unwrap()).await;
    assert!(matches!(deleted, Err(ReleaseError::ProjectNotFound)));
    assert!(matches!(world.engine.previews(&stranger, &demo).await, Err(LookupError::ProjectNotFound)));
    assert!(matches!(world.engine.pin(&stranger, &demo, image, None).await, Err(PinError::ProjectNotFound)));
    assert!(matches!(world.engine.unpin(&stranger, &demo, image).await, Err(PinError::ProjectNotFound)));
    assert!(matches!(world.engine.project(&stranger, &demo).await, Err(LookupError::ProjectNotFound)));
    let change = ProjectChange { image_hosts: Some(ImageHosts::Off), ..ProjectChange::default() };
    let changed = world.engine.change_project(&stranger, &demo, change).await;
    assert!(matches!(changed, Err(ProjectError::NotFound)));
}

#[tokio::test]
async fn a_pin_stays_with_its_image() {
    let world = World::new().await;
    let image = world.image("one").await;
    let demo = "demo".parse().unwrap();
    let pin = async || world.engine.image(&world.owner, &demo, image).await.unwrap().pin;
    assert_eq!(pin().await, None);
    world.engine.pin(&world.owner, &demo, image, Some("for the board")).await.unwrap();
    let first = pin().await.unwrap();
    assert_eq!((&*first.author, first.at, first.message.as_deref()), ("owner", START, Some("for the board")));
    world.clock.advance(MINUTE);
    for message in [None, Some("for the board")] {
        world.engine.pin(&world.owner, &demo, image, message).await.unwrap();
        assert_eq!(pin().await.as_ref(), Some(&first), "pinned already");
    }
    assert_eq!(world.image("one").await, image, "committed again");
    assert_eq!(pin().await.as_ref(), Some(&first));
    world.engine.pin(&world.owner, &demo, image, Some("for the lawyers")).await.unwrap();
    assert_eq!(
        pin().await.map(|pin| (pin.at, pin.message)),
        Some((START.plus(MINUTE), Some("for the lawyers".into())))
    );
    world.assert_sound().await;
    for _ in 0..2 {
        world.engine.unpin(&world.owner, &demo, image).await.unwrap();
        assert_eq!(pin().await, None);
    }
    let unknown = ImageId::from_bytes([7; 16]);
    assert!(matches!(world.engine.pin(&world.owner, &demo, unknown, None).await, Err(PinError::ImageNotFound)));
    assert!(matches!(world.engine.unpin(&world.owner, &demo, unknown).await, Err(PinError::ImageNotFound)));
    let long = "x".repeat(5000);
    let error = world.engine.pin(&world.owner, &demo, image, Some(&long)).await.unwrap_err();
    assert!(matches!(error, PinError::MessageTooLong { limit: 4096 }));
    let audited = world.audited().await;
    assert_eq!(audited.iter().filter(|action| *action == "image.pin").count(), 2, "what changed nothing is not told");
    assert_eq!(audited.iter().filter(|action| *action == "image.unpin").count(), 1);
}

#[tokio::test]
async fn a_pin_of_an_image_that_is_gone_is_found() {
    let world = World::new().await;
    let image = world.image("one").await;
    world.engine.pin(&world.owner, &"demo".parse().unwrap(), image, None).await.unwrap();
    let rows = world.meta.snapshot(Bytes::from_static(&[0x23])).await.unwrap().items;
    world.meta.commit(Commit::new().delete(rows[0].0.clone())).await.unwrap();
    let report = fsck::check(&*world.meta, &world.blobs, |_| ()).await.unwrap();
    let found =
        report.findings.iter().any(|finding| finding.name == image.to_string() && finding.detail.contains("pin"));
    assert!(found && !report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn image_hosts_are_served_as_they_were_set_last() {
    let world = World::new().await;
    let image = world.image("one").await;
    world.release("prod", image).await.unwrap();
    let resolver = world.engine.resolver();
    let served = || resolver.pointers().image_hosts("demo").unwrap().1;
    assert_eq!(served(), ImageHosts::Public, "the default");
    let before = world.audited().await.len();
    for value in [ImageHosts::Off, ImageHosts::Protected, ImageHosts::Protected, ImageHosts::Public, ImageHosts::Off] {
        world.image_hosts(value).await;
        assert_eq!(served(), value, "acknowledged, so served");
        assert_eq!(world.shown("prod"), Some(Ok(image)), "and nothing else changed");
    }
    assert_eq!(world.audited().await.len() - before, 4, "what changed nothing is not told");
    // A commit writes the project's row, and keeps its settings.
    world.image("two").await;
    assert_eq!(
        world.engine.project(&world.owner, &"demo".parse().unwrap()).await.unwrap().image_hosts,
        ImageHosts::Off
    );

    // Another process, and one that starts later.
    let open =
        || Engine::assemble(world.meta.clone(), world.blobs.clone(), world.clock.clone(), Limits::default(), "pin_x");
    let later = open().await.unwrap();
    assert_eq!(later.resolver().pointers().image_hosts("demo").unwrap().1, ImageHosts::Off);
    world.image_hosts(ImageHosts::Protected).await;
    let demo = "demo".parse().unwrap();
    let change = ProjectChange { image_hosts: Some(ImageHosts::Protected), ..ProjectChange::default() };
    later.change_project(&world.owner, &demo, change).await.unwrap();
    let now = later.resolver().pointers().image_hosts("demo").unwrap().1;
    assert_eq!(now, ImageHosts::Protected, "also where somebody else set it so");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_change_at_once_all_happen() {
    let world = World::new().await;
    world.image("one").await;
    let tasks: Vec<_> = (0..20)
        .map(|turn| {
            let (engine, owner) = (world.engine.clone(), world.owner.clone());
            let value = if turn % 2 == 0 { ImageHosts::Off } else { ImageHosts::Public };
            let change = ProjectChange { image_hosts: Some(value), ..ProjectChange::default() };
            tokio::spawn(async move { engine.change_project(&owner, &"demo".parse().unwrap(), change).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stored = world.engine.project(&world.owner, &"demo".parse().unwrap()).await.unwrap().image_hosts;
    assert_eq!(world.engine.resolver().pointers().image_hosts("demo").unwrap().1, stored);
}
