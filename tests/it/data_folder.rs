//! Data folders that cannot be opened, each told in one clear line; and what `fsck` finds in one that was damaged.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::site;
use crate::world::{Output, World, files_below, run};

/// Starts a server that must refuse, and returns what it said.
#[track_caller]
fn refused(world: &World, data: &Path) -> Output {
    let mut command = world.command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    let output = run(command);
    assert_ne!(output.code, 0, "{output:?}");
    assert!(!output.stdout.contains("listening"), "{output:?}");
    let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "one clear line: {output:?}");
    assert!(errors[0].contains(data.file_name().and_then(|name| name.to_str()).expect("a name")), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    output
}

#[test]
fn in_use() {
    let world = World::start();
    world.publish("demo", &site::varied());
    let output = refused(&world, &world.data());
    assert!(output.stderr.contains("in use"), "{output:?}");
    for arguments in [&["fsck"][..], &["admin", "rotate-owner-token"], &["admin", "import", "."]] {
        let mut command = world.command();
        command.args(arguments).arg("--data").arg(world.data());
        let output = run(command);
        assert!(output.code != 0 && output.stderr.contains("in use"), "{arguments:?}: {output:?}");
    }
    // The server that has it is not disturbed.
    world.get("demo.localhost", "/big.bin").expect(200);
}

#[test]
fn of_a_newer_format() {
    let mut world = World::start();
    world.publish("demo", &site::varied());
    world.stop();
    let format = world.data().join("FORMAT");
    let ours = std::fs::read_to_string(&format).unwrap();
    let newer = ours.replace(|letter: char| letter.is_ascii_digit(), "9");
    assert_ne!(ours, newer);
    std::fs::write(&format, &newer).unwrap();
    let before = contents(&world.data());
    let output = refused(&world, &world.data());
    assert!(output.stderr.contains("format"), "{output:?}");
    assert_eq!(contents(&world.data()), before, "a folder that is not understood is not touched");
    std::fs::write(&format, &ours).unwrap();
    world.restart();
    world.get("demo.localhost", "/").expect(200);
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files_below(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn not_writable() {
    let world = World::stopped();
    // Nothing can be made below a file, not even by root.
    let file = world.work().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(&world, &file.join("data"));
    refused(&world, &file);
    // A folder without permission stops everybody but root.
    let folder = world.work().join("locked");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(folder.join("probe"), "").is_ok() {
        println!("this user may write anywhere, so permissions are not tried");
    } else {
        let output = refused(&world, &folder);
        assert!(output.stderr.contains("ermission"), "{output:?}");
    }
}

#[test]
fn of_somebody_else() {
    let world = World::stopped();
    let folder = world.folder("photos", &vec![("cat.jpg".to_owned(), b"meow".to_vec())]);
    refused(&world, &folder);
    assert_eq!(contents(&folder), [(folder.join("cat.jpg"), b"meow".to_vec())]);
}

#[test]
fn secrets_are_for_the_owner_only() {
    let mut world = World::start();
    let token = world.data().join("owner.token");
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let before = world.token();
    assert!(!world.logged().contains(&before), "the log says where the token is, not what it is");
    world.stop();
    let mut command = world.command();
    command.args(["admin", "rotate-owner-token", "--data"]).arg(world.data());
    run(command).expect(0);
    let after = world.token();
    assert_ne!(after, before);
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    world.restart();
    world.cli(&["env", "list", "--project", "demo", "--token", &before]).expect(3);
    world.cli(&["env", "list", "--project", "demo", "--token", &after]).expect(1);
}

/// The file that holds `bytes`.
fn holding(world: &World, bytes: &[u8]) -> PathBuf {
    let found = files_below(&world.data().join("objects"));
    found.into_iter().find(|path| std::fs::read(path).unwrap() == bytes).expect("the bytes are stored somewhere")
}

#[test]
fn fsck_finds_what_is_wrong() {
    let mut world = World::start();
    let content = site::noise("a blob of its own", 100_000);
    world.publish("demo", &vec![("a.bin".to_owned(), content.clone()), ("b.txt".to_owned(), b"b".to_vec())]);
    world.stop();
    world.fsck().expect(0);
    let blob = holding(&world, &content);

    // One bit.
    let mut damaged = content.clone();
    damaged[5_000] ^= 0x10;
    overwrite(&blob, &damaged);
    let report = json_fsck(&world).expect(6).json().to_string();
    assert!(report.contains("damaged"), "{report}");
    assert!(world.fsck().expect(6).stdout.contains("damaged"));

    // The end is missing.
    overwrite(&blob, &content[..9_000]);
    world.fsck().expect(6);

    // All of it is.
    std::fs::remove_file(&blob).unwrap();
    let report = json_fsck(&world).expect(6).json().to_string();
    assert!(report.contains("missing"), "{report}");

    overwrite(&blob, &content);
    world.fsck().expect(0);
}

#[test]
fn fsck_finds_a_damaged_manifest() {
    let mut world = World::start();
    let path = "a-path-that-only-the-manifest-has.txt";
    world.publish("demo", &vec![(path.to_owned(), b"x".to_vec())]);
    world.stop();
    let objects = files_below(&world.data().join("objects"));
    let is_manifest = |file: &PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(path.len()).any(|window| window == path.as_bytes())
    };
    let manifest = objects.into_iter().find(is_manifest).expect("a manifest names its paths");
    let good = std::fs::read(&manifest).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    overwrite(&manifest, &bad);
    world.fsck().expect(6);
    overwrite(&manifest, &good);
    world.fsck().expect(0);
}

#[test]
fn fsck_counts_what_nothing_refers_to() {
    let mut world = World::start();
    let content = vec![("a.txt".to_owned(), b"planned, uploaded, never committed".to_vec())];
    let body = crate::world::plan("demo", &content);
    let plan = world.api("POST", "/plan", Some(&body)).expect(200).json();
    let missing = &plan["missing"][0];
    let path =
        format!("/upload/{}/{}", plan["plan_id"].as_str().expect("an id"), missing["hash"].as_str().expect("a hash"));
    let api = crate::world::Api { address: world.address(), token: world.token() };
    api.send("PUT", &path, "application/octet-stream", &content[0].1).unwrap().expect(200);
    world.stop();
    // It is garbage at worst, so it is told and nothing is wrong.
    let report = json_fsck(&world).expect(0).json().to_string();
    assert!(report.contains("unreferenced"), "{report}");
}

#[test]
fn fsck_of_nothing() {
    let world = World::stopped();
    let output = world.fsck();
    assert!(output.code != 0 && output.code != 6, "{output:?}");
    assert!(!world.data().exists(), "looking makes nothing");
}

fn json_fsck(world: &World) -> Output {
    let mut command = world.command();
    command.args(["fsck", "--json", "--data"]).arg(world.data());
    run(command)
}

/// Stored objects are read-only; what damages disks does not ask.
fn overwrite(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
}
