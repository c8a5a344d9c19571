//! A store that counts uploads in parts that nobody ended, and fails packs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Semaphore;

/// A store in which no pack can be put, and nothing goes on before one was to be.
#[derive(Debug)]
pub(crate) struct NoPacks {
    inner: InMemory,
    failed: Arc<Semaphore>,
    /// Uploads in parts that were begun, and neither completed nor given up.
    pub(crate) open: Arc<AtomicUsize>,
}

impl NoPacks {
    pub(crate) fn new() -> Self {
        Self { inner: InMemory::new(), failed: Arc::new(Semaphore::new(0)), open: Arc::default() }
    }
}

impl fmt::Display for NoPacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoPacks")
    }
}

#[derive(Debug)]
struct Counted {
    inner: Box<dyn MultipartUpload>,
    failed: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
}

#[async_trait]
impl MultipartUpload for Counted {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, failed) = (self.inner.put_part(data), Arc::clone(&self.failed));
        Box::pin(async move {
            drop(failed.acquire().await.unwrap());
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.inner.abort().await
    }
}

#[async_trait]
impl ObjectStore for NoPacks {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if at.as_ref().starts_with("packs/") {
            self.failed.add_permits(1);
            return Err(Error::Generic { store: "NoPacks", source: "no packs".into() });
        }
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(at, options).await?;
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Counted { inner, failed: Arc::clone(&self.failed), open: Arc::clone(&self.open) }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
