//! Many publishers at once: accounts that share a server and not their files, at the limit of their projects.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;

use crate::site::Files;
use crate::world::{Api, World};

const ACCOUNTS: usize = 5;
const CLIENTS: usize = 25;
const PUBLISHES: usize = 20;
/// What an account may have; its clients want one more.
const PROJECTS: usize = 2;

/// Registers an account.
fn account(world: &World, number: usize) -> Api {
    let address = world.address();
    let body = json!({"email": format!("crowd-{number}@example.com"), "password": "long enough for anybody"});
    Api { address, token: world.sign_in("/auth/register", 201, &body) }
}

/// A site whose files all tell which publish they are of; some are the same in all, and some in all of a client.
fn site(client: usize, turn: usize) -> Files {
    let version = format!("{client}-{turn}");
    vec![
        ("a.txt".into(), format!("a of {version}").into_bytes()),
        ("b.txt".into(), format!("b of {version}").into_bytes()),
        ("client.txt".into(), format!("client {client}").into_bytes()),
        ("shared.txt".into(), b"shared by everybody".to_vec()),
    ]
}

/// What the host shows: the publish that both files are of, asked until both answers are of one release.
fn shown(world: &World, host: &str) -> String {
    let text = |path| String::from_utf8(world.get(host, path).expect(200).body).unwrap();
    let (a, b) = (text("/a.txt"), text("/b.txt"));
    let version = a.strip_prefix("a of ").expect("it is the site's file");
    assert_eq!(b, format!("b of {version}"), "{host}: half of a release");
    version.to_owned()
}

#[test]
fn no_release_is_lost_or_mixed_and_no_limit_exceeded() {
    let mut world = World::stopped();
    world.set_variables(vec![
        ("PINSTONE_API__CALLS_PER_MINUTE", "0".into()),
        ("PINSTONE_API__UPLOADS_PER_MINUTE", "0".into()),
        ("PINSTONE_LIMITS__TEAM_PROJECTS", PROJECTS.to_string()),
    ]);
    world.restart();
    let accounts: Vec<Api> = (0..ACCOUNTS).map(|number| account(&world, number)).collect();
    for (number, account) in accounts.iter().enumerate() {
        for project in 0..PROJECTS {
            let body = json!({"name": format!("crowd-{number}-{project}")});
            account.call("POST", "/projects", Some(&body)).unwrap().expect(201);
        }
    }
    // By project: its releases, by number, with what each showed.
    let released: Mutex<BTreeMap<String, BTreeMap<u64, String>>> = Mutex::default();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (accounts, released) = (&accounts, &released);
            scope.spawn(move || {
                let owner = client % ACCOUNTS;
                let api = &accounts[owner];
                for turn in 0..PUBLISHES {
                    let project = format!("crowd-{owner}-{}", (client / ACCOUNTS + turn) % PROJECTS);
                    let image = api.commit(&project, &site(client, turn)).unwrap();
                    let release = api.release(&project, "prod", &image).unwrap();
                    assert_eq!(release["changed"], true, "each publish is another");
                    let number = release["number"].as_u64().expect("a release has a number");
                    let before = released.lock().unwrap().entry(project).or_default().insert(number, image);
                    assert_eq!(before, None, "a number is given once");
                    if turn % 5 == 0 {
                        let one_more = json!({"name": format!("crowd-{owner}-more-{client}")});
                        api.call("POST", "/projects", Some(&one_more)).unwrap().expect(422);
                        let foreign = format!("crowd-{}-0", (owner + 1) % ACCOUNTS);
                        api.plan(&foreign, &site(client, turn)).unwrap().expect_error(403, "project_taken");
                    }
                }
            });
        }
    });
    let released = released.into_inner().unwrap();
    assert_eq!(released.len(), ACCOUNTS * PROJECTS);
    assert_eq!(released.values().map(BTreeMap::len).sum::<usize>(), CLIENTS * PUBLISHES);
    for (project, images) in &released {
        let numbers: Vec<u64> = images.keys().copied().collect();
        assert_eq!(numbers, (1..=images.len() as u64).collect::<Vec<_>>(), "{project}: no number is left out");
        let owner: usize = project.split('-').nth(1).unwrap().parse().unwrap();
        let (_, last) = images.last_key_value().unwrap();
        let current = format!("/current?project={project}&environment=prod");
        let current = accounts[owner].call("GET", &current, None).unwrap().expect(200).json();
        assert_eq!(current["image_id"], **last, "{project} shows its last release");
        let version = shown(&world, &format!("{project}.localhost"));
        let client: usize = version.split('-').next().unwrap().parse().unwrap();
        assert_eq!(client % ACCOUNTS, owner, "{project} shows what one of its own clients published");
    }
    for account in &accounts {
        let usage = account.call("GET", "/usage", None).unwrap().expect(200).json();
        assert_eq!(usage["projects"], PROJECTS);
    }
    world.stop();
    world.fsck().expect(0);
}
