//! Power cuts: the data folder's disk is gone at a random moment, with everything that was not synced.

use std::sync::Mutex;
use std::time::Duration;

use crate::crash::{End, Ledger, check, write_until};
use crate::disk::Disk;
use crate::kill_points::check_first_start;
use crate::world::{Api, World, random, seed, setting, skip};

/// Room for the data folder, in bytes. The file is sparse.
const SIZE: u64 = 512 << 20;

fn rounds() -> u64 {
    setting("PINSTONE_POWER_CUTS").unwrap_or(10)
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let rounds = rounds();
    let mut disk = match Disk::ext4(SIZE) {
        Ok(disk) => disk,
        Err(reason) => return skip("power cuts", &reason),
    };
    let seed = seed("PINSTONE_POWER_SEED");
    let mut world = World::stopped_on(&disk.path());
    world.restart();
    let ledger = Mutex::new(Ledger::default());
    let mut steps = 0;
    for round in 0..rounds {
        let api = Api { address: world.address(), token: world.token() };
        let cut = write_until(&api, (round, random(seed, round)), &ledger, End::PowerCut, || {
            let cut = disk.cut();
            world.kill();
            cut.unwrap();
        });
        steps += cut;
        disk.unmount();
        disk.mount().unwrap();
        let report = world.fsck();
        assert_eq!(report.code, 0, "round {round}: {report:?}");
        world.restart();
        check(&world, &mut ledger.lock().unwrap());
    }
    println!("{rounds} power cuts, {steps} commits and releases were acknowledged before them");
    world.stop();
    world.fsck().expect(0);
}

#[test]
fn a_first_start_that_a_power_cut_ended_is_begun_anew() {
    let mut disk = match Disk::ext4(SIZE) {
        Ok(disk) => disk,
        Err(reason) => return skip("power cuts in a first start", &reason),
    };
    let seed = seed("PINSTONE_POWER_SEED");
    let (mut unfinished, rounds) = (0, rounds().div_ceil(2));
    for round in 0..rounds {
        let mut world = World::stopped_on(&disk.path());
        // Any moment of a start, or soon after it.
        let pause = Duration::from_micros(random(seed, round) % 200_000);
        let (has_started, cut) = std::thread::scope(|scope| {
            let cut = scope.spawn(|| {
                std::thread::sleep(pause);
                disk.cut()
            });
            (world.try_restart().is_ok(), cut.join().unwrap())
        });
        cut.unwrap();
        if has_started {
            world.kill();
        }
        disk.unmount();
        disk.mount().unwrap();
        unfinished += u64::from(!world.data().join("FORMAT").exists());
        check_first_start(&world, &format!("cut after {pause:?}"));
        world.restart();
        let files = vec![("index.html".to_owned(), b"<!doctype html>".to_vec())];
        world.publish("demo", &files);
        world.stop();
        world.fsck().expect(0);
        std::fs::remove_dir_all(world.data()).unwrap();
    }
    println!("{rounds} power cuts, {unfinished} of them before `FORMAT` was there");
}
