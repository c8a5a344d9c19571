//! What differs between two sites: the walk against a model, and comparisons through the engine's own door.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::diff::{
    Change, Comparison, Content, Count, DiffError, File, NewFiles, Nothing, Summary, Version, Walk, Which,
};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{ImageId, TeamId, UserId};
use pinstone_engine::manifest::{HtmlMode, Manifest, ManifestBuilder, Profile, Settings};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlanError, PlannedFile};
use pinstone_engine::publish::{CommitRequest, ReleaseRequest};
use pinstone_engine::queries::LookupError;
use pinstone_engine::{Engine, Limits, Principal};
use proptest::prelude::*;

/// What a file of the model is: its bytes, by a number that is also their length; its type; whether it is hidden.
type Facts = (u8, u8, bool);
type Model = BTreeMap<String, Facts>;

fn blob(content: u8) -> BlobHash {
    BlobHash::of(&[content])
}

fn manifest(model: &Model, settings: Settings) -> Manifest {
    let mut builder = ManifestBuilder::new(settings);
    for (path, (content, kind, hidden)) in model {
        let (path, size, kind) = (SitePath::new(path.as_str()).unwrap(), u64::from(*content), format!("text/x-{kind}"));
        if *hidden {
            builder.add_hidden(path, blob(*content), size, kind);
        } else {
            builder.add(path, blob(*content), size, kind);
        }
    }
    Manifest::open(builder.finish().unwrap().1).unwrap()
}

/// Every difference of two sides, in order.
fn differences(from: &dyn Content, to: &dyn Content) -> Vec<(Change, String)> {
    let mut walk = Walk::default();
    std::iter::from_fn(|| walk.difference(from, to)).map(|(change, pair)| (change, pair.path().to_owned())).collect()
}

/// The same by looking every path up, and the numbers by counting.
fn naive(from: &Model, to: &Model) -> (Vec<(Change, String)>, Summary) {
    let mut found = Vec::new();
    let mut summary = Summary::default();
    let add = |count: &mut Count, facts: &Facts| {
        count.files += 1;
        count.bytes += u64::from(facts.0);
    };
    for path in from.keys().chain(to.keys()).collect::<BTreeSet<_>>() {
        let change = match (from.get(path), to.get(path)) {
            (Some(old), Some(new)) if old == new => {
                add(&mut summary.unchanged, new);
                continue;
            }
            (Some(old), Some(new)) => {
                add(&mut summary.changed_from, old);
                add(&mut summary.changed_to, new);
                summary.retyped += u64::from(old.0 == new.0);
                if old.0 == new.0 { Change::Served } else { Change::Content }
            }
            (Some(old), None) => {
                add(&mut summary.removed, old);
                Change::Removed
            }
            (None, new) => {
                add(&mut summary.added, new.unwrap());
                Change::Added
            }
        };
        found.push((change, path.clone()));
    }
    let contents = |model: &Model| model.values().map(|facts| facts.0).collect::<BTreeSet<_>>();
    for content in contents(to).difference(&contents(from)) {
        add(&mut summary.new, &(*content, 0, false));
    }
    let mut gone: Vec<u8> = from.iter().filter(|(path, _)| !to.contains_key(*path)).map(|(_, facts)| facts.0).collect();
    for (_, facts) in to.iter().filter(|(path, _)| !from.contains_key(*path)) {
        if let Some(at) = gone.iter().position(|content| *content == facts.0) {
            gone.swap_remove(at);
            summary.moved += 1;
        }
    }
    (found, summary)
}

/// Sites that have much in common: few names, few contents.
fn models() -> impl Strategy<Value = Model> {
    let path = prop_oneof!["[a-c]{1,2}", "[a-b](/[a-bü.-]){1,2}x", Just("aa/b".to_owned())];
    let facts = (0_u8..6, 0_u8..2, proptest::bool::weighted(0.1));
    proptest::collection::btree_map(path, facts, 0..24)
        .prop_map(|model| model.into_iter().filter(|(path, _)| SitePath::check(path).is_ok()).collect())
}

proptest! {
    #[test]
    fn a_walk_finds_what_looking_up_every_path_finds(from in models(), to in models()) {
        let (old, new) = (manifest(&from, Settings::default()), manifest(&to, Settings::default()));
        let (found, counted) = naive(&from, &to);
        prop_assert_eq!(differences(&old, &new), found);
        let summary = Summary::of(&old, &new);
        prop_assert_eq!(summary, counted);
        prop_assert_eq!(summary.is_empty(), old.id() == new.id(), "no difference is the same manifest");
        prop_assert_eq!((summary.from_bytes(), summary.to_bytes()), (old.total_size(), new.total_size()));
        prop_assert!(Summary::of(&new, &new).is_empty());
    }

    #[test]
    fn a_walk_goes_on_behind_any_path(from in models(), to in models(), path in "[a-d/]{1,4}") {
        let (old, new) = (manifest(&from, Settings::default()), manifest(&to, Settings::default()));
        let all = differences(&old, &new);
        for path in all.iter().map(|(_, path)| path.as_str()).chain([path.as_str()]) {
            let mut walk = Walk::after(path, &old, &new);
            let rest: Vec<_> = std::iter::from_fn(|| walk.difference(&old, &new))
                .map(|(change, pair)| (change, pair.path().to_owned()))
                .collect();
            let want: Vec<_> = all.iter().filter(|(_, other)| other.as_str() > path).cloned().collect();
            prop_assert_eq!(rest, want, "behind {:?}", path);
        }
    }

    #[test]
    fn a_walk_steps_on_every_path_of_either_side_once(from in models(), to in models()) {
        let (old, new) = (manifest(&from, Settings::default()), manifest(&to, Settings::default()));
        let mut walk = Walk::default();
        let mut steps = Vec::new();
        while let Some(pair) = walk.step(&old, &new) {
            prop_assert_eq!(pair.from.is_some(), from.contains_key(pair.path()));
            prop_assert_eq!(pair.to.is_some(), to.contains_key(pair.path()));
            steps.push(pair.path().to_owned());
        }
        let want: Vec<_> = from.keys().chain(to.keys()).collect::<BTreeSet<_>>().into_iter().cloned().collect();
        prop_assert_eq!(steps, want);
    }
}

#[test]
fn settings_alone_are_a_difference() {
    let model: Model = [("a".to_owned(), (1, 0, false))].into();
    let (old, new) = (
        manifest(&model, Settings::default()),
        manifest(&model, Settings { html: HtmlMode::Auto, ..Settings::default() }),
    );
    let summary = Summary::of(&old, &new);
    assert!(summary.settings_changed && !summary.is_empty());
    assert_eq!((summary.differences(), differences(&old, &new)), (0, vec![]));
    let all = Summary::of(&Nothing, &old);
    assert_eq!((all.added, all.new, all.removed), (Count { files: 1, bytes: 1 }, all.added, Count::default()));
}

/// A side that says no more of its files than a folder can.
#[derive(Debug)]
struct Untold<'m>(&'m Manifest);

impl Content for Untold<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn file(&self, index: usize) -> File<'_> {
        File { content_type: None, hidden: None, size: None, ..self.0.file(index) }
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }
}

#[test]
fn what_is_not_known_is_no_difference() {
    let side = |kind, hidden| manifest(&[("a".to_owned(), (7, kind, hidden))].into(), Settings::default());
    let (one, other) = (side(0, false), side(1, true));
    assert_eq!(differences(&one, &other), [(Change::Served, "a".to_owned())]);
    assert_eq!(differences(&one, &side(0, true)), [(Change::Served, "a".to_owned())]);
    for summary in [Summary::of(&Untold(&one), &other), Summary::of(&one, &Untold(&other))] {
        assert_eq!((summary.differences(), summary.unchanged), (0, Count { files: 1, bytes: 7 }));
    }
    let added = Summary::of(&Nothing, &Untold(&one));
    assert_eq!(added.added, Count { files: 1, bytes: 0 }, "a file counts though nobody knows its size");
}

#[test]
fn two_hundred_thousand_files_are_walked_in_place() {
    let side = |content: &[u8], count: usize| {
        let mut builder = ManifestBuilder::new(Settings::default());
        for number in 0..count {
            let path = SitePath::new(format!("docs/{:03}/page-{number}.html", number % 1000)).unwrap();
            builder.add(path, BlobHash::of(content), 1, "text/html");
        }
        Manifest::open(builder.finish().unwrap().1).unwrap()
    };
    let (old, new) = (side(b"old", 200_000), side(b"new", 100_000));
    let summary = Summary::of(&old, &new);
    assert_eq!((summary.changed_to.files, summary.removed.files), (100_000, 100_000));
    assert_eq!((summary.new, summary.moved), (Count { files: 1, bytes: 1 }, 0));
}

type Files<'f> = &'f [(&'f str, &'f str)];

struct World {
    engine: Engine,
    owner: Principal,
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let engine = Engine::in_memory_with(Clock::manual(UnixMillis(1_700_000_000_000)), limits).await;
        let owner = engine.owner_principal();
        Self { engine, owner }
    }

    async fn image_as(&self, caller: &Principal, project: &str, files: Files<'_>) -> ImageId {
        let new = NewPlan {
            project: project.parse().unwrap(),
            files: planned(files),
            git: None,
            message: None,
            settings: Settings::default(),
        };
        let plan = self.engine.plan(caller, new, None).await.unwrap();
        for missing in &plan.missing {
            let (_, text) = files.iter().find(|(_, text)| BlobHash::of(text.as_bytes()) == missing.hash).unwrap();
            let body = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(text.as_bytes()))]);
            self.engine.upload(caller, plan.id, missing.hash, None, body).await.unwrap();
        }
        let request = CommitRequest { plan: plan.id, message: None, strict: false };
        self.engine.commit(caller, request, None).await.unwrap().image
    }

    async fn image(&self, files: Files<'_>) -> ImageId {
        self.image_as(&self.owner, "demo", files).await
    }

    async fn release(&self, environment: &str, image: ImageId) {
        let request = ReleaseRequest {
            project: "demo".parse().unwrap(),
            environment: environment.parse().unwrap(),
            image: Some(image),
            expected: None,
            message: None,
        };
        self.engine.release(&self.owner, request, None).await.unwrap();
    }

    async fn compare(&self, from: &Version, to: &Version, cursor: Option<&str>) -> Result<Comparison, DiffError> {
        self.engine.compare(&self.owner, &"demo".parse().unwrap(), from, to, cursor).await
    }

    async fn compare_files(
        &self,
        caller: &Principal,
        project: &str,
        files: Files<'_>,
        with: &Version,
    ) -> Result<Comparison, DiffError> {
        let new = NewFiles { files: planned(files), settings: Settings::default(), git: None, message: None };
        self.engine.compare_files(caller, &project.parse().unwrap(), new, Which::To, with, None).await
    }
}

fn planned(files: Files<'_>) -> Vec<PlannedFile> {
    let file = |(path, text): &(&str, &str)| PlannedFile {
        path: SitePath::new(*path).unwrap(),
        blob: BlobHash::of(text.as_bytes()),
        size: Some(text.len() as u64),
        content_type: None,
    };
    files.iter().map(file).collect()
}

fn environment(name: &str) -> Version {
    Version::Environment(name.parse().unwrap())
}

fn stranger() -> Principal {
    Principal::new(UserId::random(), TeamId::random(), "stranger")
}

/// The paths that differ, each with a sign.
fn listed(compared: &Comparison, limit: usize) -> (Vec<String>, Option<String>) {
    let mut walk = compared.walk();
    let mut paths = Vec::new();
    let mut last = None;
    while paths.len() < limit {
        let Some((change, pair)) = compared.next(&mut walk) else { break };
        let sign = match change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Content => '~',
            Change::Served => '=',
        };
        paths.push(format!("{sign}{}", pair.path()));
        last = Some(pair.path());
    }
    let next = last.filter(|_| compared.has_more(walk)).map(|path| compared.cursor(path));
    (paths, next)
}

const OLD: Files<'_> = &[("a", "1"), ("b", "22"), ("c/d", "same"), ("gone", "333"), ("moved/from", "4444")];
const NEW: Files<'_> = &[("a", "1"), ("b", "222"), ("c/d", "same"), ("here", "55555"), ("moved/to", "4444")];

#[tokio::test]
async fn images_and_environments_are_compared() {
    let world = World::new().await;
    let (one, two) = (world.image(OLD).await, world.image(NEW).await);
    world.release("prod", one).await;
    world.release("beta", two).await;
    for (from, to) in [
        (environment("prod"), environment("beta")),
        (Version::Image(one), Version::Image(two)),
        (environment("prod"), Version::Image(two)),
    ] {
        let compared = world.compare(&from, &to, None).await.unwrap();
        assert_eq!((compared.from.image, compared.to.image), (Some(one), Some(two)));
        assert_eq!(compared.missing, None);
        let (paths, next) = listed(&compared, 100);
        assert_eq!(paths, ["~b", "-gone", "+here", "-moved/from", "+moved/to"]);
        assert_eq!(next, None);
        let summary = &compared.summary;
        assert_eq!((summary.moved, summary.unchanged.files), (1, 2));
        assert_eq!(summary.new, Count { files: 2, bytes: 8 }, "what is moved is not sent again");
        assert_eq!((summary.changed_from.bytes, summary.changed_to.bytes), (2, 3));
    }
    let same = world.compare(&environment("prod"), &Version::Image(one), None).await.unwrap();
    assert!(same.summary.is_empty());
    assert_eq!(same.from.environment.as_deref(), Some("prod"));
}

#[tokio::test]
async fn pages_are_of_the_images_that_the_first_one_was_of() {
    let world = World::new().await;
    let (one, two) = (world.image(OLD).await, world.image(NEW).await);
    world.release("prod", one).await;
    world.release("beta", two).await;
    let (prod, beta) = (environment("prod"), environment("beta"));
    let mut paths = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let compared = world.compare(&prod, &beta, cursor.as_deref()).await.unwrap();
        assert_eq!((compared.from.image, compared.to.image), (Some(one), Some(two)));
        assert_eq!(compared.summary.differences(), 5, "every page counts all");
        let (page, next) = listed(&compared, 2);
        paths.extend(page);
        // After each page somebody releases something else.
        let other = world.image(&[("z", "zzz"), ("b", &"x".repeat(paths.len()))]).await;
        world.release("prod", other).await;
        world.release("beta", other).await;
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(paths, ["~b", "-gone", "+here", "-moved/from", "+moved/to"]);

    // A cursor of other images is none of this comparison.
    let error = world.compare(&Version::Image(two), &Version::Image(one), cursor.as_deref()).await.unwrap_err();
    assert!(matches!(error, DiffError::Lookup(LookupError::BadCursor)), "{error:?}");
    for wrong in ["", "a", "-.-.a", "x.y.z"] {
        let error = world.compare(&prod, &beta, Some(wrong)).await.unwrap_err();
        assert!(matches!(error, DiffError::Lookup(LookupError::BadCursor)), "{wrong}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_missing_is_said_with_its_side() {
    let world = World::new().await;
    let one = world.image(OLD).await;
    world.release("prod", one).await;
    let unknown = Version::Image(ImageId::from_bytes([7; 16]));
    let theirs = world.image_as(&stranger(), "theirs", NEW).await;
    let prod = environment("prod");
    let error = async |from: Version, to: Version| format!("{:?}", world.compare(&from, &to, None).await.unwrap_err());
    assert_eq!(error(environment("nowhere"), prod.clone()).await, "From(EnvironmentNotFound)");
    assert_eq!(error(prod.clone(), environment("nowhere")).await, "To(EnvironmentNotFound)");
    assert_eq!(error(unknown.clone(), prod.clone()).await, "From(ImageNotFound)");
    assert_eq!(error(prod.clone(), unknown.clone()).await, "To(ImageNotFound)");
    assert_eq!(error(prod.clone(), Version::Image(theirs)).await, "To(ImageNotFound)");
    let project = "theirs".parse().unwrap();
    let error = world.engine.compare(&world.owner, &project, &prod, &prod, None).await.unwrap_err();
    assert!(matches!(error, DiffError::Lookup(LookupError::ProjectNotFound)), "{error:?}");
}

#[tokio::test]
async fn files_that_nobody_sent_are_compared_and_leave_nothing() {
    let world = World::new().await;
    let prod = environment("prod");
    let compared = world.compare_files(&world.owner, "demo", NEW, &prod).await.unwrap();
    let (paths, _) = listed(&compared, 100);
    assert_eq!(paths, ["+a", "+b", "+c/d", "+here", "+moved/to"], "a project that is not there has no files");
    assert_eq!(compared.missing, Some(Count { files: 5, bytes: 17 }));
    assert_eq!((compared.from.image, compared.from.environment.as_deref()), (None, Some("prod")));
    let project = "demo".parse().unwrap();
    let error = world.engine.environments(&world.owner, &project).await.unwrap_err();
    assert!(matches!(error, LookupError::ProjectNotFound), "no project was made: {error:?}");

    let one = world.image(OLD).await;
    world.release("prod", one).await;
    let compared = world.compare_files(&world.owner, "demo", NEW, &prod).await.unwrap();
    assert_eq!(listed(&compared, 100).0, ["~b", "-gone", "+here", "-moved/from", "+moved/to"]);
    assert_eq!(compared.missing, Some(Count { files: 2, bytes: 8 }));
    // Bytes that the team has from elsewhere are not sent again.
    world.image_as(&world.owner, "other", &[("x", "55555")]).await;
    let compared = world.compare_files(&world.owner, "demo", NEW, &prod).await.unwrap();
    assert_eq!(compared.missing, Some(Count { files: 1, bytes: 3 }));
    assert_eq!(compared.summary.new, Count { files: 2, bytes: 8 }, "though the image does not have them");
    let nowhere = world.compare_files(&world.owner, "demo", NEW, &environment("nowhere")).await.unwrap();
    assert_eq!(nowhere.summary.added.files, 5);

    // What a commit of these files makes is what they were compared as.
    let two = world.image(NEW).await;
    let same = world.compare_files(&world.owner, "demo", NEW, &Version::Image(two)).await.unwrap();
    assert!(same.summary.is_empty() && same.missing == Some(Count::default()), "{:?}", same.summary);
}

#[tokio::test]
async fn another_way_of_serving_the_same_bytes_is_a_change() {
    let world = World::new().await;
    let image = world.image(&[("page", "text")]).await;
    let mut files = planned(&[("page", "text")]);
    files[0].content_type = Some("text/plain".to_owned());
    let new = NewFiles { files, settings: Settings::default(), git: None, message: None };
    let project = "demo".parse().unwrap();
    let with = Version::Image(image);
    let compared = world.engine.compare_files(&world.owner, &project, new, Which::To, &with, None).await.unwrap();
    assert_eq!(listed(&compared, 9).0, ["=page"]);
    assert_eq!((compared.summary.retyped, compared.summary.new.files), (1, 0));
    let mut walk = compared.walk();
    let (_, pair) = compared.next(&mut walk).unwrap();
    assert_eq!(pair.from.unwrap().content_type, Some("application/octet-stream"));
    assert_eq!(pair.to.unwrap().content_type, Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn the_files_can_be_the_old_side_and_come_without_sizes() {
    let world = World::new().await;
    let image = world.image(OLD).await;
    let mut files = planned(NEW);
    files.iter_mut().for_each(|file| file.size = None);
    let new = NewFiles { files, settings: Settings::default(), git: None, message: None };
    let (project, with) = ("demo".parse().unwrap(), Version::Image(image));
    let compared =
        world.engine.compare_files(&world.owner, &project, new.clone(), Which::From, &with, None).await.unwrap();
    let (paths, next) = listed(&compared, 3);
    assert_eq!(paths, ["~b", "+gone", "-here"]);
    assert_eq!(compared.missing, Some(Count { files: 2, bytes: 0 }));
    assert_eq!(compared.summary.changed_to.bytes, 2);
    assert_eq!(compared.summary.unchanged, Count { files: 2, bytes: 5 }, "sizes that the index knows are known");
    let rest = world.engine.compare_files(&world.owner, &project, new, Which::From, &with, next.as_deref()).await;
    assert_eq!(listed(&rest.unwrap(), 9).0, ["+moved/from", "-moved/to"]);
}

#[tokio::test]
async fn another_teams_bytes_are_missing_and_its_project_is_taken() {
    let world = World::new().await;
    let other = stranger();
    world.image_as(&other, "theirs", NEW).await;
    let compared = world.compare_files(&world.owner, "demo", NEW, &environment("prod")).await.unwrap();
    assert_eq!(compared.missing, Some(Count { files: 5, bytes: 17 }), "what others have says nothing");
    let mut walk = compared.walk();
    while let Some((_, pair)) = compared.next(&mut walk) {
        assert_eq!(pair.to.unwrap().content_type, None, "it takes a look at bytes that are others'");
    }
    let error = world.compare_files(&world.owner, "theirs", NEW, &environment("prod")).await.unwrap_err();
    assert!(matches!(error, DiffError::Files(PlanError::ProjectTaken)), "{error:?}");
}

#[tokio::test]
async fn files_that_make_no_plan_make_no_comparison() {
    let world = World::with(Limits { files: 2, file_size: 10, ..Limits::default() }).await;
    let with = environment("prod");
    let error = async |files: Files<'static>| {
        format!("{:?}", world.compare_files(&world.owner, "demo", files, &with).await.unwrap_err())
    };
    assert_eq!(error(&[]).await, "Files(NoFiles)");
    assert_eq!(error(&[("a", ""), ("b", ""), ("c", "")]).await, "Files(TooManyFiles { limit: 2 })");
    assert_eq!(error(&[("a", "01234567890")]).await, "Files(FileTooLarge { limit: 10 })");
    assert!(error(&[("a", "1"), ("a", "2")]).await.starts_with("Files(DuplicatePath"));

    let new = |settings, message| NewFiles { files: planned(&[("a", "1")]), settings, git: None, message };
    let netlify = Settings { profile: Profile::Netlify, ..Settings::default() };
    let project = "demo".parse().unwrap();
    for new in [new(netlify, None), new(Settings::default(), Some("m".repeat(5000)))] {
        let refused = world.engine.compare_files(&world.owner, &project, new, Which::To, &with, None).await;
        assert!(matches!(refused, Err(DiffError::Files(_))), "{refused:?}");
    }
    let image = Version::Image(ImageId::from_bytes([7; 16]));
    let error = world.compare_files(&world.owner, "demo", &[("a", "1")], &image).await.unwrap_err();
    assert!(matches!(error, DiffError::From(LookupError::ImageNotFound)), "{error:?}");
    let unknown = format!("prj_{}", "0".repeat(32));
    let error = world.compare_files(&world.owner, &unknown, &[("a", "1")], &with).await.unwrap_err();
    assert!(matches!(error, DiffError::Lookup(LookupError::ProjectNotFound)), "an id makes no project: {error:?}");
}
