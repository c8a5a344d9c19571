//! Accounts and tokens under failing stores and many callers at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use faults::{Counted, Fault, Faulty, How, Switch};
use futures_util::future::join_all;
use futures_util::stream;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use pinstone_engine::account::{Origin, Scope};
use pinstone_engine::accounts::{AccountError, AccountRules, Credentials, Registration, SignedIn};
use pinstone_engine::blob::BlobStore;
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::clock::Clock;
use pinstone_engine::fsck;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::{MemoryMeta, MetaStore};
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::{CommitRequest, ReleaseRequest};
use pinstone_engine::tokens::{MOST_SESSIONS, NewToken, TokenError};
use pinstone_engine::{Engine, Limits, Principal};

#[allow(dead_code, reason = "other tests take more of it")]
mod faults;

const PROJECTS: [&str; 3] = ["one", "two", "three"];

/// What outlives a process.
struct Below {
    meta: Arc<dyn MetaStore>,
    objects: Arc<dyn ObjectStore>,
    index: Arc<MemoryIndex>,
}

impl Below {
    fn new() -> Self {
        let meta = Arc::new(MemoryMeta::new(Clock::system()));
        Self { meta, objects: Arc::new(InMemory::new()), index: Arc::default() }
    }

    fn blobs(&self) -> BlobStore {
        BlobStore::new(Arc::clone(&self.objects), Arc::<MemoryIndex>::clone(&self.index))
    }

    /// A process over it, in whose metadata things go wrong as the switch says.
    async fn start(&self, switch: &Arc<Switch>) -> Engine {
        let meta: Arc<dyn MetaStore> = Arc::new(Faulty { inner: Arc::clone(&self.meta), switch: Arc::clone(switch) });
        Engine::assemble(meta, self.blobs(), Clock::system(), Limits::default(), "pin_owner").await.unwrap()
    }
}

fn rules() -> AccountRules {
    AccountRules::new(Registration::Open)
}

fn credentials(email: &str) -> Credentials {
    Credentials { email: email.to_owned(), password: "correct horse battery".to_owned() }
}

async fn register(engine: &Engine, email: &str) -> Result<SignedIn, AccountError> {
    engine.register(None, &Origin::default(), &credentials(email), None, &rules()).await
}

async fn principal(engine: &Engine, signed_in: &SignedIn) -> Principal {
    engine.authenticate(&signed_in.secret).await.unwrap().expect("a session is somebody's")
}

fn token(name: &str) -> NewToken {
    NewToken { name: name.to_owned(), scope: Scope::Read, project: None, environment: None, lifetime: None }
}

async fn publish(engine: &Engine, caller: &Principal, project: &str) {
    let bytes = Bytes::copy_from_slice(project.as_bytes());
    let blob = BlobHash::of(&bytes);
    let plan = NewPlan {
        project: project.parse().unwrap(),
        files: vec![PlannedFile { path: SitePath::new("index.html").unwrap(), blob, size: None, content_type: None }],
        git: None,
        message: None,
        settings: Settings::default(),
    };
    let plan = engine.plan(caller, plan, None).await.unwrap().id;
    let body = stream::iter([Ok::<_, std::io::Error>(bytes)]);
    engine.upload(caller, plan, blob, None, body).await.unwrap();
    let commit = CommitRequest { plan, message: None, strict: false };
    let image = Some(engine.commit(caller, commit, None).await.unwrap().image);
    let (project, environment) = (project.parse().unwrap(), "prod".parse().unwrap());
    let release = ReleaseRequest { project, environment, image, expected: None, message: None };
    engine.release(caller, release, None).await.unwrap();
}

/// The projects that a host shows.
fn shown(engine: &Engine) -> BTreeSet<&'static str> {
    let pointers = engine.resolver().pointers().clone();
    PROJECTS.into_iter().filter(|project| pointers.find(project, "prod").is_some()).collect()
}

#[tokio::test]
async fn an_account_is_whole_or_gone_whatever_fails_while_it_is_deleted() {
    for how in How::ALL {
        for at in 0.. {
            let below = Below::new();
            let switch = Arc::new(Switch::default());
            let engine = below.start(&switch).await;
            let session = register(&engine, "ann@example.test").await.unwrap();
            let ann = principal(&engine, &session).await;
            for number in 0..3 {
                engine.create_token(&ann, token(&number.to_string())).await.unwrap();
            }
            for project in PROJECTS {
                publish(&engine, &ann, project).await;
            }
            switch.arm(Fault { counted: Counted::Writes, at, how });
            let deleted = tokio::select! {
                biased;
                deleted = engine.delete_account(&ann) => Some(deleted),
                () = switch.died() => None,
            };
            let struck = switch.disarm();
            if let Some(Ok(projects)) = &deleted {
                assert_eq!(*projects, 3);
                assert!(shown(&engine).is_empty());
            }
            assert_eq!(deleted.is_none(), struck.is_some() && how.is_death(), "{how:?} at {at}");
            let is_over = struck.is_none();
            drop(engine);

            let switch = Arc::new(Switch::default());
            let engine = below.start(&switch).await;
            let what = format!("{how:?} at {at}: {struck:?}");
            match engine.authenticate(&session.secret).await.unwrap() {
                Some(ann) => {
                    assert_eq!(shown(&engine).len(), 3, "{what}: nothing is gone of an account that is there");
                    assert!(!matches!(deleted, Some(Ok(_))), "{what}");
                    assert_eq!(engine.delete_account(&ann).await.unwrap(), 3, "{what}");
                }
                None => assert_eq!(shown(&engine), BTreeSet::new(), "{what}"),
            }
            let again = register(&engine, "ann@example.test").await.unwrap();
            let ann = principal(&engine, &again).await;
            assert_eq!(engine.tokens(&ann).await.unwrap().len(), 1, "{what}");
            publish(&engine, &ann, "one").await;
            assert_eq!(shown(&engine), BTreeSet::from(["one"]), "{what}");
            engine.close().await;
            let report = fsck::check(&*below.meta, &below.blobs(), |_| {}).await.unwrap();
            assert!(report.is_clean(), "{what}: {report:?}");
            if is_over {
                assert!(at > 4, "a deletion has several steps");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_made_at_once_are_all_there_and_all_different() {
    let engine = Engine::in_memory(Clock::system()).await;
    let owner = engine.owner_principal();
    let names: Vec<_> = (0..64).map(|number| number.to_string()).collect();
    let made = join_all(names.iter().map(|name| engine.create_token(&owner, token(name)))).await;
    let secrets: BTreeSet<_> = made.into_iter().map(|made| made.unwrap().0).collect();
    assert_eq!(secrets.len(), 64);
    let listed: BTreeSet<_> = engine.tokens(&owner).await.unwrap().into_iter().map(|token| token.name).collect();
    assert_eq!(listed, names.iter().cloned().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_while_all_are_signed_out_is_in_or_out_and_nothing_between() {
    let engine = Engine::in_memory(Clock::system()).await;
    let first = register(&engine, "ann@example.test").await.unwrap();
    let ann = principal(&engine, &first).await;
    for _ in 0..4 {
        let login = async || {
            let signed_in = engine.login(&Origin::default(), &credentials("ann@example.test"), &rules()).await;
            signed_in.unwrap().secret
        };
        let logins = join_all((0..4).map(|_| login()));
        let (secrets, out) = tokio::join!(logins, engine.logout_everywhere(&ann));
        out.unwrap();
        let mut there = 0;
        for secret in &secrets {
            there += usize::from(engine.authenticate(secret).await.unwrap().is_some());
        }
        let listed = engine.tokens(&ann).await.unwrap().len();
        assert_eq!(listed, there, "what is listed is what counts");
        assert!(listed <= MOST_SESSIONS);
        assert!(engine.authenticate(&first.secret).await.unwrap().is_none());
        engine.logout_everywhere(&ann).await.unwrap();
        assert!(engine.tokens(&ann).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_revoke_a_token_all_or_one_do_and_it_is_gone() {
    let engine = Engine::in_memory(Clock::system()).await;
    let owner = engine.owner_principal();
    let (secret, made) = engine.create_token(&owner, token("ci")).await.unwrap();
    assert!(engine.authenticate(&secret).await.unwrap().is_some());
    let before = engine.tokens_ended();
    let revoked = join_all((0..16).map(|_| engine.revoke_token(&owner, made.id))).await;
    assert!(revoked.iter().any(Result::is_ok));
    assert!(revoked.iter().all(|revoked| matches!(revoked, Ok(()) | Err(TokenError::NotFound))), "{revoked:?}");
    assert!(engine.authenticate(&secret).await.unwrap().is_none() && engine.tokens_ended() > before);
}

#[tokio::test]
async fn a_token_of_before_there_were_scopes_may_do_everything() {
    let engine = Engine::in_memory(Clock::system()).await;
    let owner = engine.authenticate("pin_in_memory").await.unwrap().unwrap();
    assert_eq!(owner.access.scope, Scope::Admin);
    let (user, team) = (owner.user, owner.team);
    let old = format!(
        r#"{{"id":"{}","user":"{user}","team":"{team}","name":"owner.token","user_name":"owner","created_at":1,"new":7}}"#,
        owner.token.unwrap()
    );
    let read: pinstone_engine::records::tokens::TokenRecord = serde_json::from_str(&old).unwrap();
    assert_eq!((read.scope, read.number, read.session, read.expires_at), (Scope::Admin, 0, false, None));
    assert!(read.access().is_everywhere());
    assert_eq!(serde_json::to_value(&read).unwrap()["new"], 7, "what is not known is kept");
}
