//! `POST /upload/{plan_id}`: many files at once.

use http::{Method, StatusCode};
use pinstone_engine::Limits;
use pinstone_engine::hash::BlobHash;
use serde_json::json;

use super::world::{World, hash};
use crate::wire;

const SITE: &[(&str, &str)] = &[("index.html", "<h1>hello</h1>"), ("empty.txt", ""), ("a.css", "a{}")];

fn frame(text: &str) -> Vec<u8> {
    named(BlobHash::of(text.as_bytes()), text)
}

fn named(hash: BlobHash, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [hash.as_bytes(), &length.to_le_bytes()[..], text.as_bytes()].concat()
}

fn site() -> Vec<u8> {
    SITE.iter().flat_map(|(_, text)| frame(text)).collect()
}

#[tokio::test]
async fn a_site_goes_up_in_one_batch() {
    for compressed in [false, true] {
        let world = World::new().await;
        let plan = world.plan("my-site", SITE).await;
        let url = format!("/api/v1/upload/{}", plan.plan_id);
        assert_eq!(plan.batch_url, format!("http://pages.test:8080{url}"));
        let call = world.call(Method::POST, &url).header("content-type", "application/vnd.pinstone.blobs");
        let call = if compressed {
            call.header("content-encoding", "zstd").bytes(&zstd::encode_all(&*site(), 3).unwrap())
        } else {
            call.bytes(&site())
        };
        let batch: wire::BatchAnswer = call.send().await.ok();
        assert_eq!((batch.stored, batch.already, batch.failed.len()), (3, 0, 0));
        let batch: wire::BatchAnswer = world.call(Method::POST, &url).pieces(&[Some(&site())]).send().await.ok();
        assert_eq!((batch.stored, batch.already), (0, 3), "a batch is taken again");
        let commit: wire::CommitAnswer = world.post("/commit", &json!({ "plan_id": plan.plan_id })).await.ok();
        assert_eq!((commit.files_count, commit.total_size), (3, 17));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_file_of_a_batch_is_told_and_the_others_are_taken() {
    let world = World::new().await;
    let plan = world.plan("my-site", SITE).await;
    let wrong = named(BlobHash::of(b"a{}"), "b{}");
    let body = [frame("unknown"), frame("<h1>hello</h1>"), wrong, frame("")].concat();
    let answer = world.call(Method::POST, &format!("/api/v1/upload/{}", plan.plan_id)).bytes(&body).send().await;
    assert!(!answer.text.contains(&hash("a{}")) && !answer.text.contains(&hash("unknown")), "{}", answer.text);
    let batch: wire::BatchAnswer = answer.ok();
    assert_eq!((batch.stored, batch.already), (2, 0));
    let failed: Vec<_> = batch.failed.iter().map(|failed| (failed.index, &*failed.error)).collect();
    assert_eq!(failed, [(0, "blob_not_in_plan"), (2, "hash_mismatch")]);
    let status: wire::PlanStatus = world.get(&format!("/plans/{}", plan.plan_id)).await.ok();
    assert_eq!(status.missing, [hash("a{}")]);
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_refused_whole() {
    let limits = Limits { batch_blobs: 3, batch_size: 70_000, ..Limits::default() };
    let world = World::with(limits, |_| {}).await;
    let plan = world.plan("my-site", SITE).await;
    let call = || world.call(Method::POST, &format!("/api/v1/upload/{}", plan.plan_id));
    let cut = site()[..60].to_vec();
    call().bytes(&cut).send().await.expect_error(StatusCode::BAD_REQUEST, "invalid_batch", &[]);
    let broken: &[Option<&[u8]>] = &[Some(&cut), None];
    call().pieces(broken).send().await.expect_error(StatusCode::BAD_REQUEST, "upload_broken", &[]);
    let not_zstd = call().header("content-encoding", "zstd").bytes(&site());
    not_zstd.send().await.expect_error(StatusCode::BAD_REQUEST, "invalid_batch", &[]);
    let gzip = call().header("content-encoding", "gzip").bytes(&site());
    gzip.send().await.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", &[]);
    let json = call().header("content-type", "application/json").bytes(&site());
    json.send().await.expect_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", &[]);

    let four: Vec<u8> = (0..4).flat_map(|_| frame("")).collect();
    call().bytes(&four).send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large", &[]);
    let large = "x".repeat(65_537);
    let large = call().bytes(&frame(&large));
    large.send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "blob_too_large_for_batch", &[]);
    let announced = call().pieces(&[]).header("content-length", "1000000");
    announced.send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large", &[]);
    // A bomb ends where the limit is, however small it was sent.
    let bomb: Vec<u8> = (0..2000).flat_map(|_| frame(&"x".repeat(60_000))).collect();
    let bomb = zstd::encode_all(&*bomb, 3).unwrap();
    assert!(bomb.len() < 70_000, "{}", bomb.len());
    let bomb = call().header("content-encoding", "zstd").bytes(&bomb);
    bomb.send().await.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large", &[]);
    // Frames of zstd that hold nothing could follow one another for ever.
    let nothing = [0x50, 0x2a, 0x4d, 0x18, 0xf0, 0xff, 0, 0].into_iter().chain(std::iter::repeat_n(0, 65_520));
    let nothing: Vec<u8> = nothing.collect();
    let pieces = vec![Some(&*nothing); 100];
    let endless = call().header("content-encoding", "zstd").pieces(&pieces).send().await;
    endless.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large", &[]);

    let status: wire::PlanStatus = world.get(&format!("/plans/{}", plan.plan_id)).await.ok();
    assert_eq!(status.missing.len(), 3, "nothing of all that was taken");
    let stranger = world.stranger(Method::POST, &format!("/api/v1/upload/{}", plan.plan_id)).bytes(&site());
    stranger.send().await.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
    let closed = world.delete(&format!("/plans/{}", plan.plan_id)).await;
    assert_eq!(closed.status, StatusCode::NO_CONTENT);
    call().bytes(&site()).send().await.expect_error(StatusCode::GONE, "plan_over", &[]);
}
