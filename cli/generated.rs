//! `completions` and `man`: what is made of the description of the commands.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::context::Context;
use crate::error::{CliError, plain};
use crate::output;

/// Print what lets a shell complete commands and flags
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone completions bash > ~/.local/share/bash-completion/completions/pinstone
  pinstone completions zsh > ~/.zfunc/_pinstone         with ~/.zfunc in fpath
  pinstone completions fish > ~/.config/fish/completions/pinstone.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write the manual: a page for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  pinstone man ~/.local/share/man/man1 && man pinstone-deploy")]
pub(crate) struct ManArgs {
    /// The folder to write to; it is made where it is not there
    dir: PathBuf,
}

/// Runs `completions`.
pub(crate) fn completions<C: CommandFactory>(context: &Context, args: &CompletionsArgs) -> Result<(), CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "pinstone", &mut text);
    let script = String::from_utf8_lossy(&text).into_owned();
    if context.out.json {
        return context.out.object(&json!({ "shell": args.shell.to_string(), "script": script }));
    }
    context.out.raw(script.trim_end())
}

/// Runs `man`.
pub(crate) fn man<C: CommandFactory>(context: &Context, args: &ManArgs) -> Result<(), CliError> {
    let failed = |error: std::io::Error| {
        CliError::failed(format!("cannot write to `{}`: {}", args.dir.display(), plain(&error)))
    };
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let command = C::command().disable_help_subcommand(true);
    let mut files = pages(&command).map_err(failed)?;
    files.sort();
    for (name, page) in &files {
        std::fs::write(args.dir.join(name), page).map_err(failed)?;
    }
    context.out.note(format!("wrote {} to `{}`", output::count(files.len() as u64, "page"), args.dir.display()));
    let names: Vec<_> = files.into_iter().map(|(name, _)| name).collect();
    context.out.object(&json!({ "directory": args.dir, "files": names }))
}

/// A page for `command` and for each command in it, by the names of their files.
fn pages(command: &clap::Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.clone();
    command.build();
    let mut left = vec![command];
    let mut pages = Vec::new();
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned());
        let man = clap_mangen::Man::new(command);
        let mut page = Vec::new();
        man.render(&mut page)?;
        pages.push((man.get_filename(), page));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "pinstone")]
    struct Line {
        #[command(subcommand)]
        _inner: Inner,
    }

    #[derive(clap::Subcommand)]
    enum Inner {
        /// First of all
        One,
        #[command(subcommand)]
        Two(Two),
    }

    #[derive(clap::Subcommand)]
    enum Two {
        Three,
    }

    #[test]
    fn every_command_has_a_page() {
        let pages = pages(&Line::command().disable_help_subcommand(true)).unwrap();
        let mut names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["pinstone-one.1", "pinstone-two-three.1", "pinstone-two.1", "pinstone.1"]);
        assert!(pages.iter().all(|(_, page)| page.starts_with(b".ie") || page.starts_with(b".")));
    }
}
