//! One system call goes wrong: a sync or a write fails, or the process is killed at a sync or a rename. Each call of a
//! publish in turn, and each of a first start.
//!
//! A list of a run in which nothing goes wrong says which calls there are. Whatever goes wrong then, the server goes on
//! by itself or ends; afterwards `fsck` is clean, everything that was acknowledged is there, and publishing works.
//! By default some points are drawn, of every kind before any of a kind twice; `PINSTONE_KILL_POINTS` says how many.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::{Value, json};

use crate::disk::done;
use crate::site::{self, Files, target};
use crate::strace::{self, Fault, Point, RENAMES, SYNCS, Unsynced, WRITES};
use crate::world::{Api, World, plan, random, seed, setting, skip, until};

/// Points that are drawn for each test.
const DRAWN: u64 = 10;

/// Everything that was acknowledged while something went wrong.
#[derive(Debug, Default)]
struct Told {
    uploads: BTreeSet<String>,
    image: Option<String>,
    released: Option<u64>,
    count: usize,
}

/// The site that every data folder shows before, and the one that is published while something goes wrong: an object in
/// one write, one in parts, one that both have, and one without bytes.
fn sites() -> [Files; 2] {
    ["one", "two"].map(|version| {
        vec![
            ("index.html".to_owned(), format!("<!doctype html><title>{version}</title>").into_bytes()),
            ("big.bin".to_owned(), site::noise(version, 700_000)),
            ("shared.css".to_owned(), b"body{}".to_vec()),
            ("empty.txt".to_owned(), Vec::new()),
        ]
    })
}

/// A place for a server that writes nothing but what it is asked to, so that two runs make the same calls.
fn stopped() -> World {
    let mut world = World::stopped();
    world.serve_with(&["--variants-workers", "0"]);
    world
}

/// Publishes to `prod`, and writes down what is acknowledged.
fn publish(api: &Api, files: &Files, told: &mut Told) -> std::io::Result<()> {
    let good = |response: crate::wire::Response| match response.status {
        200 | 201 => Ok(response.json()),
        status => Err(std::io::Error::other(format!("{status} {}", String::from_utf8_lossy(&response.body)))),
    };
    let planned = good(api.plan("demo", files)?)?;
    told.count += 1;
    let id = planned["plan_id"].as_str().expect("a plan has an id");
    for missing in planned["missing"].as_array().expect("never null") {
        let hash = missing["hash"].as_str().expect("a blob has a hash");
        assert!(!told.uploads.contains(hash), "{hash} was acknowledged and is missing");
        let (_, bytes) = files.iter().find(|(_, bytes)| *blake3::hash(bytes).to_hex() == *hash).expect("planned");
        good(api.send("PUT", &format!("/upload/{id}/{hash}"), "application/octet-stream", bytes)?)?;
        told.uploads.insert(hash.to_owned());
        told.count += 1;
    }
    let commit = good(api.call("POST", "/commit", Some(&json!({"plan_id": id})))?)?;
    let image = commit["image_id"].as_str().expect("a commit has an image").to_owned();
    told.image = Some(image.clone());
    told.count += 1;
    let released: Value = api.release("demo", "prod", &image)?;
    told.released = Some(released["number"].as_u64().expect("a release has a number"));
    told.count += 1;
    Ok(())
}

/// Checks that a server shows one of the two sites, whole, and what was acknowledged of commits and releases. Writes
/// nothing.
fn check_shown(world: &World, told: &Told) {
    let current = world.api("GET", "/current?project=demo&environment=prod", None).expect(200).json();
    let number = current["number"].as_u64().expect("a number");
    assert!(number >= told.released.unwrap_or(1), "release {:?} was acknowledged: {current}", told.released);
    let shown = if number == 1 { 0 } else { 1 };
    for (path, bytes) in &sites()[shown] {
        assert!(world.get("demo.localhost", &target(path)).expect(200).body == *bytes, "{path} at release {number}");
    }
    if let Some(image) = &told.image {
        world.api("GET", &format!("/images/{image}?project=demo"), None).expect(200);
        assert!(told.released.is_none() || current["image_id"] == *image, "{current}, and {image} was released");
    }
}

/// Checks that a server has all that was acknowledged.
fn check(world: &World, told: &Told) {
    check_shown(world, told);
    let plan = world.api("POST", "/plan", Some(&plan("demo", &sites()[1]))).expect(200).json();
    for missing in plan["missing"].as_array().expect("never null") {
        let hash = missing["hash"].as_str().expect("a blob has a hash");
        assert!(!told.uploads.contains(hash), "the upload of {hash} was acknowledged");
    }
}

/// A data folder that shows the first site.
fn prepared() -> World {
    let mut world = stopped();
    world.restart();
    world.publish("demo", &sites()[0]);
    assert_eq!(world.stop().code(), Some(0));
    world
}

fn copy(from: &Path, to: &Path) {
    done(Command::new("cp").arg("--archive").arg(from).arg(to)).unwrap();
}

fn log_of(world: &World) -> PathBuf {
    world.work().join("strace.log")
}

/// Waits until `strace` has written all of its list: it ends after the server.
fn finished(log: &Path) -> &Path {
    let mut last = None;
    until("strace ends", || {
        let now = std::fs::metadata(log).map(|log| log.len()).ok();
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::mem::replace(&mut last, now) == now
    });
    log
}

/// The calls of a run in which nothing goes wrong.
fn listed(calls: &[&str], from: Option<&Path>) -> Vec<Point> {
    let mut world = stopped();
    if let Some(from) = from {
        copy(from, &world.data());
    }
    let log = log_of(&world);
    world.start_by(strace::listing(calls, &log));
    world.restart();
    if from.is_some() {
        let api = Api { address: world.address(), token: world.token() };
        publish(&api, &sites()[1], &mut Told::default()).unwrap();
    }
    assert_eq!(world.stop().code(), Some(0));
    let is_named = |point: &Point| {
        let path = point.path.to_string_lossy();
        // A plan's file has another name in every run, RocksDB's own log holds nothing, and what lost its name has none.
        !path.contains("plan_") && !path.contains("LOG") && !path.contains("deleted")
    };
    strace::points(finished(&log), &world.data()).into_iter().filter(is_named).collect()
}

/// Draws points: of every kind before any of a kind twice.
fn drawn(points: Vec<Point>, name: &str) -> Vec<Point> {
    let all = points.len();
    let wanted = setting("PINSTONE_KILL_POINTS").unwrap_or(DRAWN);
    let seed = seed("PINSTONE_KILL_SEED");
    let mut shuffled = points;
    shuffled.sort_by_key(|point| random(seed, point));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, Point)> = Vec::new();
    for point in shuffled {
        let rank = seen.entry(point.kind()).or_default();
        *rank += 1;
        ranked.push((*rank, point));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let drawn: Vec<_> = ranked.into_iter().map(|(_, point)| point).take(usize::try_from(wanted).unwrap()).collect();
    println!("{name}: {} of {all} points, of {} kinds", drawn.len(), seen.len());
    drawn
}

/// How often things went wrong, and how much was acknowledged.
#[derive(Debug, Default)]
struct Count {
    rounds: usize,
    struck: usize,
    acknowledged: usize,
}

fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// Publishes while one call goes wrong, and checks what is left.
fn publish_round(from: &Path, point: &Point, fault: Fault, count: &mut Count) {
    let mut world = stopped();
    copy(from, &world.data());
    let log = log_of(&world);
    world.start_by(strace::injecting(point, fault, &world.data(), &log));
    let mut told = Told::default();
    let status = match world.try_restart() {
        Err(status) => status,
        Ok(()) => {
            let api = Api { address: world.address(), token: world.token() };
            until("the server goes on by itself, or ends", || {
                publish(&api, &sites()[1], &mut told).is_ok() || world.is_gone()
            });
            if !world.is_gone() {
                check_shown(&world, &told);
                world.terminate();
            }
            world.wait()
        }
    };
    let struck = if fault == Fault::Kill { was_killed(status) } else { strace::was_injected(finished(&log)) };
    count.rounds += 1;
    count.struck += usize::from(struck);
    count.acknowledged += told.count;
    println!("{fault:?} at {point}: struck {struck}, {status}, {} acknowledged", told.count);

    world.start_by(Vec::new());
    let report = world.fsck();
    assert_eq!(report.code, 0, "{fault:?} at {point}: {report:?}");
    world.restart();
    check(&world, &told);
    let folder = world.folder("site", &sites()[1]);
    let folder = folder.to_str().expect("temporary folders have plain names");
    world.cli(&["deploy", folder, "--project", "demo", "--prod"]).expect(0);
    told.released = Some(2);
    check(&world, &told);
    world.stop();
    world.fsck().expect(0);
}

/// Whether calls can be made to fail here. Where everything has to be tested it is a failure that they cannot.
fn can_inject() -> bool {
    match strace::probe() {
        Ok(()) => true,
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "kill points are not tested: {reason}");
            skip("kill points", &reason);
            false
        }
    }
}

fn publish_rounds(calls: &[&str], fault: Fault) {
    if !can_inject() {
        return;
    }
    let template = prepared();
    let mut count = Count::default();
    for point in drawn(listed(calls, Some(&template.data())), &format!("publish, {fault:?}")) {
        publish_round(&template.data(), &point, fault, &mut count);
    }
    println!("{count:?}");
    // Numbers of files differ now and then between two runs, so that a point may not come.
    assert!(count.struck * 2 >= count.rounds, "{count:?}");
}

#[test]
fn a_sync_fails() {
    publish_rounds(SYNCS, Fault::Broken);
}

#[test]
fn a_write_fails_for_lack_of_room() {
    publish_rounds(WRITES, Fault::Full);
}

#[test]
fn the_server_is_killed_at_a_sync() {
    publish_rounds(SYNCS, Fault::Kill);
}

#[test]
fn the_server_is_killed_at_a_rename() {
    publish_rounds(RENAMES, Fault::Kill);
}

#[test]
fn nothing_is_acknowledged_before_it_is_synced() {
    if !can_inject() {
        return;
    }
    let mut world = stopped();
    let log = log_of(&world);
    world.start_by(strace::following(&log));
    world.restart();
    let api = Api { address: world.address(), token: world.token() };
    let mut told = Told::default();
    // Also what the first start made has to last: the folders, and the metadata in them.
    for files in sites() {
        publish(&api, &files, &mut told).unwrap();
    }
    world.stop();
    let followed = Unsynced::follow(finished(&log), &world.data());
    assert!(followed.early.is_empty(), "{followed:#?}");
    assert!(followed.sent >= told.count && followed.syncs >= told.count, "{followed:?} and {told:?}");
    println!("{} answers, {} syncs, none too late", followed.sent, followed.syncs);
}

/// `FORMAT` is written last: where it is there, so is everything else.
pub(crate) fn check_first_start(world: &World, at: &str) {
    let data = world.data();
    let fsck = world.fsck();
    if !data.join("FORMAT").exists() {
        assert!(fsck.code != 0 && fsck.code != 6, "{at}: there is no data folder yet: {fsck:?}");
        return;
    }
    assert_eq!(fsck.code, 0, "{at}: {fsck:?}");
    assert!(!world.token().is_empty(), "{at}");
    for part in ["meta/CURRENT", "objects/blobs/ff", "objects/manifests/ff", "objects/packs/ff", "objects/plans"] {
        assert!(data.join(part).exists(), "{at}: `FORMAT` is there and `{part}` is not");
    }
}

#[test]
fn the_server_is_killed_in_its_first_start() {
    if !can_inject() {
        return;
    }
    let mut count = Count::default();
    let calls = [SYNCS, WRITES, RENAMES].concat();
    for point in drawn(listed(&calls, None), "first start") {
        let mut world = stopped();
        world.start_by(strace::injecting(&point, Fault::Kill, &world.data(), &log_of(&world)));
        let status = match world.try_restart() {
            Ok(()) => world.stop(),
            Err(status) => status,
        };
        count.rounds += 1;
        count.struck += usize::from(was_killed(status));
        println!("killed at {point}: {status}");
        world.start_by(Vec::new());
        check_first_start(&world, &point.to_string());
        let token = std::fs::read_to_string(world.data().join("owner.token")).ok();
        world.restart();
        assert!(token.is_none_or(|token| token.trim() == world.token()), "a token that was written is the owner's");
        world.publish("demo", &sites()[0]);
        world.stop();
        world.fsck().expect(0);
    }
    println!("{count:?}");
    assert!(count.struck * 2 >= count.rounds, "{count:?}");
}
