//! Files in an S3-compatible store: published and served through it, and what a visitor, a publisher and an operator see
//! when it is slow, down, or not the right one.

use std::net::SocketAddr;
use std::process::Command;

use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::fault_proxy::{Fault, FaultProxy};
use crate::seaweedfs::{BUCKET, KEY_ID, SECRET, SeaweedFs};
use crate::site::{self, Files};
use crate::world::{Output, World, files_below, run, until};

/// What leads to a store at `address`.
fn variables(address: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
    ]
}

/// A place for a server that keeps its files in the bucket of the store at `address`.
fn world(address: SocketAddr, prefix: &str) -> World {
    let mut world = World::stopped();
    world.serve_with(&["--blobs", &format!("s3://{BUCKET}/{prefix}")]);
    world.set_variables(variables(address));
    world
}

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command();
    command.args(arguments).arg("--data").arg(world.data());
    command
}

/// Starts a server that must refuse; what it said.
#[track_caller]
fn refused(world: &World, arguments: &[&str], code: i32) -> Output {
    let output = run(command(world, &[&["serve", "--listen", "127.0.0.1:0"], arguments].concat())).expect(code);
    assert!(!output.stdout.contains("listening") && !output.stderr.contains("panicked"), "{output:?}");
    assert!(output.stderr.contains("hint:"), "{output:?}");
    assert!(!output.stderr.contains(SECRET), "{output:?}");
    output
}

#[track_caller]
fn assert_served(world: &World, project: &str, files: &Files) {
    for (path, bytes) in files {
        let response = world.get(&format!("{project}.localhost"), &site::target(path)).expect(200);
        assert!(response.body == *bytes, "{path}");
    }
}

fn storage_health(world: &World) -> String {
    let health = world.api("GET", "/health", None).expect(200).json();
    assert_eq!(health["database"], "ok", "{health}");
    health["storage"].as_str().expect("a word").to_owned()
}

#[test]
fn a_site_is_published_to_a_bucket_and_served_from_it() {
    let Some(store) = SeaweedFs::start() else { return };
    let mut world = world(store.address(), "a/prefix");
    world.restart();
    let varied = site::varied();
    world.publish("demo", &varied);
    assert_served(&world, "demo", &varied);
    let part = world.request("GET", "demo.localhost", "/big.bin", &[("Range", "bytes=1000000-1999999")]).expect(206);
    let (_, big) = varied.iter().find(|(path, _)| path == "big.bin").expect("it is there");
    assert!(part.body == big[1_000_000..2_000_000]);
    assert_eq!(storage_health(&world), "ok");
    // One that is sent on in parts.
    let large: Files = vec![("large.bin".into(), site::noise("large", 17 << 20))];
    world.publish("large", &large);
    assert_served(&world, "large", &large);
    world.stop();

    // Nothing of it is on this machine but the cache, and every byte is in the store.
    assert!(!world.data().join("objects").exists());
    assert!(files_below(&world.data().join("cache")).len() > varied.len() / 2);
    let report = run(command(&world, &["fsck", "--json"])).expect(0).json();
    assert_eq!((&report["clean"], &report["unreferenced"]), (&true.into(), &0.into()), "{report}");
    std::fs::remove_dir_all(world.data().join("cache")).unwrap();

    // The next start finds the store by itself.
    world.serve_with(&[]);
    world.restart();
    assert_served(&world, "demo", &varied);
    world.stop();
    let log = world.logged();
    assert!(!log.contains(SECRET) && !log.contains(KEY_ID), "{log}");
}

#[test]
fn a_store_and_a_data_folder_belong_together() {
    let Some(store) = SeaweedFs::start() else { return };
    let mut first = world(store.address(), "one");
    first.restart();
    first.publish("demo", &site::varied());
    first.stop();

    // Of another data folder, of none, and one that is not there.
    let second = world(store.address(), "one");
    let taken = refused(&second, &["--blobs", &format!("s3://{BUCKET}/one")], 1);
    assert!(taken.stderr.contains("belongs to another data folder"), "{taken:?}");
    let other = refused(&first, &["--blobs", &format!("s3://{BUCKET}/two")], 1);
    assert!(other.stderr.contains("keeps its objects in"), "{other:?}");
    let absent = refused(&first, &["--blobs", "s3://no-such-bucket/one"], 1);
    assert!(absent.stderr.contains("no-such-bucket"), "{absent:?}");
    let absent = refused(&second, &["--blobs", "s3://no-such-bucket/one"], 1);
    assert!(absent.stderr.contains("refuses"), "{absent:?}");
    let folder = first.work().join("objects");
    let local = refused(&first, &["--blobs", folder.to_str().expect("a plain path")], 1);
    assert!(local.stderr.contains("keeps its objects in"), "{local:?}");

    // A folder that keeps its objects itself goes on doing so.
    let mut local = World::start();
    local.publish("demo", &site::varied());
    local.stop();
    local.set_variables(variables(store.address()));
    let refusal = refused(&local, &["--blobs", &format!("s3://{BUCKET}/three")], 1);
    assert!(refusal.stderr.contains("keeps its objects in"), "{refusal:?}");

    // Wrong credentials are told from a store that is not there.
    first.set_variables(vec![("AWS_SECRET_ACCESS_KEY", "another-secret".to_owned())]);
    let denied = refused(&first, &[], 1);
    assert!(denied.stderr.contains("refuses"), "{denied:?}");
    first.set_variables(vec![("AWS_SECRET_ACCESS_KEY", String::new())]);
    let missing = refused(&first, &["--blobs", &format!("s3://{BUCKET}/one")], 2);
    assert!(missing.stderr.contains("`AWS_SECRET_ACCESS_KEY` is not"), "{missing:?}");
    first.set_variables(variables(store.address()));
    first.restart();
    assert_served(&first, "demo", &site::varied());
}

#[test]
fn objects_may_be_in_a_folder_elsewhere() {
    let mut world = World::stopped();
    let folder = world.work().join("disk/objects");
    world.serve_with(&["--blobs", folder.to_str().expect("a plain path")]);
    world.restart();
    world.publish("demo", &site::varied());
    world.kill();
    std::fs::write(folder.join("blobs/ab/left#1"), "x").unwrap();
    assert!(!world.data().join("objects").exists());
    world.serve_with(&[]);
    world.restart();
    assert_served(&world, "demo", &site::varied());
    assert!(!folder.join("blobs/ab/left#1").exists(), "what the killed one left is removed there");
    world.stop();
    world.fsck().expect(0);
    // A disk that is not mounted is an empty folder, or none.
    std::fs::rename(&folder, world.work().join("unmounted")).unwrap();
    for _ in 0..2 {
        let gone = refused(&world, &[], 1);
        assert!(gone.stderr.contains("FORMAT"), "{gone:?}");
        std::fs::create_dir_all(&folder).unwrap();
    }
    assert!(files_below(&folder).is_empty(), "nothing is written beside the right one");
    let crowded = world.folder("photos", &vec![("cat.jpg".to_owned(), b"meow".to_vec())]);
    let other = World::stopped();
    refused(&other, &["--blobs", crowded.to_str().expect("a plain path")], 1);
    assert_eq!(files_below(&crowded).len(), 1);
}

#[test]
fn the_cache_serves_while_the_store_is_down_and_the_rest_comes_back_by_itself() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let mut world = world(proxy.address(), "down");
    let (small, large) = (site::noise("small", 5_000), site::noise("large", 700_000));
    let files: Files = vec![
        ("index.html".into(), b"<!doctype html><title>start</title>".to_vec()),
        ("small.bin".into(), small.clone()),
        ("large.bin".into(), large.clone()),
        ("cold.bin".into(), site::noise("cold", 5_000)),
        ("cold-large.bin".into(), site::noise("cold-large", 700_000)),
    ];
    world.restart();
    world.publish("demo", &files);
    let warm = || {
        assert!(world.get("demo.localhost", "/small.bin").expect(200).body == small);
        assert!(world.get("demo.localhost", "/large.bin").expect(200).body == large);
    };
    warm();
    world.get("demo.localhost", "/").expect(200);
    proxy.set(Fault::Down);
    warm();
    for target in ["/cold.bin", "/cold-large.bin"] {
        let response = world.get("demo.localhost", target).expect(503);
        assert_eq!((response.header("retry-after"), response.header("cache-control")), (Some("5"), Some("no-store")));
        world.request("HEAD", "demo.localhost", target, &[]).expect(200);
    }
    until("it is told", || storage_health(&world) == "error");
    let folder = world.folder("next", &vec![("index.html".into(), b"next".to_vec())]);
    let body = crate::world::plan("demo", &vec![("index.html".into(), b"next".to_vec())]);
    let told = world.api("POST", "/plan", Some(&body));
    told.expect_error(503, "storage_unavailable");
    assert!(told.header("retry-after").is_some(), "{told:?}");
    assert_eq!(world.get("demo.localhost", "/").expect(200).body, files[0].1, "it shows what it showed");
    warm();

    proxy.set(Fault::None);
    until("it is told", || storage_health(&world) == "ok");
    until("it is served", || world.get("demo.localhost", "/cold.bin").status == 200);
    until("it is served", || world.get("demo.localhost", "/cold-large.bin").status == 200);
    world.cli(&["deploy", folder.to_str().expect("a plain path"), "--project", "demo", "--prod"]).expect(0);
    assert_eq!(world.get("demo.localhost", "/").expect(200).body, b"next");

    // One object is lost, and found again.
    let lost: Files = vec![("lost.bin".into(), site::noise("lost", 100_000))];
    world.publish("lost", &lost);
    proxy.lose(blake3::hash(&lost[0].1).to_hex().as_str());
    for _ in 0..2 {
        let response = world.get("lost.localhost", "/lost.bin").expect(503);
        assert_eq!(response.header("retry-after"), Some("5"));
    }
    proxy.lose("");
    assert_served(&world, "lost", &lost);
}

#[test]
fn a_start_without_the_store_serves_what_is_cached() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let mut world = world(proxy.address(), "start");
    proxy.set(Fault::Down);
    let unreachable = refused(&world, &["--blobs", &format!("s3://{BUCKET}/start")], 5);
    assert!(unreachable.stderr.contains("does not answer"), "the first start needs it: {unreachable:?}");
    proxy.set(Fault::None);
    world.restart();
    let files: Files = vec![
        ("index.html".into(), b"<!doctype html><title>start</title>".to_vec()),
        ("cold.html".into(), b"<!doctype html><title>cold</title>".to_vec()),
        ("large.bin".into(), site::noise("large", 300_000)),
    ];
    world.publish("demo", &files);
    world.get("demo.localhost", "/").expect(200);
    world.get("demo.localhost", "/large.bin").expect(200);
    world.stop();

    proxy.set(Fault::Down);
    world.restart();
    assert_eq!(world.get("demo.localhost", "/").expect(200).body, files[0].1);
    assert!(world.get("demo.localhost", "/large.bin").expect(200).body == files[2].1);
    world.get("demo.localhost", "/nothing").expect(404);
    world.get("demo.localhost", "/cold.html").expect(503);
    assert_eq!(storage_health(&world), "error");
    assert!(world.logged().contains("does not answer"), "{}", world.logged());
    proxy.set(Fault::None);
    until("it is served", || world.get("demo.localhost", "/cold.html").status == 200);
    assert_eq!(world.publish("demo", &files), world.publish("demo", &files));
    world.stop();
    // A check does without the cache, so it needs the store.
    proxy.set(Fault::Down);
    run(command(&world, &["fsck"])).expect(5);
    proxy.set(Fault::None);
    run(command(&world, &["fsck"])).expect(0);
}

#[test]
fn a_store_is_filled_in_bulk() {
    let Some(store) = SeaweedFs::start() else { return };
    let mut world = world(store.address(), "bulk");
    let folder = world.folder("folder", &site::varied());
    let folder = folder.to_str().expect("a plain path").to_owned();
    let blobs = format!("s3://{BUCKET}/bulk");
    let arguments = ["admin", "import", "--sites", "40", "--distinct", "--from", &folder, "--blobs", &blobs, "--json"];
    let told = run(command(&world, &arguments)).expect(0).json();
    assert_eq!(told["made"], 39, "{told}");
    let report = run(command(&world, &["fsck", "--json"])).expect(0).json();
    assert_eq!((&report["clean"], &report["images"]), (&true.into(), &40.into()), "{report}");
    world.restart();
    assert_eq!(world.get("site-000040.localhost", "/site.txt").expect(200).text(), "site-000040\n");
}

/// Streams of one connection, and connections: ten thousand requests at once.
const STREAMS: usize = 125;
const CONNECTIONS: usize = 80;

#[test]
fn ten_thousand_requests_at_once_for_a_cold_file_are_one_get() {
    let Some(store) = SeaweedFs::start() else { return };
    let proxy = FaultProxy::before(store.address());
    let mut world = world(proxy.address(), "cold");
    world.restart();
    let files: Files =
        vec![("small.bin".into(), site::noise("small", 3_000)), ("large.bin".into(), site::noise("large", 100_000))];
    world.publish("demo", &files);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (path, bytes) in &files {
        let hash = blake3::hash(bytes).to_hex().to_string();
        // It comes so slowly that all of them wait for it.
        proxy.set(Fault::Slow(bytes.len() / 50));
        let (address, length) = (world.address(), bytes.len());
        let target = format!("http://demo.localhost/{path}");
        let answered = runtime.block_on(async {
            let mut connections = tokio::task::JoinSet::new();
            for _ in 0..CONNECTIONS {
                let target = target.clone();
                connections.spawn(async move {
                    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                    let io = TokioIo::new(stream);
                    let (sender, connection) =
                        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                    let connection = tokio::spawn(connection);
                    let mut streams = tokio::task::JoinSet::new();
                    for _ in 0..STREAMS {
                        let (mut sender, request) = (sender.clone(), http::Request::get(&target));
                        streams.spawn(async move {
                            let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
                            let answer = sender.send_request(request).await.unwrap();
                            let status = answer.status().as_u16();
                            (status, answer.into_body().collect().await.unwrap().to_bytes().len())
                        });
                    }
                    let mut right = 0;
                    while let Some(answer) = streams.join_next().await {
                        assert_eq!(answer.unwrap(), (200, length));
                        right += 1;
                    }
                    drop(sender);
                    connection.abort();
                    right
                });
            }
            let mut answered = 0;
            while let Some(right) = connections.join_next().await {
                answered += right.unwrap();
            }
            answered
        });
        assert_eq!(answered, STREAMS * CONNECTIONS, "{path}");
        assert_eq!(proxy.count("GET", &hash), 1, "{path}");
    }
}
