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
/// More are written in parts of this many bytes there. Each is one write to a file, of as much as the kernel keeps and maps as one page
/// where it can: it sends such pages at 0.8 of the CPU that single ones take (`docs/performance.md`).
pub(super) const PART: usize = 2 << 20;
/// How many of them are on their way at once, beside the one that is gathered: a file takes one write after the other.
pub(super) const IN_FLIGHT: usize = 1;
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
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> Result<(), object_store::Error> {
        let Writing { gather: at_most, part, in_flight, .. } = self.writing;
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => {
                let length = self.gathered.len() + bytes.len();
                if length > GATHER && self.room.is_none() {
                    self.room = self.writing.room().await;
                }
                if length <= at_most {
                    self.gathered.extend_from_slice(&bytes);
                    return Ok(());
                }
                let writer = self.writing.staging.as_ref().map(|staging| staging.enter(&self.path));
                let parts = Parts::around(self.objects.put_multipart(&self.path).await?, writer);
                self.parts.insert(WriteMultipart::new_with_chunk_size(parts, part))
            }
        };
        while let Some(whole) = gather(&mut self.gathered, &mut bytes, part) {
            parts.wait_for_capacity(in_flight).await?;
            parts.put(whole);
        }
        Ok(())
    }

    /// Gives the object its name.
    pub(super) async fn finish(self) -> Result<(), object_store::Error> {
        let rest = self.gathered.freeze();
        match self.parts {
            Some(mut parts) => {
                parts.put(rest);
                parts.finish().await.map(drop)
            }
            None => self.objects.put(&self.path, PutPayload::from(rest)).await.map(drop),
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

/// Moves `bytes` to what is `gathered`, up to `part` bytes, which come out as one piece.
fn gather(gathered: &mut BytesMut, bytes: &mut Bytes, part: usize) -> Option<Bytes> {
    let room = part.saturating_sub(gathered.len());
    let taken = bytes.split_to(bytes.len().min(room));
    if !taken.is_empty() {
        gathered.reserve(room);
        gathered.extend_from_slice(&taken);
    }
    (taken.len() == room).then(|| std::mem::take(gathered).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_and_of_one_piece_however_the_bytes_come() {
        const ALL: usize = 100_000;
        const LENGTH: usize = 4096;
        let all: Bytes = (0..ALL).map(|at| (at % 251).to_le_bytes()[0]).collect();
        for (at_once, begun) in [(1, 0), (100, 700), (LENGTH, 0), (LENGTH, 1), (3 * LENGTH + 1, LENGTH), (ALL, 0)] {
            let (mut gathered, mut rest) = (BytesMut::from(&all[..begun]), all.slice(begun..));
            let mut parts = Vec::new();
            while !rest.is_empty() {
                let mut bytes = rest.split_to(at_once.min(rest.len()));
                while let Some(part) = gather(&mut gathered, &mut bytes, LENGTH) {
                    assert_eq!(part.len(), LENGTH);
                    parts.push(part);
                }
                assert!(bytes.is_empty() && gathered.capacity() <= LENGTH, "{at_once} at once");
            }
            assert_eq!(parts.len(), ALL / LENGTH, "{at_once} at once");
            parts.push(gathered.freeze());
            assert!(parts.concat() == all, "{at_once} at once");
        }
    }
}
