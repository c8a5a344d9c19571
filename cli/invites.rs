//! `invite …`: who may register at a server where that takes an invitation.

use std::time::Duration;

use pinstone_api::wire::account::{InviteItem, InviteRequest, NewInvite};
use serde_json::json;

use crate::client::all_pages;
use crate::context::Context;
use crate::error::{CliError, Exit};
use crate::lifetime::{lifetime, seconds};
use crate::output::table;
use crate::retry::Patience;

/// Invite people to register, as the server's owner
///
/// For servers where registering takes an invitation (`registration = "invite"`). Each makes one account.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pinstone invite create me@example.com            prints what only me@example.com can register with
  pinstone invite list
  pinstone invite revoke me@example.com
  pinstone login --register --invite INVITATION    what the invited does")]
pub(crate) enum Args {
    /// Make an invitation, and print it: nothing shows it again
    Create(CreateArgs),
    /// List the invitations that still hold
    List(ListArgs),
    /// Take an invitation back
    Revoke(RevokeArgs),
}

/// The arguments of `invite create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone invite create                                for anybody, for 7 days
  pinstone invite create me@example.com --expires 2d    for one")]
pub(crate) struct CreateArgs {
    /// The only email that can register with it [default: any]
    email: Option<String>,
    /// How long it holds [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires: Option<Duration>,
}

/// The arguments of `invite list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

/// The arguments of `invite revoke`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone invite revoke me@example.com")]
pub(crate) struct RevokeArgs {
    /// The invitation: its id, or the email that it is for
    invite: String,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    match args {
        Args::Create(args) => create(context, args).await,
        Args::List(args) => list(context, &args).await,
        Args::Revoke(args) => revoke(context, &args.invite).await,
    }
}

async fn create(context: &Context, args: CreateArgs) -> Result<(), CliError> {
    let request = InviteRequest { email: args.email, expires_in: args.expires.map(seconds) };
    let made: NewInvite = context.client(1)?.post(&["invites"], &request, Patience::ONCE).await?;
    let who = made.email.as_deref().unwrap_or("anybody");
    context.out.note(format!("made an invitation for {who}, until {}; it is not shown again", made.expires_at));
    context.out.line(&made.invite)?;
    context.out.object(&made)
}

async fn list(context: &Context, _args: &ListArgs) -> Result<(), CliError> {
    let items: Vec<InviteItem> = all_pages(&context.client(1)?, &["invites"], &[], usize::MAX).await?;
    let row = |item: &InviteItem| {
        let email = item.email.clone().unwrap_or_else(|| "anybody".to_owned());
        vec![item.id.clone(), email, format!("until {}", item.expires_at), format!("by {}", item.author)]
    };
    for line in table(&items.iter().map(row).collect::<Vec<_>>()) {
        context.out.line(line)?;
    }
    if items.is_empty() {
        context.out.note("no invitation holds; `pinstone invite create` makes one");
    }
    context.out.object(&json!({ "items": items }))
}

async fn revoke(context: &Context, typed: &str) -> Result<(), CliError> {
    let client = context.client(1)?;
    let items: Vec<InviteItem> = all_pages(&client, &["invites"], &[], usize::MAX).await?;
    let found: Vec<_> = items.iter().filter(|item| item.id == typed || item.email.as_deref() == Some(typed)).collect();
    if found.is_empty() {
        return Err(CliError::new(Exit::Failed, "invite_not_found", format!("`{typed}`: there is no such invitation"))
            .hint("`pinstone invite list` lists those that still hold"));
    }
    // Whoever is invited twice is not to come by the other one.
    for item in &found {
        client.delete(&["invites", &item.id]).await?;
    }
    context.out.note(format!("`{typed}` is not invited any more"));
    context.out.object(&json!({ "revoked": found.iter().map(|item| &item.id).collect::<Vec<_>>() }))
}
