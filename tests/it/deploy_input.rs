//! What `pinstone deploy` refuses or warns about, and the exit codes that scripts depend on.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::site::{self, Files};
use crate::world::{Output, World, run, until};

fn page() -> Files {
    vec![("index.html".to_owned(), b"page".to_vec())]
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// The error object on stderr, which `--json` asks for.
#[track_caller]
fn error(output: &Output) -> Value {
    assert_eq!(output.stdout, "", "data on stdout, errors elsewhere");
    let error: Value = serde_json::from_str(output.stderr.trim()).unwrap_or_else(|_| panic!("{output:?}"));
    assert!(error["error"].is_string() && error["message"].is_string(), "{error}");
    error
}

#[track_caller]
fn nothing_released(world: &World) {
    let current = world.api("GET", "/current?project=demo&environment=beta", None);
    assert_eq!(current.status, 404, "{current:?}");
    world.get("demo-beta.localhost", "/").expect(404);
}

#[test]
fn a_link_that_leaves_the_folder() {
    let world = World::start();
    let outside = world.folder("outside", &vec![("secret.txt".to_owned(), b"secret".to_vec())]);
    let site = world.folder("site", &page());
    symlink(outside.join("secret.txt"), site.join("leak.txt")).unwrap();
    symlink("index.html", site.join("home.html")).unwrap();
    let refused = world.cli(&["deploy", text(&site), "--project", "demo", "--json"]).expect(1);
    let message = error(&refused)["message"].to_string();
    assert!(message.contains("leak.txt"), "it names the link: {message}");
    nothing_released(&world);

    let done = world.cli(&["deploy", text(&site), "--project", "demo", "--follow-links", "--json"]).expect(0).json();
    assert_eq!((&done["files"], &done["links_followed"]), (&3.into(), &2.into()), "{done}");
    assert_eq!(world.get("demo-beta.localhost", "/leak.txt").expect(200).text(), "secret");
    assert_eq!(world.get("demo-beta.localhost", "/home.html").expect(200).text(), "page");
}

#[test]
fn a_folder_that_changes_while_it_is_read() {
    let world = World::start();
    let mut files = page();
    files.push(("log.txt".to_owned(), site::noise("log", 8 * 1024 * 1024)));
    let site = world.folder("site", &files);
    let (written, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = std::fs::File::options().append(true).open(site.join("log.txt")).unwrap();
            while !done.load(Ordering::SeqCst) {
                log.write_all(b"one more line\n").unwrap();
                written.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        until("the file grows", || written.load(Ordering::SeqCst) > 0);
        let output = world.cli(&["deploy", text(&site), "--project", "demo", "--json"]);
        done.store(true, Ordering::SeqCst);
        output
    });
    let error = error(&refused.expect(4));
    assert_eq!(error["error"], "folder_changed", "{error}");
    assert!(error["message"].as_str().expect("a sentence").contains("log.txt"), "{error}");
    nothing_released(&world);
    world.cli(&["deploy", text(&site), "--project", "demo"]).expect(0);
    world.get("demo-beta.localhost", "/").expect(200);
}

#[test]
fn a_name_that_is_not_utf_8() {
    let world = World::start();
    let site = world.folder("site", &page());
    std::fs::write(site.join(std::ffi::OsStr::from_bytes(b"b\xffd.txt")), "x").unwrap();
    let refused = world.cli(&["deploy", text(&site), "--project", "demo", "--json"]).expect(1);
    let message = error(&refused)["message"].to_string();
    assert!(message.contains("UTF-8"), "{message}");
    nothing_released(&world);
}

#[test]
fn names_that_differ_only_in_case() {
    let world = World::start();
    let mut files = page();
    files.push(("Read.txt".to_owned(), b"upper".to_vec()));
    files.push(("read.txt".to_owned(), b"lower".to_vec()));
    let site = world.folder("site", &files);
    let done = world.cli(&["deploy", text(&site), "--project", "demo", "--json"]).expect(0).json();
    let warnings = done["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "client and server find the same: {done}");
    assert_eq!(warnings[0]["code"], "case_collision", "{done}");
    assert_eq!(world.get("demo-beta.localhost", "/Read.txt").expect(200).text(), "upper");
    assert_eq!(world.get("demo-beta.localhost", "/read.txt").expect(200).text(), "lower");
    let told = world.cli(&["deploy", text(&site), "--project", "demo"]).expect(0);
    assert!(told.stderr.contains("warning") && told.stderr.contains("case"), "{told:?}");

    // The same, where warnings are to refuse it: by a flag, and by the project file.
    let strict = ["deploy", text(&site), "--project", "strict", "--json"];
    let refused = world.cli(&[&strict[..], &["--strict"]].concat()).expect(1);
    assert_eq!(error(&refused)["error"], "diagnostics_refused", "{refused:?}");
    std::fs::write(site.join("pinstone.toml"), "[project]\nstrict = true\n").unwrap();
    world.cli(&strict).expect(1);
    world.get("strict-beta.localhost", "/").expect(404);
    std::fs::remove_file(site.join("read.txt")).unwrap();
    world.cli(&strict).expect(0);
}

#[test]
fn what_is_left_out() {
    let world = World::start();
    let mut files = page();
    for name in [".env", ".git/config", "node_modules/x.js", "draft.txt", ".well-known/x", ".keep"] {
        files.push((name.to_owned(), name.as_bytes().to_vec()));
    }
    let site = world.folder("site", &files);
    std::fs::write(site.join(".pinstoneignore"), "draft.txt\n!.keep\n").unwrap();
    let done = world.cli(&["deploy", text(&site), "--project", "demo", "--json"]).expect(0).json();
    assert_eq!((&done["files"], &done["ignored"]), (&3.into(), &4.into()), "{done}");
    for (path, status) in [
        ("/.well-known/x", 200),
        ("/.keep", 200),
        ("/.env", 404),
        ("/.git/config", 404),
        ("/node_modules/x.js", 404),
        ("/draft.txt", 404),
        ("/.pinstoneignore", 404),
    ] {
        assert_eq!(world.get("demo-beta.localhost", path).status, status, "{path}");
    }
}

#[test]
fn wrong_flags_exit_with_2() {
    let world = World::start();
    let site = world.folder("site", &page());
    for arguments in [
        &["deploy", text(&site), "--no-such-flag"][..],
        &["no-such-command"],
        &[],
        &["deploy", text(&site), "--project", "NO"],
        &["deploy", text(&site), "--project", "demo", "--env", "i-x"],
        &["deploy", text(&site), "--project", "demo", "--env", "a", "--prod"],
        &["deploy", "no/such/folder", "--project", "demo"],
        &["deploy", text(&site), "--project", "demo", "--concurrency", "0"],
        &["deploy", text(&site), "--project", "demo", "--endpoint", "ftp://x"],
        &["rollback", "--project", "demo", "--to", "nonsense"],
        &["serve", "--listen", "nonsense"],
    ] {
        let output = world.cli(arguments).expect(2);
        assert_eq!(output.stdout, "", "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    nothing_released(&world);
}

#[test]
fn a_server_that_is_not_there_exits_with_5() {
    let world = World::stopped();
    let site = world.folder("site", &page());
    // A port that nobody else gets: bound, and not listened on.
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = world.command();
    let endpoint = format!("http://{reserved}");
    command.args(["status", "--project", "demo", "--json", "--endpoint", &endpoint, "--token", "pin_x"]);
    let output = run(command).expect(5);
    assert!(error(&output)["hint"].is_string(), "{output:?}");
    let mut command = world.command();
    command.args(["deploy", text(&site), "--project", "demo", "--endpoint", &endpoint, "--token", "pin_x"]);
    run(command).expect(5);
}

#[test]
fn a_wrong_token_exits_with_3() {
    let world = World::start();
    let site = world.folder("site", &page());
    let wrong = format!("pin_{}", "0".repeat(64));
    let output = world.cli(&["deploy", text(&site), "--project", "demo", "--json", "--token", &wrong]).expect(3);
    assert_eq!(error(&output)["error"], "unauthorized");
    assert!(!output.stderr.contains(&wrong), "{output:?}");
    world.cli(&["status", "--project", "demo", "--token", &wrong]).expect(3);
    nothing_released(&world);
}

#[test]
fn an_empty_folder_is_no_site() {
    let world = World::start();
    let site = world.folder("site", &vec![(".hidden".to_owned(), b"x".to_vec())]);
    let output = world.cli(&["deploy", text(&site), "--project", "demo"]).expect(1);
    assert!(output.stderr.contains("hint"), "it says that everything is ignored: {output:?}");
    nothing_released(&world);
}

#[test]
fn configuration_mistakes_are_told_all_at_once() {
    let world = World::stopped();
    let file = world.work().join("pinstone-server.toml");
    std::fs::write(&file, "base_domain = \"not a domain\"\nlisten = [\"nonsense\"]\nno_such_key = 1\n").unwrap();
    for arguments in [&["check-config", "--config"][..], &["serve", "--config"]] {
        let mut command = world.command();
        command.args(arguments).arg(&file);
        let output = run(command);
        assert!(matches!(output.code, 1 | 2), "{output:?}");
        for part in ["base_domain", "listen", "no_such_key"] {
            assert!(output.stderr.contains(part), "{part}: {output:?}");
        }
    }
    assert!(!world.work().join("pinstone-data").exists(), "nothing was opened");
    std::fs::write(&file, "base_domain = \"pages.test\"\n").unwrap();
    let mut command = world.command();
    command.args(["check-config", "--config"]).arg(&file);
    run(command).expect(0);
}
