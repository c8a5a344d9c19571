//! Several ranges in one answer, and the digests of what they are parts of.

use std::ops::RangeInclusive;

use pinstone_engine::hash::BlobHash;

use crate::world::{Connection, Response, SITE, World};

/// Takes a multipart answer apart as a strict client does: every part's range and bytes, in their order.
fn parts_of(response: &Response) -> Vec<(String, Vec<u8>)> {
    let content_type = response.field("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut rest = &response.body[..];
    let mut parts = Vec::new();
    let mut delimiter = format!("--{boundary}");
    loop {
        rest = rest.strip_prefix(delimiter.as_bytes()).unwrap_or_else(|| panic!("no {delimiter:?} after {parts:?}"));
        delimiter = format!("\r\n--{boundary}");
        if rest == b"--\r\n" {
            return parts;
        }
        rest = rest.strip_prefix(b"\r\n").unwrap();
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let field = |name: &str| {
            let value = head.split("\r\n").find_map(|line| line.strip_prefix(name));
            value.unwrap_or_else(|| panic!("no {name} in {head:?}")).to_owned()
        };
        assert_eq!(head.split("\r\n").count(), 2, "{head:?}");
        assert_eq!(field("Content-Type: "), "application/octet-stream");
        let range = field("Content-Range: ");
        let (span, _) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
        let (first, last) = span.split_once('-').unwrap();
        let length = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
        let (bytes, after) = rest[end + 4..].split_at(length);
        parts.push((range, bytes.to_vec()));
        rest = after;
    }
}

fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
}

fn get(connection: &mut Connection, target: &str, range: &str) -> Response {
    connection.get(SITE, target, &format!("Range: bytes={range}\r\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_arrive_as_they_were_asked_for() {
    let (small, large) = (noise(5_000), noise(1_000_000));
    let world = World::with(&[("small.bin", &small), ("large.bin", &large)]).await;
    let mut connection = world.connect();
    for (target, file) in [("/small.bin", &small), ("/large.bin", &large)] {
        let last = file.len() - 1;
        for (asked, want) in [
            ("0-0,2-2".to_owned(), vec![0..=0, 2..=2]),
            (format!("100-199,0-9,-10,{}-", last - 20), vec![100..=199, 0..=9, last - 20..=last]),
            ("4000-4999,1-99,100-200,4500-4600".to_owned(), vec![4000..=4999, 1..=200]),
            (format!("0-1,{}-,5-6", last + 1), vec![0..=1, 5..=6]),
            (format!("1-{},0-0,{last}-{last}", last - 2), vec![0..=last - 2, last..=last]),
            ((0..16).map(|n| format!("{0}-{0},", n * 3)).collect(), (0..16).map(|n| n * 3..=n * 3).collect()),
        ] {
            let response = get(&mut connection, target, &asked);
            assert_eq!((response.status, response.field("content-range")), (206, None), "{target} {asked}");
            let want: Vec<(String, Vec<u8>)> = want
                .into_iter()
                .map(|part: RangeInclusive<usize>| {
                    let range = format!("bytes {}-{}/{}", part.start(), part.end(), file.len());
                    (range, file[part].to_vec())
                })
                .collect();
            assert!(parts_of(&response) == want, "{target} {asked}");
        }
        for (asked, status) in [
            ("0-1,2-3".to_owned(), 206),
            (format!("0-0,{}-", last + 1), 206),
            (format!("{}-,-0", last + 1), 416),
            ((0..17).map(|n| format!("{0}-{0},", n * 3)).collect(), 200),
        ] {
            let response = get(&mut connection, target, &asked);
            let content_type = response.field("content-type").unwrap();
            assert_eq!(response.status, status, "{target} {asked}");
            assert!(!content_type.starts_with("multipart/"), "{target} {asked}: {content_type}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_in_two_lines_is_ignored() {
    let world = World::with(&[("a.bin", b"0123456789")]).await;
    let response = world.connect().get(SITE, "/a.bin", "Range: bytes=0-1\r\nRange: bytes=0-1\r\n");
    assert_eq!((response.status, response.text()), (200, "0123456789"));
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_sent_to_who_asks() {
    // `sha256sum`, in base64.
    let digest = "sha-256=:hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII=:";
    let world = World::with(&[("a.bin", b"0123456789")]).await;
    let mut connection = world.connect();
    for (fields, status, repr, unencoded) in [
        ("Want-Repr-Digest: sha-256=1\r\n", 200, true, false),
        ("Want-Unencoded-Digest: sha-256=10\r\n", 200, false, true),
        (
            "Want-Repr-Digest: sha-512=9\r\nWant-Repr-Digest: sha-256=1\r\nWant-Unencoded-Digest: sha-256=1\r\n",
            200,
            true,
            true,
        ),
        ("Want-Repr-Digest: sha-256=1\r\nRange: bytes=2-3\r\n", 206, true, false),
        ("Want-Repr-Digest: sha-256=1\r\nRange: bytes=2-3,5-6\r\n", 206, true, false),
        ("Want-Repr-Digest: sha-256=0\r\n", 200, false, false),
        ("Want-Repr-Digest: sha-512=9\r\n", 200, false, false),
        ("Want-Repr-Digest: sha-256=1,\r\n", 200, false, false),
        ("", 200, false, false),
        ("Want-Repr-Digest: sha-256=1\r\nIf-None-Match: *\r\n", 304, false, false),
        ("Want-Repr-Digest: sha-256=1\r\nRange: bytes=10-\r\n", 416, false, false),
    ] {
        let response = connection.get(SITE, "/a.bin", fields);
        assert_eq!(response.status, status, "{fields}");
        assert_eq!(response.field("repr-digest"), repr.then_some(digest), "{fields}");
        assert_eq!(response.field("unencoded-digest"), unencoded.then_some(digest), "{fields}");
    }
    connection.send(format!("HEAD /a.bin HTTP/1.1\r\nHost: {SITE}\r\nWant-Repr-Digest: sha-256=1\r\n\r\n"));
    assert_eq!(connection.receive(false).field("repr-digest"), Some(digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_encoded_varies_before_it_is() {
    let text = "text ".repeat(100);
    let files: [(&str, &[u8]); 3] = [("a.txt", text.as_bytes()), ("small.txt", b"text"), ("a.png", text.as_bytes())];
    let world = World::with(&files).await;
    let mut connection = world.connect();
    let tag = &BlobHash::of(text.as_bytes()).to_string()[..32];
    for (target, varies) in [("/a.txt", true), ("/small.txt", false), ("/a.png", false)] {
        let vary = varies.then_some("Accept-Encoding");
        for (fields, status) in [
            (String::new(), 200),
            ("Accept-Encoding: br\r\n".to_owned(), 200),
            ("Range: bytes=0-1\r\n".to_owned(), 206),
            ("Range: bytes=0-0,2-2\r\n".to_owned(), 206),
            (format!("If-None-Match: \"{tag}\"\r\n"), if target == "/small.txt" { 200 } else { 304 }),
        ] {
            let response = connection.get(SITE, target, &fields);
            assert_eq!((response.status, response.field("vary")), (status, vary), "{target} {fields}");
            assert_eq!(response.field("content-encoding"), None, "no variant is there");
        }
        connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
        assert_eq!(connection.receive(false).field("vary"), vary, "{target}");
    }
}
