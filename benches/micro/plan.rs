//! Planning a publish in memory: checking, sorting and hashing the list of files, and finding what is missing.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinstone_engine::Engine;
use pinstone_engine::clock::Clock;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use tokio::runtime::Runtime;

fn new_plan(files: usize) -> NewPlan {
    let file = |number: usize| PlannedFile {
        path: SitePath::new(format!("docs/section-{:03}/page-{number:06}/index.html", number % 250))
            .expect("a plain path"),
        blob: BlobHash::of(&number.to_le_bytes()),
        size: Some(number as u64),
        content_type: None,
    };
    NewPlan {
        project: "bench".parse().expect("a plain name"),
        files: (0..files).map(file).collect(),
        git: None,
        message: None,
        settings: Settings::default(),
    }
}

fn plan(c: &mut Criterion) {
    let runtime = Runtime::new().expect("threads can be started");
    let engine = runtime.block_on(Engine::in_memory(Clock::system()));
    let owner = engine.owner_principal();
    let mut group = c.benchmark_group("plan, all files missing");
    group.sample_size(20);
    for files in [1_000, 20_000] {
        let new = new_plan(files);
        group.throughput(Throughput::Elements(files as u64));
        group.bench_with_input(BenchmarkId::from_parameter(files), &new, |b, new| {
            b.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    let new = new.clone();
                    taken += runtime.block_on(async {
                        let start = Instant::now();
                        let plan = engine.plan(&owner, new, None).await.expect("it is a site");
                        let taken = start.elapsed();
                        // Open plans would fill the memory.
                        engine.close_plan(&owner, plan.id).await.expect("it is open");
                        taken
                    });
                }
                taken
            });
        });
    }
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
