//! What the API refuses, through the real server's port: each a 4xx with a code and a sentence, nothing stored, memory
//! bounded, and the server goes on.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::site;
use crate::wire::{Connection, Response};
use crate::world::{Api, World, files_below, plan, until};

const MIB: u64 = 1024 * 1024;

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn one_file(path: &str) -> Value {
    json!({"project": "demo", "files": [{"path": path, "blake3": hash(b"x"), "size": 1}]})
}

fn api(world: &World) -> Api {
    Api { address: world.address(), token: world.token() }
}

/// Sends a body that is not made by a JSON library.
fn post(world: &World, path: &str, body: &[u8]) -> Response {
    api(world).send("POST", path, "application/json", body).unwrap()
}

/// Every object, but for the marker that the first start makes.
fn objects(world: &World) -> Vec<PathBuf> {
    let objects = world.data().join("objects");
    let mut found = files_below(&objects);
    found.retain(|path| *path != objects.join("FORMAT"));
    found
}

/// Every stored object but the lists of files that open plans have.
fn stored(world: &World) -> Vec<PathBuf> {
    let plans = world.data().join("objects/plans");
    let mut found = objects(world);
    found.retain(|path| !path.starts_with(&plans));
    found
}

/// Checks that the server answers as ever, and stored nothing: no project, no object.
fn nothing_happened(world: &World) {
    world.get("localhost", "/api/v1/health").expect(200);
    world.api("GET", "/environments?project=demo", None).expect_error(404, "project_not_found");
    assert_eq!(objects(world), Vec::<PathBuf>::new());
}

#[test]
fn paths_that_no_site_has() {
    let world = World::start();
    for path in [
        "",
        "/",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./x",
        "a/./x",
        "a//x",
        "a/",
        "/a//x",
        "//etc/passwd",
        "a\\x",
        "..\\x",
        "a\0x",
        "a\nx",
        "a\u{7f}x",
    ] {
        world.api("POST", "/plan", Some(&one_file(path))).expect_error(400, "invalid_path");
        let map = json!({"project": "demo", "files": {path: hash(b"x")}});
        world.api("POST", "/plan", Some(&map)).expect_error(400, "invalid_path");
    }
    nothing_happened(&world);
}

#[test]
fn absolute_paths() {
    let world = World::start();
    for path in ["/x", "/etc/passwd"] {
        world.api("POST", "/plan", Some(&one_file(path))).expect_error(400, "invalid_path");
    }
    nothing_happened(&world);
}

#[test]
fn paths_of_a_megabyte() {
    let mut world = World::start();
    let before = world.peak_memory();
    for path in ["x".repeat(1024 * 1024), "x/".repeat(512 * 1024) + "x"] {
        world.api("POST", "/plan", Some(&one_file(&path))).expect_error(400, "invalid_path");
    }
    let grown = world.peak_memory() - before;
    assert!(grown < 64 * MIB, "two paths of 1 MiB took {grown} bytes");
    nothing_happened(&world);
    world.stop();
    world.fsck().expect(0);
}

#[test]
fn one_path_twice() {
    let world = World::start();
    let file = json!({"path": "a.txt", "blake3": hash(b"x"), "size": 1});
    let body = json!({"project": "demo", "files": [file, file]});
    world.api("POST", "/plan", Some(&body)).expect_error(400, "duplicate_path");
    // A leading slash makes no difference in the map's shape, nor does JSON's own escape.
    for files in [r#"{"/a.txt": "H", "a.txt": "H"}"#, r#"{"/a.txt": "H", "/\u0061.txt": "H"}"#] {
        let body = format!(r#"{{"project": "demo", "files": {}}}"#, files.replace('H', &hash(b"x")));
        post(&world, "/plan", body.as_bytes()).expect_error(400, "duplicate_path");
    }
    nothing_happened(&world);
}

#[test]
fn names_that_are_not_utf_8() {
    let world = World::start();
    let mut body = one_file("NAME").to_string().into_bytes();
    let at = body.windows(4).position(|bytes| bytes == b"NAME").expect("it is there");
    body[at..at + 4].copy_from_slice(b"a\xff\xfeb");
    post(&world, "/plan", &body).expect_error(400, "invalid_json");
    // Half of a surrogate pair is no character either.
    let body = one_file("NAME").to_string().replace("NAME", r"\ud800");
    post(&world, "/plan", body.as_bytes()).expect_error(400, "invalid_json");
    nothing_happened(&world);
}

#[test]
fn hashes_that_are_none() {
    let world = World::start();
    let good = hash(b"x");
    for wrong in
        ["", "x", &good[1..], &format!("{good}0"), &good.replacen(|_: char| true, "g", 1), "../../../owner.token"]
    {
        let body = json!({"project": "demo", "files": [{"path": "a", "blake3": wrong, "size": 1}]});
        world.api("POST", "/plan", Some(&body)).expect_error(400, "invalid_hash");
    }
    nothing_happened(&world);
    let plan = world.api("POST", "/plan", Some(&one_file("a"))).expect(200).json();
    let plan = plan["plan_id"].as_str().expect("an id");
    for wrong in ["x", &good[1..], "..%2f..%2fowner.token", "%00"] {
        let answer =
            api(&world).send("PUT", &format!("/upload/{plan}/{wrong}"), "application/octet-stream", b"x").unwrap();
        assert!(matches!(answer.status, 400 | 404), "{wrong}: {answer:?}");
    }
}

#[test]
fn bodies_that_are_not_what_they_say() {
    let mut world = World::start();
    let content = site::noise("content", 100_000);
    let body = plan("demo", &vec![("a.bin".to_owned(), content.clone())]);
    let id = world.api("POST", "/plan", Some(&body)).expect(200).json()["plan_id"].as_str().expect("an id").to_owned();
    let upload = |hash: &str, bytes: &[u8]| {
        api(&world).send("PUT", &format!("/upload/{id}/{hash}"), "application/octet-stream", bytes).unwrap()
    };
    let hash_of_content = hash(&content);
    let mut other = content.clone();
    other[50_000] ^= 1;
    upload(&hash_of_content, &other).expect_error(400, "hash_mismatch");
    for wrong in [&content[..99_999], &content[..0], &[&content[..], b"x"].concat()] {
        let answer = upload(&hash_of_content, wrong);
        assert!(answer.status == 400, "{answer:?}");
        let code = answer.json()["error"].clone();
        assert!(code == "size_mismatch" || code == "hash_mismatch", "{code}");
    }
    // A blob that the plan does not name, though its bytes match.
    upload(&hash(b"y"), b"y").expect_error(400, "blob_not_in_plan");
    assert_eq!(stored(&world), Vec::<PathBuf>::new());
    world.api("POST", "/commit", Some(&json!({"plan_id": id}))).expect_error(409, "missing_blobs");
    // The same plan still takes the right bytes, once or twice.
    for _ in 0..2 {
        upload(&hash_of_content, &content).expect(200);
    }
    world.api("POST", "/commit", Some(&json!({"plan_id": id}))).expect(200);
    world.stop();
    world.fsck().expect(0);
}

#[test]
fn uploads_that_break_off_leave_nothing() {
    let mut world = World::start();
    let content = site::noise("broken", 4_000_000);
    let body = plan("demo", &vec![("a.bin".to_owned(), content.clone())]);
    let id = world.api("POST", "/plan", Some(&body)).expect(200).json()["plan_id"].as_str().expect("an id").to_owned();
    let token = world.token();
    for politely in [true, false] {
        let mut connection = Connection::open(world.address());
        let head = format!(
            "PUT /api/v1/upload/{id}/{} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
            hash(&content),
            content.len()
        );
        connection.send(head.as_bytes()).unwrap();
        connection.send(&content[..content.len() / 2]).unwrap();
        if politely {
            connection.finish_sending();
            // An answer, if there is one, is no success.
            if let Ok(answer) = connection.answer("PUT") {
                answer.expect_error(400, "upload_broken");
            }
        }
        drop(connection);
        until("nothing of it is kept", || stored(&world).is_empty());
    }
    world.api("POST", "/commit", Some(&json!({"plan_id": id}))).expect_error(409, "missing_blobs");
    let status = world.api("GET", &format!("/plans/{id}"), None).expect(200).json();
    assert_eq!((&status["status"], status["missing"].as_array().map(Vec::len)), (&"open".into(), Some(1)), "{status}");
    world.stop();
    world.fsck().expect(0);
}

#[test]
fn plans_that_are_none() {
    let world = World::start();
    let unknown = format!("plan_{}", "0".repeat(32));
    for plan in [&*unknown, "plan_x", "x", "img_00000000000000000000000000000000"] {
        world.api("POST", "/commit", Some(&json!({"plan_id": plan}))).expect_error(404, "plan_not_found");
        world.api("GET", &format!("/plans/{plan}"), None).expect_error(404, "plan_not_found");
        world.api("DELETE", &format!("/plans/{plan}"), None).expect_error(404, "plan_not_found");
        let path = format!("/upload/{plan}/{}", hash(b"x"));
        let answer = api(&world).send("PUT", &path, "application/octet-stream", b"x").unwrap();
        answer.expect_error(404, "plan_not_found");
    }
    nothing_happened(&world);
    // A plan that was given up takes nothing more.
    let plan = world.api("POST", "/plan", Some(&one_file("a"))).expect(200).json();
    let plan = plan["plan_id"].as_str().expect("an id");
    world.api("DELETE", &format!("/plans/{plan}"), None).expect(204);
    let path = format!("/upload/{plan}/{}", hash(b"x"));
    api(&world).send("PUT", &path, "application/octet-stream", b"x").unwrap().expect_error(410, "plan_over");
    world.api("POST", "/commit", Some(&json!({"plan_id": plan}))).expect_error(410, "plan_over");
}

#[test]
fn a_commit_with_something_missing() {
    let world = World::start();
    let body = json!({"project": "demo", "files": [
        {"path": "a", "blake3": hash(b"a"), "size": 1},
        {"path": "b", "blake3": hash(b"b"), "size": 1},
        {"path": "again", "blake3": hash(b"b"), "size": 1},
    ]});
    let planned = world.api("POST", "/plan", Some(&body)).expect(200).json();
    assert_eq!(planned["missing"].as_array().map(Vec::len), Some(2), "a hash once: {planned}");
    let plan = planned["plan_id"].as_str().expect("an id");
    let path = format!("/upload/{plan}/{}", hash(b"a"));
    api(&world).send("PUT", &path, "application/octet-stream", b"a").unwrap().expect(200);
    world.api("POST", "/commit", Some(&json!({"plan_id": plan}))).expect_error(409, "missing_blobs");
    let release = json!({"project": "demo", "environment": "prod"});
    world.api("POST", "/release", Some(&release)).expect_error(422, "nothing_committed");
    world.get("demo.localhost", "/a").expect(404);
}

#[test]
fn a_release_of_another_projects_image() {
    let world = World::start();
    let image = world.publish("mine", &vec![("index.html".to_owned(), b"mine".to_vec())]);
    world.publish("other", &vec![("index.html".to_owned(), b"other".to_vec())]);
    for call in ["/release", "/rollback"] {
        let body = json!({"project": "other", "environment": "prod", "image_id": image});
        world.api("POST", call, Some(&body)).expect_error(404, "image_not_found");
        let body = json!({"project": "nobodys", "environment": "prod", "image_id": image});
        world.api("POST", call, Some(&body)).expect_error(404, "project_not_found");
    }
    assert_eq!(world.get("other.localhost", "/").expect(200).text(), "other");
    world.api("GET", &format!("/images/{image}?project=other"), None).expect_error(404, "image_not_found");
}

#[test]
fn more_files_than_the_limit() {
    let world = World::start();
    let before = world.peak_memory();
    let hash = hash(b"x");
    let files = |count: usize| {
        let mut body = String::from(r#"{"project": "demo", "files": ["#);
        for number in 0..count {
            let comma = if number == 0 { "" } else { "," };
            body.push_str(&format!(r#"{comma}{{"path":"{number}","blake3":"{hash}","size":1}}"#));
        }
        body + "]}"
    };
    post(&world, "/plan", files(200_001).as_bytes()).expect_error(422, "too_many_files");
    nothing_happened(&world);
    let grown = world.peak_memory() - before;
    assert!(grown < 256 * MIB, "200,001 files took {grown} bytes");
    let planned = post(&world, "/plan", files(200_000).as_bytes()).expect(200).json();
    assert_eq!((&planned["files_count"], &planned["total_size"]), (&200_000.into(), &200_000.into()));
    assert_eq!(planned["missing"].as_array().map(Vec::len), Some(1));
}

#[test]
fn plans_beyond_64_mib() {
    let world = World::start();
    let before = world.peak_memory();
    let padding = "x".repeat(65 * 1024 * 1024);
    let body = format!(r#"{{"project": "demo", "message": "{padding}", "files": {{}}}}"#);
    post(&world, "/plan", body.as_bytes()).expect_error(413, "plan_too_large");
    let grown = world.peak_memory() - before;
    assert!(grown < 128 * MIB, "a plan that is too large took {grown} bytes");
    nothing_happened(&world);
}

#[test]
fn deep_json() {
    let world = World::start();
    let before = world.peak_memory();
    for depth in [17, 1_000, 1_000_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let body = format!(
                r#"{{"project": "demo", "files": [], "unknown": {}1{}}}"#,
                open.repeat(depth),
                close.repeat(depth)
            );
            post(&world, "/plan", body.as_bytes()).expect_error(400, "json_too_deep");
        }
        post(&world, "/plan", "[".repeat(depth).as_bytes()).expect_error(400, "json_too_deep");
        post(&world, "/release", "[".repeat(depth.min(10_000)).as_bytes()).expect_error(400, "json_too_deep");
    }
    let grown = world.peak_memory() - before;
    assert!(grown < 64 * MIB, "deep JSON took {grown} bytes");
    nothing_happened(&world);
}

#[test]
fn bodies_of_another_shape() {
    let world = World::start();
    let whole_and_more = one_file("a").to_string() + "{}";
    for body in ["", "{", "nonsense", "\u{feff}{}", &whole_and_more, "{\"project\": \"demo\", \"files\": [],}"] {
        post(&world, "/plan", body.as_bytes()).expect_error(400, "invalid_json");
    }
    for body in ["[]", "1", "null", "{}", r#"{"project": "demo"}"#, r#"{"project": "demo", "files": 1}"#] {
        post(&world, "/plan", body.as_bytes()).expect_error(400, "invalid_request");
    }
    for (body, status, code) in [
        (json!({"project": "demo", "files": []}), 422, "no_files"),
        (json!({"project": "no", "files": {"a": hash(b"x")}}), 400, "invalid_project"),
        (json!({"project": "Demo", "files": {"a": hash(b"x")}}), 400, "invalid_project"),
        (json!({"project": "www", "files": {"a": hash(b"x")}}), 400, "invalid_project"),
        (json!({"project": "demo-beta", "files": {"a": hash(b"x")}}), 400, "invalid_project"),
        (json!({"project": "../demo", "files": {"a": hash(b"x")}}), 400, "invalid_project"),
        (json!({"project": "demo", "message": "m".repeat(5000), "files": {"a": hash(b"x")}}), 422, "message_too_long"),
        (
            json!({"project": "demo", "settings": {"profile": "netlify"}, "files": {"a": hash(b"x")}}),
            422,
            "unsupported_setting",
        ),
        (
            json!({"project": "demo", "files": [
                {"path": "a", "blake3": hash(b"x"), "size": 1},
                {"path": "b", "blake3": hash(b"x"), "size": 2},
            ]}),
            422,
            "size_conflict",
        ),
        (
            json!({"project": "demo", "files": [{"path": "a", "blake3": hash(b"x"), "size": 200 * MIB}]}),
            413,
            "file_too_large",
        ),
    ] {
        world.api("POST", "/plan", Some(&body)).expect_error(status, code);
    }
    let answer = api(&world).send("POST", "/plan", "text/plain", one_file("a").to_string().as_bytes()).unwrap();
    answer.expect_error(415, "unsupported_media_type");
    nothing_happened(&world);
}

#[test]
fn callers_without_the_token() {
    let world = World::start();
    let body = one_file("a").to_string();
    for authorization in
        [None, Some("Bearer"), Some("Bearer pin_0000"), Some("Basic b3duZXI6"), Some("Bearer pin_\u{e4}")]
    {
        let mut headers = vec![("Host", "localhost"), ("Content-Type", "application/json")];
        headers.extend(authorization.map(|value| ("Authorization", value)));
        for (method, path) in [
            ("POST", "/plan"),
            ("POST", "/commit"),
            ("POST", "/release"),
            ("GET", "/current?project=demo&environment=prod"),
        ] {
            let sent = if method == "POST" { body.as_bytes() } else { b"" };
            let answer = Connection::open(world.address()).request(method, &format!("/api/v1{path}"), &headers, sent);
            answer.expect_error(401, "unauthorized");
            assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        }
    }
    nothing_happened(&world);
}

#[test]
fn the_api_is_on_control_hosts_only() {
    let world = World::start();
    world.publish("site", &vec![("index.html".to_owned(), b"x".to_vec())]);
    world.get("site.localhost", "/api/v1/health").expect(404);
    let bearer = format!("Bearer {}", world.token());
    let headers = [("Host", "site.localhost"), ("Authorization", &*bearer), ("Content-Type", "application/json")];
    let body = one_file("a").to_string();
    Connection::open(world.address()).request("POST", "/api/v1/plan", &headers, body.as_bytes()).expect(405);
    world.api("GET", "/environments?project=demo", None).expect_error(404, "project_not_found");
    world.get("site.localhost", "/").expect(200);
}

#[test]
fn heads_of_the_api_are_bounded_too() {
    let world = World::start();
    let mut connection = Connection::open(world.address());
    let head = format!("GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let _ = connection.send(head.as_bytes());
    let status = connection.answer("GET").unwrap().status;
    assert_eq!(status, 431);
    world.get("localhost", "/api/v1/health").expect(200);
}
