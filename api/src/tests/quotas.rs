//! What teams use, and the limits that they are held to.

use std::collections::HashMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use pinstone_engine::Limits;
use serde_json::{Value, json};

use super::world::{Answer, TOKEN, World, hash, plan_of};
use crate::wire;

async fn limited(limits: Limits) -> World {
    World::with(limits, |config| config.accounts.registration = pinstone_engine::Registration::Open).await
}

/// Publishes by a token up to the commit.
async fn publish(world: &World, token: &str, project: &str, files: &[(&str, &str)]) -> Answer {
    let plan = world.post_as(token, "/plan", &plan_of(project, files)).await;
    if plan.status != StatusCode::OK {
        return plan;
    }
    let plan: wire::PlanAnswer = plan.ok();
    for missing in &plan.missing {
        let (_, text) = files.iter().find(|(_, text)| hash(text) == missing.hash).unwrap();
        let path = format!("/upload/{}/{}", plan.plan_id, missing.hash);
        assert_eq!(
            world.call_as(token, Method::POST, &path).bytes(text.as_bytes()).send().await.status,
            StatusCode::OK
        );
    }
    world.post_as(token, "/commit", &json!({ "plan_id": plan.plan_id })).await
}

async fn usage(world: &World, token: &str) -> (u64, u64, HashMap<String, (u64, u64)>) {
    let usage: wire::Usage = world.get_as(token, "/usage").await.ok();
    let items = usage.items.into_iter().map(|item| (item.project, (item.images, item.stored_bytes))).collect();
    (usage.projects.unwrap(), usage.stored_bytes.unwrap(), items)
}

fn of(items: &[(&str, u64, u64)]) -> HashMap<String, (u64, u64)> {
    items.iter().map(|(name, images, bytes)| ((*name).to_owned(), (*images, *bytes))).collect()
}

#[tokio::test]
async fn shared_files_are_counted_once_a_project_and_once_a_team() {
    let world = limited(Limits::default()).await;
    let (ann, bob) = (world.user("ann@example.test").await.token, world.user("bob@example.test").await.token);
    assert_eq!(usage(&world, &ann).await, (0, 0, of(&[])));
    publish(&world, &ann, "one", &[("a", "1234"), ("b", "1234"), ("c", "123456")]).await.ok::<wire::CommitAnswer>();
    assert_eq!(usage(&world, &ann).await, (1, 10, of(&[("one", 1, 10)])));
    // The same again is the same image; one file more is that file more.
    publish(&world, &ann, "one", &[("a", "1234"), ("b", "1234"), ("c", "123456")]).await.ok::<wire::CommitAnswer>();
    publish(&world, &ann, "one", &[("a", "1234"), ("d", "12")]).await.ok::<wire::CommitAnswer>();
    publish(&world, &ann, "two", &[("a", "1234"), ("e", "12345678")]).await.ok::<wire::CommitAnswer>();
    let want = (2, 20, of(&[("one", 2, 12), ("two", 1, 12)]));
    assert_eq!(usage(&world, &ann).await, want);
    // What others have is theirs, also where it is stored once.
    publish(&world, &bob, "bobs", &[("a", "1234")]).await.ok::<wire::CommitAnswer>();
    assert_eq!(usage(&world, &bob).await, (1, 4, of(&[("bobs", 1, 4)])));
    assert_eq!(usage(&world, &ann).await, want);

    let one: wire::Usage = world.get_as(&ann, "/usage?project=one").await.ok();
    assert_eq!((one.items.len(), one.items[0].stored_bytes, one.limits.stored_bytes), (1, 12, None));
    world.get_as(&bob, "/usage?project=one").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &["one"]);
    let ci = world.token_as(&ann, &json!({ "name": "ci", "scope": "read", "project": "one" })).await.token;
    let seen: wire::Usage = world.get_as(&ci, "/usage").await.ok();
    assert_eq!((seen.projects, seen.stored_bytes, seen.items.len()), (None, None, 1));

    // Of a project that is gone, only what others have too is still counted.
    world.delete_as(&ann, "/projects/one").await.ok::<wire::ProjectDeleted>();
    assert_eq!(usage(&world, &ann).await, (1, 12, of(&[("two", 1, 12)])));
    publish(&world, &ann, "two", &[("c", "123456")]).await.ok::<wire::CommitAnswer>();
    assert_eq!(usage(&world, &ann).await, (1, 18, of(&[("two", 2, 18)])));
}

#[tokio::test]
async fn a_team_has_at_most_so_many_projects() {
    let world = limited(Limits { team_projects: 2, ..Limits::default() }).await;
    let (ann, bob) = (world.user("ann@example.test").await.token, world.user("bob@example.test").await.token);
    for project in ["one", "two"] {
        publish(&world, &ann, project, &[("a", "a")]).await.ok::<wire::CommitAnswer>();
    }
    let refused = publish(&world, &ann, "three", &[("a", "a")]).await;
    refused.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "project_quota", &["three"]);
    let refused = world.post_as(&ann, "/projects", &json!({ "name": "three" })).await;
    refused.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "project_quota", &["three"]);
    publish(&world, &ann, "two", &[("a", "b")]).await.ok::<wire::CommitAnswer>();
    publish(&world, &bob, "three", &[("a", "a")]).await.ok::<wire::CommitAnswer>();
    world.delete_as(&ann, "/projects/one").await.ok::<wire::ProjectDeleted>();
    publish(&world, &ann, "four", &[("a", "a")]).await.ok::<wire::CommitAnswer>();
    let usage: wire::Usage = world.get_as(&ann, "/usage").await.ok();
    assert_eq!((usage.projects, usage.limits.projects), (Some(2), Some(2)));
}

#[tokio::test]
async fn a_publish_is_at_most_so_large() {
    let world = World::with(Limits { publish_size: 10, ..Limits::default() }, |_| {}).await;
    world.publish("my-site", &[("a", "12345"), ("b", "67890")]).await;
    let refused = world.post("/plan", &plan_of("my-site", &[("a", "12345"), ("b", "678901")])).await;
    refused.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "publish_too_large", &[]);
    // Where sizes are not announced, what was counted says it.
    let files: Value = json!({ "a": hash("12345"), "b": hash("678901") });
    let plan: wire::MapPlanAnswer = world.post("/plan", &json!({ "project": "my-site", "files": files })).await.ok();
    assert_eq!(world.upload(&plan.plan_id, &hash("678901"), b"678901").await.status, StatusCode::OK);
    let refused = world.post("/commit", &json!({ "plan_id": plan.plan_id })).await;
    refused.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "publish_too_large", &[]);
    let archive = super::archives::tar(&[("a", "12345"), ("b", "678901")]);
    let refused = world.call(Method::PUT, "/api/v1/deploy/my-site").bytes(&archive).send().await;
    refused.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "publish_too_large", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_at_once_never_exceed_a_limit_together() {
    // One byte less than what all of them need, where 12 publishes of 5 bytes go into 4 projects.
    let world = Arc::new(limited(Limits { team_bytes: 59, ..Limits::default() }).await);
    let publishes: Vec<_> = (0..12)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let (project, text) = (format!("site-{}", number % 4), format!("{number:05}"));
                publish(&world, TOKEN, &project, &[("index.html", &text)]).await
            })
        })
        .collect();
    let (mut done, mut refused) = (Vec::new(), 0);
    for (number, publish) in publishes.into_iter().enumerate() {
        let answer = publish.await.unwrap();
        if answer.status == StatusCode::OK {
            done.push(number);
        } else {
            answer.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "storage_quota", &[]);
            refused += 1;
        }
    }
    assert_eq!((done.len(), refused), (11, 1));
    let (projects, bytes, items) = usage(&world, TOKEN).await;
    assert_eq!((projects, bytes), (4, 55));
    assert_eq!(items.values().map(|(images, _)| images).sum::<u64>(), 11);
    // What the team has already costs nothing, also at the limit and in another project.
    let there = format!("{:05}", done[0]);
    publish(&world, TOKEN, "site-0", &[("new.html", &there)]).await.ok::<wire::CommitAnswer>();
    assert_eq!(usage(&world, TOKEN).await.1, 55);
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_made_at_once_never_exceed_a_limit_together() {
    let world = Arc::new(limited(Limits { team_projects: 7, ..Limits::default() }).await);
    let made: Vec<_> = (0..8)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(
                async move { world.post("/projects", &json!({ "name": format!("site-{number}") })).await.status },
            )
        })
        .collect();
    let mut refused = 0;
    for made in made {
        refused += u32::from(made.await.unwrap() == StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(refused, 1);
    let usage: wire::Usage = world.get("/usage").await.ok();
    assert_eq!((usage.projects, usage.items.len()), (Some(7), 7));
}
