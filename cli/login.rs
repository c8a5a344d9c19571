//! `login`, `logout` and `whoami`: who this machine is to a server.
//!
//! A login is a token that the server ends after a while. It is saved for the endpoint that made it, and shown to nobody
//! else; neither it nor a password is ever printed.

use pinstone_api::wire::account::{LoginRequest, Me, RegisterRequest, SignedIn};
use serde_json::json;

use crate::client::Client;
use crate::context::{Context, variable};
use crate::credentials::{Credentials, Login};
use crate::endpoint::{Endpoint, TokenSource, is_local};
use crate::error::CliError;
use crate::output::{self, table};
use crate::prompt;
use crate::retry::Patience;

/// Sign in to a server, and save the login for the next commands
///
/// By email and password, or with a token that you have. The login is saved for this server alone, in
/// `pinstone/credentials.toml` of your configuration folder, which only you can read; commands that name no server go to
/// the one of the last login. `pinstone logout` ends it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone login --endpoint https://pinstone.example    asks for email and password
  pinstone login --email me@example.com --password-stdin < password.txt
  pinstone login --token-stdin < token.txt              saves a token, once the server takes it
  pinstone login --register --email me@example.com      makes an account first
  PINSTONE_TOKEN=$(cat pinstone-data/owner.token) pinstone login --register
                                                        makes the server's owner an account")]
pub(crate) struct LoginArgs {
    /// Who signs in [default: it is asked for]
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// Read the password from standard input, of which it is the first line [default: it is asked for, and not shown]
    #[arg(long)]
    password_stdin: bool,
    /// Make a new account; with the owner's token, the account of the server's owner
    #[arg(long)]
    register: bool,
    /// Make a new account with this invitation
    #[arg(long, value_name = "INVITATION")]
    invite: Option<String>,
}

/// End the saved login of a server, and forget it
///
/// What was saved is ended at the server too, so that nobody can use a copy of it. Other tokens stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone logout                 end the login of the server that commands go to
  pinstone logout --everywhere    end those of all your machines too
  pinstone logout --forget        only forget it here, such as a token that others use")]
pub(crate) struct LogoutArgs {
    /// End all your logins at the server, wherever they are; named tokens stay
    #[arg(long, conflicts_with = "forget")]
    everywhere: bool,
    /// Forget the login without ending it; the server is not asked
    #[arg(long)]
    forget: bool,
}

/// Show who you are to the server, and what your token is for
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone whoami                         user, scope, and where the token is from
  PINSTONE_TOKEN=$TOKEN pinstone whoami   what a token is for")]
pub(crate) struct WhoamiArgs {}

/// How somebody signs in.
#[derive(Debug, Eq, PartialEq)]
enum Way {
    Password,
    Register,
    Token,
}

/// Decides how somebody signs in, by what is given.
fn way(args: &LoginArgs, token: TokenSource, stdin_is_token: bool) -> Result<Way, CliError> {
    if args.password_stdin && stdin_is_token {
        return Err(CliError::usage("the password and the token cannot both come from standard input")
            .hint("give the token by `PINSTONE_TOKEN`"));
    }
    match (args.register || args.invite.is_some(), token == TokenSource::Flag) {
        (true, _) => Ok(Way::Register),
        (false, true) if args.email.is_some() || args.password_stdin => {
            Err(CliError::usage("a token needs no email and no password").hint("give either, not both"))
        }
        (false, true) => Ok(Way::Token),
        (false, false) => Ok(Way::Password),
    }
}

/// Runs `login`.
pub(crate) async fn login(context: &Context, args: LoginArgs) -> Result<(), CliError> {
    let endpoint = context.endpoint()?;
    match way(&args, endpoint.source, context.takes_stdin())? {
        Way::Token => keep_token(context, &endpoint).await,
        Way::Register => sign_in(context, &endpoint, args, true).await,
        Way::Password => sign_in(context, &endpoint, args, false).await,
    }
}

/// Saves a token that the server takes.
async fn keep_token(context: &Context, endpoint: &Endpoint) -> Result<(), CliError> {
    let me: Me = Client::new(endpoint, 1)?.get(&["me"], &[]).await?;
    let email = Some(me.user.email.clone()).filter(|email| !email.is_empty());
    let login = Login { token: endpoint.token.clone().unwrap_or_default(), email, expires_at: None };
    let saved = Credentials::open(&variable)?.save(&endpoint.url, &login)?;
    context.out.note(format!(
        "saved a token of {} with the scope `{}` for {}",
        called(&me),
        me.token.scope,
        endpoint.url
    ));
    told_saved(context, &saved);
    context.out.object(&json!({
        "endpoint": endpoint.url.as_str(), "user_id": me.user.user_id, "email": login.email, "created": false,
        "scope": me.token.scope, "expires_at": null, "saved": saved,
    }))
}

async fn sign_in(context: &Context, endpoint: &Endpoint, args: LoginArgs, registers: bool) -> Result<(), CliError> {
    if endpoint.url.scheme() == "http" && !is_local(&endpoint.url) {
        context.out.warn(format!("`{}` is not encrypted: others on the way can read the password", endpoint.url));
    }
    let can_ask = output::can_ask();
    let email = match args.email {
        Some(email) => email,
        None if can_ask && !args.password_stdin => prompt::line("email", None).await?,
        None => return Err(CliError::usage("nobody can be asked for the email").hint("give it by `--email`")),
    };
    let password = if args.password_stdin {
        prompt::first_line("password").await?
    } else if can_ask {
        let password = prompt::secret("password").await?;
        if registers && prompt::secret("the same password again").await? != password {
            return Err(CliError::usage("the two passwords differ; no account was made"));
        }
        password
    } else {
        return Err(CliError::usage("nobody can be asked for the password")
            .hint("pipe it in by `--password-stdin`, or a token by `--token-stdin`"));
    };
    // A token that is lying about has no part in signing in; one that was given says whose account is made.
    let is_given = matches!(endpoint.source, TokenSource::Flag | TokenSource::Variable);
    let token = endpoint.token.clone().filter(|_| registers && is_given);
    let client = Client::new(&Endpoint { token, ..endpoint.clone() }, 1)?;
    let signed_in: SignedIn = if registers {
        let request = RegisterRequest { email, password, invite: args.invite };
        client.post(&["auth", "register"], &request, Patience::ONCE).await?
    } else {
        let request = LoginRequest { email, password, action: Some("login".to_owned()) };
        client.post(&["auth", "login"], &request, Patience::ONCE).await?
    };
    let SignedIn { token, user_id, email, created, expires_at, .. } = signed_in;
    let login = Login { token, email: Some(email.clone()), expires_at: Some(expires_at.clone()) };
    let saved = match Credentials::open(&variable).and_then(|mut known| known.save(&endpoint.url, &login)) {
        Ok(saved) => saved,
        Err(error) => {
            // Nobody has the token now, so nobody is to be signed in by it.
            let made = Endpoint { token: Some(login.token), ..endpoint.clone() };
            let _ = Client::new(&made, 1)?.tell(&["auth", "logout"]).await;
            return Err(error);
        }
    };
    let what = if created { "made the account and signed in" } else { "signed in" };
    context.out.note(format!("{what} as {email} to {}, until {expires_at}", endpoint.url));
    told_saved(context, &saved);
    context.out.object(&json!({
        "endpoint": endpoint.url.as_str(), "user_id": user_id, "email": email, "created": created,
        "expires_at": expires_at, "saved": saved,
    }))
}

/// Says where a login is, and what goes before it.
fn told_saved(context: &Context, path: &std::path::Path) {
    context.out.note(format!("the login is saved in `{}`", path.display()));
    if variable("PINSTONE_TOKEN").is_some() {
        context.out.warn("`PINSTONE_TOKEN` is set, and is used instead of the saved login");
    }
}

/// Runs `logout`.
pub(crate) async fn logout(context: &Context, args: LogoutArgs) -> Result<(), CliError> {
    let endpoint = context.endpoint()?;
    let mut credentials = Credentials::open(&variable)?;
    let Some(login) = credentials.login(&endpoint.url) else {
        let message = format!("no login is saved for {}", endpoint.url);
        return Err(CliError::failed(message).hint("`--endpoint` names another server; `pinstone login` signs in"));
    };
    let mut ended = false;
    if !args.forget {
        // What is ended is what was saved, whatever token the variable or a flag has for other commands.
        let saved = Endpoint { token: Some(login.token), source: TokenSource::Saved, url: endpoint.url.clone() };
        let call: &[&str] = if args.everywhere { &["auth", "logout-everywhere"] } else { &["auth", "logout"] };
        match Client::new(&saved, 1)?.tell(call).await {
            Ok(()) => ended = true,
            // It is nobody's any more.
            Err(failure) if failure.status == Some(401) => ended = true,
            Err(failure) if failure.code == "owners_token" => {
                let how = "`pinstone admin rotate-owner-token` ends it";
                context.out.note(format!("the owner's token is forgotten here and goes on being valid; {how}"));
            }
            Err(failure) => {
                let error = CliError::from(failure);
                let hint = error.hint.clone().unwrap_or_default();
                return Err(
                    error.hint(format!("{hint}; `--forget` only forgets the login here").trim_start_matches("; "))
                );
            }
        }
    }
    credentials.forget(&endpoint.url)?;
    let what = if ended { "signed out of" } else { "forgot the login of" };
    context.out.note(format!("{what} {}", endpoint.url));
    if variable("PINSTONE_TOKEN").is_some() {
        context.out.warn("`PINSTONE_TOKEN` is set, and is used as before");
    }
    context.out.object(&json!({
        "endpoint": endpoint.url.as_str(), "ended": ended, "everywhere": args.everywhere, "forgotten": true,
    }))
}

/// Runs `whoami`.
pub(crate) async fn whoami(context: &Context, _args: WhoamiArgs) -> Result<(), CliError> {
    let endpoint = context.endpoint()?;
    if endpoint.token.is_none() {
        let error = CliError::new(crate::error::Exit::Denied, "unauthorized", "nobody is signed in");
        return Err(error.hint(format!("`pinstone login --endpoint {}` signs in", endpoint.url)));
    }
    let me: Me = Client::new(&endpoint, 1)?.get(&["me"], &[]).await?;
    let reaches = match (&me.token.project_id, &me.token.environment) {
        (None, _) => "every project".to_owned(),
        (Some(project), None) => format!("the project {project}"),
        (Some(project), Some(environment)) => format!("`{environment}` of the project {project}"),
    };
    let mut rows = vec![
        ["user", &*called(&me)].map(str::to_owned).to_vec(),
        ["server", endpoint.url.as_str()].map(str::to_owned).to_vec(),
        ["scope", &*format!("{}, {reaches}", me.token.scope)].map(str::to_owned).to_vec(),
        ["token from", endpoint.source.as_str()].map(str::to_owned).to_vec(),
    ];
    let saved = Credentials::open(&variable)?.login(&endpoint.url).filter(|_| endpoint.source == TokenSource::Saved);
    let until = saved.and_then(|login| login.expires_at);
    rows.extend(until.as_ref().map(|until| vec!["until".to_owned(), until.clone()]));
    for line in table(&rows) {
        context.out.line(line)?;
    }
    context.out.object(&json!({
        "endpoint": endpoint.url.as_str(), "user": me.user, "token": me.token, "token_from": endpoint.source.as_str(),
        "expires_at": until,
    }))
}

/// What people call a user.
fn called(me: &Me) -> String {
    let owner = if me.user.is_admin { ", the server's owner" } else { "" };
    let name = [&me.user.email, &me.user.name].into_iter().find(|name| !name.is_empty());
    format!("{}{owner}", name.map_or("a user without a name", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_somebody_signs_in() {
        let args = |email: Option<&str>, password_stdin, register, invite: Option<&str>| LoginArgs {
            email: email.map(str::to_owned),
            password_stdin,
            register,
            invite: invite.map(str::to_owned),
        };
        use TokenSource::{DataFolder, Flag, Nowhere, Variable};
        for (given, token, stdin_is_token, want) in [
            (args(None, false, false, None), Nowhere, false, Some(Way::Password)),
            (args(Some("a"), true, false, None), Nowhere, false, Some(Way::Password)),
            // What is lying about is not what is meant.
            (args(None, false, false, None), DataFolder, false, Some(Way::Password)),
            (args(None, false, false, None), Variable, false, Some(Way::Password)),
            (args(None, false, false, None), Flag, true, Some(Way::Token)),
            (args(None, false, false, None), Flag, false, Some(Way::Token)),
            (args(Some("a"), false, false, None), Flag, true, None),
            (args(None, true, false, None), Flag, true, None),
            (args(None, true, true, None), Flag, true, None),
            (args(None, true, true, None), Flag, false, Some(Way::Register)),
            (args(None, true, false, Some("inv")), Nowhere, false, Some(Way::Register)),
        ] {
            assert_eq!(way(&given, token, stdin_is_token).ok(), want, "{given:?} {token:?}");
        }
    }
}
