//! Previews, pins, and who gets images by their own hosts.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::world::{Answer, World};
use crate::wire;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn put(world: &World, path: &str, body: Option<&Value>) -> Answer {
    let call = world.call(Method::PUT, &format!("/api/v1{path}"));
    match body {
        Some(body) => call.json(&body.to_string()).send().await,
        None => call.send().await,
    }
}

async fn patch(world: &World, path: &str, body: &str) -> Answer {
    world.call(Method::PATCH, &format!("/api/v1{path}")).json(body).send().await
}

#[tokio::test]
async fn a_preview_has_a_url_and_an_end() {
    let world = World::new().await;
    let image = world.publish("my-site", &[("index.html", "one")]).await.image_id;
    // All that the protocol's first client sends.
    let answer = world.post("/preview", &json!({ "project": "my-site", "image_id": image })).await;
    let preview: wire::PreviewItem = answer.ok();
    assert_eq!(preview.slug.len(), 8, "{preview:?}");
    assert_eq!(preview.url, format!("http://my-site--{}.pages.test:8080", preview.slug));
    assert_eq!((&preview.image_id, &*preview.expires_at), (&image, "2023-11-15T22:13:20.000Z"), "a day later");
    assert_eq!((preview.expired, preview.number, &*preview.project), (false, 1, "my-site"));

    let body = json!({ "project": "my-site", "image_id": image, "slug": "pr-7", "expires_in": 90, "message": "look" });
    let named: wire::PreviewItem = world.post("/preview", &body).await.ok();
    assert_eq!((&*named.slug, &*named.expires_at), ("pr-7", "2023-11-14T22:14:50.000Z"));
    assert_eq!(named.url, "http://my-site--pr-7.pages.test:8080");
    let listed: wire::Page<wire::PreviewItem> = world.get("/previews?project=my-site").await.ok();
    let mut slugs = [&*preview.slug, "pr-7"];
    slugs.sort_unstable();
    assert_eq!(listed.items.iter().map(|item| &*item.slug).collect::<Vec<_>>(), slugs);
    let environments = world.get("/environments?project=my-site").await.json();
    let named = environments["items"].as_array().unwrap().iter().find(|item| item["name"] == "pr-7").unwrap();
    assert_eq!(named["expires_at"], "2023-11-14T22:14:50.000Z");
    let releases = world.get("/releases?project=my-site&env=pr-7").await.json();
    assert_eq!(releases["items"][0]["expires_at"], "2023-11-14T22:14:50.000Z");
    assert_eq!(
        (&releases["items"][0]["action"], &releases["items"][0]["message"]),
        (&json!("release"), &json!("look"))
    );
    let current: wire::CurrentAnswer = world.get("/current?project=my-site&env=pr-7").await.ok();
    assert_eq!(current.expires_at.as_deref(), Some("2023-11-14T22:14:50.000Z"));

    world.clock.advance(Duration::from_secs(90));
    let listed: wire::Page<wire::PreviewItem> = world.get("/previews?project=my-site").await.ok();
    assert!(listed.items.iter().any(|item| item.slug == "pr-7" && item.expired), "{listed:?}");
    world.get("/current?project=my-site&env=pr-7").await.expect_error(
        StatusCode::NOT_FOUND,
        "environment_not_found",
        &[],
    );
    let renewed: wire::PreviewItem = world.post("/preview", &body).await.ok();
    assert_eq!((&*renewed.expires_at, renewed.number, renewed.expired), ("2023-11-14T22:16:20.000Z", 2, false));

    assert_eq!(world.delete("/previews/my-site/pr-7").await.status, StatusCode::NO_CONTENT);
    world.delete("/previews/my-site/pr-7").await.expect_error(StatusCode::NOT_FOUND, "preview_not_found", &["pr-7"]);
    world.clock.advance(2 * DAY);
    let listed = world.get("/previews?project=my-site").await.json();
    assert_eq!(listed, json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn a_long_slug_is_cut_and_names_one_preview() {
    let world = World::new().await;
    let image = world.publish("my-site", &[("index.html", "one")]).await.image_id;
    let slug = "feature-redesign-of-the-pricing-page";
    let body = json!({ "project": "my-site", "image_id": image, "slug": slug });
    let first: wire::PreviewItem = world.post("/preview", &body).await.ok();
    assert!(first.slug.starts_with("feature-redesi") && first.slug.len() == 21, "{first:?}");
    let again: wire::PreviewItem = world.post("/preview", &body).await.ok();
    assert_eq!((&again.slug, again.number), (&first.slug, 2));
    assert_eq!(world.delete(&format!("/previews/my-site/{slug}")).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn previews_that_cannot_be() {
    let world = World::new().await;
    let image = world.publish("my-site", &[("index.html", "one")]).await.image_id;
    let release = json!({ "project": "my-site", "environment": "stage" });
    let _: wire::ReleaseAnswer = world.post("/release", &release).await.ok();
    let no_image = format!("img_{}", "0".repeat(32));
    let (bad, not_found, refused) = (StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY);
    for (field, value, status, code) in [
        ("project", json!("nobodys"), not_found, "project_not_found"),
        ("project", json!("../x"), bad, "invalid_project"),
        ("project", json!(null), bad, "project_required"),
        ("image_id", json!(no_image), not_found, "image_not_found"),
        ("image_id", json!("latest"), bad, "invalid_image_id"),
        ("image_id", json!(""), bad, "invalid_image_id"),
        ("image_id", json!(null), bad, "invalid_request"),
        ("slug", json!("Secret"), bad, "invalid_slug"),
        ("slug", json!("../secret"), bad, "invalid_slug"),
        ("slug", json!("i-0123456789abcdef"), bad, "invalid_slug"),
        ("slug", json!("a--b"), bad, "invalid_slug"),
        ("slug", json!("x".repeat(256)), bad, "invalid_slug"),
        ("slug", json!(7), bad, "invalid_request"),
        ("slug", json!("prod"), StatusCode::CONFLICT, "name_is_environment"),
        ("slug", json!("beta"), StatusCode::CONFLICT, "name_is_environment"),
        ("slug", json!("stage"), StatusCode::CONFLICT, "name_is_environment"),
        ("expires_in", json!(0), refused, "invalid_lifetime"),
        ("expires_in", json!(-5), refused, "invalid_lifetime"),
        ("expires_in", json!(30 * 86_400 + 1), refused, "invalid_lifetime"),
        ("expires_in", json!(i64::MAX), refused, "invalid_lifetime"),
        ("expires_in", json!(1.5), bad, "invalid_request"),
        ("expires_in", json!("1h"), bad, "invalid_request"),
        ("message", json!("x".repeat(5000)), refused, "message_too_long"),
    ] {
        let mut body = json!({ "project": "my-site", "image_id": image, "slug": "pr-7", "expires_in": 60 });
        body[field] = value;
        world.post("/preview", &body).await.expect_error(status, code, &["ecret", "0123456789", &no_image]);
    }
    let listed = world.get("/previews?project=my-site").await.json();
    assert_eq!(listed["items"], json!([]));
    world.delete("/previews/my-site/stage").await.expect_error(not_found, "preview_not_found", &[]);
    world.delete("/previews/my-site/i-1").await.expect_error(bad, "invalid_slug", &[]);
    world.get("/previews").await.expect_error(bad, "project_required", &[]);

    let longest = json!({ "project": "my-site", "image_id": image, "slug": "pr-7", "expires_in": 30 * 86_400 });
    let _: wire::PreviewItem = world.post("/preview", &longest).await.ok();
    let release = json!({ "project": "my-site", "environment": "pr-7", "image_id": image });
    world.post("/release", &release).await.expect_error(StatusCode::CONFLICT, "name_is_preview", &["pr-7"]);
    let config = world.get("/config").await.json();
    assert_eq!(config["limits"]["preview_lifetime"], 30 * 86_400);
}

#[tokio::test]
async fn a_key_gives_the_same_preview() {
    let world = World::new().await;
    let image = world.publish("my-site", &[("index.html", "one")]).await.image_id;
    let body = json!({ "project": "my-site", "image_id": image, "expires_in": 60 });
    let first = world.post_with_key("/preview", "key", &body).await;
    let _: wire::PreviewItem = first.ok();
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.post_with_key("/preview", "key", &body).await.text, first.text);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.post_with_key("/preview", "key", &body).await.text, first.text, "also when it is over");
    let other = json!({ "project": "my-site", "image_id": image, "expires_in": 61 });
    let reused = world.post_with_key("/preview", "key", &other).await;
    reused.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", &[]);
    assert_eq!(world.get("/previews?project=my-site").await.json()["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn images_are_pinned_and_let_go() {
    let world = World::new().await;
    let image = world.publish("my-site", &[("index.html", "one")]).await.image_id;
    let path = format!("/images/{image}/pin?project=my-site");
    let before: wire::ImageItem = world.get(&format!("/images/{image}?project=my-site")).await.ok();
    assert!(!before.pinned && before.pin.is_none());
    let host = format!("http://my-site--i-{}.pages.test:8080", &image[4..20]);
    assert_eq!(before.url.as_deref(), Some(&*host), "where it can be seen");

    let pinned: wire::ImageItem = put(&world, &path, Some(&json!({ "message": "for the board" }))).await.ok();
    let pin = pinned.pin.unwrap();
    assert!(pinned.pinned);
    assert_eq!((&*pin.author, &*pin.message, &*pin.created_at), ("owner", "for the board", "2023-11-14T22:13:20.000Z"));
    world.clock.advance(Duration::from_secs(60));
    // Without a body, and with one that says nothing new.
    for body in [None, Some(json!({})), Some(json!({ "message": null }))] {
        let again: wire::ImageItem = put(&world, &path, body.as_ref()).await.ok();
        assert_eq!(again.pin.unwrap().created_at, pin.created_at, "{body:?}");
    }
    let listed: wire::ImagesAnswer = world.get("/images?project=my-site").await.ok();
    assert!(listed.images[0].pinned);

    for _ in 0..2 {
        assert_eq!(world.delete(&path).await.status, StatusCode::NO_CONTENT);
    }
    let after = world.get("/images?project=my-site").await.json();
    assert_eq!((&after["images"][0]["pinned"], after["images"][0].get("pin")), (&json!(false), None));

    let no_image = format!("/images/img_{}/pin?project=my-site", "0".repeat(32));
    put(&world, &no_image, None).await.expect_error(StatusCode::NOT_FOUND, "image_not_found", &[]);
    world.delete(&no_image).await.expect_error(StatusCode::NOT_FOUND, "image_not_found", &[]);
    let nobodys = format!("/images/{image}/pin?project=nobodys");
    put(&world, &nobodys, None).await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    put(&world, &format!("/images/{image}/pin"), None).await.expect_error(
        StatusCode::BAD_REQUEST,
        "project_required",
        &[],
    );
    let long = json!({ "message": "x".repeat(5000) });
    let too_long = put(&world, &path, Some(&long)).await;
    too_long.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "message_too_long", &[]);
    let broken = world.call(Method::PUT, &format!("/api/v1{path}")).json("{").send().await;
    broken.expect_error(StatusCode::BAD_REQUEST, "invalid_json", &[]);
}

#[tokio::test]
async fn who_gets_images_is_set_for_a_project() {
    let world = World::new().await;
    let image = world.publish("my-site", &[("index.html", "one")]).await.image_id;
    let project: wire::ProjectItem = world.get("/projects/my-site").await.ok();
    assert_eq!((&*project.name, &*project.subdomain, &*project.image_hosts), ("my-site", "my-site", "public"));
    assert_eq!(project.created_at, "2023-11-14T22:13:20.000Z");
    for value in ["protected", "off", "off", "public", "off"] {
        let body = json!({ "image_hosts": value, "unknown": 1 }).to_string();
        let changed: wire::ProjectItem = patch(&world, "/projects/my-site", &body).await.ok();
        assert_eq!((changed.image_hosts, changed.id), (value.to_owned(), project.id.clone()));
        let served = world.engine.resolver().pointers().image_hosts("my-site").unwrap().1;
        assert_eq!(served.as_str(), value);
    }
    let unchanged: wire::ProjectItem = patch(&world, &format!("/projects/{}", project.id), "{}").await.ok();
    assert_eq!(unchanged.image_hosts, "off", "what is missing stays");
    let one: wire::ImageItem = world.get(&format!("/images/{image}?project=my-site")).await.ok();
    assert_eq!(one.url, None, "no host to name");
    for wrong in ["secret", "", "Public"] {
        let body = json!({ "image_hosts": wrong }).to_string();
        let refused = patch(&world, "/projects/my-site", &body).await;
        refused.expect_error(StatusCode::BAD_REQUEST, "invalid_image_hosts", &["secret"]);
    }
    patch(&world, "/projects/my-site", "7").await.expect_error(StatusCode::BAD_REQUEST, "invalid_request", &[]);
    patch(&world, "/projects/nobodys", "{}").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    world.get("/projects/nobodys").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    world.get("/projects/a--b").await.expect_error(StatusCode::BAD_REQUEST, "invalid_project", &[]);
}
