//! `domain …`: domains of one's own that show a project.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::Failure;
use crate::context::{self, Context, ProjectArgs};
use crate::error::{CliError, Exit};
use crate::output::{self, table};
use crate::retry::Patience;

/// Show a project at a domain of your own
///
/// A domain shows nothing before you have proven that it is yours: `add` says what to put into its DNS, and `verify`
/// looks for it.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pinstone domain add www.example.com --project my-site    says what proves that it is yours
  pinstone domain verify www.example.com                   looks whether it is there
  pinstone domain add example.com/docs --project manual    only what is under /docs
  pinstone domain list --project my-site")]
pub(crate) enum Args {
    /// Add a domain, or a folder of one; prints what proves that it is yours
    Add(AddArgs),
    /// List the domains of a project, and what becomes of them
    List(ListArgs),
    /// Look for the proof that a domain is yours; then it shows the project
    ///
    /// Ends with 1 where the proof is not found. DNS takes a while to tell of what is new.
    Verify(VerifyArgs),
    /// Remove a domain: it shows nothing from then on
    Remove(RemoveArgs),
    /// Ask whether the server shows something at a host, as proxies ask that get certificates for it
    ///
    /// Ends with 1 where it does not. It needs no token.
    Check(CheckArgs),
}

/// The arguments of `domain add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone domain add www.example.com
  pinstone domain add stage.example.com --env stage
  pinstone domain add example.com/docs --project manual
  pinstone domain add example.com --redirect-to www.example.com")]
pub(crate) struct AddArgs {
    /// The domain; with a path, only what is under that
    #[arg(value_name = "DOMAIN[/PATH]")]
    domain: String,
    #[command(flatten)]
    project: ProjectArgs,
    /// The environment that it shows [default: prod]
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// Send its visitors to the same domain with or without `www.`, instead of showing anything
    #[arg(long, value_name = "DOMAIN")]
    redirect_to: Option<String>,
}

/// The arguments of `domain list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    project: ProjectArgs,
}

/// The arguments of `domain verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  until pinstone domain verify www.example.com; do sleep 60; done")]
pub(crate) struct VerifyArgs {
    /// The domain, as it was added
    #[arg(value_name = "DOMAIN[/PATH]")]
    domain: String,
}

/// The arguments of `domain remove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone domain remove www.example.com --yes    removes it without a question")]
pub(crate) struct RemoveArgs {
    /// The domain, as it was added
    #[arg(value_name = "DOMAIN[/PATH]")]
    domain: String,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    yes: bool,
}

/// The arguments of `domain check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone domain check www.example.com && echo served")]
pub(crate) struct CheckArgs {
    /// The host
    domain: String,
}

/// One domain, as far as it is shown here; the rest is passed on.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Domain {
    domain: String,
    #[serde(default)]
    slug: String,
    #[serde(default)]
    status: String,
    /// `system` or `custom`; only in lists.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    /// The record that proves that it is one's own, as a line; only where that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verification_txt: Option<String>,
    /// The address of a file that proves it too, by having the token in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verification_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verification_token: Option<String>,
    /// Where visitors are sent instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redirect_to: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Domain {
    /// The domain with the path, as it was added.
    fn called(&self) -> String {
        match self.slug.trim_matches('/') {
            "" => self.domain.clone(),
            path => format!("{}/{path}", self.domain),
        }
    }

    /// What its owner should know: texts, or objects with a `message`.
    fn warnings(&self) -> Vec<&str> {
        let told = self.rest.get("warnings").and_then(Value::as_array).into_iter().flatten();
        told.filter_map(|warning| warning.as_str().or_else(|| warning.get("message")?.as_str())).collect()
    }
}

#[derive(Debug, Deserialize)]
struct Domains {
    domains: Vec<Domain>,
}

/// What came of looking for a proof.
#[derive(Debug, Deserialize, Serialize)]
struct Verified {
    domain: String,
    #[serde(default)]
    verified: bool,
    #[serde(default)]
    message: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    match args {
        Args::Add(args) => add(context, &args).await,
        Args::List(args) => list(context, &args).await,
        Args::Verify(args) => verify(context, &args.domain).await,
        Args::Remove(args) => remove(context, &args).await,
        Args::Check(args) => check(context, &args.domain).await,
    }
}

/// A domain as it was typed: the name, and the path with a slash before it.
fn split(typed: &str) -> Result<(&str, String), CliError> {
    if typed.contains("://") {
        return Err(CliError::usage(format!("`{typed}` is an address, not a domain"))
            .hint("leave out the scheme, as in `www.example.com`"));
    }
    let (domain, path) = typed.split_once('/').unwrap_or((typed, ""));
    Ok((domain, format!("/{}", path.trim_matches('/'))))
}

async fn add(context: &Context, args: &AddArgs) -> Result<(), CliError> {
    let (domain, slug) = split(&args.domain)?;
    let environment = args.env.as_deref().map(context::parse_environment).transpose()?;
    let (project, _) = context::project_here(&args.project)?;
    let mut request = json!({ "project": project, "domain": domain, "slug": slug });
    if let Some(environment) = environment {
        request["environment"] = environment.as_str().into();
    }
    if let Some(target) = &args.redirect_to {
        request["redirect_to"] = target.as_str().into();
    }
    let added: Result<Domain, Failure> = context.client(1)?.post(&["domains"], &request, Patience::LONG).await;
    let added = added.map_err(|failure| failure.of(&args.domain))?;
    added.warnings().into_iter().for_each(|warning| context.out.warn(warning));
    let called = added.called();
    match &added.verification_txt {
        Some(record) if added.status != "active" => {
            context
                .out
                .note(format!("`{called}` is added to `{project}`, and shows it once it is proven to be yours:"));
            context.out.note(format!("put this record into its DNS, then run `pinstone domain verify {called}`"));
            context.out.line(record)?;
            if let (Some(file), Some(token)) = (&added.verification_file, &added.verification_token) {
                context.out.note(format!("or let `{file}` be answered with `{token}`"));
            }
        }
        _ => context.out.note(format!("`{called}` is added to `{project}`: {}", added.status)),
    }
    context.out.object(&added)
}

async fn list(context: &Context, args: &ListArgs) -> Result<(), CliError> {
    let (project, _) = context::project_here(&args.project)?;
    let Domains { domains } = context.client(1)?.get(&["domains"], &[("project", &project)]).await?;
    let row = |domain: &Domain| {
        vec![
            domain.called(),
            domain.status.clone(),
            match &domain.redirect_to {
                Some(target) => format!("to {target}"),
                None => domain.environment.clone().unwrap_or_default(),
            },
            domain.kind.clone().unwrap_or_default(),
            domain.created_at.clone().unwrap_or_default(),
        ]
    };
    for line in table(&domains.iter().map(row).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    for domain in domains.iter().filter(|domain| domain.status == "pending") {
        if let Some(record) = &domain.verification_txt {
            context.out.note(format!("`{}` is proven to be yours by this record: {record}", domain.called()));
        }
    }
    if domains.is_empty() {
        context.out.note(format!("`{project}` has no domains; `pinstone domain add` adds one"));
    }
    context.out.object(&json!({ "domains": domains }))
}

async fn verify(context: &Context, typed: &str) -> Result<(), CliError> {
    split(typed)?;
    let client = context.client(1)?;
    let verified: Result<Verified, Failure> = client.post_nothing(&["domains", typed, "verify"]).await;
    let verified = verified.map_err(|failure| failure.of(typed))?;
    if !verified.verified {
        let why = if verified.message.is_empty() { "the proof was not found" } else { &verified.message };
        let error = CliError::new(Exit::Failed, "not_verified", format!("`{typed}`: {why}"));
        return Err(
            error.hint("DNS takes a while to tell of what is new; `pinstone domain list` says what is to be there")
        );
    }
    context.out.note(format!("`{typed}` is yours"));
    context.out.object(&verified)
}

async fn remove(context: &Context, args: &RemoveArgs) -> Result<(), CliError> {
    let typed = &args.domain;
    split(typed)?;
    if !args.yes {
        if !output::can_ask() {
            let message = format!("removing `{typed}` has to be confirmed, and nobody can be asked");
            return Err(CliError::usage(message).hint("say `--yes` to remove it without a question"));
        }
        if !output::confirmed(format!("remove `{typed}`, so that it shows nothing?")).await {
            return Err(CliError::failed("not confirmed; nothing was removed"));
        }
    }
    context.client(1)?.delete(&["domains", typed]).await.map_err(|failure| failure.of(typed))?;
    context.out.note(format!("removed `{typed}`"));
    context.out.object(&json!({ "domain": typed, "removed": true }))
}

async fn check(context: &Context, typed: &str) -> Result<(), CliError> {
    let asked = context.client(1)?.ask(&["domains", "check"], &[("domain", typed)]).await;
    match asked {
        Ok(()) => {
            context.out.line(format!("`{typed}` is served"))?;
            context.out.object(&json!({ "domain": typed, "served": true }))
        }
        Err(failure) if failure.status == Some(404) => {
            let error =
                CliError::new(Exit::Failed, "domain_not_found", format!("`{typed}` shows nothing of this server"));
            Err(error.hint("`pinstone domain list` shows what is added, and whether it is proven"))
        }
        Err(failure) => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_may_have_a_path() {
        for (typed, want) in [
            ("www.example.com", Some(("www.example.com", "/"))),
            ("example.com/", Some(("example.com", "/"))),
            ("example.com/docs", Some(("example.com", "/docs"))),
            ("example.com/a/b/", Some(("example.com", "/a/b"))),
            ("https://example.com", None),
        ] {
            let split = split(typed).ok();
            assert_eq!(split.as_ref().map(|(domain, path)| (*domain, path.as_str())), want, "{typed}");
        }
    }

    #[test]
    fn what_a_server_adds_is_passed_on_and_what_it_lacks_is_not_missed() {
        let domain: Domain = serde_json::from_str(
            r#"{"domain":"a.test","slug":"/docs","warnings":["looks like b.test",{"message":"m"},1],"new":true}"#,
        )
        .unwrap();
        assert_eq!((domain.called().as_str(), domain.warnings()), ("a.test/docs", vec!["looks like b.test", "m"]));
        assert_eq!(serde_json::to_value(&domain).unwrap()["new"], true);
        let least: Domain = serde_json::from_str(r#"{"domain":"a.test"}"#).unwrap();
        assert_eq!(least.called(), "a.test");
    }
}
