//! Asking twice: what a key makes the same, and what is the same without one.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use super::world::{World, plan_of};
use crate::wire;

#[tokio::test]
async fn a_key_gives_the_same_plan() {
    let world = World::new().await;
    let body = plan_of("my-site", &[("a", "a")]);
    let first: wire::PlanAnswer = world.post_with_key("/plan", "key", &body).await.ok();
    let again: wire::PlanAnswer = world.post_with_key("/plan", "key", &body).await.ok();
    let other: wire::PlanAnswer = world.post_with_key("/plan", "another", &body).await.ok();
    assert_eq!(first.plan_id, again.plan_id);
    assert_ne!(first.plan_id, other.plan_id);
    let reused = world.post_with_key("/plan", "key", &plan_of("my-site", &[("a", "b")])).await;
    reused.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", &[]);
}

#[tokio::test]
async fn a_key_of_a_plan_that_went_with_its_project_stands_for_nothing() {
    let world = World::new().await;
    let body = plan_of("my-site", &[("a", "a")]);
    let first: wire::PlanAnswer = world.post_with_key("/plan", "key", &body).await.ok();
    assert_eq!(world.delete("/projects/my-site").await.status, StatusCode::OK);
    // Its rows are removed in the background.
    while world.get(&format!("/plans/{}", first.plan_id)).await.status != StatusCode::NOT_FOUND {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second: wire::PlanAnswer = world.post_with_key("/plan", "key", &body).await.ok();
    assert_ne!(first.plan_id, second.plan_id);
    let again: wire::PlanAnswer = world.post_with_key("/plan", "key", &body).await.ok();
    assert_eq!(again.plan_id, second.plan_id);
}

#[tokio::test]
async fn a_commit_answers_the_same_with_and_without_a_key() {
    let world = World::new().await;
    let plan = world.plan("my-site", &[("a", "a")]).await;
    world.upload(&plan.plan_id, &plan.missing[0].hash, b"a").await;
    let body = json!({ "plan_id": plan.plan_id });
    let first = world.post_with_key("/commit", "key", &body).await;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(first.ok::<wire::CommitAnswer>().committed_at, "2023-11-14T22:13:20.000Z");
    assert_eq!(world.post_with_key("/commit", "key", &body).await.text, first.text);
    assert_eq!(world.post("/commit", &body).await.text, first.text, "a commit is idempotent by its plan");
}

#[tokio::test]
async fn a_key_keeps_a_rollback_from_going_back_twice() {
    let world = World::new().await;
    let mut images = Vec::new();
    for text in ["1", "2", "3"] {
        images.push(world.publish("my-site", &[("a", text)]).await.image_id);
        let _: wire::ReleaseAnswer = world.post("/release", &json!({ "project": "my-site", "env": "prod" })).await.ok();
    }
    let body = json!({ "project": "my-site", "environment": "prod" });
    world.post("/rollback", &body).await.expect_error(StatusCode::BAD_REQUEST, "idempotency_key_required", &[]);
    let first = world.post_with_key("/rollback", "key", &body).await;
    assert_eq!(first.ok::<wire::ReleaseAnswer>().image_id, images[1]);
    assert_eq!(world.post_with_key("/rollback", "key", &body).await.text, first.text);
    let next: wire::ReleaseAnswer = world.post_with_key("/rollback", "another", &body).await.ok();
    assert_eq!(next.image_id, images[0]);
    let last = world.post_with_key("/rollback", "last", &body).await;
    last.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "nothing_to_roll_back_to", &[]);
}

#[tokio::test]
async fn a_release_says_what_it_expects() {
    let world = World::new().await;
    let one = world.publish("my-site", &[("a", "1")]).await.image_id;
    let two = world.publish("my-site", &[("a", "2")]).await.image_id;
    let mut request = json!({ "project": "my-site", "environment": "prod" });
    let mut body = |image: &str, expected: &str| {
        request["image_id"] = json!(image);
        request["expected_image_id"] = json!(expected);
        request.clone()
    };
    let _: wire::ReleaseAnswer = world.post("/release", &body(&one, "")).await.ok();
    for expected in ["", two.as_str()] {
        let refused = world.post("/release", &body(&two, expected)).await;
        refused.expect_error(StatusCode::CONFLICT, "release_conflict", &[&two, &one]);
    }
    let released: wire::ReleaseAnswer = world.post("/release", &body(&two, &one)).await.ok();
    assert_eq!(released.previous_image_id, one);
}

#[tokio::test]
async fn keys_are_checked() {
    let world = World::new().await;
    let body = plan_of("my-site", &[("a", "a")]).to_string();
    let long = "k".repeat(256);
    for keys in [&[""][..], &["a b"], &[&long], &["a", "a"]] {
        let mut call = world.call(Method::POST, "/api/v1/plan").json(&body);
        for key in keys {
            call = call.header("idempotency-key", key);
        }
        call.send().await.expect_error(StatusCode::BAD_REQUEST, "invalid_idempotency_key", &[&long]);
    }
    world.assert_nothing_stored().await;
}
