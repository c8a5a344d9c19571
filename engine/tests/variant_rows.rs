//! What the index says of what was made of blobs, on every engine.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::blob::{BlobIndex, IndexWrite, Made};
use pinstone_engine::coding::{Coding, Variant};
use pinstone_engine::hash::BlobHash;

fn hash(number: u32) -> BlobHash {
    BlobHash::of(&number.to_le_bytes())
}

fn kept(number: u32) -> Made {
    Made::Kept(Variant { blob: hash(number), size: number.into() })
}

fn vary(identity: u32, coding: Coding, made: Made) -> IndexWrite {
    IndexWrite::Vary { identity: hash(identity), coding, made }
}

fn unvary(identity: u32, coding: Coding) -> IndexWrite {
    IndexWrite::Unvary { identity: hash(identity), coding }
}

async fn the_first_row_stays(index: &dyn BlobIndex) {
    use Coding::{Brotli, Gzip, Zstd};
    let of = async |identity| index.made(&[hash(identity)]).await.unwrap()[0];
    assert_eq!(of(1).await, [None; 3]);
    assert!(index.made(&[]).await.unwrap().is_empty());
    index.write(vec![vary(1, Brotli, kept(10)), vary(1, Gzip, Made::NotKept)]).await.unwrap();
    index.write(vec![vary(1, Brotli, kept(11)), vary(1, Zstd, kept(12)), vary(1, Gzip, kept(13))]).await.unwrap();
    assert_eq!(of(1).await, [Some(kept(10)), Some(kept(12)), Some(Made::NotKept)]);
    // Also of two in one call, and of those only; a removal makes room for another.
    index.write(vec![vary(2, Gzip, kept(20)), vary(2, Gzip, kept(21))]).await.unwrap();
    assert_eq!(of(2).await, [None, None, Some(kept(20))]);
    index.write(vec![unvary(2, Gzip), vary(2, Gzip, kept(22)), vary(2, Gzip, kept(23))]).await.unwrap();
    assert_eq!(of(2).await, [None, None, Some(kept(22))]);
    index.write(vec![unvary(2, Gzip), unvary(2, Brotli)]).await.unwrap();
    let both = index.made(&[hash(2), hash(1), hash(3)]).await.unwrap();
    assert_eq!(both, [[None; 3], [Some(kept(10)), Some(kept(12)), Some(Made::NotKept)], [None; 3]]);
    // Rows of blobs are not touched.
    assert_eq!(index.get(&[hash(1)]).await.unwrap(), [None]);
    assert!(index.scan(None, 10).await.unwrap().is_empty());
}

async fn rows_are_listed_in_order(index: &dyn BlobIndex) {
    let writes: Vec<_> =
        (0..50).flat_map(|number| Coding::ALL.map(|coding| vary(number, coding, kept(number)))).collect();
    index.write(writes).await.unwrap();
    let all = index.scan_made(None, 1000).await.unwrap();
    assert_eq!(all.len(), 150);
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(all.iter().all(|(_, made)| made.is_some()));
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = index.scan_made(after, 7).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

async fn one_of_many_writers_is_the_first(index: std::sync::Arc<dyn BlobIndex>) {
    let writers = (0..16).map(|writer| {
        let index = std::sync::Arc::clone(&index);
        tokio::spawn(async move {
            for identity in 0..20 {
                index.write(vec![vary(identity, Coding::Zstd, kept(writer))]).await.unwrap();
                // Whatever it says now, it says for good.
                let first = index.made(&[hash(identity)]).await.unwrap()[0][Coding::Zstd as usize];
                assert!(first.is_some());
                tokio::task::yield_now().await;
                assert_eq!(index.made(&[hash(identity)]).await.unwrap()[0][Coding::Zstd as usize], first);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_first_row() {
    the_first_row_stays(&MemoryIndex::default()).await;
    rows_are_listed_in_order(&MemoryIndex::default()).await;
    one_of_many_writers_is_the_first(std::sync::Arc::new(MemoryIndex::default())).await;
}

#[cfg(feature = "rocksdb")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rocksdb_keeps_the_first_row() {
    use pinstone_engine::clock::Clock;
    use pinstone_engine::meta::{MetaStore, RocksStore};

    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| RocksStore::open(&folder.path().join(name), Clock::system()).unwrap();
    the_first_row_stays(&open("first")).await;
    let store = open("order");
    rows_are_listed_in_order(&store).await;
    let before = store.scan_made(None, 1000).await.unwrap();
    store.close().await;
    drop(store);
    let store = open("order");
    assert_eq!(store.scan_made(None, 1000).await.unwrap(), before, "rows survive");
    one_of_many_writers_is_the_first(std::sync::Arc::new(open("many"))).await;
}
