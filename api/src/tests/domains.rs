//! Domains: added, proven, listed, removed, and everything that is refused.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::dns::Dns;
use super::world::{TOKEN, World};
use crate::wire::domain::{DomainAnswer, DomainItem, Domains, Verification};

/// A server with a DNS of its own, and the project `my-site`.
async fn world() -> (World, Dns) {
    let dns = Dns::start();
    let world = World::with(pinstone_engine::Limits::default(), |config| {
        config.accounts.registration = pinstone_engine::Registration::Open;
        config.domains.dns_servers = vec![dns.address()];
    })
    .await;
    world.publish("my-site", &[("index.html", "a")]).await;
    (world, dns)
}

async fn add(world: &World, domain: &str, slug: &str) -> DomainAnswer {
    world.post("/domains", &json!({ "project": "my-site", "domain": domain, "slug": slug })).await.ok()
}

async fn verify(world: &World, domain: &str) -> Verification {
    // As the stock client sends it: without a body and without a length.
    world.call(Method::POST, &format!("/api/v1/domains/{domain}/verify")).send().await.ok()
}

async fn check(world: &World, domain: &str) -> StatusCode {
    let answer = world.stranger(Method::GET, &format!("/api/v1/domains/check?domain={domain}")).send().await;
    assert!(answer.status != StatusCode::OK || answer.text.is_empty());
    answer.status
}

#[tokio::test]
async fn a_domain_is_added_proven_listed_and_removed() {
    let (world, dns) = world().await;
    let added = add(&world, "Bücher.Example", "docs").await.domain;
    assert_eq!((&*added.domain, &*added.slug, &*added.status), ("xn--bcher-kva.example", "/docs", "pending"));
    assert_eq!((&*added.kind, added.is_primary, &*added.environment), ("custom", false, "prod"));
    assert_eq!(added.unicode.as_deref(), Some("bücher.example"));
    let token = added.verification_token.unwrap();
    let txt = format!("_pinstone.xn--bcher-kva.example. TXT \"{token}\"");
    assert_eq!(added.verification_txt.as_deref(), Some(&*txt));
    assert_eq!(
        added.verification_file.as_deref(),
        Some("http://xn--bcher-kva.example/.well-known/pinstone-domain.txt")
    );
    assert_eq!(check(&world, "xn--bcher-kva.example").await, StatusCode::NOT_FOUND);

    let missing = verify(&world, "b%C3%BCcher.example%2Fdocs").await;
    assert_eq!((&*missing.status, missing.verified), ("pending", false), "{missing:?}");
    assert!(missing.message.contains(&token) && missing.message.contains("_pinstone."), "{missing:?}");
    dns.add_text("_pinstone.xn--bcher-kva.example", "something else");
    assert!(!verify(&world, "b%C3%BCcher.example").await.verified);
    dns.add_text("_pinstone.xn--bcher-kva.example", &token);
    let proven = verify(&world, "b%C3%BCcher.example").await;
    assert_eq!((&*proven.status, proven.verified, &*proven.domain), ("active", true, "xn--bcher-kva.example"));
    assert_eq!(check(&world, "xn--bcher-kva.example").await, StatusCode::OK);

    let whole = add(&world, "bücher.example", "/").await.domain;
    assert_eq!((&*whole.status, whole.verification_txt), ("active", None), "the domain is theirs already");
    let listed: Domains = world.get("/domains?project=my-site").await.ok();
    let rows: Vec<_> = listed.domains.iter().map(|row| (&*row.domain, &*row.slug, &*row.kind, &*row.status)).collect();
    assert_eq!(
        rows,
        [
            ("my-site.pages.test", "/", "system", "active"),
            ("xn--bcher-kva.example", "/", "custom", "active"),
            ("xn--bcher-kva.example", "/docs", "custom", "active"),
        ]
    );
    assert!(listed.domains[0].is_primary && listed.domains.iter().all(|row| !row.created_at.is_empty()));
    let all: Domains = world.get("/domains").await.ok();
    assert_eq!(all.domains.len(), 2, "without a project, those that are custom");

    // Nobody's silence ends what is proven.
    dns.set_failing(true);
    let silent = verify(&world, "xn--bcher-kva.example").await;
    assert_eq!((&*silent.status, silent.verified), ("active", true), "{silent:?}");
    dns.set_failing(false);

    let change = |domain: &str, body: Value| {
        let call = world.call(Method::PATCH, &format!("/api/v1/domains/{domain}")).json(&body.to_string());
        call.send()
    };
    let changed: DomainItem = change("b%C3%BCcher.example%2Fdocs", json!({ "environment": "beta" })).await.ok();
    assert_eq!((&*changed.environment, &*changed.slug, &*changed.status), ("beta", "/docs", "active"));
    let name = json!({ "redirect_to": "www.bücher.example" });
    let changed: DomainItem = change("b%C3%BCcher.example", name).await.ok();
    assert_eq!(changed.redirect_to.as_deref(), Some("www.xn--bcher-kva.example"));
    let changed: DomainItem = change("b%C3%BCcher.example", json!({ "redirect_to": "" })).await.ok();
    assert_eq!(changed.redirect_to, None);
    let wrong = change("b%C3%BCcher.example", json!({ "redirect_to": "other.example" })).await;
    wrong.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "invalid_redirect", &[]);
    let own = change("my-site.pages.test", json!({ "environment": "beta" })).await;
    own.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "system_domain", &[]);

    let several = world.delete("/domains/b%C3%BCcher.example").await;
    several.expect_error(StatusCode::CONFLICT, "domain_ambiguous", &[]);
    world.delete("/domains/b%C3%BCcher.example%2F").await.expect_nothing();
    world.delete("/domains/b%C3%BCcher.example").await.expect_nothing();
    let gone = world.delete("/domains/b%C3%BCcher.example").await;
    gone.expect_error(StatusCode::NOT_FOUND, "domain_not_found", &[]);
    assert_eq!(check(&world, "xn--bcher-kva.example").await, StatusCode::NOT_FOUND);
    assert_eq!(add(&world, "bücher.example", "").await.domain.verification_token, Some(token), "it is always the same");

    let audit = world.get("/audit?project=my-site").await.json();
    let actions: Vec<_> = audit["items"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
    for action in ["domain.add", "domain.verify", "domain.remove"] {
        assert!(actions.contains(&Value::from(action)), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_domain_is_refused() {
    let (world, _dns) = world().await;
    let long = "x".repeat(300);
    for (domain, status, code) in [
        ("", StatusCode::BAD_REQUEST, "domain_required"),
        ("nodots", StatusCode::BAD_REQUEST, "invalid_domain"),
        ("evil.example:80", StatusCode::BAD_REQUEST, "invalid_domain"),
        ("https://evil.example", StatusCode::BAD_REQUEST, "invalid_domain"),
        ("192.0.2.1", StatusCode::BAD_REQUEST, "invalid_domain"),
        ("[::1]", StatusCode::BAD_REQUEST, "invalid_domain"),
        ("evil.example.", StatusCode::BAD_REQUEST, "invalid_domain"),
        ("*.evil.example", StatusCode::BAD_REQUEST, "invalid_domain"),
        ("../evil", StatusCode::BAD_REQUEST, "invalid_domain"),
        (&long, StatusCode::BAD_REQUEST, "invalid_domain"),
        ("co.uk", StatusCode::UNPROCESSABLE_ENTITY, "public_suffix"),
        ("github.io", StatusCode::UNPROCESSABLE_ENTITY, "public_suffix"),
        ("api.pages.test", StatusCode::UNPROCESSABLE_ENTITY, "domain_reserved"),
        ("other-site.pages.test", StatusCode::UNPROCESSABLE_ENTITY, "domain_reserved"),
        ("my-site-beta.pages.test", StatusCode::UNPROCESSABLE_ENTITY, "domain_reserved"),
        ("my-site.pages.test", StatusCode::CONFLICT, "domain_exists"),
    ] {
        let answer = world.post("/domains", &json!({ "project": "my-site", "domain": domain })).await;
        answer.expect_error(status, code, &["evil", "192.0", "nodots", &long]);
    }
    for (body, status, code) in [
        (json!({ "domain": "a.example" }), StatusCode::BAD_REQUEST, "project_required"),
        (json!({ "project": "my-site" }), StatusCode::BAD_REQUEST, "invalid_request"),
        (json!({ "project": "nobodys", "domain": "a.example" }), StatusCode::NOT_FOUND, "project_not_found"),
        (
            json!({ "project": "my-site", "domain": "a.example", "slug": "a/../b" }),
            StatusCode::BAD_REQUEST,
            "invalid_prefix",
        ),
        (
            json!({ "project": "my-site", "domain": "a.example", "environment": "A" }),
            StatusCode::BAD_REQUEST,
            "invalid_environment",
        ),
        (
            json!({ "project": "my-site", "domain": "a.example", "redirect_to": "b.example" }),
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_redirect",
        ),
    ] {
        world.post("/domains", &body).await.expect_error(status, code, &["nobodys"]);
    }
    for wrong in ["%2e%2e", "a", "a.example%2F..", "a.example:80"] {
        assert_eq!(world.delete(&format!("/domains/{wrong}")).await.status, StatusCode::BAD_REQUEST, "{wrong}");
        let verified = world.post(&format!("/domains/{wrong}/verify"), &json!({})).await;
        assert_eq!(verified.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let own = world.delete("/domains/my-site.pages.test").await;
    own.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "system_domain", &[]);
    let others = world.delete("/domains/other-site.pages.test").await;
    others.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "domain_reserved", &[]);
    let own = verify(&world, "my-site.pages.test").await;
    assert_eq!((&*own.status, own.verified), ("active", true));
    let none: Domains = world.get("/domains").await.ok();
    assert!(none.domains.is_empty());
}

#[tokio::test]
async fn another_teams_domain_is_as_if_it_were_not_there() {
    let (world, dns) = world().await;
    let ann = world.user("ann@example.test").await.token;
    let bob = world.user("bob@example.test").await.token;
    for (token, project) in [(&ann, "ann-site"), (&bob, "bob-site")] {
        let plan = world.post_as(token, "/plan", &super::world::plan_of(project, &[("a", "a")])).await;
        assert_eq!(plan.status, StatusCode::OK);
    }
    let claim = |project: &str| json!({ "project": project, "domain": "shop.example" });
    let anns: DomainAnswer = world.post_as(&ann, "/domains", &claim("ann-site")).await.ok();
    let bobs: DomainAnswer = world.post_as(&bob, "/domains", &claim("bob-site")).await.ok();
    let tokens = [anns, bobs].map(|added| added.domain.verification_token.unwrap());
    assert_ne!(tokens[0], tokens[1]);
    let again = world.post_as(&ann, "/domains", &claim("ann-site")).await;
    again.expect_error(StatusCode::CONFLICT, "domain_exists", &[]);
    // One's token proves nothing for the other.
    dns.add_text("_pinstone.shop.example", &tokens[0]);
    let verify = async |token: &str| world.post_as(token, "/domains/shop.example/verify", &json!({})).await;
    let of_bob: Verification = verify(&bob).await.ok();
    assert!(!of_bob.verified);
    let of_ann: Verification = verify(&ann).await.ok();
    assert!(of_ann.verified);
    dns.add_text("_pinstone.shop.example", &tokens[1]);
    verify(&bob).await.expect_error(StatusCode::CONFLICT, "domain_taken", &[]);
    let more = json!({ "project": "bob-site", "domain": "shop.example", "slug": "b" });
    let more = world.post_as(&bob, "/domains", &more).await;
    more.expect_error(StatusCode::CONFLICT, "domain_taken", &[]);

    for token in [&*bob, TOKEN] {
        let listed: Domains = world.get_as(token, "/domains").await.ok();
        assert!(listed.domains.iter().all(|row: &DomainItem| row.status == "pending"));
    }
    verify(TOKEN).await.expect_error(StatusCode::NOT_FOUND, "domain_not_found", &["shop"]);
    let foreign = world.delete("/domains/shop.example").await;
    foreign.expect_error(StatusCode::NOT_FOUND, "domain_not_found", &["shop"]);
    let of_another = world.post("/domains", &claim("ann-site")).await;
    of_another.expect_error(StatusCode::NOT_FOUND, "project_not_found", &["shop", "ann"]);

    // Others wait after it was removed; who removed it does not.
    world.delete_as(&ann, "/domains/shop.example").await.expect_nothing();
    let held = verify(&bob).await;
    held.expect_error(StatusCode::CONFLICT, "domain_held", &[]);
    assert!(held.text.contains("2023-11-17T22:13:2"), "{}", held.text);
    world.clock.advance(Duration::from_secs(3 * 24 * 60 * 60));
    let of_bob: Verification = verify(&bob).await.ok();
    assert!(of_bob.verified);
}

#[tokio::test]
async fn a_request_that_comes_again_is_answered_alike() {
    let (world, _dns) = world().await;
    let body = json!({ "project": "my-site", "domain": "a.example" });
    let first: DomainAnswer = world.post_with_key("/domains", "k1", &body).await.ok();
    let again: DomainAnswer = world.post_with_key("/domains", "k1", &body).await.ok();
    assert_eq!(serde_json::to_value(&first).unwrap(), serde_json::to_value(&again).unwrap());
    let other = world.post_with_key("/domains", "k1", &json!({ "project": "my-site", "domain": "b.example" })).await;
    other.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", &[]);
    let without = world.post("/domains", &body).await;
    without.expect_error(StatusCode::CONFLICT, "domain_exists", &[]);
}

#[tokio::test]
async fn who_gets_certificates_asks_what_is_served() {
    let (world, _dns) = world().await;
    let missing = world.stranger(Method::GET, "/api/v1/domains/check").send().await;
    missing.expect_error(StatusCode::BAD_REQUEST, "domain_required", &[]);
    for (domain, want) in [
        ("pages.test", StatusCode::OK),
        ("api.pages.test", StatusCode::OK),
        ("other-site.pages.test", StatusCode::NOT_FOUND),
        ("my-site.pages.test", StatusCode::NOT_FOUND),
        ("127.0.0.1", StatusCode::NOT_FOUND),
        ("a.b.pages.test", StatusCode::NOT_FOUND),
        ("elsewhere.example", StatusCode::NOT_FOUND),
        ("not%20a%20host", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(check(&world, domain).await, want, "{domain}");
    }
    let image = world.publish("my-site", &[("index.html", "b")]).await.image_id;
    let release = json!({ "project": "my-site", "environment": "prod", "image_id": image });
    assert_eq!(world.post("/release", &release).await.status, StatusCode::OK);
    assert_eq!(check(&world, "my-site.pages.test").await, StatusCode::OK);
    assert_eq!(check(&world, "MY-SITE.pages.test.").await, StatusCode::OK);
}

#[tokio::test]
async fn a_domain_that_leads_inside_is_not_asked() {
    let (world, dns) = world().await;
    for (name, addresses) in [
        ("a.example", &["127.0.0.1"][..]),
        ("b.example", &["10.0.0.1"]),
        ("c.example", &["::ffff:169.254.169.254"]),
        ("d.example", &["1.1.1.1", "192.168.0.1"]),
        ("e.example", &["fd00::1"]),
    ] {
        addresses.iter().for_each(|address| dns.add_address(name, address));
        add(&world, name, "").await;
        let answer = verify(&world, name).await;
        assert!(!answer.verified && answer.message.contains("not public"), "{name}: {answer:?}");
    }
    // One that leads here is told so, by the addresses of the base domain.
    dns.add_address("pages.test", "10.9.9.9");
    dns.add_address("f.example", "10.9.9.9");
    add(&world, "f.example", "").await;
    let answer = verify(&world, "f.example").await;
    assert!(answer.message.contains("leads to this server already"), "{answer:?}");
}
