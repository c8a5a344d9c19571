//! Previews, pins and hosts of images, through the command line and the wire.

use std::path::Path;

use serde_json::{Value, json};

use crate::site::Files;
use crate::world::{World, until};

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn page(content: &str) -> Files {
    vec![("index.html".to_owned(), content.as_bytes().to_vec())]
}

/// The host of a URL, without its port.
fn host(url: &Value) -> String {
    let url = url.as_str().expect("a URL");
    let host = url.strip_prefix("http://").and_then(|rest| rest.split(':').next());
    host.unwrap_or_else(|| panic!("{url}")).to_owned()
}

#[test]
fn a_folder_is_previewed() {
    let world = World::start();
    let folder = world.folder("site", &page("one"));
    let planned = world.cli(&["preview", text(&folder), "--project", "demo", "--dry-run", "--json"]).expect(0).json();
    assert_eq!((&planned["dry_run"], &planned["image_id"]), (&json!(true), &Value::Null), "{planned}");

    let made = world.cli(&["preview", text(&folder), "--project", "demo", "--json", "-m", "look"]).expect(0).json();
    let slug = made["slug"].as_str().expect("a slug");
    assert_eq!((slug.len(), &made["new"], &made["number"]), (8, &json!(1), &json!(1)), "{made}");
    assert_eq!(host(&made["url"]), format!("demo--{slug}.localhost"), "{made}");
    let shown = world.get(&host(&made["url"]), "/").expect(200);
    assert_eq!((shown.text(), shown.header("x-robots-tag")), ("one", Some("noindex")));
    world.get("demo.localhost", "/").expect(404);
    world.get("demo-beta.localhost", "/").expect(404);

    // Under a name, moved and renewed.
    let told =
        world.cli(&["preview", text(&folder), "--project", "demo", "--slug", "pr-7", "--expires", "1h"]).expect(0);
    assert!(host(&json!(told.stdout.trim())).starts_with("demo--pr-7."), "data on stdout is the URL: {told:?}");
    std::fs::write(folder.join("index.html"), "two").unwrap();
    let moved = ["preview", text(&folder), "--project", "demo", "--slug", "pr-7", "--expires", "2d", "--json"];
    let moved = world.cli(&moved).expect(0).json();
    assert_eq!((&moved["number"], &moved["new"]), (&json!(2), &json!(1)), "{moved}");
    assert_eq!(world.get("demo--pr-7.localhost", "/").expect(200).text(), "two");

    let listed = world.cli(&["preview", "list", "--project", "demo", "--json"]).expect(0).json();
    let items = listed["items"].as_array().expect("a list");
    assert_eq!(items.len(), 2, "{listed}");
    let seven = items.iter().find(|item| item["slug"] == "pr-7").expect("it is there");
    assert_eq!((&seven["image_id"], &seven["expires_at"]), (&moved["image_id"], &moved["expires_at"]), "{listed}");
    assert_eq!(seven["expired"], false);
    let lines = world.cli(&["preview", "list", "--project", "demo"]).expect(0).stdout;
    assert!(lines.lines().count() == 2 && lines.contains("pr-7") && lines.contains("until "), "{lines}");

    // What is looked at goes to `prod` as it is.
    world.cli(&["promote", "pr-7", "prod", "--project", "demo"]).expect(0);
    assert_eq!(world.get("demo.localhost", "/").expect(200).text(), "two");

    world.cli(&["preview", "delete", "pr-7", "--project", "demo"]).expect(0);
    world.get("demo--pr-7.localhost", "/").expect(404);
    let again = world.cli(&["preview", "delete", "pr-7", "--project", "demo"]).expect(1);
    assert!(again.stderr.contains("`pr-7`") && again.stderr.contains("preview list"), "{again:?}");
}

#[test]
fn an_expired_preview_is_410_also_after_a_restart() {
    let mut world = World::start();
    let folder = world.folder("site", &page("one"));
    let preview = |world: &World, expires: &str| {
        let line = ["preview", text(&folder), "--project", "demo", "--slug", "soon", "--expires", expires];
        world.cli(&line).expect(0);
    };
    preview(&world, "1");
    until("the preview is over", || world.get("demo--soon.localhost", "/").status == 410);
    let over = world.get("demo--soon.localhost", "/").expect(410);
    assert_eq!((over.header("x-robots-tag"), over.header("cache-control")), (Some("noindex"), Some("no-cache")));
    assert!(over.text().contains("Preview over"));
    let listed = world.cli(&["preview", "list", "--project", "demo"]).expect(0).stdout;
    assert!(listed.contains("over since"), "{listed}");
    world.stop();
    world.restart();
    world.get("demo--soon.localhost", "/").expect(410);

    // A renewed one survives the server too.
    preview(&world, "1d");
    assert_eq!(world.get("demo--soon.localhost", "/").expect(200).text(), "one");
    world.kill();
    world.restart();
    assert_eq!(world.get("demo--soon.localhost", "/").expect(200).text(), "one");
    world.stop();
    world.fsck().expect(0);
}

#[test]
fn names_of_previews() {
    let world = World::start();
    let image = world.publish("demo", &page("one"));
    world.release("demo", "stage", &image);
    let folder = world.folder("site", &page("two"));
    let preview = |slug: &str| world.cli(&["preview", text(&folder), "--project", "demo", "--slug", slug, "--json"]);
    let refused = preview("stage").expect(4);
    assert!(refused.stderr.contains("name_is_environment") && refused.stderr.contains("--slug"), "{refused:?}");
    assert_eq!(world.get("demo--stage.localhost", "/").expect(200).text(), "one", "as it was");
    for wrong in ["prod", "beta", "Beta", "i-0123456789abcdef"] {
        preview(wrong).expect(2);
    }
    world.cli(&["preview", text(&folder), "--project", "demo", "--expires", "soon"]).expect(2);
    let long = world.cli(&["preview", text(&folder), "--project", "demo", "--expires", "31d"]).expect(1);
    assert!(long.stderr.contains("--expires") && long.stderr.contains("1 second to 30 days"), "{long:?}");
    let slug = ["preview", text(&folder), "--project", "demo", "--slug", "Feature/X"];
    let made = world.cli(&slug).expect(0);
    assert!(made.stderr.contains("`Feature/X` as a preview's name is `feature-x`"), "{made:?}");
    world.get("demo--feature-x.localhost", "/").expect(200);
    world.cli(&["preview", "delete", "Feature/X", "--project", "demo"]).expect(0);

    let branch = "feature-redesign-of-the-pricing-page";
    let made = preview(branch).expect(0).json();
    let slug = made["slug"].as_str().expect("a slug").to_owned();
    assert!(slug.starts_with("feature-redesi") && slug.len() == 21, "{made}");
    world.get(&format!("demo--{slug}.localhost"), "/").expect(200);
    let deployed = world.cli(&["deploy", text(&folder), "--project", "demo", "--env", &slug]).expect(4);
    assert!(deployed.stderr.contains("preview"), "{deployed:?}");
    world.cli(&["preview", "delete", branch, "--project", "demo"]).expect(0);
    world.get(&format!("demo--{slug}.localhost"), "/").expect(404);
    world.cli(&["deploy", text(&folder), "--project", "demo", "--env", &slug]).expect(0);

    let behind = world.cli(&["preview", "--project", "demo", "list"]).expect(2);
    assert!(behind.stderr.contains("preview list"), "{behind:?}");
}

#[test]
fn the_first_clients_preview() {
    let world = World::start();
    let image = world.commit("demo", &page("one"));
    let body = json!({"project": "demo", "image_id": image, "slug": "pr-7", "expires_in": 3600});
    let made = world.api("POST", "/preview", Some(&body)).expect(200).json();
    for field in ["url", "slug", "image_id", "expires_at"] {
        assert!(made[field].is_string(), "{field} in {made}");
    }
    assert_eq!(world.get("demo--pr-7.localhost", "/").expect(200).text(), "one");
    let again = world.api("POST", "/preview", Some(&body)).expect(200).json();
    assert!(again["expires_at"].as_str() >= made["expires_at"].as_str(), "renewed: {again}");
    world.api("DELETE", "/previews/demo/pr-7", None).expect(204);
    world.api("DELETE", "/previews/demo/pr-7", None).expect_error(404, "preview_not_found");
    world.get("demo--pr-7.localhost", "/").expect(404);
}

#[test]
fn images_are_pinned() {
    let mut world = World::start();
    let image = world.publish("demo", &page("one"));
    let other = world.publish("demo", &page("two"));
    let pin = |world: &World, typed: &str, more: &[&str]| {
        let mut line = vec!["pin", typed, "--project", "demo", "--json"];
        line.extend(more);
        world.cli(&line)
    };
    let pinned = pin(&world, &image, &["-m", "for the board"]).expect(0).json();
    assert_eq!((&pinned["pinned"], &pinned["pin"]["message"]), (&json!(true), &json!("for the board")), "{pinned}");
    assert_eq!(world.get(&host(&pinned["url"]), "/").expect(200).text(), "one", "its own host");
    for typed in [&image[..12], "prod#1"] {
        assert_eq!(pin(&world, typed, &[]).expect(0).json()["image_id"], json!(image), "{typed}");
    }
    for typed in ["prod#2", "prod"] {
        assert_eq!(pin(&world, typed, &[]).expect(0).json()["image_id"], json!(other), "{typed}");
    }
    let no_image = format!("img_{}", "0".repeat(32));
    for (typed, code) in [("prod#3", 1), ("./site", 2), ("nothing", 1), (&*no_image, 1)] {
        pin(&world, typed, &[]).expect(code);
    }

    world.stop();
    world.restart();
    let pins = || {
        let listed = world.cli(&["images", "--project", "demo", "--json"]).expect(0).json();
        let images = listed["images"].as_array().expect("a list").clone();
        images.iter().map(|image| image["pinned"].as_bool().expect("a flag")).collect::<Vec<_>>()
    };
    assert_eq!(pins(), [true, true]);
    let lines = world.cli(&["images", "--project", "demo"]).expect(0).stdout;
    assert_eq!(lines.matches("pinned").count(), 2, "{lines}");
    for _ in 0..2 {
        world.cli(&["unpin", &other, "--project", "demo"]).expect(0);
    }
    assert_eq!(pins(), [false, true]);
}

#[test]
fn hosts_of_images_are_closed_and_opened() {
    let mut world = World::start();
    let image = world.publish("demo", &page("one"));
    let own = format!("demo--i-{}.localhost", &image[4..20]);
    let set = |world: &World, value: &str| {
        let set = world.cli(&["project", "set", "--image-hosts", value, "--project", "demo", "--json"]).expect(0);
        assert_eq!(set.json()["image_hosts"], value);
    };
    assert_eq!(world.get(&own, "/").expect(200).text(), "one");
    set(&world, "protected");
    let closed = world.get(&own, "/").expect(403);
    assert!(closed.text().contains("Protected") && closed.header("cache-control") == Some("no-store"), "{closed:?}");
    set(&world, "off");
    world.get(&own, "/").expect(404);
    world.get("demo.localhost", "/").expect(200);
    let shown = world.cli(&["project", "show", "--project", "demo"]).expect(0).stdout;
    assert!(shown.lines().any(|line| line.starts_with("image hosts") && line.ends_with("off")), "{shown}");
    // The first answer after a restart is no other.
    world.stop();
    world.restart();
    world.get(&own, "/").expect(404);
    set(&world, "public");
    assert_eq!(world.get(&own, "/").expect(200).text(), "one");
    world.cli(&["project", "set", "--image-hosts", "secret", "--project", "demo"]).expect(2);
    world.cli(&["project", "set", "--project", "demo"]).expect(2);
    world.cli(&["project", "show", "--project", "nobodys"]).expect(1);
    world.stop();
    world.fsck().expect(0);
}
