//! A full disk: nothing more is acknowledged, what is published is served, and with room again the same process goes on.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

use crate::disk::Disk;
use crate::site::{self, Files};
use crate::wire::Response;
use crate::world::{Api, World, run, skip, until};

fn files(name: &str, size: usize) -> Files {
    vec![
        ("index.html".to_owned(), format!("<!doctype html><title>{name}</title>").into_bytes()),
        ("data.bin".to_owned(), site::noise(name, size)),
    ]
}

fn is_shown(world: &World, files: &Files) {
    for (path, bytes) in files {
        assert!(world.get("demo.localhost", &site::target(path)).expect(200).body == *bytes, "{path}");
    }
}

/// Checks that a call is refused for lack of room, and that its answer says what helps: room, and nothing else.
#[track_caller]
fn refused(response: &Response) {
    response.expect_error(507, "storage_full");
    let hint = response.json()["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint.contains("room") && hint.contains("without a restart"), "{hint}");
}

fn health(world: &World) -> (String, String) {
    let health = world.api("GET", "/health", None).expect(200).json();
    let word = |name: &str| health[name].as_str().unwrap_or_default().to_owned();
    (word("status"), word("database"))
}

/// Lets the server's files grow to `bytes` and no further. That needs no privilege, and what writes beyond is told so at
/// once, as on a full disk.
fn limit_files(world: &World, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(world.pid()).expect("a process id")).expect("a process id");
    let maximum = getrlimit(Resource::Fsize).maximum;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[test]
fn a_limit_that_is_reached_stops_acknowledgements_and_lifting_it_is_enough() {
    let mut world = World::start();
    let (first, second) = (files("first", 20_000), files("second", 20_000));
    let one = world.publish("demo", &first);
    let api = Api { address: world.address(), token: world.token() };
    // Planned while there is room, so that an upload and a commit can be tried without.
    let planned = api.plan("demo", &second).unwrap().expect(200).json();
    let id = planned["plan_id"].as_str().expect("an id").to_owned();
    let upload = |api: &Api, bytes: &[u8]| {
        let path = format!("/upload/{id}/{}", blake3::hash(bytes).to_hex());
        api.send("PUT", &path, "application/octet-stream", bytes).unwrap()
    };
    upload(&api, &second[0].1).expect(200);
    let pid = world.pid();

    for round in 0..2 {
        limit_files(&world, Some(16));
        refused(&upload(&api, &second[1].1));
        refused(&api.plan("demo", &files(&format!("third {round}"), 1_000)).unwrap());
        let release = json!({"project": "demo", "environment": format!("pr-{round}"), "image_id": one});
        refused(&api.call("POST", "/release", Some(&release)).unwrap());
        assert_eq!(health(&world), ("degraded".to_owned(), "error".to_owned()));
        refused(&api.call("POST", "/release", Some(&release)).unwrap());
        // What is published is served, and what is known is told.
        is_shown(&world, &first);
        world.get(&format!("demo--i-{}.localhost", &one["img_".len()..][..16]), "/").expect(200);
        let current = world.api("GET", "/current?project=demo&environment=prod", None).expect(200).json();
        assert_eq!(current["image_id"], one);
        world.api("GET", "/history?project=demo", None).expect(200);
        let missing = world.api("GET", &format!("/plans/{id}"), None).expect(200).json()["missing"].clone();
        assert_eq!(missing.as_array().map(Vec::len), Some(if round == 0 { 1 } else { 0 }), "{missing}");

        limit_files(&world, None);
        // By itself, and because somebody asks for it.
        if round == 0 {
            until("the store recovers", || health(&world).0 == "healthy");
            upload(&api, &second[1].1).expect(200);
        } else {
            until("an upload is taken", || upload(&api, &second[1].1).status == 200);
        }
        world.release("demo", &format!("pr-{round}"), &one);
    }
    let commit = api.call("POST", "/commit", Some(&json!({"plan_id": id}))).unwrap().expect(200).json();
    let two = commit["image_id"].as_str().expect("an image").to_owned();
    world.release("demo", "prod", &two);
    is_shown(&world, &second);
    assert_eq!(world.pid(), pid);
    assert_eq!(world.stop().code(), Some(0), "{}", world.logged());
    world.fsck().expect(0);

    // A start without room says so, and not that anything is damaged.
    let mut command = Command::new("prlimit");
    command.args(["--fsize=16:", "--"]).arg(world.command().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(world.data());
    let refused = run(command).expect(1);
    assert!(refused.stderr.contains("make room"), "{refused:?}");

    world.restart();
    is_shown(&world, &second);
    for environment in ["pr-0", "pr-1"] {
        let current = world.api("GET", &format!("/current?project=demo&environment={environment}"), None).expect(200);
        assert_eq!(current.json()["image_id"], one);
    }
}

/// Writes to the end of a file until there is no room at all.
fn fill(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_stops_acknowledgements_and_room_is_enough() {
    // The log of the metadata store is given 64 MiB when it is made.
    let disk = match Disk::in_memory(144 << 20) {
        Ok(disk) => disk,
        Err(reason) => return skip("a full disk", &reason),
    };
    let mut world = World::stopped_on(&disk.path());
    world.restart();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 40 << 20]).unwrap();
    let api = Api { address: world.address(), token: world.token() };
    let pid = world.pid();

    // Files first, until nothing fits any more.
    let (mut published, mut answer) = (Vec::new(), None);
    for number in 0..200 {
        let files = files(&format!("{number}"), 1 << 20);
        let planned = match api.plan("demo", &files).unwrap() {
            planned if planned.status == 200 => planned.json(),
            full => {
                answer = Some(full);
                break;
            }
        };
        let id = planned["plan_id"].as_str().expect("an id").to_owned();
        let put = |bytes: &[u8]| {
            let path = format!("/upload/{id}/{}", blake3::hash(bytes).to_hex());
            api.send("PUT", &path, "application/octet-stream", bytes).unwrap()
        };
        let full = files.iter().map(|(_, bytes)| put(bytes)).find(|answer| answer.status != 200);
        let full = full.or_else(|| {
            let commit = api.call("POST", "/commit", Some(&json!({"plan_id": id}))).unwrap();
            if commit.status != 200 {
                return Some(commit);
            }
            let image = commit.json()["image_id"].as_str().expect("an image").to_owned();
            let released = api
                .call("POST", "/release", Some(&json!({"project": "demo", "environment": "prod", "image_id": image})))
                .unwrap();
            if released.status != 200 {
                return Some(released);
            }
            published.push((image, files));
            None
        });
        if full.is_some() {
            answer = full;
            break;
        }
    }
    refused(&answer.expect("144 MiB are full one day"));
    let (image, shown) = published.last().expect("something fitted").clone();
    is_shown(&world, &shown);
    // Then the metadata: small commits, until what memory keeps of them has to be written elsewhere.
    // Whoever closes a file may give back what was reserved for it, so the rest is filled again and again.
    let text = "x".repeat(4_000);
    let (mut number, mut acknowledged) = (0, 0);
    until("releases are refused, too", || {
        fill(&disk.path().join("filler"));
        let refused_now = (0..100).find_map(|_| {
            let target = if number / 8 % 2 == 0 { &image } else { &published[0].0 };
            let body = json!({"project": "demo", "environment": format!("e{}", number % 8), "image_id": target,
                "message": text});
            number += 1;
            let answer = api.call("POST", "/release", Some(&body)).unwrap();
            if answer.status == 200 {
                acknowledged = answer.json()["number"].as_u64().expect("a number");
                return None;
            }
            refused(&answer);
            Some(())
        });
        fill(&disk.path().join("filler"));
        refused_now.is_some() && api.plan("demo", &files("another", 1_000)).unwrap().status == 507
    });
    assert_eq!(health(&world).0, "degraded");
    is_shown(&world, &shown);
    assert_eq!(world.api("GET", "/current?project=demo&environment=prod", None).expect(200).json()["image_id"], image);

    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    until("the store recovers", || health(&world).0 == "healthy");
    let last = files("last", 1 << 20);
    world.publish("demo", &last);
    is_shown(&world, &last);
    assert_eq!(world.pid(), pid, "in the same process");
    assert_eq!(world.stop().code(), Some(0), "{}", world.logged());
    world.fsck().expect(0);
    world.restart();
    is_shown(&world, &last);
    for (image, _) in &published {
        world.api("GET", &format!("/images/{image}?project=demo"), None).expect(200);
    }
    let numbers = (0..8).map(|number| {
        let path = format!("/current?project=demo&environment=e{number}");
        world.api("GET", &path, None).expect(200).json()["number"].as_u64().expect("a number")
    });
    assert!(numbers.max().is_some_and(|number| number >= acknowledged), "release {acknowledged} was acknowledged");
    println!("{} sites and {acknowledged} releases of one environment were acknowledged", published.len());
}
