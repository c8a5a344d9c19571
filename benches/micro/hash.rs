//! What every uploaded byte pays: BLAKE3, SHA-256 and the check for UTF-8, in one pass.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pinstone_engine::blob::Hasher;

fn hash(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash a blob");
    for (name, size) in [("1 KiB", 1 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let text: Vec<u8> = b"<p>a line of text \xc3\xbc</p>\n".iter().copied().cycle().take(size).collect();
        let noise: Vec<u8> = (0..size).map(|index| (index * 167 + (index >> 8) * 13).to_le_bytes()[0]).collect();
        group.throughput(Throughput::Bytes(size as u64));
        for (kind, bytes) in [("text", &text), ("binary", &noise)] {
            group.bench_with_input(BenchmarkId::new(kind, name), bytes, |b, bytes| {
                b.iter(|| {
                    let mut hasher = Hasher::default();
                    // In pieces of the size that bodies arrive in.
                    for piece in black_box(bytes).chunks(16 << 10) {
                        hasher.update(piece);
                    }
                    hasher.finish()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, hash);
criterion_main!(benches);
