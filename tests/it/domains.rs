//! Custom domains, with a DNS server and a web server of the test's own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::dns::Dns;
use crate::site::Files;
use crate::world::{World, until};

fn site(text: &str) -> Files {
    vec![("index.html".to_owned(), text.as_bytes().to_vec()), ("a/index.html".to_owned(), b"a".to_vec())]
}

/// A server that asks `dns`, with more arguments. Its API answers to `localhost`, as tests call it.
fn start(dns: &Dns, more: &[&str]) -> World {
    let address = dns.address().to_string();
    let mut arguments = vec!["--base-domain", "pages.test", "--control-hosts", "localhost"];
    arguments.extend(["--domains-dns-servers", &address]);
    arguments.extend(more);
    World::start_with(&arguments)
}

fn add(world: &World, project: &str, domain: &str, slug: &str) -> Value {
    let body = json!({"project": project, "domain": domain, "slug": slug});
    world.api("POST", "/domains", Some(&body)).expect(200).json()
}

fn verify(world: &World, domain: &str) -> Value {
    world.api("POST", &format!("/domains/{domain}/verify"), None).expect(200).json()
}

/// A web server that answers every request with this file.
fn web_server(file: &Arc<Mutex<String>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, file) = (listener.local_addr().unwrap().port(), Arc::clone(file));
    // It ends with the process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let is_meant = request.starts_with("GET /.well-known/pinstone-domain.txt HTTP/1.1\r\n");
            let (status, body) =
                if is_meant { ("200 OK", file.lock().unwrap().clone()) } else { ("404 Not Found", String::new()) };
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    port
}

#[test]
fn a_domain_is_proven_by_dns_served_and_survives() {
    let dns = Dns::start();
    let mut world = start(&dns, &[]);
    world.publish("front", &site("front"));
    world.publish("manual", &site("manual"));
    let added = add(&world, "front", "Shop.Example", "/");
    assert_eq!((&added["domain"], &added["status"]), (&json!("shop.example"), &json!("pending")), "{added}");
    add(&world, "manual", "shop.example", "docs");
    assert_eq!(verify(&world, "shop.example")["verified"], false);
    world.get("shop.example", "/").expect(404);
    world.api("GET", "/domains/check?domain=shop.example", None).expect(404);

    dns.add_text("_pinstone.shop.example", added["verification_token"].as_str().unwrap());
    let proven = verify(&world, "shop.example%2Fdocs");
    assert_eq!((&proven["verified"], &proven["status"]), (&json!(true), &json!("active")), "{proven}");
    let expect_served = |world: &World| {
        for (target, want) in [("/", "front"), ("/a/", "a"), ("/docs/", "manual"), ("/docs/a/", "a")] {
            assert_eq!(world.get("shop.example", target).expect(200).text(), want, "{target}");
        }
        assert_eq!(world.get("SHOP.example:80", "/docs/a").expect(308).header("location"), Some("/docs/a/"));
        world.get("shop.example", "/docsx").expect(404);
        world.api("GET", "/domains/check?domain=shop.example", None).expect(200);
    };
    expect_served(&world);
    // A release is seen at once.
    world.publish("manual", &site("newer"));
    assert_eq!(world.get("shop.example", "/docs/").expect(200).text(), "newer");
    world.publish("manual", &site("manual"));

    world.kill();
    world.restart();
    expect_served(&world);
    let listed = world.api("GET", "/domains?project=manual", None).expect(200).json();
    let rows: Vec<_> = listed["domains"].as_array().unwrap().iter().map(|row| (&row["domain"], &row["slug"])).collect();
    let want = [(json!("manual.pages.test"), json!("/")), (json!("shop.example"), json!("/docs"))];
    assert_eq!(rows, want.iter().map(|(domain, slug)| (domain, slug)).collect::<Vec<_>>());

    world.api("DELETE", "/domains/shop.example", None).expect_error(409, "domain_ambiguous");
    world.api("DELETE", "/domains/shop.example%2Fdocs", None).expect(204);
    world.get("shop.example", "/docs/").expect(404);
    world.api("DELETE", "/domains/shop.example", None).expect(204);
    world.get("shop.example", "/").expect(404);
    assert!(world.stop().success());
    world.fsck().expect(0);
}

#[test]
fn the_other_name_leads_to_the_proper_one() {
    let dns = Dns::start();
    let world = start(&dns, &[]);
    world.publish("front", &site("front"));
    let apex = add(&world, "front", "shop.example", "");
    let body = json!({"project": "front", "domain": "www.shop.example", "redirect_to": "shop.example"});
    let www = world.api("POST", "/domains", Some(&body)).expect(200).json();
    for (domain, added) in [("shop.example", &apex), ("www.shop.example", &www)] {
        dns.add_text(&format!("_pinstone.{domain}"), added["verification_token"].as_str().unwrap());
    }
    verify(&world, "www.shop.example");
    assert_eq!(world.get("www.shop.example", "/").expect(200).text(), "front", "there is no other yet");
    verify(&world, "shop.example");
    let sent = world.get("www.shop.example:8080", "/a/?q").expect(308);
    assert_eq!(sent.header("location"), Some("http://shop.example:8080/a/?q"));
}

#[test]
fn a_domain_is_proven_by_a_file_while_it_leads_elsewhere() {
    let (dns, file) = (Dns::start(), Arc::new(Mutex::new(String::new())));
    let port = web_server(&file).to_string();
    dns.add_address("shop.example", "127.0.0.1");
    let inside = start(&dns, &["--domains-file-port", &port]);
    inside.commit("front", &site("front"));
    let added = add(&inside, "front", "shop.example", "");
    *file.lock().unwrap() = added["verification_token"].as_str().unwrap().to_owned();
    let refused = verify(&inside, "shop.example");
    assert!(refused["message"].as_str().unwrap().contains("not public"), "{refused}");
    drop(inside);

    let world = start(&dns, &["--domains-file-port", &port, "--domains-special-networks", "127.0.0.0/8"]);
    world.publish("front", &site("front"));
    let added = add(&world, "front", "shop.example", "");
    *file.lock().unwrap() = format!("somebody-elses\n{}\n", added["verification_token"].as_str().unwrap());
    assert_eq!(verify(&world, "shop.example")["verified"], true);
    assert_eq!(world.get("shop.example", "/").expect(200).text(), "front");
    // What leads to this server already could be answered by any site here.
    dns.add_address("pages.test", "127.0.0.1");
    let other = add(&world, "front", "other.example", "");
    dns.add_address("other.example", "127.0.0.1");
    *file.lock().unwrap() = other["verification_token"].as_str().unwrap().to_owned();
    let refused = verify(&world, "other.example");
    assert!(refused["message"].as_str().unwrap().contains("this server already"), "{refused}");
}

#[test]
fn a_domain_that_is_not_proven_any_more_ends_after_a_while() {
    let dns = Dns::start();
    let mut world = start(&dns, &["--domains-recheck", "100ms", "--domains-grace", "2s"]);
    world.publish("front", &site("front"));
    let added = add(&world, "front", "shop.example", "");
    let token = added["verification_token"].as_str().unwrap();
    dns.add_text("_pinstone.shop.example", token);
    verify(&world, "shop.example");
    let checked_at = |world: &World| {
        let listed = world.api("GET", "/domains?project=front", None).expect(200).json();
        let row = listed["domains"].as_array().unwrap().iter().find(|row| row["domain"] == "shop.example").cloned();
        row.unwrap()
    };
    let first = checked_at(&world);
    until("it was proven again", || checked_at(&world)["checked_at"] != first["checked_at"]);
    // A DNS that fails says nothing.
    dns.set_failing(true);
    dns.remove("_pinstone.shop.example");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(world.get("shop.example", "/").expect(200).text(), "front");
    dns.set_failing(false);
    until("it is known to fail", || checked_at(&world)["ends_at"].is_string());
    assert_eq!(world.get("shop.example", "/").expect(200).text(), "front", "it is served for a while");
    until("it has ended", || world.get("shop.example", "/").status == 404);
    assert_eq!(checked_at(&world)["status"], "pending", "what was wanted of it stays");
    let audit = world.api("GET", "/audit", None).expect(200).json();
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"domain.fail") && actions.contains(&"domain.end"), "{actions:?}");
    // It is proven anew as it was at first.
    dns.add_text("_pinstone.shop.example", token);
    assert_eq!(verify(&world, "shop.example")["verified"], true);
    assert_eq!(world.get("shop.example", "/").expect(200).text(), "front");
    assert!(world.stop().success());
    world.fsck().expect(0);
}
