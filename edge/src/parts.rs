//! The body of an answer with several ranges: the parts one after the other, and what stands between them; never gathered.
//!
//! Parts of what is in memory are slices of it. Parts of a file are read through one window, so such an answer holds no
//! more memory than any other.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::vec;

use bytes::Bytes;

use crate::body::{RegionBody, Slices, owed};
use crate::multipart::{Multipart, Part};
use crate::piece::Piece;
use crate::watch::InFlight;

/// Sends a [`Multipart`].
#[derive(Debug)]
pub(crate) struct PartsBody {
    source: Source,
    parts: vec::IntoIter<Part>,
    /// What follows the last part, until it was sent.
    closing: Bytes,
    /// Bytes of the whole body that are still to be sent.
    left: u64,
}

#[derive(Debug)]
enum Source {
    /// All of the file, and what is left of the part that is being sent, of which so much is handed out at once.
    Memory { file: Bytes, part: Slices, window: usize },
    /// Where the blob begins in its file, and the window.
    File { offset: u64, window: RegionBody },
}

impl PartsBody {
    /// The parts of `file`, in which all of them must lie, by pieces of `window` bytes.
    pub(crate) fn of_memory(multipart: Multipart, file: Bytes, window: usize) -> Self {
        Self::new(multipart, Source::Memory { file, part: Slices::new(Bytes::new(), window), window })
    }

    /// The parts of a blob that begins at `offset` of the file that `window` reads.
    pub(crate) fn of_file(multipart: Multipart, offset: u64, window: RegionBody) -> Self {
        Self::new(multipart, Source::File { offset, window })
    }

    fn new(multipart: Multipart, source: Source) -> Self {
        let left = multipart.content_length();
        let Multipart { content_type: _, parts, closing } = multipart;
        Self { source, parts: parts.into_iter(), closing, left }
    }

    /// How many bytes are still to be sent.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; `None` where nothing is left.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        in_flight: Option<&InFlight>,
    ) -> Poll<Option<io::Result<Piece>>> {
        let piece = match ready!(self.source.poll_piece(cx, in_flight)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => match self.parts.next() {
                Some(Part { opening, range }) => {
                    self.source.go_on_with(range);
                    owed(opening, in_flight).into()
                }
                None => owed(std::mem::take(&mut self.closing), in_flight).into(),
            },
        };
        self.left -= piece.len() as u64;
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

impl Source {
    fn poll_piece(&mut self, cx: &mut Context<'_>, in_flight: Option<&InFlight>) -> Poll<Option<io::Result<Piece>>> {
        match self {
            Self::Memory { part, .. } => Poll::Ready(part.next().map(|bytes| Ok(owed(bytes, in_flight).into()))),
            Self::File { window, .. } => window.poll_window(cx, in_flight),
        }
    }

    fn go_on_with(&mut self, range: Range<u64>) {
        match self {
            Self::Memory { file, part, window } => {
                let at = |end| usize::try_from(end).expect("a part of what is in memory fits memory");
                *part = Slices::new(file.slice(at(range.start)..at(range.end)), *window);
            }
            Self::File { offset, window } => window.go_on_with(*offset + range.start..*offset + range.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::sync::Arc;

    use bytes::Buf;
    use http_body_util::BodyExt;
    use pinstone_engine::blob::FileRegion;
    use pinstone_engine::hash::BlobHash;
    use proptest::prelude::*;
    use tokio::runtime::{Builder, Handle};

    use super::*;
    use crate::body::{Content, EdgeBody};
    use crate::conditional::ETag;
    use crate::range::{self, RangeVerdict};
    use crate::watch::Watch;
    use crate::windows::Budget;

    /// Bytes before and after the blob, as in a pack.
    const AROUND: usize = 100;

    fn file_with(blob: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[&[0xaa; AROUND], blob, &[0xbb; AROUND]].concat()).unwrap();
        Arc::new(file)
    }

    fn of_file(multipart: Multipart, file: &Arc<File>, length: usize, window: usize) -> PartsBody {
        let region = FileRegion { file: Arc::clone(file), offset: AROUND as u64, length: length as u64 };
        let window = RegionBody::new(&region, &(0..0), window, &Budget::new(1 << 20), Handle::current());
        PartsBody::of_file(multipart, region.offset, window)
    }

    /// Everything that is sent, in pieces no longer than `window` but for what stands between the parts.
    async fn collect(parts: PartsBody, window: usize) -> Vec<u8> {
        let length = parts.left();
        let mut body = EdgeBody::new(Content::Parts(Box::new(parts)), Watch::new().begin(false));
        let mut sent = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(!piece.is_empty() && piece.len() <= window.max(300), "a piece of {}", piece.len());
            sent.extend_from_slice(piece.chunk());
            let left = length - sent.len() as u64;
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(left));
            assert_eq!(http_body::Body::is_end_stream(&body), left == 0);
        }
        sent
    }

    /// Takes a body apart as a client does, which knows the boundary alone.
    fn parts_of(mut body: &[u8], boundary: &str) -> Vec<(Range<u64>, Vec<u8>)> {
        let mut delimiter = format!("--{boundary}");
        let mut parts = Vec::new();
        loop {
            body = body.strip_prefix(delimiter.as_bytes()).expect("a boundary");
            delimiter = format!("\r\n--{boundary}");
            if body == b"--\r\n" {
                return parts;
            }
            let head_end = body.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of a part's head");
            let (head, rest) = body.split_at(head_end + 4);
            let range = std::str::from_utf8(head).unwrap().split_once("Content-Range: bytes ").unwrap().1;
            let (first, last) = range.split_once('/').unwrap().0.split_once('-').unwrap();
            let end = rest.windows(delimiter.len()).position(|window| window == delimiter.as_bytes()).unwrap();
            parts.push((first.parse().unwrap()..last.parse::<u64>().unwrap() + 1, rest[..end].to_vec()));
            body = &rest[end..];
        }
    }

    proptest! {
        #[test]
        fn a_multipart_answer_reassembles_to_the_bytes_of_the_file(
            // Few different bytes, and those that a boundary is made of.
            blob in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 2..3000),
            specs in proptest::collection::vec((0..3000_u64, 0..1500_u64), 2..20),
            window in 50..2000_usize,
        ) {
            let length = blob.len() as u64;
            let specs: Vec<String> =
                specs.iter().map(|(first, more)| format!("{}-{}", first % length, first % length + more)).collect();
            let RangeVerdict::Parts(ranges) = range::parse(format!("bytes={}", specs.join(",")).as_bytes(), length) else {
                return Ok(());
            };
            let etag = ETag::of(&BlobHash::of(&blob));
            let multipart = Multipart::new(etag.opaque(), "text/plain", length, ranges.clone());
            let content_length = multipart.content_length();
            let (from_memory, from_file) = Builder::new_current_thread().build().unwrap().block_on(async {
                let of_memory = PartsBody::of_memory(multipart.clone(), blob.clone().into(), window);
                let of_file = of_file(multipart, &file_with(&blob), blob.len(), window);
                (collect(of_memory, window).await, collect(of_file, window).await)
            });
            prop_assert_eq!(from_memory.len() as u64, content_length);
            prop_assert!(from_memory == from_file);
            let at = |end: u64| usize::try_from(end).unwrap();
            let want: Vec<_> =
                ranges.into_iter().map(|part| (part.clone(), blob[at(part.start)..at(part.end)].to_vec())).collect();
            prop_assert!(parts_of(&from_memory, etag.opaque()) == want);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_breaks_the_answer_off() {
        let multipart = Multipart::new("boundary", "text/plain", 5000, vec![0..10, 4000..5000]);
        let of_file = of_file(multipart, &file_with(&[7; 100]), 5000, 512);
        let body = EdgeBody::new(Content::Parts(Box::new(of_file)), Watch::new().begin(false));
        let error = body.collect().await.unwrap_err();
        let error = error.downcast_ref::<io::Error>().expect("a read failed");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
