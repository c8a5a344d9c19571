//! Custom domains: what is shown under which prefix, and where visitors are sent.

use pinstone_engine::id::ProjectId;
use pinstone_engine::manifest::Settings;
use pinstone_engine::pointers::{DomainRoute, DomainShown, PointerEvent};

use crate::world::World;

/// Lets `shop.example` show these, from the change of this number on.
fn show(world: &World, domain: &str, number: u64, routes: &[(&str, ProjectId, &str)], redirect_to: Option<&str>) {
    let routes: Vec<_> = routes
        .iter()
        .map(|(prefix, project_id, environment)| DomainRoute {
            prefix: prefix.parse().unwrap(),
            project_id: *project_id,
            environment: environment.parse().unwrap(),
        })
        .collect();
    let redirect_to = redirect_to.map(|domain| domain.parse().unwrap());
    let shows = (!routes.is_empty()).then_some(DomainShown { routes, redirect_to });
    world.engine.resolver().pointers().apply(PointerEvent::Domain { domain: domain.parse().unwrap(), number, shows });
}

fn id(world: &World, project: &str) -> ProjectId {
    world.engine.resolver().pointers().project(project).unwrap().project
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_prefix_is_shown_and_every_redirect_keeps_it() {
    let world = World::with(&[("index.html", b"front"), ("docsx", b"not docs"), ("404.html", b"front 404")]).await;
    let docs: &[(&str, &[u8])] = &[
        ("index.html", b"docs"),
        ("guide/index.html", b"guide"),
        ("page.html", b"page"),
        ("app.4f3a9c1b.js", b"let a;"),
        ("404.html", b"docs 404"),
    ];
    let settings = Settings { html: pinstone_engine::manifest::HtmlMode::Auto, ..Settings::default() };
    world.publish_as("manual", "prod", settings, docs).await;
    world.publish("manual", "beta", &[("index.html", b"beta")]).await;
    let (demo, manual) = (id(&world, "demo"), id(&world, "manual"));
    let mut connection = world.connect();
    assert_eq!(connection.get("shop.example", "/", "").status, 404, "nobody has it");

    show(&world, "shop.example", 1, &[("/", demo, "prod")], None);
    assert_eq!(connection.get("shop.example", "/", "").text(), "front");
    assert_eq!(connection.get("shop.example", "/", "").field("x-robots-tag"), None);
    assert_eq!(connection.get("shop.example", "/docs/", "").text(), "front 404");

    let routes =
        [("/", demo, "prod"), ("/docs", manual, "prod"), ("/docs/next", manual, "beta"), ("/w s", manual, "prod")];
    show(&world, "shop.example", 2, &routes, None);
    for (target, status, want) in [
        ("/", 200, "front"),
        ("/docsx", 200, "not docs"),
        ("/docs/", 200, "docs"),
        ("/docs/page", 200, "page"),
        ("/docs/next/", 200, "beta"),
        ("/w%20s/guide/", 200, "guide"),
        ("/docs/none", 404, "docs 404"),
        ("/none", 404, "front 404"),
        ("/docs", 308, "/docs/"),
        ("/docs?q=1", 308, "/docs/?q=1"),
        ("/docs/next", 308, "/docs/next/"),
        ("/docs/guide", 308, "/docs/guide/"),
        ("/docs/page.html", 308, "/docs/page"),
        ("/docs//page", 308, "/docs/page"),
        ("/w%20s/guide", 308, "/w%20s/guide/"),
        ("/docs/../x", 400, ""),
    ] {
        for _ in 0..2 {
            let response = connection.get("shop.example", target, "");
            assert_eq!(response.status, status, "{target}: {response:?}");
            match status {
                308 => assert_eq!(response.field("location"), Some(want), "{target}"),
                400 => {}
                _ => assert_eq!(response.text(), want, "{target}"),
            }
            if status == 400 {
                connection = world.connect();
            }
        }
    }
    let script = connection.get("shop.example", "/docs/app.4f3a9c1b.js", "");
    assert_eq!(script.field("cache-control"), Some("public, max-age=31536000, immutable"), "{script:?}");

    // A release is seen under the prefix, by a connection that is open.
    world.publish("manual", "prod", &[("index.html", b"newer")]).await;
    assert_eq!(connection.get("shop.example", "/docs/", "").text(), "newer");

    // Without anything at the root, only what is under a prefix is there.
    show(&world, "shop.example", 3, &routes[1..2], None);
    for (target, status) in [("/", 404), ("/docsx", 404), ("/docs/", 200)] {
        assert_eq!(connection.get("shop.example", target, "").status, status, "{target}");
    }
    show(&world, "shop.example", 4, &[], None);
    assert_eq!(connection.get("shop.example", "/docs/", "").status, 404);
    // An environment that shows nothing is as if it were not there.
    show(&world, "shop.example", 5, &[("/", manual, "none")], None);
    assert_eq!(connection.get("shop.example", "/", "").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_are_sent_to_the_proper_name_while_that_is_served() {
    let world = World::with(&[("index.html", b"front"), ("a.txt", b"a")]).await;
    let demo = id(&world, "demo");
    show(&world, "www.shop.example", 1, &[("/", demo, "prod")], Some("shop.example"));
    let mut connection = world.connect();
    assert_eq!(connection.get("www.shop.example", "/a.txt", "").text(), "a", "there is nowhere to go yet");
    show(&world, "shop.example", 1, &[("/", demo, "prod")], None);
    for (host, target, want) in [
        ("www.shop.example", "/", "http://shop.example/"),
        ("WWW.shop.example:8080", "/a.txt?q=%41", "http://shop.example:8080/a.txt?q=%41"),
        ("www.shop.example", "//evil.example/..", "http://shop.example//evil.example/.."),
    ] {
        let response = connection.get(host, target, "");
        assert_eq!((response.status, response.field("location")), (308, Some(want)), "{host} {target}");
    }
    assert_eq!(connection.get("shop.example", "/a.txt", "").text(), "a");
    show(&world, "shop.example", 2, &[], None);
    assert_eq!(connection.get("www.shop.example", "/a.txt", "").text(), "a");
}
