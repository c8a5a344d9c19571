//! What the command line of SitePod sends, byte for byte as it was seen on the wire: who publishes by it today points it at
//! a server and everything works. It tries nothing again, so every answer has to be right the first time.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dns::Dns;
use crate::publish::all_served;
use crate::site::{Files, noise};
use crate::wire::{Connection, Response, base64};
use crate::world::World;

const EMAIL: &str = "ann@example.test";
const PASSWORD: &str = "correct horse battery";

/// The client: where the server is, and the token that it saved.
#[derive(Clone, Debug)]
struct Stock {
    address: SocketAddr,
    token: Option<String>,
}

impl Stock {
    /// Sends one request as that client's HTTP library does: names in lower case, no User-Agent, no Idempotency-Key.
    fn send(&self, method: &str, path: &str, kind: Option<&str>, body: Option<&[u8]>) -> Response {
        let mut head = format!("{method} /api/v1{path} HTTP/1.1\r\n");
        if let Some(kind) = kind {
            head.push_str(&format!("content-type: {kind}\r\n"));
        }
        if let Some(token) = &self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        head.push_str(&format!("accept: */*\r\nhost: {}\r\n", self.address));
        // An empty body has no length at all, and neither has none.
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut connection = Connection::open(self.address);
        connection.send(&[head.as_bytes(), body.unwrap_or_default()].concat()).unwrap();
        connection.answer(method).unwrap()
    }

    /// A call whose answer it reads as JSON. Any other status than 2xx ends it.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<&str>) -> Value {
        let kind = body.map(|_| "application/json");
        let answer = self.send(method, path, kind, body.map(str::as_bytes));
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// `login`: whether the account is new.
    fn login(&mut self) -> bool {
        let body = format!(r#"{{"email":"{EMAIL}","password":"{PASSWORD}"}}"#);
        let answer = Self { token: None, ..self.clone() }.call("POST", "/auth/login", Some(&body));
        self.token = Some(answer["token"].as_str().expect("a token").to_owned());
        answer["created"].as_bool().unwrap_or(false)
    }

    /// The first half of `deploy` and `preview`: the plan, the uploads. Answers the plan and how many uploads there were.
    fn plan(&self, project: &str, files: &Files) -> (String, usize) {
        let plan = self.call("POST", "/plan", Some(&plan_text(project, files)));
        let id = plan["plan_id"].as_str().expect("a plan has an id").to_owned();
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id} goes into URLs");
        assert!(plan["content_hash"].is_string() && plan["upload_mode"] == "direct", "{plan}");
        i32::try_from(plan["reusable"].as_i64().unwrap()).unwrap();
        let missing = plan["missing"].as_array().expect("never null").clone();
        for file in &missing {
            assert!(file["path"].is_string() && file["size"].is_u64() && file["upload_url"].is_string(), "{file}");
        }
        // Twenty at a time, and all are tried even after one failed.
        for some in missing.chunks(20) {
            let uploads: Vec<_> = some
                .iter()
                .map(|file| {
                    let hash = file["hash"].as_str().unwrap().to_owned();
                    let (_, bytes) = files.iter().find(|(_, bytes)| hash_of(bytes) == hash).expect("it was planned");
                    let (client, id, bytes) = (self.clone(), id.clone(), bytes.clone());
                    std::thread::spawn(move || client.upload(&id, &hash, &bytes))
                })
                .collect();
            for upload in uploads {
                assert_eq!(upload.join().unwrap().status, 200);
            }
        }
        (id, missing.len())
    }

    fn upload(&self, plan: &str, hash: &str, bytes: &[u8]) -> Response {
        self.send("POST", &format!("/upload/{plan}/{hash}"), Some("application/octet-stream"), Some(bytes))
    }

    fn commit(&self, plan: &str) -> String {
        let commit = self.call("POST", "/commit", Some(&format!(r#"{{"plan_id":"{plan}"}}"#)));
        // The client shows the first 16 bytes of it, and ends where there are fewer.
        assert!(commit["content_hash"].as_str().expect("a text").len() >= 16);
        commit["image_id"].as_str().expect("a commit has an image").to_owned()
    }

    /// `deploy`: the image, how many uploads there were, and the URL.
    fn deploy(&self, project: &str, environment: &str, files: &Files) -> (String, usize, String) {
        let (plan, uploads) = self.plan(project, files);
        let image = self.commit(&plan);
        let body = format!(r#"{{"project":"{project}","environment":"{environment}","image_id":"{image}"}}"#);
        let release = self.call("POST", "/release", Some(&body));
        (image, uploads, release["url"].as_str().expect("a URL").to_owned())
    }

    /// `preview`: where nothing is missing, it shows the newest image and commits nothing.
    fn preview(&self, project: &str, slug: &str, files: &Files) -> String {
        let (plan, uploads) = self.plan(project, files);
        let image = if uploads > 0 { self.commit(&plan) } else { self.history(project, 1).remove(0) };
        let body = format!(r#"{{"project":"{project}","image_id":"{image}","slug":"{slug}","expires_in":3600}}"#);
        let preview = self.call("POST", "/preview", Some(&body));
        assert!(is_time(&preview["expires_at"]), "{preview}");
        preview["url"].as_str().expect("a URL").to_owned()
    }

    /// `history`: the images.
    fn history(&self, project: &str, limit: usize) -> Vec<String> {
        let answer = self.call("GET", &format!("/history?project={project}&limit={limit}"), None);
        let items = answer["items"].as_array().expect("never null");
        for item in items {
            assert!(item["content_hash"].is_string() && is_time(&item["created_at"]), "{item}");
            assert!(item["git_commit"].is_string() || item["git_commit"].is_null(), "{item}");
        }
        items.iter().map(|item| item["image_id"].as_str().expect("an image has an id").to_owned()).collect()
    }

    /// `rollback`: what was shown before.
    fn rollback(&self, project: &str, environment: &str, image: &str) -> String {
        let body = format!(r#"{{"project":"{project}","environment":"{environment}","image_id":"{image}"}}"#);
        let answer = self.call("POST", "/rollback", Some(&body));
        assert!(answer["url"].is_string(), "{answer}");
        answer["previous_image_id"].as_str().expect("a text, also where nothing was shown").to_owned()
    }

    /// `domain add`: the answer. The domain and the prefix are sent as they were typed.
    fn add_domain(&self, project: &str, domain: &str, slug: &str) -> Value {
        let added = self.call(
            "POST",
            "/domains",
            Some(&format!(r#"{{"project":"{project}","domain":"{domain}","slug":"{slug}"}}"#)),
        );
        for name in ["domain", "slug", "status"] {
            assert!(added[name].is_string(), "{name}: {added}");
        }
        added
    }

    /// `domain list`: the domain, prefix, type and status of each.
    fn domains(&self, project: &str) -> Vec<[String; 4]> {
        let listed = self.call("GET", &format!("/domains?project={project}"), None);
        let rows = listed["domains"].as_array().expect("an object with a list in it");
        rows.iter()
            .map(|row| {
                assert!(row["is_primary"].is_boolean() && is_time(&row["created_at"]), "{row}");
                ["domain", "slug", "type", "status"].map(|name| row[name].as_str().expect(name).to_owned())
            })
            .collect()
    }

    /// `domain verify`: whether it is proven. The name is percent-encoded in the path.
    fn verify_domain(&self, encoded: &str) -> bool {
        let answer = self.call("POST", &format!("/domains/{encoded}/verify"), None);
        for name in ["domain", "status", "message"] {
            assert!(answer[name].is_string(), "{name}: {answer}");
        }
        answer["verified"].as_bool().expect("true or false")
    }

    /// `domain remove`: of the answer it takes the status alone.
    fn remove_domain(&self, encoded: &str) {
        let answer = self.send("DELETE", &format!("/domains/{encoded}"), None, None);
        assert!((200..300).contains(&answer.status), "{answer:?}");
    }
}

/// The JSON of a plan: on one line, with the keys in the client's order.
fn plan_text(project: &str, files: &Files) -> String {
    let files: Vec<_> = files
        .iter()
        .map(|(path, bytes)| {
            let (path, blake3, sha256) = (json!(path), hash_of(bytes), base64(&Sha256::digest(bytes)));
            let (size, kind) = (bytes.len(), "application/octet-stream");
            format!(
                r#"{{"path":{path},"blake3":"{blake3}","sha256":"{sha256}","size":{size},"content_type":"{kind}"}}"#
            )
        })
        .collect();
    let git = r#"{"commit":"0123456789012345678901234567890123456789","branch":"main","message":"A subject"}"#;
    format!(r#"{{"project":"{project}","files":[{}],"git":{git}}}"#, files.join(","))
}

fn hash_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Whether a value is a time by RFC 3339 that is not the year 1.
fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("20") && text.contains('T') && text.ends_with('Z'))
}

/// The host of a URL, without its port.
fn host(url: &str) -> &str {
    url.strip_prefix("http://").and_then(|rest| rest.split(':').next()).unwrap_or_else(|| panic!("{url}"))
}

/// A site with what that client does differently from others: the same content twice, an empty file, names that need
/// escaping, more files than it opens connections.
fn site(version: &str) -> Files {
    let mut files: Files = vec![
        ("index.html".into(), format!("<!doctype html><p>{version}").into_bytes()),
        ("empty.txt".into(), Vec::new()),
        ("twice.txt".into(), b"the same bytes".to_vec()),
        ("again/twice.txt".into(), b"the same bytes".to_vec()),
        ("a b & c%.txt".into(), b"a name that needs escaping".to_vec()),
        ("stra\u{df}e/\u{fc}ber.txt".into(), b"a name beyond ASCII".to_vec()),
    ];
    files.extend((0..40).map(|number| (format!("assets/{number}.bin"), noise(&number.to_string(), 2000 + number))));
    files
}

#[test]
fn from_the_first_login_to_the_deleted_account() {
    let dns = Dns::start();
    let world = World::start_with(&["--domains-dns-servers", &dns.address().to_string()]);
    let mut client = Stock { address: world.address(), token: None };
    assert!(client.login(), "the first makes the account");
    assert!(!client.login(), "the second does not");
    let config = client.call("GET", "/config", None);
    assert_eq!(config["domain"], format!("localhost:{}", world.address().port()));
    assert_eq!(client.call("GET", "/subdomain/check?subdomain=conf", None)["available"], true);

    // Deploy; again with one file changed, and with none.
    let (one, two) = (site("one"), site("two"));
    let (first, uploads, url) = client.deploy("conf", "beta", &one);
    assert_eq!((uploads, host(&url)), (one.len() - 1, "conf-beta.localhost"), "the same content is uploaded once");
    all_served(&world, host(&url), &one);
    assert_eq!(client.call("GET", "/subdomain/check?subdomain=conf", None)["available"], false);
    let (second, uploads, _) = client.deploy("conf", "beta", &two);
    assert_eq!(uploads, 1);
    assert_ne!(first, second);
    let (again, uploads, _) = client.deploy("conf", "beta", &two);
    assert_eq!((&again, uploads), (&second, 0), "the newest image is what was planned");

    let (_, _, url) = client.deploy("conf", "prod", &two);
    assert_eq!(host(&url), "conf.localhost");
    all_served(&world, "conf.localhost", &two);

    // Newest first; a commit of what there was moves it to the top.
    assert_eq!(client.history("conf", 20), [&*second, &first]);
    assert_eq!(client.rollback("conf", "prod", &first), second);
    all_served(&world, "conf.localhost", &one);
    assert_eq!(client.rollback("conf", "staging", &second), "", "nothing was shown there before");

    // A preview of what is new, of what is the newest, and of what was published before and is not the newest.
    let three = site("three");
    for (slug, files) in [("pr-1", &three), ("pr-2", &three), ("pr-3", &one), ("pr-4", &two), ("pr-5", &two)] {
        let url = client.preview("conf", slug, files);
        assert_eq!(host(&url), format!("conf--{slug}.localhost"));
        all_served(&world, host(&url), files);
    }

    domains_of_ones_own(&world, &dns, &client, &one);

    // Renamed, it is still called by its old name in the file that the client reads.
    let answer = client.send(
        "PUT",
        "/domains/rename?project=conf",
        Some("application/json"),
        Some(br#"{"new_subdomain":"conf-new"}"#),
    );
    assert!((200..300).contains(&answer.status), "{answer:?}");
    let moved = world.get("conf.localhost", "/assets/1.bin?x=1").expect(308);
    assert_eq!(moved.header("location"), Some("//conf-new.localhost/assets/1.bin?x=1"));
    all_served(&world, "conf-new.localhost", &one);
    let (_, _, url) = client.deploy("conf", "prod", &three);
    assert_eq!(host(&url), "conf-new.localhost");
    all_served(&world, "conf-new.localhost", &three);
    all_served(&world, "shop.example", &three);

    let deleted = client.call("DELETE", "/account", None);
    assert!(deleted["message"].is_string(), "{deleted}");
    assert_eq!(deleted["deleted_projects"], 1);
    for host in ["conf-new.localhost", "conf.localhost", "conf--pr-1.localhost", "shop.example"] {
        world.get(host, "/").expect(404);
    }
    let gone = client.send("POST", "/plan", Some("application/json"), Some(plan_text("conf", &one).as_bytes()));
    gone.expect_error(401, "unauthorized");
    assert!(client.login(), "and it may begin again");
}

/// `domain add`, `list`, `verify` and `remove`, for a project whose `prod` shows `shown`. What stays is `shop.example`.
fn domains_of_ones_own(world: &World, dns: &Dns, client: &Stock, shown: &Files) {
    // In any case and script, and with a prefix that has no slash before it.
    let (shop, books) =
        (client.add_domain("conf", "Shop.Example", "/"), client.add_domain("conf", "b\u{fc}cher.example", "docs"));
    for (added, domain, slug) in [(&shop, "shop.example", "/"), (&books, "xn--bcher-kva.example", "/docs")] {
        assert_eq!(
            (&added["domain"], &added["slug"], &added["status"]),
            (&json!(domain), &json!(slug), &json!("pending"))
        );
        // This is what it prints for the user to do.
        let record = added["verification_txt"].as_str().expect("a text");
        assert!(record.contains(&format!("_pinstone.{domain}")), "{record}");
        assert!(record.contains(added["verification_token"].as_str().expect("a text")), "{record}");
    }
    let twice = br#"{"project":"conf","domain":"shop.example","slug":"/"}"#;
    client.send("POST", "/domains", Some("application/json"), Some(twice)).expect(409);
    let row = |row: [&str; 4]| row.map(str::to_owned);
    let own = row(["conf.localhost", "/", "system", "active"]);
    let want = |status| {
        [
            own.clone(),
            row(["shop.example", "/", "custom", status]),
            row(["xn--bcher-kva.example", "/docs", "custom", status]),
        ]
    };
    assert_eq!(client.domains("conf"), want("pending"));

    let encoded = ["shop.example", "b%C3%BCcher.example"];
    for (name, added) in encoded.into_iter().zip([&shop, &books]) {
        assert!(!client.verify_domain(name), "{name}: nothing proves it, which is no failure");
        let domain = added["domain"].as_str().unwrap();
        dns.add_text(&format!("_pinstone.{domain}"), added["verification_token"].as_str().unwrap());
        assert!(client.verify_domain(name), "{name}");
    }
    assert_eq!(client.domains("conf"), want("active"));
    all_served(world, "shop.example", shown);
    assert_eq!(world.get("xn--bcher-kva.example", "/docs/twice.txt").expect(200).text(), "the same bytes");

    client.remove_domain(encoded[1]);
    world.get("xn--bcher-kva.example", "/docs/twice.txt").expect(404);
    assert_eq!(client.domains("conf"), want("active")[..2]);
    // The project's own host stays: that is what makes it the project's.
    let refused = client.send("DELETE", "/domains/conf.localhost", None, None);
    assert!((400..500).contains(&refused.status) && refused.status != 401, "{refused:?}");
}

#[test]
fn duplicates_that_are_uploaded_at_once_all_succeed() {
    let world = World::start();
    let mut client = Stock { address: world.address(), token: None };
    client.login();
    let bytes = noise("the same", 300_000);
    let files: Files = vec![("a.bin".into(), bytes.clone()), ("b.bin".into(), bytes.clone())];
    let plan = client.call("POST", "/plan", Some(&plan_text("twice", &files)));
    let id = plan["plan_id"].as_str().unwrap().to_owned();
    let uploads: Vec<_> = (0..20)
        .map(|_| {
            let (client, id, bytes) = (client.clone(), id.clone(), bytes.clone());
            std::thread::spawn(move || client.upload(&id, &hash_of(&bytes), &bytes).status)
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.join().unwrap(), 200);
    }
    client.commit(&id);
    assert_eq!(client.upload(&id, &hash_of(&bytes), &bytes).status, 410, "the plan is over");
}

#[test]
fn no_failure_reads_as_if_the_session_were_over() {
    // The client looks for these digits anywhere in a failure, and then hides what it says.
    let world = World::start();
    let mut client = Stock { address: world.address(), token: None };
    client.login();
    let hash = format!("401{}", "0".repeat(61));
    let (json, bytes) = (Some("application/json"), Some("application/octet-stream"));
    for (method, path, kind, body) in [
        ("POST", format!("/upload/plan_401/{hash}"), bytes, "x"),
        ("POST", "/commit".to_owned(), json, r#"{"plan_id":"plan_40100000000000000000000000000000"}"#),
        ("POST", "/release".to_owned(), json, r#"{"project":"site-401","environment":"prod","image_id":"img_401"}"#),
        (
            "POST",
            "/plan".to_owned(),
            json,
            r#"{"project":"site-401","files":[{"path":"../401","blake3":"401","size":1}]}"#,
        ),
        ("GET", "/history?project=site-401".to_owned(), None, ""),
    ] {
        let answer = client.send(method, &path, kind, Some(body.as_bytes()));
        assert!((400..500).contains(&answer.status) && answer.status != 401, "{path}: {answer:?}");
        assert!(!answer.text().contains("401"), "{path}: {}", answer.text());
    }
}
