//! What is refused: each with a code, a sentence and a hint, without repeating it, and with nothing stored.

use http::{Method, StatusCode};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::id::{TeamId, UserId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::{Limits, Principal};
use serde_json::{Value, json};

use super::world::{World, hash, plan_of};
use crate::wire;

/// Sends a plan that must be refused, and looks that nothing came of it.
async fn refused_plan(body: &str, status: StatusCode, code: &str, sent: &[&str]) {
    let world = World::new().await;
    world.post_text("/plan", body).await.expect_error(status, code, sent);
    world.assert_nothing_stored().await;
}

async fn refused_path(path: &str) {
    let text = "x";
    refused_plan(
        &plan_of("my-site", &[(path, text)]).to_string(),
        StatusCode::BAD_REQUEST,
        "invalid_path",
        &[&hash(text)],
    )
    .await;
    let mut files = serde_json::Map::new();
    // The map's one leading slash is removed, so that the path itself is what is judged.
    files.insert(format!("/{path}"), json!(hash(text)));
    let body = json!({ "project": "my-site", "files": files }).to_string();
    refused_plan(&body, StatusCode::BAD_REQUEST, "invalid_path", &[&hash(text)]).await;
}

#[tokio::test]
async fn traversal_is_refused() {
    for path in ["../secret", "a/../../secret", "a/..", "..", "./a", "a//b", "a\\..\\b"] {
        refused_path(path).await;
    }
}

#[tokio::test]
async fn absolute_paths_are_refused() {
    refused_path("/etc/passwd").await;
    refused_path("//host/share").await;
}

#[tokio::test]
async fn nul_in_a_path_is_refused() {
    refused_path("index\0.html").await;
}

#[tokio::test]
async fn a_path_of_a_megabyte_is_refused() {
    refused_path(&"a/".repeat(1 << 19)).await;
    refused_path(&"a".repeat(1 << 20)).await;
}

#[tokio::test]
async fn duplicate_paths_in_a_list_are_refused() {
    let body = plan_of("my-site", &[("secret.html", "x"), ("b", "y"), ("secret.html", "x")]).to_string();
    refused_plan(&body, StatusCode::BAD_REQUEST, "duplicate_path", &["secret"]).await;
}

#[tokio::test]
async fn duplicate_paths_in_a_map_are_refused() {
    for (first, second) in [("/secret", "/secret"), ("/secret", "secret")] {
        let body =
            format!(r#"{{"project":"my-site","files":{{"{first}":"{}","{second}":"{}"}}}}"#, hash("x"), hash("y"));
        refused_plan(&body, StatusCode::BAD_REQUEST, "duplicate_path", &["secret"]).await;
    }
}

#[tokio::test]
async fn a_list_is_no_object() {
    let file = json!({ "path": "secret.html", "blake3": hash("x"), "size": 1 });
    let plan = |key: &str, value: Value| {
        let mut plan = json!({ "project": "my-site", "files": [file] });
        plan[key] = value;
        plan.to_string()
    };
    for body in [
        plan("git", json!([null, null, null])),
        plan("settings", json!([null, null])),
        plan("files", json!([["secret.html", hash("x"), null, 1]])),
    ] {
        refused_plan(&body, StatusCode::BAD_REQUEST, "invalid_request", &["secret"]).await;
    }
    let world = World::new().await;
    let answer = world.post_text("/plan", &plan("git", json!({}))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
}

#[tokio::test]
async fn a_hash_that_is_no_hash_is_refused() {
    let short = &hash("x")[1..];
    for text in ["", "../../etc/passwd", short, &format!("{short}g"), &format!("{short}00")] {
        let list = json!({ "project": "my-site", "files": [{ "path": "a", "blake3": text, "size": 1 }] }).to_string();
        let map = json!({ "project": "my-site", "files": { "/a": text } }).to_string();
        for body in [list, map] {
            refused_plan(&body, StatusCode::BAD_REQUEST, "invalid_hash", &["etc", short]).await;
        }
    }
    let world = World::new().await;
    let plan = world.plan("my-site", &[("a", "a")]).await;
    for text in ["x", "..%2f..%2fetc%2fpasswd", short] {
        world.upload(&plan.plan_id, text, b"a").await.expect_error(
            StatusCode::BAD_REQUEST,
            "invalid_hash",
            &["etc", short],
        );
    }
}

#[tokio::test]
async fn sizes_that_are_none_are_refused() {
    for size in ["-1", "1.5", "\"1\"", "null"] {
        let body =
            format!(r#"{{"project":"my-site","files":[{{"path":"a","blake3":"{}","size":{size}}}]}}"#, hash("x"));
        refused_plan(&body, StatusCode::BAD_REQUEST, "invalid_request", &["18446"]).await;
    }
    let body = plan_of("my-site", &[]).to_string();
    refused_plan(&body, StatusCode::UNPROCESSABLE_ENTITY, "no_files", &[]).await;
    for size in ["18446744073709551615", "18446744073709551616", "1e300"] {
        let body =
            format!(r#"{{"project":"my-site","files":[{{"path":"a","blake3":"{}","size":{size}}}]}}"#, hash("x"));
        refused_plan(&body, StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", &["18446"]).await;
    }
}

#[tokio::test]
async fn one_hash_with_two_sizes_is_refused() {
    let file = |path: &str, size: u64| json!({ "path": path, "blake3": hash("x"), "size": size });
    let body = json!({ "project": "my-site", "files": [file("a", 1), file("b", 2)] }).to_string();
    refused_plan(&body, StatusCode::UNPROCESSABLE_ENTITY, "size_conflict", &[&hash("x")]).await;
}

/// One open plan of one file, `page`, that holds `hello`.
async fn with_a_plan() -> (World, wire::PlanAnswer) {
    let world = World::new().await;
    let plan = world.plan("my-site", &[("page", "hello")]).await;
    (world, plan)
}

/// Asserts that the plan's one file is still missing.
async fn still_missing(world: &World, plan: &wire::PlanAnswer) {
    let status: wire::PlanStatus = world.get(&format!("/plans/{}", plan.plan_id)).await.ok();
    assert_eq!(status.missing, [hash("hello")]);
}

#[tokio::test]
async fn a_body_that_does_not_match_its_hash_is_refused() {
    let (world, plan) = with_a_plan().await;
    let answer = world.upload(&plan.plan_id, &hash("hello"), b"hallo").await;
    answer.expect_error(StatusCode::BAD_REQUEST, "hash_mismatch", &[&hash("hello"), &hash("hallo"), &plan.plan_id]);
    still_missing(&world, &plan).await;
}

#[tokio::test]
async fn a_body_longer_or_shorter_than_planned_is_refused() {
    let (world, plan) = with_a_plan().await;
    for text in ["hello!", "hell", ""] {
        let announced = world.upload(&plan.plan_id, &hash("hello"), text.as_bytes()).await;
        announced.expect_error(StatusCode::BAD_REQUEST, "size_mismatch", &[&hash("hello")]);
        let path = format!("/api/v1/upload/{}/{}", plan.plan_id, hash("hello"));
        let in_pieces = world.call(Method::PUT, &path).pieces(&[Some(text.as_bytes())]).send().await;
        in_pieces.expect_error(StatusCode::BAD_REQUEST, "size_mismatch", &[&hash("hello")]);
        still_missing(&world, &plan).await;
    }
}

#[tokio::test]
async fn a_body_larger_than_a_file_may_be_is_refused_before_it_is_read() {
    let limits = Limits { file_size: 10, ..Limits::default() };
    let world = World::with(limits, |_| {}).await;
    let body = json!({ "project": "my-site", "files": { "/page": hash("hello hello") } });
    let plan: wire::MapPlanAnswer = world.post("/plan", &body).await.ok();
    let path = format!("/api/v1/upload/{}/{}", plan.plan_id, hash("hello hello"));
    let announced = world.call(Method::PUT, &path).header("content-length", "11").silence().send().await;
    announced.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", &[]);
    let in_pieces = world.call(Method::PUT, &path).pieces(&[Some(b"hello "), Some(b"hello")]).send().await;
    in_pieces.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", &[]);
}

#[tokio::test]
async fn a_truncated_upload_is_refused() {
    let (world, plan) = with_a_plan().await;
    let path = format!("/api/v1/upload/{}/{}", plan.plan_id, hash("hello"));
    let call = world.call(Method::POST, &path).header("content-length", "5");
    let answer = call.pieces(&[Some(b"hel"), None]).send().await;
    answer.expect_error(StatusCode::BAD_REQUEST, "upload_broken", &[&hash("hello")]);
    still_missing(&world, &plan).await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls_is_given_up() {
    let (world, plan) = with_a_plan().await;
    let path = format!("/api/v1/upload/{}/{}", plan.plan_id, hash("hello"));
    let answer = world.call(Method::POST, &path).header("content-length", "5").silence().send().await;
    answer.expect_error(StatusCode::REQUEST_TIMEOUT, "request_timeout", &[]);
    still_missing(&world, &plan).await;
    let call = world.call(Method::POST, "/api/v1/commit").header("content-type", "application/json");
    call.silence().send().await.expect_error(StatusCode::REQUEST_TIMEOUT, "request_timeout", &[]);
}

#[tokio::test]
async fn an_unknown_plan_is_refused() {
    let world = World::new().await;
    let unknown = format!("plan_{}", "0".repeat(32));
    for plan in [unknown.as_str(), "plan_1", "..%2fx", "img_00000000000000000000000000000000"] {
        let upload = world.upload(plan, &hash("x"), b"x").await;
        upload.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[plan]);
        let commit = world.post("/commit", &json!({ "plan_id": plan })).await;
        commit.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[plan]);
        world.get(&format!("/plans/{plan}")).await.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[plan]);
        world.delete(&format!("/plans/{plan}")).await.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[plan]);
    }
}

#[tokio::test]
async fn what_belongs_to_another_team_does_not_exist() {
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
    let plan_text = plan.to_string();

    let upload = world.upload(&plan_text, &hash("hello"), b"hello").await;
    upload.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[&plan_text]);
    let commit = world.post("/commit", &json!({ "plan_id": plan_text })).await;
    commit.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[&plan_text]);
    let path = format!("/plans/{plan_text}");
    world.get(&path).await.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[&plan_text]);
    world.delete(&path).await.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[&plan_text]);

    world.engine.upload(&other, plan, BlobHash::of(b"hello"), Some(5), bytes).await.unwrap();
    let taken = world.post("/plan", &plan_of("my-site", &[("page", "hello")])).await;
    taken.expect_error(StatusCode::FORBIDDEN, "project_taken", &[]);
    world.assert_nothing_stored().await;
    let release = world.post("/release", &json!({ "project": "my-site", "environment": "prod" })).await;
    release.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    assert_eq!(world.plan("mine", &[("page", "hello")]).await.missing.len(), 1, "their bytes are not ours");
}

#[tokio::test]
async fn a_file_that_the_plan_does_not_have_is_refused() {
    let (world, plan) = with_a_plan().await;
    let answer = world.upload(&plan.plan_id, &hash("other"), b"other").await;
    answer.expect_error(StatusCode::BAD_REQUEST, "blob_not_in_plan", &[&hash("other")]);
    // Nor is it there for a plan that does name it.
    assert_eq!(world.plan("my-site", &[("page", "other")]).await.missing.len(), 1);
}

#[tokio::test]
async fn a_commit_with_something_missing_is_refused() {
    let (world, plan) = with_a_plan().await;
    let answer = world.post("/commit", &json!({ "plan_id": plan.plan_id })).await;
    answer.expect_error(StatusCode::CONFLICT, "missing_blobs", &[&plan.plan_id, &hash("hello")]);
    let images: wire::ImagesAnswer = world.get("/images?project=my-site").await.ok();
    assert_eq!(images.total, 0);
    let release = world.post("/release", &json!({ "project": "my-site", "environment": "prod" })).await;
    release.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "nothing_committed", &[]);
}

#[tokio::test]
async fn a_release_of_another_projects_image_is_refused() {
    let world = World::new().await;
    let image = world.publish("other", &[("a", "a")]).await.image_id;
    world.publish("my-site", &[("b", "b")]).await;
    for call in ["/release", "/rollback"] {
        let body = json!({ "project": "my-site", "environment": "prod", "image_id": image });
        world.post(call, &body).await.expect_error(StatusCode::NOT_FOUND, "image_not_found", &[&image]);
    }
    let current = world.get("/current?project=my-site&environment=prod").await;
    current.expect_error(StatusCode::NOT_FOUND, "environment_not_found", &[]);
    for path in ["", "/files"] {
        let answer = world.get(&format!("/images/{image}{path}?project=my-site")).await;
        answer.expect_error(StatusCode::NOT_FOUND, "image_not_found", &[&image]);
    }
}

#[tokio::test]
async fn more_files_than_the_limit_are_refused() {
    let world = World::with(Limits { files: 2, ..Limits::default() }, |_| {}).await;
    let map = json!({ "project": "my-site", "files": { "1": hash("1"), "2": hash("2"), "3": hash("3") } });
    for body in [plan_of("my-site", &[("1", "1"), ("2", "2"), ("3", "3")]), map] {
        let answer = world.post("/plan", &body).await;
        answer.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "too_many_files", &[]);
        world.assert_nothing_stored().await;
    }
}

#[tokio::test]
async fn deep_json_is_refused() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    refused_plan(&deep(1 << 20), StatusCode::BAD_REQUEST, "json_too_deep", &[]).await;
    let inside = format!(r#"{{"project":"my-site","more":{},"files":{{}}}}"#, deep(16));
    refused_plan(&inside, StatusCode::BAD_REQUEST, "json_too_deep", &[]).await;
    let body = format!(r#"{{"plan_id":"x","more":{}}}"#, deep(1000));
    let world = World::new().await;
    world.post_text("/commit", &body).await.expect_error(StatusCode::BAD_REQUEST, "json_too_deep", &[]);
}

#[tokio::test]
async fn large_json_is_refused() {
    let world = World::with(Limits { plan_size: 1000, ..Limits::default() }, |config| config.json_size = 100).await;
    for (call, size, code) in [("plan", 1001, "plan_too_large"), ("commit", 101, "body_too_large")] {
        let path = format!("/api/v1/{call}");
        let announced = world.call(Method::POST, &path).header("content-length", &size.to_string()).silence();
        announced.send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, code, &[]);
        let (first, rest) = (vec![b' '; size - 1], b"  ");
        let in_pieces = world.call(Method::POST, &path).pieces(&[Some(&first), Some(rest)]);
        in_pieces.send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, code, &[]);
    }
}

#[tokio::test]
async fn json_that_is_none_is_refused() {
    for (body, code) in [
        ("", "invalid_json"),
        ("secret", "invalid_json"),
        (r#"{"project":"my-site""#, "invalid_json"),
        (r#"{"project":"my-site"}"#, "invalid_request"),
        (r#"{"project":["secret"],"files":[]}"#, "invalid_request"),
        (r#"{"project":"my-site","files":"secret"}"#, "invalid_request"),
        (r#"{"project":"my-site","files":[],"message":7}"#, "invalid_request"),
        ("\"secret\"", "invalid_request"),
    ] {
        refused_plan(body, StatusCode::BAD_REQUEST, code, &["secret"]).await;
    }
    let world = World::new().await;
    let call = world.call(Method::POST, "/api/v1/plan").bytes(b"{\"project\":\"\xff\",\"files\":{}}");
    call.send().await.expect_error(StatusCode::BAD_REQUEST, "invalid_json", &[]);
    let call = world.call(Method::POST, "/api/v1/plan").pieces(&[Some(b"{"), None]);
    call.send().await.expect_error(StatusCode::BAD_REQUEST, "upload_broken", &[]);
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    for (name, code) in [
        ("", "project_required"),
        ("se", "invalid_project"),
        ("../secret", "invalid_project"),
        ("Secret", "invalid_project"),
        ("secret-beta", "invalid_project"),
        ("www", "invalid_project"),
    ] {
        let body = plan_of(name, &[("a", "a")]).to_string();
        refused_plan(&body, StatusCode::BAD_REQUEST, code, &["secret", "Secret"]).await;
    }
    let world = World::new().await;
    let image = world.publish("my-site", &[("a", "a")]).await.image_id;
    for (body, code) in [
        (json!({ "environment": "prod" }), "project_required"),
        (json!({ "project": "my-site" }), "environment_required"),
        (json!({ "project": "my-site", "environment": "../secret" }), "invalid_environment"),
        (json!({ "project": "my-site", "environment": "i-secret" }), "invalid_environment"),
        (json!({ "project": "my-site", "environment": "prod", "image_id": "secret" }), "invalid_image_id"),
        (json!({ "project": "my-site", "environment": "prod", "expected_image_id": "secret" }), "invalid_image_id"),
    ] {
        world.post("/release", &body).await.expect_error(StatusCode::BAD_REQUEST, code, &["secret", &image]);
    }
    for (path, code) in [
        ("/history", "project_required"),
        ("/history?project=..%2fsecret", "invalid_project"),
        ("/history?project=my-site&limit=0", "invalid_query"),
        ("/history?project=my-site&limit=secret", "invalid_query"),
        ("/history?project=my-site&project=secret", "invalid_query"),
        ("/history?project=my-site&cursor=secret", "invalid_cursor"),
        ("/releases?project=my-site&cursor=secret", "invalid_cursor"),
        ("/images?project=my-site&page=0", "invalid_query"),
        ("/current?project=my-site&environment=secret..", "invalid_environment"),
    ] {
        world.get(path).await.expect_error(StatusCode::BAD_REQUEST, code, &["secret"]);
    }
    let answer = world.get("/history?project=my-site&limit=100000&unknown=1").await;
    assert_eq!(answer.ok::<Value>()["items"].as_array().map(Vec::len), Some(1), "a large limit is cut");
}

#[tokio::test]
async fn settings_and_messages_out_of_bounds_are_refused() {
    for (key, value) in [("html", "secret"), ("not_found", "secret"), ("profile", "secret"), ("profile", "netlify")] {
        let mut body = plan_of("my-site", &[("a", "a")]);
        body["settings"] = json!({ key: value });
        refused_plan(&body.to_string(), StatusCode::UNPROCESSABLE_ENTITY, "unsupported_setting", &["secret"]).await;
    }
    let mut body = plan_of("my-site", &[("a", "a")]);
    body["message"] = json!("m".repeat(4097));
    refused_plan(&body.to_string(), StatusCode::UNPROCESSABLE_ENTITY, "message_too_long", &["mmm"]).await;
}
