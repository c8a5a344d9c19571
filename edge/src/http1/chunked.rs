//! The chunked transfer coding, as it is read (RFC 9112 section 7.1).
//!
//! Extensions and trailers are passed over, and bounded: nobody asks for them, and they are bytes that a client could send
//! for ever. Lines end with CRLF here and not with a bare LF: what frames a message is read as it is written, so that nobody
//! before us can have read it in another way.

/// The most bytes of all extensions of a body together, and of its trailers.
const PASSED_OVER: usize = 16 << 10;

/// The coding is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// Where in the coding the next byte is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// In the size of a chunk, of which so many digits were there.
    Size {
        digits: u8,
    },
    /// In blanks behind the size.
    Blank,
    /// In what is passed over until the end of the size's line.
    Extension,
    /// At the end of that line.
    SizeEnd,
    /// In the chunk.
    Data,
    /// At the end of the chunk.
    DataCr,
    DataEnd,
    /// At the start of a line of the trailer section.
    Trailers,
    /// In such a line.
    Trailer,
    TrailerEnd,
    /// At the end of the last, empty line.
    LastEnd,
    Over,
}

/// Reads a body in this coding.
#[derive(Debug)]
pub(super) struct Decoder {
    place: Place,
    /// Bytes that are left of the chunk.
    left: u64,
    passed_over: usize,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// More has to come.
    Starved,
    /// So many bytes of the body come next.
    Data(u64),
    /// The body is over.
    Over,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { place: Place::Size { digits: 0 }, left: 0, passed_over: 0 }
    }

    /// Reads what is not the body's own bytes, from the start of `input`; answers how many bytes that was, and what comes next.
    ///
    /// # Errors
    ///
    /// Where the coding is broken. Nothing behind that can be told.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<(usize, Step), Malformed> {
        for (read, byte) in input.iter().enumerate() {
            match self.place {
                Place::Data => return Ok((read, Step::Data(self.left))),
                Place::Over => return Ok((read, Step::Over)),
                place => self.place = self.next(place, *byte)?,
            }
        }
        let step = match self.place {
            Place::Data => Step::Data(self.left),
            Place::Over => Step::Over,
            _ => Step::Starved,
        };
        Ok((input.len(), step))
    }

    /// So many bytes of the body were taken.
    pub(super) fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
        if self.left == 0 {
            self.place = Place::DataCr;
        }
    }

    fn next(&mut self, place: Place, byte: u8) -> Result<Place, Malformed> {
        Ok(match (place, byte) {
            (Place::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                Place::Size { digits: digits + 1 }
            }
            (Place::Size { digits: 1.. } | Place::Blank | Place::Extension, b'\r') => Place::SizeEnd,
            (Place::Size { digits: 1.. } | Place::Blank, b' ' | b'\t') => self.pass_over(Place::Blank)?,
            (Place::Size { digits: 1.. } | Place::Blank, b';') => self.pass_over(Place::Extension)?,
            (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.pass_over(Place::Extension)?,
            (Place::SizeEnd, b'\n') if self.left == 0 => Place::Trailers,
            (Place::SizeEnd, b'\n') => Place::Data,
            (Place::DataCr, b'\r') => Place::DataEnd,
            (Place::DataEnd, b'\n') => Place::Size { digits: 0 },
            (Place::Trailers, b'\r') => Place::LastEnd,
            (Place::Trailer, b'\r') => Place::TrailerEnd,
            (Place::TrailerEnd, b'\n') => Place::Trailers,
            (Place::Trailers | Place::Trailer, b'\t' | b' '..=b'~' | 0x80..) => self.pass_over(Place::Trailer)?,
            (Place::LastEnd, b'\n') => Place::Over,
            _ => return Err(Malformed),
        })
    }

    fn pass_over(&mut self, place: Place) -> Result<Place, Malformed> {
        self.passed_over += 1;
        if self.passed_over > PASSED_OVER { Err(Malformed) } else { Ok(place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body, and what was left behind it.
    type Decoded = (Vec<u8>, Vec<u8>);

    /// Nothing where more has to come.
    fn decode(input: &[u8], at_once: usize) -> Result<Option<Decoded>, Malformed> {
        let (mut decoder, mut body, mut at, mut there) = (Decoder::new(), Vec::new(), 0, 0);
        loop {
            let (read, step) = decoder.step(&input[at..there])?;
            at += read;
            match step {
                Step::Over => return Ok(Some((body, input[at..].to_vec()))),
                Step::Data(left) if at < there => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there - at);
                    body.extend_from_slice(&input[at..at + taken]);
                    decoder.take(taken);
                    at += taken;
                }
                Step::Data(_) | Step::Starved if there == input.len() => return Ok(None),
                Step::Data(_) | Step::Starved => there = (there + at_once).min(input.len()),
            }
        }
    }

    #[test]
    fn a_body_is_what_its_chunks_are_however_they_come() {
        for (input, want) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("003\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n", "abc0123456789"),
            ("b;name=value\r\nhello world\r\n0;x=\"y\"\r\n\r\n", "hello world"),
            ("1 \r\na\r\n0 \t;x\r\n\r\n", "a"),
            ("4\r\n\r\n\r\n\r\n0\r\nA: b\r\nC:\td\r\n\r\n", "\r\n\r\n"),
        ] {
            for at_once in [1, 2, 3, 100] {
                for behind in ["", "GET / HTTP/1.1\r\n"] {
                    let decoded = decode(format!("{input}{behind}").as_bytes(), at_once);
                    let want = (want.as_bytes().to_vec(), behind.as_bytes().to_vec());
                    assert_eq!(decoded, Ok(Some(want)), "{input:?}, {at_once} at once");
                }
                for end in 0..input.len() {
                    assert_eq!(decode(&input.as_bytes()[..end], at_once), Ok(None), "{:?}", &input[..end]);
                }
            }
        }
    }

    #[test]
    fn what_frames_a_body_is_read_as_it_is_written() {
        for input in [
            "\r\n",
            "x\r\n",
            ";\r\n",
            " 1\r\na\r\n0\r\n\r\n",
            "+1\r\na\r\n0\r\n\r\n",
            "-1\r\na\r\n",
            "0x1\r\na\r\n",
            "1\na\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1\r\n\r\n0\r\n\r\n",
            "1\rx\na\r\n0\r\n\r\n",
            "1 2\r\na\r\n0\r\n\r\n",
            "1 x\r\na\r\n0\r\n\r\n",
            "1;a\nb\r\na\r\n",
            "1;\0\r\na\r\n",
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\r\r\n",
            "00000000000000001\r\na\r\n",
            "fffffffffffffffff\r\n",
        ] {
            for at_once in [1, 100] {
                assert_eq!(decode(input.as_bytes(), at_once), Err(Malformed), "{input:?}");
            }
        }
        assert_eq!(decode(b"ffffffffffffffff\r\nabc", 1), Ok(None), "it is only large");
    }

    #[test]
    fn what_is_passed_over_has_a_bound() {
        let fits = "x".repeat(PASSED_OVER - 1);
        assert!(decode(format!("0;{fits}\r\n\r\n").as_bytes(), 1000).unwrap().is_some());
        assert_eq!(decode(format!("0;{fits}x\r\n\r\n").as_bytes(), 1000), Err(Malformed));
        assert_eq!(decode(format!("0\r\nA: {fits}\r\n\r\n").as_bytes(), 1000), Err(Malformed));
        let many = "1;\r\na\r\n".repeat(PASSED_OVER + 1);
        assert_eq!(decode(many.as_bytes(), 1000), Err(Malformed), "of all chunks together");
    }
}
