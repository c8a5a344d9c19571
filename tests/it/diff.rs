//! `pinstone diff` and `deploy --dry-run`: what would change, what would be sent, and that nothing is.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::site::Files;
use crate::world::{Api, World, files_below, run};

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn files(of: &[(&str, &str)]) -> Files {
    of.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

fn old() -> Files {
    files(&[("index.html", "one"), ("gone.txt", "gone"), ("kept.css", "p{}"), ("from.txt", "moved away")])
}

fn new() -> Files {
    files(&[("index.html", "three"), ("new.txt", "new"), ("kept.css", "p{}"), ("to.txt", "moved away")])
}

const LINES: &str = "- from.txt (10 B)\n- gone.txt (4 B)\n~ index.html (3 B → 5 B)\n+ new.txt (3 B)\n+ to.txt (10 B)\n";

/// A server whose `demo` shows the old site in `prod` and the new one in `beta`, and folders of both.
fn two_sites() -> (World, String, String, PathBuf, PathBuf) {
    let world = World::start();
    let one = world.publish("demo", &old());
    let two = world.commit("demo", &new());
    world.release("demo", "beta", &two);
    let (old, new) = (world.folder("old", &old()), world.folder("new", &new()));
    (world, one, two, old, new)
}

fn diff(world: &World, arguments: &[&str]) -> crate::world::Output {
    let mut all = vec!["diff"];
    all.extend(arguments);
    all.extend(["--project", "demo"]);
    world.cli(&all)
}

#[test]
fn every_kind_of_side_is_compared_with_every_other() {
    let (world, one, two, old, new) = two_sites();
    // A release that is not the last one.
    world.release("demo", "prod", &two);
    world.release("demo", "prod", &one);
    let olds = ["prod", "prod#1", "prod#3", &one, &one[..12], text(&old)];
    let news = ["beta", "beta#1", "prod#2", &two, &two[..12], text(&new)];
    for from in olds {
        for to in news {
            let told = diff(&world, &[from, to]).expect(0);
            assert_eq!(told.stdout, LINES, "{from} {to}");
            let counts = "2 added (13 B), 2 removed (14 B), 1 changed (3 B → 5 B), 1 unchanged";
            assert!(told.stderr.contains(counts) && told.stderr.contains("moved"), "{from} {to}: {told:?}");
            let object = diff(&world, &[from, to, "--json"]).expect(0).json();
            for (list, want) in [
                ("added", json!(["new.txt", "to.txt"])),
                ("removed", json!(["from.txt", "gone.txt"])),
                ("changed", json!(["index.html"])),
            ] {
                assert_eq!(object[list], want, "{from} {to}: {object}");
            }
            assert_eq!(object["items"].as_array().map(Vec::len), Some(5), "{object}");
            assert_eq!((&object["summary"]["moved"], &object["summary"]["new_bytes"]), (&json!(1), &json!(8)));
            for (side, typed, image, count) in [("from", from, &one, 20), ("to", to, &two, 21)] {
                let side = &object[side];
                assert_eq!((&side["file_count"], &side["total_size"]), (&json!(4), &json!(count)), "{typed}: {side}");
                let is_folder = typed.contains('/');
                assert_eq!(side["image_id"], if is_folder { Value::Null } else { json!(image) }, "{typed}");
                assert_eq!(side["folder"], if is_folder { json!(typed) } else { Value::Null }, "{typed}");
                let environment = typed.split('#').next().filter(|name| matches!(*name, "prod" | "beta"));
                assert_eq!(side["environment"].as_str(), environment, "{typed}");
                let release = typed.split_once('#').map(|(_, number)| number.parse::<u64>().unwrap());
                assert_eq!(side["release"].as_u64(), release, "{typed}");
            }
            let asks_the_server = from.contains('/') != to.contains('/');
            assert_eq!(object["missing"].as_u64(), asks_the_server.then_some(0), "all of it is there: {object}");
        }
    }
    let none = diff(&world, &["beta", text(&new)]).expect(0);
    assert_eq!(none.stdout, "", "{none:?}");
    assert!(none.stderr.contains("no differences") && none.stderr.contains("would send nothing"), "{none:?}");
}

#[test]
fn two_folders_need_no_server() {
    let world = World::stopped();
    let (old, new) = (world.folder("old", &old()), world.folder("new", &new()));
    let of = |more: &[&str]| {
        let mut command = world.command();
        command.args(["diff", text(&old), text(&new), "--endpoint", "http://127.0.0.1:1"]).args(more);
        run(command)
    };
    let told = of(&[]).expect(0);
    assert_eq!(told.stdout, LINES);
    assert!(told.stderr.contains("would send 2 files (8 B)"), "{told:?}");
    assert_eq!(of(&["--json"]).expect(0).json()["summary"]["new_blobs"], 2);
    let empty = world.folder("empty", &Files::new());
    let mut command = world.command();
    command.args(["diff", text(&empty), text(&new), "--json"]);
    assert_eq!(run(command).expect(0).json()["summary"]["added"], 4, "a folder may have nothing yet");
}

#[test]
fn one_folder_is_compared_with_what_a_deploy_would_replace() {
    let (world, one, _, _, _) = two_sites();
    let site = world.folder("work", &new());
    std::fs::write(site.join("secret.log"), "not for publishing").unwrap();
    std::fs::write(site.join("pinstone.toml"), "[project]\nname = 'demo'\nenvironment = 'prod'\nignore = ['*.log']\n")
        .unwrap();
    // Commands run in this folder.
    for arguments in
        [&["diff"][..], &["diff", "."], &["diff", text(&site)], &["diff", "--prod"], &["diff", "prod", "."]]
    {
        let told = world.cli(arguments).expect(0);
        assert_eq!(told.stdout, LINES, "{arguments:?}");
        assert!(told.stderr.contains("would send nothing"), "{told:?}");
    }
    assert_eq!(world.cli(&["diff", "--env", "beta"]).expect(0).stdout, "");
    let object = world.cli(&["diff", "--json"]).expect(0).json();
    assert_eq!((&object["from"]["image_id"], &object["from"]["environment"]), (&json!(one), &json!("prod")));

    let first = world.cli(&["diff", "--env", "next"]).expect(0);
    assert_eq!(first.stdout.lines().filter(|line| line.starts_with("+ ")).count(), 4, "{first:?}");
    assert!(first.stderr.contains("`next` of `demo` shows nothing yet"), "{first:?}");
    let unborn = world.cli(&["diff", "--project", "unborn", "--json"]).expect(0).json();
    assert_eq!((&unborn["summary"]["added"], &unborn["missing"]), (&json!(4), &json!(0)), "{unborn}");
    world.api("GET", "/environments?project=unborn", None).expect_error(404, "project_not_found");
}

#[test]
fn a_dry_run_shows_the_differences_and_leaves_nothing() {
    let world = World::start();
    let site = world.folder("site", &new());
    let deploy = |more: &[&str]| {
        let mut arguments = vec!["deploy", text(&site), "--project", "demo", "--dry-run"];
        arguments.extend(more);
        world.cli(&arguments).expect(0)
    };
    let objects = || files_below(&world.data().join("objects")).len();
    let before = objects();
    let told = deploy(&[]);
    assert_eq!(told.stdout, "+ index.html (5 B)\n+ kept.css (3 B)\n+ new.txt (3 B)\n+ to.txt (10 B)\n");
    for part in ["`beta` shows nothing yet", "4 added (21 B)", "4 new (21 B), 0 reused; nothing was sent"] {
        assert!(told.stderr.contains(part), "{part}: {told:?}");
    }
    assert_eq!(objects(), before, "no plan and no file is stored");
    world.api("GET", "/images?project=demo", None).expect_error(404, "project_not_found");

    world.publish("demo", &old());
    let planned = deploy(&["--prod", "--json"]).json();
    for (field, want) in [("dry_run", json!(true)), ("files", json!(4)), ("new", json!(2)), ("reused", json!(2))] {
        assert_eq!(planned[field], want, "{field} in {planned}");
    }
    assert_eq!((&planned["missing_bytes"], &planned["sent_bytes"]), (&json!(8), &json!(0)), "{planned}");
    assert_eq!(planned["diff"]["changed"], json!(["index.html"]), "{planned}");
    assert_eq!(planned["diff"]["summary"]["moved"], 1, "{planned}");
    // What it says is what a deploy then does.
    let done = world.cli(&["deploy", text(&site), "--project", "demo", "--prod", "--json"]).expect(0).json();
    assert_eq!((&done["new"], &done["missing_bytes"]), (&planned["new"], &planned["missing_bytes"]));
    assert!(done.get("diff").is_none(), "{done}");
    assert_eq!(deploy(&["--prod"]).stdout, "");
}

#[test]
fn a_long_list_is_cut_for_people_only() {
    let world = World::start();
    let many = |text: &str| (0..250).map(|number| (format!("p/{number:03}.html"), text.as_bytes().to_vec())).collect();
    let (old, new): (Files, Files) = (many("old"), many("new"));
    world.publish("demo", &old);
    let (old, new) = (world.folder("old", &old), world.folder("new", &new));
    for from in ["prod", text(&old)] {
        let cut = diff(&world, &[from, text(&new)]).expect(0).stdout;
        assert_eq!(cut.lines().count(), 101, "{cut}");
        assert!(cut.starts_with("~ p/000.html") && cut.ends_with("… 150 more; `--all` lists them\n"), "{cut}");
        let all = diff(&world, &[from, text(&new), "--all"]).expect(0).stdout;
        assert_eq!(all.lines().count(), 250, "{all}");
        let json = diff(&world, &[from, text(&new), "--json"]).expect(0).json();
        assert_eq!(json["items"].as_array().map(Vec::len), Some(250));
    }
    let dry = world.cli(&["deploy", text(&new), "--project", "demo", "--prod", "--dry-run"]).expect(0).stdout;
    assert_eq!(dry.lines().count(), 101, "{dry}");
    // The first hundred of what is published, and all of it, are the same list.
    world.cli(&["deploy", text(&new), "--project", "demo"]).expect(0);
    let cut = diff(&world, &["prod", "beta"]).expect(0).stdout;
    let all = diff(&world, &["prod", "beta", "--all"]).expect(0).stdout;
    assert_eq!((cut.lines().count(), all.lines().count()), (101, 250));
    assert!(cut.lines().take(100).eq(all.lines().take(100)));
}

#[test]
fn differences_end_with_6_where_that_is_asked_for() {
    let (world, _, _, old, _) = two_sites();
    for (sides, code) in
        [(["prod", "beta"], 6), (["prod", "prod"], 0), (["prod", text(&old)], 0), (["beta", text(&old)], 6)]
    {
        let told = diff(&world, &[sides[0], sides[1], "--exit-code"]).expect(code);
        assert_eq!(told.stderr.contains("error:"), code != 0, "{sides:?}: {told:?}");
        assert_eq!(told.stdout.is_empty(), code == 0, "the list is there too: {told:?}");
        let told = diff(&world, &[sides[0], sides[1], "--exit-code", "--json"]).expect(code);
        assert_eq!(told.json()["items"].as_array().is_some_and(Vec::is_empty), code == 0);
        diff(&world, &[sides[0], sides[1]]).expect(0);
    }
}

#[test]
fn a_side_that_is_none_is_named_and_explained() {
    let (world, one, _, _, new) = two_sites();
    world.folder("work/stage", &files(&[("index.html", "stage")]));
    let no_image = format!("img_{}", "0".repeat(32));
    for (sides, code, parts) in [
        (&["nowhere", text(&new)][..], 1, &["`nowhere`", "env list"][..]),
        (&[text(&new), "nowhere"], 1, &["`nowhere`", "env list"]),
        (&["stage", "prod"], 1, &["`stage`", "`./stage`"]),
        (&[&no_image, text(&new)], 1, &[&*no_image, "pinstone images"]),
        (&[&one, &no_image], 1, &[&*no_image, "pinstone images"]),
        (&["img_0000", &one], 1, &["`img_0000`", "pinstone images"]),
        (&["img_00", &one], 2, &["`img_00`", "4 of the digits"]),
        (&["prod#7", "prod"], 1, &["`prod` has no release 7", "pinstone releases"]),
        (&["prod", "./no/such"], 1, &["./no/such"]),
        (&["nowhere"], 2, &["`nowhere`", "pinstone diff nowhere ."]),
        (&["prod", "beta", "--env", "prod"], 2, &["--env"]),
        (&["prod", "beta", "prod"], 2, &[]),
    ] {
        let told = diff(&world, sides).expect(code);
        assert_eq!(told.stdout, "", "{sides:?}");
        for part in parts {
            assert!(told.stderr.contains(part), "{part}: {sides:?}: {told:?}");
        }
    }
}

/// A plan of `count` files with these contents, or what they are compared with `prod` by.
fn large_plan(count: usize, content: impl Fn(usize) -> String) -> String {
    let mut body = String::from(r#"{"project": "demo", "from": "prod", "files": ["#);
    for number in 0..count {
        let comma = if number == 0 { "" } else { "," };
        let content = content(number);
        let (hash, size) = (blake3::hash(content.as_bytes()).to_hex(), content.len());
        let path = format!("docs/section-{:03}/page-{number:06}.html", number % 250);
        body.push_str(&format!(r#"{comma}{{"path":"{path}","blake3":"{hash}","size":{size}}}"#));
    }
    body + "]}"
}

#[test]
fn sites_of_two_hundred_thousand_files() {
    const COUNT: usize = 200_000;
    const CHANGED: usize = 25_000;
    let mut world = World::start();
    let publish = |world: &World, changed: usize| {
        let api = Api { address: world.address(), token: world.token() };
        let body = large_plan(COUNT, |number| if number < changed { "newer" } else { "same" }.to_owned());
        let planned = api.send("POST", "/plan", "application/json", body.as_bytes()).unwrap().expect(200).json();
        let plan = planned["plan_id"].as_str().expect("an id");
        for missing in planned["missing"].as_array().expect("never null") {
            let path = format!("/upload/{plan}/{}", missing["hash"].as_str().expect("a hash"));
            let bytes = if missing["size"] == 4 { "same" } else { "newer" };
            api.send("PUT", &path, "application/octet-stream", bytes.as_bytes()).unwrap().expect(200);
        }
        let commit = world.api("POST", "/commit", Some(&json!({"plan_id": plan}))).expect(200).json();
        commit["image_id"].as_str().expect("an image").to_owned()
    };
    let one = publish(&world, 0);
    let two = publish(&world, CHANGED);
    world.release("demo", "prod", &one);
    // What a publish took is not what a comparison takes.
    world.stop();
    world.restart();
    let before = world.peak_memory();

    let object = diff(&world, &["prod", &two, "--json"]).expect(0).json();
    let items = object["items"].as_array().expect("a list");
    assert_eq!((items.len(), &object["summary"]["changed"]), (CHANGED, &json!(CHANGED)));
    assert_eq!(object["summary"]["unchanged"], json!(COUNT - CHANGED));
    assert_eq!((&object["summary"]["new_blobs"], &object["summary"]["new_bytes"]), (&json!(1), &json!(5)));
    let paths: Vec<&str> = items.iter().map(|item| item["path"].as_str().expect("a path")).collect();
    assert!(paths.is_sorted_by(|a, b| a < b), "every path once");
    let cut = diff(&world, &["prod", &two]).expect(0).stdout;
    assert!(cut.ends_with("… 24900 more; `--all` lists them\n"), "{cut}");

    // The same with files that nobody sent: every difference in one answer.
    let api = Api { address: world.address(), token: world.token() };
    let body = large_plan(COUNT, |number| format!("{number:06}"));
    let answer = api.send("POST", "/diff", "application/json", body.as_bytes()).unwrap().expect(200).json();
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(COUNT));
    assert_eq!((&answer["missing"], &answer["missing_bytes"]), (&json!(COUNT), &json!(COUNT * 6)));
    let grown = world.peak_memory() - before;
    // A coarse bound: what an allocator keeps varies by some 40 MiB. That answers are not gathered is the API's own test.
    assert!(grown < 300 << 20, "comparing took {grown} bytes");
}
