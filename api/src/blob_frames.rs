//! The body of a batch: blobs one after another, each with its hash (32 bytes), its length (u32, little-endian) and its
//! bytes; all of it compressed by zstd where `Content-Encoding` says so.
//!
//! Nothing is gathered but one blob. What a compressed body becomes is bounded by what the engine takes of it, and what its
//! decoder takes by [`Unzstd`].

use std::io;

use axum::BoxError;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use pinstone_engine::blob::pack::LARGEST_PACKED;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::plan::{BatchBlob, UploadError};
use pinstone_engine::unzstd::{Unzstd, UnzstdError};
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::io::StreamReader;

/// The media type of a batch.
pub(crate) const MEDIA_TYPE: &[u8] = b"application/vnd.pinstone.blobs";

/// Bytes before a blob's own.
pub(crate) const HEAD: usize = 36;
/// How much is read at once.
const READ: usize = 64 << 10;

/// The body of a batch is not what it says it is.
#[derive(Debug, thiserror::Error)]
#[error("the batch cannot be read")]
pub(crate) struct NotABatch;

/// There is more of a batch than any batch has.
#[derive(Debug, thiserror::Error)]
#[error("the batch does not end")]
pub(crate) struct TooLong;

/// The body, up to `longest` bytes: what decodes to nothing could go on for ever.
pub(crate) fn bounded<S>(body: S, longest: u64) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
{
    let mut seen = 0;
    body.map(move |chunk| {
        seen += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if seen > longest { Err(TooLong.into()) } else { chunk }
    })
}

/// The blobs of a batch whose body is `body`.
pub(crate) fn blobs<S>(
    body: S,
    is_compressed: bool,
) -> impl Stream<Item = Result<BatchBlob, UploadError>> + Send + Unpin
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
{
    let read = StreamReader::new(body.map_err(|error| io::Error::other(BrokenBody(error))));
    let frames = Frames { packed: is_compressed.then(Packed::default) };
    FramedRead::with_capacity(read, frames, READ).map(|blob| blob.map_err(UploadError::from))
}

/// Why the body itself broke off, on its way through the decoders.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
struct BrokenBody(#[source] BoxError);

struct Frames {
    packed: Option<Packed>,
}

/// A compressed body, as far as it is unpacked.
#[derive(Default)]
struct Packed {
    /// There from the first byte on.
    zstd: Option<Unzstd>,
    unpacked: BytesMut,
    /// Whether more may come out of what was taken.
    has_more: bool,
}

/// Why there is no next blob.
#[derive(Debug)]
enum FrameError {
    /// A blob is too large for a batch.
    TooLarge,
    /// The body ends within a blob, or cannot be unpacked.
    NoBatch,
    /// The body broke off.
    Io(io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<UnzstdError> for FrameError {
    fn from(_: UnzstdError) -> Self {
        Self::NoBatch
    }
}

impl From<FrameError> for UploadError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge => Self::NotForBatch { limit: LARGEST_PACKED },
            FrameError::NoBatch => Self::Body(NotABatch.into()),
            // What the body's own stream failed with was wrapped on its way.
            FrameError::Io(error) => match error.into_inner().map(|inner| inner.downcast::<BrokenBody>()) {
                Some(Ok(body)) => Self::Body(body.0),
                _ => Self::Body(NotABatch.into()),
            },
        }
    }
}

impl Decoder for Frames {
    type Item = BatchBlob;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<BatchBlob>, FrameError> {
        match &mut self.packed {
            Some(packed) => packed.next(source),
            None => take_blob(source),
        }
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<BatchBlob>, FrameError> {
        match self.decode(source)? {
            None if !source.is_empty() || self.packed.as_ref().is_some_and(Packed::is_cut) => Err(FrameError::NoBatch),
            blob => Ok(blob),
        }
    }
}

impl Packed {
    /// The next blob of what is in `source`, which is unpacked no further than that takes.
    fn next(&mut self, source: &mut BytesMut) -> Result<Option<BatchBlob>, FrameError> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(Unzstd::new()?),
        };
        loop {
            if let Some(blob) = take_blob(&mut self.unpacked)? {
                return Ok(Some(blob));
            }
            if source.is_empty() && !self.has_more {
                return Ok(None);
            }
            let length = self.unpacked.len();
            self.unpacked.resize(length + READ, 0);
            let (taken, came) = zstd.step(source, &mut self.unpacked[length..])?;
            self.unpacked.truncate(length + came);
            source.advance(taken);
            self.has_more = came == READ;
        }
    }

    /// Whether it would end within a blob or a frame, if it ended here.
    fn is_cut(&self) -> bool {
        !self.unpacked.is_empty() || self.zstd.as_ref().is_some_and(|zstd| !zstd.is_between_frames())
    }
}

/// Takes the first blob out of `bytes`, if all of it is there.
fn take_blob(bytes: &mut BytesMut) -> Result<Option<BatchBlob>, FrameError> {
    let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
    let (hash, mut length) = head.split_at(32);
    let length = length.get_u32_le() as usize;
    if length as u64 > LARGEST_PACKED {
        return Err(FrameError::TooLarge);
    }
    if bytes.len() < HEAD + length {
        bytes.reserve(HEAD + length - bytes.len());
        return Ok(None);
    }
    let mut hash_bytes = [0; 32];
    hash_bytes.copy_from_slice(hash);
    bytes.advance(HEAD);
    Ok(Some(BatchBlob { hash: BlobHash::from_bytes(hash_bytes), bytes: bytes.split_to(length).freeze() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [BlobHash::of(bytes).as_bytes(), &length.to_le_bytes()[..], bytes].concat()
    }

    fn chunks(body: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static {
        stream::iter(body.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>())
    }

    async fn read(body: &[u8], size: usize, is_compressed: bool) -> Result<Vec<Vec<u8>>, UploadError> {
        let blobs = blobs(chunks(body, size), is_compressed).try_collect::<Vec<_>>().await?;
        assert!(blobs.iter().all(|blob| blob.hash == BlobHash::of(&blob.bytes)));
        Ok(blobs.into_iter().map(|blob| blob.bytes.to_vec()).collect())
    }

    #[tokio::test]
    async fn blobs_are_the_same_however_the_body_is_cut_and_compressed() {
        let sent = [vec![], b"one".to_vec(), vec![7; 65_536], b"two".to_vec(), vec![]];
        let body: Vec<u8> = sent.iter().flat_map(|bytes| frame(bytes)).collect();
        let packed = zstd::encode_all(&*body, 3).unwrap();
        let in_two = [zstd::encode_all(&body[..50], 1).unwrap(), zstd::encode_all(&body[50..], 1).unwrap()].concat();
        for size in [1, 35, 36, 37, 4096, 1 << 20] {
            assert_eq!(read(&body, size, false).await.unwrap(), sent, "pieces of {size}");
            assert_eq!(read(&packed, size, true).await.unwrap(), sent, "compressed, pieces of {size}");
            assert_eq!(read(&in_two, size, true).await.unwrap(), sent, "two frames, pieces of {size}");
        }
        assert_eq!(read(&[], 1, false).await.unwrap(), Vec::<Vec<u8>>::new());
    }

    #[tokio::test]
    async fn what_is_no_batch_is_refused() {
        let whole = [frame(b"one"), frame(b"two")].concat();
        let packed = zstd::encode_all(&*whole, 3).unwrap();
        let no_batch = |result: Result<Vec<Vec<u8>>, UploadError>| match result {
            Err(UploadError::Body(cause)) => cause.is::<NotABatch>(),
            _ => false,
        };
        for cut in (1..whole.len()).filter(|cut| *cut != 39) {
            assert!(no_batch(read(&whole[..cut], 7, false).await), "cut to {cut}");
        }
        for cut in 1..packed.len() {
            assert!(no_batch(read(&packed[..cut], 7, true).await), "compressed, cut to {cut}");
        }
        assert!(no_batch(read(&whole, 7, true).await), "not compressed, said to be");
        let huge = [&[0; 32][..], &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(read(&huge, 7, false).await, Err(UploadError::NotForBatch { limit: LARGEST_PACKED })));

        let broken = stream::iter([Ok(Bytes::from(frame(b"one"))), Err(BoxError::from("reset"))]);
        let error = blobs(broken, false).try_collect::<Vec<_>>().await.unwrap_err();
        assert!(matches!(error, UploadError::Body(cause) if cause.to_string() == "reset"));
    }

    #[tokio::test]
    async fn formats_of_before_zstd_was_one_are_refused() {
        // A frame of version 0.7: a head, one block of bytes as they are, the end. Such a frame asks for a window of its
        // own, which no bound of the decoder's holds for.
        let body = frame(b"one");
        let length = u8::try_from(body.len()).unwrap();
        let old = [&[0x27, 0xb5, 0x2f, 0xfd, 0, 0][..], &[0x40, 0, length], &body, &[0xc0, 0, 0]].concat();
        let new = zstd::encode_all(&*body, 3).unwrap();
        for packed in [old.clone(), [new.clone(), old].concat(), [new, b"more".to_vec()].concat()] {
            for size in [1, 4, 1000] {
                match read(&packed, size, true).await {
                    Err(UploadError::Body(cause)) => assert!(cause.is::<NotABatch>(), "{cause}"),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_window_that_takes_too_much_memory_is_refused() {
        let body = frame(b"one");
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        io::Write::write_all(&mut encoder, &body).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(matches!(read(&packed, 7, true).await, Err(UploadError::Body(_))));
    }
}
