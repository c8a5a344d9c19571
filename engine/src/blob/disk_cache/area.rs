//! A folder of the cache, and which of its files are given up first.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Key;
use super::incoming::Incoming;
use super::lru::Lru;

/// A folder of the cache with a bound of its own.
pub(super) struct Area {
    folder: PathBuf,
    pub(super) lru: Mutex<Lru>,
}

impl Area {
    /// Takes in what is in `folder`: the files whose names are digests, the youngest of them as the last used.
    pub(super) fn scan(folder: PathBuf) -> io::Result<Self> {
        make_private(&folder)?;
        let mut found = Vec::new();
        for fan in fs::read_dir(&folder)? {
            let fan = fan?;
            if !fan.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(fan.path())? {
                let file = file?;
                let Some(key) = file.file_name().to_str().and_then(crate::hex::decode::<32>) else { continue };
                let about = file.metadata()?;
                if about.is_file() {
                    found.push((about.modified().ok(), key, about.len()));
                }
            }
        }
        found.sort_unstable();
        let mut lru = Lru::default();
        for (_, key, size) in found {
            lru.insert(key, size, false);
        }
        Ok(Self { folder, lru: Mutex::new(lru) })
    }

    pub(super) fn path(&self, key: &Key) -> PathBuf {
        let name = crate::hex::encode(key);
        self.folder.join(&name[..2]).join(name)
    }

    /// Opens a file that should have `size` bytes.
    pub(super) fn open(&self, key: &Key, size: u64) -> io::Result<File> {
        let file = File::open(self.path(key))?;
        if file.metadata()?.len() == size { Ok(file) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Remembers that a file is handed out.
    pub(super) fn opened(&self, key: &Key, file: File) -> Arc<File> {
        let file = Arc::new(file);
        self.lru.lock().opened(key, &file);
        file
    }

    /// Gives a file its name, and whatever is now too much up. A file that is too large for the cache stays nameless.
    pub(super) fn adopt(&self, key: Key, size: u64, incoming: &mut Incoming) -> io::Result<()> {
        if !self.lru.lock().has_room_for(size) {
            return Ok(());
        }
        let path = self.path(&key);
        match fs::rename(&incoming.path, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_private(path.parent().unwrap_or(&self.folder))?;
                fs::rename(&incoming.path, &path)?;
            }
            other => other?,
        }
        incoming.has_name = true;
        let victims = {
            let mut lru = self.lru.lock();
            let victims = lru.insert(key, size, true);
            lru.opened(&key, &incoming.file);
            victims
        };
        self.unlink(&victims);
        Ok(())
    }

    pub(super) fn remove(&self, key: &Key) -> bool {
        let was_there = self.lru.lock().remove(key);
        self.unlink(&[*key]);
        was_there
    }

    pub(super) fn shrink_to(&self, bytes: u64) {
        let victims = self.lru.lock().set_limit(bytes);
        self.unlink(&victims);
    }

    /// Gives at least `bytes` back, if there are as many.
    pub(super) fn free(&self, bytes: u64) {
        let victims = self.lru.lock().free(bytes);
        self.unlink(&victims);
    }

    fn unlink(&self, keys: &[Key]) {
        for key in keys {
            match fs::remove_file(self.path(key)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "a cached file cannot be removed");
                }
                _ => {}
            }
        }
    }
}

/// A folder that only this user may look into: what it holds may be a protected site's.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
