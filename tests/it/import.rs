//! `admin import`: what it puts into a stopped store is whole, is served, and can be published to.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::site::{self, Files};
use crate::world::{Output, World, run};

/// Runs `admin import --json` on the world's data folder.
#[track_caller]
fn import(world: &World, arguments: &[&str], folders: &[&Path]) -> Output {
    let mut command = world.command();
    command.args(["admin", "import", "--json", "--data"]).arg(world.data()).args(arguments).args(folders);
    run(command)
}

/// The report of `fsck`, which finds nothing wrong and nothing left over.
#[track_caller]
fn clean(world: &World) -> Value {
    let mut command = world.command();
    command.args(["fsck", "--json", "--data"]).arg(world.data());
    let report = run(command).expect(0).json();
    assert_eq!((&report["clean"], &report["unreferenced"]), (&true.into(), &0.into()), "{report}");
    report
}

#[test]
fn folders_become_projects() {
    let mut world = World::stopped();
    let varied = site::varied();
    let plain: Files =
        vec![("index.html".into(), b"plain".to_vec()), ("pinstone.toml".into(), b"[project]\nhtml = 'auto'".to_vec())];
    let (first, second) = (world.folder("varied", &varied), world.folder("plain", &plain));
    let told = import(&world, &["-m", "moved here"], &[&first, &second]).expect(0).json();
    assert_eq!(told["projects"][0]["project"], "varied", "{told}");
    assert_eq!((&told["projects"][1]["files"], &told["projects"][1]["number"]), (&1.into(), &1.into()), "{told}");
    clean(&world);

    world.restart();
    for (path, bytes) in &varied {
        let response = world.get("varied.localhost", &site::target(path)).expect(200);
        assert_eq!(&response.body, bytes, "{path}");
    }
    assert_eq!(world.get("plain.localhost", "/index.html").expect(308).header("location"), Some("/"));
    let releases = world.cli(&["releases", "--project", "plain", "--env", "prod", "--json"]).expect(0).json();
    assert_eq!(releases["items"][0]["message"], "moved here", "{releases}");
    // Nothing is new to a deploy of the same folder.
    let deploy = ["deploy", first.to_str().expect("a plain path"), "--project", "varied", "--prod", "--json"];
    let deployed = world.cli(&deploy).expect(0).json();
    assert_eq!((&deployed["new"], &deployed["changed"]), (&0.into(), &false.into()), "{deployed}");
    world.stop();

    // Again, changed: a second release of one project, and nothing of the other.
    std::fs::write(second.join("index.html"), "changed").unwrap();
    let told = import(&world, &["--project", "plain"], &[&second]).expect(0).json();
    assert_eq!((&told["projects"][0]["number"], &told["projects"][0]["new"]), (&2.into(), &1.into()), "{told}");
    clean(&world);
    world.restart();
    assert_eq!(world.get("plain.localhost", "/").expect(200).body, b"changed");
}

#[test]
fn many_sites_show_one_folder() {
    let mut world = World::stopped();
    let varied = site::varied();
    let folder = world.folder("folder", &varied);
    let told = import(&world, &["--sites", "300", "--distinct", "--env", "beta", "--from"], &[&folder]);
    let told = told.expect(0).json();
    assert_eq!((&told["made"], &told["existing"]), (&299.into(), &0.into()), "{told}");
    assert_eq!(told["last"], "site-000300", "{told}");
    let report = clean(&world);
    assert_eq!((&report["pointers"], &report["images"]), (&300.into(), &300.into()), "{report}");

    world.restart();
    for site in ["site-000001", "site-000002", "site-000300"] {
        let host = format!("{site}-beta.localhost");
        let own = world.get(&host, "/site.txt").expect(200);
        assert_eq!(String::from_utf8_lossy(&own.body), format!("{site}\n"));
        let page = world.get(&host, "/").expect(200);
        assert_eq!(page.body, varied[0].1, "{site}");
        world.get(&format!("{site}.localhost"), "/").expect(404);
    }
    world.get("site-000301-beta.localhost", "/").expect(404);
    // A copy is a project like any other.
    let deploy = ["deploy", folder.to_str().expect("a plain path"), "--project", "site-000300", "--json"];
    let deployed = world.cli(&deploy).expect(0).json();
    assert_eq!((&deployed["new"], &deployed["number"]), (&0.into(), &2.into()), "{deployed}");
    world.get("site-000300-beta.localhost", "/site.txt").expect(404);
    world.cli(&["rollback", "--project", "site-000300", "--env", "beta"]).expect(0);
    world.get("site-000300-beta.localhost", "/site.txt").expect(200);
    world.stop();
    clean(&world);
}

#[test]
fn an_import_that_was_killed_is_repeated() {
    let mut world = World::stopped();
    let folder = world.folder("folder", &vec![("index.html".into(), b"hello".to_vec())]);
    let mut command = world.command();
    command.args(["admin", "import", "--sites", "9000", "--data"]).arg(world.data()).arg("--from").arg(&folder);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut notes = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(notes.any(|note| note.ends_with("of 8999 sites")), "it tells how far it is");
    child.kill().unwrap();
    child.wait().unwrap();
    let before = clean(&world);

    let told = import(&world, &["--sites", "9000", "--from"], &[&folder]).expect(0).json();
    let existing = told["existing"].as_u64().expect("a number");
    assert!(existing >= 4096, "what was told to be done is there: {told}");
    assert_eq!(told["made"], 8999 - existing, "{told}");
    assert_eq!(before["pointers"], existing + 1, "{before}");
    assert_eq!(clean(&world)["pointers"], 9000);
    world.restart();
    world.get("site-009000.localhost", "/").expect(200);
}

#[test]
fn what_is_refused() {
    let world = World::stopped();
    let folder = world.folder("folder", &vec![("index.html".into(), b"hello".to_vec())]);
    let empty = world.folder("empty", &Vec::new());
    for (arguments, folders, code) in [
        (&[][..], &[][..], 2),
        (&["--project", "x-y"], &[&*folder, &*empty], 2),
        (&["--project", "x"], &[&*folder], 2),
        (&["--env", "i-x"], &[&*folder], 2),
        (&[], &[&*folder, &*folder], 2),
        (&["--sites", "0", "--from"], &[&*folder], 2),
        (&["--sites", "3"], &[&*folder], 2),
        (&["--distinct"], &[&*folder], 2),
        (&["--sites", "3", "--prefix", "A", "--from"], &[&*folder], 2),
        (&[], &[Path::new("absent")], 2),
    ] {
        let output = import(&world, arguments, folders);
        assert_eq!(output.code, code, "{arguments:?} {folders:?}: {output:?}");
        assert!(!world.data().exists(), "{arguments:?}: nothing is made before the arguments are right");
    }
    import(&world, &[], &[&empty]).expect(1);
}
