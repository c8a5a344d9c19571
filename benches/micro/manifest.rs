//! Opening a manifest of 100,000 files, and finding files in it: what a cold and a warm request pay.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::{Manifest, ManifestBuilder, Settings};
use pinstone_engine::path::SitePath;

const FILES: usize = 100_000;

fn path(number: usize) -> String {
    format!("docs/section-{:03}/page-{number:06}/index.html", number % 250)
}

fn builder() -> ManifestBuilder {
    let mut builder = ManifestBuilder::new(Settings::default());
    for number in 0..FILES {
        let path = SitePath::new(path(number)).expect("a plain path");
        builder.add(path, BlobHash::of(&number.to_le_bytes()), number as u64, "text/html; charset=utf-8");
    }
    builder
}

fn manifest(c: &mut Criterion) {
    let (_, bytes) = builder().finish().expect("the paths differ");
    let manifest = Manifest::open(bytes.clone()).expect("it was just written");
    let names: Vec<String> = (0..FILES).step_by(97).map(path).collect();

    let mut group = c.benchmark_group("manifest of 100,000 files");
    group.bench_function("write", |b| b.iter_batched(builder, ManifestBuilder::finish, BatchSize::LargeInput));
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("open", |b| b.iter(|| Manifest::open(black_box(bytes.clone()))));
    group.throughput(Throughput::Elements(1));
    let mut next = names.iter().cycle();
    group.bench_function("find a file", |b| b.iter(|| black_box(manifest.get(next.next().expect("a cycle")))));
    let mut next = names.iter().cycle();
    group.bench_function("miss", |b| {
        b.iter(|| {
            let name = next.next().expect("a cycle");
            black_box(manifest.get(&name[..name.len() - 1]))
        });
    });
    group.finish();
}

criterion_group!(benches, manifest);
criterion_main!(benches);
