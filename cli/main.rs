//! The binary `pinstone`: the only code that knows every crate.
//!
//! Each command is a module. What it prints and what it ends with is decided in [`output`] and [`error`], and pinned.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

mod admin;
mod archive;
mod audit;
mod batches;
mod client;
mod config;
mod context;
mod credentials;
mod deploy;
mod diff;
#[cfg(test)]
mod documented;
mod domains;
mod endpoint;
mod environments;
mod error;
mod forward;
mod generated;
mod git;
mod hashing;
mod images;
mod import;
mod init;
mod invites;
mod lifetime;
mod login;
mod monitor;
mod open;
mod output;
mod password;
mod pins;
mod preview;
mod progress;
mod project_file;
mod projects;
mod promote;
mod prompt;
mod releases;
mod retry;
mod rollback;
mod serve;
mod sitepod;
mod status;
mod tokens;
mod upload;
mod usage;
mod walk;

use context::{Context, Global};
use error::{CliError, Exit};
use output::Output;

/// For all of the process, RocksDB too. `.cargo/config.toml` says what it keeps of what was freed.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Content-addressed static hosting: publish a folder, serve it by its host name
#[derive(Debug, clap::Parser)]
#[command(
    name = "pinstone",
    version,
    arg_required_else_help = true,
    after_help = "\
Start:
  pinstone serve                             a server on this machine, http://localhost:8080
  pinstone login --endpoint URL              sign in to one elsewhere
  pinstone deploy public --project my-site   publish the folder `public`; prints its URL
  pinstone rollback --project my-site        show what was shown before

Ends with: 0 done, 1 failed, 2 wrong usage, 3 not allowed, 4 conflict,
5 unreachable or busy, 6 found by fsck or diff --exit-code, 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Init(init::Args),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Whoami(login::WhoamiArgs),
    Password(password::Args),
    Deploy(deploy::Args),
    Preview(preview::Args),
    Rollback(rollback::Args),
    Promote(promote::Args),
    Releases(releases::Args),
    Images(images::Args),
    Pin(pins::PinArgs),
    Unpin(pins::UnpinArgs),
    Diff(diff::Args),
    Status(status::Args),
    Open(open::Args),
    #[command(subcommand)]
    Env(environments::Args),
    #[command(subcommand)]
    Project(projects::Args),
    #[command(subcommand)]
    Domain(domains::Args),
    #[command(subcommand)]
    Token(tokens::Args),
    #[command(subcommand)]
    Invite(invites::Args),
    Audit(audit::Args),
    Usage(usage::Args),
    CheckConfig(Box<admin::CheckConfigArgs>),
    Fsck(admin::FsckArgs),
    #[command(subcommand)]
    Admin(admin::AdminArgs),
    Completions(generated::CompletionsArgs),
    Man(generated::ManArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let context = Context::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            context.out.error(&CliError::failed(format!("cannot start threads: {}", error::plain(&error))));
            return Exit::Failed.into();
        }
    };
    let result = runtime.block_on(run(&context, cli.command));
    // Work that a failure or an interrupt left behind, such as hashing, is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_reader_left() => ExitCode::SUCCESS,
        Err(error) => {
            context.out.error(&error);
            error.exit.into()
        }
    }
}

/// At least two, so that a call that computes keeps no other one waiting.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

async fn run(context: &Context, command: Command) -> Result<(), CliError> {
    // A server ends in its own way when it is interrupted; everything else ends at once.
    let command = match command {
        Command::Serve(args) => return Box::pin(serve::run(context.out, *args)).await,
        other => other,
    };
    tokio::select! {
        result = Box::pin(run_client(context, command)) => result,
        () = interrupted() => Err(CliError::new(Exit::Interrupted, "interrupted", "interrupted")),
    }
}

/// Waits for a signal that ends a process. What would end it at once would leave temporary files behind.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
    let one = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    let [interrupt, terminate] = kinds.map(one);
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

async fn run_client(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::run(context.out, *args).await,
        Command::Init(args) => init::run(context, args).await,
        Command::Login(args) => login::login(context, args).await,
        Command::Logout(args) => login::logout(context, args).await,
        Command::Whoami(args) => login::whoami(context, args).await,
        Command::Password(args) => password::run(context, args).await,
        Command::Deploy(args) => deploy::run(context, args).await,
        Command::Preview(args) => preview::run(context, args).await,
        Command::Rollback(args) => rollback::run(context, args).await,
        Command::Promote(args) => promote::run(context, args).await,
        Command::Releases(args) => releases::run(context, args).await,
        Command::Images(args) => images::run(context, args).await,
        Command::Pin(args) => pins::pin(context, args).await,
        Command::Unpin(args) => pins::unpin(context, args).await,
        Command::Diff(args) => diff::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Open(args) => open::run(context, args).await,
        Command::Env(args) => environments::run(context, args).await,
        Command::Project(args) => projects::run(context, args).await,
        Command::Domain(args) => domains::run(context, args).await,
        Command::Token(args) => tokens::run(context, args).await,
        Command::Invite(args) => invites::run(context, args).await,
        Command::Audit(args) => audit::run(context, args).await,
        Command::Usage(args) => usage::run(context, args).await,
        Command::Completions(args) => generated::completions::<Cli>(context, &args),
        Command::Man(args) => generated::man::<Cli>(context, &args),
        Command::CheckConfig(args) => admin::check_config(context, *args),
        Command::Fsck(args) => admin::check_data(context, args).await,
        Command::Admin(args) => admin::run(context, args).await,
    }
}

/// Tells what is wrong with the command line, or prints the help or version that it asks for.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Where standard output is closed, nobody wants the help any more.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if json {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let error = CliError::usage(message).hint("`pinstone --help` lists the commands and their arguments");
        Output { json, quiet: false }.error(&error);
    } else {
        let _ = error.print();
    }
    Exit::Usage.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_come_before_or_after_the_command() {
        for line in [
            &["pinstone", "--json", "status"][..],
            &["pinstone", "status", "--json"],
            &["pinstone", "env", "list", "--json", "--project", "x"],
        ] {
            assert!(Cli::try_parse_from(line).unwrap().global.json, "{line:?}");
        }
    }

    #[test]
    fn the_pinned_commands_are_there() {
        let image = format!("img_{}", "0".repeat(32));
        for line in [
            "serve --config a --data b --listen 127.0.0.1:0 [::1]:0 --base-domain x --public-url y --blobs s3://b --log-format json",
            "init",
            "init --project p --directory dir --env e --html auto --not-found spa --ignore *.map --ignore x --strict --yes",
            "login",
            "login --email a@b.test --password-stdin",
            "login --token-stdin",
            "login --register --email a@b.test --password-stdin --invite i",
            "logout",
            "logout --everywhere",
            "logout --forget",
            "whoami",
            "password --password-stdin",
            "password --reset",
            "invite create me@example.com --expires 7d",
            "invite list",
            "invite revoke inv_1",
            "deploy",
            "deploy dir --project p --env e --message m --dry-run --strict --follow-links --concurrency 4 --yes",
            "deploy --prod",
            "deploy -",
            "deploy site.tar.gz --strip-components 1",
            "preview",
            "preview dir --project p --slug s --expires 3d --message m",
            "preview list --project p",
            "preview delete s --project p",
            "pin prod#12 --project p --message m",
            &format!("pin {image}"),
            "unpin img_0f3c --project p",
            "project show --project p",
            "project show abc",
            "project set --project p --image-hosts off",
            "project list",
            "project create abc",
            "project rename abc def",
            "project delete abc --yes",
            "domain add www.example.com --project p --env e",
            "domain list --project p",
            "domain verify www.example.com",
            "domain remove www.example.com/docs --yes",
            "domain check www.example.com",
            "token create ci --scope deploy --project p --env e --expires 90d",
            "token list",
            "token revoke ci tok_1",
            "audit --from 7d --to 2026-01-01 --actor a --project p --limit 5",
            "usage --project p",
            "completions bash",
            "man dir",
            "rollback --project p --env e --to 3",
            &format!("rollback --to {image}"),
            "releases --project p --env e --limit 3",
            "images --project p --env e --limit 3",
            "status --project p --env e",
            "open --project p --env e --print",
            "promote beta prod --project p",
            "diff a b --project p",
            "diff",
            "diff dir --env e --all --exit-code --follow-links",
            "env list --project p",
            "env delete e --project p --yes",
            "check-config --data a --config b",
            "fsck --data a --config b --blobs s3://bucket",
            "admin rotate-owner-token --data a --config b",
            "admin import --data a --config b one two --env e --message m --follow-links",
            "admin import --data a --blobs s3://bucket one --project p",
            "admin import --data a --sites 100 --from one --prefix p- --distinct",
            "status --json --quiet --endpoint e --token t",
            "status --token-stdin",
        ] {
            let words = std::iter::once("pinstone").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }
}
