//! One object, written while its bytes arrive: in one request where they are few, in parts where they are many.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::sync::OwnedSemaphorePermit;

use super::Writing;
use super::multipart::Parts;

/// Bytes up to this many are gathered and written at once, where a store is not far away.
pub(super) const GATHER: usize = 256 << 10;
/// More are written in parts of this many bytes there, at most [`PARTS_IN_FLIGHT`] of them in memory.
pub(super) const PART: usize = 1 << 20;
pub(super) const PARTS_IN_FLIGHT: usize = 2;
/// How long a store may take to forget the parts of an object that is given up.
const ABORT: Duration = Duration::from_secs(5);

/// An object that has no name yet. It gets it by [`finish`](Self::finish), whole and durable, or never.
pub(super) struct ObjectWriter {
    objects: Arc<dyn ObjectStore>,
    path: ObjectPath,
    writing: Writing,
    gathered: BytesMut,
    parts: Option<WriteMultipart>,
    /// Held while more than [`GATHER`] bytes may be in memory.
    room: Option<OwnedSemaphorePermit>,
}

impl ObjectWriter {
    pub(super) fn new(objects: &Arc<dyn ObjectStore>, path: ObjectPath, writing: &Writing) -> Self {
        let (objects, writing) = (Arc::clone(objects), writing.clone());
        Self { objects, path, writing, gathered: BytesMut::new(), parts: None, room: None }
    }

    /// Takes the next bytes; waits while more parts than may be in memory are on their way.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), object_store::Error> {
        match &mut self.parts {
            Some(parts) => {
                parts.wait_for_capacity(PARTS_IN_FLIGHT).await?;
                parts.put(bytes);
            }
            None => {
                self.gathered.extend_from_slice(&bytes);
                if self.gathered.len() > GATHER && self.room.is_none() {
                    self.room = self.writing.room().await;
                }
                if self.gathered.len() > self.writing.gather {
                    let writer = self.writing.staging.as_ref().map(|staging| staging.enter(&self.path));
                    let parts = Parts::around(self.objects.put_multipart(&self.path).await?, writer);
                    let parts = self.parts.insert(WriteMultipart::new_with_chunk_size(parts, self.writing.part));
                    parts.put(self.gathered.split().freeze());
                }
            }
        }
        Ok(())
    }

    /// Gives the object its name.
    pub(super) async fn finish(self) -> Result<(), object_store::Error> {
        match self.parts {
            Some(parts) => parts.finish().await.map(drop),
            None => self.objects.put(&self.path, PutPayload::from(self.gathered.freeze())).await.map(drop),
        }
    }

    /// Gives the object up.
    pub(super) async fn abort(self) {
        let Some(parts) = self.parts else { return };
        match tokio::time::timeout(ABORT, parts.abort()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "an object that was given up left temporary files or parts in the store");
            }
            Err(_) => tracing::warn!("an object that was given up left parts in the store, which does not answer"),
        }
    }
}
