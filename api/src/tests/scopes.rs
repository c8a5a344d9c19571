//! Who may do what: every call with every kind of token, on what is the token's own and on what is not.

use http::StatusCode;
use pinstone_engine::Principal;
use pinstone_engine::domains::NewDomain;
use pinstone_engine::domains::name::PathPrefix;
use pinstone_engine::domains::proof::DomainRules;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::id::{TeamId, UserId};
use pinstone_engine::manifest::Settings;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::{CommitRequest, PreviewRequest, ReleaseRequest};
use serde_json::{Value, json};

use super::world::{TOKEN, World, hash};
use crate::access::Need;
use crate::routes::ROUTES;
use crate::wire::account::NewInvite;

/// What there is of a project: an image that `prod`, `beta`, `old` and the preview `pr-7` show, a plan that misses
/// a file, and one that misses nothing.
#[derive(Clone, Debug)]
struct Ids {
    project: &'static str,
    image: String,
    open: String,
    full: String,
}

/// The projects that a call can be about. The tokens that are limited are for the first.
const PROJECTS: [&str; 3] = ["mine", "other", "theirs"];

/// Each kind of token: its letter, its scope, whether it is for the project `mine` only, and for `beta` only.
const TOKENS: [(&str, &str, bool, bool); 12] = [
    ("r", "read", false, false),
    ("d", "deploy", false, false),
    ("a", "admin", false, false),
    ("r:p", "read", true, false),
    ("d:p", "deploy", true, false),
    ("a:p", "admin", true, false),
    ("r:e", "read", false, true),
    ("d:e", "deploy", false, true),
    ("a:e", "admin", false, true),
    ("r:pe", "read", true, true),
    ("d:pe", "deploy", true, true),
    ("a:pe", "admin", true, true),
];

/// A call, and what becomes of it with each kind of token, in the order of [`TOKENS`]: on a project of the token's or on
/// what has no project, on another project of the team, and on another team's. `+` it is done, `-` 403
/// `insufficient_scope`, `?` 404, `t` 403 `project_taken`, `x` refused for another reason.
struct Row {
    what: &'static str,
    /// Method and path. What is in braces is taken from [`Ids`].
    call: &'static str,
    body: Body,
    want: &'static [&'static str],
}

/// A body; what is in braces is taken from [`Ids`].
enum Body {
    Nothing,
    Json(&'static str),
    /// The file of the open plan.
    File,
    /// The same, as a batch.
    Batch,
    Archive,
}

/// Looking at a project.
const SEE: [&str; 3] = ["+++ +++ +++ +++", "+++ ??? +++ ???", "??? ??? ??? ???"];
/// Changing it without moving a pointer, or by moving `beta`.
const PUT: [&str; 3] = ["-++ -++ -++ -++", "-++ -?? -++ -??", "-?? -?? -?? -??"];
/// Moving another pointer than `beta`.
const MOVE: [&str; 3] = ["-++ -++ --- ---", "-++ -?? --- -??", "-?? -?? -?? -??"];
/// Making it, where a name is claimed before it is looked at.
const NAME: [&str; 3] = ["-++ -++ -++ -++", "-++ --- -++ ---", "-tt --- -tt ---"];
/// Making a project of a name that nobody has.
const MAKE: [&str; 1] = ["-++ --- -++ ---"];
/// Ending what is of `beta` only.
const END_BETA: [&str; 3] = ["--+ --+ --+ --+", "--+ --? --+ --?", "--? --? --? --?"];
/// Managing it as a whole.
const MANAGE: [&str; 3] = ["--+ --+ --- ---", "--+ --? --- ---", "--? --? --- ---"];
/// Managing the account.
const ACCOUNT: [&str; 1] = ["--+ --- --- ---"];
/// Looking at oneself.
const CALLER: [&str; 1] = ["+++ +++ +++ +++"];
/// What the owner cannot do, or not without more.
const REFUSED: [&str; 1] = ["--x --- --- ---"];
/// Looking at a project that need not be there.
const COMPARE: [&str; 3] = ["+++ +++ +++ +++", "+++ ??? +++ ???", "ttt ??? ttt ???"];
/// Making a project, and moving another pointer than `beta`.
const DEPLOY_PROD: [&str; 3] = ["-++ -++ --- ---", "-++ --- --- ---", "-tt --- --- ---"];
/// Managing a project, and moving another pointer than `beta`.
const END: [&str; 3] = ["--+ --+ --- ---", "--+ --? --- --?", "--? --? --? --?"];
/// Managing the account, where that is about a project.
const ABOUT: [&str; 3] = ["--+ --- --- ---", "--+ --- --- ---", "--? --- --- ---"];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { what: "look at an environment", want: &SEE, call: "GET /current?project={project}&environment=prod",
        body: Body::Nothing },
    Row { what: "look at images by commit", want: &SEE, call: "GET /history?project={project}", body: Body::Nothing },
    Row { what: "look at releases", want: &SEE, call: "GET /releases?project={project}", body: Body::Nothing },
    Row { what: "look at images", want: &SEE, call: "GET /images?project={project}", body: Body::Nothing },
    Row { what: "look at an image", want: &SEE, call: "GET /images/{image}?project={project}", body: Body::Nothing },
    Row { what: "look at files", want: &SEE, call: "GET /images/{image}/files?project={project}", body: Body::Nothing },
    Row { what: "look at environments", want: &SEE, call: "GET /environments?project={project}", body: Body::Nothing },
    Row { what: "look at previews", want: &SEE, call: "GET /previews?project={project}", body: Body::Nothing },
    Row { what: "look at a project", want: &SEE, call: "GET /projects/{project}", body: Body::Nothing },
    Row { what: "look at projects", want: &CALLER, call: "GET /projects", body: Body::Nothing },
    Row { what: "look at usage", want: &CALLER, call: "GET /usage", body: Body::Nothing },
    Row { what: "look at a project's usage", want: &SEE, call: "GET /usage?project={project}", body: Body::Nothing },
    Row { what: "check a name", want: &CALLER, call: "GET /subdomain/check?subdomain=free", body: Body::Nothing },
    Row { what: "make a project", want: &MAKE, call: "POST /projects", body: Body::Json(r#"{"name": "brand-new"}"#) },
    Row { what: "rename a project", want: &MANAGE, call: "PATCH /projects/{project}", body: Body::Json(r#"{"name": "new-name"}"#) },
    Row { what: "rename a subdomain", want: &MANAGE, call: "PUT /domains/rename?project={project}",
        body: Body::Json(r#"{"new_subdomain": "new-name"}"#) },
    Row { what: "delete a project", want: &MANAGE, call: "DELETE /projects/{project}", body: Body::Nothing },
    Row { what: "look at a plan", want: &SEE, call: "GET /plans/{open}", body: Body::Nothing },
    Row { what: "compare images", want: &SEE, call: "GET /diff?project={project}&from=prod&to=beta", body: Body::Nothing },
    Row { what: "compare files", want: &COMPARE, call: "POST /diff",
        body: Body::Json(r#"{"project": "{project}", "files": {"a": "{hash}"}, "from": "prod"}"#) },
    Row { what: "plan", want: &NAME, call: "POST /plan",
        body: Body::Json(r#"{"project": "{project}", "files": {"a": "{hash}"}}"#) },
    Row { what: "give a plan up", want: &PUT, call: "DELETE /plans/{open}", body: Body::Nothing },
    Row { what: "upload by POST", want: &PUT, call: "POST /upload/{open}/{hash}", body: Body::File },
    Row { what: "upload by PUT", want: &PUT, call: "PUT /upload/{open}/{hash}", body: Body::File },
    Row { what: "upload a batch", want: &PUT, call: "POST /upload/{open}", body: Body::Batch },
    Row { what: "commit", want: &PUT, call: "POST /commit", body: Body::Json(r#"{"plan_id": "{full}"}"#) },
    Row { what: "release to beta", want: &PUT, call: "POST /release",
        body: Body::Json(r#"{"project": "{project}", "environment": "beta", "image_id": "{image}"}"#) },
    Row { what: "release to prod", want: &MOVE, call: "POST /release",
        body: Body::Json(r#"{"project": "{project}", "environment": "prod", "image_id": "{image}"}"#) },
    Row { what: "roll beta back", want: &PUT, call: "POST /rollback",
        body: Body::Json(r#"{"project": "{project}", "environment": "beta", "image_id": "{image}"}"#) },
    Row { what: "roll prod back", want: &MOVE, call: "POST /rollback",
        body: Body::Json(r#"{"project": "{project}", "environment": "prod", "image_id": "{image}"}"#) },
    Row { what: "renew a preview", want: &MOVE, call: "POST /preview",
        body: Body::Json(r#"{"project": "{project}", "image_id": "{image}", "slug": "pr-7"}"#) },
    Row { what: "make a preview", want: &MOVE, call: "POST /preview",
        body: Body::Json(r#"{"project": "{project}", "image_id": "{image}"}"#) },
    Row { what: "delete a preview", want: &MOVE, call: "DELETE /previews/{project}/pr-7", body: Body::Nothing },
    Row { what: "pin", want: &PUT, call: "PUT /images/{image}/pin?project={project}", body: Body::Nothing },
    Row { what: "unpin", want: &PUT, call: "DELETE /images/{image}/pin?project={project}", body: Body::Nothing },
    Row { what: "deploy to beta by PUT", want: &NAME, call: "PUT /deploy/{project}?environment=beta", body: Body::Archive },
    Row { what: "deploy to beta by POST", want: &NAME, call: "POST /deploy/{project}", body: Body::Archive },
    Row { what: "deploy to prod", want: &DEPLOY_PROD, call: "PUT /deploy/{project}?environment=prod", body: Body::Archive },
    Row { what: "set a project", want: &MANAGE, call: "PATCH /projects/{project}", body: Body::Json(r#"{"image_hosts": "off"}"#) },
    Row { what: "look at domains", want: &SEE, call: "GET /domains?project={project}", body: Body::Nothing },
    Row { what: "add a domain", want: &MANAGE, call: "POST /domains",
        body: Body::Json(r#"{"project": "{project}", "domain": "more.example"}"#) },
    Row { what: "prove a domain", want: &MANAGE, call: "POST /domains/{project}.example/verify", body: Body::Nothing },
    Row { what: "change a domain", want: &MANAGE, call: "PATCH /domains/{project}.example",
        body: Body::Json(r#"{"environment": "beta"}"#) },
    Row { what: "remove a domain", want: &MANAGE, call: "DELETE /domains/{project}.example", body: Body::Nothing },
    Row { what: "delete beta", want: &END_BETA, call: "DELETE /environments/{project}/beta", body: Body::Nothing },
    Row { what: "delete another environment", want: &END, call: "DELETE /environments/{project}/old", body: Body::Nothing },
    Row { what: "look at a project's audit log", want: &ABOUT, call: "GET /audit?project={project}", body: Body::Nothing },
    Row { what: "make a token for a project", want: &ABOUT, call: "POST /tokens",
        body: Body::Json(r#"{"name": "ci", "scope": "read", "project": "{project}"}"#) },
    Row { what: "make a token", want: &ACCOUNT, call: "POST /tokens", body: Body::Json(r#"{"name": "ci", "scope": "admin"}"#) },
    Row { what: "look at tokens", want: &ACCOUNT, call: "GET /tokens", body: Body::Nothing },
    Row { what: "revoke a token", want: &ACCOUNT, call: "DELETE /tokens/{token}", body: Body::Nothing },
    Row { what: "look at the audit log", want: &ACCOUNT, call: "GET /audit", body: Body::Nothing },
    Row { what: "change the password", want: &REFUSED, call: "POST /auth/password",
        body: Body::Json(r#"{"new_password": "a new password"}"#) },
    Row { what: "sign out everywhere", want: &ACCOUNT, call: "POST /auth/logout-everywhere", body: Body::Nothing },
    Row { what: "delete the account", want: &REFUSED, call: "DELETE /account", body: Body::Nothing },
    Row { what: "invite", want: &ACCOUNT, call: "POST /invites", body: Body::Nothing },
    Row { what: "look at invitations", want: &ACCOUNT, call: "GET /invites", body: Body::Nothing },
    Row { what: "take an invitation back", want: &ACCOUNT, call: "DELETE /invites/{invite}", body: Body::Nothing },
    Row { what: "look at oneself", want: &CALLER, call: "GET /me", body: Body::Nothing },
    Row { what: "look at oneself in short", want: &CALLER, call: "GET /auth/info", body: Body::Nothing },
    Row { what: "sign out", want: &CALLER, call: "POST /auth/logout", body: Body::Nothing },
];

/// A plan of a file for a project that is uploaded where that is wanted.
async fn planned(world: &World, caller: &Principal, project: &str, text: &str, is_uploaded: bool) -> String {
    let blob = BlobHash::of(text.as_bytes());
    let (path, size) = (SitePath::new("index.html").unwrap(), Some(text.len() as u64));
    let files = vec![PlannedFile { path, blob, size, content_type: None }];
    let settings = Settings::default();
    let plan = NewPlan { project: project.parse().unwrap(), files, git: None, message: None, settings };
    let id = world.engine.plan(caller, plan, None).await.unwrap().id;
    if is_uploaded {
        let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
        world.engine.upload(caller, id, blob, size, body).await.unwrap();
    }
    id.to_string()
}

async fn project(world: &World, caller: &Principal, project: &'static str) -> Ids {
    let plan = planned(world, caller, project, "shown", true).await.parse().unwrap();
    let commit = CommitRequest { plan, message: None, strict: false };
    let image = world.engine.commit(caller, commit, None).await.unwrap().image;
    for environment in ["prod", "beta", "old"] {
        let release = ReleaseRequest {
            project: project.parse().unwrap(),
            environment: environment.parse().unwrap(),
            image: Some(image),
            expected: None,
            message: None,
        };
        world.engine.release(caller, release, None).await.unwrap();
    }
    let preview = PreviewRequest {
        project: project.parse().unwrap(),
        image,
        slug: Some("pr-7".parse().unwrap()),
        lifetime: None,
        message: None,
    };
    world.engine.preview(caller, preview, None).await.unwrap();
    let domain = NewDomain {
        project: project.parse().unwrap(),
        domain: format!("{project}.example").parse().unwrap(),
        prefix: PathPrefix::default(),
        environment: "prod".parse().unwrap(),
        redirect_to: None,
    };
    let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
    world.engine.add_domain(caller, &domain, &hosts, &DomainRules::default(), None).await.unwrap();
    Ids {
        project,
        image: image.to_string(),
        // Its file is what the project is called, so that the calls know its bytes and hash.
        open: planned(world, caller, project, project, false).await,
        full: planned(world, caller, project, "shown", true).await,
    }
}

/// What becomes of one call, in a world of its own, so that none sees what another did.
async fn outcome(row: &Row, index: usize, token: (&str, &str, bool, bool)) -> char {
    let world = World::new().await;
    let (owner, stranger) =
        (world.engine.owner_principal(), Principal::new(UserId::random(), TeamId::random(), "stranger"));
    let mut ids = Vec::new();
    for name in PROJECTS {
        let caller = if name == "theirs" { &stranger } else { &owner };
        ids.push(project(&world, caller, name).await);
    }
    let (_, scope, is_for_mine, is_for_beta) = token;
    let (project, environment) = (is_for_mine.then_some("mine"), is_for_beta.then_some("beta"));
    let body = json!({ "name": "it", "scope": scope, "project": project, "environment": environment });
    let token = world.token_as(TOKEN, &body).await.token;
    let victim = world.token_as(TOKEN, &json!({ "name": "victim", "scope": "read" })).await.id;
    let invite = world.post("/invites", &json!({})).await.made::<NewInvite>().id;

    let Ids { project, image, open, full } = &ids[index];
    let filled = |text: &str| {
        let named = [
            ("project", *project),
            ("image", image),
            ("open", open),
            ("full", full),
            ("token", &victim),
            ("invite", &invite),
        ];
        let text =
            named.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
        text.replace("{hash}", &hash(project))
    };
    let (method, path) = row.call.split_once(' ').unwrap();
    let call = world.call_as(&token, method.parse().unwrap(), &filled(path));
    let file = project.as_bytes();
    let answer = match &row.body {
        Body::Nothing => call,
        Body::Json(body) => call.json(&filled(body)),
        Body::File => call.bytes(file),
        Body::Batch => {
            let length = u32::try_from(file.len()).unwrap().to_le_bytes();
            call.bytes(&[BlobHash::of(file).as_bytes(), &length[..], file].concat())
        }
        Body::Archive => call.bytes(&super::archives::tar(&[("a", "a")])),
    };
    let answer = answer.send().await;
    let error = if answer.status.is_success() { Value::Null } else { answer.json()["error"].clone() };
    match (answer.status, error.as_str()) {
        (status, None) if status.is_success() => '+',
        (StatusCode::FORBIDDEN, Some("insufficient_scope")) => '-',
        (StatusCode::FORBIDDEN, Some("project_taken")) => 't',
        (StatusCode::NOT_FOUND, Some(_)) => '?',
        // The owner's account and password have rules of their own.
        (StatusCode::FORBIDDEN, Some("owner_stays" | "wrong_password")) => 'x',
        _ => panic!("{}: {answer:?}", row.what),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_with_every_kind_of_token_on_what_is_its_own_and_what_is_not() {
    let mut wrong = Vec::new();
    println!("tokens: {:?}", TOKENS.map(|(name, ..)| name));
    for row in ROWS {
        let mut line = format!("{:<30}", row.what);
        for (index, want) in row.want.iter().enumerate() {
            let mut got = String::new();
            for (number, token) in TOKENS.into_iter().enumerate() {
                if number > 0 && number % 3 == 0 {
                    got.push(' ');
                }
                got.push(outcome(row, index, token).await);
            }
            line.push_str(&format!(" | {:<6} {got}", PROJECTS[index]));
            if got != *want {
                wrong.push(format!("{} on `{}`: {got} and not {want}", row.what, PROJECTS[index]));
            }
        }
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_call_is_missing_in_the_table() {
    // What is in braces in a call may be in braces in the route, and the rest is the same.
    let is_of = |call: &str, route: &str| {
        let (call, route): (Vec<_>, Vec<_>) = (call.split('/').collect(), route.split('/').collect());
        let same = |(call, route): (&&str, &&str)| call == route || route.starts_with('{') && !call.is_empty();
        call.len() == route.len() && call.iter().zip(&route).all(same)
    };
    for route in ROUTES {
        for (method, need) in route.methods {
            let is_tried = ROWS.iter().any(|row| {
                let (tried, path) = row.call.split_once(' ').unwrap();
                tried == *method && is_of(path.split('?').next().unwrap(), route.path)
            });
            assert_eq!(is_tried, matches!(need, Need::Token(..)), "{method} {}", route.path);
        }
    }
}

#[tokio::test]
async fn calls_that_need_no_token_take_none_and_look_at_none() {
    let world = World::new().await;
    for path in ["/health", "/config"] {
        assert_eq!(world.get_as("pin_wrong", path).await.status, StatusCode::OK);
    }
    let body = json!({ "email": "ann@example.test", "password": "wrong horse" });
    let login = world.post_as("pin_wrong", "/auth/login", &body).await;
    login.expect_error(StatusCode::UNAUTHORIZED, "wrong_credentials", &[]);
    let register = world.post_as("pin_wrong", "/auth/register", &body).await;
    register.expect_error(StatusCode::UNAUTHORIZED, "unauthorized", &[]);
}
