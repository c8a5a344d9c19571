//! Accounts: registering, signing in and out, passwords.

use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::accounts::Registration;
use serde_json::json;

use super::world::{Answer, PASSWORD, TOKEN, World};
use crate::wire;
use crate::wire::account::{AuthInfo, Me, SignedIn, TokenItem};

async fn post(world: &World, path: &str, body: &serde_json::Value) -> Answer {
    world.stranger(Method::POST, &format!("/api/v1{path}")).json(&body.to_string()).send().await
}

fn credentials(email: &str, password: &str) -> serde_json::Value {
    json!({ "email": email, "password": password })
}

#[tokio::test]
async fn registration_is_open_on_localhost_and_closed_elsewhere() {
    use pinstone_engine::host::{HostName, Hosts};

    for (base, want) in [("localhost", Registration::Open), ("pages.test", Registration::Closed)] {
        let hosts = Hosts::new(&HostName::parse(base).unwrap(), None);
        let config = crate::config::ApiConfig::new("http://localhost:8080".parse().unwrap(), hosts, "1");
        assert_eq!(config.accounts.registration, want, "{base}");
    }
    for registration in [Registration::Open, Registration::Invite, Registration::Closed] {
        let world = World::registering(registration).await;
        let config: wire::PublicConfig = world.get("/config").await.ok();
        assert_eq!(config.registration, registration.as_str());
    }
}

#[tokio::test]
async fn where_it_is_open_signing_in_registers_and_then_signs_in() {
    let world = World::open().await;
    let first: SignedIn = post(&world, "/auth/login", &credentials(" Ann@Example.test ", PASSWORD)).await.ok();
    assert!(first.created && first.token.starts_with("pin_") && first.api_key == first.token);
    assert_eq!((&*first.email, first.user.id, first.user.is_admin), ("ann@example.test", 2, false));
    assert_eq!(first.expires_at, "2023-12-14T22:13:20.000Z", "30 days later");
    let again: SignedIn = post(&world, "/auth/login", &credentials("ann@example.test", PASSWORD)).await.ok();
    assert!(!again.created && again.user_id == first.user_id && again.token != first.token);
    for token in [&first.token, &again.token] {
        let me: Me = world.get_as(token, "/me").await.ok();
        assert_eq!((&*me.user.email, me.user.id, &*me.token.scope), ("ann@example.test", 2, "admin"));
        let info: AuthInfo = world.get_as(token, "/auth/info").await.ok();
        assert_eq!((info.id, info.email), (first.user_id.clone(), "ann@example.test".to_owned()));
        assert!(!info.is_admin && !info.is_anonymous);
    }
    let wrong = post(&world, "/auth/login", &credentials("ann@example.test", "wrong horse")).await;
    wrong.expect_error(StatusCode::UNAUTHORIZED, "wrong_credentials", &["ann", "horse"]);
    assert_eq!(wrong.header("www-authenticate"), "Bearer");
    let bob: SignedIn = world.user("bob@example.test").await;
    assert_eq!((bob.user.id, bob.created), (3, true));
    assert_ne!(bob.user.team_id, first.user.team_id, "everybody has a team of their own");
    let action = json!({ "email": "cid@example.test", "password": PASSWORD, "action": "register" });
    let cid: SignedIn = post(&world, "/auth/login", &action).await.ok();
    assert!(cid.created);
    post(&world, "/auth/login", &action).await.expect_error(StatusCode::CONFLICT, "email_taken", &["cid"]);
}

#[tokio::test]
async fn users_publish_apart_from_each_other() {
    let world = World::open().await;
    let (ann, bob) = (world.user("ann@example.test").await, world.user("bob@example.test").await);
    let body = super::world::plan_of("my-site", &[("index.html", "a")]);
    let plan: wire::PlanAnswer = world.post_as(&ann.token, "/plan", &body).await.ok();
    for token in [&*bob.token, TOKEN] {
        let answer = world.post_as(token, "/plan", &body).await;
        answer.expect_error(StatusCode::FORBIDDEN, "project_taken", &[]);
        let answer = world.get_as(token, &format!("/plans/{}", plan.plan_id)).await;
        answer.expect_error(StatusCode::NOT_FOUND, "plan_not_found", &[&plan.plan_id]);
        let answer = world.get_as(token, "/projects/my-site").await;
        answer.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
    }
    let project: wire::ProjectItem = world.get_as(&ann.token, "/projects/my-site").await.ok();
    assert_eq!(project.owner_id, ann.user.team_id);
}

#[tokio::test]
async fn what_cannot_be_an_account_is_refused() {
    let world = World::open().await;
    let long = "x".repeat(1025);
    for (body, status, code) in [
        (json!({ "password": PASSWORD }), StatusCode::BAD_REQUEST, "invalid_request"),
        (json!({ "email": "ann@example.test" }), StatusCode::BAD_REQUEST, "invalid_request"),
        (credentials("ann@example.test", ""), StatusCode::BAD_REQUEST, "invalid_request"),
        (credentials("ann.example.test", PASSWORD), StatusCode::BAD_REQUEST, "invalid_email"),
        (credentials("", PASSWORD), StatusCode::BAD_REQUEST, "invalid_email"),
        (credentials("ann@example.test", "1234567"), StatusCode::UNPROCESSABLE_ENTITY, "invalid_password"),
        (credentials("ann@example.test", &long), StatusCode::UNPROCESSABLE_ENTITY, "invalid_password"),
    ] {
        for path in ["/auth/login", "/auth/register"] {
            post(&world, path, &body).await.expect_error(status, code, &["ann", "1234567", PASSWORD]);
        }
    }
    let action = json!({ "email": "ann@example.test", "password": PASSWORD, "action": "secret" });
    post(&world, "/auth/login", &action).await.expect_error(StatusCode::BAD_REQUEST, "invalid_request", &["secret"]);
    assert_eq!(world.engine.passwords_computed(), 0, "none of it costs anything");
    assert_eq!(world.user("ann@example.test").await.user.id, 2, "none of it has left anything");
    let taken = post(&world, "/auth/register", &credentials("ANN@example.test", PASSWORD)).await;
    taken.expect_error(StatusCode::CONFLICT, "email_taken", &["ann"]);
}

#[tokio::test]
async fn the_owner_registers_with_the_owners_token_whoever_else_may() {
    for registration in [Registration::Open, Registration::Invite, Registration::Closed] {
        let world = World::registering(registration).await;
        let info: AuthInfo = world.get("/auth/info").await.ok();
        assert_eq!((&*info.email, info.is_admin), ("", true));
        let body = credentials("owner@example.test", PASSWORD);
        let wrong = world.post_as("pin_wrong", "/auth/register", &body).await;
        wrong.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
        let limited = world.token_as(TOKEN, &json!({ "name": "ci", "scope": "deploy" })).await;
        if registration != Registration::Open {
            let limited = world.post_as(&limited.token, "/auth/register", &body).await;
            assert_eq!(limited.status, StatusCode::FORBIDDEN, "a lesser token does not make one the owner");
        }
        let owner: SignedIn = world.post_as(TOKEN, "/auth/register", &body).await.made();
        assert!(owner.created && owner.user.is_admin && owner.user.id == 1);
        world.publish("my-site", &[("index.html", "a")]).await;
        let again: SignedIn = post(&world, "/auth/login", &body).await.ok();
        assert!(!again.created && again.user.is_admin);
        let project: wire::ProjectItem = world.get_as(&again.token, "/projects/my-site").await.ok();
        assert_eq!(project.owner_id, again.user.team_id, "what the owner's token publishes is the owner's");
        for token in [TOKEN, &again.token] {
            let twice = world.post_as(token, "/auth/register", &credentials("new@example.test", PASSWORD)).await;
            twice.expect_error(StatusCode::CONFLICT, "owner_registered", &[]);
        }
        assert_eq!(world.get("/me").await.status, StatusCode::OK, "the token is as good as before");
    }
}

#[tokio::test]
async fn where_it_is_not_open_known_and_unknown_users_are_answered_alike_at_the_same_cost() {
    for registration in [Registration::Invite, Registration::Closed] {
        let world = World::registering(registration).await;
        let owner = credentials("owner@example.test", PASSWORD);
        let _: SignedIn = world.post_as(TOKEN, "/auth/register", &owner).await.made();
        let mut answers = Vec::new();
        for email in ["owner@example.test", "nobody@example.test"] {
            let before = world.engine.passwords_computed();
            let mut answer = world.login(email, "wrong horse", "192.0.2.1").await;
            assert_eq!(world.engine.passwords_computed(), before + 1, "{email}");
            answer.expect_error(StatusCode::UNAUTHORIZED, "wrong_credentials", &["horse", email]);
            answer.headers.remove("x-request-id");
            answers.push((answer.status, answer.headers, answer.text));
        }
        assert_eq!(answers[0], answers[1]);
        // Nor does registering tell, and it costs nothing.
        let before = world.engine.passwords_computed();
        let code = if registration == Registration::Closed { "registration_closed" } else { "invite_invalid" };
        for email in ["owner@example.test", "nobody@example.test"] {
            let answer = post(&world, "/auth/register", &credentials(email, PASSWORD)).await;
            answer.expect_error(StatusCode::FORBIDDEN, code, &[email]);
            let body = json!({ "email": email, "password": PASSWORD, "action": "register" });
            post(&world, "/auth/login", &body).await.expect_error(StatusCode::FORBIDDEN, code, &[email]);
        }
        assert_eq!(world.engine.passwords_computed(), before);
    }
}

#[tokio::test]
async fn signing_out_ends_one_session_and_everywhere_all_of_them() {
    let world = World::open().await;
    let first = world.user("ann@example.test").await;
    let body = credentials("ann@example.test", PASSWORD);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(post(&world, "/auth/login", &body).await.ok::<SignedIn>().token);
    }
    let ci = world.token_as(&first.token, &json!({ "name": "ci", "scope": "read" })).await;
    world.post_as(&sessions[0], "/auth/logout", &json!(null)).await.expect_nothing();
    let unauthorized = async |token: &str| {
        world.get_as(token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    };
    unauthorized(&sessions[0]).await;
    assert_eq!(world.get_as(&sessions[1], "/me").await.status, StatusCode::OK);
    let refused = world.post_as(&ci.token, "/auth/logout-everywhere", &json!(null)).await;
    refused.expect_error(StatusCode::FORBIDDEN, "insufficient_scope", &[]);
    world.post_as(&sessions[1], "/auth/logout-everywhere", &json!(null)).await.expect_nothing();
    for token in [&first.token, &sessions[1], &sessions[2]] {
        unauthorized(token).await;
    }
    assert_eq!(world.get_as(&ci.token, "/me").await.status, StatusCode::OK, "named tokens are ended one by one");
    world.post_as(&ci.token, "/auth/logout", &json!(null)).await.expect_nothing();
    unauthorized(&ci.token).await;

    let owners = world.post("/auth/logout", &json!(null)).await;
    owners.expect_error(StatusCode::FORBIDDEN, "owners_token", &[]);
    world.post("/auth/logout-everywhere", &json!(null)).await.expect_nothing();
    assert_eq!(world.get("/me").await.status, StatusCode::OK, "the owner's token is a file, and stays");
}

#[tokio::test]
async fn sessions_end_by_themselves_and_are_bounded() {
    let world = World::open().await;
    let first = world.user("ann@example.test").await;
    let body = credentials("ann@example.test", PASSWORD);
    for _ in 0..39 {
        let _: SignedIn = post(&world, "/auth/login", &body).await.ok();
    }
    assert_eq!(world.get_as(&first.token, "/me").await.status, StatusCode::OK);
    let last: SignedIn = post(&world, "/auth/login", &body).await.ok();
    world.get_as(&first.token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    let list: wire::Page<TokenItem> = world.get_as(&last.token, "/tokens").await.ok();
    assert_eq!(list.items.len(), 40);
    world.clock.advance(Duration::from_secs(30 * 24 * 60 * 60 - 1));
    assert_eq!(world.get_as(&last.token, "/me").await.status, StatusCode::OK);
    world.clock.advance(Duration::from_secs(1));
    world.get_as(&last.token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    let fresh: SignedIn = post(&world, "/auth/login", &body).await.ok();
    let list: wire::Page<TokenItem> = world.get_as(&fresh.token, "/tokens").await.ok();
    assert_eq!(list.items.len(), 1, "what was over is gone");
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_ends_the_other_sessions() {
    let world = World::open().await;
    let first = world.user("ann@example.test").await;
    let mine: SignedIn = post(&world, "/auth/login", &credentials("ann@example.test", PASSWORD)).await.ok();
    let change = |current: Option<&str>, new: &str| json!({ "current_password": current, "new_password": new });
    for (body, status, code) in [
        (change(Some("wrong horse"), "new password"), StatusCode::FORBIDDEN, "wrong_password"),
        (change(None, "new password"), StatusCode::FORBIDDEN, "wrong_password"),
        (change(Some(PASSWORD), "short"), StatusCode::UNPROCESSABLE_ENTITY, "invalid_password"),
        (json!({ "current_password": PASSWORD }), StatusCode::BAD_REQUEST, "invalid_request"),
    ] {
        let answer = world.post_as(&mine.token, "/auth/password", &body).await;
        answer.expect_error(status, code, &["horse", "new password", "short"]);
    }
    world.post_as(&mine.token, "/auth/password", &change(Some(PASSWORD), "new password")).await.expect_nothing();
    assert_eq!(world.get_as(&mine.token, "/me").await.status, StatusCode::OK, "who changed it stays signed in");
    world.get_as(&first.token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    let old = post(&world, "/auth/login", &credentials("ann@example.test", PASSWORD)).await;
    old.expect_error(StatusCode::UNAUTHORIZED, "wrong_credentials", &[]);
    let _: SignedIn = post(&world, "/auth/login", &credentials("ann@example.test", "new password")).await.ok();

    // The owner's token is the way back in.
    let owner: SignedIn =
        world.post_as(TOKEN, "/auth/register", &credentials("owner@example.test", PASSWORD)).await.made();
    let session = world.post_as(&owner.token, "/auth/password", &change(None, "new password")).await;
    session.expect_error(StatusCode::FORBIDDEN, "wrong_password", &[]);
    world.post("/auth/password", &change(None, "new password")).await.expect_nothing();
    world.get_as(&owner.token, "/me").await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    let _: SignedIn = post(&world, "/auth/login", &credentials("owner@example.test", "new password")).await.ok();
}

#[tokio::test]
async fn of_many_who_register_one_email_at_once_one_does() {
    let world = World::open().await;
    let body = credentials("ann@example.test", PASSWORD);
    let all = futures_util::future::join_all((0..8).map(|_| post(&world, "/auth/register", &body))).await;
    let made = all.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    assert_eq!(made, 1);
    for answer in all.iter().filter(|answer| answer.status != StatusCode::CREATED) {
        answer.expect_error(StatusCode::CONFLICT, "email_taken", &[]);
    }
    assert_eq!(world.user("bob@example.test").await.user.id, 3, "numbers are given without gaps");
}

#[tokio::test]
async fn bodies_are_bounded_and_of_one_type() {
    let world = World::open().await;
    let (long, deep) = (format!("{{\"email\": \"{}\"}}", "x".repeat(64 << 10)), "[".repeat(100));
    for path in ["/auth/login", "/auth/register", "/auth/password", "/tokens", "/invites"] {
        let call = || world.call_as(TOKEN, Method::POST, path);
        let text = call().bytes(b"{}").header("content-type", "text/plain").send().await;
        text.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", &[]);
        let packed = call().json("{}").header("content-encoding", "gzip").send().await;
        packed.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", &[]);
        call().json(&long).send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &["xxx"]);
        call().json(&deep).send().await.expect_error(StatusCode::BAD_REQUEST, "json_too_deep", &[]);
        call().json("{").send().await.expect_error(StatusCode::BAD_REQUEST, "invalid_json", &[]);
    }
}
