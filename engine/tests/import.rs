//! Copies of an image: the same as if each had been published, and nothing else is touched.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use pinstone_engine::blob::BlobStore;
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::fsck;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::ImageId;
use pinstone_engine::import::{Copied, Copies, CopyError};
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::MemoryMeta;
use pinstone_engine::name::{EnvironmentName, ProjectName};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::{CommitRequest, ReleaseRequest};
use pinstone_engine::{Engine, Limits};

const FILES: [(&str, &str); 3] = [("404.html", "gone"), ("index.html", "hello"), ("site.txt", "model\n")];

/// Publishes [`FILES`] as `project`, and releases them to `prod`.
async fn publish(engine: &Engine, project: &str) -> ImageId {
    let owner = engine.owner_principal();
    let files = FILES.map(|(path, content)| PlannedFile {
        path: SitePath::new(path).unwrap(),
        blob: BlobHash::of(content.as_bytes()),
        size: Some(content.len() as u64),
        content_type: None,
    });
    let new = NewPlan {
        project: project.parse().unwrap(),
        files: files.to_vec(),
        git: None,
        message: None,
        settings: Settings::default(),
    };
    let plan = engine.plan(&owner, new, None).await.unwrap();
    for missing in &plan.missing {
        let (_, content) = FILES.iter().find(|(path, _)| *path == missing.path.as_str()).unwrap();
        let body = stream::iter([Ok::<_, Infallible>(Bytes::from_static(content.as_bytes()))]);
        engine.upload(&owner, plan.id, missing.hash, None, body).await.unwrap();
    }
    let commit = CommitRequest { plan: plan.id, message: Some("import".into()), strict: false };
    let image = engine.commit(&owner, commit, None).await.unwrap().image;
    let release = ReleaseRequest {
        project: project.parse().unwrap(),
        environment: EnvironmentName::prod(),
        image: Some(image),
        expected: None,
        message: Some("import".into()),
    };
    engine.release(&owner, release, None).await.unwrap();
    image
}

fn names(names: &[&str]) -> Vec<ProjectName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn copies(image: ImageId, own_file: Option<&str>) -> Copies {
    Copies {
        project: "model".parse().unwrap(),
        image,
        environment: EnvironmentName::prod(),
        own_file: own_file.map(|path| SitePath::new(path).unwrap()),
        message: Some("import".into()),
    }
}

/// An engine in memory whose stores can be checked.
async fn engine() -> (Engine, Arc<MemoryMeta>, BlobStore) {
    let clock = Clock::manual(UnixMillis(1_700_000_000_000));
    let meta = Arc::new(MemoryMeta::new(clock.clone()));
    let blobs = BlobStore::new(Arc::new(object_store::memory::InMemory::new()), Arc::new(MemoryIndex::default()));
    let engine = Engine::assemble(meta.clone(), blobs.clone(), clock, Limits::default(), "pin_test").await.unwrap();
    (engine, meta, blobs)
}

/// The bytes of a file that a host shows.
async fn shown(engine: &Engine, project: &str, path: &str) -> String {
    let resolver = engine.resolver();
    let pointer = resolver.pointers().find(project, "prod").unwrap();
    let manifest = resolver.manifest(&pointer.manifest).await.unwrap();
    match resolver.open_blob(&manifest.get(path).unwrap().blob).await.unwrap() {
        pinstone_engine::blob::BlobSource::Memory(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        pinstone_engine::blob::BlobSource::File(region) => {
            use std::os::unix::fs::FileExt;
            let mut bytes = vec![0; usize::try_from(region.length).unwrap()];
            region.file.read_exact_at(&mut bytes, region.offset).unwrap();
            String::from_utf8(bytes).unwrap()
        }
    }
}

#[tokio::test]
async fn a_copy_is_what_a_publish_makes() {
    let (engine, meta, blobs) = engine().await;
    let owner = engine.owner_principal();
    let image = publish(&engine, "model").await;
    publish(&engine, "there-already").await;
    let mut told = Vec::new();
    let wanted = names(&["copy-1", "there-already", "copy-2", "copy-1"]);
    let copied = engine.copy_to_projects(&owner, &copies(image, None), wanted, |copied| told.push(copied)).await;
    assert_eq!(copied.unwrap(), Copied { made: 2, existing: 2 });
    assert_eq!(told, [Copied { made: 2, existing: 2 }]);

    // Everything that can be asked of the copy is what the model answers, but for the ids and numbers of projects.
    let everything = async |name: &str| {
        let project = name.parse().unwrap();
        let history = engine.history(&owner, &project, None, 10).await.unwrap();
        let releases = engine.releases(&owner, &project, None, None, 10).await.unwrap();
        let environments = engine.environments(&owner, &project).await.unwrap();
        let own_id = format!("{:?}", history.items[0].project);
        format!("{history:?} {releases:?} {environments:?}").replace(&own_id, "ID").replace(name, "NAME")
    };
    assert_eq!(everything("copy-1").await, everything("model").await);
    assert_eq!(shown(&engine, "copy-2", "index.html").await, "hello");

    let again = engine.copy_to_projects(&owner, &copies(image, None), names(&["copy-1", "copy-3"]), |_| {}).await;
    assert_eq!(again.unwrap(), Copied { made: 1, existing: 1 });
    // What is published to a copy later counts on from what the copy has.
    publish(&engine, "copy-1").await;
    let report = fsck::check(&*meta, &blobs, |_| {}).await.unwrap();
    assert!(report.is_clean() && report.unreferenced == 0, "{report:?}");
    assert_eq!((report.pointers, report.images, report.blobs), (5, 5, 3));
}

#[tokio::test]
async fn each_copy_may_have_a_file_of_its_own() {
    let (engine, meta, blobs) = engine().await;
    let owner = engine.owner_principal();
    let image = publish(&engine, "model").await;
    let copies = copies(image, Some("site.txt"));
    let copied = engine.copy_to_projects(&owner, &copies, names(&["copy-1", "copy-2"]), |_| {}).await.unwrap();
    assert_eq!(copied.made, 2);
    for (project, own) in [("model", "model\n"), ("copy-1", "copy-1\n"), ("copy-2", "copy-2\n")] {
        assert_eq!(shown(&engine, project, "site.txt").await, own);
        assert_eq!(shown(&engine, project, "index.html").await, "hello");
    }
    let report = fsck::check(&*meta, &blobs, |_| {}).await.unwrap();
    assert!(report.is_clean() && report.unreferenced == 0, "{report:?}");
    assert_eq!((report.images, report.manifests, report.blobs), (3, 3, 5));
}

#[tokio::test]
async fn what_cannot_be_copied() {
    let (engine, _, _) = engine().await;
    let owner = engine.owner_principal();
    let image = publish(&engine, "model").await;
    let copy = async |copies: &Copies| engine.copy_to_projects(&owner, copies, names(&["copy-1"]), |_| {}).await;
    let unknown = Copies { project: "nobody".parse().unwrap(), ..copies(image, None) };
    assert!(matches!(copy(&unknown).await, Err(CopyError::ProjectNotFound)));
    let unknown = copies(ImageId::from_bytes([7; 16]), None);
    assert!(matches!(copy(&unknown).await, Err(CopyError::ImageNotFound)));
    assert!(matches!(copy(&copies(image, Some("other.txt"))).await, Err(CopyError::NoSuchFile(_))));
    let chatty = Copies { message: Some("x".repeat(5000)), ..copies(image, None) };
    assert!(matches!(copy(&chatty).await, Err(CopyError::MessageTooLong { .. })));
    assert!(engine.resolver().pointers().project("copy-1").is_none());
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn copies_survive_in_a_data_folder() {
    use pinstone_engine::OpenOptions;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let engine = Engine::open(OpenOptions::new(&path)).await.unwrap();
    let owner = engine.owner_principal();
    let image = publish(&engine, "model").await;
    let many: Vec<ProjectName> = (0..1500).map(|number| format!("copy-{number}").parse().unwrap()).collect();
    let copies = copies(image, Some("site.txt"));
    let copied = engine.copy_to_projects(&owner, &copies, many, |_| {}).await.unwrap();
    assert_eq!(copied, Copied { made: 1500, existing: 0 });
    engine.close().await;
    drop(engine);

    let report = fsck::run(&path, |_| {}).await.unwrap();
    assert!(report.is_clean() && report.unreferenced == 0, "{report:?}");
    assert_eq!((report.pointers, report.images, report.blobs), (1501, 1501, 1503));
    let engine = Engine::open(OpenOptions::new(&path)).await.unwrap();
    assert_eq!(shown(&engine, "copy-1499", "site.txt").await, "copy-1499\n");
    engine.close().await;
}
