//! One object, written while its bytes arrive: in one request where they are few, in parts where they are many.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};

use super::multipart::Parts;

/// Bytes up to this many are gathered and written at once.
const GATHER: usize = 256 << 10;
/// More are written in parts of this many bytes, at most [`PARTS_IN_FLIGHT`] of them in memory.
const PART: usize = 1 << 20;
const PARTS_IN_FLIGHT: usize = 2;

/// An object that has no name yet. It gets it by [`finish`](Self::finish), whole and durable, or never.
pub(super) struct ObjectWriter {
    objects: Arc<dyn ObjectStore>,
    path: ObjectPath,
    gathered: BytesMut,
    parts: Option<WriteMultipart>,
}

impl ObjectWriter {
    pub(super) fn new(objects: &Arc<dyn ObjectStore>, path: ObjectPath) -> Self {
        Self { objects: Arc::clone(objects), path, gathered: BytesMut::new(), parts: None }
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
                if self.gathered.len() > GATHER {
                    let parts = Parts::around(self.objects.put_multipart(&self.path).await?);
                    let parts = self.parts.insert(WriteMultipart::new_with_chunk_size(parts, PART));
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
        if let Some(parts) = self.parts
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(%error, "an object that was given up left a temporary file; a start removes it");
        }
    }
}
