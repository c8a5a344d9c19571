//! System calls of the real binary, listed and made to fail by `strace`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::done;

/// What happens at a call.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// It fails: the disk is broken.
    Broken,
    /// It fails: the disk is full.
    Full,
    /// The process is killed before it.
    Kill,
}

impl Fault {
    fn injection(self) -> &'static str {
        match self {
            Self::Broken => "error=EIO",
            Self::Full => "error=ENOSPC",
            Self::Kill => "signal=KILL",
        }
    }
}

/// Calls that make things durable.
pub(crate) const SYNCS: &[&str] = &["fsync", "fdatasync"];
/// Calls that write to a file.
pub(crate) const WRITES: &[&str] = &["write", "pwrite64"];
/// Calls that give a file its name.
pub(crate) const RENAMES: &[&str] = &["rename", "renameat", "renameat2", "link", "linkat"];

/// A call of one thread on one file: the `nth` of its kind, from 1.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Point {
    pub(crate) call: String,
    /// Below the data folder, which has an empty one.
    pub(crate) path: PathBuf,
    pub(crate) nth: usize,
}

impl Point {
    /// What it is a point of, without numbers and digests: one of the kinds of thing that a server does.
    pub(crate) fn kind(&self) -> String {
        let digest = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = self.path.to_string_lossy();
        let parts: Vec<String> = path
            .split('/')
            .map(|part| match part {
                _ if digest(part) => "NN".to_owned(),
                _ if part.len() >= 64 => "HASH".to_owned(),
                _ => part.chars().filter(|letter| !letter.is_ascii_digit()).collect(),
            })
            .collect();
        format!("{} {}", self.call, parts.join("/"))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of `{}`", self.call, self.nth, self.path.display())
    }
}

/// Whether calls can be made to fail here; where not, the reason.
pub(crate) fn probe() -> Result<(), String> {
    let mut trial = Command::new("strace");
    trial.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO", "true"]);
    done(&mut trial).map(drop)
}

/// The command line that lists all `calls` of what follows it to the file `log`.
pub(crate) fn listing(calls: &[&str], log: &Path) -> Vec<String> {
    let mut line = starter(log);
    // Stops at these calls only: a server makes thousands of others.
    line.extend(["--seccomp-bpf", "-y", "-s", "0", "-e"].map(str::to_owned));
    line.extend([format!("trace={}", calls.join(",")), "--".to_owned()]);
    line
}

/// The command line that lets `point` go wrong in what follows it, whose data folder is `data`.
pub(crate) fn injecting(point: &Point, fault: Fault, data: &Path, log: &Path) -> Vec<String> {
    let mut line = starter(log);
    if fault != Fault::Kill {
        // Where it stops at these calls only, strace sends no signals.
        line.push("--seccomp-bpf".to_owned());
    }
    let path = if point.path.as_os_str().is_empty() { data.to_owned() } else { data.join(&point.path) };
    line.extend(["-y".to_owned(), "-s".to_owned(), "0".to_owned(), "-P".to_owned(), path.display().to_string()]);
    line.extend(["-e".to_owned(), format!("trace={}", point.call)]);
    line.extend(["-e".to_owned(), format!("inject={}:{}:when={}", point.call, fault.injection(), point.nth)]);
    line.push("--".to_owned());
    line
}

/// The tracer is a grandchild, so that the test's child is the server itself.
fn starter(log: &Path) -> Vec<String> {
    let line = ["strace", "-D", "-f", "-qq", "-e", "signal=none", "-o"];
    line.into_iter().map(str::to_owned).chain([log.display().to_string()]).collect()
}

/// The points of a list that `listing` made, in the order of their first time. Threads count for themselves, as `strace`
/// does when it lets calls fail; the same number of another thread is the same point.
pub(crate) fn points(log: &Path, data: &Path) -> Vec<Point> {
    let text = std::fs::read_to_string(log).unwrap();
    let mut counts: BTreeMap<(&str, &str, PathBuf), usize> = BTreeMap::new();
    let mut points = Vec::new();
    for line in text.lines() {
        let Some((thread, call, path)) = parse(line) else { continue };
        let Ok(path) = path.strip_prefix(data) else { continue };
        let count = counts.entry((thread, call, path.to_owned())).or_default();
        *count += 1;
        let point = Point { call: call.to_owned(), path: path.to_owned(), nth: *count };
        if !points.contains(&point) {
            points.push(point);
        }
    }
    points
}

/// The command line that lists to the file `log` whatever bears on what is durable, and what is sent to clients.
pub(crate) fn following(log: &Path) -> Vec<String> {
    let calls = [SYNCS, WRITES, RENAMES, &["openat", "mkdir", "mkdirat", "unlink", "unlinkat"], SENDS].concat();
    let mut line = starter(log);
    line.extend(["--seccomp-bpf", "-yy", "-s", "0", "-e"].map(str::to_owned));
    line.extend([format!("trace={}", calls.join(",")), "--".to_owned()]);
    line
}

/// Calls that send to a client; `write` does, too.
const SENDS: &[&str] = &["sendto", "sendmsg", "writev"];

/// What would be lost at each moment if the power went, as far as a list that [`following`] made tells.
///
/// A file's bytes are safe when it was synced after they were written; its name is when its folder was synced after the
/// file was made or renamed. Taken together this is what a careful file system promises, and no more: most promise more,
/// so cutting the power shows less.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    /// Files with bytes that are not safe.
    bytes: BTreeSet<PathBuf>,
    /// Files and folders whose names are not safe.
    names: BTreeSet<PathBuf>,
    /// What was sent to clients, and the answers that came too early: with what was not safe by then.
    pub(crate) sent: usize,
    pub(crate) early: Vec<String>,
    /// How many syncs there were.
    pub(crate) syncs: usize,
}

impl Unsynced {
    /// Follows the list `log` of a server whose data folder is `data`.
    pub(crate) fn follow(log: &Path, data: &Path) -> Self {
        let text = std::fs::read_to_string(log).unwrap();
        let mut state = Self::default();
        let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if let Some(call) = call.strip_suffix("<unfinished ...>") {
                // What is sent is sent from now on; what is synced is so at the end.
                state.begin(call, data);
                begun.insert(thread, call);
            } else if let Some((_, result)) = call.strip_prefix("<... ").and_then(|call| call.rsplit_once(" = ")) {
                // There are as many spaces before the result as fill a column.
                if let Some(call) = begun.remove(thread) {
                    state.end(call, result, data);
                }
            } else if let Some((call, result)) = call.rsplit_once(" = ") {
                state.begin(call, data);
                state.end(call, result, data);
            }
        }
        state
    }

    /// Whether it matters that `path` lasts. Temporary files, RocksDB's own log and what says that a server runs do not;
    /// of RocksDB's tables it is known that they repeat what is in its write-ahead log until they are synced.
    fn matters(path: &Path, data: &Path) -> bool {
        let Ok(path) = path.strip_prefix(data) else { return false };
        let is_temporary = path.to_string_lossy().contains('#');
        let is_log = path.extension().is_some_and(|end| end == "log");
        let is_ours = ["FORMAT", "owner.token"].map(Path::new).contains(&path);
        (path.starts_with("objects") && !is_temporary) || (path.starts_with("meta") && is_log) || is_ours
    }

    fn begin(&mut self, call: &str, data: &Path) {
        let Some((name, arguments)) = call.split_once('(') else { return };
        if (name == "write" || SENDS.contains(&name)) && arguments.contains("<TCP") {
            self.sent += 1;
            let unsafe_now = self.bytes.iter().chain(&self.names).filter(|path| Self::matters(path, data));
            let unsafe_now: Vec<_> = unsafe_now.map(|path| path.display().to_string()).collect();
            if !unsafe_now.is_empty() {
                self.early.push(unsafe_now.join(", "));
            }
        } else if WRITES.contains(&name)
            && let Some(path) = opened(arguments)
        {
            self.bytes.insert(path.to_owned());
        }
    }

    fn end(&mut self, call: &str, result: &str, data: &Path) {
        let Some((name, arguments)) = call.split_once('(') else { return };
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let quoted: Vec<&Path> = arguments.split('"').skip(1).step_by(2).map(Path::new).collect();
        match (name, &quoted[..]) {
            ("fsync" | "fdatasync", _) => {
                let Some(path) = opened(arguments) else { return };
                self.syncs += usize::from(path.starts_with(data));
                self.bytes.remove(path);
                if name == "fsync" {
                    self.names.retain(|name| name.parent() != Some(path));
                }
            }
            ("openat", [path]) if arguments.contains("O_CREAT") => drop(self.names.insert((*path).to_owned())),
            ("mkdir" | "mkdirat", [path]) => drop(self.names.insert((*path).to_owned())),
            ("unlink" | "unlinkat", [path]) => {
                self.bytes.remove(*path);
                self.names.remove(*path);
            }
            (_, [from, to]) if RENAMES.contains(&name) => {
                if self.bytes.remove(*from) {
                    self.bytes.insert((*to).to_owned());
                }
                self.names.remove(*from);
                self.names.insert((*to).to_owned());
            }
            _ => {}
        }
    }
}

/// The file that the first argument has open.
fn opened(arguments: &str) -> Option<&Path> {
    let (_, path) = arguments.split_once('<')?;
    let path = Path::new(path.split_once('>')?.0);
    path.is_absolute().then_some(path)
}

/// Whether a call was made to fail, by the list that `injecting` made.
pub(crate) fn was_injected(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|text| text.contains("(INJECTED)"))
}

/// Thread, call and file of a line such as `12 fsync(7</data/LOCK>) = 0` or `12 rename("/data/a#1", "/data/a") = 0`.
/// Of two files it is the first: `strace` finds calls by that.
fn parse(line: &str) -> Option<(&str, &str, &Path)> {
    let (thread, rest) = line.split_once(' ')?;
    let (call, arguments) = rest.trim_start().split_once('(')?;
    if !call.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let path = match arguments.split_once('"') {
        Some((before, quoted)) if RENAMES.contains(&call) && !before.contains('"') => quoted.split_once('"')?.0,
        _ => arguments.split_once('<')?.1.split_once('>')?.0,
    };
    Some((thread, call, Path::new(path)))
}

#[test]
fn lists_are_understood() {
    for (line, want) in [
        ("12 fsync(7</data/LOCK>) = 0", Some(("12", "fsync", "/data/LOCK"))),
        (
            "12 write(7</data/meta/000008.log>, \"\"..., 99 <unfinished ...>",
            Some(("12", "write", "/data/meta/000008.log")),
        ),
        ("12 <... write resumed>) = 99", None),
        ("12 rename(\"/data/a#1\", \"/data/a\") = 0", Some(("12", "rename", "/data/a#1"))),
        (
            "12 renameat2(AT_FDCWD</work>, \"/data/a#1\", AT_FDCWD</work>, \"/data/a\", RENAME_NOREPLACE) = 0",
            Some(("12", "renameat2", "/data/a#1")),
        ),
        ("12 +++ exited with 0 +++", None),
        ("12 fdatasync(9) = 0", None),
    ] {
        let found = parse(line);
        assert_eq!(found, want.map(|(thread, call, path)| (thread, call, Path::new(path))), "{line}");
    }
}

#[test]
fn what_is_not_synced_is_not_safe() {
    let folder = tempfile::tempdir().unwrap();
    let (log, data) = (folder.path().join("log"), Path::new("/data"));
    let follow = |lines: &[&str]| {
        std::fs::write(&log, lines.join("\n")).unwrap();
        Unsynced::follow(&log, data)
    };
    let file = "1 openat(AT_FDCWD</w>, \"/data/objects/a#1\", O_WRONLY|O_CREAT|O_EXCL, 0666) = 7</data/objects/a#1>";
    let write = "1 write(7</data/objects/a#1>, \"\"..., 99) = 99";
    let sync = "1 fsync(7</data/objects/a#1>) = 0";
    let rename = "1 rename(\"/data/objects/a#1\", \"/data/objects/a\") = 0";
    let folder_sync = "1 fsync(8</data/objects>) = 0";
    let log_write = "2 write(9</data/meta/000004.log>, \"\"..., 9) = 9";
    let log_sync = "2 fdatasync(9</data/meta/000004.log>) = 0";
    let send = "3 sendto(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"\"..., 9, MSG_NOSIGNAL, NULL, 0) = 9";
    for (lines, early) in [
        (&[file, write, sync, rename, folder_sync, log_write, log_sync, send][..], None),
        (&[file, write, rename, folder_sync, send], Some("/data/objects/a")),
        (&[file, write, sync, rename, send], Some("/data/objects/a")),
        (&[file, write, sync, folder_sync, rename, send], Some("/data/objects/a")),
        (&[file, write, send], None), // nobody asks for what has no name yet
        (&[log_write, send, log_sync, send], Some("/data/meta/000004.log")),
        (&[log_write, "2 fdatasync(9</data/meta/000004.log> <unfinished ...>", send], Some("/data/meta/000004.log")),
        (
            &[
                log_write,
                "2 fdatasync(9</data/meta/000004.log> <unfinished ...>",
                "2 <... fdatasync resumed>) = 0",
                send,
            ],
            None,
        ),
        (&[log_write, "2 fdatasync(9</data/meta/000004.log>) = -1 EIO (x)", send], Some("/data/meta/000004.log")),
        (&["1 mkdir(\"/data/objects/ab\", 0777) = 0", send], Some("/data/objects/ab")),
        (&["1 mkdir(\"/data/objects/ab\", 0777) = 0", folder_sync, send], None),
    ] {
        let found = follow(lines);
        assert_eq!(found.early.first().map(String::as_str), early, "{lines:#?}");
        assert!(found.sent > 0, "{lines:#?}");
    }
}
