//! Commands about tokens, projects, domains, the audit log and usage: what they call, what they print, how they end.

use serde_json::{Value, json};

use crate::recorder::{Asked, Recorder};
use crate::world::{Output, World, run};

#[test]
fn a_token_is_made_printed_once_used_and_revoked() {
    let world = World::start();
    world.publish("demo", &vec![("index.html".to_owned(), b"x".to_vec())]);
    let line = ["token", "create", "ci", "--project", "demo", "--env", "beta", "--expires", "90d"];
    let made = world.cli(&line).expect(0);
    let token = made.stdout.trim().to_owned();
    assert!(token.starts_with("pin_") && made.stdout.lines().count() == 1, "{made:?}");
    assert!(!made.stderr.contains(&token) && made.stderr.contains("$PINSTONE_TOKEN"), "{made:?}");

    // It does what it is for, and nothing else; `whoami` says so.
    let site = world.folder("site", &vec![("index.html".to_owned(), b"y".to_vec())]);
    let with = |arguments: &[&str]| {
        let mut command = world.command();
        command.env("PINSTONE_ENDPOINT", world.url()).env("PINSTONE_TOKEN", &token).args(arguments);
        run(command)
    };
    let site = site.to_str().unwrap();
    with(&["deploy", site, "--project", "demo"]).expect(0);
    let refused = with(&["deploy", site, "--project", "demo", "--env", "prod"]).expect(3);
    assert!(refused.stderr.contains("pinstone whoami"), "{refused:?}");
    let who = with(&["whoami"]).expect(0);
    assert!(who.stdout.contains("deploy, `beta` of the project") && who.stdout.contains("PINSTONE_TOKEN"), "{who:?}");

    let listed = world.cli(&["token", "list", "--json"]).expect(0).json();
    let item = listed["items"].as_array().unwrap().iter().find(|item| item["name"] == "ci").unwrap();
    assert_eq!((&item["scope"], &item["project"]), (&json!("deploy"), &json!("demo")), "{item}");
    assert!(world.cli(&["token", "list"]).expect(0).stdout.contains("demo, beta"));

    world.cli(&["token", "revoke", "ci", "nobody"]).expect(1);
    with(&["whoami"]).expect(0);
    world.cli(&["token", "revoke", "ci"]).expect(0);
    with(&["whoami"]).expect(3);
    let told = world.cli(&["token", "revoke", "ci"]).expect(1).stderr;
    assert!(told.contains("`ci`") && told.contains("token list"), "{told}");
    world.cli(&["token", "create", "x", "--env", "beta"]).expect(2);
}

#[test]
fn the_audit_log_is_filtered_and_read_in_pages() {
    let world = World::start();
    for project in ["first", "second"] {
        world.publish(project, &vec![("index.html".to_owned(), b"x".to_vec())]);
    }
    // Each publish leaves two rows, and a page of the server has two hundred.
    for number in 0..110 {
        let page = vec![("index.html".to_owned(), format!("{number}").into_bytes())];
        world.publish("first", &page);
    }
    let items = |more: &[&str]| {
        let line = [&["audit", "--json", "--limit", "10000"][..], more].concat();
        world.cli(&line).expect(0).json()["items"].as_array().unwrap().clone()
    };
    let all = items(&[]);
    assert!(all.len() > 200, "{}", all.len());
    let (first, second) = (items(&["--project", "first"]), items(&["--project", "second"]));
    assert!(!second.is_empty() && first.len() > second.len() && first.len() + second.len() <= all.len());
    assert!(items(&["--actor", "nobody"]).is_empty() && items(&["--to", "1d"]).is_empty());
    assert_eq!(items(&["--from", "1d"]).len(), all.len());
    let shown = world.cli(&["audit", "--limit", "3"]).expect(0);
    assert_eq!(shown.stdout.lines().count(), 3, "{shown:?}");
    let told = world.cli(&["audit", "--from", "yesterday"]).expect(2).stderr;
    assert!(told.contains("`--from yesterday`"), "{told}");
}

/// A server that knows one project and one domain, and a command line that talks to it.
fn served() -> (World, Recorder) {
    let project = |name: &str| json!({"id": "prj_1", "name": name, "created_at": "2026-01-01T00:00:00Z", "more": 1});
    let answer = move |asked: &Asked| match asked.line.as_str() {
        "GET /api/v1/projects" => (200, json!([project("demo")])),
        "GET /api/v1/health" => (
            200,
            json!({"status": "healthy", "database": "ok", "storage": "ok", "uptime": "1s",
                                             "version": "0"}),
        ),
        "POST /api/v1/projects" if asked.body["name"] == "taken" => {
            (403, json!({"error": "project_taken", "message": "another team has a project of this name"}))
        }
        "POST /api/v1/projects" => (201, project(asked.body["name"].as_str().unwrap())),
        "GET /api/v1/subdomain/check?subdomain=taken" => (200, json!({"available": false, "suggestion": "taken-2"})),
        "PATCH /api/v1/projects/demo" => (200, project(asked.body["name"].as_str().unwrap())),
        "DELETE /api/v1/projects/demo" => (200, json!({"message": "deleted"})),
        "POST /api/v1/domains" => (
            201,
            json!({"domain": "www.example.com", "slug": "/docs", "status": "pending",
            "verification_token": "t", "verification_txt": "_pinstone.www.example.com TXT \"t\"", "warnings": ["odd"]}),
        ),
        "GET /api/v1/domains?project=demo" => (
            200,
            json!({"domains": [{"domain": "www.example.com", "slug": "/docs",
            "type": "custom", "status": "pending", "is_primary": false, "verification_txt": "the record", "created_at": "2026-01-01T00:00:00Z"}]}),
        ),
        "POST /api/v1/domains/www.example.com%2Fdocs/verify" => (
            200,
            json!({"domain": "www.example.com",
            "status": "pending", "verified": false, "message": "there is no such TXT record"}),
        ),
        "POST /api/v1/domains/www.example.com/verify" => (
            200,
            json!({"domain": "www.example.com",
            "status": "active", "verified": true, "message": "verified"}),
        ),
        "DELETE /api/v1/domains/www.example.com%2Fdocs" => (204, Value::Null),
        "GET /api/v1/domains/check?domain=www.example.com" => (200, Value::Null),
        "GET /api/v1/usage?limit=1000" => (
            200,
            json!({"projects": 2, "stored_bytes": 1700, "limits": {"projects": 5,
            "stored_bytes": null}, "items": [{"project": "demo", "images": 1, "stored_bytes": 1500}], "more": 1,
            "next_cursor": "c"}),
        ),
        "GET /api/v1/usage?limit=1000&cursor=c" => (
            200,
            json!({"projects": 2, "stored_bytes": 1700, "limits": {},
            "items": [{"project": "other", "images": 2, "stored_bytes": 1500}], "next_cursor": null}),
        ),
        _ => (404, json!({"error": "project_not_found", "message": "there is no such project"})),
    };
    (World::stopped(), Recorder::start(answer))
}

fn cli(world: &World, server: &Recorder, arguments: &[&str]) -> Output {
    let mut command = world.command();
    command.env("PINSTONE_ENDPOINT", server.url()).env("PINSTONE_TOKEN", "pin_x").args(arguments);
    run(command)
}

#[test]
fn projects_are_listed_made_renamed_and_deleted() {
    let (world, server) = served();
    let call = |arguments: &[&str]| cli(&world, &server, arguments);
    let listed = call(&["project", "list", "--json"]).expect(0).json();
    assert_eq!((&listed["items"][0]["name"], &listed["items"][0]["more"]), (&json!("demo"), &json!(1)), "{listed}");
    assert!(call(&["project", "list"]).expect(0).stdout.starts_with("demo  prj_1"));

    call(&["project", "create", "new-one"]).expect(0);
    let told = call(&["project", "create", "taken"]).expect(3).stderr;
    assert!(told.contains("`taken-2` is free"), "{told}");
    call(&["project", "create", "No Name"]).expect(2);

    std::fs::write(world.work().join("pinstone.toml"), "[project]\nname = 'demo'\n").unwrap();
    let renamed = call(&["project", "rename", "demo", "other"]).expect(0);
    assert!(renamed.stderr.contains("still says `demo`") && renamed.stdout.contains("other"), "{renamed:?}");
    assert_eq!(server.only("PATCH").body, json!({"name": "other"}));
    let told = call(&["project", "rename", "nobodys", "other"]).expect(1).stderr;
    assert!(told.contains("`nobodys`"), "{told}");

    let told = call(&["project", "delete", "demo"]).expect(2).stderr;
    assert!(told.contains("--yes"), "{told}");
    assert!(!server.asked().iter().any(|asked| asked.line.starts_with("DELETE")));
    let gone = call(&["project", "delete", "demo", "--yes", "--json"]).expect(0).json();
    assert_eq!(gone, json!({"project": "demo", "deleted": true}));
    let told = call(&["project", "delete", "nobodys", "--yes"]).expect(1).stderr;
    assert!(told.contains("`nobodys`"), "{told}");
}

#[test]
fn domains_are_added_proven_and_removed() {
    let (world, server) = served();
    let call = |arguments: &[&str]| cli(&world, &server, arguments);
    let line = ["domain", "add", "www.example.com/docs", "--project", "demo", "--env", "stage"];
    let added = call(&line).expect(0);
    assert_eq!(added.stdout, "_pinstone.www.example.com TXT \"t\"\n", "{added:?}");
    assert!(added.stderr.contains("warning: odd") && added.stderr.contains("domain verify www.example.com/docs"));
    let asked = server.only("POST /api/v1/domains").body;
    assert_eq!(asked, json!({"project": "demo", "domain": "www.example.com", "slug": "/docs", "environment": "stage"}));

    let listed = call(&["domain", "list", "--project", "demo"]).expect(0);
    assert!(listed.stdout.starts_with("www.example.com/docs  pending"), "{listed:?}");
    assert!(listed.stderr.contains("the record"), "{listed:?}");
    let told = call(&["domain", "verify", "www.example.com/docs"]).expect(1).stderr;
    assert!(told.contains("there is no such TXT record") && told.contains("hint:"), "{told}");
    let proven = call(&["domain", "verify", "www.example.com", "--json"]).expect(0).json();
    assert_eq!(proven["verified"], true);
    call(&["domain", "remove", "www.example.com/docs"]).expect(2);
    call(&["domain", "remove", "www.example.com/docs", "--yes"]).expect(0);
    call(&["domain", "check", "www.example.com"]).expect(0);
    call(&["domain", "check", "other.example.com"]).expect(1);
    call(&["domain", "add", "https://www.example.com", "--project", "demo"]).expect(2);
}

#[test]
fn usage_shows_what_is_told_and_passes_on_the_rest() {
    let (world, server) = served();
    let call = |arguments: &[&str]| cli(&world, &server, arguments);
    let shown = call(&["usage"]).expect(0).stdout;
    let want =
        ["demo          1.5 kB  1 image", "other         1.5 kB  2 images", "all together  1.7 kB  2 of 5 projects"];
    assert_eq!(shown.lines().collect::<Vec<_>>(), want);
    let object = call(&["usage", "--json"]).expect(0).json();
    assert_eq!((object["items"].as_array().map(Vec::len), &object["more"]), (Some(2), &json!(1)), "{object}");
}

#[test]
fn the_status_without_a_project_lists_the_projects() {
    let (world, server) = served();
    let shown = cli(&world, &server, &["status"]).expect(0);
    assert!(shown.stdout.starts_with("demo  prj_1"), "{shown:?}");
    let object = cli(&world, &server, &["status", "--json"]).expect(0).json();
    assert_eq!((&object["project"], &object["projects"][0]["name"]), (&Value::Null, &json!("demo")), "{object}");
    // What somebody names is what is meant.
    let shown = cli(&world, &server, &["status", "--project", "nobodys"]).expect(0);
    assert!(shown.stdout.is_empty() && shown.stderr.contains("no project `nobodys` yet"), "{shown:?}");
}

#[test]
fn nothing_is_made_twice_where_an_answer_is_lost() {
    let world = World::stopped();
    let server = Recorder::start(|_| (503, json!({"error": "unavailable", "message": "busy"})));
    cli(&world, &server, &["token", "create", "ci"]).expect(5);
    assert_eq!(server.asked().len(), 1, "a secret that was lost cannot be asked for again");
}

#[test]
fn completions_and_manual_are_made_of_the_commands() {
    let world = World::stopped();
    let make = |arguments: &[&str]| {
        let mut command = world.command();
        command.args(arguments);
        run(command).expect(0)
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = make(&["completions", shell]).stdout;
        assert!(script.contains("whoami") && script.contains("strip-components"), "{shell}");
    }
    assert!(make(&["completions", "bash", "--json"]).json()["script"].as_str().is_some_and(|s| s.contains("whoami")));
    let files = make(&["man", "manual/man1", "--json"]).json()["files"].clone();
    let files: Vec<_> = files.as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    for name in ["pinstone.1", "pinstone-deploy.1", "pinstone-token-create.1"] {
        assert!(files.contains(&name) && world.work().join("manual/man1").join(name).is_file(), "{name}: {files:?}");
    }
    let page = std::fs::read_to_string(world.work().join("manual/man1/pinstone-token-create.1")).unwrap();
    assert!(page.contains("gh secret set") && page.contains("expires"), "{page}");
}
