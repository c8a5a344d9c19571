//! Files are compressed in the background: seen from outside, over restarts, kills and imports.

use std::io::Read;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::publish::all_served;
use crate::site::{self, Files};
use crate::world::{World, run, until};

/// A page of so many lines, like no other.
fn page(seed: &str, lines: usize) -> Vec<u8> {
    let numbers = site::noise(seed, lines);
    let line = |number: &u8| format!("<li class=\"item\">{seed} number {number} of the list</li>\n");
    numbers.iter().map(line).collect::<String>().into_bytes()
}

/// Files of which four are worth compressing.
fn files() -> Files {
    vec![
        ("index.html".to_owned(), page("index", 100)),
        ("docs/index.html".to_owned(), page("docs", 3000)),
        ("docs/again.html".to_owned(), page("docs", 3000)),
        ("style.css".to_owned(), page("style", 20)),
        ("data.json".to_owned(), page("data", 500)),
        ("small.css".to_owned(), b"body{}".to_vec()),
        ("photo.png".to_owned(), page("no photo", 50)),
        ("noise.txt".to_owned(), site::noise("noise", 5000)),
    ]
}

fn variants(world: &World, project: &str, image: &str) -> Value {
    world.api("GET", &format!("/images/{image}?project={project}"), None).expect(200).json()["variants"].clone()
}

fn wait_until_made(world: &World, project: &str, image: &str) {
    until("the variants are made", || variants(world, project, image)["state"] == "made");
}

#[track_caller]
fn fsck(world: &World) -> Value {
    let mut command = world.command();
    command.args(["fsck", "--json", "--data"]).arg(world.data());
    let report = run(command).expect(0).json();
    assert_eq!(report["clean"], true, "{report}");
    report
}

#[test]
fn a_site_is_compressed_once_and_what_it_saves_is_shown() {
    let mut world = World::start();
    let image = world.publish("demo", &files());
    wait_until_made(&world, "demo", &image);
    let shown = variants(&world, "demo", &image);
    let bytes = |coding: &str| shown["bytes"][coding].as_u64().unwrap_or_else(|| panic!("{shown}"));
    let worth: usize =
        files().iter().filter(|(path, bytes)| !path.ends_with("png") && bytes.len() >= 256).map(|(_, b)| b.len()).sum();
    assert_eq!(bytes("identity"), worth as u64);
    assert!(
        bytes("br") < bytes("gzip") && bytes("zstd") < bytes("identity") && bytes("gzip") < bytes("identity"),
        "{shown}"
    );
    assert!(shown["saved"].as_u64().unwrap() >= bytes("identity") - bytes("br"), "{shown}");
    for command in ["images", "status"] {
        let told = world.cli(&[command, "--project", "demo"]).expect(0);
        assert!(told.stdout.contains("saves "), "{told:?}");
    }
    let listed = world.cli(&["images", "--project", "demo", "--json"]).expect(0).json();
    assert_eq!(listed["images"][0]["variants"], shown);
    let status = world.cli(&["status", "--project", "demo", "--json"]).expect(0).json();
    assert_eq!(status["environments"][0]["variants"], shown);
    all_served(&world, "demo.localhost", &files());

    // The same content is made nothing more of, wherever it is published.
    let again = world.publish("other", &files());
    assert_eq!(variants(&world, "other", &again), shown);
    assert_eq!(world.stop().code(), Some(0));
    let report = fsck(&world);
    assert_eq!((&report["variants"], &report["unreferenced"]), (&12.into(), &0.into()), "{report}");
    world.restart();
    assert_eq!(variants(&world, "demo", &image), shown);
    all_served(&world, "demo.localhost", &files());
}

fn decode(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    match coding {
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded).map(|_| ()),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded).map(|_| ()),
        "zstd" => zstd::stream::copy_decode(bytes, &mut decoded),
        _ => panic!("the coding {coding}"),
    }
    .unwrap_or_else(|error| panic!("{coding}: {error}"));
    decoded
}

#[test]
fn visitors_get_what_they_accept_and_it_decodes_to_what_was_published() {
    let world = World::start();
    let image = world.publish("demo", &files());
    wait_until_made(&world, "demo", &image);
    let host = "demo.localhost";
    // Said of the files that are worth it, whatever is sent; and of no other.
    until("the edge knows", || {
        world.request("HEAD", host, "/", &[("Accept-Encoding", "br")]).header("content-encoding").is_some()
    });
    let (_, docs) = files().swap_remove(1);
    let plain = world.get(host, "/docs/").expect(200);
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("Accept-Encoding")));
    assert_eq!(plain.body, docs);
    let mut tags = vec![plain.header("etag").expect("a tag").to_owned()];
    for (accept, coding) in [
        ("br", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, deflate, zstd", "zstd"),
        ("zstd;q=0.5, gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("*", "br"),
        ("br;q=0, *", "zstd"),
    ] {
        let fields =
            [("Accept-Encoding", accept), ("Want-Repr-Digest", "sha-256=1"), ("Want-Unencoded-Digest", "sha-256=1")];
        let answer = world.request("GET", host, "/docs/", &fields).expect(200);
        assert_eq!(answer.header("content-encoding"), Some(coding), "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{accept}");
        assert_eq!(answer.header("content-type"), plain.header("content-type"), "{accept}");
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()), "{accept}");
        assert!(answer.body.len() * 4 < docs.len(), "{accept}: {} bytes", answer.body.len());
        assert!(decode(coding, &answer.body) == docs, "{accept}");
        let sha256 = |bytes: &[u8]| {
            format!("sha-256={}", sfv::ItemSerializer::new().bare_item(&Sha256::digest(bytes)[..]).finish())
        };
        assert_eq!(answer.header("repr-digest"), Some(&*sha256(&answer.body)), "{accept}");
        assert_eq!(answer.header("unencoded-digest"), Some(&*sha256(&docs)), "{accept}");

        let etag = answer.header("etag").expect("a tag").to_owned();
        assert_eq!(etag, site::etag(&answer.body), "{accept}");
        let known = [("Accept-Encoding", accept), ("If-None-Match", &*etag)];
        let unchanged = world.request("GET", host, "/docs/", &known).expect(304);
        assert_eq!(unchanged.header("vary"), Some("Accept-Encoding"), "{accept}");
        let head = world.request("HEAD", host, "/docs/", &known[..1]).expect(200);
        assert_eq!(head.header("content-length"), answer.header("content-length"), "{accept}");
        // A range is of the file as it was published.
        let part = world.request("GET", host, "/docs/", &[known[0], ("Range", "bytes=10-19")]).expect(206);
        assert_eq!((part.header("content-encoding"), &*part.body), (None, &docs[10..20]), "{accept}");
        assert_eq!(part.header("etag"), Some(&*tags[0]), "{accept}");
        tags.push(etag);
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 4, "one for each form: {tags:?}");
    for accept in ["identity", "br;q=0", "deflate", "br;q=0.5, identity"] {
        let answer = world.request("GET", host, "/docs/", &[("Accept-Encoding", accept)]).expect(200);
        assert_eq!((answer.header("content-encoding"), answer.body == docs), (None, true), "{accept}");
    }
    // Not worth it, by size or by type; nor is what no coding makes smaller, though it might have been.
    for (target, vary) in [("/small.css", None), ("/photo.png", None), ("/noise.txt", Some("Accept-Encoding"))] {
        let answer = world.request("GET", host, target, &[("Accept-Encoding", "br, gzip, zstd")]).expect(200);
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, vary), "{target}");
    }
}

#[test]
fn a_server_that_is_told_to_makes_none() {
    let mut world = World::start_with(&["--variants-workers", "0"]);
    let image = world.publish("demo", &files());
    assert_eq!(variants(&world, "demo", &image), serde_json::json!({"state": "off"}));
    world.cli(&["images", "--project", "demo"]).expect(0);
    world.stop();
    // Another that is not goes on with it.
    world.serve_with(&[]);
    world.restart();
    wait_until_made(&world, "demo", &image);
    world.stop();
    assert_eq!(fsck(&world)["variants"], 12);
}

#[test]
fn a_killed_server_goes_on_where_it_was() {
    let mut world = World::start();
    let files: Files = (0..60).map(|n| (format!("{n}.html"), page(&format!("page {n}"), 400))).collect();
    let image = world.publish("demo", &files);
    let mut made = 0;
    // As often as it takes: each time something is left, and nothing is made twice that was stored.
    for _ in 0..3 {
        until("some more is stored", || {
            let packs = crate::world::files_below(&world.data().join("objects/packs")).len();
            packs > made || variants(&world, "demo", &image)["state"] == "made"
        });
        made = crate::world::files_below(&world.data().join("objects/packs")).len();
        world.kill();
        fsck(&world);
        world.restart();
    }
    wait_until_made(&world, "demo", &image);
    all_served(&world, "demo.localhost", &files);
    world.stop();
    assert_eq!(fsck(&world)["variants"], 180);
}

#[test]
fn imported_sites_are_compressed_when_a_server_has_them() {
    let mut world = World::stopped();
    let folder = world.folder("site", &files());
    let mut command = world.command();
    command.args(["admin", "import", "--sites", "50", "--distinct", "--json", "--from"]).arg(&folder);
    command.arg("--data").arg(world.data());
    run(command).expect(0);
    world.restart();
    let image = |project: &str| {
        let current = world.api("GET", &format!("/current?project={project}&environment=prod"), None).expect(200);
        current.json()["image_id"].as_str().expect("an image").to_owned()
    };
    for project in ["site-000001", "site-000050"] {
        wait_until_made(&world, project, &image(project));
    }
    until("all are made", || {
        (1..=50).all(|n| {
            let project = format!("site-{n:06}");
            variants(&world, &project, &image(&project))["state"] == "made"
        })
    });
    world.stop();
    let lists = crate::world::files_below(&world.data().join("objects/variants"));
    assert_eq!(lists.len(), 1, "what differs has no variants");
    let report = fsck(&world);
    assert_eq!((&report["variants"], &report["unreferenced"]), (&12.into(), &0.into()), "{report}");
}
