//! Invitations: who makes them, and who registers with them.

use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::accounts::Registration;
use serde_json::json;

use super::world::{Answer, PASSWORD, TOKEN, World};
use crate::wire;
use crate::wire::account::{InviteItem, NewInvite, SignedIn};

async fn register(world: &World, email: &str, invite: &str) -> Answer {
    let body = json!({ "email": email, "password": PASSWORD, "invite": invite }).to_string();
    world.stranger(Method::POST, "/api/v1/auth/register").json(&body).send().await
}

#[tokio::test]
async fn an_invitation_makes_one_account() {
    let world = World::registering(Registration::Invite).await;
    let invite: NewInvite = world.call_as(TOKEN, Method::POST, "/invites").send().await.made();
    assert!(invite.invite.starts_with("inv_") && invite.invite.len() == 68 && invite.email.is_none());
    assert_eq!(invite.expires_at, "2023-11-21T22:13:20.000Z", "7 days later");
    let list = world.get("/invites").await;
    assert!(!list.text.contains(&invite.invite), "the secret is shown once");
    let list: wire::Page<InviteItem> = list.ok();
    assert_eq!((&list.items[0].id, &*list.items[0].author), (&invite.id, "owner"));

    let before = world.engine.passwords_computed();
    for wrong in ["", "inv_", &invite.id, &invite.invite[1..]] {
        register(&world, "ann@example.test", wrong).await.expect_error(StatusCode::FORBIDDEN, "invite_invalid", &[]);
    }
    assert_eq!(world.engine.passwords_computed(), before, "who has none costs nothing");
    let ann: SignedIn = register(&world, "ann@example.test", &invite.invite).await.made();
    assert!(ann.created && !ann.user.is_admin);
    let used = register(&world, "bob@example.test", &invite.invite).await;
    used.expect_error(StatusCode::FORBIDDEN, "invite_invalid", &[&invite.invite]);
    let list: wire::Page<InviteItem> = world.get("/invites").await.ok();
    assert!(list.items.is_empty());
    let again: SignedIn = world.login("ann@example.test", PASSWORD, "192.0.2.1").await.ok();
    assert!(!again.created, "who has an account needs no invitation");
}

#[tokio::test]
async fn an_invitation_for_an_email_is_for_no_other_and_ends() {
    let world = World::registering(Registration::Invite).await;
    let body = json!({ "email": "Ann@example.test", "expires_in": 60 });
    let invite: NewInvite = world.post("/invites", &body).await.made();
    assert_eq!(invite.email.as_deref(), Some("ann@example.test"));
    let other = register(&world, "bob@example.test", &invite.invite).await;
    other.expect_error(StatusCode::FORBIDDEN, "invite_invalid", &["bob"]);
    world.clock.advance(Duration::from_secs(60));
    let late = register(&world, "ann@example.test", &invite.invite).await;
    late.expect_error(StatusCode::FORBIDDEN, "invite_invalid", &["ann"]);
    let list: wire::Page<InviteItem> = world.get("/invites").await.ok();
    assert!(list.items.is_empty());

    let invite: NewInvite = world.post("/invites", &body).await.made();
    world.delete(&format!("/invites/{}", invite.id)).await.expect_nothing();
    for id in [&invite.id, "invite_1", "x"] {
        let gone = world.delete(&format!("/invites/{id}")).await;
        gone.expect_error(StatusCode::NOT_FOUND, "invite_not_found", &[&invite.id]);
    }
    let gone = register(&world, "ann@example.test", &invite.invite).await;
    gone.expect_error(StatusCode::FORBIDDEN, "invite_invalid", &[]);
}

#[tokio::test]
async fn only_the_owner_invites() {
    let world = World::open().await;
    let ann = world.user("ann@example.test").await;
    let invite: NewInvite = world.post("/invites", &json!({})).await.made();
    for (method, path) in [
        (Method::POST, "/invites".to_owned()),
        (Method::GET, "/invites".to_owned()),
        (Method::DELETE, format!("/invites/{}", invite.id)),
    ] {
        let answer = world.call_as(&ann.token, method, &path).send().await;
        answer.expect_error(StatusCode::FORBIDDEN, "owner_only", &[&invite.id]);
    }
    for (body, status, code) in [
        (json!({ "email": "ann" }), StatusCode::BAD_REQUEST, "invalid_email"),
        (json!({ "expires_in": 0 }), StatusCode::UNPROCESSABLE_ENTITY, "invalid_lifetime"),
        (json!({ "expires_in": 31_536_001 }), StatusCode::UNPROCESSABLE_ENTITY, "invalid_lifetime"),
        (json!({ "expires_in": 60.5 }), StatusCode::BAD_REQUEST, "invalid_request"),
        (json!(7), StatusCode::BAD_REQUEST, "invalid_request"),
        (json!([null, null]), StatusCode::BAD_REQUEST, "invalid_request"),
    ] {
        world.post("/invites", &body).await.expect_error(status, code, &["ann"]);
    }
    // JSON has one kind of number.
    let _: NewInvite = world.post("/invites", &json!({ "expires_in": 60.0 })).await.made();
}

#[tokio::test]
async fn invitations_are_bounded_and_of_many_who_use_one_one_does() {
    let world = World::registering(Registration::Invite).await;
    let mut last = None;
    for _ in 0..1000 {
        last = Some(world.post("/invites", &json!({ "expires_in": 60 })).await.made::<NewInvite>());
    }
    let refused = world.post("/invites", &json!({})).await;
    refused.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "too_many_invites", &[]);
    let last = last.unwrap().invite;
    let all = (0..6).map(|number| {
        let (world, last) = (&world, &last);
        async move { register(world, &format!("user-{number}@example.test"), last).await }
    });
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all.iter().filter(|answer| answer.status == StatusCode::CREATED).count(), 1);
    for answer in all.iter().filter(|answer| answer.status != StatusCode::CREATED) {
        answer.expect_error(StatusCode::FORBIDDEN, "invite_invalid", &[]);
    }
    world.clock.advance(Duration::from_secs(60));
    let _: NewInvite = world.post("/invites", &json!({})).await.made();
}
