//! `kill -9` at random moments of concurrent publishes and releases. What was acknowledged is there afterwards, and
//! nothing points to anything missing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::site::{self, Files};
use crate::world::{Api, World, until};

const WRITERS: usize = 4;

/// Everything that the writers of all rounds asked for and were told.
#[derive(Debug, Default)]
struct Ledger {
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

/// Publishes and releases until the server is gone. Two writers share an environment.
fn write(api: &Api, round: u64, writer: usize, ledger: &Mutex<Ledger>, progress: &AtomicU64, killed: &AtomicBool) {
    let environment = format!("e{}", writer / 2);
    for attempt in 0.. {
        let files = files(round, writer, attempt);
        let image = match api.commit("crash", &files) {
            Ok(image) => image,
            Err(error) => return assert!(killed.load(Ordering::SeqCst), "a publish failed: {error}"),
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
            Ok(released) => released,
            Err(error) => return assert!(killed.load(Ordering::SeqCst), "a release failed: {error}"),
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

/// Compares what the restarted server says and serves with what the writers were told.
fn check(world: &World, ledger: &mut Ledger) {
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
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds = number("PINSTONE_CRASH_ROUNDS").unwrap_or(16);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let seed = number("PINSTONE_CRASH_SEED").unwrap_or_else(|| u64::from(clock().subsec_nanos()));
    println!("PINSTONE_CRASH_SEED={seed}, {rounds} rounds");

    let mut world = World::start();
    let ledger = Mutex::new(Ledger::default());
    let mut steps = 0;
    for round in 0..rounds {
        let random = site::noise(&format!("{seed}-{round}"), 8);
        let random = u64::from_le_bytes(random.try_into().expect("eight bytes"));
        let api = Api { address: world.address(), token: world.token() };
        let (progress, killed) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (api, ledger, progress, killed) = (&api, &ledger, &progress, &killed);
                scope.spawn(move || write(api, round, writer, ledger, progress, killed));
            }
            // Some steps in, and then any moment: this wait is the chance, not a synchronisation.
            until("writers write", || progress.load(Ordering::SeqCst) >= random % 16);
            std::thread::sleep(Duration::from_micros(random >> 8 & 0x7fff));
            killed.store(true, Ordering::SeqCst);
            world.kill();
        });
        steps += progress.into_inner();
        let report = world.fsck();
        assert_eq!(report.code, 0, "round {round}: {report:?}");
        world.restart();
        check(&world, &mut ledger.lock().unwrap());
    }
    println!("{steps} commits and releases were acknowledged before the kills");
    world.stop();
    world.fsck().expect(0);
}
