//! Uploads in parts whose failure is told as it was, and that leave nothing behind.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use parking_lot::Mutex;

use crate::data_folder::is_leftover;

/// An upload in parts that forgets no reason.
///
/// Where the end of an upload fails, whoever drives it gives it up and reports how that went. A local store has nothing
/// to give up by then and says only that the upload is over, so a full disk would not be told apart.
#[derive(Debug)]
pub(super) struct Parts {
    inner: Box<dyn MultipartUpload>,
    has_failed: bool,
    /// Dropped behind `inner`, whose file is closed by then.
    writer: Option<Writer>,
}

impl Parts {
    pub(super) fn around(inner: Box<dyn MultipartUpload>, writer: Option<Writer>) -> Box<dyn MultipartUpload> {
        Box::new(Self { inner, has_failed: false, writer })
    }
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let completed = self.inner.complete().await;
        if completed.is_err() {
            self.has_failed = true;
            if let Some(writer) = &self.writer {
                writer.failed();
            }
        }
        completed
    }

    async fn abort(&mut self) -> Result<()> {
        match self.inner.abort().await {
            Err(_) if self.has_failed && self.writer.is_some() => Ok(()),
            Err(error) if self.has_failed => {
                tracing::warn!(%error, "an upload that failed may have left parts in the store");
                Ok(())
            }
            given_up => given_up,
        }
    }
}

/// Who writes to which objects of a store in a folder of this machine.
///
/// Such a store forgets the temporary file of an upload whose end failed, and which of an object's temporary files that
/// is cannot be told. But once nobody writes to the object any more, all that are left are such files.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    objects: Mutex<HashMap<ObjectPath, Writers>>,
}

#[derive(Debug, Default)]
struct Writers {
    count: usize,
    has_failed: bool,
}

impl Staging {
    pub(super) fn new(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self { folder, objects: Mutex::default() })
    }

    /// Says that somebody is about to write to `object`, until what is answered is dropped.
    pub(super) fn enter(self: &Arc<Self>, object: &ObjectPath) -> Writer {
        self.objects.lock().entry(object.clone()).or_default().count += 1;
        Writer { staging: Arc::clone(self), object: object.clone() }
    }

    fn remove_left_of(&self, object: &ObjectPath) {
        let path = self.folder.join(object.as_ref());
        let Some(folder) = path.parent() else { return };
        let is_of_object = |name: &str| name.rsplit_once('#').is_some_and(|(of, _)| Some(of) == object.filename());
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_left = file.file_name().to_str().is_some_and(|name| is_leftover(name) && is_of_object(name));
            if is_left && let Err(error) = fs::remove_file(file.path()) {
                tracing::warn!(%error, "the temporary file of an upload that failed cannot be removed");
            }
        }
    }
}

/// One who writes to an object.
#[derive(Debug)]
pub(super) struct Writer {
    staging: Arc<Staging>,
    object: ObjectPath,
}

impl Writer {
    fn failed(&self) {
        if let Some(writers) = self.staging.objects.lock().get_mut(&self.object) {
            writers.has_failed = true;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Held until the files are gone, so that nobody begins one that would be taken for one of them.
        let mut objects = self.staging.objects.lock();
        let Some(writers) = objects.get_mut(&self.object) else { return };
        writers.count -= 1;
        if writers.count > 0 {
            return;
        }
        if writers.has_failed {
            self.staging.remove_left_of(&self.object);
        }
        objects.remove(&self.object);
    }
}
