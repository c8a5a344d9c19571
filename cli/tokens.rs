//! `token create`, `token list` and `token revoke`: named tokens, for machines and colleagues.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use pinstone_api::wire::account::{NewToken, TokenItem, TokenRequest};
use serde_json::json;

use crate::client::all_pages;
use crate::context::{self, Context};
use crate::error::{CliError, Exit};
use crate::lifetime::{lifetime, seconds};
use crate::output::table;
use crate::retry::Patience;

/// Make, list and revoke tokens, such as for a build server
///
/// A token does what its scope says, for as long as it lasts: `read` looks, `deploy` publishes and releases too, `admin`
/// does everything. It can be for one project, and for one environment of it.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pinstone token create ci --project my-site                  publishes `my-site`, and does nothing else
  pinstone token create ci --project my-site --env prod --expires 90d
  pinstone token list                                         what there is, and when it was last used
  pinstone token revoke ci                                    ends it at once")]
pub(crate) enum Args {
    /// Make a token, and print it: no other command and no answer of the server shows it again
    Create(CreateArgs),
    /// List your tokens and logins: what each is for, and when it was last used
    List(ListArgs),
    /// End tokens at once
    Revoke(RevokeArgs),
}

/// The arguments of `token create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The token alone is on standard output, so that it can be piped to where it is kept:
  pinstone token create ci --project my-site | gh secret set PINSTONE_TOKEN
  pinstone token create dashboard --scope read --expires 30d > token.txt")]
pub(crate) struct CreateArgs {
    /// What it is called, such as what uses it
    name: String,
    /// What it may do; each includes those before it
    #[arg(long, value_name = "SCOPE", default_value = "deploy",
        value_parser = PossibleValuesParser::new(["read", "deploy", "admin"]))]
    scope: String,
    /// The only project that it reaches [default: every project of yours]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// The only environment of the project that it moves [default: every one]
    #[arg(long, value_name = "NAME", requires = "project")]
    env: Option<String>,
    /// How long it lasts, such as `90d` [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires: Option<Duration>,
}

/// The arguments of `token list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

/// The arguments of `token revoke`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone token revoke ci            by its name, if only one is called so
  pinstone token revoke tok_0f3c…     by its id")]
pub(crate) struct RevokeArgs {
    /// The tokens: names or ids
    #[arg(required = true, value_name = "TOKEN")]
    tokens: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    match args {
        Args::Create(args) => create(context, args).await,
        Args::List(args) => list(context, &args).await,
        Args::Revoke(args) => revoke(context, &args).await,
    }
}

async fn create(context: &Context, args: CreateArgs) -> Result<(), CliError> {
    let request = TokenRequest {
        name: args.name,
        scope: args.scope,
        project: args.project,
        environment: args.env.as_deref().map(context::parse_environment).transpose()?.map(|env| env.to_string()),
        expires_in: args.expires.map(seconds),
    };
    let made: NewToken = context.client(1)?.post(&["tokens"], &request, Patience::ONCE).await?;
    let (project, environment) = (made.project.as_deref(), made.environment.as_deref());
    let until = made.expires_at.as_deref().map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {at}"));
    let (name, scope) = (&made.name, &made.scope);
    context.out.note(format!("made the token `{name}`: `{scope}`, {}, {until}", reaches(project, environment)));
    context.out.note("it is not shown again; keep it where only its user reads it, such as in `PINSTONE_TOKEN`");
    context.out.note(format!("for example: {}", without_secret(&made.curl, &made.token)));
    context.out.line(&made.token)?;
    context.out.object(&made)
}

/// A command that uses a token, with a variable in its place.
fn without_secret(curl: &str, secret: &str) -> String {
    curl.replace(&format!("'Authorization: Bearer {secret}'"), "\"Authorization: Bearer $PINSTONE_TOKEN\"")
        .replace(secret, "$PINSTONE_TOKEN")
}

async fn list(context: &Context, _args: &ListArgs) -> Result<(), CliError> {
    let items: Vec<TokenItem> = all_pages(&context.client(1)?, &["tokens"], &[], usize::MAX).await?;
    let row = |item: &TokenItem| {
        let dated = |what: &str, at: &Option<String>| at.as_ref().map(|at| format!("{what} {at}"));
        vec![
            item.id.clone(),
            item.name.clone(),
            item.scope.clone(),
            reaches(item.project.as_deref(), item.environment.as_deref()),
            dated("used", &item.last_used_at).unwrap_or_else(|| "never used".to_owned()),
            dated("until", &item.expires_at).unwrap_or_default(),
            match (item.current, item.session) {
                (true, _) => "this one".to_owned(),
                (false, true) => "login".to_owned(),
                (false, false) => String::new(),
            },
        ]
    };
    for line in table(&items.iter().map(row).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    if items.is_empty() {
        context.out.note("no tokens; `pinstone token create NAME` makes one");
    }
    context.out.object(&json!({ "items": items }))
}

async fn revoke(context: &Context, args: &RevokeArgs) -> Result<(), CliError> {
    let client = context.client(1)?;
    let items: Vec<TokenItem> = all_pages(&client, &["tokens"], &[], usize::MAX).await?;
    // All are found before one is ended, so that a typing error ends none.
    let ids: Vec<&str> = args.tokens.iter().map(|typed| token_called(typed, &items)).collect::<Result<_, _>>()?;
    for (id, typed) in ids.iter().zip(&args.tokens) {
        client.delete(&["tokens", id]).await?;
        context.out.note(format!("`{typed}` is revoked"));
    }
    context.out.object(&json!({ "revoked": ids }))
}

/// The id of the token that is called `typed`.
fn token_called<'i>(typed: &str, items: &'i [TokenItem]) -> Result<&'i str, CliError> {
    if let Some(item) = items.iter().find(|item| item.id == typed) {
        return Ok(&item.id);
    }
    // Logins are all called alike, so they go by id.
    let named: Vec<_> = items.iter().filter(|item| item.name == typed && !item.session).collect();
    match &*named {
        [one] => Ok(&one.id),
        [] => Err(CliError::new(Exit::Failed, "token_not_found", format!("`{typed}`: there is no such token"))
            .hint("`pinstone token list` lists those that there are")),
        [one, other, ..] => Err(CliError::usage(format!(
            "several tokens are called `{typed}`, such as `{}` and `{}`",
            one.id, other.id
        ))
        .hint("give the id; `pinstone token list` says when each was last used")),
    }
}

/// What a token reaches, in words.
fn reaches(project: Option<&str>, environment: Option<&str>) -> String {
    match (project, environment) {
        (None, _) => "every project".to_owned(),
        (Some(project), None) => project.to_owned(),
        (Some(project), Some(environment)) => format!("{project}, {environment}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, name: &str, session: bool) -> TokenItem {
        TokenItem {
            id: id.to_owned(),
            name: name.to_owned(),
            scope: "deploy".to_owned(),
            project: None,
            environment: None,
            created_at: String::new(),
            expires_at: None,
            last_used_at: None,
            session,
            current: false,
        }
    }

    #[test]
    fn tokens_go_by_name_or_id() {
        let items = [
            item("tok_1", "ci", false),
            item("tok_2", "twice", false),
            item("tok_3", "twice", false),
            item("tok_4", "login", true),
            item("tok_5", "tok_1", false),
        ];
        for (typed, want) in [
            ("ci", Ok("tok_1")),
            ("tok_1", Ok("tok_1")),
            ("tok_3", Ok("tok_3")),
            ("tok_4", Ok("tok_4")),
            ("login", Err(Exit::Failed)),
            ("twice", Err(Exit::Usage)),
            ("none", Err(Exit::Failed)),
        ] {
            assert_eq!(token_called(typed, &items).map_err(|error| error.exit), want, "{typed}");
        }
    }

    #[test]
    fn an_example_has_no_secret() {
        let curl = "curl -T a.tar.gz -H 'Authorization: Bearer pin_1' 'http://a/api/v1/deploy/x?environment=beta'";
        let want = "curl -T a.tar.gz -H \"Authorization: Bearer $PINSTONE_TOKEN\" \
                    'http://a/api/v1/deploy/x?environment=beta'";
        assert_eq!(without_secret(curl, "pin_1"), want);
        assert_eq!(without_secret("x pin_1", "pin_1"), "x $PINSTONE_TOKEN");
    }
}
