//! Several ranges in one answer: `multipart/byteranges` (RFC 9110 section 14.6). Pure.
//!
//! What stands between the parts is made with the head, so the length is known exactly, and is little: there are at most
//! [`MOST_PARTS`](crate::range::MOST_PARTS) parts. The bytes of the file come in between when they are sent.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;

/// The body of an answer with several ranges of one file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Multipart {
    /// The value of the answer's Content-Type.
    pub content_type: String,
    /// The parts, in the order they are sent.
    pub parts: Vec<Part>,
    /// What follows the last part.
    pub closing: Bytes,
}

/// One range, and what stands before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// The boundary and the fields of the part.
    pub opening: Bytes,
    /// The bytes of the file.
    pub range: Range<u64>,
}

impl Multipart {
    /// Plans the body that has these `ranges` of a file of `length` bytes.
    ///
    /// `boundary` must not occur in the file: 32 digits of the digest of its own bytes cannot be put there on purpose, nor
    /// come there by chance, and they need no random number and are the same on every node.
    #[must_use]
    pub fn new(boundary: &str, content_type: &str, length: u64, ranges: Vec<Range<u64>>) -> Self {
        let opening = |(number, range): (usize, &Range<u64>)| {
            let mut text = String::with_capacity(boundary.len() + content_type.len() + 100);
            let break_before = if number == 0 { "" } else { "\r\n" };
            write!(
                text,
                "{break_before}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
                content_range(range, length)
            )
            .expect("a string takes what is written");
            Bytes::from(text)
        };
        let openings: Vec<Bytes> = ranges.iter().enumerate().map(opening).collect();
        let part = |(opening, range)| Part { opening, range };
        Self {
            content_type: format!("multipart/byteranges; boundary={boundary}"),
            parts: openings.into_iter().zip(ranges).map(part).collect(),
            closing: format!("\r\n--{boundary}--\r\n").into(),
        }
    }

    /// The bytes of the whole body.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        let part = |part: &Part| part.opening.len() as u64 + (part.range.end - part.range.start);
        self.parts.iter().map(part).sum::<u64>() + self.closing.len() as u64
    }
}

/// The value of Content-Range for `range`, which is not empty, of a file of `length` bytes.
#[must_use]
pub fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_rfc_9110() {
        let body = Multipart::new("THIS_STRING_SEPARATES", "application/pdf", 8000, vec![500..1000, 7000..8000]);
        assert_eq!(body.content_type, "multipart/byteranges; boundary=THIS_STRING_SEPARATES");
        let texts: Vec<_> =
            body.parts.iter().map(|part| (std::str::from_utf8(&part.opening).unwrap(), part.range.clone())).collect();
        assert_eq!(
            texts,
            [
                (
                    "--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\nContent-Range: bytes 500-999/8000\r\n\r\n",
                    500..1000
                ),
                (
                    "\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7000-7999/8000\r\n\r\n",
                    7000..8000
                ),
            ]
        );
        assert_eq!(&body.closing[..], b"\r\n--THIS_STRING_SEPARATES--\r\n");
        let between = texts[0].0.len() + texts[1].0.len() + body.closing.len();
        assert_eq!(body.content_length(), between as u64 + 1500);
    }
}
