//! How many connections there may be, from one source and in all.

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use pinstone_edge::{EdgeConfig, Networks, Refusal};
use pinstone_engine::clock::Clock;

use crate::world::{Connection, SITE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_has_only_so_many_connections() {
    let configure = |config: &mut EdgeConfig| {
        config.limits.connections_per_source = 3;
        config.uncapped = Networks::default();
    };
    let world = World::start(Clock::system(), None, configure, &[("a.txt", b"a")]).await;
    let mut open: Vec<Connection> = (0..3).map(|_| world.connect()).collect();
    for connection in &mut open {
        assert_eq!(connection.get(SITE, "/a.txt", "").text(), "a");
    }
    for _ in 0..5 {
        let mut refused = world.connect();
        assert!(refused.is_closed(), "over any worker");
    }
    assert_eq!(world.counters.refused_connections(Refusal::PerSource), 5);
    assert_eq!(world.counters.open_connections(), 3, "what is refused is no connection");
    assert_eq!(open[0].get(SITE, "/a.txt", "").text(), "a", "those that are there go on");
    drop(open.pop());
    while world.counters.open_connections() > 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(world.get(SITE, "/a.txt").text(), "a", "one that ends makes room");
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_have_any_number_of_connections() {
    let configure = |config: &mut EdgeConfig| {
        config.limits.connections_per_source = 1;
        config.uncapped = Networks::default();
        config.trusted_proxies = ["127.0.0.1".parse().unwrap()].into_iter().collect();
    };
    let world = World::start(Clock::system(), None, configure, &[("a.txt", b"a")]).await;
    let mut open: Vec<Connection> = (0..20).map(|_| world.connect()).collect();
    for connection in &mut open {
        assert_eq!(connection.get(SITE, "/a.txt", "").text(), "a");
    }
    assert_eq!(world.counters.refused_connections(Refusal::PerSource), 0);
}

/// The test below, in a process of its own: it takes all descriptors that there are.
const ALONE: &str = "PINSTONE_TEST_WITHOUT_DESCRIPTORS";

#[test]
fn accepting_survives_running_out_of_descriptors() {
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().unwrap();
        let name = "sources::accepting_survives_running_out_of_descriptors";
        let run = Command::new(this).args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&run.stderr));
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::with(&[("a.txt", b"a")]));
    let mut before = world.connect();
    assert_eq!(before.get(SITE, "/a.txt", "").text(), "a");
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum }).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.len() > 10, "the limit is above what the test needs itself");
    taken.pop();
    // This one gets the last descriptor, so the other end has none.
    let mut waiting = world.connect();
    waiting.send(format!("GET /a.txt HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    waiting.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(waiting.stream.read(&mut [0; 1]).is_err(), "nobody can accept it");
    assert_eq!(before.get(SITE, "/a.txt", "").text(), "a", "those that are there go on");
    drop(taken);
    waiting.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(waiting.receive(true).text(), "a");
}
