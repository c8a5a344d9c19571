//! Where heads of HTTP/2 begin and end, told from the bytes as they come.
//!
//! A head is a HEADERS frame and the CONTINUATION frames behind it (RFC 9113 section 4.3), and until it is complete the
//! layer above says nothing of it. So a client that sends half of one would pass for an idle one, which has far more time.
//! Nothing is checked here: what is malformed ends with the layer above.

use crate::connection::PREFACE;

/// Length, kind, flags and stream (RFC 9113 section 4.1).
const FRAME_HEAD: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// How far a client has come with what it sends.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Of the head of a frame, what came of it.
    head: [u8; FRAME_HEAD],
    known: usize,
    /// What is still to come of a frame's payload, or of the preface.
    left: usize,
    /// A head has no end yet.
    in_head: bool,
}

/// What bytes have changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moved {
    /// Something came to its end: a head, or a frame of another kind.
    pub(crate) ended: bool,
    /// Something has begun and has no end yet.
    pub(crate) is_partial: bool,
}

impl Frames {
    /// Nothing came yet, not even the preface.
    pub(crate) fn new() -> Self {
        Self { head: [0; FRAME_HEAD], known: 0, left: PREFACE.len(), in_head: false }
    }

    /// Takes the bytes that come next.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Moved {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.left == 0 {
                let taken = bytes.len().min(FRAME_HEAD - self.known);
                self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
                self.known += taken;
                bytes = &bytes[taken..];
                if self.known < FRAME_HEAD {
                    break;
                }
                self.known = 0;
                let [long, middle, short, kind, flags, ..] = self.head;
                self.left = usize::from(long) << 16 | usize::from(middle) << 8 | usize::from(short);
                if matches!(kind, HEADERS | CONTINUATION) {
                    self.in_head = flags & END_HEADERS == 0;
                }
            }
            let skipped = bytes.len().min(self.left);
            self.left -= skipped;
            bytes = &bytes[skipped..];
            ended |= self.left == 0 && !self.in_head;
        }
        Moved { ended, is_partial: self.known > 0 || self.left > 0 || self.in_head }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![0; usize::from(length)]].concat()
    }

    #[test]
    fn a_head_ends_with_its_last_frame() {
        let (settings, data) = (frame(4, 0, 0), frame(0, 1, 20));
        let (begun, more) = (frame(HEADERS, 1, 5), frame(CONTINUATION, 0, 3));
        let (last, whole) = (frame(CONTINUATION, END_HEADERS, 0), frame(HEADERS, END_HEADERS, 7));
        for (frames, ended, is_partial) in [
            (vec![&settings[..]], true, false),
            (vec![&settings, &data, &whole], true, false),
            (vec![&begun], false, true),
            (vec![&begun, &more, &more], false, true),
            (vec![&begun, &more, &last], true, false),
            (vec![&whole, &begun], true, true),
            (vec![&whole, &data[..8]], true, true),
            (vec![&data[..28]], false, true),
            (vec![&settings[..1]], false, true),
        ] {
            let bytes = frames.concat();
            let mut at_once = Frames::new();
            assert!(at_once.take(&PREFACE[..20]).is_partial);
            assert_eq!(at_once.take(&PREFACE[20..]), Moved { ended: true, is_partial: false });
            assert_eq!(at_once.take(&bytes), Moved { ended, is_partial }, "{bytes:?}");
            let mut by_byte = Frames::new();
            let all = [PREFACE, &bytes].concat();
            let moved: Vec<_> = all.chunks(1).map(|byte| by_byte.take(byte)).collect();
            assert_eq!(moved[PREFACE.len()..].iter().any(|moved| moved.ended), ended, "{bytes:?}");
            assert_eq!(moved.last().unwrap().is_partial, is_partial, "{bytes:?}");
        }
    }
}
