//! What is decided about a request: which file a path names, whether a validator matches, which bytes a range is, and
//! the head that goes out.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pinstone_edge::conditional::{self, ETag, Preconditions, Validators};
use pinstone_edge::encoding::Accepted;
use pinstone_edge::entity::{self, Asked, Entity, Published};
use pinstone_edge::head;
use pinstone_edge::request::Method;
use pinstone_edge::{path, range};
use pinstone_engine::coding::{Coding, Variant, Variants};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::{Manifest, ManifestBuilder, Settings};
use pinstone_engine::path::SitePath;

const CONTENT_TYPE: &str = "text/html; charset=utf-8";
const ACCEPT_ENCODING: &[u8] = b"gzip, deflate, br, zstd";
/// 2023-11-14 22:13:20.
const RELEASED: u64 = 1_700_000_000;

fn manifest() -> Manifest {
    let mut builder = ManifestBuilder::new(Settings::default());
    let mut add = |path: String| {
        let blob = BlobHash::of(path.as_bytes());
        builder.add(SitePath::new(path).expect("a plain path"), blob, 1024, CONTENT_TYPE);
    };
    add("404.html".into());
    add("index.html".into());
    for number in 0..4_000 {
        add(format!("docs/section-{:02}/page-{number:04}.html", number % 40));
        add(format!("folder-{number:04}/index.html"));
    }
    let (_, bytes) = builder.finish().expect("the paths differ");
    Manifest::open(bytes).expect("it was just written")
}

fn paths(c: &mut Criterion) {
    let manifest = manifest();
    let mut group = c.benchmark_group("path");
    for (name, path) in [
        ("the start page", "/"),
        ("a file", "/docs/section-17/page-2017.html"),
        ("a file without its ending", "/docs/section-17/page-2017"),
        ("a folder", "/folder-2017/"),
        ("a folder without its slash", "/folder-2017"),
        ("an escaped path", "/docs/section%2D17/page%2D2017.html"),
        ("a miss, with a 404 page", "/docs/section-17/nothing/is/here.html"),
    ] {
        group.bench_function(name, |b| b.iter(|| path::resolve(&manifest, black_box(path), None)));
    }
    group.finish();
}

fn decisions(c: &mut Criterion) {
    let blob = BlobHash::of(b"bench");
    let validators = Validators { etag: ETag::of(&blob), last_modified: RELEASED };
    let etag = validators.etag.as_str().as_bytes();
    let list = [b"\"0123456789abcdef0123456789abcdef\", W/".as_slice(), etag].concat();
    let mut group = c.benchmark_group("conditional");
    let date: &[u8] = b"Tue, 14 Nov 2023 22:13:20 GMT";
    let none = Preconditions::default();
    let by_etag = Preconditions { if_none_match: vec![etag], ..Preconditions::default() };
    let by_list = Preconditions { if_none_match: vec![&list], ..Preconditions::default() };
    let by_date = Preconditions { if_modified_since: Some(date), ..Preconditions::default() };
    for (name, asked) in [("none", &none), ("etag", &by_etag), ("list of etags", &by_list), ("date", &by_date)] {
        group.bench_function(name, |b| b.iter(|| conditional::evaluate(black_box(asked), black_box(&validators))));
    }
    group.finish();

    let mut group = c.benchmark_group("range");
    for (name, value) in [("part", "bytes=65536-131071"), ("suffix", "bytes=-65536"), ("several", "bytes=0-1,4-5")] {
        group.bench_function(name, |b| b.iter(|| range::parse(black_box(value.as_bytes()), black_box(10 << 20))));
    }
    group.finish();

    let mut group = c.benchmark_group("head");
    let variant = Variant { blob, size: 1 << 20 };
    let variants = Coding::ALL.into_iter().fold(Variants::default(), |all, coding| all.with(coding, variant));
    let published = Published { content_type: CONTENT_TYPE, blob, length: 10 << 20, variants };
    let cache_control = entity::REVALIDATE;
    let entity = Entity { published, last_modified: RELEASED, now: RELEASED + 3600, cache_control };
    let accepted = Accepted::parse([ACCEPT_ENCODING]);
    for (name, preconditions, range) in [
        ("200", &none, None),
        ("206", &none, Some("bytes=65536-131071")),
        ("206 of several parts", &none, Some("bytes=0-99,65536-131071,-100")),
        ("304", &by_etag, None),
    ] {
        let asked = Asked { preconditions, range: range.map(str::as_bytes), accepted };
        group.bench_function(name, |b| {
            b.iter(|| head::file(Method::Get, black_box(&asked), black_box(&entity)));
        });
    }
    group.bench_function("404", |b| {
        b.iter(|| head::not_found(Method::Get, black_box(&accepted), black_box(&published)));
    });
    group.finish();

    let mut group = c.benchmark_group("encoding");
    group.bench_function("what a browser sends", |b| {
        b.iter(|| Accepted::parse([black_box(ACCEPT_ENCODING)]).choose(black_box(&variants)));
    });
    group.finish();
}

criterion_group!(benches, paths, decisions);
criterion_main!(benches);
