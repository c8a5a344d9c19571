//! Projects as a whole: made, listed, renamed, deleted, and which names can be had.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::projects::{FORMER_NAME, MOST_FORMER_NAMES};
use serde_json::{Value, json};

use super::world::{Answer, World, plan_of};
use crate::wire::{self, ProjectItem};

async fn patch(world: &World, token: &str, project: &str, body: &Value) -> Answer {
    world.call_as(token, Method::PATCH, &format!("/projects/{project}")).json(&body.to_string()).send().await
}

async fn rename(world: &World, token: &str, project: &str, name: &str) -> Answer {
    patch(world, token, project, &json!({ "name": name })).await
}

async fn create(world: &World, token: &str, name: &str) -> Answer {
    world.post_as(token, "/projects", &json!({ "name": name })).await
}

async fn deploy(world: &World, token: &str, project: &str) -> Answer {
    let archive = super::archives::tar(&[("index.html", project)]);
    world.call_as(token, Method::PUT, &format!("/deploy/{project}?env=prod")).bytes(&archive).send().await
}

async fn names(world: &World, token: &str) -> Vec<String> {
    let answer = world.get_as(token, "/projects").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let list: Vec<ProjectItem> = serde_json::from_str(&answer.text).unwrap();
    list.into_iter().map(|project| project.name).collect()
}

/// Which project hosts of this name lead to.
fn leads(world: &World, name: &str) -> Option<String> {
    world.engine.resolver().pointers().renamed(name, world.clock.now()).map(|name| name.to_string())
}

#[tokio::test]
async fn a_project_is_made_once_and_listed() {
    let world = World::open().await;
    let (ann, bob) = (world.user("ann@example.test").await.token, world.user("bob@example.test").await.token);
    assert_eq!(names(&world, &ann).await, [""; 0]);
    let made: ProjectItem = create(&world, &ann, "my-site").await.made();
    assert_eq!((&*made.name, &*made.subdomain, &*made.created_at), ("my-site", "my-site", "2023-11-14T22:13:20.000Z"));
    create(&world, &ann, "my-site").await.expect_error(StatusCode::CONFLICT, "project_exists", &["my-site"]);
    create(&world, &bob, "my-site").await.expect_error(StatusCode::FORBIDDEN, "project_taken", &["my-site"]);
    create(&world, &ann, "other").await.made::<ProjectItem>();
    create(&world, &bob, "bobs").await.made::<ProjectItem>();
    assert_eq!(names(&world, &ann).await, ["my-site", "other"], "in the order of their making, and none of others");
    for project in ["my-site", &made.id, &made.id[4..12]] {
        let found: ProjectItem = world.get_as(&ann, &format!("/projects/{project}")).await.ok();
        assert_eq!(found.id, made.id);
        let foreign = world.get_as(&bob, &format!("/projects/{project}")).await;
        foreign.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[project]);
    }

    // With a key, once however often it is sent.
    let body = json!({ "name": "keyed" });
    let first: ProjectItem = world.post_with_key("/projects", "k1", &body).await.made();
    let again: ProjectItem = world.post_with_key("/projects", "k1", &body).await.made();
    assert_eq!(first.id, again.id);
    let other = world.post_with_key("/projects", "k1", &json!({ "name": "other-name" })).await;
    other.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", &[]);
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let world = World::new().await;
    for number in 0..5 {
        world.post("/projects", &json!({ "name": format!("site-{number}") })).await.made::<ProjectItem>();
    }
    let (mut path, mut seen) = ("/projects?limit=2".to_owned(), Vec::new());
    loop {
        let answer = world.get(&path).await;
        let page: Vec<ProjectItem> = serde_json::from_str(&answer.text).unwrap();
        assert!(page.len() <= 2);
        seen.extend(page.into_iter().map(|project| project.name));
        let Some(next) = answer.header("link").strip_prefix("</api/v1") else { break };
        path = next.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    seen.sort_unstable();
    assert_eq!(seen, ["site-0", "site-1", "site-2", "site-3", "site-4"]);
    world.get("/projects?cursor=x").await.expect_error(StatusCode::BAD_REQUEST, "invalid_cursor", &[]);
}

#[tokio::test]
async fn names_that_cannot_be_had() {
    let world = World::new().await;
    let long = "a".repeat(41);
    for name in ["", "ab", &long, "My-Site", "a--b", "www", "admin", "adm1n", "d-o-c-s", "my-beta", "deadbeef", "../x"]
    {
        let answer = create(&world, super::world::TOKEN, name).await;
        let code = if name.is_empty() { "project_required" } else { "invalid_project" };
        answer.expect_error(StatusCode::BAD_REQUEST, code, &[]);
        // A plan makes projects by the same rule.
        let plan = world.post("/plan", &plan_of(name, &[("a", "a")])).await;
        plan.expect_error(StatusCode::BAD_REQUEST, code, &[]);
    }
}

#[tokio::test]
async fn names_are_checked_and_others_suggested() {
    let world = World::open().await;
    let (ann, bob) = (world.user("ann@example.test").await.token, world.user("bob@example.test").await.token);
    create(&world, &ann, "taken").await.made::<ProjectItem>();
    for (text, available, suggestion) in [
        ("free", true, None),
        ("taken", false, Some("taken-")),
        ("www", false, Some("www-")),
        ("adm1n", false, Some("adm1n-")),
        ("My%20Site", false, Some("my-site")),
        ("%2E%2E", false, None),
    ] {
        for token in [&ann, &bob] {
            let check: wire::SubdomainCheck =
                world.get_as(token, &format!("/subdomain/check?subdomain={text}")).await.ok();
            assert_eq!(check.available, available, "{text}");
            match (&check.suggestion, suggestion) {
                (Some(name), Some(start)) => {
                    assert!(name.starts_with(start), "{text}: {name}");
                    let own: wire::SubdomainCheck =
                        world.get_as(token, &format!("/subdomain/check?subdomain={name}")).await.ok();
                    assert!(own.available, "what is suggested can be had: {name}");
                }
                (None, None) => {}
                wrong => panic!("{text}: {wrong:?}"),
            }
        }
    }
    for path in ["/subdomain/check", "/subdomain/check?subdomain="] {
        world.get_as(&ann, path).await.expect_error(StatusCode::BAD_REQUEST, "invalid_query", &[]);
    }
}

#[tokio::test]
async fn a_renamed_project_keeps_its_old_name_for_its_team_for_30_days() {
    let world = World::open().await;
    let (ann, bob) = (world.user("ann@example.test").await.token, world.user("bob@example.test").await.token);
    deploy(&world, &ann, "old-name").await.ok::<wire::DeployAnswer>();
    let renamed: ProjectItem = rename(&world, &ann, "old-name", "new-name").await.ok();
    assert_eq!((&*renamed.name, &*renamed.subdomain), ("new-name", "new-name"));
    let pointers = || world.engine.resolver().pointers().clone();
    assert!(pointers().find("new-name", "prod").is_some() && pointers().find("old-name", "prod").is_none());
    assert_eq!(leads(&world, "old-name").as_deref(), Some("new-name"));

    // Whoever still calls it by its old name means it, also in a plan.
    let archive = super::archives::tar(&[("index.html", "more")]);
    let by_old = world.call_as(&ann, Method::PUT, "/deploy/old-name?env=prod").bytes(&archive).send().await;
    let by_old: wire::DeployAnswer = by_old.ok();
    assert_eq!((&*by_old.release.project, by_old.release.number), ("new-name", 2));
    let plan: wire::PlanAnswer = world.post_as(&ann, "/plan", &plan_of("old-name", &[("index.html", "x")])).await.ok();
    assert!(!plan.plan_id.is_empty());
    assert_eq!(names(&world, &ann).await, ["new-name"]);
    assert_eq!(by_old.release.url, "http://new-name.pages.test:8080");

    // It is nobody else's for 30 days, then whoever's takes it first.
    for _ in 0..2 {
        create(&world, &bob, "old-name").await.expect_error(StatusCode::FORBIDDEN, "project_taken", &["old-name"]);
        deploy(&world, &bob, "old-name").await.expect_error(StatusCode::FORBIDDEN, "project_taken", &["old-name"]);
        rename(&world, &bob, "old-name", "x-name").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
        world.clock.advance(FORMER_NAME / 2 - Duration::from_millis(1));
    }
    assert!(leads(&world, "old-name").is_some());
    world.clock.advance(Duration::from_millis(2));
    assert_eq!(leads(&world, "old-name"), None, "its hosts lead nowhere any more");
    let bob = world.login("bob@example.test", super::world::PASSWORD, "192.0.2.1").await;
    let bob = bob.ok::<wire::account::SignedIn>().token;
    create(&world, &bob, "old-name").await.made::<ProjectItem>();
    let ann = world.login("ann@example.test", super::world::PASSWORD, "192.0.2.1").await;
    let ann = ann.ok::<wire::account::SignedIn>().token;
    deploy(&world, &ann, "old-name").await.expect_error(StatusCode::FORBIDDEN, "project_taken", &["old-name"]);

    // What it lost by time it does not take along when it goes.
    world.delete_as(&ann, "/projects/new-name").await.ok::<wire::ProjectDeleted>();
    let bobs: ProjectItem = world.get_as(&bob, "/projects/old-name").await.ok();
    assert_eq!(bobs.name, "old-name");
}

#[tokio::test]
async fn names_change_hands_within_a_team() {
    let world = World::new().await;
    let token = super::world::TOKEN;
    deploy(&world, token, "one").await.ok::<wire::DeployAnswer>();
    // By the words of the protocol's first client.
    let call = world.call_as(token, Method::PUT, "/domains/rename?project=one");
    let two: ProjectItem = call.json(r#"{"new_subdomain":"two"}"#).send().await.ok();
    assert_eq!(two.name, "two");
    rename(&world, token, "two", "three").await.ok::<ProjectItem>();
    assert_eq!((leads(&world, "one"), leads(&world, "two")), (Some("three".into()), Some("three".into())));
    // Nothing changes where it is called so already, and back it may go.
    rename(&world, token, "three", "three").await.ok::<ProjectItem>();
    rename(&world, token, "three", "one").await.ok::<ProjectItem>();
    assert_eq!((leads(&world, "one"), leads(&world, "three")), (None, Some("one".into())));
    assert!(world.engine.resolver().pointers().find("one", "prod").is_some());
    // A name that is only kept can be another project's; a name that is had cannot.
    let other: ProjectItem = create(&world, token, "two").await.made();
    assert_eq!(leads(&world, "two"), None);
    let found: ProjectItem = world.get("/projects/two").await.ok();
    assert_eq!(found.id, other.id);
    rename(&world, token, "two", "one").await.expect_error(StatusCode::CONFLICT, "project_exists", &["one"]);
    rename(&world, token, "two", "three").await.ok::<ProjectItem>();
    assert_eq!((leads(&world, "three"), leads(&world, "two")), (None, Some("three".into())));

    let rows = world.get("/audit?project=one").await.json();
    let actions: Vec<_> = rows["items"].as_array().unwrap().iter().map(|row| row["object"].as_str().unwrap()).collect();
    assert!(actions.contains(&"project one to two") && actions.contains(&"project three to one"), "{actions:?}");
}

#[tokio::test]
async fn a_project_keeps_so_many_names() {
    let world = World::new().await;
    let token = super::world::TOKEN;
    create(&world, token, "name-0").await.made::<ProjectItem>();
    for number in 1..=MOST_FORMER_NAMES {
        rename(&world, token, "name-0", &format!("name-{number}")).await.ok::<ProjectItem>();
    }
    let one_more = rename(&world, token, "name-0", "one-more").await;
    one_more.expect_error(StatusCode::CONFLICT, "too_many_names", &[]);
    world.clock.advance(FORMER_NAME);
    rename(&world, token, "name-0", "one-more").await.ok::<ProjectItem>();
    world.get("/projects/name-0").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
}

#[tokio::test]
async fn a_deleted_project_is_gone_at_once_with_its_names() {
    let world = World::open().await;
    let (ann, bob) = (world.user("ann@example.test").await.token, world.user("bob@example.test").await.token);
    deploy(&world, &ann, "before").await.ok::<wire::DeployAnswer>();
    rename(&world, &ann, "before", "doomed").await.ok::<ProjectItem>();
    let id = world.get_as(&ann, "/projects/doomed").await.ok::<ProjectItem>().id;
    let plan: wire::PlanAnswer = world.post_as(&ann, "/plan", &plan_of("doomed", &[("a", "new")])).await.ok();
    world.delete_as(&bob, "/projects/doomed").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    let deleted: wire::ProjectDeleted = world.delete_as(&ann, "/projects/doomed").await.ok();
    assert!(!deleted.message.is_empty());
    let pointers = world.engine.resolver().pointers().clone();
    assert_eq!((pointers.find("doomed", "prod"), leads(&world, "before"), pointers.len()), (None, None, 0));
    for path in ["/projects/doomed", "/projects/before", &format!("/projects/{id}"), "/history?project=doomed"] {
        world.get_as(&ann, path).await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    }
    let commit = world.post_as(&ann, "/commit", &json!({ "plan_id": plan.plan_id })).await;
    assert!(!commit.status.is_success(), "{commit:?}");
    world.delete_as(&ann, "/projects/doomed").await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    assert_eq!(names(&world, &ann).await, [""; 0]);
    for name in ["doomed", "before"] {
        let answer: wire::DeployAnswer = deploy(&world, &bob, name).await.ok();
        assert_eq!((answer.release.number, answer.new_image), (1, true), "{name} is anybody's, and nothing comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_want_a_name_at_once_one_gets_it() {
    let world = Arc::new(World::open().await);
    let mut tokens = vec![super::world::TOKEN.to_owned()];
    for number in 0..3 {
        tokens.push(world.user(&format!("user-{number}@example.test")).await.token);
    }
    for (number, token) in tokens.iter().enumerate() {
        deploy(&world, token, &format!("site-{number}")).await.ok::<wire::DeployAnswer>();
    }
    let wishes = tokens
        .into_iter()
        .enumerate()
        .flat_map(|(number, token)| [Some(format!("site-{number}")), None].map(|project| (token.clone(), project)));
    let wishes: Vec<_> = wishes
        .map(|(token, project)| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                match project {
                    Some(project) => rename(&world, &token, &project, "prize").await,
                    None => create(&world, &token, "prize").await,
                }
            })
        })
        .collect();
    let mut got = 0;
    for wish in wishes {
        let answer = wish.await.unwrap();
        match answer.status {
            StatusCode::OK | StatusCode::CREATED => got += 1,
            StatusCode::CONFLICT => answer.expect_error(StatusCode::CONFLICT, "project_exists", &["prize"]),
            _ => answer.expect_error(StatusCode::FORBIDDEN, "project_taken", &["prize"]),
        }
    }
    assert_eq!(got, 1);
    let pointers = world.engine.resolver().pointers().clone();
    assert!(pointers.project("prize").is_some());
    assert_eq!(pointers.shown(), 4, "and every site is shown by one name");
}
