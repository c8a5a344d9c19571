//! From the Host field to the entry of a manifest: all that a warm request looks up, with one site and with 100,000.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pinstone_edge::path::{self, Resolution};
use pinstone_engine::clock::UnixMillis;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::host::{HostName, HostTarget, Hosts};
use pinstone_engine::id::{ImageId, ProjectId, TeamId};
use pinstone_engine::manifest::{Manifest, ManifestBuilder, Settings};
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::path::SitePath;
use pinstone_engine::pointers::{PointerEvent, PointerTable, ProjectSettings, Shown};

fn manifest(files: usize) -> Manifest {
    let mut builder = ManifestBuilder::new(Settings::default());
    for number in 0..files {
        let path = SitePath::new(format!("docs/page-{number:05}/index.html")).expect("a plain path");
        builder.add(path, BlobHash::of(&number.to_le_bytes()), number as u64, "text/html; charset=utf-8");
    }
    let (_, bytes) = builder.finish().expect("the paths differ");
    Manifest::open(bytes).expect("it was just written")
}

fn table(sites: u32, manifest: &Manifest) -> PointerTable {
    let table = PointerTable::default();
    let team = TeamId::random();
    for number in 0..sites {
        let project_id = ProjectId::random();
        let name = format!("site-{number:06}").parse().expect("a plain name");
        let (settings, former_names) = (ProjectSettings::default(), Vec::new());
        table.apply(PointerEvent::Project { team, project_id, name, settings, former_names });
        let shown = Shown {
            image: ImageId::from(&manifest.id()),
            manifest: manifest.id(),
            released_at: UnixMillis(1),
            last_modified: UnixMillis(1),
            expires_at: None,
        };
        let environment = EnvironmentName::prod();
        table.apply(PointerEvent::Pointer { project_id, environment, number: 1, shows: Some(shown) });
    }
    table
}

fn resolve(c: &mut Criterion) {
    let hosts = Hosts::new(&HostName::parse("localhost").expect("a plain name"), None);
    let manifest = manifest(1_000);
    let mut group = c.benchmark_group("resolve");
    for sites in [1, 100_000] {
        let table = table(sites, &manifest);
        // Spread over all sites, the same in every run.
        let asked: Vec<String> = (0..1024_u32)
            .map(|number| format!("site-{:06}.localhost:8080", number.wrapping_mul(2_654_435_761) % sites))
            .collect();
        let mut next = asked.iter().cycle();
        group.bench_function(BenchmarkId::new("host to pointer", sites), |b| {
            b.iter(|| {
                let host = HostName::parse(black_box(next.next().expect("a cycle"))).expect("a host");
                match hosts.target(&host) {
                    HostTarget::Site { project, environment } => table.find(project, environment),
                    _ => None,
                }
                .expect("it is there")
            });
        });
        let mut next = asked.iter().cycle();
        group.bench_function(BenchmarkId::new("host to entry", sites), |b| {
            b.iter(|| {
                let host = HostName::parse(black_box(next.next().expect("a cycle"))).expect("a host");
                let HostTarget::Site { project, environment } = hosts.target(&host) else { unreachable!() };
                let pointer = table.find(project, environment).expect("it is there");
                assert_eq!(pointer.manifest, manifest.id());
                match path::resolve(&manifest, black_box("/docs/page-00777/"), None) {
                    Ok(Resolution::Found(entry)) => entry.size,
                    other => panic!("{other:?}"),
                }
            });
        });
        let unknown = "nobody.localhost";
        group.bench_function(BenchmarkId::new("unknown host", sites), |b| {
            b.iter(|| {
                let host = HostName::parse(black_box(unknown)).expect("a host");
                match hosts.target(&host) {
                    HostTarget::Site { project, environment } => table.find(project, environment),
                    _ => None,
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, resolve);
criterion_main!(benches);
