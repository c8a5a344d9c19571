//! No secret is kept or logged: not in a key, not in a value, not in an event, not in a line of the log.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use pinstone_engine::accounts::Registration;
use pinstone_engine::meta::MetaStore;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::world::{PASSWORD, TOKEN, World};
use crate::wire::account::{NewInvite, SignedIn};

/// Keeps everything that is logged, of every level.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn no_token_invitation_or_password_is_in_a_record_or_in_the_log() {
    let log = Log::default();
    // With a second one about, whether a line of the code logs is not decided by a thread of another test, which has none.
    let _second = tracing::Dispatch::new(Log::default());
    let _logging = tracing::subscriber::set_default(log.clone());
    tracing::callsite::rebuild_interest_cache();
    let world = World::registering(Registration::Invite).await;
    let mut secrets = vec![TOKEN.to_owned(), PASSWORD.to_owned()];

    let owner = json!({ "email": "owner@example.test", "password": PASSWORD });
    let owner: SignedIn = world.post_as(TOKEN, "/auth/register", &owner).await.made();
    let invites = [
        world.post("/invites", &json!({})).await.made::<NewInvite>().invite,
        world.post_as(&owner.token, "/invites", &json!({})).await.made::<NewInvite>().invite,
    ];
    let body = json!({ "email": "ann@example.test", "password": PASSWORD, "invite": invites[0] }).to_string();
    let ann: SignedIn = world.stranger(Method::POST, "/api/v1/auth/register").json(&body).send().await.made();
    let ci = world.token_as(&ann.token, &json!({ "name": "ci", "scope": "deploy" })).await;
    let gone = world.token_as(&ann.token, &json!({ "name": "gone", "scope": "read" })).await;
    world.delete_as(&ann.token, &format!("/tokens/{}", gone.id)).await.expect_nothing();
    // A password where an email belongs, as happens to people.
    for (email, password) in
        [("ann@example.test", "wrong-horse-1"), ("hunter2@hunter.two", "wrong-horse-2"), ("hunter3", "wrong-horse-3")]
    {
        assert!(world.login(email, password, "192.0.2.1").await.status.is_client_error());
        secrets.extend([password.to_owned(), email.to_owned()]);
    }
    secrets.retain(|secret| secret != "ann@example.test");
    let change = json!({ "current_password": PASSWORD, "new_password": "another long one" });
    world.post_as(&ann.token, "/auth/password", &change).await.expect_nothing();
    secrets.push("another long one".to_owned());
    let archive = super::archives::tar(&[("index.html", "a")]);
    let deployed = world.call_as(&ci.token, Method::PUT, "/deploy/my-site").bytes(&archive).send().await;
    assert_eq!(deployed.status, StatusCode::OK);
    let bad = world.call_as("pin_nobodys", Method::GET, "/me").send().await;
    assert_eq!(bad.status, StatusCode::UNAUTHORIZED);
    secrets.extend([ci.token, gone.token, ann.token, owner.token, "pin_nobodys".to_owned()]);
    secrets.extend(invites);
    world.engine.close().await;

    let mut everything = Vec::new();
    for tag in 0..0xff_u8 {
        for (key, item) in world.meta.snapshot(vec![tag].into()).await.unwrap().items {
            everything.push((format!("key {tag:02x}"), key));
            everything.push((format!("value {tag:02x}"), item.value));
        }
    }
    let events = world.meta.feed(0, usize::MAX).await.unwrap().events;
    everything.extend(events.into_iter().map(|(_, event)| ("event".to_owned(), event)));
    let log = log.0.lock().unwrap().clone();
    assert!(log.contains("/api/v1/auth/register") && log.contains("answered"), "the log is kept");
    everything.push(("log".to_owned(), log.into_bytes().into()));
    assert!(everything.len() > 60, "{}", everything.len());
    for (place, bytes) in &everything {
        let text = String::from_utf8_lossy(bytes);
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
}

#[test]
fn what_holds_a_secret_does_not_print_it() {
    let login = crate::wire::account::LoginRequest {
        email: "ann@example.test".to_owned(),
        password: PASSWORD.to_owned(),
        action: None,
    };
    let credentials =
        pinstone_engine::accounts::Credentials { email: "ann@example.test".to_owned(), password: PASSWORD.to_owned() };
    for text in [format!("{login:?}"), format!("{credentials:?}")] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}
