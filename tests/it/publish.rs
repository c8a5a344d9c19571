//! A folder goes in through the command line and comes out by Host header; and everything that can be done to releases.

use std::path::Path;

use serde_json::{Value, json};

use crate::site::{self, Files};
use crate::wire::Connection;
use crate::world::World;

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn page(content: &str) -> Files {
    vec![("index.html".to_owned(), content.as_bytes().to_vec())]
}

/// Fetches every file and compares it byte for byte.
#[track_caller]
pub(crate) fn all_served(world: &World, host: &str, files: &Files) {
    let mut connection = Connection::open(world.address());
    for (path, bytes) in files {
        let answer = connection.request("GET", &site::target(path), &[("Host", host)], b"");
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == *bytes, "{path} differs");
        assert_eq!(answer.header("etag"), Some(&*site::etag(bytes)), "{path}");
    }
}

#[test]
fn a_folder_is_published_and_served() {
    let world = World::start();
    let files = site::varied();
    let folder = world.folder("site", &files);
    let deploy = |more: &[&str]| {
        let mut arguments = vec!["deploy", text(&folder), "--project", "demo", "--prod", "--json"];
        arguments.extend(more);
        world.cli(&arguments).expect(0).json()
    };
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();

    let planned = deploy(&["--dry-run"]);
    assert_eq!((&planned["dry_run"], &planned["sent_bytes"]), (&true.into(), &0.into()), "{planned}");
    world.get("demo.localhost", "/").expect(404);

    let first = deploy(&["--message", "the first"]);
    assert_eq!(first["files"], files.len(), "{first}");
    assert_eq!(first["total_size"], total, "{first}");
    // Two files have the same bytes.
    assert_eq!(first["new"], files.len() - 1, "{first}");
    assert_eq!((&first["changed"], &first["number"]), (&true.into(), &1.into()), "{first}");
    let url = first["url"].as_str().expect("a URL");
    assert!(url.starts_with("http://demo.localhost:") && url.contains(&world.address().port().to_string()), "{url}");
    all_served(&world, "demo.localhost", &files);

    let again = deploy(&[]);
    for (field, want) in [("new", json!(0)), ("sent_bytes", json!(0)), ("changed", json!(false)), ("number", json!(1))]
    {
        assert_eq!(again[field], want, "{field} in {again}");
    }
    assert_eq!(again["image_id"], first["image_id"], "the same content is the same image");

    let mut changed = files.clone();
    let mut bytes = 0;
    for path in ["index.html", "docs/deep/er/page.html", "pages/007.html"] {
        let file = changed.iter_mut().find(|(name, _)| name == path).expect("it is part of the site");
        file.1.extend_from_slice(b"<p>changed");
        // Beside its bytes, a file in a batch has its hash and its length.
        bytes += file.1.len() + 36;
    }
    site::write(&folder, &changed);
    let third = deploy(&[]);
    for (field, want) in
        [("new", json!(3)), ("sent_bytes", json!(bytes)), ("changed", json!(true)), ("number", json!(2))]
    {
        assert_eq!(third[field], want, "{field} in {third}");
    }
    all_served(&world, "demo.localhost", &changed);

    // Every image keeps an address of its own.
    for (report, files) in [(&first, &files), (&third, &changed)] {
        let image = report["image_id"].as_str().expect("an image");
        all_served(&world, &format!("demo--i-{}.localhost", &image[4..20]), files);
    }
}

#[test]
fn the_default_environment_is_beta() {
    let world = World::start();
    let folder = world.folder("my-site", &page("beta first"));
    let told = world.cli(&["deploy", text(&folder)]).expect(0);
    let url = told.stdout.trim();
    assert!(url.starts_with("http://my-site-beta.localhost:"), "data on stdout is the URL: {told:?}");
    assert_eq!(world.get("my-site-beta.localhost", "/").expect(200).text(), "beta first");
    world.get("my-site.localhost", "/").expect(404);

    let promoted = world.cli(&["promote", "beta", "prod", "--project", "my-site", "--json"]).expect(0).json();
    assert_eq!((&promoted["environment"], &promoted["changed"]), (&"prod".into(), &true.into()), "{promoted}");
    assert_eq!(world.get("my-site.localhost", "/").expect(200).text(), "beta first");
    let again = world.cli(&["promote", "beta", "prod", "--project", "my-site", "--json"]).expect(0).json();
    assert_eq!(again["changed"], false, "{again}");
    world.cli(&["promote", "nothing", "prod", "--project", "my-site"]).expect(1);
    world.cli(&["promote", "beta", "beta", "--project", "my-site"]).expect(2);
}

#[test]
fn the_project_file_says_what_flags_do_not() {
    let world = World::start();
    world.folder("work", &vec![("public/index.html".to_owned(), b"filed".to_vec())]);
    let file = world.work().join("pinstone.toml");
    std::fs::write(&file, "[project]\nname = \"filed\"\ndirectory = \"public\"\nenvironment = \"stage\"\n").unwrap();
    world.cli(&["deploy"]).expect(0);
    assert_eq!(world.get("filed--stage.localhost", "/").expect(200).text(), "filed");
    let status = world.cli(&["status", "--json"]).expect(0).json();
    assert_eq!(
        (&status["project"], &status["environments"][0]["name"]),
        (&"filed".into(), &"stage".into()),
        "{status}"
    );
}

#[test]
fn the_settings_of_a_project_file_are_served() {
    let world = World::start();
    let files = vec![
        ("index.html".to_owned(), b"start".to_vec()),
        ("page.html".to_owned(), b"page".to_vec()),
        ("pinstone.toml".to_owned(), b"[project]\nhtml = 'auto'\nnot_found = 'spa'\n".to_vec()),
    ];
    let folder = world.folder("site", &files);
    let deploy = |more: &[&str]| {
        let mut arguments = vec!["deploy", text(&folder), "--project", "modes", "--prod", "--json"];
        arguments.extend(more);
        world.cli(&arguments)
    };
    deploy(&[]).expect(0);
    assert_eq!(world.get("modes.localhost", "/page").expect(200).text(), "page");
    assert_eq!(world.get("modes.localhost", "/page.html").expect(308).header("location"), Some("/page"));
    let navigation = world.request("GET", "modes.localhost", "/a/route", &[("Sec-Fetch-Mode", "navigate")]);
    assert_eq!(navigation.expect(200).text(), "start");
    world.get("modes.localhost", "/a/route").expect(404);

    // The same files with other settings are another image.
    std::fs::write(folder.join("pinstone.toml"), "[project]\nhtml = 'force-slash'\n").unwrap();
    let told = deploy(&[]).expect(0).json();
    assert_eq!((&told["changed"], &told["new"]), (&true.into(), &0.into()), "{told}");
    assert_eq!(world.get("modes.localhost", "/page").expect(308).header("location"), Some("/page/"));
    // What is not served is refused.
    std::fs::write(folder.join("pinstone.toml"), "[project]\nprofile = 'netlify'\n").unwrap();
    let refused = deploy(&[]);
    assert_ne!(refused.code, 0);
    assert!(format!("{refused:?}").contains("unsupported_setting"), "{refused:?}");
}

#[test]
fn rollbacks_are_releases() {
    let world = World::start();
    let images: Vec<String> = ["one", "two", "three"].map(|content| world.publish("demo", &page(content))).into();
    let shows = |content: &str| assert_eq!(world.get("demo.localhost", "/").expect(200).text(), content);
    let rollback = |more: &[&str]| {
        let mut arguments = vec!["rollback", "--project", "demo", "--env", "prod", "--json"];
        arguments.extend(more);
        world.cli(&arguments)
    };
    let back = rollback(&[]).expect(0).json();
    assert_eq!(
        (&back["image_id"], &back["number"], &back["action"]),
        (&json!(images[1]), &json!(4), &json!("rollback"))
    );
    shows("two");
    rollback(&["--to", "1"]).expect(0);
    shows("one");
    let same = rollback(&["--to", &images[0]]).expect(0).json();
    assert_eq!(same["changed"], false, "{same}");
    rollback(&["--to", &images[2], "--message", "after all"]).expect(0);
    shows("three");
    rollback(&["--to", "99"]).expect(1);
    rollback(&["--to", "img_00000000000000000000000000000000"]).expect(1);
    world.cli(&["rollback", "--project", "demo", "--env", "nothing"]).expect(1);
    world.cli(&["rollback", "--project", "nobodys", "--env", "prod"]).expect(1);
    shows("three");

    let listed = world.cli(&["releases", "--project", "demo", "--env", "prod", "--json"]).expect(0).json();
    let items = listed["items"].as_array().expect("a list");
    let told: Vec<(u64, &str, &str, &str)> = items
        .iter()
        .map(|item| {
            let of = |field: &str| item[field].as_str().expect("a text");
            (item["number"].as_u64().expect("a number"), of("action"), of("image_id"), of("previous_image_id"))
        })
        .collect();
    let [one, two, three] = [&*images[0], &*images[1], &*images[2]];
    assert_eq!(
        told,
        [
            (6, "rollback", three, one),
            (5, "rollback", one, two),
            (4, "rollback", two, three),
            (3, "release", three, two),
            (2, "release", two, one),
            (1, "release", one, ""),
        ]
    );
    assert_eq!(items[0]["message"], "after all");
    assert_eq!(items[0]["author"], "owner");
    let two_of_them = world.cli(&["releases", "--project", "demo", "--env", "prod", "--limit", "2", "--json"]);
    assert_eq!(two_of_them.expect(0).json()["items"].as_array().map(Vec::len), Some(2));
    let lines = world.cli(&["releases", "--project", "demo", "--env", "prod"]).expect(0).stdout;
    assert_eq!(lines.lines().count(), 6, "{lines}");
}

#[test]
fn environments_are_listed_and_deleted() {
    let world = World::start();
    let image = world.publish("demo", &page("x"));
    world.release("demo", "beta", &image);
    world.release("demo", "pr-7", &image);
    let names = || {
        let listed = world.cli(&["env", "list", "--project", "demo", "--json"]).expect(0).json();
        let mut names: Vec<String> = listed["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| item["name"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["beta", "pr-7", "prod"]);
    world.get("demo--pr-7.localhost", "/").expect(200);
    world.cli(&["env", "delete", "pr-7", "--project", "demo", "--yes"]).expect(0);
    world.get("demo--pr-7.localhost", "/").expect(404);
    assert_eq!(names(), ["beta", "prod"]);
    world.cli(&["env", "delete", "pr-7", "--project", "demo", "--yes"]).expect(1);
    world.get("demo.localhost", "/").expect(200);
    // Its numbers go on where they stopped.
    let back = world.release("demo", "pr-7", &image);
    assert_eq!((&back["number"], &back["previous_image_id"]), (&3.into(), &"".into()), "{back}");
    world.get("demo--pr-7.localhost", "/").expect(200);
    let listed = world.cli(&["releases", "--project", "demo", "--env", "pr-7", "--json"]).expect(0).json();
    let actions: Vec<&Value> = listed["items"].as_array().expect("a list").iter().map(|item| &item["action"]).collect();
    assert_eq!(actions, ["release", "delete", "release"], "{listed}");
}

#[test]
fn images_status_and_diff() {
    let world = World::start();
    let mut files = page("one");
    files.push(("kept.txt".to_owned(), b"kept".to_vec()));
    files.push(("gone.txt".to_owned(), b"gone".to_vec()));
    let folder = world.folder("site", &files);
    world.cli(&["deploy", text(&folder), "--project", "demo", "--prod", "--message", "first"]).expect(0);
    std::fs::write(folder.join("index.html"), "two").unwrap();
    std::fs::write(folder.join("new.txt"), "new").unwrap();
    std::fs::remove_file(folder.join("gone.txt")).unwrap();
    world.cli(&["deploy", text(&folder), "--project", "demo", "--message", "second"]).expect(0);

    let images = world.cli(&["images", "--project", "demo", "--json"]).expect(0).json();
    assert_eq!(images["total"], 2, "{images}");
    let list = images["images"].as_array().expect("a list");
    let facts: Vec<(&Value, &Value)> = list.iter().map(|image| (&image["message"], &image["deployed_to"])).collect();
    assert_eq!(facts, [(&json!("second"), &json!(["beta"])), (&json!("first"), &json!(["prod"]))], "{images}");

    let change = [("added", json!(["new.txt"])), ("removed", json!(["gone.txt"])), ("changed", json!(["index.html"]))];
    let old = list[1]["image_id"].as_str().expect("an image");
    let new = list[0]["image_id"].as_str().expect("an image");
    for (a, b) in [("prod", "beta"), (old, new), ("prod", text(&folder)), (old, "beta")] {
        let diff = world.cli(&["diff", a, b, "--project", "demo", "--json"]).expect(0).json();
        for (list, want) in &change {
            assert_eq!(&diff[list], want, "{list} from {a} to {b}: {diff}");
        }
    }
    let none = world.cli(&["diff", "beta", text(&folder), "--project", "demo"]).expect(0);
    assert_eq!(none.stdout, "", "{none:?}");

    let status = world.cli(&["status", "--project", "demo", "--json"]).expect(0).json();
    assert_eq!(status["server"]["status"], "healthy", "{status}");
    assert_eq!(status["environments"].as_array().map(Vec::len), Some(2), "{status}");
    let current = world.api("GET", "/current?project=demo&environment=prod", None).expect(200).json();
    assert_eq!((&current["image_id"], &current["message"]), (&json!(old), &json!("first")), "{current}");
}

#[test]
fn a_release_that_expects_something_else_is_refused() {
    let world = World::start();
    let one = world.publish("demo", &page("one"));
    let two = world.commit("demo", &page("two"));
    let release = |image: &str, expected: &str| {
        let body = json!({"project": "demo", "environment": "prod", "image_id": image, "expected_image_id": expected});
        world.api("POST", "/release", Some(&body))
    };
    release(&two, &two).expect_error(409, "release_conflict");
    release(&two, "").expect_error(409, "release_conflict");
    assert_eq!(world.get("demo.localhost", "/").expect(200).text(), "one");
    release(&two, &one).expect(200);
    assert_eq!(world.get("demo.localhost", "/").expect(200).text(), "two");
}

#[test]
fn the_same_key_gives_the_same_answer() {
    let world = World::start();
    let images = ["one", "two", "three"].map(|content| world.publish("demo", &page(content)));
    let bearer = format!("Bearer {}", world.token());
    let rollback = |key: &str, environment: &str| {
        let headers = [
            ("Host", "localhost"),
            ("Authorization", &*bearer),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", key),
        ];
        let body = json!({"project": "demo", "environment": environment}).to_string();
        Connection::open(world.address()).request("POST", "/api/v1/rollback", &headers, body.as_bytes())
    };
    let first = rollback("a", "prod").expect(200).json();
    assert_eq!(first["image_id"], images[1], "{first}");
    assert_eq!(rollback("a", "prod").expect(200).json(), first, "asked again, not done again");
    assert_eq!(world.get("demo.localhost", "/").expect(200).text(), "two");
    rollback("a", "beta").expect_error(422, "idempotency_key_reused");
    let body = json!({"project": "demo", "environment": "prod"});
    world.api("POST", "/rollback", Some(&body)).expect_error(400, "idempotency_key_required");
}

#[test]
fn the_map_shape_of_a_plan() {
    let world = World::start();
    let files = site::varied();
    let map: serde_json::Map<String, Value> =
        files.iter().map(|(path, bytes)| (format!("/{path}"), json!(blake3::hash(bytes).to_hex().as_str()))).collect();
    let planned = world.api("POST", "/plan", Some(&json!({"project": "demo", "files": map}))).expect(200).json();
    let missing = planned["missing"].as_array().expect("never null");
    assert_eq!(missing.len(), files.len() - 1, "a hash once");
    let bearer = format!("Bearer {}", world.token());
    for hash in missing {
        let hash = hash.as_str().expect("a hash");
        let url = planned["upload_urls"][hash].as_str().expect("a URL for each");
        let path = url.find("/api/v1/").map(|at| &url[at..]).unwrap_or_else(|| panic!("{url}"));
        let (_, bytes) =
            files.iter().find(|(_, bytes)| *blake3::hash(bytes).to_hex() == *hash).expect("it was planned");
        let headers = [("Host", "localhost"), ("Authorization", &*bearer)];
        Connection::open(world.address()).request("POST", path, &headers, bytes).expect(200);
    }
    let commit = world.api("POST", "/commit", Some(&json!({"plan_id": planned["plan_id"]}))).expect(200).json();
    assert_eq!((&commit["files_count"], &commit["new_image"]), (&files.len().into(), &true.into()), "{commit}");
    world.release("demo", "prod", commit["image_id"].as_str().expect("an image"));
    all_served(&world, "demo.localhost", &files);
    // Both shapes mean the same content.
    assert_eq!(world.commit("demo", &files), commit["image_id"].as_str().expect("an image"));
}

#[test]
fn many_publishers_at_once() {
    let world = World::start();
    std::thread::scope(|scope| {
        for publisher in 0..6 {
            let world = &world;
            scope.spawn(move || {
                let project = format!("site-{publisher}");
                for turn in 0..5 {
                    let mut files = page(&format!("{publisher} {turn}"));
                    files.push(("shared.bin".to_owned(), site::noise("shared by all", 50_000)));
                    world.publish(&project, &files);
                    all_served(world, &format!("{project}.localhost"), &files);
                }
            });
        }
    });
}

#[test]
fn the_sample_site_holds_together() {
    let world = World::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/site");
    world.cli(&["deploy", text(&folder), "--project", "demo", "--prod"]).expect(0);
    let mut seen = std::collections::BTreeSet::new();
    let mut next = vec!["/".to_owned()];
    while let Some(target) = next.pop() {
        if !seen.insert(target.clone()) {
            continue;
        }
        let answer = world.get("demo.localhost", &target);
        // One link is there to show what happens to wrong ones.
        let want = if target == "/no/such/page" { 404 } else { 200 };
        assert_eq!(answer.status, want, "{target}");
        if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            let page = answer.text();
            for attribute in ["href=\"", "src=\""] {
                let links = page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
                next.extend(links.filter(|link| link.starts_with('/')).map(str::to_owned));
            }
        }
    }
    assert!(seen.contains("/about") && seen.contains("/guide/") && seen.contains("/assets/style.css"), "{seen:?}");
}
