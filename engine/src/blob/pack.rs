//! Many small blobs in one immutable object: one write and one sync instead of thousands.
//!
//! A pack is written front to back while its blobs arrive, and sealed by a directory of what is in it and a trailer that
//! has the directory's digest. A blob's own bytes are vouched for by its hash. An object that was cut anywhere, or that
//! has another pack's name, has no right trailer: it is no pack, whatever else is in it. `docs/formats.md` has the bytes.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use object_store::{ObjectStore, ObjectStoreExt};

use super::{BlobRecord, Digests, Location, ObjectWriter, Writing, pack_path};
use crate::hash::{BlobHash, Sha256Digest};
use crate::id::PackId;

/// The most bytes of a blob that goes into a pack. Above it, an object of its own costs little beside its bytes, and can
/// be sent to a visitor from an open file.
pub const LARGEST_PACKED: u64 = 64 << 10;

/// The most blobs of one pack.
pub const MOST_PACKED: usize = 65_536;

const MAGIC: &[u8; 4] = b"PSPK";
const VERSION: u16 = 1;
const HEADER: u64 = 8;
const ENTRY: usize = 72;
const UTF8: u32 = 1;
const TRAILER: u64 = 52;
const SEAL: &[u8; 8] = b"PSPKSEAL";

/// Why an object is not read as a pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It was cut, or is something else.
    #[error("it is torn")]
    Torn,
    /// A later program wrote it.
    #[error("it has format {found}, and this version knows format {VERSION}")]
    Newer {
        /// Its format.
        found: u16,
    },
    /// The object store did not answer.
    #[error("the object store did not answer")]
    Store(#[from] object_store::Error),
}

/// A pack that is being written. It exists from [`seal`](Self::seal) on, or never.
pub(super) struct PackWriter {
    id: PackId,
    object: ObjectWriter,
    /// Bytes written so far.
    length: u64,
    directory: BytesMut,
    blobs: u32,
}

impl PackWriter {
    pub(super) async fn begin(objects: &Arc<dyn ObjectStore>, writing: &Writing) -> Result<Self, object_store::Error> {
        let id = PackId::random();
        let mut object = ObjectWriter::new(objects, pack_path(&id), writing);
        let mut header = BytesMut::with_capacity(8);
        header.put_slice(MAGIC);
        header.put_u16_le(VERSION);
        header.put_u16_le(0);
        object.write(header.freeze()).await?;
        Ok(Self { id, object, length: HEADER, directory: BytesMut::new(), blobs: 0 })
    }

    /// Adds a blob whose bytes were digested, and says what the index is to say of it once the pack is sealed. It is at
    /// most [`LARGEST_PACKED`] bytes long, and one of at most [`MOST_PACKED`].
    pub(super) async fn add(&mut self, digests: &Digests, bytes: Bytes) -> Result<BlobRecord, object_store::Error> {
        debug_assert!(digests.size <= LARGEST_PACKED && digests.size == bytes.len() as u64);
        let offset = self.length;
        self.directory.put_slice(digests.blake3.as_bytes());
        self.directory.put_slice(&digests.sha256.0);
        self.directory.put_u32_le(u32::try_from(digests.size).unwrap_or(u32::MAX));
        self.directory.put_u32_le(if digests.is_utf8 { UTF8 } else { 0 });
        self.blobs += 1;
        self.length += digests.size;
        self.object.write(bytes).await?;
        Ok(BlobRecord::stored(Location::Pack { pack: self.id, offset }, digests))
    }

    /// Writes the directory and the trailer, and makes the pack durable.
    pub(super) async fn seal(mut self) -> Result<(), object_store::Error> {
        let mut trailer = BytesMut::new();
        trailer.put_u64_le(self.length);
        trailer.put_u32_le(self.blobs);
        let digest = digest(&self.id, &self.directory, &trailer);
        trailer.put_slice(&digest);
        trailer.put_slice(SEAL);
        self.directory.unsplit(trailer);
        match self.object.write(self.directory.freeze()).await {
            Ok(()) => self.object.finish().await,
            Err(error) => {
                self.object.abort().await;
                Err(error)
            }
        }
    }

    /// Gives the pack up.
    pub(super) async fn abort(self) {
        self.object.abort().await;
    }
}

/// What a pack says is in it: the rows that the index has of it.
///
/// The blobs' bytes are not looked at: they are what their hashes say, or damaged.
///
/// # Errors
///
/// Where the object is no whole pack of this name, and where the store fails.
pub async fn read_directory(objects: &dyn ObjectStore, id: &PackId) -> Result<Vec<(BlobHash, BlobRecord)>, PackError> {
    let path = pack_path(id);
    let size = objects.head(&path).await?.size;
    let trailer_at = size.checked_sub(TRAILER).filter(|at| *at >= HEADER).ok_or(PackError::Torn)?;
    let header = objects.get_range(&path, 0..HEADER).await?;
    let trailer = objects.get_range(&path, trailer_at..size).await?;
    let (Some(rest), Some(numbers)) = (header.strip_prefix(MAGIC), trailer.strip_suffix(SEAL)) else {
        return Err(PackError::Torn);
    };
    match u16::from_le_bytes([rest[0], rest[1]]) {
        VERSION => {}
        found if found > VERSION => return Err(PackError::Newer { found }),
        _ => return Err(PackError::Torn),
    }
    let (numbers, sealed) = numbers.split_at(12);
    let (directory_at, count) = ((&numbers[..8]).get_u64_le(), (&numbers[8..]).get_u32_le() as usize);
    let has_room = directory_at.checked_add((count * ENTRY) as u64) == Some(trailer_at);
    if count > MOST_PACKED || directory_at < HEADER || !has_room {
        return Err(PackError::Torn);
    }
    let directory = if count == 0 { Bytes::new() } else { objects.get_range(&path, directory_at..trailer_at).await? };
    if digest(id, &directory, numbers) != sealed {
        return Err(PackError::Torn);
    }
    let mut offset = HEADER;
    let mut rows = Vec::with_capacity(count);
    for mut entry in directory.chunks_exact(ENTRY) {
        let (mut blake3, mut sha256) = ([0; 32], [0; 32]);
        entry.copy_to_slice(&mut blake3);
        entry.copy_to_slice(&mut sha256);
        let (size, flags) = (u64::from(entry.get_u32_le()), entry.get_u32_le());
        let digests = Digests {
            blake3: BlobHash::from_bytes(blake3),
            sha256: Sha256Digest(sha256),
            is_utf8: flags & UTF8 != 0,
            size,
        };
        rows.push((digests.blake3, BlobRecord::stored(Location::Pack { pack: *id, offset }, &digests)));
        offset += size;
    }
    if offset == directory_at { Ok(rows) } else { Err(PackError::Torn) }
}

fn digest(id: &PackId, directory: &[u8], numbers: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.as_bytes()).update(directory).update(numbers);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Hasher;
    use object_store::PutPayload;
    use object_store::memory::InMemory;

    fn digests(bytes: &[u8]) -> Digests {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    async fn pack_of(objects: &Arc<dyn ObjectStore>, blobs: &[Vec<u8>]) -> (PackId, Vec<(BlobHash, BlobRecord)>) {
        let mut pack = PackWriter::begin(objects, &Writing::default()).await.unwrap();
        let (id, mut rows) = (pack.id, Vec::new());
        for bytes in blobs {
            let digests = digests(bytes);
            rows.push((digests.blake3, pack.add(&digests, Bytes::from(bytes.clone())).await.unwrap()));
        }
        pack.seal().await.unwrap();
        (id, rows)
    }

    fn stored() -> Arc<dyn ObjectStore> {
        Arc::new(InMemory::new())
    }

    #[tokio::test]
    async fn a_directory_says_what_was_packed_and_where() {
        let objects = stored();
        for blobs in [
            vec![],
            vec![vec![]],
            vec![b"one".to_vec(), vec![], vec![0xff; 65_536], b"four".to_vec()],
            (0..2000_u32).map(|n| n.to_le_bytes().repeat(100)).collect(),
        ] {
            let (id, rows) = pack_of(&objects, &blobs).await;
            assert_eq!(read_directory(&*objects, &id).await.unwrap(), rows);
            for (bytes, (_, row)) in blobs.iter().zip(rows).filter(|(bytes, _)| !bytes.is_empty()) {
                let Location::Pack { pack, offset } = row.location else { panic!("{row:?}") };
                let found = objects.get_range(&pack_path(&pack), offset..offset + row.size).await.unwrap();
                assert_eq!((pack, &*found), (id, &**bytes));
            }
        }
    }

    #[tokio::test]
    async fn a_pack_that_was_cut_or_changed_is_torn() {
        let objects = stored();
        let (id, _) = pack_of(&objects, &[b"one".to_vec(), b"two and more".to_vec()]).await;
        let whole = objects.get(&pack_path(&id)).await.unwrap().bytes().await.unwrap();
        let other = PackId::random();
        let is_torn = async |bytes: Vec<u8>, name: PackId| {
            objects.put(&pack_path(&name), PutPayload::from(bytes)).await.unwrap();
            matches!(read_directory(&*objects, &name).await, Err(PackError::Torn))
        };
        for cut in 0..whole.len() {
            assert!(is_torn(whole[..cut].to_vec(), id).await, "cut to {cut}");
        }
        // The blobs' own bytes are vouched for by their hashes; so is the version's reserved half by nobody.
        let blobs = 8..8 + 15;
        for at in (0..whole.len()).filter(|at| !blobs.contains(at) && !(4..8).contains(at)) {
            let mut changed = whole.to_vec();
            changed[at] ^= 0x10;
            assert!(is_torn(changed, id).await, "changed at {at}");
        }
        assert!(is_torn(whole.to_vec(), other).await, "under another pack's name");
        assert!(is_torn([&whole[..], &[0]].concat(), id).await, "with a byte behind it");
        let mut newer = whole.to_vec();
        newer[4] = 2;
        objects.put(&pack_path(&id), PutPayload::from(newer)).await.unwrap();
        assert!(matches!(read_directory(&*objects, &id).await, Err(PackError::Newer { found: 2 })));
    }
}
