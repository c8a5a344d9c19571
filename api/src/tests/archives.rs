//! `PUT` and `POST /deploy/{project}`: an archive in, a release out; and what is refused leaves nothing.

use std::io::Write;
use std::time::Duration;

use http::{Method, StatusCode};
use pinstone_engine::Limits;

use super::world::{Answer, World};
use crate::wire;

/// A tar of `entries`: kind, name, content, and what a link leads to.
fn tar_of(entries: &[(u8, &[u8], &[u8], &str)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, content, target) in entries {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name);
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = *kind;
        header[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

pub(super) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<_> = files.iter().map(|(name, text)| (b'0', name.as_bytes(), text.as_bytes(), "")).collect();
    tar_of(&entries)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn put(world: &World, query: &str, archive: &[u8]) -> Answer {
    world.call(Method::PUT, &format!("/api/v1/deploy/my-site{query}")).bytes(archive).send().await
}

#[tokio::test]
async fn an_archive_is_published_in_one_call() {
    let world = World::new().await;
    let archive = tar(&[("./index.html", "<h1>hello</h1>"), ("./copy.html", "<h1>hello</h1>"), ("./.env", "secret")]);
    let query = "?environment=prod&message=new%20prices&git_commit=c0ffee&git_branch=main";
    let answer: wire::DeployAnswer = put(&world, query, &gzip(&archive)).await.ok();
    assert_eq!((&*answer.release.url, &*answer.release.environment), ("http://my-site.pages.test:8080", "prod"));
    assert_eq!((answer.release.number, answer.release.changed, &*answer.format), (1, true, "tar.gz"));
    assert_eq!((answer.files_count, answer.total_size, answer.new, answer.reused, answer.ignored), (2, 28, 1, 1, 1));
    assert!(answer.new_image && answer.diagnostics.is_empty());
    let current: wire::CurrentAnswer = world.get("/current?project=my-site&env=prod").await.ok();
    assert_eq!((&current.image_id, &*current.message), (&answer.release.image_id, "new prices"));
    let history: wire::Page<wire::HistoryItem> = world.get("/history?project=my-site").await.ok();
    assert_eq!(history.items[0].git_commit.as_deref(), Some("c0ffee"));

    // By POST, to the default environment, as whatever a client calls it, and without a length.
    let call =
        world.call(Method::POST, "/api/v1/deploy/my-site").pieces(&[Some(&archive[..700]), Some(&archive[700..])]);
    let again: wire::DeployAnswer = call.header("content-type", "application/x-www-form-urlencoded").send().await.ok();
    assert_eq!((&*again.release.environment, &*again.format), ("beta", "tar"));
    assert_eq!(
        (again.release.image_id, again.new, again.reused, again.new_image),
        (answer.release.image_id, 0, 2, false)
    );
}

#[tokio::test]
async fn one_folder_can_be_stripped_and_is_told_of() {
    let world = World::new().await;
    let archive = tar(&[("top/index.html", "x"), ("top/a/b", "y")]);
    let strict = put(&world, "?strict=1", &archive).await;
    strict.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "diagnostics_refused", &["top"]);
    world.assert_nothing_stored().await;
    let kept: wire::DeployAnswer = put(&world, "", &archive).await.ok();
    assert_eq!(kept.diagnostics[0].code, "no_index");
    let stripped: wire::DeployAnswer = put(&world, "?strip=1", &archive).await.ok();
    assert!(stripped.diagnostics.is_empty());
    let files: wire::Page<wire::ImageFile> =
        world.get(&format!("/images/{}/files?project=my-site", stripped.release.image_id)).await.ok();
    assert_eq!(files.items.iter().map(|file| &*file.path).collect::<Vec<_>>(), ["a/b", "index.html"]);
}

#[tokio::test]
async fn hostile_archives_get_a_code_and_leave_nothing() {
    let world = World::with(Limits { files: 3, file_size: 10, ..Limits::default() }, |_| {}).await;
    let page: (u8, &[u8], &[u8], &str) = (b'0', b"index.html", b"x", "");
    let zeros = vec![0; 20 << 20];
    for (what, archive, status, code, place) in [
        ("traversal", tar(&[("../secret", "x")]), 422, "archive_path", "entry 1: "),
        ("absolute", tar_of(&[page, (b'0', b"/secret", b"x", "")]), 422, "archive_path", "entry 2: "),
        ("no UTF-8", tar_of(&[(b'0', b"secret\xff", b"x", "")]), 422, "archive_path", "entry 1: "),
        ("a link out", tar_of(&[(b'2', b"secret", b"", "/etc/passwd")]), 422, "archive_link", "entry 1: "),
        ("a device", tar_of(&[(b'3', b"secret", b"", "")]), 422, "archive_special", "entry 1: "),
        ("twice", tar(&[("secret", "1"), ("secret", "2")]), 422, "archive_duplicate", "entry 2: "),
        ("a file in a file", tar(&[("secret", "1"), ("secret/x", "2")]), 422, "archive_duplicate", "entry 1: "),
        ("cut off", tar(&[("secret", "x")])[..800].to_vec(), 422, "archive_damaged", "entry 1: "),
        ("sparse", tar_of(&[(b'S', b"secret", b"", "")]), 422, "archive_unsupported", "entry 1: "),
        ("many", tar(&[("1", ""), ("2", ""), ("3", ""), ("4", "")]), 422, "archive_too_many_entries", "the archive: "),
        ("large", tar(&[("secret", "eleven byte")]), 413, "file_too_large", "entry 1: "),
        ("a bomb", gzip(&tar_of(&[(b'0', b"secret", &zeros, "")])), 422, "archive_ratio", "the archive: "),
        ("ignored", tar(&[(".secret", "x")]), 422, "no_files", "the archive: "),
        ("a wrong line", tar(&[(".pinstoneignore", "secret{")]), 422, "archive_ignore_file", "the archive: "),
        ("a page", b"<p>secret</p>".to_vec(), 415, "archive_unknown", "the archive: "),
        ("nothing", Vec::new(), 415, "archive_unknown", "the archive: "),
        ("nothing in gzip", gzip(b"secret"), 415, "archive_unknown", "the archive: "),
    ] {
        let answer = put(&world, "", &archive).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"].as_str()),
            (status, Some(code)),
            "{what}: {answer:?}"
        );
        answer.expect_error(answer.status, code, &["secret", "passwd"]);
        assert!(answer.json()["message"].as_str().unwrap().starts_with(place), "{what}: {answer:?}");
        world.assert_nothing_stored().await;
    }
    let good: wire::DeployAnswer = put(&world, "", &tar_of(&[page])).await.ok();
    assert_eq!((good.new, good.release.number), (1, 1), "nothing was there");
}

#[tokio::test]
async fn what_needs_no_archive_is_refused_before_it_arrives() {
    let limits = Limits { archive_size: 1 << 20, message_length: 5, ..Limits::default() };
    let world = World::with(limits, |_| {}).await;
    for (path, header, status, code) in [
        ("/deploy/My-Site", ("x", "y"), 400, "invalid_project"),
        ("/deploy/my-site?env=NO", ("x", "y"), 400, "invalid_environment"),
        ("/deploy/my-site?env=a&environment=b", ("x", "y"), 400, "invalid_environment"),
        ("/deploy/my-site?strip=-1", ("x", "y"), 400, "invalid_query"),
        ("/deploy/my-site?strip=1000", ("x", "y"), 400, "invalid_query"),
        ("/deploy/my-site?strict=maybe", ("x", "y"), 400, "invalid_query"),
        ("/deploy/my-site?message=a&message=b", ("x", "y"), 400, "invalid_query"),
        ("/deploy/my-site?message=longer", ("x", "y"), 422, "message_too_long"),
        ("/deploy/my-site", ("content-length", "1048577"), 413, "archive_too_large"),
        ("/deploy/my-site", ("content-length", "many"), 400, "invalid_request"),
        ("/deploy/my-site", ("content-encoding", "gzip"), 415, "unsupported_encoding"),
        ("/deploy/my-site", ("content-type", "Multipart/form-data; boundary=x"), 415, "archive_in_form"),
        ("/deploy/my-site", ("idempotency-key", "a b"), 400, "invalid_idempotency_key"),
    ] {
        let call = world.call(Method::PUT, &format!("/api/v1{path}")).header(header.0, header.1).silence();
        let answer = tokio::time::timeout(Duration::from_secs(20), call.send()).await.unwrap();
        answer.expect_error(StatusCode::from_u16(status).unwrap(), code, &["maybe", "boundary"]);
    }
    world.assert_nothing_stored().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_is_refused_before_its_archive_arrives() {
    let world = World::new().await;
    let image = world.publish("my-site", &[("index.html", "1")]).await.image_id;
    let preview = serde_json::json!({ "project": "my-site", "image_id": image, "slug": "pr-7" });
    assert_eq!(world.post("/preview", &preview).await.status, StatusCode::OK);
    let put = |query: &str| world.call(Method::PUT, &format!("/api/v1/deploy/my-site?{query}")).silence().send();
    put("env=pr-7").await.expect_error(StatusCode::CONFLICT, "name_is_preview", &[]);
    let long = "x".repeat(600);
    let branch = put(&format!("git_branch={long}")).await;
    branch.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "message_too_long", &[&*long]);
}

#[tokio::test]
async fn an_archive_that_does_not_arrive_whole_is_none() {
    let world = World::with(Limits { archive_size: 10_000, ..Limits::default() }, |_| {}).await;
    let archive = tar(&[("index.html", "x")]);
    let call = || world.call(Method::PUT, "/api/v1/deploy/my-site");
    let broken = call().pieces(&[Some(&archive[..600]), None]).send().await;
    broken.expect_error(StatusCode::BAD_REQUEST, "upload_broken", &[]);
    let long = vec![7; 6000];
    let more = call().pieces(&[Some(&long), Some(&long)]).send().await;
    more.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "archive_too_large", &[]);
    world.assert_nothing_stored().await;
}

#[tokio::test(start_paused = true)]
async fn archives_wait_for_room_and_give_it_back() {
    let limits = Limits { archive_size: 2 << 20, ..Limits::default() };
    let world = World::with(limits, |config| {
        config.archives = 2;
        config.archive_spool = 2 << 20;
    })
    .await;
    async fn after(seconds: u64, call: super::world::Call<'_>) -> Answer {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        call.send().await
    }
    let call = || world.call(Method::PUT, "/api/v1/deploy/my-site");
    let archive = tar(&[("index.html", "x")]);
    let length = (2 << 20).to_string();
    // The first says that it will take all the room, and sends nothing; the second needs some and comes too early.
    let first = after(0, call().header("content-length", &length).silence());
    let second = after(1, call().bytes(&archive));
    let (first, second) = tokio::join!(first, second);
    first.expect_error(StatusCode::REQUEST_TIMEOUT, "request_timeout", &[]);
    assert_eq!(second.status, StatusCode::OK, "it got the room that the other gave back: {second:?}");
    // Two that are silent take both places, and a third waits for 60 seconds.
    let silent = || call().silence();
    let (_, _, third) = tokio::join!(after(0, silent()), after(30, silent()), after(31, call().bytes(&archive)));
    assert_eq!(third.status, StatusCode::OK);
    let both = || after(0, call().pieces(&[]));
    let (a, b) = tokio::join!(both(), both());
    for empty in [a, b] {
        empty.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "archive_unknown", &[]);
    }
    // Whoever did not say how much it is, and finds no room on the way, is told to come back.
    let megabyte = vec![7; 1 << 20];
    let growing = [Some(&megabyte[..]), Some(&megabyte[..]), Some(&megabyte[..1])];
    call().pieces(&growing).send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "archive_too_large", &[]);
    let holder = after(0, call().header("content-length", "1").silence());
    let (_, late) = tokio::join!(holder, after(1, call().pieces(&growing)));
    late.expect_error(StatusCode::SERVICE_UNAVAILABLE, "busy", &[]);
    assert_eq!(late.header("retry-after"), "5");
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_drips_is_cut() {
    let world = World::with(Limits::default(), |config| config.archive_timeout = Duration::from_secs(600)).await;
    let drip = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(59)).await;
        Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"x")), ()))
    });
    let call = world.call(Method::PUT, "/api/v1/deploy/my-site").stream(drip);
    call.send().await.expect_error(StatusCode::REQUEST_TIMEOUT, "request_timeout", &[]);
}

#[tokio::test]
async fn the_same_key_gives_the_same_release() {
    let world = World::new().await;
    let keyed = |archive: &[u8]| {
        let call = world.call(Method::PUT, "/api/v1/deploy/my-site?env=prod").bytes(archive);
        call.header("idempotency-key", "build-7").send()
    };
    let archive = tar(&[("index.html", "1")]);
    let first: wire::DeployAnswer = keyed(&archive).await.ok();
    let again: wire::DeployAnswer = keyed(&gzip(&archive)).await.ok();
    assert_eq!(again.release.number, first.release.number);
    assert_eq!((again.release.changed, again.committed_at), (first.release.changed, first.committed_at));
    let other = keyed(&tar(&[("index.html", "2")])).await;
    other.expect_error(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", &[]);
    let history: wire::Page<wire::HistoryItem> = world.get("/history?project=my-site").await.ok();
    assert_eq!(history.items.len(), 1);
}

#[tokio::test]
async fn a_list_that_memory_has_no_room_for_is_told_to_come_back() {
    // What is left of the memory of plans is one unit less than a list takes at first.
    let limits = Limits { plan_size: 64 << 10, ..Limits::default() };
    let world = World::with(limits, |config| config.plan_memory = 64 << 10).await;
    let answer = put(&world, "", &tar(&[("index.html", "x")])).await;
    answer.expect_error(StatusCode::SERVICE_UNAVAILABLE, "busy", &[]);
    world.assert_nothing_stored().await;
}
