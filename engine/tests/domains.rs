//! Domains: claimed, proven, shown, proven again, given up; and what two teams can do to each other.

#![allow(clippy::unwrap_used, reason = "a test that meets an unexpected value should stop there")]

use std::sync::Arc;
use std::time::Duration;

use pinstone_engine::account::Origin;
use pinstone_engine::accounts::Credentials;
use pinstone_engine::blob::BlobStore;
use pinstone_engine::blob::index::MemoryIndex;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::domains::proof::{DomainRules, Evidence, Found, NotProven};
use pinstone_engine::domains::{
    Checked, DomainChange, DomainError, DomainSelector, DomainSummary, NameWarning, NewDomain, Verified,
};
use pinstone_engine::fsck;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::id::{TeamId, UserId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::meta::MemoryMeta;
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::{AccountRules, Engine, Limits, Principal, Registration};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    engine: Engine,
    meta: Arc<MemoryMeta>,
    blobs: BlobStore,
    clock: Clock,
    hosts: Hosts,
    rules: DomainRules,
}

/// What is found of a domain that has its TXT record.
const TXT: Evidence = Evidence { txt: Found::Token, file: Found::NotAsked, points_here: false, is_special: false };
/// What is found of one that has nothing.
const NOTHING: Evidence = Evidence { txt: Found::Nothing, file: Found::Nothing, points_here: false, is_special: false };

impl World {
    async fn new() -> Self {
        let clock = Clock::manual(UnixMillis(1_700_000_000_000));
        let meta = Arc::new(MemoryMeta::new(clock.clone()));
        let blobs = BlobStore::new(Arc::new(object_store::memory::InMemory::new()), Arc::new(MemoryIndex::default()));
        let engine = start(&meta, &blobs, &clock).await;
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        Self { engine, meta, blobs, clock, hosts, rules: DomainRules::default() }
    }

    /// Begins anew with what is stored.
    async fn restart(&mut self) {
        self.engine = start(&self.meta, &self.blobs, &self.clock).await;
    }

    /// A project of a new team.
    async fn team(&self, project: &str) -> Principal {
        let caller = Principal::new(UserId::random(), TeamId::random(), project);
        self.project(&caller, project).await;
        caller
    }

    async fn project(&self, caller: &Principal, project: &str) {
        let blob = pinstone_engine::hash::BlobHash::of(b"x");
        let files = vec![PlannedFile { path: SitePath::new("a").unwrap(), blob, size: Some(1), content_type: None }];
        let (project, settings) = (project.parse().unwrap(), Settings::default());
        let plan = NewPlan { project, files, git: None, message: None, settings };
        self.engine.plan(caller, plan, None).await.unwrap();
    }

    async fn add(&self, caller: &Principal, project: &str, name: &str) -> Result<DomainSummary, DomainError> {
        self.add_with(caller, project, name, None).await.map(|(domain, _)| domain)
    }

    async fn add_with(
        &self,
        caller: &Principal,
        project: &str,
        name: &str,
        redirect_to: Option<&str>,
    ) -> Result<(DomainSummary, Vec<NameWarning>), DomainError> {
        let DomainSelector { domain, prefix } = selector(name);
        let new = NewDomain {
            project: project.parse().unwrap(),
            domain,
            prefix: prefix.unwrap_or_default(),
            environment: EnvironmentName::prod(),
            redirect_to: redirect_to.map(|name| name.parse().unwrap()),
        };
        let added = self.engine.add_domain(caller, &new, &self.hosts, &self.rules, None).await?;
        Ok((added.domain, added.warnings))
    }

    async fn verify(&self, caller: &Principal, name: &str, evidence: Evidence) -> Result<Verified, DomainError> {
        self.engine.verify_domain(caller, &selector(name), &evidence, &self.rules).await
    }

    async fn remove(&self, caller: &Principal, name: &str) -> Result<(), DomainError> {
        self.engine.remove_domain(caller, &selector(name), &self.hosts, &self.rules).await
    }

    /// A domain that a team has.
    async fn has(&self, caller: &Principal, project: &str, name: &str) {
        self.add(caller, project, name).await.unwrap();
        assert!(self.verify(caller, name, TXT).await.unwrap().is_active);
    }

    /// The prefixes that a domain shows something under.
    fn shown(&self, domain: &str) -> Vec<String> {
        let shown = self.engine.resolver().pointers().domain(domain);
        shown.iter().flat_map(|shown| &shown.routes).map(|route| route.prefix.to_string()).collect()
    }

    async fn expect_clean(&self) {
        let report = fsck::check(&*self.meta, &self.blobs, |_| {}).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    }

    /// Looks at all domains that are due, and finds this.
    async fn recheck(&self, evidence: Evidence) -> Vec<Checked> {
        let mut checked = Vec::new();
        for due in self.engine.domains_due(100).await.unwrap() {
            checked.push(self.engine.record_domain_check(&due, &evidence, &self.rules).await.unwrap());
        }
        checked
    }

    async fn actions(&self, caller: &Principal) -> Vec<String> {
        let log = self.engine.audit_log(caller, &Default::default(), None, 100).await.unwrap();
        let actions = log.items.into_iter().rev().map(|row| row.action);
        actions.filter(|action| action.starts_with("domain.")).collect()
    }
}

async fn start(meta: &Arc<MemoryMeta>, blobs: &BlobStore, clock: &Clock) -> Engine {
    let (meta, limits) = (Arc::clone(meta), Limits::default());
    Engine::assemble(meta, blobs.clone(), clock.clone(), limits, "pin_owner").await.unwrap()
}

fn selector(name: &str) -> DomainSelector {
    match name.split_once('/') {
        Some((domain, prefix)) => {
            DomainSelector { domain: domain.parse().unwrap(), prefix: Some(prefix.parse().unwrap()) }
        }
        None => DomainSelector { domain: name.parse().unwrap(), prefix: None },
    }
}

#[tokio::test]
async fn a_domain_is_shown_when_it_is_proven_and_after_a_restart() {
    let mut world = World::new().await;
    let ann = world.team("ann-site").await;
    let added = world.add(&ann, "ann-site", "Example.COM").await.unwrap();
    assert_eq!(
        (added.domain.as_str(), added.prefix.to_string().as_str(), added.is_active),
        ("example.com", "/", false)
    );
    assert_eq!(world.engine.domain_token(&ann, &selector("example.com")).await.unwrap(), added.token);
    assert!(world.shown("example.com").is_empty());
    let refused = world.verify(&ann, "example.com", NOTHING).await.unwrap();
    assert_eq!(refused, Verified { is_active: false, missing: Some(NotProven::Nowhere) });
    assert!(world.shown("example.com").is_empty());

    let proven = world.verify(&ann, "example.com", TXT).await.unwrap();
    assert_eq!(proven, Verified { is_active: true, missing: None });
    assert_eq!(world.shown("example.com"), ["/"]);
    // What is added to a domain that the team has needs no proof.
    assert!(world.add(&ann, "ann-site", "example.com/docs").await.unwrap().is_active);
    assert_eq!(world.shown("example.com"), ["/", "/docs"]);
    world.restart().await;
    assert_eq!(world.shown("example.com"), ["/", "/docs"]);

    assert!(matches!(world.remove(&ann, "example.com").await, Err(DomainError::Ambiguous)));
    world.remove(&ann, "example.com/").await.unwrap();
    assert_eq!(world.shown("example.com"), ["/docs"]);
    world.remove(&ann, "example.com").await.unwrap();
    assert!(world.shown("example.com").is_empty());
    assert!(matches!(world.remove(&ann, "example.com").await, Err(DomainError::NotFound)));
    world.restart().await;
    assert!(world.shown("example.com").is_empty());
    // The token stays what it was, and numbers go on.
    assert_eq!(world.add(&ann, "ann-site", "example.com").await.unwrap().token, added.token);
    world.verify(&ann, "example.com", TXT).await.unwrap();
    assert_eq!(world.shown("example.com"), ["/"]);
    let actions =
        ["add", "verify", "add", "remove", "remove", "add", "verify"].map(|action| format!("domain.{action}"));
    assert_eq!(world.actions(&ann).await, actions);
    world.expect_clean().await;
}

#[tokio::test]
async fn two_teams_and_one_domain() {
    let world = World::new().await;
    let (ann, bob) = (world.team("ann-site").await, world.team("bob-site").await);
    // Claiming keeps nobody from what is theirs.
    let anns = world.add(&ann, "ann-site", "example.com").await.unwrap();
    let bobs = world.add(&bob, "bob-site", "example.com").await.unwrap();
    assert_ne!(anns.token, bobs.token);
    assert!(matches!(world.add(&ann, "ann-site", "example.com").await, Err(DomainError::Exists)));
    world.verify(&bob, "example.com", TXT).await.unwrap();
    assert!(matches!(world.verify(&ann, "example.com", TXT).await, Err(DomainError::Taken)));
    assert!(matches!(world.add(&ann, "ann-site", "example.com/docs").await, Err(DomainError::Taken)));
    assert_eq!(world.shown("example.com"), ["/"]);
    // Nobody touches what is another team's, or learns of it.
    let stranger = world.team("stranger").await;
    for name in ["example.com", "example.com/", "other.example"] {
        assert!(matches!(world.remove(&stranger, name).await, Err(DomainError::NotFound)), "{name}");
        assert!(matches!(world.verify(&stranger, name, TXT).await, Err(DomainError::NotFound)), "{name}");
    }
    assert!(world.engine.domains(&stranger, None, &world.rules).await.unwrap().is_empty());

    // Who removed it may come back at once, and others wait.
    world.remove(&bob, "example.com").await.unwrap();
    let until = world.clock.now().plus(world.rules.hold_off);
    let held = |result: Result<Verified, DomainError>| match result {
        Err(DomainError::HeldOff { until: at }) => assert_eq!(at, until),
        other => panic!("{other:?}"),
    };
    held(world.verify(&ann, "example.com", TXT).await);
    assert!(matches!(world.add(&ann, "ann-site", "example.com/a").await, Err(DomainError::HeldOff { .. })));
    world.has(&bob, "bob-site", "example.com").await;
    world.remove(&bob, "example.com").await.unwrap();
    world.clock.advance(world.rules.hold_off);
    assert!(world.verify(&ann, "example.com", TXT).await.unwrap().is_active);
    assert!(matches!(world.add(&bob, "bob-site", "example.com").await, Err(DomainError::Taken)));
    world.expect_clean().await;
}

#[tokio::test]
async fn of_two_teams_that_prove_at_once_one_has_the_domain() {
    let world = Arc::new(World::new().await);
    for round in 0..20 {
        let name = format!("round-{round}.example");
        let mut teams = Vec::new();
        for number in 0..4 {
            let project = format!("site-{round}-{number}");
            let caller = world.team(&project).await;
            world.add(&caller, &project, &name).await.unwrap();
            teams.push(caller);
        }
        let proofs = teams.into_iter().map(|caller| {
            let (world, name) = (Arc::clone(&world), name.clone());
            tokio::spawn(async move { world.verify(&caller, &name, TXT).await.is_ok() })
        });
        let mut winners = 0;
        for proof in proofs.collect::<Vec<_>>() {
            winners += usize::from(proof.await.unwrap());
        }
        assert_eq!(winners, 1, "{name}");
    }
    world.expect_clean().await;
}

#[tokio::test]
async fn a_domain_that_is_not_proven_any_more_is_shown_for_a_while() {
    let mut world = World::new().await;
    let (ann, bob) = (world.team("ann-site").await, world.team("bob-site").await);
    world.has(&ann, "ann-site", "example.com").await;
    assert!(world.recheck(NOTHING).await.is_empty(), "it was proven a moment ago");
    world.clock.advance(DAY * 2);
    assert_eq!(world.recheck(TXT).await, [Checked::Holds]);
    assert!(world.recheck(NOTHING).await.is_empty());
    world.clock.advance(DAY * 2);
    let silent = Evidence { txt: Found::NoAnswer, ..NOTHING };
    assert_eq!(world.recheck(silent).await, [Checked::Unknown]);
    world.clock.advance(DAY * 30);
    assert_eq!(world.recheck(silent).await, [Checked::Unknown], "nobody's silence ends it");
    world.clock.advance(DAY);
    assert_eq!(world.recheck(NOTHING).await, [Checked::Failing]);
    let listed = world.engine.domains(&ann, None, &world.rules).await.unwrap();
    assert_eq!(listed[0].ends_at, Some(world.clock.now().plus(world.rules.grace)));
    world.clock.advance(DAY * 6);
    assert_eq!(world.recheck(NOTHING).await, [Checked::Failing]);
    // It is not over until it is.
    world.clock.advance(DAY / 2);
    assert_eq!(world.recheck(TXT).await, [Checked::Holds]);
    assert_eq!(world.engine.domains(&ann, None, &world.rules).await.unwrap()[0].ends_at, None);
    world.clock.advance(DAY * 2);
    assert_eq!(world.recheck(NOTHING).await, [Checked::Failing]);
    world.restart().await;
    world.clock.advance(world.rules.grace);
    assert_eq!(world.shown("example.com"), ["/"]);
    assert_eq!(world.recheck(NOTHING).await, [Checked::Ended]);
    assert!(world.shown("example.com").is_empty());
    assert!(world.recheck(NOTHING).await.is_empty());
    let listed = world.engine.domains(&ann, None, &world.rules).await.unwrap();
    assert!(!listed[0].is_active, "the claim stays: {listed:?}");
    let actions = world.actions(&ann).await;
    assert_eq!(actions, ["add", "verify", "fail", "fail", "end"].map(|action| format!("domain.{action}")));
    // Whoever the domain belongs to now need not wait.
    world.has(&bob, "bob-site", "example.com").await;
    world.expect_clean().await;
}

#[tokio::test]
async fn what_is_the_servers_own_is_nobodys_domain() {
    let world = World::new().await;
    let ann = world.team("ann-site").await;
    world.team("bob-site").await;
    for name in [
        "api.pages.test",
        "ann-site-beta.pages.test",
        "bob-site.pages.test",
        "bob-site--pr-7.pages.test",
        "free-name.pages.test",
        "a.b.pages.test",
        "ann-site.pages.test/docs",
        "pages.test",
    ] {
        assert!(matches!(world.add(&ann, "ann-site", name).await, Err(DomainError::Reserved)), "{name}");
        assert!(matches!(world.remove(&ann, name).await, Err(DomainError::Reserved)), "{name}");
    }
    assert!(matches!(world.add(&ann, "ann-site", "ann-site.pages.test").await, Err(DomainError::Exists)));
    assert!(matches!(world.add(&ann, "bob-site", "example.com").await, Err(DomainError::ProjectNotFound)));
}

#[tokio::test]
async fn look_alikes_are_told() {
    use NameWarning::{LooksLikeAnother, LooksLikeTheServer, MixedScripts};
    let world = World::new().await;
    let (ann, bob) = (world.team("ann-site").await, world.team("bob-site").await);
    let warnings = async |name| world.add_with(&bob, "bob-site", name, None).await.unwrap().1;
    assert_eq!(warnings("modern.example").await, []);
    world.add(&ann, "ann-site", "rnodern-art.example").await.unwrap();
    assert_eq!(warnings("modern-art.example").await, [], "what is only claimed says nothing");
    world.verify(&ann, "rnodern-art.example", TXT).await.unwrap();
    assert_eq!(warnings("modern-art.example/docs").await, [LooksLikeAnother]);
    assert_eq!(warnings("p\u{430}ges.test").await, [MixedScripts, LooksLikeTheServer]);
    world.remove(&ann, "rnodern-art.example").await.unwrap();
    assert_eq!(warnings("modern-art.example/more").await, []);
}

#[tokio::test]
async fn visitors_are_sent_to_the_name_with_or_without_www_only() {
    let world = World::new().await;
    let ann = world.team("ann-site").await;
    for target in ["other.example", "www.a.example.com", "example.com"] {
        let refused = world.add_with(&ann, "ann-site", "example.com", Some(target)).await;
        assert!(matches!(refused, Err(DomainError::Redirect)), "{target}");
    }
    world.add_with(&ann, "ann-site", "www.example.com", Some("example.com")).await.unwrap();
    let back = world.add_with(&ann, "ann-site", "example.com", Some("www.example.com")).await;
    assert!(matches!(back, Err(DomainError::Redirect)));
    world.has(&ann, "ann-site", "example.com").await;
    world.verify(&ann, "www.example.com", TXT).await.unwrap();
    let sent = |world: &World, domain: &str| {
        let shown = world.engine.resolver().pointers().domain(domain).unwrap();
        shown.redirect_to.as_ref().map(|domain| domain.as_str().to_owned())
    };
    assert_eq!(sent(&world, "www.example.com").as_deref(), Some("example.com"));
    // The other way round: the first has to stop before the second begins.
    let change = async |name, target: Option<&str>| {
        let redirect_to = Some(target.map(|name| name.parse().unwrap()));
        let change = DomainChange { redirect_to, environment: None };
        world.engine.change_domain(&ann, &selector(name), &change, &world.rules).await
    };
    assert!(matches!(change("example.com", Some("www.example.com")).await, Err(DomainError::Redirect)));
    assert_eq!(change("www.example.com", None).await.unwrap().redirect_to, None);
    assert_eq!(sent(&world, "www.example.com"), None);
    assert!(change("example.com", Some("www.example.com")).await.unwrap().is_active);
    assert_eq!(sent(&world, "example.com").as_deref(), Some("www.example.com"));
    world.expect_clean().await;
}

#[tokio::test]
async fn what_a_prefix_shows_can_be_changed() {
    let world = World::new().await;
    let (ann, bob) = (world.team("ann-site").await, world.team("bob-site").await);
    world.has(&ann, "ann-site", "example.com").await;
    world.add(&ann, "ann-site", "example.com/docs").await.unwrap();
    let change = DomainChange { environment: Some(EnvironmentName::beta()), redirect_to: None };
    let change = async |caller, name| world.engine.change_domain(caller, &selector(name), &change, &world.rules).await;
    assert!(matches!(change(&ann, "example.com").await, Err(DomainError::Ambiguous)));
    assert!(matches!(change(&ann, "example.com/none").await, Err(DomainError::NotFound)));
    assert!(matches!(change(&bob, "example.com/docs").await, Err(DomainError::NotFound)));
    for _ in 0..2 {
        assert_eq!(change(&ann, "example.com/docs").await.unwrap().environment, EnvironmentName::beta());
    }
    let shown = world.engine.resolver().pointers().domain("example.com").unwrap();
    let shown: Vec<_> = shown.routes.iter().map(|route| route.environment.as_str()).collect();
    assert_eq!(shown, ["prod", "beta"]);
    let actions = ["add", "verify", "add", "change"].map(|action| format!("domain.{action}"));
    assert_eq!(world.actions(&ann).await, actions);
    world.expect_clean().await;
}

#[tokio::test]
async fn a_team_has_so_many_domains_and_a_domain_so_many_prefixes() {
    let mut world = World::new().await;
    world.rules.per_team = 3;
    let ann = world.team("ann-site").await;
    for number in 0..3 {
        world.add(&ann, "ann-site", &format!("a{number}.example")).await.unwrap();
    }
    assert!(matches!(world.add(&ann, "ann-site", "a3.example").await, Err(DomainError::TooMany { domains: 3 })));
    // With the longest names there can be, all of them fit a record and an event.
    let name = format!("{}.{}.{}.example", "a".repeat(63), "b".repeat(63), "c".repeat(63));
    world.rules.per_team = 4;
    world.has(&ann, "ann-site", &name).await;
    for number in 1..50 {
        let prefix = format!("{number:02}{}", "\"".repeat(198));
        world.add(&ann, "ann-site", &format!("{name}/{prefix}")).await.unwrap();
    }
    assert!(matches!(world.add(&ann, "ann-site", &format!("{name}/more")).await, Err(DomainError::TooMany { .. })));
    assert_eq!(world.shown(&name).len(), 50);
    world.expect_clean().await;
}

#[tokio::test]
async fn a_project_that_is_gone_frees_its_domains() {
    let world = World::new().await;
    let rules = AccountRules::new(Registration::Open);
    let credentials = Credentials { email: "ann@example.test".to_owned(), password: "a long password".to_owned() };
    let signed = world.engine.register(None, &Origin::default(), &credentials, None, &rules).await.unwrap();
    let ann = world.engine.authenticate(&signed.secret).await.unwrap().unwrap();
    world.project(&ann, "ann-site").await;
    world.has(&ann, "ann-site", "example.com").await;
    world.add(&ann, "ann-site", "other.example").await.unwrap();
    world.engine.delete_account(&ann).await.unwrap();
    assert!(world.shown("example.com").is_empty());
    assert!(world.engine.domains(&ann, None, &world.rules).await.unwrap().is_empty());
    let bob = world.team("bob-site").await;
    world.has(&bob, "bob-site", "example.com").await;
    world.expect_clean().await;
}
