//! How often tokens may call, and uploads that wait for each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use pinstone_engine::{Limits, Registration};
use serde_json::json;
use tokio::sync::mpsc;

use super::world::{Answer, TOKEN, World, hash, plan_of};
use crate::config::Rates;
use crate::wire;

async fn limited(rates: Rates) -> World {
    let change = |config: &mut crate::config::ApiConfig| {
        config.accounts.registration = Registration::Open;
        config.rates = rates;
    };
    World::with(Limits::default(), change).await
}

fn told(answer: &Answer) -> [&str; 3] {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"].map(|name| answer.header(name))
}

#[tokio::test(start_paused = true)]
async fn a_token_makes_so_many_calls_a_minute() {
    let world = limited(Rates { calls_per_minute: 3, ..Rates::default() }).await;
    let (ann, bob) = (world.user("ann@example.test").await.token, world.user("bob@example.test").await.token);
    // The clock of the world is at the second 1,700,000,000.
    assert_eq!(told(&world.get_as(&ann, "/me").await), ["3", "2", "1700000020"]);
    let failed = world.get_as(&ann, "/projects/nothing").await;
    assert_eq!(
        (failed.status, told(&failed)),
        (StatusCode::NOT_FOUND, ["3", "1", "1700000040"]),
        "whatever is answered"
    );
    assert_eq!(told(&world.get_as(&ann, "/me").await), ["3", "0", "1700000060"]);
    for _ in 0..2 {
        let refused = world.get_as(&ann, "/me").await;
        refused.expect_error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", &[]);
        assert_eq!((refused.header("retry-after"), told(&refused)), ("20", ["3", "0", "1700000060"]));
    }
    assert_eq!(world.get_as(&bob, "/me").await.status, StatusCode::OK, "each token has its own budget");
    assert_eq!(world.stranger(Method::GET, "/api/v1/health").send().await.header("x-ratelimit-limit"), "");
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(world.get_as(&ann, "/me").await.status, StatusCode::OK, "at the time that was told");
    for _ in 0..10 {
        let owner = world.get_as(TOKEN, "/me").await;
        assert_eq!((owner.status, told(&owner)), (StatusCode::OK, ["", "", ""]), "the owner's token has no bound");
    }
}

#[tokio::test(start_paused = true)]
async fn zero_is_without_a_bound() {
    let world = limited(Rates { calls_per_minute: 0, uploads_per_minute: 0, uploads_at_once: 0 }).await;
    let ann = world.user("ann@example.test").await.token;
    for _ in 0..300 {
        let answer = world.get_as(&ann, "/me").await;
        assert_eq!((answer.status, told(&answer)), (StatusCode::OK, ["", "", ""]));
    }
}

#[tokio::test(start_paused = true)]
async fn uploads_wait_for_their_own_budget_and_use_no_other() {
    let world = limited(Rates { calls_per_minute: 2, uploads_per_minute: 60, uploads_at_once: 10 }).await;
    let ann = world.user("ann@example.test").await.token;
    let texts: Vec<_> = (0..90).map(|number| format!("{number}")).collect();
    let paths: Vec<_> = (0..90).map(|number| format!("{number}.html")).collect();
    let files: Vec<_> = paths.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    let plan: wire::PlanAnswer = world.post_as(&ann, "/plan", &plan_of("my-site", &files)).await.ok();
    let began = tokio::time::Instant::now();
    for text in &texts {
        let call = world.call_as(&ann, Method::POST, &format!("/upload/{}/{}", plan.plan_id, hash(text)));
        assert_eq!(call.bytes(text.as_bytes()).send().await.status, StatusCode::OK, "none is refused");
    }
    let took = began.elapsed();
    assert!((29..=31).contains(&took.as_secs()), "60 at once, and then one a second: {took:?}");
    world.post_as(&ann, "/commit", &json!({ "plan_id": plan.plan_id })).await.ok::<wire::CommitAnswer>();
}

#[tokio::test]
async fn twenty_uploads_of_a_plan_at_once_all_get_through_ten_at_a_time() {
    let world = Arc::new(limited(Rates::default()).await);
    let ann = world.user("ann@example.test").await.token;
    let texts: Vec<_> = (0..20).map(|number| format!("{number:02}")).collect();
    let files: Vec<_> = texts.iter().map(|text| (text.as_str(), text.as_str())).collect();
    let plan: wire::PlanAnswer = world.post_as(&ann, "/plan", &plan_of("my-site", &files)).await.ok();
    let (asked, mut reads) = mpsc::unbounded_channel();
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let uploads: Vec<_> = texts
        .iter()
        .map(|text| {
            let (world, ann, asked, go) = (Arc::clone(&world), ann.clone(), asked.clone(), Arc::clone(&go));
            let (text, path) = (text.clone(), format!("/upload/{}/{}", plan.plan_id, hash(text)));
            tokio::spawn(async move {
                let body = futures_util::stream::once(async move {
                    // Polled only once the upload has its turn.
                    asked.send(()).unwrap();
                    go.acquire().await.unwrap().forget();
                    Ok(Bytes::from(text))
                });
                world.call_as(&ann, Method::POST, &path).stream(Box::pin(body)).send().await.status
            })
        })
        .collect();
    for _ in 0..10 {
        reads.recv().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(reads.try_recv().is_err(), "ten bodies are read, and no more");
    for _ in 0..10 {
        go.add_permits(1);
        reads.recv().await.unwrap();
    }
    go.add_permits(10);
    for upload in uploads {
        assert_eq!(upload.await.unwrap(), StatusCode::OK);
    }
}
