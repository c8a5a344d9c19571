//! Projects by the command line, against a real server.

use std::collections::BTreeSet;

use serde_json::json;

use crate::world::{Api, World};

#[test]
fn projects_are_made_used_renamed_and_deleted() {
    let world = World::start();
    let page = |text: &str| vec![("index.html".to_owned(), text.as_bytes().to_vec())];
    world.cli(&["project", "create", "first"]).expect(0);
    world.publish("second", &page("x"));
    let names = || {
        let listed = world.cli(&["project", "list", "--json"]).expect(0).json();
        let items = listed["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().len(), 2);
    // Somebody else's name is taken, and another one is offered.
    world.user(&["login", "--register", "--email", "a@example.com", "--password-stdin"], "a long password").expect(0);
    let told = world.user(&["project", "create", "second"], "").expect(3).stderr;
    assert!(told.contains("is free"), "{told}");
    world.user(&["project", "show", "second"], "").expect(1);
    let told = world.user(&["project", "delete", "second", "--yes"], "").expect(1).stderr;
    assert!(told.contains("`second`"), "{told}");
    let told = world.user(&["project", "rename", "second", "third"], "").expect(1).stderr;
    assert!(told.contains("`second`"), "{told}");

    world.cli(&["project", "rename", "second", "third"]).expect(0);
    world.get("third.localhost", "/").expect(200);
    world.get("second.localhost", "/").expect(308);
    let used = world.cli(&["usage", "--json"]).expect(0).json();
    assert_eq!(used["items"].as_array().map(Vec::len), Some(2), "{used}");
    let shown = world.cli(&["usage", "--project", "third"]).expect(0).stdout;
    assert!(shown.starts_with("third"), "{shown}");
    world.cli(&["project", "delete", "third", "--yes"]).expect(0);
    world.get("third.localhost", "/").expect(404);
    assert_eq!(names(), ["first"]);
    let told = world.cli(&["status"]).expect(0).stdout;
    assert!(told.contains("first"), "{told}");
    assert_eq!(
        world.cli(&["audit", "--project", "first", "--json"]).expect(0).json()["items"][0]["action"],
        json!("project.create")
    );
}

#[test]
fn more_projects_than_a_page_has_are_listed() {
    const MANY: usize = 1003;
    let world = World::start();
    let api = Api { address: world.address(), token: world.token() };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let api = &api;
            scope.spawn(move || {
                for number in (thread..MANY).step_by(4) {
                    let body = json!({ "name": format!("site-{number}") });
                    assert_eq!(api.call("POST", "/projects", Some(&body)).unwrap().status, 201, "{number}");
                }
            });
        }
    });
    let listed = world.cli(&["project", "list"]).expect(0).stdout;
    let names: BTreeSet<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((listed.lines().count(), names.len()), (MANY, MANY));
}
