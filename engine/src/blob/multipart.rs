//! Uploads in parts whose failure is told as it was.

use async_trait::async_trait;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

/// An upload in parts that forgets no reason.
///
/// Where the end of an upload fails, whoever drives it gives it up and reports how that went. A local store has nothing
/// to give up by then and says only that the upload is over, so a full disk would not be told apart.
#[derive(Debug)]
pub(super) struct Parts {
    inner: Box<dyn MultipartUpload>,
    has_failed: bool,
}

impl Parts {
    pub(super) fn around(inner: Box<dyn MultipartUpload>) -> Box<dyn MultipartUpload> {
        Box::new(Self { inner, has_failed: false })
    }
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.inspect_err(|_| self.has_failed = true)
    }

    async fn abort(&mut self) -> Result<()> {
        match self.inner.abort().await {
            Err(error) if self.has_failed => {
                tracing::warn!(%error, "an upload that failed may have left a temporary file; a start removes it");
                Ok(())
            }
            given_up => given_up,
        }
    }
}
