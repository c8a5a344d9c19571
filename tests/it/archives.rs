//! Archives, end to end: `deploy` of files and of standard input, and `curl -T` without the command line. What is
//! refused is named, and leaves nothing, neither at the server nor on the publisher's disk.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::site::{Files, varied};
use crate::wire::Connection;
use crate::world::{Output, World, files_below, until};

/// Runs a program that packs; where it is not installed, says so and answers nothing.
fn pack(program: &str, arguments: &[&str], folder: &Path) -> Option<()> {
    match Command::new(program).args(arguments).current_dir(folder).stderr(Stdio::null()).status() {
        Ok(status) => {
            assert!(status.success(), "{program} {arguments:?}: {status}");
            Some(())
        }
        Err(error) => {
            eprintln!("skipped: {program} cannot be run here: {error}");
            None
        }
    }
}

/// `files` as a tar.gz beside their folder.
fn packed(world: &World, files: &Files) -> Option<PathBuf> {
    let folder = world.folder("site", files);
    pack("tar", &["-czf", "../site.tar.gz", "."], &folder)?;
    Some(folder.with_file_name("site.tar.gz"))
}

/// Runs the command line with bytes on its standard input.
fn cli_with_input(world: &World, arguments: &[&str], input: &[u8]) -> Output {
    let temporary = world.work().join("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut command = world.command();
    command.env("PINSTONE_ENDPOINT", world.url()).env("PINSTONE_TOKEN", world.token()).env("TMPDIR", &temporary);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses early does not read to the end.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "what was unpacked is removed");
    Output {
        code: output.status.code().expect("it ended by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Checks that an environment shows exactly these files.
fn expect_site(world: &World, project: &str, environment: &str, files: &Files) {
    let image = world.api("GET", &format!("/current?project={project}&env={environment}"), None).expect(200).json();
    let image = image["image_id"].as_str().unwrap().to_owned();
    let listed = world.api("GET", &format!("/images/{image}/files?project={project}"), None).expect(200).json();
    let mut want: Vec<_> =
        files.iter().map(|(path, bytes)| (path.clone(), blake3::hash(bytes).to_hex().to_string())).collect();
    want.sort();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|file| (text(&file["path"]), text(&file["hash"]))).collect();
    assert_eq!(found, want);
}

#[test]
fn an_archive_is_deployed_as_its_folder_would_be() {
    let mut world = World::start();
    let Some(archive) = packed(&world, &varied()) else { return };
    let dry = world.cli(&["deploy", archive.to_str().unwrap(), "--dry-run", "--json"]).expect(0).json();
    assert_eq!(dry["diff"]["to"]["folder"], archive.to_str().unwrap(), "what was typed, not where it was unpacked");
    let report = world.cli(&["deploy", archive.to_str().unwrap(), "--json"]).expect(0).json();
    assert_eq!(
        (&report["project"], &report["environment"], &report["format"]),
        (&"site".into(), &"beta".into(), &"tar.gz".into())
    );
    assert_eq!(report["archive"], archive.to_str().unwrap());
    assert_eq!(report["files"], varied().len());
    expect_site(&world, "site", "beta", &varied());
    for (path, bytes) in varied().iter().filter(|(path, _)| path.ends_with(".html") || path == "big.bin") {
        assert_eq!(&world.get("site-beta.localhost", &format!("/{path}")).expect(200).body, bytes, "{path}");
    }

    // The same from standard input, and from a folder: nothing is sent again.
    let bytes = std::fs::read(&archive).unwrap();
    let again = cli_with_input(&world, &["deploy", "-", "--project", "site", "--json"], &bytes).expect(0).json();
    assert_eq!((&again["archive"], &again["changed"], &again["new"]), (&"-".into(), &false.into(), &0.into()));
    let folder = archive.with_file_name("site");
    let folder = world.cli(&["deploy", folder.to_str().unwrap(), "--json"]).expect(0).json();
    assert_eq!((&folder["image_id"], &folder["archive"]), (&report["image_id"], &Value::Null));
    assert!(world.stop().success());
    world.fsck().expect(0);
}

#[test]
fn what_was_unpacked_is_gone_with_a_command_that_is_ended() {
    let world = World::start();
    let Some(archive) = packed(&world, &varied()) else { return };
    let config = world.api("GET", "/config", None).expect(200).json().to_string();
    // A server that says what it takes, and then nothing any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            if head.starts_with(b"GET /api/v1/config ") {
                let length = config.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{config}")
                    .unwrap();
            } else {
                silent.push(stream);
            }
        }
    });
    let temporary = world.work().join("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = world.command();
        command.env("PINSTONE_ENDPOINT", &url).env("PINSTONE_TOKEN", "pin_x").env("TMPDIR", &temporary);
        command.arg("deploy").arg(&archive).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        until("it is unpacked", || !files_below(&temporary).is_empty());
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal:?}");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "{signal:?}");
    }
}

#[test]
fn other_formats_and_stripped_folders() {
    let world = World::start();
    let files: Files = vec![("index.html".into(), b"hello".to_vec()), ("a/b.css".into(), b"p{}".to_vec())];
    let folder = world.folder("site", &files);
    let parent = folder.parent().unwrap().to_owned();
    let outer = |name: &str| parent.join(name).to_str().unwrap().to_owned();
    for (program, arguments, name) in [
        ("tar", &["-cf", "plain.tar", "site"][..], "plain.tar"),
        ("zip", &["-qr", "zipped.zip", "site"], "zipped.zip"),
        ("sh", &["-c", "tar -cf - site | zstd -q > packed.tar.zst"], "packed.tar.zst"),
    ] {
        if pack(program, arguments, &parent).is_none() {
            continue;
        }
        let kept = world.cli(&["deploy", &outer(name)]).expect(0);
        assert!(kept.stderr.contains("all files are in the folder `site`"), "{kept:?}");
        world.cli(&["deploy", &outer(name), "--strip-components", "1"]).expect(0);
        expect_site(&world, name.split('.').next().unwrap(), "beta", &files);
    }
    let refused = world.cli(&["deploy", folder.to_str().unwrap(), "--strip-components", "1"]).expect(2);
    assert!(refused.stderr.contains("--strip-components"), "{refused:?}");
}

#[test]
fn what_is_ignored_is_the_same_in_a_folder_in_an_archive_and_for_curl() {
    let world = World::start();
    let all: Files = [
        ("index.html", "i"),
        (".env", "secret"),
        (".keep", "k"),
        ("a.map", "m"),
        ("draft/x", "x"),
        ("node_modules/y.js", "y"),
        (".pinstoneignore", "*.map\n!.keep\n"),
        ("pinstone.toml", "[project]\n"),
    ]
    .into_iter()
    .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
    .collect();
    let Some(archive) = packed(&world, &all) else { return };
    // Lines of the project that deploys count for an archive as they do for a folder.
    std::fs::write(world.work().join("pinstone.toml"), "[project]\nignore = ['draft']\n").unwrap();
    let archive_text = archive.to_str().unwrap();
    let from_archive = world.cli(&["deploy", archive_text, "--project", "packed", "--json"]).expect(0).json();
    let folder = archive.with_file_name("site");
    let from_folder = world.cli(&["deploy", folder.to_str().unwrap(), "--project", "plain", "--json"]).expect(0).json();
    assert_eq!((&from_archive["files"], &from_archive["image_id"]), (&2.into(), &from_folder["image_id"]));
    std::fs::remove_file(world.work().join("pinstone.toml")).unwrap();
    let from_folder = world.cli(&["deploy", folder.to_str().unwrap(), "--project", "plain", "--json"]).expect(0).json();
    let sent = send(&world, "/deploy/sent", &std::fs::read(&archive).unwrap());
    assert_eq!((sent["files_count"].as_u64(), &sent["image_id"]), (Some(3), &from_folder["image_id"]));
}

/// Puts an archive by hand.
fn send(world: &World, path: &str, archive: &[u8]) -> Value {
    let bearer = format!("Bearer {}", world.token());
    let headers = [("Host", "localhost"), ("Connection", "close"), ("Authorization", &*bearer)];
    let answer = Connection::open(world.address()).request("PUT", &format!("/api/v1{path}"), &headers, archive);
    answer.expect(200).json()
}

#[test]
fn a_refused_archive_is_named_with_its_entry_and_leaves_nothing() {
    let world = World::start();
    let folder = world.folder("site", &vec![("index.html".into(), b"hello".to_vec())]);
    std::os::unix::fs::symlink("../../secret", folder.join("link")).unwrap();
    let before = files_below(&world.data().join("objects"));
    for (arguments, part, code) in [
        (&["-czf", "../bad.tgz", "index.html", "link"][..], "`link`, entry 2 of `", "archive_link"),
        (&["-czPf", "../bad.tgz", "../site/index.html"], "`../site/index.html`, entry 1 of `", "archive_path"),
        (&["-czPf", "../bad.tgz", "/dev/null"], "`/dev/null`, entry 1 of `", "archive_path"),
        (&["-czf", "../bad.tgz", "-C", "/dev", "null"], "`null`, entry 1 of `", "archive_special"),
        (
            &["-czf", "../bad.tgz", "index.html", "index.html", "--hard-dereference"],
            "`index.html`, entry 2 of `",
            "archive_duplicate",
        ),
    ] {
        if pack("tar", arguments, &folder).is_none() {
            return;
        }
        let bad = folder.with_file_name("bad.tgz");
        let told = world.cli(&["deploy", bad.to_str().unwrap(), "--json"]).expect(1);
        let error: Value = serde_json::from_str(told.stderr.trim()).unwrap();
        assert_eq!(error["error"], code, "{told:?}");
        assert!(error["message"].as_str().unwrap().contains(part), "{told:?}");
        let bytes = std::fs::read(&bad).unwrap();
        let told = cli_with_input(&world, &["deploy", "-", "--project", "site"], &bytes).expect(1);
        assert!(told.stderr.contains("of standard input: ") && told.stderr.contains("hint: "), "{told:?}");

        let bearer = format!("Bearer {}", world.token());
        let headers = [("Host", "localhost"), ("Authorization", &*bearer)];
        let mut connection = Connection::open(world.address());
        let answer = connection.request("PUT", "/api/v1/deploy/site?environment=prod", &headers, &bytes);
        answer.expect_error(422, code);
        world.api("GET", "/history?project=site", None).expect_error(404, "project_not_found");
        assert_eq!(files_below(&world.data().join("objects")), before, "{code}");
        assert_eq!(files_below(&world.data().join("spool")), [] as [PathBuf; 0], "{code}");
    }
    let page = folder.join("index.html");
    let told = world.cli(&["deploy", page.to_str().unwrap()]).expect(2);
    assert!(told.stderr.contains("is neither a folder nor an archive"), "{told:?}");
    let told = cli_with_input(&world, &["deploy", "-"], b"").expect(2);
    assert!(told.stderr.contains("standard input has no name"), "{told:?}");
    let token = cli_with_input(&world, &["deploy", "-", "--project", "site", "--token-stdin"], b"pin_x\n").expect(2);
    assert!(token.stderr.contains("cannot both come from standard input"), "{token:?}");
}

#[test]
fn curl_publishes_without_the_command_line() {
    let world = World::start();
    let Some(archive) = packed(&world, &varied()) else { return };
    let bearer = format!("Authorization: Bearer {}", world.token());
    let url = format!("{}/api/v1/deploy/my-site?environment=prod", world.url().trim_end_matches('/'));
    let curl = |arguments: &[&str]| {
        let run = Command::new("curl").args(["-sS", "--fail-with-body", "-H", &bearer]).args(arguments).output();
        match run {
            Ok(output) => Some(output),
            Err(error) => {
                eprintln!("skipped: curl cannot be run here: {error}");
                None
            }
        }
    };
    let archive = archive.to_str().unwrap();
    let Some(put) = curl(&["-T", archive, &url]) else { return };
    assert!(put.status.success(), "{put:?}");
    let answer: Value = serde_json::from_slice(&put.stdout).unwrap();
    assert_eq!(
        (&answer["number"], &answer["environment"], &answer["changed"]),
        (&1.into(), &"prod".into(), &true.into())
    );
    expect_site(&world, "my-site", "prod", &varied());
    assert_eq!(world.get("my-site.localhost", "/about.html").expect(200).body, b"<!doctype html><title>about</title>");

    // The body begins only when it is asked for, comes in chunks of unknown number, or as a POST.
    for more in [
        &["-H", "Expect: 100-continue", "-T", archive, &url][..],
        &["-H", "Transfer-Encoding: chunked", "-T", archive, &url],
        &["--data-binary", &format!("@{archive}"), &url],
        &["--http2-prior-knowledge", "-T", archive, &url],
    ] {
        let again = curl(more).unwrap();
        assert!(again.status.success(), "{more:?}: {again:?}");
        let again: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(
            (&again["image_id"], &again["changed"], &again["new"]),
            (&answer["image_id"], &false.into(), &0.into())
        );
    }
    let form = curl(&["-F", &format!("file=@{archive}"), &url]).unwrap();
    assert!(!form.status.success() && String::from_utf8_lossy(&form.stdout).contains("archive_in_form"), "{form:?}");
    let stranger = Command::new("curl").args(["-sS", "-T", archive, &url]).output().unwrap();
    assert!(String::from_utf8_lossy(&stranger.stdout).contains("unauthorized"), "{stranger:?}");
}

#[test]
fn a_server_that_is_killed_while_it_receives_leaves_nothing() {
    let mut world = World::start();
    let begin = |world: &World| {
        let mut connection = Connection::open(world.address());
        let head = format!(
            "PUT /api/v1/deploy/my-site HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Length: 9000000\r\n\r\n",
            world.token()
        );
        connection.send(head.as_bytes()).unwrap();
        connection.send(&vec![7; 5_000_000]).unwrap();
        connection
    };
    let connection = begin(&world);
    let spool = world.data().join("spool");
    let received = |world: &World| {
        // The file has no name, so it is looked for among what the process has open.
        let open = std::fs::read_dir(format!("/proc/{}/fd", world.pid())).unwrap();
        open.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok()).any(|file| file.starts_with(&spool))
    };
    until("it is being received", || received(&world));
    assert_eq!(files_below(&spool), [] as [PathBuf; 0], "it has no name at any time");
    // A client that leaves takes it along.
    drop(connection);
    until("it is gone with its client", || !received(&world));
    let _connection = begin(&world);
    until("it is being received", || received(&world));
    world.kill();
    std::fs::write(spool.join("left"), "by a file system that gives every file a name").unwrap();
    world.restart();
    assert_eq!(files_below(&spool), [] as [PathBuf; 0]);
    world.api("GET", "/history?project=my-site", None).expect_error(404, "project_not_found");
}
