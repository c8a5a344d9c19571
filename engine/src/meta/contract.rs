//! The suite that every metadata engine passes.
//!
//! It tests what [`MetaStore`] promises and nothing else, so an engine kept elsewhere can run it too. Each test gets a
//! store of its own. Surviving a crash is tested beside each engine, which alone knows how to be killed.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Check, Commit, Key, MAX_CHANGES, MAX_KEY, MAX_VALUE, MetaError, MetaStore, Order, Outcome, Revision, after_prefix,
};
use crate::clock::Clock;

/// Runs every test, each on a store that `open` has made anew with the clock it is given.
///
/// # Panics
///
/// Where the engine does not keep the contract; the message says which part.
pub async fn all<O, F>(open: O)
where
    O: Fn(Clock) -> F,
    F: Future<Output = Arc<dyn MetaStore>>,
{
    let clock = || Clock::manual(crate::clock::UnixMillis(1_000_000_000));
    reads_what_was_written(&*open(clock()).await).await;
    checks_hold_or_nothing_happens(&*open(clock()).await).await;
    scans_in_both_directions(&*open(clock()).await).await;
    commits_with_one_id_happen_once(&*open(clock()).await).await;
    feeds_in_commit_order_without_gaps(&*open(clock()).await).await;
    refuses_what_is_out_of_bounds(&*open(clock()).await).await;
    one_of_many_writers_wins(open(clock()).await).await;
    snapshots_are_of_one_moment(open(clock()).await).await;
    wakes_who_waits(open(clock()).await).await;
    let moving = clock();
    forgets_no_sooner_than_promised(&*open(moving.clone()).await, &moving).await;
    takes_nothing_after_close(&*open(clock()).await).await;
}

fn key(text: &str) -> Key {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn put(store: &dyn MetaStore, name: &str, value: &str) -> Revision {
    done(store.commit(Commit::new().put(key(name), key(value))).await).0
}

fn done(outcome: Result<Outcome, MetaError>) -> (Revision, u64) {
    match outcome {
        Ok(Outcome::Done { revision, position }) => (revision, position),
        other => panic!("a commit without failing checks is done, not {other:?}"),
    }
}

async fn value(store: &dyn MetaStore, name: &str) -> Option<Bytes> {
    get(store, name).await.map(|(value, _)| value)
}

async fn get(store: &dyn MetaStore, name: &str) -> Option<(Bytes, Revision)> {
    let found = store.get(&[key(name)]).await.expect("a read succeeds");
    assert_eq!(found.len(), 1, "one answer a key");
    found.into_iter().flatten().next().map(|item| (item.value, item.revision))
}

async fn reads_what_was_written(store: &dyn MetaStore) {
    assert_eq!(get(store, "a").await, None, "a new store is empty");
    let first = put(store, "a", "1").await;
    let second = put(store, "a", "").await;
    assert!(second > first, "revisions grow");
    assert_eq!(get(store, "a").await, Some((Bytes::new(), second)), "an empty value is a value");
    let both = store.get(&[key("b"), key("a"), key("a")]).await.expect("a read succeeds");
    assert!(both[0].is_none() && both[1].is_some() && both[1] == both[2], "answers come in the order of keys");
    done(store.commit(Commit::new().delete(key("a")).delete(key("never"))).await);
    assert_eq!(get(store, "a").await, None, "what is deleted is gone");
    done(store.commit(Commit::new().put(key("c"), key("1")).delete(key("c"))).await);
    assert_eq!(value(store, "c").await, Some(key("1")), "deletes come before puts");
}

async fn checks_hold_or_nothing_happens(store: &dyn MetaStore) {
    let revision = put(store, "a", "1").await;
    let other = put(store, "b", "1").await;
    for (name, check, holds) in [
        ("a", Check::Absent, false),
        ("n", Check::Absent, true),
        ("a", Check::Exists, true),
        ("n", Check::Exists, false),
        ("a", Check::Revision(revision), true),
        ("a", Check::Revision(other), false),
        ("n", Check::Revision(revision), false),
    ] {
        let commit = Commit::new()
            .check(key("b"), Check::Exists)
            .check(key(name), check)
            .put(key("x"), key("1"))
            .delete(key("b"))
            .event(key("e"));
        let before = store.snapshot(key("b")).await.expect("a read succeeds");
        let outcome = store.commit(commit).await.expect("a commit is answered");
        if holds {
            done(Ok(outcome));
            assert_eq!(value(store, "b").await, None, "{name} {check:?}");
            done(store.commit(Commit::new().put(key("b"), key("1")).delete(key("x"))).await);
        } else {
            assert_eq!(outcome, Outcome::Refused { key: key(name) }, "{name} {check:?}");
            assert_eq!(value(store, "x").await, None, "a refused commit puts nothing");
            let after = store.snapshot(key("b")).await.expect("a read succeeds");
            assert_eq!(before, after, "a refused commit deletes nothing and tells the feed nothing");
        }
    }
}

async fn scans_in_both_directions(store: &dyn MetaStore) {
    for name in ["a", "b/1", "b/2", "b/3", "b0", "c"] {
        put(store, name, name).await;
    }
    let names = |rows: Vec<(Key, super::Item)>| -> Vec<String> {
        rows.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
    };
    for (from, to, limit, order, want) in [
        ("b/", "b0", 9, Order::Ascending, vec!["b/1", "b/2", "b/3"]),
        ("b/", "b0", 2, Order::Ascending, vec!["b/1", "b/2"]),
        ("b/", "b0", 2, Order::Descending, vec!["b/3", "b/2"]),
        ("b/2", "b/3", 9, Order::Ascending, vec!["b/2"]),
        ("b/2", "b/2", 9, Order::Ascending, vec![]),
        ("c", "a", 9, Order::Descending, vec![]),
        ("b/", "b0", 0, Order::Ascending, vec![]),
        ("x", "z", 9, Order::Ascending, vec![]),
    ] {
        let rows = store.scan(key(from), key(to), limit, order).await.expect("a scan succeeds");
        assert_eq!(names(rows), want, "{from}..{to}, {limit}, {order:?}");
    }
    let snapshot = store.snapshot(key("b/")).await.expect("a read succeeds");
    assert_eq!(names(snapshot.items), ["b/1", "b/2", "b/3"]);
    assert_eq!(after_prefix(b"b/"), key("b0"));
    assert_eq!(&*after_prefix(b"a\xff\xff"), b"b");
}

async fn commits_with_one_id_happen_once(store: &dyn MetaStore) {
    let with_id = |id: u8, commit: Commit| Commit { id: Some([id; 32]), ..commit };
    let add = || with_id(1, Commit::new().check(key("a"), Check::Absent).put(key("a"), key("1")).event(key("e")));
    let first = store.commit(add()).await.expect("a commit is answered");
    assert_eq!(store.commit(add()).await.expect("a commit is answered"), first, "the same id has the first outcome");
    let events = store.feed(0, 10).await.expect("the feed is read").events;
    assert_eq!(events.len(), 1, "the same id tells the feed once");

    let refused = || with_id(2, Commit::new().check(key("b"), Check::Exists).put(key("c"), key("1")));
    let first = store.commit(refused()).await.expect("a commit is answered");
    assert_eq!(first, Outcome::Refused { key: key("b") });
    put(store, "b", "1").await;
    assert_eq!(store.commit(refused()).await.expect("a commit is answered"), first, "a refusal is an outcome too");
    assert_eq!(value(store, "c").await, None);
}

async fn feeds_in_commit_order_without_gaps(store: &dyn MetaStore) {
    assert_eq!(store.feed(0, 10).await.expect("the feed is read"), super::Feed::default());
    let mut last = 0;
    for round in 0..10_u8 {
        let commit =
            Commit::new().put(key("a"), key("1")).event(Bytes::from(vec![round, 0])).event(Bytes::from(vec![round, 1]));
        let (_, position) = done(store.commit(commit).await);
        assert_eq!(position, last + 2, "positions have no gaps");
        last = position;
        put(store, "quiet", "1").await;
    }
    let feed = store.feed(0, 100).await.expect("the feed is read");
    let want: Vec<_> = (0..20_u8).map(|n| (u64::from(n) + 1, Bytes::from(vec![n / 2, n % 2]))).collect();
    assert_eq!(feed.events, want);
    assert!(!feed.too_old);
    let page = store.feed(7, 3).await.expect("the feed is read");
    assert_eq!(page.events, want[7..10]);
    assert_eq!(store.feed(20, 3).await.expect("the feed is read").events, []);
    assert_eq!(store.snapshot(key("a")).await.expect("a read succeeds").position, 20);
}

async fn refuses_what_is_out_of_bounds(store: &dyn MetaStore) {
    let many =
        |count: usize| (0..count).fold(Commit::new(), |commit, index| commit.put(key(&format!("k{index}")), key("1")));
    done(store.commit(many(MAX_CHANGES)).await);
    done(store.commit(Commit::new().put(vec![b'k'; MAX_KEY].into(), vec![0; MAX_VALUE].into())).await);
    for commit in [
        many(MAX_CHANGES + 1),
        Commit::new().put(vec![b'k'; MAX_KEY + 1].into(), key("1")),
        Commit::new().put(Key::new(), key("1")),
        Commit::new().put(key("big"), vec![0; MAX_VALUE + 1].into()),
        Commit::new().event(vec![0; MAX_VALUE + 1].into()),
        Commit::new().delete(vec![b'k'; MAX_KEY + 1].into()),
        Commit::new().check(vec![b'k'; MAX_KEY + 1].into(), Check::Absent),
    ] {
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(MetaError::TooLarge { .. })), "{refused:?}");
    }
    assert_eq!(value(store, "big").await, None);
}

async fn one_of_many_writers_wins(store: Arc<dyn MetaStore>) {
    const WRITERS: u64 = 16;
    const ROUNDS: u64 = 25;
    put(&*store, "counter", "0").await;
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut won = 0_u64;
                while won < ROUNDS {
                    let (value, revision) = get(&*store, "counter").await.expect("the counter is there");
                    let count: u64 = std::str::from_utf8(&value).expect("digits").parse().expect("digits");
                    let next = key(&(count + 1).to_string());
                    let commit = Commit::new()
                        .check(key("counter"), Check::Revision(revision))
                        .put(key("counter"), next.clone())
                        .put(key(&format!("won/{count:04}")), key(&writer.to_string()))
                        .event(next);
                    if let Outcome::Done { .. } = store.commit(commit).await.expect("a commit is answered") {
                        won += 1;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer ends");
    }
    let total = WRITERS * ROUNDS;
    assert_eq!(value(&*store, "counter").await, Some(key(&total.to_string())), "no increment is lost");
    let wins = store.snapshot(key("won/")).await.expect("a read succeeds");
    assert_eq!(wins.items.len() as u64, total, "each step has exactly one winner");
    let events = store.feed(0, usize::MAX).await.expect("the feed is read").events;
    let counted: Vec<_> = events.iter().map(|(_, event)| event.clone()).collect();
    let want: Vec<_> = (1..=total).map(|count| key(&count.to_string())).collect();
    assert_eq!(counted, want, "the feed's order is the commits' order");

    // Claims: of many commits that want a free name, one gets it.
    let claims: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            let commit = Commit::new().check(key("name"), Check::Absent).put(key("name"), key(&writer.to_string()));
            tokio::spawn(async move { store.commit(commit).await.expect("a commit is answered") })
        })
        .collect();
    let mut winners = BTreeSet::new();
    for (writer, claim) in claims.into_iter().enumerate() {
        if let Outcome::Done { .. } = claim.await.expect("a writer ends") {
            winners.insert(writer.to_string());
        }
    }
    assert_eq!(winners.len(), 1, "one claim wins");
    let name = value(&*store, "name").await.expect("the name was claimed");
    assert!(winners.iter().any(|winner| key(winner) == name), "and the name is the winner's");
}

async fn snapshots_are_of_one_moment(store: Arc<dyn MetaStore>) {
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for round in 0..200_u64 {
                let text = key(&round.to_string());
                let commit =
                    Commit::new().put(key("pair/a"), text.clone()).put(key("pair/b"), text.clone()).event(text);
                done(store.commit(commit).await);
            }
        })
    };
    while !writer.is_finished() {
        let both = store.get(&[key("pair/a"), key("pair/b")]).await.expect("a read succeeds");
        assert_eq!(both[0], both[1], "a read of several keys sees one moment");
        let snapshot = store.snapshot(key("pair/")).await.expect("a read succeeds");
        if let [(_, a), (_, b)] = &snapshot.items[..] {
            assert_eq!(a.value, b.value, "a snapshot sees one moment");
            let round: u64 = std::str::from_utf8(&a.value).expect("digits").parse().expect("digits");
            assert_eq!(snapshot.position, round + 1, "and knows the feed's position of that moment");
        }
    }
    writer.await.expect("the writer ends");
}

async fn wakes_who_waits(store: Arc<dyn MetaStore>) {
    let mut wake = store.wake();
    wake.borrow_and_update();
    done(store.commit(Commit::new().put(key("a"), key("1")).event(key("e"))).await);
    wake.changed().await.expect("the store is open");
}

async fn forgets_no_sooner_than_promised(store: &dyn MetaStore, clock: &Clock) {
    let once = || Commit { id: Some([7; 32]), ..Commit::new().put(key("a"), key("1")).event(key("first")) };
    let first = store.commit(once()).await.expect("a commit is answered");
    clock.advance(Duration::from_secs(23 * 60 * 60));
    assert_eq!(store.commit(once()).await.expect("a commit is answered"), first, "ids count for 24 hours");
    clock.advance(Duration::from_secs(5 * 24 * 60 * 60));
    for _ in 0..3 {
        done(store.commit(Commit::new().put(key("b"), key("1")).event(key("later"))).await);
    }
    let feed = store.feed(0, 10).await.expect("the feed is read");
    assert_eq!(feed.events.len(), 4, "events are kept for 7 days");
    assert!(!feed.too_old);
}

async fn takes_nothing_after_close(store: &dyn MetaStore) {
    done(store.commit(Commit::new().put(key("a"), key("1"))).await);
    store.close().await;
    let late = store.commit(Commit::new().put(key("b"), key("1"))).await;
    assert!(matches!(late, Err(MetaError::Closed)), "{late:?}");
    store.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryMeta;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_engine_keeps_the_contract() {
        all(|clock| async { Arc::new(MemoryMeta::new(clock)) as Arc<dyn MetaStore> }).await;
    }

    #[cfg(feature = "rocksdb")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rocksdb_engine_keeps_the_contract() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let count = std::sync::atomic::AtomicU64::new(0);
        all(|clock| {
            let path = folder.path().join(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
            async move {
                let store = crate::meta::RocksStore::open(&path, clock).expect("a new store opens");
                Arc::new(store) as Arc<dyn MetaStore>
            }
        })
        .await;
    }
}
