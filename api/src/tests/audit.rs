//! The audit log: what it tells, to whom, and how it is asked.

use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::accounts::Registration;
use serde_json::json;

use super::world::{PASSWORD, TOKEN, World};
use crate::wire;
use crate::wire::account::{AuditItem, SignedIn};

async fn audit(world: &World, token: &str, query: &str) -> Vec<AuditItem> {
    world.get_as(token, &format!("/audit{query}")).await.ok::<wire::Page<AuditItem>>().items
}

fn actions(rows: &[AuditItem]) -> Vec<&str> {
    rows.iter().map(|row| &*row.action).collect()
}

#[tokio::test]
async fn everything_that_is_done_is_told_with_who_by_what_and_from_where() {
    let world = World::open().await;
    let body = json!({ "email": "ann@example.test", "password": PASSWORD }).to_string();
    let register = world.stranger(Method::POST, "/api/v1/auth/register").json(&body).from("192.0.2.1");
    let ann: SignedIn = register.header("x-request-id", "my-id").send().await.made();
    let token = world.token_as(&ann.token, &json!({ "name": "ci", "scope": "deploy" })).await;
    let archive = super::archives::tar(&[("index.html", "a")]);
    let deploy = world.call_as(&token.token, Method::PUT, "/deploy/my-site?env=prod").bytes(&archive);
    assert_eq!(deploy.from("2001:db8::1").send().await.status, StatusCode::OK);
    world.delete_as(&ann.token, &format!("/tokens/{}", token.id)).await.expect_nothing();
    let wrong = world.login("ann@example.test", "wrong horse", "203.0.113.9").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let again: SignedIn = world.login("ann@example.test", PASSWORD, "192.0.2.1").await.ok();
    let change = json!({ "current_password": PASSWORD, "new_password": "new password" });
    world.post_as(&again.token, "/auth/password", &change).await.expect_nothing();

    let rows = audit(&world, &again.token, "").await;
    let told: Vec<_> = rows
        .iter()
        .rev()
        .map(|row| (&*row.action, &*row.actor, row.from_address.as_deref(), row.project_id.is_some()))
        .collect();
    let ann_is = "ann@example.test";
    assert_eq!(
        told,
        [
            ("account.create", ann_is, Some("192.0.2.1"), false),
            ("token.create", ann_is, None, false),
            ("project.create", ann_is, Some("2001:db8::1"), true),
            ("commit", ann_is, Some("2001:db8::1"), true),
            ("release", ann_is, Some("2001:db8::1"), true),
            ("token.revoke", ann_is, None, false),
            ("login.failed", "", Some("203.0.113.9"), false),
            ("login", ann_is, Some("192.0.2.1"), false),
            ("password.change", ann_is, None, false),
        ]
    );
    assert_eq!(rows[8].request_id.as_deref(), Some("my-id"));
    assert_eq!(rows[4].credential.as_ref(), Some(&token.id), "by the token that did it");
    assert_eq!(rows[4].at, "2023-11-14T22:13:20.000Z");
    assert!(rows[7].object.contains("`ci`, deploy"), "{}", rows[7].object);
    let request = rows[4].request_id.as_ref().unwrap();
    assert_eq!(Some(request), rows[5].request_id.as_ref(), "one request, one id");

    assert_eq!(actions(&audit(&world, TOKEN, "").await), ["login.failed"], "the owner sees who could not sign in");
    let told = audit(&world, &again.token, "?project=my-site").await;
    assert_eq!(actions(&told), ["release", "commit", "project.create"]);
    let hers = audit(&world, &again.token, &format!("?project_id={}", told[0].project_id.as_ref().unwrap())).await;
    assert_eq!(hers.len(), 3);
}

#[tokio::test]
async fn it_is_asked_by_time_actor_and_page() {
    let world = World::new().await;
    for number in 0..5 {
        let body = json!({ "name": number.to_string(), "scope": "read" });
        world.token_as(TOKEN, &body).await;
        world.clock.advance(Duration::from_secs(60));
    }
    let numbers = async |query: &str| {
        let rows = audit(&world, TOKEN, query).await;
        let number = |row: &AuditItem| row.object.split('`').nth(1).unwrap().to_owned();
        rows.iter().map(number).collect::<Vec<_>>().join("")
    };
    for (query, want) in [
        ("", "43210"),
        ("?from=2023-11-14T22:15:20Z", "432"),
        ("?to=2023-11-14T22:15:20Z", "10"),
        ("?from=2023-11-14T22:14:20.000Z&to=2023-11-14T22:16:20Z", "21"),
        ("?actor=owner", "43210"),
        ("?actor=nobody", ""),
        ("?actor=&from=&to=&project=&cursor=", "43210"),
        ("?limit=2", "43"),
    ] {
        assert_eq!(numbers(query).await, want, "{query}");
    }
    let mut told = String::new();
    let mut cursor = String::new();
    loop {
        let page: wire::Page<AuditItem> = world.get(&format!("/audit?limit=2&cursor={cursor}")).await.ok();
        told.push_str(&page.items.len().to_string());
        match page.next_cursor {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(told, "221");
    for (query, status, code) in [
        ("?from=yesterday", StatusCode::BAD_REQUEST, "invalid_time"),
        ("?to=2023-11-14", StatusCode::BAD_REQUEST, "invalid_time"),
        ("?cursor=yesterday", StatusCode::BAD_REQUEST, "invalid_cursor"),
        ("?limit=0", StatusCode::BAD_REQUEST, "invalid_query"),
        ("?from=a&from=b", StatusCode::BAD_REQUEST, "invalid_query"),
        ("?project=a--b", StatusCode::BAD_REQUEST, "invalid_project"),
        ("?project=nobodys", StatusCode::NOT_FOUND, "project_not_found"),
    ] {
        world.get(&format!("/audit{query}")).await.expect_error(status, code, &["yesterday", "nobodys"]);
    }
}

#[tokio::test]
async fn failures_are_told_only_so_often_and_without_what_was_sent() {
    let world = World::registering(Registration::Closed).await;
    for number in 0..30 {
        let answer = world.login(&format!("user-{number}@example.test"), "wrong horse", "192.0.2.1").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let rows = audit(&world, TOKEN, "?limit=200").await;
    assert_eq!(rows.len(), 20);
    for row in &rows {
        assert_eq!((&*row.action, &*row.actor, &*row.object), ("login.failed", "", "no account"));
        assert_eq!(row.from_address.as_deref(), Some("192.0.2.1"));
    }
    world.clock.advance(Duration::from_secs(60 * 60));
    assert_eq!(world.login("ann@example.test", "wrong", "192.0.2.1").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(audit(&world, TOKEN, "?limit=200").await.len(), 21, "another hour");
}
