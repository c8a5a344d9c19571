//! Signing in by the command line: what is saved, who gets to see it, and what ends it.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::recorder::Recorder;
use crate::world::{Api, World, run_with};

const PASSWORD: &str = "correct horse battery";
const EMAIL: &str = "me@example.com";

fn register(world: &World) -> serde_json::Value {
    let line = ["login", "--register", "--email", EMAIL, "--password-stdin", "--json"];
    world.user(&line, &format!("{PASSWORD}\n")).expect(0).json()
}

fn saved(world: &World) -> String {
    std::fs::read_to_string(world.home().join("pinstone/credentials.toml")).unwrap_or_default()
}

/// The one token in the saved logins.
fn saved_token(world: &World) -> String {
    let text = saved(world);
    let start = text.find("pin_").expect("a token is saved");
    text[start..].split('"').next().unwrap().to_owned()
}

#[test]
fn a_login_is_saved_used_and_ended() {
    let world = World::start();
    let made = register(&world);
    assert_eq!((&made["created"], &made["email"]), (&json!(true), &json!(EMAIL)), "{made}");
    let token = saved_token(&world);
    let path = world.home().join("pinstone/credentials.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!made.to_string().contains(&token) && !saved(&world).contains(PASSWORD));

    let who = world.user(&["whoami", "--json"], "").expect(0).json();
    assert_eq!((&who["user"]["email"], &who["token"]["scope"]), (&json!(EMAIL), &json!("admin")), "{who}");
    assert_eq!(who["token_from"], "the saved login");
    let told = world.user(&["whoami"], "").expect(0);
    assert!(told.stdout.contains(EMAIL) && !told.stdout.contains(&token), "{told:?}");

    // Without an endpoint, commands go where the last login is.
    let site = world.folder("site", &vec![("index.html".to_owned(), b"x".to_vec())]);
    let mut command = world.command();
    command.args(["deploy", "--project", "mine", "--prod"]).arg(&site);
    let deployed = run_with(command, "").expect(0);
    assert!(!format!("{deployed:?}").contains(&token));
    world.get("mine.localhost", "/").expect(200);

    let ended = world.user(&["logout", "--json"], "").expect(0).json();
    assert_eq!((&ended["ended"], &ended["forgotten"]), (&json!(true), &json!(true)), "{ended}");
    assert!(!saved(&world).contains("pin_"));
    let api = Api { address: world.address(), token };
    assert_eq!(api.call("GET", "/me", None).unwrap().status, 401, "nobody can use a copy");
    let told = world.user(&["logout"], "").expect(1).stderr;
    assert!(told.contains("no login is saved") && told.contains("hint:"), "{told}");
}

#[test]
fn what_is_wrong_saves_nothing() {
    let world = World::start_with(&["--registration", "invite"]);
    for (line, input, code, part) in [
        (&["login", "--email", EMAIL, "--password-stdin"][..], "wrong password\n", 3, "the email or the password"),
        (&["login", "--email", EMAIL, "--password-stdin"], "\n", 2, "no password on standard input"),
        (&["login", "--email", EMAIL], "", 2, "--password-stdin"),
        (&["login", "--password-stdin"], "x\n", 2, "--email"),
        (&["login", "--token-stdin"], "pin_nobodys\n", 3, "does not take the token"),
        (&["login", "--token-stdin", "--password-stdin"], "x\n", 2, "both come from standard input"),
        (&["login", "--token-stdin", "--email", EMAIL], "x\n", 2, "not both"),
        (&["login", "--register", "--email", EMAIL, "--password-stdin"], "long enough\n", 3, "--invite"),
        (&["login", "--invite", "no", "--email", EMAIL, "--password-stdin"], "long enough\n", 3, "--invite"),
    ] {
        let told = world.user(line, input).expect(code);
        assert!(told.stderr.contains(part), "{line:?}: {told:?}");
        assert_eq!(saved(&world), "", "{line:?}");
    }
    // Who has an invitation gets in, and afterwards without one.
    let made = world.api("POST", "/invites", None).expect(201).json();
    let invite = made["invite"].as_str().unwrap();
    let line = ["login", "--invite", invite, "--email", EMAIL, "--password-stdin"];
    world.user(&line, &format!("{PASSWORD}\r\n")).expect(0);
    world.user(&["logout"], "").expect(0);
    world.user(&["login", "--email", EMAIL, "--password-stdin"], PASSWORD).expect(0);
}

#[test]
fn a_token_is_saved_for_one_server_and_shown_to_no_other() {
    let world = World::start();
    world.user(&["login", "--token-stdin"], &format!("{}\n", world.token())).expect(0);
    let other = Recorder::start(|_| (404, json!({"error": "not_found", "message": "no"})));
    let mut command = world.command();
    command.args(["env", "list", "--project", "demo", "--endpoint", &other.url()]);
    run_with(command, "").expect(1);
    let asked = other.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| !asked.head.contains("authorization")), "{asked:?}");

    // A password is sent without any token; a token that signs in is sent to nobody but its server.
    let mut command = world.command();
    command.args(["login", "--email", EMAIL, "--password-stdin", "--endpoint", &other.url()]);
    run_with(command, PASSWORD).expect(1);
    assert!(!other.only("POST /api/v1/auth/login").head.contains("authorization"));

    // The owner's token goes on being valid, which is said.
    let told = world.user(&["logout"], "").expect(0).stderr;
    assert!(told.contains("goes on being valid"), "{told}");
    world.api("GET", "/me", None).expect(200);
}

#[test]
fn a_login_that_cannot_be_saved_is_ended() {
    let world = World::start();
    register(&world);
    world.user(&["logout"], "").expect(0);
    let sessions = || {
        let listed = world.user(&["token", "list", "--json"], "").expect(0).json();
        listed["items"].as_array().unwrap().iter().filter(|item| item["session"] == true).count()
    };
    // A folder where the new file is to be written before it takes the old one's place.
    let folder = world.home().join("pinstone/credentials.toml.new");
    std::fs::create_dir(&folder).unwrap();
    let sign_in = ["login", "--email", EMAIL, "--password-stdin"];
    let told = world.user(&sign_in, PASSWORD).expect(1).stderr;
    assert!(told.contains("credentials.toml") && told.contains("hint:"), "{told}");
    std::fs::remove_dir(&folder).unwrap();
    world.user(&sign_in, PASSWORD).expect(0);
    assert_eq!(sessions(), 1, "the other one is nobody's");
}

#[test]
fn logout_ends_what_was_saved_and_not_what_a_variable_has() {
    let world = World::start();
    register(&world);
    let token = saved_token(&world);
    let told = world.cli(&["logout"]).expect(0).stderr;
    assert!(told.contains("`PINSTONE_TOKEN` is set"), "{told}");
    world.api("GET", "/me", None).expect(200);
    let api = Api { address: world.address(), token };
    assert_eq!(api.call("GET", "/me", None).unwrap().status, 401);

    // What is only forgotten goes on being valid.
    world.user(&["login", "--email", EMAIL, "--password-stdin"], PASSWORD).expect(0);
    let token = saved_token(&world);
    world.user(&["logout", "--forget"], "").expect(0);
    let api = Api { address: world.address(), token: token.clone() };
    assert_eq!((api.call("GET", "/me", None).unwrap().status, saved(&world).contains(&token)), (200, false));
}

#[test]
fn the_owner_gets_an_account_by_the_owners_token() {
    let world = World::start();
    let line = ["login", "--register", "--email", EMAIL, "--password-stdin"];
    let mut command = world.command();
    command.args(line).args(["--endpoint", world.url()]).env("PINSTONE_TOKEN", world.token());
    run_with(command, PASSWORD).expect(0);
    let who = world.user(&["whoami", "--json"], "").expect(0).json();
    assert_eq!((&who["user"]["is_admin"], &who["user"]["email"]), (&json!(true), &json!(EMAIL)), "{who}");
}

#[test]
fn a_password_is_changed_and_who_is_invited_may_register() {
    let world = World::start_with(&["--registration", "invite"]);
    let invite = world.cli(&["invite", "create", EMAIL]).expect(0).stdout;
    assert!(world.cli(&["invite", "list"]).expect(0).stdout.contains(EMAIL));
    let line = ["login", "--invite", invite.trim(), "--email", EMAIL, "--password-stdin"];
    world.user(&line, PASSWORD).expect(0);
    world.cli(&["invite", "create", "you@example.com"]).expect(0);
    world.cli(&["invite", "revoke", "you@example.com"]).expect(0);
    assert_eq!(world.cli(&["invite", "list"]).expect(0).stdout, "");
    world.cli(&["invite", "revoke", "you@example.com"]).expect(1);
    let told = world.user(&["invite", "list"], "").expect(3).stderr;
    assert!(told.contains("owner"), "{told}");

    let change = |input: &str| world.user(&["password", "--password-stdin"], input);
    change("not this one\nanother password\n").expect(3);
    change(&format!("{PASSWORD}\nshort\n")).expect(1);
    change(&format!("{PASSWORD}\n")).expect(2);
    change(&format!("{PASSWORD}\nanother password\n")).expect(0);
    world.user(&["whoami"], "").expect(0);
    let sign_in = |password: &str| world.user(&["login", "--email", EMAIL, "--password-stdin"], password);
    sign_in(PASSWORD).expect(3);
    sign_in("another password").expect(0);
}
