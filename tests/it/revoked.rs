//! A token that is revoked while its owner is connected, on real sockets.

use serde_json::json;

use crate::wire::Connection;
use crate::world::{Api, World};

/// A token that may deploy: its secret and its id.
fn token(world: &World) -> (String, String) {
    let made = world.api("POST", "/tokens", Some(&json!({ "name": "ci", "scope": "deploy" }))).expect(201).json();
    let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{name}: {made}")).to_owned();
    (text("token"), text("id"))
}

fn revoke(world: &World, id: &str) {
    world.api("DELETE", &format!("/tokens/{id}"), None).expect(204);
}

#[test]
fn a_kept_connection_keeps_no_token() {
    let world = World::start();
    let (secret, id) = token(&world);
    let (host, bearer) = (world.address().to_string(), format!("Bearer {secret}"));
    let headers = [("Host", &*host), ("Authorization", &*bearer)];
    let mut kept = Connection::open(world.address());
    for _ in 0..3 {
        kept.request("GET", "/api/v1/me", &headers, b"").expect(200);
    }
    revoke(&world, &id);
    kept.request("GET", "/api/v1/me", &headers, b"").expect_error(401, "unauthorized");
    // It is the token that ended: the connection itself goes on.
    let owner = format!("Bearer {}", world.token());
    kept.request("GET", "/api/v1/me", &[("Host", &host), ("Authorization", &owner)], b"").expect(200);
}

#[test]
fn an_upload_ends_with_its_token_on_a_kept_connection() {
    let world = World::start();
    let (secret, id) = token(&world);
    let bytes = vec![b'x'; 200_000];
    let hash = blake3::hash(&bytes).to_hex();
    let api = Api { address: world.address(), token: world.token() };
    let planned = api.plan("my-site", &vec![("a.bin".to_owned(), bytes.clone())]).unwrap().json();
    let plan = planned["plan_id"].as_str().unwrap();

    let mut kept = Connection::open(world.address());
    let (host, bearer) = (world.address().to_string(), format!("Bearer {secret}"));
    kept.request("GET", "/api/v1/me", &[("Host", &host), ("Authorization", &bearer)], b"").expect(200);
    let head = format!(
        "PUT /api/v1/upload/{plan}/{hash} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    kept.send(head.as_bytes()).unwrap();
    kept.send(&bytes[..100_000]).unwrap();
    revoke(&world, &id);
    kept.send(&bytes[100_000..]).unwrap();
    kept.answer("PUT").unwrap().expect_error(401, "unauthorized");

    let missing = || world.api("GET", &format!("/plans/{plan}"), None).expect(200).json()["missing"].clone();
    assert_eq!(missing().as_array().map(Vec::len), Some(1), "nothing of it counts");
    let path = format!("/upload/{plan}/{hash}");
    assert_eq!(api.send("PUT", &path, "application/octet-stream", &bytes).unwrap().status, 200);
    assert_eq!(missing().as_array().map(Vec::len), Some(0), "another token goes on");
}
