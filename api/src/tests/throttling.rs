//! Who guesses is slowed down, and keeps nobody else out.

use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::accounts::Registration;
use serde_json::json;

use super::world::{PASSWORD, TOKEN, World};
use crate::wire::account::SignedIn;

const HERE: &str = "192.0.2.1";
const ELSEWHERE: &str = "198.51.100.7";

async fn world() -> World {
    let world = World::registering(Registration::Closed).await;
    let body = json!({ "email": "owner@example.test", "password": PASSWORD });
    let _: SignedIn = world.post_as(TOKEN, "/auth/register", &body).await.made();
    world
}

#[tokio::test]
async fn failures_cost_waits_that_grow_also_for_the_right_password_and_only_there() {
    let world = world().await;
    for email in ["owner@example.test", "nobody@example.test"] {
        for _ in 0..5 {
            let wrong = world.login(email, "wrong horse", HERE).await;
            wrong.expect_error(StatusCode::UNAUTHORIZED, "wrong_credentials", &[]);
        }
        let before = world.engine.passwords_computed();
        for (wait, password) in [("1", "wrong horse"), ("2", PASSWORD), ("4", "wrong horse")] {
            let slowed = world.login(email, password, HERE).await;
            slowed.expect_error(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", &["horse"]);
            assert_eq!(slowed.header("retry-after"), wait, "{email}");
            world.clock.advance(Duration::from_secs(wait.parse().unwrap()));
            assert_eq!(world.login(email, "wrong horse", HERE).await.status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(world.engine.passwords_computed(), before + 3, "what is refused costs nothing");
    }
    let elsewhere = world.login("owner@example.test", PASSWORD, ELSEWHERE).await;
    assert_eq!(elsewhere.status, StatusCode::OK, "nobody is kept out who comes from elsewhere");
    world.clock.advance(Duration::from_secs(8));
    assert_eq!(world.login("owner@example.test", PASSWORD, HERE).await.status, StatusCode::OK);
    for _ in 0..5 {
        assert_eq!(world.login("owner@example.test", "wrong horse", HERE).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn nobody_locks_the_owner_out_by_failing() {
    const EMAIL: &str = "owner@example.test";
    let world = world().await;
    // From many addresses, and from each until it is slowed.
    for number in 0..12 {
        let from = format!("203.0.113.{number}");
        for _ in 0..5 {
            assert_eq!(world.login(EMAIL, "wrong horse", &from).await.status, StatusCode::UNAUTHORIZED, "{from}");
        }
        assert_eq!(world.login(EMAIL, "wrong horse", &from).await.status, StatusCode::TOO_MANY_REQUESTS, "{from}");
    }
    assert_eq!(
        world.login(EMAIL, PASSWORD, ELSEWHERE).await.status,
        StatusCode::OK,
        "the account itself is not slowed"
    );

    // Who shares an address with the guesser waits a bounded time, however often that one failed.
    let guesser = "203.0.113.0";
    let mut longest = 0;
    for _ in 0..16 {
        let slowed = world.login(EMAIL, "wrong horse", guesser).await;
        slowed.expect_error(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", &[]);
        let wait = slowed.header("retry-after").parse().unwrap();
        longest = longest.max(wait);
        world.clock.advance(Duration::from_secs(wait));
        assert_eq!(world.login(EMAIL, "wrong horse", guesser).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(longest, 15 * 60);
    // The owner's token is not asked to wait, not even there, and sets another password.
    let call = |method, path| world.call_as(TOKEN, method, path).from(guesser);
    assert_eq!(call(Method::GET, "/me").send().await.status, StatusCode::OK);
    let body = json!({ "new_password": "new password" }).to_string();
    call(Method::POST, "/auth/password").json(&body).send().await.expect_nothing();
    assert_eq!(world.login(EMAIL, "new password", ELSEWHERE).await.status, StatusCode::OK);
    world.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(world.login(EMAIL, "new password", guesser).await.status, StatusCode::OK);
}

#[tokio::test]
async fn many_at_once_are_not_one() {
    let world = world().await;
    let all = (0..20).map(|_| world.login("owner@example.test", "wrong horse", HERE));
    let all = futures_util::future::join_all(all).await;
    let tried = all.iter().filter(|answer| answer.status == StatusCode::UNAUTHORIZED).count();
    let slowed = all.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!((tried, slowed), (5, 15));
}

#[tokio::test]
async fn a_source_that_tries_many_accounts_is_slowed_for_all_of_them() {
    let world = world().await;
    for number in 0..29 {
        // It was the owner's registration that counted as nothing: that came with a token.
        let wrong = world.login(&format!("user-{number}@example.test"), "wrong horse", HERE).await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.login("owner@example.test", PASSWORD, HERE).await.status, StatusCode::OK);
    assert_eq!(world.login("last@example.test", "wrong horse", HERE).await.status, StatusCode::UNAUTHORIZED);
    let slowed = world.login("owner@example.test", PASSWORD, HERE).await;
    slowed.expect_error(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", &[]);
    assert_eq!(world.login("owner@example.test", PASSWORD, ELSEWHERE).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_password_is_not_guessed_by_who_has_a_session_either() {
    let world = world().await;
    let session: SignedIn = world.login("owner@example.test", PASSWORD, HERE).await.ok();
    let body = json!({ "current_password": "wrong horse", "new_password": "new password" });
    for _ in 0..5 {
        let wrong = world.post_as(&session.token, "/auth/password", &body).await;
        wrong.expect_error(StatusCode::FORBIDDEN, "wrong_password", &[]);
    }
    let slowed = world.post_as(&session.token, "/auth/password", &body).await;
    slowed.expect_error(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", &[]);
    assert_eq!(slowed.header("retry-after"), "1");
}

#[tokio::test]
async fn one_source_does_not_make_accounts_without_end() {
    let world = World::open().await;
    let mut made = 0;
    for number in 0..40 {
        let answer = world.login(&format!("user-{number}@example.test"), PASSWORD, HERE).await;
        made += usize::from(answer.status == StatusCode::OK);
    }
    assert_eq!(made, 30);
    assert_eq!(world.login("user-40@example.test", PASSWORD, ELSEWHERE).await.status, StatusCode::OK);
}
