//! Hosts that end, and hosts of single images.

use std::time::Duration;

use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::id::ImageId;
use pinstone_engine::pointers::ImageHosts;
use pinstone_engine::projects::ProjectChange;
use pinstone_engine::publish::PreviewRequest;

use crate::world::{Response, SITE, World};

async fn preview(world: &World, slug: &str, image: ImageId, seconds: u64) {
    let request = PreviewRequest {
        project: "demo".parse().unwrap(),
        image,
        slug: Some(slug.parse().unwrap()),
        lifetime: Some(Duration::from_secs(seconds)),
        message: None,
    };
    world.engine.preview(&world.engine.owner_principal(), request, None).await.unwrap();
}

async fn set(world: &World, image_hosts: ImageHosts) {
    let change = ProjectChange { image_hosts: Some(image_hosts), ..ProjectChange::default() };
    world.engine.change_project(&world.engine.owner_principal(), &"demo".parse().unwrap(), change).await.unwrap();
}

/// A page of the edge's own: whole, not to be kept, not to be listed.
#[track_caller]
fn assert_page(response: &Response, status: u16, cache_control: &str, words: &str) {
    assert_eq!((response.status, response.field("cache-control")), (status, Some(cache_control)), "{response:?}");
    assert_eq!(response.field("x-robots-tag"), Some("noindex"));
    assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(response.text().contains(words), "{}", response.text());
    assert_eq!((response.field("etag"), response.field("last-modified")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_is_410_from_its_end_until_it_is_renewed_or_deleted() {
    let clock = Clock::manual(UnixMillis(1_700_000_000_000));
    let world = World::start(clock.clone(), None, |_| {}, &[("index.html", b"one"), ("a.css", b"a")]).await;
    let image = world.engine.resolver().pointers().find("demo", "prod").unwrap().image;
    let host = "demo--pr-7.pages.test";
    preview(&world, "pr-7", image, 60).await;
    // One connection sees all of it: what it was answered before binds nothing.
    let mut connection = world.connect();
    for target in ["/", "/a.css", "/nowhere"] {
        let response = connection.get(host, target, "");
        assert_eq!(response.field("x-robots-tag"), Some("noindex"), "{target}");
    }
    let shown = connection.get(host, "/", "");
    let tag = shown.field("etag").unwrap().to_owned();
    assert_eq!((shown.status, shown.text()), (200, "one"));
    let not_modified = connection.get(host, "/", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((not_modified.status, not_modified.field("x-robots-tag")), (304, Some("noindex")));
    assert_eq!(connection.get(SITE, "/", "").field("x-robots-tag"), None, "`prod` shows the same and is listed");

    clock.advance(Duration::from_secs(60));
    for target in ["/", "/a.css", "/nowhere"] {
        assert_page(&connection.get(host, target, ""), 410, "no-cache", "Preview over");
    }
    let asked = connection.get(host, "/", &format!("If-None-Match: {tag}\r\nRange: bytes=0-0\r\n"));
    assert_page(&asked, 410, "no-cache", "Preview over");
    connection.send(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(connection.receive(false).status, 410);
    assert_eq!(connection.get(SITE, "/", "").status, 200);

    preview(&world, "pr-7", image, 60).await;
    assert_eq!(connection.get(host, "/", "").text(), "one", "at once, on the same connection");
    clock.advance(Duration::from_secs(60 * 60 * 24 * 30));
    assert_page(&connection.get(host, "/", ""), 410, "no-cache", "Preview over");
    let (owner, demo) = (world.engine.owner_principal(), "demo".parse().unwrap());
    world.engine.delete_preview(&owner, &demo, &"pr-7".parse().unwrap()).await.unwrap();
    assert_page(&connection.get(host, "/", ""), 404, "no-cache", "No site here");
}

#[tokio::test(flavor = "multi_thread")]
async fn image_hosts_answer_as_their_project_is_set() {
    let world = World::with(&[("index.html", b"one")]).await;
    world.publish("other", "prod", &[("index.html", b"other")]).await;
    let image = world.engine.resolver().pointers().find("demo", "prod").unwrap().image;
    let other = world.engine.resolver().pointers().find("other", "prod").unwrap().image;
    let host = format!("demo--i-{}.pages.test", image.host_digits());
    let unknown = "demo--i-0123456789abcdef.pages.test";
    let others = format!("other--i-{}.pages.test", other.host_digits());
    let mut connection = world.connect();
    let shown = connection.get(&host, "/", "");
    let tag = shown.field("etag").unwrap().to_owned();
    assert_eq!((shown.text(), shown.field("x-robots-tag")), ("one", Some("noindex")));

    // The image is in every cache now, and the next answer is another all the same.
    set(&world, ImageHosts::Protected).await;
    let asked = format!("If-None-Match: {tag}\r\nAuthorization: Basic b3duZXI6cGluX3Rlc3Q=\r\n");
    for fields in ["", &asked] {
        assert_page(&connection.get(&host, "/", fields), 403, "no-store", "Protected");
    }
    assert_page(&connection.get(unknown, "/", ""), 403, "no-store", "Protected");
    for method in ["HEAD", "OPTIONS", "POST"] {
        connection.send(format!("{method} / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(connection.receive(method != "HEAD").status, 403, "{method}");
    }

    set(&world, ImageHosts::Off).await;
    let off = connection.get(&host, "/", "");
    assert_page(&off, 404, "no-cache", "No site here");
    assert_eq!(connection.get(unknown, "/", "").body, off.body, "nothing tells which images there are");

    assert_eq!(connection.get(SITE, "/", "").text(), "one", "environments are not concerned");
    assert_eq!(connection.get(&others, "/", "").text(), "other", "nor is another project");
    set(&world, ImageHosts::Public).await;
    assert_eq!(connection.get(&host, "/", "").text(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_own_host_names_the_time_of_its_first_commit() {
    let files: [(&str, &[u8]); 1] = [("a.txt", b"a")];
    let clock = Clock::manual(UnixMillis(1_700_000_000_000));
    let world = World::start(clock.clone(), None, |_| {}, &files).await;
    clock.advance(Duration::from_secs(3600));
    let image = world.publish("demo", "beta", &files).await;
    let modified = |host: &str| world.get(host, "/a.txt").field("last-modified").map(str::to_owned);
    let own_host = format!("demo--i-{}.pages.test", image.host_digits());
    assert_eq!(modified(&own_host).as_deref(), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
    assert_eq!(modified("demo-beta.pages.test").as_deref(), Some("Tue, 14 Nov 2023 23:13:20 GMT"));
}
