//! The data folder of an embedded installation: one process at a time, one format.
//!
//! `FORMAT` is written last, when everything else is there, so a folder without it holds nothing that was acknowledged.
//! `LOCK` is held for as long as the folder is open; the system releases it however the process ends.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::blob;
use crate::id::random_bytes;
use crate::meta::MetaError;

/// The format that this program reads and writes.
pub const FORMAT: u32 = 1;
/// What `FORMAT` begins with.
const FORMAT_WORD: &str = "pinstone";

/// What a data folder holds. Anything else in a folder without `FORMAT` is somebody else's.
const OURS: [&str; 10] =
    ["FORMAT", "LOCK", "meta", "objects", "cache", "spool", "tls", "owner.token", "server.json", "store.json"];

/// Why a data folder could not be opened. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data folder `{}` is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A later program wrote it.
    #[error("the data folder `{}` has format {found}, and this version knows format {FORMAT}", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It holds other things.
    #[error("the folder `{}` is not empty and is not a data folder", path.display())]
    NotADataFolder {
        /// The folder.
        path: PathBuf,
    },
    /// There is none, and none was to be made.
    #[error("there is no data folder at `{}`", path.display())]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be written or read.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The metadata cannot be opened or read.
    #[error("the metadata in `{}` cannot be opened", path.display())]
    Meta {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: MetaError,
    },
    /// The metadata was there, and is not any more.
    #[error("the data folder `{}` was used before, and its metadata is not in `meta` any more", path.display())]
    MetaGone {
        /// The data folder.
        path: PathBuf,
    },
    /// The object store cannot be opened.
    #[error("the objects in `{}` cannot be opened", path.display())]
    Objects {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: object_store::Error,
    },
    /// What says how to reach the store is wrong.
    #[error("the store `{url}` cannot be used: {reason}")]
    StoreSettings {
        /// The store.
        url: String,
        /// What is wrong, without anything secret.
        reason: String,
    },
    /// The store does not answer.
    #[error("the store `{url}` does not answer")]
    StoreUnreachable {
        /// The store.
        url: String,
        /// Why not.
        #[source]
        source: object_store::Error,
    },
    /// The store answers, and does not do what is asked.
    #[error("the store `{url}` refuses")]
    StoreRefused {
        /// The store.
        url: String,
        /// In its own words.
        #[source]
        source: object_store::Error,
    },
    /// The folder is to hold objects, and holds other things.
    #[error("the folder `{}` is not empty and is no store of objects", path.display())]
    StoreNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The store has an owner.
    #[error("the store `{url}` belongs to another data folder")]
    StoreTaken {
        /// The store.
        url: String,
    },
    /// The data folder has another store.
    #[error("the data folder `{}` keeps its objects in `{kept}`, and `{url}` is another store", path.display())]
    OtherStore {
        /// The data folder.
        path: PathBuf,
        /// The store that it has.
        kept: String,
        /// The store that it was to have.
        url: String,
    },
    /// The store is not there.
    #[error("`{url}` is not, or no longer, the store of the data folder `{}`: its `FORMAT` is missing", path.display())]
    StoreGone {
        /// The data folder.
        path: PathBuf,
        /// The store.
        url: String,
    },
    /// A later program wrote the store.
    #[error("the store `{url}` has format {found}, which this version does not know")]
    StoreNewer {
        /// The store.
        url: String,
        /// Its format.
        found: u32,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A data folder that this process has to itself.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    lock: File,
    /// Whether whoever had it before did not close it.
    interrupted: bool,
    /// Whether it has no `FORMAT` yet.
    new: bool,
    /// Where its objects are, if not in a store elsewhere.
    objects: Option<PathBuf>,
}

impl DataFolder {
    /// Opens the folder at `path`, or makes it where `create` says so, and locks it.
    ///
    /// # Errors
    ///
    /// Where it is in use, of a newer format, somebody else's or not writable.
    pub fn open(path: &Path, create: bool) -> Result<Self, OpenError> {
        if create {
            make_folder(path).map_err(OpenError::io("create the data folder", path))?;
        } else if !path.join("FORMAT").exists() {
            return Err(OpenError::Absent { path: path.to_owned() });
        }
        let format_path = path.join("FORMAT");
        let new = match fs::read_to_string(&format_path) {
            Ok(text) => {
                check_format(path, &text)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_ours(path)?;
                true
            }
            Err(error) => return Err(OpenError::io("read", &format_path)(error)),
        };
        let lock_path = path.join("LOCK");
        let mut options = OpenOptions::new();
        let mut lock = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(OpenError::io("write", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(error) => return Err(OpenError::io("lock", &lock_path)(error.into())),
        }
        let mut holder = String::new();
        lock.read_to_string(&mut holder).map_err(OpenError::io("read", &lock_path))?;
        let objects = Some(path.join("objects"));
        let folder = Self { path: path.to_owned(), lock, interrupted: !holder.is_empty(), new, objects };
        folder.hold(&std::process::id().to_string()).map_err(OpenError::io("write", &lock_path))?;
        let meta = folder.meta();
        // Nobody else has to read who has accounts and projects here.
        let private = DirBuilder::new().recursive(true).mode(0o700).create(&meta);
        private.map_err(OpenError::io("create", &meta))?;
        let spool = folder.spool();
        empty_folder(&spool).map_err(OpenError::io("empty", &spool))?;
        sync_folder(path).map_err(OpenError::io("sync", path))?;
        Ok(folder)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the metadata is.
    #[must_use]
    pub fn meta(&self) -> PathBuf {
        self.path.join("meta")
    }

    /// The folder that the objects are in; none where they are in a store elsewhere.
    #[must_use]
    pub fn objects(&self) -> Option<&Path> {
        self.objects.as_deref()
    }

    /// Says which folder the objects are in, if any.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn keep_objects_in(&mut self, folder: Option<PathBuf>) {
        self.objects = folder;
    }

    /// Where what arrives waits to be read, without names. What has one after all is removed when the folder is opened.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// Whether this is the first start on it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// Whether whoever had it before did not close it, so that temporary files may lie about.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Reads the owner's token, and makes one where there is none.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or written.
    pub fn owner_token(&self) -> Result<String, OpenError> {
        let path = self.path.join("owner.token");
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => self.new_owner_token(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_owner_token(),
            Err(error) => Err(OpenError::io("read", &path)(error)),
        }
    }

    /// Makes a new owner's token in place of the one that is there. The old one counts until the store is next opened.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn new_owner_token(&self) -> Result<String, OpenError> {
        let path = self.path.join("owner.token");
        let token = format!("pin_{}", crate::hex::encode(&random_bytes::<32>()));
        replace_file(&path, format!("{token}\n").as_bytes()).map_err(OpenError::io("write", &path))?;
        Ok(token)
    }

    /// Says that the folder is complete: what it holds from now on is to be kept.
    ///
    /// # Errors
    ///
    /// Where `FORMAT` cannot be written.
    pub fn finish(&mut self) -> Result<(), OpenError> {
        if self.new {
            let path = self.path.join("FORMAT");
            replace_file(&path, format!("{FORMAT_WORD} {FORMAT}\n").as_bytes())
                .map_err(OpenError::io("write", &path))?;
            self.new = false;
        }
        Ok(())
    }

    /// Says that nothing is under way any more, so that the next start need not look for leftovers.
    ///
    /// # Errors
    ///
    /// Where `LOCK` cannot be written.
    pub fn close(self) -> io::Result<()> {
        self.hold("")
    }

    /// Removes temporary files that an interrupted process left among the objects; answers how many.
    ///
    /// # Errors
    ///
    /// Where a folder cannot be read or a file not removed.
    pub fn remove_leftovers(&self) -> io::Result<u64> {
        let mut removed = 0;
        let Some(objects) = &self.objects else { return Ok(0) };
        let kinds = fs::read_dir(objects)?.collect::<Result<Vec<_>, _>>()?;
        let kinds = kinds.iter().map(fs::DirEntry::path).filter(|path| path.is_dir()).chain([objects.clone()]);
        for kind in kinds {
            let fans = fs::read_dir(&kind)?.collect::<Result<Vec<_>, _>>()?;
            let fans = fans.iter().map(fs::DirEntry::path).filter(|path| path.is_dir() && kind != *objects);
            for folder in fans.chain([kind.clone()]) {
                for file in fs::read_dir(folder)? {
                    let file = file?;
                    if is_leftover(&file.file_name().to_string_lossy()) {
                        fs::remove_file(file.path())?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }

    fn hold(&self, text: &str) -> io::Result<()> {
        let mut lock = &self.lock;
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(text.as_bytes())?;
        lock.sync_all()
    }

    /// Makes every folder in `objects` that an object may go into, durably and before any object does: a folder that one
    /// upload has made and not yet synced must not hold another upload that was acknowledged.
    ///
    /// # Errors
    ///
    /// Where one cannot be made or synced.
    pub fn make_object_folders(&self, objects: &Path) -> Result<(), OpenError> {
        let made = || -> io::Result<()> {
            make_folder(objects)?;
            for kind in [blob::BLOBS, blob::MANIFESTS, blob::PACKS, blob::PLANS, blob::VARIANTS] {
                let kind_path = objects.join(kind);
                fs::create_dir_all(&kind_path)?;
                // The last one is made last: where it is there, all are.
                if kind != blob::PLANS && !kind_path.join("ff").exists() {
                    for fan in 0..=255_u8 {
                        fs::create_dir_all(kind_path.join(format!("{fan:02x}")))?;
                    }
                }
                // In any case: whoever made them may have been killed before this.
                sync_folder(&kind_path)?;
            }
            sync_folder(objects)?;
            sync_folder(objects.parent().unwrap_or(&self.path))
        };
        made().map_err(OpenError::io("create folders in", objects))
    }
}

/// Makes a new owner's token in a data folder that no server has open, and answers it.
///
/// # Errors
///
/// As [`DataFolder::open`], and where the file cannot be written.
pub fn rotate_owner_token(path: &Path) -> Result<String, OpenError> {
    let folder = DataFolder::open(path, false)?;
    let interrupted = folder.was_interrupted();
    let token = folder.new_owner_token()?;
    if !interrupted {
        let lock = path.join("LOCK");
        folder.close().map_err(OpenError::io("write", &lock))?;
    }
    Ok(token)
}

/// Whether a file is one that the object store writes to before it has its name: `name#1`.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, suffix)| !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether `path` is the data folder of a server, of whatever format: what is in it is nobody else's to read.
#[must_use]
pub fn is_data_folder(path: &Path) -> bool {
    let starts_as_ours = || {
        let mut word = [0; FORMAT_WORD.len()];
        let read = File::open(path.join("FORMAT")).and_then(|mut file| file.read_exact(&mut word));
        read.is_ok() && word == *FORMAT_WORD.as_bytes()
    };
    // Until `FORMAT` is there, which is written last, the token can be.
    path.join("LOCK").is_file() && (path.join("owner.token").is_file() || starts_as_ours())
}

fn check_format(path: &Path, text: &str) -> Result<(), OpenError> {
    let not_ours = || OpenError::NotADataFolder { path: path.to_owned() };
    let number = text.trim().strip_prefix(FORMAT_WORD).ok_or_else(not_ours)?;
    match number.trim().parse() {
        Ok(FORMAT) => Ok(()),
        Ok(found) => Err(OpenError::Newer { path: path.to_owned(), found }),
        Err(_) => Err(not_ours()),
    }
}

fn check_ours(path: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(OpenError::io("read", path))? {
        let name = entry.map_err(OpenError::io("read", path))?.file_name();
        let name = name.to_string_lossy();
        // A replacement that was interrupted leaves its temporary file.
        let name = name.strip_suffix(".new").unwrap_or(&name);
        if !OURS.contains(&name) {
            return Err(OpenError::NotADataFolder { path: path.to_owned() });
        }
    }
    Ok(())
}

/// Puts `bytes` in place of a file, durably and at once: temporary file, sync, rename, sync of the folder. Only its owner
/// may read it.
///
/// # Errors
///
/// Where any of the steps fails; the file is then the old one or the new one, never a part.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a folder and those above it, durably: each is named in one that is synced.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).collect();
    fs::create_dir_all(path)?;
    for made in missing {
        sync_folder(made.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes a folder that only its owner may look into, or empties it.
fn empty_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    for file in fs::read_dir(path)? {
        fs::remove_file(file?.path())?;
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_only_in_our_folders() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        assert!(matches!(DataFolder::open(&path, false), Err(OpenError::Absent { .. })));
        let mut folder = DataFolder::open(&path, true).unwrap();
        assert!(folder.is_new());
        assert!(!folder.was_interrupted());
        let token = folder.owner_token().unwrap();
        assert!(is_data_folder(&path) && !is_data_folder(path.parent().unwrap()));
        assert_eq!(folder.owner_token().unwrap(), token);
        assert!(token.starts_with("pin_") && token.len() == 68);
        folder.finish().unwrap();
        assert!(matches!(DataFolder::open(&path, true), Err(OpenError::InUse { .. })));
        drop(folder);

        let folder = DataFolder::open(&path, true).unwrap();
        assert!(folder.was_interrupted(), "it was dropped, not closed");
        fs::write(folder.spool().join("left"), "x").unwrap();
        let objects = path.join("objects");
        folder.make_object_folders(&objects).unwrap();
        for name in ["blobs/ab/x#1", "plans/x#2", "FORMAT#1", "blobs/ab/x", "FORMAT"] {
            fs::write(objects.join(name), "x").unwrap();
        }
        assert_eq!(folder.remove_leftovers().unwrap(), 3);
        assert!(objects.join("FORMAT").exists() && objects.join("blobs/ab/x").exists());
        folder.close().unwrap();
        let folder = DataFolder::open(&path, false).unwrap();
        assert!(!folder.was_interrupted());
        assert_eq!(fs::read_dir(folder.spool()).unwrap().count(), 0, "it is emptied at every start");
        drop(folder);

        assert_ne!(rotate_owner_token(&path).unwrap(), token);
        fs::write(path.join("FORMAT"), "pinstone 2\n").unwrap();
        assert!(matches!(DataFolder::open(&path, true), Err(OpenError::Newer { found: 2, .. })));
        fs::write(parent.path().join("holiday.jpg"), "x").unwrap();
        assert!(matches!(DataFolder::open(parent.path(), true), Err(OpenError::NotADataFolder { .. })));
        assert!(matches!(DataFolder::open(Path::new("/proc/none"), true), Err(OpenError::Io { .. })));
    }
}
