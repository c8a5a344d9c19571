//! Which files make a certificate, and whether they are as they were.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::CertificateSources;

/// The files of a certificate.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Pair {
    /// The certificate and its chain.
    pub(super) chain: PathBuf,
    /// The key. It may be in the same file.
    pub(super) key: PathBuf,
    /// Whether it is for who names no host, or one that is not there.
    pub(super) is_default: bool,
}

/// What tells one content of a file from another without reading it. A link is followed, for that is how certificates are
/// often exchanged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stamp(Option<[i128; 5]>);

impl Stamp {
    fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|metadata| Self::parts(&metadata)))
    }

    fn parts(metadata: &Metadata) -> [i128; 5] {
        let time = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        [
            metadata.dev().into(),
            metadata.ino().into(),
            metadata.size().into(),
            time(metadata.mtime(), metadata.mtime_nsec()),
            // Also when only who may read it changes.
            time(metadata.ctime(), metadata.ctime_nsec()),
        ]
    }
}

impl Pair {
    pub(super) fn stamps(&self) -> [Stamp; 2] {
        [Stamp::of(&self.chain), Stamp::of(&self.key)]
    }
}

/// All that the sources name.
///
/// # Errors
///
/// The folder that cannot be listed.
pub(super) fn pairs(sources: &CertificateSources) -> Result<Vec<Pair>, (PathBuf, io::Error)> {
    let mut pairs = Vec::new();
    if let Some((chain, key)) = &sources.pair {
        pairs.push(Pair { chain: chain.clone(), key: key.clone(), is_default: true });
    }
    if let Some(folder) = &sources.folder {
        list(folder, &mut pairs).map_err(|error| (folder.clone(), error))?;
    }
    Ok(pairs)
}

fn list(folder: &Path, pairs: &mut Vec<Pair>) -> io::Result<()> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // Temporary files, and the folders that a mounted volume is exchanged by.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            let (chain, key) = (path.join("fullchain.pem"), path.join("privkey.pem"));
            if chain.exists() || key.exists() {
                pairs.push(Pair { chain, key, is_default: name == "default" });
            }
        } else {
            files.insert(path);
        }
    }
    for path in &files {
        let extension = path.extension().and_then(OsStr::to_str);
        let is_default = path.file_stem() == Some(OsStr::new("default"));
        let key = path.with_extension("key");
        match extension {
            Some("crt") => pairs.push(Pair { chain: path.clone(), key, is_default }),
            // Beside a `.crt` it is somebody's copy.
            Some("pem") if !files.contains(&path.with_extension("crt")) => {
                let key = if files.contains(&key) { key } else { path.clone() };
                pairs.push(Pair { chain: path.clone(), key, is_default });
            }
            _ => {}
        }
    }
    // A folder gives them in any order.
    pairs.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_certificates_are_named_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a.crt",
            "a.key",
            "b.pem",
            "b.key",
            "both.pem",
            "default.crt",
            "default.key",
            "c.crt",
            "c.pem",
            "c.key",
            "alone.key",
            "README",
            ".hidden.crt",
            "certbot/fullchain.pem",
            "certbot/privkey.pem",
            "certbot/cert.pem",
            "certbot/chain.pem",
            "half/fullchain.pem",
            "other/x.crt",
            "..data/fullchain.pem",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let sources = CertificateSources { pair: None, folder: Some(folder.path().to_owned()) };
        let relative = |path: &Path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
        let mut found: Vec<_> = pairs(&sources)
            .unwrap()
            .iter()
            .map(|pair| (relative(&pair.chain), relative(&pair.key), pair.is_default))
            .collect();
        found.sort();
        let found: Vec<_> = found.iter().map(|(chain, key, default)| (&**chain, &**key, *default)).collect();
        assert_eq!(
            found,
            [
                ("a.crt", "a.key", false),
                ("b.pem", "b.key", false),
                ("both.pem", "both.pem", false),
                ("c.crt", "c.key", false),
                ("certbot/fullchain.pem", "certbot/privkey.pem", false),
                ("default.crt", "default.key", true),
                ("half/fullchain.pem", "half/privkey.pem", false),
            ]
        );
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["1", "2"] {
            fs::write(path(name), "same length").unwrap();
        }
        std::os::unix::fs::symlink(path("1"), path("link")).unwrap();
        let first = Stamp::of(&path("link"));
        assert_eq!(Stamp::of(&path("link")), first);
        fs::remove_file(path("link")).unwrap();
        assert_eq!(Stamp::of(&path("link")), Stamp(None));
        std::os::unix::fs::symlink(path("2"), path("link")).unwrap();
        assert_ne!(Stamp::of(&path("link")), first);
    }
}
