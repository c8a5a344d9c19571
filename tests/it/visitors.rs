//! Visitors while releases happen: nobody sees a failure, half of a release, or what was released before the last one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::site::Files;
use crate::wire::Connection;
use crate::world::{World, until};

const RELEASES: u64 = 200;
const VISITORS: usize = 8;

/// A file whose every line says which image it belongs to.
fn marked(mark: char, lines: usize) -> Vec<u8> {
    format!("{}\n", mark.to_string().repeat(63)).repeat(lines).into_bytes()
}

fn image(mark: char) -> Files {
    vec![("index.html".to_owned(), marked(mark, 20)), ("data/large.txt".to_owned(), marked(mark, 40_000))]
}

/// What visitors and the publisher tell each other.
#[derive(Debug, Default)]
struct Board {
    /// The last release that was asked for, and the last that was acknowledged; odd ones show `b`.
    asked: AtomicU64,
    acknowledged: AtomicU64,
    answers: AtomicU64,
    /// Answers that no release overlapped: these can show one image only.
    undisturbed: AtomicU64,
    done: AtomicBool,
}

fn visit(world: &World, board: &Board) {
    let mut connection = Connection::open(world.address());
    while !board.done.load(Ordering::SeqCst) {
        for (target, lines) in [("/", 20), ("/data/large.txt", 40_000)] {
            let before = board.acknowledged.load(Ordering::SeqCst);
            let answer = connection.request("GET", target, &[("Host", "demo.localhost")], b"").expect(200);
            let after = board.asked.load(Ordering::SeqCst);
            let mark = char::from(answer.body[0]);
            assert!(answer.body == marked(mark, lines), "{target}: an answer of two images");
            assert_eq!(answer.header("etag"), Some(&*crate::site::etag(&answer.body)), "{target}: another file's head");
            // Every release from the last one before the request to the last one that may have begun is right.
            let shown = (before..=after).any(|release| mark == if release % 2 == 1 { 'b' } else { 'a' });
            assert!(shown, "{target} shows `{mark}` in a request from release {before} to {after}");
            board.answers.fetch_add(1, Ordering::SeqCst);
            if before == after {
                board.undisturbed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn no_release_disturbs_a_visitor() {
    let world = World::start();
    let images = [world.publish("demo", &image('a')), world.commit("demo", &image('b'))];
    let board = Board::default();
    // The publisher ends the visitors' loop also where it fails itself.
    struct Done<'b>(&'b Board);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.done.store(true, Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        let done = Done(&board);
        let visitors: Vec<_> = (0..VISITORS).map(|_| scope.spawn(|| visit(&world, &board))).collect();
        for release in 1..=RELEASES {
            board.asked.store(release, Ordering::SeqCst);
            let odd = usize::from(release % 2 == 1);
            let released = world.release("demo", "prod", &images[odd]);
            assert_eq!(released["changed"], true, "{released}");
            assert_eq!(released["number"], release + 1, "{released}");
            board.acknowledged.store(release, Ordering::SeqCst);
            let seen = board.undisturbed.load(Ordering::SeqCst);
            until("visitors go on", || {
                let answered = board.undisturbed.load(Ordering::SeqCst) >= seen + 2;
                answered || visitors.iter().any(|visitor| visitor.is_finished())
            });
        }
        drop(done);
    });
    let (answers, undisturbed) = (board.answers.into_inner(), board.undisturbed.into_inner());
    println!("{RELEASES} releases, {answers} answers, {undisturbed} of them between two releases");
    assert!(undisturbed >= 2 * RELEASES, "too few answers between releases to say anything: {undisturbed}");
    let listed = world.api("GET", "/releases?project=demo&environment=prod&limit=1", None).expect(200).json();
    assert_eq!(listed["items"][0]["number"], RELEASES + 1, "{listed}");
}
