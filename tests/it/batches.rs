//! Small files travel in batches and are stored in packs: served from there, checked there, found again there.

use crate::publish::all_served;
use crate::site::{self, Files};
use crate::world::{World, files_below, run};

fn below(world: &World, folder: &str) -> usize {
    files_below(&world.data().join("objects").join(folder)).len()
}

#[test]
fn a_deploy_makes_packs_and_visitors_get_regions_of_them() {
    // Nothing small is kept in memory, so that every answer is read from its pack; and no pack is made beside the batch's.
    let mut world = World::start_with(&["--cache-small-blob", "0", "--variants-workers", "0"]);
    let mut files = site::varied();
    files.push(("largest.bin".into(), site::noise("largest", 64 << 10)));
    files.push(("larger.bin".into(), site::noise("larger", (64 << 10) + 1)));
    let folder = world.folder("site", &files);
    let told = world.cli(&["deploy", folder.to_str().unwrap(), "--project", "demo", "--prod", "--yes", "--json"]);
    let report = told.expect(0).json();
    // Plan, limits, one batch, the two files that are too large for one, commit, release.
    assert_eq!(report["requests"], 7, "{report}");
    assert_eq!((below(&world, "packs"), below(&world, "blobs")), (1, 2));
    all_served(&world, "demo.localhost", &files);
    let (_, largest) = files.iter().find(|(name, _)| name == "largest.bin").unwrap();
    for (range, want) in
        [("bytes=0-0", &largest[..1]), ("bytes=100-60000", &largest[100..=60_000]), ("bytes=-7", &largest[65_529..])]
    {
        let answer = world.request("GET", "demo.localhost", "/largest.bin", &[("Range", range)]).expect(206);
        assert!(answer.body == want, "{range}");
    }

    world.stop();
    let report = world.fsck().expect(0);
    assert!(report.stdout.contains("clean"), "{report:?}");
    assert!(!report.stdout.contains("unreferenced"), "{report:?}");
    let mut command = world.command();
    command.args(["fsck", "--rebuild-index", "--json", "--data"]).arg(world.data());
    let report = run(command).expect(0).json();
    let rebuilt = &report["rebuilt"];
    // Two files have the same bytes.
    assert_eq!((&rebuilt["blobs"], &rebuilt["packs"]), (&(files.len() - 1).into(), &1.into()), "{report}");
    assert_eq!((&rebuilt["removed"], &report["clean"]), (&0.into(), &true.into()), "{report}");
    world.restart();
    all_served(&world, "demo.localhost", &files);
}

#[test]
fn many_small_files_go_up_in_few_requests() {
    let world = World::start_with(&["--variants-workers", "0"]);
    let files: Files = (0..3000)
        .map(|n| (format!("{:02}/{n:04}.txt", n % 50), format!("number {n}").repeat(n % 90).into_bytes()))
        .collect();
    let folder = world.folder("site", &files);
    let deploy = || {
        let told = world.cli(&["deploy", folder.to_str().unwrap(), "--project", "many", "--prod", "--yes", "--json"]);
        told.expect(0).json()
    };
    let report = deploy();
    assert!(report["requests"].as_u64().unwrap() < 20, "{report}");
    assert!(below(&world, "packs") < 16 && below(&world, "blobs") == 0);
    all_served(&world, "many.localhost", &files);
    assert_eq!(deploy()["sent_bytes"], 0);
}

#[test]
fn a_pack_that_lost_its_end_is_told_and_counts_for_nothing() {
    let mut world = World::start();
    let folder = world.folder("site", &site::varied());
    world.cli(&["deploy", folder.to_str().unwrap(), "--project", "demo", "--prod", "--yes"]).expect(0);
    world.stop();
    let pack = files_below(&world.data().join("objects/packs")).pop().unwrap();
    let bytes = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &bytes[..bytes.len() - 1]).unwrap();
    let report = world.fsck().expect(6);
    assert!(report.stdout.contains("damaged pack"), "{report:?}");
    let mut command = world.command();
    command.args(["fsck", "--rebuild-index", "--data"]).arg(world.data());
    let report = run(command).expect(6);
    assert!(report.stdout.contains("torn") && report.stdout.contains("missing blob"), "{report:?}");
    // The publisher has the bytes, so publishing again heals it.
    world.restart();
    world.cli(&["deploy", folder.to_str().unwrap(), "--project", "demo", "--prod", "--yes"]).expect(0);
    all_served(&world, "demo.localhost", &site::varied());
    world.stop();
    world.fsck().expect(0);
}
