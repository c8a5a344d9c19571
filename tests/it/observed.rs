//! What operators see of a server: its access log, its metrics, and whether it is well.

use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::prometheus_text::{Parsed, parse};
use crate::site;
use crate::wire::{Connection, Response};
use crate::world::{World, until};

/// Where the server answers for its metrics.
fn metrics_address(world: &World) -> SocketAddr {
    let found = std::fs::read_to_string(world.data().join("server.json")).unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    let url = found["metrics_url"].as_str().expect("the server says where its metrics are");
    url.trim_start_matches("http://").trim_end_matches("/metrics").parse().unwrap()
}

fn ask(address: SocketAddr, target: &str) -> Response {
    Connection::open(address).request("GET", target, &[("Host", "localhost"), ("Connection", "close")], b"")
}

fn scrape(address: SocketAddr) -> Parsed {
    let response = ask(address, "/metrics").expect(200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    parse(response.text()).unwrap_or_else(|error| panic!("{error}\n{}", response.text()))
}

#[test]
fn metrics_say_what_was_served() {
    let world = World::start_with(&["--metrics-listen", "127.0.0.1:0"]);
    world.publish("demo", &site::varied());
    let address = metrics_address(&world);
    for _ in 0..3 {
        world.get("demo.localhost", "/about").expect(200);
    }
    world.get("demo.localhost", "/nothing").expect(404);
    let requests = |class| {
        let labels = [("class", class), ("protocol", "h1"), ("target", "site")];
        scrape(address).value("pinstone_edge_requests_total", &labels)
    };
    until("all are counted", || (requests("2xx"), requests("4xx")) == (Some(3.0), Some(1.0)));
    let parsed = scrape(address);
    for (name, least) in [
        ("pinstone_pointer_table_projects", 1.0),
        ("pinstone_pointer_table_pointers", 1.0),
        ("pinstone_feed_position", 1.0),
        ("pinstone_ready", 1.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 3.0),
        ("process_start_time_seconds", 1.6e9),
    ] {
        assert!(parsed.value(name, &[]).is_some_and(|value| value >= least), "{name}: {:?}", parsed.value(name, &[]));
    }
    assert_eq!(parsed.value("pinstone_feed_lag_events", &[]), Some(0.0));
    assert_eq!(parsed.value("pinstone_access_log_records_total", &[]), None, "there is no log");
    ask(address, "/").expect(404);
    assert_eq!(world.get("demo.localhost", "/metrics").status, 404, "sites have their paths for themselves");
    assert_ne!(world.get("localhost", "/metrics").status, 200, "nor are they on control hosts");
}

#[test]
fn health_is_asked_at_the_listener_and_at_control_hosts() {
    let world = World::start_with(&["--metrics-listen", "127.0.0.1:0"]);
    let address = metrics_address(&world);
    for response in
        [ask(address, "/healthz"), world.get("localhost", "/healthz"), world.get("api.localhost", "/healthz")]
    {
        assert_eq!(response.expect(200).json()["status"], "ok");
    }
    for response in [ask(address, "/readyz"), world.get("localhost", "/readyz"), world.get("127.0.0.1", "/readyz")] {
        let ready = response.expect(200);
        assert_eq!(ready.header("cache-control"), Some("no-store"));
        assert_eq!(ready.json()["status"], "ready");
    }
    world.request("HEAD", "localhost", "/readyz", &[]).expect(200);
    world.get("nobody.localhost", "/healthz").expect(404);
}

#[test]
fn a_server_that_ends_says_so_before_it_stops_accepting() {
    let arguments = ["--metrics-listen", "127.0.0.1:0", "--edge-shutdown-delay", "10m"];
    let mut world = World::start_with(&arguments);
    world.publish("demo", &site::varied());
    let address = metrics_address(&world);
    world.terminate();
    until("it is not ready", || ask(address, "/readyz").status == 503);
    let told = ask(address, "/readyz").json();
    assert_eq!((&told["status"], &told["reasons"][0]["code"]), (&"unavailable".into(), &"draining".into()));
    // Who has not heard of it is served.
    world.get("demo.localhost", "/about").expect(200);
    world.get("localhost", "/readyz").expect(503);
    ask(address, "/healthz").expect(200);
    world.kill();
    world.serve_with(&["--edge-shutdown-delay", "1s"]);
    world.restart();
    assert_eq!(world.stop().code(), Some(0), "{}", world.logged());
}

#[test]
fn the_access_log_is_rotated_by_a_signal_and_whole_at_the_end() {
    let mut world = World::stopped();
    let (log, moved) = (world.work().join("access.log"), world.work().join("access.log.1"));
    world.serve_with(&["--access-log", log.to_str().unwrap(), "--access-log-format", "json"]);
    world.restart();
    world.publish("demo", &site::varied());
    world.get("demo.localhost", "/about?before").expect(200);
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    until("it is written", || read(&log).contains("/about?before"));
    std::fs::rename(&log, &moved).unwrap();
    let pid = Pid::from_raw(world.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until("it is opened anew", || log.exists());
    world.get("demo.localhost", "/about?after").expect(200);
    assert_eq!(world.stop().code(), Some(0), "{}", world.logged());
    let lines = |text: String| -> Vec<Value> {
        assert!(text.is_empty() || text.ends_with('\n'), "whole lines: {text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (old, new) = (lines(read(&moved)), lines(read(&log)));
    assert!(old.iter().any(|line| line["target"] == "/api/v1/commit" && line["project"].is_null()), "{old:?}");
    assert!(old.iter().any(|line| line["target"] == "/about?before"), "{old:?}");
    let last = new.last().unwrap();
    assert_eq!(
        (&last["target"], &last["project"], &last["status"]),
        (&"/about?after".into(), &"demo".into(), &200.into())
    );
    let all = format!("{old:?}{new:?}");
    assert!(!all.contains(&world.token()), "no secret is logged");
}

#[test]
fn an_access_log_that_cannot_be_opened_is_told_before_anything_is_taken() {
    let mut world = World::stopped();
    world.serve_with(&["--access-log", "nowhere/access.log"]);
    assert_eq!(world.try_restart().unwrap_err().code(), Some(1));
    assert!(world.logged().contains("nowhere/access.log"), "{}", world.logged());
    assert!(!world.data().exists(), "no data folder is made");
}

#[test]
fn debugging_has_to_be_allowed() {
    let files = site::varied();
    for (arguments, want) in [(&["--edge-debug-headers", "true"][..], Some("demo")), (&[][..], None)] {
        let world = World::start_with(arguments);
        world.publish("demo", &files);
        let response = world.request("GET", "demo.localhost", "/about", &[("Pinstone-Debug", "1")]).expect(200);
        assert_eq!(response.header("pinstone-project"), want, "{:?}", response.headers);
    }
}
