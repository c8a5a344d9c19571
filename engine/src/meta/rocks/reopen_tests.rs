//! Writes that fail, and the same process going on afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::database::{SPARE, wanted_room};
use super::*;
use crate::blob::{BlobState, Hasher, Location, is_storage_full};
use crate::meta::{Check, Revision};

/// When something that has to happen counts as broken.
const PATIENCE: Duration = Duration::from_secs(60);

fn key(text: &str) -> Key {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(name: &str) -> Commit {
    Commit::new().put(key(name), key("1")).event(key(name))
}

fn done(outcome: Result<Outcome, MetaError>) -> (Revision, u64) {
    match outcome {
        Ok(Outcome::Done { revision, position }) => (revision, position),
        other => panic!("{other:?}"),
    }
}

async fn is_there(store: &RocksStore, name: &str) -> bool {
    MetaStore::get(store, &[key(name)]).await.unwrap()[0].is_some()
}

/// The positions and names of all events.
async fn feed(store: &RocksStore) -> Vec<(u64, Bytes)> {
    store.feed(0, usize::MAX).await.unwrap().events
}

/// Commits until a commit is taken.
async fn commit_at_last(store: &RocksStore, commit: impl Fn() -> Commit) -> (Revision, u64) {
    let limit = Instant::now() + PATIENCE;
    loop {
        match store.commit(commit()).await {
            Err(error) if Instant::now() > limit => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            outcome => return done(outcome),
        }
    }
}

async fn until_commits_are_taken(store: &RocksStore) {
    let limit = Instant::now() + PATIENCE;
    while !store.takes_commits() {
        assert!(Instant::now() < limit, "the store does not recover by itself");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn open(path: &Path) -> RocksStore {
    RocksStore::open(path, Clock::system()).unwrap()
}

/// Stores a row of the index as a new blob's.
async fn index(store: &RocksStore, content: &str) -> Result<BlobHash, IndexError> {
    let mut hasher = Hasher::default();
    hasher.update(content.as_bytes());
    let digests = hasher.finish();
    let hash = digests.blake3;
    let record = BlobRecord {
        location: Location::Single,
        size: digests.size,
        sha256: digests.sha256,
        is_utf8: digests.is_utf8,
        state: BlobState::Live,
    };
    let team = TeamId::from_bytes([1; 16]);
    store.write(vec![IndexWrite::Own { team, hash }, IndexWrite::Put { hash, record }]).await.map(|()| hash)
}

#[tokio::test]
async fn a_write_that_failed_is_not_acknowledged_and_the_next_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (first, _) = done(store.commit(put("a")).await);
    store.database.faults.fail_before.store(1, SeqCst);
    let error = store.commit(put("b")).await.unwrap_err();
    assert!(is_storage_full(&error), "{error:?}");
    assert!(is_there(&store, "a").await);
    let (second, position) = commit_at_last(&store, || put("c")).await;
    assert!(second > first);
    assert!(store.takes_commits());
    assert!(!is_there(&store, "b").await, "it was not written");
    assert_eq!((position, feed(&store).await), (2, vec![(1, key("a")), (2, key("c"))]));
}

#[tokio::test]
async fn a_round_that_was_written_and_not_acknowledged_is_found_and_its_numbers_are_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(store.commit(put("a")).await);
    let mut wake = store.wake();
    wake.borrow_and_update();
    let id = Some([7; 32]);
    store.database.faults.fail_after.store(1, SeqCst);
    store.commit(Commit { id, ..put("b") }).await.unwrap_err();
    tokio::time::timeout(PATIENCE, wake.changed()).await.expect("who follows the feed is told").unwrap();
    until_commits_are_taken(&store).await;
    let item = MetaStore::get(&store, &[key("b")]).await.unwrap().pop().flatten().expect("its event was told");
    // What waited is checked against what is there now, and the same id has the outcome that nobody was told.
    let refused = store.commit(put("d").check(key("b"), Check::Absent)).await.unwrap();
    assert_eq!(refused, Outcome::Refused { key: key("b") });
    let again = done(store.commit(Commit { id, ..put("b") }).await);
    assert_eq!(again, (item.revision, 2));
    let (third, position) = done(store.commit(put("c")).await);
    assert!(third > item.revision, "{third:?} after {:?}", item.revision);
    assert_eq!(position, 3);
    assert_eq!(feed(&store).await, [(1, key("a")), (2, key("b")), (3, key("c"))]);
}

#[tokio::test]
async fn without_room_reads_go_on_and_with_room_the_store_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(store.commit(put("a")).await);
    let blob = index(&store, "blob").await.unwrap();
    store.database.faults.is_full.store(true, SeqCst);
    for round in 0..5 {
        let error = store.commit(put("b")).await.unwrap_err();
        assert!(is_storage_full(&error), "{error:?}");
        let error = index(&store, &format!("{round}")).await.unwrap_err();
        assert!(is_storage_full(&error), "{error:?}");
        assert!(!store.takes_commits());
        assert!(is_there(&store, "a").await);
        assert_eq!(feed(&store).await, [(1, key("a"))]);
        assert_eq!(store.snapshot(key("a")).await.unwrap().position, 1);
        let (from, to) = (key("a"), key("z"));
        assert_eq!(MetaStore::scan(&store, from, to, 10, Order::Ascending).await.unwrap().len(), 1);
        assert!(BlobIndex::get(&store, &[blob]).await.unwrap()[0].is_some());
        assert_eq!(BlobIndex::scan(&store, None, 10).await.unwrap().len(), 1);
    }
    store.database.faults.is_full.store(false, SeqCst);
    until_commits_are_taken(&store).await;
    done(store.commit(put("b")).await);
    index(&store, "another").await.unwrap();
    assert_eq!(BlobIndex::scan(&store, None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_handle_that_failed_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(store.commit(put("a")).await);
    let faults = &store.database.faults;
    faults.is_full.store(true, SeqCst);
    store.commit(put("b")).await.unwrap_err();
    let failed = faults.writes.load(SeqCst);
    for round in 0..5 {
        store.commit(put("b")).await.unwrap_err();
        index(&store, &format!("{round}")).await.unwrap_err();
    }
    // Nor by whoever got hold of it before.
    let db = store.database.get().unwrap();
    store.database.write(&db, WriteBatch::default()).unwrap_err();
    drop(db);
    assert_eq!(faults.writes.load(SeqCst), failed, "what the log holds is not known any more");
    faults.is_full.store(false, SeqCst);
    commit_at_last(&store, || put("b")).await;
    assert!(faults.writes.load(SeqCst) > failed);
}

#[test]
fn as_much_room_is_looked_for_as_the_log_has() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(wanted_room(folder.path()).unwrap(), SPARE);
    for (name, length) in [("000009.log", 3 << 20), ("000012.log", 5), ("000010.sst", 1 << 30), ("LOG", 1 << 30)] {
        fs::File::create(folder.path().join(name)).unwrap().set_len(length).unwrap();
    }
    assert_eq!(wanted_room(folder.path()).unwrap(), SPARE + (3 << 20) + 5);
}

#[tokio::test]
async fn an_index_write_that_failed_is_not_acknowledged_and_wakes_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for fault in [&store.database.faults.fail_before, &store.database.faults.fail_after] {
        fault.store(1, SeqCst);
        index(&store, "x").await.unwrap_err();
        until_commits_are_taken(&store).await;
        let hash = index(&store, "x").await.unwrap();
        assert!(BlobIndex::get(&store, &[hash]).await.unwrap()[0].is_some());
    }
    // The next write asks for it, too.
    store.database.faults.fail_before.store(1, SeqCst);
    index(&store, "y").await.unwrap_err();
    let limit = Instant::now() + PATIENCE;
    while index(&store, "y").await.is_err() {
        assert!(Instant::now() < limit, "the index takes nothing any more");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_again_is_read_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(store.commit(put("a")).await);
    let blob = index(&store, "blob").await.unwrap();
    store.database.faults.refuse_open.store(true, SeqCst);
    store.database.faults.fail_after.store(1, SeqCst);
    store.commit(put("b")).await.unwrap_err();
    let limit = Instant::now() + PATIENCE;
    // What the failed round wrote is read from the log as soon as the handle that failed is closed.
    while !is_there(&store, "b").await {
        assert!(Instant::now() < limit, "the log was not read again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!store.takes_commits());
    assert!(store.commit(put("c")).await.is_err());
    assert!(index(&store, "c").await.is_err());
    assert!(is_there(&store, "a").await);
    assert!(BlobIndex::get(&store, &[blob]).await.unwrap()[0].is_some());
    store.database.faults.refuse_open.store(false, SeqCst);
    let (_, position) = commit_at_last(&store, || put("c")).await;
    assert_eq!((position, feed(&store).await.len()), (3, 3));
}

#[tokio::test]
async fn a_log_that_has_lost_what_was_acknowledged_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(store.commit(put("a")).await);
    store.database.faults.is_full.store(true, SeqCst);
    store.commit(put("b")).await.unwrap_err();
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "log") {
            fs::remove_file(path).unwrap();
        }
    }
    store.database.faults.is_full.store(false, SeqCst);
    let limit = Instant::now() + PATIENCE;
    loop {
        let error = format!("{:?}", store.commit(put("c")).await.expect_err("it would get a revision that is taken"));
        if error.contains("acknowledged") {
            break;
        }
        assert!(Instant::now() < limit, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!store.takes_commits());
}

#[tokio::test]
async fn a_store_that_failed_can_be_closed_and_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(store.commit(put("a")).await);
    store.database.faults.is_full.store(true, SeqCst);
    store.commit(put("b")).await.unwrap_err();
    store.close().await;
    assert!(matches!(store.commit(put("c")).await, Err(MetaError::Closed)));
    assert!(index(&store, "c").await.is_err());
    drop(store);
    let store = open(folder.path());
    assert!(is_there(&store, "a").await);
    let (_, position) = done(store.commit(put("b")).await);
    assert_eq!(position, 2);
}

/// Many writers count up one item while writes fail under them in both ways. What is acknowledged is there, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_lose_nothing_while_writes_fail() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 30;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    done(store.commit(Commit::new().put(key("counter"), key("0"))).await);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while (acknowledged.len() as u64) < EACH {
                    let item = MetaStore::get(&store, &[key("counter")]).await.unwrap().pop().flatten().unwrap();
                    let count: u64 = std::str::from_utf8(&item.value).unwrap().parse().unwrap();
                    let name = key(&format!("won/{:06}", count + 1));
                    let commit = Commit::new()
                        .check(key("counter"), Check::Revision(item.revision))
                        .check(name.clone(), Check::Absent)
                        .put(key("counter"), key(&(count + 1).to_string()))
                        .put(name, key(&writer.to_string()))
                        .event(key(&(count + 1).to_string()));
                    if let Ok(Outcome::Done { revision, position }) = store.commit(commit).await {
                        acknowledged.push((revision, position, count + 1, writer));
                    }
                }
                acknowledged
            })
        })
        .collect();
    let mut failures = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        let faults = &store.database.faults;
        let fault = if failures % 2 == 0 { &faults.fail_before } else { &faults.fail_after };
        fault.store(i64::from(failures % 3) + 1, SeqCst);
        failures += 1;
        tokio::time::sleep(Duration::from_millis(30)).await;
        until_commits_are_taken(&store).await;
    }
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert_eq!(acknowledged.len() as u64, WRITERS * EACH);
    let revisions: BTreeSet<_> = acknowledged.iter().map(|(revision, ..)| *revision).collect();
    let positions: BTreeSet<_> = acknowledged.iter().map(|(_, position, ..)| *position).collect();
    assert_eq!((revisions.len(), positions.len()), (acknowledged.len(), acknowledged.len()), "no number twice");
    store.close().await;
    drop(store);

    let store = open(folder.path());
    let events = feed(&store).await;
    for (index, (position, event)) in events.iter().enumerate() {
        let number = index as u64 + 1;
        assert_eq!((*position, event), (number, &key(&number.to_string())), "the feed has no gap and no double");
    }
    for (_, position, count, writer) in acknowledged {
        assert_eq!(position, count);
        let won = MetaStore::get(&store, &[key(&format!("won/{count:06}"))]).await.unwrap().pop().flatten();
        assert_eq!(won.expect("it was acknowledged").value, key(&writer.to_string()));
    }
    assert!(failures > 1, "no write failed");
}
