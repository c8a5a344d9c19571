//! `kill -9` at random moments of concurrent publishes and releases. What was acknowledged is there afterwards, and
//! nothing points to anything missing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::site::{self, Files};
use crate::world::{Api, World, random, seed, setting, until};

const WRITERS: usize = 4;

/// Everything that the writers of all rounds asked for and were told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The content of an image that some writer committed, or tried to.
    images: HashMap<String, Vec<u8>>,
    environments: HashMap<String, Environment>,
}

#[derive(Clone, Debug, Default)]
struct Environment {
    /// The last acknowledged release: its number and image.
    acknowledged: Option<(u64, String)>,
    /// What was asked for after that, answered or not.
    pending: Vec<String>,
}

/// A site that no other publish has, but for one file that all have.
fn files(round: u64, writer: usize, attempt: u64) -> Files {
    let name = format!("{round}-{writer}-{attempt}");
    vec![
        ("index.html".to_owned(), format!("<!doctype html><p>{name}").into_bytes()),
        ("shared.css".to_owned(), site::noise("shared", 5_000)),
        ("data.bin".to_owned(), site::noise(&name, 20_000)),
    ]
}

/// What ends the writers' work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The server is killed. Whatever it has answered counts.
    Kill,
    /// The disk has lost its power. A machine without power answers nobody, so what the server answers from then on does
    /// not count.
    PowerCut,
}

/// What the writers of one round share.
struct Round<'r> {
    number: u64,
    end: End,
    ledger: &'r Mutex<Ledger>,
    /// How much was acknowledged.
    progress: AtomicU64,
    /// Whether the end has begun.
    ending: AtomicBool,
}

/// Publishes and releases until the server is gone. Two writers share an environment.
fn write(api: &Api, writer: usize, round: &Round<'_>) {
    let Round { ledger, progress, ending, .. } = round;
    let environment = format!("e{}", writer / 2);
    let counts = || round.end == End::Kill || !ending.load(Ordering::SeqCst);
    for attempt in 0.. {
        let files = files(round.number, writer, attempt);
        let image = match api.commit("crash", &files) {
            Ok(image) if counts() => image,
            Ok(_) => return,
            Err(error) => return assert!(ending.load(Ordering::SeqCst), "a publish failed: {error}"),
        };
        let turn = {
            let mut ledger = ledger.lock().unwrap();
            ledger.images.insert(image.clone(), files[0].1.clone());
            let entry = ledger.environments.entry(environment.clone()).or_default();
            entry.pending.push(image.clone());
            entry.acknowledged.as_ref().map_or(0, |(number, _)| *number)
        };
        progress.fetch_add(1, Ordering::SeqCst);
        let released = match api.release("crash", &environment, &image) {
            Ok(released) if counts() => released,
            Ok(_) => return,
            Err(error) => return assert!(ending.load(Ordering::SeqCst), "a release failed: {error}"),
        };
        let number = released["number"].as_u64().expect("a release has a number");
        assert!(number > turn, "release {number} of {environment} after {turn} was acknowledged");
        let mut ledger = ledger.lock().unwrap();
        let entry = ledger.environments.entry(environment.clone()).or_default();
        if entry.acknowledged.as_ref().is_none_or(|(last, _)| *last < number) {
            entry.acknowledged = Some((number, image.clone()));
        }
        progress.fetch_add(1, Ordering::SeqCst);
    }
}

/// Lets writers publish and release until `make_end` makes an end of it, at a moment that follows from `random`. Answers
/// how many steps were acknowledged.
pub(crate) fn write_until(
    api: &Api,
    (number, random): (u64, u64),
    ledger: &Mutex<Ledger>,
    end: End,
    make_end: impl FnOnce(),
) -> u64 {
    let round = Round { number, end, ledger, progress: AtomicU64::new(0), ending: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let round = &round;
            scope.spawn(move || write(api, writer, round));
        }
        // Some steps in, and then any moment: this wait is the chance, not a synchronisation.
        until("writers write", || round.progress.load(Ordering::SeqCst) >= random % 16);
        std::thread::sleep(Duration::from_micros(random >> 8 & 0x7fff));
        round.ending.store(true, Ordering::SeqCst);
        make_end();
    });
    round.progress.into_inner()
}

/// Compares what the restarted server says and serves with what the writers were told.
pub(crate) fn check(world: &World, ledger: &mut Ledger) {
    for (name, environment) in &mut ledger.environments {
        let answer = world.api("GET", &format!("/current?project=crash&environment={name}"), None);
        let Some((number, image)) = &environment.acknowledged else {
            // Nothing was promised; something asked for may be there.
            assert!(matches!(answer.status, 200 | 404), "{answer:?}");
            continue;
        };
        let current = answer.expect(200).json();
        let shown = current["image_id"].as_str().expect("an image").to_owned();
        let now = current["number"].as_u64().expect("a number");
        assert!(now >= *number, "{name} went back from release {number} to {now}");
        if now == *number {
            assert_eq!(&shown, image, "release {number} of {name} shows another image");
        } else {
            assert!(environment.pending.contains(&shown), "{name} shows {shown}, which nobody asked for");
        }
        let page = world.get(&format!("crash--{name}.localhost"), "/").expect(200);
        assert_eq!(page.body, ledger.images[&shown], "{name} at release {now}");
        environment.acknowledged = Some((now, shown));
        environment.pending.clear();
    }
    // An acknowledged commit is there, released or not.
    for image in ledger.images.keys() {
        world.api("GET", &format!("/images/{image}?project=crash"), None).expect(200);
    }
    ledger.images.retain(|image, _| {
        ledger.environments.values().any(|e| e.acknowledged.as_ref().is_some_and(|(_, shown)| shown == image))
    });
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let rounds = setting("PINSTONE_CRASH_ROUNDS").unwrap_or(16);
    let seed = seed("PINSTONE_CRASH_SEED");

    let mut world = World::start();
    let ledger = Mutex::new(Ledger::default());
    let mut steps = 0;
    for round in 0..rounds {
        let api = Api { address: world.address(), token: world.token() };
        steps += write_until(&api, (round, random(seed, round)), &ledger, End::Kill, || world.kill());
        let report = world.fsck();
        assert_eq!(report.code, 0, "round {round}: {report:?}");
        world.restart();
        check(&world, &mut ledger.lock().unwrap());
    }
    println!("{steps} commits and releases were acknowledged before the kills");
    world.stop();
    world.fsck().expect(0);
}
