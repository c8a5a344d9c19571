//! Comparisons: two images or environments page by page, and files that nobody has sent yet.

use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{TeamId, UserId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::{Limits, Principal};
use serde_json::{Value, json};

use super::world::{Answer, Call, World, hash, plan_of};
use crate::wire;

const OLD: &[(&str, &str)] = &[("index.html", "one"), ("gone.txt", "gone"), ("kept.css", "p{}"), ("from.txt", "moved")];
const NEW: &[(&str, &str)] = &[("index.html", "three"), ("new.txt", "new"), ("kept.css", "p{}"), ("to.txt", "moved")];

/// A project whose `prod` shows the old site and whose `beta` shows the new one; and both images.
async fn two_sites() -> (World, String, String) {
    let world = World::new().await;
    let old = world.publish("my-site", OLD).await.image_id;
    let new = world.publish("my-site", NEW).await.image_id;
    for (environment, image) in [("prod", &old), ("beta", &new)] {
        release(&world, environment, image).await;
    }
    (world, old, new)
}

async fn release(world: &World, environment: &str, image: &str) {
    let body = json!({ "project": "my-site", "environment": environment, "image_id": image });
    world.post("/release", &body).await.ok::<wire::ReleaseAnswer>();
}

/// A comparison of `files`, which are the new side, with `from`.
fn comparison(files: &[(&str, &str)], from: &str) -> Value {
    let mut body = plan_of("my-site", files);
    body["from"] = json!(from);
    body
}

fn paths(answer: &wire::DiffAnswer) -> Vec<(&str, &str)> {
    answer.items.iter().map(|item| (&*item.change, &*item.path)).collect()
}

#[tokio::test]
async fn two_images_or_environments_are_compared() {
    let (world, old, new) = two_sites().await;
    let want = [
        ("removed", "from.txt"),
        ("removed", "gone.txt"),
        ("changed", "index.html"),
        ("added", "new.txt"),
        ("added", "to.txt"),
    ];
    for (from, to) in [("prod", "beta"), (&*old, &*new), (&*old, "beta")] {
        let answer = world.get(&format!("/diff?project=my-site&from={from}&to={to}")).await;
        assert_eq!(answer.json()["next_cursor"], Value::Null);
        assert!(answer.json().get("missing").is_none(), "both are here: {}", answer.text);
        let diff: wire::DiffAnswer = answer.ok();
        assert_eq!(paths(&diff), want);
        assert_eq!((diff.from.image_id.as_deref(), diff.to.image_id.as_deref()), (Some(&*old), Some(&*new)));
        assert_eq!(diff.from.environment.as_deref(), (from == "prod").then_some("prod"));
        assert_eq!((diff.from.file_count, diff.from.total_size, diff.to.total_size), (4, 15, 16));
        assert_eq!(diff.to.settings.html.as_deref(), Some("keep"));
        let summary = wire::DiffSummary {
            added: 2,
            removed: 2,
            changed: 1,
            unchanged: 1,
            retyped: 0,
            moved: 1,
            added_bytes: 8,
            removed_bytes: 9,
            changed_from_bytes: 3,
            changed_to_bytes: 5,
            unchanged_bytes: 3,
            new_blobs: 2,
            new_bytes: 8,
            settings_changed: false,
        };
        assert_eq!(diff.summary, summary);
    }
    let diff: wire::DiffAnswer = world.get("/diff?project=my-site&from=prod&to=beta").await.ok();
    let html = Some("text/html; charset=utf-8".to_owned());
    let file = |text: &str| {
        let size = Some(text.len() as u64);
        Some(wire::DiffFile { hash: hash(text), size, content_type: html.clone(), hidden: false })
    };
    assert_eq!((&diff.items[2].from, &diff.items[2].to), (&file("one"), &file("three")));
    assert_eq!((&diff.items[3].from, diff.items[0].to.is_none()), (&None, true));

    let same = world.get(&format!("/diff?project=my-site&from={old}&to=prod")).await;
    let same: wire::DiffAnswer = same.ok();
    assert_eq!((same.items.len(), same.summary.unchanged), (0, 4));
}

#[tokio::test]
async fn differences_come_in_pages_of_the_same_two_images() {
    let (world, old, new) = two_sites().await;
    let whole: wire::DiffAnswer = world.get("/diff?project=my-site&from=prod&to=beta").await.ok();
    for limit in [1, 2, 4, 5, 6] {
        let mut items = Vec::new();
        let mut pages = 0;
        let mut next = Some(String::new());
        while let Some(cursor) = next {
            let path = format!("/diff?project=my-site&from=prod&to=beta&limit={limit}&cursor={cursor}");
            let page: wire::DiffAnswer = world.get(&path).await.ok();
            assert!(page.items.len() <= limit, "{limit}");
            assert_eq!(page.summary, whole.summary);
            items.extend(page.items);
            pages += 1;
            // Meanwhile both environments come to show the same.
            release(&world, "prod", &new).await;
            next = page.next_cursor;
        }
        assert_eq!((items, pages), (whole.items.clone(), 5_usize.div_ceil(limit)), "{limit}");
        release(&world, "prod", &old).await;
    }
}

#[tokio::test]
async fn what_a_publish_would_change_and_send() {
    let (world, old, _) = two_sites().await;
    let files = [("index.html", "three"), ("kept.css", "p{}"), ("newer.txt", "newer"), ("again.txt", "newer")];
    let answer = world.post("/diff", &comparison(&files, "prod")).await;
    let diff: wire::DiffAnswer = answer.ok();
    let want = [
        ("added", "again.txt"),
        ("removed", "from.txt"),
        ("removed", "gone.txt"),
        ("changed", "index.html"),
        ("added", "newer.txt"),
    ];
    assert_eq!(paths(&diff), want);
    assert_eq!((diff.missing, diff.missing_bytes), (Some(1), Some(5)), "a hash is sent once, and `three` is there");
    assert_eq!((diff.summary.new_blobs, diff.summary.new_bytes), (2, 10));
    assert_eq!((diff.from.image_id.as_deref(), diff.to.image_id.as_deref()), (Some(&*old), None));
    assert_eq!(answer.json()["to"]["image_id"], Value::Null, "it is there, and null");
    let added = diff.items[0].to.as_ref().unwrap();
    assert_eq!((added.size, added.content_type.as_deref()), (Some(5), None), "nobody has looked at its bytes");
    let changed = diff.items[3].to.as_ref().unwrap();
    assert_eq!(changed.content_type.as_deref(), Some("text/html; charset=utf-8"));

    // The other way round, and in the shape of a map.
    let files = json!({ "/index.html": hash("three"), "kept.css": hash("p{}"), "newer.txt": hash("newer") });
    let body = json!({ "project": "my-site", "files": files, "to": old, "limit": 2 });
    let first: wire::DiffAnswer = world.post("/diff", &body).await.ok();
    assert_eq!(paths(&first), [("added", "from.txt"), ("added", "gone.txt")]);
    assert_eq!((first.missing, first.missing_bytes, first.summary.removed_bytes), (Some(1), Some(0), 0));
    let mut body = body;
    body["cursor"] = json!(first.next_cursor.unwrap());
    let rest: wire::DiffAnswer = world.post("/diff", &body).await.ok();
    assert_eq!(paths(&rest), [("changed", "index.html"), ("removed", "newer.txt")]);
    assert_eq!(rest.items[1].from.as_ref().unwrap().size, None, "nobody has said it");
    assert_eq!(rest.next_cursor, None);
}

#[tokio::test]
async fn a_comparison_leaves_nothing_behind() {
    let world = World::new().await;
    let diff: wire::DiffAnswer = world.post("/diff", &comparison(NEW, "prod")).await.ok();
    assert_eq!((diff.summary.added, diff.missing, diff.missing_bytes), (4, Some(4), Some(16)));
    assert_eq!((diff.from.image_id, diff.from.file_count), (None, 0), "a project that is not there has no files");
    assert_eq!(diff.from.environment.as_deref(), Some("prod"));
    world.assert_nothing_stored().await;

    let (world, _, new) = two_sites().await;
    let before = world.get("/history?project=my-site").await.text;
    let diff: wire::DiffAnswer = world.post("/diff", &comparison(NEW, &new)).await.ok();
    assert_eq!((diff.items.len(), diff.missing), (0, Some(0)));
    assert_eq!(world.get("/history?project=my-site").await.text, before);
    let nothing: wire::DiffAnswer = world.post("/diff", &comparison(NEW, "nowhere")).await.ok();
    assert_eq!((nothing.from.image_id, nothing.summary.added), (None, 4), "a release makes its environment");
    let environments: wire::Page<wire::EnvironmentItem> = world.get("/environments?project=my-site").await.ok();
    assert_eq!(environments.items.len(), 2);
}

#[tokio::test]
async fn an_answer_of_many_pieces_is_one_object() {
    let world = World::new().await;
    let count = 3000;
    let names: Vec<_> = (0..count).map(|number| format!("a/folder/page-{number:05}.html")).collect();
    let old: Vec<_> = names.iter().map(|name| (name.as_str(), "old")).collect();
    let new: Vec<_> = names.iter().map(|name| (name.as_str(), "new")).collect();
    let image = world.publish("my-site", &old).await.image_id;
    let others: Vec<_> = names.iter().map(|name| (name.as_str(), "other")).collect();
    let other = world.publish("my-site", &others).await.image_id;
    let answer = world.post("/diff", &comparison(&new, &image)).await;
    assert!(answer.text.len() > 3 * (128 << 10), "{} bytes", answer.text.len());
    let diff: wire::DiffAnswer = answer.ok();
    assert_eq!((diff.items.len(), diff.summary.changed, diff.missing), (count, count as u64, Some(1)));
    assert!(diff.items.iter().map(|item| &item.path).eq(&names));
    // It is written while it is sent: no piece is much larger than it has to be, however long the answer.
    let post = world.call(Method::POST, "/api/v1/diff").json(&comparison(&new, &image).to_string());
    let get = world.call(Method::GET, &format!("/api/v1/diff?project=my-site&from={image}&to={other}&limit=10000"));
    for call in [post, get] {
        let pieces = call.pieces_of_answer().await;
        assert!(pieces.iter().all(|size| *size < 132 << 10), "{pieces:?}");
        assert!(pieces.iter().sum::<usize>() > 3 * (128 << 10), "{pieces:?}");
    }
    // A limit may be reached in any piece, and at the last difference.
    for limit in [1, 400, count - 1, count, count + 1] {
        let mut body = comparison(&new, &image);
        body["limit"] = json!(limit);
        let cut: wire::DiffAnswer = world.post("/diff", &body).await.ok();
        assert_eq!((cut.items.len(), cut.next_cursor.is_some()), (limit.min(count), limit < count), "{limit}");
    }
    let answer = world.get(&format!("/diff?project=my-site&from={image}&to={image}&limit=10000")).await;
    assert_eq!(answer.ok::<wire::DiffAnswer>().summary.unchanged, count as u64);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_its_side() {
    let (world, old, _) = two_sites().await;
    let unknown = format!("img_{}", "0".repeat(32));
    let elsewhere = world.publish("other", &[("a", "a")]).await.image_id;
    for (from, to, side, code) in [
        ("nowhere", "prod", "`from`", "environment_not_found"),
        ("prod", "nowhere", "`to`", "environment_not_found"),
        (&*unknown, "prod", "`from`", "image_not_found"),
        ("prod", &*unknown, "`to`", "image_not_found"),
        ("prod", &*elsewhere, "`to`", "image_not_found"),
    ] {
        let answer = world.get(&format!("/diff?project=my-site&from={from}&to={to}")).await;
        answer.expect_error(StatusCode::NOT_FOUND, code, &["nowhere", &unknown, &elsewhere]);
        assert!(answer.text.contains(side), "{}", answer.text);
    }
    let answer = world.get("/diff?project=nobodys&from=prod&to=beta").await;
    answer.expect_error(StatusCode::NOT_FOUND, "project_not_found", &["nobodys"]);
    for image in [&unknown, &elsewhere] {
        let answer = world.post("/diff", &comparison(NEW, image)).await;
        answer.expect_error(StatusCode::NOT_FOUND, "image_not_found", &[image]);
    }
    for (query, code) in [
        ("", "side_required"),
        ("&from=prod", "side_required"),
        ("&to=prod&from=", "side_required"),
        ("&from=img_secret&to=prod", "invalid_image_id"),
        ("&from=prod&to=secret..", "invalid_environment"),
        ("&from=prod&to=beta&limit=0", "invalid_query"),
        ("&from=prod&to=beta&cursor=secret", "invalid_cursor"),
        ("&from=prod&to=beta&cursor=-.-.secret", "invalid_cursor"),
        (&format!("&from={old}&to=beta&cursor={0}.{0}.secret", "0".repeat(32)), "invalid_cursor"),
    ] {
        let answer = world.get(&format!("/diff?project=my-site{query}")).await;
        answer.expect_error(StatusCode::BAD_REQUEST, code, &["secret"]);
    }
    let answer = world.get("/diff?from=prod&to=beta").await;
    answer.expect_error(StatusCode::BAD_REQUEST, "project_required", &[]);
}

#[tokio::test]
async fn a_comparison_has_the_limits_of_a_plan() {
    let limits = Limits { files: 3, file_size: 100, plan_size: 1000, ..Limits::default() };
    let world = World::with(limits, |config| config.json_size = 10).await;
    let with = |key: &str, value: Value| {
        let mut body = comparison(&[("a", "a")], "prod");
        body[key] = value;
        body.to_string()
    };
    let file = |path: &str, blake3: &str, size: u64| json!({ "path": path, "blake3": blake3, "size": size });
    let one = |path: &str, blake3: &str, size: u64| with("files", json!([file(path, blake3, size)]));
    let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
    for (body, status, code) in [
        (with("files", json!([])), 422, "no_files"),
        (
            with("files", json!({ "1": hash("1"), "2": hash("2"), "3": hash("3"), "4": hash("4") })),
            422,
            "too_many_files",
        ),
        (one("../a", &hash("a"), 1), 400, "invalid_path"),
        (one("a", "secret", 1), 400, "invalid_hash"),
        (one("a", &hash("a"), 101), 413, "file_too_large"),
        (with("files", json!([file("a", &hash("a"), 1), file("a", &hash("a"), 1)])), 400, "duplicate_path"),
        (with("files", json!([file("a", &hash("a"), 1), file("b", &hash("a"), 2)])), 422, "size_conflict"),
        (with("settings", json!({ "profile": "netlify" })), 422, "unsupported_setting"),
        (with("message", json!("m".repeat(500))), 200, ""),
        (with("project", json!("-secret-")), 400, "invalid_project"),
        (with("project", json!("")), 400, "project_required"),
        (with("from", Value::Null), 400, "side_required"),
        (with("to", json!("beta")), 400, "invalid_request"),
        (with("limit", json!(0)), 400, "invalid_request"),
        (with("cursor", json!("secret")), 400, "invalid_cursor"),
        (with("more", json!("x".repeat(1000))), 413, "plan_too_large"),
        (format!(r#"{{"project":"my-site","more":{deep},"files":{{}}}}"#), 400, "json_too_deep"),
        ("secret".to_owned(), 400, "invalid_json"),
        ("[]".to_owned(), 400, "invalid_request"),
    ] {
        let answer = world.post_text("/diff", &body).await;
        let status = StatusCode::from_u16(status).unwrap();
        if status == StatusCode::OK {
            answer.ok::<wire::DiffAnswer>();
        } else {
            answer.expect_error(status, code, &["secret", "mmm"]);
        }
    }
    let call = world.call(Method::POST, "/api/v1/diff").header("content-length", "1001").silence();
    call.send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "plan_too_large", &[]);
    let call = world.call(Method::POST, "/api/v1/diff").bytes(b"{}").header("content-type", "text/plain");
    call.send().await.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", &[]);
    let call = world.call(Method::POST, "/api/v1/diff").pieces(&[Some(b"{"), None]);
    call.send().await.expect_error(StatusCode::BAD_REQUEST, "upload_broken", &[]);
    world.assert_nothing_stored().await;
}

#[tokio::test(start_paused = true)]
async fn comparisons_and_plans_wait_for_each_other_where_memory_is_short() {
    let limits = Limits { plan_size: 1 << 20, ..Limits::default() };
    let world = World::with(limits, |config| config.plan_memory = 1 << 20).await;
    async fn after(seconds: u64, call: Call<'_>) -> Answer {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        call.send().await
    }
    let body = comparison(&[("a", "a")], "prod").to_string();
    let post = |call: &str| world.call(Method::POST, &format!("/api/v1/{call}"));
    let get = || world.call(Method::GET, "/api/v1/diff?project=my-site&from=prod&to=beta");
    // A comparison whose body does not come holds all memory for its 60 seconds, then a plan does.
    let (first, second, third, fourth, last) = tokio::join!(
        after(0, post("diff").silence()),
        after(30, post("plan").silence()),
        after(45, post("diff").json(&body)),
        after(46, get()),
        after(90, post("diff").json(&body)),
    );
    for held in [first, second] {
        held.expect_error(StatusCode::REQUEST_TIMEOUT, "request_timeout", &[]);
    }
    for refused in [third, fourth] {
        refused.expect_error(StatusCode::SERVICE_UNAVAILABLE, "busy", &[]);
    }
    assert_eq!(last.status, StatusCode::OK, "it got its turn when the plan gave up: {last:?}");
    get().send().await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
}

#[tokio::test]
async fn what_another_team_has_is_neither_compared_nor_told() {
    let world = World::new().await;
    let other = Principal::new(UserId::random(), TeamId::random(), "other");
    let theirs = NewPlan {
        project: "my-site".parse().unwrap(),
        files: vec![PlannedFile {
            path: SitePath::new("page").unwrap(),
            blob: BlobHash::of(b"hello"),
            size: Some(5),
            content_type: None,
        }],
        git: None,
        message: None,
        settings: Settings::default(),
    };
    let plan = world.engine.plan(&other, theirs, None).await.unwrap().id;
    let bytes = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"hello"))]);
    world.engine.upload(&other, plan, BlobHash::of(b"hello"), Some(5), bytes).await.unwrap();

    let taken = world.post("/diff", &comparison(&[("page", "hello")], "prod")).await;
    taken.expect_error(StatusCode::FORBIDDEN, "project_taken", &[]);
    let answer = world.get("/diff?project=my-site&from=prod&to=beta").await;
    answer.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    let mut body = comparison(&[("page", "hello")], "prod");
    body["project"] = json!("mine");
    let mine: wire::DiffAnswer = world.post("/diff", &body).await.ok();
    assert_eq!((mine.missing, mine.missing_bytes), (Some(1), Some(5)), "their bytes are not ours");
}
