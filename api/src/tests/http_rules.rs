//! What holds for every call: who may ask, where calls are, how answers look, and that one call cannot hurt another.

use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::Limits;

use super::world::{Answer, Call, TOKEN, World, hash, plan_of};
use crate::access::Need;
use crate::routes::ROUTES;
use crate::wire;

#[tokio::test]
async fn strangers_are_refused_before_their_body_is_read() {
    let world = World::new().await;
    let calls =
        ROUTES.iter().flat_map(|route| route.methods.iter().map(move |(method, need)| (method, need, route.path)));
    for (method, need, path) in calls {
        if !matches!(need, Need::Token(..)) {
            continue;
        }
        let method: Method = method.parse().unwrap();
        let path = format!("/api/v1{path}");
        for token in [None, Some("Basic abc"), Some("Bearer secret"), Some("Bearer")] {
            let mut call = world.stranger(method.clone(), &path).silence();
            if let Some(token) = token {
                call = call.header("authorization", token);
            }
            let answer = tokio::time::timeout(Duration::from_secs(10), call.send()).await.unwrap();
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{method} {path}");
            let body: wire::ErrorBody = serde_json::from_value(answer.json()).unwrap();
            assert_eq!((answer.status, &*body.error), (StatusCode::UNAUTHORIZED, "unauthorized"), "{method} {path}");
            assert!(!answer.text.contains("secret"));
        }
    }
}

#[tokio::test]
async fn the_scheme_of_a_token_has_no_case() {
    let world = World::new().await;
    let token = format!("bEARER {}", TOKEN);
    let answer = world.stranger(Method::GET, "/api/v1/history?project=my-site").header("authorization", &token);
    answer.send().await.expect_error(StatusCode::NOT_FOUND, "project_not_found", &[]);
}

#[tokio::test]
async fn unknown_addresses_are_not_found() {
    let world = World::new().await;
    for path in ["/api", "/api/v1", "/api/v1/", "/api/v1/plan/", "/api/v1/plans", "/api/v2/plan", "/api/v1/upload"] {
        world.call(Method::POST, path).send().await.expect_error(StatusCode::NOT_FOUND, "not_found", &[]);
    }
    let page = world.stranger(Method::GET, "/nowhere").send().await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::NOT_FOUND, "text/html; charset=utf-8"));
    assert!(!page.text.contains("nowhere"));
    let json = world.stranger(Method::GET, "/nowhere").header("accept", "application/json").send().await;
    json.expect_error(StatusCode::NOT_FOUND, "not_found", &["nowhere"]);
}

#[tokio::test]
async fn every_route_takes_its_methods_and_no_others() {
    let world = World::new().await;
    for route in ROUTES {
        let path = format!("/api/v1{}", route.path);
        for method in ["OPTIONS", "PATCH", "GET", "POST", "PUT", "DELETE"] {
            let answer = world.stranger(method.parse().unwrap(), &path).send().await;
            if route.methods.iter().any(|(name, _)| *name == method) {
                assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                continue;
            }
            answer.expect_error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &[]);
            let mut allowed: Vec<_> = answer.header("allow").split(',').filter(|method| *method != "HEAD").collect();
            let mut want: Vec<_> = route.methods.iter().map(|(method, _)| *method).collect();
            allowed.sort_unstable();
            want.sort_unstable();
            assert_eq!(allowed, want, "{path}");
        }
    }
    world.stranger(Method::POST, "/").send().await.expect_error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &[],
    );
}

#[tokio::test]
async fn other_types_than_json_are_refused() {
    let world = World::new().await;
    let body = plan_of("my-site", &[("a", "a")]).to_string();
    for (name, value) in [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
    ] {
        let code = if name == "content-type" { "unsupported_media_type" } else { "unsupported_encoding" };
        for call in ["plan", "commit", "release"] {
            let call = world.call(Method::POST, &format!("/api/v1/{call}")).bytes(body.as_bytes()).header(name, value);
            call.send().await.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, &[value]);
        }
    }
    world.assert_nothing_stored().await;
    let plan = world.plan("my-site", &[("a", "a")]).await;
    let call = world.call(Method::PUT, &format!("/api/v1/upload/{}/{}", plan.plan_id, hash("a"))).bytes(b"a");
    let answer = call.header("content-encoding", "gzip").send().await;
    answer.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", &[]);
}

#[tokio::test]
async fn a_request_id_is_kept_where_it_is_sane() {
    let world = World::new().await;
    let call = |id: &str| world.stranger(Method::GET, "/api/v1/health").header("x-request-id", id).send();
    assert_eq!(call("my-id").await.header("x-request-id"), "my-id");
    assert_ne!(call("<script>").await.header("x-request-id"), "<script>");
}

#[tokio::test]
async fn the_base_domain_says_that_it_works_and_what_to_type() {
    let world = World::new().await;
    let page = world.stranger(Method::GET, "/").send().await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(page.text.contains("pinstone deploy ./site --project my-site"));
    assert!(page.text.contains("http://my-site-beta.pages.test:8080"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
    let nonce = policy.split('\'').nth(3).and_then(|source| source.strip_prefix("nonce-")).unwrap();
    assert!(page.text.contains(&format!("<style nonce=\"{nonce}\">")));
    for outside in ["<script", "src=", "@import", "{url}", "{main}"] {
        assert!(!page.text.contains(outside), "{outside}");
    }
    assert_eq!(world.stranger(Method::GET, "/favicon.ico").send().await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_handler_that_panics_answers() {
    use tower::ServiceExt;
    let router = axum::Router::new()
        .route("/panic", axum::routing::get(async || -> String { panic!("a test's panic") }))
        .layer(axum::middleware::from_fn(crate::frame::frame));
    let request = http::Request::get("/panic").body(axum::body::Body::empty()).unwrap();
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.headers().contains_key("x-request-id"));
    let text = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let body: wire::ErrorBody = serde_json::from_slice(&text).unwrap();
    assert_eq!(body.error, "internal");
    assert!(!body.message.contains("panic"));
}

#[tokio::test(start_paused = true)]
async fn plans_wait_for_each_other_where_memory_is_short() {
    let limits = Limits { plan_size: 1 << 20, ..Limits::default() };
    let world = World::with(limits, |config| config.plan_memory = 1 << 20).await;
    // A plan without a length may become as large as any.
    let held = world.call(Method::POST, "/api/v1/plan").silence().send();
    let body = plan_of("my-site", &[("a", "a")]).to_string();
    let next = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.call(Method::POST, "/api/v1/plan").json(&body).send().await
    };
    let (held, next) = tokio::join!(held, next);
    held.expect_error(StatusCode::REQUEST_TIMEOUT, "request_timeout", &[]);
    assert_eq!(next.status, StatusCode::OK, "it got its turn when the other gave up");
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_waits_too_long_is_told_to_come_back() {
    let limits = Limits { plan_size: 1 << 20, ..Limits::default() };
    let world = World::with(limits, |config| config.plan_memory = 1 << 20).await;
    async fn after(seconds: u64, call: Call<'_>) -> Answer {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        call.send().await
    }
    let plan = || world.call(Method::POST, "/api/v1/plan");
    // The first holds the memory for its 60 seconds, then the second does; the third is not let in for all of its own.
    let first = after(0, plan().silence());
    let second = after(30, plan().silence());
    let third = after(45, plan().json("{}"));
    let (_, _, third) = tokio::join!(first, second, third);
    third.expect_error(StatusCode::SERVICE_UNAVAILABLE, "busy", &[]);
    assert_eq!(third.header("retry-after"), "5");
}

#[tokio::test(start_paused = true)]
async fn a_commit_counts_against_the_memory_of_plans() {
    let limits = Limits { plan_size: 1 << 20, ..Limits::default() };
    let world = World::with(limits, |config| config.plan_memory = 1 << 20).await;
    let made = world.plan("my-site", &[("a", "a")]).await;
    assert_eq!(world.upload(&made.plan_id, &made.missing[0].hash, b"a").await.status, StatusCode::OK);
    let commit = serde_json::json!({ "plan_id": made.plan_id });
    let silent = |seconds| {
        let call = world.call(Method::POST, "/api/v1/plan").silence();
        async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            call.send().await
        }
    };
    let late = async {
        tokio::time::sleep(Duration::from_secs(45)).await;
        world.post("/commit", &commit).await
    };
    let (_, _, late) = tokio::join!(silent(0), silent(30), late);
    late.expect_error(StatusCode::SERVICE_UNAVAILABLE, "busy", &[]);
    assert_eq!(world.post("/commit", &commit).await.status, StatusCode::OK);
}
