//! `password`: another password.

use pinstone_api::wire::account::PasswordRequest;
use serde_json::json;

use crate::context::Context;
use crate::error::CliError;
use crate::output;
use crate::prompt;
use crate::retry::Patience;

/// Change your password, and end your logins elsewhere
///
/// Named tokens stay. The server's owner can set a new one without the current one, with the token in the server's data
/// folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone password                                asks for both
  pinstone password --password-stdin < both.txt    the current one, then the new one, a line each
  pinstone password --reset --endpoint http://localhost:8080
                                                   the owner's, beside the data folder")]
pub(crate) struct Args {
    /// Read both passwords from standard input: the current one, then the new one, a line each
    #[arg(long)]
    password_stdin: bool,
    /// Leave out the current password; takes the owner's token
    #[arg(long)]
    reset: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    if args.password_stdin && context.takes_stdin() {
        return Err(CliError::usage("the passwords and the token cannot both come from standard input")
            .hint("give the token by `PINSTONE_TOKEN`"));
    }
    let (current_password, new_password) = if args.password_stdin {
        let current = if args.reset { None } else { Some(prompt::first_line("current password").await?) };
        (current, prompt::first_line("new password").await?)
    } else if output::can_ask() {
        let current = if args.reset { None } else { Some(prompt::secret("current password").await?) };
        let new = prompt::secret("new password").await?;
        if prompt::secret("the new password again").await? != new {
            return Err(CliError::usage("the two passwords differ; nothing was changed"));
        }
        (current, new)
    } else {
        return Err(CliError::usage("nobody can be asked for the passwords").hint("pipe them in by `--password-stdin`"));
    };
    let request = PasswordRequest { current_password, new_password };
    context.client(1)?.post_and_forget(&["auth", "password"], &request, Patience::ONCE).await?;
    context.out.note("the password is changed, and your other logins are ended");
    context.out.object(&json!({ "changed": true }))
}
