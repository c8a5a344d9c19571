//! The embedded engine in a data folder: what survives, and what `fsck` says of it.
#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use pinstone_engine::fsck::{self, Kind, Report};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::ImageId;
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::{CommitRequest, ReleaseRequest};
use pinstone_engine::{Engine, OpenOptions};

async fn publish(engine: &Engine, contents: &[&str]) -> ImageId {
    let owner = engine.owner_principal();
    let files = contents.iter().enumerate().map(|(number, content)| PlannedFile {
        path: SitePath::new(format!("{number}.html")).unwrap(),
        blob: BlobHash::of(content.as_bytes()),
        size: None,
        content_type: None,
    });
    let new = NewPlan {
        project: "demo".parse().unwrap(),
        files: files.collect(),
        git: None,
        message: None,
        settings: Settings::default(),
    };
    let plan = engine.plan(&owner, new, None).await.unwrap();
    for content in contents {
        let body = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(content.as_bytes()))]);
        engine.upload(&owner, plan.id, BlobHash::of(content.as_bytes()), None, body).await.unwrap();
    }
    let request = CommitRequest { plan: plan.id, message: None, strict: false };
    let image = engine.commit(&owner, request, None).await.unwrap().image;
    let request = ReleaseRequest {
        project: "demo".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        image: Some(image),
        expected: None,
        message: None,
    };
    engine.release(&owner, request, None).await.unwrap();
    image
}

async fn open(path: &Path) -> Engine {
    Engine::open(OpenOptions::new(path)).await.unwrap()
}

async fn fsck(path: &Path) -> Report {
    fsck::run(path, |_| {}).await.unwrap()
}

fn object(path: &Path, kind: &str, name: &str) -> PathBuf {
    path.join("objects").join(kind).join(&name[..2]).join(name)
}

fn names(report: &Report, kind: Kind, what: &str) -> Vec<String> {
    let found = report.findings.iter().filter(|finding| finding.kind == kind && finding.what == what);
    found.map(|finding| finding.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let engine = open(&path).await;
    let image = publish(&engine, &["one", "two"]).await;
    let token = fs::read_to_string(path.join("owner.token")).unwrap();
    assert!(engine.authenticate(token.trim()).await.unwrap().is_some());
    engine.close().await;
    drop(engine);
    let report = fsck(&path).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.pointers, report.images, report.blobs, report.unreferenced), (1, 1, 2, 0), "{report:?}");

    let engine = open(&path).await;
    let pointer = engine.resolver().pointers().find("demo", "prod").expect("the table is filled at the start");
    assert_eq!(pointer.image, image);
    let second = publish(&engine, &["three"]).await;
    assert_eq!(engine.resolver().pointers().find("demo", "prod").unwrap().image, second);
    engine.close().await;
    drop(engine);

    let rotated = pinstone_engine::data_folder::rotate_owner_token(&path).unwrap();
    let engine = open(&path).await;
    assert!(engine.authenticate(token.trim()).await.unwrap().is_none(), "the old token is nobody's");
    assert!(engine.authenticate(&rotated).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsck_names_what_is_missing_damaged_and_left_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let engine = open(&path).await;
    publish(&engine, &["one", "two", "three", "four"]).await;
    let pointer = engine.resolver().pointers().find("demo", "prod").unwrap();
    engine.close().await;
    drop(engine);

    let blob = |content: &str| BlobHash::of(content.as_bytes()).to_string();
    fs::write(object(&path, "blobs", &blob("one")), "ONE").unwrap();
    fs::write(object(&path, "blobs", &blob("two")), "tw").unwrap();
    fs::remove_file(object(&path, "blobs", &blob("three"))).unwrap();
    let stray = object(&path, "blobs", &blob("stray"));
    fs::write(&stray, "stray").unwrap();
    let stray_manifest = object(&path, "manifests", &blob("stray"));
    fs::write(stray_manifest, "stray").unwrap();
    let report = fsck(&path).await;
    assert!(!report.is_clean());
    let mut damaged = [blob("one"), blob("two")];
    damaged.sort();
    assert_eq!(names(&report, Kind::Damaged, "blob"), damaged);
    assert_eq!(names(&report, Kind::Missing, "blob"), [blob("three")]);
    assert_eq!(names(&report, Kind::Unreferenced, "file").len(), 1);
    assert_eq!(names(&report, Kind::Unreferenced, "manifest").len(), 1);

    let manifest = object(&path, "manifests", &pointer.manifest.to_string());
    let mut bytes = fs::read(&manifest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&manifest, bytes).unwrap();
    assert_eq!(names(&fsck(&path).await, Kind::Damaged, "manifest").len(), 1);
    fs::remove_file(&manifest).unwrap();
    assert_eq!(names(&fsck(&path).await, Kind::Missing, "manifest").len(), 1);
}

/// A disk that is not mounted leaves an empty folder, or none. To begin anew there would lose every site unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_not_made_again() {
    use pinstone_engine::data_folder::OpenError;
    for part in ["meta", "objects"] {
        for is_mount_point in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data");
            let engine = open(&path).await;
            publish(&engine, &["one"]).await;
            engine.close().await;
            drop(engine);
            let away = folder.path().join("away");
            fs::rename(path.join(part), &away).unwrap();
            if is_mount_point {
                fs::create_dir(path.join(part)).unwrap();
            }
            let refused = Engine::open(OpenOptions::new(&path)).await.err().unwrap();
            assert!(matches!(refused, OpenError::MetaGone { .. } | OpenError::StoreGone { .. }), "{part}: {refused}");
            // Once it is mounted again, nothing was lost.
            let _ = fs::remove_dir_all(path.join(part));
            fs::rename(&away, path.join(part)).unwrap();
            assert!(fsck(&path).await.is_clean(), "{part}");
        }
    }
}
