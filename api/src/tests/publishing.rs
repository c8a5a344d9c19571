//! What works: both shapes of a plan, uploads, commits, releases, and reading it all back.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{World, hash, plan_of};
use crate::wire;

const SITE: &[(&str, &str)] =
    &[("index.html", "<h1>hello</h1>"), ("a/empty.txt", ""), ("b/copy.html", "<h1>hello</h1>")];

#[tokio::test]
async fn a_site_goes_from_a_list_of_files_to_an_environment() {
    let world = World::new().await;
    let mut request = plan_of("my-site", SITE);
    request["git"] = json!({ "commit": "c0ffee", "branch": "main", "message": "subject" });
    request["message"] = json!("first");
    request["settings"] = json!({ "html": "keep", "not_found": "404-page", "profile": "native" });
    let answer = world.post("/plan", &request).await;
    let plan: wire::PlanAnswer = answer.ok();
    assert_eq!((plan.upload_mode.as_str(), plan.files_count, plan.reusable), ("direct", 3, 1));
    assert_eq!((plan.total_size, plan.missing_bytes), (28, 14));
    let missing: Vec<_> = plan.missing.iter().map(|blob| (blob.path.as_str(), blob.size)).collect();
    assert_eq!(missing, [("a/empty.txt", 0), ("b/copy.html", 14)], "each hash once, with its first path");
    let url = format!("http://pages.test:8080/api/v1/upload/{}/{}", plan.plan_id, hash(""));
    assert_eq!(plan.missing[0].upload_url, url);
    assert_eq!(plan.expires_at, "2023-11-15T22:13:20.000Z");
    assert!(plan.warnings.is_empty());

    // The empty file comes without a length and without a body.
    let empty = world.call(Method::POST, &format!("/api/v1/upload/{}/{}", plan.plan_id, hash(""))).send().await;
    assert_eq!(empty.ok::<wire::UploadAnswer>().size, 0);
    for _ in 0..2 {
        let again = world.upload(&plan.plan_id, &hash("<h1>hello</h1>"), b"<h1>hello</h1>").await;
        let stored: wire::UploadAnswer = again.ok();
        assert_eq!((stored.hash, stored.size), (hash("<h1>hello</h1>"), 14), "a blob that is there is taken again");
    }
    let status: wire::PlanStatus = world.get(&format!("/plans/{}", plan.plan_id)).await.ok();
    assert_eq!((status.status.as_str(), status.missing.len(), status.image_id), ("open", 0, None));

    let commit: wire::CommitAnswer = world.post("/commit", &json!({ "plan_id": plan.plan_id })).await.ok();
    assert_eq!((commit.files_count, commit.total_size, commit.new_image), (3, 28, true));
    assert_eq!(commit.content_hash, plan.content_hash);
    assert_eq!(commit.created_at, "2023-11-14T22:13:20.000Z");
    let status: wire::PlanStatus = world.get(&format!("/plans/{}", plan.plan_id)).await.ok();
    assert_eq!((status.status.as_str(), status.image_id.as_deref()), ("committed", Some(&*commit.image_id)));

    let release =
        json!({ "project": "my-site", "environment": "beta", "image_id": commit.image_id, "message": "look" });
    let released: wire::ReleaseAnswer = world.post("/release", &release).await.ok();
    assert_eq!(released.url, "http://my-site-beta.pages.test:8080");
    assert_eq!((released.project.as_str(), released.environment.as_str()), ("my-site", "beta"));
    assert_eq!((released.previous_image_id.as_str(), released.number, released.changed), ("", 1, true));
    assert_eq!(released.action, "release");

    let current: wire::CurrentAnswer = world.get("/current?project=my-site&env=beta").await.ok();
    assert_eq!((current.image_id, current.file_count, current.number), (commit.image_id.clone(), 3, 1));
    assert_eq!((current.url, current.message), (released.url, "look".to_owned()));
    let history: wire::Page<wire::HistoryItem> = world.get("/history?project=my-site&limit=1").await.ok();
    let item = &history.items[0];
    assert_eq!((item.git_commit.as_deref(), item.git_message.as_deref()), (Some("c0ffee"), Some("subject")));
    assert_eq!((item.message.as_deref(), &item.deployed_to[..]), (Some("first"), &["beta".to_owned()][..]));
}

#[tokio::test]
async fn a_map_of_paths_is_answered_in_its_own_shape() {
    let world = World::new().await;
    let files = json!({ "/index.html": hash("one"), "about.html": hash("two") });
    let answer = world.post("/plan", &json!({ "project": "my-site", "files": files })).await;
    let plan: wire::MapPlanAnswer = answer.ok();
    assert_eq!(plan.missing, [hash("two"), hash("one")], "in the order of paths");
    for hash in &plan.missing {
        let url = &plan.upload_urls[hash];
        let path = url.strip_prefix("http://pages.test:8080").unwrap();
        let text = if *hash == super::world::hash("one") { "one" } else { "two" };
        assert_eq!(world.call(Method::PUT, path).bytes(text.as_bytes()).send().await.status, StatusCode::OK);
    }
    let commit: wire::CommitAnswer = world.post("/commit", &json!({ "plan_id": plan.plan_id })).await.ok();
    let files: wire::Page<wire::ImageFile> =
        world.get(&format!("/images/{}/files?project=my-site", commit.image_id)).await.ok();
    assert_eq!(files.items.iter().map(|file| &*file.path).collect::<Vec<_>>(), ["about.html", "index.html"]);
    assert_eq!((files.items[1].size, &*files.items[1].content_type), (3, "text/html; charset=utf-8"));
}

#[tokio::test]
async fn lists_are_never_null() {
    let world = World::new().await;
    world.publish("my-site", SITE).await;
    let again = world.post("/plan", &plan_of("my-site", SITE)).await;
    assert_eq!(again.json()["missing"], json!([]));
    for path in ["/environments", "/releases"] {
        let answer = world.get(&format!("{path}?project=my-site")).await;
        assert_eq!(answer.json(), json!({ "items": [], "next_cursor": null }), "{path}");
    }
}

#[tokio::test]
async fn paths_that_differ_in_case_are_allowed_and_warned_about() {
    let world = World::new().await;
    let plan = world.plan("my-site", &[("a/Readme", "x"), ("a/README", "y")]).await;
    assert_eq!(plan.files_count, 2);
    let warning = plan.warnings.iter().find(|warning| warning.code == "case_collision").unwrap();
    assert_eq!(warning.severity, "warning");
    assert!(warning.message.contains("a/README") && warning.message.contains("a/Readme"), "{}", warning.message);
}

#[tokio::test]
async fn environments_move_forth_and_back_and_away() {
    let world = World::new().await;
    let one = world.publish("my-site", &[("index.html", "one")]).await.image_id;
    let two = world.publish("my-site", &[("index.html", "two")]).await.image_id;
    let environment = json!({ "project": "my-site", "environment": "prod" });
    let with = |key: &str, value: &str| {
        let mut body = environment.clone();
        body[key] = json!(value);
        body
    };
    let first: wire::ReleaseAnswer = world.post("/release", &with("image_id", &one)).await.ok();
    assert_eq!((first.url.as_str(), first.previous_image_id.as_str()), ("http://my-site.pages.test:8080", ""));
    let latest: wire::ReleaseAnswer = world.post("/release", &environment).await.ok();
    assert_eq!((&latest.image_id, &latest.previous_image_id), (&two, &one), "without an image, the latest commit's");
    let same: wire::ReleaseAnswer = world.post("/release", &with("image_id", &two)).await.ok();
    assert_eq!((same.changed, same.number), (false, 2));

    let back: wire::ReleaseAnswer = world.post("/rollback", &with("image_id", &one)).await.ok();
    assert_eq!((back.action.as_str(), &back.image_id, &back.previous_image_id), ("rollback", &one, &two));
    let releases: wire::Page<wire::ReleaseItem> =
        world.get("/releases?project=my-site&environment=prod&limit=2").await.ok();
    let numbers: Vec<_> = releases.items.iter().map(|release| (release.number, &*release.action)).collect();
    assert_eq!(numbers, [(3, "rollback"), (2, "release")]);
    let cursor = releases.next_cursor.unwrap();
    let rest: wire::Page<wire::ReleaseItem> =
        world.get(&format!("/releases?project=my-site&environment=prod&limit=2&cursor={cursor}")).await.ok();
    assert_eq!((rest.items.len(), rest.items[0].number, rest.next_cursor), (1, 1, None));

    let environments: wire::Page<wire::EnvironmentItem> = world.get("/environments?project=my-site").await.ok();
    assert_eq!((&*environments.items[0].name, &environments.items[0].image_id), ("prod", &one));
    assert_eq!(environments.items[0].url, "http://my-site.pages.test:8080");
    assert_eq!(world.delete("/environments/my-site/prod").await.status, StatusCode::NO_CONTENT);
    world.get("/current?project=my-site").await.expect_error(StatusCode::NOT_FOUND, "environment_not_found", &[]);
    world.delete("/environments/my-site/prod").await.expect_error(StatusCode::NOT_FOUND, "environment_not_found", &[]);
}

#[tokio::test]
async fn images_and_files_come_in_pages() {
    let world = World::new().await;
    let mut images = Vec::new();
    for text in ["1", "2", "3"] {
        images.push(world.publish("my-site", &[("a", text), ("b", "b"), ("c/d", "d")]).await.image_id);
    }
    let page: wire::ImagesAnswer = world.get("/images?project=my-site&limit=2&page=2").await.ok();
    assert_eq!((page.total, page.images.len(), &page.images[0].id), (3, 1, &images[0]), "newest first");
    let one: wire::ImageItem = world.get(&format!("/images/{}?project=my-site", images[1])).await.ok();
    assert_eq!((&one.image_id, one.file_count), (&images[1], 3));
    let by_id: wire::ImagesAnswer = world.get(&format!("/images?project_id={}", one.project_id)).await.ok();
    assert_eq!(by_id.total, 3, "a project's id names it too");

    let files = format!("/images/{}/files?project=my-site&limit=2", images[0]);
    let page: wire::Page<wire::ImageFile> = world.get(&files).await.ok();
    assert_eq!(page.items.iter().map(|file| &*file.path).collect::<Vec<_>>(), ["a", "b"]);
    let next = format!("{files}&cursor={}", page.next_cursor.unwrap());
    let page: wire::Page<wire::ImageFile> = world.get(&next).await.ok();
    assert_eq!((&*page.items[0].path, page.next_cursor), ("c/d", None));

    let first: wire::Page<wire::HistoryItem> = world.get("/history?project=my-site&limit=2").await.ok();
    let rest = format!("/history?project=my-site&limit=2&cursor={}", first.next_cursor.unwrap());
    let rest: wire::Page<wire::HistoryItem> = world.get(&rest).await.ok();
    assert_eq!((&first.items[0].image_id, &rest.items[0].image_id), (&images[2], &images[0]));
}

#[tokio::test]
async fn a_plan_can_be_given_up() {
    let world = World::new().await;
    let plan = world.plan("my-site", SITE).await;
    assert_eq!(world.delete(&format!("/plans/{}", plan.plan_id)).await.status, StatusCode::NO_CONTENT);
    let status: wire::PlanStatus = world.get(&format!("/plans/{}", plan.plan_id)).await.ok();
    assert_eq!(status.status, "expired");
    let commit = world.post("/commit", &json!({ "plan_id": plan.plan_id })).await;
    commit.expect_error(StatusCode::GONE, "plan_over", &[&plan.plan_id]);
    let upload = world.upload(&plan.plan_id, &plan.missing[0].hash, b"").await;
    upload.expect_error(StatusCode::GONE, "plan_over", &[&plan.plan_id]);
}

#[tokio::test]
async fn anybody_may_ask_how_the_server_is_and_what_it_takes() {
    let world = World::new().await;
    let health: wire::Health = world.stranger(Method::GET, "/api/v1/health").send().await.ok();
    assert_eq!((&*health.status, &*health.database, &*health.storage), ("healthy", "ok", "ok"));
    assert_eq!(health.version, "1.2.3");
    let config: Value = world.stranger(Method::GET, "/api/v1/config").send().await.ok();
    assert_eq!(config["domain"], "pages.test:8080");
    assert_eq!(config["limits"]["files"], 200_000);
    assert_eq!((&config["is_demo"], &config["registration"]), (&json!(false), &json!("closed")));
}

#[tokio::test]
async fn every_html_and_not_found_mode_is_taken() {
    let world = World::new().await;
    let mut seen = Vec::new();
    for html in ["keep", "auto", "none", "drop-slash", "force-slash"] {
        for not_found in ["404-page", "spa"] {
            let mut request = plan_of("my-site", SITE);
            request["settings"] = json!({ "html": html, "not_found": not_found });
            let plan: wire::PlanAnswer = world.post("/plan", &request).await.ok();
            assert!(!seen.contains(&plan.content_hash), "{html} {not_found}: settings are part of the content");
            seen.push(plan.content_hash);
        }
    }
}

#[tokio::test]
async fn clients_that_commit_only_uploads_are_made_to_commit_what_is_not_the_newest() {
    let world = World::new().await;
    let (one, two) = ([("a.html", "one"), ("b.html", "")], [("a.html", "two"), ("b.html", "")]);
    let planned = |files: &[(&str, &str)], with_sha256: bool| {
        let mut plan = plan_of("my-site", files);
        for file in plan["files"].as_array_mut().unwrap() {
            if with_sha256 {
                file["sha256"] = json!("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
            }
        }
        plan
    };
    for files in [&one, &two] {
        world.publish("my-site", files).await;
    }
    for (files, with_sha256, want) in [
        (&one, true, vec!["b.html"]), // there, and not the newest: the smallest file is asked for again
        (&one, false, vec![]),
        (&two, true, vec![]),
        (&two, false, vec![]),
    ] {
        let plan: wire::PlanAnswer = world.post("/plan", &planned(files, with_sha256)).await.ok();
        let missing: Vec<_> = plan.missing.iter().map(|file| file.path.as_str()).collect();
        assert_eq!((&missing, plan.reusable), (&want, 2 - want.len() as u64), "{files:?}, {with_sha256}");
    }
    let plan: wire::PlanAnswer = world.post("/plan", &planned(&one, true)).await.ok();
    assert_eq!(world.upload(&plan.plan_id, &plan.missing[0].hash, b"").await.status, StatusCode::OK);
    world.post("/commit", &json!({ "plan_id": plan.plan_id })).await.ok::<wire::CommitAnswer>();
    let plan: wire::PlanAnswer = world.post("/plan", &planned(&one, true)).await.ok();
    assert!(plan.missing.is_empty(), "it is the newest now");
}
