//! What the command line tells people and scripts: what is named where something is missing, what is never obeyed by a
//! terminal, and what is refused instead of guessed. And what a client is told before it sends a body.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;

use crate::site::Files;
use crate::wire::Connection;
use crate::world::{World, run};

fn page(content: &str) -> Files {
    vec![("index.html".to_owned(), content.as_bytes().to_vec())]
}

/// Whether a terminal would obey something in `text` but the ends of its lines.
fn is_obeyed(text: &str) -> bool {
    text.chars().any(|letter| (letter.is_control() && letter != '\n') || letter == '\u{202e}')
}

#[test]
fn texts_of_others_are_shown_and_not_obeyed() {
    let world = World::start();
    let image = world.publish("demo", &page("x"));
    let message = "\u{1b}]0;owned\u{7}\u{202e}evil\u{9b}31m";
    let body = json!({"project": "demo", "environment": "beta", "image_id": image, "message": message});
    world.api("POST", "/release", Some(&body)).expect(200);
    let shown = world.cli(&["releases", "--project", "demo"]).expect(0);
    assert!(!is_obeyed(&shown.stdout) && shown.stdout.contains("\\u{1b}]0;owned"), "{shown:?}");
    let listed = world.cli(&["releases", "--project", "demo", "--json"]).expect(0).json();
    assert_eq!(listed["items"][0]["message"], message, "JSON has what was said");
}

#[test]
fn errors_of_others_are_shown_and_not_obeyed() {
    let world = World::stopped();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let body = json!({"error": "no", "message": "\u{1b}[2Jno\nhint: run this", "hint": "\u{1b}[31m\nerror: x"});
    let answer =
        format!("HTTP/1.1 422 No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.to_string().len());
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            // A GET has one piece.
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let status = |more: &[&str]| {
        let mut command = world.command();
        command.args(["status", "--project", "demo", "--token", "pin_x", "--endpoint", &endpoint]).args(more);
        run(command).expect(1)
    };
    let told = status(&[]).stderr;
    assert!(!is_obeyed(&told) && told.contains("\\u{1b}[2Jno"), "{told}");
    let hints = told.lines().filter(|line| line.starts_with("hint:")).count();
    let errors = told.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!((errors, hints), (1, 1), "a message makes no lines of its own: {told}");
    let told: serde_json::Value = serde_json::from_str(status(&["--json"]).stderr.trim()).unwrap();
    assert_eq!((&told["message"], &told["hint"]), (&body["message"], &body["hint"]), "JSON has what was said");
    server.join().unwrap();
}

#[test]
fn an_environment_is_deleted_only_where_that_is_confirmed() {
    let world = World::start();
    world.publish("demo", &page("x"));
    let refused = world.cli(&["env", "delete", "prod", "--project", "demo"]).expect(2);
    assert!(refused.stderr.contains("hint:") && refused.stderr.contains("--yes"), "{refused:?}");
    world.get("demo.localhost", "/").expect(200);
    world.cli(&["env", "delete", "prod", "--project", "demo", "--yes"]).expect(0);
    world.get("demo.localhost", "/").expect(404);
}

#[test]
fn what_is_missing_is_named_as_it_was_typed() {
    let world = World::start();
    let image = world.publish("demo", &page("x"));
    let no_image = format!("img_{}", "0".repeat(32));
    for (arguments, name) in [
        (&["diff", "prod", "nowhere"][..], "`nowhere`"),
        (&["diff", "nowhere", "prod"], "`nowhere`"),
        (&["diff", &image, &no_image], &no_image),
        (&["diff", &no_image, "prod"], &no_image),
        (&["diff", "prod", "./no/such/folder"], "./no/such/folder"),
        (&["promote", "nowhere", "prod"], "`nowhere`"),
    ] {
        let mut all = arguments.to_vec();
        all.extend(["--project", "demo"]);
        let output = world.cli(&all);
        assert!(matches!(output.code, 1 | 2), "{arguments:?}: {output:?}");
        let error = output.stderr.lines().find(|line| line.starts_with("error:"));
        assert!(error.is_some_and(|line| line.contains(name)), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_list_of_nothing_is_not_asked_for() {
    let world = World::stopped();
    for list in ["images", "releases"] {
        let mut command = world.command();
        command.args([list, "--project", "demo", "--limit", "0"]);
        assert!(run(command).expect(2).stderr.contains("--limit"), "{list}");
    }
}

#[test]
fn values_that_nobody_could_be_served_with() {
    let world = World::stopped();
    let mut command = world.command();
    std::fs::write(world.work().join("pinstone-server.toml"), "[edge]\nhead_bytes = 0\n").unwrap();
    command
        .args(["check-config", "--limits-plan-size", "0", "--edge-workers", "1025"])
        .env("PINSTONE_API__JSON_SIZE", "0");
    let told = run(command).expect(2).stderr;
    for part in [
        "`--limits-plan-size`",
        "`--edge-workers`",
        "`PINSTONE_API__JSON_SIZE`",
        "`edge.head_bytes` in `pinstone-server",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_client_that_waits_is_told_to_send_only_what_is_wanted() {
    let world = World::start();
    let plan = crate::world::plan("demo", &page("x")).to_string();
    let head = |token: &str| {
        format!(
            "POST /api/v1/plan HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            plan.len()
        )
    };
    let mut stranger = Connection::open(world.address());
    stranger.send(head("pin_wrong").as_bytes()).unwrap();
    assert_eq!(stranger.answer("POST").unwrap().status, 401, "told before anything is sent");

    let mut owner = Connection::open(world.address());
    owner.send(head(&world.token()).as_bytes()).unwrap();
    assert_eq!(owner.head().unwrap().0, 100);
    owner.send(plan.as_bytes()).unwrap();
    owner.answer("POST").unwrap().expect(200);
}

#[test]
fn the_status_of_an_environment_that_shows_nothing_is_an_error_that_names_the_others() {
    let world = World::start();
    world.publish("demo", &vec![("index.html".to_owned(), b"x".to_vec())]);
    let known = world.cli(&["status", "--project", "demo", "--env", "prod", "--json"]).expect(0).json();
    assert_eq!(known["environments"].as_array().map(Vec::len), Some(1), "{known}");
    let unknown = world.cli(&["status", "--project", "demo", "--env", "prdo", "--json"]).expect(1);
    let error: serde_json::Value = serde_json::from_str(unknown.stderr.trim().lines().last().unwrap()).unwrap();
    assert_eq!(error["error"], "environment_not_found", "{error}");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("prod")), "{error}");
}
