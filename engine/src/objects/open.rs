//! Opening the store of a data folder, and making sure that it is its own.

use std::fs;
#[cfg(feature = "s3")]
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "s3")]
use std::time::Duration;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::belonging::{self, Found, Marker, Note, StoreId, Verdict, decide};
#[cfg(feature = "s3")]
use super::unproven::Unproven;
use super::{StorageOptions, StoreUrl};
use crate::blob::{
    BLOBS, BlobIndex, BlobStore, DiskCache, MANIFESTS, MARKER, PACKS, PLANS, Unsynced, VARIANTS, Writing,
};
use crate::data_folder::{DataFolder, OpenError, make_folder};

/// How long a remote store may take to say who it is before a start goes on without it.
#[cfg(feature = "s3")]
const INTRODUCTION: Duration = Duration::from_secs(20);
/// The cache, in the data folder.
#[cfg(feature = "s3")]
const CACHE: &str = "cache";

/// What a store is opened for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// To serve and to publish: what is not there yet is made.
    Serve,
    /// To look at everything in it: nothing is made, and nothing is taken from a cache.
    Check,
}

/// The objects of a data folder.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// For a folder of this machine, which one it is.
    local: Option<(Unsynced, PathBuf)>,
    remote: Option<(Writing, Option<DiskCache>)>,
}

impl Objects {
    /// The blob store over these objects.
    pub(crate) fn into_blobs(self, index: Arc<dyn BlobIndex>) -> BlobStore {
        let mut blobs = BlobStore::new(self.store, index).marked();
        if let Some((unsynced, folder)) = self.local {
            blobs = blobs.with_unsynced(unsynced).in_folder(&folder);
        }
        match self.remote {
            Some((writing, cache)) => blobs.remote(writing, cache),
            None => blobs,
        }
    }
}

/// Opens the store that `options` name, or that `folder` remembers, or else the folder's own.
///
/// # Errors
///
/// Where it is another data folder's store or none of this one's, cannot be reached, or refuses.
pub(crate) async fn open(
    folder: &mut DataFolder,
    options: &StorageOptions,
    purpose: Purpose,
) -> Result<Objects, OpenError> {
    let data = folder.path().to_owned();
    let note = Note::read(&data).map_err(OpenError::io("read", &belonging::path(&data)))?;
    let remembered = note.as_ref().and_then(|note| note.url.as_deref());
    let own = data.join("objects");
    let url = match (&options.url, remembered) {
        (Some(url), _) => Some(url.clone()),
        (None, None) => None,
        (None, Some(url)) => Some(url.parse().map_err(|error| OpenError::StoreSettings {
            url: url.to_owned(),
            reason: format!("`store.json` does not name it: {error}"),
        })?),
    };
    // A folder that is named and is the data folder's own is no other one.
    let url = url.filter(|url| !matches!(url, StoreUrl::Folder(path) if is_same(path, &own)));
    match url {
        None => {
            let is_own = remembered.is_none();
            let folder_to_open = FolderToOpen { path: own, url: None, note, is_own };
            folder_to_open.open(folder, purpose).await
        }
        Some(url @ StoreUrl::Folder(_)) => {
            let StoreUrl::Folder(path) = &url else { unreachable!("it was matched") };
            let folder_to_open = FolderToOpen { path: path.clone(), url: Some(url.clone()), note, is_own: false };
            folder_to_open.open(folder, purpose).await
        }
        Some(StoreUrl::S3 { bucket, prefix }) => {
            let url = StoreUrl::S3 { bucket: bucket.clone(), prefix: prefix.clone() };
            open_s3(folder, options, purpose, url, &bucket, &prefix, note).await
        }
    }
}

/// Whether two paths are one folder.
fn is_same(path: &Path, own: &Path) -> bool {
    match (fs::canonicalize(path), fs::canonicalize(own)) {
        (Ok(path), Ok(own)) => path == own,
        _ => std::path::absolute(own).is_ok_and(|own| own == path),
    }
}

/// A store in a folder of this machine.
struct FolderToOpen {
    path: PathBuf,
    /// `None` for the data folder's own.
    url: Option<StoreUrl>,
    note: Option<Note>,
    is_own: bool,
}

impl FolderToOpen {
    async fn open(self, folder: &mut DataFolder, purpose: Purpose) -> Result<Objects, OpenError> {
        let shown = self.url.as_ref().map_or_else(|| self.path.display().to_string(), ToString::to_string);
        let failed = |source| OpenError::Objects { path: self.path.clone(), source };
        // A folder that was there before is not made again: it may lie on a disk that is not mounted.
        let may_make = folder.is_new() || (self.is_own && self.note.is_none());
        let pair = Pair { folder, note: self.note.as_ref(), url: self.url.as_ref(), shown: &shown };
        if !may_make && !self.path.is_dir() {
            return Err(pair.gone());
        }
        if purpose == Purpose::Serve && may_make {
            make_folder(&self.path).map_err(OpenError::io("create", &self.path))?;
            if !self.is_own {
                self.check_nothing_else()?;
            }
        }
        let objects = LocalFileSystem::new_with_prefix(&self.path).map_err(failed)?;
        let opened = fs::File::open(&self.path).map_err(OpenError::io("open", &self.path))?;
        let unsynced = Unsynced::new(Arc::new(objects.clone()), opened);
        let store: Arc<dyn ObjectStore> = Arc::new(objects.with_fsync(true));
        let marker = Marker::read(&*store).await.map_err(failed)?;
        pair.settle(&*store, marker, self.is_own, purpose).await?.map_err(failed)?;
        if purpose == Purpose::Serve {
            folder.make_object_folders(&self.path)?;
        }
        folder.keep_objects_in(Some(self.path.clone()));
        Ok(Objects { store, local: Some((unsynced, self.path)), remote: None })
    }

    /// Objects are not put among things that are none.
    fn check_nothing_else(&self) -> Result<(), OpenError> {
        for entry in fs::read_dir(&self.path).map_err(OpenError::io("read", &self.path))? {
            let name = entry.map_err(OpenError::io("read", &self.path))?.file_name();
            let name = name.to_string_lossy();
            // A file that was being written has its number behind its name.
            let name = name.split('#').next().unwrap_or_default();
            if ![BLOBS, MANIFESTS, PACKS, PLANS, VARIANTS, MARKER].contains(&name) {
                return Err(OpenError::StoreNotEmpty { path: self.path.clone() });
            }
        }
        Ok(())
    }
}

/// A data folder and a store of which it is not known yet whether they belong together.
struct Pair<'p> {
    folder: &'p DataFolder,
    note: Option<&'p Note>,
    url: Option<&'p StoreUrl>,
    shown: &'p str,
}

impl Pair<'_> {
    /// Makes sure that they do. The inner error is the store's, which did not take its marker.
    async fn settle(
        &self,
        store: &dyn ObjectStore,
        marker: Marker,
        is_own: bool,
        purpose: Purpose,
    ) -> Result<object_store::Result<()>, OpenError> {
        let found = Found { noted: self.note.map(|note| note.id), marker, is_new: self.folder.is_new(), is_own };
        let (path, url) = (self.folder.path().to_owned(), self.shown.to_owned());
        let id = match decide(found) {
            Verdict::Ours(id) => id,
            // Who only looks writes nothing. What is to be claimed is the folder's own, or was never acknowledged.
            Verdict::Claim(_) if purpose == Purpose::Check => return Ok(Ok(())),
            Verdict::Claim(id) => {
                let id = id.unwrap_or_else(StoreId::random);
                // A new folder's note comes first, lest its store be taken for another's. An old one's comes last: with it,
                // a store without a marker is one that is gone.
                if self.folder.is_new() {
                    self.note_down(id)?;
                }
                if marker != Marker::Store(id)
                    && let Err(error) = Marker::write(store, id).await
                {
                    return Ok(Err(error));
                }
                if !self.folder.is_new() {
                    self.note_down(id)?;
                }
                return Ok(Ok(()));
            }
            Verdict::Taken => return Err(OpenError::StoreTaken { url }),
            Verdict::Other => return Err(OpenError::OtherStore { path, url, kept: self.kept() }),
            Verdict::Gone => return Err(self.gone()),
            Verdict::Newer(found) => return Err(OpenError::StoreNewer { url, found }),
        };
        if purpose == Purpose::Serve {
            self.note_down(id)?;
        }
        Ok(Ok(()))
    }

    /// Where the data folder keeps its objects.
    fn kept(&self) -> String {
        let remembered = self.note.and_then(|note| note.url.clone());
        remembered.unwrap_or_else(|| self.folder.path().join("objects").display().to_string())
    }

    /// The store is not the data folder's: because it is another one, or because it has lost what it had.
    fn gone(&self) -> OpenError {
        let (path, url, kept) = (self.folder.path().to_owned(), self.shown.to_owned(), self.kept());
        if kept == url { OpenError::StoreGone { path, url } } else { OpenError::OtherStore { path, url, kept } }
    }

    /// Lets the data folder remember the store, where it does not yet.
    fn note_down(&self, id: StoreId) -> Result<(), OpenError> {
        let note = Note { id, url: self.url.map(ToString::to_string) };
        if self.note == Some(&note) {
            return Ok(());
        }
        let data = self.folder.path();
        note.write(data).map_err(OpenError::io("write", &belonging::path(data)))
    }
}

#[cfg(not(feature = "s3"))]
async fn open_s3(
    _: &mut DataFolder,
    _: &StorageOptions,
    _: Purpose,
    url: StoreUrl,
    _: &str,
    _: &object_store::path::Path,
    _: Option<Note>,
) -> Result<Objects, OpenError> {
    let reason = "this build of Pinstone keeps objects in folders only".to_owned();
    Err(OpenError::StoreSettings { url: url.to_string(), reason })
}

#[cfg(feature = "s3")]
async fn open_s3(
    folder: &mut DataFolder,
    options: &StorageOptions,
    purpose: Purpose,
    url: StoreUrl,
    bucket: &str,
    prefix: &object_store::path::Path,
    note: Option<Note>,
) -> Result<Objects, OpenError> {
    let shown = url.to_string();
    let settings = |reason: String| OpenError::StoreSettings { url: shown.clone(), reason };
    options.s3.check(bucket).map_err(|error| settings(error.to_string()))?;
    let mut store = options.s3.connect(bucket, prefix).map_err(|error| settings(error.to_string()))?;
    let asked = tokio::time::timeout(INTRODUCTION, Marker::read(&*store)).await;
    let asked = asked.unwrap_or_else(|_| {
        let source = Box::new(io::Error::from(io::ErrorKind::TimedOut));
        Err(object_store::Error::Generic { store: "S3", source })
    });
    match (asked, &note) {
        (Ok(marker), note) => {
            let pair = Pair { folder, note: note.as_ref(), url: Some(&url), shown: &shown };
            let settled = pair.settle(&*store, marker, false, purpose).await?;
            settled.map_err(|source| store_error(&shown, source))?;
        }
        // What was served before is served again, as far as the cache has it; see above.
        (Err(error), Some(note)) if purpose == Purpose::Serve && !folder.is_new() && is_outage(&error) => {
            tracing::warn!(store = %shown, %error, "the store does not answer: only what is cached is served until it does");
            store = Arc::new(Unproven::new(store, note.id, shown.clone()));
        }
        (Err(source), _) => return Err(store_error(&shown, source)),
    }
    folder.keep_objects_in(None);
    let writing = Writing::remote(options.upload_memory);
    let cache = match purpose {
        Purpose::Check => None,
        Purpose::Serve => {
            let path = folder.path().join(CACHE);
            let (at, options) = (path.clone(), options.cache.clone());
            let opened = tokio::task::spawn_blocking(move || DiskCache::open(&at, &options)).await;
            let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            Some(opened.map_err(OpenError::io("open the cache", &path))?)
        }
    };
    Ok(Objects { store, local: None, remote: Some((writing, cache)) })
}

/// Whether a store that failed like this may answer later, without anything being changed here.
#[cfg(feature = "s3")]
fn is_outage(error: &object_store::Error) -> bool {
    use object_store::Error::{Generic, NotFound, PermissionDenied, Unauthenticated};
    match error {
        NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. } => false,
        Generic { source, .. } => !is_refusal(&**source),
        _ => false,
    }
}

/// Whether the store has answered, and says that it will not do it.
#[cfg(feature = "s3")]
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if [
            "400 Bad Request",
            "301 Moved Permanently",
            "307 Temporary Redirect",
            "501 Not Implemented",
            "redirect without",
        ]
        .iter()
        .any(|status| text.contains(status))
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// Why a store that answered, or did not, cannot be used.
#[cfg(feature = "s3")]
fn store_error(url: &str, source: object_store::Error) -> OpenError {
    let url = url.to_owned();
    if is_outage(&source) {
        OpenError::StoreUnreachable { url, source }
    } else {
        OpenError::StoreRefused { url, source }
    }
}
