//! What Git knows of the folder that is published. Where Git or a repository is missing, nothing is said.

use std::path::Path;
use std::process::{Command, Stdio};

use pinstone_api::wire::Git;

/// The longest subject that is sent, in bytes.
const MAX_SUBJECT: usize = 512;

/// The commit that `folder` is checked out at, its branch and its subject.
pub(crate) fn facts(folder: &Path) -> Option<Git> {
    let last = run(folder, &["log", "-1", "--no-show-signature", "--format=%H%n%s"])?;
    let mut lines = last.lines();
    let commit = lines.next().filter(|commit| !commit.is_empty())?.to_owned();
    let subject = lines.next().map(|line| cut(line, MAX_SUBJECT).to_owned()).filter(|line| !line.is_empty());
    // Without a branch (`HEAD` is detached) there is no name to send.
    let branch = run(folder, &["symbolic-ref", "--quiet", "--short", "HEAD"])
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty());
    Some(Git { commit: Some(commit), branch, message: subject })
}

fn run(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        // Git runs what a repository's configuration names; a token is no business of that.
        .env_remove("PINSTONE_TOKEN")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The longest start of `text` that has at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_repository_has_no_facts() {
        assert_eq!(facts(tempfile::tempdir().unwrap().path()), None);
    }

    #[test]
    fn a_repository_tells_commit_branch_and_subject() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
            let mut command = Command::new("git");
            command.arg("-C").arg(folder.path()).args(identity).args(arguments).stdout(Stdio::null());
            command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        if !git(&["init", "--initial-branch=trunk"]) {
            return; // no Git on this machine
        }
        assert_eq!(facts(folder.path()), None, "no commit yet");
        assert!(git(&["commit", "--allow-empty", "-m", "first\n\nbody"]));
        let found = facts(folder.path()).unwrap();
        assert_eq!((found.branch.as_deref(), found.message.as_deref()), (Some("trunk"), Some("first")));
        assert_eq!(found.commit.unwrap().len(), 40);
    }

    #[test]
    fn subjects_are_cut_between_letters() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("", 3)), ("a", "aé", ""));
    }
}
