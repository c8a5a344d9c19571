//! The body of a batch: blobs one after another, each with its hash (32 bytes), its length (u32, little-endian) and its
//! bytes; all of it compressed by zstd where `Content-Encoding` says so.
//!
//! Nothing is gathered but one blob. What a compressed body becomes is bounded by what the engine takes of it, and the
//! window of its decoder by [`WINDOW_LOG`].

use std::io;
use std::pin::Pin;

use async_compression::tokio::bufread::ZstdDecoder;
use async_compression::zstd::DParameter;
use axum::BoxError;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use pinstone_engine::blob::pack::LARGEST_PACKED;
use pinstone_engine::hash::BlobHash;
use pinstone_engine::plan::{BatchBlob, UploadError};
use tokio::io::AsyncRead;
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::io::StreamReader;

/// The media type of a batch.
pub(crate) const MEDIA_TYPE: &[u8] = b"application/vnd.pinstone.blobs";

/// The largest window that a compressed batch may ask for, 8 MiB: what RFC 8878, section 3.1.1.1.2 recommends to support.
const WINDOW_LOG: u32 = 23;
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
    S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static,
{
    let raw = StreamReader::new(body.map_err(|error| io::Error::other(BrokenBody(error))));
    let read: Pin<Box<dyn AsyncRead + Send>> = if is_compressed {
        let mut decoder = ZstdDecoder::with_params(raw, &[DParameter::window_log_max(WINDOW_LOG)]);
        decoder.multiple_members(true);
        Box::pin(decoder)
    } else {
        Box::pin(raw)
    };
    FramedRead::with_capacity(read, Frames, READ).map(|blob| blob.map_err(UploadError::from))
}

/// Why the body itself broke off, on its way through the decoders.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
struct BrokenBody(#[source] BoxError);

struct Frames;

/// Why there is no next blob.
#[derive(Debug)]
enum FrameError {
    /// A blob is too large for a batch.
    TooLarge,
    /// The body ends within a blob.
    Cut,
    /// The body broke off, or cannot be decoded.
    Io(io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FrameError> for UploadError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge => Self::NotForBatch { limit: LARGEST_PACKED },
            FrameError::Cut => Self::Body(NotABatch.into()),
            // What the body's own stream failed with was wrapped on its way; all else is the decoder's.
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
        let Some((head, _)) = source.split_first_chunk::<HEAD>() else { return Ok(None) };
        let (hash, mut length) = head.split_at(32);
        let length = length.get_u32_le() as usize;
        if length as u64 > LARGEST_PACKED {
            return Err(FrameError::TooLarge);
        }
        if source.len() < HEAD + length {
            source.reserve(HEAD + length - source.len());
            return Ok(None);
        }
        let mut hash_bytes = [0; 32];
        hash_bytes.copy_from_slice(hash);
        source.advance(HEAD);
        Ok(Some(BatchBlob { hash: BlobHash::from_bytes(hash_bytes), bytes: source.split_to(length).freeze() }))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<BatchBlob>, FrameError> {
        match self.decode(source)? {
            None if !source.is_empty() => Err(FrameError::Cut),
            blob => Ok(blob),
        }
    }
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
    async fn a_window_that_takes_too_much_memory_is_refused() {
        let body = frame(b"one");
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        io::Write::write_all(&mut encoder, &body).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(matches!(read(&packed, 7, true).await, Err(UploadError::Body(_))));
    }
}
