//! `DELETE /account`: everything goes that was its own, and nothing else.

use http::{Method, StatusCode};
use serde_json::json;

use super::world::{PASSWORD, TOKEN, World, plan_of};
use crate::wire;
use crate::wire::account::{AccountDeleted, AuditItem, SignedIn};

async fn deploy(world: &World, token: &str, project: &str) -> wire::DeployAnswer {
    let archive = super::archives::tar(&[("index.html", project)]);
    world.call_as(token, Method::PUT, &format!("/deploy/{project}?env=prod")).bytes(&archive).send().await.ok()
}

#[tokio::test]
async fn an_account_goes_with_its_tokens_and_projects_at_once() {
    let world = World::open().await;
    let (ann, bob) = (world.user("ann@example.test").await, world.user("bob@example.test").await);
    let ci = world.token_as(&ann.token, &json!({ "name": "ci", "scope": "deploy" })).await;
    for project in ["one", "two", "three"] {
        deploy(&world, &ann.token, project).await;
    }
    deploy(&world, &bob.token, "bobs").await;
    let plan: wire::PlanAnswer = world.post_as(&ann.token, "/plan", &plan_of("one", &[("new.html", "new")])).await.ok();
    let pointers = || world.engine.resolver().pointers().clone();
    assert!(pointers().find("one", "prod").is_some() && pointers().len() == 4 && pointers().shown() == 4);

    let refused = world.delete_as(&ci.token, "/account").await;
    refused.expect_error(StatusCode::FORBIDDEN, "insufficient_scope", &[]);
    let gone: AccountDeleted = world.delete_as(&ann.token, "/account").await.ok();
    assert_eq!(gone.deleted_projects, 3);
    assert!(!gone.message.is_empty());

    for token in [&ann.token, &ci.token] {
        world.get_as(token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
        let commit = world.post_as(token, "/commit", &json!({ "plan_id": plan.plan_id })).await;
        commit.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    }
    for project in ["one", "two", "three"] {
        assert_eq!(pointers().project(project), None, "no host shows it");
        assert_eq!(pointers().find(project, "prod"), None);
    }
    assert_eq!((pointers().len(), pointers().shown()), (1, 1));
    assert!(pointers().find("bobs", "prod").is_some(), "what is others' stays");

    // Names and email are free, and nothing of before comes back with them.
    let bobs = deploy(&world, &bob.token, "one").await;
    assert_eq!((bobs.release.number, bobs.new_image), (1, true));
    let ann_again: SignedIn = world.user("ann@example.test").await;
    assert!(ann_again.user_id != ann.user_id && ann_again.user.id == 4);
    let list: wire::Page<wire::account::TokenItem> = world.get_as(&ann_again.token, "/tokens").await.ok();
    assert_eq!(list.items.len(), 1);
    let other = world.get_as(&ann_again.token, "/projects/two").await;
    other.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);

    let rows: wire::Page<AuditItem> = world.get("/audit").await.ok();
    assert_eq!((&*rows.items[0].action, &*rows.items[0].object), ("account.delete", "account ann@example.test"));
}

#[tokio::test]
async fn the_owner_stays() {
    let world = World::open().await;
    let body = json!({ "email": "owner@example.test", "password": PASSWORD });
    let owner: SignedIn = world.post_as(TOKEN, "/auth/register", &body).await.made();
    for token in [TOKEN, &owner.token] {
        world.delete_as(token, "/account").await.expect_error(StatusCode::FORBIDDEN, "owner_stays", &[]);
        assert_eq!(world.get_as(token, "/me").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn an_account_without_anything_goes_too() {
    let world = World::open().await;
    let ann = world.user("ann@example.test").await;
    let gone: AccountDeleted = world.delete_as(&ann.token, "/account").await.ok();
    assert_eq!(gone.deleted_projects, 0);
    world.delete_as(&ann.token, "/account").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
}
