//! Publishing through the engine's own door, on the engines in memory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{ImageId, PlanId, TeamId, UserId};
use pinstone_engine::manifest::{Profile, Settings};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlanError, PlanView, PlannedFile, UploadError, Uploaded};
use pinstone_engine::publish::{CommitError, CommitRequest, Committed, ReleaseError, ReleaseRequest, Released};
use pinstone_engine::queries::LookupError;
use pinstone_engine::records::idempotency::IdempotencyKey;
use pinstone_engine::records::plans::PlanState;
use pinstone_engine::{Engine, Limits, Principal};

type Files<'f> = &'f [(&'f str, &'f str)];

struct World {
    engine: Engine,
    clock: Clock,
    owner: Principal,
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let clock = Clock::manual(UnixMillis(1_700_000_000_000));
        let engine = Engine::in_memory_with(clock.clone(), limits).await;
        let owner = engine.owner_principal();
        Self { engine, clock, owner }
    }

    async fn plan(&self, files: Files<'_>) -> Result<PlanView, PlanError> {
        self.plan_as(&self.owner, "demo", files).await
    }

    async fn plan_as(&self, caller: &Principal, project: &str, files: Files<'_>) -> Result<PlanView, PlanError> {
        self.engine.plan(caller, new_plan(project, files), None).await
    }

    async fn upload(&self, plan: PlanId, content: &str) -> Result<Uploaded, UploadError> {
        self.upload_as(&self.owner, plan, BlobHash::of(content.as_bytes()), content).await
    }

    async fn upload_as(
        &self,
        caller: &Principal,
        plan: PlanId,
        hash: BlobHash,
        content: &str,
    ) -> Result<Uploaded, UploadError> {
        self.engine.upload(caller, plan, hash, None, body(content)).await
    }

    async fn commit(&self, plan: PlanId) -> Result<Committed, CommitError> {
        self.engine.commit(&self.owner, CommitRequest { plan, message: None, strict: false }, None).await
    }

    /// Plan, uploads of what is missing, commit.
    async fn image(&self, files: Files<'_>) -> ImageId {
        self.image_as(&self.owner, "demo", files).await
    }

    async fn image_as(&self, caller: &Principal, project: &str, files: Files<'_>) -> ImageId {
        let plan = self.plan_as(caller, project, files).await.unwrap();
        for missing in &plan.missing {
            let (_, content) =
                files.iter().find(|(_, content)| BlobHash::of(content.as_bytes()) == missing.hash).unwrap();
            self.upload_as(caller, plan.id, missing.hash, content).await.unwrap();
        }
        let request = CommitRequest { plan: plan.id, message: None, strict: false };
        self.engine.commit(caller, request, None).await.unwrap().image
    }

    async fn release(&self, image: ImageId) -> Result<Released, ReleaseError> {
        self.engine.release(&self.owner, to_prod(Some(image)), None).await
    }

    async fn rollback(&self, key: &str) -> Result<Released, ReleaseError> {
        let key: IdempotencyKey = key.parse().unwrap();
        self.engine.rollback(&self.owner, to_prod(None), Some(&key)).await
    }

    fn shown(&self) -> Option<ImageId> {
        self.engine.resolver().pointers().find("demo", "prod").map(|pointer| pointer.image)
    }
}

fn new_plan(project: &str, files: Files<'_>) -> NewPlan {
    NewPlan {
        project: project.parse().unwrap(),
        files: files
            .iter()
            .map(|(path, content)| PlannedFile {
                path: SitePath::new(*path).unwrap(),
                blob: BlobHash::of(content.as_bytes()),
                size: Some(content.len() as u64),
                content_type: None,
            })
            .collect(),
        git: None,
        message: Some("a message".to_owned()),
        settings: Settings::default(),
    }
}

fn to_prod(image: Option<ImageId>) -> ReleaseRequest {
    ReleaseRequest {
        project: "demo".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        image,
        expected: None,
        message: None,
    }
}

fn body(content: &str) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send + Unpin {
    let pieces: Vec<_> = content.as_bytes().chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

/// Somebody of another team.
fn stranger() -> Principal {
    Principal::new(UserId::random(), TeamId::random(), "stranger")
}

#[tokio::test]
async fn a_folder_becomes_an_image_and_is_shown() {
    let world = World::new().await;
    let files = [("index.html", "<h1>hi</h1>"), ("a/b.css", "p{}"), ("copy.html", "<h1>hi</h1>"), ("empty", "")];
    let plan = world.plan(&files).await.unwrap();
    assert_eq!(plan.missing.len(), 3, "a hash is named once");
    assert_eq!((plan.files, plan.reusable, plan.status), (4, 1, PlanState::Open));
    for content in ["<h1>hi</h1>", "p{}", ""] {
        let uploaded = world.upload(plan.id, content).await.unwrap();
        assert_eq!(uploaded.size, content.len() as u64);
        world.upload(plan.id, content).await.expect("uploading again is no error");
    }
    let committed = world.commit(plan.id).await.unwrap();
    assert_eq!((committed.files, committed.total_size, committed.new_image), (4, 25, true));
    assert_eq!(committed.content_hash, plan.content_hash);
    assert_eq!(world.commit(plan.id).await.unwrap(), committed, "a commit is idempotent by its plan");
    assert_eq!(world.shown(), None, "a commit shows nothing");

    let released = world.release(committed.image).await.unwrap();
    assert_eq!((released.number, released.changed, released.previous), (1, true, None));
    assert_eq!(world.shown(), Some(committed.image), "a release is acknowledged when it is served");
    let again = world.release(committed.image).await.unwrap();
    assert_eq!((again.number, again.changed), (1, false));

    let resolver = world.engine.resolver();
    let pointer = resolver.pointers().find("demo", "prod").unwrap();
    let manifest = resolver.manifest(&pointer.manifest).await.unwrap();
    let types: Vec<_> = manifest.entries().map(|entry| (entry.path, entry.content_type)).collect();
    let html = "text/html; charset=utf-8";
    let want = [
        ("a/b.css", "text/css; charset=utf-8"),
        ("copy.html", html),
        ("empty", "application/octet-stream"),
        ("index.html", html),
    ];
    assert_eq!(types, want);
    for entry in manifest.entries() {
        assert_eq!(resolver.open_blob(&entry.blob).await.unwrap().len(), entry.size);
    }

    let again = world.plan(&files).await.unwrap();
    assert_eq!(again.missing, [], "what was stored is not missing");
    let committed_again = world.commit(again.id).await.unwrap();
    assert_eq!(committed_again.image, committed.image, "the same content is the same image");
    assert!(!committed_again.new_image);
}

#[tokio::test]
async fn what_does_not_match_is_not_stored() {
    let world = World::new().await;
    let files = [("index.html", "right")];
    let plan = world.plan(&files).await.unwrap();
    let hash = BlobHash::of(b"right");
    for (content, announced, want) in [
        ("wrong", None, "HashMismatch"),
        ("righ", None, "SizeMismatch"),
        ("rights", None, "SizeMismatch"),
        ("right", Some(6), "SizeMismatch"),
    ] {
        let error = world.engine.upload(&world.owner, plan.id, hash, announced, body(content)).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(want), "{content}: {error:?}");
    }
    let broken = stream::iter([Ok(Bytes::from_static(b"rig")), Err(std::io::Error::other("gone"))]);
    let error = world.engine.upload(&world.owner, plan.id, hash, None, broken).await.unwrap_err();
    assert!(matches!(error, UploadError::Body(_)), "{error:?}");
    let error = world.upload_as(&world.owner, plan.id, BlobHash::of(b"other"), "other").await.unwrap_err();
    assert!(matches!(error, UploadError::NotPlanned), "{error:?}");
    let error = world.commit(plan.id).await.unwrap_err();
    assert!(matches!(error, CommitError::MissingBlobs { count: 1 }), "{error:?}");
    assert_eq!(world.engine.plan_status(&world.owner, plan.id).await.unwrap().missing.len(), 1);
}

#[tokio::test]
async fn an_upload_larger_than_memory_pieces_arrives_whole() {
    let world = World::new().await;
    let content: String = (0..600_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect::<String>().repeat(6);
    let files = [("big.txt", content.as_str())];
    let plan = world.plan(&files).await.unwrap();
    let pieces: Vec<Result<Bytes, Infallible>> =
        content.as_bytes().chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let hash = BlobHash::of(content.as_bytes());
    world.engine.upload(&world.owner, plan.id, hash, None, stream::iter(pieces)).await.unwrap();
    let pinstone_engine::blob::BlobSource::Memory(bytes) = world.engine.resolver().open_blob(&hash).await.unwrap()
    else {
        panic!("a store in memory has no files")
    };
    assert_eq!(BlobHash::of(&bytes), hash);
}

#[tokio::test]
async fn a_plan_is_checked_before_anything_is_recorded() {
    let limits = Limits { files: 2, file_size: 10, message_length: 20, ..Limits::default() };
    let world = World::with(limits).await;
    let plan = |files: Files<'_>| new_plan("demo", files);
    let with = |change: fn(&mut NewPlan)| {
        let mut new = plan(&[("a", "1")]);
        change(&mut new);
        new
    };
    for (new, want) in [
        (plan(&[]), "NoFiles"),
        (plan(&[("a", "1"), ("b", "2"), ("c", "3")]), "TooManyFiles"),
        (plan(&[("a", "12345678901")]), "FileTooLarge"),
        (plan(&[("a", "1"), ("a", "2")]), "DuplicatePath"),
        (with(|new| new.message = Some("m".repeat(21))), "MessageTooLong"),
        (with(|new| new.settings.profile = Profile::Netlify), "UnsupportedSetting"),
        (
            with(|new| {
                let mut twin = new.files[0].clone();
                twin.path = SitePath::new("b").unwrap();
                twin.size = Some(9);
                new.files.push(twin);
            }),
            "SizeConflict",
        ),
    ] {
        let error = world.engine.plan(&world.owner, new, None).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(want), "{want}: {error:?}");
    }
}

#[tokio::test]
async fn another_teams_things_are_not_found_and_tell_nothing() {
    let world = World::new().await;
    let stranger = stranger();
    let files = [("index.html", "secret")];
    let image = world.image(&files).await;
    let plan = world.plan(&[("x", "x")]).await.unwrap();

    let taken = world.plan_as(&stranger, "demo", &files).await.unwrap_err();
    assert!(matches!(taken, PlanError::ProjectTaken), "{taken:?}");
    let theirs = world.plan_as(&stranger, "theirs", &files).await.unwrap();
    assert_eq!(theirs.missing.len(), 1, "a blob that only another team has is missing");
    let request = CommitRequest { plan: theirs.id, message: None, strict: false };
    let error = world.engine.commit(&stranger, request.clone(), None).await.unwrap_err();
    assert!(matches!(error, CommitError::MissingBlobs { count: 1 }), "and naming it does not get it: {error:?}");

    let error = world.engine.plan_status(&stranger, plan.id).await.unwrap_err();
    assert!(matches!(error, PlanError::NotFound), "{error:?}");
    let error = world.upload_as(&stranger, plan.id, BlobHash::of(b"x"), "x").await.unwrap_err();
    assert!(matches!(error, UploadError::PlanNotFound), "{error:?}");
    let error = world
        .engine
        .commit(&stranger, CommitRequest { plan: plan.id, message: None, strict: false }, None)
        .await
        .unwrap_err();
    assert!(matches!(error, CommitError::PlanNotFound), "{error:?}");
    let error = world.engine.release(&stranger, to_prod(Some(image)), None).await.unwrap_err();
    assert!(matches!(error, ReleaseError::ProjectNotFound), "{error:?}");
    let demo = "demo".parse().unwrap();
    let error = world.engine.history(&stranger, &demo, None, 10).await.unwrap_err();
    assert!(matches!(error, LookupError::ProjectNotFound), "{error:?}");

    // Whoever shows that they have the bytes may use them; they are stored once.
    world.upload_as(&stranger, theirs.id, BlobHash::of(b"secret"), "secret").await.unwrap();
    let committed = world.engine.commit(&stranger, request, None).await.unwrap();
    assert_eq!(committed.image, image, "the same content has the same digest");
    let error = world
        .engine
        .release(&world.owner, ReleaseRequest { project: "theirs".parse().unwrap(), ..to_prod(Some(image)) }, None)
        .await;
    assert!(matches!(error, Err(ReleaseError::ProjectNotFound)), "{error:?}");
}

#[tokio::test]
async fn an_image_of_another_project_cannot_be_released() {
    let world = World::new().await;
    world.image(&[("index.html", "demo")]).await;
    let other = world.image_as(&world.owner, "other", &[("index.html", "other")]).await;
    let error = world.release(other).await.unwrap_err();
    assert!(matches!(error, ReleaseError::ImageNotFound), "{error:?}");
}

#[tokio::test]
async fn a_rollback_goes_back_and_a_second_one_further() {
    let world = World::new().await;
    let mut images = Vec::new();
    for content in ["one", "two", "three"] {
        let image = world.image(&[("index.html", content)]).await;
        world.release(image).await.unwrap();
        images.push(image);
    }
    let back = world.rollback("first").await.unwrap();
    assert_eq!((back.image, back.number, back.action.as_str()), (images[1], 4, "rollback"));
    let replayed = world.rollback("first").await.unwrap();
    assert_eq!(replayed, back, "the same key has the same answer and does nothing new");
    assert_eq!(world.rollback("second").await.unwrap().image, images[0]);
    assert_eq!(world.shown(), Some(images[0]));
    let error = world.rollback("third").await.unwrap_err();
    assert!(matches!(error, ReleaseError::NothingToRollBackTo), "{error:?}");
    let error = world.engine.rollback(&world.owner, to_prod(None), None).await.unwrap_err();
    assert!(matches!(error, ReleaseError::KeyNeeded), "{error:?}");
    let forward = world.engine.rollback(&world.owner, to_prod(Some(images[2])), None).await.unwrap();
    assert_eq!((forward.image, forward.previous, forward.number), (images[2], Some(images[0]), 6));

    let releases = world.engine.releases(&world.owner, &"demo".parse().unwrap(), None, None, 4).await.unwrap();
    let numbers: Vec<_> = releases.items.iter().map(|release| release.number).collect();
    assert_eq!(numbers, [6, 5, 4, 3]);
    let cursor = releases.next.as_deref();
    let rest = world.engine.releases(&world.owner, &"demo".parse().unwrap(), None, cursor, 4).await.unwrap();
    assert_eq!(rest.items.len(), 2);
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn a_key_that_comes_with_another_request_is_refused() {
    let world = World::new().await;
    let one = world.image(&[("index.html", "one")]).await;
    let two = world.image(&[("index.html", "two")]).await;
    let key: IdempotencyKey = "same".parse().unwrap();
    let first = world.engine.release(&world.owner, to_prod(Some(one)), Some(&key)).await.unwrap();
    world.release(two).await.unwrap();
    let replay = world.engine.release(&world.owner, to_prod(Some(one)), Some(&key)).await.unwrap();
    assert_eq!(replay, first);
    assert_eq!(world.shown(), Some(two), "a replay changes nothing");
    let error = world.engine.release(&world.owner, to_prod(Some(two)), Some(&key)).await.unwrap_err();
    assert!(matches!(error, ReleaseError::KeyReused), "{error:?}");
    world.clock.advance(Duration::from_secs(25 * 60 * 60));
    world.engine.release(&world.owner, to_prod(Some(one)), Some(&key)).await.expect("a day later the key is free");
}

#[tokio::test]
async fn what_must_be_shown_is_checked() {
    let world = World::new().await;
    let one = world.image(&[("index.html", "one")]).await;
    let two = world.image(&[("index.html", "two")]).await;
    let expecting = |expected, image| ReleaseRequest { expected: Some(expected), ..to_prod(Some(image)) };
    world.engine.release(&world.owner, expecting(None, one), None).await.unwrap();
    for wrong in [expecting(None, two), expecting(Some(two), two)] {
        let error = world.engine.release(&world.owner, wrong, None).await.unwrap_err();
        assert!(matches!(error, ReleaseError::Conflict), "{error:?}");
    }
    world.engine.release(&world.owner, expecting(Some(one), two), None).await.unwrap();
}

#[tokio::test]
async fn many_releases_at_once_have_numbers_without_gaps_and_the_last_one_is_shown() {
    let world = World::new().await;
    let one = world.image(&[("index.html", "one")]).await;
    let two = world.image(&[("index.html", "two")]).await;
    let tasks: Vec<_> = (0..16)
        .map(|index| {
            let (engine, owner) = (world.engine.clone(), world.owner.clone());
            let image = if index % 2 == 0 { one } else { two };
            tokio::spawn(async move { engine.release(&owner, to_prod(Some(image)), None).await.unwrap() })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in tasks {
        let released = task.await.unwrap();
        if released.changed {
            numbers.push(released.number);
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let current = world.engine.current(&world.owner, &"demo".parse().unwrap(), &"prod".parse().unwrap()).await.unwrap();
    assert_eq!(current.number, numbers.len() as u64);
    assert_eq!(world.shown(), Some(current.image));
}

#[tokio::test]
async fn last_modified_is_later_with_every_release_also_within_a_second() {
    let world = World::new().await;
    let images = [world.image(&[("a", "1")]).await, world.image(&[("a", "2")]).await];
    let mut last = 0;
    for round in 0..6 {
        world.release(images[round % 2]).await.unwrap();
        let pointer = world.engine.resolver().pointers().find("demo", "prod").unwrap();
        assert!(pointer.last_modified.as_secs() > last, "round {round}");
        last = pointer.last_modified.as_secs();
    }
}

#[tokio::test]
async fn a_commit_tells_what_was_found_and_a_strict_one_refuses_it() {
    let world = World::new().await;
    let codes = |committed: &Committed| committed.diagnostics.iter().map(|d| d.code.clone()).collect::<Vec<_>>();
    let plan = world.plan(&[("A", "1"), ("a", "1")]).await.unwrap().id;
    world.upload(plan, "1").await.unwrap();
    let strict = CommitRequest { plan, message: None, strict: true };
    let error = world.engine.commit(&world.owner, strict.clone(), None).await.unwrap_err();
    assert!(matches!(error, CommitError::Strict { count: 2 }), "{error:?}");
    let committed = world.commit(plan).await.unwrap();
    assert_eq!(codes(&committed), ["no_index", "case_collision"]);
    assert_eq!(world.commit(plan).await.unwrap(), committed, "the same again");

    let plan = world.plan(&[("index.html", "1")]).await.unwrap().id;
    let committed = world.engine.commit(&world.owner, CommitRequest { plan, ..strict }, None).await.unwrap();
    assert!(committed.diagnostics.is_empty());
}

#[tokio::test]
async fn a_plan_ends_with_its_time() {
    let world = World::new().await;
    let plan = world.plan(&[("a", "1")]).await.unwrap();
    world.upload(plan.id, "1").await.unwrap();
    world.clock.advance(world.engine.limits().plan_lifetime);
    assert_eq!(world.engine.plan_status(&world.owner, plan.id).await.unwrap().status, PlanState::Expired);
    assert!(matches!(world.upload(plan.id, "1").await.unwrap_err(), UploadError::PlanOver));
    assert!(matches!(world.commit(plan.id).await.unwrap_err(), CommitError::PlanOver));
    let plan = world.plan(&[("a", "1")]).await.unwrap();
    world.engine.close_plan(&world.owner, plan.id).await.unwrap();
    assert!(matches!(world.commit(plan.id).await.unwrap_err(), CommitError::PlanOver));
}

#[tokio::test]
async fn environments_come_go_and_keep_their_numbers() {
    let world = World::new().await;
    let image = world.image(&[("a", "1")]).await;
    let demo = "demo".parse().unwrap();
    let pr: pinstone_engine::name::EnvironmentName = "pr-7".parse().unwrap();
    let request = ReleaseRequest { environment: pr.clone(), ..to_prod(Some(image)) };
    world.engine.release(&world.owner, request.clone(), None).await.unwrap();
    world.release(image).await.unwrap();
    let names = |list: Vec<pinstone_engine::queries::EnvironmentSummary>| -> Vec<String> {
        list.into_iter().map(|environment| environment.name.to_string()).collect()
    };
    assert_eq!(names(world.engine.environments(&world.owner, &demo).await.unwrap()), ["pr-7", "prod"]);
    let images = world.engine.history(&world.owner, &demo, None, 10).await.unwrap();
    let deployed: Vec<_> = images.items[0].deployed_to.iter().map(ToString::to_string).collect();
    assert_eq!(deployed, ["pr-7", "prod"]);

    world.engine.delete_environment(&world.owner, &demo, &pr).await.unwrap();
    assert!(world.engine.resolver().pointers().find("demo", "pr-7").is_none());
    assert_eq!(names(world.engine.environments(&world.owner, &demo).await.unwrap()), ["prod"]);
    let error = world.engine.delete_environment(&world.owner, &demo, &pr).await.unwrap_err();
    assert!(matches!(error, ReleaseError::EnvironmentNotFound), "{error:?}");
    assert_eq!(world.engine.release(&world.owner, request, None).await.unwrap().number, 3);
}

#[tokio::test]
async fn history_lists_images_by_latest_commit() {
    let world = World::new().await;
    let demo = "demo".parse().unwrap();
    let one = world.image(&[("a", "1")]).await;
    let two = world.image(&[("a", "2")]).await;
    assert_eq!(world.image(&[("a", "1")]).await, one);
    let listed = |listing: pinstone_engine::queries::Listing<pinstone_engine::queries::ImageSummary>| -> Vec<ImageId> {
        listing.items.into_iter().map(|image| image.image).collect()
    };
    assert_eq!(listed(world.engine.history(&world.owner, &demo, None, 10).await.unwrap()), [one, two]);
    let first = world.engine.history(&world.owner, &demo, None, 1).await.unwrap();
    let next = first.next.clone();
    assert_eq!(listed(first), [one]);
    let second = world.engine.history(&world.owner, &demo, next.as_deref(), 1).await.unwrap();
    assert_eq!(listed(second), [two]);
    let error = world.engine.history(&world.owner, &demo, Some("x"), 1).await.unwrap_err();
    assert!(matches!(error, LookupError::BadCursor));
    let (images, total) = world.engine.images(&world.owner, &demo, 1, 2).await.unwrap();
    assert_eq!((images[0].image, total), (two, 2));

    let (files, next) = world.engine.image_files(&world.owner, &demo, one, None, 10).await.unwrap();
    assert_eq!((files.len(), next), (1, None));
}

#[tokio::test]
async fn an_images_host_finds_it_by_its_digits() {
    let world = World::new().await;
    let image = world.image(&[("a", "1")]).await;
    let resolver = world.engine.resolver();
    let project = resolver.pointers().project("demo").unwrap();
    let found = resolver.hosted_image(project, &image.host_digits()).await.unwrap().unwrap();
    assert_eq!(found.image, image);
    assert_eq!(resolver.hosted_image(project, "0123456789abcdef").await.unwrap(), None);
}

#[tokio::test]
async fn only_the_owners_token_opens_the_door() {
    let world = World::new().await;
    let owner = world.engine.authenticate("pin_in_memory").await.unwrap().expect("the owner's token is known");
    assert_eq!(owner.team, world.owner.team);
    for wrong in ["", "pin_", "pin_in_memory ", "PIN_IN_MEMORY"] {
        assert_eq!(world.engine.authenticate(wrong).await.unwrap(), None, "{wrong:?}");
    }
}
