//! What a folder consists of, as a site: every file that is not ignored, by its path.
//!
//! What is ignored, [`pinstone_engine::ignored`] says, by `.pinstoneignore` in the folder and `ignore` in `pinstone.toml`.
//!
//! Links are followed as long as they stay in the folder. Whatever cannot become a file of a site (a link to nowhere,
//! a pipe, a name that is no UTF-8) is an error that names it: a site with a hole is worse than none.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use pinstone_engine::data_folder::is_data_folder;
use pinstone_engine::ignored::{IGNORE_FILE, IgnoreRules, is_own_file};
use pinstone_engine::path::SitePath;

use crate::error::{CliError, file_error, plain};

/// How a folder is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalkOptions {
    /// Whether links may leave the folder.
    pub(crate) follow_links: bool,
    /// Ignore lines besides those of `.pinstoneignore`; they come later and so win.
    pub(crate) ignore: Vec<String>,
    /// Whether nothing is ignored, because what would be was left out before.
    pub(crate) everything: bool,
}

/// What was found, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The files.
    pub(crate) files: Vec<FoundFile>,
    /// How many files and folders were ignored; what is in an ignored folder is not looked at.
    pub(crate) ignored: u64,
    /// How many links were followed.
    pub(crate) links_followed: u64,
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct FoundFile {
    /// Its path in the site.
    pub(crate) path: SitePath,
    /// Where it is on disk.
    pub(crate) on_disk: PathBuf,
    /// What it looked like.
    pub(crate) look: Look,
}

/// What shows that a file is still the one that was seen before: all of it, at the resolution of the file system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Look {
    /// Its length in bytes.
    pub(crate) size: u64,
    modified: (i64, i64),
    inode: (u64, u64),
}

impl Look {
    /// The look of the file that `metadata` is of.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

/// Finds the files of the folder `root`.
///
/// # Errors
///
/// Where something cannot be read or cannot be a file of a site; the message names it.
pub(crate) fn walk(root: &Path, options: &WalkOptions) -> Result<Found, CliError> {
    let canonical = fs::canonicalize(root).map_err(|error| file_error(root, &error))?;
    let metadata = fs::metadata(&canonical).map_err(|error| file_error(root, &error))?;
    if !metadata.is_dir() {
        return Err(CliError::usage(format!("`{}` is not a folder", root.display()))
            .hint("name the folder that holds `index.html`"));
    }
    if let Some(data) = canonical.ancestors().find(|folder| is_data_folder(folder)) {
        let message = format!("`{}` is in the data folder of a server, which holds its secrets", root.display());
        return Err(CliError::usage(message).hint(format!("name a folder outside of `{}`", data.display())));
    }
    let mut walker = Walker {
        ignored: if options.everything { None } else { Some(rules(&canonical, &options.ignore)?) },
        root: canonical.clone(),
        follow_links: options.follow_links,
        found: Found::default(),
        above: vec![(metadata.dev(), metadata.ino())],
    };
    walker.folder(&canonical, "")?;
    let mut found = walker.found;
    found.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn rules(root: &Path, more: &[String]) -> Result<IgnoreRules, CliError> {
    let file = root.join(IGNORE_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(file_error(&file, &error)),
    };
    IgnoreRules::new(&text, more).map_err(|error| match error.line {
        0 => CliError::usage(format!("the ignore lines are not usable: {}", error.reason)),
        _ => CliError::usage(error.to_string()),
    })
}

struct Walker {
    root: PathBuf,
    /// Nothing where nothing is ignored.
    ignored: Option<IgnoreRules>,
    follow_links: bool,
    found: Found,
    /// Device and inode of every folder from the root down to the current one: meeting one again is a cycle.
    above: Vec<(u64, u64)>,
}

impl Walker {
    /// Walks one folder. `prefix` is its path in the site, empty or ending in `/`.
    fn folder(&mut self, on_disk: &Path, prefix: &str) -> Result<(), CliError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(on_disk).map_err(|error| file_error(on_disk, &error))? {
            names.push(entry.map_err(|error| file_error(on_disk, &error))?.file_name());
        }
        // One order on every machine, so that of two errors the same one is told.
        names.sort();
        for name in names {
            self.entry(on_disk, prefix, &name)?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &Path, prefix: &str, name: &OsString) -> Result<(), CliError> {
        let on_disk = folder.join(name);
        let own = fs::symlink_metadata(&on_disk).map_err(|error| vanished(&on_disk, &error))?;
        let is_link = own.file_type().is_symlink();
        // A link counts as what it leads to; where it leads nowhere it can still be ignored, as a file.
        let metadata = if is_link { fs::metadata(&on_disk) } else { Ok(own) };
        let is_folder = metadata.as_ref().is_ok_and(Metadata::is_dir);
        let within = Path::new(prefix).join(name);
        if is_own_file(&within) {
            return Ok(());
        }
        if self.ignored.as_ref().is_some_and(|rules| rules.ignores(&within, is_folder)) {
            self.found.ignored += 1;
            return Ok(());
        }
        let metadata = metadata.map_err(|error| broken_link(&within, &on_disk, &error))?;
        if is_link {
            self.check_link(&within, &on_disk)?;
        }
        let Some(text) = name.to_str() else {
            return Err(CliError::failed(format!("`{}` has a name that is not UTF-8", within.display()))
                .hint("rename it, or ignore it in `.pinstoneignore`"));
        };
        let text = format!("{prefix}{text}");
        // Whatever takes names back in: no site has the token of its server's owner in it.
        if metadata.is_dir() && is_data_folder(&on_disk) {
            self.found.ignored += 1;
            return Ok(());
        }
        if metadata.is_dir() {
            let id = (metadata.dev(), metadata.ino());
            if self.above.contains(&id) {
                return Err(CliError::failed(format!("the link `{text}` leads back to a folder that it is in"))
                    .hint("remove the link, or ignore it in `.pinstoneignore`"));
            }
            self.above.push(id);
            self.folder(&on_disk, &format!("{text}/"))?;
            self.above.pop();
        } else if metadata.is_file() {
            let path = SitePath::new(text.as_str()).map_err(|error| {
                CliError::failed(format!("`{}` cannot be a file of a site: {error}", text.escape_debug()))
                    .hint("rename it, or ignore it in `.pinstoneignore`")
            })?;
            self.found.files.push(FoundFile { path, on_disk, look: Look::of(&metadata) });
        } else {
            return Err(CliError::failed(format!("`{text}` is {}, not a file", kind(&metadata)))
                .hint("remove it, or ignore it in `.pinstoneignore`"));
        }
        Ok(())
    }

    /// Counts a link that may be followed, and refuses one that leaves the folder.
    fn check_link(&mut self, within: &Path, on_disk: &Path) -> Result<(), CliError> {
        if !self.follow_links {
            let target = fs::canonicalize(on_disk).map_err(|error| broken_link(within, on_disk, &error))?;
            if !target.starts_with(&self.root) {
                return Err(CliError::failed(format!(
                    "the link `{}` leaves the folder: it leads to `{}`",
                    within.display(),
                    target.display()
                ))
                .hint("publish what such links lead to by `--follow-links`, or ignore it in `.pinstoneignore`"));
            }
        }
        self.found.links_followed += 1;
        Ok(())
    }
}

fn vanished(path: &Path, error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::NotFound => CliError::folder_changed(&path.display().to_string()),
        _ => file_error(path, error),
    }
}

fn broken_link(within: &Path, on_disk: &Path, error: &io::Error) -> CliError {
    let link = within.display();
    let message = if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        format!("the link `{link}` leads in a circle")
    } else if error.kind() == io::ErrorKind::NotFound {
        let target = fs::read_link(on_disk).unwrap_or_default();
        format!("the link `{link}` leads nowhere: there is no `{}`", target.display())
    } else {
        format!("cannot follow the link `{link}`: {}", plain(error))
    };
    CliError::failed(message).hint("remove the link, or ignore it in `.pinstoneignore`")
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn paths(root: &Path, options: &WalkOptions) -> Vec<String> {
        walk(root, options).unwrap().files.into_iter().map(|file| file.path.to_string()).collect()
    }

    fn refused(root: &Path) -> String {
        walk(root, &WalkOptions::default()).unwrap_err().message
    }

    #[test]
    fn dot_names_and_node_modules_are_skipped() {
        let site = folder(&[
            "index.html",
            "a/b.css",
            ".git/config",
            ".env",
            "a/.hidden",
            ".well-known/security.txt",
            "node_modules/x/y.js",
            "a/node_modules/z.js",
            "pinstone.toml",
            "a/pinstone.toml",
        ]);
        let found = walk(site.path(), &WalkOptions::default()).unwrap();
        let names: Vec<_> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(names, [".well-known/security.txt", "a/b.css", "a/pinstone.toml", "index.html"]);
        assert_eq!((found.ignored, found.links_followed), (5, 0));
    }

    #[test]
    fn the_ignore_file_takes_away_and_takes_back() {
        let site = folder(&["a.html", "b.map", "sub/c.map", "draft/x", "node_modules/y", ".env", ".keep", "only/z"]);
        fs::write(site.path().join(IGNORE_FILE), "# comment\n*.map\n!sub/c.map\n/draft/\n!node_modules\n!.keep\n")
            .unwrap();
        // Neither Git's own ignore file nor that of a folder above counts.
        fs::write(site.path().join(".gitignore"), "a.html\n").unwrap();
        let options = WalkOptions { ignore: vec!["only".to_owned()], ..WalkOptions::default() };
        assert_eq!(paths(site.path(), &options), [".keep", "a.html", "node_modules/y", "sub/c.map"]);
        let back = WalkOptions { ignore: vec!["!.env".to_owned()], ..WalkOptions::default() };
        assert!(paths(site.path(), &back).contains(&".env".to_owned()), "the list of `pinstone.toml` comes last");
    }

    #[test]
    fn the_data_folder_of_a_server_is_never_published() {
        let site =
            folder(&["index.html", "srv/data/LOCK", "srv/data/owner.token", "srv/data/objects/x", "srv/page.html"]);
        fs::write(site.path().join("srv/data/FORMAT"), "pinstone 1\n").unwrap();
        let back = WalkOptions { ignore: vec!["!data".to_owned()], ..WalkOptions::default() };
        assert_eq!(paths(site.path(), &back), ["index.html", "srv/page.html"]);
        assert_eq!(walk(site.path(), &back).unwrap().ignored, 1);
        for within in ["srv/data", "srv/data/objects"] {
            assert!(refused(&site.path().join(within)).contains("the data folder of a server"), "{within}");
        }
        // A file called `FORMAT` is no data folder.
        let site = folder(&["a/FORMAT", "a/LOCK", "pinstone-data"]);
        assert_eq!(paths(site.path(), &WalkOptions::default()), ["a/FORMAT", "a/LOCK", "pinstone-data"]);
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let site = folder(&["a"]);
        fs::write(site.path().join(IGNORE_FILE), "ok\na{b\n").unwrap();
        let message = refused(site.path());
        assert!(message.contains("`a{b`, ignore line 2 of `.pinstoneignore`"), "{message}");
    }

    #[test]
    fn links_inside_are_followed_and_counted() {
        let site = folder(&["index.html", "deep/er/x"]);
        symlink("index.html", site.path().join("home.html")).unwrap();
        symlink("deep", site.path().join("short")).unwrap();
        let found = walk(site.path(), &WalkOptions::default()).unwrap();
        let names: Vec<_> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(names, ["deep/er/x", "home.html", "index.html", "short/er/x"]);
        assert_eq!(found.links_followed, 2);
    }

    #[test]
    fn links_that_leave_are_named_or_followed() {
        let outside = folder(&["secret", "more/x"]);
        let site = folder(&["index.html"]);
        symlink(outside.path().join("secret"), site.path().join("out")).unwrap();
        let message = refused(site.path());
        assert!(message.contains("the link `out` leaves the folder"), "{message}");
        symlink(outside.path().join("more"), site.path().join("more")).unwrap();
        let follow = WalkOptions { follow_links: true, ..WalkOptions::default() };
        assert_eq!(paths(site.path(), &follow), ["index.html", "more/x", "out"]);
        let skip = WalkOptions { ignore: vec!["out".to_owned(), "more".to_owned()], ..WalkOptions::default() };
        assert_eq!(paths(site.path(), &skip), ["index.html"]);
    }

    #[test]
    fn links_to_nowhere_and_in_circles_are_named() {
        for (target, part) in [
            ("missing", "the link `sub/l` leads nowhere: there is no `missing`"),
            ("l", "the link `sub/l` leads in a circle"),
            (".", "the link `sub/l` leads back to a folder that it is in"),
            ("..", "the link `sub/l` leads back to a folder that it is in"),
        ] {
            let site = folder(&["sub/file"]);
            symlink(target, site.path().join("sub/l")).unwrap();
            let message = refused(site.path());
            assert!(message.contains(part), "{target}: {message}");
        }
    }

    #[test]
    fn what_is_no_file_is_named() {
        let site = folder(&["a"]);
        let listener = std::os::unix::net::UnixListener::bind(site.path().join("socket")).unwrap();
        assert!(refused(site.path()).contains("`socket` is a socket, not a file"));
        drop(listener);
        fs::remove_file(site.path().join("socket")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(site.path().join("pipe")).status();
        if made.is_ok_and(|status| status.success()) {
            assert!(refused(site.path()).contains("`pipe` is a named pipe, not a file"));
        }
    }

    #[test]
    fn names_that_no_url_has_are_named() {
        let site = folder(&["a"]);
        fs::write(site.path().join(std::ffi::OsStr::from_bytes(b"b\xffd")), "x").unwrap();
        assert!(refused(site.path()).contains("has a name that is not UTF-8"));
        for name in ["back\\slash", "line\nbreak"] {
            let site = folder(&["a"]);
            fs::write(site.path().join(name), "x").unwrap();
            let message = refused(site.path());
            assert!(message.contains("cannot be a file of a site"), "{message}");
            assert!(!message.contains('\n'), "{message:?}");
        }
    }

    #[test]
    fn the_root_may_be_a_link_but_no_file() {
        let site = folder(&["a/index.html"]);
        symlink("a", site.path().join("b")).unwrap();
        assert_eq!(paths(&site.path().join("b"), &WalkOptions::default()), ["index.html"]);
        assert!(refused(&site.path().join("a/index.html")).contains("is not a folder"));
        assert!(refused(&site.path().join("none")).contains("cannot read"));
    }
}
