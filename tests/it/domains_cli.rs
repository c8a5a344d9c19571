//! Domains by the command line, against a real server and a DNS server of the test's own.

use crate::dns::Dns;
use crate::world::World;

#[test]
fn domains_are_added_proven_listed_and_removed() {
    let dns = Dns::start();
    let world = World::start_with(&["--domains-dns-servers", &dns.address().to_string()]);
    world.publish("demo", &vec![("index.html".to_owned(), b"x".to_vec())]);
    let line = |words: &[&str]| {
        let mut all = words.to_vec();
        if matches!(words[1], "add" | "list") {
            all.extend(["--project", "demo"]);
        }
        world.cli(&all)
    };
    let added = line(&["domain", "add", "www.example.com/docs"]).expect(0);
    assert!(added.stdout.contains("_pinstone.www.example.com") && added.stdout.contains("TXT"), "{added:?}");
    assert!(added.stderr.contains("or let `http"), "{added:?}");
    let again = line(&["domain", "add", "www.example.com/docs"]).expect(4).stderr;
    assert!(again.contains("`www.example.com/docs`") && again.contains("domain remove"), "{again}");
    let moved = line(&["domain", "add", "example.com", "--redirect-to", "www.example.com"]).expect(0);
    assert!(moved.stdout.contains("TXT"), "{moved:?}");
    let listed = line(&["domain", "list"]).expect(0);
    assert_eq!(listed.stdout.lines().count(), 3, "{listed:?}");
    assert!(
        listed.stdout.contains("to www.example.com") && listed.stderr.contains("is proven to be yours by"),
        "{listed:?}"
    );

    let told = line(&["domain", "verify", "nobodys.example.com"]).expect(1).stderr;
    assert!(told.contains("`nobodys.example.com`") && told.contains("domain list"), "{told}");
    let told = line(&["domain", "verify", "www.example.com/docs"]).expect(1).stderr;
    assert!(told.contains("`www.example.com/docs`") && told.contains("domain list"), "{told}");
    line(&["domain", "check", "www.example.com"]).expect(1);
    line(&["domain", "check", "demo.localhost"]).expect(0);
    // What it printed is a line of a zone, with the proof in quotes or as its last word.
    let token = added.stdout.split_whitespace().last().unwrap().trim_matches('"').to_owned();
    dns.add_text("_pinstone.www.example.com", &token);
    line(&["domain", "verify", "www.example.com/docs"]).expect(0);
    line(&["domain", "check", "www.example.com"]).expect(0);
    assert_eq!(world.get("www.example.com", "/docs/").expect(200).text(), "x");

    line(&["domain", "add", "co.uk"]).expect(1);
    line(&["domain", "add", "x.localhost"]).expect(1);
    line(&["domain", "remove", "www.example.com/docs", "--yes"]).expect(0);
    world.get("www.example.com", "/docs/").expect(404);
    let told = line(&["domain", "remove", "www.example.com/docs", "--yes"]).expect(1).stderr;
    assert!(told.contains("`www.example.com/docs`"), "{told}");
}
