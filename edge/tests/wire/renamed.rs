//! Hosts of names that a project had before.

use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::projects::{FORMER_NAME, ProjectChange};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_host_of_a_former_name_leads_to_the_same_of_the_new_one() {
    let clock = Clock::manual(UnixMillis(1_700_000_000_000));
    let world = World::start(clock.clone(), None, |_| {}, &[("index.html", b"one")]).await;
    let mut connection = world.connect();
    assert_eq!(connection.get("demo.pages.test", "/", "").status, 200);
    let image = world.engine.resolver().pointers().find("demo", "prod").unwrap().image;
    let digits = &image.to_string()[4..20];

    let owner = world.engine.owner_principal();
    let change = ProjectChange { name: Some("renamed".parse().unwrap()), ..ProjectChange::default() };
    world.engine.change_project(&owner, &"demo".parse().unwrap(), change).await.unwrap();
    let image_host = format!("demo--i-{digits}.pages.test");
    let new_image_host = format!("//renamed--i-{digits}.pages.test/");
    for (host, target, want) in [
        ("demo.pages.test", "/", "//renamed.pages.test/"),
        ("demo.pages.test:8080", "/a%20b/?x=1&y", "//renamed.pages.test:8080/a%20b/?x=1&y"),
        ("DEMO.pages.test", "/", "//renamed.pages.test/"),
        ("demo-beta.pages.test", "/x", "//renamed-beta.pages.test/x"),
        ("demo--pr-7.pages.test", "/", "//renamed--pr-7.pages.test/"),
        (&image_host, "/", &new_image_host),
    ] {
        // On the connection that was shown the site at this host a moment ago.
        let response = connection.get(host, target, "");
        assert_eq!((response.status, response.field("location")), (308, Some(want)), "{host}{target}");
        assert_eq!(response.field("content-length"), Some("0"));
    }
    assert_eq!(connection.get("demo--a--b.pages.test", "/", "").status, 404, "no environment is called so");
    assert_eq!(connection.get("other.pages.test", "/", "").status, 404);
    assert_eq!(connection.get("renamed.pages.test", "/", "").text(), "one");
    connection.send("PUT / HTTP/1.1\r\nHost: demo.pages.test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(connection.receive(true).status, 308, "which keeps the method");

    // The name goes to another project of the team, and then its hosts are that one's.
    world.publish("demo", "beta", &[("index.html", b"two")]).await;
    assert_eq!(connection.get("demo-beta.pages.test", "/", "").status, 308, "a plan by the old name means the project");
    world.engine.create_project(&owner, &"demo".parse().unwrap(), None).await.unwrap();
    assert_eq!(connection.get("demo.pages.test", "/", "").status, 404);

    let change = ProjectChange { name: Some("again".parse().unwrap()), ..ProjectChange::default() };
    world.engine.change_project(&owner, &"renamed".parse().unwrap(), change).await.unwrap();
    assert_eq!(connection.get("renamed.pages.test", "/", "").field("location"), Some("//again.pages.test/"));
    clock.advance(FORMER_NAME);
    assert_eq!(connection.get("renamed.pages.test", "/", "").status, 404, "it is over");
    assert_eq!(connection.get("again.pages.test", "/", "").text(), "one");
}
