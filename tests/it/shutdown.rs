//! Ending a server politely: what is under way ends well, and what was released is there at the next start.

use crate::site;
use crate::wire::Connection;
use crate::world::{World, until};

#[test]
fn a_slow_download_ends_before_the_server_does() {
    let mut world = World::start();
    // More than all the buffers between the two ends hold.
    let big = site::noise("slow", 24 * 1024 * 1024);
    world.publish("demo", &vec![("big.bin".to_owned(), big.clone())]);
    let address = world.address();

    let mut slow = Connection::open(address);
    slow.send(b"GET /big.bin HTTP/1.1\r\nHost: demo.localhost\r\n\r\n").unwrap();
    let (status, _) = slow.head().unwrap();
    assert_eq!(status, 200);
    let mut body = vec![0; 100_000];
    let mut read = slow.read_some(&mut body).unwrap();
    let mut idle = Connection::open(address);
    idle.request("GET", "/big.bin", &[("Host", "demo.localhost"), ("Range", "bytes=0-9")], b"").expect(206);

    world.terminate();
    until("new connections are refused", || Connection::try_open(address).is_err());
    // An idle connection has nothing to finish.
    assert!(idle.is_closed());
    body.resize(big.len(), 0);
    while read < body.len() {
        let count = slow.read_some(&mut body[read..]).unwrap();
        assert!(count > 0, "the download broke off after {read} bytes");
        read += count;
    }
    assert!(body == big);
    let status = world.wait();
    assert_eq!(status.code(), Some(0), "{}", world.logged());
    assert!(!world.data().join("server.json").exists(), "a server that is gone is not found");
    world.fsck().expect(0);
}

#[test]
fn a_restart_shows_what_was_released() {
    let mut world = World::start();
    let files = site::varied();
    let image = world.publish("demo", &files);
    world.release("demo", "pr-7", &image);
    let found = std::fs::read_to_string(world.data().join("server.json")).unwrap();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["pid"], world.pid(), "{found}");
    assert_eq!(found["urls"][0].as_str().map(|url| url.trim_end_matches('/')), Some(world.url()), "{found}");
    assert!(found["version"].is_string(), "{found}");
    let before = world.get("demo.localhost", "/about").expect(200);

    for _ in 0..2 {
        assert_eq!(world.stop().code(), Some(0));
        world.restart();
        let after = world.get("demo.localhost", "/about").expect(200);
        assert_eq!(after.body, before.body);
        for name in ["etag", "last-modified", "content-type"] {
            assert_eq!(after.header(name), before.header(name), "{name}");
        }
        world.get("demo--pr-7.localhost", "/big.bin").expect(200);
    }
    let current = world.api("GET", "/current?project=demo&environment=prod", None).expect(200).json();
    assert_eq!((&current["image_id"], &current["number"]), (&image.into(), &1.into()));
}
