//! Tokens: made, listed, used, ended.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::{Method, StatusCode};
use serde_json::json;

use super::world::{TOKEN, World, hash, plan_of};
use crate::wire;
use crate::wire::account::{Me, TokenItem};

#[tokio::test]
async fn a_token_is_made_shown_once_listed_and_ended() {
    let world = World::new().await;
    world.publish("my-site", &[("index.html", "a")]).await;
    let made = world
        .token_as(
            TOKEN,
            &json!({ "name": " ci ", "scope": "deploy", "project": "my-site", "environment": "prod", "expires_in": 60 }),
        )
        .await;
    assert!(made.token.starts_with("pin_") && made.token.len() == 68, "{}", made.token);
    assert_eq!((&*made.name, &*made.scope), ("ci", "deploy"));
    assert_eq!((made.project.as_deref(), made.environment.as_deref()), (Some("my-site"), Some("prod")));
    assert_eq!(made.created_at, "2023-11-14T22:13:20.000Z");
    assert_eq!(made.expires_at.as_deref(), Some("2023-11-14T22:14:20.000Z"));
    let curl = format!(
        "curl -T site.tar.gz -H 'Authorization: Bearer {}' \
         'http://pages.test:8080/api/v1/deploy/my-site?environment=prod'",
        made.token
    );
    assert_eq!(made.curl, curl);
    let free = world.token_as(TOKEN, &json!({ "name": "look", "scope": "read" })).await;
    assert_eq!((free.project, free.environment, free.expires_at), (None, None, None));
    assert_eq!(free.curl, format!("curl -H 'Authorization: Bearer {}' 'http://pages.test:8080/api/v1/me'", free.token));

    let list = world.get("/tokens").await;
    assert!(!list.text.contains(&made.token) && !list.text.contains(&free.token), "secrets are shown once");
    let list: wire::Page<TokenItem> = list.ok();
    let names: Vec<_> = list.items.iter().map(|token| (&*token.name, &*token.scope, token.session)).collect();
    assert_eq!(names, [("ci", "deploy", false), ("look", "read", false)], "in the order in which they were made");
    assert_eq!((list.items[0].last_used_at.as_ref(), list.items[0].project.as_deref()), (None, Some("my-site")));

    world.clock.advance(Duration::from_secs(5));
    let me: Me = world.get_as(&made.token, "/me").await.ok();
    assert_eq!((me.token.id.as_ref(), &*me.token.scope), (Some(&made.id), "deploy"));
    assert!(me.token.project_id.unwrap().starts_with("prj_") && me.token.environment.as_deref() == Some("prod"));
    let list: wire::Page<TokenItem> = world.get("/tokens").await.ok();
    assert_eq!(list.items[0].last_used_at.as_deref(), Some("2023-11-14T22:13:25.000Z"));

    world.delete(&format!("/tokens/{}", free.id)).await.expect_nothing();
    world.get_as(&free.token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[&free.token]);
    world.delete(&format!("/tokens/{}", free.id)).await.expect_error(StatusCode::NOT_FOUND, "token_not_found", &[]);

    world.clock.advance(Duration::from_secs(54));
    assert_eq!(world.get_as(&made.token, "/me").await.status, StatusCode::OK);
    world.clock.advance(Duration::from_secs(1));
    world.get_as(&made.token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    let list: wire::Page<TokenItem> = world.get("/tokens").await.ok();
    assert!(list.items.is_empty(), "what is over is not listed");
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused() {
    let world = World::new().await;
    let long = "x".repeat(101);
    for (body, status, code) in [
        (json!({ "name": "", "scope": "read" }), StatusCode::BAD_REQUEST, "invalid_name"),
        (json!({ "name": "  ", "scope": "read" }), StatusCode::BAD_REQUEST, "invalid_name"),
        (json!({ "name": "a\u{7}", "scope": "read" }), StatusCode::BAD_REQUEST, "invalid_name"),
        (json!({ "name": long, "scope": "read" }), StatusCode::BAD_REQUEST, "invalid_name"),
        (json!({ "name": "ci", "scope": "secret" }), StatusCode::BAD_REQUEST, "invalid_scope"),
        (json!({ "name": "ci" }), StatusCode::BAD_REQUEST, "invalid_request"),
        (json!({ "name": "ci", "scope": "read", "project": "a--b" }), StatusCode::BAD_REQUEST, "invalid_project"),
        (json!({ "name": "ci", "scope": "read", "project": "nobodys" }), StatusCode::NOT_FOUND, "project_not_found"),
        (json!({ "name": "ci", "scope": "read", "environment": "A" }), StatusCode::BAD_REQUEST, "invalid_environment"),
        (
            json!({ "name": "ci", "scope": "read", "expires_in": 0 }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_lifetime",
        ),
        (
            json!({ "name": "ci", "scope": "read", "expires_in": -1 }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_lifetime",
        ),
        (
            json!({ "name": "ci", "scope": "read", "expires_in": i64::MAX }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_lifetime",
        ),
    ] {
        world.post("/tokens", &body).await.expect_error(status, code, &["secret", &long, "nobodys"]);
    }
    for wrong in ["tok_1", "x", "tok_00000000000000000000000000000000"] {
        let answer = world.delete(&format!("/tokens/{wrong}")).await;
        answer.expect_error(StatusCode::NOT_FOUND, "token_not_found", &["tok_"]);
    }
    let list: wire::Page<TokenItem> = world.get("/tokens").await.ok();
    assert!(list.items.is_empty());
}

#[tokio::test]
async fn tokens_are_bounded_and_those_that_are_over_make_room() {
    let world = World::new().await;
    for number in 0..500 {
        let lifetime = if number < 10 { json!(60) } else { json!(null) };
        let body = json!({ "name": number.to_string(), "scope": "read", "expires_in": lifetime });
        assert_eq!(world.post("/tokens", &body).await.status, StatusCode::CREATED);
    }
    let one_more = json!({ "name": "more", "scope": "read" });
    let refused = world.post("/tokens", &one_more).await;
    refused.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "too_many_tokens", &[]);
    world.clock.advance(Duration::from_secs(60));
    for _ in 0..10 {
        assert_eq!(world.post("/tokens", &one_more).await.status, StatusCode::CREATED);
    }
    assert_eq!(world.post("/tokens", &one_more).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn somebody_elses_token_does_not_exist() {
    let world = World::open().await;
    let (ann, bob) = (world.user("ann@example.test").await, world.user("bob@example.test").await);
    let anns = world.token_as(&ann.token, &json!({ "name": "ci", "scope": "deploy" })).await;
    for token in [&*bob.token, TOKEN] {
        let answer = world.delete_as(token, &format!("/tokens/{}", anns.id)).await;
        answer.expect_error(StatusCode::NOT_FOUND, "token_not_found", &[&anns.id]);
        let list: wire::Page<TokenItem> = world.get_as(token, "/tokens").await.ok();
        assert!(list.items.iter().all(|token| token.id != anns.id));
    }
    assert_eq!(world.get_as(&anns.token, "/me").await.status, StatusCode::OK);
    let list: wire::Page<TokenItem> = world.get_as(&ann.token, "/tokens").await.ok();
    let of_ann: Vec<_> = list.items.iter().map(|token| (&*token.name, token.session, token.current)).collect();
    assert_eq!(of_ann, [("login", true, true), ("ci", false, false)]);
}

/// A body whose end comes after `meanwhile` was done.
fn slow(
    bytes: Vec<u8>,
    meanwhile: impl Future<Output = ()> + Send + 'static,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send + 'static {
    let (first, rest) = (bytes[..1].to_vec(), bytes[1..].to_vec());
    let later = stream::once(async move {
        meanwhile.await;
        Ok(rest.into())
    });
    stream::once(async move { Ok(first.into()) }).chain(later)
}

#[tokio::test]
async fn a_token_that_ends_during_an_upload_takes_the_upload_along() {
    let world = World::new().await;
    let files = [("index.html", "hello")];
    let plan = world.plan("my-site", &files).await;
    let mut frames = Vec::new();
    frames.extend_from_slice(pinstone_engine::hash::BlobHash::of(b"hello").as_bytes());
    frames.extend_from_slice(&5_u32.to_le_bytes());
    frames.extend_from_slice(b"hello");
    let json_plan = plan_of("other-site", &files).to_string().into_bytes();
    let archive = super::archives::tar(&files);
    for (method, path, content_type, body) in [
        (Method::POST, format!("/upload/{}/{}", plan.plan_id, hash("hello")), None, b"hello".to_vec()),
        (Method::POST, format!("/upload/{}", plan.plan_id), Some("application/vnd.pinstone.blobs"), frames),
        (Method::POST, "/plan".to_owned(), Some("application/json"), json_plan),
        (Method::PUT, "/deploy/other-site".to_owned(), None, archive),
        (Method::POST, "/commit".to_owned(), None, json!({ "plan_id": plan.plan_id }).to_string().into_bytes()),
    ] {
        let made = world.token_as(TOKEN, &json!({ "name": "ci", "scope": "deploy" })).await;
        let (engine, owner, id) = (world.engine.clone(), world.engine.owner_principal(), made.id.parse().unwrap());
        let revoked = async move { engine.revoke_token(&owner, id).await.unwrap() };
        let mut call = world.call_as(&made.token, method, &path);
        if let Some(content_type) = content_type {
            call = call.header("content-type", content_type);
        }
        let answer = call.stream(slow(body, revoked)).send().await;
        answer.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[&made.token]);
    }
    let status: wire::PlanStatus = world.get(&format!("/plans/{}", plan.plan_id)).await.ok();
    assert_eq!(status.missing.len(), 1, "nothing of it counts");
    let other = world.get("/history?project=other-site").await;
    other.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
}

#[tokio::test]
async fn another_token_that_ends_during_an_upload_changes_nothing() {
    let world = World::new().await;
    let plan = world.plan("my-site", &[("index.html", "hello")]).await;
    let mine = world.token_as(TOKEN, &json!({ "name": "mine", "scope": "deploy" })).await;
    let other = world.token_as(TOKEN, &json!({ "name": "other", "scope": "deploy" })).await;
    let (engine, owner, id) = (world.engine.clone(), world.engine.owner_principal(), other.id.parse().unwrap());
    let revoked = async move { engine.revoke_token(&owner, id).await.unwrap() };
    let path = format!("/upload/{}/{}", plan.plan_id, hash("hello"));
    let call = world.call_as(&mine.token, Method::POST, &path).stream(slow(b"hello".to_vec(), revoked));
    assert_eq!(call.send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_for_one_project_and_environment_publishes_there_and_nowhere_else() {
    let world = World::new().await;
    world.publish("my-site", &[("index.html", "a")]).await;
    world.publish("other-site", &[("index.html", "b")]).await;
    let body = json!({ "name": "ci", "scope": "deploy", "project": "my-site", "environment": "beta" });
    let token = &*world.token_as(TOKEN, &body).await.token;
    let archive = super::archives::tar(&[("index.html", "new")]);
    let deploy = |path| world.call_as(token, Method::PUT, path).bytes(&archive).send();
    let deployed: wire::DeployAnswer = deploy("/deploy/my-site?environment=beta").await.ok();
    let image = deployed.release.image_id;
    for path in ["/deploy/my-site?environment=prod", "/deploy/other-site", "/deploy/new-site"] {
        deploy(path).await.expect_error(StatusCode::FORBIDDEN, "insufficient_scope", &[]);
    }
    for project in ["other-site", "new-site"] {
        let plan = world.post_as(token, "/plan", &plan_of(project, &[("a", "a")])).await;
        plan.expect_error(StatusCode::FORBIDDEN, "insufficient_scope", &[project]);
        let history = world.get_as(token, &format!("/history?project={project}")).await;
        history.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[project]);
    }
    let release = |environment| json!({ "project": "my-site", "environment": environment, "image_id": image });
    let _: wire::ReleaseAnswer = world.post_as(token, "/release", &release("beta")).await.ok();
    for path in ["/release", "/rollback"] {
        let refused = world.post_as(token, path, &release("prod")).await;
        refused.expect_error(StatusCode::FORBIDDEN, "insufficient_scope", &[]);
    }
    let preview = world.post_as(token, "/preview", &json!({ "project": "my-site", "image_id": image })).await;
    preview.expect_error(StatusCode::FORBIDDEN, "insufficient_scope", &[]);
    let current = world.get_as(token, "/current?project=my-site&environment=prod").await;
    current.expect_error(StatusCode::NOT_FOUND, "environment_not_found", &[]);
    world.get("/projects/new-site").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
}
