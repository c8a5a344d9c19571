//! What a server leaves behind holds no secret: not its data folder, not a copy of that, not its logs.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::wire::base64;
use crate::world::{Api, World, files_below};

const PASSWORD: &str = "correct horse battery staple";

/// A secret as it may be written down: itself, what of it is random, and both in other letters.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let random = secret.strip_prefix("pin_").unwrap_or(secret);
    let mut forms = Vec::new();
    for text in [secret, random] {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        forms.push(text.as_bytes().to_vec());
        forms.push(text.bytes().rev().collect());
        forms.push(hex.to_uppercase().into_bytes());
        forms.push(hex.into_bytes());
        forms.push(escaped.into_bytes());
        forms.push(text.replace(' ', "+").into_bytes());
        forms.push(text.replace(' ', "%20").into_bytes());
        // Within other text, Base64 begins at any of three places: what does not depend on the neighbours is looked for.
        for offset in 0..3 {
            let shifted = [&[0; 2][..offset], text.as_bytes()].concat();
            let encoded = base64(&shifted);
            forms.push(encoded.as_bytes()[4..encoded.len() - 4].to_vec());
        }
    }
    if random.len() == 64 && random.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        forms.push((0..32).map(|at| u8::from_str_radix(&random[2 * at..2 * at + 2], 16).unwrap()).collect());
    }
    forms
}

fn find(folder: &Path, secrets: &[String]) -> Vec<String> {
    let forms: Vec<_> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let mut found = Vec::new();
    for file in files_below(folder) {
        let bytes = fs::read(&file).unwrap();
        let holds = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
        if forms.iter().any(|form| holds(form)) {
            found.push(file.strip_prefix(folder).unwrap().display().to_string());
        }
    }
    found
}

#[test]
fn nothing_that_a_server_leaves_behind_holds_a_secret() {
    let mut world = World::stopped();
    let log = world.work().join("access.log");
    world.serve_with(&["--access-log", log.to_str().unwrap()]);
    world.set_variables(vec![("RUST_LOG", "trace".into())]);
    world.restart();
    let body = json!({"email": "somebody@example.com", "password": PASSWORD});
    let (first, second) = (world.sign_in("/auth/register", 201, &body), world.sign_in("/auth/login", 200, &body));
    let api = Api { address: world.address(), token: second.clone() };
    let wanted = json!({"name": "ci", "scope": "deploy"});
    let made = api.call("POST", "/tokens", Some(&wanted)).unwrap().expect(201).json();
    let third = made["token"].as_str().unwrap().to_owned();
    let deploying = Api { token: third.clone(), ..api.clone() };
    let files = vec![("index.html".to_owned(), b"hello".to_vec())];
    let image = deploying.commit("secret", &files).unwrap();
    deploying.release("secret", "prod", &image).unwrap();
    // Mistakes are what logs and audit rows are full of.
    let mistaken = json!({"email": "somebody@example.com", "password": format!("{PASSWORD} not")});
    api.call("POST", "/auth/login", Some(&mistaken)).unwrap().expect(401);
    api.call("GET", &format!("/nothing?token={}", &third[..20]), None).unwrap().expect(404);
    let owner = world.token();
    let secrets = [PASSWORD.to_owned(), first, second, third, owner.trim().to_owned()];

    // A copy of the folder of a server that runs, as a backup would take it, and what is there when it has ended.
    let copy = world.work().join("copy");
    copy_folder(&world.data(), &copy);
    assert_eq!(find(&copy, &secrets), ["owner.token"]);
    world.stop();
    assert_eq!(find(&world.data(), &secrets), ["owner.token"]);
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains("/index.html") || logged.contains("/api/v1/auth/login"), "it is the log: {logged}");
    fs::write(world.work().join("server.log"), world.logged()).unwrap();
    fs::remove_dir_all(&copy).unwrap();
    assert_eq!(find(&world.work(), &secrets), [""; 0]);

    // The search finds what is there.
    for secret in &secrets {
        for form in forms(secret) {
            let planted = world.work().join("planted");
            fs::write(&planted, [b"before ", &form[..], b" behind"].concat()).unwrap();
            assert_eq!(find(&world.work(), std::slice::from_ref(secret)), ["planted"]);
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}
